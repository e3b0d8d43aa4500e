"""A rollout as lines that come one by one: for logs, pipes and terminals that cannot do more, and for `history`.

The journal holds every poll; a reader wants the story. `Story` leaves out what the next line says anyway, and repeats
figures only when a verdict changes or some time has passed.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import TextIO

from orchestrator.events import (
    Begun,
    Driven,
    Ended,
    Event,
    Finished,
    Measured,
    MeasureFailed,
    Paused,
    Reached,
    RollbackBegan,
    StageEnded,
    StageEntered,
    Started,
    TaskTried,
    Waited,
)
from orchestrator.sentences import sentence

MEASURED_EVERY = 10.0
"""Seconds after which figures are told again although no verdict changed."""
TOLD_WAITS = ("time", "approval", "provider", "human")
REPEATING = (RollbackBegan, Finished)
"""Give the reason of an event before; a log in it was told there."""
CHAPTERS = (Started, Driven, StageEntered, Paused, RollbackBegan, Finished)


class Story:
    """Picks from a journal, event by event, what is worth a line."""

    def __init__(self) -> None:
        self._verdicts: tuple[tuple[str, str], ...] | None = None
        self._told: datetime | None = None

    def tells(self, event: Event) -> bool:
        """Whether this event, coming next, is worth a line."""
        match event.body:
            case Begun() | Ended(outcome="done") | TaskTried(reason=None):
                return False
            case Waited(waiting=None) | Reached(hold_until=None):
                return False
            case Waited(waiting=waiting):
                return waiting is not None and waiting.kind in TOLD_WAITS
            case StageEntered():
                self._verdicts = self._told = None
                return True
            case Measured(judgement=judgement, lost=lost):
                verdicts = tuple((verdict.gate, verdict.verdict) for verdict in judgement.verdicts)
                late = self._told is None or (event.at - self._told).total_seconds() >= MEASURED_EVERY
                if not lost and (not verdicts or not (late or verdicts != self._verdicts)):
                    return False
                self._verdicts, self._told = verdicts, event.at
                return True
            case MeasureFailed(count=count):
                return count == 1 or count % 5 == 0
        return True

    def lines(self, events: Iterable[Event], form: str = "%H:%M:%S") -> Iterator[str]:
        """The lines for these events, with the local time in `form` before each; lines within a step are indented."""
        for event in events:
            if self.tells(event):
                yield line(event, form)


def line(event: Event, form: str = "%H:%M:%S") -> str:
    """One event as a line; further lines of its sentence (those of a log) are indented below it."""
    indent = "" if isinstance(event.body, CHAPTERS) else "    " if not isinstance(event.body, StageEnded) else "  "
    # What a human, a log or a plan said must not move the cursor of whoever reads it.
    said = [_legible(part) for part in sentence(event).split("\n")]
    first, *rest = [f"{event.at.astimezone().strftime(form)}  {indent}{said[0]}", *said[1:]]
    margin = " " * (len(first) - len(first.split("  ", 1)[1].lstrip()) + 2)
    if rest and isinstance(event.body, REPEATING):
        return first
    return "\n".join([first, *(f"{margin}{more}" for more in rest)])


def _legible(text: str) -> str:
    return "".join(c if c.isprintable() else " " if c == "\t" else "?" for c in text)


class Lines:
    """A face that prints the story as it happens; once nobody reads it, it is silent: no rollout must die of that."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self._story = Story()
        self._seen = 0

    def show(self, events: Iterable[Event]) -> None:
        """Print what is new in a journal that only grows."""
        for event in events:
            if event.seq > self._seen:
                self._seen = event.seq
                if self._story.tells(event):
                    self.say(line(event))

    def say(self, message: str) -> None:
        """One line of our own."""
        if self._stream is None:
            return
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        try:
            print(message.encode(encoding, "replace").decode(encoding), file=self._stream, flush=True)
        except (OSError, ValueError):  # ValueError: it was closed
            self._stream = None
