"""A rollout as it stands, and how each event changes it.

`Rollout` is everything a driver needs to go on after a crash, besides the pinned bundle and the evidence; `apply` is
the only way it changes. Both are plain values: the store keeps the row and the journal together, and replaying the
journal gives the row again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal

from orchestrator.events import (
    Adopted,
    Approved,
    Begun,
    Commanded,
    Driven,
    Ended,
    Event,
    Extended,
    Finished,
    Intended,
    Leaving,
    LogsSaved,
    Measured,
    MeasureFailed,
    Notified,
    Parked,
    PauseCause,
    Paused,
    Reached,
    Released,
    Resumed,
    Retried,
    RollbackBegan,
    RollbackCause,
    StageEnded,
    StageEntered,
    StageOutcome,
    Started,
    TaskEnded,
    TaskTried,
    Waited,
)
from orchestrator.gates.judge import Judgement
from orchestrator.lifecycle import IllegalTransition, Phase, Trigger, next_phase
from orchestrator.standing import Intent, Roles, Snapshot, Waiting

StageState = Literal["waiting", "running", "passed", "failed", "skipped", "undone"]


@dataclass(frozen=True, slots=True)
class StageRecord:
    """How a stage went: its state, when it began and ended, and why it ended so."""

    name: str
    state: StageState = "waiting"
    started_at: datetime | None = None
    ended_at: datetime | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the current stage is.

    Attributes:
        entered_at: when it began, None before.
        reached_at: when its target was verified.
        hold_until, deadline: its clocks, while they run.
        hold_left, deadline_left: seconds that remain, while they are frozen by a pause.
        leaving: it has passed, for the reason `passed`, and is clearing up after itself.
        failure: why its action failed for good, or None.
        judgement: the last one, kept so that a decision can be taken again after a crash.
        measured_at: end of the last measurement, or when measuring was last tried.
        errors: measurements that failed in a row.
        task_attempt, task_not_before, task_ok, task_detail: of a one-shot step.
        approved_by: who agreed.
        despite: gates that a human set aside for this stage.
        extended: seconds that humans have added to its deadline.
    """

    entered_at: datetime | None = None
    reached_at: datetime | None = None
    hold_until: datetime | None = None
    deadline: datetime | None = None
    hold_left: float | None = None
    deadline_left: float | None = None
    leaving: bool = False
    passed: str | None = None
    failure: str | None = None
    judgement: Judgement | None = None
    measured_at: datetime | None = None
    errors: int = 0
    last_error: str | None = None
    task_attempt: int = 0
    task_not_before: datetime | None = None
    task_ok: bool | None = None
    task_detail: str | None = None
    approved_by: str | None = None
    despite: tuple[str, ...] = ()
    extended: float = 0.0


@dataclass(frozen=True, slots=True)
class Rollout:
    """A rollout.

    Attributes:
        id: its id. name: the plan's name. plan_path: where the plan was read from. starter: who ran it.
        endpoint: identity of the endpoint; endpoint_name: its name at the provider.
        provider: the provider's name. bundle: sha256 of the pinned bundle.
        phase: see `orchestrator.lifecycle`. stage: index of the current stage; len(stages) after the last.
        stages: a record for each. progress: of the current one.
        roles: who is who. expected: what we last made of the world.
        intents: those not finished, by key. intended: how many there ever were.
        epoch: of the last driver. worker: who drives now, or None.
        no_return: stable is being, or was, deleted.
        parked: the candidate was taken out of traffic for the time of a pause.
        paused, paused_until: cause of the pause, and when it rolls back by itself.
        rollback: cause of the rollback. rollback_at: when it began.
        rollback_failure: what could not be undone.
        reason: why it paused, rolls back or ended.
        logs: where the candidate's logs were kept, "" when there were none.
        measurements: how many were fed.
        spent: bad live responses by the candidate so far, where there is a budget.
        set_aside: gates that a human set aside in any stage: where they only guard, they stay so.
        options: flags it was started with.
    """

    id: str
    name: str
    plan_path: str
    endpoint: str
    endpoint_name: str
    provider: str
    bundle: str
    phase: Phase
    roles: Roles
    stages: tuple[StageRecord, ...]
    expected: Snapshot
    starter: str
    started_at: datetime
    updated_at: datetime
    stage: int = 0
    progress: Progress = field(default_factory=Progress)
    intents: Mapping[str, Intent] = field(default_factory=dict)
    intended: int = 0
    epoch: int = 0
    worker: str | None = None
    no_return: bool = False
    parked: bool = False
    paused: PauseCause | None = None
    paused_until: datetime | None = None
    rollback: RollbackCause | None = None
    rollback_at: datetime | None = None
    rollback_failure: str | None = None
    reason: str | None = None
    waiting: Waiting | None = None
    logs: str | None = None
    measurements: int = 0
    spent: int = 0
    set_aside: tuple[str, ...] = ()
    options: Mapping[str, bool] = field(default_factory=dict)
    last_seq: int = 0

    @property
    def active(self) -> bool:
        """Whether it owns its endpoint."""
        return self.phase not in ("succeeded", "rolled_back", "failed")

    @property
    def advisory(self) -> bool:
        """Whether it only measures and judges, and changes nothing."""
        return bool(self.options.get("advisory"))

    @property
    def counted(self) -> frozenset[str]:
        """Deployments whose instance count the plan set."""
        return frozenset(self.expected.counts)

    @property
    def record(self) -> StageRecord | None:
        """The current stage's record, or None after the last."""
        return self.stages[self.stage] if self.stage < len(self.stages) else None


def apply(rollout: Rollout | None, event: Event) -> Rollout:
    """The rollout after the event. `rollout` is None before the first, which must be `Started`.

    Raises IllegalTransition when the event cannot happen in this phase, ValueError when the journal has a gap.
    """
    if rollout is None:
        return _start(event)
    if event.seq != rollout.last_seq + 1:
        raise ValueError(f"journal of {rollout.id}: event {event.seq} after {rollout.last_seq}")
    if not rollout.active and isinstance(event.body, Notified):
        return replace(rollout, last_seq=event.seq)  # somebody heard of its end; the end itself stays as it was
    if not rollout.active:
        raise IllegalTransition(f"journal of {rollout.id}: {event.body.kind} after its end ({rollout.phase})")
    changed = _fold(rollout, event)
    return replace(changed, last_seq=event.seq, updated_at=event.at)


def _start(event: Event) -> Rollout:
    body = event.body
    if not isinstance(body, Started) or event.seq != 1:
        raise ValueError(f"journal of {event.rollout}: it begins with {body.kind}, not with `started`")
    return Rollout(
        id=event.rollout,
        name=body.name,
        plan_path=body.plan_path,
        endpoint=body.endpoint,
        endpoint_name=body.endpoint_name,
        provider=body.provider,
        bundle=body.bundle,
        phase="pending",
        roles=body.roles,
        stages=tuple(StageRecord(name) for name in body.stages),
        expected=body.expected,
        starter=event.actor,
        started_at=event.at,
        updated_at=event.at,
        options=dict(body.options),
        last_seq=1,
    )


def _fold(rollout: Rollout, event: Event) -> Rollout:  # noqa: C901 - one case for each kind of event
    progress = rollout.progress
    match event.body:
        case Driven(worker=worker, epoch=epoch):
            phase = next_phase(rollout.phase, "start") if rollout.phase == "pending" else rollout.phase
            return replace(rollout, phase=phase, worker=worker, epoch=epoch)
        case Released():
            return replace(rollout, worker=None)
        case StageEntered(stage=stage, deadline=deadline):
            return replace(
                rollout,
                stages=_record(rollout, stage, state="running", started_at=event.at),
                parked=False,
                # Someone may have agreed in the moment between two stages.
                progress=Progress(entered_at=event.at, deadline=deadline, approved_by=progress.approved_by),
            )
        case Intended(intent=intent, irreversible=irreversible):
            return replace(
                rollout,
                intents={**rollout.intents, intent.key: intent},
                intended=rollout.intended + 1,
                no_return=rollout.no_return or irreversible,
            )
        case Begun(key=key, operation=operation):
            return _intent(rollout, replace(rollout.intents[key], operation=operation, state="begun", not_before=None))
        case Retried(key=key, attempt=attempt, not_before=not_before):
            intent = replace(rollout.intents[key], operation=None, state="open", attempt=attempt, not_before=not_before)
            return _intent(rollout, intent)
        case Ended() as ended:
            return _end(rollout, ended)
        case Reached(hold_until=hold_until, deadline=deadline, bad=bad, found=found):
            reached = replace(progress, reached_at=event.at, hold_until=hold_until, deadline=deadline)
            return replace(rollout, progress=reached, spent=rollout.spent + bad, expected=found or rollout.expected)
        case Measured(measurement=number, judgement=judgement, end=end, bad=bad):
            fed = replace(progress, judgement=judgement, measured_at=end, errors=0, last_error=None)
            return replace(rollout, progress=fed, measurements=number, spent=rollout.spent + bad)
        case MeasureFailed(reason=reason, count=count):
            return replace(rollout, progress=replace(progress, errors=count, last_error=reason, measured_at=event.at))
        case TaskTried(attempt=attempt, reason=reason, not_before=not_before):
            tried = replace(progress, task_attempt=attempt, task_not_before=not_before, task_detail=reason)
            return replace(rollout, progress=tried)
        case TaskEnded(ok=ok, detail=detail):
            return replace(rollout, progress=replace(progress, task_ok=ok, task_detail=detail, task_not_before=None))
        case Approved(despite=str(gate)):
            aside = (*progress.despite, *([gate] if gate not in progress.despite else []))
            ever = (*rollout.set_aside, *([gate] if gate not in rollout.set_aside else []))
            return replace(rollout, progress=replace(progress, despite=aside), set_aside=ever)
        case Approved(by=by):
            return replace(rollout, progress=replace(progress, approved_by=by))
        case Leaving(reason=reason):
            return replace(rollout, progress=replace(progress, leaving=True, passed=reason))
        case StageEnded(stage=stage, outcome=outcome, reason=reason):
            records = _record(rollout, stage, state=outcome, ended_at=event.at, reason=reason)
            if outcome not in ("passed", "skipped"):
                return replace(rollout, stages=records)
            return replace(rollout, stages=records, stage=stage + 1, progress=Progress(), waiting=None)
        case Waited(waiting=waiting):
            return replace(rollout, waiting=waiting)
        case Paused(cause=cause, reason=reason, until=until):
            return replace(
                _move(rollout, "pause"),
                paused=cause,
                paused_until=until,
                reason=reason,
                waiting=None,
                progress=_freeze(progress, event.at),
            )
        case Parked():
            # From here on a failure is one of taking the candidate out.
            return replace(rollout, parked=True, progress=replace(progress, failure=None))
        case Resumed() as resumed:
            return _resume(_move(rollout, "resume"), resumed)
        case Extended(seconds=seconds, deadline=deadline):
            longer = replace(progress, deadline=deadline, extended=progress.extended + seconds)
            return replace(rollout, progress=longer)
        case Adopted(new=new, stages=stages, options=options):
            kept = rollout.stages[: rollout.stage]
            anew = (*kept, *(StageRecord(name) for name in stages[len(kept) :]))
            options = rollout.options if options is None else options
            return replace(rollout, bundle=new, stages=anew, progress=Progress(), options=options)
        case RollbackBegan(cause=cause, reason=reason):
            moved = _move(rollout, "roll_back")
            state: StageOutcome = "undone" if cause in ("abort", "pause_limit") else "failed"
            current = rollout.record is not None and rollout.record.state == "running"
            return replace(
                moved,
                stages=_record(rollout, rollout.stage, state=state, ended_at=event.at, reason=reason)
                if current
                else moved.stages,
                rollback=cause,
                rollback_at=event.at,
                reason=reason,
                waiting=None,
                paused=None,
                paused_until=None,
                progress=replace(progress, measured_at=None, task_not_before=None),
            )
        case LogsSaved(where=where):
            return replace(rollout, logs=where or "")
        case Finished(phase=phase, reason=reason):
            triggers: dict[str, Trigger] = {"succeeded": "finish", "rolled_back": "undone", "failed": "fail"}
            unfinished = rollout.record is not None and rollout.record.state == "running"
            return replace(
                _move(rollout, triggers[phase]),
                stages=_record(rollout, rollout.stage, state="failed", ended_at=event.at, reason=reason)
                if unfinished
                else rollout.stages,
                reason=reason,
                waiting=None,
                worker=None,
                intents={},
                paused=None,
                paused_until=None,
            )
        case Commanded() | Notified():
            return rollout
    raise ValueError(f"journal of {rollout.id}: unknown event {event.body!r}")


def _end(rollout: Rollout, ended: Ended) -> Rollout:
    after = rollout.intents[ended.key].after if ended.outcome == "done" else ended.left
    rest = {key: intent for key, intent in rollout.intents.items() if key != ended.key}
    rollout = replace(rollout, intents=rest, expected=after if after is not None else rollout.expected)
    if ended.outcome != "failed":
        return rollout
    if rollout.phase == "rolling_back":
        return replace(rollout, rollback_failure=ended.reason)
    return replace(rollout, progress=replace(rollout.progress, failure=ended.reason))


def _move(rollout: Rollout, trigger: Trigger) -> Rollout:
    return replace(rollout, phase=next_phase(rollout.phase, trigger))


def _intent(rollout: Rollout, intent: Intent) -> Rollout:
    return replace(rollout, intents={**rollout.intents, intent.key: intent})


def _record(rollout: Rollout, stage: int, **changes: object) -> tuple[StageRecord, ...]:
    records = list(rollout.stages)
    records[stage] = replace(records[stage], **changes)  # type: ignore[arg-type]
    return tuple(records)


def _freeze(progress: Progress, at: datetime) -> Progress:
    def left(until: datetime | None, frozen: float | None) -> float | None:
        return max(0.0, (until - at).total_seconds()) if until is not None else frozen

    return replace(
        progress,
        hold_left=left(progress.hold_until, progress.hold_left),
        deadline_left=left(progress.deadline, progress.deadline_left),
        hold_until=None,
        deadline=None,
    )


def _resume(rollout: Rollout, resumed: Resumed) -> Rollout:
    progress = rollout.progress
    if resumed.restart:
        # What a human agreed to, and what was proven before, need not be said again.
        progress = Progress(
            entered_at=progress.entered_at,
            leaving=progress.leaving,
            passed=progress.passed,
            approved_by=progress.approved_by,
            despite=progress.despite,
            extended=progress.extended,
        )
    progress = replace(
        progress,
        hold_until=resumed.hold_until,
        deadline=resumed.deadline,
        hold_left=None,
        deadline_left=None,
        extended=progress.extended + (resumed.extended or 0.0),
        failure=None,
        errors=0,
        task_attempt=0,
        task_ok=None,
        task_not_before=None,
    )
    return replace(
        rollout,
        progress=progress,
        expected=resumed.expected if resumed.expected is not None else rollout.expected,
        parked=False,
        paused=None,
        paused_until=None,
        reason=None,
    )
