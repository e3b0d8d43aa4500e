"""The log of mirrored requests is read to its end and once, though it is rotated, cut, or begun by another proxy."""

import asyncio
import json
import os
import signal
import stat
import sys
from typing import Any

import pytest
from pydantic import TypeAdapter

from providers.errors import Temporary
from providers.local import keeper, launch
from providers.local.processes import runtime_directory
from providers.local.rotation import Rotation
from providers.measurement import Measurement
from tests.providers.local.mirroring import CURSORS, NAME, QUERY, Told, mirrored

pytestmark = [pytest.mark.needs("linux", "envoy")]
ANOTHER = """
import asyncio, datetime, pathlib, sys
from pydantic import TypeAdapter
from providers.base import Context
from providers.local.provider import LocalProvider, Options
from providers.measurement import Cursor, Measurement, MeasureQuery

home, runtime = map(pathlib.Path, sys.argv[1:])
context = Context(home, lambda: datetime.datetime.now(datetime.UTC), str, runtime=runtime)
cursor = TypeAdapter(Cursor).validate_json(sys.stdin.buffer.read())
query = MeasureQuery("shop", ("green", "blue"))
measurement = asyncio.run(LocalProvider(Options(), context).measure(query, cursor))
sys.stdout.buffer.write(TypeAdapter(Measurement).dump_json(measurement))
"""


async def test_the_log_is_rotated_while_it_is_read(local: Any, wait_until: Any) -> None:
    measuring = await mirrored(local, 500)
    log = local.directory / "pairs.ndjson"
    # The keeper as it is, but with a small limit.
    first = local.processes.keeper_pid()
    os.kill(first, signal.SIGKILL)
    sockets = runtime_directory(local.directory, local.context.runtime)
    command = [*launch.PYTHON, keeper.__file__, str(local.directory), str(sockets / "keeper.sock")]
    process = await asyncio.create_subprocess_exec(*command, "--log-limit=30000")
    inodes: list[int] = []
    try:

        async def keeps() -> bool:
            return bool(local.processes.keeper_pid() == process.pid)

        await wait_until(keeps, "the other keeper keeps")
        async with local.load(clients=4, pause=0.005) as load:

            async def rotations() -> bool:
                await measuring.poll()
                # A file system may give the number of a file that is gone to the next one.
                if log.exists() and (now := log.stat().st_ino) not in inodes[-1:]:
                    inodes.append(now)
                return len(inodes) >= 4

            await wait_until(rotations, "it was rotated three times", 30.0)
        assert not load.bad
        await measuring.told_all(wait_until)
        assert not measuring.told.missing
        assert measuring.told.classes == {("200", "200"): measuring.told.copies["200"]}
        for path in (log, local.directory / "pairs.ndjson.1"):
            if path.exists():
                assert stat.S_IMODE(path.stat().st_mode) == 0o600
                assert path.stat().st_size < 200_000
        assert sorted(p.name for p in local.directory.glob("pairs.*")) <= ["pairs.ndjson", "pairs.ndjson.1"]
    finally:
        process.terminate()
        await process.wait()


async def test_lines_that_were_lost_are_said(local: Any, wait_until: Any) -> None:
    measuring = await mirrored(local)
    log = local.directory / "pairs.ndjson"
    for _ in range(7):
        await local.ask()

    async def logged() -> bool:
        return log.exists() and len(log.read_bytes().splitlines()) == 14

    await wait_until(logged, "all are logged")
    log.write_bytes(b"")
    for _ in range(3):
        await local.ask()
    await measuring.told_all(wait_until, 10)
    assert measuring.told.missing == {"dropped": 7}
    assert measuring.told.classes == {("200", "200"): 3}


async def test_a_proxy_of_an_earlier_version_joins_nothing(local: Any) -> None:
    measuring = await mirrored(local)
    bootstrap = local.directory / "bootstrap.json"
    bootstrap.write_text(bootstrap.read_text().replace("%EMIT_TIME(%s.%6f)%", "-"))
    assert measuring.cursor is not None
    measurement = await local.provider.measure(QUERY, CURSORS.validate_json(measuring.cursor))
    assert (measurement.pairs, measurement.lost) == (None, False)


async def test_nothing_that_a_client_sends_is_in_the_log(local: Any, wait_until: Any) -> None:
    measuring = await mirrored(local)
    keys = await local.provider.keys(NAME)
    answer = await local.http(
        key=f"Bearer {keys.primary}", x_request_id="chosen-by-client", x_rollout_pair="no", user_agent='x"},{'
    )
    assert answer.status_code == 200
    await measuring.told_all(wait_until, 1)
    assert measuring.told.classes == {("200", "200"): 1}
    for line in (local.directory / "pairs.ndjson").read_text().splitlines():
        entry = json.loads(line)
        assert set(entry) == {"at", "end", "id", "cluster", "status", "flags", "us"}
        assert "client" not in line
        assert keys.primary not in line


async def test_a_proxy_that_is_away_keeps_nobody_from_rotating(local: Any) -> None:
    await local.build(local.spec("blue"))
    log = local.directory / "pairs.ndjson"
    log.write_bytes(b"x" * 100)
    nobody = str(local.directory / "nobody.sock")
    assert Rotation(str(log), nobody, 1000).turn() == ""
    alone = Rotation(str(log), nobody, 10)
    assert "cannot be told" in alone.turn()
    assert (log.exists(), (local.directory / "pairs.ndjson.1").read_bytes()) == (False, b"x" * 100)
    assert "cannot be told" in alone.turn(), "it is told again later"
    sockets = runtime_directory(local.directory, local.context.runtime)
    successor = Rotation(str(log), str(sockets / "envoy.sock"), 10)
    assert successor.turn() == "another file is begun"
    assert successor.turn() == "", "once is enough: Envoy opens it with its next line"


async def test_measuring_goes_on_in_another_process(local: Any, wait_until: Any) -> None:
    measuring = await mirrored(local)
    for _ in range(4):
        await local.ask()
    await measuring.poll()
    for _ in range(4):
        await local.ask()
    home, runtime = str(local.context.home), str(local.context.runtime)

    async def elsewhere() -> None:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", ANOTHER, home, runtime),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        answer, _ = await process.communicate(measuring.cursor)
        assert process.returncode == 0
        measurement = TypeAdapter(Measurement).validate_json(answer)
        measuring.told.add(measurement)
        measuring.cursor = CURSORS.dump_json(measurement.cursor)

    async def told() -> bool:
        await elsewhere()
        return measuring.told.classes.total() == 8

    await wait_until(told, "the other process joins what is left")
    await measuring.poll()
    assert measuring.told.classes == {("200", "200"): 8}
    assert not measuring.told.missing


async def test_a_proxy_that_starts_anew_joins_nothing_of_before(local: Any, wait_until: Any) -> None:
    measuring = await mirrored(local)
    for _ in range(5):
        await local.ask()
    os.kill(local.processes.pid("envoy"), signal.SIGKILL)

    async def back() -> bool:
        try:
            return (await measuring.poll()).lost
        except Temporary:
            return False

    await wait_until(back, "the proxy is back, and its loss is told")
    assert not measuring.told.classes

    async def answers() -> bool:
        try:
            return bool((await local.ask()).status == 200)
        except Temporary:
            return False

    await wait_until(answers, "green and blue answer again")
    await measuring.told_all(wait_until)
    measuring.told = Told()
    for _ in range(5):
        assert (await local.ask()).status == 200
    await measuring.told_all(wait_until, 5)
    assert measuring.told.classes == {("200", "200"): 5}
    assert not measuring.told.missing
