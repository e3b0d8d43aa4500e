"""`rollout watch`: the live view of a rollout that another process drives, read from the store alone."""

import asyncio
import contextlib
import sys
from collections.abc import Iterator

import click

from orchestrator.cli import options


@click.command("watch", epilog=options.example("rollout watch", "rollout watch diabetes > rollout.log"))
@options.ref
@options.output()
def watch_command(ref: str | None, output: str) -> int:
    """Follow a rollout live until it ends; the exit code then says how.

    Watching changes nothing: q or Ctrl-C leaves, and the rollout goes on.
    ROLLOUT is an id, the beginning of one, or a name; without it, the newest that can be meant.
    """
    from orchestrator import app as use_cases
    from orchestrator.cli.driving import conclude
    from orchestrator.cli.following import Follower
    from orchestrator.cli.live import face as choose_face
    from orchestrator.cli.session import within

    async def work(app: use_cases.App) -> int:
        left = asyncio.Event()
        follower = Follower(app)
        follower.follow(await use_cases.find(app, ref))
        keys = sys.stdin.isatty()
        face = choose_face(
            footer=f"{'q' if keys else 'Ctrl-C'}: leave (the rollout goes on)", for_programs=output == "json"
        )
        with pressed("q", left) if keys else contextlib.nullcontext():
            showing = asyncio.create_task(follower.keep_showing(face))
            leaving = asyncio.create_task(left.wait())
            try:
                await asyncio.wait({showing, leaving}, return_when=asyncio.FIRST_COMPLETED)
                if showing.done():
                    showing.result()
            finally:
                showing.cancel()
                leaving.cancel()
                await asyncio.gather(showing, leaving, return_exceptions=True)
                face.close()
        if left.is_set() or follower.rollout is None:
            return 0
        return await conclude(app, follower.rollout, output=output, stop=asyncio.Event())

    return within(work)


@contextlib.contextmanager
def pressed(key: str, event: asyncio.Event) -> Iterator[None]:
    """Set `event` when the key is pressed, without a return key and without an echo; Ctrl-C stays Ctrl-C."""
    import os
    import termios
    import tty

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    loop = asyncio.get_running_loop()

    def read() -> None:
        if key.encode() in os.read(descriptor, 64).lower():
            event.set()

    tty.setcbreak(descriptor)
    loop.add_reader(descriptor, read)
    try:
        yield
    finally:
        loop.remove_reader(descriptor)
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
