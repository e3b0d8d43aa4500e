"""`rollout backtest`: what a plan would have made of traffic that was recorded."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.cli import completing, options

if TYPE_CHECKING:
    from orchestrator.app import App
    from orchestrator.backtest.recording import Recording
    from orchestrator.preview import Preview


@click.command(
    "backtest",
    epilog=options.example(
        "rollout backtest plan.yml --from diabetes-20261122-7kq3m",
        "rollout backtest plan.yml --from traffic.csv",
        "rollout backtest plan.yml --from traffic.csv --candidate v8 --stable v7 --output json",
    )
    + "\n\nExit codes: 0 every gated step would have passed, 1 it would have been rolled back, 4 it would have paused, "
    "or the recording does not say, 2 the plan or the recording cannot be used.",
)
@options.plan_file
@click.option(
    "--from",
    "source",
    metavar="FILE|ROLLOUT",
    required=True,
    shell_complete=completing.rollouts,
    help="A CSV file of counts, or an earlier rollout: an id, the beginning of one, or a name. A file of that name "
    "comes first.",
)
@click.option("--candidate", metavar="NAME", help="What the candidate is called in the CSV file; else as in the plan.")
@click.option("--stable", metavar="NAME", help="What stable is called in the CSV file; else as in the plan.")
@click.option(
    "--gaps",
    is_flag=True,
    help="Take a CSV file that lacks windows: nothing is known of that time, and the clocks stand still.",
)
@options.VARS
@options.output()
def backtest_command(
    plan: Path,
    source: str,
    candidate: str | None,
    stable: str | None,
    gaps: bool,
    variables: dict[str, str],
    output: str,
) -> int:
    """Replay what was recorded through PLAN, and tell where it would have stopped.

    The recording is judged by the plan's own gates, holds, deadlines and budget, as if it happened now. No endpoint is
    looked at, and nothing is changed. docs/backtest.md describes the CSV file.
    """
    import asyncio

    from orchestrator import preview as previews
    from orchestrator.app import find, offline
    from orchestrator.backtest import table
    from orchestrator.backtest.kept import kept
    from orchestrator.backtest.replay import replay
    from orchestrator.cli.backtested import CODES, show, shown_json
    from orchestrator.cli.session import show_json, within
    from orchestrator.errors import UnknownRollout
    from orchestrator.flags import Flags

    file = Path(source)
    named = {"--candidate": candidate, "--stable": stable, "--gaps": gaps}
    given = [option for option, value in named.items() if value]
    if given and not file.exists():
        raise click.UsageError(
            f"{' and '.join(given)} {'is' if len(given) == 1 else 'are'} for a CSV file, and there is no file {source}",
            click.get_current_context(),
        )

    async def prepared() -> "Preview":
        return _gated(await previews.check(offline(), plan, Flags(vars=variables)))

    def told(found: "Preview", recording: "Recording") -> int:
        done = replay(recording, found.stages, found.roles, found.capabilities, endpoint=found.draft.endpoint_name)
        if output == "json":
            show_json(shown_json(found, recording, done))
        else:
            show(found, recording, done)
        return CODES[done.outcome]

    if file.exists():
        found = asyncio.run(prepared())
        return told(found, table.read(file, found.roles, candidate=candidate, stable=stable, gaps=gaps))

    async def work(app: "App") -> int:
        found = await prepared()
        try:
            rollout = await find(app, source)
        except UnknownRollout as error:
            raise UnknownRollout(f"there is no file {source}, and {error}") from None
        return told(found, await kept(app, rollout, found.roles, found.stages))

    return within(work)


def _gated(found: "Preview") -> "Preview":
    """Raises Refused for a plan that judges nothing."""
    from orchestrator.errors import Refused

    if not any(stage.gates for stage in found.stages):
        raise Refused(
            f"{found.draft.path.name} has no step with gates, so there is nothing to replay; add `gates` to one"
        )
    return found
