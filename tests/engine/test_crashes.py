"""The driver dies at every boundary that matters, again and again, and the rollout still ends as if nothing had
happened.

Each store commit, `begin`, `poll`, `measure` and saving of logs is two points: just before it takes effect and just
after. A run is killed at every Nth point it comes to, resumed, killed at the next Nth point, and so on, for many N:
between them these runs die at each point of the rollout. N is large enough for a life to
feed more than one measurement: who is away between any two polls has no recent latencies of stable to compare with, and
    rightly proves nothing.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import Any

import pytest

from orchestrator import app as use_cases
from orchestrator.store.memory import MemoryStore
from providers.memory import Behaviour, MemoryProvider

pytestmark = pytest.mark.looptime

STEPS = """
  - scale: {blue: 3}
  - deploy: green
  - test: green
  - shadow: 10%
    gates: [errors, latency]
    hold: 2s
  - canary: [10%, 50%]
    gates: [errors]
    hold: 2s
  - promote: 100%
    gates: [errors]
    hold: 1s
  - delete: blue
"""


class Killed(BaseException):
    """The process is gone: nothing after this line runs."""


class Reaper:
    """Kills at the Nth point from now; never when it is not armed."""

    def __init__(self) -> None:
        self.left: int | None = None
        self.points: list[str] = []

    def point(self, name: str) -> None:
        self.points.append(name)
        if self.left is not None:
            self.left -= 1
            if self.left == 0:
                self.left = None
                raise Killed(name)

    def around(self, name: str, call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def wrapped(*args: Any, **kwargs: Any) -> Any:
            self.point(f"before {name}")
            result = await call(*args, **kwargs)
            self.point(f"after {name}")
            return result

        return wrapped


@pytest.fixture
def reaper(monkeypatch: pytest.MonkeyPatch) -> Reaper:
    reaper = Reaper()
    for owner, names in (
        (MemoryStore, ("commit",)),
        (MemoryProvider, ("begin", "poll", "measure", "save_logs", "release")),
    ):
        for name in names:
            original = getattr(owner, name)

            def patched(original: Any = original, name: str = name) -> Any:
                async def call(self: Any, *args: Any, **kwargs: Any) -> Any:
                    return await reaper.around(name, original)(self, *args, **kwargs)

                return call

            monkeypatch.setattr(owner, name, patched())
    return reaper


async def chained(lab: Any, reaper: Reaper, every: int) -> int:
    """Run to the end, dying at every `every`th point; returns how often it died."""
    deaths = 0
    start: Callable[[], Awaitable[Any]] = lab.run
    while True:
        reaper.left = every
        try:
            await start()
        except Killed:
            deaths += 1
            assert deaths < 400, "it makes no progress"
            rollouts = await lab.app.store.rollouts()
            if not rollouts[0].active:
                break
            start = lab.resume
        else:
            break
    reaper.left = None
    return deaths


def once(lab: Any) -> None:
    """What was done to the cloud, was done once."""
    done = Counter(
        (
            effect.action.kind,
            str(getattr(effect.action, "deployment", ""))
            if effect.action.kind in ("delete_deployment", "scale")
            else "",
        )
        for effect in lab.cloud.effects
        if effect.action.kind not in ("set_traffic", "put_deployment")
    )
    assert max(done.values()) == 1, done
    created = Counter(
        effect.action.deployment.name for effect in lab.cloud.effects if effect.action.kind == "put_deployment"
    )
    assert created == {"blue": 1, "green": 1}
    splits = [
        (dict(e.action.traffic), dict(e.action.mirror)) for e in lab.cloud.effects if e.action.kind == "set_traffic"
    ]
    assert len(splits) == len([s for i, s in enumerate(splits) if i == 0 or splits[i - 1] != s]), (
        "a split was set twice in a row"
    )


@pytest.mark.parametrize("every", [10, 11, 12, 13, 15, 17, 19, 23, 29, 31])
async def test_a_good_rollout_survives_dying_at_every_nth_point(lab, reaper, every) -> None:
    lab.steps, lab.rate = STEPS, 400
    deaths = await chained(lab, reaper, every)
    rollout = await use_cases.find(lab.app, None)
    assert (rollout.phase, deaths > 2) == ("succeeded", True), rollout.reason
    assert dict(lab.observed().traffic) == {"green": 1000}
    assert list(lab.observed().deployments) == ["green"]
    once(lab)
    await lab.check()
    measured = await lab.app.store.measurements(rollout.id)
    assert [number for number, _, _ in measured] == list(range(1, len(measured) + 1))
    windows = [measurement for _, _, measurement in measured]
    assert all(one.end <= other.start for one, other in pairwise(windows)), "evidence was fed twice"


@pytest.mark.parametrize("every", [7, 8, 9, 10, 11, 13, 14])
async def test_a_bad_one_is_rolled_back_all_the_same(lab, reaper, every) -> None:
    lab.steps, lab.rate = STEPS.replace("  - test: green\n", ""), 400
    lab.cloud.behave("shop", "green", Behaviour(error_rate=0.4))
    deaths = await chained(lab, reaper, every)
    rollout = await use_cases.find(lab.app, None)
    assert (rollout.phase, deaths > 2) == ("rolled_back", True), rollout.reason
    assert dict(lab.observed().traffic) == {"blue": 1000}
    assert dict(lab.observed().mirror) == {}
    assert list(lab.observed().deployments) == ["blue"]
    assert lab.observed().deployments["blue"].desired == 2
    assert rollout.logs
    await lab.check()


async def test_an_abort_is_not_forgotten_by_dying(lab, reaper) -> None:
    lab.steps, lab.rate = STEPS, 400
    reached = lab.until("stage_entered", name="canary 50%")
    running = asyncio.create_task(lab.run())
    await reached.wait()
    reaper.left = 3
    with pytest.raises(Killed):
        await running
    posted = asyncio.create_task(lab.ask("abort"))
    asked = await posted
    assert (asked.accepted, asked.drove, asked.rollout.phase) == (True, True, "rolled_back")
    assert dict(lab.observed().traffic) == {"blue": 1000}
