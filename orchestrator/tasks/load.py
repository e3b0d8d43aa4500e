"""Synthetic traffic, for endpoints that have none: a bounded burst as a step, or a steady stream beside the whole
rollout.

The stream is sent by a child process, so that sending neither delays deciding nor is delayed by it; the driver starts
it again when it dies. The child is told what to send through its standard input, never its arguments, and ends when
that closes: a killed driver leaves no traffic behind.
"""

import asyncio
import contextlib
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from orchestrator.tasks.result import TaskResult
from plans.steps import LoadStep
from providers.base import Invokes, Provider, Request
from providers.errors import ProviderError

REQUEST_TIMEOUT = 60.0
AT_ONCE = 64
"""Requests under way at most: what an endpoint cannot answer in time is not sent, so that load never piles up."""


@dataclass(frozen=True, slots=True)
class Stream:
    """What a child shall send. `options` hold references to secrets, not their values.

    Attributes:
        provider, options, home, runtime, base: how to open the provider; `base` is where `${file:}` starts from.
        endpoint: its name. body: of each request. rate: requests a second.
    """

    provider: str
    options: Mapping[str, Any]
    home: str
    runtime: str | None
    base: str
    endpoint: str
    body: str
    rate: float


async def send(
    provider: Invokes, endpoint: str, body: bytes, *, rate: float | None, count: int | None
) -> tuple[int, int]:
    """Send `count` requests, or for ever, at `rate` a second, or as fast as they are answered. Returns (answered with
    2xx, others).
    """
    loop = asyncio.get_running_loop()
    good = bad = 0
    room = asyncio.Semaphore(AT_ONCE if rate is not None else 8)
    under_way: set[asyncio.Task[None]] = set()

    async def one() -> None:
        nonlocal good, bad
        try:
            response = await provider.invoke(endpoint, Request(body=body), deployment=None, timeout=REQUEST_TIMEOUT)
            good, bad = (good + 1, bad) if 200 <= response.status < 300 else (good, bad + 1)
        except ProviderError:
            bad += 1
        finally:
            room.release()

    due, sent = loop.time(), 0
    try:
        while count is None or sent < count:
            if rate is not None:
                await asyncio.sleep(max(0.0, due - loop.time()))
                # What could not be sent for more than a second is left out, rather than sent in a burst.
                due = max(due + 1 / rate, loop.time() - 1.0)
            await room.acquire()
            task = loop.create_task(one())
            under_way.add(task)
            task.add_done_callback(under_way.discard)
            sent += 1
        await asyncio.gather(*under_way)
    finally:
        for task in under_way:
            task.cancel()
    return good, bad


async def run_load(step: LoadStep, body: bytes, *, provider: Provider, endpoint: str) -> TaskResult:
    """The bounded burst of a `load` step; answers other than 2xx are reported, and judged by gates only."""
    if not isinstance(provider, Invokes):
        return TaskResult(False, f"provider {provider.name} cannot send requests")
    if isinstance(step.load, int):
        spread = step.load / step.for_ if step.for_ else None
        good, bad = await send(provider, endpoint, body, rate=spread, count=step.load)
    else:
        good, bad = await send(
            provider, endpoint, body, rate=step.load, count=max(1, round(step.load * (step.for_ or 0)))
        )
    return TaskResult(True, f"{good + bad} requests sent, {bad} of them without a 2xx answer")


class LoadProcess:
    """The child process that sends a stream, started again whenever it is found dead."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._process: asyncio.subprocess.Process | None = None
        self._not_before = 0.0
        self.problem: str | None = None
        """Why it ended the last time, or None while it is not known to have ended."""

    async def ensure(self) -> None:
        """Start it, when it does not run; at most once a second."""
        now = asyncio.get_running_loop().time()
        if (self._process is not None and self._process.returncode is None) or now < self._not_before:
            return
        self._not_before = now + 1.0
        if self._process is not None:
            self.problem = await _last_words(self._process)
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            "orchestrator.tasks.load_child",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        assert self._process.stdin is not None, "it was asked for a pipe"
        self._process.stdin.write(json.dumps(asdict(self._stream)).encode() + b"\n")
        with contextlib.suppress(ConnectionError):
            await self._process.stdin.drain()

    async def stop(self) -> None:
        """End it, and wait until it is gone."""
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        assert process.stdin is not None, "it was asked for a pipe"
        process.stdin.close()
        try:
            async with asyncio.timeout(5):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


async def _last_words(process: asyncio.subprocess.Process) -> str:
    """Why a process that has ended did: the last line that it wrote, or how it ended."""
    assert process.stderr is not None, "it was asked for a pipe"
    said = (await process.stderr.read()).decode(errors="replace").strip().splitlines()
    return said[-1][:300] if said else f"its process ended with {process.returncode}"
