"""Bundles, endpoints and stages made by hand, for tests of everything that is decided without effects."""

from collections.abc import Mapping
from datetime import UTC, datetime

from orchestrator.bundle import Bundle
from orchestrator.compiler import compile_stages
from orchestrator.roles import cast
from orchestrator.stages import Stage
from orchestrator.standing import Roles, Split
from plans import source
from plans.model import FileRef, Plan
from providers.base import Capabilities, DeploymentState, EndpointState
from providers.specs import DeploymentSpec, EndpointSpec, ResolvedDeployment

BORN = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
GATES = """
gates:
  errors: {metric: error_rate, max: 5%, max_ratio: 2, max_increase: 2%, interval: 1s}
  slower: {metric: latency, max_ratio: 2}
  slow: {metric: latency, max: 500ms, interval: 5s}
"""


def resolved(name: str, *, count: int = 2, digest: str | None = None) -> ResolvedDeployment:
    """A deployment of a plan; its digest says who it is."""
    spec = DeploymentSpec(name=name, model="azureml:m:1", instance_count=count)
    return ResolvedDeployment(spec, "/plans", digest or f"{name}-digest")


def bundle(
    steps: str,
    *,
    top: str = GATES,
    names: tuple[str, ...] = ("blue", "green"),
    endpoint: str = "{file: endpoint.yml}",
    counts: Mapping[str, int] | None = None,
) -> Bundle:
    """A bundle of a plan with these steps, as `pin` would make it, without files or provider."""
    deployments = "".join(f"  {name}: {{file: {name}.yml}}\n" for name in names)
    text = f"endpoint: {endpoint}\ndeployments:\n{deployments}{top}\nsteps:\n{steps}"
    plan = source.loads(text, Plan, name="plan.yml")
    spec = EndpointSpec(name="shop") if isinstance(plan.endpoint, FileRef) else None
    deployed = {name: resolved(name, count=(counts or {}).get(name, 2)) for name in names}
    return Bundle(plan, "/plans/plan.yml", "shop", "shop", spec, deployed, {"": text, "r.json": '{"x": 1}'}, "0" * 64)


def deployment(
    name: str, *, healthy: int = 2, desired: int = 2, digest: str | None = None, problem: str | None = None
) -> DeploymentState:
    """One deployment as it stands."""
    return DeploymentState(name, healthy, desired, digest or f"{name}-digest", BORN, problem)


def endpoint(
    traffic: Mapping[str, int] | None = None,
    mirror: Mapping[str, int] | None = None,
    *deployments: DeploymentState,
) -> EndpointState:
    """An endpoint that has these deployments, or healthy ones of every name in `traffic` and `mirror`."""
    traffic, mirror = traffic or {}, mirror or {}
    there = {state.name: state for state in deployments}
    for name in (*traffic, *mirror):
        there.setdefault(name, deployment(name))
    return EndpointState("shop", there, traffic, mirror)


BLUE = Roles("green", "blue", Split({"blue": 1000}), {"blue": 2})
"""blue serves, and green comes."""


def stages_of(
    steps: str,
    *,
    roles: Roles | None = None,
    observed: EndpointState | None = None,
    capabilities: Capabilities | None = None,
    **plan: object,
) -> tuple[Stage, ...]:
    """The stages of these steps: for `roles`, else for those on `observed`, else where blue serves."""
    made = bundle(steps, **plan)  # type: ignore[arg-type]
    if roles is None:
        roles = cast(made, observed or endpoint({"blue": 1000}), bootstrap=False, replace=False)
    return compile_stages(made, roles, capabilities or Capabilities())
