"""What the simulated cloud refuses: the union of what real providers refuse, each with a sentence.

Pure: an action, the endpoint as it is and what is going on there lead to a refusal, or to the operations that the
action puts an end to.
"""

from collections.abc import Iterable, Mapping

from providers.actions import Action, DeleteDeployment, DeleteEndpoint, PutDeployment, PutEndpoint, Scale, SetTraffic
from providers.base import Capabilities, Claim, Fence
from providers.errors import Conflict, Fenced, NotFound, Permanent, Unsupported
from providers.memory.state import Deployment, Endpoint, Running, phrase, subject

WHOLE = 1000
"""All of the live traffic, in tenths of a percent."""


def check_fence(endpoint: str, fence: Fence, claim: Claim | None, newest: int) -> None:
    """Raise Fenced when someone else drives the endpoint.

    Stealing takes another store's claim; it never lets an older driver of the same store back in, or two of them would
    steal in turn.

    Args:
        endpoint: its name.
        fence: who asks.
        claim: who holds it.
        newest: highest epoch of the asking store that was ever seen there.
    """
    if fence.epoch < newest:
        raise Fenced(
            f"Endpoint {endpoint} is driven with epoch {newest}, so epoch {fence.epoch} may not change it any more."
        )
    if claim is not None and claim.store != fence.store and not fence.steal:
        raise Fenced(
            f"Endpoint {endpoint} is claimed by rollout {claim.rollout} of store {claim.store}: "
            "let it end there, or steal the claim."
        )


def deployment(endpoint: Endpoint, name: str) -> Deployment:
    """The deployment. Raises NotFound."""
    if name not in endpoint.deployments:
        raise NotFound(f"Deployment {name} does not exist on endpoint {endpoint.name}.")
    return endpoint.deployments[name]


def satisfied(action: Action, endpoint: Endpoint | None) -> bool:
    """Whether everything that the action asks for is true already."""
    match action:
        case DeleteEndpoint():
            return endpoint is None
        case DeleteDeployment():
            return endpoint is None or action.deployment not in endpoint.deployments
        case PutEndpoint():
            return endpoint is not None and endpoint.ready and endpoint.spec == action.spec
        case _ if endpoint is None:
            return False
        case PutDeployment():
            there = endpoint.deployments.get(action.deployment.name)
            wanted = action.deployment.spec.instance_count
            return (
                there is not None
                and there.digest == action.deployment.digest
                and there.healthy == there.desired == wanted
            )
        case Scale():
            there = deployment(endpoint, action.deployment)
            return there.healthy == there.desired == action.instances
        case SetTraffic():
            return endpoint.traffic == shares(action.traffic) and endpoint.mirror == shares(action.mirror)


def shares(table: Mapping[str, int]) -> dict[str, int]:
    """Only what is not zero."""
    return {name: share for name, share in table.items() if share}


def check(
    action: Action, endpoint: Endpoint | None, running: Iterable[Running], capabilities: Capabilities
) -> list[Running]:
    """Refuse the action, or name the operations that it supersedes.

    Raises NotFound, Permanent, Unsupported, Conflict.
    """
    running = list(running)
    if endpoint is None:
        if isinstance(action, PutEndpoint | DeleteEndpoint | DeleteDeployment):
            return []
        raise NotFound(f"Endpoint {action.endpoint} does not exist.")
    if isinstance(action, DeleteEndpoint):
        return running
    superseded = _not_busy(action, running, capabilities)
    match action:
        case PutDeployment():
            _put(action, endpoint)
        case Scale():
            deployment(endpoint, action.deployment)
            if not capabilities.scale:
                raise Unsupported(f"Deployments of endpoint {endpoint.name} cannot be scaled.")
            if action.instances < 1:
                raise Permanent(f"{action.deployment} cannot have {action.instances} instances: at least 1 is needed.")
        case SetTraffic():
            _set_traffic(action, endpoint, capabilities)
        case DeleteDeployment():
            _delete(action.deployment, endpoint)
        case _:
            pass
    return superseded


def _not_busy(action: Action, running: list[Running], capabilities: Capabilities) -> list[Running]:
    """Only operations on different things can go on together, and only where the endpoint can do that at all."""
    superseded = []
    for other in running:
        same = subject(other.action) == subject(action)
        gone = isinstance(other.action, DeleteEndpoint)
        creating = isinstance(other.action, PutEndpoint)
        newer = isinstance(action, DeleteDeployment) or (isinstance(action, Scale) and isinstance(other.action, Scale))
        if gone or creating or not capabilities.concurrent or (same and not newer):
            raise Conflict(f"Endpoint {action.endpoint} is busy {phrase(other.action)}: wait until that has ended.")
        if same:
            superseded.append(other)
        elif subject(action) in _served(other.action):
            raise Conflict(f"The traffic of {subject(action)} is just being changed: wait until that has ended.")
        elif isinstance(other.action, DeleteDeployment) and subject(other.action) in _served(action):
            raise Conflict(f"Deployment {subject(other.action)} is being deleted, so it cannot get traffic.")
    return superseded


def _served(action: Action) -> set[str]:
    return {*shares(action.traffic), *shares(action.mirror)} if isinstance(action, SetTraffic) else set()


def _put(action: PutDeployment, endpoint: Endpoint) -> None:
    name = action.deployment.name
    there = endpoint.deployments.get(name)
    if there is None or there.digest == action.deployment.digest:
        return
    if not action.replace:
        raise Permanent(
            f"Deployment {name} exists with other content: choose another name, or allow that it is replaced."
        )
    if name in endpoint.traffic or name in endpoint.mirror:
        raise Conflict(f"Deployment {name} has traffic, so it cannot be replaced: move its traffic first.")


def _delete(name: str, endpoint: Endpoint) -> None:
    for table, what in ((endpoint.traffic, "live"), (endpoint.mirror, "mirrored")):
        if name in table:
            raise Conflict(
                f"Deployment {name} has {table[name] / 10:g}% of the {what} traffic: take it away before deleting it."
            )


def _set_traffic(action: SetTraffic, endpoint: Endpoint, capabilities: Capabilities) -> None:
    traffic, mirror = shares(action.traffic), shares(action.mirror)
    for name, share in (*traffic.items(), *mirror.items()):
        if not 0 <= share <= WHOLE:
            raise Permanent(f"Share {share / 10:g}% for {name} is not between 0% and 100%.")
        if share % capabilities.weight_step:
            raise Permanent(f"Share {share / 10:g}% for {name} is no multiple of {capabilities.weight_step / 10:g}%.")
    if (total := sum(traffic.values())) not in (0, WHOLE):
        raise Permanent(f"Live traffic sums to {total / 10:g}%: it must be 0% or 100%.")
    if mirror and not capabilities.mirror_limit:
        raise Unsupported(f"Endpoint {endpoint.name} cannot mirror traffic.")
    if len(mirror) > capabilities.mirror_targets:
        raise Permanent(
            f"Traffic cannot be mirrored to {len(mirror)} deployments: "
            f"at most {capabilities.mirror_targets} is allowed."
        )
    for name, share in mirror.items():
        if share > capabilities.mirror_limit:
            raise Permanent(
                f"Mirror of {share / 10:g}% to {name} is too much: "
                f"at most {capabilities.mirror_limit / 10:g}% is allowed."
            )
        if capabilities.live_xor_mirror and name in traffic:
            raise Permanent(f"Deployment {name} cannot have live and mirrored traffic together.")
    if not capabilities.atomic_shift and traffic != endpoint.traffic and mirror != endpoint.mirror:
        raise Unsupported(f"Endpoint {endpoint.name} cannot change live and mirrored traffic in one step.")
    for name in (*traffic, *mirror):
        there = deployment(endpoint, name)
        if not there.healthy:
            raise Conflict(
                f"Deployment {name} has no healthy instance, so it cannot get traffic: "
                f"{there.problem or 'it is not ready'}."
            )
