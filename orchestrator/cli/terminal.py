"""A terminal's modes, for as long as its keys are read one by one: taken with care, put back in every way out.

The modes belong to the terminal, not to this process: whoever forgets them leaves a shell that does not show what is
typed. They are taken only in the foreground (in the background the kernel would stop this process for trying), given
back before the process is stopped with Ctrl-Z, and taken again when it goes on.
"""

import os
import sys
from typing import Any, TextIO


def in_foreground(descriptor: int) -> bool:
    """Whether this process may use the terminal now; True where there is no job control."""
    try:
        group = os.tcgetpgrp(descriptor)
    except OSError:
        return True
    return group in (0, os.getpgrp())  # 0: the foreground is outside of this pid namespace


class Keyboard:
    """Keys without a return key and without an echo. Ctrl-C and Ctrl-Z stay what they are."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._before: list[Any] | None = None

    @staticmethod
    def of(stream: TextIO | None = None) -> "Keyboard | None":
        """That of `stream`, stdin by default; None when it is closed, or no terminal."""
        stream = sys.stdin if stream is None else stream
        try:
            return Keyboard(stream.fileno()) if stream is not None and stream.isatty() else None
        except (OSError, ValueError):
            return None

    @property
    def taken(self) -> bool:
        """Whether keys are read one by one now."""
        return self._before is not None

    def take(self) -> None:
        """Read keys one by one from now on, if this process is in the foreground. Again does no harm."""
        import termios

        if self._before is not None or not in_foreground(self.descriptor):
            return
        try:
            before = termios.tcgetattr(self.descriptor)
            modes = termios.tcgetattr(self.descriptor)
            modes[3] &= ~(termios.ECHO | termios.ICANON)
            modes[6][termios.VMIN], modes[6][termios.VTIME] = 1, 0
            # TCSANOW: the others wait for output to drain, and a terminal that stands still would hold up a driver.
            termios.tcsetattr(self.descriptor, termios.TCSANOW, modes)
        except termios.error:
            return  # it was hung up
        self._before = before

    def give_back(self) -> None:
        """As it was before. Again does no harm."""
        import termios

        before, self._before = self._before, None
        if before is None or not in_foreground(self.descriptor):
            return  # in the background the shell has set its own
        try:
            termios.tcsetattr(self.descriptor, termios.TCSANOW, before)
        except termios.error:
            pass  # hung up

    def read(self) -> bytes | None:
        """What was typed; None when nothing will ever come again."""
        try:
            return os.read(self.descriptor, 4096) or None
        except (BlockingIOError, InterruptedError):
            return b""
        except OSError:
            return None
