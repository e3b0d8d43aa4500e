"""What is said to somebody who shifts traffic by hand, or sends some."""

from collections.abc import Callable
from typing import Any

import click

from orchestrator import app as use_cases
from orchestrator.cli import endpoint_traffic
from tests.messages.bench import Bench
from tests.messages.changed import failing
from tests.messages.entry import OWN_WISH, TRY, Message
from tests.messages.planned import cloud
from tests.messages.typed import AT, INTERRUPTED, TRY_AGAIN, two, typed


def somebody_was_quicker(bench: Bench) -> None:
    """While the question stood there."""
    two(bench)

    def confirm(*_: object, **__: object) -> bool:
        bench.world.meddle("shop", traffic={"blue": 500, "green": 500})
        return True

    bench.patch(click, "confirm", confirm)


def not_carried_out(bench: Bench) -> None:
    """A provider that tells what is not so."""
    two(bench)

    async def done(*_: object, **__: object) -> None:
        return None

    bench.patch(use_cases, "carry_out", done)
    bench.patch(endpoint_traffic, "PATIENCE", 0.05)


def split(
    words: str, marked: str, when: str, where: str, arrange: Callable[[Bench], Any] = two, **more: Any
) -> Message:
    """Of `endpoint traffic`."""
    return typed(f"endpoint traffic shop {words} {AT}", marked, when, f"cli.endpoint_traffic.{where}", arrange, **more)


def limited(**can: Any) -> Callable[[Bench], None]:
    """As two, and the endpoint can do less."""

    def arrange(bench: Bench) -> None:
        cloud(bench, **can)
        two(bench)

    return arrange


TRAFFIC = [
    split(
        "",
        "say who gets what, all of it. «As it is now: rollout endpoint traffic shop blue=100%» (see rollout endpoint "
        "traffic --help)",
        "traffic without shares",
        "traffic_command",
    ),
    split(
        "blue=lots",
        "blue: `lots%` is not a share of traffic: «write a percentage such as 10% or 0.5%» (see rollout endpoint "
        "traffic --help)",
        "a share that is none",
        "_shares",
    ),
    split(
        "blue=90",
        "the shares sum to 90%: «they must sum to 100%, or to 0% for no traffic at all; name every deployment that "
        "gets some»",
        "shares that are not everything",
        "_check_split",
    ),
    split(
        "blue=60 green=30",
        "the shares sum to 90% (60% + 30%): «they must sum to 100%, or to 0% for no traffic at all; name every "
        "deployment that gets some»",
        "several shares that are not everything",
        "_check_split",
    ),
    split(
        "blue=99.5 green=0.5",
        "blue=99.5%: «shares go in steps of 1% here»",
        "a share finer than the endpoint's",
        "_check_split",
        limited(weight_step=10),
    ),
    split(
        "blue=100 --mirror green=10",
        "endpoint shop cannot mirror traffic: «leave out --mirror»",
        "a mirror where there is none",
        "_check_split",
        limited(mirror_limit=0),
    ),
    split(
        "blue=100 --mirror green=10 --mirror blue=10",
        "--mirror names green and blue: «traffic can be mirrored to one deployment at a time»",
        "a mirror to two",
        "_check_split",
    ),
    split(
        "blue=100 --mirror green=60",
        "--mirror green=60%: «at most 50% can be mirrored here»",
        "a larger mirror than is allowed",
        "_check_split",
        limited(mirror_limit=500),
    ),
    split(
        "blue=50 green=50 --mirror green=10",
        "green cannot have live and mirrored traffic together: «give it one of them»",
        "live and mirrored traffic for one",
        "_check_split",
    ),
    split(
        "blue=0 --mirror green=10",
        "without live traffic there is nothing to mirror: «leave out --mirror»",
        "a mirror without live traffic",
        "_check_split",
    ),
    split(
        "green=100",
        "green has 0 of 1 instances healthy, so it gets no traffic: «wait until it is, or add --force»",
        "traffic for what is not healthy",
        "_check_health",
        lambda b: (two(b), b.world.meddle("shop", healthy={"green": 0})),
    ),
    split(
        "blue=0",
        "this takes all live traffic from shop: its clients would get status 404; «add --yes if that is meant»",
        "no traffic at all",
        "_refuse_nothing",
    ),
    split(
        "blue=0 --yes",
        "clients of shop get status 404 from now on, ‹until a deployment gets traffic again›",
        "no traffic at all, and --yes",
        "traffic_command",
        code=0,
        stands="traffic empty; blue 1 of 1 healthy; green 1 of 1 healthy",
        do=OWN_WISH,
    ),
    split(
        "green=100",
        "Change it? [y/N]: ‹nothing was changed›",
        "traffic, and an answer of no",
        "traffic_command",
        stdin="n\n",
        code=INTERRUPTED,
        do=OWN_WISH,
    ),
    split(
        "green=100",
        "the traffic of shop was changed meanwhile, to blue 50%, green 50%; ‹nothing was done›: «look, and ask again»",
        "traffic, and somebody else was quicker",
        "_check_meanwhile",
        somebody_was_quicker,
        stands="traffic blue 50%, green 50%; blue 1 of 1 healthy; green 1 of 1 healthy",
    ),
    split(
        "green=100 --yes",
        "shop was to have green 100%, and has blue 100%: «see rollout endpoint show shop»",
        "the provider says done, and shows something else",
        "_carry_out",
        not_carried_out,
        code=TRY_AGAIN,
    ),
]

LOADS = [
    typed(
        "load shop --request request.json --rate 5/s",
        "«say when to stop: --for 30s, or --count 100, or both» (see rollout load --help)",
        "load without an end",
        "cli.load.load_command",
    ),
    typed(
        "load shop --request request.json --rate fast --count 1",
        "--rate: `fast` is not a frequency: «write 200/s, 30/m or 600/h» (see rollout load --help)",
        "load, and no rate",
        "cli.load._rate",
    ),
    typed(
        "load shop --request request.json --rate 5/s --for ever",
        "--for: `ever` is not a duration: «write 30s, 10m, 1h30m or 2d» (see rollout load --help)",
        "load, and no duration",
        "cli.load._seconds",
    ),
    typed(
        "load shop --request request.json --rate 5/s --for 0s",
        "--for 0 is no time at all: «write 30s, 10m or 2h» (see rollout load --help)",
        "load for no time",
        "cli.load._seconds",
    ),
    typed(
        f"load shop --request request.json --rate 50/s --count 3 {AT}",
        "3 of 3 requests to shop were not answered with 2xx (500: 3)",
        "load, and the endpoint answers with errors",
        "cli.load._load",
        failing,
        code=TRY_AGAIN,
        do=TRY,
    ),
]

ENTRIES = [*TRAFFIC, *LOADS]
