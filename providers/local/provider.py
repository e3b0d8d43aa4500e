"""The local provider: endpoints on this machine, with the same words as anywhere else.

This module only speaks the protocols of `providers.base`; each call goes to the module that does the work, in a worker
thread, because the work is files, locks and a proxy's admin interface.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from providers.actions import Action
from providers.base import (
    Capabilities,
    Context,
    DeploymentState,
    Done,
    EndpointState,
    Failed,
    Fence,
    Keys,
    Operation,
    Request,
    Response,
)
from providers.errors import NotFound, Permanent, Temporary
from providers.http import Http
from providers.local import converge, launching, logs, measure, pairing, predictions, rules, snapshot
from providers.local.converge import Machine, Seen
from providers.local.envoy import Away, View
from providers.local.operations import Operations, boot
from providers.local.outcome import crashed
from providers.local.state import Deployment, Layout, State, load, load_keys
from providers.local.xds import DEPLOYMENT_HEADER
from providers.measurement import Cursor, Measurement, MeasureQuery
from providers.specs import Content, DeploymentSpec, EndpointSpec, Model, ResolvedDeployment, spec_digest

T = TypeVar("T")

_MEANINGFUL = frozenset(
    {
        *("schema_", "name", "endpoint_name", "description", "tags", "model", "code_configuration"),
        *("environment_variables", "instance_count", "request_settings", "local"),
    }
)
_MEANINGFUL_SETTINGS = frozenset({"request_timeout_ms"})


class Options(BaseModel):
    """What a plan may say of the local provider.

    Attributes:
        concurrency: threads of each endpoint's proxy.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    concurrency: Annotated[int, Field(ge=1, le=64)] = 1


class LocalProvider:
    """Real processes behind a real proxy; implements Provider, Measures, Invokes, HasKeys and HasLogs."""

    name: ClassVar[str] = "local"
    Options: ClassVar[type[BaseModel]] = Options

    def __init__(self, options: BaseModel, context: Context) -> None:
        chosen = Options.model_validate(options.model_dump())
        self._context = context
        self._operations = Operations(context, concurrency=chosen.concurrency)
        self._http = Http(direct=True)

    # Provider

    def identity(self, endpoint: str) -> str:
        """The machine and the endpoint's directory."""
        return f"{_machine_id()}:{(self._context.home / 'local' / endpoint).resolve()}"

    def capabilities(self, endpoint: EndpointSpec | EndpointState) -> Capabilities:  # noqa: ARG002  (all are alike)
        """The same for every endpoint."""
        return rules.CAPABILITIES

    async def resolve(self, spec: DeploymentSpec, *, base: str) -> ResolvedDeployment:
        """Pin code and model by their content. Raises Permanent."""
        return await _thread(lambda: _resolved(spec, Path(base)))

    async def observe(self, endpoint: str) -> EndpointState | None:
        """See `Provider.observe`. A dead keeper is started again, unless the machine was: that is for `start`."""
        return await _thread(lambda: self._observe(endpoint))

    async def begin(self, action: Action, *, key: str, fence: Fence) -> Operation:
        """See `Provider.begin`."""
        return await _thread(lambda: self._operations.begin(action, key, fence))

    async def poll(self, operation: Operation) -> Operation | Done | Failed:
        """See `Provider.poll`; it carries on what was begun, by whomever, and nothing else (see `converge`)."""
        return await _thread(lambda: self._operations.poll(operation))

    async def release(self, endpoint: str, fence: Fence) -> None:
        """See `Provider.release`."""
        await _thread(lambda: self._operations.release(endpoint, fence))

    async def aclose(self) -> None:
        """Close the connections to the proxy."""
        await self._http.aclose()

    async def start(self, endpoint: str) -> EndpointState:
        """Bring an endpoint up again, as after a reboot of the machine. Raises NotFound, Temporary."""
        await _thread(lambda: self._operations.start(endpoint))
        state = await self.observe(endpoint)
        if state is None:
            raise NotFound(f"Endpoint {endpoint} does not exist.")
        return state

    # Measures

    async def measure(self, query: MeasureQuery, cursor: Cursor | None) -> Measurement:
        """See `Measures.measure`. Raises NotFound, and Temporary while the proxy does not answer."""
        return await _thread(lambda: self._measure(query, cursor))

    # Invokes

    async def invoke(self, endpoint: str, request: Request, *, deployment: str | None, timeout: float) -> Response:
        """See `Invokes.invoke`. Raises NotFound, Temporary."""
        layout, state = self._existing(endpoint)
        headers = {**request.headers, "authorization": f"Bearer {load_keys(layout).primary}"}
        if deployment is not None:
            headers[DEPLOYMENT_HEADER] = deployment
        answer = await self._http.send(
            request.method, _url(state) + request.path, body=request.body, headers=headers, timeout=timeout
        )
        said = answer.headers.get(DEPLOYMENT_HEADER)
        return Response(answer.status, answer.body, answer.seconds, answer.headers, said)

    # HasKeys

    async def keys(self, endpoint: str) -> Keys:
        """The two keys. Raises NotFound."""
        return await _thread(lambda: load_keys(self._existing(endpoint)[0]).keys)

    async def regenerate(self, endpoint: str, which: Literal["primary", "secondary"], *, key: str) -> Keys:
        """See `HasKeys.regenerate`; when it returns, the proxy knows the new key and not the old one."""
        return await _thread(lambda: self._operations.regenerate(endpoint, which, key))

    # HasLogs

    async def logs(self, endpoint: str, deployment: str, *, instance: int | None, tail: int) -> str:
        """See `HasLogs.logs`. Raises NotFound."""

        def read() -> str:
            layout, state = self._existing(endpoint)
            return logs.read(layout, state, deployment, instance=instance, lines=tail)

        return await _thread(read)

    async def save_logs(self, endpoint: str, deployment: str, *, rollout: str) -> str:
        """See `HasLogs.save_logs`; the path of the folder. Raises NotFound."""

        def copy() -> str:
            layout, state = self._existing(endpoint)
            return str(logs.save(layout, state, deployment, rollout))

        return await _thread(copy)

    # Inside

    def _existing(self, endpoint: str) -> tuple[Layout, State]:
        layout = self._operations.layout(endpoint)
        state = load(layout)
        if state is None:
            raise NotFound(f"Endpoint {endpoint} does not exist.")
        return layout, state

    def _observe(self, endpoint: str) -> EndpointState | None:
        try:
            layout, state = self._existing(endpoint)
        except NotFound:
            return None
        machine = self._operations.machine(layout)
        problem = None
        if state.boot != boot():
            problem = f"it has not run since the machine started: rollout endpoint start {endpoint}"
        elif not state.leaving:
            try:
                machine.processes.ensure_keeper()
            except Temporary as error:
                problem = str(error)
        view = _view(machine)
        if view is None and problem is None:
            problem = f"the proxy is not running: see {layout.logs / 'envoy.log'}"
        seen = Seen(self._context.clock(), frozenset(), machine.processes.status(), view)
        return EndpointState(
            name=state.name,
            deployments={name: _deployment(layout, one, seen) for name, one in state.deployments.items()},
            traffic=dict(state.traffic),
            mirror=dict(state.mirror),
            busy="it is being deleted" if state.leaving else None,
            claim=state.claim,
            url=_url(state),
            problem=problem,
        )

    def _measure(self, query: MeasureQuery, cursor: Cursor | None) -> Measurement:
        layout, state = self._existing(query.endpoint)
        wanted = [state.deployments[name] for name in query.deployments if name in state.deployments]
        began = self._context.clock()
        machine = self._operations.machine(layout)
        try:
            statistics = machine.admin.statistics([one.name for one in wanted])
        except Away:
            raise Temporary(f"The proxy of {query.endpoint} does not answer.", retry_after=1.0) from None
        counted = measure.since(cursor, statistics, wanted, self._context.clock())
        both = pairing.sides(query.deployments, state.deployments)
        paired = pairing.added(counted, cursor, layout, both, began)
        return predictions.added(paired, cursor, query, state, layout, machine.processes)


async def _thread(work: Callable[[], T]) -> T:
    # Not cancelled with its caller: a change that was started is always made whole.
    return await asyncio.shield(asyncio.to_thread(work))


def _machine_id() -> str:
    for path in (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id")):
        try:
            if text := path.read_text(encoding="ascii").strip():
                return text
        except OSError:
            continue
    import platform  # noqa: PLC0415

    return platform.node()


def _url(state: State) -> str:
    return f"http://127.0.0.1:{state.port}"


def _view(machine: Machine) -> View | None:
    try:
        return machine.admin.view()
    except Away:
        return None


def _deployment(layout: Layout, deployment: Deployment, seen: Seen) -> DeploymentState:
    healthy = converge.healthy_instances(deployment, seen.view)
    problem = deployment.wanted.refused or crashed(layout, deployment, seen)
    if deployment.leaving is not None:
        problem = "it is being deleted"
    elif problem is None and healthy < deployment.desired:
        problem = _down(deployment, seen)
    return DeploymentState(
        deployment.name, healthy, deployment.desired, deployment.wanted.resolved.digest, deployment.wanted.born, problem
    )


def _down(deployment: Deployment, seen: Seen) -> str | None:
    """An instance that served and does not run, though it has not failed often enough to be given up."""
    for instance in deployment.serving:
        status = seen.processes.get(launching.process_name(deployment.name, instance))
        if status is None or not status.alive:
            why = f" ({status.last_exit})" if status is not None and status.last_exit else ""
            return f"instance {instance.number} is not running{why}"
    return None


def _resolved(spec: DeploymentSpec, base: Path) -> ResolvedDeployment:
    if isinstance(spec.model, str):
        raise Permanent(
            f"Deployment {spec.name}: model: {spec.model} is a registered model, and the local provider has none: "
            "give model.path."
        )
    code = model = None
    if spec.code_configuration is not None:
        code = snapshot.pin(base / spec.code_configuration.code, "code_configuration.code")
        _check_script(Path(code.path), spec.code_configuration.scoring_script)
    if isinstance(spec.model, Model):
        model = snapshot.pin(base / spec.model.path, "model.path")
    resolved = ResolvedDeployment(
        spec=spec,
        base=str(base),
        digest=spec_digest(spec, code=_sha(code), model=_sha(model)),
        code=code,
        model=model,
        ignored=_ignored(spec),
    )
    rules.check_deployment(resolved)
    return resolved


def _check_script(code: Path, script: str) -> None:
    path = (code / script).resolve()
    if not code.is_dir():
        raise Permanent(f"code_configuration.code: {code} is not a folder.")
    if not path.is_relative_to(code) or not path.is_file():
        raise Permanent(f"code_configuration.scoring_script: {script} is not a file in {code}.")


def _sha(content: Content | None) -> str | None:
    return None if content is None else content.sha256


def _ignored(spec: DeploymentSpec) -> tuple[str, ...]:
    """Fields that were given and mean nothing on this machine."""
    names = [name for name in spec.model_fields_set if name not in _MEANINGFUL]
    if spec.request_settings is not None:
        inner = spec.request_settings.model_fields_set - _MEANINGFUL_SETTINGS
        names += [f"request_settings.{name}" for name in inner]
    return tuple(sorted(names))
