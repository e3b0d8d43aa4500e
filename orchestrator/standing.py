"""What a rollout remembers of the world: who is who, how things stood before, and what it last made of them.

Values that both events and the rollout are made of. `Snapshot` is the part of an endpoint's state that a plan sets:
what is in it is compared for drift, what is not (health, keys, tags, autoscaled counts) never is.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from providers.actions import Action
from providers.base import EndpointState, Operation


@dataclass(frozen=True, slots=True)
class Split:
    """Shares of live traffic and of its mirror, deployment -> tenths of a percent; only non-zero ones."""

    traffic: Mapping[str, int] = field(default_factory=dict)
    mirror: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a plan sets of an endpoint.

    Attributes:
        exists: whether there is an endpoint.
        traffic, mirror: as in Split.
        digests: deployment -> spec digest, of every deployment there.
        counts: deployment -> desired instances, of the deployments whose count the plan set.
    """

    exists: bool = False
    traffic: Mapping[str, int] = field(default_factory=dict)
    mirror: Mapping[str, int] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)

    @staticmethod
    def of(observed: EndpointState | None, counted: frozenset[str] = frozenset()) -> "Snapshot":
        """The snapshot of what was observed, with the counts of the deployments in `counted`."""
        if observed is None:
            return Snapshot()
        return Snapshot(
            exists=True,
            traffic={name: share for name, share in sorted(observed.traffic.items()) if share},
            mirror={name: share for name, share in sorted(observed.mirror.items()) if share},
            digests={name: state.digest for name, state in sorted(observed.deployments.items())},
            counts={name: state.desired for name, state in sorted(observed.deployments.items()) if name in counted},
        )


@dataclass(frozen=True, slots=True)
class Roles:
    """Who is who, found when the rollout began and pinned since.

    Attributes:
        candidate: the new deployment, or None when the plan has none.
        stable: the deployment that serves, or None.
        baseline: the split that a rollback restores.
        counts: instances of each deployment before, for what a rollback must scale back.
        existed: the candidate was there before: a rollback does not delete it.
        bootstrap: the endpoint serves nothing yet; the rollout first makes stable serve.
        first: the candidate is the first version of all: there is no stable to compare it with or to go back to.
    """

    candidate: str | None
    stable: str | None
    baseline: Split
    counts: Mapping[str, int] = field(default_factory=dict)
    existed: bool = False
    bootstrap: bool = False
    first: bool = False


WaitKind = Literal[
    "operation", "settle", "evidence", "hold", "time", "approval", "retry", "provider", "human", "task", "others"
]


@dataclass(frozen=True, slots=True)
class Waiting:
    """What a rollout waits for: the kind, until when at the latest if that is known, and why in words."""

    kind: WaitKind
    reason: str
    until: datetime | None = None


IntentState = Literal["open", "begun", "done", "failed", "superseded"]


@dataclass(frozen=True, slots=True)
class Intent:
    """An effect that was decided and written down before it is begun.

    Attributes:
        key: idempotency key.
        stage: index of the stage, -1 for a rollback or parking.
        epoch: of the driver that decided it.
        action: what is to be done.
        before, after: snapshots around it; while it is open, what lies between them is ours.
        operation: the provider's handle, once begun.
        attempt: how often it was begun without success.
        not_before: when it may be tried again, or None.
        deadline: when it counts as failed, or None.
        state: open (not known to have begun), begun, or how it ended.
    """

    key: str
    stage: int
    epoch: int
    action: Action
    before: Snapshot
    after: Snapshot
    operation: Operation | None = None
    attempt: int = 0
    not_before: datetime | None = None
    deadline: datetime | None = None
    state: IntentState = "open"

    @property
    def live(self) -> bool:
        """Whether it is still to be finished."""
        return self.state in ("open", "begun")


CommandKind = Literal["abort", "pause", "resume", "approve"]


@dataclass(frozen=True, slots=True)
class Command:
    """What someone asked of a rollout that another process may be driving.

    Attributes:
        id: unique. n: the order in which the store took them.
        consumed_seq: the event that acted on it, or None.
        outcome: `accepted` or `refused: why`, once consumed.
    """

    id: str
    rollout: str
    kind: CommandKind
    actor: str
    at: datetime
    args: Mapping[str, Any] = field(default_factory=dict)
    n: int = 0
    consumed_seq: int | None = None
    outcome: str | None = None
