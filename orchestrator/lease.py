"""Who may drive a rollout: one worker process at a time, and the next one soon after it is gone.

A lease belongs to a worker, not to a rollout, so that a process that drives many says once that it lives. Two clocks
never meet: the holder stops by its own monotonic clock before anybody may think it gone, and who waits measures by
*its* own how long the beat stood still. A holder that is provably dead (its process is gone, on this very machine) is
followed at once.

None of this alone keeps two drivers apart: the epoch does, compared in every commit and by the provider. The lease
makes it rare that one is stopped so.
"""

import asyncio
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from orchestrator.errors import LeaseLost, StoreError
from orchestrator.events import Driven
from orchestrator.rollout import Rollout
from orchestrator.store import rules
from orchestrator.store.base import Store, Worker

TTL = 15.0
"""Seconds for which a beat may stand still before another worker takes over."""

_LINUX = sys.platform.startswith("linux")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_MACHINE_IDS = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"))
_PID_NAMESPACE = Path("/proc/self/ns/pid")


def this_worker(token: Callable[[], str]) -> Worker:
    """The facts about this process by which others on this machine can tell whether it is gone.

    Args:
        token: makes an id that is unique for ever.

    Its `boot_id` is `machine/boot/pid namespace`: a host's name alone is no proof of being the same machine, and a pid
    means nothing outside of its namespace (containers). Where the system does not say one of them it is empty.
    """
    pid = os.getpid()
    machine = next(filter(None, map(_read, _MACHINE_IDS)), "")
    started = _process(pid)
    return Worker(
        id=token(),
        host=socket.gethostname(),
        boot_id=f"{machine}/{_boot_id()}/{_pid_namespace()}",
        pid=pid,
        pid_started=started or "",
    )


def provably_dead(worker: Worker, me: Worker) -> bool:
    """Whether `worker` cannot be running any more, as far as `me`, on this machine, can prove it.

    False when it lives, and also when nobody can know from here.
    """
    machine, boot, namespace = _parts(worker.boot_id)
    here, my_boot, my_namespace = _parts(me.boot_id)
    if worker.host != me.host or machine != here:
        return False
    if boot != my_boot:
        return bool(boot and my_boot)
    if not boot or namespace != my_namespace:
        return False
    started = _process(worker.pid)
    return started == _GONE or (started is not None and bool(worker.pid_started) and started != worker.pid_started)


async def take(
    store: Store,
    rollout: str,
    me: Worker,
    *,
    at_least: int,
    ttl: float = TTL,
    wait: bool = True,
    on_wait: Callable[[Worker, float], None] | None = None,
) -> Rollout:
    """Drive the rollout from now on.

    At once when nobody does or the holder is provably dead, else when its beat stood still for `ttl` seconds.

    Args:
        store: where it is.
        rollout: its id.
        me: who wants to drive.
        at_least: the epoch that the provider knows; ours becomes greater.
        ttl: seconds.
        wait: go on waiting while the holder is seen to live; otherwise raise then.
        on_wait: called at each look with the holder and the seconds after which it counts as gone.

    Raises:
        LeaseLost: without `wait`, the holder lives; the sentence says who it is.
        UsageError: the rollout has ended.
        UnknownRollout, StoreError: from the store.
    """
    loop = asyncio.get_running_loop()
    seen: tuple[str, int] | None = None
    since = loop.time()
    while True:
        looked = loop.time()
        current = await store.rollout(rollout)
        if not current.active:
            raise rules.ended(current)
        holder = None if current.worker is None else await store.worker(current.worker)
        # Standing still is counted from the end of the first look to the beginning of the last, so never for too long.
        if holder is not None and (holder.id, holder.beat) != seen:
            moved = seen is not None and seen[0] == holder.id
            if moved and not wait:
                raise LeaseLost(await _who(store, current, holder))
            seen, since, looked = (holder.id, holder.beat), loop.time(), loop.time()
        left = since + ttl - looked
        if holder is None or holder.id == me.id or left <= 0 or provably_dead(holder, me):
            try:
                return await store.acquire(rollout, worker=me, held_by=current.worker, at_least=at_least)
            except LeaseLost:
                seen = None
                continue
        if on_wait is not None:
            on_wait(holder, left)
        await asyncio.sleep(max(0.001, min(ttl / 30, left)))


class Patience:
    """How long to believe in a holder that cannot be proved dead: until its beat stood still for the TTL.

    For whoever looks for himself, at his own cadence, on the loop's clock.
    """

    def __init__(self, *, ttl: float = TTL) -> None:
        self._ttl = ttl
        self._seen: tuple[str, int] | None = None
        self._since = 0.0

    def over(self, holder: Worker) -> bool:
        """Whether it counts as gone; to be asked at each look."""
        now = asyncio.get_running_loop().time()
        if (holder.id, holder.beat) != self._seen:
            self._seen, self._since = (holder.id, holder.beat), now
        return now - self._since >= self._ttl


class Heartbeat:
    """Says every `ttl` / 5 seconds that this worker lives, and knows when nobody can be sure of it any more.

    Used as an async context manager around everything that needs the lease. The deadline is two thirds of the TTL after
    the *beginning* of the last beat that the store took, on the loop's clock, so it passes well before anybody else may
    take over.

    Args:
        store: where to beat.
        worker: who beats; it is registered on entry.
        ttl: seconds, the same for all workers of a store.
    """

    def __init__(self, store: Store, worker: Worker, *, ttl: float = TTL) -> None:
        self._store = store
        self._worker = worker
        self._ttl = ttl
        self._deadline = 0.0
        self._problem: BaseException | None = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Register and begin. Raises StoreError."""
        begun = asyncio.get_running_loop().time()
        await self._store.put_worker(self._worker)
        self._deadline = begun + self._ttl * 2 / 3
        self._task = asyncio.create_task(self._go_on(), name="heartbeat")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop beating. The lease itself is let go by `Store.release`."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            if not self._task.cancelled():
                self._task.result()  # it never ends by itself but for a mistake of ours, which must be seen

    def check(self) -> None:
        """Asked just before each effect. Raises LeaseLost when others may believe that this process is gone."""
        over = asyncio.get_running_loop().time() - self._deadline
        if over >= 0:
            why = f" ({self._problem})" if self._problem is not None else " (it was stopped or too busy)"
            raise LeaseLost(
                f"this process could not renew its lease for {over + self._ttl * 2 / 3:.0f} s{why}: it has stopped "
                "before its next effect, because another one may drive now; `rollout resume` goes on"
            ) from self._problem

    async def _go_on(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._ttl / 5)
            begun = loop.time()
            try:
                await self._store.beat(self._worker.id)
            except StoreError as error:
                self._problem = error  # the next beat may succeed; until then the deadline comes nearer
            else:
                self._problem = None
                self._deadline = begun + self._ttl * 2 / 3


_GONE = "gone"


def _process(pid: int) -> str | None:
    """When it started, as the kernel counts; `_GONE` when it does not run any more; None when that cannot be told."""
    if not _LINUX:
        return _process_elsewhere(pid)
    try:
        # Field 2 is the program's name in brackets, and may hold anything, brackets and spaces too: proc(5).
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return _GONE if not _signalable(pid) else None
    except OSError:
        return None
    state, started = fields[0], fields[19]
    return _GONE if state in ("Z", "X") else started


def _signalable(pid: int) -> bool:
    # With hidepid, /proc does not show other users' processes: only the kernel's answer to a signal is proof.
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _process_elsewhere(pid: int) -> str | None:
    import psutil  # noqa: PLC0415 - Linux does without it, and it would slow down every start

    try:
        process = psutil.Process(pid)
        return _GONE if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.3f}"
    except psutil.NoSuchProcess:
        return _GONE
    except psutil.Error:
        return None


def _boot_id() -> str:
    found = _read(_BOOT_ID)
    if found or _LINUX:
        return found
    import psutil  # noqa: PLC0415 - see above

    return f"{psutil.boot_time():.0f}"


def _pid_namespace() -> str:
    try:
        return str(_PID_NAMESPACE.readlink())
    except OSError:
        return ""


def _parts(boot_id: str) -> tuple[str, str, str]:
    machine, boot, namespace = [*boot_id.split("/"), "", ""][:3]
    return machine, boot, namespace


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8").strip()
    except OSError:
        return ""


async def _who(store: Store, rollout: Rollout, holder: Worker) -> str:
    since = ""
    for event in await store.events(rollout.id):
        if isinstance(event.body, Driven) and event.body.worker == holder.id:
            since = f" since {event.at:%Y-%m-%d %H:%M:%S} UTC"
    return (
        f"rollout {rollout.id} is driven by {rules.process(holder)}{since}: "
        f"watch it with `rollout watch {rollout.id}`, or stop that process first"
    )
