"""A local endpoint to test: real processes behind a real Envoy, in a home of the test's own, gone afterwards."""

import asyncio
import contextlib
import itertools
import json
import os
import secrets
import signal
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from providers.actions import Action, PutDeployment, PutEndpoint, SetTraffic
from providers.base import Context, Done, EndpointState, Failed, Fence, Operation, Request, Response
from providers.errors import Permanent
from providers.local.envoy import Admin
from providers.local.processes import Processes, runtime_directory
from providers.local.provider import LocalProvider, Options
from providers.specs import CodeConfiguration, DeploymentSpec, EndpointSpec, Model

FENCE = Fence("store-a", "rollout-1", 1)
NAME = "shop"

SCORE = """
import json, os, time

def init():
    print("started", os.environ["ROLLOUT_INSTANCE"], flush=True)

def run(raw):
    asked = json.loads(raw or "{}")
    if os.environ.get("SLEEP"):
        time.sleep(float(os.environ["SLEEP"]))
    if "sleep" in asked:
        time.sleep(asked["sleep"])
    if "exit" in asked:
        os._exit(1)
    if "raise" in asked or os.environ.get("RAISE"):
        raise RuntimeError("asked to")
    model = os.environ.get("AZUREML_MODEL_DIR")
    return {
        "instance": os.environ["ROLLOUT_INSTANCE"],
        "pid": os.getpid(),
        "secret": os.environ.get("SECRET"),
        "model": open(os.path.join(model, "model", "weights.txt")).read() if model else None,
        "version": open("version.txt").read(),
        "outside": "OUTSIDE" in os.environ,
    }
"""


@dataclass
class Load:
    """What a client saw: (status or error, who answered) -> requests."""

    seen: Counter[tuple[int | str, str | None]] = field(default_factory=Counter)

    @property
    def bad(self) -> dict[tuple[int | str, str | None], int]:
        return {answer: number for answer, number in self.seen.items() if answer[0] != 200}

    @property
    def total(self) -> int:
        return self.seen.total()

    def of(self, deployment: str) -> int:
        return sum(number for (_, who), number in self.seen.items() if who == deployment)


class Local:
    """The words that the tests are written in."""

    def __init__(self, home: Path, base: Path, runtime: Path) -> None:
        self.base, self.numbers = base, itertools.count(1)
        self.context = Context(
            home=home,
            clock=lambda: datetime.now(UTC),
            token=lambda: secrets.token_urlsafe(24),
            resolve=self._resolve,
            runtime=runtime,
        )
        self.provider = self.open()

    def open(self, **options: Any) -> LocalProvider:
        """Another provider over the same endpoint, as another process would have it."""
        return LocalProvider(Options(**options), self.context)

    @staticmethod
    def _resolve(text: str) -> str:
        if text == "${env:MISSING}":
            raise Permanent("The environment variable MISSING is not set.")
        return text.replace("${env:TOKEN}", "s3cr3t")

    @property
    def directory(self) -> Path:
        return self.context.home / "local" / NAME

    def down(self, process: str) -> None:
        """Kill a process so that it stays away until somebody observes the endpoint or begins something: its keeper
        goes with it."""
        keeper, pid = self.processes.keeper_pid(), self.processes.pid(process)
        assert keeper is not None
        assert pid is not None
        os.kill(keeper, signal.SIGKILL)
        os.kill(pid, signal.SIGKILL)

    def healthy(self, deployment: str) -> int:
        """As the proxy sees it, without disturbing anything."""
        runtime = runtime_directory(self.directory, self.context.runtime)
        return Admin(runtime / "envoy.sock").view().members[deployment].healthy

    @property
    def processes(self) -> Processes:
        return Processes(self.directory, runtime_directory(self.directory, self.context.runtime))

    def spec(self, name: str, instances: int = 1, **more: Any) -> DeploymentSpec:
        script = more.pop("script", "score.py")
        configuration = CodeConfiguration(code="code", scoring_script=script)
        return DeploymentSpec(name=name, code_configuration=configuration, instance_count=instances, **more)

    async def put(self, spec: DeploymentSpec, *, replace: bool = False) -> PutDeployment:
        return PutDeployment(NAME, await self.provider.resolve(spec, base=str(self.base)), replace)

    async def end(self, operation: Operation) -> Done | Failed:
        async with asyncio.timeout(30):
            while isinstance(answer := await self.provider.poll(operation), Operation):
                await asyncio.sleep(0.02)
        return answer

    async def do(self, action: Action, *, fence: Fence = FENCE, key: str | None = None) -> None:
        operation = await self.provider.begin(action, key=key or f"k{next(self.numbers)}", fence=fence)
        answer = await self.end(operation)
        assert isinstance(answer, Done), answer

    async def build(self, *specs: DeploymentSpec, traffic: Mapping[str, int] | None = None) -> None:
        await self.do(PutEndpoint(NAME, EndpointSpec(name=NAME)))
        for spec in specs:
            await self.do(await self.put(spec))
        if traffic:
            await self.do(SetTraffic(NAME, traffic))

    async def state(self) -> EndpointState:
        state = await self.provider.observe(NAME)
        assert state is not None
        return state

    async def ask(self, deployment: str | None = None, timeout: float = 5.0, **body: Any) -> Response:
        request = Request(body=json.dumps(body).encode())
        return await self.provider.invoke(NAME, request, deployment=deployment, timeout=timeout)

    async def http(self, *, key: str | None = None, **headers: str) -> httpx.Response:
        """A request as any client sends it, without the provider's help."""
        state = await self.state()
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if key is not None:
            sent["authorization"] = key
        async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
            return await client.post(f"{state.url}/score", headers=sent, content=b"{}")

    @contextlib.asynccontextmanager
    async def load(self, *, clients: int = 4, which: str = "primary", pause: float = 0.0) -> AsyncIterator[Load]:
        """Clients that keep their connections and send without end; they stop, and are counted, at the end."""
        url, keys, load, on = (await self.state()).url, await self.provider.keys(NAME), Load(), True

        async def client() -> None:
            headers = {"authorization": f"Bearer {getattr(keys, which)}"}
            async with httpx.AsyncClient(trust_env=False, timeout=20, headers=headers) as http:
                while on:
                    try:
                        answer = await http.post(f"{url}/score", content=b"{}")
                        load.seen[answer.status_code, answer.headers.get("azureml-model-deployment")] += 1
                    except httpx.HTTPError as error:
                        load.seen[repr(error), None] += 1
                    await asyncio.sleep(pause)

        tasks = [asyncio.create_task(client()) for _ in range(clients)]
        try:
            yield load
        finally:
            on = False
            await asyncio.gather(*tasks)


async def until(condition: Callable[[], Awaitable[bool]], what: str, seconds: float = 15.0) -> None:
    """Wait for a condition."""
    try:
        async with asyncio.timeout(seconds):
            while not await condition():
                await asyncio.sleep(0.02)
    except TimeoutError:
        pytest.fail(f"after {seconds} s still not: {what}")


@pytest.fixture
async def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Local]:
    base = tmp_path / "files"
    (base / "code").mkdir(parents=True)
    (base / "code" / "score.py").write_text(SCORE)
    (base / "code" / "version.txt").write_text("1")
    (base / "code" / "broken.py").write_text("def init(): raise RuntimeError('no model here')\ndef run(raw): pass\n")
    (base / "model").mkdir()
    (base / "model" / "weights.txt").write_text("w1")
    monkeypatch.setenv("OUTSIDE", "not for instances")
    with tempfile.TemporaryDirectory(prefix="ro") as runtime:
        local = Local(tmp_path / "home", base, Path(runtime))
        try:
            yield local
        finally:
            await local.provider.aclose()
            await stop(local)


async def stop(local: Local) -> None:
    """Stop what the test started, by pid where it does not stop by itself."""
    if not (local.directory / "procs").is_dir():
        return
    processes = local.processes
    processes.retire()
    for _ in range(500):
        if processes.at_rest():
            return
        await asyncio.sleep(0.02)
    for status in processes.status().values():
        if status.pid is not None:
            os.kill(status.pid, signal.SIGKILL)
    pytest.fail("the endpoint's processes did not stop")


@pytest.fixture
def model() -> Model:
    return Model(path="model")


@pytest.fixture
def wait_until() -> Callable[..., Awaitable[None]]:
    return until
