"""Going on with an effect that was decided: begin it when it is due, else wait for it. Pure, and part of `decide`."""

from orchestrator.decisions import Begin, Decision, Situation, Wait
from orchestrator.rollout import Rollout
from orchestrator.sentences import act
from orchestrator.standing import Intent, Waiting


def first_intent(rollout: Rollout) -> Intent | None:
    """The oldest effect that is not finished."""
    return next(iter(rollout.intents.values()), None)


def pursue(s: Situation, intent: Intent) -> Decision:
    """Go on with an intent: begin it when it is due, else wait for it."""
    if intent.state == "open":
        if intent.not_before is not None and s.now < intent.not_before:
            return Wait(
                Waiting(
                    "retry",
                    f"{act(intent.action)} is tried again (attempt {intent.attempt + 1})",
                    intent.not_before,
                )
            )
        return Begin(intent.key)
    progress = intent.operation.progress if intent.operation else None
    return Wait(
        Waiting("operation", act(intent.action) + (f": {progress}" if progress else ""), s.rollout.progress.deadline)
    )
