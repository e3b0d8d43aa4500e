"""Observed against wanted: the next idempotent action, what stands in its way, and what somebody else changed.

Pure. The loop asks again after every effect, so there is never a list of actions that could go stale: only the next
one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import TypeVar

from orchestrator.errors import Invariant
from orchestrator.stages import Target
from orchestrator.standing import Intent, Snapshot
from plans.units import show_share, show_split
from providers.actions import Action, DeleteDeployment, DeleteEndpoint, PutDeployment, PutEndpoint, Scale, SetTraffic
from providers.base import Capabilities, DeploymentState, EndpointState

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Unready:
    """Nothing can be done now but wait. `problem`: it will not come right by waiting."""

    reason: str
    problem: str | None = None


def next_action(
    observed: EndpointState | None, target: Target, *, endpoint: str, replace_existing: bool, capabilities: Capabilities
) -> Action | Unready | None:
    """What brings the endpoint one step nearer to the target; None when it is there.

    Order: endpoint, deployments, scaling up, split, deletion, scaling down; so that nothing gets traffic before it is
    whole, and nothing that has traffic is touched. Raises Invariant when the target can not be reached without breaking
    a rule.
    """
    if target.gone:
        return None if observed is None else DeleteEndpoint(endpoint)
    if observed is None:
        if target.endpoint is None:
            raise Invariant(f"endpoint {endpoint} has disappeared")
        return PutEndpoint(endpoint, target.endpoint)
    return (
        _deployments(observed, target, endpoint, replace_existing)
        or _scaling(observed, target, endpoint, up=True)
        or _health(observed, target)
        or _split(observed, target, endpoint, capabilities)
        or _deletion(observed, target, endpoint)
        or _scaling(observed, target, endpoint, up=False)
    )


def _deployments(observed: EndpointState, target: Target, endpoint: str, replace_existing: bool) -> Action | None:
    for name, wanted in target.deployments.items():
        there = observed.deployments.get(name)
        if there is None or there.digest != wanted.digest:
            count = target.instances.get(name, wanted.spec.instance_count)
            counted = replace(wanted, spec=wanted.spec.model_copy(update={"instance_count": count}))
            return PutDeployment(endpoint, counted, replace=replace_existing)
    return None


def _scaling(observed: EndpointState, target: Target, endpoint: str, *, up: bool) -> Action | None:
    for name, count in target.instances.items():
        there = observed.deployments.get(name)
        if there is None:
            raise Invariant(f"deployment {name} has disappeared")
        if (there.desired < count) if up else (there.desired > count):
            return Scale(endpoint, name, count)
    return None


def _health(observed: EndpointState, target: Target) -> Unready | None:
    gaining = {name for name, share in target.traffic.items() if share > observed.traffic.get(name, 0)}
    gaining |= {name for name, share in target.mirror.items() if share > observed.mirror.get(name, 0)}
    for name in sorted(gaining | set(target.instances)):
        there = observed.deployments.get(name)
        if there is None:
            raise Invariant(f"deployment {name} has disappeared")
        if there.healthy < there.desired:
            return Unready(f"{name}: {there.healthy} of {there.desired} instances are healthy", there.problem)
    return None


def _split(observed: EndpointState, target: Target, endpoint: str, capabilities: Capabilities) -> Action | None:
    if same(observed.traffic, target.traffic) and same(observed.mirror, target.mirror):
        return None
    crossing = [name for name in observed.mirror if target.traffic.get(name) and not observed.traffic.get(name)]
    apart = not capabilities.atomic_shift and not same(observed.traffic, target.traffic)
    if observed.mirror and (apart or (capabilities.live_xor_mirror and crossing)):
        action = SetTraffic(endpoint, dict(observed.traffic), {})
    elif apart:
        action = SetTraffic(endpoint, dict(target.traffic), {})
    else:
        action = SetTraffic(endpoint, dict(target.traffic), dict(target.mirror))
    check_split(action, observed, capabilities)
    return action


def _deletion(observed: EndpointState, target: Target, endpoint: str) -> Action | None:
    for name in target.absent:
        if name in observed.deployments:
            if observed.traffic.get(name) or observed.mirror.get(name):
                raise Invariant(f"deployment {name} still has traffic, so it is not deleted")
            return DeleteDeployment(endpoint, name)
    return None


def check_split(action: SetTraffic, observed: EndpointState, capabilities: Capabilities) -> None:
    """Raises Invariant when the split breaks a rule that holds always, whoever asks for it."""
    total = sum(action.traffic.values())
    if total not in (0, 1000):
        raise Invariant(f"weights sum to {show_share(total)}, not to 0% or 100%")
    if len(action.mirror) > capabilities.mirror_targets:
        names = ", ".join(sorted(action.mirror))
        raise Invariant(f"mirror to {names}: this provider mirrors to {capabilities.mirror_targets} at most")
    for name, share in action.mirror.items():
        if share > capabilities.mirror_limit:
            raise Invariant(
                f"mirror {show_share(share)} to {name} is more than {show_share(capabilities.mirror_limit)}"
            )
        if capabilities.live_xor_mirror and action.traffic.get(name):
            raise Invariant(f"{name} would have live and mirrored traffic together")
    for name in (*action.traffic, *action.mirror):
        if name not in observed.deployments:
            raise Invariant(f"deployment {name} does not exist, so it gets no traffic")


def same(one: Mapping[str, int], other: Mapping[str, int]) -> bool:
    """Whether two splits are the same, whatever zeros they carry."""
    return {name: share for name, share in one.items() if share} == {
        name: share for name, share in other.items() if share
    }


def after(before: Snapshot, action: Action) -> Snapshot:
    """The snapshot that the action leads to from `before`."""
    match action:
        case PutEndpoint():
            return replace(before, exists=True)
        case PutDeployment(deployment=deployment):
            return replace(
                before,
                digests={**before.digests, deployment.name: deployment.digest},
                counts={**before.counts, deployment.name: deployment.spec.instance_count},
            )
        case Scale(deployment=name, instances=count):
            return replace(before, counts={**before.counts, name: count})
        case SetTraffic(traffic=traffic, mirror=mirror):
            return replace(
                before,
                traffic={name: share for name, share in sorted(traffic.items()) if share},
                mirror={name: share for name, share in sorted(mirror.items()) if share},
            )
        case DeleteDeployment(deployment=gone):
            return replace(before, digests=_without(before.digests, gone), counts=_without(before.counts, gone))
        case DeleteEndpoint():
            return Snapshot()
    raise TypeError(f"not an action: {action!r}")


def _without(mapping: Mapping[str, T], name: str) -> dict[str, T]:
    return {key: value for key, value in mapping.items() if key != name}


def drift(expected: Snapshot, intents: Iterable[Intent], observed: EndpointState | None) -> tuple[str, ...]:
    """What somebody else changed, one sentence each; empty when everything is as we left it, or on its way to where we
    bring it.
    """
    open_ = [intent for intent in intents if intent.live]
    ours = [expected, *(snapshot for intent in open_ for snapshot in (intent.before, intent.after))]
    if observed is None:
        return () if any(not snapshot.exists for snapshot in ours) else ("the endpoint is gone",)
    if not any(snapshot.exists for snapshot in ours):
        return ("the endpoint was created by someone else",)
    # A count is the plan's once it was set: while it is first being set, whatever stands there is not ours to judge.
    found = Snapshot.of(observed, frozenset(expected.counts))
    replaced = {intent.action.deployment.name for intent in open_ if isinstance(intent.action, PutDeployment)}
    differences = []
    for what, of in (("traffic is", attrgetter("traffic")), ("the mirror is", attrgetter("mirror"))):
        if of(found) not in [of(snapshot) for snapshot in ours]:
            now, left = (show_split(of(snapshot), empty="empty") for snapshot in (found, expected))
            differences.append(f"{what} {now}, and was left at {left}")
    for name in sorted({*found.digests, *expected.digests}):
        there = found.digests.get(name)
        absent = there is None and name in replaced
        if not absent and there not in [snapshot.digests.get(name) for snapshot in ours]:
            differences.append(_deployment_text(name, there, expected.digests.get(name)))
    for name, count in sorted(found.counts.items()):
        counts = [snapshot.counts[name] for snapshot in ours if name in snapshot.counts]
        if not min(counts) <= count <= max(counts):
            differences.append(f"{name} has {count} instances, and was set to {expected.counts[name]}")
    return tuple(differences)


def _deployment_text(name: str, found: str | None, left: str | None) -> str:
    if found is None:
        return f"deployment {name} is gone"
    if left is None:
        return f"deployment {name} was created by someone else"
    return f"deployment {name} was replaced (digest {found[:12]}, and was {left[:12]})"


def standing(observed: EndpointState | None) -> str:
    """What stands where, in one sentence, for a human who must take over."""
    if observed is None:
        return "the endpoint does not exist"
    parts = [f"traffic {show_split(observed.traffic, empty='empty')}"]
    if observed.mirror:
        parts.append(f"mirror {show_split(observed.mirror, empty='empty')}")
    parts += [f"{state.name} {_healthy(state)}" for _, state in sorted(observed.deployments.items())]
    return "; ".join(parts)


def _healthy(state: DeploymentState) -> str:
    return f"{state.healthy} of {state.desired} healthy"
