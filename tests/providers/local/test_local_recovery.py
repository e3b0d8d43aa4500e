"""Somebody kills a part of an endpoint; the rest goes on, and the part comes back."""

import asyncio
import os
import signal
import sys
import textwrap
from typing import Any

import pytest

from providers.actions import Scale, SetTraffic
from providers.base import Done, Fence, Operation
from providers.errors import Temporary
from providers.measurement import MeasureQuery

pytestmark = [pytest.mark.needs("linux", "envoy")]
NAME = "shop"
FENCE = Fence("store-a", "rollout-1", 1)


async def test_a_killed_keeper_is_nobodys_loss(local: Any) -> None:
    await local.build(local.spec("blue"), local.spec("green"), traffic={"blue": 1000})
    pids = {name: status.pid for name, status in local.processes.status().items()}
    async with local.load() as load:
        for _ in range(3):
            os.kill(local.processes.keeper_pid(), signal.SIGKILL)
            assert (await local.state()).problem is None
            assert local.processes.keeper_pid() is not None
        os.kill(local.processes.keeper_pid(), signal.SIGKILL)
        await local.do(SetTraffic(NAME, {"blue": 500, "green": 500}))
        await local.do(Scale(NAME, "green", 2))
    assert not load.bad
    assert {name: status.pid for name, status in local.processes.status().items() if name in pids} == pids


async def test_a_killed_proxy_comes_back_as_it_was_and_says_what_it_lost(local: Any, wait_until: Any) -> None:
    await local.build(local.spec("blue", 2), local.spec("green"))
    await local.do(SetTraffic(NAME, {"blue": 1000}, {"green": 1000}))
    query = MeasureQuery(NAME, ("blue", "green"))
    cursor = (await local.provider.measure(query, None)).cursor
    for _ in range(5):
        await local.ask()
    os.kill(local.processes.pid("envoy"), signal.SIGKILL)

    async def answers() -> bool:
        try:
            return (await local.ask()).status == 200
        except Temporary:
            return False

    await wait_until(answers, "the proxy answers again")
    lost = await local.provider.measure(query, cursor)
    assert (lost.lost, lost.legs, lost.start) == (True, (), cursor.at)
    assert lost.cursor.incarnation != cursor.incarnation
    for _ in range(4):
        assert (await local.ask()).deployment == "blue"

    async def counted() -> bool:
        after = await local.provider.measure(query, lost.cursor)
        return (after.leg("blue", "live").requests, after.leg("green", "mirror").requests) == (4, 4)

    await wait_until(counted, "what came after is counted")

    async def whole() -> bool:
        state = await local.state()
        return (state.problem, state.deployments["blue"].healthy) == (None, 2)

    await wait_until(whole, "every member is healthy again")


async def test_a_killed_instance_is_replaced_and_shown_meanwhile(local: Any, wait_until: Any) -> None:
    await local.build(local.spec("blue", 2), traffic={"blue": 1000})
    before = local.processes.pid("blue.1")
    local.down("blue.1")

    async def missed() -> bool:
        return local.healthy("blue") == 1

    await wait_until(missed, "the proxy notices")
    # A rollback to what has served must pass with one healthy instance.
    await local.provider.begin(SetTraffic(NAME, {"blue": 1000}), key="back", fence=FENCE)
    for _ in range(5):
        assert (await local.ask()).status == 200

    async def back() -> bool:
        return (await local.state()).deployments["blue"].healthy == 2

    await wait_until(back, "the instance is back")
    assert local.processes.pid("blue.1") != before


async def test_what_a_dead_driver_began_is_finished_by_another(local: Any) -> None:
    """The driver is killed right after `begin`; whoever polls its operation completes it."""
    await local.build(local.spec("blue"), traffic={"blue": 1000})
    action = await local.put(local.spec("green", 2))
    driver = textwrap.dedent("""
        import asyncio, os, sys
        from pathlib import Path
        from datetime import UTC, datetime
        from pydantic import TypeAdapter
        from providers.base import Context, Fence, Operation
        from providers.local import operations
        from providers.local.provider import LocalProvider, Options

        operations.BEGIN_S = 0.0
        home, runtime = Path(sys.argv[1]), Path(sys.argv[2])
        context = Context(home=home, clock=lambda: datetime.now(UTC), token=lambda: "t" * 30, runtime=runtime)
        operation = TypeAdapter(Operation).validate_json(sys.stdin.read())

        async def main():
            await LocalProvider(Options(), context).begin(
                operation.action, key=operation.key, fence=Fence("store-a", "rollout-1", 1)
            )
            os.kill(os.getpid(), 9)

        asyncio.run(main())
    """)
    from pydantic import TypeAdapter

    operation = Operation("from-a-dead-driver", action)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        driver,
        str(local.context.home),
        str(local.context.runtime),
        stdin=asyncio.subprocess.PIPE,
    )
    await process.communicate(TypeAdapter(Operation).dump_json(operation, by_alias=True))
    assert process.returncode == -signal.SIGKILL
    assert (await local.state()).deployments["green"].healthy == 0
    assert isinstance(await local.end(operation), Done)
    assert (await local.state()).deployments["green"].healthy == 2


async def test_after_a_reboot_an_endpoint_is_started_by_hand(local: Any) -> None:
    await local.build(local.spec("blue", 2), traffic={"blue": 1000})
    url = (await local.state()).url
    # What a reboot leaves: files, and another boot id. The keeper goes first, or it would bring the rest back.
    pids = [status.pid for status in local.processes.status().values()]
    for pid in (local.processes.keeper_pid(), *pids):
        os.kill(pid, signal.SIGKILL)
    path = local.directory / "state.json"
    current = next(line for line in path.read_text().split('"') if line.count("-") == 4)
    path.write_text(path.read_text().replace(current, "00000000-0000-0000-0000-000000000000"))
    state = await local.state()
    assert state.problem is not None
    assert f"rollout endpoint start {NAME}" in state.problem
    assert local.processes.keeper_pid() is None
    started = await local.provider.start(NAME)
    assert (started.problem, started.url) == (None, url)

    async def answers() -> bool:
        return (await local.ask()).status == 200

    async with asyncio.timeout(10):
        while not await answers():
            await asyncio.sleep(0.05)
    assert (await local.state()).traffic == {"blue": 1000}
