"""What the evidence allows, and the sentences that say why."""

import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from pydantic import TypeAdapter

from orchestrator.gates import wording
from orchestrator.gates.judge import Judgement, judge
from orchestrator.gates.kernels import ratio_evidence
from orchestrator.gates.spec import Gate
from orchestrator.gates.state import GateState
from providers.measurement import Cursor, Histogram, Leg, Measurement

BIRTH = datetime(2026, 3, 1, 12, tzinfo=UTC)
ERRORS = Gate("errors", "error_rate", max_ratio=1.5, max_increase=0.005, warm_up=0)
LATENCY = Gate("latency", "latency", max_ratio=1.5, warm_up=0)


def errors(candidate, stable, source="live", seconds=1.0):
    """A poll of (requests, 503s) on both sides."""
    pairs = (("green", source, candidate), ("blue", "live", stable))
    legs = tuple(Leg(name, by, n, {"200": n - k, "503": k}, Histogram(((9, 10, n),))) for name, by, (n, k) in pairs)
    return Measurement(BIRTH, BIRTH + timedelta(seconds=seconds), legs, Cursor("one", BIRTH))


def latencies(candidate, stable):
    """A poll of {(lower, upper): n} on both sides."""
    legs = []
    for name, buckets in (("green", candidate), ("blue", stable)):
        histogram = Histogram(tuple((lower, upper, n) for (lower, upper), n in buckets.items()))
        legs.append(Leg(name, "live", histogram.count, {"200": histogram.count}, histogram))
    return Measurement(BIRTH, BIRTH + timedelta(seconds=1), tuple(legs), Cursor("one", BIRTH))


def state(*gates, stages=1, stable="blue", source="live"):
    return GateState.begin(gates, stages).enter(0, gates, "green", stable, source)


def only(found):
    (verdict,) = found.verdicts
    return verdict


def test_fail_says_what_was_seen_and_what_was_tolerated():
    now = state(ERRORS)
    for _ in range(8):
        now = now.fold(errors((230, 10), (2070, 8)))
    found = judge(now)
    assert found.outcome == "failed"
    assert (found.culprit, found.on_fail) == ("errors", "rollback")
    assert found.sentence == (
        "green 4.35% errors against blue 0.386% over 1,840 requests: beyond the tolerance of 1.5x + 0.5% -> FAIL"
    )
    assert only(found).candidate.requests == 1840
    assert only(found).candidate.rate == pytest.approx(80 / 1840)
    assert only(found).stable.bad == 64
    assert only(found).log_evidence_fail >= math.log(100)


def test_pass():
    gate = Gate("errors", "error_rate", max=0.05, max_ratio=2, max_increase=0.02, blame=True, warm_up=0)
    found = judge(state(gate).fold(errors((191, 0), (1719, 0))))
    assert found.outcome == "passed"
    assert found.sentence == (
        "green 0% errors against blue 0% over 191 requests: within the bound of 5% and the tolerance of 2x + 2% -> PASS"
    )
    assert only(found).unproven == ()
    assert judge(state(gate).fold(errors((190, 0), (1710, 0)))).outcome == "open"


def test_continue_says_how_far_it_is():
    def way(n_g, n_b):
        return int(100 * ratio_evidence([0], [0], [n_g], [n_b], 1.5, 0.005, "pass")[0] / math.log(20))

    verdict = only(judge(state(ERRORS).fold(errors((64, 0), (600, 0)))))
    assert verdict.verdict == "CONTINUE"
    assert verdict.sentence == (
        "green 0% errors against blue 0% over 64 requests: "
        f"needs more evidence (64 of 100 requests, {way(64, 600)}% of the way to PASS) -> CONTINUE"
    )
    assert verdict.unproven == ("tolerance of 1.5x + 0.5%",)
    verdict = only(judge(state(ERRORS).fold(errors((500, 0), (4500, 0)))))
    assert 40 < way(500, 4500) < 90
    assert f": needs more evidence ({way(500, 4500)}% of the way to PASS) -> CONTINUE" in verdict.sentence
    failing = ratio_evidence([6], [10], [120], [4500], 1.5, 0.005, "fail")[0] / math.log(100)
    assert 0.5 < failing < 1
    verdict = only(judge(state(ERRORS).fold(errors((120, 6), (4500, 10)))))
    assert verdict.verdict == "CONTINUE"
    doubt = f"doubtful about the tolerance of 1.5x + 0.5% ({int(100 * failing)}% of the way to FAIL) -> CONTINUE"
    assert verdict.sentence.endswith(doubt)


def test_latency_is_told_by_bucket_bounds():
    slow, fast = {(17_000, 18_000): 18, (40_000, 41_000): 2}, {(15_000, 16_000): 190, (17_000, 18_000): 10}
    now = state(LATENCY)
    for _ in range(20):
        now = now.fold(latencies(slow, fast))
    found = judge(now)
    assert found.sentence == (
        "green p95 <= 41 ms against blue <= 16 ms over 400 requests: beyond the tolerance of 1.5x -> FAIL"
    )
    assert only(found).candidate.quantile_us == 41_000
    bound = Gate("latency", "latency", max=30_000, warm_up=0, quantile=0.99)
    now = state(bound, stable=None).fold(latencies({(15_000, 16_000): 90, (40_000, 41_000): 30}, {}))
    assert judge(now).sentence == "green p99 <= 41 ms over 120 requests: beyond the bound of 30 ms -> FAIL"


def test_a_latency_without_an_answer():
    gate = Gate("latency", "latency", max=30_000, warm_up=0)
    leg = Leg("green", "live", 60, {"timeout": 60}, Histogram((), 60))
    one = Measurement(BIRTH, BIRTH + timedelta(seconds=1), (leg,), Cursor("one", BIRTH))
    found = judge(state(gate, stable=None).fold(one))
    assert found.sentence == "green p95 without an answer over 60 requests: beyond the bound of 30 ms -> FAIL"
    assert only(found).candidate.quantile_us is None


def test_blame_names_stable():
    gate = Gate("errors", "error_rate", max=0.05, blame=True, warm_up=0)
    found = judge(state(gate).fold(errors((200, 60), (1800, 9))))
    assert found.sentence.endswith("beyond the bound of 5% and worse than blue -> FAIL")
    found = judge(state(gate).fold(errors((200, 30), (1800, 900))))
    assert found.sentence.endswith("within the bound of 5% as far as blue is -> PASS")


def test_no_data():
    now = state(ERRORS, source="mirror")
    for found in (judge(now), judge(now.fold(errors((0, 0), (90, 0), source="mirror")))):
        assert found.outcome == "no_data"
        assert found.sentence == "green: no mirror requests since the step began -> NO_DATA"
    found = judge(state(ERRORS).fold(errors((200, 0), (0, 0))))
    assert found.outcome == "no_data"
    assert found.sentence == "green 0% errors over 200 requests: blue had no live requests to compare with -> NO_DATA"
    both = Gate("errors", "error_rate", max=0.05, max_ratio=1.5, max_increase=0.01, warm_up=0)
    assert judge(state(both).fold(errors((200, 0), (0, 0)))).outcome == "open"


def test_requests_that_stop_after_the_warm_up_are_no_data():
    gate = Gate("errors", "error_rate", max=0.05, warm_up=2)
    now = state(gate).fold(errors((9, 0), (90, 0)))
    assert judge(now).sentence == "green: warming up, 1 s left -> CONTINUE"
    now = now.fold(errors((9, 0), (90, 0)))
    assert only(judge(now)).verdict == "CONTINUE"
    now = now.fold(errors((0, 0), (90, 0)))
    assert judge(now).sentence == "green: no live requests since the warm-up -> NO_DATA"


def test_relative_terms_end_visibly_and_absolute_ones_go_on():
    gate = Gate("errors", "error_rate", max=0.05, max_ratio=1.5, max_increase=0.005, blame=True, warm_up=0)
    now = state(gate, ERRORS, stages=2).enter(1, (gate,), "green", "blue", "live")
    now = now.fold(errors((50, 0), (450, 0))).enter(1, (gate,), "green", None, "live")
    found = judge(now.fold(errors((200, 0), (0, 0))))
    assert found.sentence == (
        "green 0% errors over 200 requests: within the bound of 5% "
        "(no longer compared: blue has no live traffic) -> PASS"
    )
    assert "no longer compared: blue has no live traffic" in only(found).notes
    assert only(found).stable is None
    found = judge(now.enter(1, (ERRORS,), "green", None, "live").fold(errors((200, 0), (0, 0))))
    assert found.outcome == "no_data"
    assert found.sentence.endswith(": no longer compared: blue has no live traffic -> NO_DATA")


def test_a_relative_term_that_ended_can_no_longer_accuse():
    gate = Gate("errors", "error_rate", max=0.2, max_ratio=1.5, max_increase=0.005, warm_up=0)
    now = state(gate, stages=2).fold(errors((200, 20), (1800, 0)))
    assert judge(now).outcome == "failed"
    gone = judge(now.enter(1, (gate,), "green", None, "live").fold(errors((9, 0), (0, 0))))
    assert gone.outcome == "open"
    assert only(gone).log_evidence_fail <= 0


def test_errors_until_a_poll_can_be_read():
    now = state(ERRORS).fold(errors((900, 0), (9000, 0)))
    assert judge(now).outcome == "passed"
    found = judge(now.missed("the proxy does not answer").missed("the proxy does not answer"))
    assert found.outcome == "open"
    assert (only(found).verdict, only(found).errors) == ("ERROR", 2)
    assert found.sentence.endswith(": the proxy does not answer -> ERROR")


def test_lost_measurements_and_missing_correction_are_said():
    lost = Measurement(BIRTH, BIRTH + timedelta(seconds=9), (), Cursor("two", BIRTH), lost=True)
    notes = only(judge(state(ERRORS).fold(lost).fold(errors((9, 0), (90, 0))))).notes
    assert "not corrected for clustered errors: 0 of 3 minutes seen" in notes
    assert "1 of the step's measurements lost with a restart of the data plane" in notes
    now = state(ERRORS)
    for minute in range(12):
        now = now.fold(errors((9, 0), (600, 40 * (minute % 2)), seconds=60))
    assert any(
        note.startswith("corrected for clustered errors: counts divided by 2") for note in only(judge(now)).notes
    )


def test_a_group_fails_by_its_mean_and_names_the_largest():
    """A gate that would fail alone is outvoted by company that has no evidence, and joined by company that has some."""
    one = Gate("one", "error_rate", max=0.05, warm_up=0, alpha=0.05)
    quiet = tuple(Gate(f"quiet{n}", "error_rate", max=0.05, warm_up=0, alpha=0.05, codes=("404",)) for n in range(5))
    apart = Gate("apart", "error_rate", max=0.05, warm_up=0, alpha=0.05, codes=("404",), on_fail="pause")
    poll = errors((40, 8), (0, 0))
    alone = judge(state(one).fold(poll))
    assert (alone.outcome, alone.culprit) == ("failed", "one")
    evidence = only(alone).log_evidence_fail
    assert math.log(1 / 0.05) < evidence < math.log(6 / 0.05)
    together = judge(state(one, *quiet).fold(poll))
    assert together.outcome != "failed"
    assert "of the way to FAIL" in together.verdicts[0].sentence
    assert judge(state(one, apart).fold(poll)).outcome == "failed", "another reaction is another group"
    twice = judge(state(one, *quiet).fold(poll).fold(poll))
    assert (twice.outcome, twice.culprit) == ("failed", "one")
    assert [verdict.verdict for verdict in twice.verdicts] == ["FAIL"] + ["CONTINUE"] * 5


def test_rollback_goes_before_pause():
    bad = errors((200, 90), (0, 0))
    pause = Gate("p", "error_rate", max=0.01, warm_up=0, on_fail="pause")
    back = Gate("r", "error_rate", max=0.05, warm_up=0, on_fail="rollback")
    found = judge(state(pause, back).fold(bad))
    assert (found.on_fail, found.culprit) == ("rollback", "r")
    assert {verdict.verdict for verdict in found.verdicts} == {"FAIL"}
    assert judge(state(pause).fold(bad)).on_fail == "pause"


def test_a_stage_passes_when_every_gate_has():
    easy = Gate("easy", "error_rate", max=0.2, warm_up=0)
    hard = Gate("hard", "error_rate", max=0.02, warm_up=0)
    now = state(easy, hard).fold(errors((120, 0), (0, 0)))
    found = judge(now)
    assert [verdict.verdict for verdict in found.verdicts] == ["PASS", "CONTINUE"]
    assert found.outcome == "open"
    assert found.sentence == found.verdicts[1].sentence
    found = judge(now.fold(errors((200, 0), (0, 0))))
    assert (found.outcome, found.sentence) == ("passed", "all 2 gates passed")
    assert judge(GateState.begin((), 1).enter(0, (), "green", "blue", "live")).outcome == "passed"


def test_a_judgement_can_be_stored():
    adapter = TypeAdapter(Judgement)
    found = judge(state(ERRORS, LATENCY).fold(errors((90, 9), (900, 3))))
    assert adapter.validate_json(adapter.dump_json(found)) == found


@pytest.mark.parametrize(
    ("shown", "wanted"),
    [
        (wording.percent(0.021), "2.1%"),
        (wording.percent(0), "0%"),
        (wording.percent(1), "100%"),
        (wording.percent(0.00041), "0.041%"),
        (wording.percent(1e-9), "<0.001%"),
        (wording.duration(640), "640 us"),
        (wording.duration(1100), "1.1 ms"),
        (wording.duration(41_200), "41.2 ms"),
        (wording.duration(999_700), "1 s"),
        (wording.duration(1_250_000), "1.25 s"),
        (wording.quantile(0.999), "p99.9"),
        (wording.quantile(0.5), "p50"),
    ],
)
def test_wording(shown, wanted):
    assert shown == wanted


GATES = (
    Gate("absolute", "error_rate", max=0.01, blame=True, warm_up=0, alpha=0.05),
    Gate("relative", "error_rate", max_ratio=1.5, max_increase=0.001, warm_up=0, alpha=0.05),
)


def simulate(rng, p_green, p_blue, polls, per_minute=60):
    """One canary of 10% with a poll a minute: (failed, candidate requests until then)."""
    now, requests = state(*GATES), 0
    for _ in range(polls):
        n_g = int(rng.poisson(per_minute))
        n_b = int(rng.poisson(9 * per_minute))
        requests += n_g
        counts = (n_g, int(rng.binomial(n_g, p_green))), (n_b, int(rng.binomial(n_b, p_blue)))
        now = now.fold(errors(*counts, seconds=60))
        if judge(now).outcome == "failed":
            return True, requests
    return False, requests


def test_no_change_is_hardly_ever_rolled_back_though_judged_each_minute():
    rng = np.random.default_rng(20)
    failed = sum(simulate(rng, 0.005, 0.005, 30)[0] for _ in range(40))
    assert failed <= 1  # 5% of 40 would be 2; measured is 0.2%


def test_ten_percent_errors_are_caught_within_a_minute_or_two():
    rng = np.random.default_rng(21)
    outcomes = [simulate(rng, 0.10, 0.005, 30) for _ in range(60)]
    assert all(failed for failed, _ in outcomes)
    assert np.median([requests for _, requests in outcomes]) <= 75
