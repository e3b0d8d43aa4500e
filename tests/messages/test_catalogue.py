"""Every message for people, with the situation that causes it: its words, its exit code, what stands, what to do.

A new message needs an entry in the catalogue before these pass; its words then are compared, and docs/messages.md is
made from it (`python -m tests.messages.page`).
"""

import re
from collections import Counter
from pathlib import Path

import pytest

from orchestrator.store import dialect
from tests.messages import asked, changed, planned, shifted, typed
from tests.messages.bench import Bench
from tests.messages.catalogue import AWAITED, ENTRIES, UNCOVERED
from tests.messages.entry import WITHOUT_ADVICE, Message, Outcome
from tests.messages.page import PAGE, page
from tests.messages.sites import Site, sites

SITES = sites()


@pytest.mark.needs("linux")
@pytest.mark.parametrize("entry", ENTRIES, ids=[entry.id for entry in ENTRIES])
def test_the_situation_causes_the_message(entry: Message, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(tmp_path, monkeypatch, str(ENTRIES.index(entry)))
    with bench.cleanup:
        assert entry.cause(bench) == Outcome(entry.says, entry.code, entry.stands, entry.offers)


# --- nothing is missing ---


def entries_of(site: Site) -> list[Message]:
    return [entry for entry in ENTRIES if site.where in entry.where.split() and site.pattern.search(entry.says)]


def test_every_place_that_says_something_is_in_the_catalogue() -> None:
    missing = {site.name: f"line {site.line}" for site in SITES if not entries_of(site)}
    assert missing.keys() - UNCOVERED.keys() == set(), missing


def test_what_is_not_covered_is_still_there_and_does_not_grow() -> None:
    by_name = {site.name: site for site in SITES}
    assert UNCOVERED.keys() <= by_name.keys()
    covered = [name for name in UNCOVERED if entries_of(by_name[name])]
    assert not covered, "it has an entry now: take it out of UNCOVERED"
    assert len(UNCOVERED) <= 2


def test_every_entry_is_about_a_place_that_says_something() -> None:
    known = {site.where for site in SITES} | {"bundle.read"}
    assert {where for entry in ENTRIES for where in entry.where.split()} - known == set()


def test_every_meaning_of_an_error_of_sqlite_is_in_the_catalogue() -> None:
    said = "\n".join(entry.says for entry in ENTRIES)
    assert [code for code, meaning in dialect._MEANINGS.items() if meaning not in said] == []


def test_every_exit_code_has_a_message() -> None:
    assert {entry.code for entry in ENTRIES} == {None, 0, 1, 2, 3, 4, 5, 130}


def test_each_situation_is_told_once() -> None:
    assert [name for name, count in Counter(entry.id for entry in ENTRIES).items() if count > 1] == []


# --- each is a good one ---


def faults(entry: Message) -> list[str]:
    """What its reader would miss, or stumble over."""
    found = []
    if not entry.happened:
        found.append("does not say what happened")
    if not entry.standing:
        found.append("does not say what stands")
    if not entry.advice:
        found.append("does not say what to do")
    if re.search(r"\.[.;:,](?!\.)|;;|\bNone\b|Traceback|object at 0x", entry.says.replace("...", "")):
        found.append("is no clean sentence")
    if re.search(r"(?<!of )\b1 (instances|requests|deployments|events)\b|\(there are \S+\)", entry.says):
        found.append("counts wrongly")
    return found


def test_each_says_what_happened_what_stands_and_what_to_do() -> None:
    assert {entry.id: faults(entry) for entry in ENTRIES if faults(entry)}.keys() == AWAITED


def test_advice_is_in_the_words_or_one_of_few_others() -> None:
    assert {entry.do for entry in ENTRIES} <= {"", *WITHOUT_ADVICE}
    assert [entry.id for entry in ENTRIES if entry.do and entry.code is not None and "«" in entry.marked] == []


def test_marks_are_closed() -> None:
    for entry in ENTRIES:
        left = re.sub(r"«[^«»‹›]+»|‹[^«»‹›]+›", "", entry.marked)
        assert not re.search("[«»‹›]", left), entry.id


ABSOLUTE = {"adoption.edits", "cli.ndjson._work"}
"""Told long after the words were typed, and a pipe whose name the test gave."""


def test_a_path_is_shown_as_it_was_typed() -> None:
    """Situations on a command line type relative ones; only a database's URL and the home are absolute."""
    told = [
        entry
        for entry in (*planned.ENTRIES, *typed.ENTRIES, *changed.ENTRIES, *shifted.ENTRIES, *asked.ENTRIES)
        if "<folder>" in entry.says
    ]
    assert {entry.where for entry in told} <= ABSOLUTE


def test_the_page_is_what_the_catalogue_says() -> None:
    assert PAGE.read_text("utf-8") == page(), "run: python -m tests.messages.page"
