"""`rollout init`: a first plan, with everything that it takes to run it."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.cli import options

if TYPE_CHECKING:
    from orchestrator.app import App
    from orchestrator.starter.kits import Kit
    from orchestrator.starter.writing import Written


@click.command(
    "init",
    epilog=options.example(
        "rollout init",
        "rollout init --list",
        "rollout init churn --from canary-ladder --name churn-model",
        "rollout init --from-endpoint diabetes",
    ),
)
@click.argument("directory", required=False, default=".", type=click.Path(path_type=Path))
@click.option("--from", "library", metavar="LIBRARY", help="The stock plan to begin with (safe-rollout).")
@click.option("--from-endpoint", "endpoint", metavar="NAME", help="Write a plan for an endpoint that exists, instead.")
@click.option(
    "--provider", default="local", show_default=True, metavar="NAME", help="Where the endpoint is, or shall be."
)
@click.option("--name", metavar="NAME", help="Of the rollout and a new endpoint; otherwise the folder's.")
@click.option("--list", "listed", is_flag=True, help="Show the stock plans, and write nothing.")
@click.option("--force", is_flag=True, help="Replace a plan.yml that is there; every other file is left as it is.")
@options.output()
def init_command(
    directory: Path,
    library: str | None,
    endpoint: str | None,
    provider: str,
    name: str | None,
    listed: bool,
    force: bool,
    output: str,
) -> int:
    """Write plan.yml into DIRECTORY (this one), a schema for your editor, and the files that the plan names.

    A stock plan comes with a small model, so that it runs as it stands. What is there already is never overwritten.
    """
    from orchestrator.cli.main import SUCCEEDED
    from orchestrator.cli.session import show_json, within
    from orchestrator.starter import kits
    from plans import library as stock

    if listed:
        plans = {each: stock.summary(each) for each in stock.names()}
        if output == "json":
            show_json([{"name": each, "summary": summary} for each, summary in plans.items()])
        else:
            width = max(map(len, plans))
            click.echo("\n".join(f"{each:<{width}}  {summary}" for each, summary in plans.items()))
        return SUCCEEDED
    if library and endpoint:
        raise click.UsageError(
            "--from and --from-endpoint contradict each other: give one", click.get_current_context()
        )

    def write(kit: "Kit") -> int:
        done = kit.write(directory, force=force)
        if output == "json":
            shown = {"directory": str(directory), "written": done.written, "kept": done.kept, "next": done.next}
            show_json(shown)
        else:
            _show(kit, done)
        return SUCCEEDED

    if endpoint is None:
        return write(kits.stock(library or kits.DEFAULT, directory, called=name, provider=provider))

    async def work(app: "App") -> int:
        return write(await kits.existing(app, endpoint, called=name, provider=provider))

    return within(work)


def _show(kit: "Kit", done: "Written") -> None:
    from orchestrator.starter.kits import PLAN

    click.echo(kit.about)
    for path in done.written:
        click.echo(f"  wrote  {path}")
    for path in done.kept:
        click.echo(f"  left   {path}, which was there" + ("; --force replaces it" if path == PLAN else ""))
    click.echo("\nNext:")
    for command in done.next:
        click.echo(f"  {command}")
