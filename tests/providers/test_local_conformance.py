"""The local provider passes the conformance suite, with real processes behind a real proxy."""

import asyncio
import itertools
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from providers.base import Context
from providers.local.processes import Processes, runtime_directory
from providers.local.provider import LocalProvider, Options
from providers.specs import CodeConfiguration, DeploymentSpec
from providers.testing import ProviderConformance

pytestmark = [pytest.mark.needs("linux", "envoy")]

SCORE = """
import json, os

def init():
    print("started", os.environ["ROLLOUT_INSTANCE"], flush=True)

def run(raw):
    return json.dumps(len(raw) + int(os.environ["VERSION"]))
"""


@pytest.fixture
def runtime() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ro") as path:
        yield Path(path)


class TestLocal(ProviderConformance):
    printed = "started"

    @pytest.fixture(autouse=True)
    def code(self, tmp_path: Path) -> None:
        (tmp_path / "code").mkdir()
        (tmp_path / "code" / "score.py").write_text(SCORE)
        (tmp_path / "code" / "broken.py").write_text("def init(): raise RuntimeError('no model')\ndef run(raw): pass\n")
        self.base = str(tmp_path)

    @pytest.fixture
    def context(self, tmp_path: Path, runtime: Path) -> Context:
        numbers = itertools.count()
        return Context(
            home=tmp_path / "home",
            clock=lambda: datetime.now(UTC),
            token=lambda: f"token-{next(numbers):028}",
            runtime=runtime,
        )

    @pytest.fixture
    async def provider(self, context: Context) -> AsyncIterator[LocalProvider]:
        opened = LocalProvider(Options(), context)
        yield opened
        await opened.aclose()
        await stop_everything(context)

    @pytest.fixture
    async def other(self, provider: LocalProvider, context: Context) -> AsyncIterator[LocalProvider]:
        opened = LocalProvider(Options(), context)
        yield opened
        await opened.aclose()

    def deployment(self, name: str, *, version: str = "1", instances: int = 1) -> DeploymentSpec:
        return DeploymentSpec(
            name=name,
            code_configuration=CodeConfiguration(code="code", scoring_script="score.py"),
            environment_variables={"VERSION": version},
            instance_count=instances,
        )

    def differing_deployment(self, name: str) -> DeploymentSpec:
        return self.deployment(name, version="2")

    def broken_deployment(self, name: str) -> DeploymentSpec:
        configuration = CodeConfiguration(code="code", scoring_script="broken.py")
        return DeploymentSpec(name=name, code_configuration=configuration)

    async def settle(self, seconds: float) -> None:
        # Nothing is late here; what is waited for is asked again soon.
        await asyncio.sleep(min(seconds, 0.05))


async def stop_everything(context: Context) -> None:
    """Stop what a test started, by pid, whatever state it left."""
    for directory in (context.home / "local").glob("*/"):
        if not (directory / "procs").is_dir():
            continue
        processes = Processes(directory, runtime_directory(directory, context.runtime))
        processes.retire()
        for _ in range(500):
            if processes.at_rest():
                break
            await asyncio.sleep(0.02)
        else:
            for status in processes.status().values():
                if status.pid is not None:
                    os.kill(status.pid, signal.SIGKILL)
            pytest.fail(f"processes of {directory.name} did not stop")
