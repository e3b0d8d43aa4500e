"""What the simulated cloud remembers: plain records that the world changes and the rules read."""

from dataclasses import dataclass, field
from datetime import datetime

from providers.actions import Action, DeleteDeployment, DeleteEndpoint, PutDeployment, PutEndpoint, Scale
from providers.base import Claim, DeploymentState, Done, EndpointState, Failed, Fence
from providers.memory.traffic import Counters
from providers.specs import EndpointSpec

Line = tuple[int, str]
"""The instance that printed it, and what it printed."""


@dataclass(slots=True)
class Deployment:
    """One deployment as the world keeps it."""

    name: str
    digest: str
    born: datetime
    desired: int
    healthy: int = 0
    problem: str | None = None
    lines: list[Line] = field(default_factory=list)


@dataclass(slots=True)
class Endpoint:
    """One endpoint as the world keeps it; `ready` when its creation has ended."""

    name: str
    spec: EndpointSpec
    counters: Counters
    url: str
    ready: bool = False
    deployments: dict[str, Deployment] = field(default_factory=dict)
    traffic: dict[str, int] = field(default_factory=dict)
    mirror: dict[str, int] = field(default_factory=dict)
    claim: Claim | None = None
    history: list[tuple[datetime, EndpointState]] = field(default_factory=list)

    def state(self, busy: str | None) -> EndpointState:
        """What is shown of it."""
        return EndpointState(
            name=self.name,
            deployments={
                d.name: DeploymentState(d.name, d.healthy, d.desired, d.digest, d.born, d.problem)
                for d in self.deployments.values()
            },
            traffic=dict(self.traffic),
            mirror=dict(self.mirror),
            busy=busy,
            claim=self.claim,
            url=self.url if self.ready else None,
        )


@dataclass(slots=True)
class Running:
    """One operation: what was begun, and how it ended; `spoiled` is why it shall fail without cause."""

    key: str
    action: Action
    ends: datetime
    outcome: Done | Failed | None = None
    spoiled: tuple[str, bool] | None = None


@dataclass(frozen=True, slots=True)
class Effect:
    """One thing that really changed in the world. What was already as asked leaves none, so tests can say "done once".

    Attributes:
        at: when it was begun.
        key: the idempotency key it was begun with.
        kind: of the action, or "regenerate".
        endpoint: its name.
        action: what was asked; None for keys.
        fence: who asked; None for keys.
    """

    at: datetime
    key: str
    kind: str
    endpoint: str
    action: Action | None = None
    fence: Fence | None = None


def phrase(action: Action) -> str:
    """What is being done, in a few words."""
    match action:
        case PutEndpoint():
            return f"creating endpoint {action.endpoint}"
        case PutDeployment():
            return f"creating deployment {action.deployment.name}"
        case Scale():
            return f"scaling {action.deployment} to {action.instances}"
        case DeleteDeployment():
            return f"deleting deployment {action.deployment}"
        case DeleteEndpoint():
            return f"deleting endpoint {action.endpoint}"
        case _:
            return "changing the traffic"


def subject(action: Action) -> str | None:
    """The deployment that the action is about, or None when it is about the endpoint or its traffic."""
    match action:
        case PutDeployment():
            return action.deployment.name
        case Scale() | DeleteDeployment():
            return action.deployment
        case _:
            return None
