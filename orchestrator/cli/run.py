"""`rollout run` and `rollout resume`: drive a rollout, live, to its end or to where a human is needed."""

import asyncio
from pathlib import Path

import click

from orchestrator.cli import options


@click.command(
    "run",
    epilog=options.example(
        "rollout run plan.yml",
        "rollout run plan.yml --exit-on-pause --output json   # in a pipeline",
    ),
)
@options.plan_file
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
    plan: Path, steal: bool, replace: bool, bootstrap: bool, exit_on_pause: bool, leave_exposed: bool, output: str
) -> int:
    """Carry out PLAN: deploy the new version, prove it step by step with real traffic, promote it or roll back.

    Drives until the rollout ends; while it is paused it goes on guarding and waits for a human. Ctrl-C stops safely:
    the candidate is taken out of traffic first, and `rollout resume` goes on. Killing the process loses nothing either.
    """
    from orchestrator import app as use_cases
    from orchestrator.cli.driving import conclude, shown
    from orchestrator.cli.session import within

    flags = use_cases.Flags(
        steal=steal, replace=replace, bootstrap=bootstrap, exit_on_pause=exit_on_pause, leave_exposed=leave_exposed
    )

    async def work(app: use_cases.App) -> int:
        stop = asyncio.Event()
        rollout = await shown(
            app,
            lambda watcher, stop: use_cases.run(app, plan, flags, watcher=watcher, stop=stop),
            output=output,
            stop=stop,
        )
        return await conclude(app, rollout, output=output, stop=stop)

    return within(work)


@click.command(
    "resume",
    epilog=options.example(
        "rollout resume",
        "rollout resume diabetes-20261122-7kq3m --take-back",
    ),
)
@options.ref
@click.option("--adopt", is_flag=True, help="Pin the plan as it stands in its file now, when it was edited since.")
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
    steal: bool,
    take_back: bool,
    keep_theirs: bool,
    exit_on_pause: bool,
    leave_exposed: bool,
    output: str,
) -> int:
    """Go on with a rollout that was paused, stopped with Ctrl-C, or whose process is gone.

    It goes on with the plan that was pinned when it began. Where another process drives it, that one is named.
    ROLLOUT is an id, the beginning of one, or a name; without it, the newest that can be meant.
    """
    from orchestrator import app as use_cases
    from orchestrator.cli.driving import conclude, shown, told
    from orchestrator.cli.session import within

    if take_back and keep_theirs:
        raise click.UsageError(
            "--take-back and --keep-theirs contradict each other: give one", click.get_current_context()
        )
    flags = use_cases.Flags(
        adopt=adopt,
        steal=steal,
        take_back=take_back,
        keep_theirs=keep_theirs,
        exit_on_pause=exit_on_pause,
        leave_exposed=leave_exposed,
    )

    async def work(app: use_cases.App) -> int:
        stop = asyncio.Event()
        rollout = await shown(
            app,
            lambda watcher, stop: use_cases.resume(app, ref, flags, watcher=watcher, stop=stop),
            output=output,
            stop=stop,
        )
        if rollout.phase == "running" and rollout.worker is not None and not stop.is_set():
            return await told(app, rollout, output=output)
        return await conclude(app, rollout, output=output, stop=stop)

    return within(work)
