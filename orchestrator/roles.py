"""Who is who: candidate, stable and the split to return to, read off the plan and the endpoint once, before anything is
changed.

Pure. Everything that would make the roles ambiguous is refused here, with what to do, so that later no step has to
guess.
"""

from orchestrator.bundle import Bundle
from orchestrator.errors import Refused
from orchestrator.standing import Roles, Split
from plans.model import DeployStep
from plans.units import show_share, show_split
from providers.base import EndpointState


def cast(bundle: Bundle, observed: EndpointState | None, *, bootstrap: bool, replace: bool) -> Roles:
    """The roles of this plan on the endpoint as it stands.

    Args:
        bundle: the pinned plan.
        observed: the endpoint, or None when there is none.
        bootstrap: the user agreed that an endpoint whose deployments have no traffic is brought into service.
        replace: the user agreed that a deployment of the candidate's name with another digest is replaced.

    Raises:
        Refused: the plan cannot be carried out here as it stands.
    """
    plan = bundle.plan
    candidate = next((step.deploy for step in plan.steps if isinstance(step, DeployStep)), None)
    where = f"endpoint {bundle.endpoint_name}"
    if observed is None or not observed.deployments:
        if observed is None and bundle.endpoint is None:
            raise Refused(
                f"{where} does not exist, and the plan only names it: "
                "give `endpoint: {file: endpoint.yml}` to have it created"
            )
        return _bootstrapped(bundle, observed, candidate, replace=replace)
    traffic = {name: share for name, share in observed.traffic.items() if share}
    if not traffic:
        if not bootstrap:
            names = ", ".join(sorted(observed.deployments))
            raise Refused(
                f"{where} has {names}, and none of them gets traffic: somebody switched it off. "
                "Give one of them traffic, or run with --bootstrap to begin by giving it all to stable"
            )
        return _bootstrapped(bundle, observed, candidate, replace=replace)
    if observed.mirror and plan.steps:
        mirrored = ", ".join(sorted(observed.mirror))
        raise Refused(f"{where} mirrors traffic to {mirrored} already: clear the mirror first, then run again")
    stable = plan.stable or _only(traffic, where)
    if stable not in traffic:
        raise Refused(f"{where}: the plan says `stable: {stable}`, but {stable} has no traffic; {show_split(traffic)}")
    if candidate is not None and candidate == stable:
        raise Refused(
            f"{where}: {candidate} already serves {show_share(traffic[candidate])} of the traffic, "
            "so there is nothing to roll out; name the new version differently"
        )
    if candidate is not None and traffic.get(candidate):
        raise Refused(
            f"{where}: the candidate {candidate} already has {show_share(traffic[candidate])} of the traffic; "
            "take it out of traffic first, then run again"
        )
    existed = candidate is not None and candidate in observed.deployments
    _adoptable(bundle, observed, candidate, replace=replace)
    counts = {name: state.desired for name, state in observed.deployments.items()}
    return Roles(candidate, stable, Split(traffic, {}), counts, existed=existed)


def _bootstrapped(bundle: Bundle, observed: EndpointState | None, candidate: str | None, *, replace: bool) -> Roles:
    stable = bundle.plan.stable
    if stable is None:
        others = [name for name in bundle.deployments if name != candidate]
        if len(others) != 1:
            found = ", ".join(others) or "none"
            raise Refused(
                f"endpoint {bundle.endpoint_name} serves nothing yet, and which deployment shall serve first is not "
                f"clear: `deployments` must have exactly one that no step deploys (found: {found}); else say `stable:`"
            )
        stable = others[0]
    elif stable == candidate:
        raise Refused(f"`stable: {stable}` is also what the plan deploys: name the version that serves now")
    for name in (stable, candidate):
        _adoptable(bundle, observed, name, replace=replace)
    counts = {name: state.desired for name, state in observed.deployments.items()} if observed else {}
    counts[stable] = bundle.deployments[stable].spec.instance_count
    existed = observed is not None and candidate in observed.deployments
    return Roles(candidate, stable, Split({stable: 1000}, {}), counts, existed=existed, bootstrap=True)


def _only(traffic: dict[str, int], where: str) -> str:
    if len(traffic) > 1:
        raise Refused(f"{where}: several deployments serve ({show_split(traffic)}); say in the plan which is `stable:`")
    return next(iter(traffic))


def _adoptable(bundle: Bundle, observed: EndpointState | None, name: str | None, *, replace: bool) -> None:
    if observed is None or name is None or name not in observed.deployments:
        return
    there, wanted = observed.deployments[name].digest, bundle.deployments[name].digest
    if there != wanted and not replace:
        raise Refused(
            f"endpoint {bundle.endpoint_name} has a deployment {name} already, and it is not the one of the plan "
            f"(digest {there[:12]} there, {wanted[:12]} in the plan): "
            "delete it, choose another name, or run with --replace"
        )
