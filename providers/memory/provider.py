"""The provider of the simulated cloud: one driver's connection to a `World`, with the time its calls take and the
faults that were ordered for them.

Any number of these objects, as from so many processes, may be open on one world.
"""

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import PurePath
from typing import Annotated, ClassVar, Literal, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from providers.actions import Action
from providers.base import (
    Capabilities,
    Context,
    Done,
    EndpointState,
    Failed,
    Fence,
    Keys,
    Operation,
    Request,
    Response,
    Token,
)
from providers.errors import Temporary, Unsupported
from providers.measurement import TIMEOUT, Cursor, Measurement, MeasureQuery, Source
from providers.memory.pairs import Outcome
from providers.memory.traffic import Behaviour, Counter, Draws, mirror, serve
from providers.memory.world import DURATIONS, World
from providers.specs import Content, DeploymentSpec, EndpointSpec, Model, ResolvedDeployment, spec_digest

T = TypeVar("T")

_WORLDS: dict[str, World] = {}

_MEANINGFUL = {
    "$schema",
    "name",
    "endpoint_name",
    "instance_count",
    "tags",
    "description",
    "model",
    "code_configuration",
}


def named_world(name: str = "default") -> World | None:
    """The world that plans of this process call so, or None before a provider was opened in it."""
    return _WORLDS.get(name)


def _only(allowed: set[str], what: str) -> Callable[[object], object]:
    def check(value: object) -> object:
        for name in value if isinstance(value, Mapping) else ():
            if name not in allowed:
                raise ValueError(f"{name} is no {what}; there are {', '.join(sorted(allowed))}")
        return value

    return check


class Options(BaseModel):
    """What a plan may say of its simulated cloud. The first plan of a process that names a world makes it; later ones
    find it as it is.

    Attributes:
        world: its name within this process.
        seed: decides every request's fate.
        rate: live requests a second that clients send to each endpoint which has no load of its own.
        durations: seconds that kinds of operations take.
        capabilities: what its endpoints can do, over the defaults.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    world: str = "default"
    seed: int = 0
    rate: Annotated[float, Field(ge=0)] = 0.0
    durations: Annotated[
        dict[str, Annotated[float, Field(ge=0)]], BeforeValidator(_only(set(DURATIONS), "kind of operation"))
    ] = {}
    capabilities: Annotated[
        Capabilities,
        BeforeValidator(lambda value: {"predictions": True, **value} if isinstance(value, Mapping) else value),
        BeforeValidator(_only({f.name for f in fields(Capabilities)}, "capability")),
    ] = Capabilities(predictions=True)


class MemoryProvider:
    """A provider without a world outside; implements Provider, Measures, Invokes, HasKeys, HasTokens and
    HasLogs.
    """

    name: ClassVar[str] = "memory"
    Options: ClassVar[type[BaseModel]] = Options

    def __init__(self, options: BaseModel, context: Context) -> None:
        chosen = Options.model_validate(options.model_dump())
        world = _WORLDS.get(chosen.world)
        if world is None:
            world = World(chosen.world, seed=chosen.seed, durations=chosen.durations, capabilities=chosen.capabilities)
            world.default_rate = chosen.rate
            _WORLDS[chosen.world] = world
        self._open(world, context)

    @classmethod
    def in_world(cls, world: World, context: Context) -> Self:
        """A provider in a world of the caller's own, unknown to plans."""
        provider = cls.__new__(cls)
        provider._open(world, context)
        return provider

    def _open(self, world: World, context: Context) -> None:
        self.world = world
        self._context = context
        world.join(context.clock)

    # Provider

    def identity(self, endpoint: str) -> str:
        """The world's name and the endpoint's."""
        return f"memory:{self.world.name}/{endpoint}"

    def capabilities(self, endpoint: EndpointSpec | EndpointState) -> Capabilities:  # noqa: ARG002 - all are alike
        """The world's, for every endpoint."""
        return self.world.capabilities

    async def resolve(self, spec: DeploymentSpec, *, base: str) -> ResolvedDeployment:
        """Pin a file that is never read: here the content of a path is its name, and the latest version of anything is
        1.
        """
        return await self._call("resolve", lambda: _resolve(spec, base))

    async def observe(self, endpoint: str) -> EndpointState | None:
        """See `Provider.observe`; it may be late where `World.stale` was ordered."""
        return await self._call("observe", lambda: self.world.observe(endpoint))

    async def begin(self, action: Action, *, key: str, fence: Fence) -> Operation:
        """See `Provider.begin`. Raises Fenced, NotFound, Permanent, Unsupported, Conflict, and what was ordered."""
        return await self._call("begin", lambda: self.world.begin(action, key, fence, self._context.token), action.kind)

    async def poll(self, operation: Operation) -> Operation | Done | Failed:
        """See `Provider.poll`. Raises NotFound for an operation that was not begun in this world."""
        return await self._call("poll", lambda: self.world.poll(operation))

    async def release(self, endpoint: str, fence: Fence) -> None:
        """See `Provider.release`."""
        await self._call("release", lambda: self.world.release(endpoint, fence))

    async def aclose(self) -> None:
        """Nothing to let go of: the world goes on."""

    # Measures, HasKeys, HasTokens, HasLogs

    async def measure(self, query: MeasureQuery, cursor: Cursor | None) -> Measurement:
        """See `Measures.measure`. Raises NotFound."""
        return await self._call("measure", lambda: self.world.measure(query, cursor))

    async def keys(self, endpoint: str) -> Keys:
        """The two keys. Raises NotFound."""
        return await self._call("keys", lambda: self.world.keys(endpoint))

    async def regenerate(self, endpoint: str, which: Literal["primary", "secondary"], *, key: str) -> Keys:
        """See `HasKeys.regenerate`. Raises NotFound."""
        return await self._call("regenerate", lambda: self.world.renew(endpoint, which, key, self._context.token))

    async def token(self, endpoint: str) -> Token:
        """See `HasTokens.token`; the same one until it expires. Raises NotFound, Unsupported."""
        return await self._call("token", lambda: self.world.token(endpoint, self._context.token))

    async def logs(self, endpoint: str, deployment: str, *, instance: int | None, tail: int) -> str:
        """See `HasLogs.logs`. Raises NotFound."""

        def read() -> str:
            lines = self.world.lines(endpoint, deployment)
            texts = [text for number, text in lines if instance is None or number == instance]
            return "".join(f"{text}\n" for text in texts[max(len(texts) - tail, 0) :])

        return await self._call("logs", read)

    async def save_logs(self, endpoint: str, deployment: str, *, rollout: str) -> str:
        """See `HasLogs.save_logs`. Raises NotFound."""
        await self._call("save_logs", lambda: self.world.save(endpoint, deployment))
        return f"memory:{self.world.name}/{endpoint}/logs/{rollout}/{deployment}"

    # Invokes

    async def invoke(
        self,
        endpoint: str,
        request: Request,  # noqa: ARG002 - nobody reads it here
        *,
        deployment: str | None,
        timeout: float,
    ) -> Response:
        """Send one request; it is counted besides the simulated load, with a fate of its own. Raises NotFound,
        Unsupported, Temporary.
        """
        chosen, seconds, response = await self._call("invoke", lambda: self._send(endpoint, deployment, timeout))
        await asyncio.sleep(seconds)
        if response is None:
            raise Temporary(f"Deployment {chosen} of endpoint {endpoint} did not answer within {timeout:g} s.")
        return response

    def _send(self, name: str, asked: str | None, timeout: float) -> tuple[str, float, Response | None]:
        world = self.world
        world.now()
        endpoint = world.endpoint(name)
        if asked is not None and not world.capabilities.direct:
            raise Unsupported(f"Endpoint {name} cannot address a deployment by name.")
        (draws,) = world.stream(f"{name}/invoke").take(1)
        route = world.route(endpoint)
        source: Source = "live" if asked is None else "direct"
        chosen = asked if asked is not None else _choose(route.traffic, float(draws.uniform[0, 0]))
        if chosen is None or chosen not in route.behaviours:
            return "", 0.0, Response(404, b'{"error": "no such deployment"}', 0.0)
        answer = _answer(endpoint.counters.of(chosen, source), chosen, route.behaviours[chosen], draws, timeout)
        if asked is None:
            twin = Outcome.single(*((str(answer.status), round(answer.seconds * 1e6)) if answer else (TIMEOUT, None)))
            for copy, share in route.mirror.items():
                if draws.uniform[0, 1] < share / 1000:
                    mirror(endpoint.counters, copy, route, draws, twin, [chosen])
        return (chosen, answer.seconds, answer) if answer is not None else (chosen, timeout, None)

    # Inside

    async def _call(self, name: str, act: Callable[[], T], kind: str | None = None) -> T:
        names = (name,) if kind is None else (name, kind)
        if seconds := self.world.take_delay(names):
            await asyncio.sleep(seconds)
        fault = self.world.take_fault(names)
        if fault is not None and not fault.after_effect:
            raise fault.make()
        result = act()
        if fault is not None:
            raise fault.make()
        return result


def _resolve(spec: DeploymentSpec, base: str) -> ResolvedDeployment:
    code = _content(base, spec.code_configuration.code) if spec.code_configuration else None
    model = _content(base, spec.model.path) if isinstance(spec.model, Model) else None
    references = [text for text in (spec.model, spec.environment) if isinstance(text, str)]
    names = {field.alias or name: name for name, field in DeploymentSpec.model_fields.items()}
    return ResolvedDeployment(
        spec=spec,
        base=base,
        digest=spec_digest(spec, code=code.sha256 if code else None, model=model.sha256 if model else None),
        code=code,
        model=model,
        versions={text: f"{text.removesuffix('@latest')}:1" for text in references if text.endswith("@latest")},
        ignored=tuple(
            alias for alias, name in names.items() if name in spec.model_fields_set and alias not in _MEANINGFUL
        ),
    )


def _content(base: str, path: str) -> Content:
    return Content(str(PurePath(base, path)), hashlib.sha256(path.encode()).hexdigest())


def _choose(traffic: Mapping[str, int], draw: float) -> str | None:
    place = draw * sum(traffic.values())
    for name, share in traffic.items():
        if place < share:
            return name
        place -= share
    return None


def _answer(counter: Counter, name: str, behaviour: Behaviour | None, draws: Draws, timeout: float) -> Response | None:
    """The deployment's answer, counted; None for none in time."""
    if behaviour is None:
        serve(counter, None, draws.uniform[:, 2], draws.normal[:, 0], draws.more[:, 0])
        return Response(503, b'{"error": "no healthy instance"}', 0.0001)
    latency = behaviour.latencies(draws.normal[:, 0])
    seconds = int(latency[0]) / 1e6
    fate = float(draws.uniform[0, 2])
    if fate < behaviour.timeouts or seconds > timeout:
        counter.add(TIMEOUT, None, 1)
        return None
    served = serve(counter, behaviour, draws.uniform[:, 2], draws.normal[:, 0], draws.more[:, 0])
    bad = int(served.codes[0]) != 200
    status, body = (behaviour.error_status, b'{"error": "run() failed"}') if bad else (200, behaviour.answer)
    headers = {"content-type": "application/json", "azureml-model-deployment": name}
    return Response(status, body, seconds, headers, name)
