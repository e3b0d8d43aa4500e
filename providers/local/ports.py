"""Which port of this machine belongs to which process of which endpoint.

A port that is picked at random when a process starts is gone after a restart, and two endpoints that start at once pick
the same. So ports are reserved in one file per user, under a lock, for a process by name: a process that is respawned
finds its port again. They lie outside the range from which the kernel takes ports for outgoing connections, else a
client's connection could sit on one of ours while its owner restarts.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

from providers.errors import Permanent

FIRST, LAST = 20_000, 29_999
EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
LINUX_DEFAULT = range(32_768, 61_000)


def ephemeral_ports(source: Path = EPHEMERAL) -> range:
    """The ports the kernel gives to outgoing connections (ip-sysctl: ip_local_port_range, both ends included)."""
    try:
        first, last = (int(word) for word in source.read_text(encoding="ascii").split())
    except (OSError, ValueError):
        return LINUX_DEFAULT
    return range(first, last + 1)


class PortRegistry:
    """The ports of one user on this machine.

    An owner is `<absolute path of a directory>/<name of a process>`; when the directory is gone, so is the reservation.

    Args:
        path: the registry's JSON file; its directory is made, a lock file stands beside it.
        ephemeral: ports never to give out; by default what the kernel says.
    """

    def __init__(self, path: Path, ephemeral: range | None = None) -> None:
        self.path = path
        self._lock = path.with_name(f"{path.name}.lock")
        avoid = ephemeral_ports() if ephemeral is None else ephemeral
        # On a machine where outgoing connections may use all of our range: below it, at last in it.
        self._ports = (
            [port for port in range(FIRST, LAST + 1) if port not in avoid]
            or [port for port in range(1_024, FIRST) if port not in avoid]
            or list(range(FIRST, LAST + 1))
        )

    def reserve(self, owner: str, n: int = 1) -> tuple[int, ...]:
        """The owner's first n ports. What it already holds it keeps; what it lacks is reserved now.

        Raises:
            ValueError: the owner is no absolute path in an existing directory.
            Permanent: no port is left.
        """
        if not owner.startswith("/") or not Path(owner).parent.is_dir():
            raise ValueError(f"{owner!r} is not a name in an existing directory")
        with self._locked():
            entries = self._read()
            held, changed = self._held(entries, owner), False
            for port in [port for port, other in entries.items() if not Path(other).parent.is_dir()]:
                del entries[port]
                changed = True
            # Begin at a place of the owner's own: a port just released is then rarely given to another at once.
            start = int.from_bytes(hashlib.sha256(owner.encode()).digest()[:4], "big") % len(self._ports)
            for port in self._ports[start:] + self._ports[:start]:
                if len(held) >= n:
                    break
                if port not in entries and _bindable(port):
                    entries[port], changed = owner, True
                    held.append(port)
            if len(held) < n:
                raise Permanent(
                    f"no free port is left between {self._ports[0]} and {self._ports[-1]} for {Path(owner).name}: "
                    "delete endpoints that are no longer needed"
                )
            if changed:
                self._write(entries)
            return tuple(held[:n])

    def release(self, owner: str) -> None:
        """Gives all ports of an owner back; nothing happens when it holds none."""
        with self._locked():
            entries = self._read()
            left = {port: other for port, other in entries.items() if other != owner}
            if left != entries:
                self._write(left)

    def held(self, owner: str) -> tuple[int, ...]:
        """The ports of an owner, in the order in which they were reserved."""
        with self._locked():
            return tuple(self._held(self._read(), owner))

    @staticmethod
    def _held(entries: dict[int, str], owner: str) -> list[int]:
        return [port for port, other in entries.items() if other == owner]

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # A file of its own: the registry itself is replaced by each write.
        descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _read(self) -> dict[int, str]:
        try:
            raw = json.loads(self.path.read_bytes())
            if not isinstance(raw, dict) or not all(isinstance(owner, str) for owner in raw.values()):
                raise ValueError("not a mapping of ports to owners")
            return {int(port): owner for port, owner in raw.items()}
        except FileNotFoundError:
            return {}
        except ValueError:
            # Begin anew, and keep the evidence. Ports in use are still seen, because each candidate is bound as a test.
            number = 1
            while (aside := self.path.with_name(f"{self.path.name}.corrupt-{number}")).exists():
                number += 1
            self.path.replace(aside)
            return {}

    def _write(self, entries: dict[int, str]) -> None:
        descriptor, temporary = tempfile.mkstemp(dir=self.path.parent, prefix=".ports")  # mode 0600
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump({str(port): owner for port, owner in entries.items()}, file, indent=1)
        Path(temporary).replace(self.path)


def _bindable(port: int) -> bool:
    """Whether nobody listens there. Without SO_REUSEPORT: a foreign proxy that uses it would let us share its port."""
    with socket.socket(socket.AF_INET) as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
