"""Options and arguments that several commands share, so that one thing has one name and one explanation everywhere."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from orchestrator.cli import completing

Command = TypeVar("Command", bound=Callable[..., Any])

REF_HELP = "ROLLOUT is an id, the beginning of one, or a name; without it, the newest that can be meant."


def output(*formats: str) -> Callable[[Command], Command]:
    """`--output`, text unless told otherwise."""
    return click.option(
        "-o",
        "--output",
        type=click.Choice(["text", *(formats or ("json",))]),
        default="text",
        show_default=True,
        help="For people, or for programs.",
    )


def ref(command: Command) -> Command:
    """The optional rollout."""
    return click.argument("ref", metavar="[ROLLOUT]", required=False, shell_complete=completing.rollouts)(command)


def plan_file(command: Command) -> Command:
    """The plan."""
    import pathlib

    kind = click.Path(exists=True, dir_okay=False, readable=True, path_type=pathlib.Path)
    return click.argument("plan", metavar="PLAN", type=kind, shell_complete=completing.plans)(command)


STEAL = click.option(
    "--steal",
    is_flag=True,
    help="Take the endpoint over although another store's rollout claims it. Only when that one is surely dead.",
)
EXIT_ON_PAUSE = click.option(
    "--exit-on-pause",
    is_flag=True,
    help="Leave with exit code 4 when a human is needed, instead of waiting for one. The candidate is first taken "
    "out of traffic.",
)
LEAVE_EXPOSED = click.option(
    "--leave-exposed",
    is_flag=True,
    help="When leaving, leave the candidate's traffic as it is, although nobody guards it then.",
)
EVENTS = click.option(
    "--events",
    metavar="FILE",
    help="Write the journal there while it runs, from the rollout's first event on, one JSON object a line, as "
    "`history --output ndjson` does. FILE must be new, empty, a named pipe or a device; - is stdout, and what is told "
    "goes to stderr.",
)
REASON = click.option("--reason", metavar="TEXT", help="Why; it is kept in the journal.")


def _variables(ctx: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    """`NAME=VALUE` each -> {name: value}; the value may be empty and may hold `=`. Raises UsageError."""
    import re

    found: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        # As long as the plan language allows; whether the plan has such a variable is for the plan to say.
        if not equals or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,63}", name):
            raise click.BadParameter(
                f"{text[:80]!r} is not NAME=VALUE: write for example --var VERSION=7 (NAME of letters, digits and "
                "underscores, not beginning with a digit)",
                ctx,
                parameter,
                param_hint="--var",
            )
        if name in found:
            raise click.BadParameter(
                f"{name} is given twice, as {found[name][:80]!r} and as {value[:80]!r}: give it once",
                ctx,
                parameter,
                param_hint="--var",
            )
        found[name] = value
    return found


def _seconds(ctx: click.Context, parameter: click.Parameter, given: str | None) -> float | None:
    """`2h` -> 7200.0. Raises UsageError."""
    from plans.units import parse_duration

    if given is None:
        return None
    try:
        seconds = parse_duration(given)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, parameter, param_hint="--extend") from None
    if not seconds:
        raise click.BadParameter(f"{given!r} adds nothing: write 30m or 2h", ctx, parameter, param_hint="--extend")
    return float(seconds)  # type: ignore[arg-type]


EXTEND = click.option(
    "--extend",
    metavar="DURATION",
    callback=_seconds,
    help="Adds to the deadline of the current step, such as 30m or 2h; also while the rollout is running.",
)
"""Arrives as seconds, or None."""

VARS = click.option(
    "--var",
    "variables",
    metavar="NAME=VALUE",
    multiple=True,
    callback=_variables,
    help="A value for one of the plan's `vars`, over the one in its file; may be given several times. It is pinned "
    "with the plan.",
)
"""Arrives as `variables: dict[str, str]`."""


def example(*lines: str) -> str:
    """An epilog with commands to copy."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)
