"""`rollout watch`: the live view of a rollout that another process drives, read from the store alone."""

import asyncio
from typing import Any

import click

from orchestrator.cli import options


@click.command("watch", epilog=options.example("rollout watch", "rollout watch diabetes > rollout.log"))
@options.ref
@options.output()
def watch_command(ref: str | None, output: str) -> int:
    """Follow a rollout live until it ends; the exit code then says how.

    Use it from a second terminal: it shows what `rollout run` shows. Of a rollout that has ended it shows the last
    picture. Watching changes nothing: q or Ctrl-C leaves, and the rollout goes on. The keys p, a and x ask whoever
    drives it to pause or resume, to go on where a step waits for approval, and to abort; the answer is shown.

    ROLLOUT is an id, the beginning of one, or a name; without it, the newest that can be meant.
    """
    from orchestrator import app as use_cases
    from orchestrator.cli.driving import conclude
    from orchestrator.cli.following import Follower
    from orchestrator.cli.main import INTERRUPTED, SUCCEEDED
    from orchestrator.cli.session import warn, within
    from orchestrator.cli.shown import Shown

    async def work(app: use_cases.App) -> int:
        left: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def leave(code: int) -> None:
            if not left.done():
                left.set_result(code)

        follower = Follower(app)
        follower.follow(await use_cases.find(app, ref))
        shown = Shown(
            follower,
            for_programs=output != "text",
            driving=False,
            without="Ctrl-C: leave (the rollout goes on)",
            leave=lambda: leave(SUCCEEDED),
            interrupted=lambda _: leave(INTERRUPTED),
        )
        async with shown:
            either: list[asyncio.Future[Any]] = [shown.showing, left]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if shown.showing.done():
                shown.showing.result()
        if left.done() or follower.rollout is None:
            warn(f"left: {follower.id} goes on (rollout watch {follower.id} shows it again)")
            return left.result() if left.done() else SUCCEEDED
        return await conclude(app, follower.rollout, output=output, stop=asyncio.Event())

    return within(work)
