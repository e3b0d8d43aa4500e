"""The policy: what to do next, given how everything stands. One pure function, taken apart by phase.

`decide` never acts, waits or reads a clock; it is called after every observation, and called again with the same facts
it decides the same. Whoever wants to know why a rollout did something finds the reason in here, and nowhere else.
"""

from dataclasses import replace
from datetime import timedelta
from typing import Literal

from orchestrator import holding, reconcile
from orchestrator.advise import advise
from orchestrator.decisions import (
    Act,
    Advance,
    Approve,
    Clear,
    Decision,
    Enter,
    Extend,
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
    Situation,
    Supersede,
    Wait,
)
from orchestrator.errors import Invariant
from orchestrator.pursue import first_intent, pursue
from orchestrator.reconcile import Unready
from orchestrator.stages import Stage, Target
from orchestrator.standing import Command, Waiting
from orchestrator.undo import undo
from plans.steps import ApproveStep, WaitStep
from plans.units import show_duration, show_split
from providers.actions import Action, SetTraffic

MOST_ATTEMPTS = 20
"""Times that one action is tried before its step fails."""


def decide(s: Situation) -> Decision:
    """What to do next."""
    if not s.rollout.active:
        return Leave("it has ended")
    if s.commands:
        return _command(s, s.commands[0])
    if not s.seen:
        return _unseen(s)
    match s.rollout.phase:
        case "paused":
            return _paused(s)
        case "rolling_back":
            return undo(s)
        case _:
            try:
                return _running(s)
            except Invariant as broken:
                return _fail(s, "invariant", str(broken))


def _unseen(s: Situation) -> Decision:
    if s.interrupted:
        return Leave("the provider cannot be reached, so nothing was changed")
    return Wait(Waiting("provider", s.trouble or "the provider cannot be reached"))


# --- commands -------------------------------------------------------------------------------------


def _command(s: Situation, command: Command) -> Decision:
    r, phase = s.rollout, s.rollout.phase
    reason = str(command.args.get("reason") or "")
    told = f"by {command.actor}" + (f": {reason}" if reason else "")
    match command.kind:
        case "abort" if phase == "rolling_back":
            return Refuse(command, f"it is being rolled back already ({r.reason})")
        case "abort" if r.no_return:
            return Refuse(
                command, "it is past the point of no return: stable is being deleted, so it goes on to its end"
            )
        case "abort":
            return RollBack("abort", f"aborted {told}", command)
        case "pause" if phase == "paused":
            return Refuse(command, f"it is paused already ({r.reason})")
        case "pause" if phase == "rolling_back" or r.no_return:
            return Refuse(
                command, "it is being rolled back" if phase == "rolling_back" else "it is past the point of no return"
            )
        case "pause" if s.stage is None:
            return Refuse(command, "its last step is done")
        case "pause":
            return Pause("asked", f"paused {told}", command)
        case "approve" if command.args.get("despite"):
            return _set_aside(s, command, str(command.args["despite"]))
        case "approve":
            return _approve(s, command)
        case "resume":
            return _resume(s, command)
    raise TypeError(f"not a command: {command!r}")


def _approve(s: Situation, command: Command) -> Decision:
    stage = s.stage
    if s.rollout.phase not in ("running", "paused") or stage is None or not isinstance(stage.work, ApproveStep):
        return Refuse(
            command, f"it waits for no approval: it is {s.rollout.phase}" + (f" in {stage.name}" if stage else "")
        )
    if s.rollout.progress.approved_by:
        return Refuse(command, f"{s.rollout.progress.approved_by} has approved it already")
    if stage.work.not_by_starter and command.actor == s.rollout.starter:
        return Refuse(
            command, f"{command.actor} started it, and the step says not_by_starter: another person must approve"
        )
    return Approve(command)


def _set_aside(s: Situation, command: Command, gate: str) -> Decision:
    stage = s.stage
    known = [each.name for each in stage.gates] if stage is not None else []
    if s.rollout.phase not in ("running", "paused") or stage is None:
        return Refuse(command, f"there is no gate to set aside: it is {s.rollout.phase.replace('_', ' ')}")
    if gate not in known:
        has = f"its gates are {', '.join(known)}" if known else "it has none"
        return Refuse(command, f"{stage.name} has no gate {gate}: {has}")
    if not str(command.args.get("reason") or "").strip():
        return Refuse(command, f"to go on despite gate {gate} needs a reason: it is kept in the journal")
    if gate in s.rollout.progress.despite:
        return Refuse(command, f"gate {gate} is set aside already in {stage.name}")
    return Approve(command, gate)


def _resume(s: Situation, command: Command) -> Decision:
    r = s.rollout
    extend = float(command.args.get("extend") or 0)
    if r.phase == "running" and extend:
        if r.progress.deadline is None:
            return Refuse(command, "the current step has no deadline that could be extended")
        return Extend(command, extend, r.progress.deadline + timedelta(seconds=extend))
    if r.phase != "paused":
        return Refuse(command, f"it is not paused: it is {r.phase.replace('_', ' ')}")
    if command.args.get("keep_theirs"):
        left = reconcile.standing(s.observed) if s.seen else "the provider cannot be reached"
        return Finish("failed", f"left as found by {command.actor}: {left}", command)
    take_back = bool(command.args.get("take_back"))
    if r.paused == "drift" and not take_back:
        return Refuse(
            command,
            f"{r.reason}: say --take-back to undo that, or --keep-theirs to leave it so and end",
        )
    if extend and r.progress.deadline_left is None and (s.stage is None or s.stage.deadline is None):
        return Refuse(command, "the current step has no deadline that could be extended")
    if take_back and not s.seen:
        return Refuse(command, "the provider cannot be reached, so nothing can be taken back now: try again")
    return Resume(command, restart=r.parked or r.paused == "gate", take_back=take_back, extend=extend or None)


# --- running --------------------------------------------------------------------------------------


def _running(s: Situation) -> Decision:
    r, stage = s.rollout, s.stage
    if r.advisory:
        return advise(s)
    if stage is None:
        return Finish("succeeded", _success(s))
    if s.interrupted and not r.no_return:
        return Pause("interrupted", "its driver was stopped")
    differences = reconcile.drift(r.expected, r.intents.values(), s.observed)
    if differences:
        return _drifted(s, differences)
    if r.progress.entered_at is None:
        unread = holding.unreadable(s, stage)
        if unread is not None:
            return unread
        # Until the target is reached; its own clocks then begin.
        counted = isinstance(stage.work, Target) and stage.deadline is not None
        return Enter(stage, s.now + timedelta(seconds=stage.deadline or 0) if counted else None)
    if r.progress.failure is not None:
        return _fail(s, "step", f"{stage.name}: {r.progress.failure}")
    target = stage.work if isinstance(stage.work, Target) else stage.standing
    if r.progress.leaving:
        target = stage.after
    if target is not None and (r.progress.reached_at is None or r.progress.leaving):
        return _towards(s, stage, target)
    return _hold(s, stage) if isinstance(stage.work, Target) else _task(s, stage)


def _drifted(s: Situation, differences: tuple[str, ...]) -> Decision:
    reason = "somebody else changed the endpoint: " + "; ".join(differences)
    if s.rollout.no_return:
        return Finish("failed", f"{reason}; {reconcile.standing(s.observed)}")
    return Pause("drift", reason)


def _towards(s: Situation, stage: Stage, target: Target) -> Decision:
    r = s.rollout
    action = reconcile.next_action(
        s.observed,
        target,
        endpoint=r.endpoint_name,
        replace_existing=bool(r.options.get("replace")),
        capabilities=s.capabilities,
    )
    exposed = stage.guards or stage.budget is not None
    if exposed and not stage.gates and not r.progress.leaving:
        # A deployment takes its time, and the candidate answers clients meanwhile.
        harm = holding.condemned(s, stage)
        if harm is not None:
            return harm
        if holding.due(s, stage, held=False):
            return Measure(stage)
    late = r.progress.deadline is not None and s.now >= r.progress.deadline and not r.progress.leaving
    intent = first_intent(r)
    if intent is not None:
        # Also where the endpoint looks as wanted: a driver may have died after the provider recorded it and before it
        # was carried out. To begin it again under its key is the way to have it finished.
        unbegun = action is None and intent.state == "open"
        return _late(s, stage, action) if late and not unbegun else pursue(s, intent)
    if action is None:
        if r.progress.leaving:
            return Advance(r.progress.passed or "done")
        return holding.unreadable(s, stage) or holding.settled(s, stage) or Reach(stage)
    if isinstance(action, Unready):
        if action.problem is not None:
            return _fail(s, "step", f"{stage.name}: {action.problem}")
        return _late(s, stage, action) if late else Wait(Waiting("operation", action.reason, r.progress.deadline))
    return _late(s, stage, action) if late else Act(action, stage.index, stage.irreversible)


def _late(s: Situation, stage: Stage, action: Action | Unready | None) -> Decision:
    detail = f" ({action.reason})" if isinstance(action, Unready) else ""
    given_up = _fail(s, "step", f"{stage.name} was not done within {show_duration(stage.deadline or 0)}{detail}")
    made = list(stage.work.deployments) if isinstance(stage.work, Target) else []
    return replace(given_up, about=made[0]) if made else given_up


def _hold(s: Situation, stage: Stage) -> Decision:
    """At the target: gates first, then the clocks."""
    decision = holding.hold(s, stage)
    if isinstance(decision, Advance) and stage.after is not None:
        return Clear(decision.reason)
    return decision


def _fail(s: Situation, cause: Literal["step", "invariant"], reason: str) -> Finish | RollBack | Pause:
    if cause == "invariant" and not s.rollout.no_return:
        return Pause("invariant", reason)
    stage = s.stage
    return holding.consequence(s, stage.on_fail if stage is not None else "pause", "step", reason)


def _task(s: Situation, stage: Stage) -> Decision:
    p = s.rollout.progress
    if stage.watched:
        condemned = holding.condemned(s, stage)
        if condemned is not None:
            return condemned
        if holding.due(s, stage, held=False):
            return Measure(stage)
    if isinstance(stage.work, WaitStep):
        over = p.hold_until is None or s.now >= p.hold_until
        return (
            Advance("waited")
            if over
            else Wait(Waiting("time", f"waits until {p.hold_until:%Y-%m-%d %H:%M:%S} UTC", p.hold_until))
        )
    if isinstance(stage.work, ApproveStep):
        return _awaiting(s, stage.work)
    if p.task_ok is not None:
        return Advance(p.task_detail or "done") if p.task_ok else _fail(s, "step", f"{stage.name}: {p.task_detail}")
    if s.task_running:
        return Wait(Waiting("task", f"{stage.name} is running"))
    if p.task_not_before is not None and s.now < p.task_not_before:
        return Wait(Waiting("retry", f"{stage.name} is tried again ({p.task_detail})", p.task_not_before))
    return RunTask(stage)


def _awaiting(s: Situation, step: ApproveStep) -> Decision:
    p = s.rollout.progress
    if p.approved_by:
        return Advance(f"approved by {p.approved_by}")
    if p.deadline is not None and s.now >= p.deadline:
        return holding.consequence(
            s, step.on_timeout, "approval", f"nobody approved within {show_duration(step.timeout)}: {step.approve}"
        )
    waiting = Waiting("approval", f"waits for approval: {step.approve}", p.deadline)
    if s.exit_on_pause and s.rollout.waiting == waiting:
        return _depart(s, waiting.reason)
    return Wait(waiting)


def _success(s: Situation) -> str:
    if s.observed is None:
        return "the endpoint was deleted, as planned"
    return f"{s.rollout.endpoint_name} now serves {show_split(s.observed.traffic, empty='no traffic')}"


# --- paused ---------------------------------------------------------------------------------------


def _paused(s: Situation) -> Decision:
    """No progress, still guarding."""
    r, stage = s.rollout, s.stage
    if r.paused_until is not None and s.now >= r.paused_until and not r.no_return:
        return RollBack("pause_limit", f"nobody resumed it in time; it was paused because {r.reason}")
    if s.interrupted or s.exit_on_pause:
        return _depart(s, r.reason or "paused")
    if stage is not None and holding.covered(s, stage):
        return Resume(None, restart=r.parked, take_back=False)
    watched = stage is not None and stage.watched and r.progress.reached_at is not None and not r.parked
    if stage is not None and watched and not r.progress.leaving:
        harm = holding.condemned(s, stage)
        if isinstance(harm, RollBack):
            return replace(harm, reason=f"while paused: {harm.reason}") if harm.cause in ("gate", "budget") else harm
        if holding.due(s, stage, held=False):
            return Measure(stage)
    return Wait(Waiting("human", f"paused: {r.reason}", r.paused_until))


def _depart(s: Situation, reason: str) -> Decision:
    """Leave the rollout to nobody: first take the candidate out of traffic, unless it is not ours to do, or was
    forbidden.
    """
    r = s.rollout
    baseline = r.roles.baseline
    observed = s.observed
    if r.advisory:
        return Leave(reason)
    moving = next((intent for intent in r.intents.values() if isinstance(intent.action, SetTraffic)), None)
    if moving is not None:
        # What the stage was about to do is not begun for a rollout that nobody will guard.
        overtaken = moving.stage != -1 and moving.state == "open"
        return Supersede(moving.key, "paused") if overtaken else pursue(s, moving)
    exposed = observed is not None and bool(
        r.roles.candidate and (observed.traffic.get(r.roles.candidate) or observed.mirror.get(r.roles.candidate))
    )
    if not exposed or s.leave_exposed or r.no_return or r.paused in ("drift", "invariant") or observed is None:
        return Leave(reason)
    whole = all(name in observed.deployments and observed.deployments[name].healthy for name in baseline.traffic)
    if not whole:
        return Leave(f"{reason}; the candidate keeps its traffic, because stable is not healthy")
    if not r.parked:
        return Park(reason)
    if r.progress.failure is not None:
        return Leave(
            f"{reason}; the candidate keeps its traffic, because it could not be taken out: {r.progress.failure}"
        )
    return Act(SetTraffic(r.endpoint_name, dict(baseline.traffic), {}), -1)
