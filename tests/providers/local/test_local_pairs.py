"""Each mirrored request is joined with its live twin once, or said to be missing, whatever happens in between."""

import asyncio
import json
import os
import signal
import stat
import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest
from pydantic import TypeAdapter

from providers.actions import DeleteDeployment, SetTraffic
from providers.errors import Temporary
from providers.local import keeper, launch
from providers.local.processes import runtime_directory
from providers.local.rotation import Rotation
from providers.measurement import RESET, TIMEOUT, Cursor, Measurement, MeasureQuery
from providers.specs import LocalRuntime, RequestSettings

pytestmark = [pytest.mark.needs("linux", "envoy")]
NAME = "shop"
QUERY = MeasureQuery(NAME, ("green", "blue"))
CURSORS = TypeAdapter(Cursor)

UNAVAILABLE = """
import http.server, os

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.answer(200)
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.answer(503)
    def answer(self, status):
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""
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


@dataclass
class Told:
    """What measurements told, added up.

    Attributes:
        classes: (copy, twin) -> pairs.
        missing: reason -> copies.
        copies: of the counters.
    """

    classes: Counter[tuple[str, str]] = field(default_factory=Counter)
    missing: Counter[str] = field(default_factory=Counter)
    copies: Counter[str] = field(default_factory=Counter)
    latencies: list[tuple[int | None, int | None, int]] = field(default_factory=list)

    def add(self, measurement: Measurement) -> None:
        assert measurement.pairs is not None
        for copy, twin, n in measurement.pairs.classes:
            self.classes[copy, twin] += n
        assert sum(n for _, _, n in measurement.pairs.latencies) == measurement.pairs.joined
        assert all(n > 0 for n in measurement.pairs.missing.values())
        self.missing.update(measurement.pairs.missing)
        self.copies.update(measurement.leg("green", "mirror").classes)
        self.latencies += measurement.pairs.latencies

    @property
    def of_copies(self) -> Counter[str]:
        """Joined pairs by the class of the copy."""
        found: Counter[str] = Counter()
        for (copy, _), n in self.classes.items():
            found[copy] += n
        return found

    @property
    def accounted(self) -> int:
        return self.classes.total() + self.missing.total()


class Measuring:
    """Measures again and again, each time with the cursor as another process reads it."""

    def __init__(self, local: Any, query: MeasureQuery = QUERY) -> None:
        self.local, self.query, self.told = local, query, Told()
        self.cursor: bytes | None = None
        self.largest = 0

    async def poll(self, provider: Any = None) -> Measurement:
        cursor = None if self.cursor is None else CURSORS.validate_json(self.cursor)
        measurement: Measurement = await (provider or self.local.provider).measure(self.query, cursor)
        self.cursor = CURSORS.dump_json(measurement.cursor)
        self.largest = max(self.largest, len(self.cursor))
        if cursor is None or measurement.lost:
            assert measurement.pairs is None
        else:
            self.told.add(measurement)
        return measurement

    async def told_all(self, wait_until: Any, copies: int | None = None) -> None:
        """Poll until every copy that was counted, and as many as there should be, is joined or missing."""

        async def told() -> bool:
            await self.poll()
            counted = self.told.copies.total()
            return self.told.accounted == counted and counted == (counted if copies is None else copies)

        await wait_until(told, f"all of {copies or ''} copies are told")


async def mirrored(local: Any, /, share: int = 1000, **green: Any) -> Measuring:
    await local.build(local.spec("blue"), local.spec("green", **green))
    await local.do(SetTraffic(NAME, {"blue": 1000}, {"green": share}))
    measuring = Measuring(local)
    await measuring.poll()
    return measuring


@pytest.mark.parametrize("share", [100, 500])
async def test_every_mirrored_request_is_joined_once(local: Any, wait_until: Any, share: int) -> None:
    measuring = await mirrored(local, share)
    other = local.open()
    async with local.load(clients=4) as load:
        while load.total < 1200:
            await measuring.poll(other)
            await asyncio.sleep(0.1)
    await other.aclose()
    await measuring.told_all(wait_until)
    told = measuring.told
    assert told.classes == {("200", "200"): told.copies["200"]}
    assert not told.missing
    assert told.copies.total() > 50
    assert all(copy and twin and len(str(copy).rstrip("0")) <= 3 for copy, twin, _ in told.latencies)
    before = told.classes.total()
    await measuring.poll()
    assert told.classes.total() == before, "what was told is not told again"
    assert measuring.largest < 20_000


async def test_one_measurement_tells_what_many_tell(local: Any, wait_until: Any) -> None:
    often = await mirrored(local, 500)
    once = Measuring(local)
    once.cursor = often.cursor
    async with local.load(clients=2) as load:
        while load.total < 300:
            await often.poll()
            await asyncio.sleep(0.05)
    await often.told_all(wait_until)
    await once.poll()
    assert (once.told.classes, once.told.copies) == (often.told.classes, often.told.copies)
    assert once.told.classes.total() > 0


async def test_the_classes_are_those_of_the_counters(local: Any, wait_until: Any) -> None:
    measuring = await mirrored(local, request_settings=RequestSettings(request_timeout_ms=500))
    wanted: Counter[tuple[str, str]] = Counter()
    for _ in range(5):
        await local.ask()
        await local.ask(**{"raise": 1})
        wanted.update([("200", "200"), ("500", "500")])
        await measuring.poll()
    for _ in range(2):
        # Slower than green may be: its copies time out, while their twins are still on their way.
        assert (await local.ask(sleep=0.8)).status == 200
        wanted[TIMEOUT, "200"] += 1
        await measuring.poll()
    await asyncio.sleep(0.5)
    assert (await local.ask(exit=1)).status == 503
    wanted[RESET, RESET] += 1
    await measuring.told_all(wait_until, 13)
    assert measuring.told.classes == wanted
    assert measuring.told.of_copies == measuring.told.copies
    slow = [(copy, twin) for copy, twin, _ in measuring.told.latencies if copy is None]
    assert Counter(twin is None for _, twin in slow) == {False: 2, True: 1}
    assert all(twin is None or twin >= 800_000 for _, twin in slow)


async def test_the_candidates_own_503_is_no_reset(local: Any, wait_until: Any) -> None:
    (local.base / "code" / "server.py").write_text(UNAVAILABLE)
    runtime = LocalRuntime(command=[sys.executable, "server.py"], health_path="/healthz")
    measuring = await mirrored(local, local=runtime)
    for _ in range(6):
        assert (await local.ask()).status == 200
    await measuring.told_all(wait_until, 6)
    assert measuring.told.classes == {("503", "200"): 6}
    assert measuring.told.copies == {"503": 6}


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


async def test_errors_of_the_candidate_alone(local: Any, wait_until: Any) -> None:
    measuring = await mirrored(local, environment_variables={"RAISE": "1"})
    for _ in range(8):
        assert (await local.ask()).status == 200
    await measuring.told_all(wait_until, 8)
    assert measuring.told.classes == {("500", "200"): 8}


async def test_a_slow_candidate_is_waited_for(local: Any, wait_until: Any) -> None:
    measuring = await mirrored(local, environment_variables={"SLEEP": "1.2"})
    for _ in range(3):
        assert (await local.ask()).status == 200
        await measuring.poll()
    assert not measuring.told.classes

    async def carried() -> bool:
        await measuring.poll()
        assert measuring.cursor is not None
        return len(CURSORS.validate_json(measuring.cursor).raw["~pairs"]["live"]) > 0

    await wait_until(carried, "live halves are carried")
    await measuring.told_all(wait_until, 3)
    assert measuring.told.classes == {("200", "200"): 3}
    assert not measuring.told.missing
    assert all(copy and twin and copy >= 1_200_000 > twin for copy, twin, _ in measuring.told.latencies)


async def test_copies_that_no_instance_gets_are_dropped(local: Any, wait_until: Any) -> None:
    measuring = await mirrored(local)
    for _ in range(4):
        await local.ask()
    local.down("green.0")

    async def unhealthy() -> bool:
        return bool(local.healthy("green") == 0)

    await wait_until(unhealthy, "green is out")
    for _ in range(6):
        assert (await local.ask()).status == 200
        await measuring.poll()
    assert measuring.told.missing["dropped"] == 0, "not before it is sure"
    await measuring.told_all(wait_until, 10)
    assert measuring.told.classes == {("200", "200"): 4}
    assert measuring.told.missing == {"dropped": 6}


async def test_a_twin_whose_client_went_away_is_missing(local: Any, wait_until: Any) -> None:
    measuring = await mirrored(local)
    with pytest.raises(Temporary):
        await local.ask(timeout=0.2, sleep=0.5)
    await local.ask()
    await measuring.told_all(wait_until, 2)
    assert measuring.told.classes == {("200", "200"): 1}
    assert measuring.told.missing == {"twin": 1}


async def test_twins_that_another_deployment_answered_are_left_out(local: Any, wait_until: Any) -> None:
    await local.build(local.spec("blue"), local.spec("red"), local.spec("green"))
    await local.do(SetTraffic(NAME, {"blue": 500, "red": 500}, {"green": 1000}))
    measuring = Measuring(local)
    await measuring.poll()
    blue = sum([(await local.ask()).deployment == "blue" for _ in range(40)])
    assert 0 < blue < 40

    async def joined() -> bool:
        await measuring.poll()
        return measuring.told.classes.total() == blue and measuring.told.copies.total() == 40

    await wait_until(joined, "blue's pairs are joined")
    await asyncio.sleep(2.1)  # after this time a missing copy would be told
    await measuring.poll()
    await measuring.poll()
    assert measuring.told.classes == {("200", "200"): blue}
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


async def test_a_name_that_comes_back_inherits_no_pairs(local: Any, wait_until: Any) -> None:
    measuring = await mirrored(local)
    for _ in range(5):
        await local.ask()
    await local.do(SetTraffic(NAME, {"blue": 1000}))
    await local.do(DeleteDeployment(NAME, "green"))
    await measuring.poll()
    assert not measuring.told.classes
    await local.do(await local.put(local.spec("green")))
    await local.do(SetTraffic(NAME, {"blue": 1000}, {"green": 1000}))
    for _ in range(3):
        await local.ask()
    await measuring.told_all(wait_until, 3)
    assert measuring.told.classes == {("200", "200"): 3}


async def test_the_log_is_rotated_while_it_is_read(local: Any, wait_until: Any) -> None:
    measuring = await mirrored(local, 500)
    log = local.directory / "pairs.ndjson"
    # The keeper as it is, but with a small limit.
    first = local.processes.keeper_pid()
    os.kill(first, signal.SIGKILL)
    sockets = runtime_directory(local.directory, local.context.runtime)
    command = [*launch.PYTHON, keeper.__file__, str(local.directory), str(sockets / "keeper.sock")]
    process = await asyncio.create_subprocess_exec(*command, "--log-limit=30000")
    inodes = set()
    try:

        async def keeps() -> bool:
            return bool(local.processes.keeper_pid() == process.pid)

        await wait_until(keeps, "the other keeper keeps")
        async with local.load(clients=4, pause=0.005) as load:

            async def rotations() -> bool:
                await measuring.poll()
                if log.exists():
                    inodes.add(log.stat().st_ino)
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
