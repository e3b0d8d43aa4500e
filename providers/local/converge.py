"""Brings an endpoint's machine nearer to its state: the one place where instances enter and leave the proxy.

`begin` only writes what shall be true; nothing that takes time is waited for there. `step` then compares the state
with what is seen (instances that answer, what Envoy has applied, requests on their way) and does all that can be done
at this moment, in the one order in which no request fails:

    members of a new cluster -> the cluster -> healthy in all three clusters -> routes -> (deleting) routes without it
    -> its last request has ended -> clusters without it -> processes stopped -> files gone

A step is idempotent and may be made by anyone who holds the lock, any number of times, after any crash: each one
starts from the state and the machine, never from what an earlier one remembers. This is why `poll` may make steps
although it must have no effect of its own: it only completes what a `begin` has recorded, and stops where that is
complete. When the driver dies, an endpoint stays as it is, serving, until the next `begin` or `poll` takes the work up
again.
"""

import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from providers.errors import Permanent
from providers.local import launching, xds
from providers.local.envoy import Admin, Away, View
from providers.local.measure import baseline
from providers.local.ports import PortRegistry
from providers.local.processes import Processes, ProcessSpec, ProcessStatus
from providers.local.state import Deployment, Instance, Layout, Phase, State, load_keys, save, write

DRAIN_S = 30.0
"""How long requests that somebody waits for may keep what is being removed."""
DRAIN_MIRROR_S = 5.0
"""The same for mirrored requests, which nobody waits for."""
JOIN_S = 3.0
APPLY_S = 0.25
_ESTABLISHED = "01"


@dataclass(frozen=True, slots=True)
class Machine:
    """What is needed to change one endpoint.

    Attributes:
        layout: its files.
        processes: its keeper.
        admin: its proxy.
        ports: of this user.
        resolve: secret references -> their values.
        concurrency: of the proxy.
    """

    layout: Layout
    processes: Processes
    admin: Admin
    ports: PortRegistry
    resolve: Callable[[str], str]
    concurrency: int = 1


@dataclass(frozen=True, slots=True)
class Seen:
    """The machine as it was just before a step.

    Attributes:
        now: the time.
        ready: identities of starting instances that answered, as themselves.
        processes: name -> how it is.
        view: of Envoy, None while it does not answer.
    """

    now: datetime
    ready: frozenset[str]
    processes: Mapping[str, ProcessStatus]
    view: View | None


@dataclass(frozen=True, slots=True)
class Pending:
    """What is left to do. Empty texts everywhere mean: nothing.

    Attributes:
        proxy: why the proxy is not as it should be.
        routes: why the routes are not applied.
        deployments: name -> what it waits for.
    """

    proxy: str = ""
    routes: str = ""
    deployments: Mapping[str, str] = field(default_factory=dict)


def step(machine: Machine, state: State, seen: Seen) -> tuple[State, Pending]:
    """Do what can be done now; the caller holds the lock.

    Returns:
        the state as it was saved, and what is left.

    Raises:
        Permanent: a secret reference has no value, or Envoy refuses its configuration.
    """
    changed = _decided(machine, state, seen)
    if changed != state:
        save(machine.layout, changed)
    _run_processes(machine, changed)
    changed, routes = _configure(machine, changed, seen.view)
    if launching.PROXY not in machine.processes.wanted():
        run_proxy(machine, changed)
    _tidy(machine, changed)
    proxy = "" if seen.view is not None and machine.admin.ready() else "the proxy is starting"
    left = {name: text for name, one in changed.deployments.items() if (text := _left(one, seen))}
    return changed, Pending(proxy, routes, left)


# What shall change


def _decided(machine: Machine, state: State, seen: Seen) -> State:
    deployments = {}
    for name, deployment in state.deployments.items():
        changed = _next(machine, deployment, seen)
        if changed is not None:
            deployments[name] = changed
    return replace(state, deployments=deployments)


def _next(machine: Machine, deployment: Deployment, seen: Seen) -> Deployment | None:
    """The deployment after this step, or None when it is gone."""
    changed = _gone_instances(machine, deployment, seen)
    if changed.leaving is not None:
        return _leaving(machine, changed, seen)
    if machine.layout.snapshot(changed.name, changed.wanted).is_dir():
        changed = _instances(machine, changed, seen)
    used = {instance.generation for instance in changed.instances} | {changed.wanted.id}
    return replace(changed, generations=tuple(one for one in changed.generations if one.id in used))


def _instances(machine: Machine, deployment: Deployment, seen: Seen) -> Deployment:
    """Make as many as are wanted, let those in that answer, and take the rest out."""
    wanted, name = deployment.wanted.id, deployment.name
    instances = list(deployment.instances)

    def move(index: int, phase: Phase) -> None:
        instances[index] = replace(instances[index], phase=phase, since=seen.now)

    def those(phase: Phase, *, ours: bool) -> list[int]:
        return [i for i, one in enumerate(instances) if one.phase == phase and (one.generation == wanted) is ours]

    alive = those("serving", ours=True) + those("starting", ours=True)
    for index in alive[deployment.desired :]:
        move(index, "stopping" if instances[index].phase == "starting" else "draining")
    for _ in range(deployment.desired - len(alive)):
        number = _free({one.number for one in instances})
        (port,) = machine.ports.reserve(machine.layout.owner(f"{name}.{number}"), 1)
        instances.append(Instance(number, port, wanted, "starting", seen.now))
    ready = [i for i in those("starting", ours=True) if launching.identity(name, instances[i]) in seen.ready]
    old, serving = those("serving", ours=False), those("serving", ours=True)
    if not old or len(ready) + len(serving) >= deployment.desired:
        # Beside predecessors nobody enters before all can; they go when the proxy has found the new ones well, too.
        for index in ready:
            move(index, "serving")
    if old and len(serving) >= deployment.desired and _joined(deployment, [instances[i] for i in serving], seen):
        for index in old:
            move(index, "draining")
    for index in those("starting", ours=False):
        move(index, "stopping")
    for index in range(len(instances)):
        if instances[index].phase == "draining" and _drained(
            deployment, instances[index], len(deployment.serving), seen
        ):
            move(index, "stopping")
    return replace(deployment, instances=tuple(instances))


def _joined(deployment: Deployment, new: list[Instance], seen: Seen) -> bool:
    """Whether the proxy sends requests to the new instances; a predecessor that is ill is waited for a moment only."""
    members = None if seen.view is None else seen.view.members.get(deployment.name)
    if members is None or members.total != len(deployment.serving):
        return False
    return members.healthy == members.total or all(seen.now - one.since > timedelta(seconds=JOIN_S) for one in new)


def _free(taken: set[int]) -> int:
    return next(number for number in range(len(taken) + 1) if number not in taken)


def _drained(deployment: Deployment, instance: Instance, serving: int, seen: Seen) -> bool:
    """Whether nobody talks to an instance any more. Envoy closes a removed member's connections as they become idle."""
    waited = seen.now - instance.since
    if waited > timedelta(seconds=DRAIN_S):
        return True
    if seen.view is None:
        return False
    members = seen.view.members.get(deployment.name)
    applied = members is not None and members.total == serving
    return applied and waited > timedelta(milliseconds=50) and not _connected(instance.port)


def _connected(port: int) -> bool:
    """Whether a connection to this local port is open (proc(5), /proc/net/tcp)."""
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        try:
            lines = table.read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == _ESTABLISHED and int(fields[1].rsplit(":", 1)[1], 16) == port:
                return True
    return False


def _leaving(machine: Machine, deployment: Deployment, seen: Seen) -> Deployment | None:
    assert deployment.leaving is not None
    if not deployment.drained:
        members = seen.view.members.get(deployment.name) if seen.view is not None else None
        waited = seen.now - deployment.leaving
        late = waited > timedelta(seconds=DRAIN_S)
        gone = seen.view is not None and members is None
        # The routes were applied without it when it began to leave (`_configure`); its mirrored requests end
        # by themselves.
        quiet = members is not None and _routes_left(machine, deployment, seen) and members.active == 0
        if quiet and members is not None and members.mirrored and waited < timedelta(seconds=DRAIN_MIRROR_S):
            quiet = False
        return replace(deployment, drained=True) if quiet or gone or late else deployment
    if seen.view is not None and deployment.name in seen.view.members:
        return deployment
    instances = tuple(
        one if one.phase == "stopping" else replace(one, phase="stopping", since=seen.now)
        for one in deployment.instances
    )
    return replace(deployment, instances=instances) if instances else None


def _routes_left(machine: Machine, deployment: Deployment, seen: Seen) -> bool:
    """Whether Envoy has applied routes that do not know the deployment."""
    body = _read(machine.layout.xds / "rds" / "resource.json")
    return seen.view is not None and seen.view.routes == _version(body) and f'"{deployment.name}~direct"' not in body


def _gone_instances(machine: Machine, deployment: Deployment, seen: Seen) -> Deployment:
    left = []
    for instance in deployment.instances:
        name = launching.process_name(deployment.name, instance)
        status = seen.processes.get(name)
        if (
            instance.phase == "stopping"
            and name not in machine.processes.wanted()
            and (status is None or not status.alive)
        ):
            machine.ports.release(machine.layout.owner(name))
        else:
            left.append(instance)
    return replace(deployment, instances=tuple(left))


# Making it so


def run_proxy(machine: Machine, state: State) -> None:
    """Want Envoy, as this version of the program would start it. Its other files are in place before."""
    layout = machine.layout
    bootstrap = xds.bootstrap(
        port=state.port, admin=machine.admin.path, xds=layout.xds, pairs=layout.directory / xds.PAIR_LOG
    )
    write(layout.bootstrap, json.dumps(bootstrap).encode())
    layout.logs.mkdir(mode=0o700, exist_ok=True)
    machine.processes.want(launching.PROXY, launching.proxy(layout, machine.concurrency))
    machine.processes.wake()


def run_again(machine: Machine, state: State) -> None:
    """Describe every process that does not run as this version of the program would start it."""
    status = machine.processes.status()
    if not (there := status.get(launching.PROXY)) or not there.alive:
        run_proxy(machine, state)
    for name, make in _described(machine, state).items():
        if not (there := status.get(name)) or not there.alive:
            machine.processes.want(name, make(), fresh=True)
    machine.processes.wake()


def _described(machine: Machine, state: State) -> dict[str, Callable[[], ProcessSpec]]:
    """Process name -> what makes its description; secrets are only fetched when it is called."""
    found: dict[str, Callable[[], ProcessSpec]] = {}
    for deployment in state.deployments.values():
        generations = {one.id: one for one in deployment.generations}
        for instance in deployment.instances:
            if instance.phase != "stopping":
                found[launching.process_name(deployment.name, instance)] = partial(
                    launching.instance,
                    machine.layout,
                    deployment.name,
                    generations[instance.generation],
                    instance,
                    machine.resolve,
                )
    return found


def _run_processes(machine: Machine, state: State) -> None:
    wanted, running = machine.processes.wanted(), _described(machine, state)
    changed = False
    kept = {launching.PROXY, launching.COMPARER} if state.mirror else {launching.PROXY}
    if not state.mirror:
        machine.layout.asked.unlink(missing_ok=True)
    for name in sorted(wanted - running.keys() - kept):
        machine.processes.unwant(name)
        changed = True
    for name in sorted(running.keys() - wanted):
        # The name may still be held by a predecessor that is being stopped: then its lock is waited for by the keeper.
        spec = running[name]()
        spec.log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        machine.processes.want(name, spec, fresh=True)
        changed = True
    if changed:
        machine.processes.wake()


def _configure(machine: Machine, state: State, view: View | None) -> tuple[State, str]:
    """Write Envoy's files in order; returns the state, with new baselines, and what is not applied yet."""
    layout = machine.layout
    for deployment in state.deployments.values():
        ports = sorted(instance.port for instance in deployment.serving)
        _put(layout.xds / f"eds-{deployment.name}", xds.members(deployment.name, ports))
    clusters = xds.clusters(
        (launching.upstream(one) for one in state.deployments.values() if not one.drained), layout.xds
    )
    _put(layout.xds / "cds", clusters)
    if view is None:
        # Nobody reads the files now; what starts later reads all of them.
        _put(layout.xds / "rds", _routes(machine, state))
        return state, "the proxy is not running"
    if (text := _applied(machine, "clusters", xds.version(clusters), view.rejected)) != "":
        return state, text
    state = _with_baselines(machine, state)
    routes = _routes(machine, state)
    _put(layout.xds / "rds", routes)
    return state, _applied(machine, "routes", xds.version(routes), view.rejected)


def _routes(machine: Machine, state: State) -> dict[str, Any]:
    keys = load_keys(machine.layout)
    upstreams = tuple(launching.upstream(one) for one in state.deployments.values() if one.leaving is None)
    routing = xds.Routing(upstreams, state.traffic, state.mirror, (keys.primary, keys.secondary))
    return xds.routes(routing)


def _applied(machine: Machine, what: str, version: str, rejected: int) -> str:
    """Wait a moment until Envoy has applied a version; "" when it has. Raises Permanent when it refuses it."""
    until = time.monotonic() + APPLY_S
    while True:
        try:
            view = machine.admin.view()
        except Away:
            return "the proxy is not running"
        if (view.clusters if what == "clusters" else view.routes) == version and not (
            what == "clusters" and view.warming
        ):
            return ""
        if view.rejected > rejected:
            raise Permanent(f"The proxy refuses its new {what}: see {machine.layout.logs / 'envoy.log'}.")
        if time.monotonic() >= until:
            return f"the proxy applies its new {what}"
        time.sleep(0.003)


def _with_baselines(machine: Machine, state: State) -> State:
    """Note what was counted under a deployment's name before the generation that now answers got its first request."""
    new = [
        one for one in state.deployments.values() if one.baseline is None or one.baseline.generation != one.serves.id
    ]
    if not new:
        return state
    try:
        statistics = machine.admin.statistics([one.name for one in new])
    except Away:
        return state
    deployments = dict(state.deployments)
    for one in new:
        deployments[one.name] = replace(one, baseline=baseline(one.name, one.serves.id, statistics))
    state = replace(state, deployments=deployments)
    save(machine.layout, state)
    return state


def _put(folder: Path, resource: Mapping[str, Any]) -> None:
    path = folder / "resource.json"
    if _version(_read(path)) != xds.version(resource):
        write(path, json.dumps(resource).encode())


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def _version(body: str) -> str | None:
    try:
        return str(json.loads(body)["version_info"])
    except (ValueError, KeyError):
        return None


def _tidy(machine: Machine, state: State) -> None:
    """Remove what belongs to no deployment any more."""
    layout = machine.layout
    snapshots = {
        layout.snapshot(one.name, generation) for one in state.deployments.values() for generation in one.generations
    }
    for path in layout.snapshots.glob("*~*"):
        # A copy that is being made has one more part in its name.
        if path.with_name("~".join(path.name.split("~")[:2])) not in snapshots:
            shutil.rmtree(path, ignore_errors=True)
    for path in layout.xds.glob("eds-*"):
        if path.name.removeprefix("eds-") not in state.deployments:
            shutil.rmtree(path, ignore_errors=True)


def healthy_instances(deployment: Deployment, view: View | None) -> int:
    """Instances of the wanted generation that answer in all three clusters."""
    serving = [one for one in deployment.serving if one.generation == deployment.wanted.id]
    members = None if view is None else view.members.get(deployment.name)
    return 0 if members is None else min(len(serving), members.healthy)


def _left(deployment: Deployment, seen: Seen) -> str:
    """What the deployment waits for; "" when it is as it should be."""
    if deployment.leaving is not None:
        return "its last requests end" if not deployment.drained else "its processes stop"
    if deployment.wanted.refused:
        return deployment.wanted.refused
    serving = [one for one in deployment.serving if one.generation == deployment.wanted.id]
    healthy = healthy_instances(deployment, seen.view)
    if len(serving) < deployment.desired or healthy < deployment.desired:
        return f"{healthy} of {deployment.desired} instances are healthy"
    if len(deployment.instances) > deployment.desired:
        return f"{len(deployment.instances) - deployment.desired} old instances end"
    return ""
