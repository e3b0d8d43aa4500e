"""What the tests of the plan's fields share: one plan in several versions that differ in one field, each run in a world
of its own, and how each went.
"""

import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.events import Event
from orchestrator.rollout import Rollout, StageRecord
from orchestrator.store.memory import MemoryStore
from providers.actions import SetTraffic
from providers.errors import Temporary
from providers.memory import Behaviour
from providers.memory.provider import MemoryProvider

HEAD = """
version: 1
name: shop
provider: WORLD
endpoint: {file: endpoint.yml}
deployments: {blue: {file: blue.yml}, green: {file: green.yml}}
gates: {errors: {metric: error_rate, max: 5%, warm_up: 0s, interval: 1s}}
"""
TOP = HEAD.partition("gates:")[0]
"""A plan up to its gates."""
Lab = Any
"""Of tests/engine/conftest.py."""
Before = Callable[[Lab], Awaitable[None] | None]
_NUMBERS = itertools.count(1)


@dataclass
class Ran:
    """One version of a plan, and how it went."""

    lab: Lab
    rollout: Rollout

    @property
    def end(self) -> str:
        """`succeeded`, `rolled_back: gate`, `paused: undecided`: the phase, and its cause."""
        cause = self.rollout.paused or self.rollout.rollback
        return f"{self.rollout.phase}: {cause}" if cause else self.rollout.phase

    @property
    def stages(self) -> list[str]:
        return [record.name for record in self.rollout.stages]

    def stage(self, name: str) -> StageRecord:
        (found,) = [record for record in self.rollout.stages if record.name == name]
        return found

    def seconds(self, name: str) -> float:
        """How long the stage took."""
        record = self.stage(name)
        assert record.started_at is not None
        assert record.ended_at is not None, f"{name} has not ended"
        return (record.ended_at - record.started_at).total_seconds()

    def of(self, kind: str, stage: str | None = None) -> list[Event]:
        """The events of a kind, those of one stage if it is named."""
        found, where = [], ""
        for event in self.lab.seen:
            where = event.body.name if event.body.kind == "stage_entered" else where
            if event.body.kind == kind and stage in (None, where):
                found.append(event)
        return found

    @property
    def splits(self) -> list[tuple[dict[str, int], dict[str, int]]]:
        """Every split that was set after the first, in order: live and mirrored, in tenths of a percent."""
        actions = [effect.action for effect in self.lab.cloud.effects if isinstance(effect.action, SetTraffic)]
        return [(dict(action.traffic), dict(action.mirror)) for action in actions[1:]]


def another(lab: Lab, *, quick: bool = False) -> Lab:
    """A lab in a world and with a store of its own; `quick`: where operations take no time, for real time."""
    number = next(_NUMBERS)
    folder = lab.folder / str(number)
    folder.mkdir()
    made = type(lab)(folder, replace(lab.app, store=MemoryStore(id=f"store-{number}")), f"{lab.world}-{number}")
    made.rate = lab.rate
    if quick:
        none = {"put_endpoint": 0.0, "put_deployment": 0.01, "set_traffic": 0.0}
        MemoryProvider(MemoryProvider.Options(world=made.world, rate=made.rate, durations=none), made.context())
    return made


async def run_each(
    lab: Lab,
    plan: str,
    *fields: str,
    before: Before | None = None,
    quick: bool = False,
    stay: bool = False,
    **flags: Any,
) -> list[Ran]:
    """Run the plan once with each of `fields` in the place of FIELD, each in a world of its own.

    `before`: what is done to each world first. `quick`: as in `another`. `stay`: also while it is paused, which five
    seconds end.
    """
    plan += "pause_limit: 5s\n" if stay else ""
    found = []
    for field in fields:
        made = another(lab, quick=quick)
        if before is not None:
            done = before(made)
            if done is not None:
                await done
        made.text = plan.replace("FIELD", field)
        found.append(Ran(made, await made.run(exit_on_pause=not stay, **flags)))
    return found


def when(lab: Lab, kind: str, act: Callable[[], object], **fields: object) -> None:
    """Act when the first event of that kind, with those fields, is written."""
    left = [act]

    def look(_: Rollout, event: Event) -> None:
        if left and event.body.kind == kind and all(getattr(event.body, k) == v for k, v in fields.items()):
            left.pop()()

    lab.on_event.append(look)


def behaving(**green: Any) -> Before:
    """green acts so, blue as always."""
    return lambda lab: lab.cloud.behave("shop", "green", Behaviour(**green))


def judged(
    metric: str, *lines: str, step: str = "canary: 50%", hold: str = "2s", deadline: str = "15s", top: str = ""
) -> str:
    """A plan with one gate, which has FIELD as its last field, and one step that it judges."""
    fields = "".join(f"    {line}\n" for line in (f"metric: {metric}", *lines, "FIELD"))
    gated = f"  - {step}\n    gates: it\n    hold: {hold}\n    deadline: {deadline}\n"
    return f"{TOP}{top}\ngates:\n  it:\n{fields}steps:\n  - deploy: green\n{gated}"


def fast(*lines: str) -> tuple[str, ...]:
    """With a measurement a second, from the first request on."""
    return (*lines, "interval: 1s", "warm_up: 0s")


def ends(ran: list[Ran]) -> list[str]:
    return [each.end for each in ran]


def verdict(ran: Ran):
    """What the gate said last."""
    return ran.of("measured")[-1].body.judgement.verdicts[0]


def unreadable(lab: Lab) -> None:
    lab.cloud.fail_next("measure", Temporary("no answer"), times=9)
