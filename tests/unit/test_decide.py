"""The policy against every situation that hypothesis can think of, and its single rules one by one."""

from dataclasses import replace
from datetime import timedelta
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.decide import decide
from orchestrator.decisions import (
    Act,
    Advance,
    Approve,
    Begin,
    Clear,
    Decision,
    Enter,
    Finish,
    Leave,
    Measure,
    Park,
    Pause,
    Reach,
    Refuse,
    Resume,
    RollBack,
    RunTask,
    SaveLogs,
    Situation,
    Supersede,
    Wait,
)
from orchestrator.gates.judge import Figures, Judgement, Verdict
from orchestrator.lifecycle import next_phase
from orchestrator.reconcile import after
from orchestrator.rollout import Progress, Rollout, StageRecord
from orchestrator.stages import Stage, Target
from orchestrator.standing import Command, Intent, Roles, Snapshot, Split
from plans.steps import ApproveStep
from providers.actions import Action, DeleteDeployment, PutDeployment, Scale, SetTraffic
from providers.base import Capabilities, EndpointState, Operation
from tests.unit.making import BORN, deployment, endpoint, resolved, stages_of

NOW = BORN + timedelta(days=1)
SECOND = timedelta(seconds=1)
STEPS = """
  - deploy: green
  - scale: {blue: 4}
  - test: green
  - shadow: [1%, 10%]
    gates: [errors, slower]
    hold: 10m
  - canary: [10%, 50%]
    gates: errors
  - wait: 5m
  - approve: sure?
    not_by_starter: on
  - webhook: https://example.org/hook
  - promote: 100%
    gates: errors
    hold: 30m
  - delete: blue
"""
SERVING = Roles("green", "blue", Split({"blue": 1000}), {"blue": 2})
EMPTY = replace(SERVING, bootstrap=True)
STAGES = {False: stages_of(STEPS, roles=SERVING), True: stages_of(STEPS, roles=EMPTY)}
NAMES = [stage.name for stage in STAGES[False]]


def rollout(stage: str | int = 0, *, phase: str = "running", roles: Roles = SERVING, **changes: Any) -> Rollout:
    """A rollout in the middle of a stage: everything before it has passed."""
    stages = STAGES[roles.bootstrap]
    index = stage if isinstance(stage, int) else [made.name for made in stages].index(stage)
    records = tuple(
        StageRecord(made.name, "passed" if made.index < index else "running" if made.index == index else "waiting")
        for made in stages
    )
    made = Rollout(
        id="shop-1",
        name="shop",
        plan_path="/p.yml",
        endpoint="memory:shop",
        endpoint_name="shop",
        provider="memory",
        bundle="0" * 64,
        phase=phase,  # type: ignore[arg-type]
        roles=roles,
        stages=records,
        expected=Snapshot(),
        starter="ada",
        started_at=BORN,
        updated_at=BORN,
        stage=index,
        progress=Progress(entered_at=BORN),
    )
    return replace(made, **changes)


def situation(made: Rollout, observed: EndpointState | None, **changes: Any) -> Situation:
    """What is expected is what is observed, unless the rollout says otherwise."""
    if made.expected == Snapshot():
        made = replace(made, expected=Snapshot.of(observed))
    stages = STAGES[made.roles.bootstrap]
    return replace(Situation(made, stages, Capabilities(), NOW, seen=True, observed=observed), **changes)


def judged(outcome: str, on_fail: str = "rollback", errors: int = 0) -> Judgement:
    names = {"passed": "PASS", "failed": "FAIL", "open": "CONTINUE", "no_data": "NO_DATA"}
    verdict = Verdict("errors", names[outcome], "so it is", Figures(0, 0, 0.0), None, 0.0, 0.0, errors=errors)  # type: ignore[arg-type]
    culprit = "errors" if outcome == "failed" else None
    return Judgement(outcome, (verdict,), culprit, on_fail if culprit else None, "so it is")  # type: ignore[arg-type]


def intent_of(action: Action, stage: int, before: EndpointState | None, state: str = "begun", **changes: Any) -> Intent:
    start = Snapshot.of(before)
    operation = Operation("k", action) if state == "begun" else None
    made = Intent("k", stage, 1, action, start, after(start, action), operation, state=state)  # type: ignore[arg-type]
    return replace(made, **changes)


# --- anything may be the case ---

SPLITS = [
    ({"blue": 1000}, {}),
    ({"blue": 1000}, {"green": 10}),
    ({"blue": 1000}, {"green": 100}),
    ({"blue": 900, "green": 100}, {}),
    ({"blue": 500, "green": 500}, {}),
    ({"green": 1000}, {}),
    ({}, {}),
    ({"red": 1000}, {}),
]
SOON = st.integers(-7200, 7200).map(lambda seconds: NOW + timedelta(seconds=seconds))
MAYBE_SOON = st.none() | SOON


@st.composite
def worlds(draw: st.DrawFn, stage: Stage | None = None) -> EndpointState | None:
    """Most often one in which the stage is where it should be: there is more to decide than how to get there."""
    target = None if stage is None else stage.work if isinstance(stage.work, Target) else stage.standing
    if target is not None and draw(st.integers(0, 3)):
        counts = {"green": 2, "blue": 2, **target.instances}
        there = [deployment(name, healthy=n, desired=n) for name, n in counts.items() if name not in target.absent]
        return endpoint(target.traffic, target.mirror, *there)
    if not draw(st.integers(0, 11)):
        return None
    traffic, mirror = draw(st.sampled_from(SPLITS))
    names = {*traffic, *mirror, *draw(st.lists(st.sampled_from(["blue", "green"])))}
    states = []
    for name in sorted(names):
        desired = draw(st.sampled_from([2, 2, 2, 1, 4]))
        healthy = draw(st.sampled_from([desired, desired, desired, 0, 1]))
        digest = draw(st.sampled_from([f"{name}-digest"] * 4 + ["another"]))
        problem = draw(st.sampled_from([None, None, None, "exited 3 times"]))
        states.append(deployment(name, healthy=min(healthy, desired), desired=desired, digest=digest, problem=problem))
    return endpoint(traffic, mirror, *states)


@st.composite
def progresses(draw: st.DrawFn, stage: Stage | None) -> Progress:
    if stage is None or not draw(st.integers(0, 5)):
        return Progress()
    task = not isinstance(stage.work, Target)
    p = Progress(entered_at=BORN, deadline=draw(MAYBE_SOON), failure=draw(st.sampled_from([None] * 9 + ["no quota"])))
    if not draw(st.integers(0, 2)):
        return replace(p, errors=draw(st.integers(0, 6)), last_error="away")
    measured = draw(st.just(NOW) | MAYBE_SOON)
    p = replace(p, reached_at=min(draw(SOON), NOW), hold_until=draw(MAYBE_SOON), measured_at=measured)
    if stage.gates or stage.guards:
        outcome = draw(st.sampled_from([None, "passed", "passed", "failed", "open", "no_data"]))
        on_fail = draw(st.sampled_from(["rollback", "pause"]))
        judgement = judged(outcome, on_fail, draw(st.sampled_from([0, 0, 5]))) if outcome else None
        p = replace(p, judgement=judgement, errors=draw(st.sampled_from([0, 0, 1, 5])), last_error="away")
    if stage.after is not None and draw(st.booleans()):
        p = replace(p, leaving=True, passed="all gates passed")
    if task:
        ok = draw(st.sampled_from([None, None, True, False]))
        p = replace(p, task_ok=ok, task_detail="x", task_not_before=draw(MAYBE_SOON))
    if isinstance(stage.work, ApproveStep):
        p = replace(p, approved_by=draw(st.sampled_from([None, "bob"])))
    return p


@st.composite
def intents(draw: st.DrawFn, stage: int, phase: str, observed: EndpointState | None) -> dict[str, Intent]:
    if draw(st.integers(0, 2)):
        return {}
    traffic, mirror = draw(st.sampled_from(SPLITS[:6]))
    own = stage if phase == "running" or draw(st.booleans()) else -1
    if own == -1:
        traffic, mirror = SPLITS[0]
    kinds: list[Action] = [
        SetTraffic("shop", traffic, mirror),
        Scale("shop", "blue", 2 if own == -1 else 4),
        DeleteDeployment("shop", "green"),
    ]
    if own != -1:
        kinds.append(PutDeployment("shop", resolved("green")))
    action = draw(st.sampled_from(kinds))
    state = draw(st.sampled_from(["open", "begun"]))
    made = intent_of(action, own, observed, state, attempt=draw(st.integers(0, 3)))
    return {"k": replace(made, not_before=draw(MAYBE_SOON) if state == "open" else None)}


@st.composite
def situations(draw: st.DrawFn) -> Situation:
    """Any situation in which a driver may find itself, and many in which it never will."""
    roles = draw(st.sampled_from([SERVING, SERVING, EMPTY, replace(SERVING, existed=True)]))
    stages = STAGES[roles.bootstrap]
    index = draw(st.integers(0, len(stages)))
    stage = stages[index] if index < len(stages) else None
    phase = draw(st.sampled_from(["running", "running", "paused", "rolling_back"]))
    over = stage is None or stage.irreversible
    observed = draw(worlds(stage))
    made = rollout(
        index,
        phase=phase,
        roles=roles,
        progress=draw(progresses(stage)),
        intents=draw(intents(index, phase, observed)),
        expected=Snapshot.of(observed if draw(st.integers(0, 7)) else draw(worlds())),
        no_return=phase == "running" and over and draw(st.booleans()),
    )
    if phase == "paused":
        causes = ["asked", "interrupted", "drift", "gate", "no_data", "undecided", "error", "step", "invariant"]
        made = replace(
            made,
            paused=draw(st.sampled_from(causes)),
            paused_until=draw(MAYBE_SOON),
            parked=draw(st.booleans()),
            reason="why",
        )
    if phase == "rolling_back":
        made = replace(
            made,
            rollback="gate",
            rollback_at=min(draw(SOON), NOW),
            rollback_failure=draw(st.sampled_from([None, None, "no quota"])),
            logs=draw(st.sampled_from([None, "", "/logs"])),
            reason="why",
        )
    commands = ()
    if not draw(st.integers(0, 4)):
        kind = draw(st.sampled_from(["abort", "pause", "resume", "approve"]))
        flag = draw(st.sampled_from([{}, {"take_back": True}, {"keep_theirs": True}, {"reason": "so"}]))
        commands = (Command("c", "shop-1", kind, draw(st.sampled_from(["ada", "bob"])), BORN, flag),)
    flags = {name: draw(st.booleans()) for name in ("task_running", "exit_on_pause", "leave_exposed")}
    able = Capabilities(concurrent=draw(st.booleans()), live_xor_mirror=draw(st.booleans()))
    return Situation(
        made,
        stages,
        able,
        NOW,
        seen=bool(draw(st.integers(0, 9))),
        observed=observed,
        commands=commands,
        interrupted=not draw(st.integers(0, 3)),
        trouble="away",
        **flags,
    )


def exposure(split: EndpointState | SetTraffic | None) -> tuple[int, int]:
    """(live, mirrored) share of green."""
    return (0, 0) if split is None else (split.traffic.get("green", 0), split.mirror.get("green", 0))


@settings(max_examples=2000, deadline=None)
@given(s=situations())
def test_whatever_is_the_case(s):
    decision = decide(s)
    r, stage = s.rollout, s.stage
    assert isinstance(decision, get_args(Decision))
    assert decide(s) == decision, "the same facts, the same decision"
    match decision:
        case Finish(phase=phase):
            trigger = {"succeeded": "finish", "rolled_back": "undone", "failed": "fail"}[phase]
            assert next_phase(r.phase, trigger) == phase  # type: ignore[arg-type]
            if phase == "succeeded":
                assert stage is None, "something is left to do"
        case Pause():
            assert next_phase(r.phase, "pause") == "paused"
            assert not r.no_return
        case Resume():
            assert next_phase(r.phase, "resume") == "running"
            assert s.commands, "only a human ends a pause"
        case RollBack():
            assert next_phase(r.phase, "roll_back") == "rolling_back"
            assert not r.no_return, "what a rollback would go back to is gone"
        case Enter() | Reach() | RunTask() | Clear() | Advance():
            assert r.phase == "running", "progress while paused, or on the way back"
            assert s.seen, "progress without looking"
        case Begin(key=key):
            intent = r.intents[key]
            assert intent.state == "open"
            assert intent.not_before is None or intent.not_before <= s.now, "it was to wait"
            if r.phase != "running" and isinstance(intent.action, SetTraffic):
                assert exposure(intent.action)[0] <= exposure(s.observed)[0], "it gets more while paused, or going back"
                assert exposure(intent.action)[1] <= exposure(s.observed)[1]
        case Supersede(key=key):
            assert key in r.intents
        case Wait(waiting=waiting):
            assert waiting.reason
            assert waiting.until is None or waiting.until.tzinfo is not None
        case _:
            pass
    if isinstance(decision, Clear | Advance) and stage is not None and stage.gates and not r.progress.leaving:
        judgement = r.progress.judgement
        assert judgement is not None, "no evidence at all"
        assert judgement.outcome == "passed", "more exposure without a PASS"
        assert r.progress.hold_until is None or r.progress.hold_until <= s.now
        assert r.progress.errors == 0
    if isinstance(decision, Act):
        lawful(decision, s)


def lawful(decision: Act, s: Situation) -> None:
    r, action = s.rollout, decision.action
    assert s.seen, "an effect without looking"
    assert not r.intents or r.phase != "running", "one effect at a time"
    if isinstance(action, SetTraffic):
        assert sum(action.traffic.values()) in (0, 1000)
        live, mirrored = exposure(action)
        if r.phase != "running":
            assert live <= exposure(s.observed)[0], "a rollback, or a pause, gives the candidate more"
            assert mirrored <= exposure(s.observed)[1]
            assert decision.stage == -1
            assert (action.traffic, action.mirror) == (r.roles.baseline.traffic, {}), "it goes back to what was before"
        elif not r.progress.leaving:
            assert live <= max(s.stages[r.stage].exposure, exposure(s.observed)[0])
        assert not (live and mirrored) or not s.capabilities.live_xor_mirror
    if isinstance(action, DeleteDeployment):
        assert s.observed is not None
        assert not s.observed.traffic.get(action.deployment), "deleted with traffic"
        assert not s.observed.mirror.get(action.deployment), "deleted with a mirror"
        assert r.phase != "paused"
        if r.phase == "rolling_back":
            assert action.deployment == "green", "a rollback deletes the candidate only"
            assert not r.roles.existed, "it was there before"
    if r.phase != "running":
        assert not isinstance(action, PutDeployment), "nothing is deployed on the way back"


@settings(max_examples=150, deadline=None)
@given(s=situations())
def test_an_abort_is_never_lost(s):
    command = Command("c", "shop-1", "abort", "ada", BORN, {"reason": "enough"})
    decision = decide(replace(s, commands=(command,)))
    if s.rollout.phase == "rolling_back" or s.rollout.no_return:
        assert isinstance(decision, Refuse)
    else:
        assert decision == RollBack("abort", "aborted by ada: enough", command)
    assert decision.command == command


@pytest.mark.parametrize("phase", ["succeeded", "rolled_back", "failed"])
def test_what_has_ended_is_left(phase):
    command = Command("c", "shop-1", "abort", "ada", BORN)
    assert isinstance(decide(situation(rollout(phase=phase), None, commands=(command,))), Leave)


# --- one by one ---

BLUE = endpoint({"blue": 1000})
BOTH = endpoint({"blue": 1000}, {}, deployment("green"))
SHADOW = endpoint({"blue": 1000}, {"green": 100})
CANARY = endpoint({"blue": 900, "green": 100})
HALF = endpoint({"blue": 500, "green": 500})
REACHED = Progress(entered_at=BORN, reached_at=NOW - 30 * SECOND, measured_at=NOW)


def test_a_stage_is_entered_reached_and_left():
    fresh = rollout("deploy green", progress=Progress())
    entered = decide(situation(fresh, BLUE))
    assert entered == Enter(STAGES[False][0], NOW + timedelta(seconds=1800))
    acted = decide(situation(rollout("deploy green"), BLUE))
    assert isinstance(acted, Act)
    assert isinstance(acted.action, PutDeployment)
    assert decide(situation(rollout("deploy green"), BOTH)) == Reach(STAGES[False][0])
    assert decide(situation(rollout("deploy green", progress=REACHED), BOTH)) == Advance("done")


def test_the_mirror_is_cleared_before_a_shadow_is_left():
    p = replace(REACHED, judgement=judged("passed"), hold_until=NOW)
    assert decide(situation(rollout("shadow 10%", progress=p), SHADOW)) == Clear("so it is")
    leaving = replace(p, leaving=True, passed="so it is")
    cleared = decide(situation(rollout("shadow 10%", progress=leaving), SHADOW))
    assert cleared == Act(SetTraffic("shop", {"blue": 1000}, {}), NAMES.index("shadow 10%"))
    assert decide(situation(rollout("shadow 10%", progress=leaving), BOTH)) == Advance("so it is")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"judgement": judged("passed")}, Advance),
        ({"judgement": judged("passed"), "hold_until": NOW + SECOND}, Wait),
        ({"judgement": judged("passed"), "errors": 1}, Wait),
        ({"judgement": judged("passed"), "measured_at": NOW - SECOND}, Measure),
        ({"judgement": judged("passed"), "measured_at": None}, Measure),
        ({"judgement": judged("open")}, Wait),
        ({"judgement": None}, Wait),
        ({"judgement": judged("failed")}, RollBack),
        ({"judgement": judged("failed", "pause")}, Pause),
        ({"judgement": judged("open"), "errors": 5}, Pause),
        ({"judgement": judged("open"), "errors": 4}, Wait),
        ({"judgement": judged("open", errors=5)}, Pause),
        ({"judgement": judged("open"), "deadline": NOW}, Pause),
        ({"judgement": judged("no_data"), "deadline": NOW}, Pause),
        ({"judgement": None, "deadline": NOW}, Pause),
        ({"failure": "no quota"}, RollBack),
    ],
)
def test_a_gated_stage(changes, expected):
    p = replace(REACHED, **changes)
    assert isinstance(decide(situation(rollout("canary 10%", progress=p), CANARY)), expected)


def test_the_whole_hold_is_looked_at_before_it_counts():
    p = replace(REACHED, judgement=judged("passed"), hold_until=NOW, measured_at=NOW - SECOND / 2)
    assert decide(situation(rollout("canary 10%", progress=p), CANARY)) == Measure(
        STAGES[False][NAMES.index("canary 10%")]
    )


def test_causes_are_told_apart():
    def cause(**changes: Any) -> str:
        decision = decide(situation(rollout("canary 10%", progress=replace(REACHED, deadline=NOW, **changes)), CANARY))
        assert isinstance(decision, Pause)
        return decision.cause

    assert cause(judgement=judged("open")) == "undecided"
    assert cause(judgement=judged("no_data")) == "no_data"
    assert cause(judgement=judged("open"), errors=5) == "error"


def test_a_task_keeps_guarding():
    p = replace(REACHED, hold_until=NOW + SECOND)
    wait = rollout("wait 5m", progress=p)
    assert isinstance(decide(situation(wait, HALF)), Wait)
    assert isinstance(decide(situation(replace(wait, progress=replace(p, measured_at=NOW - SECOND)), HALF)), Measure)
    failed = replace(wait, progress=replace(p, judgement=judged("failed")))
    assert isinstance(decide(situation(failed, HALF)), RollBack)


def test_one_shot_steps():
    test = rollout("test green", progress=REACHED)
    assert isinstance(decide(situation(test, BOTH)), RunTask)
    assert isinstance(decide(situation(test, BOTH, task_running=True)), Wait)
    later = replace(test, progress=replace(REACHED, task_not_before=NOW + SECOND))
    assert isinstance(decide(situation(later, BOTH)), Wait)
    fine = replace(test, progress=replace(REACHED, task_ok=True, task_detail="fine"))
    assert decide(situation(fine, BOTH)) == Advance("fine")
    bad = replace(test, progress=replace(REACHED, task_ok=False, task_detail="boom"))
    assert decide(situation(bad, BOTH)) == RollBack("step", "test green: boom")


def ask(kind: str, made: Rollout, observed: EndpointState | None = CANARY, actor: str = "bob", **args: Any) -> Decision:
    command = Command("c", "shop-1", kind, actor, BORN, args)  # type: ignore[arg-type]
    return decide(situation(made, observed, commands=(command,)))


def test_approving():
    waiting = rollout("approve: sure?", progress=REACHED)
    assert isinstance(decide(situation(waiting, HALF)), Wait)
    assert isinstance(ask("approve", waiting, HALF), Approve)
    refused = ask("approve", waiting, HALF, actor="ada")
    assert isinstance(refused, Refuse)
    assert "ada started it" in refused.reason
    agreed = replace(waiting, progress=replace(REACHED, approved_by="bob"))
    assert decide(situation(agreed, HALF)) == Advance("approved by bob")
    assert isinstance(ask("approve", agreed, HALF), Refuse)
    assert isinstance(ask("approve", rollout("canary 10%")), Refuse)
    late = replace(waiting, progress=replace(REACHED, deadline=NOW))
    assert decide(situation(late, HALF)) == RollBack("approval", "nobody approved within 1d: sure?")


def paused(cause: str, **changes: Any) -> Rollout:
    changes = {"progress": REACHED, "reason": "why", **changes}
    return rollout("canary 10%", phase="paused", paused=cause, **changes)


def test_resuming():
    assert isinstance(ask("resume", rollout("canary 10%")), Refuse)
    drifted = ask("resume", paused("drift"))
    assert isinstance(drifted, Refuse)
    assert "--take-back" in drifted.reason
    assert isinstance(ask("resume", paused("drift"), take_back=True), Resume)
    kept = ask("resume", paused("drift"), keep_theirs=True)
    assert isinstance(kept, Finish)
    assert (kept.phase, kept.reason.partition(":")[0]) == ("failed", "left as found by bob")
    for cause, restart in (("asked", False), ("undecided", False), ("gate", True)):
        resumed = ask("resume", paused(cause))
        assert isinstance(resumed, Resume)
        assert resumed.restart is restart
    parked = ask("resume", paused("interrupted", parked=True), BOTH)
    assert isinstance(parked, Resume)
    assert parked.restart, "what was proven before is not enough"


def test_paused_and_still_guarding():
    assert isinstance(decide(situation(paused("asked"), CANARY)), Wait)
    due = paused("asked", progress=replace(REACHED, measured_at=NOW - SECOND))
    assert isinstance(decide(situation(due, CANARY)), Measure)
    failed = paused("asked", progress=replace(REACHED, judgement=judged("failed")))
    assert isinstance(decide(situation(failed, CANARY)), RollBack)
    agreed = paused("gate", progress=replace(REACHED, judgement=judged("failed", "pause")))
    assert isinstance(decide(situation(agreed, CANARY)), Wait)
    limit = paused("asked", paused_until=NOW)
    assert isinstance(decide(situation(limit, CANARY)), RollBack)


def test_parking_before_leaving():
    made = paused("interrupted")
    assert decide(situation(made, CANARY, interrupted=True)) == Park("why")
    made = replace(made, parked=True)
    away = SetTraffic("shop", {"blue": 1000}, {})
    assert decide(situation(made, CANARY, interrupted=True)) == Act(away, -1)
    going = replace(made, intents={"k": intent_of(away, -1, CANARY)})
    assert isinstance(decide(situation(going, CANARY, interrupted=True)), Wait)
    assert isinstance(decide(situation(made, BOTH, interrupted=True)), Leave)
    assert isinstance(decide(situation(paused("asked"), CANARY, interrupted=True, leave_exposed=True)), Leave)
    assert isinstance(decide(situation(paused("drift"), CANARY, interrupted=True)), Leave)
    ill = endpoint({"blue": 900, "green": 100}, {}, deployment("blue", healthy=0))
    assert isinstance(decide(situation(paused("asked"), ill, interrupted=True)), Leave)


def test_a_canary_on_its_way_is_not_begun_while_paused():
    shift = SetTraffic("shop", {"blue": 900, "green": 100}, {})
    canary = NAMES.index("canary 10%")
    for cause in ("interrupted", "asked", "drift"):
        made = paused(cause, intents={"k": intent_of(shift, canary, BOTH, "open")})
        decision = decide(situation(made, BOTH, interrupted=True))
        assert isinstance(decision, Supersede | Leave), f"{cause}: {decision}"
    begun = paused("asked", intents={"k": intent_of(shift, canary, BOTH)})
    assert isinstance(decide(situation(begun, BOTH, interrupted=True)), Wait), "a call that was made is seen through"


def test_parking_that_cannot_be_done_is_not_tried_for_ever():
    p = replace(REACHED, failure="no quota")
    decision = decide(situation(paused("interrupted", parked=True, progress=p), CANARY, interrupted=True))
    assert isinstance(decision, Leave)
    assert "no quota" in decision.reason


def test_what_cannot_be_measured_at_all_is_given_up():
    unread = Progress(entered_at=BORN, errors=4, last_error="away", measured_at=NOW)
    assert isinstance(decide(situation(rollout("canary 10%", progress=unread), CANARY)), Reach)
    decision = decide(situation(rollout("canary 10%", progress=replace(unread, errors=5)), CANARY))
    assert isinstance(decision, Pause)
    assert decision.cause == "error"
    assert "away" in decision.reason


@pytest.mark.parametrize("stage", ["shadow 1%", "canary 10%", "promote 100%", "deploy green", "scale blue to 4"])
def test_reaching_a_target_is_not_waited_for_without_end(stage):
    entered = decide(situation(rollout(stage, progress=Progress()), BOTH))
    assert isinstance(entered, Enter)
    assert entered.deadline is not None


def test_after_the_last_stage_it_only_ends():
    done = rollout(len(NAMES), progress=Progress())
    assert isinstance(decide(situation(done, CANARY, interrupted=True)), Finish)
    assert isinstance(ask("pause", done), Refuse)


def test_a_bootstrap_that_is_undone_deletes_nothing():
    aborted = rollout(0, roles=EMPTY, phase="rolling_back", rollback="abort", rollback_at=NOW, reason="aborted")
    decision = decide(situation(replace(aborted, logs=""), endpoint({}, {}, deployment("green"))))
    assert decision == Finish("rolled_back", "aborted; the bootstrap is left as it stands")


def test_drift():
    expected = Snapshot.of(CANARY)
    decision = decide(situation(rollout("canary 10%", progress=REACHED, expected=expected), HALF))
    assert isinstance(decision, Pause)
    assert decision.cause == "drift"
    late = rollout("delete blue", no_return=True, expected=Snapshot.of(endpoint({"green": 1000})))
    assert isinstance(decide(situation(late, CANARY)), Finish)


def back(observed: EndpointState | None, **changes: Any) -> Decision:
    changes = {"rollback": "gate", "rollback_at": NOW, "reason": "gate errors", **changes}
    return decide(situation(rollout(changes.pop("stage", "canary 10%"), phase="rolling_back", **changes), observed))


def test_the_way_back():
    assert back(CANARY) == Act(SetTraffic("shop", {"blue": 1000}, {}), -1)
    assert back(SHADOW) == Act(SetTraffic("shop", {"blue": 1000}, {}), -1)
    assert back(BOTH) == SaveLogs("green")
    assert back(BOTH, logs="") == Act(DeleteDeployment("shop", "green"), -1)
    assert back(BLUE) == Finish("rolled_back", "gate errors")
    assert back(BOTH, roles=replace(SERVING, existed=True)) == Finish("rolled_back", "gate errors")


def test_the_way_back_scales_back_what_the_plan_scaled():
    grown = endpoint({"blue": 1000}, {}, deployment("blue", healthy=4, desired=4))
    counted = Snapshot.of(grown, frozenset({"blue"}))
    assert back(grown, expected=counted) == Act(Scale("shop", "blue", 2), -1)
    assert back(grown) == Finish("rolled_back", "gate errors"), "somebody else's count is not ours"


def test_a_scaling_back_that_must_wait_is_waited_for():
    grown = endpoint({"blue": 1000}, {}, deployment("blue", healthy=4, desired=4))
    scale = intent_of(Scale("shop", "blue", 2), -1, grown, "open", not_before=NOW + SECOND, attempt=1)
    assert isinstance(back(grown, intents={"k": scale}), Wait)


def test_nothing_healthy_to_go_back_to():
    ill = endpoint({"blue": 900, "green": 100}, {}, deployment("blue", healthy=0))
    assert isinstance(back(ill), Wait)
    over = back(ill, rollback_at=NOW - timedelta(minutes=1))
    assert isinstance(over, Finish)
    assert over.phase == "failed"
    assert "traffic was left untouched" in over.reason


def test_what_was_under_way_is_overtaken():
    shift = intent_of(SetTraffic("shop", {"blue": 500, "green": 500}, {}), 5, CANARY)
    assert back(CANARY, intents={"k": shift}) == Supersede("k", "rolled back")
    put = intent_of(PutDeployment("shop", resolved("green")), 0, BLUE)
    assert back(BOTH, stage="deploy green", intents={"k": put}) == Supersede("k", "rolled back")
    assert back(CANARY, intents={"k": put}) == Act(SetTraffic("shop", {"blue": 1000}, {}), -1), "traffic does not wait"


def test_what_leads_back_is_seen_through_though_it_looks_done():
    cleared = intent_of(SetTraffic("shop", {"blue": 1000}, {}), 3, SHADOW, "open")
    assert back(BOTH, stage="shadow 10%", intents={"k": cleared}) == Begin("k"), (
        "it may be recorded, and not carried out"
    )
    begun = intent_of(SetTraffic("shop", {"blue": 1000}, {}), 3, SHADOW)
    assert isinstance(back(BOTH, stage="shadow 10%", intents={"k": begun}), Wait)


def test_a_bootstrap_that_fails_is_not_undone():
    failed = rollout(0, roles=EMPTY, progress=Progress(entered_at=BORN, failure="no quota"))
    decision = decide(situation(failed, endpoint({}, {}, deployment("blue", healthy=0))))
    assert isinstance(decision, Finish)
    assert decision.phase == "failed"
    aborted = rollout(0, roles=EMPTY, phase="rolling_back", rollback="abort", rollback_at=NOW, reason="aborted")
    assert decide(situation(aborted, None)) == Finish("rolled_back", "aborted; nothing had been created")


def test_the_end():
    done = rollout(len(NAMES), progress=Progress())
    assert decide(situation(done, endpoint({"green": 1000}))) == Finish("succeeded", "shop now serves green 100%")


def test_out_of_sight():
    made = rollout("canary 10%", progress=REACHED)
    assert isinstance(decide(situation(made, CANARY, seen=False, trouble="away")), Wait)
    assert isinstance(decide(situation(made, CANARY, seen=False, interrupted=True)), Leave)
