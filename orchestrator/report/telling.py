"""Which events of a journal belong into a report: who did what, what others changed, what went wrong, and the story.

A journal of a long rollout has tens of thousands of polls, and a reader wants a page. Lists that grow with the length
of a rollout are cut in their middle, and say so.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from orchestrator.events import (
    Adopted,
    Begun,
    Ended,
    Event,
    Finished,
    LogsSaved,
    Measured,
    MeasureFailed,
    Notified,
    Paused,
    Reached,
    Released,
    Resumed,
    Retried,
    RollbackBegan,
    StageEntered,
    Started,
    TaskEnded,
    TaskTried,
    Waited,
)
from orchestrator.sentences import sentence

ENGINE = "engine"
MOST = 100
"""Lines of a list."""
MOST_OF_STORY = 600
LONGEST = 4000
"""Characters of one line, which may hold the last lines of a log."""
UNTOUCHED = "Nobody did anything but start it."
QUIET = "Nothing had to be tried again, and nothing could not be measured."
TOLD_WAITS = ("time", "approval", "provider", "human")
REPEATING = (RollbackBegan, Finished)
"""Give the reason of an event before; a log in it was told there."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line: when (None for a remark of ours), who, what; `chapter` where something new begins."""

    at: datetime | None
    who: str
    text: str
    chapter: bool = False


def people(events: Iterable[Event]) -> tuple[Entry, ...]:
    """What people did besides starting it: everything that the engine did not do by itself."""
    asked = [event for event in events if event.actor != ENGINE and not isinstance(event.body, Started)]
    return cut([_entry(event) for event in asked], MOST)


def drift(events: Iterable[Event]) -> tuple[Entry, ...]:
    """What others changed on the endpoint meanwhile, and what became of it."""

    def about(event: Event) -> bool:
        match event.body:
            case Paused(cause=cause):
                return cause == "drift"
            case Resumed(expected=expected):
                return expected is not None
        return False

    return cut([_entry(event) for event in events if about(event)], MOST)


def troubles(events: Iterable[Event]) -> tuple[Entry, ...]:
    """What did not go well: attempts that were repeated, measurements that failed or were lost, drivers that left."""

    def bad(event: Event) -> bool:
        match event.body:
            case Retried() | Released() | Ended(outcome="failed") | TaskEnded(ok=False) | Notified(ok=False):
                return True
            case TaskTried(reason=reason):
                return reason is not None
            case MeasureFailed(count=count):
                return count == 1 or count % 5 == 0
            case Measured(lost=lost):
                return lost
            case LogsSaved(where=where):
                return where is None
        return False

    return cut([_entry(event) for event in events if bad(event)], MOST)


def story(events: Sequence[Event]) -> tuple[Entry, ...]:
    """The journal in short: a poll is told when a verdict changes."""
    tells = _teller()
    return cut([_entry(event) for event in events if tells(event)], MOST_OF_STORY)


def cut(entries: Sequence[Entry], most: int) -> tuple[Entry, ...]:
    """At most so many entries: the first and the last ones, with a remark between them."""
    if len(entries) <= most:
        return tuple(entries)
    half = most // 2
    left_out = len(entries) - 2 * half
    remark = Entry(None, "", f"{left_out:,} more are left out here; `rollout history` has them all")
    return (*entries[:half], remark, *entries[-half:])


def shortened(text: str) -> str:
    """A text of a bearable length; what was cut off is told."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ... ({len(text) - LONGEST:,} more characters)"


def _entry(event: Event) -> Entry:
    said = sentence(event)
    if isinstance(event.body, REPEATING):
        said = said.splitlines()[0]
    chapter = isinstance(event.body, Started | StageEntered | RollbackBegan | Finished | Adopted)
    return Entry(event.at, event.actor, shortened(said), chapter)


def _teller() -> Callable[[Event], bool]:
    """Whether an event, coming next, is worth a line."""
    verdicts: tuple[tuple[str, str], ...] | None = None

    def tells(event: Event) -> bool:
        nonlocal verdicts
        match event.body:
            case Begun() | Ended(outcome="done") | TaskTried(reason=None) | Waited(waiting=None):
                return False
            case Reached(hold_until=until):
                return until is not None
            case Waited(waiting=waiting):
                return waiting is not None and waiting.kind in TOLD_WAITS
            case MeasureFailed(count=count):
                return count == 1 or count % 5 == 0
            case StageEntered():
                verdicts = None
            case Measured(judgement=judgement, lost=lost):
                before = verdicts
                verdicts = tuple((verdict.gate, verdict.verdict) for verdict in judgement.verdicts)
                return lost or verdicts != before
        return True

    return tells
