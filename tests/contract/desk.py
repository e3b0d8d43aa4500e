"""Where snapshots are made: a folder with plans, a home, a simulated cloud, and a terminal at which commands are typed.

Most commands are typed in this process, where the cloud is. A rollout that somebody else drives is a real process of
its own with a cloud of its own: the two share the store, which is all that commands like `pause` need.
"""

import contextlib
import io
import json
import os
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.main import main
from providers.base import Capabilities
from providers.memory import DURATIONS, World
from providers.memory import provider as memory

ALONE = {"ROLLOUT_ACTOR": "ada", "NO_COLOR": "1", "TERM": "dumb", "TZ": "UTC", "COLUMNS": "100"}
PATIENCE = 30.0
HEAD = """\
version: 1
name: shop
provider: {name: memory, rate: 10000, durations: DURATIONS}
endpoint: {file: endpoint.yml}
deployments:
  blue: {file: blue.yml}
  green: {file: green.yml}
gates:
  errors:
    {metric: error_rate, max: 10%, max_ratio: 3, max_increase: 2%, min_requests: 20, interval: 100ms, warm_up: 0s}
  latency: {metric: latency, max: 500ms, max_ratio: 2, min_requests: 20, interval: 100ms, warm_up: 0s}
""".replace("DURATIONS", json.dumps(dict.fromkeys(DURATIONS, 0.0)))
STEPS = """\
steps:
  - deploy: green
  - test: green
  - shadow: 20%
    gates: [errors, latency]
    hold: 200ms
  - canary: [5%, 50%]
    gates: [errors, latency]
    hold: 200ms
  - promote: 100%
    gates: [errors]
    hold: 200ms
  - delete: blue
"""


@dataclass(frozen=True)
class Said:
    """How a command ended, and what it printed."""

    line: str
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What stdout holds: exactly one document, with a line end after it."""
        assert self.out.endswith("\n"), f"{self.line}: no line end after {self.out[-80:]!r}"
        return json.loads(self.out)


@dataclass
class Desk:
    """One situation's surroundings."""

    folder: Path
    patch: pytest.MonkeyPatch
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.home = self.folder / "home"
        self.patch.chdir(self.folder)
        for variable in ("ROLLOUT_STORE", "ROLLOUT_DEBUG", "XDG_RUNTIME_DIR"):
            self.patch.delenv(variable, raising=False)
        for variable, value in (ALONE | {"ROLLOUT_HOME": str(self.home)}).items():
            self.patch.setenv(variable, value)
        self.cloud()
        self.write("endpoint.yml", "name: shop\n")
        self.write("blue.yml", "name: blue\nmodel: azureml:blue:1\n")
        self.write("green.yml", "name: green\nmodel: azureml:green:1\n")
        self.write("request.json", '{"data": []}')
        self.write("plan.yml", HEAD + STEPS)

    def cloud(self, **capabilities: Any) -> World:
        """A new world for the commands of this process."""
        world = World("default", durations=dict.fromkeys(DURATIONS, 0.0), capabilities=Capabilities(**capabilities))
        world.default_rate = 10_000.0
        self.patch.setitem(memory._WORLDS, "default", world)
        return world

    @property
    def world(self) -> World:
        """The cloud as it stands."""
        return memory._WORLDS["default"]

    @property
    def places(self) -> dict[str, str]:
        """Text -> word, for what is different on every machine."""
        return {str(self.home): "<home>", str(self.folder): "<folder>", socket.gethostname(): "<host>"}

    def write(self, file: str, text: str) -> None:
        """A file in the folder."""
        (self.folder / file).write_text(text, "utf-8")

    def do(self, line: str, code: int | None = 0) -> Said:
        """Type `rollout LINE` here; it must end with `code`."""
        with _stream() as out, _stream() as err, _swapped(out, err):
            found = main(shlex.split(line))
            said = Said(line, found, _text(out), _text(err))
        assert code is None or found == code, f"{line} ended with {found}, not {code}:\n{said.out}{said.err}"
        assert "Traceback" not in said.err
        return said

    def json(self, line: str, code: int | None = 0) -> Any:
        """The document that `rollout LINE --output json` prints."""
        return self.do(f"{line} --output json", code).json

    def drive(self, line: str) -> "Driver":
        """Start `rollout LINE --output json` as a process of its own."""
        command = [sys.executable, "-m", "orchestrator.cli.main", *shlex.split(line), "--output", "json"]
        popen = subprocess.Popen(
            command,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.processes.append(popen)
        return Driver(f"{line} --output json", popen)

    def until(self, what: str, condition: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        """Wait until the newest rollout's status fulfils it; returns that status."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if any(process.poll() is not None for process in self.processes):
                break
            said = self.do("status --output json", code=None)
            if said.code == 0 and condition(said.json):
                return said.json  # type: ignore[no-any-return]
            time.sleep(0.02)
        pytest.fail(f"still not: {what}\n" + self.do("history --all", code=None).out)

    def close(self) -> None:
        """No process of ours outlives the test."""
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.communicate()


@dataclass(frozen=True)
class Driver:
    """A `rollout` that drives, in a process of its own."""

    line: str
    popen: subprocess.Popen[str]

    def ends(self) -> Said:
        """Wait for its end."""
        out, err = self.popen.communicate(timeout=PATIENCE)
        return Said(self.line, self.popen.returncode, out, err)


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[Desk]:
    """A desk, cleared at the end."""
    with pytest.MonkeyPatch.context() as patch:
        desk = Desk(folder, patch)
        try:
            yield desk
        finally:
            desk.close()


@contextlib.contextmanager
def _stream() -> Iterator[io.TextIOWrapper]:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    yield stream
    stream.detach()


@contextlib.contextmanager
def _swapped(out: io.TextIOWrapper, err: io.TextIOWrapper) -> Iterator[None]:
    before = sys.stdout, sys.stderr, sys.stdin
    with Path(os.devnull).open() as nothing:
        sys.stdout, sys.stderr, sys.stdin = out, err, nothing
        try:
            yield
        finally:
            sys.stdout, sys.stderr, sys.stdin = before


def _text(stream: io.TextIOWrapper) -> str:
    stream.flush()
    return stream.buffer.getvalue().decode()  # type: ignore[attr-defined]
