"""What `run`, `resume` and commands that drive have in common: a face, Ctrl-C, a summary, an exit code.

Ctrl-C once is a wish: the driver finishes what it began, takes the candidate out of traffic, and leaves. Twice is an
order: the process ends at once, as if killed, which the journal is made for.
"""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import click

from orchestrator.app import App
from orchestrator.cli.following import Follower
from orchestrator.cli.main import INTERRUPTED, SUCCEEDED
from orchestrator.cli.ndjson import Recorder, Target
from orchestrator.cli.session import code_of, seen, show_json
from orchestrator.cli.shown import Shown
from orchestrator.explain import commands, serving
from orchestrator.journal import Watcher
from orchestrator.rollout import Rollout
from orchestrator.views import RolloutView
from plans.units import show_duration

Result = TypeVar("Result")
ASIDE = "aside"
"""The output of a command whose stdout holds the journal: text, on stderr."""
FOOTER = "Ctrl-C: stop safely (the candidate leaves traffic, rollout resume goes on); twice: leave at once"
SAID = {
    "pending": "not begun",
    "running": "left where a human is needed",
    "paused": "paused, needs a human",
    "rolling_back": "still rolling back",
    "succeeded": "succeeded",
    "rolled_back": "rolled back",
    "failed": "failed, needs a human",
}
ADVISED = {"succeeded": "found nothing against the candidate", "rolled_back": "advises to roll back"}
"""Of an advisory rollout, which changed nothing."""


async def shown(
    app: App,
    drive: Callable[[Watcher, asyncio.Event], Awaitable[Result]],
    *,
    output: str,
    stop: asyncio.Event,
    on_stop: str = "stopping safely: finishing what was begun, then leaving (Ctrl-C again: leave at once)",
    keys: bool = False,
    events: Target | None = None,
) -> Result:
    """Drive while a face shows it; Ctrl-C sets `stop`. Raises what `drive` raises, with the terminal as it was.

    Args:
        app: open. drive: with its watcher. output: text, or a form for programs, for which stdout is kept free.
        stop: set by Ctrl-C. on_stop: what is said then.
        keys: whether keys ask something of it, where there is a terminal. events: where the journal goes, too.
    """
    follower = Follower(app)

    def leave() -> None:
        if not stop.is_set():
            stop.set()
            face.say(on_stop)

    def interrupted(number: int) -> None:
        # A terminal that closes may say so twice: that is no order to leave at once.
        if stop.is_set() and number != signal.SIGHUP:
            face.leave_at_once(INTERRUPTED, _last_words(follower.rollout))
        leave()

    face = Shown(
        follower,
        for_programs=output != "text",
        driving=True,
        without=FOOTER,
        leave=leave,
        interrupted=interrupted,
        keys=keys,
    )
    async with face, _recorded(events, follower):
        result = await drive(follower.ring, stop)
        await face.last_picture()
        return result


@contextlib.asynccontextmanager
async def _recorded(events: Target | None, follower: Follower) -> AsyncIterator[None]:
    if events is None:
        yield
        return
    recorder = Recorder(events, follower)
    recorder.start()
    try:
        yield
    finally:
        await recorder.finish()


def _last_words(rollout: Rollout | None) -> str:
    goes_on = f"; rollout resume {rollout.id} goes on from there, until then nobody guards it" if rollout else ""
    return f"left at once: nothing is lost, the journal has it{goes_on}"


async def until_ended(app: App, rollout: Rollout, *, output: str, patience: float) -> Rollout:
    """Show what another process does with it until it has ended, or for `patience` seconds; how it stands then.

    Raises Abort when Ctrl-C left it.
    """
    follower = Follower(app)
    follower.follow(rollout, since=rollout.last_seq)
    left = asyncio.Event()
    face = Shown(
        follower,
        for_programs=output != "text",
        driving=False,
        without="Ctrl-C: leave (it goes on)",
        interrupted=lambda _: left.set(),
        keys=False,
    )
    async with face:
        leaving = asyncio.create_task(left.wait())
        either: list[asyncio.Task[Any]] = [face.showing, leaving]
        await asyncio.wait(either, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        leaving.cancel()
        if face.showing.done():
            face.showing.result()
    if left.is_set():
        raise click.Abort
    return await app.store.rollout(rollout.id)


async def conclude(app: App, rollout: Rollout, *, output: str, stop: asyncio.Event) -> int:
    """Say how it ended and what to type next; returns the exit code."""
    view = await seen(app, rollout)
    if output == "json":
        show_json(view)
    else:
        click.echo("\n" + summary(view), err=output == ASIDE)
    return INTERRUPTED if stop.is_set() and rollout.active else code_of(rollout)


async def told(app: App, rollout: Rollout, *, output: str, extended: float | None = None) -> int:
    """Say that another process goes on with it, `extended`: for so many seconds more."""
    view = await seen(app, rollout)
    if output == "json":
        show_json(view)
    else:
        known = view.driver is not None and view.driver.pid is not None
        who = f"process {view.driver.pid} on {view.driver.host}" if view.driver and known else "another process"
        more = f", with {show_duration(extended)} more for its step" if extended else ""
        click.echo(f"{view.id}: goes on{more}, {who} drives it (rollout watch {view.id} shows it)", err=output == ASIDE)
    return SUCCEEDED


def summary(view: RolloutView) -> str:
    """Result, reason, what serves now, and what to type next."""
    after = "after" if view.phase != "succeeded" else "in"
    said = ADVISED.get(view.phase, SAID[view.phase]) if view.advisory else SAID[view.phase]
    lines = [f"{view.id}: {said} {after} {show_duration(round(view.seconds))}"]
    if view.reason:
        first, *log = view.reason.splitlines()
        lines += [f"  {first}", *(f"      {line}" for line in log)]
    lines.append(f"  endpoint {view.endpoint} now: {serving(view.traffic)}" + _mirrored(view))
    if view.logs:
        lines.append(f"  logs of {view.candidate or 'the candidate'}: {view.logs}")
    found = commands(view)
    width = max(len(command) for command, _ in found)
    lines += [f"  {command:<{width}}  {why}" for command, why in found]
    return "\n".join(lines)


def _mirrored(view: RolloutView) -> str:
    return f", mirror {serving(view.mirror)}" if view.mirror else ""
