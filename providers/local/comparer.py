"""The comparing process of an endpoint: takes answers from the instances, and tells counts to whoever asks.

Run by the keeper as `python -P -m providers.local.comparer DIRECTORY` while something is mirrored and a gate asks for
predictions. Instances (`scoring_host`) connect to `answers.sock` in the endpoint's runtime directory and hand over
what they answered to mirrored requests and their twins; `measure` connects, asks for the counters and leaves. What is
to be compared stands in `answers.json` in the endpoint's directory. Bodies stay in this process's memory; neither files
nor its log ever hold one.

Messages (a packet each, SOCK_SEQPACKET), the first one of a connection says what it is for:

    answers DEPLOYMENT.NUMBER.GENERATION     then for each answer:  ID STATUS whole|large|lost NEWLINE BODY
    report                                   is answered with one or more packets of JSON, then closed
"""

import contextlib
import json
import os
import selectors
import socket
import sys
import time
from pathlib import Path
from typing import Any, cast

from providers.answers import LARGE, LOST
from providers.local import launch
from providers.local.joining import WHOLE, Answer, Joiner
from providers.measurement import Comparison

SOCKET = "answers.sock"
ASKED = "answers.json"
HELLO, REPORT = b"answers ", b"report"
PACKET = 1 << 16
"""Bytes of one packet of a report."""
_LONGEST_MESSAGE = (256 << 10) + 1024
_TICK_S = 0.25
_NICE = 5


def spec(raw: dict[str, Any]) -> Comparison:
    """One comparison as it stands in the file. Raises KeyError, TypeError or ValueError."""
    path = raw["path"]
    if not (path is None or isinstance(path, str)):
        raise TypeError("path is no text")
    return Comparison(path, float(raw["absolute"]), float(raw["relative"]), int(raw["examples"]))


class Comparer:
    """The loop; see the module.

    Args:
        directory: the endpoint's.
    """

    def __init__(self, directory: Path) -> None:
        self._directory, self._asked = directory, directory / ASKED
        self._stamp: tuple[int, int] | None = None
        self._joiner = Joiner()
        self._legs: dict[socket.socket, str] = {}
        self._selector = selectors.DefaultSelector()
        self._buffer = bytearray(_LONGEST_MESSAGE)
        self._path: Path | None = None
        self._listener: socket.socket | None = None
        self._incarnation = f"{os.getpid()}-{launch.start_time(os.getpid()) or ''}"

    def run(self) -> None:
        """Until a signal ends it."""
        looked = -_TICK_S
        while True:
            if (now := time.monotonic()) - looked >= _TICK_S:
                looked = now
                self._look(now)
            for key, _ in self._selector.select(_TICK_S):
                connection = cast(socket.socket, key.fileobj)
                if connection is self._listener:
                    self._accept()
                else:
                    self._read(connection)

    def _look(self, now: float) -> None:
        """What is asked for, and whether our socket is still where others look for it."""
        self._joiner.expire(now)
        with contextlib.suppress(OSError):
            place = Path((self._directory / "runtime").read_text(encoding="utf-8")) / SOCKET
            if place != self._path or not place.exists():
                self._listen(place)
        try:
            status = self._asked.stat()
            stamp = status.st_ino, status.st_mtime_ns
            if stamp == self._stamp:
                return
            found = json.loads(self._asked.read_bytes())
            self._joiner.ask({key: spec(raw) for key, raw in found["specs"].items()})
            self._stamp = stamp
        except FileNotFoundError:
            self._joiner.ask({})
            self._stamp = None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            # It will be written again; until then nothing is compared, which shows as nothing compared.
            self._joiner.ask({})

    def _listen(self, place: Path) -> None:
        if self._listener is not None:
            self._selector.unregister(self._listener)
            self._listener.close()
        with contextlib.suppress(FileNotFoundError):
            place.unlink()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.setblocking(False)
        self._listener.bind(str(place))
        self._listener.listen(64)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._path = place

    def _accept(self) -> None:
        assert self._listener is not None
        with contextlib.suppress(OSError):
            connection = self._listener.accept()[0]
            connection.setblocking(False)
            self._selector.register(connection, selectors.EVENT_READ)

    def _read(self, connection: socket.socket) -> None:
        try:
            size = connection.recv_into(self._buffer)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            size = 0
        message = memoryview(self._buffer)[:size]
        leg = self._legs.get(connection)
        if size == 0:
            self._close(connection)
        elif leg is not None:
            self._take(leg, message)
        elif bytes(message) == REPORT:
            self._report(connection)
        elif bytes(message[: len(HELLO)]) == HELLO:
            name = bytes(message[len(HELLO) :]).decode(errors="replace").split(".")
            self._legs[connection] = f"{name[0]}.{name[-1]}"
        else:
            self._close(connection)

    def _take(self, leg: str, message: memoryview) -> None:
        head, _, body = bytes(message).partition(b"\n")
        words = head.decode(errors="replace").split(" ")
        if len(words) != 3 or not words[1].isdecimal() or words[2] not in {WHOLE, LARGE, LOST}:
            return  # not from an instance of ours
        self._joiner.take(Answer(words[0], leg, int(words[1]), words[2], body), time.monotonic())

    def _report(self, connection: socket.socket) -> None:
        self._look(time.monotonic())  # who asks for something new and then for a report finds it taken up
        body = {"incarnation": self._incarnation, **self._joiner.report()}
        raw = json.dumps(body).encode()
        with contextlib.suppress(OSError):
            connection.settimeout(0.5)
            for start in range(0, len(raw), PACKET):
                connection.send(raw[start : start + PACKET])
        self._close(connection)

    def _close(self, connection: socket.socket) -> None:
        self._legs.pop(connection, None)
        self._selector.unregister(connection)
        connection.close()


def main(directory: str) -> None:
    """Run as a process; nothing that a body holds may reach the log, so an error is named by its kind alone."""
    with contextlib.suppress(OSError):
        os.nice(_NICE)  # those who wait for an answer come first
    comparer = Comparer(Path(directory))
    try:
        comparer.run()
    except KeyboardInterrupt:
        return
    except Exception as error:  # noqa: BLE001
        sys.stderr.write(f"comparer: {type(error).__name__}\n")
        sys.exit(1)


if __name__ == "__main__":
    main(sys.argv[1])
