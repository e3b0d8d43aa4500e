"""What is said to somebody who changes an endpoint by hand, beside any rollout."""

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from orchestrator import app as use_cases
from orchestrator.cli import at_provider
from providers.actions import Scale
from providers.base import Invokes
from providers.memory import Behaviour
from providers.memory.provider import MemoryProvider
from tests.messages.asked import held
from tests.messages.bench import Bed, Bench, direct, lab
from tests.messages.entry import CANNOT, OWN_WISH, TRY, Message
from tests.messages.here import Here, standing
from tests.messages.planned import cloud, taken
from tests.messages.typed import AT, INTERRUPTED, TRY_AGAIN, two, typed


def local_endpoint(bench: Bench) -> None:
    """One that has not run since the machine started."""
    there = Here(bench, replace(standing(), boot="another"))
    (bench.home).mkdir()
    there.layout.directory.parent.rename(bench.home / "local")


async def owned(made: Bed) -> Any:
    """It owns the endpoint."""
    await held(made)
    return use_cases.carry_out(made.app, MemoryProvider.in_world(made.cloud, made.context()), Scale("shop", "blue", 3))


async def slow_change(made: Bed) -> Any:
    """It takes an hour."""
    made.steps = "\n  - deploy: green\n"
    await made.run()
    made.cloud._durations["scale"] = 3600.0
    provider = MemoryProvider.in_world(made.cloud, made.context())
    return use_cases.carry_out(made.app, provider, Scale("shop", "blue", 3), timeout=60.0)


def scale_fails(bench: Bench) -> None:
    two(bench)
    bench.world.spoil("scale", "the machine has no room for it")


def never_healthy(bench: Bench) -> None:
    """The two minutes are over at once."""
    two(bench)
    bench.world.meddle("shop", healthy={"green": 0})

    async def start(*_: object) -> None:
        return None

    timeout = asyncio.timeout
    bench._patch.setattr(MemoryProvider, "start", start, raising=False)
    bench.patch(asyncio, "timeout", lambda seconds: timeout(0.05 if seconds == 120 else seconds))


def failing(bench: Bench) -> None:
    """Every answer is an error."""
    bench.served()
    bench.world.behave("shop", "blue", Behaviour(error_rate=1.0))


ENDPOINTS = [
    typed(
        f"endpoint show shpo {AT}",
        "there is no endpoint shpo at memory; «`rollout endpoint create FILE` makes one, or a plan with `endpoint: "
        "{file: ...}`»",
        "an endpoint that does not exist",
        "cli.at_provider.existing",
    ),
    typed(
        "endpoint show shpo",
        "there is no endpoint shpo at local; «did you mean `shop`?»",
        "an endpoint of this machine, misspelt",
        "cli.at_provider.existing",
        local_endpoint,
    ),
    Message(
        "cli.at_provider.able",
        "a provider that cannot do what is asked",
        direct(lambda: at_provider.able(SimpleNamespace(name="other"), Invokes, "send requests")),
        "the provider other cannot send requests",
        3,
        do=CANNOT,
    ),
    typed(
        f"endpoint delete shop --yes {AT}",
        "rollout <id> owns endpoint shop (running): «let it end, or rollout abort <id>»",
        "a change of an endpoint that a rollout owns",
        "cli.at_provider.unowned",
        lambda b: b.waiting(),
    ),
    typed(
        f"endpoint delete shop --yes {AT}",
        "endpoint shop is claimed by rollout shop-9 of another store: «let it end there (ROLLOUT_HOME and "
        "ROLLOUT_STORE say which store is used)»",
        "a change of an endpoint that another store's rollout owns",
        "cli.at_provider.unowned",
        taken,
    ),
    Message(
        "app.carry_out",
        "a rollout begins in the moment of a change",
        lab(owned),
        "rollout <id> owns endpoint shop: «end it first, or say `rollout abort <id>`»",
        2,
    ),
    typed(
        f"endpoint scale shop blue=2 {AT}",
        "the machine has no room for it",
        "the provider cannot do what was asked",
        "app.carry_out",
        scale_fails,
        code=TRY_AGAIN,
        stands="traffic blue 100%; blue 1 of 2 healthy; green 1 of 1 healthy",
        do=TRY,
    ),
    Message(
        "app.carry_out",
        "a change takes very long",
        lab(slow_change),
        "scale on shop is not done after 60 s; ‹it goes on by itself›",
        TRY_AGAIN,
        "traffic blue 100%; blue 2 of 3 healthy; green 2 of 2 healthy",
        do=TRY,
    ),
    typed(
        f"endpoint delete shop {AT}",
        "Delete shop (traffic: blue 100%) with everything in it? [y/N]: \nnobody is there to be asked, ‹so nothing "
        "was done›: «add --yes to agree beforehand»",
        "a question that nobody is there to answer",
        "cli.at_provider.agreed",
        two,
    ),
    typed(
        f"endpoint delete shop {AT}",
        "Delete shop (traffic: blue 100%) with everything in it? [y/N]: ‹nothing was deleted›",
        "an answer of no",
        "cli.endpoint_change.delete_command",
        two,
        stdin="n\n",
        code=INTERRUPTED,
        do=OWN_WISH,
    ),
    typed(
        f"endpoint start shop {AT}",
        "endpoints of memory cannot be started from here",
        "start, and the provider has nothing to start",
        "cli.endpoint_change.start_command",
        two,
        code=TRY_AGAIN,
        do=CANNOT,
    ),
    typed(
        f"endpoint start shop {AT}",
        "shop is not healthy after 2 minutes: «see rollout endpoint show shop»",
        "start, and it does not become healthy",
        "cli.endpoint_change.start_command",
        never_healthy,
        code=TRY_AGAIN,
    ),
    typed(
        f"endpoint invoke shop {AT}",
        "shop answered with status 500, by blue",
        "invoke, and the endpoint answers with an error",
        "cli.endpoint.invoke_command",
        failing,
        code=TRY_AGAIN,
        do=TRY,
    ),
    typed(
        f"endpoint token shop {AT}",
        "Endpoint shop has no tokens (auth_mode: key): «rollout endpoint keys shop --provider memory»",
        "a token, where the endpoint has keys",
        "cli.endpoint.token_command",
        two,
    ),
    typed(
        "endpoint token shop",
        "endpoints of the provider local have keys and no tokens: «rollout endpoint keys shop»",
        "a token, where the provider has keys",
        "cli.endpoint.token_command",
        local_endpoint,
    ),
    typed(
        f"endpoint create endpoint.yml {AT}",
        "endpoint shop exists already at memory://default/shop (traffic blue 100%; blue 1 of 1 healthy; green 1 of 1 "
        "healthy); ‹nothing was changed›: «rollout endpoint show shop --provider memory tells more»",
        "create, and it is there",
        "cli.endpoint_change.create_command",
        two,
    ),
    typed(
        "endpoint create endpoint.yml",
        "endpoint.yml: auth_mode: aml_token is not available on the local provider: «use key».",
        "create, with what the provider cannot do",
        "cli.endpoint_change.create_command",
        lambda b: b.write("endpoint.yml", "name: shop\nauth_mode: aml_token\n"),
    ),
    typed(
        "endpoint create plan.yml",
        "plan.yml is a plan, not an endpoint's file: «rollout run plan.yml carries it out»",
        "create, with a plan",
        "cli.endpoint_change._read",
    ),
    typed(
        "endpoint create blue.yml",
        "blue.yml is a deployment's file, not an endpoint's: «name it in a plan, and rollout run deploys it»",
        "create, with a deployment's file",
        "cli.endpoint_change._read",
    ),
]

SCALES = [
    typed(
        f"endpoint scale shop blue {AT}",
        "`blue` is not DEPLOYMENT=COUNT: «write it without spaces, such as blue=2» (see rollout endpoint scale --help)",
        "scale without a count",
        "cli.at_provider.pairs",
    ),
    typed(
        f"endpoint scale shop blue=1,green=2 {AT}",
        "`blue=1,green=2` names more than one: «write one word for each deployment, such as blue=2 and so on» (see "
        "rollout endpoint scale --help)",
        "scale with a list",
        "cli.at_provider.pairs",
    ),
    typed(
        f"endpoint scale shop blue=1 blue=2 {AT}",
        "blue is given twice: «say once what it gets» (see rollout endpoint scale --help)",
        "scale, one deployment twice",
        "cli.at_provider.pairs",
    ),
    typed(
        f"endpoint scale shop blue=many {AT}",
        "blue=many: «write a whole number, such as blue=2» (see rollout endpoint scale --help)",
        "scale, and no number",
        "cli.endpoint_change._count",
    ),
    typed(
        f"endpoint scale shop blue=0 {AT}",
        "blue=0: a deployment has at least 1 instance; «to take it out of use, give its traffic to another with "
        "`rollout endpoint traffic`» (see rollout endpoint scale --help)",
        "scale to nothing",
        "cli.endpoint_change._count",
    ),
    typed(
        f"endpoint scale shop blue=51 {AT}",
        "blue=51: «a deployment has at most 50 instances» (see rollout endpoint scale --help)",
        "scale to very many",
        "cli.endpoint_change._count",
    ),
    typed(
        f"endpoint scale shop grene=2 {AT}",
        "endpoint shop has no deployment grene; «did you mean `green`?»",
        "scale, and the deployment is misspelt",
        "cli.at_provider.deployment",
        two,
    ),
    typed(
        f"endpoint scale shop blue=2 {AT}",
        "endpoint shop has no deployment yet: «a rollout brings one»",
        "scale, and nothing is deployed",
        "cli.at_provider.deployment",
        lambda b: b.do(f"endpoint create endpoint.yml {AT}"),
    ),
    typed(
        f"endpoint scale shop blue=2 {AT}",
        "deployments of shop cannot be scaled: memory decides how many instances run",
        "scale, where the provider decides",
        "cli.endpoint_change.scale_command",
        lambda b: (cloud(b, scale=False), two(b)),
        do=CANNOT,
    ),
]


ENTRIES = [*ENDPOINTS, *SCALES]
