"""Each mirrored request is joined with its live twin once, or said to be missing, whatever happens in between."""

import asyncio
import os
import signal
import sys
from collections import Counter
from typing import Any

import pytest

from providers.actions import DeleteDeployment, SetTraffic
from providers.errors import Temporary
from providers.local.pairs import LATE_S
from providers.measurement import RESET, TIMEOUT
from providers.specs import LocalRuntime, RequestSettings
from tests.providers.local.mirroring import CURSORS, NAME, Measuring, mirrored

pytestmark = [pytest.mark.needs("linux", "envoy")]
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
    slow = [(copy, twin) for copy, twin, n in measuring.told.latencies for _ in range(n) if copy is None]
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
    await measuring.told_all(wait_until, 4)
    local.down("green.0")

    async def unhealthy() -> bool:
        return bool(local.healthy("green") == 0)

    await wait_until(unhealthy, "green is out")
    for _ in range(6):
        assert (await local.ask()).status == 200
        await measuring.poll()
    await measuring.told_all(wait_until, 10)
    assert measuring.told.classes == {("200", "200"): 4}
    assert measuring.told.missing == {"dropped": 6}


async def test_a_candidate_that_dies_under_load(local: Any, wait_until: Any) -> None:
    """Some copies are cut off, some find nobody: each is told, as what it is, and clients notice nothing."""
    measuring = await mirrored(local, 500)
    async with local.load(clients=4) as load:
        for _ in range(3):
            before, pid = load.total, local.processes.pid("green.0")
            os.kill(pid, signal.SIGKILL)

            async def back(before: int = before, pid: int = pid) -> bool:
                await measuring.poll()
                again = local.processes.pid("green.0") not in (None, pid) and local.healthy("green") == 1
                return again and load.total > before + 100

            await wait_until(back, "green is back")
    await measuring.told_all(wait_until)
    told = measuring.told
    assert not load.bad
    assert told.missing.keys() <= {"dropped"}
    assert told.of_copies["200"] == told.copies["200"] > 0
    assert told.of_copies[RESET] + told.missing["dropped"] == told.copies[RESET] > 0
    assert {twin for _, twin in told.classes} == {"200"}


async def test_a_first_cursor_under_load_misses_nothing(local: Any, wait_until: Any) -> None:
    await local.build(local.spec("blue"), local.spec("green"))
    await local.do(SetTraffic(NAME, {"blue": 1000}, {"green": 1000}))
    measuring = Measuring(local)
    async with local.load(clients=4) as load:

        async def flowing() -> bool:
            return load.total > 100

        await wait_until(flowing, "requests flow")
        before = load.total
        await measuring.poll()
        begun = load.total

        async def enough() -> bool:
            await measuring.poll()
            return load.total > begun + 400

        await wait_until(enough, "more requests were sent")

    async def told() -> bool:
        await measuring.poll()
        # What ended while the first reading was taken may be on the other side of the beginning in the counters than in
        # the log: what was answered meanwhile, and what each client waited for.
        return abs(measuring.told.classes.total() - measuring.told.copies.total()) <= begun - before + 4

    await wait_until(told, "the copies are joined")
    assert measuring.told.classes.keys() == {("200", "200")}
    await asyncio.sleep(LATE_S + 0.2)
    await measuring.poll()
    await measuring.poll()
    assert not measuring.told.missing


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
    await asyncio.sleep(LATE_S + 0.2)  # after this time a missing copy would be told
    await measuring.poll()
    await measuring.poll()
    assert measuring.told.classes == {("200", "200"): blue}
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
