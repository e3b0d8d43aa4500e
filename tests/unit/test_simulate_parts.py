"""The parts of a simulation: changes, latencies, cells, clocks, shares."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.gates.spec import Gate
from orchestrator.simulate import cells, course
from orchestrator.simulate.change import Change, edges, parse, table, tolerated
from orchestrator.simulate.latency import LogNormal, Measured
from orchestrator.simulate.summary import Share, Spread
from orchestrator.stages import Stage, Target
from providers.measurement import Comparison

LATENCIES = LogNormal.with_p95(400_000)
ERRORS = Gate("errors", "error_rate", max=0.02, max_ratio=2.0, max_increase=0.01)
SLOW = Gate("slow", "latency", max=500_000, max_ratio=1.1)


def stage(**fields: object) -> Stage:
    plain = {"index": 0, "name": "canary 10%", "kind": "canary", "step": 0, "work": Target({"blue": 900, "green": 100})}
    return Stage(**(plain | {"gates": (ERRORS,), "gated": 0, "exposure": 100, "deadline": 60.0} | fields))  # type: ignore[arg-type]


# --- changes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "change"),
    [
        ("a=errors+1%", Change("a", errors=0.015)),
        ("a=errors x2", Change("a", errors=0.01)),
        ("a=errors 3%", Change("a", errors=0.03)),
        ("a=latency x1.2", Change("a", latency=1.2)),
        ("a b=errors+0.5%, latency x2", Change("a b", errors=0.01, latency=2.0)),
        ("a=answers 1%,missing 2%,from middle", Change("a", answers=0.01, missing=0.02, begins="middle")),
    ],
)
def test_a_change_is_read(text: str, change: Change) -> None:
    found = parse(text, 0.005)
    assert found.errors == pytest.approx(change.errors)
    assert (found.name, found.latency, found.answers) == (change.name, change.latency, change.answers)
    assert (found.missing, found.begins) == (change.missing, change.begins)


@pytest.mark.parametrize(
    "text",
    [
        *("errors+1%", "a=", "=errors+1%", "a=errors+1", "a=errors", "a=latency 1.2", "a=latency+1%", "a=latency x1%"),
        *("a=answers+1%", "a=errors 101%", "a=errors+99.9%", "a=latency x0", "a=speed x2", "a=errors 1%,"),
        *("a=errors x1e9", "a=errors 1.2.3%", "a=latency x1.2.3"),
    ],
)
def test_what_is_no_change_is_refused_with_what_is(text: str) -> None:
    with pytest.raises(ValueError, match=r"write for example|0% and 100%|between 0\.01 and 1000"):
        parse(text, 0.005)


def test_the_edges_are_the_tightest_tolerances() -> None:
    errors, latency = edges((ERRORS, SLOW), 0.005, LATENCIES)
    assert errors == pytest.approx(0.02)
    assert latency == pytest.approx(1.1)
    loose = Gate("errors", "error_rate", max=0.001, blame=True)
    assert edges((loose,), 0.005, LATENCIES) == (0.005, None), "blame excuses what stable has, too"


def test_the_table_has_only_what_a_gate_looks_at() -> None:
    assert not any(row.latency != 1 for row in table((ERRORS,), 0.005, LATENCIES))
    assert not any(row.errors not in (None, 1.0) for row in table((SLOW,), 0.005, LATENCIES))
    rows = table((ERRORS, SLOW), 0.005, LATENCIES)
    assert rows[0] == Change("no change", harmless=True)
    assert {row.begins for row in rows} == {"start", "middle"}
    edge, slower = edges((ERRORS, SLOW), 0.005, LATENCIES)
    for row in rows:
        assert row.harmless == ((row.errors or 0) <= edge + 1e-12 and row.latency <= slower), row
        assert tolerated(row, (ERRORS, SLOW), 0.005, LATENCIES) == row


def test_a_tolerance_of_pairs_counts_and_no_gate_is_no_tolerance() -> None:
    answers = Gate("answers", "prediction", max=0.02, comparison=Comparison())
    rows = {row.name: row.harmless for row in table((ERRORS, answers), 0.005, LATENCIES)}
    assert rows["1% other answers"]
    assert not rows["5% other answers"]
    assert not tolerated(Change("x", answers=0.01), (ERRORS,), 0.005, LATENCIES).harmless
    assert not tolerated(Change("x", missing=0.01), (answers,), 0.005, LATENCIES).harmless


# --- latencies --------------------------------------------------------------------------------------


def test_a_lognormal_has_its_p95() -> None:
    assert LATENCIES.quantile(0.95) == pytest.approx(400_000)
    assert LATENCIES.above(400_000) == pytest.approx(0.05, abs=1e-6)
    draws = LATENCIES.at(np.random.default_rng(1).standard_normal(200_000))
    assert np.mean(draws > 400_000) == pytest.approx(0.05, abs=0.002)


def test_a_measured_histogram_is_kept_at_its_bounds() -> None:
    found = Measured.of([(10_000, 20_000, 50), (40_000, 80_000, 50)])
    assert found.above([10_000, 20_000, 40_000, 80_000]).tolist() == pytest.approx([1.0, 0.5, 0.5, 0.0])
    assert 20_000 >= found.quantile(0.25) >= 10_000
    draws = found.at(np.random.default_rng(1).standard_normal(50_000))
    assert np.mean(draws < 20_001) == pytest.approx(0.5, abs=0.01)
    for wrong in ([], [(1, 2, 0)], [(10, 20, 1), (15, 30, 1)], [(20, 10, 1)]):
        with pytest.raises(ValueError, match="latency"):
            Measured.of(wrong)


@given(
    ratio=st.floats(1.01, 3),
    maximum=st.integers(1_000, 2_000_000),
    requests=st.floats(1, 5000),
    quantile=st.sampled_from([0.5, 0.95, 0.999]),
)
def test_cells_lose_nothing_that_a_gate_can_ask_for(
    ratio: float, maximum: int, requests: float, quantile: float
) -> None:
    gate = Gate("slow", "latency", quantile=quantile, max=maximum, max_ratio=ratio)
    every = cells.Cells(cells.bounds(2))
    stable = cells.stable_cells((gate,), LATENCIES, requests, 2)
    candidate = cells.candidate_cells((gate,), stable, 2)
    assert np.isin(stable.edges, every.edges).all()
    assert np.isin(candidate.edges, every.edges).all()
    assert stable.shares(LATENCIES, 1.3).sum() == pytest.approx(1)

    def lower(of: cells.Cells, columns: np.ndarray) -> list[int]:
        return of.edges[np.atleast_1d(columns)].tolist()

    for threshold, mine in ((float(maximum), stable), (float(maximum), candidate)):
        assert lower(mine, mine.surely(threshold)) == lower(every, every.surely(threshold))
        assert lower(mine, mine.maybe(threshold)) == lower(every, every.maybe(threshold))
    limits = np.round(ratio * stable.upper, 6)
    limits = limits[limits < cells.LONGEST]
    assert lower(candidate, candidate.surely(limits)) == lower(every, every.surely(limits))
    assert lower(candidate, candidate.maybe(limits)) == lower(every, every.maybe(limits))


# --- clocks -----------------------------------------------------------------------------------------


def ends(**fields: object) -> list[float]:
    (found,) = course.course([stage(**fields)], "blue")
    polls = list(found.polls())
    assert [begin for begin, _ in polls] == [0.0, *(end for _, end in polls[:-1])]
    return [end for _, end in polls]


def test_a_stage_is_measured_at_its_interval_and_at_the_end_of_its_hold() -> None:
    assert ends(hold=25.0, interval=10.0) == [10, 20, 25, 35, 45, 55]
    assert ends(hold=0.0, interval=20.0) == [20, 40, 60]
    assert ends(hold=60.0, interval=30.0) == [30, 60]
    assert ends(hold=3.0, interval=30.0) == [3, 33]


def test_where_nothing_is_judged_time_passes() -> None:
    waits = course.course([stage(gates=(), gated=None, hold=45.0, guards=(ERRORS,))], "blue")
    assert [end for _, end in waits[0].polls()] == [10, 20, 30, 40, 45]
    assert waits[0].lasts == 45
    assert not waits[0].idle
    assert course.course([stage(gates=(), gated=None)], "blue") == ()
    assert course.course([stage(gates=(), gated=None, hold=9.0, exposure=0)], "blue")[0].idle


def test_what_is_not_simulated_is_told() -> None:
    guards = Gate("hurt", "latency", max_ratio=1.2, guards_stable=True)
    pairs = Gate("lost", "missing_pairs", max=0.02)
    stages = [stage(gates=(guards, pairs)), stage(index=1, gates=(), gated=None, kind="deploy", name="deploy green")]
    told = " ".join(course.left_out(stages, paired=False))
    assert "gate hurt is taken to be fine" in told
    assert "gate lost has no data" in told
    assert "deploy green" in told
    assert "gate lost" not in " ".join(course.left_out(stages, paired=True))


# --- shares -----------------------------------------------------------------------------------------


def test_a_share_has_its_interval() -> None:
    # Wilson's interval of 8 in 10, as in Brown, Cai, DasGupta (2001).
    assert (round(Share(8, 10).low, 4), round(Share(8, 10).high, 4)) == (0.4902, 0.9433)
    assert (Share(0, 100).low, Share(100, 100).high) == (0.0, 1.0)
    assert Share(0, 0).rate == 0


@given(st.integers(0, 50), st.integers(1, 50))
def test_a_share_lies_in_its_interval(count: int, more: int) -> None:
    share = Share(count, count + more)
    assert 0 <= share.low <= share.rate <= share.high <= 1


def test_figures_are_values_that_occurred() -> None:
    spread = Spread.of(np.array([1, 2, 3, 4, 100]))
    assert spread == Spread(3.0, 100.0)
    assert Spread.of(np.array([])) is None
    assert math.isfinite(spread.p95)
