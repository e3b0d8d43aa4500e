"""Every figure on the page about gates, computed again: by the production kernels, and exactly where chance is told."""

import math
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import numpy as np
import pytest

from orchestrator.gates.judge import judge
from orchestrator.gates.kernels import (
    FAIL_WEIGHTS,
    bound_evidence,
    bound_increments,
    log_mean_exp,
    opening,
    ratio_increments,
)
from orchestrator.gates.resolution import Buckets, effective, finer_than_histogram, requests_to_fail, requests_to_pass
from orchestrator.gates.spec import Gate
from orchestrator.gates.spread import Spread
from orchestrator.gates.state import GateState
from plans import units
from plans.gates import ErrorRateGate, gate_kind
from plans.model import Plan
from plans.source import loads
from providers.measurement import Cursor, Leg, Measurement
from tests.unit import edges
from tests.unit.pages import sentences, table, text

T0 = datetime(2026, 1, 1, tzinfo=UTC)
LIMIT, LOOKS, EACH_MINUTE = 0.02, 60, 60
"""2% are allowed; sixty looks at sixty requests each."""


def _binomial(count: int, rate: float) -> Any:
    return np.array([math.comb(count, k) * rate**k * (1 - rate) ** (count - k) for k in range(count + 1)])


def _tail(count: int, rate: float) -> Any:
    """P(at least k of count) for every k."""
    logs = [
        math.lgamma(count + 1)
        - math.lgamma(k + 1)
        - math.lgamma(count - k + 1)
        + k * math.log(rate)
        + (count - k) * math.log1p(-rate)
        for k in range(count + 1)
    ]
    return np.exp(logs)[::-1].cumsum()[::-1]


def _stopped(rate: float, stops: Callable[[Any, int], Any]) -> float:
    """Probability that a rule stops at any of the looks, exactly; `stops`: bad counts, requests -> which stop."""
    one, left, stopped = _binomial(EACH_MINUTE, rate), np.array([1.0]), 0.0
    for look in range(1, LOOKS + 1):
        left = np.convolve(left, one)
        now = stops(np.arange(len(left)), look * EACH_MINUTE)
        stopped += float(left[now].sum())
        left = np.where(now, 0, left)
    return stopped


def _four_bad_minutes(rate: float) -> float:
    bad = sum(p for k, p in enumerate(_binomial(EACH_MINUTE, rate)) if k / EACH_MINUTE > LIMIT)
    return float(1 - sum(math.comb(LOOKS, k) * bad**k * (1 - bad) ** (LOOKS - k) for k in range(4)))


def _p_value(rate: float) -> float:
    return _stopped(rate, lambda bad, requests: _tail(requests, LIMIT)[bad] < 0.05)


def _gate(rate: float) -> float:
    def fails(bad: Any, requests: int) -> Any:
        evidence = bound_evidence(bad[:, None], np.full((len(bad), 1), requests), LIMIT, "fail")[:, 0]
        return evidence >= -math.log(0.01)

    return _stopped(rate, fails)


def _chance(probability: float) -> str:
    if probability < 0.0001:
        return "<0.01%"
    return ">99.9%" if probability > 0.999 else f"{100 * probability:.2g}%"


def test_how_often_each_rule_stops_a_rollout() -> None:
    rows = table("gates.md", "Here is how often each rule stops a rollout")
    rates = (0.005, 0.01, 0.02, 0.05)
    for row, rule in zip(rows, (_four_bad_minutes, _p_value, _gate), strict=True):
        _, *cells = row.values()
        assert cells == [_chance(rule(rate)) for rate in rates]
    assert "stops one rollout in six" in text("gates.md")
    assert round(1 / _four_bad_minutes(0.005)) == 6
    assert "gets through in 22% of all cases" in text("gates.md")
    assert round(100 * (1 - 0.03) ** (10 * 5)) == 22


def _score(log: float) -> str:
    value = math.exp(log)
    return f"{value:.3g}" if value < 1000 else f"{float(f'{value:.3g}'):.0f}"


def _verdicts(gate: Gate, polls: list[tuple[int, int, int, int]]) -> Iterator[Any]:
    """What a gate says after each poll of (requests, bad, stable's requests, stable's bad)."""
    stable = "blue" if any(poll[2] for poll in polls) else None
    state = GateState.begin((gate,), 1).enter(0, (gate,), "green", stable, "live")
    for number, (requests, bad, others, others_bad) in enumerate(polls):
        start, end = T0 + timedelta(seconds=10 * number), T0 + timedelta(seconds=10 * number + 10)
        legs = [Leg("green", "live", requests, {"200": requests - bad, "500": bad})]
        if stable:
            legs.append(Leg("blue", "live", others, {"200": others - others_bad, "500": others_bad}))
        state = state.fold(Measurement(start, end, tuple(legs), Cursor("one", end)))
        (verdict,) = judge(state).verdicts
        yield verdict


@pytest.mark.parametrize(
    ("before", "last"),
    [("A good candidate:", "PASS"), ("One that fails every tenth request:", "FAIL"), ("And one with 3%", "CONTINUE")],
)
def test_a_gate_poll_by_poll(before: str, last: str) -> None:
    rows = table("gates.md", before)
    polls = [(int(row["requests"]), int(row["bad"]), 0, 0) for row in rows]
    verdicts = list(_verdicts(Gate("errors", "error_rate", max=0.02, warm_up=0), polls))
    for row, verdict in zip(rows, verdicts, strict=True):
        assert row["for PASS"] == _score(verdict.log_evidence_pass)
        assert row["for FAIL"] == _score(verdict.log_evidence_fail)
        assert row["what the gate says"] == verdict.sentence
    assert verdicts[-1].verdict == last


def test_an_incident_that_hits_both_sides() -> None:
    rows = table("gates.md", "## Whose fault was it?")
    polls = [(int(r["green requests"]), int(r["green bad"]), int(r["blue requests"]), int(r["blue bad"])) for r in rows]
    for blame in (True, False):
        verdicts = list(_verdicts(Gate("errors", "error_rate", max=0.02, blame=blame, warm_up=0), polls))
        column = f"for FAIL, blame {'on' if blame else 'off'}"
        assert [row[column] for row in rows] == [_score(verdict.log_evidence_fail) for verdict in verdicts]
        assert [v.verdict == "FAIL" for v in verdicts] == [False, False, not blame, False]


def _about(count: float | None) -> str:
    """Two significant digits."""
    if count is None:
        return "never"
    whole = Decimal(math.ceil(count))
    digits = Decimal(1).scaleb(max(0, len(str(whole)) - 2))
    return str(int((whole / digits).quantize(Decimal(1), ROUND_HALF_UP) * digits))


def _first(evidence: Any, level: float) -> int | None:
    """The first number of requests whose evidence reaches 1/level."""
    reached = evidence >= -math.log(level)
    return int(np.argmax(reached)) + 1 if reached.any() else None


def _tolerance(written: str) -> dict[str, str]:
    return dict(part.split(": ") for part in written.strip("`").split(", "))


def _requests_to_pass(tolerance: dict[str, str], rate: float) -> int | None:
    n = np.arange(1, 120_001)
    if "max" in tolerance:
        bound = units.parse_rate(tolerance["max"])
        return _first(log_mean_exp(bound_increments(n * rate, n, bound, "pass")), 0.05)
    ratio, slack = float(tolerance.get("max_ratio", 1)), units.parse_rate(tolerance["max_increase"])
    return _first(log_mean_exp(ratio_increments(n * rate, 9 * n * rate, n, 9 * n, ratio, slack, "pass")), 0.05)


def test_what_a_tolerance_costs() -> None:
    rows = table("gates.md", "## What a tolerance costs")
    rates = {"no errors": 0.0, "0.1% errors": 0.001, "0.5% errors": 0.005}
    for row in rows:
        for heading, rate in rates.items():
            tolerance = _tolerance(row["tolerance"])
            needed = _requests_to_pass(tolerance, rate)
            assert row[heading] == _about(needed), (row["tolerance"], heading, needed)
            # What `rollout plan` tells its author comes from the same place.
            given = {name: float(units.parse_rate(v)) if "%" in v else float(v) for name, v in tolerance.items()}
            gate = Gate("errors", "error_rate", min_requests=1, **given)  # type: ignore[arg-type]
            told = requests_to_pass(gate, candidate_share=100, stable_share=900, rate=rate)
            assert (told is None) == (needed is None)
            assert told is None or needed is None or abs(told - needed) <= 2 + 0.01 * needed
    assert len(rows) == 9
    ten_a_second = _requests_to_pass({"max_ratio": "1.5", "max_increase": "0.5%"}, 0.005)
    assert ten_a_second is not None
    assert "takes 26 minutes" in text("gates.md")
    assert round(ten_a_second / 60) == 26
    hours = [(_requests_to_pass({"max": "1%"}, rate) or 0) / 2 / 60 for rate in (0.0, 0.005)]
    assert "takes 3 hours without any error, and a day at 0.5%" in sentences("gates.md")
    assert [round(each) for each in hours] == [3, 25]


def test_what_a_latency_tolerance_costs() -> None:
    for row in table("gates.md", "For latency, "):
        tolerance = _tolerance(row["tolerance"])
        quantile, ratio = units.parse_quantile(tolerance["quantile"]), float(tolerance["max_ratio"])
        gate = Gate("latency", "latency", quantile=quantile, max_ratio=ratio, min_requests=1)  # type: ignore[arg-type]
        needed = requests_to_pass(gate, candidate_share=100, stable_share=900, rate=0.0)
        assert row["requests to the candidate"] == _about(needed), (row, needed)


def test_what_pairs_cost() -> None:
    rows = table("gates.md", "### slowdown")
    for row in rows:
        slower = float(row["copies slower than `max_ratio` allows"].strip("%")) / 100
        gate = Gate("slow", "slowdown", source="mirror", max_ratio=1.2, min_requests=1, warm_up=0)
        needed = requests_to_pass(gate, candidate_share=100, stable_share=1000, rate=slower)
        assert row["pairs until PASS"] == _about(needed), (row, needed)
    assert len(rows) == 5


def test_gates_on_pairs_as_the_page_writes_them_are_right() -> None:
    page = text("gates.md").partition("## Mirrored requests")[2].partition("## Figures")[0]
    gates = re.findall(r"(?:`| {2})(\w+: \{metric: [^`\n]+\})(?:`|\n)", page)
    assert len(gates) == 4
    top = "endpoint: scores\ndeployments: {green: {file: g}}\n"
    plan = top + "gates: {%s}\nsteps: [deploy: green, {shadow: 5%%, gates: %s}]"
    names = f"[{', '.join(gate.partition(':')[0] for gate in gates)}]"
    loaded = loads(plan % (", ".join(gates), names), Plan, name="page")
    kinds = [gate_kind(gate) for gate in loaded.gates.values()]
    assert kinds == ["slowdown", "missing_pairs", "prediction", "latency"]


def test_how_soon_a_bad_candidate_is_stopped() -> None:
    n = np.arange(1, 5001)
    for row in table("gates.md", "## How soon a bad candidate is stopped"):
        rate = float(row["the candidate fails"].strip("%")) / 100
        needed = _first(log_mean_exp(bound_increments(n * rate, n, 0.02, "fail") + opening(FAIL_WEIGHTS)), 0.01)
        assert row["requests until FAIL"] == _about(needed)
    gate = Gate("errors", "error_rate", max=0.02)
    shared = requests_to_fail(
        [gate], gate, candidate_share=100, stable_share=0, stages=12, bad_rate=0.1, stable_rate=0.0
    )
    assert "10% errors are stopped after 110 requests instead of 76" in sentences("gates.md")
    assert _about(shared) == "110"


def test_how_often_it_is_wrong() -> None:
    """With fewer rollouts than the page: as near as chance allows."""
    rows, situations = table("gates.md", "## How often it is wrong"), {each.name: each for each in edges.situations()}
    for row in rows:
        found = edges.run(situations[row["at the edge"]], 500, seed=9)
        for told, measured in ((row["false FAIL"], found.failed), (row["false PASS"], found.passed)):
            if told.endswith("%"):
                share = float(told.strip("%")) / 100
                assert abs(measured - share) <= 0.002 + 3.5 * math.sqrt(max(share, 0.002) / 500), (row, measured)
    assert len(rows) == 14


def test_how_errors_in_clusters_are_counted() -> None:
    page = sentences("gates.md")
    for counts, index in re.findall(r"((?:\d+, ){9}\d+)(?: in 600 requests)? give (\d+)", page):
        spread = Spread()
        for bad in counts.split(", "):
            spread = spread.add(int(bad), 600, 60)
        assert round(spread.index) == int(index)
    assert len(re.findall(r"(?:\d+, ){9}\d+", page)) == 2


def test_how_fine_latencies_are_measured() -> None:
    gate, buckets = Gate("latency", "latency", max_ratio=1.1), Buckets(2)
    for row in table("gates.md", "### How fine latencies are measured"):
        level = float(units.parse_latency(row["stable's quantile"].replace(" ", "")))  # type: ignore[arg-type]
        (tested,) = effective(gate, buckets, level)
        assert (row["PASS tests"], row["FAIL tests"]) == (f"{tested.passes:.3g}x", f"{tested.fails:.3g}x")
    assert "Below 1.10 a ratio can be finer than the buckets" in text("gates.md")
    assert finer_than_histogram(gate, buckets) is None
    assert finer_than_histogram(Gate("latency", "latency", max_ratio=1.05), buckets) is not None


def test_the_defaults_that_the_page_on_gates_names() -> None:
    page = text("gates.md")
    gate = ErrorRateGate.model_validate({"metric": "error_rate", "max": "2%"})
    assert f"**`min_requests`** ({gate.min_requests})" in page
    assert f"**`warm_up`** ({units.show_duration(gate.warm_up)})" in page
    assert f"**`dispersion`** ({'on' if gate.dispersion else 'off'})" in page
    default = {name: field.default for name, field in Plan.model_fields.items()}
    assert f"**alpha** ({units.show_rate(default['alpha'])})" in page
    assert f"**beta** ({units.show_rate(default['beta'])})" in page
    assert [default[f"on_{name}"] for name in ("fail", "no_data", "undecided", "error")] == ["rollback", *["pause"] * 3]
