"""What a plan would do, before it does anything: `validate` offline, `plan` with a look at the endpoint."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from orchestrator import bundle as bundles
from orchestrator import roles
from orchestrator.app import App, Flags, capabilities_of, compiled, provider_for
from orchestrator.bundle import Bundle, Draft
from orchestrator.stages import Stage, compile_stages
from orchestrator.standing import Roles, Split
from plans.model import DeployStep
from providers.base import EndpointState


@dataclass(frozen=True, slots=True)
class Checked:
    """A plan that was read offline: its files, its stages as far as they are known, and notes for its author."""

    draft: Draft
    stages: tuple[Stage, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Preview:
    """What a plan would do on the endpoint as it stands."""

    bundle: Bundle
    roles: Roles
    stages: tuple[Stage, ...]
    observed: EndpointState | None
    notes: tuple[str, ...]


async def check(app: App, path: Path) -> Checked:
    """Validate a plan without looking at any endpoint. Raises PlanError, ProviderError, Refused."""
    draft = bundles.read(path)
    provider = provider_for(app, draft.plan, draft.path.parent)
    try:
        pinned = await bundles.pin(draft, provider)
        assumed = _assumed_roles(pinned)
        stages = compile_stages(pinned, assumed, capabilities_of(provider, pinned, None))
    finally:
        await provider.aclose()
    return Checked(draft, stages, _notes(pinned, assumed, stages))


def _assumed_roles(bundle: Bundle) -> Roles:
    """Roles as they most likely will be: validated plans are run on an endpoint where stable serves everything."""
    if bundle.endpoint is not None:
        return roles.cast(bundle, None, bootstrap=False, replace=False)
    candidate = next((step.deploy for step in bundle.plan.steps if isinstance(step, DeployStep)), None)
    stable = bundle.plan.stable or next((name for name in bundle.deployments if name != candidate), None)
    if stable is None:
        return Roles(candidate, None, Split())
    counts = {stable: bundle.deployments[stable].spec.instance_count} if stable in bundle.deployments else {}
    return Roles(candidate, stable, Split({stable: 1000}), counts)


async def preview(app: App, path: Path, flags: Flags) -> Preview:
    """What the plan would do now. Raises PlanError, ProviderError, Refused."""
    draft = bundles.read(path)
    provider = provider_for(app, draft.plan, draft.path.parent)
    try:
        pinned = await bundles.pin(draft, provider)
        observed = await provider.observe(pinned.endpoint_name)
        cast, stages = await compiled(app, provider, pinned, observed, flags)
    finally:
        await provider.aclose()
    return Preview(pinned, cast, stages, observed, _notes(pinned, cast, stages))


def _notes(bundle: Bundle, cast: Roles, stages: Sequence[Stage]) -> tuple[str, ...]:
    notes = []
    for name, resolved in bundle.deployments.items():
        if resolved.ignored:
            notes.append(f"{name}: without meaning here, and ignored: {', '.join(resolved.ignored)}")
    candidate, stable = bundle.deployments.get(cast.candidate or ""), cast.counts.get(cast.stable or "")
    promotes = [stage for stage in stages if stage.kind == "promote" and stage.exposure == 1000]
    if promotes and candidate is not None and stable is not None and candidate.spec.instance_count < stable:
        notes.append(
            f"{cast.candidate} has {candidate.spec.instance_count} instances, "
            f"and {cast.stable}, which it replaces, has {stable}"
        )
    notes += [
        f"{stage.name} has no gates, and none before it guard live traffic: nobody would notice a regression"
        for stage in stages
        if stage.exposure and stage.kind in ("canary", "promote") and not (stage.gates or stage.guards)
    ]
    for before, stage in pairwise(stages):
        if stage.irreversible and before.kind == "promote" and before.hold == 0:
            notes.append(
                f"{stage.name} comes right after {before.name} without a hold: from then on nothing can be rolled back"
            )
    return tuple(notes)
