"""Who is who: candidate, stable and the split to return to, read off the plan and the endpoint once, before anything is
changed.

Pure. Everything that would make the roles ambiguous is refused here, with what to do, so that later no step has to
guess. A plan that speaks of roles is first given names: the candidate takes a slot that is free, so that the same plan
can be run for every new version.
"""

from collections.abc import Mapping

from orchestrator.bundle import Bundle
from orchestrator.errors import Refused
from orchestrator.standing import Roles, Split
from plans.model import Plan
from plans.steps import DeployStep
from plans.units import show_share, show_split
from providers.base import EndpointState


def assign(plan: Plan, endpoint: str, observed: EndpointState | None) -> dict[str, str]:
    """The names that candidate and stable have on this endpoint: a slot for each; nothing for a plan that says names.

    `stable` is in it only where the plan brings it into service. Raises Refused when no slot is free.
    """
    if plan.slots is None:
        return {}
    traffic = {name: share for name, share in observed.traffic.items() if share} if observed is not None else {}
    there = observed.deployments if observed is not None else {}
    if not traffic and plan.stable is not None and not isinstance(plan.stable, str):
        return {"candidate": plan.slots[1], "stable": plan.slots[0]}
    free = [slot for slot in plan.slots if slot not in traffic and slot != plan.stable]
    if not free:
        raise Refused(
            f"endpoint {endpoint}: every slot serves ({show_split(traffic)}), so the candidate has no place; "
            "take one out of traffic, or add a name to `slots`"
        )
    return {"candidate": next((slot for slot in free if slot not in there), free[0])}


def candidate_of(bundle: Bundle) -> str | None:
    """The deployment that the plan brings, or None when it deploys nothing."""
    deployed = next((step.deploy for step in bundle.plan.steps if isinstance(step, DeployStep)), None)
    return bundle.slots.get(deployed, deployed) if deployed is not None else None


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
    candidate = candidate_of(bundle)
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
    stable = plan.stable if isinstance(plan.stable, str) else _only(traffic, where)
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
    plan = bundle.plan
    stable = bundle.slots.get("stable") if plan.by_roles else plan.stable
    if plan.by_roles and isinstance(plan.stable, str):
        raise Refused(
            f"endpoint {bundle.endpoint_name} serves nothing yet, and the plan says `stable: {plan.stable}`: give "
            "`stable: {file: ...}` to bring one into service first, or remove it to begin with the candidate"
        )
    if stable is None and plan.by_roles:
        return _first(bundle, observed, candidate, replace=replace)
    if not isinstance(stable, str):
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


def _first(bundle: Bundle, observed: EndpointState | None, candidate: str | None, *, replace: bool) -> Roles:
    _adoptable(bundle, observed, candidate, replace=replace)
    counts = {name: state.desired for name, state in observed.deployments.items()} if observed else {}
    existed = observed is not None and candidate in observed.deployments
    return Roles(candidate, None, Split(), counts, existed=existed, bootstrap=True, first=True)


def watched(bundle: Bundle, observed: EndpointState | None) -> Roles:
    """The roles for a rollout that another tool drives, at whatever point it is. Raises Refused."""
    where = f"endpoint {bundle.endpoint_name}"
    candidate = candidate_of(bundle)
    if observed is None:
        raise Refused(f"{where} does not exist, so there is nothing to watch")
    traffic = {name: share for name, share in observed.traffic.items() if share}
    others = {name: share for name, share in traffic.items() if name != candidate}
    stable = bundle.plan.stable if isinstance(bundle.plan.stable, str) else _only(others, where) if others else None
    if stable is None:
        raise Refused(
            f"{where}: nothing but the candidate serves ({show_split(traffic)}), so there is nothing to judge"
        )
    counts = {name: state.desired for name, state in observed.deployments.items()}
    return Roles(candidate, stable, Split(others, {}), counts, existed=True)


def _only(traffic: Mapping[str, int], where: str) -> str:
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
