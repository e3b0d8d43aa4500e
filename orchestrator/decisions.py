"""What may be decided, and on what facts: the vocabulary between policy and driver.

`Situation` is everything that a decision may depend on; a `Decision` is one of a closed union of values, each of which
the driver knows how to carry out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from orchestrator.events import PauseCause, RollbackCause
from orchestrator.rollout import Rollout
from orchestrator.stages import Stage
from orchestrator.standing import Command, Waiting
from providers.actions import Action
from providers.base import Capabilities, EndpointState


@dataclass(frozen=True, slots=True)
class Situation:
    """Everything that a decision may depend on.

    Attributes:
        rollout, stages: as pinned. now: aware UTC.
        seen: whether the endpoint could be observed at all just now; then `observed` is its state, None for no
            endpoint.
        commands: what was asked and not acted on, in order.
        task_running: the one-shot step of this stage is running in this process.
        trouble: why the endpoint could not be observed, or None.
        load_problem: why the synthetic traffic that the plan asks for was interrupted, or None.
        interrupted: the driver was asked to stop. exit_on_pause, leave_exposed: flags of the driver.
    """

    rollout: Rollout
    stages: tuple[Stage, ...]
    capabilities: Capabilities
    now: datetime
    seen: bool
    observed: EndpointState | None
    commands: Sequence[Command] = ()
    task_running: bool = False
    interrupted: bool = False
    exit_on_pause: bool = False
    leave_exposed: bool = False
    trouble: str | None = None
    load_problem: str | None = None

    @property
    def stage(self) -> Stage | None:
        """The current stage, None after the last."""
        return self.stages[self.rollout.stage] if self.rollout.stage < len(self.stages) else None


@dataclass(frozen=True, slots=True)
class Act:
    """Decide on an effect: write the intent, then begin it. `stage` -1: for a rollback or for parking."""

    action: Action
    stage: int
    irreversible: bool = False


@dataclass(frozen=True, slots=True)
class Begin:
    """Begin, or begin again, what was intended."""

    key: str


@dataclass(frozen=True, slots=True)
class Supersede:
    """The intent is no longer wanted, or the world is already as it wanted."""

    key: str
    reason: str


@dataclass(frozen=True, slots=True)
class Enter:
    """Begin the stage."""

    stage: Stage
    deadline: datetime | None


@dataclass(frozen=True, slots=True)
class Reach:
    """The stage's target is verified: start its clocks, and its evidence."""

    stage: Stage


@dataclass(frozen=True, slots=True)
class Measure:
    """Feed the gates (or the guards) of the stage once."""

    stage: Stage


@dataclass(frozen=True, slots=True)
class RunTask:
    """Try the one-shot step."""

    stage: Stage


@dataclass(frozen=True, slots=True)
class Clear:
    """The stage has passed; restore what it set up for itself."""

    reason: str


@dataclass(frozen=True, slots=True)
class Advance:
    """The stage is over; go on with the next."""

    reason: str
    outcome: Literal["passed", "skipped"] = "passed"


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do before something changes."""

    waiting: Waiting


@dataclass(frozen=True, slots=True)
class Pause:
    """Stop making progress until a human says so. `about`: a deployment whose last words belong in the reason."""

    cause: PauseCause
    reason: str
    command: Command | None = None
    about: str | None = None


@dataclass(frozen=True, slots=True)
class Park:
    """The candidate is out of traffic; remember that."""

    reason: str


@dataclass(frozen=True, slots=True)
class Resume:
    """Go on after a pause. `take_back`: what others changed will be undone. `extend`: seconds more for the deadline."""

    command: Command | None
    restart: bool
    take_back: bool
    extend: float | None = None


@dataclass(frozen=True, slots=True)
class Extend:
    """Give the current stage more time, until `deadline`."""

    command: Command
    seconds: float
    deadline: datetime


@dataclass(frozen=True, slots=True)
class Approve:
    """A human agreed. `despite`: to go on although this gate has not passed."""

    command: Command
    despite: str | None = None


@dataclass(frozen=True, slots=True)
class Refuse:
    """What was asked cannot be done now."""

    command: Command
    reason: str


@dataclass(frozen=True, slots=True)
class RollBack:
    """Undo it. `about`: as in Pause."""

    cause: RollbackCause
    reason: str
    command: Command | None = None
    about: str | None = None


@dataclass(frozen=True, slots=True)
class SaveLogs:
    """Keep the candidate's logs before it is deleted."""

    deployment: str


@dataclass(frozen=True, slots=True)
class Finish:
    """End. `about`: as in Pause."""

    phase: Literal["succeeded", "rolled_back", "failed"]
    reason: str
    command: Command | None = None
    about: str | None = None


@dataclass(frozen=True, slots=True)
class Leave:
    """The driver goes; the rollout stays as it is."""

    reason: str


Decision = (
    Act
    | Begin
    | Supersede
    | Enter
    | Reach
    | Measure
    | RunTask
    | Clear
    | Advance
    | Wait
    | Pause
    | Park
    | Resume
    | Extend
    | Approve
    | Refuse
    | RollBack
    | SaveLogs
    | Finish
    | Leave
)
