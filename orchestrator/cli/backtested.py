"""A replayed recording on the screen, and as JSON: where the plan would have stopped, why, and what that is worth."""

from collections.abc import Iterator
from typing import Any

import click

from orchestrator.backtest.recording import Happened, Recording
from orchestrator.backtest.replay import Outcome, Ran, Replayed
from orchestrator.cli.main import FAILED, PAUSED, ROLLED_BACK, SUCCEEDED
from orchestrator.cli.session import local
from orchestrator.preview import Preview
from plans.units import show_duration

CODES: dict[Outcome, int] = {
    "passed": SUCCEEDED,
    "rolled_back": ROLLED_BACK,
    "failed": FAILED,
    "paused": PAUSED,
    "recording_ended": PAUSED,
    "not_judged": PAUSED,
}
"""What was not proven is not passed: whoever goes by the exit code looks at it."""

WORDS: dict[Outcome, str] = {
    "passed": "passed",
    "rolled_back": "rolled back",
    "failed": "failed",
    "paused": "paused",
    "recording_ended": "recording ended",
    "not_judged": "not judged",
    "not_reached": "not reached",
}


def show(found: Preview, recording: Recording, done: Replayed) -> None:
    """The table of steps, where it stopped, what really happened, and the notes."""
    first, last = recording.windows[0].measurement.start, recording.windows[-1].measurement.end
    count = len(recording.windows)
    click.echo(
        f"{found.draft.name} ({found.draft.shown}) on {recording.source}: {count:,} measurement{'s' * (count != 1)}, "
        f"{local(first)} to {local(last)}\n"
    )
    rows = [("STEP", "GATES", "WOULD HAVE", "AT", "AFTER", "POLLS", "CANDIDATE", "BAD"), *map(_row, done.stages)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        click.echo("  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
    click.echo()
    for line in (*_said(done), *_really(recording.happened, done)):
        click.echo(line)
    for note in done.notes:
        click.echo(f"note: {note}")


def shown_json(found: Preview, recording: Recording, done: Replayed) -> dict[str, Any]:
    """The same, for programs: shares are percent, durations seconds."""
    happened = recording.happened
    return {
        "plan": found.bundle.path,
        "name": found.bundle.name,
        "bundle_sha256": found.bundle.sha256,
        "recording": {
            "source": recording.source,
            "rollout": happened.rollout if happened is not None else None,
            "measurements": len(recording.windows),
            "start": recording.windows[0].measurement.start,
            "end": recording.windows[-1].measurement.end,
            "candidate": recording.candidate,
            "stable": recording.stable,
        },
        "outcome": done.outcome,
        "step": done.stopped.stage.index + 1 if done.stopped is not None else None,
        "requests": done.requests,
        "bad_responses": done.bad,
        "steps": [_step(ran) for ran in done.stages],
        "happened": _happened(happened) if happened is not None else None,
        "notes": list(done.notes),
    }


def _row(ran: Ran) -> tuple[str, ...]:
    gates = ", ".join(gate.name for gate in ran.stage.gates)
    return (
        ran.stage.name,
        gates or f"guarded by {', '.join(gate.name for gate in ran.stage.guards)}",
        WORDS[ran.outcome],
        local(ran.ended) if ran.ended is not None else "",
        show_duration(ran.seconds) if ran.polls else "",
        f"{ran.polls:,}" if ran.polls else "",
        f"{ran.requests:,}" if ran.polls else "",
        f"{ran.bad:,}" if ran.polls and not ran.stage.mirrored else "",
    )


def _said(done: Replayed) -> Iterator[str]:
    match done.outcome:
        case "passed":
            yield f"Every gated step would have passed, after {done.bad:,} bad responses to clients."
        case "not_judged":
            yield "Nothing speaks against the candidate, but not every gate could be judged: see the notes."
    if done.stopped is not None:
        head = {
            "rolled_back": "It would have been rolled back",
            "paused": "It would have paused",
            "failed": "It would have failed",
        }.get(done.outcome, "Nobody knows how it would have gone on")
        yield f"{head}, after {done.bad:,} bad responses to clients: {done.stopped.sentence}."


def _really(happened: Happened | None, done: Replayed) -> Iterator[str]:
    if happened is None:
        return
    if happened.at is None:
        yield f"In fact {happened.rollout} is {happened.phase.replace('_', ' ')}."
        return
    when = f"at {local(happened.at)}, after measurement {happened.measurement}"
    compared = ""
    stopped = done.stopped
    if stopped is not None and stopped.measurements is not None and stopped.outcome != "recording_ended":
        number = stopped.measurements[1]
        sooner = happened.measurement - number
        polls = f"{abs(sooner):,} measurement{'s' * (abs(sooner) != 1)}"
        compared = f", {polls} {'later' if sooner > 0 else 'sooner'}" if sooner else ", at the same measurement"
    yield f"In fact {happened.rollout} is {happened.phase.replace('_', ' ')}; {when}{compared}: {happened.reason}."


def _step(ran: Ran) -> dict[str, Any]:
    return {
        "index": ran.stage.index + 1,
        "name": ran.stage.name,
        "gates": [gate.name for gate in ran.stage.gates],
        "guards": [gate.name for gate in ran.stage.guards],
        "outcome": ran.outcome,
        "cause": ran.cause,
        "gate": ran.gate,
        "reason": ran.sentence or None,
        "began": ran.began,
        "ended": ran.ended,
        "seconds": ran.seconds,
        "first_measurement": ran.measurements[0] if ran.measurements is not None else None,
        "last_measurement": ran.measurements[1] if ran.measurements is not None else None,
        "polls": ran.polls,
        "requests": ran.requests,
        "bad_responses": ran.bad,
        "verdicts": {each.gate: each.verdict for each in ran.judgement.verdicts} if ran.judgement is not None else {},
        "not_judged": dict(ran.unjudged or {}),
        "recorded_in": list(ran.steps),
    }


def _happened(happened: Happened) -> dict[str, Any]:
    return {
        "phase": happened.phase,
        "reason": happened.reason or None,
        "at": happened.at,
        "measurement": happened.measurement,
    }
