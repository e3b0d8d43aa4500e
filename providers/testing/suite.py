"""The words that conformance tests are written in: what an implementer supplies, and what every test does over and
over.
"""

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

from pydantic import TypeAdapter

from providers.actions import Action, PutDeployment, PutEndpoint, SetTraffic
from providers.base import (
    Capabilities,
    Done,
    EndpointState,
    Failed,
    Fence,
    Invokes,
    Operation,
    Provider,
    Request,
)
from providers.errors import Conflict, Permanent
from providers.measurement import Cursor
from providers.specs import DeploymentSpec, EndpointSpec

if TYPE_CHECKING:
    import pytest
else:
    try:
        import pytest
    except ImportError:
        # The module can be imported without it, as by tools that look at every module; only a suite needs it.
        pytest = None

__all__ = ["ALL", "OURS", "THEIRS", "Suite", "journalled", "pytest"]

T = TypeVar("T")

OURS = Fence("store-a", "rollout-1", 1)
THEIRS = Fence("store-b", "rollout-2", 1)
ALL = {"blue": 1000}
REFUSED = (Permanent, Conflict)


class Suite:
    """Subclass it with a name that pytest collects.

    Fixtures to give:
        provider: a provider in a world without the endpoint.
        other: a second provider object over the same world, as another process would open it.

    Hooks to override where the defaults do not fit: everything down to `settle`.

    Attributes:
        patience: loop seconds after which an operation should have ended.
        counted_within: seconds after which requests that were sent are in measurements.
        printed: a text that every instance of `deployment` prints when it starts, or None when there is none.
        request: what is sent.
        timeout: seconds for each request.
        base: absolute folder that relative paths in the deployments start from.
    """

    patience: float = 60.0
    counted_within: float = 15.0
    printed: str | None = None
    request: Request = Request(body=b'{"data": [[0.0]]}')
    timeout: float = 5.0
    base: str = "/"

    def endpoint_spec(self) -> EndpointSpec:
        """The endpoint that the tests create; its name must be free."""
        return EndpointSpec(name="conformance")

    def deployment(self, name: str, *, version: str = "1", instances: int = 1) -> DeploymentSpec:
        """A small deployment that starts and answers `request` with 200; another `version` has another digest."""
        return DeploymentSpec(name=name, environment_variables={"VERSION": version}, instance_count=instances)

    def broken_deployment(self, name: str) -> DeploymentSpec:
        """A deployment that can never start."""
        raise NotImplementedError("broken_deployment: return a deployment that cannot start.")

    def differing_deployment(self, name: str) -> DeploymentSpec:
        """A deployment that answers `request` with 200 and another body than `deployment`; only asked of a provider
        whose capabilities say `predictions`.
        """
        raise NotImplementedError("differing_deployment: return a deployment that answers otherwise.")

    async def send(self, provider: Provider, count: int, *, deployment: str | None = None) -> None:
        """Send that many requests, all answered with 200: live ones, or to a deployment by its name."""
        invoker = self.need(provider, Invokes)
        for _ in range(count):
            response = await invoker.invoke(self.endpoint, self.request, deployment=deployment, timeout=self.timeout)
            assert response.status == 200, f"a request to {deployment or 'the endpoint'} ended with {response.status}"

    async def settle(self, seconds: float) -> None:
        """Let time pass, in the world's own time."""
        await asyncio.sleep(seconds)

    # Words that the tests are written in

    @property
    def endpoint(self) -> str:
        """The endpoint's name."""
        return self.endpoint_spec().name

    def need(self, provider: Provider, protocol: type[Any]) -> Any:
        """The provider as one that speaks this protocol; skips the test when it does not."""
        if not isinstance(provider, protocol):
            pytest.skip(f"Provider {provider.name} has no {protocol.__name__}.")
        return provider

    def can(self, provider: Provider, **wanted: Any) -> Capabilities:
        """The capabilities; skips the test when one is not as wanted."""
        capabilities = provider.capabilities(self.endpoint_spec())
        for name, value in wanted.items():
            if getattr(capabilities, name) != value:
                pytest.skip(f"Provider {provider.name} has {name} = {getattr(capabilities, name)}.")
        return capabilities

    def key(self) -> str:
        """A fresh idempotency key."""
        self._keys = getattr(self, "_keys", 0) + 1
        return f"{self.endpoint}-{self._keys}"

    async def put(self, provider: Provider, spec: DeploymentSpec, *, replace: bool = False) -> PutDeployment:
        """The action that puts this deployment."""
        return PutDeployment(self.endpoint, await provider.resolve(spec, base=self.base), replace)

    async def end(self, provider: Provider, operation: Operation) -> Done | Failed:
        """Poll until the operation has ended, journalled and read back each time as a driver does."""
        loop = asyncio.get_running_loop()
        give_up = loop.time() + self.patience
        while True:
            outcome = await provider.poll(journalled(Operation, operation))
            if not isinstance(outcome, Operation):
                assert outcome.key == operation.key, "the outcome bears another key"
                return outcome
            assert outcome.key == operation.key, "the operation changed its key"
            assert loop.time() < give_up, (
                f"{operation.action.kind} had not ended after {self.patience} s: {outcome.progress}"
            )
            operation = outcome
            await self.settle(min(max(outcome.retry_after or 0.05, 0.05), 1.0))

    async def do(self, provider: Provider, action: Action, *, key: str | None = None, fence: Fence = OURS) -> None:
        """Begin the action and see it done."""
        operation = await provider.begin(action, key=key or self.key(), fence=fence)
        outcome = await self.end(provider, operation)
        assert isinstance(outcome, Done), f"{action.kind} failed: {outcome.reason}"

    async def seen(self, provider: Provider) -> EndpointState:
        """The endpoint as it stands, which is there."""
        state = await provider.observe(self.endpoint)
        assert state is not None, "the endpoint is not there"
        return state

    async def build(
        self, provider: Provider, *names: str, traffic: Mapping[str, int] | None = None, instances: int = 1
    ) -> None:
        """The endpoint with these deployments and this traffic."""
        await self.do(provider, PutEndpoint(self.endpoint, self.endpoint_spec()))
        for name in names:
            await self.do(provider, await self.put(provider, self.deployment(name, instances=instances)))
        if traffic:
            await self.do(provider, SetTraffic(self.endpoint, traffic))

    async def refused(self, provider: Provider, action: Action) -> None:
        """The action is refused when it is begun, and changes nothing."""
        before = await self.seen(provider)
        with pytest.raises(REFUSED):
            await provider.begin(action, key=self.key(), fence=OURS)
        after = await self.seen(provider)
        assert (after.traffic, after.mirror, set(after.deployments)) == (
            before.traffic,
            before.mirror,
            set(before.deployments),
        )


def journalled(kind: type[T], value: T) -> T:
    """The operation or cursor as another process reads it from the journal."""
    adapter = _ADAPTERS[kind]
    return cast(T, adapter.validate_json(adapter.dump_json(value, by_alias=True)))


_ADAPTERS: dict[type[Any], TypeAdapter[Any]] = {kind: TypeAdapter(kind) for kind in (Operation, Cursor)}
