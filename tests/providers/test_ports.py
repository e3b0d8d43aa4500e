"""Ports are reserved by name, outside what the kernel gives away, by one user's processes together."""

import json
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from providers.errors import Permanent
from providers.local import ports
from providers.local.ports import PortRegistry, ephemeral_ports


@pytest.fixture
def registry(tmp_path: Path) -> PortRegistry:
    return PortRegistry(tmp_path / "home" / "ports.json")


def owner(tmp_path: Path, endpoint: str = "endpoint", name: str = "green-0") -> str:
    (tmp_path / endpoint).mkdir(exist_ok=True)
    return f"{tmp_path / endpoint}/{name}"


def test_reserved_ports_stay_with_their_owner(registry: PortRegistry, tmp_path: Path) -> None:
    first = registry.reserve(owner(tmp_path), 2)
    other = registry.reserve(owner(tmp_path, name="green-1"), 2)
    assert len({*first, *other}) == 4
    assert registry.reserve(owner(tmp_path), 2) == first
    assert registry.reserve(owner(tmp_path)) == first[:1]
    assert registry.reserve(owner(tmp_path), 3)[:2] == first
    again = PortRegistry(registry.path)  # another process would read the same file
    assert again.held(owner(tmp_path, name="green-1")) == other
    again.release(owner(tmp_path, name="green-1"))
    assert registry.held(owner(tmp_path, name="green-1")) == ()
    assert not {*first, *other} & {*ephemeral_ports()}
    for path in (registry.path, registry.path.with_name("ports.json.lock")):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_an_owner_keeps_its_port_while_it_listens_there(registry: PortRegistry, tmp_path: Path) -> None:
    (port,) = registry.reserve(owner(tmp_path))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", port))
        listener.listen()
        assert registry.reserve(owner(tmp_path)) == (port,)


def test_ports_of_strangers_are_skipped(tmp_path: Path) -> None:
    (port,) = PortRegistry(tmp_path / "a.json").reserve(owner(tmp_path))
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # as a foreign Envoy does
        listener.bind(("0.0.0.0", port))
        listener.listen()
        assert PortRegistry(tmp_path / "b.json").reserve(owner(tmp_path)) != (port,)
    assert PortRegistry(tmp_path / "c.json").reserve(owner(tmp_path)) == (port,)


def test_reservations_of_a_removed_directory_are_reclaimed(
    registry: PortRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = owner(tmp_path, "old")
    registry.reserve(old)
    (tmp_path / "old").rmdir()
    registry.reserve(owner(tmp_path))
    assert registry.held(old) == ()
    with pytest.raises(ValueError, match="existing directory"):
        registry.reserve(old)
    with pytest.raises(ValueError, match="existing directory"):
        registry.reserve("green-0")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"20000": 3}', '{"x": "y"}', "\xff"])
def test_a_corrupt_file_is_put_aside(registry: PortRegistry, tmp_path: Path, text: str) -> None:
    registry.reserve(owner(tmp_path))
    for number in (1, 2):
        registry.path.write_bytes(text.encode("latin-1"))
        assert registry.held(owner(tmp_path)) == ()
        assert len(registry.reserve(owner(tmp_path))) == 1
        assert registry.path.with_name(f"ports.json.corrupt-{number}").read_bytes() == text.encode("latin-1")
    assert json.loads(registry.path.read_text())


def test_many_processes_at_once_never_get_the_same(registry: PortRegistry, tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from providers.local.ports import PortRegistry
registry, owner = PortRegistry(Path(sys.argv[1])), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
print(*[port for n in range(25) for port in registry.reserve(f"{owner}-{n}", 2)])
"""
    children = [
        subprocess.Popen(
            [sys.executable, "-c", code, registry.path, owner(tmp_path, name=f"p{n}")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd="/",
        )
        for n in range(4)
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write(b"go\n")
        child.stdin.flush()
    given = [int(port) for child in children for port in child.communicate(timeout=30)[0].split()]
    assert all(child.returncode == 0 for child in children)
    assert len(given) == len(set(given)) == 200
    kept = [port for p in range(4) for n in range(25) for port in registry.held(owner(tmp_path, name=f"p{p}-{n}"))]
    assert sorted(kept) == sorted(given)  # no write was lost


def test_the_kernels_range_is_avoided(tmp_path: Path) -> None:
    source = tmp_path / "range"
    source.write_text("15000\t28000\n")
    avoid = ephemeral_ports(source)
    assert (avoid[0], avoid[-1]) == (15000, 28000)
    assert 28000 < PortRegistry(tmp_path / "a.json", avoid).reserve(owner(tmp_path))[0] < 30000
    low = PortRegistry(tmp_path / "b.json", range(10000, 65536)).reserve(owner(tmp_path))[0]
    assert 1024 <= low < 10000
    assert PortRegistry(tmp_path / "c.json", range(1024, 65536)).reserve(owner(tmp_path))
    assert ephemeral_ports(tmp_path / "missing") == ports.LINUX_DEFAULT


def test_no_port_left_says_what_to_do(tmp_path: Path) -> None:
    registry = PortRegistry(tmp_path / "ports.json", range(1_024, 29_998))
    with pytest.raises(Permanent, match="delete endpoints that are no longer needed"):
        registry.reserve(owner(tmp_path), 3)
    assert registry.held(owner(tmp_path)) == ()
