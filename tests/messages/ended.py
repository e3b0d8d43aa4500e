"""Why a rollout was paused, rolled back, ended or left: its reason, how the endpoint then stands, what can be typed."""

import asyncio
from collections.abc import Callable
from typing import Any

from providers.base import Claim
from providers.errors import Permanent, Temporary
from providers.memory import Behaviour
from tests.messages.asked import drifted, held, paused, resumed, until, waiting
from tests.messages.bench import Bed, direct, lab
from tests.messages.decisions import decided, situation
from tests.messages.entry import TOLD_BELOW, Message

PAUSED, HUMAN = 4, ("resume", "abort", "history")
BACK, FAILED = 1, 5
OVER = ("history", "endpoint")
AND_LOGS = ("history", "endpoint", "endpoint")
BLUE = "rolled back; traffic blue 100%; blue 2 of 2 healthy"
BOTH = "traffic blue 100%; blue 2 of 2 healthy; green 2 of 2 healthy"
EXPOSED = "traffic blue 90%, green 10%; blue 2 of 2 healthy; green 2 of 2 healthy"
GATED = (
    "\n  - deploy: green\n  - canary: 10%\n    gates: [errors]\n    hold: 10s\n    deadline: 1m\n  - promote: 100%\n"
)
GONE = "\n  - deploy: green\n  - promote: 100%\n    gates: [errors]\n    hold: 5s\n  - delete: blue\n  - wait: 1h\n"


def plain(steps: str, *, green: Behaviour | None = None, **changes: Any) -> Callable[..., Any]:
    """Run these steps to their end, where green behaves so."""
    flags = changes.pop("flags", {})

    async def play(made: Bed) -> Any:
        made.steps = steps
        if "rate" in changes:
            made.cloud.traffic("shop", rate=changes.pop("rate"))
        for name, value in changes.items():
            setattr(made, name, value)
        if green is not None:
            made.cloud.behave("shop", "green", green)
        return await made.run(**flags)

    return lab(play)


def then(arrange: Callable[[Bed], Any], change: Callable[[Bed], Any]) -> Callable[..., Any]:
    """Arrange, change something, and wait for the end of the run."""

    async def play(made: Bed) -> Any:
        await arrange(made)
        result = change(made)
        if asyncio.iscoroutine(result):
            await result
        return await made.running

    return lab(play)


def until_paused(arrange: Callable[[Bed], Any], change: Callable[[Bed], Any]) -> Callable[..., Any]:
    """Arrange, change something, and look when it is paused."""

    async def play(made: Bed) -> Any:
        await arrange(made)
        pause = made.until("paused")
        result = change(made)
        if asyncio.iscoroutine(result):
            await result
        await pause.wait()
        return (await made.app.store.rollouts(limit=1))[0]

    return lab(play)


async def short_pause(made: Bed) -> None:
    """Paused, for ten minutes at most."""
    made.head = "pause_limit: 10m"
    await paused(made)


async def unapproved(made: Bed) -> None:
    """A pause is wanted where nobody approves."""
    await waiting(
        made, "\n  - deploy: green\n  - approve: go?\n    timeout: 5m\n    on_timeout: pause\n  - promote: 100%\n"
    )


async def left_at_approval(made: Bed) -> Any:
    """Nobody stays."""
    made.steps = "\n  - deploy: green\n  - approve: go?\n  - promote: 100%\n"
    return made.left(await made.run(exit_on_pause=True))


async def stopped_while_away(made: Bed) -> Any:
    """Nobody answers, and then Ctrl-C."""
    await held(made)
    made.cloud.fail_next("observe", Temporary("no answer"), times=1000)
    await asyncio.sleep(10)
    made.stop.set()
    return made.left(await made.running)


async def stopped_while_stable_is_down(made: Bed) -> Any:
    """Nothing to give the traffic to."""
    await held(made)
    made.cloud.meddle("shop", healthy={"blue": 0})
    made.stop.set()
    return made.left(await made.running)


async def stopped_and_not_parked(made: Bed) -> Any:
    """The provider says no."""
    await held(made)
    made.cloud.fail_next("set_traffic", Permanent("out of order"), times=10)
    made.stop.set()
    return made.left(await made.running)


async def gone_for_good(made: Bed) -> None:
    """Stable is deleted, and a wait of an hour follows."""
    made.steps = GONE
    await until(made, "wait 1h")


def take_over(made: Bed) -> None:
    """Another store claims the endpoint, just before the next effect."""
    made.cloud.meddle("shop", claim=Claim("another-store", "shop-9", 9))
    made.stop.set()


async def cannot_delete(made: Bed) -> None:
    """The provider refuses."""
    made.cloud.fail_next("delete_deployment", Permanent("it is locked"), times=20)
    await made.ask("abort")


async def cannot_restore(made: Bed) -> None:
    """The provider refuses."""
    made.cloud.fail_next("set_traffic", Permanent("it is locked"), times=20)
    await made.ask("abort")


async def stable_is_down(made: Bed) -> None:
    """Nothing to give the traffic to."""
    made.cloud.meddle("shop", healthy={"blue": 0})
    await made.ask("abort")


async def endpoint_is_gone(made: Bed) -> None:
    """Somebody deleted it."""
    await made.ask("pause")
    del made.cloud.endpoints["shop"]
    await made.ask("abort")


async def aborted_before_anything(made: Bed) -> Any:
    """The provider does not take the endpoint yet."""
    made.cloud.fail_next("put_endpoint", Temporary("too many requests", retry_after=60.0), times=5)
    running = asyncio.create_task(made.run())
    await made.until("retried").wait()
    await made.ask("abort")
    return await running


async def aborted_in_bootstrap(made: Bed) -> Any:
    """blue is being deployed."""
    running = asyncio.create_task(made.run())
    await made.until("begun").wait()
    await asyncio.sleep(2)
    await made.ask("abort")
    return await running


def advised(traffic: dict[str, int], change: Callable[[Bed], Any], *, left: bool = False) -> Callable[..., Any]:
    """Another tool drives: it deployed green, and gives it traffic."""

    async def play(made: Bed) -> Any:
        made.steps = "\n  - deploy: green\n"
        await made.run()
        made.steps = GATED
        made.running = asyncio.create_task(made.run(advisory=True))
        await asyncio.sleep(5)
        made.cloud.meddle("shop", traffic=traffic)
        await asyncio.sleep(5)
        change(made)
        rollout = await made.running
        return made.left(rollout) if left else rollout

    return lab(play)


HUMANS = [
    Message(
        "decide._command undo.undo",
        "a human aborts",
        then(held, lambda m: m.ask("abort", "wrong model version")),
        "aborted by ada: wrong model version",
        BACK,
        BLUE,
        AND_LOGS,
    ),
    Message(
        "decide._command",
        "a human pauses",
        until_paused(held, lambda m: m.ask("pause", "at lunch")),
        "paused by ada: at lunch",
        PAUSED,
        f"paused; {EXPOSED}",
        HUMAN,
    ),
    Message(
        "decide._paused",
        "nobody ends a pause",
        then(short_pause, lambda m: None),
        "nobody resumed it in time; it was paused because paused by ada",
        BACK,
        BLUE,
        AND_LOGS,
    ),
    Message(
        "decide._awaiting",
        "nobody approves in time",
        plain("\n  - deploy: green\n  - approve: go?\n    timeout: 5m\n  - promote: 100%\n"),
        "nobody approved within 5m: go?",
        BACK,
        BLUE,
        AND_LOGS,
    ),
    Message(
        "decide._awaiting",
        "nobody approves in time, and the step says on_timeout: pause",
        until_paused(unapproved, lambda m: None),
        "nobody approved within 5m: go?",
        PAUSED,
        f"paused; {BOTH}",
        HUMAN,
    ),
    Message(
        "decide._depart",
        "with --exit-on-pause it leaves at an approval",
        lab(left_at_approval),
        "waits for approval: go?",
        PAUSED,
        f"running; {BOTH}",
        ("approve", "resume", "watch", "pause", "abort"),
    ),
    Message(
        "decide._running",
        "Ctrl-C, or SIGTERM",
        then(held, lambda m: m.stop.set()),
        "its driver was stopped",
        PAUSED,
        f"paused; {BOTH}",
        HUMAN,
    ),
    Message(
        "decide._unseen",
        "Ctrl-C while the provider does not answer",
        lab(stopped_while_away),
        "the provider cannot be reached, so ‹nothing was changed›",
        PAUSED,
        f"running; {EXPOSED}",
        ("resume", "watch", "pause", "abort"),
    ),
    Message(
        "decide._depart",
        "Ctrl-C while stable is not healthy",
        lab(stopped_while_stable_is_down),
        "its driver was stopped; ‹the candidate keeps its traffic›, because stable is not healthy",
        PAUSED,
        "paused; traffic blue 90%, green 10%; blue 0 of 2 healthy; green 2 of 2 healthy",
        HUMAN,
    ),
    Message(
        "decide._depart",
        "Ctrl-C, and the provider refuses to take the candidate out of traffic",
        lab(stopped_and_not_parked),
        "its driver was stopped; ‹the candidate keeps its traffic›, because it could not be taken out: out of order",
        PAUSED,
        f"paused; {EXPOSED}",
        HUMAN,
    ),
    Message(
        "decide.decide",
        "a driver is asked about a rollout that has ended",
        direct(lambda: decided(situation(phase="succeeded"))),
        "it has ended",
        None,
        do=TOLD_BELOW,
    ),
]

OTHERS = [
    Message(
        "decide._drifted",
        "somebody else changes the traffic",
        until_paused(held, lambda m: m.cloud.meddle("shop", traffic={"blue": 300, "green": 700})),
        "somebody else changed the endpoint: traffic is blue 30%, green 70%, and was left at blue 90%, green 10%",
        PAUSED,
        "paused; traffic blue 30%, green 70%; blue 2 of 2 healthy; green 2 of 2 healthy",
        ("resume", "resume", "abort"),
    ),
    Message(
        "decide._drifted",
        "somebody else changes the endpoint while stable is being deleted",
        then(gone_for_good, lambda m: m.cloud.meddle("shop", instances={"green": 1})),
        "somebody else changed the endpoint: green has 1 instances, and was set to 2; traffic green 100%; green 1 of "
        "1 healthy",
        FAILED,
        "failed; traffic green 100%; green 1 of 1 healthy",
        OVER,
    ),
    Message(
        "decide._resume",
        "--keep-theirs, after somebody else changed the traffic",
        then(drifted, lambda m: resumed(m, keep_theirs=True)),
        "left as found by ada: traffic blue 30%, green 70%; blue 2 of 2 healthy; green 2 of 2 healthy",
        FAILED,
        "failed; traffic blue 30%, green 70%; blue 2 of 2 healthy; green 2 of 2 healthy",
        OVER,
    ),
    Message(
        "driver._begin memory.rules.check_fence",
        "a rollout of another store takes the endpoint over",
        then(held, take_over),
        "Endpoint shop is claimed by rollout shop-9 of store another-store: let it end there, or steal the claim.",
        3,
        EXPOSED,
    ),
]


UNDONE = [
    Message(
        "undo.undo",
        "the candidate cannot be deleted after a rollback",
        then(held, cannot_delete),
        "aborted by ada; traffic was restored, but it is locked; traffic blue 100%; blue 2 of 2 healthy; green 2 of 2 "
        "healthy",
        FAILED,
        f"failed; {BOTH}",
        OVER,
    ),
    Message(
        "undo._restore",
        "a rollback cannot give stable its traffic back",
        then(held, cannot_restore),
        "aborted by ada; traffic could not be restored: it is locked; traffic blue 90%, green 10%; blue 2 of 2 "
        "healthy; green 2 of 2 healthy",
        FAILED,
        f"failed; {EXPOSED}",
        OVER,
    ),
    Message(
        "undo._without_stable",
        "a rollback finds no healthy instance of stable",
        then(held, stable_is_down),
        "aborted by ada; stable has no healthy instance, so traffic was left untouched; traffic blue 90%, green 10%; "
        "blue 0 of 2 healthy; green 2 of 2 healthy",
        FAILED,
        "failed; traffic blue 90%, green 10%; blue 0 of 2 healthy; green 2 of 2 healthy",
        OVER,
    ),
    Message(
        "undo._nothing_there",
        "the endpoint is gone when it is rolled back",
        then(held, endpoint_is_gone),
        "aborted by ada; the endpoint is gone, so nothing can be restored",
        FAILED,
        "failed; the endpoint does not exist",
        OVER,
    ),
    Message(
        "undo._nothing_there",
        "an abort before the endpoint was created",
        lab(aborted_before_anything),
        "aborted by ada; nothing had been created",
        BACK,
        "rolled back; the endpoint does not exist",
        OVER,
    ),
    Message(
        "undo.undo",
        "an abort while the endpoint is brought into service",
        lab(aborted_in_bootstrap),
        "aborted by ada; the bootstrap is left as it stands",
        BACK,
        "rolled back; traffic empty; blue 0 of 2 healthy",
        OVER,
    ),
]

ADVISED = [
    Message(
        "advise.advise",
        "Ctrl-C during --advisory",
        advised({"blue": 900, "green": 100}, lambda m: m.stop.set(), left=True),
        "its driver was stopped",
        PAUSED,
        f"running; {EXPOSED}",
        ("resume", "watch", "pause", "abort"),
    ),
    Message(
        "advise.advise undo.undo",
        "the candidate disappears during --advisory",
        advised({"blue": 1000}, lambda m: m.cloud.meddle("shop", remove=["green"])),
        "advisory: canary 10%: green is gone; ‹nothing was changed›",
        BACK,
        BLUE,
        OVER,
    ),
    Message(
        "advise.advise undo.undo",
        "the endpoint disappears during --advisory",
        advised({"blue": 1000}, lambda m: m.cloud.endpoints.clear()),
        "advisory: canary 10%: the endpoint is gone; ‹nothing was changed›",
        BACK,
        "rolled back; the endpoint does not exist",
        OVER,
    ),
    Message(
        "advise._judged undo.undo",
        "a gate fails during --advisory",
        advised({"blue": 900, "green": 100}, lambda m: m.cloud.behave("shop", "green", Behaviour(error_rate=0.3))),
        "advisory: would roll back: canary 10%: gate errors: green 12.1% errors against blue 0% over 116 requests: "
        "beyond the tolerance of 2x + 2% -> FAIL; nothing was changed",
        BACK,
        f"rolled back; {EXPOSED}",
        OVER,
    ),
]

ENTRIES = [*ADVISED, *HUMANS, *OTHERS, *UNDONE]
