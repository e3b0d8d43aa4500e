"""What the simulated provider refuses. Within a rollout these words follow the name of the step, or `attempt 1 did not
succeed`.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from providers.actions import Action, DeleteDeployment, DeleteEndpoint, PutDeployment, PutEndpoint, Scale, SetTraffic
from providers.base import Capabilities, Claim, Context, Fence, Operation, Request
from providers.memory import Behaviour, World
from providers.memory.provider import MemoryProvider
from providers.specs import DeploymentSpec, EndpointSpec, ResolvedDeployment
from tests.engine.conftest import EPOCH
from tests.messages.bench import direct
from tests.messages.entry import FOR_AUTHORS, RETRIED, TRY, Message

TRY_AGAIN = 3
OURS = Fence("store-1", "shop-1", 1)


def deployment(name: str = "green", digest: str = "d", count: int = 2) -> PutDeployment:
    """To deploy it."""
    return PutDeployment("shop", ResolvedDeployment(DeploymentSpec(name=name, instance_count=count), "/", digest))


class Cloud:
    """An endpoint `shop` that blue serves, with green beside it."""

    def __init__(self, **can: Any) -> None:
        self.world = World("default", capabilities=replace(Capabilities(), **can))
        loop = asyncio.get_running_loop()
        nowhere, token = Path("/nowhere"), "token"
        context = Context(nowhere, lambda: EPOCH + timedelta(seconds=loop.time()), lambda: token, str)
        self.provider = MemoryProvider.in_world(self.world, context)
        self.number = 0

    async def begin(self, action: Action, *, key: str = "", fence: Fence = OURS) -> Operation:
        self.number += 1
        return await self.provider.begin(action, key=key or f"k{self.number}", fence=fence)

    async def do(self, *actions: Action) -> Any:
        """One after the other, each to its end; the last outcome."""
        for action in actions:
            operation = await self.begin(action)
            await asyncio.sleep(60)
            found = await self.provider.poll(operation)
        return found

    async def serving(self) -> "Cloud":
        first = (PutEndpoint("shop", EndpointSpec(name="shop")), deployment("blue"), deployment())
        await self.do(*first, SetTraffic("shop", {"blue": 1000}, {}))
        return self


def refused(action: Action, **can: Any) -> Callable[..., Any]:
    """Asked of the endpoint as it stands."""

    async def ask() -> Any:
        cloud = await Cloud().serving()
        cloud.world.capabilities = replace(cloud.world.capabilities, **can)
        return await cloud.begin(action)

    return direct(ask)


def played(play: Callable[[Cloud], Any]) -> Callable[..., Any]:
    """Played with the endpoint as it stands."""

    async def run() -> Any:
        return await play(await Cloud().serving())

    return direct(run)


def rule(function: str, when: str, cause: Callable[..., Any], marked: str, **more: Any) -> Message:
    """Said by the provider: exit code 3, unless a rollout makes something else of it."""
    code = more.pop("code", TRY_AGAIN)
    return Message(f"memory.{function}", when, cause, marked, code, **more)


def part(function: str, when: str, cause: Callable[..., Any], marked: str) -> Message:
    """The outcome of an operation that failed."""
    return Message(f"memory.{function}", when, cause, marked, None, do=RETRIED)


def split(*pairs: tuple[str, int], mirror: tuple[tuple[str, int], ...] = ()) -> SetTraffic:
    """Shares in tenths of a percent."""
    return SetTraffic("shop", dict(pairs), dict(mirror))


async def claimed(cloud: Cloud) -> Any:
    cloud.world.meddle("shop", claim=Claim("store-2", "shop-9", 1))
    return await cloud.begin(Scale("shop", "blue", 1))


async def older_driver(cloud: Cloud) -> Any:
    await cloud.begin(Scale("shop", "blue", 1), fence=replace(OURS, epoch=5))
    return await cloud.begin(Scale("shop", "green", 1))


async def busy(cloud: Cloud) -> Any:
    await cloud.begin(DeleteEndpoint("shop"))
    return await cloud.begin(Scale("shop", "blue", 1))


async def moving(cloud: Cloud) -> Any:
    await cloud.begin(split(("blue", 500), ("green", 500)))
    return await cloud.begin(Scale("shop", "green", 1))


async def going(cloud: Cloud) -> Any:
    await cloud.begin(DeleteDeployment("shop", "green"))
    return await cloud.begin(split(("blue", 500), ("green", 500)))


async def served_replaced(cloud: Cloud) -> Any:
    return await cloud.begin(replace(deployment("blue", "other"), replace=True))


async def unhealthy(cloud: Cloud) -> Any:
    cloud.world.meddle("shop", healthy={"green": 0})
    return await cloud.begin(split(("green", 1000)))


async def same_key(cloud: Cloud) -> Any:
    await cloud.begin(Scale("shop", "blue", 1), key="k")
    return await cloud.begin(Scale("shop", "blue", 3), key="k")


async def superseded(cloud: Cloud) -> Any:
    first = await cloud.begin(Scale("shop", "blue", 4))
    await cloud.begin(Scale("shop", "blue", 3))
    return await cloud.provider.poll(first)


async def spoiled(cloud: Cloud) -> Any:
    cloud.world.spoil("scale", "the machine is full")
    return await cloud.do(Scale("shop", "blue", 4))


async def endpoint_deleted(cloud: Cloud) -> Any:
    first = await cloud.begin(Scale("shop", "blue", 4))
    del cloud.world.endpoints["shop"]
    await asyncio.sleep(60)
    return await cloud.provider.poll(first)


async def deployment_deleted(cloud: Cloud) -> Any:
    first = await cloud.begin(Scale("shop", "green", 4))
    cloud.world.meddle("shop", remove=["green"])
    await asyncio.sleep(60)
    return await cloud.provider.poll(first)


async def cannot_start(cloud: Cloud) -> Any:
    cloud.world.behave("shop", "grey", Behaviour(starts=False))
    return await cloud.do(deployment("grey"))


async def addressed(cloud: Cloud) -> Any:
    cloud.world.capabilities = replace(cloud.world.capabilities, direct=False)
    return await cloud.provider.invoke("shop", Request(), deployment="green", timeout=5.0)


async def nobody_answers(cloud: Cloud) -> Any:
    cloud.world.behave("shop", "blue", Behaviour(timeouts=1.0))
    return await cloud.provider.invoke("shop", Request(), deployment=None, timeout=5.0)


RULES = [
    rule(
        "rules.check_fence",
        "an older driver of the same store",
        played(older_driver),
        "Endpoint shop is driven with epoch 5, so epoch 1 may not change it any more.",
        do=FOR_AUTHORS,
    ),
    rule(
        "rules.check_fence",
        "another store's rollout holds the endpoint",
        played(claimed),
        "Endpoint shop is claimed by rollout shop-9 of store store-2: «let it end there, or steal the claim».",
    ),
    rule(
        "rules.check",
        "a change of an endpoint that is not there",
        refused(Scale("nowhere", "blue", 1)),
        "Endpoint nowhere does not exist.",
        do=FOR_AUTHORS,
    ),
    rule(
        "rules.check",
        "scaling where nothing can be scaled",
        refused(Scale("shop", "blue", 3), scale=False),
        "Deployments of endpoint shop cannot be scaled.",
        do=FOR_AUTHORS,
    ),
    rule(
        "rules.check",
        "no instances at all",
        refused(Scale("shop", "blue", 0)),
        "blue cannot have 0 instances: «at least 1 is needed».",
    ),
    rule(
        "rules.deployment",
        "a change of a deployment that is not there",
        refused(Scale("shop", "grey", 1)),
        "Deployment grey does not exist on endpoint shop.",
        do=FOR_AUTHORS,
    ),
    rule(
        "rules._not_busy",
        "a change while the endpoint is being deleted",
        played(busy),
        "Endpoint shop is busy deleting endpoint shop: «wait until that has ended».",
    ),
    rule(
        "rules._not_busy",
        "scaling while the traffic is being moved",
        played(moving),
        "The traffic of green is just being changed: «wait until that has ended».",
    ),
    rule(
        "rules._not_busy",
        "traffic for a deployment that is being deleted",
        played(going),
        "Deployment green is being deleted, so it cannot get traffic.",
        do=RETRIED,
    ),
    rule(
        "rules._put",
        "another deployment of that name is there",
        refused(deployment("green", "other")),
        "Deployment green exists with other content: «choose another name, or allow that it is replaced».",
    ),
    rule(
        "rules._put",
        "a deployment that serves is to be replaced",
        played(served_replaced),
        "Deployment blue has traffic, so it cannot be replaced: «move its traffic first».",
    ),
    rule(
        "rules._delete",
        "a deployment that serves is to be deleted",
        refused(DeleteDeployment("shop", "blue")),
        "Deployment blue has 100% of the live traffic: «take it away before deleting it».",
    ),
    rule(
        "rules._set_traffic",
        "a share of more than everything",
        refused(split(("blue", 1001))),
        "Share 100.1% for blue is not between 0% and 100%.",
        do=FOR_AUTHORS,
    ),
    rule(
        "rules._set_traffic",
        "a share finer than the endpoint's",
        refused(split(("blue", 995), ("green", 5)), weight_step=10),
        "Share 99.5% for blue is no multiple of 1%.",
        do=FOR_AUTHORS,
    ),
    rule(
        "rules._set_traffic",
        "shares that are not everything",
        refused(split(("blue", 900))),
        "Live traffic sums to 90%: «it must be 0% or 100%».",
    ),
    rule(
        "rules._set_traffic",
        "a mirror where there is none",
        refused(split(("blue", 1000), mirror=(("green", 100),)), mirror_limit=0),
        "Endpoint shop cannot mirror traffic.",
        do=FOR_AUTHORS,
    ),
    rule(
        "rules._set_traffic",
        "a mirror to two",
        refused(split(("blue", 1000), mirror=(("green", 100), ("grey", 100)))),
        "Traffic cannot be mirrored to 2 deployments: «at most 1 is allowed».",
    ),
    rule(
        "rules._set_traffic",
        "a larger mirror than is allowed",
        refused(split(("blue", 1000), mirror=(("green", 600),)), mirror_limit=500),
        "Mirror of 60% to green is too much: «at most 50% is allowed».",
    ),
    rule(
        "rules._set_traffic",
        "live and mirrored traffic for one",
        refused(split(("blue", 500), ("green", 500), mirror=(("green", 100),))),
        "Deployment green cannot have live and mirrored traffic together.",
        do=FOR_AUTHORS,
    ),
    rule(
        "rules._set_traffic",
        "live and mirrored traffic changed at once",
        refused(split(("green", 1000), mirror=(("blue", 100),)), atomic_shift=False),
        "Endpoint shop cannot change live and mirrored traffic in one step.",
        do=FOR_AUTHORS,
    ),
    rule(
        "rules._set_traffic",
        "traffic for what is not healthy",
        played(unhealthy),
        "Deployment green has no healthy instance, so it cannot get traffic: it is not ready.",
        do=RETRIED,
    ),
]

WORLDS = [
    rule(
        "world.now",
        "a world that no provider was opened in",
        direct(lambda: World("w").now()),
        "World w has no clock yet: «open a provider in it first».",
    ),
    rule(
        "world.endpoint",
        "keys of an endpoint that is not there",
        played(lambda cloud: cloud.provider.keys("nowhere")),
        "Endpoint nowhere does not exist in world default.",
        do=FOR_AUTHORS,
    ),
    rule(
        "world.begin",
        "an idempotency key that stands for something else",
        played(same_key),
        "Key k stands for scaling blue to 1: «use another one for scaling blue to 3».",
    ),
    rule(
        "world.poll",
        "an operation that was never begun",
        played(lambda cloud: cloud.provider.poll(Operation("k9", Scale("shop", "blue", 1)))),
        "No operation with key k9 was begun in world default.",
        do=FOR_AUTHORS,
    ),
    rule(
        "world.token",
        "a token, where there are keys",
        played(lambda cloud: cloud.provider.token("shop")),
        "Endpoint shop has no tokens (auth_mode: key).",
        do=FOR_AUTHORS,
    ),
    rule(
        "world.lines",
        "logs of a deployment that never was",
        played(lambda cloud: cloud.provider.logs("shop", "grey", instance=None, tail=9)),
        "Deployment grey does not exist on endpoint shop, and none of its logs were saved.",
        do=FOR_AUTHORS,
    ),
    rule(
        "provider._send",
        "one deployment is asked, where that cannot be",
        played(addressed),
        "Endpoint shop cannot address a deployment by name.",
        do=FOR_AUTHORS,
    ),
    rule(
        "provider.invoke",
        "a deployment that does not answer",
        played(nobody_answers),
        "Deployment blue of endpoint shop did not answer within 5 s.",
        do=TRY,
    ),
    part(
        "world.begin",
        "an operation that a newer one put to an end",
        played(superseded),
        "It was put to an end by scaling blue to 3.",
    ),
    part("world._end", "an operation that the provider could not do", played(spoiled), "the machine is full"),
    part(
        "world._end",
        "the endpoint was deleted meanwhile",
        played(endpoint_deleted),
        "Endpoint shop was deleted meanwhile.",
    ),
    part(
        "world._end",
        "the deployment was deleted meanwhile",
        played(deployment_deleted),
        "Deployment green was deleted meanwhile.",
    ),
    part(
        "world._come_up",
        "a deployment that cannot start",
        played(cannot_start),
        "Deployment grey cannot start: exited 3 times: RuntimeError: init() failed.",
    ),
]

ENTRIES = [*RULES, *WORLDS]
