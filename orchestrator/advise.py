"""The policy of an advisory rollout: measure and judge what another tool does, and change nothing.

Pure, and part of `decide`. The other tool moves the traffic when it likes; a gated stage is judged while the endpoint
stands as the stage wants it, and is left where somebody moved on. What would have been a rollback ends the rollout so
that whoever waits for the exit code knows; what would have been a pause is told, and the next stage is waited for.
"""

from orchestrator import holding
from orchestrator.decisions import Advance, Decision, Enter, Finish, Leave, Pause, Reach, RollBack, Situation, Wait
from orchestrator.sentences import ADVICE
from orchestrator.stages import Stage, Target
from orchestrator.standing import Waiting
from plans.units import show_split
from providers.base import EndpointState


def advise(s: Situation) -> Decision:
    """What to do next, without touching anything."""
    r, stage = s.rollout, s.stage
    if s.interrupted:
        return Leave("its driver was stopped")
    if stage is None:
        return Finish("succeeded", "advisory: nothing in it speaks against the candidate; nothing was changed")
    if r.progress.entered_at is None:
        return Enter(stage, None)
    if not stage.gates or not isinstance(stage.work, Target):
        return Advance("not judged: it has no gates", "skipped")
    candidate = r.roles.candidate or ""
    if s.observed is None or candidate not in s.observed.deployments:
        return RollBack("step", f"{stage.name}: {'the endpoint' if s.observed is None else candidate} is gone")
    if r.progress.reached_at is None:
        if _stands(s, stage, s.observed):
            return holding.settled(s, stage) or Reach(stage)
        if _moved_on(s, stage, s.observed):
            return Advance(f"not judged: {_now(s.observed)} already", "skipped")
        wanted = f"{candidate} to get {'mirrored' if stage.mirrored else 'live'} traffic"
        return Wait(Waiting("others", f"for {wanted}, as in {stage.name}; {_now(s.observed)} now"))
    return _judged(s, stage, s.observed)


def _judged(s: Situation, stage: Stage, observed: EndpointState) -> Decision:
    if not _stands(s, stage, observed):
        said = s.rollout.progress.judgement
        last = f"; last: {said.sentence}" if said is not None else ""
        return Advance(f"left undecided, somebody moved on: {_now(observed)}{last}", "skipped")
    decision = holding.hold(s, stage)
    match decision:
        case RollBack(cause=cause, reason=reason):
            return RollBack(cause, f"{ADVICE}{reason}")
        case Pause(reason=reason):
            return Advance(f"would pause: {reason}", "skipped")
        case Advance(reason=reason):
            return Advance(f"would go on: {reason}")
    return decision


def _stands(s: Situation, stage: Stage, observed: EndpointState) -> bool:
    """Whether the endpoint is as the stage wants it, or a little further."""
    candidate = s.rollout.roles.candidate or ""
    if stage.mirrored:
        return bool(observed.mirror.get(candidate))
    reached = not observed.mirror.get(candidate) and observed.traffic.get(candidate, 0) >= stage.exposure
    return reached and not _moved_on(s, stage, observed)


def _moved_on(s: Situation, stage: Stage, observed: EndpointState) -> bool:
    """Whether the endpoint is where a later stage wants it."""
    live = observed.traffic.get(s.rollout.roles.candidate or "", 0)
    if stage.mirrored:
        return live > 0
    later = [each for each in s.stages[stage.index + 1 :] if each.gates and not each.mirrored]
    return any(stage.exposure < each.exposure <= live for each in later)


def _now(observed: EndpointState) -> str:
    mirror = f", mirror {show_split(observed.mirror)}" if observed.mirror else ""
    return f"traffic {show_split(observed.traffic)}{mirror}"
