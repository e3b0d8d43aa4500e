import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.errors import LeaseLost, StoreError, UnknownRollout, UsageError
from orchestrator.lease import TTL, Heartbeat, Patience, provably_dead, take, this_worker
from orchestrator.store.base import Worker
from orchestrator.store.memory import MemoryStore
from orchestrator.store.sql import SqlStore
from tests.engine.store_samples import Story, worker

ME = Worker("me", "beta", "m2/boot/ns", 1, "1")


@contextmanager
def process() -> Iterator[subprocess.Popen[bytes]]:
    """One that lives until it is told to end, and then stays a zombie until it is waited for."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def as_worker(child: subprocess.Popen[bytes], me: Worker) -> Worker:
    fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
    return replace(me, id="child", pid=child.pid, pid_started=fields[19])


async def ended(child: subprocess.Popen[bytes]) -> None:
    """Until it is a zombie: ended, and not waited for."""
    async with asyncio.timeout(30):
        while not Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].startswith(" Z"):
            await asyncio.sleep(0.01)


# --- facts about a process --------------------------------------------------------------------------------------


async def test_this_worker_is_this_process() -> None:
    me = this_worker(lambda: "token")
    assert (me.id, me.pid, me.beat) == ("token", os.getpid(), 0)
    assert me.host
    assert me.pid_started
    assert me == this_worker(lambda: "token")


@pytest.mark.needs("linux")
async def test_the_boot_id_is_the_kernels() -> None:
    assert Path("/proc/sys/kernel/random/boot_id").read_text().strip() in this_worker(lambda: "t").boot_id.split("/")


async def test_a_living_process_is_not_dead() -> None:
    me = this_worker(lambda: "me")
    assert not provably_dead(me, me)
    assert not provably_dead(replace(me, id="its parent", pid=os.getppid(), pid_started=""), me)


@pytest.mark.needs("linux")
async def test_dead_is_a_zombie_a_pid_without_a_process_and_a_pid_that_was_used_again() -> None:
    me = this_worker(lambda: "me")
    with process() as child:
        other = as_worker(child, me)
        assert not provably_dead(other, me)
        assert provably_dead(replace(other, pid_started="7"), me)
        child.kill()
        await ended(child)
        assert provably_dead(other, me)
        child.wait()
        assert provably_dead(other, me)


@pytest.mark.parametrize(
    ("changes", "dead"),
    [
        ({"boot_id": "m/other boot/ns"}, True),
        ({"boot_id": "m/other boot/ns", "host": "elsewhere"}, False),
        ({"boot_id": "another machine/other boot/ns"}, False),
        ({"boot_id": "m/boot/another container"}, False),
        ({"boot_id": "m//ns"}, False),
        ({"boot_id": ""}, False),
        ({"host": "elsewhere"}, False),
        ({}, True),
    ],
)
async def test_what_can_be_proved_from_here(changes: dict[str, str], dead: bool) -> None:
    with process() as child:
        pass
    me = replace(this_worker(lambda: "me"), boot_id="m/boot/ns")
    gone = replace(me, id="gone", pid=child.pid, pid_started="1")
    assert provably_dead(replace(gone, **changes), me) is dead


# --- taking -----------------------------------------------------------------------------------------------------


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore("test")


def clock() -> float:
    return asyncio.get_running_loop().time()


@pytest.mark.looptime
async def test_a_rollout_that_nobody_drives_is_taken_at_once(store: MemoryStore) -> None:
    await store.release(await Story().begin(store))
    taken = await take(store, "r1", ME, at_least=5)
    assert (taken.worker, taken.epoch, clock()) == ("me", 6, 0)


@pytest.mark.looptime
async def test_one_takes_again_what_one_has(store: MemoryStore) -> None:
    await Story().begin(store, ME)
    assert (await take(store, "r1", ME, at_least=0)).epoch == 2
    assert clock() == 0


@pytest.mark.looptime
@pytest.mark.parametrize("wait", [True, False])
async def test_a_silent_holder_elsewhere_is_followed_after_the_ttl(store: MemoryStore, wait: bool) -> None:
    await Story().begin(store, worker("w1"))
    looks: list[tuple[str, float]] = []
    taken = await take(store, "r1", ME, at_least=0, wait=wait, on_wait=lambda who, left: looks.append((who.id, left)))
    assert (taken.worker, taken.epoch) == ("me", 2)
    assert TTL <= clock() < TTL + 1
    assert looks[0] == ("w1", TTL)
    assert [left for _, left in looks] == sorted((left for _, left in looks), reverse=True)


@pytest.mark.looptime
async def test_a_holder_that_beats_keeps_it_and_loses_it_a_ttl_after_its_last_beat(store: MemoryStore) -> None:
    holder = worker("w1")
    await Story().begin(store, holder)
    waiting = asyncio.create_task(take(store, "r1", ME, at_least=0))
    async with Heartbeat(store, holder):
        await asyncio.sleep(100)
        assert not waiting.done()
    stopped = clock()
    await waiting
    assert TTL - TTL / 5 <= clock() - stopped <= TTL + 1


@pytest.mark.looptime
async def test_without_waiting_one_is_told_who_drives(store: MemoryStore) -> None:
    holder = worker("w1")
    story = Story()
    await story.begin(store, holder)
    await store.commit(story.drive())
    async with Heartbeat(store, holder):
        with pytest.raises(LeaseLost, match=r"driven by pid 4711 on host alpha since 2026-11-22 10:00:00 UTC"):
            await take(store, "r1", ME, at_least=0, wait=False)
    assert clock() <= TTL / 5 + 1
    assert (await store.rollout("r1")).epoch == 1


@pytest.mark.looptime
async def test_of_several_who_wait_one_follows_and_the_others_wait_on(store: MemoryStore) -> None:
    await Story().begin(store, worker("w1"))

    async def stand_by(n: int) -> str:
        me = replace(ME, id=f"me{n}", host=f"host{n}")
        handle = store.handle()
        async with Heartbeat(handle, me):
            taken = await take(handle, "r1", me, at_least=0)
            await asyncio.sleep(60)
            return str(taken.epoch)

    tasks = [asyncio.create_task(stand_by(n)) for n in range(3)]
    done, waiting = await asyncio.wait(tasks, timeout=80, return_when=asyncio.FIRST_COMPLETED)
    assert [task.result() for task in done] == ["2"]
    assert len(waiting) == 2
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)


@pytest.mark.looptime
async def test_what_ended_meanwhile_is_not_taken(store: MemoryStore) -> None:
    story = Story()
    await story.begin(store, worker("w1"))
    await store.commit(story.drive())
    waiting = asyncio.create_task(take(store, "r1", ME, at_least=0))
    await asyncio.sleep(5)
    await store.commit(story.finish())
    with pytest.raises(UsageError, match="has ended"):
        await waiting
    with pytest.raises(UnknownRollout):
        await take(store, "r9", ME, at_least=0)


@pytest.mark.needs("linux")
async def test_a_killed_process_on_this_machine_is_followed_at_once(tmp_path: Path) -> None:
    store = await SqlStore.open(f"sqlite:///{tmp_path / 'rollouts.db'}", token=lambda: "t")
    me = this_worker(lambda: "me")
    try:
        with process() as child:
            await Story().begin(store, as_worker(child, me))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(take(store, "r1", me, at_least=0), 0.3)
            child.kill()
            await ended(child)
            taken = await asyncio.wait_for(take(store, "r1", me, at_least=0), TTL / 2)
            assert (taken.worker, taken.epoch) == ("me", 2)
    finally:
        await store.aclose()


@pytest.mark.looptime
async def test_patience_ends_a_ttl_after_the_last_change() -> None:
    patience = Patience()
    assert not patience.over(worker())
    await asyncio.sleep(TTL - 1)
    assert not patience.over(worker())
    await asyncio.sleep(1)
    assert patience.over(worker())
    assert not patience.over(replace(worker(), beat=1))


# --- beating ----------------------------------------------------------------------------------------------------


class Flaky(MemoryStore):
    """A store that cannot be reached for a while."""

    down = False

    async def beat(self, worker: str) -> None:
        if self.down:
            raise StoreError("the disk is full")
        await super().beat(worker)


@pytest.mark.looptime
async def test_it_beats_five_times_a_ttl_and_stops_when_it_is_left(store: MemoryStore) -> None:
    async with Heartbeat(store, ME) as heartbeat:
        await asyncio.sleep(TTL * 2 + 0.1)
        heartbeat.check()
    beaten = await store.worker("me")
    assert beaten is not None
    assert beaten.beat == 10
    await asyncio.sleep(TTL)
    assert await store.worker("me") == beaten


@pytest.mark.looptime
async def test_a_store_that_comes_back_in_time_costs_nothing() -> None:
    store = Flaky("test")
    async with Heartbeat(store, ME) as heartbeat:
        store.down = True
        await asyncio.sleep(TTL * 2 / 3 - 0.1)
        heartbeat.check()
        store.down = False
        await asyncio.sleep(TTL / 5)
        heartbeat.check()
        await asyncio.sleep(TTL)
        heartbeat.check()


@pytest.mark.looptime
async def test_who_cannot_beat_stops_before_anybody_may_follow() -> None:
    store = Flaky("test")
    await Story().begin(store, ME)
    async with Heartbeat(store, ME) as heartbeat:
        await asyncio.sleep(TTL + 0.1)
        store.down = True
        last = clock() - 0.1
        waiting = asyncio.create_task(take(store, "r1", worker("w2"), at_least=0))
        await asyncio.sleep(TTL * 2 / 3 - 0.2)
        heartbeat.check()
        assert not waiting.done()
        await asyncio.sleep(0.2)
        with pytest.raises(LeaseLost, match="the disk is full"):
            heartbeat.check()
        assert not waiting.done()
        await waiting
        assert clock() - last >= TTL


@pytest.mark.looptime
async def test_a_process_that_was_stopped_notices_before_its_next_effect(store: MemoryStore) -> None:
    async with Heartbeat(store, ME) as heartbeat:
        heartbeat._deadline = clock()  # a loop that stood still wakes up past its deadline, before the task can beat
        with pytest.raises(LeaseLost, match="stopped or too busy"):
            heartbeat.check()


@pytest.mark.looptime
async def test_a_mistake_of_ours_in_beating_is_not_swallowed(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(_: str) -> None:
        raise ZeroDivisionError("a mistake")

    monkeypatch.setattr(store, "beat", broken)

    async def drive() -> None:
        async with Heartbeat(store, ME):
            await asyncio.sleep(TTL)

    with pytest.raises(ZeroDivisionError):
        await drive()
