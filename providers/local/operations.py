"""An action's way through the local provider: accepted under the fence, recorded with its key, then carried forward.

`begin` decides and records under `apply.lock`, and carries the work forward for a moment, so that what is quick is
done when it returns. `poll` carries it on (see `converge` for why that is no effect of its own) and says how far it
is. An outcome is recorded with the key: the same key is never carried out a second time, in whatever process, after
any crash.

Everything here is synchronous and bounded; the provider calls it from worker threads, so that a cancelled caller never
leaves a half-made change.
"""

import shutil
import threading
import time
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from pydantic import TypeAdapter

from providers.actions import Action, DeleteDeployment, DeleteEndpoint, PutDeployment, PutEndpoint, Scale, SetTraffic
from providers.base import Claim, Context, Done, Failed, Fence, Keys, Operation
from providers.errors import Conflict, NotFound, Permanent, Temporary
from providers.local import converge, envoy, launching, logs, outcome, rules, snapshot
from providers.local.converge import Machine, Pending, Seen
from providers.local.envoy import Admin, Away, View
from providers.local.ports import PortRegistry
from providers.local.probe import probe
from providers.local.processes import Processes, runtime_directory, socket_path
from providers.local.state import (
    Deployment,
    Generation,
    KeyFile,
    Layout,
    Record,
    State,
    load,
    load_keys,
    locked,
    save,
    save_keys,
)

BEGIN_S = 0.5
POLL_S = 0.25
PAUSE_S = 0.02

_ACTION: TypeAdapter[Action] = TypeAdapter(Action)


@dataclass(slots=True)
class _Copying:
    """A copy that is being made in a thread of its own."""

    done: threading.Event = field(default_factory=threading.Event)
    error: Permanent | None = None


class Operations:
    """Begins and polls actions on the endpoints of one home directory."""

    def __init__(self, context: Context, *, concurrency: int) -> None:
        self._context = context
        self._home = context.home / "local"
        self._concurrency = concurrency
        self._copies: dict[Path, _Copying] = {}

    def layout(self, endpoint: str) -> Layout:
        """Where the endpoint is, if it is there. Raises NotFound for what cannot be a name."""
        if not endpoint or not all(c.isalnum() or c == "-" for c in endpoint):
            raise NotFound(f"Endpoint {endpoint} does not exist.")
        return Layout((self._home / endpoint).absolute())

    def machine(self, layout: Layout) -> Machine:
        """The endpoint's processes and proxy. Raises Permanent when no socket can be made for them."""
        runtime = runtime_directory(layout.directory, self._context.runtime)
        return Machine(
            layout,
            Processes(layout.directory, runtime),
            Admin(socket_path(runtime, "envoy.sock")),
            PortRegistry(self._home / "ports.json"),
            self._context.resolve,
            self._concurrency,
        )

    def begin(self, action: Action, key: str, fence: Fence) -> Operation:
        """See `Provider.begin`."""
        layout = self.layout(action.endpoint)
        operation = Operation(key, action)
        if isinstance(action, PutEndpoint):
            rules.check_endpoint(action.spec)
            envoy.executable()
            layout.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        elif load(layout) is None:
            if isinstance(action, DeleteEndpoint | DeleteDeployment):
                return operation
            raise NotFound(f"Endpoint {action.endpoint} does not exist.")
        try:
            with locked(layout):
                known = self._accept(layout, action, key, fence)
        except NotFound:
            if isinstance(action, DeleteEndpoint | DeleteDeployment):
                return operation
            raise
        if known:
            return operation
        answer = self._carry(operation, BEGIN_S)
        if isinstance(answer, Failed) and isinstance(action, PutDeployment) and self._take_back(layout, action):
            raise Permanent(answer.reason)
        return answer if isinstance(answer, Operation) else operation

    def poll(self, operation: Operation) -> Operation | Done | Failed:
        """See `Provider.poll`."""
        return self._carry(operation, POLL_S)

    def release(self, endpoint: str, fence: Fence) -> None:
        """Drop the claim of this store, unless a newer driver holds it."""
        layout = self.layout(endpoint)
        if load(layout) is None:
            return
        with locked(layout):
            state = load(layout)
            claim = state.claim if state is not None else None
            if state is not None and claim is not None and claim.store == fence.store and claim.epoch <= fence.epoch:
                save(layout, replace(state, claim=None))

    def regenerate(self, endpoint: str, which: str, key: str) -> Keys:
        """Replace one key, unless this was done under the same idempotency key; returns when the proxy knows it."""
        layout = self.layout(endpoint)
        with locked(layout):
            self._existing(layout)
            file = load_keys(layout)
            if key not in file.renewals:
                fresh = self._context.token()
                file = replace(file, renewals=(*file.renewals, key)[-100:], **{which: fresh})
                save_keys(layout, file)
        until = time.monotonic() + 5.0
        while True:
            pending = self._step(self.machine(layout), None)[1]
            if pending is None or not pending.routes or self._proxy_is_down(layout):
                return file.keys
            if time.monotonic() > until:
                raise Temporary(f"The proxy of {endpoint} has not taken the new key yet.", retry_after=1.0)
            time.sleep(PAUSE_S)

    def start(self, endpoint: str) -> None:
        """Bring up everything that is not running, and wait until the proxy is ready. Raises NotFound, Temporary."""
        layout = self.layout(endpoint)
        with locked(layout):
            state = replace(self._existing(layout), boot=boot())
            save(layout, state)
            machine = self.machine(layout)
            machine.processes.ensure_keeper()
            converge.run_again(machine, state)
        until = time.monotonic() + 15.0
        while not machine.admin.ready():
            if time.monotonic() > until:
                raise Temporary(f"The proxy of {endpoint} does not come up: see {layout.logs / 'envoy.log'}.")
            time.sleep(PAUSE_S)

    # Accepting

    def _existing(self, layout: Layout) -> State:
        state = load(layout)
        if state is None:
            raise NotFound(f"Endpoint {layout.directory.name} does not exist.")
        return state

    def _accept(self, layout: Layout, action: Action, key: str, fence: Fence) -> bool:
        """Record what the action asks for; True when this key was recorded before."""
        state = load(layout)
        if state is None:
            if not isinstance(action, PutEndpoint):
                raise NotFound(f"Endpoint {action.endpoint} does not exist.")
            state = self._created(layout, action)
        rules.check_fence(state.name, fence, state.claim, state.epochs)
        known = state.operations.get(key)
        if known is not None and _ACTION.dump_json(known.action) != _ACTION.dump_json(action):
            raise Permanent(f"Key {key} stands for another action ({known.action.kind}): use a new one.")
        machine = self.machine(layout)
        if known is None:
            if not isinstance(action, DeleteEndpoint):
                rules.check(action, state, view.members if (view := _view(machine)) is not None else {})
            state = self._asked(state, action)
            state = replace(state, operations={**state.operations, key: Record(action)}, boot=boot())
        state = replace(
            state,
            claim=Claim(fence.store, fence.rollout, fence.epoch),
            epochs={**state.epochs, fence.store: fence.epoch},
        )
        save(layout, state)
        return known is not None

    def _created(self, layout: Layout, action: PutEndpoint) -> State:
        registry = PortRegistry(self._home / "ports.json")
        (port,) = registry.reserve(layout.owner(launching.PROXY), 1)
        save_keys(layout, KeyFile(self._context.token(), self._context.token()))
        return State(action.endpoint, action.spec, self._context.clock(), port, boot())

    def _asked(self, state: State, action: Action) -> State:
        """The state as it shall be."""
        now = self._context.clock()
        match action:
            case PutEndpoint():
                return replace(state, spec=action.spec)
            case DeleteEndpoint():
                return replace(state, leaving=True)
            case SetTraffic():
                traffic, mirror = rules.shares(action.traffic), rules.shares(action.mirror)
                served = {name: replace(state.deployments[name], served=True) for name in traffic}
                return replace(state, traffic=traffic, mirror=mirror, deployments={**state.deployments, **served})
            case Scale():
                return _with(state, replace(state.deployments[action.deployment], desired=action.instances))
            case PutDeployment():
                return _with(state, self._put(state, action, now))
            case DeleteDeployment():
                there = state.deployments.get(action.deployment)
                return state if there is None else _with(state, replace(there, leaving=there.leaving or now))

    def _put(self, state: State, action: PutDeployment, now: datetime) -> Deployment:
        resolved = action.deployment
        for value in resolved.spec.environment_variables.values():
            self._context.resolve(value)  # a secret that is missing is better missed now
        there = state.deployments.get(resolved.name)
        number = resolved.spec.instance_count
        if there is not None and there.wanted.resolved.digest == resolved.digest:
            # Asked for again: what was refused may be as pinned by now.
            again = replace(there.wanted, resolved=resolved, refused=None)
            return replace(there, desired=number, generations=(*there.generations[:-1], again))
        generation = Generation(f"{int(now.timestamp() * 1e6):x}", resolved, now)
        if there is None:
            return Deployment(resolved.name, number, (generation,))
        return replace(there, desired=number, generations=(*there.generations, generation), served=False)

    def _take_back(self, layout: Layout, action: PutDeployment) -> bool:
        """Forget a generation whose content was refused before anything of it ran."""
        with locked(layout):
            state = self._existing(layout)
            there = state.deployments.get(action.deployment.name)
            if there is None or there.wanted.refused is None:
                return False
            earlier = there.generations[:-1]
            if earlier:
                desired = earlier[-1].resolved.spec.instance_count
                save(layout, _with(state, replace(there, generations=earlier, desired=desired)))
            else:
                left = {name: one for name, one in state.deployments.items() if name != there.name}
                save(layout, replace(state, deployments=left))
            return True

    # Carrying forward

    def _carry(self, operation: Operation, seconds: float) -> Operation | Done | Failed:
        """Make steps until the operation has ended or the time is over."""
        until = time.monotonic() + seconds
        progress: str | None = None
        while True:
            try:
                answer = self._once(operation, until)
            except Conflict:
                answer = replace(operation, progress="another process is changing the endpoint", retry_after=0.1)
            if not isinstance(answer, Operation):
                return answer
            progress = answer.progress
            if time.monotonic() + PAUSE_S >= until:
                return replace(operation, progress=progress, retry_after=0.1)
            time.sleep(PAUSE_S)

    def _once(self, operation: Operation, until: float) -> Operation | Done | Failed:
        action, key = operation.action, operation.key
        layout = self.layout(action.endpoint)
        state = load(layout)
        if state is None:
            return _without_endpoint(operation)
        record = state.operations.get(key)
        if record is None:
            if isinstance(action, DeleteDeployment) and action.deployment not in state.deployments:
                return Done(key)
            raise NotFound(f"No operation with key {key} was begun on endpoint {action.endpoint}.")
        if record.outcome is not None:
            return Failed(key, record.outcome, record.permanent) if record.outcome else Done(key)
        machine = self.machine(layout)
        if state.leaving:
            return self._end_endpoint(machine, operation)
        machine.processes.ensure_keeper()
        copying = self._copy(layout, state, until)
        try:
            state, pending, end = self._step(machine, key)
        except NotFound:
            return _without_endpoint(operation)
        except Permanent as error:
            return Failed(key, str(error))
        if state is None or pending is None:
            return _without_endpoint(operation)
        if end is not None:
            return Failed(key, end.outcome, end.permanent) if end.outcome else Done(key)
        return replace(operation, progress=copying or outcome.progress(action, pending))

    def _step(self, machine: Machine, key: str | None) -> tuple[State | None, Pending | None, Record | None]:
        """One step under the lock; records and returns the outcome of the operation when it has one."""
        layout = machine.layout
        before = load(layout)
        ready = probe(before) if before is not None else frozenset()
        with locked(layout, patience=POLL_S):
            state = load(layout)
            if state is None or state.leaving:
                return None, None, None
            seen = Seen(self._context.clock(), ready, machine.processes.status(), _view(machine))
            state, pending = converge.step(machine, state, seen)
            record = state.operations.get(key) if key is not None else None
            if key is None or record is None:
                return state, pending, None
            end = outcome.ended(layout, record, state, pending, seen)
            if end is not None:
                state = replace(state, operations={**state.operations, key: end})
                save(layout, state)
                logs.prune(layout, state)
            return state, pending, end

    def _proxy_is_down(self, layout: Layout) -> bool:
        return not self.machine(layout).admin.ready()

    def _copy(self, layout: Layout, state: State, until: float) -> str | None:
        """Copy what is not there yet, in threads, and wait for it until then; says what is still going on."""
        progress = None
        for deployment in state.deployments.values():
            generation, target = deployment.wanted, layout.snapshot(deployment.name, deployment.wanted)
            if deployment.leaving is not None or generation.refused is not None or target.is_dir():
                continue
            job = self._copies.get(target)
            if job is None:
                job = self._copies[target] = _Copying()
                threading.Thread(target=_copy, args=(job, generation, target), daemon=True).start()
            if not job.done.wait(max(0.0, until - time.monotonic())):
                progress = f"copying code and model of {deployment.name}"
                continue
            self._copies.pop(target, None)
            if job.error is not None:
                self._refuse(layout, deployment.name, generation, str(job.error))
        return progress

    def _refuse(self, layout: Layout, name: str, generation: Generation, reason: str) -> None:
        with locked(layout):
            state = self._existing(layout)
            there = state.deployments.get(name)
            if there is not None and there.wanted.id == generation.id:
                refused = replace(there.wanted, refused=reason)
                save(layout, _with(state, replace(there, generations=(*there.generations[:-1], refused))))

    def _end_endpoint(self, machine: Machine, operation: Operation) -> Operation | Done | Failed:
        """Stop everything, then remove the directory; any process may finish what another began."""
        layout = machine.layout
        try:
            with locked(layout, patience=POLL_S):
                state = load(layout)
                if state is None:
                    return _without_endpoint(operation)
                if not machine.processes.at_rest():
                    if machine.processes.wanted() or machine.processes.keeper_pid() is None:
                        machine.processes.retire()
                    return replace(operation, progress="its processes stop")
                machine.ports.release(layout.owner(launching.PROXY))
                for deployment in state.deployments.values():
                    for instance in deployment.instances:
                        machine.ports.release(layout.owner(launching.process_name(deployment.name, instance)))
                shutil.rmtree(machine.admin.path.parent, ignore_errors=True)
                gone = layout.directory.with_name(f".{layout.directory.name}.deleted-{int(state.born.timestamp())}")
                shutil.rmtree(gone, ignore_errors=True)
                layout.directory.rename(gone)
                shutil.rmtree(gone)
        except NotFound:
            pass
        return _without_endpoint(operation)


def boot() -> str:
    """Identifies this run of the machine; empty where it cannot be told."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _copy(job: _Copying, generation: Generation, target: Path) -> None:
    scratch = target.with_name(f"{target.name}~{threading.get_native_id()}")
    try:
        snapshot.copy_all(generation.resolved.code, generation.resolved.model, target, scratch)
    except Permanent as error:
        job.error = error
    except OSError as error:
        job.error = Permanent(f"The snapshot of {generation.resolved.name} cannot be made: {error.strerror}.")
    finally:
        job.done.set()


def _view(machine: Machine) -> View | None:
    try:
        return machine.admin.view()
    except Away:
        return None


def _with(state: State, deployment: Deployment) -> State:
    return replace(state, deployments={**state.deployments, deployment.name: deployment})


def _without_endpoint(operation: Operation) -> Done | Failed:
    action = operation.action
    if isinstance(action, DeleteEndpoint | DeleteDeployment):
        return Done(operation.key)
    return Failed(operation.key, f"Endpoint {action.endpoint} was deleted meanwhile.", permanent=False)
