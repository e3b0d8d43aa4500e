"""From a plan that was read to one that can be carried out on the endpoint as it stands: what `run` and `plan` have in
common.

Looks at the endpoint once, and changes nothing: names are given, versions pinned, roles found, stages compiled.
"""

from dataclasses import dataclass

from orchestrator import bundle as bundles
from orchestrator import roles
from orchestrator.bundle import Bundle, Draft
from orchestrator.compiler import compile_stages, pointless
from orchestrator.flags import Flags
from orchestrator.stages import Stage
from orchestrator.standing import Roles
from orchestrator.store.base import Store
from plans.steps import step_kind
from providers.base import Capabilities, EndpointState, Provider


@dataclass(frozen=True, slots=True)
class Ready:
    """A plan that can be carried out: pinned, with its roles and stages on the endpoint as it was observed."""

    bundle: Bundle
    roles: Roles
    stages: tuple[Stage, ...]
    observed: EndpointState | None


async def made_ready(store: Store, provider: Provider, draft: Draft, flags: Flags) -> Ready:
    """Pin the plan, and find its roles and stages on the endpoint as it stands.

    Raises PlanError, Refused, ProviderError.
    """
    observed = await provider.observe(draft.endpoint_name)
    pinned = await bundles.pin(draft, provider, roles.assign(draft.plan, draft.endpoint_name, observed))
    if flags.advisory:
        cast = roles.watched(pinned, observed)
    else:
        bootstrap = flags.bootstrap or await _bootstrap_failed(store, provider.identity(pinned.endpoint_name))
        cast = roles.cast(pinned, observed, bootstrap=bootstrap, replace=flags.replace)
    capabilities = capabilities_of(provider, pinned, observed)
    return Ready(pinned, cast, compile_stages(pinned, cast, capabilities, name=draft.shown), observed)


async def _bootstrap_failed(store: Store, identity: str) -> bool:
    """Whether the last rollout there ended before its bootstrap was done: the next one goes on with it."""
    last = await store.rollouts(endpoint=identity, limit=1)
    return bool(last) and last[0].roles.bootstrap and not last[0].active and last[0].stages[0].state != "passed"


def capabilities_of(provider: Provider, bundle: Bundle, observed: EndpointState | None) -> Capabilities:
    """What the plan's endpoint can do, as far as is known."""
    return provider.capabilities(observed or bundle.endpoint or EndpointState(bundle.endpoint_name))


def options(pinned: Bundle, flags: Flags) -> dict[str, bool]:
    """What the journal remembers of the flags and the plan, because later decisions depend on it."""
    kept = {"replace": flags.replace}
    kept |= {"advisory": True} if flags.advisory else {}
    return kept | ({"keep_candidate": True} if pinned.plan.on_rollback.candidate == "keep" else {})


def first_version(ready: Ready) -> tuple[str, ...]:
    """What is different where the candidate is the first version of all; nothing elsewhere."""
    if not ready.roles.first:
        return ()
    steps = ready.bundle.plan.steps
    left_out = [f"step {i + 1} ({step_kind(step)})" for i, step in enumerate(steps) if pointless(step)]
    without = f", without {', '.join(left_out)}" if left_out else ""
    told = "is the first version here, with nothing to compare it with: it is deployed, tested and given 100%"
    return (f"{ready.roles.candidate} {told}{without}",)
