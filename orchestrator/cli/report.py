"""`rollout report`: one file that tells a rollout's story to people who were not there."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.cli import options

if TYPE_CHECKING:
    from orchestrator.app import App

HTML = (".html", ".htm")


@click.command(
    "report",
    epilog=options.example(
        "rollout report --file report.html",
        "rollout report diabetes | less",
        "rollout report --format md --file REPORT.md",
    ),
)
@options.ref
@click.option(
    "--format",
    "form",
    type=click.Choice(["md", "html"]),
    help="Markdown, or a page that needs no network; without it as the file's name says, else md.",
)
@click.option(
    "--file",
    "file",
    metavar="PATH",
    type=click.Path(path_type=Path),
    help="Where to write it; without it to stdout. An older report there is replaced.",
)
@click.option("--force", is_flag=True, help="Write over a file that is no report, too.")
@options.output()
def report_command(ref: str | None, form: str | None, file: Path | None, force: bool, output: str) -> int:
    """Tell a rollout's story in one file: what, when, who, why, and the evidence for it, with charts.

    ROLLOUT is an id, the beginning of one, or a name; without it, the newest that can be meant. One that still runs can
    be reported, too.
    """
    from orchestrator import ids
    from orchestrator.cli.session import show_json, within
    from orchestrator.report import file as files
    from orchestrator.report import html, markdown
    from orchestrator.report.gather import gather
    from orchestrator.report.story import tell

    if output == "json" and file is None:
        raise click.UsageError(
            "--output json tells where a report was written: name a file with --file PATH; for the rollout itself as "
            "JSON there is `rollout status --output json`",
            click.get_current_context(),
        )
    chosen = form or ("html" if file is not None and file.suffix.lower() in HTML else "md")

    async def work(app: "App") -> None:
        told = tell(await gather(app, ref), app.clock())
        text = html.page(told) if chosen == "html" else markdown.document(told)
        if file is None:
            click.echo(text, nl=False)
            return
        size = files.write(file, text, force=force, token=ids.event_id())
        if output == "json":
            show_json({"id": told.view.id, "format": chosen, "file": str(file), "bytes": size})
        else:
            click.echo(f"the report of {told.view.id} is in {file} ({max(1, round(size / 1000))} kB)")

    return within(work)
