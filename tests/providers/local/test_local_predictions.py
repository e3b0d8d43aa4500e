"""Answers of mirrored requests are compared with their twins' as they pass, each once, and none of them is kept."""

import os
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from providers.actions import PutDeployment, SetTraffic
from providers.local.launching import COMPARER
from providers.measurement import Comparison, Cursor, MeasureQuery, Sample
from providers.specs import DeploymentSpec, LocalRuntime

pytestmark = pytest.mark.needs("linux", "envoy")

NAME = "shop"
CANARY = "canary-in-a-body"
LOOSE = Comparison("predictions.0", absolute=0.5, examples=3)
STRICT = Comparison("predictions.0", absolute=1e-6)
QUERY = MeasureQuery(NAME, ("green", "blue"), {"loose": LOOSE, "strict": STRICT})

# What is asked for decides what is answered; DIFFERS makes one deployment answer otherwise where it is told to.
SCORE = f"""
import json, os

def init(): pass

def run(raw):
    asked = json.loads(raw)
    other = bool(os.environ.get("DIFFERS"))
    if asked.get("raise") and other:
        raise RuntimeError("asked to")
    value = 1.0 + (asked.get("by", 0.0) if other else 0.0)
    answer = {{"label": "{CANARY}", "predictions": [value, 2.0], "pid": os.getpid()}}
    if asked.get("large"):
        answer["more"] = "{CANARY}" * 20_000
    if asked.get("without"):
        del answer["predictions"]
    return answer
"""


class Counted:
    """Samples added up, as a driver would see them."""

    def __init__(self, local: Any, query: MeasureQuery = QUERY) -> None:
        self.local, self.query = local, query
        self.cursor: Cursor | None = None
        self.bad: Counter[str] = Counter()
        self.total: Counter[str] = Counter()
        self.left_out: Counter[str] = Counter()
        self.examples: list[str] = []
        self.last: dict[str, Sample] = {}
        self.problems: list[str] = []

    async def poll(self) -> None:
        measurement = await self.local.provider.measure(self.query, self.cursor)
        self.cursor, self.last = measurement.cursor, dict(measurement.samples)
        assert self.last.keys() == self.query.comparisons.keys()
        for gate, sample in self.last.items():
            if sample.problem:
                self.problems.append(sample.problem)
            if sample.candidate is not None:
                self.bad[gate] += int(sample.candidate.bad)
                self.total[gate] += int(sample.candidate.total)
        gate = next(iter(self.last))
        self.left_out.update(self.last[gate].left_out)
        self.examples += self.last[gate].examples


async def build(local: Any, mirror: int = 1000) -> None:
    (local.base / "code" / "score.py").write_text(SCORE)
    await local.build(local.spec("blue"), local.spec("green", environment_variables={"DIFFERS": "1"}))
    await local.do(SetTraffic(NAME, {"blue": 1000}, {"green": mirror}))


def everything(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


async def test_what_differs_is_counted_and_nothing_is_kept(local: Any, wait_until: Any) -> None:
    await build(local)
    counted = Counted(local)
    await counted.poll()
    assert counted.last["strict"] == Sample(query="predictions.0 within 1e-06")
    for number in range(60):
        by = 0.9 if number % 20 == 0 else 0.01 if number % 10 == 0 else 0.0
        assert (await local.ask(by=by)).status == 200

    async def complete() -> bool:
        await counted.poll()
        return counted.total["loose"] >= 60

    await wait_until(complete, "60 pairs are compared")
    await counted.poll()
    assert counted.total == {"loose": 60, "strict": 60}
    assert counted.bad == {"loose": 3, "strict": 6}
    assert counted.examples == ["predictions.0: numbers differ by 0.9 (tolerance 0.5)"] * 3
    assert not counted.left_out
    assert not counted.problems
    assert not any(sample.nothing for sample in counted.last.values())
    # A direct request has no twin, and is nobody's.
    await local.ask("green", by=9.0)
    await counted.poll()
    assert counted.total["loose"] == 60
    for path in everything(local.directory):
        if "snapshots" not in path.parts:
            assert CANARY.encode() not in path.read_bytes(), path
    assert local.directory.joinpath("answers.json").stat().st_mode & 0o777 == 0o600
    # What was compared ends with the mirror.
    assert local.processes.pid(COMPARER) is not None
    await local.do(SetTraffic(NAME, {"blue": 1000}))

    async def gone() -> bool:
        return local.processes.pid(COMPARER) is None

    await wait_until(gone, "the comparing process has ended")
    await counted.poll()
    assert counted.last["loose"].nothing == "nothing is mirrored to green"
    assert not local.directory.joinpath("answers.json").exists()
    assert local.processes.pid(COMPARER) is None


async def test_under_load_every_pair_is_compared_and_the_same_stay_the_same(local: Any, wait_until: Any) -> None:
    await build(local, mirror=500)
    counted = Counted(local)
    await counted.poll()
    start = counted.cursor
    async with local.load(clients=6) as load:

        async def enough() -> bool:
            await counted.poll()
            return load.total >= 600

        await wait_until(enough, "600 requests are sent")
    assert not load.bad

    async def copies() -> int:
        measurement = await local.provider.measure(MeasureQuery(NAME, ("green", "blue")), start)
        return int(measurement.leg("green", "mirror").requests)

    async def complete() -> bool:
        await counted.poll()
        return counted.total["strict"] >= await copies()

    await wait_until(complete, "every copy is compared")
    assert counted.total["strict"] == await copies() > 200
    assert counted.bad == {"loose": 0, "strict": 0}
    assert not counted.left_out
    assert not counted.problems


async def test_what_cannot_be_compared_is_never_the_same(local: Any, wait_until: Any) -> None:
    await build(local)
    counted = Counted(local)
    await counted.poll()
    for _ in range(5):
        await local.ask(**{"raise": 1})
        await local.ask(large=1)
        await local.ask(without=1)

    async def left_out() -> bool:
        await counted.poll()
        return sum(counted.left_out.values()) >= 15

    await wait_until(left_out, "15 pairs are left out")
    assert counted.left_out == {
        "one of the two was no 2xx": 5,
        "one of the two is larger than 256 KiB": 5,
        "neither answer has the path": 5,
    }
    assert counted.total == {"loose": 0, "strict": 0}
    assert not counted.problems
    only = Counted(local)
    await only.poll()
    await local.ask(without=1)

    async def said() -> bool:
        measurement = await local.provider.measure(QUERY, only.cursor)
        only.last = dict(measurement.samples)
        return bool(only.last["loose"].left_out)

    await wait_until(said, "the pair is counted")
    assert only.last["loose"].nothing == "none of 1 pairs could be compared: 1 because neither answer has the path"


async def test_restarts_are_said_and_counting_goes_on(local: Any, wait_until: Any) -> None:
    await build(local)
    counted = Counted(local)
    await counted.poll()

    async def send(total: int) -> None:
        """Until so many more are compared: some may meet an instance that is not back yet."""
        before = counted.total["loose"]

        async def complete() -> bool:
            assert (await local.ask(by=0.9)).status == 200
            await counted.poll()
            return counted.total["loose"] >= before + total

        await wait_until(complete, f"{total} pairs are compared")
        assert counted.bad["loose"] == counted.total["loose"]

    await send(10)
    # An instance that is started again hands over again.
    os.kill(local.processes.pid("green.0"), signal.SIGKILL)

    await send(10)
    assert not counted.problems
    # The comparing process forgets; that is said once, and never taken for good news.
    pid = local.processes.pid(COMPARER)
    os.kill(pid, signal.SIGKILL)

    async def restarted() -> bool:
        await counted.poll()
        return any("restarted" in problem for problem in counted.problems)

    await wait_until(restarted, "the restart is said")
    assert local.processes.pid(COMPARER) not in (None, pid)
    assert sum("restarted" in problem for problem in counted.problems) == len(QUERY.comparisons)
    # The instances find the new one with their next answers.
    said = len(counted.problems)
    await send(5)
    assert len(counted.problems) == said


async def test_a_command_of_ones_own_is_said_not_to_be_compared(local: Any) -> None:
    await local.build(local.spec("blue"))
    options = LocalRuntime(command=[sys.executable, "-m", "http.server", "$PORT", "-b", "127.0.0.1"], health_path="/")
    spec = DeploymentSpec(name="green", local=options)
    await local.do(PutDeployment(NAME, await local.provider.resolve(spec, base=str(local.base))))
    await local.do(SetTraffic(NAME, {"blue": 1000}, {"green": 1000}))
    counted = Counted(local)
    await counted.poll()
    assert counted.last["loose"].nothing.startswith("green runs a command of its own, which hands no answers over; use")
    assert local.processes.pid(COMPARER) is None


async def test_nothing_runs_while_nobody_asks(local: Any) -> None:
    await build(local)
    cursor = (await local.provider.measure(MeasureQuery(NAME, ("green", "blue")), None)).cursor
    for _ in range(3):
        assert (await local.ask()).status == 200
    measured = await local.provider.measure(MeasureQuery(NAME, ("green", "blue")), cursor)
    assert dict(measured.samples) == {}
    assert local.processes.pid(COMPARER) is None
    assert not local.directory.joinpath("answers.json").exists()
