"""The live view on a real terminal, and the choice between it and plain lines."""

import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from rich.console import Console
from rich.live import Live
from rich.text import Text

from orchestrator.cli.following import Face
from orchestrator.cli.frame import frame
from orchestrator.cli.paint import ASCII, UNICODE, Glyphs
from orchestrator.cli.plain import Lines
from orchestrator.cli.terminal import in_foreground
from orchestrator.events import Event
from orchestrator.views import RolloutView

Footer = Callable[[RolloutView, int], str]
"""What stands at the bottom of a picture of so many columns."""
GRACE = 1.0
"""Seconds to wait for a terminal that stands still before it is left as it is."""


class Screen:
    """Draws the frame in place, again and again; the last one stays."""

    def __init__(self, console: Console, footer: Footer, glyphs: Glyphs) -> None:
        self._console, self._footer, self._glyphs = console, footer, glyphs
        self._lock = threading.Lock()
        self._live: Live | None = None
        self._size: tuple[int, int] | None = None
        self._said: str | None = None
        self._told: str | None = None
        self._gone = False

    def show(self, view: RolloutView | None, events: Sequence[Event], since: int) -> None:  # noqa: ARG002
        """Draw; nothing while another job has the terminal."""
        with self._lock:
            if self._gone or not in_foreground(self._descriptor()):
                return
            try:
                self._draw(view, events)
            except OSError:
                self._gone = True  # the terminal was closed; no rollout must die of that

    def say(self, message: str) -> None:
        """Takes the footer's place from now on: that is where one looks after a key."""
        self._said = message

    def suspend(self) -> None:
        """The last frame stays on the screen; the cursor comes back."""
        if self._lock.acquire(timeout=GRACE):
            try:
                self._end()
            finally:
                self._lock.release()

    def close(self) -> None:
        """As `suspend`, for good."""
        self.suspend()
        self._gone = True

    def _draw(self, view: RolloutView | None, events: Sequence[Event]) -> None:
        if view is None:
            if self._said is not None and self._said != self._told:
                self._console.print(Text(self._said, style="yellow"))
                self._told = self._said
            return
        width, height = self._console.size
        if self._live is not None and self._size != (width, height):
            # Nobody knows where the terminal has put the lines of the last frame: begin anew on an empty screen.
            self._end()
            self._console.clear()
        picture = frame(
            view,
            events,
            width=width,
            height=height,
            footer=(self._said or self._footer(view, width)) if view.active else "",
            colour=not self._console.no_color and self._console.color_system is not None,
            glyphs=self._glyphs,
        )
        if self._live is None:
            self._live = Live(
                console=self._console,
                auto_refresh=False,
                vertical_overflow="crop",
                # What is told on stderr stands above the frame, unless stderr goes elsewhere.
                redirect_stderr=sys.stderr is not None and sys.stderr.isatty(),
            )
            self._live.start()
        self._size = (width, height)
        self._live.update(picture, refresh=True)

    def _end(self) -> None:
        live, self._live = self._live, None
        if live is not None:
            try:
                live.stop()
            except OSError:
                self._gone = True

    def _descriptor(self) -> int:
        try:
            return self._console.file.fileno()
        except (OSError, ValueError):
            return -1


class PlainFace:
    """The story, line by line."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._lock = threading.Lock()
        self._said: deque[str] = deque()

    def show(self, view: RolloutView | None, events: Sequence[Event], since: int) -> None:  # noqa: ARG002
        """Print what is new."""
        with self._lock:
            self._lines.show(event for event in events if event.seq > since)
            self._tell()

    def say(self, message: str) -> None:
        """Print it, soon."""
        self._said.append(message)

    def suspend(self) -> None:
        """Nothing to put back."""

    def close(self) -> None:
        """Print what was said last."""
        if self._lock.acquire(timeout=GRACE):
            try:
                self._tell()
            finally:
                self._lock.release()

    def _tell(self) -> None:
        while self._said:
            self._lines.say(self._said.popleft())


def face(*, footer: Footer, for_programs: bool, environment: Mapping[str, str]) -> Face:
    """The live view where stdout is a terminal that can do it (not TERM=dumb), else lines.

    NO_COLOR takes the live view's colours only. For programs stdout is kept free: lines go to stderr.
    """
    if for_programs:
        return PlainFace(Lines(sys.stderr))
    console = Console(highlight=False)
    # Not `is_terminal`: with FORCE_COLOR a pipe is one to rich.
    if sys.stdout is not None and sys.stdout.isatty() and not console.is_dumb_terminal:
        return Screen(console, footer, glyphs(console, environment))
    return PlainFace(Lines(sys.stdout))


def glyphs(console: Console, environment: Mapping[str, str]) -> Glyphs:
    """Those of ASCII where the terminal's encoding has no others, or the user's locale is C by name."""
    plain = console.options.ascii_only or says_ascii(environment, coerced=bool(sys.flags.utf8_mode))
    return ASCII if plain else UNICODE


def says_ascii(environment: Mapping[str, str], *, coerced: bool) -> bool:
    """Whether the locale is C or POSIX by name.

    Python speaks UTF-8 then all the same (PEP 538, PEP 540), and leaves LC_CTYPE=C.UTF-8 in the environment: what it
    put there itself (`coerced`) does not count.
    """
    kind = environment.get("LC_CTYPE")
    if coerced and kind == "C.UTF-8" and not environment.get("LC_ALL"):
        kind = None
    return (environment.get("LC_ALL") or kind or environment.get("LANG")) in ("C", "POSIX")
