"""Keeps the processes of one endpoint running, and can itself be killed at any moment without disturbing one of them.

Every supervisor we measured takes its children down, or starts them twice, when it is killed. This one has nothing to
lose: what is wanted stands in `procs/NAME.json`, what runs stands in `procs/NAME.lock` (an flock that lives as long as
the process, see `launch`), and one function makes the second into the first. A keeper that starts finds living
processes and *adopts* them by pid and start time. Memory holds only what may be forgotten: how often each has exited.

    python -I -S keeper.py ENDPOINT_DIRECTORY SOCKET [--detach] [--poll] [--log-limit=BYTES]

    procs/NAME.json    {"argv": [...], "env": {...}, "log": path, "cwd": path or null, "stop_s": seconds, "mark": text}
    procs/NAME.lock    who runs it (launch.Holder)
    procs/keeper.lock  who keeps; a second keeper exits with code 75
    procs/retired      the keeper exits when nothing is wanted and nothing runs any more

A changed desired file stops the old process and starts the new one; a removed one stops it. A file that cannot be read
changes nothing. A removed directory counts as removed files. A connection to the socket makes the keeper look at the
files at once, then it answers with one JSON object and closes:

    {"keeper": {"pid": 1, "protocol": 1},
     "processes": {NAME: {"pid": 2 or null, "up_s": 1.5 or null, "exits": 0, "last_exit": text or null}}}

`exits` counts the exits nobody asked for since the desired file was written, and begins again after a run of SETTLED_S.
A new keeper counts from 0, so it is a lower bound. SIGTERM ends the keeper alone.

Runs on the standard library, as `launch` does. Processes are watched through pidfds; where the system has none (or with
--poll) their start times are looked at ten times a second, which is less tested.
"""

# Why not pathlib: it would add a third to the start of every process. Why print: standard error is the log.
# ruff: noqa: PTH100, PTH103, PTH108, PTH110, PTH112, PTH118, PTH120, PTH123, PTH208, T201

import contextlib
import json
import os
import select
import signal
import socket
import sys
import time
from typing import Any

HERE = os.path.dirname(os.path.abspath(__file__))
if __package__:
    from providers.local import launch, rotation
else:  # run by its path: under -I its own directory is not on sys.path
    sys.path.append(HERE)
    import launch  # type: ignore[import-not-found,no-redef]
    import rotation  # type: ignore[import-not-found,no-redef]

PROTOCOL = 1
IDLE_S = 1.0  # the files are looked at this often even when nobody connects
SOON_S = 0.02  # when something is under way that nothing will wake us for
POLL_S = 0.1
QUICK_S = 10.0  # an exit after a shorter run delays the next start
SETTLED_S = 600.0  # longer than an init() may reasonably take: a later exit is not a failure to start
DELAYS_S = (0.0, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
LOG_LIMIT = 4 << 20
PAIR_LOG = "pairs.ndjson"  # written by the proxy; the name is `xds.PAIR_LOG`
PROXY_SOCKET = "envoy.sock"  # beside our own
# Stamp of a desired file, and what it says; None when that cannot be read at this moment.
Desired = tuple[tuple[int, int], dict[str, Any] | None]


def say(sentence: str) -> None:
    print(time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), sentence, file=sys.stderr, flush=True)


def exit_text(status: int) -> str:
    """What a wait status means, in words."""
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"signal {signal.Signals(-code).name}"
        return f"signal {-code}"
    meaning = {launch.UNUSABLE: " (its working directory or log cannot be used)", launch.NOT_RUN: " (it cannot be run)"}
    return f"exit code {code}{meaning.get(code, '')}"


class Process:
    """One name: what runs under it, and what this keeper remembers about it."""

    def __init__(self, procs: str, name: str, poll: bool) -> None:
        self.procs, self.name, self.poll = procs, name, poll
        self.lock = os.path.join(procs, f"{name}.lock")
        self.pid: int | None = None
        self.start = ""
        self.pidfd: int | None = None
        self.child = False
        self.kill_at: float | None = None  # set while it is being stopped
        self.stamp: tuple[int, int] | None = None
        self.exits = 0
        self.last_exit: str | None = None
        self.quick, self.not_before = 0, 0.0

    def watch(self, pid: int, start: str, *, child: bool) -> bool:
        """Begins to watch a process; False when it was gone before it could be watched."""
        pidfd = None
        if not self.poll:
            try:
                pidfd = os.pidfd_open(pid)
            except ProcessLookupError:
                return False
            except (AttributeError, OSError):
                self.poll = True
        if not child and launch.start_time(pid) != start:  # the pid may have changed hands before the pidfd was open
            if pidfd is not None:
                os.close(pidfd)
            return False
        self.pid, self.start, self.pidfd, self.child, self.kill_at = pid, start, pidfd, child, None
        return True

    def adopt(self) -> bool:
        holder = launch.Holder.read(self.lock)
        if holder is None or not holder.alive or not self.watch(holder.pid, holder.start, child=False):
            return False
        say(f"{self.name}: adopted pid {self.pid}")
        return True

    def spawn(self) -> None:
        command = [*launch.PYTHON, os.path.join(HERE, "launch.py"), self.procs, self.name]
        pid = os.posix_spawn(sys.executable, command, launch.allowed(dict(os.environ)))
        # Our own child keeps its pid until we wait for it, so it needs no proof of identity.
        self.watch(pid, launch.start_time(pid) or "", child=True)
        say(f"{self.name}: started pid {pid}")

    def ended(self) -> bool:
        if self.pidfd is not None:
            poll = select.poll()
            poll.register(self.pidfd, select.POLLIN)
            return bool(poll.poll(0))
        if self.pid is not None and self.child:
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        return self.pid is not None and launch.start_time(self.pid) != self.start

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            if self.pidfd is not None:
                signal.pidfd_send_signal(self.pidfd, number)
            elif self.pid is not None and (self.child or launch.start_time(self.pid) == self.start):
                os.kill(self.pid, number)

    def stop(self, now: float) -> None:
        """SIGTERM, and SIGKILL after the patience that the process was started with."""
        if self.kill_at is None:
            holder = launch.Holder.read(self.lock)
            self.kill_at = now + (holder.stop_s if holder is not None and holder.pid == self.pid else 10.0)
            say(f"{self.name}: stopping pid {self.pid}")
            self.signal(signal.SIGTERM)
        elif now >= self.kill_at:
            say(f"{self.name}: pid {self.pid} did not stop in time and is killed")
            self.signal(signal.SIGKILL)
            self.kill_at = now + 1.0

    def note_end(self, now: float) -> None:
        """Takes leave of a process that has ended: its exit, its group, and when the next may start."""
        assert self.pid is not None
        holder, text, up = launch.Holder.read(self.lock), "unknown, it was adopted", None
        with contextlib.suppress(OSError, ValueError):
            up = launch.up_s(self.start)
        if self.child:
            # Before we wait, the pid cannot belong to anybody else, nor can the group.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
            text = exit_text(os.waitpid(self.pid, 0)[1])
        refused = text == f"exit code {launch.REFUSED}" and (holder is None or holder.pid != self.pid)
        asked = self.kill_at is not None
        say(f"{self.name}: pid {self.pid} ended, {text}{', as asked' if asked else ''}")
        if self.pidfd is not None:
            os.close(self.pidfd)
        self.pid = self.pidfd = self.kill_at = None
        if refused:
            self.not_before = now + SOON_S
        elif not asked:
            self.exits = 1 if up is not None and up > SETTLED_S else self.exits + 1
            self.quick = 1 if up is not None and up > QUICK_S else self.quick + 1
            self.last_exit = text
            self.not_before = now + DELAYS_S[min(self.quick, len(DELAYS_S)) - 1]

    def forget_exits(self) -> None:
        self.exits, self.last_exit, self.quick, self.not_before = 0, None, 0, 0.0

    def report(self) -> dict[str, Any]:
        up = None
        if self.pid is not None:
            with contextlib.suppress(OSError, ValueError):
                up = round(launch.up_s(self.start), 3)
        return {"pid": self.pid, "up_s": up, "exits": self.exits, "last_exit": self.last_exit}


class Keeper:
    def __init__(self, directory: str, address: str, poll: bool, limit: int = rotation.LIMIT) -> None:
        self.procs, self.address, self.poll = os.path.join(directory, "procs"), address, poll
        proxy = os.path.join(os.path.dirname(address), PROXY_SOCKET)
        self.rotation, self.rotated = rotation.Rotation(os.path.join(directory, PAIR_LOG), proxy, limit), ""
        self.processes: dict[str, Process] = {}
        self.server = self.bind()
        self.wake, wakened = socket.socketpair()
        for end in (self.wake, wakened):
            end.setblocking(False)
        signal.set_wakeup_fd(wakened.fileno(), warn_on_full_buffer=False)
        self.wakened, self.leaving = wakened, False
        signal.signal(signal.SIGTERM, self.leave)
        signal.signal(signal.SIGINT, self.leave)

    def leave(self, *_: object) -> None:
        self.leaving = True

    def bind(self) -> socket.socket:
        os.makedirs(os.path.dirname(self.address), mode=0o700, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.address)
        server = socket.socket(socket.AF_UNIX)
        server.bind(self.address)
        server.listen(64)
        server.setblocking(False)
        return server

    def names(self, suffix: str) -> set[str]:
        """Raises OSError when the directory cannot be read: then nobody may conclude that nothing is wanted."""
        try:
            entries = os.listdir(self.procs)
        except FileNotFoundError:
            return set()
        return {entry.removesuffix(suffix) for entry in entries if entry.endswith(suffix) and entry[0] != "."}

    def desired(self) -> dict[str, Desired]:
        found: dict[str, Desired] = {}
        for name in self.names(".json"):
            stamp, spec = (0, 0), None
            try:
                with open(os.path.join(self.procs, f"{name}.json"), encoding="utf-8") as file:
                    status = os.fstat(file.fileno())
                    stamp, spec = (status.st_ino, status.st_mtime_ns), json.load(file)
                if not (isinstance(spec["argv"], list) and spec["argv"] and isinstance(spec["log"], str)):
                    spec = None
            except FileNotFoundError:
                continue
            except (OSError, ValueError, KeyError, TypeError):
                spec = None
            found[name] = (stamp, spec)
        return found

    def reconcile(self) -> tuple[bool, float]:
        """One pass; says whether nothing is wanted and nothing left, and after how many seconds to look again."""
        now, wanted, again = time.monotonic(), self.desired(), IDLE_S
        for name in sorted(wanted.keys() | (self.names(".lock") - {"keeper"}) | self.processes.keys()):
            if name not in self.processes:
                self.processes[name] = Process(self.procs, name, self.poll)
            process = self.processes[name]
            try:
                if process.pid is not None and process.ended():
                    process.note_end(now)
                wait = self.want(process, wanted[name], now) if name in wanted else self.unwant(process, now)
            except OSError as error:  # no descriptors, no memory, a full disk: the other processes still need us
                say(f"{name}: {error}")
                process.last_exit, wait = f"the keeper cannot handle it: {error}", 1.0
            again = min(again, max(0.0, wait))
        if self.poll or any(process.poll and process.pid for process in self.processes.values()):
            again = min(again, POLL_S)
        return not wanted and not self.processes, again

    def want(self, process: Process, desired: Desired, now: float) -> float:
        """Brings one wanted process nearer to its desired file; returns after how many seconds to look again."""
        stamp, spec = desired
        if spec is None:
            process.last_exit = "its desired file cannot be read; write it again"
        elif stamp != process.stamp:
            process.forget_exits()
            process.stamp = stamp
        if process.pid is None and not process.adopt():
            if now < process.not_before:
                return process.not_before - now
            if spec is None:
                return IDLE_S
            free = launch.take(process.lock)
            if free is None:  # strays, the threads of a dying leader, or a launcher that has not signed yet
                launch.kill_strays(process.lock)
                return SOON_S
            os.close(free)
            process.spawn()
        if spec is None:
            return IDLE_S
        holder = launch.Holder.read(process.lock)
        if holder is None or holder.pid != process.pid:
            return SOON_S  # the launcher is on its way
        if process.kill_at is not None or holder.digest != launch.digest(spec):
            process.stop(now)
            return (process.kill_at or now) - now
        return IDLE_S

    def unwant(self, process: Process, now: float) -> float:
        """Stops one unwanted process and everything it left; returns after how many seconds to look again."""
        if process.pid is not None or process.adopt():
            process.stop(now)
            return (process.kill_at or now) - now
        if not os.path.isdir(self.procs):
            del self.processes[process.name]
            return IDLE_S
        free = launch.take(process.lock)
        try:
            if launch.kill_strays(process.lock) or free is None:
                return SOON_S
            # Removed while locked: a launcher that waits for it sees that it locked a removed file.
            os.unlink(process.lock)
            del self.processes[process.name]
            return IDLE_S
        finally:
            if free is not None:
                os.close(free)

    def run(self) -> None:
        clients: list[socket.socket] = []
        while not self.leaving:
            try:
                empty, again = self.reconcile()
            except OSError as error:
                say(f"the directory cannot be read: {error}")
                empty, again = False, 1.0
            self.answer(clients)
            clients = []
            gone = not os.path.isdir(self.procs)
            if empty and (gone or os.path.exists(os.path.join(self.procs, "retired"))):
                say("nothing is left to keep" if gone else "retired")
                break
            poll = select.poll()
            for descriptor in (self.server.fileno(), self.wake.fileno()):
                poll.register(descriptor, select.POLLIN)
            for process in self.processes.values():
                if process.pidfd is not None:
                    poll.register(process.pidfd, select.POLLIN)
            poll.poll(again * 1000)
            with contextlib.suppress(BlockingIOError):
                self.wake.recv(4096)
            with contextlib.suppress(BlockingIOError, InterruptedError):
                while True:
                    clients.append(self.server.accept()[0])
            self.tidy()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.address)

    def answer(self, clients: list[socket.socket]) -> None:
        report = {"keeper": {"pid": os.getpid(), "protocol": PROTOCOL}}
        text = json.dumps({**report, "processes": {n: p.report() for n, p in self.processes.items()}}).encode()
        for client in clients:
            with contextlib.suppress(OSError):
                client.settimeout(0.5)
                client.sendall(text)
            client.close()

    def tidy(self) -> None:
        # Runtime directories get cleaned behind our back, at log-out for one.
        if not os.path.exists(self.address):
            with contextlib.suppress(OSError):
                old, self.server = self.server, self.bind()
                old.close()
        with contextlib.suppress(OSError):
            if os.fstat(2).st_size > LOG_LIMIT:
                os.ftruncate(2, 0)
        try:
            done = self.rotation.turn()
        except OSError as error:
            done = str(error)
        if done and done != self.rotated:
            say(f"{PAIR_LOG}: {done}")
        self.rotated = done


def claim(path: str) -> int:
    """The keeper's own lock; exits with 75 while another keeper lives, and waits for one that is dying."""
    until = time.monotonic() + 2.0
    while (descriptor := launch.take(path)) is None:
        holder = launch.Holder.read(path)
        if (holder is not None and holder.alive) or time.monotonic() > until:
            say("another keeper is at work")
            sys.exit(launch.REFUSED)
        time.sleep(0.01)
    launch.Holder(os.getpid(), launch.start_time(os.getpid()) or "", f"protocol {PROTOCOL}").write(descriptor)
    return descriptor


def main(directory: str, address: str, *options: str) -> None:
    os.umask(0o077)
    if "--detach" in options:
        if os.fork():
            os._exit(0)
        os.setsid()
        # Once more, with little in its environment: credentials would be readable in it for as long as a keeper lives.
        rest = [option for option in options if option != "--detach"]
        command = [*launch.PYTHON, os.path.abspath(__file__), directory, address, *rest]
        os.execve(sys.executable, command, launch.allowed(dict(os.environ)))  # noqa: S606
    os.chdir("/")
    # Inherited from a careless parent, an ignored SIGCHLD would hide how a child ended, a blocked SIGTERM would stick.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    descriptor = claim(os.path.join(directory, "procs", "keeper.lock"))
    limits = [int(option.partition("=")[2]) for option in options if option.startswith("--log-limit=")]
    Keeper(directory, address, "--poll" in options, *limits).run()
    os.close(descriptor)


if __name__ == "__main__":
    main(os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2]), *sys.argv[3:])
