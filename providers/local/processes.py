"""What the provider says to the keeper of an endpoint: which processes it wants, and how they are.

Wanting is writing a file, so it needs no keeper and survives one. The calls are synchronous with short, bounded waits;
nothing here waits for a process to become healthy. `want` and `unwant` only write: call `wake` after a batch of them,
and `ensure_keeper` whenever somebody looks at the endpoint, because a keeper may be killed at any time.

Desired files may hold secrets in `env`: they are readable by their owner only.
"""

import contextlib
import hashlib
import json
import os
import re
import signal
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from providers.errors import Permanent, Temporary
from providers.local import launch

KEEPER = Path(__file__).with_name("keeper.py")
SOCKET_LIMIT = 107  # bytes of a path in sockaddr_un, without the closing zero
ANSWER_S = 1.0
START_S = 10.0
DEAF_S = 3.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~-]*")


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """A process that is wanted.

    Attributes:
        argv: the program and its arguments; a bare program name is looked up on PATH.
        log: file that its standard output and error are appended to; its directory must exist.
        env: added to the few variables that instances inherit (`launch.ALLOWED`); may hold secrets.
        cwd: its working directory; None is the endpoint's directory.
        stop_s: seconds from SIGTERM to SIGKILL when it is no longer wanted.
        mark: any text, given to it as ROLLOUT_MARK.
    """

    argv: tuple[str, ...]
    log: Path
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    cwd: Path | None = None
    stop_s: float = 10.0
    mark: str = ""


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """How a process is.

    Attributes:
        pid: None while it is not running.
        up_s: seconds since it was started.
        exits: exits that nobody asked for, since its desired file was written; 0 where no keeper can be asked.
        last_exit: the last of them in words ("exit code 3", "signal SIGKILL"), or why it cannot be started.
        alive: whether it runs.
    """

    pid: int | None
    up_s: float | None
    exits: int
    last_exit: str | None
    alive: bool


class Processes:
    """The processes of one endpoint.

    Args:
        directory: the endpoint's directory; `procs/` and `keeper.log` are made in it.
        runtime: a short directory for the keeper's socket, see `runtime_directory`.

    Raises:
        Permanent: the socket's path would be too long for the system.
    """

    def __init__(self, directory: Path, runtime: Path) -> None:
        self.directory = directory.resolve()
        self.procs = self.directory / "procs"
        self.socket = socket_path(runtime, "keeper.sock")

    def want(self, name: str, spec: ProcessSpec, *, fresh: bool = False) -> None:
        """Writes what is wanted under a name. Another content replaces the running process.

        The same content changes nothing, unless `fresh`: then its exits are counted from 0 again.
        """
        if not _NAME.fullmatch(name) or name == "keeper":
            raise ValueError(f"{name!r} is no name for a process")
        self._make_directories()
        desired = {
            "argv": list(spec.argv),
            "env": dict(spec.env),
            "log": str(spec.log),
            "cwd": None if spec.cwd is None else str(spec.cwd),
            "stop_s": spec.stop_s,
            "mark": spec.mark,
        }
        text, path = json.dumps(desired, indent=1, sort_keys=True), self.procs / f"{name}.json"
        (self.procs / "retired").unlink(missing_ok=True)
        if not fresh and path.is_file() and path.read_text(encoding="utf-8") == text:
            return
        descriptor, temporary = tempfile.mkstemp(dir=self.procs, prefix=".", suffix=".tmp")  # mode 0600
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        Path(temporary).replace(path)

    def unwant(self, name: str) -> None:
        """Withdraws a name; the keeper stops its process and whatever that left behind."""
        (self.procs / f"{name}.json").unlink(missing_ok=True)

    def wanted(self) -> set[str]:
        """The names that are wanted."""
        return {path.stem for path in self._files(".json")}

    def status(self) -> dict[str, ProcessStatus]:
        """Every process that is wanted or still runs, from the keeper, or from the locks when there is no keeper."""
        report = self._ask()
        if report is None:
            return {name: self._from_lock(name) for name in sorted(self._names())}
        return {
            name: ProcessStatus(one["pid"], one["up_s"], one["exits"], one["last_exit"], one["pid"] is not None)
            for name, one in report["processes"].items()
        }

    def pid(self, name: str) -> int | None:
        """The pid of a process, None while it does not run; asks no keeper."""
        return self._from_lock(name).pid

    def keeper_pid(self) -> int | None:
        """The pid of the living keeper."""
        holder = launch.Holder.read(str(self.procs / "keeper.lock"))
        return holder.pid if holder is not None and holder.alive else None

    def wake(self) -> bool:
        """Makes the keeper look at the desired files now, and waits until it has; False when no keeper answers."""
        return self._ask() is not None

    def ensure_keeper(self) -> None:
        """Starts a dead keeper and waits until it answers. Safe when several do so at once: one keeper stays.

        A keeper that lives but does not answer for DEAF_S is replaced: that disturbs no process.

        Raises:
            Temporary: no keeper answered within START_S; its log says why.
        """
        if self._ask() is not None:
            return
        self._make_directories()
        now = time.monotonic()
        until, next_start = now + START_S, now
        deaf, deaf_from = self.keeper_pid(), now
        while now < until:
            if self.at_rest() and (self.procs / "retired").exists():
                return
            keeper = self.keeper_pid()
            if keeper != deaf:
                deaf, deaf_from = keeper, now
            if keeper is None and now >= next_start:
                self._start_keeper()
                next_start = now + 1.0
            if self._ask() is not None:
                return
            if keeper is not None and now > deaf_from + DEAF_S:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(keeper, signal.SIGKILL)
                next_start = now
            time.sleep(0.01)
            now = time.monotonic()
        raise Temporary(
            f"the keeper of {self.directory.name} does not answer; see {self.directory / 'keeper.log'}", retry_after=5.0
        )

    def retire(self) -> None:
        """Withdraws every process; the keeper stops them and then exits. Ask `at_rest` whether that is done."""
        self._make_directories()
        for path in self._files(".json"):
            path.unlink(missing_ok=True)
        (self.procs / "retired").touch(mode=0o600)
        self.ensure_keeper()

    def at_rest(self) -> bool:
        """Whether nothing of this endpoint lives any more: no process, no keeper."""
        return self.keeper_pid() is None and not any(self._from_lock(name).alive for name in self._names())

    def _files(self, suffix: str) -> list[Path]:
        return [path for path in self.procs.glob(f"*{suffix}") if not path.name.startswith(".")]

    def _names(self) -> set[str]:
        return self.wanted() | {path.stem for path in self._files(".lock")} - {"keeper"}

    def _make_directories(self) -> None:
        for path in (self.directory, self.procs, self.socket.parent):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _from_lock(self, name: str) -> ProcessStatus:
        holder = launch.Holder.read(str(self.procs / f"{name}.lock"))
        if holder is None or not holder.alive:
            return ProcessStatus(None, None, 0, None, alive=False)
        return ProcessStatus(holder.pid, round(launch.up_s(holder.start), 3), 0, None, alive=True)

    def _ask(self) -> dict[str, Any] | None:
        """The keeper's report, made after it has looked at the files; None when it cannot be had."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(ANSWER_S)
            try:
                client.connect(str(self.socket))
                chunks = []
                while chunk := client.recv(1 << 16):
                    chunks.append(chunk)
                report = json.loads(b"".join(chunks))
            except (OSError, ValueError):
                return None
        return report if isinstance(report, dict) and isinstance(report.get("processes"), dict) else None

    def _start_keeper(self) -> None:
        descriptor = os.open(self.directory / "keeper.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            # It detaches itself, so that it becomes nobody's zombie here.
            subprocess.run(
                [*launch.PYTHON, str(KEEPER), str(self.directory), str(self.socket), "--detach"],
                stdin=subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                cwd="/",
                timeout=START_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            pass  # the caller's own time is over as well, and it says so
        finally:
            os.close(descriptor)


def socket_path(runtime: Path, name: str) -> Path:
    """The path of a unix socket, made sure to be short enough.

    Raises:
        Permanent: it is longer than a socket's address may be.
    """
    path = runtime / name
    length = len(os.fsencode(path))
    if length > SOCKET_LIMIT:
        raise Permanent(
            f"the socket path {path} has {length} bytes, the system allows {SOCKET_LIMIT}: "
            "choose a shorter runtime directory"
        )
    return path


def runtime_directory(endpoint_directory: Path, base: Path | None = None) -> Path:
    """A short private directory for an endpoint's sockets, made if need be; the same for every caller.

    The first choice is written into the endpoint's directory (`runtime`), because callers differ in `base`: a login
    shell has XDG_RUNTIME_DIR, a cron job has none, and both must find the same sockets. It is chosen anew only when
    that place cannot be used any more.

    Args:
        endpoint_directory: the choice is remembered once it exists.
        base: XDG_RUNTIME_DIR; None, or one that cannot be used, means /tmp.

    Raises:
        Permanent: no candidate can be used: it belongs to another user, or is no directory.
    """
    endpoint_directory = endpoint_directory.resolve()
    pin = endpoint_directory / "runtime"
    leaf = hashlib.sha256(os.fsencode(endpoint_directory)).hexdigest()[:10]
    candidates = [Path("/tmp") / f"rollout-{os.getuid()}" / leaf]  # noqa: S108  (made private and checked below)
    if base is not None:
        candidates.insert(0, base / "rollout" / leaf)
    reasons: list[str] = []
    if (pinned := _read_pin(pin)) is not None:
        if _usable(pinned, reasons):
            return pinned
        pin.unlink(missing_ok=True)
    for candidate in candidates:
        if _usable(candidate, reasons):
            return _write_pin(pin, candidate) if endpoint_directory.is_dir() else candidate
    raise Permanent(f"no runtime directory can be used for {endpoint_directory.name}: {'; '.join(reasons)}")


def _read_pin(pin: Path) -> Path | None:
    try:
        path = Path(pin.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return path if path.is_absolute() else None


def _write_pin(pin: Path, chosen: Path) -> Path:
    """Writes the choice, unless another process was faster: then that one's choice counts."""
    descriptor, temporary = tempfile.mkstemp(dir=pin.parent, prefix=".runtime")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(str(chosen))
    try:
        pin.hardlink_to(temporary)
    except FileExistsError:
        return _read_pin(pin) or chosen
    finally:
        Path(temporary).unlink()
    return chosen


def _usable(candidate: Path, reasons: list[str]) -> bool:
    try:
        if not candidate.parent.parent.is_dir():
            raise NotADirectoryError(f"{candidate.parent.parent} is no directory")
        for path in (candidate.parent, candidate):
            _make_private(path)
        socket_path(candidate, "x" * 20)
    except (OSError, Permanent) as error:
        reasons.append(str(error))
        return False
    return True


def _make_private(path: Path) -> None:
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise PermissionError(f"{path} is not a directory of this user")
    if status.st_mode & 0o077:
        path.chmod(0o700)
