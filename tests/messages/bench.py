"""Where situations are made: a folder with a plan, a home of its own, a simulated cloud; on a command line or in a lab.

A cause is one of:

    shop(...)   a command line in that folder, through `orchestrator.cli.main.main`, in real time
    lab(...)    use cases in virtual time, with the `Lab` of tests/engine
    direct(...) a function of ours, called with values
"""

import asyncio
import contextlib
import inspect
import io
import os
import re
import shlex
import sqlite3
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import looptime
import pytest

from orchestrator.app import App, Asked, as_it_stands
from orchestrator.cli.driving import summary
from orchestrator.cli.main import USAGE, code_of, main
from orchestrator.cli.session import code_of as code_of_rollout
from orchestrator.explain import commands
from orchestrator.reconcile import standing
from orchestrator.rollout import Rollout
from orchestrator.settings import Settings
from orchestrator.store.memory import MemoryStore
from orchestrator.tasks.result import TaskResult
from orchestrator.views import view
from providers.base import Failed
from providers.memory import DURATIONS, World
from providers.memory import provider as memory
from tests.engine.conftest import EPOCH, Lab
from tests.messages.entry import NOTHING, Outcome

PLAN = """\
version: 1
name: shop
provider: memory
endpoint: {file: endpoint.yml}
deployments:
  blue: {file: blue.yml}
  green: {file: green.yml}
steps:
"""
STEPS = """\
  - deploy: green
  - promote: 100%
  - delete: blue
"""
ROLES = """\
version: 1
name: shop
provider: memory
endpoint: {file: endpoint.yml}
slots: [blue, green]
candidate: {file: green.yml}
steps:
  - deploy: candidate
  - promote: 100%
"""
VARIES = (
    (r"\bshop-\d{8}-[0-9a-z]{5}\b", "<id>"),
    (r"\bcli-[0-9a-f]{20,}(\.\d+)?\b", "<id>"),
    (
        r"\b[0-9a-f]{64}\b|(?<=digest )[0-9a-f]{12}\b|(?<=sha256 )[0-9a-f]{12}\b|(?<=instead of )[0-9a-f]{12}\b",
        "<digest>",
    ),
    (r"(?<=there, )[0-9a-f]{12}(?= in the plan)", "<digest>"),
    (r"(?<=belongs to user )\d+", "<uid>"),
    (r"(?<=127\.0\.0\.1:)\d+", "<port>"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d(:\d\d)?", "<time>"),
)


Journals = tuple[tuple[str, str, int], ...]
"""Rollouts: id, phase, events."""


@dataclass(frozen=True)
class Fingerprint:
    """The world, endpoints and files, and what is written of it."""

    world: object
    files: Mapping[str, bytes]
    journals: Journals


class Bench:
    """One situation's surroundings."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        self.folder, self.home, self.name, self._patch = folder, folder / "home", name, monkeypatch
        self.cleanup = contextlib.ExitStack()
        monkeypatch.chdir(folder)
        for variable in ("ROLLOUT_STORE", "ROLLOUT_DEBUG", "XDG_RUNTIME_DIR", "COLUMNS"):
            monkeypatch.delenv(variable, raising=False)
        for variable, value in (
            ("ROLLOUT_HOME", str(self.home)),
            ("ROLLOUT_ACTOR", "ada"),
            ("NO_COLOR", "1"),
            ("TERM", "dumb"),
            ("TZ", "UTC"),
        ):
            monkeypatch.setenv(variable, value)
        monkeypatch.setitem(memory._WORLDS, "default", World("default", durations=dict.fromkeys(DURATIONS, 0.0)))
        for file, text in (
            ("endpoint.yml", "name: shop\n"),
            ("blue.yml", "name: blue\nmodel: azureml:blue:1\n"),
            ("green.yml", "name: green\nmodel: azureml:green:1\n"),
            ("plan.yml", PLAN + STEPS),
            ("request.json", "{}"),
        ):
            (folder / file).write_text(text)

    # --- what situations arrange -------------------------------------------------------------------

    @property
    def world(self) -> World:
        """The simulated cloud of command lines."""
        return memory._WORLDS["default"]

    @world.setter
    def world(self, world: World) -> None:
        self._patch.setitem(memory._WORLDS, "default", world)

    def write(self, file: str, text: str) -> Path:
        """A file in the folder."""
        path = self.folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def plan(self, steps: str = STEPS, *, head: str = "", text: str = PLAN) -> None:
        """Another plan.yml; `head` comes first and takes the place of what it says anew."""
        known = {line.split(":")[0] for line in head.splitlines() if line[:1].isalpha()}
        kept = [line for line in text.splitlines() if line.split(":")[0] not in known or not line[:1].isalpha()]
        if "deployments" in known:
            kept = [line for line in kept if not re.match(r"  \w+: \{file:", line)]
        self.write("plan.yml", "\n".join([*kept[:-1], head.rstrip(), *kept[-1:], steps]).replace("\n\n", "\n"))

    def env(self, name: str, value: str) -> None:
        """A variable of the environment."""
        self._patch.setenv(name, value)

    def patch(self, target: Any, name: str, value: Any) -> None:
        """Something of the world outside that no test can have."""
        self._patch.setattr(target, name, value)

    def served(self, steps: str = "  - wait: 0s\n") -> "Bench":
        """blue serves everything."""
        kept = (self.folder / "plan.yml").read_text()
        self.write("plan.yml", PLAN.replace("deployments:", "stable: blue\ndeployments:") + steps)
        self.do("run plan.yml")
        self.write("plan.yml", kept)
        return self

    def waiting(self) -> "Bench":
        """A rollout that nobody drives waits for approval."""
        self.plan("  - deploy: green\n  - approve: go?\n  - promote: 100%\n")
        self.do("run plan.yml --exit-on-pause")
        return self

    def do(self, line: str, stdin: str = "") -> tuple[int, str, str]:
        """Type a command line: (exit code, stdout, stderr)."""
        with _stream() as out, _stream() as err:
            typed = io.TextIOWrapper(io.BytesIO(stdin.encode()))
            before = sys.stdout, sys.stderr, sys.stdin
            sys.stdout, sys.stderr, sys.stdin = out, err, typed
            try:
                code = main(shlex.split(line))
            finally:
                sys.stdout, sys.stderr, sys.stdin = before
            return code, _text(out), _text(err)

    # --- what is found -----------------------------------------------------------------------------

    def normal(self, text: str) -> str:
        """Without what changes from run to run."""
        text = text.replace(str(self.home), "<home>").replace(str(self.folder), "<folder>")
        for pattern, name in VARIES:
            text = re.sub(pattern, name, text)
        text = text.replace(f"host {os.uname().nodename}", "host <host>").replace(f"pid {os.getpid()}", "pid <pid>")
        lines = [line.removeprefix("rollout: ") for line in text.strip().splitlines()]
        return "\n".join(lines)

    def journals(self) -> Journals:
        """The rollouts of the command lines' store."""
        store = self.home / "rollouts.db"
        if not store.is_file() or not store.stat().st_size:
            return ()
        with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(store)) as connection:
            return tuple(connection.execute("select id, phase, last_seq from rollouts order by id"))
        return ()

    def fingerprint(self, world: World, journals: Journals) -> Fingerprint:
        """Endpoints, journals and files as they are."""
        states = {name: endpoint.state(None) for name, endpoint in world.endpoints.items()}
        files = {
            str(path.relative_to(self.folder)): path.read_bytes() if os.access(path, os.R_OK) else b""
            for path in sorted(self.folder.rglob("*"))
            if path.is_file() and not path.is_symlink() and self.home not in path.parents
        }
        endpoints = {name: replace(state, busy=None, claim=None) for name, state in states.items()}
        return Fingerprint(endpoints, files, journals)

    def stands(self, world: World, before: Fingerprint, journals: Journals) -> str:
        """What is different from before, for a person."""
        after = self.fingerprint(world, journals)
        if after == before:
            return NOTHING
        phases = [phase for _, phase, _ in journals]
        if after.world == before.world and phases == [phase for _, phase, _ in before.journals]:
            if after.journals != before.journals:
                return f"it is {phases[-1].replace('_', ' ')} as before"
            names = {*after.files, *before.files}
            changed = sorted(name for name in names if after.files.get(name) != before.files.get(name))
            return f"changed: {', '.join(changed)}"
        return standing(world.observe("shop"))


@contextlib.contextmanager
def _stream() -> Iterator[io.TextIOWrapper]:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    yield stream
    stream.detach()


def _text(stream: io.TextIOWrapper) -> str:
    stream.flush()
    return stream.buffer.getvalue().decode()  # type: ignore[attr-defined]


# --- causes -----------------------------------------------------------------------------------------


Arrange = Callable[[Bench], Any]


def shop(line: str, arrange: Arrange | None = None, *, stdin: str = "") -> Callable[[Bench], Outcome]:
    """Type `line` after `arrange`."""

    def cause(bench: Bench) -> Outcome:
        if arrange is not None:
            arrange(bench)
        before = bench.fingerprint(bench.world, bench.journals())
        code, out, err = bench.do(line, stdin)
        return Outcome(bench.normal(err or out), code, bench.stands(bench.world, before, bench.journals()))

    return cause


@dataclass
class Bed(Lab):
    """A lab whose worlds no other test knows."""

    bench: Any = None
    running: Any = None

    def left(self, rollout: Rollout) -> "Left":
        """What the driver said as it left."""
        reasons = [event.body.reason for event in self.seen if event.body.kind == "released"]
        return Left(rollout, reasons[-1])


@dataclass(frozen=True)
class Left:
    """A rollout that its driver left, and why."""

    rollout: Rollout
    reason: str


def bed(bench: Bench) -> Bed:
    """A lab in the bench's folder."""
    settings = Settings(home=bench.folder, store="memory", actor="ada", runtime=None, environment=dict(os.environ))

    def clock() -> datetime:
        return EPOCH + timedelta(seconds=asyncio.get_running_loop().time())

    return Bed(bench.folder, App(MemoryStore(id="store-1"), settings, clock), f"messages-{bench.name}", bench=bench)


def lab(play: Callable[[Bed], Awaitable[Any]]) -> Callable[[Bench], Outcome]:
    """Play in virtual time. A play that returns another coroutine has arranged everything; that one is judged."""

    def cause(bench: Bench) -> Outcome:
        return _in_virtual_time(lambda: _played(bench, bed(bench), play))

    return cause


def direct(call: Callable[..., Any], *, code: int | None = -1) -> Callable[[Bench], Outcome]:
    """Call it, with the bench if it takes one. `code`: None for a part of another message."""

    def cause(bench: Bench) -> Outcome:
        async def called() -> Outcome:
            try:
                result = call(bench) if inspect.signature(call).parameters else call()
                result = await result if inspect.isawaitable(result) else result
            except Exception as error:  # noqa: BLE001 - whatever it is is compared with what was expected
                result = error
            return _outcome_of(bench, result, code)

        return _in_virtual_time(called)

    return cause


def real(call: Callable[..., Any], *, code: int | None = -1) -> Callable[[Bench], Outcome]:
    """As `direct`, in real time: for sockets and processes."""

    def cause(bench: Bench) -> Outcome:
        async def called() -> Outcome:
            try:
                result = await call(bench) if inspect.signature(call).parameters else await call()
            except Exception as error:  # noqa: BLE001 - as above
                result = error
            return _outcome_of(bench, result, code)

        return asyncio.run(called())

    return cause


def _outcome_of(bench: Bench, result: object, code: int | None) -> Outcome:
    match result:
        case Exception():
            said = str(result) or type(result).__name__
            found = code_of(result) if code == -1 else code
            return Outcome(bench.normal(said), found)
        case TaskResult(ok=False, detail=detail):
            return Outcome(bench.normal(detail), None)
        case Failed(reason=reason):
            return Outcome(bench.normal(reason), None)
        case str():
            return Outcome(bench.normal(result), None if code == -1 else code)
    raise AssertionError(f"it caused no message: {result!r}")


def _in_virtual_time(work: Callable[[], Awaitable[Outcome]]) -> Outcome:
    loop = looptime.new_event_loop(start=0.0)
    try:
        return loop.run_until_complete(_alone(work))
    finally:
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


async def _alone(work: Callable[[], Awaitable[Outcome]]) -> Outcome:
    try:
        return await work()
    finally:
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


async def _played(bench: Bench, made: Bed, play: Callable[[Bed], Awaitable[Any]]) -> Outcome:
    before = bench.fingerprint(made.cloud, await _journals(made))
    try:
        result = await play(made)
        if inspect.iscoroutine(result):
            before = bench.fingerprint(made.cloud, await _journals(made))
            result = await result
    except Exception as error:  # noqa: BLE001 - whatever it is is compared with what was expected
        await asyncio.sleep(0)
        stands = bench.stands(made.cloud, before, await _journals(made))
        return replace(_outcome_of(bench, error, -1), stands=stands)
    match result:
        case Asked(accepted=False, outcome=outcome, rollout=rollout):
            return Outcome(bench.normal(outcome), USAGE, f"it is {rollout.phase.replace('_', ' ')} as before")
        case Rollout():
            return await _ended(bench, made, result)
        case Left(rollout=rollout, reason=reason):
            return replace(await _ended(bench, made, rollout), said=bench.normal(reason))
        case str():
            return Outcome(bench.normal(result), None)
    raise AssertionError(f"it caused no message: {result!r}")


async def _journals(made: Bed) -> Journals:
    rows = await made.app.store.rollouts(limit=100)
    return tuple((row.id, row.phase, row.last_seq) for row in rows)


async def _ended(bench: Bench, made: Bed, rollout: Rollout) -> Outcome:
    """What `rollout run` says at its end: the reason, how the endpoint stands, and what can be typed."""
    rollout = await as_it_stands(made.app, rollout)
    seen = view(rollout, events=await made.app.store.events(rollout.id), now=made.app.clock())
    told = summary(seen)
    reason = rollout.reason or (rollout.waiting.reason if rollout.waiting is not None else "")
    assert rollout.reason is None or reason.splitlines()[0] in told
    assert f"endpoint {rollout.endpoint_name} now: " in told
    offered = tuple(command.split()[1] for command, _ in commands(seen))
    assert all(command in told for command, _ in commands(seen))
    stands = f"{rollout.phase.replace('_', ' ')}; {standing(made.observed())}"
    return Outcome(bench.normal(reason), code_of_rollout(rollout), stands, offered)
