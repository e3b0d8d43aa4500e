"""What to do about files that were edited since a rollout began: nothing, refuse, or adopt them where that is sound."""

from pathlib import Path

from orchestrator import bundle as bundles
from orchestrator import events as ev
from orchestrator.bundle import Bundle
from orchestrator.compiler import compile_stages
from orchestrator.errors import Refused
from orchestrator.rollout import Rollout
from orchestrator.stages import Stage
from plans.errors import PlanError
from providers.base import Capabilities, Provider
from providers.errors import Permanent


async def edits(
    provider: Provider,
    rollout: Rollout,
    pinned: Bundle,
    stages: tuple[Stage, ...],
    capabilities: Capabilities,
    *,
    adopt: bool,
) -> tuple[Bundle, tuple[Stage, ...], ev.Adopted | None]:
    """The pinned bundle, or the edited one when the user adopts it. A plan whose file is gone is not an edited one."""
    path = Path(rollout.plan_path)
    if not path.exists():  # noqa: ASYNC240 - one look at a local file
        return pinned, stages, None
    try:
        edited = await bundles.pin(bundles.read(path, pinned.vars), provider, pinned.slots)
    except (PlanError, Permanent) as error:
        raise Refused(
            f"the files of rollout {rollout.id} changed since it began, and are not valid now:\n{error}\n"
            "undo the change to go on with what was pinned, or abort it"
        ) from None
    if edited.sha256 == pinned.sha256:
        return pinned, stages, None
    if not adopt:
        changed = sorted(
            name or rollout.plan_path
            for name in {*edited.files, *pinned.files}
            if edited.files.get(name) != pinned.files.get(name)
        )
        what = ", ".join(changed) or "the code or model of a deployment"
        raise Refused(
            f"{what} changed since rollout {rollout.id} began: undo the change to go on with what was pinned, "
            "or say --adopt to go on with what is there now"
        )
    anew = compile_stages(edited, rollout.roles, capabilities)
    passed = stages[: rollout.stage]
    if [(stage.name, stage.gates) for stage in anew[: len(passed)]] != [(stage.name, stage.gates) for stage in passed]:
        done = ", ".join(stage.name for stage in passed)
        raise Refused(
            f"the edited plan cannot be adopted: what was done already ({done}) must stay as it was, with its gates"
        )
    for name, resolved in edited.deployments.items():
        if name == rollout.roles.candidate and resolved.digest != pinned.deployments[name].digest and passed:
            raise Refused(
                f"the edited plan cannot be adopted: the candidate {name} is another one; abort, and run the new plan"
            )
    options = {name: value for name, value in rollout.options.items() if name != "keep_candidate"}
    options |= {"keep_candidate": True} if edited.plan.on_rollback.candidate == "keep" else {}
    return edited, anew, ev.Adopted(pinned.sha256, edited.sha256, tuple(stage.name for stage in anew), options)
