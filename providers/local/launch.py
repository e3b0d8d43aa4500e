"""Becomes one process of an endpoint, in such a way that anybody can later tell whether it still lives.

A supervisor that remembers its children loses them when it dies. Here the memory is in the file system: the launcher
takes an flock on `procs/NAME.lock`, writes into it who it is, and execs the program. The descriptor is inherited, so
the kernel holds the lock exactly as long as the program (or something that it started) lives. No step of this depends
on the keeper staying alive, and a second launcher of the same name is refused.

Run by the keeper as `python -I -S launch.py PROCS_DIRECTORY NAME`; it keeps its pid when it execs. It reads what to run
from `procs/NAME.json` itself, so that neither the command nor its secrets pass through anybody's argument list.

Exit codes before the exec: 75 the name is taken, or no longer wanted; 126 the working directory or the log cannot be
used; 127 the program cannot be run. The reason stands in the process's log (before the log is open, in the keeper's).

The keeper imports the functions of this module. Both run without site-packages, hence: the standard library only
(psutil, lazily, where there is no /proc; that path is less tested).
"""

# Why not pathlib: it would add a third to the start of every process. Why print: standard error is the log.
# ruff: noqa: PTH100, PTH116, PTH118, PTH120, PTH123, PTH208, T201

import fcntl
import hashlib
import json
import os
import signal
import sys
import time
from typing import Any, NoReturn

REFUSED = 75
UNUSABLE = 126
NOT_RUN = 127
MARKER = "ROLLOUT_LOCK"
LINUX = sys.platform == "linux"
# Isolated from whatever stands in the environment and in site-packages; elsewhere psutil must be found.
PYTHON = (sys.executable, "-I", "-S") if LINUX else (sys.executable, "-I")
# What an instance gets from whoever happened to start the keeper. Everything else, above all credentials, stays out.
ALLOWED = frozenset({"PATH", "HOME", "LANG", "TZ", "TMPDIR", "VIRTUAL_ENV"})
_boot: list[str] = []


def allowed(environ: dict[str, str]) -> dict[str, str]:
    """The part of an environment that may reach an instance."""
    return {key: value for key, value in environ.items() if key in ALLOWED or key.startswith("LC_")}


def digest(spec: dict[str, Any]) -> str:
    """Sixteen hex digits over what makes two desired processes different; how patiently one is stopped does not."""
    text = json.dumps({key: value for key, value in spec.items() if key != "stop_s"}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def start_time(pid: int) -> str | None:
    """Tells a process from a later one with the same pid, across reboots too; None when it is gone or a zombie.

    A zombie counts as gone although its threads may still hold the lock for a moment: see `keeper`, which then retries.
    """
    if not LINUX:
        return _start_time_elsewhere(pid)
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        if not _boot:
            with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
                _boot.append(file.read()[:8])
    except OSError:
        return None
    return None if fields[0] in "ZX" else f"{fields[19]}@{_boot[0]}"


def up_s(start: str) -> float:
    """Seconds since the process with this start time began."""
    if not LINUX:
        return max(0.0, time.time() - float(start))
    with open("/proc/uptime", encoding="ascii") as file:
        return max(0.0, float(file.read().split()[0]) - int(start.partition("@")[0]) / os.sysconf("SC_CLK_TCK"))


class Holder:
    """Who holds, or last held, a lock: the content of the lock file.

    Attributes:
        pid, start: the process; `start` as from `start_time`.
        digest: of the desired process that it runs.
        stop_s: seconds between SIGTERM and SIGKILL.
    """

    __slots__ = ("digest", "pid", "start", "stop_s")

    def __init__(self, pid: int, start: str, digest: str = "", stop_s: float = 10.0) -> None:
        self.pid, self.start, self.digest, self.stop_s = pid, start, digest, stop_s

    @property
    def alive(self) -> bool:
        return start_time(self.pid) == self.start

    @classmethod
    def read(cls, lock: str) -> "Holder | None":
        try:
            with open(lock, "rb") as file:
                raw = json.loads(file.read())
            return cls(int(raw["pid"]), str(raw["start"]), str(raw["digest"]), float(raw["stop_s"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None  # never written, or being written at this moment

    def write(self, descriptor: int) -> None:
        # One write of a fixed length over the old text: a reader sees the old holder or the new one.
        text = json.dumps({key: getattr(self, key) for key in ("pid", "start", "digest", "stop_s")})
        os.pwrite(descriptor, text.ljust(255).encode() + b"\n", 0)


def take(path: str) -> int | None:
    """The descriptor of the exclusive lock on a file, made if need be; None while somebody else has it.

    A file that was removed between open and lock locks nothing that others can see, hence the comparison.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_ino == os.stat(path).st_ino:
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
        except FileNotFoundError:
            pass
        os.close(descriptor)


def kill_strays(lock: str) -> int:
    """Kills what earlier holders of this lock left behind, and says how many processes that were.

    A stray carries the lock's path in its environment, wherever it moved in the process tree. Call it only when no
    holder is alive, or by the launcher that holds the lock and has not yet become the program.
    """
    strays = [pid for pid in _marked(lock) if pid != os.getpid()]
    holder = Holder.read(lock)
    if holder is not None and holder.alive and holder.pid != os.getpid():
        return 0  # a launcher became the program meanwhile: these are its own
    for pid in strays:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    return len(strays)


def _marked(lock: str) -> list[int]:
    if not LINUX:
        return _marked_elsewhere(lock)
    mark, found = f"{MARKER}={lock}".encode(), []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/environ", "rb") as file:
                marked = mark in file.read().split(b"\0")
        except OSError:
            continue  # gone, or not ours
        if marked and start_time(int(entry)) is not None:
            found.append(int(entry))
    return found


def _start_time_elsewhere(pid: int) -> str | None:
    import psutil  # noqa: PLC0415

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else repr(process.create_time())
    except psutil.Error:
        return None


def _marked_elsewhere(lock: str) -> list[int]:
    import psutil  # noqa: PLC0415

    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARKER) == lock:
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def _say(sentence: str) -> None:
    print(f"rollout: {sentence}", file=sys.stderr, flush=True)


def _take_over(lock: str, patience_s: float = 2.0) -> int | None:
    """The lock, once strays and dying threads have let go of it; None when a living holder has it."""
    until = time.monotonic() + patience_s
    while (descriptor := take(lock)) is None:
        holder = Holder.read(lock)
        if (holder is not None and holder.alive) or time.monotonic() > until:
            return None
        kill_strays(lock)
        time.sleep(0.01)
    holder = Holder.read(lock)
    if holder is not None and holder.alive:  # it closed the inherited descriptor, as some servers do, but it lives
        os.close(descriptor)
        return None
    while kill_strays(lock) and time.monotonic() < until:
        time.sleep(0.01)
    return descriptor


def main(procs: str, name: str) -> NoReturn:
    os.umask(0o077)
    lock = os.path.join(procs, f"{name}.lock")
    descriptor = _take_over(lock)
    if descriptor is None:
        _say(f"{name} is not started: it already runs")
        sys.exit(REFUSED)
    try:
        with open(os.path.join(procs, f"{name}.json"), encoding="utf-8") as file:
            spec = json.load(file)
    except FileNotFoundError:
        _say(f"{name} is not started: it is no longer wanted")
        sys.exit(REFUSED)
    try:
        log = os.open(spec["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        os.chdir(spec.get("cwd") or os.path.dirname(os.path.abspath(procs)))
    except OSError as error:
        _say(f"{name} is not started: {error.filename}: {error.strerror}")
        sys.exit(UNUSABLE)
    try:
        os.setsid()
    except PermissionError:
        pass  # started by hand from a shell: already a leader
    start = start_time(os.getpid())
    assert start is not None
    Holder(os.getpid(), start, digest(spec), float(spec.get("stop_s", 10.0))).write(descriptor)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target, inheritable=True)
    # Python ignores SIGPIPE, and a keeper started under nohup ignores more: ignored signals survive an exec.
    for number in signal.valid_signals():
        try:
            signal.signal(number, signal.SIG_DFL)
        except (OSError, ValueError):
            continue  # SIGKILL and SIGSTOP
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    os.set_inheritable(descriptor, True)
    environment = {"PATH": os.defpath, **allowed(dict(os.environ)), **spec.get("env", {}), MARKER: lock}
    if spec.get("mark"):
        environment["ROLLOUT_MARK"] = str(spec["mark"])
    try:
        os.execvpe(spec["argv"][0], spec["argv"], environment)  # noqa: S606
    except OSError as error:
        _say(f"{spec['argv'][0]} cannot be run: {error.strerror}")
        os._exit(NOT_RUN)


if __name__ == "__main__":
    main(os.path.abspath(sys.argv[1]), sys.argv[2])
