"""What every command that touches the store does: open the application, run one coroutine in it, print one answer.

Heavy imports are fine here: a command imports this module when it runs.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

import click

from orchestrator.app import App, as_it_stands, opened
from orchestrator.cli.main import FAILED, PAUSED, ROLLED_BACK, SUCCEEDED, TRY_AGAIN
from orchestrator.rollout import Rollout
from orchestrator.views import RolloutView, as_json, view

CODES = {
    "running": PAUSED,
    "paused": PAUSED,
    "succeeded": SUCCEEDED,
    "rolled_back": ROLLED_BACK,
    "failed": FAILED,
}


def within(work: Callable[[App], Awaitable[int | None]]) -> int:
    """Open the application, do the work, close; returns the exit code."""

    async def session() -> int:
        async with opened() as app:
            return await work(app) or SUCCEEDED

    return asyncio.run(session())


def code_of(rollout: Rollout) -> int:
    """The exit code that tells how a rollout stands when its driver left it.

    One that runs was left at an approval, which needs a human as a pause does; 3 for one that still rolls back.
    """
    return CODES.get(rollout.phase, TRY_AGAIN)


async def seen(app: App, rollout: Rollout) -> RolloutView:
    """The full picture of a rollout."""
    events = await app.store.events(rollout.id)
    measurements = await app.store.measurements(rollout.id)
    rollout = await as_it_stands(app, rollout)
    return view(rollout, events=events, measurements=measurements, now=app.clock())


def show_json(value: Any) -> None:
    """Print a value as JSON; views and other dataclasses are turned into it."""
    click.echo(json.dumps(as_json(value), indent=2, ensure_ascii=False, allow_nan=False))


def warn(message: str) -> None:
    """A line on stderr."""
    click.echo(message, err=True)


def local(at: datetime, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    """A time as this machine's clock on the wall shows it."""
    return at.astimezone().strftime(form)
