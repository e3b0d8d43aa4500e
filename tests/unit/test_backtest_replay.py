"""A replay on hand-made windows: whose clocks run when, what judges what, and which gates cannot be judged."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from orchestrator.backtest.recording import Recording, Window
from orchestrator.backtest.replay import Replayed, replay
from orchestrator.gates.spec import External, Gate
from orchestrator.stages import Stage, Target
from orchestrator.standing import Roles, Split
from plans.steps import ApproveStep, WaitStep
from providers.base import Capabilities
from providers.measurement import Comparison, Count, Cursor, Histogram, Leg, Measurement, Pairs, Sample

ROLES = Roles("green", "blue", Split({"blue": 1000}), {"blue": 1})
START = datetime(2026, 11, 22, 17, 0, tzinfo=UTC)
ERRORS = Gate("errors", "error_rate", max=0.05, warm_up=0.0)
LATENCY = Gate("latency", "latency", max_ratio=2.0, warm_up=0.0)
SPLITS = {"canary": {"blue": 900, "green": 100}, "shadow": {"blue": 1000}, "promote": {"green": 1000}}


def leg(name: str, source: str, requests: int, bad: int = 0) -> Leg:
    slower = requests // 16
    latency = Histogram(((0, 50_000, requests - slower), (50_000, 100_000, slower)))
    return Leg(name, source, requests, {"200": requests - bad, "500": bad}, latency)  # type: ignore[arg-type]


def window(
    number: int, at: float, *, mirrored: bool = False, requests: int = 300, bad: int = 0, long: float = 60.0
) -> Window:
    begin = START + timedelta(seconds=at)
    end = begin + timedelta(seconds=long)
    legs = (leg("blue", "live", 9 * requests), leg("green", "mirror" if mirrored else "live", requests, bad))
    return Window(number, Measurement(begin, end, legs, Cursor("", end)), mirrored, not mirrored)


def minutes(count: int, **more) -> tuple[Window, ...]:
    return tuple(window(n + 1, 60.0 * n, **more) for n in range(count))


def recording(*windows: Window, **more) -> Recording:
    return Recording("x.csv", windows, "green", "blue", **more)


def gated(kind: str, *gates: Gate, hold: float = 300.0, deadline: float = 3600.0, **more) -> Stage:
    mirrored = 100 if kind == "shadow" else 0
    target = Target(SPLITS[kind], {"green": 100} if mirrored else {})
    exposure = 0 if mirrored else SPLITS[kind]["green"]
    fields = {"gates": gates, "hold": hold, "deadline": deadline, "interval": 60.0, "mirrored": mirrored}
    return Stage(0, f"{kind} x", kind, 0, target, exposure=exposure, **(fields | more))  # type: ignore[arg-type]


def task(kind: str, work: WaitStep | ApproveStep) -> Stage:
    """After a canary, which goes on guarding."""
    standing = Target(SPLITS["canary"])
    return Stage(0, kind, kind, 1, work, standing, guards=(ERRORS,), interval=60.0, exposure=100)  # type: ignore[arg-type]


def played(found: Recording, *stages: Stage) -> Replayed:
    numbered = [replace(stage, index=index) for index, stage in enumerate(stages)]
    gates = [stage.index for stage in numbered if stage.gates]
    made = tuple(replace(each, gated=gates.index(each.index) if each.gates else None) for each in numbered)
    return replay(found, made, ROLES, Capabilities(), endpoint="shop")


def test_a_stage_passes_at_the_end_of_its_hold():
    done = played(recording(*minutes(20)), gated("canary", ERRORS))
    (ran,) = done.stages
    assert (done.outcome, ran.outcome, ran.polls, ran.seconds) == ("passed", "passed", 5, 300.0)
    assert (ran.began, ran.ended) == (START, START + timedelta(minutes=5))
    assert (ran.requests, ran.measurements, done.notes) == (1500, (1, 5), ())


def test_a_recording_that_ends_before_the_hold_has_not_passed():
    done = played(recording(*minutes(4)), gated("canary", ERRORS), gated("promote", ERRORS))
    assert [ran.outcome for ran in done.stages] == ["recording_ended", "not_reached"]
    assert done.stopped is done.stages[0]
    assert "canary x: the recording ends here; green 0% errors" in done.stopped.sentence


def test_clocks_stand_still_where_nothing_was_recorded():
    early, late = minutes(3), tuple(window(4 + n, 86_400 + 60.0 * n) for n in range(3))
    done = played(recording(*early, *late), gated("canary", ERRORS, deadline=330.0))
    (ran,) = done.stages
    assert (ran.outcome, ran.polls, ran.seconds) == ("passed", 5, 300.0)
    assert ran.ended == START + timedelta(days=1, minutes=2)


def test_the_deadline_is_the_plans_own():
    done = played(recording(*minutes(60, requests=5)), gated("canary", ERRORS, hold=60.0, deadline=600.0))
    assert (done.outcome, done.stopped.cause, done.stopped.polls) == ("paused", "undecided", 10)
    assert done.stopped.seconds == 600.0
    back = gated("canary", replace(ERRORS, on_undecided="rollback"), hold=60.0, deadline=600.0)
    assert played(recording(*minutes(60, requests=5)), back).outcome == "rolled_back"


def test_a_plan_that_looks_seldom_takes_several_windows_at_a_time():
    quick = tuple(window(n + 1, 10.0 * n, long=10.0, requests=50, bad=25 if n >= 7 else 0) for n in range(60))
    often = played(recording(*quick), gated("canary", ERRORS, interval=10.0))
    seldom = played(recording(*quick), gated("canary", ERRORS, interval=60.0))
    assert (often.outcome, seldom.outcome) == ("rolled_back", "rolled_back")
    assert often.stopped.measurements == (1, 9)
    assert seldom.stopped.measurements == (1, 12)
    assert seldom.bad == 5 * 25


def test_windows_of_a_minute_tell_a_plan_that_looks_every_second_what_it_missed():
    done = played(recording(*minutes(20)), gated("canary", ERRORS, interval=1.0))
    (told,) = done.notes
    assert told.startswith("the recording has a window every 60 s and the plan looks every 1 s: it could have stopped ")
    assert told.endswith("stopped up to 59 s sooner than is told")


def test_a_wait_is_guarded_by_what_came_meanwhile_and_an_approval_is_taken_as_given():
    live = minutes(40)
    wait = Stage(
        0,
        "wait",
        "wait",
        1,
        WaitStep(wait=600.0),
        Target(SPLITS["canary"]),
        guards=(ERRORS,),
        interval=60.0,
        exposure=100,
    )
    ask = Stage(
        0, "ask", "approve", 2, ApproveStep(approve="go?"), Target(SPLITS["canary"]), guards=(ERRORS,), exposure=100
    )
    done = played(recording(*live), gated("canary", ERRORS), wait, ask, gated("promote", ERRORS))
    assert [(ran.stage.kind, ran.outcome, ran.measurements) for ran in done.stages] == [
        ("canary", "passed", (1, 5)),
        ("wait", "passed", (6, 15)),
        ("promote", "passed", (16, 20)),
    ]
    worse = tuple(window(n + 1, 60.0 * n, bad=200 if n >= 8 else 0) for n in range(40))
    stopped = played(recording(*worse), gated("canary", ERRORS), wait, ask, gated("promote", ERRORS))
    assert (stopped.outcome, stopped.stopped.stage.kind, stopped.stopped.measurements) == (
        "rolled_back",
        "wait",
        (6, 9),
    )


def test_what_was_measured_between_two_steps_only_guards_while_a_task_lasts():
    live = [*minutes(5), *(replace(window(6 + n, 300 + 60.0 * n), between=True) for n in range(3))]
    live += [window(9 + n, 480 + 60.0 * n) for n in range(5)]
    ask = task("approve", ApproveStep(approve="go?"))
    done = played(recording(*live), gated("canary", ERRORS), ask, gated("promote", ERRORS))
    assert [ran.measurements for ran in done.stages] == [(1, 5), (6, 8), (9, 13)]


def test_the_budget_is_spent_over_all_stages():
    live = minutes(20, bad=5)
    done = played(
        recording(*live),
        gated("canary", ERRORS, budget=33),
        gated("promote", replace(ERRORS, min_requests=0), budget=33),
    )
    assert (done.outcome, done.stopped.cause, done.bad) == ("rolled_back", "budget", 35)
    assert done.stopped.sentence == "promote x: green gave clients 35 bad responses, and the budget is 33"


def test_after_the_point_of_no_return_nothing_can_be_rolled_back():
    live = tuple(window(n + 1, 60.0 * n, bad=200 if n >= 5 else 0) for n in range(20))
    delete = Stage(0, "delete blue", "delete", 1, Target(SPLITS["promote"], absent=("blue",)), irreversible=True)
    done = played(recording(*live), gated("canary", ERRORS), delete, gated("promote", ERRORS))
    assert done.outcome == "failed"
    assert "stable is gone, so nothing can be restored" in done.stopped.sentence


# --- what a recording lacks ---------------------------------------------------------------------------

SLOWDOWN = Gate("slowdown", "slowdown", max_ratio=1.2, warm_up=0.0)
PREDICTION = Gate("prediction", "prediction", max=0.05, comparison=Comparison(), warm_up=0.0)
REVENUE = Gate("revenue", "external", max=0.05, external=External("prometheus"), warm_up=0.0)
LACKING = {
    "the recording has no pairs": SLOWDOWN,
    "the recording has no predictions for it": PREDICTION,
    "no metric prometheus in it": REVENUE,
    "the recording says how many answers were errors, not which were 503": replace(ERRORS, name="e503", codes=("503",)),
    "the recording has nothing of stable from before the candidate got requests": Gate(
        "harm", "error_rate", max_increase=0.05, guards_stable=True, warm_up=0.0
    ),
}


@pytest.mark.parametrize("why", LACKING)
def test_a_gate_without_figures_neither_stops_nor_passes(why: str) -> None:
    gate, copies = LACKING[why], minutes(20, mirrored=True)
    beside = played(recording(*copies, classes=False), gated("shadow", ERRORS, gate))
    assert (beside.outcome, [ran.outcome for ran in beside.stages]) == ("not_judged", ["passed"])
    assert beside.stages[0].unjudged == {gate.name: why}
    assert f"shadow x: gate {gate.name} was not judged: {why}" in beside.notes
    alone = played(recording(*copies, classes=False), gated("shadow", gate), gated("shadow", ERRORS))
    assert (alone.outcome, [ran.outcome for ran in alone.stages]) == ("not_judged", ["not_judged", "passed"])
    bad = played(recording(*minutes(20, mirrored=True, bad=200), classes=False), gated("shadow", ERRORS, gate))
    assert (bad.outcome, bad.stopped.gate) == ("rolled_back", "errors")


def joined(each: Window, worse: int) -> Window:
    same = each.measurement.leg("green", "mirror").requests - worse
    pairs = Pairs(
        classes=(("200", "200", same + worse),),
        latencies=((40_000, 40_000, same), (90_000, 40_000, worse)),
    )
    sample = Sample(candidate=Count(worse, same + worse))
    samples = {"prediction": sample, "revenue": sample}
    return replace(each, measurement=replace(each.measurement, pairs=pairs, samples=samples))


@pytest.mark.parametrize("gate", [SLOWDOWN, PREDICTION, REVENUE], ids=lambda gate: gate.name)
def test_pairs_and_samples_are_replayed(gate: Gate) -> None:
    good = recording(*(joined(each, 1) for each in minutes(20, mirrored=True)))
    stage = gated("shadow", ERRORS, gate, paired=True)
    done = played(good, stage)
    assert done.outcome == "passed", done.stages[0].sentence
    assert [each.verdict for each in done.stages[0].judgement.verdicts] == ["PASS", "PASS"]
    bad = recording(*(joined(each, 280) for each in minutes(20, mirrored=True)))
    stopped = played(bad, stage)
    assert (stopped.outcome, stopped.stopped.gate) == ("rolled_back", gate.name)


def test_what_was_asked_of_another_source_is_about_something_else() -> None:
    good = recording(
        *(joined(each, 1) for each in minutes(20, mirrored=True)), unlike={"prediction": "it asked for something else"}
    )
    done = played(good, gated("shadow", ERRORS, PREDICTION, paired=True))
    assert done.outcome == "not_judged"
    assert "shadow x: gate prediction was not judged: it asked for something else" in done.notes


def test_without_pairs_copies_are_compared_in_bulk() -> None:
    done = played(recording(*minutes(20, mirrored=True)), gated("shadow", ERRORS, LATENCY, paired=True))
    assert done.outcome == "passed"
    assert done.stages[0].unjudged == {}
