"""Steady clients of an endpoint, which remember every answer.

Threads with plain sockets: two hundred requests a second must not take the machine from what is tested.
"""

import socket
import threading
import time
from collections import Counter
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client got: when it asked and was answered (seconds since 1970), status or error, and from whom."""

    asked: float
    answered: float
    status: int | str
    deployment: str | None


class Client(threading.Thread):
    """One steady client on one kept connection; it goes on whatever happens, and remembers every answer."""

    def __init__(self, port: int, key: str, body: bytes, rate: float) -> None:
        super().__init__(daemon=True)
        self._address, self._rate = ("127.0.0.1", port), rate
        head = (
            "POST /score HTTP/1.1",
            "host: endpoint",
            f"authorization: Bearer {key}",
            f"content-length: {len(body)}",
        )
        self._request = "\r\n".join((*head, "", "")).encode() + body
        self._socket: socket.socket | None = None
        self._on = True
        self.answers: list[Answer] = []

    def stop(self) -> None:
        """After the answer that is waited for."""
        self._on = False

    def run(self) -> None:
        due = time.monotonic()
        while self._on:
            asked = time.time()
            try:
                status, deployment = self._ask()
            except OSError as error:
                status, deployment = repr(error), None
                self._close()
            self.answers.append(Answer(asked, time.time(), status, deployment))
            # What could not be sent in time is left out, rather than sent in a burst.
            due = max(due + 1 / self._rate, time.monotonic() - 0.1)
            time.sleep(max(0.0, due - time.monotonic()))
        self._close()

    def _ask(self) -> tuple[int, str | None]:
        if self._socket is None:
            self._socket = socket.create_connection(self._address, timeout=20)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(self._request)
        text = b""
        while b"\r\n\r\n" not in text:
            text += self._receive()
        head, _, body = text.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        while len(body) < int(headers["content-length"]):
            body += self._receive()
        if headers.get("connection") == "close":
            self._close()
        return int(first.split()[1]), headers.get("azureml-model-deployment")

    def _receive(self) -> bytes:
        assert self._socket is not None
        found = self._socket.recv(1 << 16)
        if not found:
            raise ConnectionResetError("closed before the answer")
        return found

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


@dataclass
class Clients:
    """A few clients together."""

    each: list[Client]

    @property
    def answers(self) -> list[Answer]:
        """All so far, in the order in which they were asked."""
        return sorted((answer for client in self.each for answer in list(client.answers)), key=lambda one: one.asked)

    @property
    def bad(self) -> list[Answer]:
        """Everything but 200."""
        return [answer for answer in self.answers if answer.status != 200]

    def between(self, start: float, end: float) -> Counter[tuple[int | str, str | None]]:
        """(status, who) -> answers that were asked for and given between two times."""
        return Counter(
            (answer.status, answer.deployment)
            for answer in self.answers
            if start <= answer.asked and answer.answered <= end
        )
