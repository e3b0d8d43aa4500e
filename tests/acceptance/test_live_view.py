"""The live view before a real endpoint: what is typed in one terminal reaches the rollout that another one drives."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.acceptance.conftest import ROLLOUT
from tests.terminals import Terminal

pytestmark = pytest.mark.needs("linux", "envoy")

STEPS = """
  - deploy: green
    deadline: 30s
  - approve: does it look well?
  - canary: 20%
    gates: [errors]
    hold: 5m
    deadline: 20m
"""
Open = Callable[..., Terminal]


@pytest.fixture
def opened(site: Any) -> Iterator[Open]:
    """Opens a terminal in which `rollout ...` runs."""
    terminals: list[Terminal] = []
    mine = ("TERM", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "LC_ALL", "LC_CTYPE")

    def start(*words: str, **size: int) -> Terminal:
        terminals.append(Terminal(**size))
        env = {name: value for name, value in site.environment.items() if name not in mine}
        terminals[-1].start(*ROLLOUT, *words, cwd=site.files, env=env | {"LANG": "C.UTF-8"})
        return terminals[-1]

    yield start
    for terminal in terminals:
        terminal.close()


def left_well(terminal: Terminal) -> None:
    """As a shell wants it."""
    assert terminal.echoes
    assert terminal.screen.cursor


def test_keys_and_ctrl_c_on_a_rollout_that_two_terminals_show(site: Any, opened: Open) -> None:
    first = opened("run", site.plan(steps=STEPS))
    first.until("a approve", 60)
    watching = opened("watch", columns=80, rows=24)
    watching.until("a approve")
    watching.type("a")
    first.until("errors  ")
    watching.type("p")
    watching.until("pause accepted")
    first.until("● paused")
    first.type("p")
    watching.until("● running")
    site.reaches("measured", "canary 20%")

    # Ctrl-C once: the candidate leaves the traffic first.
    first.type("\x03")
    assert "rollout resume" in first.ends(130)
    assert "stopping safely" in first.raw
    left_well(first)
    assert site.state()["traffic"] == {"blue": 1000}
    watching.until(lambda text: "nobody drives it" in text and "(or: rollout resume" in text)
    watching.type("p")
    watching.until("nobody drives it now: rollout resume")

    # Ctrl-C twice: at once, as if killed, while the proxy does not answer.
    second = opened("resume")
    second.until("errors  ")
    last = site.journal()[-1]["seq"]
    with stopped(site.pid("envoy")):
        second.type("\x03")
        second.until("stopping safely")
        second.type("\x03")
        assert "left at once: nothing is lost" in second.ends(130, 10)
    left_well(second)
    assert not [event for event in site.journal(after=last) if event["kind"] == "released"]

    # q is Ctrl-C once.
    third = opened("resume")
    third.until("q stop safely")
    third.type("q")
    assert "paused, needs a human" in third.ends(130)
    left_well(third)
    assert site.state()["traffic"] == {"blue": 1000}

    # And an abort from the second terminal ends what the first one drives.
    fourth = opened("resume")
    fourth.until("errors  ")
    watching.until("x abort")
    watching.type("x")
    watching.until("? y/n")
    watching.type("y")
    assert "aborted by alice" in watching.ends(1, 60)
    assert "aborted by alice" in fourth.ends(1)
    left_well(watching)
    left_well(fourth)
    assert list(site.show()["deployments"]) == ["blue"]


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process that stands still meanwhile."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
