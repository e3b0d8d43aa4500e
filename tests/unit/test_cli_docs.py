"""Every command and every option is in docs/cli.md, under its own heading, and its --help has an example to copy."""

import re
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from orchestrator.cli.main import CODES, COMMANDS, cli

PAGE = Path(__file__).resolve().parents[2] / "docs" / "cli.md"


def commands(group: click.Group, path: tuple[str, ...] = ("rollout",)):
    """(words, command) of every command and sub-command."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        words = (*path, name)
        yield words, command
        if isinstance(command, click.Group):
            yield from commands(command, words)


ALL = dict(commands(cli))
EACH = pytest.mark.parametrize("words", ALL, ids=" ".join)


def section(words: tuple[str, ...]) -> str:
    """The part of the page below a command's heading, up to the next heading."""
    found = re.search(rf"^#+ {' '.join(words)}\n(.*?)(?=^#|\Z)", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert found, f"docs/cli.md has no heading `{' '.join(words)}`"
    return found[1]


@EACH
def test_the_page_names_every_option(words):
    text = section(words)
    for parameter in ALL[words].params:
        if isinstance(parameter, click.Option):
            long = [name for name in parameter.opts if name.startswith("--")]
            assert any(f"`{name}`" in text for name in long), f"docs/cli.md: {' '.join(words)} lacks {long[0]}"


@EACH
def test_the_page_names_no_option_that_is_not_there(words):
    known = {name for command in ALL.values() for parameter in command.params for name in parameter.opts}
    known |= {"--debug", "--help", "--version"}
    for name in re.findall(r"`(--[a-z-]+)", section(words)):
        assert name in known, f"docs/cli.md: {' '.join(words)} has {name}, which no command has"


@EACH
def test_help_explains_every_parameter_and_shows_an_example(words):
    shown = CliRunner().invoke(cli, [*words[1:], "--help"])
    assert shown.exit_code == 0
    assert "Examples:" in shown.output
    example = shown.output.split("Examples:")[1]
    assert " ".join(words) in example
    for parameter in ALL[words].params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{' '.join(words)}: {parameter.opts[0]} has no help"


@EACH
def test_every_command_that_answers_can_answer_in_json(words):
    if isinstance(ALL[words], click.Group):
        return
    output = next(parameter for parameter in ALL[words].params if "--output" in parameter.opts)
    assert {"text", "json"} <= set(output.type.choices)


def test_the_table_of_commands_is_complete():
    text = PAGE.read_text()
    for name in COMMANDS:
        assert f"| [`{name}`](#rollout-{name}) |" in text
    assert set(CODES.values()) <= {2, 3, 5}
    for code in (0, 1, 2, 3, 4, 5, 130, 141):
        assert f"| {code} |" in text
