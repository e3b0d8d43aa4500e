"""How an operation stands: what it waits for, and when and how it has ended. Pure, but for the logs that it quotes."""

from dataclasses import replace

from providers.actions import Action, DeleteDeployment, DeleteEndpoint, PutDeployment, PutEndpoint, Scale, SetTraffic
from providers.local import launching, logs, rules
from providers.local.converge import Pending, Seen
from providers.local.state import Deployment, Layout, Record, State

EXITS = 3
"""So often may a process end by itself before it is given up."""
LOG_LINES = 10


def crashed(layout: Layout, deployment: Deployment, seen: Seen) -> str | None:
    """Why an instance of the wanted generation does not stay up, in one sentence, or None."""
    for instance in deployment.instances:
        status = seen.processes.get(launching.process_name(deployment.name, instance))
        if status is None or instance.generation != deployment.wanted.id or status.exits < EXITS:
            continue
        lines = logs.tail(logs.of_instance(layout, deployment.name, deployment.wanted, instance.number), LOG_LINES)
        said = ":\n" + "\n".join(lines) if lines else ", and it printed nothing"
        return f"instance {instance.number} exited {status.exits} times ({status.last_exit}); its log ends{said}"
    return None


def progress(action: Action, pending: Pending) -> str | None:
    """What the action waits for, in a few words, or None."""
    if isinstance(action, PutDeployment):
        return pending.deployments.get(action.deployment.name) or pending.routes or pending.proxy or None
    if isinstance(action, Scale | DeleteDeployment):
        return pending.deployments.get(action.deployment) or pending.routes or None
    return pending.routes or pending.proxy or None


def ended(layout: Layout, record: Record, state: State, pending: Pending, seen: Seen) -> Record | None:
    """How the operation has ended, or None while it goes on."""
    action = record.action
    overtaken = replace(record, outcome="Overtaken by a later change.", permanent=False)
    done = replace(record, outcome="")
    match action:
        case PutEndpoint():
            return done if not pending.proxy and not pending.routes else _proxy_outcome(layout, record, seen)
        case SetTraffic():
            if (state.traffic, state.mirror) != (rules.shares(action.traffic), rules.shares(action.mirror)):
                return overtaken
            return None if pending.routes else done
        case DeleteDeployment():
            return None if action.deployment in state.deployments else done
        case PutDeployment() | Scale():
            name = action.deployment if isinstance(action, Scale) else action.deployment.name
            there = state.deployments.get(name)
            if there is None or there.leaving is not None:
                return replace(record, outcome=f"Deployment {name} was deleted meanwhile.", permanent=False)
            if isinstance(action, Scale):
                if there.desired != action.instances:
                    return overtaken
            elif there.wanted.resolved.digest != action.deployment.digest:
                return overtaken
            if there.wanted.refused is not None:
                return replace(record, outcome=there.wanted.refused)
            if name not in pending.deployments and not pending.routes:
                return done
            reason = crashed(layout, there, seen)
            return None if reason is None else replace(record, outcome=f"Deployment {name} cannot start: {reason}")
        case DeleteEndpoint():
            return None


def _proxy_outcome(layout: Layout, record: Record, seen: Seen) -> Record | None:
    status = seen.processes.get(launching.PROXY)
    if status is None or status.exits < EXITS:
        return None
    lines = "\n".join(logs.tail(layout.logs / "envoy.log", LOG_LINES))
    return replace(record, outcome=f"The proxy cannot start ({status.last_exit}); its log ends:\n{lines}")
