"""`rollout doctor`: what can be wrong with a machine or an installation, each with what to do about it."""

from typing import TYPE_CHECKING

import click

from orchestrator.cli import options
from orchestrator.cli.main import SUCCEEDED, TRY_AGAIN

if TYPE_CHECKING:
    from orchestrator.cli.checks import Check

COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.command("doctor", epilog=options.example("rollout doctor", "rollout doctor --output json"))
@options.output()
def doctor_command(output: str) -> int:
    """Check Python, Envoy, the store, directories, keepers of endpoints and the installation itself.

    Changes nothing. Exit code 3 when something fails; a warning does not count.
    """
    import asyncio

    from orchestrator.cli.checks import check_all
    from orchestrator.cli.session import show_json
    from orchestrator.settings import from_environment

    checks = asyncio.run(check_all(from_environment()))
    if output == "json":
        show_json(checks)
    else:
        width = max(len(check.name) for check in checks)
        for check in checks:
            _show(check, width)
    return TRY_AGAIN if any(check.state == "fail" for check in checks) else SUCCEEDED


def _show(check: "Check", width: int) -> None:
    click.echo(f"{click.style(f'{check.state:<4}', fg=COLOURS[check.state])}  {check.name:<{width}}  {check.found}")
    if check.advice:
        click.echo(f"{'':<{width + 8}}{check.advice}")
