"""What an endpoint shall be, as it stands in its directory: the only memory that the local provider has.

`state.json` is replaced in one rename, so a reader needs no lock and sees the state before or after a change. Who
changes it holds `apply.lock`. Whatever else is on the machine (processes, Envoy's files, snapshots) follows from it
and is made so by `converge`; nothing is ever true only in somebody's memory.

Keys live in a file of their own, because everything else may be shown.
"""

import contextlib
import fcntl
import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from providers.actions import Action
from providers.base import Claim, Keys
from providers.errors import Conflict, NotFound, Permanent
from providers.specs import EndpointSpec, ResolvedDeployment

FORMAT = 1
LOCK_S = 5.0
_KEPT_RECORDS = 200

Phase = Literal["starting", "serving", "draining", "stopping"]
"""Of an instance: not in use yet; gets requests; gets none any more but has some; is being stopped."""


@dataclass(frozen=True, slots=True)
class Instance:
    """One process of a deployment.

    Attributes:
        number: distinguishes it within the deployment; the smallest that is free.
        port: that it listens on.
        generation: whose snapshot it runs.
        since: when its phase began.
    """

    number: int
    port: int
    generation: str
    phase: Phase
    since: datetime


@dataclass(frozen=True, slots=True)
class Generation:
    """One content of a deployment: replacing it makes another.

    Attributes:
        id: never used twice, also not by a deployment of the same name.
        resolved: what was asked for.
        born: when.
        refused: why its content cannot be used, or None.
    """

    id: str
    resolved: ResolvedDeployment
    born: datetime
    refused: str | None = None


@dataclass(frozen=True, slots=True)
class Baseline:
    """What Envoy had counted for a deployment's name before this generation got its first request.

    Attributes:
        generation: that began then.
        incarnation: of Envoy.
        raw: the reading, as `measure` keeps it.
    """

    generation: str
    incarnation: str
    raw: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Deployment:
    """A deployment as it shall be.

    Attributes:
        name: its own.
        desired: instances.
        generations: the wanted one last; before it those that still have instances.
        instances: all that exist, of every generation.
        served: whether the wanted generation ever had live traffic: to shift traffic back to it, one healthy instance
            is enough.
        baseline: of its counters, None until it has clusters.
        leaving: since when it is being deleted, or None.
        drained: whether its last request has ended, so that its clusters can go.
    """

    name: str
    desired: int
    generations: tuple[Generation, ...]
    instances: tuple[Instance, ...] = ()
    served: bool = False
    baseline: Baseline | None = None
    leaving: datetime | None = None
    drained: bool = False

    @property
    def wanted(self) -> Generation:
        """The generation that shall run."""
        return self.generations[-1]

    @property
    def serving(self) -> tuple[Instance, ...]:
        """The instances that get requests."""
        return tuple(instance for instance in self.instances if instance.phase == "serving")

    @property
    def serves(self) -> Generation:
        """The generation that answers now: the wanted one, or its predecessor while that is being replaced."""
        current = {instance.generation for instance in self.serving}
        return next((one for one in self.generations if one.id in current), self.wanted)


@dataclass(frozen=True, slots=True)
class Record:
    """An operation that was begun.

    Attributes:
        outcome: None while it goes on, "" when it is done, else why it failed.
        permanent: whether the same action would fail again.
    """

    action: Action
    outcome: str | None = None
    permanent: bool = True


@dataclass(frozen=True, slots=True)
class State:
    """Everything about one endpoint.

    Attributes:
        boot: identifies the run of the machine on which its processes were started last.
        claim: who drives it, or None.
        epochs: store -> the highest epoch that it has ever used here.
        operations: idempotency key -> what was begun with it, oldest first.
        leaving: whether it is being deleted.
    """

    name: str
    spec: EndpointSpec
    born: datetime
    port: int
    boot: str
    claim: Claim | None = None
    epochs: Mapping[str, int] = field(default_factory=dict)
    deployments: Mapping[str, Deployment] = field(default_factory=dict)
    traffic: Mapping[str, int] = field(default_factory=dict)
    mirror: Mapping[str, int] = field(default_factory=dict)
    operations: Mapping[str, Record] = field(default_factory=dict)
    leaving: bool = False
    format: int = FORMAT


@dataclass(frozen=True, slots=True)
class KeyFile:
    """The keys, and the idempotency keys that renewed them, newest last."""

    primary: str = field(repr=False)
    secondary: str = field(repr=False)
    renewals: tuple[str, ...] = ()

    @property
    def keys(self) -> Keys:
        """What the user is shown."""
        return Keys(self.primary, self.secondary)


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything of an endpoint is.

    Attributes:
        directory: of the endpoint, for its user only.
    """

    directory: Path

    @property
    def state(self) -> Path:
        """The `State`."""
        return self.directory / "state.json"

    @property
    def keys(self) -> Path:
        """The `KeyFile`."""
        return self.directory / "keys.json"

    @property
    def bootstrap(self) -> Path:
        """What Envoy is started with."""
        return self.directory / "bootstrap.json"

    @property
    def runtime(self) -> Path:
        """Names the short directory of its sockets (`processes.runtime_directory`)."""
        return self.directory / "runtime"

    @property
    def asked(self) -> Path:
        """What is to be compared while something is mirrored (`comparer`)."""
        return self.directory / "answers.json"

    @property
    def xds(self) -> Path:
        """Envoy's other files, one folder each."""
        return self.directory / "xds"

    @property
    def logs(self) -> Path:
        """What processes print: `envoy.log`, and one folder for each generation of a deployment."""
        return self.directory / "logs"

    @property
    def saved(self) -> Path:
        """Logs that somebody asked to keep."""
        return self.directory / "saved-logs"

    @property
    def snapshots(self) -> Path:
        """Copies of code and model, one folder for each generation."""
        return self.directory / "snapshots"

    def snapshot(self, deployment: str, generation: Generation) -> Path:
        """The copy that this generation runs."""
        return self.snapshots / f"{deployment}~{generation.id}"

    def log_folder(self, deployment: str, generation: Generation) -> Path:
        """Its logs; the name sorts by time of birth."""
        return self.logs / f"{deployment}~{generation.born:%Y%m%dT%H%M%S.%f}~{generation.id}"

    def owner(self, process: str) -> str:
        """Under which name a process holds its port."""
        return f"{self.directory}/{process}"


_STATE = TypeAdapter(State)
_KEYS = TypeAdapter(KeyFile)


def load(layout: Layout) -> State | None:
    """The endpoint's state, or None when there is none.

    Raises:
        Permanent: the file cannot be understood; it is never guessed at, because processes depend on it.
    """
    try:
        status = layout.state.stat()
        return _parse(str(layout.state), status.st_ino, status.st_mtime_ns, status.st_size)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise Permanent(f"{layout.state} cannot be read: {error.strerror}.") from None


@lru_cache(maxsize=64)  # the file's identity is the key
def _parse(path: str, inode: int, changed: int, size: int) -> State:  # noqa: ARG001
    raw = Path(path).read_bytes()
    try:
        body = json.loads(raw)
        if isinstance(body, dict) and body.get("format") != FORMAT:
            raise Permanent(
                f"{path} has format {body.get('format')!r} and this version knows {FORMAT}: "
                "use the version that wrote it."
            )
        return _STATE.validate_python(body)
    except (ValueError, ValidationError):
        raise Permanent(
            f"{path} is damaged: restore it, or stop the endpoint's processes and remove its directory, "
            "then create it again."
        ) from None


def save(layout: Layout, state: State) -> None:
    """Replace the state in one step; the caller holds the lock."""
    kept = dict(list(state.operations.items())[-_KEPT_RECORDS:])
    write(layout.state, _STATE.dump_json(replace(state, operations=kept), by_alias=True))


def load_keys(layout: Layout) -> KeyFile:
    """The keys. Raises Permanent when the file is damaged, NotFound when there is none."""
    try:
        return _KEYS.validate_json(layout.keys.read_bytes())
    except FileNotFoundError:
        raise NotFound(f"Endpoint {layout.directory.name} has no keys.") from None
    except ValueError:
        raise Permanent(
            f"{layout.keys} is damaged: remove it and begin a change of the endpoint to get new keys."
        ) from None


def save_keys(layout: Layout, keys: KeyFile) -> None:
    """Replace the keys in one step; the caller holds the lock."""
    write(layout.keys, _KEYS.dump_json(keys))


def write(path: Path, data: bytes) -> None:
    """Put a file in place in one step, durable and for its user only."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".tmp")  # mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(temporary).unlink()
        raise


@contextlib.contextmanager
def locked(layout: Layout, *, patience: float = LOCK_S) -> Iterator[None]:
    """Hold the endpoint's `apply.lock`.

    Raises:
        Conflict: somebody else held it for `patience` seconds.
        NotFound: the endpoint's directory is not there, or went away meanwhile.
    """
    path = layout.directory / "apply.lock"
    until = time.monotonic() + patience
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except (FileNotFoundError, NotADirectoryError):
            raise NotFound(f"Endpoint {layout.directory.name} does not exist.") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # A deleted endpoint takes its lock with it; the one that is there now is another file.
            if path.exists() and os.fstat(descriptor).st_ino == path.stat().st_ino:
                break
        except BlockingIOError:
            pass
        except FileNotFoundError:
            pass
        os.close(descriptor)
        if time.monotonic() >= until:
            raise Conflict(f"Endpoint {layout.directory.name} is being changed by another process.", retry_after=1.0)
        time.sleep(0.01)
    try:
        yield
    finally:
        os.close(descriptor)
