"""docs/json.md and the snapshots, against the commands and classes that there are: nothing is missing or left over."""

import re
from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

import click
import pytest

from orchestrator import events as ev
from orchestrator.backtest.replay import Outcome
from orchestrator.cli.backtested import CODES
from orchestrator.cli.main import cli
from orchestrator.gates.spec import Reaction
from orchestrator.lifecycle import Phase
from orchestrator.rollout import StageState
from orchestrator.simulate.change import Begins
from orchestrator.simulate.study import Kind as Kinds
from orchestrator.stages import Kind, Stage
from tests.contract import page
from tests.contract.kept import FOLDER, NOTHING, WRITING, all_of_them


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """(words, command) of every command and sub-command."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


ALL = dict(commands(cli))
CLOSED: dict[tuple[str, str], tuple[str, ...]] = {
    ("rollout", "paused"): get_args(ev.PauseCause),
    ("rollout", "rollback"): get_args(ev.RollbackCause),
    ("answer", "phase"): get_args(Phase),
    ("explanation", "phase"): get_args(Phase),
    ("preview", "stages[].kind"): get_args(Kind),
    ("preview", "stages[].decide"): get_args(get_type_hints(Stage)["decide"]),
    ("preview", "stages[].on_fail"): get_args(Reaction),
    ("preview", "stages[].on_no_data"): get_args(Reaction),
    ("preview", "stages[].on_undecided"): get_args(Reaction),
    ("preview", "stages[].on_error"): get_args(Reaction),
    ("preview", "requests_source"): ("given", "load", "measured"),
    ("graph", "nodes[].kind"): (*get_args(Kind), "done", "back"),
    ("graph", "nodes[].state"): get_args(StageState),
    ("graph", "edges[].kind"): ("pass", "back"),
    ("backtest", "outcome"): tuple(CODES),
    ("backtest", "steps[].outcome"): get_args(Outcome),
    ("backtest", "steps[].cause"): get_args(ev.RollbackCause),
    ("backtest", "happened.phase"): get_args(Phase),
    ("simulation", "rows[].change.begins"): get_args(Begins),
    ("simulation", "smallest[].kind"): get_args(Kinds),
    ("report", "format"): ("md", "html"),
    ("completion", "shell"): ("bash", "zsh", "fish"),
}
"""(table, key) -> its words, where no class of one field has them."""


Rows = dict[str, dict[str, page.Row]]


@pytest.fixture(scope="module", autouse=True)
def rows() -> Rows:
    """The tables of the page; where snapshots are written anew, so are they."""
    if WRITING:
        page.PAGE.write_text(page.written(page.PAGE.read_text("utf-8")), "utf-8")
    return page.tables()


def test_the_tables_are_those_of_the_snapshots() -> None:
    text = page.PAGE.read_text("utf-8")
    assert page.written(text) == text, "a key or a type is another one: see tests/contract/kept.py for how to write it"


def test_every_key_has_words_and_a_type_that_fits(rows: Rows) -> None:
    missing = []
    for table, keys in page.observed().items():
        declared = page.declared(table)
        for key, seen in keys.items():
            where, row = f"`{key}` of `{table}`", rows[table].get(key)
            if row is None or not re.search(r"\w", row.meaning):
                missing.append(f"{where} has no words")
            elif not page.fits(seen, row.types):
                missing.append(f"{where} is {page.shown(row.types)}, and was seen as {page.shown(seen)}")
            elif declared.get(key, row.types) != row.types:
                missing.append(f"{where} is {page.shown(row.types)}, and {page.shown(declared[key])} in the program")
    assert not missing, "docs/json.md: " + "; ".join(missing)


def test_no_key_is_explained_that_is_not_there(rows: Rows) -> None:
    observed = page.observed()
    assert [f"{key} of {table}" for table in rows for key in rows[table] if key not in observed.get(table, {})] == []


def test_every_word_of_a_closed_set_is_told(rows: Rows) -> None:
    closed = {(table, key): words for table in rows for key, words in page.closed(table).items()} | CLOSED
    missing = []
    for (table, key), words in closed.items():
        meaning = rows[table][key].meaning
        told = set(re.findall(r"`(\w+)`", re.sub(r"\[`\w+`\]", "", meaning)))
        for name, other in re.findall(r"as `([^`]+)` of \[`(\w+)`\]", meaning):
            told |= set(re.findall(r"`(\w+)`", rows[other][name].meaning))
        missing += [f"`{word}` of `{key}` of `{table}`" for word in words if word not in told]
    assert len(closed) > 25
    assert not missing, "docs/json.md lacks " + ", ".join(missing)


def test_every_kind_of_event_and_action_has_a_section() -> None:
    assert {*page.BODIES, *page.ACTIONS} <= set(page.sections(page.PAGE.read_text("utf-8")))


def test_the_page_says_which_documents_a_command_prints() -> None:
    text, snapshots = page.PAGE.read_text("utf-8"), all_of_them()
    said, printed = {}, {}
    for words in ALL:
        row = re.search(rf"^\| `rollout {' '.join(words)}` \| (.*) \|$", text, re.MULTILINE)
        said[words] = set(re.findall(r"\[`(\w+)`\]\(#\1\)", row[1])) if row else None
        mine = [each for each in snapshots if tuple(each.command.split()[1:][: len(words)]) == words]
        printed[words] = {each.document for each in mine} - {NOTHING}
    assert said == printed


def test_a_row_without_words_is_found() -> None:
    text = page.PAGE.read_text("utf-8")
    named = "| `accepted` | boolean | whether it was done |"
    assert named in text
    assert page.tables(text.replace(named, "| `accepted` | boolean |  |"))["answer"]["accepted"].meaning == ""
    without: Any = page.tables(text.replace(f"{named}\n", ""))["answer"]
    assert "accepted" not in without
    assert page.written(text.replace(f"{named}\n", "")) != text


# --- snapshots ------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_every_command_has_a_snapshot_of_every_form(words: tuple[str, ...]) -> None:
    typed = [found.command.split()[1:] for found in all_of_them() if found.document != NOTHING]
    mine = [each for each in typed if tuple(each[: len(words)]) == words]
    option = next(each for each in ALL[words].params if each.name == "output")
    for form in set(option.type.choices) - {"text"}:  # type: ignore[attr-defined]
        assert any(each[-2:] == ["--output", form] for each in mine), f"no snapshot of `--output {form}`"


def test_no_snapshot_is_left_over() -> None:
    scenes = "".join(
        path.read_text("utf-8")
        for path in (*FOLDER.parent.glob("test_*.py"), FOLDER.parents[1] / "acceptance" / "test_json.py")
        if path.exists()
    )
    left = [found.name for found in all_of_them() if f'"{found.name}"' not in scenes]
    assert not left, f"no test makes {left}"
