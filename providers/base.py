"""The protocols between the orchestrator and the world: the whole vocabulary that a provider must speak.

A provider is asked to `observe`, to `begin` an action and to `poll` what it began; nothing else changes anything.
`begin` returns soon, with an operation that can be journalled and polled by another process after a crash. What a
provider may do besides (measure, invoke, keys, logs) are protocols of their own, so a provider says what it can by
having the methods.

To write a provider, implement `Provider`, run `providers.testing` against it, and name it in the entry point group
`rollout.providers`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

from pydantic import BaseModel

from providers.actions import Action
from providers.measurement import Cursor, Measurement, MeasureQuery
from providers.specs import DeploymentSpec, EndpointSpec, ResolvedDeployment


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an endpoint of this provider can do; known offline.

    Attributes:
        mirror_limit: greatest share of live traffic that can be mirrored, tenths of a percent; 0 when none can.
        mirror_targets: how many deployments can be mirrored to at once.
        live_xor_mirror: a deployment cannot have live and mirrored traffic together.
        atomic_shift: weights and mirror change in one step.
        concurrent: traffic can be changed while a deployment operation is still going on.
        paired: mirrored requests can be joined with their live twins.
        predictions: what mirrored requests were answered can be compared with what their live twins were.
        scale: instance counts can be changed.
        direct: a deployment without traffic can be addressed by name.
        weight_step: smallest difference of weights, tenths of a percent.
        interval, settle: default seconds between measurements, and seconds until late metrics are in.
        bucket_digits: significant decimal digits of its latency histogram's bounds; None where latencies are exact, or
            nothing is known of them.
    """

    mirror_limit: int = 500
    mirror_targets: int = 1
    live_xor_mirror: bool = True
    atomic_shift: bool = True
    concurrent: bool = True
    paired: bool = False
    predictions: bool = False
    scale: bool = True
    direct: bool = True
    weight_step: int = 1
    interval: float = 10.0
    settle: float = 0.0
    bucket_digits: int | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """Who drives the endpoint, as the provider keeps it: store id, rollout id and epoch."""

    store: str
    rollout: str
    epoch: int


@dataclass(frozen=True, slots=True)
class Fence:
    """Who asks for a change.

    An older epoch of the same store, or another store's live claim, is refused with `Fenced`, unless `steal`.
    """

    store: str
    rollout: str
    epoch: int
    steal: bool = False


@dataclass(frozen=True, slots=True)
class DeploymentState:
    """One deployment as it stands.

    Attributes:
        healthy, desired: instances that answer, and that shall.
        digest: of its spec, code and model (`providers.specs.spec_digest`).
        born: when it was created.
        problem: why it is not as it should be ("exited 3 times: ImportError ..."), or None.
    """

    name: str
    healthy: int
    desired: int
    digest: str
    born: datetime
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class EndpointState:
    """An endpoint as it stands, read in one piece.

    Attributes:
        name: of the endpoint.
        deployments: name -> its state.
        traffic, mirror: deployment -> share, tenths of a percent; only non-zero ones.
        busy: what is going on there that must end before anything else can begin, or None.
        claim: who drives it, or None.
        url: where requests are sent, or None while there is none.
        problem: what is wrong with the endpoint itself ("the proxy is not running"), or None.
    """

    name: str
    deployments: Mapping[str, DeploymentState] = field(default_factory=dict)
    traffic: Mapping[str, int] = field(default_factory=dict)
    mirror: Mapping[str, int] = field(default_factory=dict)
    busy: str | None = None
    claim: Claim | None = None
    url: str | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Operation:
    """Something begun that is not finished. It is journalled, and polled on by any process.

    Attributes:
        key: the idempotency key it was begun with.
        action: what was begun.
        token: the provider's own handle (a URL, a generation), as JSON.
        progress: what it is doing now, one short sentence without a stop, or None.
        retry_after: seconds after which to poll again, or None.
    """

    key: str
    action: Action
    token: Mapping[str, Any] = field(default_factory=dict)
    progress: str | None = None
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """The operation ended, and what it asked for was seen to be true."""

    key: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The operation ended without success.

    Attributes:
        reason: one sentence; for a deployment that cannot start, with the last lines of its log.
        permanent: whether the same action would fail again.
    """

    key: str
    reason: str
    permanent: bool = True


@dataclass(frozen=True, slots=True)
class Request:
    """A scoring request. `headers` never hold the endpoint's key: the provider adds it."""

    method: str = "POST"
    path: str = "/score"
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=lambda: {"content-type": "application/json"})


@dataclass(frozen=True, slots=True)
class Response:
    """An answer. `seconds` is the time until its last byte; `deployment` is who says it answered."""

    status: int
    body: bytes
    seconds: float
    headers: Mapping[str, str] = field(default_factory=dict)
    deployment: str | None = None


@dataclass(frozen=True, slots=True)
class Keys:
    """The endpoint's two keys. They never show in a repr."""

    primary: str = field(repr=False)
    secondary: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Token:
    """What clients send instead of a key, and until when it is good; `expires` is None where nobody says.

    The value never shows in a repr.
    """

    value: str = field(repr=False)
    expires: datetime | None = None


@dataclass(frozen=True, slots=True)
class Context:
    """What a provider is given when it is opened, because it may not fetch it itself.

    Attributes:
        home: directory for everything the provider keeps on this machine.
        runtime: short directory for sockets, or None for the provider's default.
        clock: the current time, aware UTC.
        token: makes a fresh URL-safe secret of at least 128 bits.
        resolve: turns a reference (`${env:NAME}`, `${file:path}`) in a text into its value; raises Permanent when there
            is none.
    """

    home: Path
    clock: Callable[[], datetime]
    token: Callable[[], str]
    resolve: Callable[[str], str] = lambda text: text
    runtime: Path | None = None


class Provider(Protocol):
    """Manages endpoints and their deployments. Raises `providers.errors` only."""

    name: ClassVar[str]
    Options: ClassVar[type[BaseModel]]

    def __init__(self, options: BaseModel, context: Context) -> None: ...

    def identity(self, endpoint: str) -> str:
        """What the endpoint is called by everyone in the world: the key under which it is leased."""
        ...

    def capabilities(self, endpoint: EndpointSpec | EndpointState) -> Capabilities:
        """What can be done there; offline."""
        ...

    async def resolve(self, spec: DeploymentSpec, *, base: str) -> ResolvedDeployment:
        """Pin versions and digests; no effect. `base` is the absolute folder that relative paths start from.

        Raises Permanent (a missing file, an unknown model).
        """
        ...

    async def observe(self, endpoint: str) -> EndpointState | None:
        """The endpoint as it stands, or None when there is none."""
        ...

    async def begin(self, action: Action, *, key: str, fence: Fence) -> Operation:
        """Start an action; soon. The same key twice is the same operation. The claim is taken with it.

        Raises Fenced, Conflict, Permanent, Temporary, Unsupported.
        """
        ...

    async def poll(self, operation: Operation) -> Operation | Done | Failed:
        """How far it is. No side effect; works in another process; a delete of what is not there is done."""
        ...

    async def release(self, endpoint: str, fence: Fence) -> None:
        """Drop the claim, when it is ours; else nothing."""
        ...

    async def aclose(self) -> None:
        """Let go of connections; touches nothing else."""
        ...


@runtime_checkable
class Measures(Protocol):
    """Can count requests."""

    async def measure(self, query: MeasureQuery, cursor: Cursor | None) -> Measurement:
        """All legs at once since the cursor; no side effect.

        Cursor None: a zero-length measurement that only sets it.
        """
        ...


@runtime_checkable
class Invokes(Protocol):
    """Can send a scoring request."""

    async def invoke(self, endpoint: str, request: Request, *, deployment: str | None, timeout: float) -> Response:
        """Send it with the endpoint's key; `deployment` addresses one by header.

        Raises Temporary on no answer in `timeout` seconds.
        """
        ...


@runtime_checkable
class HasKeys(Protocol):
    """Has keys that can be shown and renewed."""

    async def keys(self, endpoint: str) -> Keys: ...

    async def regenerate(self, endpoint: str, which: Literal["primary", "secondary"], *, key: str) -> Keys:
        """Replace one key; the other goes on working. The same `key` twice renews once."""
        ...


@runtime_checkable
class HasTokens(Protocol):
    """Has endpoints whose clients are let in with a token (auth_mode: aml_token)."""

    async def token(self, endpoint: str) -> Token:
        """One that is good now. Raises NotFound, and Unsupported for an endpoint that has none."""
        ...


@runtime_checkable
class HasLogs(Protocol):
    """Keeps what deployments print."""

    async def logs(self, endpoint: str, deployment: str, *, instance: int | None, tail: int) -> str:
        """The last `tail` lines, of one instance or of all; after deletion what was saved."""
        ...

    async def save_logs(self, endpoint: str, deployment: str, *, rollout: str) -> str:
        """Keep the logs beyond the deployment's deletion; returns where."""
        ...
