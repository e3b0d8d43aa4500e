"""A rollout shown for as long as somebody drives or watches it: its face, the keys below it, the signals around it.

Keys and signals only leave wishes: a command in the store, as from any other terminal; or a flag that whoever drives
looks at. The terminal is left as it was found in every way out: the end, an error, a signal, Ctrl-Z, Ctrl-C twice.
"""

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self

import click

from orchestrator import app as use_cases
from orchestrator.cli.following import EVERY, Follower
from orchestrator.cli.keys import Keys, pressed
from orchestrator.cli.live import GRACE, Screen
from orchestrator.cli.live import face as choose_face
from orchestrator.cli.terminal import Keyboard, in_foreground
from orchestrator.errors import OrchestratorError
from orchestrator.standing import CommandKind
from orchestrator.views import RolloutView

ANSWER = 60.0
"""Seconds for which an answer to a key is waited for; what was asked stays recorded."""
LOOK = 0.1
"""Seconds between looks at whether there is one."""
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Shown:
    """The face of the rollout that `follower` follows, from entering to leaving this context.

    Args:
        follower: of a rollout, which may become known later.
        for_programs: keep stdout free.
        driving: this process drives: q stops it safely, and Ctrl-Z is worth a warning.
        without: what the footer says where no keys are heard.
        leave: called for q. interrupted: called with SIGINT, SIGTERM or SIGHUP; None leaves them as they are.
        keys: whether to listen to any.
    """

    def __init__(
        self,
        follower: Follower,
        *,
        for_programs: bool,
        driving: bool,
        without: str,
        leave: Callable[[], None] = lambda: None,
        interrupted: Callable[[int], None] | None = None,
        keys: bool = True,
    ) -> None:
        self._follower, self._driving = follower, driving
        self._leave, self._interrupted = leave, interrupted
        environment = follower.app.settings.environment
        self.face = choose_face(footer=self._footer, for_programs=for_programs, environment=environment)
        on_screen = isinstance(self.face, Screen)
        self._keyboard = Keyboard.of() if keys and on_screen else None
        self._keys = Keys(driving=driving, heard=self._keyboard is not None, without=without)
        self._on_screen = on_screen
        self._handled: list[int] = []
        self._reading = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        for number in ENDING if self._interrupted is not None else ():
            # Who was started with nohup has been told not to mind a terminal that closes.
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                self._handle(number, lambda number=number: self._interrupted(number))  # type: ignore[misc]
        if self._on_screen:
            self._handle(signal.SIGWINCH, self._follower.wake)
            if signal.getsignal(signal.SIGTSTP) is not signal.SIG_IGN:
                self._handle(signal.SIGTSTP, self._suspend)
                self._handle(signal.SIGCONT, self._continued)
        self.showing = asyncio.create_task(self._follower.keep_showing(self.face), name="face")
        if self._keyboard is not None:
            self._start(self._keep_listening())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self.settle()
        finally:
            self.face.close()
            self._deaf()
            for number in self._handled:
                self._loop.remove_signal_handler(number)

    async def settle(self) -> None:
        """End the drawing; a face that failed must not change how a rollout ended. Who only watches is told by the
        error itself.
        """
        self.showing.cancel()
        (outcome,) = await asyncio.gather(self.showing, return_exceptions=True)
        if self._driving and isinstance(outcome, Exception):
            problem = f"{type(outcome).__name__}: {outcome}"
            click.echo(f"rollout: the live view failed ({problem}); the rollout went on", err=True)

    async def last_picture(self) -> None:
        """Show once more, now that nothing changes any longer."""
        await self.settle()
        self.showing = asyncio.create_task(self._follower.show(self.face), name="last picture")
        await asyncio.wait([self.showing])

    def say(self, message: str) -> None:
        """One line of our own. Keys do nothing from here on."""
        self._keys.close()
        self.face.say(message)
        self._follower.wake()

    def leave_at_once(self, code: int, words: str) -> None:
        """End this process now, as if killed, but with the terminal as it was."""
        if self._keyboard is not None:
            self._keyboard.give_back()

        def last() -> None:
            self.face.close()
            click.echo(words, err=True)

        # In a thread, because a terminal that stands still must not keep anybody who wants to leave.
        thread = threading.Thread(target=last, daemon=True)
        thread.start()
        thread.join(2 * GRACE)
        os._exit(code)

    # --- keys -------------------------------------------------------------------------------------

    def _footer(self, view: RolloutView, width: int) -> str:
        return self._keys.footer(view, width, self._loop.time())

    async def _keep_listening(self) -> None:
        """Listen whenever this process has the terminal: the shell may take it away and give it back."""
        while self._keyboard is not None:
            self._listen()
            await asyncio.sleep(EVERY)

    def _listen(self) -> None:
        if self._keyboard is None:
            return
        self._keyboard.take()
        if self._keyboard.taken and not self._reading:
            self._loop.add_reader(self._keyboard.descriptor, self._typed)
            self._reading = True

    def _deaf(self) -> None:
        if self._keyboard is None:
            return
        if self._reading:
            self._loop.remove_reader(self._keyboard.descriptor)
            self._reading = False
        self._keyboard.give_back()

    def _typed(self) -> None:
        if self._keyboard is None or not in_foreground(self._keyboard.descriptor):
            self._deaf()  # what is typed now is meant for the shell
            return
        data = self._keyboard.read()
        if data is None:
            self._deaf()
            self._keyboard = None
            return
        rollout = self._follower.rollout
        view = self._follower.view(self._follower.app.clock()) if rollout is not None else None
        wish = self._keys.press(pressed(data), view, self._loop.time())
        if wish == "leave":
            self._leave()
        elif wish is not None:
            self._start(self._ask(wish))
        self._follower.wake()

    async def _ask(self, wish: CommandKind) -> None:
        outcome = f"{wish} is recorded, and nobody has acted on it yet"
        rollout = self._follower.rollout
        assert rollout is not None  # without one no key asks for anything
        try:
            async with asyncio.timeout(ANSWER):
                outcome = await asked(self._follower.app, wish, rollout.id)
        except TimeoutError:
            pass
        except OrchestratorError as error:
            outcome = f"{wish} could not be recorded: {error}"
        self._keys.answered(wish, outcome, self._loop.time())
        self._follower.wake()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- signals ----------------------------------------------------------------------------------

    def _handle(self, number: int, then: Callable[[], None]) -> None:
        self._loop.add_signal_handler(number, then)
        self._handled.append(number)

    def _suspend(self) -> None:
        """Ctrl-Z: leave the terminal to the shell, then stop as everybody else would."""
        self.face.suspend()
        self._deaf()
        if self._driving:
            then = f"rollout resume {self._follower.id}" if self._follower.id else "rollout run"
            words = f"nobody guards the candidate until fg or bg; after some seconds the lease is lost, then {then}"
            click.echo(f"stopped: {words}", err=True)
        self._loop.remove_signal_handler(signal.SIGTSTP)
        signal.raise_signal(signal.SIGTSTP)
        # Here it goes on, sooner or later.
        self._loop.add_signal_handler(signal.SIGTSTP, self._suspend)

    def _continued(self) -> None:
        self._deaf()  # who was stopped by SIGSTOP had no time for it
        self._listen()
        self._follower.wake()


async def asked(app: use_cases.App, wish: CommandKind, rollout: str) -> str:
    """Record what a key asked for, and wait for what its driver says about it, in words.

    Raises OrchestratorError when it could not be recorded.
    """
    command = await use_cases.post(app, wish, await app.store.rollout(rollout))
    while True:
        posted = next(found for found in await app.store.commands(rollout, pending=False) if found.id == command.id)
        if posted.outcome is not None:
            refused = posted.outcome.removeprefix("refused: ")
            return f"{wish} accepted" if posted.outcome == "accepted" else f"{wish} refused: {refused}"
        now = await use_cases.as_it_stands(app, await app.store.rollout(rollout))
        if not now.active:
            return f"{wish} came too late: it has ended, {now.phase.replace('_', ' ')}"
        if now.worker is None:
            return f"{wish} is recorded, but nobody drives it now: rollout {wish} {rollout}"
        await asyncio.sleep(LOOK)
