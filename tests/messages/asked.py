"""What is answered to pause, resume, abort and approve, and to a rollout that is not there."""

import asyncio
from typing import Any

from orchestrator import app as use_cases
from orchestrator.flags import Flags
from providers.errors import Temporary
from tests.messages.bench import Bed, direct, lab, shop
from tests.messages.decisions import decided, situation
from tests.messages.entry import ALREADY, NOT_NOW, TOO_LATE, Message

RUNNING, PAUSED = "it is running as before", "it is paused as before"
ROLLING_BACK = "it is rolling back as before"
APPROVAL = "\n  - deploy: green\n  - approve: go?\n  - promote: 100%\n"
HELD = "\n  - deploy: green\n  - canary: 10%\n    gates: [errors]\n    hold: 1h\n  - promote: 100%\n    hold: 1h\n"


async def until(made: Bed, name: str, *, kind: str = "reached", run: bool = True, **flags: bool) -> None:
    """Drive, until the step of that name is so far."""
    happened = asyncio.Event()

    def look(rollout: Any, event: Any) -> None:
        if event.body.kind == kind and (not name or (rollout.record and rollout.record.name == name)):
            happened.set()

    made.on_event.append(look)
    if run:
        made.running = asyncio.create_task(made.run(**flags))
    await happened.wait()


async def waiting(made: Bed, steps: str = APPROVAL) -> None:
    """Drive, until the approval is waited for."""
    made.steps = steps
    made.running = asyncio.create_task(made.run())
    while not any(event.body.kind == "waited" and event.body.waiting.kind == "approval" for event in made.seen):
        await asyncio.sleep(0.5)


async def held(made: Bed) -> None:
    """Drive, until green answers 10%."""
    made.steps = HELD
    await until(made, "canary 10%")


async def paused(made: Bed) -> None:
    """As held, then paused."""
    await held(made)
    await made.ask("pause")


async def drifted(made: Bed) -> None:
    """As held, then somebody changes the traffic."""
    await held(made)
    made.cloud.meddle("shop", traffic={"blue": 300, "green": 700})
    await until(made, "", kind="paused", run=False)


async def leaving_for_good(made: Bed) -> None:
    """Drive, until stable is being deleted, which takes a while."""
    made.cloud.delay("delete_deployment", 3.0)
    made.steps = "\n  - deploy: green\n  - promote: 100%\n  - delete: blue\n"
    await until(made, "delete blue", kind="intended")


async def rolling_back(made: Bed) -> None:
    """An abort is being carried out, and the provider does not answer."""
    await held(made)
    made.cloud.fail_next("begin", Temporary("no answer", retry_after=60.0), times=3)
    await made.ask("abort", "wrong version")


async def approved_and_paused(made: Bed) -> None:
    """The approval of a paused rollout's step was given; it goes on when it is resumed."""
    await waiting(made)
    await made.ask("pause")
    await made.ask("approve")


async def not_by_starter(made: Bed) -> None:
    """Another one must approve."""
    await waiting(made, APPROVAL.replace("go?\n", "go?\n    not_by_starter: true\n"))


async def set_aside(made: Bed) -> None:
    """As held, and its gate does not count."""
    await held(made)
    await made.ask("approve", "no harm", despite="errors")


async def waiting_for_time(made: Bed) -> None:
    """A wait of an hour."""
    made.steps = "\n  - deploy: green\n  - wait: 1h\n  - promote: 100%\n"
    await until(made, "wait 1h")


async def paused_without_deadline(made: Bed) -> None:
    """A wait, paused."""
    await waiting_for_time(made)
    await made.ask("pause")


async def drifted_and_away(made: Bed) -> None:
    """As drifted, and then nobody answers."""
    await drifted(made)
    made.cloud.fail_next("observe", Temporary("no answer"), times=1000)
    await asyncio.sleep(5)


async def resumed(made: Bed, **flags: Any) -> Any:
    """`rollout resume`, from another terminal."""
    return await use_cases.resume(made.app, None, Flags(**flags), watcher=made.watch, stop=asyncio.Event())


def after(arrange: Any, ask: Any) -> Any:
    """Ask once everything is arranged."""

    async def play(made: Bed) -> Any:
        await arrange(made)
        return ask(made)

    return lab(play)


REFUSED = "cli.ask._ask decide."

NOT_THERE = [
    Message(
        "app.find",
        "there is no rollout at all",
        shop("status"),
        "there is no rollout yet: «`rollout run plan.yml` begins one»",
    ),
    Message(
        "app.find",
        "no rollout is called so",
        shop("status shpo", lambda b: b.served()),
        "there is no rollout shpo; «the newest are: <id>»",
    ),
    Message(
        "app.find",
        "several rollouts begin so",
        shop(
            "status sho", lambda b: (b.served(), b.plan("  - wait: 0s\n", head="stable: blue\n"), b.do("run plan.yml"))
        ),
        "sho is the beginning of several: <id>, <id>; «write more of it»",
    ),
    Message(
        "app._not_ended",
        "an abort of what has ended",
        shop("abort", lambda b: b.served()),
        "rollout <id> has ended: succeeded (shop now serves blue 100%); ‹there is nothing to abort›",
        do=ALREADY,
    ),
    Message(
        "app._not_ended",
        "a resume of what was aborted",
        shop("resume", lambda b: (b.waiting(), b.do("abort"))),
        "rollout <id> has ended: rolled back (aborted by ada); ‹there is nothing to resume›",
        do=ALREADY,
    ),
    Message(
        "cli.ask._ask decide._command",
        "a second pause, on a command line",
        shop("pause", lambda b: (b.waiting(), b.do("pause"))),
        "pause of <id> was not done: it is paused already (paused by ada)",
        stands=PAUSED,
        do=ALREADY,
    ),
]

ABORTS = [
    Message(
        REFUSED + "_command",
        "a second abort while the first is carried out",
        after(rolling_back, lambda m: m.ask("abort")),
        "it is being rolled back already (aborted by ada: wrong version)",
        stands=ROLLING_BACK,
        do=ALREADY,
    ),
    Message(
        REFUSED + "_command",
        "an abort while stable is being deleted",
        after(leaving_for_good, lambda m: m.ask("abort")),
        "it is past the point of no return: stable is being deleted, so it goes on to its end",
        stands=RUNNING,
        do=TOO_LATE,
    ),
]

PAUSES = [
    Message(
        REFUSED + "_command",
        "a pause of what is paused",
        after(paused, lambda m: m.ask("pause")),
        "it is paused already (paused by ada)",
        stands=PAUSED,
        do=ALREADY,
    ),
    Message(
        REFUSED + "_command",
        "a pause while it is rolled back",
        after(rolling_back, lambda m: m.ask("pause")),
        "it is being rolled back",
        stands=ROLLING_BACK,
        do=TOO_LATE,
    ),
    Message(
        "decide._command",
        "a pause in the moment between the last step and the end",
        direct(lambda: decided(situation(past_the_last=True, command="pause")), code=2),
        "its last step is done",
        do=TOO_LATE,
    ),
    Message(
        REFUSED + "_command",
        "a pause while stable is being deleted",
        after(leaving_for_good, lambda m: m.ask("pause")),
        "it is past the point of no return",
        stands=RUNNING,
        do=TOO_LATE,
    ),
]

APPROVALS = [
    Message(
        REFUSED + "_approve",
        "an approval while the step waits for none",
        after(held, lambda m: m.ask("approve")),
        "it waits for no approval: it is running in canary 10%",
        stands=RUNNING,
        do=NOT_NOW,
    ),
    Message(
        REFUSED + "_approve",
        "a second approval of a step that pauses meanwhile",
        after(approved_and_paused, lambda m: m.ask("approve")),
        "ada has approved it already",
        stands=PAUSED,
        do=ALREADY,
    ),
    Message(
        REFUSED + "_approve",
        "who began the rollout approves a step that says not_by_starter",
        after(not_by_starter, lambda m: m.ask("approve")),
        "ada started it, and the step says not_by_starter: «another person must approve»",
        stands=RUNNING,
    ),
    Message(
        REFUSED + "_set_aside",
        "a gate is set aside while it is rolled back",
        after(rolling_back, lambda m: m.ask("approve", "no harm", despite="errors")),
        "there is no gate to set aside: it is rolling back",
        stands=ROLLING_BACK,
        do=NOT_NOW,
    ),
    Message(
        REFUSED + "_set_aside",
        "a gate is set aside that the step does not have",
        after(held, lambda m: m.ask("approve", "no harm", despite="latency")),
        "canary 10% has no gate latency: «its gates are errors»",
        stands=RUNNING,
    ),
    Message(
        REFUSED + "_set_aside",
        "a gate is set aside in a step without gates",
        after(waiting, lambda m: m.ask("approve", "no harm", despite="latency")),
        "approve: go? has no gate latency: it has none",
        stands=RUNNING,
        do=NOT_NOW,
    ),
    Message(
        REFUSED + "_set_aside",
        "a gate is set aside without a reason",
        after(held, lambda m: m.ask("approve", despite="errors")),
        "to go on despite gate errors «needs a reason: it is kept in the journal»",
        stands=RUNNING,
    ),
    Message(
        REFUSED + "_set_aside",
        "a gate is set aside twice",
        after(set_aside, lambda m: m.ask("approve", "no harm", despite="errors")),
        "gate errors is set aside already in canary 10%",
        stands=RUNNING,
        do=ALREADY,
    ),
]

RESUMES = [
    Message(
        "app.resume decide._resume",
        "more time for a step without a deadline",
        after(waiting_for_time, lambda m: resumed(m, extend=600.0)),
        "<id>: the current step has no deadline that could be extended",
        stands=RUNNING,
        do=NOT_NOW,
    ),
    Message(
        "app.resume decide._resume",
        "more time for a paused step without a deadline",
        after(paused_without_deadline, lambda m: resumed(m, extend=600.0)),
        "<id>: the current step has no deadline that could be extended",
        stands=PAUSED,
        do=NOT_NOW,
    ),
    Message(
        "app.resume decide._resume",
        "more time, while it is rolled back",
        after(rolling_back, lambda m: resumed(m, extend=600.0)),
        "<id>: it is not paused: it is rolling back",
        stands=ROLLING_BACK,
        do=NOT_NOW,
    ),
    Message(
        "app.resume decide._resume",
        "a plain resume, after somebody else changed the endpoint",
        after(drifted, resumed),
        "<id>: somebody else changed the endpoint: traffic is blue 30%, green 70%, and was left at blue 90%, green "
        "10%: "
        "«say --take-back to undo that, or --keep-theirs to leave it so and end»",
        stands=PAUSED,
    ),
    Message(
        "app.resume decide._resume",
        "--take-back while the provider does not answer",
        after(drifted_and_away, lambda m: resumed(m, take_back=True)),
        "<id>: the provider cannot be reached, so nothing can be taken back now: «try again»",
        stands=PAUSED,
    ),
]

ENTRIES = [*NOT_THERE, *ABORTS, *PAUSES, *APPROVALS, *RESUMES]
