"""A user's machine in small, for the tests that run the program as people do.

Every test has a home, sockets and files of its own, starts `rollout` as a process, and looks at what a user can look
at: exit codes, output, the answers that a client gets; and, where a test must act at one exact moment, at the journal
in the database. At its end the endpoint is deleted and whatever is left of that home is stopped by pid, also when the
test failed.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.clients import Client, Clients

QUICKSTART = Path(__file__).parents[2] / "examples" / "quickstart"
# The console script beside the interpreter is what people run; `-m` where it is not installed.
_SCRIPT = Path(sys.executable).with_name("rollout")
ROLLOUT = (str(_SCRIPT),) if _SCRIPT.exists() else (sys.executable, "-m", "orchestrator.cli.main")
PATIENCE = 60.0
"""Seconds for what takes one or two on a machine that has nothing else to do."""

PLAN = """
version: 1
name: swap
endpoint: {file: endpoint.yml}
deployments:
  blue: {file: blue-deployment.yml}
  green: {file: green-deployment.yml}
gates:
  errors: {metric: error_rate, max: TOLERATED, min_requests: 50, interval: 500ms, warm_up: 0s}
on_undecided: rollback
on_no_data: rollback
steps: STEPS
"""
STEPS = """
  - deploy: green
    deadline: 30s
  - test: green
    request: sample-request.json
  - shadow: 20%
    gates: [errors]
    hold: 1s
    deadline: 60s
  - canary: 20%
    gates: [errors]
    hold: 1s
    deadline: 60s
  - promote: 100%
    gates: [errors]
    hold: 1s
    deadline: 60s
  - delete: blue
"""


@dataclass(frozen=True, slots=True)
class Mark:
    """One event of the journal: what happened, and in which stage."""

    seq: int
    kind: str
    stage: str


@dataclass
class Process:
    """A `rollout` that runs; its output goes to a file."""

    popen: subprocess.Popen[bytes]
    log: Path

    @property
    def text(self) -> str:
        """What it printed so far, both streams."""
        return self.log.read_text("utf-8", "replace")

    @property
    def running(self) -> bool:
        return self.popen.poll() is None

    def ends(self, code: int, seconds: float = PATIENCE) -> str:
        """Wait for its end and check how it ended; returns what it printed."""
        try:
            found = self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            pytest.fail(f"{self.popen.args} still runs after {seconds:g} s:\n{self.text}")
        assert found == code, f"{self.popen.args} ended with {found}, not {code}:\n{self.text}"
        return self.text

    def kill(self) -> None:
        """kill -9."""
        self.popen.kill()
        self.popen.wait()


@dataclass
class Site:
    """A home, files and an endpoint of a test's own, with the words that the tests are written in."""

    home: Path
    runtime: Path
    files: Path
    endpoint: str
    more: dict[str, str] = field(default_factory=dict)
    started: list[Process] = field(default_factory=list)

    # Running the program

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("ROLLOUT_")}
        return kept | {
            "ROLLOUT_HOME": str(self.home),
            "XDG_RUNTIME_DIR": str(self.runtime),
            "ROLLOUT_ACTOR": "alice",
            **self.more,
        }

    def start(self, *arguments: str, program: tuple[str, ...] = ROLLOUT, **more: str) -> Process:
        """`rollout ...` in the background, with `more` in its environment."""
        log = self.files.parent / f"{len(self.started):02}-{arguments[0]}.log"
        with log.open("wb") as output:
            popen = subprocess.Popen(
                [*program, *arguments],
                cwd=self.files,
                env=self.environment | more,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        process = Process(popen, log)
        self.started.append(process)
        return process

    def rollout(self, *arguments: str, code: int = 0, **more: str) -> str:
        """`rollout ...` to its end, which must be `code`; returns what it printed."""
        return self.start(*arguments, **more).ends(code)

    def status(self) -> dict[str, Any]:
        """`rollout status --output json`."""
        return self._json("status")

    def show(self) -> dict[str, Any]:
        """`rollout endpoint show --output json`."""
        return self._json("endpoint", "show", self.endpoint)

    def _json(self, *arguments: str) -> dict[str, Any]:
        found = json.loads(self.rollout(*arguments, "--output", "json"))
        assert isinstance(found, dict)
        return found

    def plan(self, *, steps: str = STEPS, tolerated: str = "10%") -> str:
        """Write a short plan; returns its file's name."""
        (self.files / "plan-short.yml").write_text(PLAN.replace("STEPS", steps).replace("TOLERATED", tolerated))
        return "plan-short.yml"

    def edit(self, file: str, **changes: str) -> None:
        """Change fields, of whatever depth, of a file of the quickstart."""
        path, text = self.files / file, (self.files / file).read_text()
        for name, value in changes.items():
            text, number = re.subn(rf"\b{name}: [^,}}\n#]+", f"{name}: {value}", text)
            assert number, f"{file} has no {name}"
        path.write_text(text)

    # Looking

    def journal(self, after: int = 0) -> list[dict[str, Any]]:
        """The events of the newest rollout, read from the database so that looking takes no time."""
        path = self.home / "rollouts.db"
        if not path.exists():
            return []
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as store:
            try:
                rows = store.execute(
                    "SELECT seq, kind, at, actor, epoch, body FROM events WHERE seq > ? AND rollout ="
                    " (SELECT id FROM rollouts ORDER BY n DESC LIMIT 1) ORDER BY seq",
                    (after,),
                ).fetchall()
            except sqlite3.OperationalError as error:
                if "no such table" in str(error):
                    return []
                raise
        return [
            {**json.loads(body), "seq": seq, "kind": kind, "at": at / 1e6, "actor": actor, "epoch": epoch}
            for seq, kind, at, actor, epoch, body in rows
        ]

    def query(self, text: str) -> list[tuple[Any, ...]]:
        """Rows of the database."""
        with contextlib.closing(sqlite3.connect(f"file:{self.home / 'rollouts.db'}?mode=ro", uri=True)) as store:
            return store.execute(text).fetchall()

    def wait(self, what: str, condition: Callable[[], Any], seconds: float = PATIENCE, every: float = 0.02) -> Any:
        """Wait until a condition holds; returns its value."""
        until = time.monotonic() + seconds
        while not (found := condition()):
            if time.monotonic() > until:
                texts = "\n".join(f"--- {process.popen.args}\n{process.text}" for process in self.started[-3:])
                pytest.fail(f"after {seconds:g} s still not: {what}\n{texts}")
            time.sleep(every)
        return found

    def marks(self) -> list[Mark]:
        """The journal of the newest rollout, only what happened where: cheap enough to look without a pause."""
        if not (self.home / "rollouts.db").exists():
            return []
        try:
            rows = self.query(
                "SELECT seq, kind, CASE WHEN kind IN ('started', 'stage_entered') THEN body END FROM events"
                " WHERE rollout = (SELECT id FROM rollouts ORDER BY n DESC LIMIT 1) ORDER BY seq"
            )
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                return []
            raise
        names: list[str] = []
        where, found = "", []
        for seq, kind, body in rows:
            if kind == "started":
                names = json.loads(body)["stages"]
            elif kind == "stage_entered":
                where = names[json.loads(body)["stage"]]
            found.append(Mark(seq, kind, where))
        return found

    def reaches(self, kind: str, stage: str | None = None, *, after: int = 0, every: float = 0.02) -> Mark:
        """Wait for an event of the newest rollout, in a stage if one is named."""

        def first() -> Mark | None:
            fits = (m for m in self.marks() if m.seq > after and m.kind == kind and stage in (None, m.stage))
            return next(fits, None)

        found = self.wait(f"{kind} in {stage or 'any stage'}", first, every=every)
        assert isinstance(found, Mark)
        return found

    def serves(self) -> dict[str, Any]:
        """Wait until the endpoint serves; returns the provider's own state of it."""
        self.reaches("stage_ended")
        return self.state()

    @property
    def directory(self) -> Path:
        """Of the endpoint, as the local provider keeps it."""
        return self.home / "local" / self.endpoint

    def state(self) -> dict[str, Any]:
        """What the provider remembers of the endpoint."""
        found = json.loads((self.directory / "state.json").read_text())
        assert isinstance(found, dict)
        return found

    @contextlib.contextmanager
    def clients(self, rate: float = 200.0, number: int = 2) -> Iterator[Clients]:
        """Clients from the moment the endpoint serves; together they send `rate` requests a second."""
        port = self.serves()["port"]
        key = json.loads((self.directory / "keys.json").read_text())["primary"]
        body = (self.files / "sample-request.json").read_bytes()
        clients = Clients([Client(port, key, body, rate / number) for _ in range(number)])
        for client in clients.each:
            client.start()
        try:
            yield clients
        finally:
            for client in clients.each:
                client.stop()
            for client in clients.each:
                client.join(30)

    def processes(self, word: str = "") -> dict[int, str]:
        """Processes of this home: pid -> command line, those whose command line or environment has `word`."""
        mine, found = os.fsencode(self.home), {}
        for path in Path("/proc").glob("[0-9]*"):
            try:
                command, environment = (path / "cmdline").read_bytes(), (path / "environ").read_bytes()
                if path.joinpath("stat").read_text("utf-8", "replace").rpartition(")")[2].split()[0] in "ZX":
                    continue
            except OSError:
                continue
            if mine in command + environment and os.fsencode(word) in command + environment:
                found[int(path.name)] = command.replace(b"\0", b" ").decode("utf-8", "replace").strip()
        return found

    def pid(self, process: str) -> int:
        """The pid of one of the endpoint's processes: `envoy`, `keeper`, `blue.0`."""
        holder = json.loads((self.directory / "procs" / f"{process}.lock").read_text())
        return int(holder["pid"])

    def instances(self, deployment: str) -> list[int]:
        """The pids of a deployment's instances that run."""
        return list(self.processes(f"procs/{deployment}."))

    # At the end

    def close(self) -> None:
        """Delete the endpoint; then nothing of this home may be left."""
        for process in self.started:
            if process.running:
                process.kill()
        told = []
        if self.directory.exists():
            if self.query("SELECT 1 FROM rollouts WHERE phase IN ('pending', 'running', 'paused', 'rolling_back')"):
                told.append(self._told("abort"))
            told.append(self._told("endpoint", "delete", self.endpoint, "--yes"))
        until = time.monotonic() + 10
        while (left := self.processes()) and time.monotonic() < until:
            time.sleep(0.05)
        # The keeper first, so that it starts nothing again.
        for pid in sorted(left, key=lambda pid: "keeper.py" not in left[pid]):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert not left, f"these were left: {left}\n" + "\n".join(told)

    def _told(self, *arguments: str) -> str:
        process = self.start(*arguments)
        try:
            process.popen.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
        return f"--- {arguments}: {process.popen.returncode}\n{process.text}"


def located(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The events, each with the name of its stage, as `where`."""
    names: list[str] = []
    where = ""
    for event in events:
        if event["kind"] == "started":
            names = event["stages"]
        if event["kind"] == "stage_entered":
            where = names[event["stage"]]
        event["where"] = where
    return events


@contextlib.contextmanager
def _site(root: Path, endpoint: str) -> Iterator[Site]:
    files = root / "files"
    shutil.copytree(QUICKSTART, files, ignore=shutil.ignore_patterns("__pycache__"))
    for path in files.glob("*.yml"):
        text = re.sub(r"^((?:endpoint_)?name): diabetes$", rf"\1: {endpoint}", path.read_text(), flags=re.MULTILINE)
        path.write_text(text)
    # A tenth of the work a request: the tests ask how requests are led, not how fast numpy is.
    score = files / "onlinescoring" / "score.py"
    text = score.read_text()
    assert "DRAWS = 20_000" in text
    score.write_text(text.replace("DRAWS = 20_000", "DRAWS = 2_000"))
    with tempfile.TemporaryDirectory(prefix="ro") as runtime:
        site = Site(root / "home", Path(runtime), files, endpoint)
        try:
            yield site
        finally:
            site.close()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A site with one instance a deployment, which is enough for most tests and starts sooner."""
    with _site(tmp_path, "shop") as site:
        site.edit("blue-deployment.yml", instance_count="1")
        site.edit("green-deployment.yml", instance_count="1")
        yield site


@pytest.fixture(scope="module")
def wide_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site for all tests of a module, with two instances a deployment."""
    with _site(tmp_path_factory.mktemp("site"), "shop") as site:
        yield site


@pytest.fixture(scope="session")
def sigmas() -> float:
    """How far a share may be from the one that was asked for; in CI rare luck must not cost a run."""
    return 4.0 if os.environ.get("CI") == "true" else 3.0


@pytest.fixture
def story() -> Callable[[list[dict[str, Any]]], list[dict[str, Any]]]:
    """Events with the names of their stages."""
    return located
