"""What the local provider refuses, each with a sentence.

Pure: an action and the endpoint as it stands lead to a refusal or to nothing.
"""

from collections.abc import Mapping

from providers.actions import Action, DeleteDeployment, PutDeployment, PutEndpoint, Scale, SetTraffic
from providers.base import Capabilities, Claim, Fence
from providers.errors import Conflict, Fenced, NotFound, Permanent, Unsupported
from providers.local.envoy import Members
from providers.local.state import Deployment, State
from providers.specs import EndpointSpec, ResolvedDeployment

CAPABILITIES = Capabilities(
    mirror_limit=1000,
    bucket_digits=2,
    mirror_targets=1,
    live_xor_mirror=True,  # not a limit of Envoy's: it keeps plans portable
    atomic_shift=True,
    concurrent=True,
    paired=True,
    predictions=True,
    scale=True,
    direct=True,
    weight_step=1,
    interval=10.0,
    settle=0.0,
)
WHOLE = 1000
"""All of the live traffic, in tenths of a percent."""


def check_fence(endpoint: str, fence: Fence, claim: Claim | None, epochs: Mapping[str, int]) -> None:
    """Raise Fenced when someone else drives the endpoint.

    To steal takes another store's claim; it never lets an older driver of the same store back in.
    """
    newest = epochs.get(fence.store, 0)
    if fence.epoch < newest:
        raise Fenced(
            f"Endpoint {endpoint} is driven with epoch {newest}, so epoch {fence.epoch} may not change it any more."
        )
    if claim is not None and claim.store != fence.store and not fence.steal:
        raise Fenced(
            f"Endpoint {endpoint} is claimed by rollout {claim.rollout} of another store ({claim.store}): "
            "let it end there, or take it over with --steal."
        )


def check_endpoint(spec: EndpointSpec) -> None:
    """Raise Unsupported for what an endpoint on this machine cannot be."""
    if spec.auth_mode != "key":
        raise Unsupported(f"auth_mode: {spec.auth_mode} is not available on the local provider: use key.")


def check_deployment(resolved: ResolvedDeployment) -> None:
    """Raise Permanent for a deployment that cannot run here."""
    spec = resolved.spec
    if spec.local is not None and spec.local.command is not None:
        if not spec.local.health_path.startswith("/"):
            raise Permanent(
                f"Deployment {spec.name}: local.health_path {spec.local.health_path!r} must begin with '/'."
            )
        return
    if spec.code_configuration is None or resolved.code is None:
        raise Permanent(
            f"Deployment {spec.name} says neither code_configuration nor local.command: "
            "one of them is needed to run it here."
        )


def check(action: Action, state: State, members: Mapping[str, Members]) -> None:
    """Refuse what cannot be done to the endpoint as it stands.

    Args:
        members: deployment -> its instances as Envoy sees them.

    Raises:
        NotFound, Permanent, Conflict.
    """
    if state.leaving:
        raise Conflict(f"Endpoint {state.name} is being deleted: wait until that has ended.")
    match action:
        case PutEndpoint():
            check_endpoint(action.spec)
        case PutDeployment():
            _put(action, state)
        case Scale():
            if action.instances < 1:
                raise Permanent(
                    f"Deployment {action.deployment} cannot have {action.instances} instances: at least 1 is needed."
                )
            _staying(state, action.deployment)
        case SetTraffic():
            _set_traffic(action, state, members)
        case DeleteDeployment():
            _delete(action.deployment, state)
        case _:
            pass


def shares(table: Mapping[str, int]) -> dict[str, int]:
    """Only what is not zero."""
    return {name: share for name, share in table.items() if share}


def _staying(state: State, name: str) -> Deployment:
    if name not in state.deployments:
        raise NotFound(f"Deployment {name} does not exist on endpoint {state.name}.")
    if state.deployments[name].leaving is not None:
        raise Conflict(f"Deployment {name} is being deleted: wait until that has ended.")
    return state.deployments[name]


def _put(action: PutDeployment, state: State) -> None:
    resolved = action.deployment
    check_deployment(resolved)
    if resolved.name not in state.deployments:
        return
    there = _staying(state, resolved.name).wanted.resolved.digest
    if there == resolved.digest:
        return
    if not action.replace:
        raise Permanent(
            f"Deployment {resolved.name} exists with other content ({there[:12]}, asked for {resolved.digest[:12]}): "
            "choose another name, or replace it with --replace."
        )
    if state.traffic.get(resolved.name) or state.mirror.get(resolved.name):
        raise Conflict(f"Deployment {resolved.name} has traffic, so it cannot be replaced: move its traffic first.")


def _delete(name: str, state: State) -> None:
    for table, what in ((state.traffic, "live"), (state.mirror, "mirrored")):
        if table.get(name):
            raise Conflict(
                f"Deployment {name} has {table[name] / 10:g}% of the {what} traffic: take it away before deleting it."
            )


def _set_traffic(action: SetTraffic, state: State, members: Mapping[str, Members]) -> None:
    for name, share in (*action.traffic.items(), *action.mirror.items()):
        if not 0 <= share <= WHOLE:
            raise Permanent(f"Share {share / 10:g}% for {name} is not between 0% and 100%.")
    traffic, mirror = shares(action.traffic), shares(action.mirror)
    if (total := sum(traffic.values())) not in (0, WHOLE):
        raise Permanent(f"Live traffic sums to {total / 10:g}%: it must be 0% or 100%.")
    if len(mirror) > CAPABILITIES.mirror_targets:
        raise Permanent(
            f"Traffic cannot be mirrored to {len(mirror)} deployments: "
            f"at most {CAPABILITIES.mirror_targets} is allowed."
        )
    if both := sorted(traffic.keys() & mirror.keys()):
        raise Permanent(f"Deployment {both[0]} cannot have live and mirrored traffic together.")
    for name in (*traffic, *mirror):
        deployment = _staying(state, name)
        healthy = members[name].healthy if name in members else 0
        # One is enough for a deployment that has served before: a rollback to it must always be possible.
        needed = 1 if deployment.served else deployment.desired
        if healthy < needed:
            raise Conflict(
                f"Deployment {name} has {healthy} healthy instances of {deployment.desired}, "
                "so it cannot get traffic yet.",
                retry_after=1.0,
            )
