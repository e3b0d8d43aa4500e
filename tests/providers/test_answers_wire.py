"""What an instance hands over arrives once, whole or with its reason, and the instance never waits for it."""

import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from providers.local.scoring_host import LARGEST, Hand

pytestmark = pytest.mark.needs("linux")


@pytest.fixture
def runtime() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ro") as folder:
        path = Path(folder)
        (path / "runtime").write_text(folder)
        yield path


def listen(runtime: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(str(runtime / "answers.sock"))
    listener.listen(4)
    return listener


def headers(number: int) -> list[tuple[bytes, bytes]]:
    return [(b"host", b"a"), (b"x-rollout-pair", b"1"), (b"x-request-id", b"id-%d" % number)]


def came(connection: socket.socket) -> list[tuple[str, int]]:
    """(id and status and how, bytes of the body) of all that is there now."""
    found = []
    connection.setblocking(False)
    while True:
        try:
            message = connection.recv(LARGEST + 1024)
        except BlockingIOError:
            return found
        head, _, body = message.partition(b"\n")
        found.append((head.decode(), len(body)))


def test_answers_come_whole_or_with_their_reason(runtime: Path) -> None:
    hand = Hand(runtime / "runtime", b"green.0.g1")
    with listen(runtime) as listener:
        hand.give(headers(1), 200, b"x" * 10)
        hand.give(headers(2), 500, b"secret")
        hand.give(headers(3), 200, b"x" * LARGEST)
        hand.give(headers(4), 200, b"x" * (LARGEST + 1))
        hand.give(headers(5)[:2], 200, b"no id")
        hand.give([headers(6)[0], headers(6)[2]], 200, b"not marked")
        with listener.accept()[0] as connection:
            assert connection.recv(100) == b"answers green.0.g1"
            assert came(connection) == [
                ("id-1 200 whole", 10),
                ("id-2 500 whole", 0),
                ("id-3 200 whole", LARGEST),
                ("id-4 200 large", 0),
            ]
    hand.close()


def test_what_finds_no_room_is_told_as_lost(runtime: Path) -> None:
    hand = Hand(runtime / "runtime", b"green.0.g1")
    with listen(runtime) as listener:
        for number in range(40):
            hand.give(headers(number), 200, b"x" * (100 << 10))
        with listener.accept()[0] as connection:
            connection.recv(100)
            first = came(connection)
            assert 0 < len(first) < 40
            hand.give(headers(40), 200, b"x")
            rest = came(connection)
        heads = [head for head, _ in first + rest]
        assert sorted(int(head.split()[0][3:]) for head in heads) == list(range(41)), "each is told once"
        assert {head.split()[2] for head in heads[len(first) : -1]} == {"lost"}
        assert heads[-1] == "id-40 200 whole"
    hand.close()


def test_nobody_there_costs_nothing_and_somebody_new_is_found(runtime: Path) -> None:
    hand = Hand(runtime / "runtime", b"green.0.g1")
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    for number in range(50):
        hand.give(headers(number), 200, b"x")
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors
    with listen(runtime) as listener:
        hand.not_before = 0.0
        hand.give(headers(1), 200, b"x")
        with listener.accept()[0] as connection:
            connection.recv(100)
            assert came(connection) == [("id-1 200 whole", 1)]
        hand.give(headers(2), 200, b"x")  # it is gone, which only shows now
        hand.not_before = 0.0
        hand.give(headers(3), 200, b"x")
        with listener.accept()[0] as connection:
            connection.recv(100)
            assert came(connection) == [("id-3 200 whole", 1)]
    hand.close()
