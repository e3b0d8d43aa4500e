"""What a rollout is made of once its plan is compiled: stages, one after the other.

A stage either has a *target*, a state of the endpoint to be reached and verified, or is a one-shot task.
`orchestrator.compiler` makes them; `orchestrator.decide` goes through them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from orchestrator.gates.spec import Gate
from plans.answers import Consequence
from plans.steps import ApproveStep, LoadStep, TestStep, WaitStep, WebhookStep
from providers.specs import EndpointSpec, ResolvedDeployment

Task = TestStep | WaitStep | ApproveStep | WebhookStep | LoadStep
Kind = Literal[
    "bootstrap",
    "deploy",
    "scale",
    "test",
    "measure",
    "shadow",
    "canary",
    "promote",
    "wait",
    "approve",
    "webhook",
    "load",
    "delete",
]


@dataclass(frozen=True, slots=True)
class Target:
    """What the endpoint shall be. Deployments that are not named are left as they are.

    Attributes:
        traffic, mirror: the exact split.
        endpoint: the endpoint's file, when it is to be created.
        deployments: those that must exist with this digest; they are created with `instances`.
        instances: desired counts, full and healthy.
        absent: deployments that must not exist.
        gone: the endpoint must not exist.
    """

    traffic: Mapping[str, int]
    mirror: Mapping[str, int] = field(default_factory=dict)
    endpoint: EndpointSpec | None = None
    deployments: Mapping[str, ResolvedDeployment] = field(default_factory=dict)
    instances: Mapping[str, int] = field(default_factory=dict)
    absent: tuple[str, ...] = ()
    gone: bool = False


@dataclass(frozen=True, slots=True)
class Stage:
    """One thing to do, and what must be true before the next.

    Attributes:
        index: from 0. name: shown to people. kind: of the step. step: index in the plan, None for the bootstrap.
        work: Target or Task. standing: of a task, the split that it begins with.
        after: what is restored once it has passed (the mirror cleared), or None.
        gates: that must pass. guards: that are only watched for FAIL, where candidate exposure outlives its own step.
        gated: how many gated stages come before it; None for an ungated one.
        hold: seconds that must pass at the target. deadline: seconds until it is given up, None for never.
        interval: seconds between measurements. settle: seconds by which their figures are late.
        on_fail, on_no_data, on_undecided, on_error: what then happens.
        decide: what it takes to go on after the hold: a PASS of every gate, or that none failed.
        exposure, mirrored: the candidate's share of live traffic, and of the mirror, during it; tenths of a percent.
        paired: the provider joins mirrored requests with their live twins.
        asked: the share of requests that the sample-ratio check compares with what came, 0..1; None where nothing is
            asked that could be checked.
        remembers: stable is measured in it, for gates of the next stage that guard stable.
        budget: bad live responses by the candidate that the whole rollout may have, None where nobody counts them.
        irreversible: it deletes what a rollback would need.
    """

    index: int
    name: str
    kind: Kind
    step: int | None
    work: Target | Task
    standing: Target | None = None
    after: Target | None = None
    gates: tuple[Gate, ...] = ()
    guards: tuple[Gate, ...] = ()
    gated: int | None = None
    hold: float = 0.0
    deadline: float | None = None
    interval: float = 10.0
    settle: float = 0.0
    on_fail: Consequence = "rollback"
    on_no_data: Consequence = "pause"
    on_undecided: Consequence = "pause"
    on_error: Consequence = "pause"
    decide: Literal["proven", "no_fail"] = "proven"
    exposure: int = 0
    mirrored: int = 0
    paired: bool = False
    asked: float | None = None
    remembers: bool = False
    budget: int | None = None
    irreversible: bool = False

    @property
    def watched(self) -> bool:
        """Whether requests are measured while it lasts."""
        return bool(self.gates or self.guards) or self.remembers or self.budget is not None


def gated_count(stages: Sequence[Stage]) -> int:
    """How many stages have gates: the J over which evidence of failure is spread."""
    return sum(1 for stage in stages if stage.gates)
