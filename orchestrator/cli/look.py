"""`rollout status`, `explain`, `list` and `history`: look, and change nothing."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from orchestrator.cli import completing, options

if TYPE_CHECKING:
    from orchestrator.app import App
    from orchestrator.rollout import Rollout
    from orchestrator.views import RolloutView

PHASES = ("pending", "running", "paused", "rolling_back", "succeeded", "rolled_back", "failed")
"""As in `orchestrator.lifecycle`, which is not imported for `--help`."""


@click.command(
    "status", epilog=options.example("rollout status", "rollout status diabetes --output json | jq .traffic")
)
@options.ref
@options.output()
def status_command(ref: str | None, output: str) -> int:
    """Where a rollout stands: phase, step, traffic, gates, and what it waits for.

    ROLLOUT is an id, the beginning of one, or a name; without it, the newest that can be meant.
    """
    from orchestrator import app as use_cases
    from orchestrator.cli.session import seen, show_json, within

    async def work(app: "App") -> None:
        view = await seen(app, await use_cases.find(app, ref))
        if output == "json":
            show_json(view)
            return
        from rich.console import Console

        from orchestrator.cli.frame import frame
        from orchestrator.cli.live import glyphs

        console = Console(highlight=False)
        picture = frame(
            view,
            (),
            width=console.width,
            height=10_000,
            footer=f"rollout explain {view.id}",
            colour=not console.no_color and console.color_system is not None,
            glyphs=glyphs(console, app.settings.environment),
        )
        console.print(picture, soft_wrap=True)

    return within(work)


@click.command("explain", epilog=options.example("rollout explain", "rollout explain diabetes-20261122-7kq3m"))
@options.ref
@options.output()
def explain_command(ref: str | None, output: str) -> int:
    """Tell in plain sentences what a rollout does, why it waits or ended, what was measured, and what you can do.

    ROLLOUT is an id, the beginning of one, or a name; without it, the newest that can be meant.
    """
    from orchestrator import app as use_cases
    from orchestrator.cli.session import show_json, within
    from orchestrator.explain import commands, explain
    from orchestrator.views import view

    async def work(app: "App") -> None:
        rollout = await use_cases.as_it_stands(app, await use_cases.find(app, ref))
        events = await app.store.events(rollout.id)
        seen = view(rollout, events=events, now=app.clock())
        text = explain(seen, events)
        if output == "json":
            can = [{"command": command, "does": does} for command, does in commands(seen)]
            show_json({"id": seen.id, "phase": seen.phase, "reason": seen.reason, "explanation": text, "commands": can})
        else:
            click.echo(text)

    return within(work)


@click.command(
    "list",
    epilog=options.example(
        "rollout list",
        "rollout list --active --output json",
        "rollout list --endpoint diabetes --phase failed --phase rolled_back --since 7d",
    ),
)
@click.option("--active", is_flag=True, help="Only those that have not ended.")
@click.option("--phase", "phases", multiple=True, type=click.Choice(PHASES), help="Only in this phase, or these.")
@click.option(
    "--endpoint", metavar="NAME", shell_complete=completing.endpoints, help="Only those of endpoints of this name."
)
@click.option("--name", metavar="NAME", shell_complete=completing.names, help="Only those of this name.")
@click.option(
    "--since", metavar="AGO|DATE", help="Only those that began since then: 2d, 12h, 2026-11-22, 2026-11-22T17:00."
)
@click.option(
    "--limit",
    type=click.IntRange(1, 10_000),
    default=20,
    show_default=True,
    help="How many at most, of those that are left.",
)
@options.output()
def list_command(
    active: bool,
    phases: tuple[str, ...],
    endpoint: str | None,
    name: str | None,
    since: str | None,
    limit: int,
    output: str,
) -> int:
    """All rollouts, the newest first: id, phase, step, endpoint, start and how long they took.

    What is left fits every option that is given; --phase may be given several times.
    """
    from orchestrator.cli import filtering
    from orchestrator.cli.session import show_json, within
    from orchestrator.views import view

    async def work(app: "App") -> None:
        try:
            began = None if since is None else filtering.moment(since, app.clock())
        except ValueError as error:
            raise click.UsageError(f"--since: {error}", click.get_current_context()) from None
        wanted = filtering.filters(
            active=active, phases=phases, endpoint=endpoint, name=name, since=began, given=since or ""
        )
        found, looked_at = await filtering.newest(app, wanted, limit + 1)
        views = [view(rollout, now=app.clock()) for rollout in found[:limit]]
        if output == "json":
            show_json(views)
        elif not views:
            click.echo(await filtering.nothing(app, wanted, looked_at))
        else:
            _table(views)
            if len(found) > limit:
                click.echo(f"there are older ones: --limit {2 * limit} shows more")

    return within(work)


def _table(views: "Sequence[RolloutView]") -> None:
    from orchestrator.cli.session import local
    from plans.units import show_duration

    rows = [("ROLLOUT", "PHASE", "STEP", "ENDPOINT", "STARTED", "TOOK")]
    for each in views:
        step = f"{each.step.index}/{len(each.steps)} {each.step.name}" if each.active else "-"
        took = show_duration(round(each.seconds))
        rows.append((each.id, each.phase, step, each.endpoint, local(each.started_at, "%Y-%m-%d %H:%M"), took))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        click.echo("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())


@click.command(
    "history",
    epilog=options.example("rollout history", "rollout history diabetes --all", "rollout history --output ndjson"),
)
@options.ref
@click.option(
    "--all", "everything", is_flag=True, help="Every event, also each poll; as text the story is told shorter."
)
@options.output("json", "ndjson")
def history_command(ref: str | None, everything: bool, output: str) -> int:
    """Everything that happened to a rollout, from its journal.

    With --output json or ndjson every event is there, whole.
    ROLLOUT is an id, the beginning of one, or a name; without it, the newest that can be meant.
    """
    from orchestrator import app as use_cases
    from orchestrator.cli.plain import Story, line
    from orchestrator.cli.session import within
    from orchestrator.events import EVENT

    form = "%Y-%m-%d %H:%M:%S"

    async def work(app: "App") -> None:
        rollout: Rollout = await use_cases.find(app, ref)
        events = await app.store.events(rollout.id)
        if output == "ndjson":
            for event in events:
                click.echo(EVENT.dump_json(event).decode())
        elif output == "json":
            click.echo("[\n" + ",\n".join(EVENT.dump_json(event).decode() for event in events) + "\n]")
        elif everything:
            for event in events:
                click.echo(line(event, form))
        else:
            for told in Story().lines(events, form):
                click.echo(told)

    return within(work)
