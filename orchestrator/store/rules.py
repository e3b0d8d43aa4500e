"""What every store must refuse, and in which words: shared, so that memory and SQL cannot drift apart."""

from collections.abc import Sequence
from dataclasses import replace

from orchestrator.errors import LeaseLost, StoreError, UnknownRollout, UsageError
from orchestrator.events import Driven, Event, Notified
from orchestrator.rollout import Rollout
from orchestrator.store.base import Commit, Worker


def stamp(rollout: Rollout, events: Sequence[Event], worker: str, epoch: int) -> tuple[Rollout, tuple[Event, ...]]:
    """A new rollout and its first events, once the store knows the epoch: replaying them gives the row again."""
    stamped = []
    for event in events:
        body = replace(event.body, epoch=epoch) if isinstance(event.body, Driven) else event.body
        stamped.append(replace(event, epoch=epoch, body=body))
    return replace(rollout, epoch=epoch, worker=worker), tuple(stamped)


def check_sequence(rollout: Rollout, events: Sequence[Event], last_seq: int) -> None:
    """The events go on where the journal ends. Raises StoreError: that would be our own mistake."""
    for number, event in enumerate(events, start=last_seq + 1):
        if event.seq != number or event.rollout != rollout.id:
            raise StoreError(
                f"the journal of rollout {rollout.id} ends at {last_seq}, event {event.seq} of {event.rollout} "
                "cannot follow: nothing was written; please report this"
            )
    if rollout.last_seq != last_seq + len(events):
        raise StoreError(
            f"rollout {rollout.id} counts {rollout.last_seq} events, its journal would have "
            f"{last_seq + len(events)}: nothing was written; please report this"
        )


def check_writer(commit: Commit) -> None:
    """All of the commit is about one rollout, under one epoch. Raises StoreError."""
    rollout = commit.rollout
    for event in commit.events:
        if event.epoch != rollout.epoch:
            raise StoreError(
                f"event {event.seq} of rollout {rollout.id} has epoch {event.epoch}, its writer has {rollout.epoch}: "
                "nothing was written; please report this"
            )


def postscript(commit: Commit, current: Rollout) -> bool:
    """Whether it only adds to the journal of a rollout that has ended, by the one who drove it last, who was told of
    its end. The endpoint is not its any more, and is not touched.
    """
    told = bool(commit.events) and all(isinstance(event.body, Notified) for event in commit.events)
    return told and not current.active and not commit.rollout.active and current.epoch == commit.rollout.epoch


def process(worker: Worker) -> str:
    """A worker for a person: `pid 4711 on host alpha`."""
    return f"pid {worker.pid} on host {worker.host}"


def lease_lost(rollout: str, driver: Worker | None, epoch: int) -> LeaseLost:
    """This epoch is over; says who drives now, as far as is known."""
    who = process(driver) if driver is not None else "another process, which let it go again,"
    return LeaseLost(
        f"rollout {rollout}: {who} took over (epoch {epoch}); this process has stopped before its next effect, "
        f"look with `rollout status {rollout}`"
    )


def too_late(rollout: str, driver: Worker | None) -> LeaseLost:
    """Somebody else was quicker."""
    who = f"is driven by {process(driver)} now" if driver is not None else "was let go by another process just now"
    return LeaseLost(f"rollout {rollout} {who}: try again, or look with `rollout status {rollout}`")


def ended(rollout: Rollout) -> UsageError:
    """Nothing can drive it any more."""
    return UsageError(
        f"rollout {rollout.id} has ended ({rollout.phase}): nobody can drive it any more; "
        "`rollout run` begins a new one"
    )


def occupied(endpoint: str, other: Rollout) -> UsageError:
    """One active rollout an endpoint."""
    return UsageError(
        f"endpoint {endpoint} already has an active rollout, {other.id} ({other.phase}): "
        f"let it end, `rollout resume {other.id}`, or `rollout abort {other.id}`"
    )


def unknown(rollout: str) -> UnknownRollout:
    """There is none."""
    return UnknownRollout(f"there is no rollout {rollout} in this store: `rollout list` shows those that are")


def unknown_worker(worker: str) -> StoreError:
    """It was never registered."""
    return StoreError(f"there is no worker {worker} in this store: it has to be registered before it can drive")


def unknown_bundle(sha256: str) -> StoreError:
    """It was never kept."""
    return StoreError(
        f"there is no bundle {sha256[:12]} in this store: "
        "it is damaged, or not the one that the rollout was started with"
    )


def spent(command: str, rollout: str) -> StoreError:
    """A command is consumed once, by its own rollout."""
    return StoreError(
        f"command {command} is not pending for rollout {rollout}: nothing was written; please report this"
    )


def torn(rollout: str) -> StoreError:
    """Some events of a commit are stored and some are not, or elsewhere: no commit of ours ever is."""
    return StoreError(
        f"the journal of rollout {rollout} has other events in this place: nothing was written; please report this"
    )


def let_go(rollout: Rollout) -> Rollout:
    """Nobody drives it."""
    return replace(rollout, worker=None)


def over(rollout: Rollout) -> LeaseLost:
    """Nothing can be written to it any more."""
    return LeaseLost(f"rollout {rollout.id} has ended ({rollout.phase}): nothing more can be written to it")
