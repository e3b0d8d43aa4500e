"""The text of a plan for an endpoint that exists: who serves there, where a new version has room, what it can do.

The plan names the endpoint and speaks of roles, so that it can be run again for the version after the next. It begins
small and proves much: behind an endpoint that exists there are people.
"""

from datetime import datetime

from orchestrator.errors import UsageError
from plans.units import show_share
from providers.base import Capabilities, EndpointState

_RESERVED = ("stable", "candidate", "endpoint")
_PLAN = """\
# yaml-language-server: $schema=rollout-plan.schema.json
# A rollout on {name}, an endpoint that exists: this plan names it, and never creates it.
#
# {when} it was found like this:
{found}
#
# FILL IN deployment.yml and the scoring script that it names: as they stand, the new version does not start. Then
# `rollout plan plan.yml` says what this would do there, and what its gates can prove with the traffic that there is.
version: 1
name: {slug}
provider: {provider}
endpoint: {name}
slots: [{slots}]{pad}# the names that versions take turns in
candidate: {{file: deployment.yml}}   # the new version; it takes the name that is free{free}
{stable}
vars:
  HOLD: 10m   # how long each step lasts at least; for one run: --var HOLD=1h

gates:
  # 1600 requests to the new version prove this when both sides have 0.5% errors, 760 when they have none. `max` is what
  # you owe your clients; the rest is what the new version may cost, compared with the one that serves.
  errors: {{metric: error_rate, max: 2%, max_ratio: 1.5, max_increase: 0.5%}}
  # 150 requests for 1.5, 670 for 1.2. Copies share the machines with their originals, and are a little slower for that
  # alone: in a shadow step 1.2 may be too little. Set `max` to what your clients still put up with.
  latency: {{metric: latency, quantile: p95, max_ratio: 1.5, max: 2s}}

steps:
  - deploy: candidate                  # it starts and becomes healthy; no request reaches it
  - test: candidate                    # one request straight to it. FILL IN a request that your model understands
    request: sample-request.json
    expect: {{status: 200}}
{shadow}  - canary: [10%, 50%]                 # it answers every tenth client, then every second one
    gates: [errors, latency]
    hold: ${{var:HOLD}}
  - promote: 100%                      # it answers everyone; the old one still runs, so the way back takes no time
    gates: [errors, latency]           # from here `max` alone decides
    hold: ${{var:HOLD}}
  - delete: stable                     # from here there is no way back
"""
_SHADOW = """\
  - shadow: {share:<26} # it gets copies of requests; clients see the old one's answers only
    gates: [errors, latency]
    hold: ${{var:HOLD}}
"""
_NO_SHADOW = "  # No shadow step: this endpoint cannot mirror requests.\n"


def plan_for(state: EndpointState, *, called: str, provider: str, capabilities: Capabilities, now: datetime) -> str:
    """The plan. `called`: the plan's name. Raises UsageError when what serves has a name that no plan can say."""
    stable = serving(state)
    if stable in _RESERVED:
        raise UsageError(
            f"{stable} serves on endpoint {state.name}, and that is a word of the plan language, so no plan can name "
            "it: deploy the same version under another name first, such as blue"
        )
    free = free_name(state)
    shares = ", ".join(dict.fromkeys((stable or _other(free), free)))
    mirrored = min(100, capabilities.mirror_limit)
    return _PLAN.format(
        name=state.name,
        slug=called,
        provider=provider,
        when=f"{now:%Y-%m-%d %H:%M} UTC",
        found="\n".join(_found(state)),
        slots=shares,
        pad=" " * max(1, 27 - len(shares)),
        free=f" now: {free}",
        stable=_stable(state, stable),
        shadow=_SHADOW.format(share=show_share(mirrored)) if mirrored else _NO_SHADOW,
    )


def serving(state: EndpointState) -> str | None:
    """The deployment with the most traffic, or None when none has any."""
    shares = {name: share for name, share in state.traffic.items() if share}
    return max(sorted(shares), key=shares.__getitem__) if shares else None


def free_name(state: EndpointState) -> str:
    """A name that no deployment of the endpoint has."""
    names = ["blue", "green", *(f"green-{number}" for number in range(2, len(state.deployments) + 3))]
    return next(name for name in names if name not in state.deployments)


def instances(state: EndpointState) -> int:
    """How many instances a new version needs to stand in for the one that serves."""
    stable = serving(state)
    return state.deployments[stable].desired if stable is not None and stable in state.deployments else 1


def _other(free: str) -> str:
    return "green" if free == "blue" else "blue"


def _found(state: EndpointState) -> list[str]:
    if not state.deployments:
        return ["#   it has no deployment: the first run of this plan puts the new version into service"]
    width = max(map(len, state.deployments))
    lines = [
        f"#   {name:<{width}}  {show_share(state.traffic.get(name, 0)):>5} of the traffic, {each.healthy} of "
        f"{each.desired} instances healthy"
        for name, each in sorted(state.deployments.items())
    ]
    owner = state.claim.rollout if state.claim is not None else None
    return [
        *lines,
        *([f"#   rollout {owner} was at work there: who serves may be another when it ends"] if owner else []),
    ]


def _stable(state: EndpointState, stable: str | None) -> str:
    shares = [share for share in state.traffic.values() if share]
    if stable is None:
        if not state.deployments:
            return ""
        return "# Nothing has traffic there: give it to one deployment first, or run this plan with --bootstrap.\n"
    if len(shares) > 1:
        return f"stable: {stable}   # several serve: this is the one to compare with, and to go back to\n"
    return (
        f"# `stable` is what serves: now {stable}. Only where several serve it has to be said, as `stable: {stable}`.\n"
    )
