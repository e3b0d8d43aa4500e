"""Endpoints of the simulated cloud, for tests of commands that work on one directly, without a rollout."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.main import main
from orchestrator.settings import utc_now
from providers.actions import Action, PutDeployment, PutEndpoint, SetTraffic
from providers.base import Capabilities, Context, EndpointState, Fence, Operation
from providers.memory import DURATIONS, MemoryProvider, World
from providers.memory import provider as memory
from providers.specs import DeploymentSpec, EndpointSpec

AT = ("--provider", "memory")


@dataclass
class Cloud:
    """A cloud of the test's own in which everything takes no time; commands find it as `--provider memory`."""

    capabilities: Capabilities = field(default_factory=Capabilities)
    world: World = field(init=False)

    def __post_init__(self) -> None:
        self.world = World("default", durations=dict.fromkeys(DURATIONS, 0.0), capabilities=self.capabilities)

    def has(
        self,
        traffic: Mapping[str, int],
        mirror: Mapping[str, int] | None = None,
        *,
        counts: Mapping[str, int],
        **spec: Any,
    ) -> "Cloud":
        """There is an endpoint `shop` with these deployments and this split, tenths of a percent."""
        actions: list[Action] = [PutEndpoint("shop", EndpointSpec(name="shop", **spec))]
        context = Context(Path("/"), utc_now, lambda: "0123456789abcdef")
        provider = MemoryProvider.in_world(self.world, context)

        async def make() -> None:
            for name, count in counts.items():
                deployment = DeploymentSpec(name=name, model=f"azureml:{name}:1", instance_count=count)
                actions.append(PutDeployment("shop", await provider.resolve(deployment, base="/")))
            actions.append(SetTraffic("shop", traffic, mirror or {}))
            for number, action in enumerate(actions):
                operation = await provider.begin(action, key=f"made-{number}", fence=Fence("nobody", "made", 0))
                while isinstance(await provider.poll(operation), Operation):
                    pass
            await provider.release("shop", Fence("nobody", "made", 0))

        asyncio.run(make())
        return self

    @property
    def state(self) -> EndpointState:
        """The endpoint as it stands."""
        found = self.world.observe("shop")
        assert found is not None
        return found


def fresh(monkeypatch: pytest.MonkeyPatch, home: Path, capabilities: Capabilities | None = None) -> Cloud:
    """A cloud that the commands of this test use, and a home of their own."""
    monkeypatch.setenv("ROLLOUT_HOME", str(home))
    monkeypatch.setenv("ROLLOUT_ACTOR", "ada")
    monkeypatch.delenv("ROLLOUT_STORE", raising=False)
    cloud = Cloud(capabilities or Capabilities())
    monkeypatch.setitem(memory._WORLDS, "default", cloud.world)
    return cloud


def said(capsys: pytest.CaptureFixture[str], *arguments: str, code: int) -> str:
    """What a command says on stderr, without the part that points to its help."""
    assert main(list(arguments)) == code
    return capsys.readouterr().err.partition(" (see rollout")[0].removeprefix("rollout: ").rstrip("\n")


def told(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    """What a command prints."""
    assert main(list(arguments)) == code, capsys.readouterr().err
    return capsys.readouterr().out
