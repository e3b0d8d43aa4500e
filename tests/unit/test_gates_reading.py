"""What gates on pairs, on samples and on stable itself read in a poll, and the sentences that come of it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from orchestrator.gates.judge import judge
from orchestrator.gates.kernels import bound_increments, log_mean_exp
from orchestrator.gates.reading import Reading, Sides
from orchestrator.gates.spec import External, Gate
from orchestrator.gates.state import MOST_BEFORE, GateState
from providers.measurement import Comparison, Count, Cursor, Histogram, Leg, Measurement, Pairs, Sample

BIRTH = datetime(2026, 3, 1, 12, tzinfo=UTC)
SLOWER = Gate("slower", "slowdown", max_ratio=1.25, warm_up=0)
MISSING = Gate("missing", "missing_pairs", max=0.1, warm_up=0)
ANSWERS = Gate("answers", "prediction", max=0.02, comparison=Comparison(examples=3), warm_up=0)
SALES = Gate("sales", "external", max=0.1, external=External("shop"), warm_up=0)
AGAINST = Gate("sales", "external", max=0.5, max_ratio=2, external=External("shop"), warm_up=0)
QUEUE = Gate("queue", "external", max=7, external=External("shop", form="values"), warm_up=0, min_requests=5)
GUARD = Gate("guard", "error_rate", max_increase=0.02, guards_stable=True, warm_up=0)


def poll(pairs=None, *, green=100, blue=900, green_bad=0, blue_bad=0, at=0, seconds=10.0, **samples):
    legs = (
        Leg("green", "mirror", green, {"200": green - green_bad, "503": green_bad}, Histogram(((10, 11, green),))),
        Leg("blue", "live", blue, {"200": blue - blue_bad, "503": blue_bad}, Histogram(((10, 11, blue),))),
    )
    start = BIRTH + timedelta(seconds=at)
    end = start + timedelta(seconds=seconds)
    return Measurement(start, end, legs, Cursor("one", end), pairs, samples=samples)


def rows(*latencies, missing=None, digits=2):
    """Pairs of (copy's latency, twin's, how many); None for one without an answer."""
    classes = tuple(
        ("timeout" if copy is None else "200", "timeout" if t is None else "200", n) for copy, t, n in latencies
    )
    return Pairs(classes, latencies, missing or {}, digits)


def state(*gates, paired=True, **more):
    entered = GateState.begin(gates, 1)
    return entered.enter(0, gates, "green", "blue", "mirror", paired=paired, **more)


def only(found):
    (verdict,) = found.verdicts
    return verdict


def read(measurement, gate, bet="bound", side="fail"):
    return Reading(measurement, Sides("green", "mirror", "blue"), Histogram()).counts(gate, bet, side)


# --- pairs ----------------------------------------------------------------------------------------


def test_each_side_of_a_slowdown_takes_the_reading_that_makes_its_claim_harder():
    # 1200 stands for 1200 to 1300; against 1000 to 1100 it is 1.09 to 1.3 times as long.
    doubtful = poll(rows((1200, 1000, 5), (1400, 1000, 3), (1300, 1000, 2), (900, 1000, 10)))
    assert read(doubtful, SLOWER, side="fail")[:3:2] == (3, 20)
    assert read(doubtful, SLOWER, side="pass")[:3:2] == (10, 20)


def test_who_got_no_answer_was_slower_unless_the_twin_got_none_either():
    cut = poll(rows((None, 1000, 4), (1000, None, 3), (None, None, 2), (1000, 1000, 1)))
    assert read(cut, SLOWER, side="fail")[:3:2] == (4, 8)
    assert read(cut, SLOWER, side="pass")[:3:2] == (4, 8)


def test_missing_pairs_are_slow_for_pass_and_nothing_for_fail():
    some = poll(rows((1000, 1000, 10), missing={"dropped": 2, "twin": 1}))
    assert read(some, SLOWER, side="fail")[:3:2] == (0, 10)
    assert read(some, SLOWER, side="pass")[:3:2] == (3, 13)


def test_a_copy_that_timed_out_or_was_lost_is_missing():
    some = poll(rows((1000, 1000, 90), (None, 1000, 4), missing={"dropped": 5, "twin": 1}))
    assert read(some, MISSING)[:3:2] == (10, 100)


def test_slower_copies_fail_and_equal_ones_pass():
    now = state(SLOWER)
    for at in range(3):
        now = now.fold(poll(rows((1500, 1000, 18), (1000, 1000, 2)), at=10 * at))
    found = judge(now)
    assert found.outcome == "failed"
    assert found.sentence == (
        "green took more than 1.25x as long as its twin in 90% of 60 pairs: "
        "beyond the half of them that may take more than 1.25x as long -> FAIL"
    )
    now = state(replace(SLOWER, min_requests=20)).fold(poll(rows((1000, 1000, 30))))
    assert only(judge(now)).verdict == "PASS"


def test_missing_pairs_fail_by_their_share():
    now = state(MISSING)
    for at in range(4):
        now = now.fold(poll(rows((1000, 1000, 50), missing={"dropped": 30}), at=10 * at))
    verdict = only(judge(now))
    assert verdict.verdict == "FAIL"
    assert verdict.sentence.startswith("37.5% of 320 mirrored requests to green could not be compared with their twins")


@pytest.mark.parametrize("gate", [SLOWER, MISSING], ids=lambda gate: gate.name)
def test_without_pairs_there_is_no_data(gate):
    now = state(gate, paired=False).fold(poll(None)).fold(poll(None))
    found = judge(now)
    assert found.outcome == "no_data"
    assert only(found).sentence == "green: no mirrored request was joined with its live twin -> NO_DATA"


def test_pairs_that_do_not_add_up_are_an_error():
    for wrong in (
        Pairs((("200", "200", -1),)),
        Pairs((("200", "200", 3),), ((1000, 1000, 2),)),
        Pairs((("200", "200", 3),), ((1000, 1000, 3),), {"dropped": -1}),
    ):
        verdict = only(judge(state(SLOWER).fold(poll(wrong))))
        assert (verdict.verdict, verdict.errors) == ("ERROR", 1)
        assert verdict.sentence == "green: the counts of joined pairs do not add up -> ERROR"


def test_errors_on_a_mirror_go_by_pairs_and_say_so():
    gate = Gate("errors", "error_rate", max_ratio=1.5, max_increase=0.01, warm_up=0)
    joined = Pairs((("200", "200", 95), ("503", "200", 4), ("503", "503", 1)))
    with_pairs = only(judge(state(gate).fold(poll(joined, green_bad=5, blue_bad=9))))
    assert "100 mirrored requests were joined with their live twins" in with_pairs.notes
    without = only(judge(state(gate, paired=False).fold(poll(None, green_bad=5, blue_bad=9))))
    assert "mirrored requests are not joined with their live twins: all of both sides are compared" in without.notes
    assert with_pairs.log_evidence_fail != without.log_evidence_fail


# --- predictions ----------------------------------------------------------------------------------


def test_other_answers_fail_and_their_examples_are_few():
    now = state(ANSWERS)
    for at in range(5):
        found = tuple(f"predictions.0: {at}.{number} instead of 1" for number in range(2))
        now = now.fold(poll(at=10 * at, answers=Sample(Count(20, 100), examples=found)))
    verdict = only(judge(now))
    assert verdict.verdict == "FAIL"
    assert verdict.sentence == "green answered otherwise in 20% of 500 pairs: beyond the bound of 2% -> FAIL"
    told = tuple(note for note in verdict.notes if note.startswith("for example: "))
    assert told == tuple(f"for example: predictions.0: {n} instead of 1" for n in ("0.0", "0.1", "1.0"))


def test_no_examples_unless_they_are_asked_for():
    silent = replace(ANSWERS, comparison=Comparison())
    now = state(silent).fold(poll(answers=Sample(Count(20, 100), examples=("a secret",))))
    assert not any("a secret" in note for note in only(judge(now)).notes)
    assert now.tracks[0].examples == ()


def test_what_was_left_out_is_told():
    now = state(ANSWERS)
    for at in range(2):
        sample = Sample(Count(0, 150), left_out={"one of the two was no 2xx": 600})
        now = now.fold(poll(at=10 * at, answers=sample))
    verdict = only(judge(now))
    assert verdict.verdict == "PASS"
    assert "left out: 1,200, because one of the two was no 2xx" in verdict.notes


def test_the_same_answers_pass():
    verdict = only(judge(state(ANSWERS).fold(poll(answers=Sample(Count(0, 300))))))
    assert verdict.verdict == "PASS"
    assert verdict.stable is None


def test_no_answer_was_compared():
    assert only(judge(state(ANSWERS).fold(poll()))).sentence == "green: nothing was measured -> NO_DATA"


# --- from elsewhere -------------------------------------------------------------------------------

QUERY = 'sum(rate(checkout_failures{version="green"}[1m]))'


@pytest.mark.parametrize("gate", [SALES, AGAINST, QUEUE], ids=["bound", "comparison", "values"])
@pytest.mark.parametrize("clause", ["the result is empty", "the value is NaN", "the newest value is 300 s old"])
def test_nothing_is_no_data_with_the_query_and_never_passes(gate, clause):
    now = state(gate)
    for at in range(50):
        now = now.fold(poll(at=10 * at, **{gate.name: Sample(nothing=clause, query=QUERY)}))
    found = judge(now)
    assert found.outcome == "no_data"
    assert only(found).sentence == f"green: {clause}; asked was {QUERY} -> NO_DATA"


@pytest.mark.parametrize("clause", ["2 series came, and 1 is wanted", "the server answered 503", "no answer in 5 s"])
def test_a_problem_is_an_error_with_the_query_until_figures_come(clause):
    now = state(SALES)
    for at in range(5):
        now = now.fold(poll(at=10 * at, sales=Sample(problem=clause, query=QUERY)))
    verdict = only(judge(now))
    assert (verdict.verdict, verdict.errors) == ("ERROR", 5)
    assert verdict.sentence == f"green: {clause}; asked was {QUERY} -> ERROR"
    now = now.fold(poll(at=99, sales=Sample(Count(0.5, 500.0))))
    assert (only(judge(now)).verdict, only(judge(now)).errors) == ("PASS", 0)


def test_a_long_query_is_cut():
    now = state(SALES).fold(poll(sales=Sample(nothing="the result is empty", query="x" * 5000)))
    assert len(only(judge(now)).sentence) < 300


def test_that_the_last_poll_brought_nothing_is_said():
    now = state(SALES).fold(poll(sales=Sample(Count(1.0, 20.0))))
    assert not any("last poll" in note for note in only(judge(now)).notes)
    now = now.fold(poll(at=10, sales=Sample(nothing="the result is empty", query=QUERY)))
    verdict = only(judge(now))
    assert verdict.verdict == "CONTINUE"
    assert f"no figures in the last poll: the result is empty; asked was {QUERY}" in verdict.notes


@pytest.mark.parametrize(
    ("sample", "clause"),
    [
        (Sample(Count(3, 2)), "3 bad of 2 do not add up"),
        (Sample(Count(-1, 2)), "-1 bad of 2 do not add up"),
        (Sample(Count(1, float("inf"))), "1 bad of inf do not add up"),
        (Sample(Count(float("nan"), 2)), "nan bad of 2 do not add up"),
        (Sample(Count(1, 2), Count(5, 3)), "5 bad of 3 do not add up"),
    ],
)
def test_counts_that_do_not_add_up_are_an_error(sample, clause):
    verdict = only(judge(state(SALES).fold(poll(sales=sample))))
    assert verdict.verdict == "ERROR"
    assert verdict.sentence == f"green: {clause} -> ERROR"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("point", [(0,), (1,)])
def test_values_that_are_no_numbers_are_an_error(value, point):
    values = tuple(value if at in point else 1.0 for at in (0, 1))
    verdict = only(judge(state(QUEUE).fold(poll(queue=Sample(values=(values,))))))
    assert verdict.sentence == "green: a value is no number -> ERROR"


def test_counts_are_judged_against_stables_where_that_is_asked():
    now = state(AGAINST)
    for at in range(12):
        now = now.fold(poll(at=10 * at, sales=Sample(Count(12.0, 60.0), Count(10.0, 500.0))))
    verdict = only(judge(now))
    assert verdict.verdict == "FAIL"
    assert verdict.sentence.startswith("green 20% bad against blue 2% over 720 requests: beyond the tolerance of 2x")


def test_values_are_points_in_time_half_of_which_may_be_beyond():
    high, low = state(QUEUE), state(QUEUE)
    for at in range(12):
        high = high.fold(poll(at=60 * at, seconds=60.0, queue=Sample(values=((9.0, None),))))
        low = low.fold(poll(at=60 * at, seconds=60.0, queue=Sample(values=((3.0, None),))))
    failed, passed = only(judge(high)), only(judge(low))
    assert failed.sentence == "green beyond its limit at 100% of 12 points in time: beyond the bound of 7 -> FAIL"
    assert passed.verdict == "PASS"
    assert "the coarse form: points in time are judged, not requests" in failed.notes
    assert not any("cluster" in note for note in failed.notes)


# --- does mirroring hurt stable? ------------------------------------------------------------------


def guarded(before, during, gate=GUARD):
    """Stable's (requests, bad) of polls before the step, and in it."""
    now = GateState.begin((gate,), 1)
    for at, (total, wrong) in enumerate(before):
        now = now.remember(poll(blue=total, blue_bad=wrong, at=10 * at), "blue")
    now = now.enter(0, (gate,), "green", "blue", "mirror", paired=True)
    for at, (total, wrong) in enumerate(during):
        now = now.fold(poll(rows((1000, 1000, 100)), blue=total, blue_bad=wrong, at=1000 + 10 * at, green_bad=100))
    return now


def test_stable_is_compared_with_itself_and_the_candidate_is_not_looked_at():
    verdict = only(judge(guarded([(900, 9)] * 10, [(900, 9)] * 10)))
    assert verdict.verdict == "PASS"
    assert verdict.sentence.startswith("blue 1% errors against before 1% over 9,000 requests: within the tolerance")
    assert "compares blue with itself before the step: what changed by itself counts as well" in verdict.notes
    assert verdict.candidate.bad == 90
    verdict = only(judge(guarded([(900, 9)] * 10, [(900, 90)] * 10)))
    assert verdict.verdict == "FAIL"
    assert verdict.sentence.startswith("blue 10% errors against before 1% over")


def test_each_poll_from_before_is_used_once():
    now = guarded([(900, 9)] * 3, [(900, 9)] * 2)
    assert len(now.before) == 1
    used_up, more = guarded([(900, 9)] * 3, [(900, 9)] * 3), guarded([(900, 9)] * 3, [(900, 9)] * 6)
    assert (used_up.before, more.before) == ((), ())
    wealth = [state.tracks[0].starts[0].wealth["relative"].logs for state in (used_up, more)]
    assert wealth[0] == wealth[1], "nothing is compared with no poll"


def test_stable_that_was_not_measured_before_is_no_data():
    verdict = only(judge(guarded([], [(900, 9)] * 5)))
    assert verdict.verdict == "NO_DATA"
    assert verdict.sentence.endswith(
        "blue was not measured before the step, so there is nothing to compare with -> NO_DATA"
    )


def test_what_is_remembered_is_bounded_and_never_empty_or_lost():
    now = GateState.begin((GUARD,), 1)
    for at in range(MOST_BEFORE + 30):
        now = now.remember(poll(blue=at + 1, at=at), "blue")
    assert [leg.requests for leg in now.before][:: MOST_BEFORE - 1] == [31, MOST_BEFORE + 30]
    again = now.remember(poll(blue=0), "blue")
    again = again.remember(replace(poll(), lost=True), "blue").remember(poll(seconds=0.0), "blue")
    assert again == now


# --- where requests go ----------------------------------------------------------------------------


def test_a_split_that_is_not_the_one_asked_for_is_an_error_counted_in_polls():
    gate = Gate("errors", "error_rate", max=0.05, warm_up=0)
    now, counted = state(gate, asked=0.1, paired=False), []
    for at in range(9):
        now = now.fold(poll(green=200, blue=1000, at=10 * at))
        counted.append(only(judge(now)).errors)
    assert counted[-5:] == list(range(counted[-5], counted[-5] + 5)), "five in a row, as an engine asks for"
    verdict = only(judge(now))
    assert verdict.verdict == "ERROR"
    assert "the candidate got 20% of 9,000 requests where 10% were asked for, which is not chance" in verdict.sentence
    fine = state(gate, asked=0.1, paired=False)
    for at in range(9):
        fine = fine.fold(poll(green=100, blue=1000, at=10 * at))
    assert (only(judge(fine)).verdict, only(judge(fine)).errors) == ("PASS", 0)
    assert only(judge(state(gate, asked=None).fold(poll(green=900, blue=1000)))).verdict != "ERROR"


def test_a_split_that_is_off_does_not_hide_a_fail():
    gate = Gate("errors", "error_rate", max=0.05, warm_up=0)
    now = state(gate, asked=0.1, paired=False)
    for at in range(9):
        now = now.fold(poll(green=200, green_bad=100, blue=1000, at=10 * at))
    assert now.split.off
    assert judge(now).outcome == "failed"


def test_values_are_settled_by_the_median_kernel():
    values = ((9.0, None), (3.0, None), (8.0, None))
    now = state(QUEUE).fold(poll(queue=Sample(values=values)))
    wanted = log_mean_exp(bound_increments(np.array(2), np.array(3), 0.5, "pass"))
    assert now.tracks[0].passing["bound"].log == pytest.approx(float(wanted), abs=1e-12)
