"""A terminal for tests: a real pty with a process in it, and a screen that shows what a person would see.

The screen understands exactly the sequences that the live view sends, and fails on any other; it also counts how often
a line ran over its right margin, because a view that is measured well never lets one.
"""

import codecs
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.cells import cell_len

TOKEN = re.compile(r"\x1b\[([?0-9;]*)([A-Za-z])|\x1b(.)|(\r)|(\n)|([^\x00-\x1f\x7f])|(.)", re.DOTALL)
# A session of its own, with the pty as its controlling terminal: only then do Ctrl-C and Ctrl-Z become signals.
SESSION = (
    "import fcntl, os, sys, termios\n"
    "os.environ.pop('LC_CTYPE', None)\n"  # which Python sets itself where the locale is C
    "os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execvp(sys.argv[1], sys.argv[1:])"
)


class Screen:
    """Rows of characters and a cursor, as large as the terminal; `wrapped` counts lines that ran over the margin."""

    def __init__(self, columns: int, rows: int) -> None:
        self.columns, self.rows = columns, rows
        self.lines = [[" "] * columns for _ in range(rows)]
        self.row = self.column = 0
        self.cursor = True
        self.wrapped = 0
        self._rest = ""

    @property
    def text(self) -> str:
        """What can be seen, without the blanks at the ends of lines."""
        return "\n".join("".join(line).rstrip() for line in self.lines).rstrip()

    def resize(self, columns: int, rows: int) -> None:
        """As xterm does it: what does not fit is cut off."""
        kept = [(line + [" "] * columns)[:columns] for line in self.lines][-rows:]
        self.lines = kept + [[" "] * columns for _ in range(rows - len(kept))]
        self.columns, self.rows = columns, rows
        self.row, self.column = min(self.row, rows - 1), min(self.column, columns - 1)

    def feed(self, text: str) -> None:
        """Show it."""
        text, self._rest = self._rest + text, ""
        unfinished = re.search(r"\x1b(\[[?0-9;]*)?$", text)
        if unfinished:
            text, self._rest = text[: unfinished.start()], text[unfinished.start() :]
        for match in TOKEN.finditer(text):
            parameters, command, other, back, down, character, control = match.groups()
            if command:
                self._command(parameters, command)
            elif back:
                self.column = 0
            elif down:
                self._down()
            elif character:
                self._put(character)
            elif (other, control) != (None, "\x07"):
                raise AssertionError(f"the screen was sent {match[0]!r}")

    def _put(self, character: str) -> None:
        width = cell_len(character)
        if not width:
            return
        if self.column + width > self.columns:
            self.wrapped += 1
            self.column = 0
            self._down()
        self.lines[self.row][self.column] = character
        for more in range(1, width):
            self.lines[self.row][self.column + more] = ""
        self.column += width

    def _down(self) -> None:
        if self.row == self.rows - 1:
            self.lines = [*self.lines[1:], [" "] * self.columns]
        else:
            self.row += 1

    def _command(self, parameters: str, command: str) -> None:
        match command, parameters:
            case "m", _:
                pass
            case "A", number:
                self.row = max(0, self.row - int(number or 1))
            case "K", "2":
                self.lines[self.row] = [" "] * self.columns
            case "J", "2":
                self.lines = [[" "] * self.columns for _ in range(self.rows)]
            case "H", "":
                self.row = self.column = 0
            case "h" | "l", "?25":
                self.cursor = command == "h"
            case "h" | "l", "?2004":
                pass  # a shell asks for bracketed paste
            case _:
                raise AssertionError(f"the screen was sent ESC [ {parameters} {command}")


class Terminal:
    """A pty, one process in it, and what its screen shows."""

    def __init__(self, columns: int = 100, rows: int = 40) -> None:
        self.master, self.slave = pty.openpty()
        self.screen = Screen(columns, rows)
        self.raw = ""
        self.process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._broken: AssertionError | None = None
        self._held, self._over = threading.Event(), threading.Event()
        self._set_size(columns, rows)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def start(self, *command: str, cwd: Path, env: Mapping[str, str], stdin: int | None = None) -> None:
        """Run a command on the pty; with a `stdin` of its own the pty is not its controlling terminal."""
        self.process = subprocess.Popen(
            [*command] if stdin is not None else [sys.executable, "-c", SESSION, *command],
            cwd=cwd,
            env={"TERM": "xterm-256color", **env},
            stdin=self.slave if stdin is None else stdin,
            stdout=self.slave,
            stderr=self.slave,
        )

    def type(self, keys: str) -> None:
        """As if typed; \\x03 is Ctrl-C."""
        os.write(self.master, keys.encode())

    def resize(self, columns: int, rows: int) -> None:
        """Also tells the process, as a terminal does."""
        with self._lock:
            self.screen.resize(columns, rows)
            self._set_size(columns, rows)

    def hold(self) -> None:
        """Take nothing more from the process, as a terminal does whose connection stands still."""
        self._held.set()

    def go_on(self) -> None:
        """Take everything again."""
        self._held.clear()

    def hang_up(self) -> None:
        """As when the terminal's window is closed. Again does no harm."""
        if not self._over.is_set():
            self._over.set()
            self._reader.join(10)
            os.close(self.slave)
            os.close(self.master)

    @property
    def text(self) -> str:
        """What the screen shows now."""
        with self._lock:
            if self._broken is not None:
                raise self._broken
            return self.screen.text

    @property
    def echoes(self) -> bool:
        """Whether what is typed is shown and read line by line, as a shell wants it."""
        modes = termios.tcgetattr(self.slave)[3]
        return bool(modes & termios.ECHO) and bool(modes & termios.ICANON)

    def until(self, what: str | Callable[[str], Any], seconds: float = 30.0) -> str:
        """Wait until the screen shows `what`, or fulfils it; returns what it shows then."""
        until = time.monotonic() + seconds
        shown = what if callable(what) else lambda text: what in text
        while not shown(text := self.text):
            assert time.monotonic() < until, f"after {seconds:g} s the screen still has not shown {what!r}:\n{text}"
            time.sleep(0.01)
        return text

    def ends(self, code: int, seconds: float = 30.0) -> str:
        """Wait for the end of the process, which must be `code`; returns what the screen shows then."""
        assert self.process is not None
        found = self.process.wait(seconds)
        until = time.monotonic() + 10
        while select.select([self.master], [], [], 0)[0] and time.monotonic() < until:
            time.sleep(0.005)
        assert found == code, f"ended with {found}, not {code}:\n{self.text}"
        return self.text

    def close(self) -> None:
        """End the process, if it still runs, and the pty."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        self.hang_up()

    def _set_size(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def _read(self) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        while not self._over.is_set():
            if self._held.is_set() or not select.select([self.master], [], [], 0.05)[0]:
                self._over.wait(0.01)
                continue
            with self._lock:  # so that nobody finds the pty empty before its screen is full
                text = decoder.decode(os.read(self.master, 65536))
                self.raw += text
                try:
                    self.screen.feed(text)
                except AssertionError as error:
                    self._broken = error
