"""Options and arguments that several commands share, so that one thing has one name and one explanation everywhere."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

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
    return click.argument("ref", metavar="[ROLLOUT]", required=False)(command)


def plan_file(command: Command) -> Command:
    """The plan."""
    import pathlib

    kind = click.Path(exists=True, dir_okay=False, readable=True, path_type=pathlib.Path)
    return click.argument("plan", metavar="PLAN", type=kind)(command)


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
REASON = click.option("--reason", metavar="TEXT", help="Why; it is kept in the journal.")


def example(*lines: str) -> str:
    """An epilog with commands to copy."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)
