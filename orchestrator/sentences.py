"""Every event of the journal as one line for people: what history prints, and what a rollout says while it runs.

Kept apart from the events, because wording changes with taste and the journal must not.
"""

from datetime import datetime

from orchestrator.events import (
    Adopted,
    Approved,
    Begun,
    Commanded,
    Driven,
    Ended,
    Event,
    Extended,
    Finished,
    Intended,
    Leaving,
    LogsSaved,
    Measured,
    MeasureFailed,
    Notified,
    Parked,
    Paused,
    Reached,
    Released,
    Resumed,
    Retried,
    RollbackBegan,
    StageEnded,
    StageEntered,
    Started,
    TaskEnded,
    TaskTried,
    Waited,
)
from plans.units import show_duration, show_split
from providers.actions import (
    Action,
    DeleteDeployment,
    DeleteEndpoint,
    PutDeployment,
    PutEndpoint,
    Scale,
    SetTraffic,
)

ASKED = {"abort": "an abort", "pause": "a pause", "resume": "to resume", "approve": "to go on (approval)"}
ENDED = {"passed": "passed", "failed": "failed", "skipped": "skipped", "undone": "undone"}
ADVICE = "would roll back: "
"""How an advisory rollout begins the reason of what it would have done."""
FINISHED = {"succeeded": "succeeded", "rolled_back": "rolled back", "failed": "failed"}


def sentence(event: Event) -> str:  # noqa: C901 - one case for each kind of event, and nothing else
    """One line, without time or actor (except where who did it is the news)."""
    match event.body:
        case Started() as body:
            return _started(event.rollout, body)
        case Driven(host=host, pid=pid, epoch=epoch):
            return f"driven by process {pid} on {host} (epoch {epoch})"
        case Released(reason=reason):
            return f"driver let go: {reason}"
        case StageEntered(stage=stage, name=name):
            return f"step {stage + 1}: {name}"
        case Intended(intent=intent, irreversible=irreversible):
            return f"{act(intent.action)}{' (from here there is no way back)' if irreversible else ''}"
        case Begun(operation=operation):
            return f"begun: {act(operation.action)}" + (f" ({operation.progress})" if operation.progress else "")
        case Retried(reason=reason, attempt=attempt, not_before=not_before):
            return f"attempt {attempt} did not succeed ({strip(reason)}), the next in {_until(event, not_before)}"
        case Ended(outcome=outcome, reason=reason):
            what = {"done": "done and verified", "failed": "did not succeed", "superseded": "no longer wanted"}[outcome]
            return what + (f": {reason}" if reason else "")
        case Reached(hold_until=hold_until):
            held = hold_until is not None and hold_until > event.at
            return "in place and verified" + (f", held for {_until(event, hold_until)}" if held else "")
        case Measured(judgement=judgement, lost=lost):
            if lost:
                return "the proxy was restarted: what it had counted since the last measurement is lost"
            return judgement.sentence
        case MeasureFailed(reason=reason, count=count):
            return f"could not measure ({_count(count, 'time')} in a row): {reason}"
        case TaskTried(attempt=attempt, reason=None):
            return f"attempt {attempt}"
        case TaskTried(attempt=attempt, reason=reason, not_before=not_before):
            again = f", the next in {_until(event, not_before)}" if not_before else ""
            return f"attempt {attempt} did not succeed ({strip(reason or '')}){again}"
        case TaskEnded(ok=ok, detail=detail):
            return detail if ok else f"did not succeed: {detail}"
        case Approved(by=by, reason=reason, despite=str(gate)):
            return f"gate {gate} set aside by {by}" + (f": {reason}" if reason else "")
        case Approved(by=by, reason=reason):
            return f"approved by {by}" + (f": {reason}" if reason else "")
        case Leaving(reason=reason):
            return f"passed, clearing up: {reason}"
        case StageEnded(stage=stage, outcome=outcome, reason=reason):
            return f"step {stage + 1} {ENDED[outcome]}" + (f": {reason}" if reason not in ("", "done") else "")
        case Waited(waiting=None):
            return "no longer waiting"
        case Waited(waiting=waiting):
            assert waiting is not None
            return f"waiting for {WAITS[waiting.kind]}: {waiting.reason}"
        case Paused(reason=reason, until=until):
            limit = f" (rolls back by itself in {_until(event, until)})" if until else ""
            return f"paused: {reason}{limit}"
        case Parked(reason=reason):
            return f"candidate taken out of traffic meanwhile: {reason}"
        case Resumed(restart=restart, expected=expected, extended=extended):
            begins = ", the step begins anew" if restart else ""
            taken = ", what others changed is taken back" if expected is not None else ""
            more = f", with {show_duration(extended)} more" if extended else ""
            return f"resumed by {event.actor}{begins}{taken}{more}"
        case Extended(seconds=seconds, deadline=deadline):
            return f"{event.actor} gave the step {show_duration(seconds)} more, {_until(event, deadline)} from now"
        case Commanded(command=command, accepted=accepted, reason=reason):
            said = "" if accepted else ", refused"
            return f"{event.actor} asked for {ASKED[command]}{said}" + (f": {reason}" if reason else "")
        case Adopted(old=old, new=new):
            return f"edited plan adopted: {old[:12]} -> {new[:12]}"
        case RollbackBegan(reason=reason) if reason.startswith(ADVICE):
            return reason
        case RollbackBegan(reason=reason):
            return f"rolling back: {reason}"
        case LogsSaved(deployment=deployment, where=None, reason=reason):
            return f"no logs of {deployment} to keep" + (f": {reason}" if reason else "")
        case LogsSaved(deployment=deployment, where=where):
            return f"logs of {deployment} kept in {where}"
        case Notified(host=host, ok=ok, detail=detail):
            return f"{host} was told" if ok else f"{host} could not be told: {detail}"
        case Finished(reason=reason) if reason.startswith("advisory: "):
            return reason
        case Finished(phase=phase, reason=reason):
            return f"{FINISHED[phase]}: {reason}"
    raise TypeError(f"not an event: {event.body!r}")


WAITS = {
    "operation": "the provider",
    "settle": "the figures to settle",
    "evidence": "evidence",
    "hold": "the hold",
    "time": "its time",
    "approval": "approval",
    "retry": "the next attempt",
    "provider": "the provider to answer",
    "human": "a human",
    "task": "its task",
    "others": "whoever drives it",
}


def act(action: Action) -> str:
    """What an action does, in words: `green: 2 instances`, `traffic blue 90%, green 10%`."""
    match action:
        case PutEndpoint(endpoint=endpoint):
            return f"create endpoint {endpoint}"
        case PutDeployment(deployment=deployment, replace=replace):
            count = deployment.spec.instance_count
            return f"{'replace' if replace else 'create'} {deployment.name} with {_count(count, 'instance')}"
        case Scale(deployment=deployment, instances=instances):
            return f"scale {deployment} to {_count(instances, 'instance')}"
        case SetTraffic(traffic=traffic, mirror=mirror):
            live = f"traffic {show_split(traffic)}" if any(traffic.values()) else "no traffic to any deployment"
            return live + (f", mirror {show_split(mirror)}" if any(mirror.values()) else "")
        case DeleteDeployment(deployment=deployment):
            return f"drain and delete {deployment}"
        case DeleteEndpoint(endpoint=endpoint):
            return f"delete endpoint {endpoint} with everything in it"
    raise TypeError(f"not an action: {action!r}")


def strip(reason: str) -> str:
    """A reason as a clause: without the stop at its end."""
    return reason.rstrip(". \n")


def _started(rollout: str, body: Started) -> str:
    roles = body.roles
    steps = _count(len(body.stages), "step")
    first = ", which is created first" if roles.bootstrap and not body.expected.exists else ""
    to = f"{roles.candidate} takes over from {roles.stable}, " if roles.candidate and roles.stable else ""
    return "\n".join([f"rollout {rollout} on endpoint {body.endpoint_name}{first}: {to}{steps}", *body.notes])


def _until(event: Event, then: datetime | None) -> str:
    return show_duration(max(0.0, (then - event.at).total_seconds())) if then is not None else "a moment"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
