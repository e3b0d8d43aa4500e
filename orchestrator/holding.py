"""The policy of a stage that has reached its target: what the evidence, the budget and the clocks allow.

Pure, and part of `decide`. The order is the point: harm first (the budget, then a gate that fails), then what could not
be read, then the measurement that is due, and only then whether it may go on.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Literal

from orchestrator import reconcile
from orchestrator.decisions import Advance, Decision, Finish, Measure, Pause, RollBack, Situation, Wait
from orchestrator.gates.judge import Judgement, Verdict
from orchestrator.stages import Stage
from orchestrator.standing import Waiting
from plans.answers import Consequence
from plans.units import show_duration

ERRORS_THAT_ACT = 5
"""Polls in a row that must fail before ERROR acts."""

Cause = Literal["gate", "no_data", "undecided", "error", "step", "approval", "budget"]


def settled(s: Situation, stage: Stage) -> Wait | None:
    """Before the stage's clocks begin: what its figures still say about the time before must first have come in."""
    if not stage.settle:
        return None
    waiting = s.rollout.waiting
    until = waiting.until if waiting is not None and waiting.kind == "settle" else None
    if until is None:
        until = s.now + timedelta(seconds=stage.settle)
    if s.now >= until:
        return None
    return Wait(Waiting("settle", f"the figures are {show_duration(stage.settle)} late", until))


def hold(s: Situation, stage: Stage) -> Decision:
    """What to do at the target. Advance means that the stage has passed."""
    p = s.rollout.progress
    harm = condemned(s, stage)
    if harm is not None:
        return harm
    held = p.hold_until is None or s.now >= p.hold_until
    if stage.watched and due(s, stage, held=held):
        return Measure(stage)
    if not stage.gates:
        if held:
            return Advance("held" if stage.hold else "done")
        return Wait(Waiting("hold", f"holds for {show_duration(stage.hold)}", p.hold_until))
    passed = _passed(stage, p.judgement, p.despite) if p.errors == 0 else None
    if passed is not None and held:
        return Advance(passed)
    if p.deadline is not None and s.now >= p.deadline:
        return _undecided(s, stage)
    if passed is not None:
        return Wait(Waiting("hold", f"every gate has passed; holds for {show_duration(stage.hold)}", p.hold_until))
    load = f"; the load was interrupted and is sent again: {s.load_problem}" if s.load_problem else ""
    return Wait(Waiting("evidence", f"the gates need more evidence{load}", p.deadline))


def due(s: Situation, stage: Stage, *, held: bool) -> bool:
    """Whether it is time to measure. `held`: the hold is over."""
    p = s.rollout.progress
    last = p.measured_at or p.reached_at
    if last is None or s.now >= last + timedelta(seconds=stage.interval):
        return True
    # The end of the hold is looked at with the evidence of the whole hold, not with what came an interval before.
    return held and p.hold_until is not None and last < p.hold_until


def condemned(s: Situation, stage: Stage) -> Finish | RollBack | Pause | None:
    """What must be done because the candidate does harm, or because nobody can see whether it does."""
    spent = overspent(s, stage)
    if spent is not None:
        return consequence(s, "rollback", "budget", spent)
    failed = failing(s, stage)
    if failed is not None:
        reaction = next((gate.on_fail for gate in (*stage.gates, *stage.guards) if gate.name == failed.gate), None)
        judgement = s.rollout.progress.judgement
        if stage.gates and judgement is not None and failed.gate == judgement.culprit:
            reaction = judgement.on_fail
        return consequence(s, reaction or stage.on_fail, "gate", f"{stage.name}: gate {failed.gate}: {failed.sentence}")
    return unreadable(s, stage)


def overspent(s: Situation, stage: Stage) -> str | None:
    """Why the budget of bad responses is spent, or None."""
    if stage.budget is None or s.rollout.spent <= stage.budget:
        return None
    return (
        f"{stage.name}: {s.rollout.roles.candidate} gave clients {s.rollout.spent:,} bad responses, "
        f"and the budget is {stage.budget:,}"
    )


def failing(s: Situation, stage: Stage) -> Verdict | None:
    """The verdict of the gate that fails, the culprit first; gates that a human set aside do not count.

    One that was set aside in its own stage stays so where it only guards: its evidence is the same.
    """
    judgement = s.rollout.progress.judgement
    aside = s.rollout.progress.despite if stage.gates else s.rollout.set_aside
    if judgement is None or judgement.outcome != "failed":
        return None
    failed = [each for each in judgement.verdicts if each.verdict == "FAIL" and each.gate not in aside]
    return next((each for each in failed if each.gate == judgement.culprit), next(iter(failed), None))


def unreadable(s: Situation, stage: Stage) -> Finish | RollBack | Pause | None:
    """What must be done because measuring failed too often, or None."""
    p = s.rollout.progress
    verdicts = p.judgement.verdicts if p.judgement is not None else ()
    unread = [verdict for verdict in verdicts if verdict.errors >= ERRORS_THAT_ACT]
    if p.errors >= ERRORS_THAT_ACT:
        names, what = None, p.last_error
    elif unread:
        names = {verdict.gate for verdict in unread}
        what = f"gate {unread[0].gate}: {unread[0].sentence}"
    else:
        return None
    wanted = _wanted(stage, "on_error", names)
    return consequence(s, wanted, "error", f"could not be measured {ERRORS_THAT_ACT} times in a row: {what}")


def consequence(s: Situation, wanted: Consequence, cause: Cause, reason: str) -> Finish | RollBack | Pause:
    """What is wanted, as far as it is possible at this point."""
    r, stage = s.rollout, s.stage
    if r.no_return:
        return Finish(
            "failed", f"{reason}; stable is gone, so nothing can be restored; {reconcile.standing(s.observed)}"
        )
    if stage is not None and stage.kind == "bootstrap":
        return Finish("failed", f"{reason}; the next run goes on with it; {reconcile.standing(s.observed)}")
    if cause == "budget" or wanted == "rollback":
        return RollBack(cause, reason)
    return Pause("step" if cause == "approval" else cause, reason)


def covered(s: Situation, stage: Stage) -> bool:
    """Whether what a paused stage was stopped for has since been set aside by a human."""
    p = s.rollout.progress
    if not p.despite or p.judgement is None:
        return False
    if s.rollout.paused == "gate":
        return failing(s, stage) is None
    return s.rollout.paused in ("undecided", "no_data", "error") and not _open(p.judgement.verdicts, p.despite)


def _open(verdicts: Sequence[Verdict], aside: Sequence[str]) -> list[Verdict]:
    return [verdict for verdict in verdicts if verdict.verdict != "PASS" and verdict.gate not in aside]


def _passed(stage: Stage, judgement: Judgement | None, aside: Sequence[str]) -> str | None:
    """Why the stage may go on once its hold is over, or None while it may not."""
    if judgement is None:
        return None
    if judgement.outcome == "passed":
        return judgement.sentence
    left = _open(judgement.verdicts, aside)
    if not left:
        return f"every gate has passed but {', '.join(aside)}, which a human set aside"
    if stage.decide == "proven":
        return None
    wanted = {gate.name: gate.min_requests for gate in stage.gates}
    if any(each.verdict != "CONTINUE" or each.candidate.requests < wanted.get(each.gate, 0) for each in left):
        return None
    unproven = "; ".join(f"{each.gate}: {' and '.join(each.unproven)}" for each in left)
    return f"no gate failed; not proven: {unproven}"


def _undecided(s: Situation, stage: Stage) -> Decision:
    judgement = s.rollout.progress.judgement
    limit = f"within {show_duration(stage.deadline or 0)}"
    if judgement is None:
        wanted = _wanted(stage, "on_no_data", None)
        return consequence(s, wanted, "no_data", f"{stage.name}: no data {limit}: nothing was measured")
    # Each gate that has not passed answers for itself.
    left = _open(judgement.verdicts, s.rollout.progress.despite)
    silent = {each.gate for each in left if each.verdict == "NO_DATA"}
    answers = {_wanted(stage, "on_no_data" if each.gate in silent else "on_undecided", {each.gate}) for each in left}
    answers = answers or {_wanted(stage, "on_undecided", None)}  # all had passed, and then could not be read
    wanted = "rollback" if "rollback" in answers else "pause"
    if judgement.outcome == "no_data":
        return consequence(s, wanted, "no_data", f"{stage.name}: no data {limit}: {judgement.sentence}")
    return consequence(s, wanted, "undecided", f"{stage.name}: undecided {limit}: {judgement.sentence}")


def _wanted(
    stage: Stage, field: Literal["on_error", "on_no_data", "on_undecided"], names: set[str] | None
) -> Consequence:
    """The strictest answer of these gates (of all that judge the stage without `names`); the step's where there is
    none.
    """
    judges = [gate for gate in stage.gates or stage.guards if names is None or gate.name in names]
    wanted = {getattr(gate, field) for gate in judges} or {getattr(stage, field)}
    return "rollback" if "rollback" in wanted else "pause"
