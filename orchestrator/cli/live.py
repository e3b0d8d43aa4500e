"""The live view on a real terminal, and the choice between it and plain lines."""

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.live import Live
from rich.text import Text

from orchestrator.cli.following import Face
from orchestrator.cli.frame import ASCII, Glyphs, frame
from orchestrator.cli.plain import Lines
from orchestrator.events import Event
from orchestrator.views import RolloutView

NARROWEST = 40


class Screen:
    """Draws the frame in place, again and again; the last one stays."""

    def __init__(self, console: Console, footer: str) -> None:
        self._console = console
        self._footer = footer
        self._live = Live(console=console, auto_refresh=False, vertical_overflow="crop")
        self._closed = False

    def show(self, view: RolloutView, events: Sequence[Event]) -> None:
        """Draw."""
        if self._closed:
            return
        if not self._live.is_started:
            self._live.start()
        size = self._console.size
        picture = frame(
            view,
            events,
            width=max(NARROWEST, size.width),
            height=size.height - 1,
            footer=self._footer if view.active else "",
            colour=not self._console.no_color and self._console.color_system is not None,
            glyphs=ASCII if self._console.options.ascii_only else Glyphs(),
        )
        self._live.update(picture, refresh=True)

    def say(self, message: str) -> None:
        """Replaces the footer: that is where one looks after a key."""
        self._footer = message
        if not self._live.is_started:
            self._console.print(Text(message, style="yellow"))

    def close(self) -> None:
        """The last frame stays on the screen; the cursor comes back."""
        if not self._closed:
            self._closed = True
            if self._live.is_started:
                self._live.stop()


class PlainFace:
    """The story, line by line."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines

    def show(self, view: RolloutView, events: Sequence[Event]) -> None:  # noqa: ARG002 - lines need the journal only
        """Print what is new."""
        self._lines.show(events)

    def say(self, message: str) -> None:
        """Print it."""
        self._lines.say(message)

    def close(self) -> None:
        """Nothing to put back."""


def face(*, footer: str, for_programs: bool) -> Face:
    """The live view where stdout is a terminal that can do it (not TERM=dumb), else lines.

    NO_COLOR takes the live view's colours only. For programs stdout is kept free: lines go to stderr.
    """
    if for_programs:
        return PlainFace(Lines(sys.stderr))
    console = Console(highlight=False)
    if console.is_terminal and not console.is_dumb_terminal:
        return Screen(console, footer)
    return PlainFace(Lines(sys.stdout))
