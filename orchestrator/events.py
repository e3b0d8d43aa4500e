"""Everything that can happen to a rollout: the journal's vocabulary, a closed union with a version.

An event says what happened, never what to do. `orchestrator.rollout.apply` folds events into the rollout; the journal
keeps them for people, reports, replay and the live stream. A new field needs a default, so that journals of earlier
releases stay readable; a new meaning needs a new version.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Literal

from pydantic import Discriminator, TypeAdapter

from orchestrator.gates.judge import Judgement
from orchestrator.standing import Intent, Roles, Snapshot, Waiting
from providers.base import Operation

VERSION = 1

PauseCause = Literal[
    "asked", "interrupted", "drift", "gate", "no_data", "undecided", "error", "step", "invariant", "unknown"
]
RollbackCause = Literal["gate", "abort", "step", "no_data", "undecided", "error", "approval", "pause_limit", "budget"]
StageOutcome = Literal["passed", "failed", "skipped", "undone"]


@dataclass(frozen=True, slots=True)
class Started:
    """The rollout began: its bundle, roles, stages and the world before it are pinned. `notes`: what to know of it."""

    name: str
    plan_path: str
    provider: str
    endpoint: str
    endpoint_name: str
    bundle: str
    roles: Roles
    stages: tuple[str, ...]
    expected: Snapshot
    options: Mapping[str, bool] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    kind: Literal["started"] = "started"


@dataclass(frozen=True, slots=True)
class Driven:
    """A driver took the rollout up, under a new epoch."""

    worker: str
    host: str
    pid: int
    epoch: int
    kind: Literal["driven"] = "driven"


@dataclass(frozen=True, slots=True)
class Released:
    """The driver let the rollout go, unfinished."""

    reason: str
    kind: Literal["released"] = "released"


@dataclass(frozen=True, slots=True)
class StageEntered:
    """The stage began; `deadline` is set where it counts from the beginning."""

    stage: int
    name: str
    deadline: datetime | None = None
    kind: Literal["stage_entered"] = "stage_entered"


@dataclass(frozen=True, slots=True)
class Intended:
    """An effect was decided; it has not begun. `irreversible` marks the point of no return."""

    intent: Intent
    irreversible: bool = False
    kind: Literal["intended"] = "intended"


@dataclass(frozen=True, slots=True)
class Begun:
    """The provider took the action."""

    key: str
    operation: Operation
    kind: Literal["begun"] = "begun"


@dataclass(frozen=True, slots=True)
class Retried:
    """The action could not be begun or finished now; it will be tried again."""

    key: str
    reason: str
    attempt: int
    not_before: datetime
    kind: Literal["retried"] = "retried"


@dataclass(frozen=True, slots=True)
class Ended:
    """The action ended. `superseded`: another decision took its place. `left`: what was observed after one that was not
    done.
    """

    key: str
    outcome: Literal["done", "failed", "superseded"]
    reason: str | None = None
    left: Snapshot | None = None
    kind: Literal["ended"] = "ended"


@dataclass(frozen=True, slots=True)
class Reached:
    """The stage's target was verified: its clocks run from now.

    Attributes:
        hold_until, deadline: its clocks.
        bad: live responses by the candidate that were bad since the last measurement, for the budget.
        found: how the endpoint stands, where somebody else brings it there (an advisory rollout).
    """

    hold_until: datetime | None = None
    deadline: datetime | None = None
    bad: int = 0
    found: Snapshot | None = None
    kind: Literal["reached"] = "reached"


@dataclass(frozen=True, slots=True)
class Measured:
    """Evidence was fed. `measurement` is its number; `lost`: the data plane had restarted, what it counted is gone;
    `bad`: live responses by the candidate that were bad, for the budget.
    """

    measurement: int
    judgement: Judgement
    start: datetime
    end: datetime
    lost: bool = False
    bad: int = 0
    kind: Literal["measured"] = "measured"


@dataclass(frozen=True, slots=True)
class MeasureFailed:
    """The provider could not be measured; `count` times in a row now."""

    reason: str
    count: int
    kind: Literal["measure_failed"] = "measure_failed"


@dataclass(frozen=True, slots=True)
class TaskTried:
    """A one-shot step is about to be tried, for the `attempt`th time, or was tried in vain and will be again at
    `not_before`.
    """

    attempt: int
    reason: str | None = None
    not_before: datetime | None = None
    kind: Literal["task_tried"] = "task_tried"


@dataclass(frozen=True, slots=True)
class TaskEnded:
    """A one-shot step ended."""

    ok: bool
    detail: str
    kind: Literal["task_ended"] = "task_ended"


@dataclass(frozen=True, slots=True)
class Approved:
    """A human agreed. `despite`: to go on although this gate has not passed."""

    by: str
    reason: str | None = None
    despite: str | None = None
    kind: Literal["approved"] = "approved"


@dataclass(frozen=True, slots=True)
class Leaving:
    """The stage has passed; what it set up for itself (the mirror) is being cleared."""

    reason: str
    kind: Literal["leaving"] = "leaving"


@dataclass(frozen=True, slots=True)
class StageEnded:
    """The stage ended."""

    stage: int
    outcome: StageOutcome
    reason: str
    kind: Literal["stage_ended"] = "stage_ended"


@dataclass(frozen=True, slots=True)
class Waited:
    """What the rollout waits for changed; None: nothing."""

    waiting: Waiting | None
    kind: Literal["waited"] = "waited"


@dataclass(frozen=True, slots=True)
class Paused:
    """No progress until a human says so. `until` is when it rolls back by itself."""

    cause: PauseCause
    reason: str
    until: datetime | None = None
    kind: Literal["paused"] = "paused"


@dataclass(frozen=True, slots=True)
class Parked:
    """The candidate was taken out of traffic while nobody guards it."""

    reason: str
    kind: Literal["parked"] = "parked"


@dataclass(frozen=True, slots=True)
class Resumed:
    """It goes on. `restart`: the stage begins anew, with its hold and its proof. `expected`: what others changed is
    taken back. `extended`: seconds that were added to its deadline.
    """

    restart: bool
    expected: Snapshot | None = None
    hold_until: datetime | None = None
    deadline: datetime | None = None
    extended: float | None = None
    kind: Literal["resumed"] = "resumed"


@dataclass(frozen=True, slots=True)
class Extended:
    """A human gave the current stage more time: its deadline is another one now."""

    seconds: float
    deadline: datetime
    kind: Literal["extended"] = "extended"


@dataclass(frozen=True, slots=True)
class Commanded:
    """Someone asked for something; `accepted` or not, with the reason."""

    command: Literal["abort", "pause", "resume", "approve"]
    accepted: bool
    reason: str
    kind: Literal["commanded"] = "commanded"


@dataclass(frozen=True, slots=True)
class Adopted:
    """The edited plan was pinned in place of the old one. `options`: those that are new with it, or None."""

    old: str
    new: str
    stages: tuple[str, ...]
    options: Mapping[str, bool] | None = None
    kind: Literal["adopted"] = "adopted"


@dataclass(frozen=True, slots=True)
class RollbackBegan:
    """The rollout is being undone."""

    cause: RollbackCause
    reason: str
    kind: Literal["rollback_began"] = "rollback_began"


@dataclass(frozen=True, slots=True)
class LogsSaved:
    """The candidate's logs were kept; `where` is None when there were none to keep, and `reason` says why."""

    deployment: str
    where: str | None
    reason: str | None = None
    kind: Literal["logs_saved"] = "logs_saved"


@dataclass(frozen=True, slots=True)
class Notified:
    """A webhook was told of event `seq`, or was given up: `target` is its place in the plan's list."""

    seq: int
    target: int
    host: str
    ok: bool
    detail: str
    attempts: int
    kind: Literal["notified"] = "notified"


@dataclass(frozen=True, slots=True)
class Finished:
    """The rollout ended; `reason` says why and what stands where."""

    phase: Literal["succeeded", "rolled_back", "failed"]
    reason: str
    kind: Literal["finished"] = "finished"


Body = Annotated[
    Started
    | Driven
    | Released
    | StageEntered
    | Intended
    | Begun
    | Retried
    | Ended
    | Reached
    | Measured
    | MeasureFailed
    | TaskTried
    | TaskEnded
    | Approved
    | Leaving
    | StageEnded
    | Waited
    | Paused
    | Parked
    | Resumed
    | Extended
    | Commanded
    | Adopted
    | RollbackBegan
    | LogsSaved
    | Notified
    | Finished,
    Discriminator("kind"),
]


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the journal.

    Attributes:
        rollout: whose.
        seq: 1, 2, 3, ... without a gap.
        id: made by the writer, so that a commit in doubt can be looked up.
        at: when it happened, aware UTC.
        actor: who made it happen: `engine`, or a person.
        epoch: of the driver that wrote it.
        body: what happened.
        v: version of the vocabulary.
    """

    rollout: str
    seq: int
    id: str
    at: datetime
    actor: str
    epoch: int
    body: Body
    v: int = VERSION


BODY: TypeAdapter[Body] = TypeAdapter(Body)
EVENT: TypeAdapter[Event] = TypeAdapter(Event)
