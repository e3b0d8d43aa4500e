"""The keys of the live view: which make sense when, what they ask for, what the footer says; the terminal's modes."""

import os
import pty
import termios
from dataclasses import replace

import pytest

from orchestrator import events as ev
from orchestrator.cli.keys import SHOWN_FOR, UNREAD, Keys, offers, pressed
from orchestrator.cli.terminal import Keyboard, in_foreground
from orchestrator.views import view

ID = "diabetes-20261122-7kq3m"


def seen(story, kind="running"):
    """The view of a rollout that stands in one of the ways in which keys differ."""
    story.upto_canary()
    match kind:
        case "approval":
            story.waiting("approval", "waits for approval: ship it?", 3600)
        case "paused":
            story.tell(ev.Paused("asked", "paused by ada"))
        case "drift":
            story.tell(ev.Paused("drift", "somebody else changed the endpoint"))
        case "rolling back":
            story.tell(ev.RollbackBegan("abort", "aborted by ada"))
        case "no return":
            story.rollout = replace(story.rollout, no_return=True)
        case "nobody":
            story.tell(ev.Released("interrupted"))
        case "ended":
            story.tell(ev.Finished("failed", "left as found"))
    return view(story.rollout, events=story.events, now=story.now)


@pytest.fixture
def keys():
    """Of a `watch` that hears them."""
    return Keys(driving=False, heard=True, without="Ctrl-C: leave")


FOOTERS = {
    "running": f"p pause  x abort  q quit  (or: rollout pause {ID})",
    "approval": f"p pause  a approve  x abort  q quit  (or: rollout approve {ID})",
    "paused": f"p resume  x abort  q quit  (or: rollout resume {ID})",
    "drift": f"x abort  q quit  (or: rollout abort {ID})",
    "rolling back": "q quit",
    "no return": "q quit",
    "nobody": f"q quit  (or: rollout resume {ID})",
    "ended": "",
}


@pytest.mark.parametrize("kind", FOOTERS)
def test_the_footer_shows_the_keys_that_make_sense_and_the_command_that_does_the_same(story, keys, kind):
    assert keys.footer(seen(story, kind), 100, 0.0) == FOOTERS[kind]


@pytest.mark.parametrize(
    ("width", "footer"),
    [
        (90, f"p pause  a approve  x abort  q quit  (or: rollout approve {ID})"),
        (60, "p pause  a approve  x abort  q quit"),
        (34, "keys p a x q"),
        (20, "keys p a x q"),
    ],
)
def test_a_narrow_footer_keeps_the_keys(story, keys, width, footer):
    assert keys.footer(seen(story, "approval"), width, 0.0) == footer


def test_who_drives_is_told_that_q_stops_safely(story):
    keys = Keys(driving=True, heard=True, without="")
    assert "q stop safely" in keys.footer(seen(story), 100, 0.0)


def test_where_no_keys_arrive_the_footer_says_what_ctrl_c_does(story):
    keys = Keys(driving=True, heard=False, without="Ctrl-C: stop safely")
    assert keys.footer(seen(story), 100, 0.0) == "Ctrl-C: stop safely"


@pytest.mark.parametrize(
    ("kind", "key", "wish"),
    [
        ("running", "p", "pause"),
        ("paused", "p", "resume"),
        ("approval", "a", "approve"),
        ("running", "q", "leave"),
        ("rolling back", "q", "leave"),
        ("running", "P", None),
        ("running", "a", None),
        ("drift", "p", None),
        ("rolling back", "p", None),
        ("rolling back", "x", None),
        ("no return", "x", None),
        ("nobody", "p", None),
        ("ended", "p", None),
        ("running", "z", None),
        ("running", "y", None),
    ],
)
def test_what_a_key_asks_for(story, keys, kind, key, wish):
    assert keys.press(key, seen(story, kind), 0.0) == wish


@pytest.mark.parametrize(
    ("kind", "key", "says"),
    [
        ("running", "a", "no step waits for approval now"),
        ("rolling back", "p", "it is being rolled back already"),
        ("no return", "x", "it is past the point of no return, and goes on to its end"),
        ("drift", "p", f"somebody else changed the endpoint: rollout resume {ID} --take-back, or --keep-theirs"),
        ("nobody", "x", f"nobody drives it now: rollout resume {ID}"),
    ],
)
def test_a_key_that_makes_no_sense_says_why(story, keys, kind, key, says):
    shown = seen(story, kind)
    assert keys.press(key, shown, 0.0) is None
    assert keys.footer(shown, 200, 1.0) == says
    assert keys.footer(shown, 200, SHOWN_FOR + 0.1) == FOOTERS[kind]


def test_abort_asks_first_and_takes_y_only(story, keys):
    shown = seen(story)
    assert keys.press("x", shown, 0.0) is None
    assert keys.footer(shown, 100, 0.0) == f"abort {ID}? y/n"
    assert keys.footer(shown, 20, 0.0) == "abort? y/n"
    assert keys.press("y", shown, 1.0) == "abort"
    assert keys.footer(shown, 100, 1.0) == "abort asked for, waiting for the driver to act on it"


@pytest.mark.parametrize("key", ["n", "Y", "x", "q", "p", "\r", " ", "\x04"])
def test_any_other_key_aborts_nothing(story, keys, key):
    shown = seen(story)
    keys.press("x", shown, 0.0)
    assert keys.press(key, shown, 0.5) is None
    assert keys.footer(shown, 100, 0.5) == "not aborted"
    assert keys.press("y", shown, 1.0) is None


def test_the_question_goes_when_there_is_nothing_left_to_abort(story, keys):
    keys.press("x", seen(story), 0.0)
    story.tell(ev.RollbackBegan("gate", "gate errors"))
    shown = view(story.rollout, events=story.events, now=story.now)
    assert keys.footer(shown, 100, 0.0) == "q quit"
    assert keys.press("y", shown, 0.5) is None


def test_what_came_of_a_key_stands_in_the_footer_for_some_seconds(story, keys):
    shown = seen(story)
    assert keys.press("p", shown, 0.0) == "pause"
    assert keys.press("p", shown, 0.1) is None, "it is asked once"
    keys.answered("pause", "pause refused: its last step is done", 2.0)
    assert keys.footer(shown, 100, 2.0 + SHOWN_FOR - 0.1) == "pause refused: its last step is done"
    assert keys.footer(shown, 100, 2.0 + SHOWN_FOR + 0.1) == FOOTERS["running"]
    assert keys.press("p", shown, 20.0) == "pause", "it can be asked again"


def test_two_outcomes_at_once_are_both_shown(story, keys):
    shown = seen(story)
    keys.press("p", shown, 0.0)
    keys.press("a", shown, 0.2)
    keys.answered("pause", "pause accepted", 0.2 + UNREAD / 2)
    assert keys.footer(shown, 100, 1.0) == "no step waits for approval now; pause accepted"


def test_before_anything_is_known_only_leaving_makes_sense(keys):
    assert [offer.key for offer in offers(None, driving=True)] == ["q"]
    assert keys.press("x", None, 0.0) is None
    assert keys.press("q", None, 0.0) == "leave"


def test_who_is_leaving_hears_no_more_keys(story):
    keys = Keys(driving=True, heard=True, without="")
    shown = seen(story)
    keys.press("x", shown, 0.0)
    keys.close()
    assert [keys.press(key, shown, 1.0) for key in "ypxq"] == [None] * 4


@pytest.mark.parametrize(
    ("data", "key"),
    [
        (b"p", "p"),
        (b"\x1b", ""),
        (b"\x1b[A", ""),
        (b"\x1b[a", ""),  # rxvt's shift and arrow
        (b"\x1bOP", ""),  # F1
        (b"\x1b[15~", ""),
        (b"\x1b[1;5D", ""),
        (b"\x1bx", ""),  # Alt and x
        (b"\x1b[Ap", "p"),
        (b"\x1b[", ""),
        (b"xy", "x"),
        (b"\xe6\xbc\xa2", "�"),
        (b"", ""),
    ],
)
def test_the_key_in_what_was_read(data, key):
    assert pressed(data) == key


# --- the terminal's modes


@pytest.fixture
def slave():
    """One end of a terminal that nobody controls."""
    master, slave = pty.openpty()
    yield slave
    os.close(slave)
    os.close(master)


def modes(descriptor):
    flags = termios.tcgetattr(descriptor)[3]
    return {name for name in ("ECHO", "ICANON", "ISIG") if flags & getattr(termios, name)}


def test_keys_come_without_echo_and_the_modes_are_put_back(slave):
    before = termios.tcgetattr(slave)
    keyboard = Keyboard(slave)
    keyboard.take()
    assert modes(slave) == {"ISIG"}, "Ctrl-C and Ctrl-Z stay what they are"
    assert keyboard.taken
    keyboard.take()
    keyboard.give_back()
    assert termios.tcgetattr(slave) == before
    keyboard.give_back()
    assert not keyboard.taken


def test_a_job_in_the_background_touches_nothing(slave, monkeypatch):
    monkeypatch.setattr(os, "tcgetpgrp", lambda _: os.getpgrp() + 1)
    keyboard = Keyboard(slave)
    keyboard.take()
    assert not keyboard.taken
    assert modes(slave) == {"ECHO", "ICANON", "ISIG"}


def test_modes_are_left_to_the_shell_that_took_the_terminal_back(slave, monkeypatch):
    keyboard = Keyboard(slave)
    keyboard.take()
    monkeypatch.setattr(os, "tcgetpgrp", lambda _: os.getpgrp() + 1)
    keyboard.give_back()
    assert modes(slave) == {"ISIG"}
    assert not keyboard.taken


def test_without_job_control_everybody_is_in_the_foreground(slave, monkeypatch):
    assert in_foreground(slave)
    assert in_foreground(-1)
    monkeypatch.setattr(os, "tcgetpgrp", lambda _: 0)
    assert in_foreground(slave), "the foreground is outside of this pid namespace"


def test_a_terminal_that_was_hung_up_is_silence():
    master, slave = pty.openpty()
    keyboard = Keyboard(slave)
    keyboard.take()
    os.close(master)
    assert keyboard.read() is None
    keyboard.give_back()
    os.close(slave)


def test_what_is_no_terminal_has_no_keys(tmp_path):
    with (tmp_path / "input").open("w+") as stream:
        assert Keyboard.of(stream) is None
    assert Keyboard.of(stream) is None, "closed"
