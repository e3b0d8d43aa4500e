"""`rollout run` and `rollout resume`: drive a rollout, live, to its end or to where a human is needed."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.cli import options

if TYPE_CHECKING:
    from orchestrator.cli.ndjson import Target


@click.command(
    "run",
    epilog=options.example(
        "rollout run plan.yml",
        "rollout run plan.yml --var VERSION=7",
        "rollout run plan.yml --events events.ndjson",
        "rollout run plan.yml --exit-on-pause --output json   # in a pipeline",
        "rollout run plan.yml --advisory                      # judges what another tool does",
    ),
)
@options.plan_file
@options.VARS
@click.option(
    "--advisory",
    is_flag=True,
    help="Measures and judges, changes nothing: for a rollout that another tool drives. Exit code 1 says that this "
    "one would have rolled back.",
)
@options.EVENTS
@options.STEAL
@click.option(
    "--replace", is_flag=True, help="Replace a deployment of the candidate's name that differs from the plan's."
)
@click.option(
    "--bootstrap", is_flag=True, help="Bring an endpoint into service whose deployments exist but get no traffic."
)
@options.EXIT_ON_PAUSE
@options.LEAVE_EXPOSED
@options.output()
def run_command(
    plan: Path,
    variables: dict[str, str],
    advisory: bool,
    events: str | None,
    steal: bool,
    replace: bool,
    bootstrap: bool,
    exit_on_pause: bool,
    leave_exposed: bool,
    output: str,
) -> int:
    """Carry out PLAN: deploy the new version, prove it step by step with real traffic, promote it or roll back.

    Use it once `rollout plan` shows what you want. It drives until the rollout ends, and guards the candidate all the
    time; while the rollout is paused it goes on guarding and waits for a human. The exit code says how it ended.

    On a terminal the keys p, a, x and q pause or resume, approve, abort, and stop. Ctrl-C, q, SIGTERM and a terminal
    that closes stop safely: what was begun is finished, the candidate is taken out of traffic, the rollout is paused,
    and `rollout resume` goes on. Ctrl-C twice leaves at once and leaves the traffic as it is. Killing the process loses
    nothing either.
    """
    from orchestrator import app as use_cases
    from orchestrator.cli.driving import conclude, shown
    from orchestrator.cli.session import within
    from orchestrator.flags import Flags

    flags = Flags(
        steal=steal,
        replace=replace,
        bootstrap=bootstrap,
        exit_on_pause=exit_on_pause,
        leave_exposed=leave_exposed,
        vars=variables,
        advisory=advisory,
    )
    target, output = _journal(events, output)

    async def work(app: use_cases.App) -> int:
        stop = asyncio.Event()
        rollout = await shown(
            app,
            lambda watcher, stop: use_cases.run(app, plan, flags, watcher=watcher, stop=stop),
            output=output,
            stop=stop,
            keys=True,
            events=target,
        )
        return await conclude(app, rollout, output=output, stop=stop)

    return within(work)


@click.command(
    "resume",
    epilog=options.example(
        "rollout resume",
        "rollout resume diabetes-20261122-7kq3m --take-back",
        "rollout resume diabetes --extend 2h   # its step needs more time",
    ),
)
@options.ref
@click.option("--adopt", is_flag=True, help="Pin the plan as it stands in its file now, when it was edited since.")
@options.EXTEND
@options.EVENTS
@options.STEAL
@click.option("--take-back", is_flag=True, help="After drift: undo what somebody else changed, and go on.")
@click.option(
    "--keep-theirs",
    is_flag=True,
    help="After drift: leave the endpoint as it was found, and end the rollout as failed.",
)
@options.EXIT_ON_PAUSE
@options.LEAVE_EXPOSED
@options.output()
def resume_command(
    ref: str | None,
    adopt: bool,
    extend: float | None,
    events: str | None,
    steal: bool,
    take_back: bool,
    keep_theirs: bool,
    exit_on_pause: bool,
    leave_exposed: bool,
    output: str,
) -> int:
    """Go on with a rollout that was paused, stopped with Ctrl-C, or whose process is gone.

    It goes on with the plan that was pinned when it began. Use it after a pause whose reason is settled, and after a
    crash or a restart of the machine. A paused rollout that another process drives is told to go on, and that process
    drives on; where nobody drives, this process does, and everything said about keys and Ctrl-C in `rollout run --help`
    holds here. Two processes never drive one rollout: where one is at work, it is named.

    ROLLOUT is an id, the beginning of one, or a name; without it, the newest that can be meant.
    """
    from orchestrator import app as use_cases
    from orchestrator.cli.driving import conclude, shown, told
    from orchestrator.cli.session import within
    from orchestrator.flags import Flags

    if take_back and keep_theirs:
        raise click.UsageError(
            "--take-back and --keep-theirs contradict each other: give one", click.get_current_context()
        )
    if keep_theirs and extend is not None:
        raise click.UsageError(
            "--keep-theirs ends the rollout, so --extend adds nothing: give one", click.get_current_context()
        )
    flags = Flags(
        adopt=adopt,
        steal=steal,
        take_back=take_back,
        keep_theirs=keep_theirs,
        exit_on_pause=exit_on_pause,
        leave_exposed=leave_exposed,
        extend=extend,
    )
    target, output = _journal(events, output)

    async def work(app: use_cases.App) -> int:
        stop = asyncio.Event()
        rollout = await shown(
            app,
            lambda watcher, stop: use_cases.resume(app, ref, flags, watcher=watcher, stop=stop),
            output=output,
            stop=stop,
            keys=True,
            events=target,
        )
        if rollout.phase == "running" and rollout.worker is not None and not stop.is_set():
            return await told(app, rollout, output=output, extended=extend)
        return await conclude(app, rollout, output=output, stop=stop)

    return within(work)


def _journal(events: str | None, output: str) -> "tuple[Target | None, str]":
    """Where the journal goes, and what is left for everything else. Raises UsageError."""
    from orchestrator.cli.driving import ASIDE
    from orchestrator.cli.ndjson import target

    if events is None:
        return None, output
    if events == "-" and output == "json":
        raise click.UsageError(
            "--events - and --output json both want stdout: name a file after --events", click.get_current_context()
        )
    return target(events), ASIDE if events == "-" else output
