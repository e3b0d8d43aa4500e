"""`rollout graph`: a plan, or a rollout, as a diagram."""

from typing import TYPE_CHECKING

import click

from orchestrator.cli import completing, options

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.app import App
    from orchestrator.graph import Graph

PLANS = (".yml", ".yaml")


@click.command(
    "graph",
    epilog=options.example(
        "rollout graph plan.yml", "rollout graph diabetes > diabetes.mmd", "rollout graph --output json | jq .nodes"
    ),
)
@click.argument("what", metavar="[PLAN|ROLLOUT]", required=False, shell_complete=completing.plans_and_rollouts)
@options.VARS
@options.output()
def graph_command(what: str | None, variables: dict[str, str], output: str) -> int:
    """Draw a plan file, or a rollout as it stands, as a Mermaid diagram: stages, traffic, gates and the way back.

    A plan is drawn offline, as it would run on an endpoint that its stable deployment serves. ROLLOUT is an id, the
    beginning of one, or a name; without anything, the newest rollout is drawn.
    """
    from pathlib import Path

    path = Path(what) if what is not None else None
    if path is not None and path.is_file():
        return _plan(path, variables, output)
    if path is not None and path.suffix in PLANS:
        raise click.UsageError(
            f"there is no file {what}: name a plan file that exists, or a rollout", click.get_current_context()
        )
    if variables:
        raise click.UsageError("--var is for plan files: a rollout's plan is pinned", click.get_current_context())
    return _rollout(what, output)


def _plan(path: "Path", variables: dict[str, str], output: str) -> int:
    import asyncio

    from orchestrator import graph, preview
    from orchestrator.app import offline
    from orchestrator.cli.main import SUCCEEDED
    from orchestrator.flags import Flags

    found = asyncio.run(preview.check(offline(), path, Flags(vars=variables)))
    _show(graph.of_plan(found.stages, found.roles.baseline.traffic), output)
    return SUCCEEDED


def _rollout(ref: str | None, output: str) -> int:
    from orchestrator import graph
    from orchestrator.app import find
    from orchestrator.cli.session import within
    from orchestrator.report.gather import compiled_again

    async def work(app: "App") -> None:
        rollout = await find(app, ref)
        stages, _ = await compiled_again(app, rollout, await app.store.bundle(rollout.bundle))
        _show(graph.of_rollout(rollout, stages), output)

    return within(work)


def _show(drawn: "Graph", output: str) -> None:
    from orchestrator.cli.session import show_json
    from orchestrator.graph import as_json, mermaid

    if output == "json":
        show_json(as_json(drawn))
    else:
        click.echo(mermaid(drawn), nl=False)
