"""What `run`, `resume` and commands that drive have in common: a face, Ctrl-C, a summary, an exit code.

Ctrl-C once is a wish: the driver finishes what it began, takes the candidate out of traffic, and leaves. Twice is an
order: the process ends at once, as if killed, which the journal is made for.
"""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from typing import TypeVar

import click

from orchestrator.app import App
from orchestrator.cli.following import Face, Follower
from orchestrator.cli.live import face as choose_face
from orchestrator.cli.main import INTERRUPTED, SUCCEEDED
from orchestrator.cli.session import code_of, seen, show_json
from orchestrator.explain import commands, serving
from orchestrator.journal import Watcher
from orchestrator.rollout import Rollout
from orchestrator.views import RolloutView
from plans.units import show_duration

Result = TypeVar("Result")
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


async def shown(
    app: App,
    drive: Callable[[Watcher, asyncio.Event], Awaitable[Result]],
    *,
    output: str,
    stop: asyncio.Event,
    on_stop: str = "stopping safely: finishing what was begun, then leaving (Ctrl-C again: leave at once)",
) -> Result:
    """Drive while a face shows it; Ctrl-C sets `stop`. Raises what `drive` raises, with the terminal as it was.

    Args:
        app: open. drive: with its watcher. output: text, or a form for programs, for which stdout is kept free.
        stop: set by Ctrl-C. on_stop: what is said then.
    """
    follower = Follower(app)
    face = choose_face(footer=FOOTER, for_programs=output != "text")
    loop = asyncio.get_running_loop()

    def interrupted() -> None:
        if stop.is_set():
            _leave_at_once(face, follower.rollout)
        stop.set()
        face.say(on_stop)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupted)
    showing = asyncio.create_task(follower.keep_showing(face))
    try:
        result = await drive(follower.ring, stop)
        await _settled(showing)
        await follower.show(face)
        return result
    finally:
        await _settled(showing)
        face.close()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


async def _settled(task: "asyncio.Task[None]") -> None:
    """End the face's task; a face that failed must not change how a rollout ended."""
    task.cancel()
    (outcome,) = await asyncio.gather(task, return_exceptions=True)
    if isinstance(outcome, Exception):
        click.echo(
            f"rollout: the live view failed ({type(outcome).__name__}: {outcome}); the rollout went on", err=True
        )


def _leave_at_once(face: Face, rollout: Rollout | None) -> None:
    face.close()
    goes_on = f"; rollout resume {rollout.id} goes on from there, until then nobody guards it" if rollout else ""
    click.echo(f"left at once: nothing is lost, the journal has it{goes_on}", err=True)
    os._exit(INTERRUPTED)


async def until_ended(app: App, rollout: Rollout, *, output: str, patience: float) -> Rollout:
    """Show what another process does with it until it has ended, or for `patience` seconds; how it stands then."""
    follower = Follower(app)
    follower.follow(rollout, since=rollout.last_seq)
    face = choose_face(footer="Ctrl-C: leave (it goes on)", for_programs=output != "text")
    try:
        async with asyncio.timeout(patience):
            await follower.keep_showing(face)
    except TimeoutError:
        pass  # how it stands is the answer
    finally:
        face.close()
    return await app.store.rollout(rollout.id)


async def conclude(app: App, rollout: Rollout, *, output: str, stop: asyncio.Event) -> int:
    """Say how it ended and what to type next; returns the exit code."""
    view = await seen(app, rollout)
    if output == "json":
        show_json(view)
    else:
        click.echo("\n" + summary(view))
    return INTERRUPTED if stop.is_set() and rollout.active else code_of(rollout)


async def told(app: App, rollout: Rollout, *, output: str) -> int:
    """Say that another process goes on with it."""
    view = await seen(app, rollout)
    if output == "json":
        show_json(view)
    else:
        known = view.driver is not None and view.driver.pid is not None
        who = f"process {view.driver.pid} on {view.driver.host}" if view.driver and known else "another process"
        click.echo(f"{view.id}: resumed, {who} drives it (rollout watch {view.id} shows it)")
    return SUCCEEDED


def summary(view: RolloutView) -> str:
    """Result, reason, what serves now, and what to type next."""
    after = "after" if view.phase != "succeeded" else "in"
    lines = [f"{view.id}: {SAID[view.phase]} {after} {show_duration(round(view.seconds))}"]
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
