"""`rollout pause`, `abort` and `approve`: ask whoever drives, or drive oneself where nobody does.

Their exit code says whether it was done as asked: 0 also when an abort has rolled back, for that is what was wanted.
"""

import asyncio
from typing import Literal

import click

from orchestrator.cli import options

Kind = Literal["abort", "pause", "approve"]
PATIENCE = 120.0
"""Seconds that an abort waits for the driver's rollback to end."""


@click.command(
    "pause", epilog=options.example("rollout pause", 'rollout pause diabetes --reason "the on-call is at lunch"')
)
@options.ref
@options.REASON
@options.output()
def pause_command(ref: str | None, reason: str | None, output: str) -> int:
    """Stop making progress until `rollout resume`.

    Use it to look at something before the candidate gets more traffic. The traffic stays as it is, and the gates go on
    guarding: a FAIL still rolls back, and so does a pause that nobody ends within the plan's `pause_limit`.

    It works from any terminal: the process that drives acts on it. Where nobody drives, this process pauses it, takes
    the candidate out of traffic and leaves. Ctrl-C leaves; what was asked stays recorded.

    ROLLOUT is an id, the beginning of one, or a name; without it, the newest that can be meant.
    """
    return _ask("pause", ref, reason, output)


@click.command(
    "abort", epilog=options.example("rollout abort", 'rollout abort diabetes --reason "wrong model version"')
)
@options.ref
@options.REASON
@options.output()
def abort_command(ref: str | None, reason: str | None, output: str) -> int:
    """Give stable its traffic back, remove the candidate, and end the rollout for good.

    Use it when you know that the candidate is wrong, whatever the gates say. The candidate's logs are kept. It works
    from any terminal, whether or not the process that drove it still lives, and waits for the end of the rollback.
    Ctrl-C leaves; what was asked stays recorded, and whoever drives carries it out. Once stable is being deleted there
    is no way back, and the abort is refused (exit code 2).

    ROLLOUT is an id, the beginning of one, or a name; without it, the newest that can be meant.
    """
    return _ask("abort", ref, reason, output)


@click.command(
    "approve",
    epilog=options.example(
        "rollout approve",
        'rollout approve diabetes --reason "looked at the answers"',
        'rollout approve diabetes --despite-gate latency --reason "the p95 is that of a batch job"',
    ),
)
@options.ref
@click.option(
    "--despite-gate",
    "despite",
    metavar="NAME",
    help="Set this gate of the current step aside, and go on without it; demands --reason.",
)
@options.REASON
@options.output()
def approve_command(ref: str | None, despite: str | None, reason: str | None, output: str) -> int:
    """Agree to the step that waits for approval, so that the rollout goes on.

    Use it where `rollout status` says that an approval is waited for. With --despite-gate it overrules a gate instead:
    for the rest of the current step that gate holds up nothing and rolls back nothing; who said so, and why, is kept in
    the journal. Other gates go on guarding.

    It works from any terminal: the process that drives acts on it. Where nobody drives, this process does, to the end;
    Ctrl-C then stops it safely, as in `rollout run`.

    ROLLOUT is an id, the beginning of one, or a name; without it, the newest that can be meant.
    """
    if despite is not None and not (reason or "").strip():
        raise click.UsageError(
            f"--despite-gate {despite} demands a --reason: it is kept in the journal, for whoever asks why",
            click.get_current_context(),
        )
    return _ask("approve", ref, reason, output, despite=despite)


def _ask(kind: Kind, ref: str | None, reason: str | None, output: str, *, despite: str | None = None) -> int:
    from orchestrator import app as use_cases
    from orchestrator.cli.driving import conclude, shown, until_ended
    from orchestrator.cli.main import FAILED, SUCCEEDED, TRY_AGAIN, USAGE
    from orchestrator.cli.session import show_json, warn, within
    from orchestrator.flags import Flags

    async def work(app: use_cases.App) -> int:
        stop = asyncio.Event()
        asked = await shown(
            app,
            lambda watcher, stop: use_cases.ask(
                app, kind, ref, reason=reason, flags=Flags(), watcher=watcher, stop=stop, despite=despite
            ),
            output=output,
            stop=stop,
            on_stop="what was asked is recorded: whoever drives will act on it (Ctrl-C again: leave at once)",
        )
        rollout, code = asked.rollout, SUCCEEDED
        if not asked.accepted:
            warn(f"rollout: {kind} of {rollout.id} was not done: {asked.outcome}")
        elif kind == "abort" and rollout.active and not asked.drove and not stop.is_set():
            rollout = await until_ended(app, rollout, output=output, patience=PATIENCE)
        if asked.drove or (kind == "abort" and asked.accepted):
            code = await conclude(app, rollout, output=output, stop=stop)
        elif output == "json":
            outcome = {"accepted": asked.accepted, "outcome": asked.outcome}
            show_json({"id": rollout.id, "phase": rollout.phase, **outcome})
        elif asked.accepted:
            click.echo(f"{rollout.id}: {asked.outcome}")
        if not asked.accepted:
            return USAGE
        if kind == "abort" and rollout.active:
            return TRY_AGAIN
        if kind == "abort":
            return FAILED if rollout.phase == "failed" else SUCCEEDED
        return SUCCEEDED if kind == "pause" and rollout.phase == "paused" else code

    return within(work)
