"""A whole orchestrator in virtual time: memory store, simulated provider, a clock that only asyncio moves."""

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from orchestrator import app as use_cases
from orchestrator.app import App, Asked, Flags
from orchestrator.events import Event
from orchestrator.rollout import Rollout, apply
from orchestrator.settings import Settings
from orchestrator.store.base import Store
from orchestrator.store.memory import MemoryStore
from providers.memory import World, named_world
from providers.memory.provider import MemoryProvider

EPOCH = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
_WORLDS = itertools.count()

PLAN = """
version: 1
name: shop
provider: {{name: memory, world: {world}, rate: {rate}}}
endpoint: {{file: endpoint.yml}}
deployments:
  blue: {{file: blue.yml}}
  green: {{file: green.yml}}
gates:
  errors: {{metric: error_rate, max: 5%, max_ratio: 2, max_increase: 2%, warm_up: 2s, interval: 1s}}
  latency: {{metric: latency, max_ratio: 2, max: 1s, warm_up: 2s, interval: 1s}}
steps:
"""

STEPS = """
  - deploy: green
  - test: green
  - shadow: 10%
    gates: [errors, latency]
    hold: 10s
  - canary: [10%, 50%]
    gates: [errors, latency]
    hold: 10s
  - promote: 100%
    gates: [errors]
    hold: 5s
  - delete: blue
"""


@dataclass
class Lab:
    """One plan in one world; `run` and the commands are the real use cases."""

    folder: Path
    app: App
    world: str
    steps: str = STEPS
    rate: float = 200.0
    head: str = ""
    text: str = ""
    seen: list[Event] = field(default_factory=list)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    on_event: list = field(default_factory=list)

    @property
    def cloud(self) -> World:
        """The simulated cloud."""
        world = named_world(self.world)
        if world is None:
            MemoryProvider(MemoryProvider.Options(world=self.world, rate=self.rate), self.context())
            world = named_world(self.world)
        assert world is not None
        return world

    def context(self):
        from providers.base import Context

        return Context(self.folder, self.app.clock, lambda: "token", lambda text: text)

    def write(self) -> Path:
        """The plan and its files, as they are now."""
        (self.folder / "endpoint.yml").write_text("name: shop\nauth_mode: key\n")
        (self.folder / "blue.yml").write_text("name: blue\nmodel: azureml:m:1\ninstance_count: 2\n")
        (self.folder / "green.yml").write_text("name: green\nmodel: azureml:m:2\ninstance_count: 2\n")
        plan = self.folder / "plan.yml"
        written = self.text.replace("WORLD", f"{{name: memory, world: {self.world}, rate: {self.rate}}}")
        plan.write_text(written or self.head + PLAN.format(world=self.world, rate=self.rate) + self.steps)
        return plan

    def watch(self, rollout: Rollout, events: Sequence[Event]) -> None:
        self.seen.extend(events)
        for event in events:
            for hook in self.on_event:
                hook(rollout, event)

    async def run(self, **flags: bool) -> Rollout:
        assert self.cloud is not None
        rollout = await use_cases.run(self.app, self.write(), Flags(**flags), watcher=self.watch, stop=self.stop)
        await self.check()
        return rollout

    async def resume(self, **flags: bool) -> Rollout:
        rollout = await use_cases.resume(self.app, None, Flags(**flags), watcher=self.watch, stop=self.stop)
        await self.check()
        return rollout

    async def ask(
        self, kind: str, reason: str | None = None, *, actor: str = "", despite: str | None = None, **flags: bool
    ) -> Asked:
        app = replace(self.app, settings=replace(self.app.settings, actor=actor)) if actor else self.app
        return await use_cases.ask(
            app,
            kind,
            None,
            reason=reason,
            flags=Flags(**flags),
            watcher=self.watch,
            stop=asyncio.Event(),
            despite=despite,
        )

    async def check(self) -> None:
        """The journal has no gap and replays to the row."""
        row = await use_cases.find(self.app, None)
        events = await self.app.store.events(row.id)
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        replayed = None
        for event in events:
            replayed = apply(replayed, event)
        assert replayed is not None
        assert replace(replayed, worker=None) == replace(row, worker=None)

    def kinds(self) -> list[str]:
        return [event.body.kind for event in self.seen]

    def observed(self):
        return self.cloud.observe("shop")

    def until(self, kind: str, **fields: object) -> asyncio.Event:
        """Set when an event of that kind, with those fields, is written."""
        happened = asyncio.Event()

        def look(_: Rollout, event: Event) -> None:
            if event.body.kind == kind and all(getattr(event.body, name) == value for name, value in fields.items()):
                happened.set()

        self.on_event.append(look)
        return happened


@pytest.fixture
def store() -> Store:
    return MemoryStore(id="store-1")


@pytest.fixture
def lab(tmp_path: Path, store: Store) -> Lab:
    settings = Settings(home=tmp_path, store="memory", actor="ada", runtime=None, environment={})

    def clock() -> datetime:
        return EPOCH + timedelta(seconds=asyncio.get_running_loop().time())

    return Lab(tmp_path, App(store, settings, clock), f"lab{next(_WORLDS)}")
