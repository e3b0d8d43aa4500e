"""The live view on real terminals: ptys of all sizes, keys, signals, job control; with a simulated provider."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.terminals import Terminal

pytestmark = pytest.mark.needs("linux")

_SCRIPT = Path(sys.executable).with_name("rollout")
ROLLOUT = (str(_SCRIPT),) if _SCRIPT.exists() else (sys.executable, "-m", "orchestrator.cli.main")
PLAN = """
name: shop
provider: {name: memory, rate: 300, durations: {DURATIONS}}
endpoint: {file: endpoint.yml}
deployments: {blue: {file: blue.yml}, green: {file: green.yml}}
gates:
  errors: {metric: error_rate, max: 5%, interval: 200ms, warm_up: 0s}
  latency: {metric: latency, max: 1s, interval: 200ms, warm_up: 0s}
steps:
"""
LONG = """
  - deploy: green
  - canary: 10%
    gates: [errors, latency]
    hold: 10m
    name: 試し運転
"""
CLEARED = "\x1b[2J"
NO_TIME = "put_endpoint: 0, put_deployment: 0, scale: 0, set_traffic: 0, delete_deployment: 0, delete_endpoint: 0"


class Shop:
    """A home, a plan, and terminals in which commands are typed."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.terminals = folder, []
        (folder / "endpoint.yml").write_text("name: shop\n")
        for name in ("blue", "green"):
            (folder / f"{name}.yml").write_text(f"name: {name}\ntags: {{side: {name}}}\nmodel: azureml:{name}:1\n")
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
        self.env = kept | {"ROLLOUT_HOME": str(folder / "home"), "ROLLOUT_ACTOR": "ada", "LANG": "C.UTF-8"}

    def plan(self, steps: str = LONG, durations: str = NO_TIME) -> str:
        (self.folder / "plan.yml").write_text(PLAN.replace("DURATIONS", durations) + steps)
        return "plan.yml"

    def start(self, *words: str, columns: int = 100, rows: int = 40, program=ROLLOUT, env=None, **more) -> Terminal:
        terminal = Terminal(columns, rows)
        self.terminals.append(terminal)
        terminal.start(*program, *words, cwd=self.folder, env=self.env | (env or {}), **more)
        return terminal

    def events(self, kind: str) -> int:
        """How many events of a kind the journal has."""
        with closing(sqlite3.connect(f"file:{self.folder / 'home' / 'rollouts.db'}?mode=ro", uri=True)) as store:
            return store.execute("SELECT count(*) FROM events WHERE kind = ?", (kind,)).fetchone()[0]

    def close(self) -> None:
        for terminal in self.terminals:
            terminal.close()


@pytest.fixture
def shop(tmp_path):
    made = Shop(tmp_path)
    yield made
    made.close()


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """A rollout that runs all the time, for those who only look."""
    made = Shop(tmp_path_factory.mktemp("running"))
    driver = made.start("run", made.plan())
    driver.until("latency  PASS")
    yield made
    assert driver.process.poll() is None, driver.text
    assert "● running" in driver.text, "those who only look change nothing"
    made.close()


def left_well(terminal: Terminal) -> None:
    """The terminal is as a shell wants it."""
    assert terminal.echoes
    assert terminal.screen.cursor


# --- looking


SIZES = [  # columns, rows, how the first and the last line begin
    (20, 5, "● running", "keys p x q"),
    (80, 24, "Rollout   shop-", "p pause  x abort  q quit  (or: rollout pause shop-"),
    (40, 10, "shop-", "p pause  x abort  q quit"),
    (60, 20, "Rollout   shop-", "p pause  x abort  q quit"),
    (200, 60, "Rollout   shop-", "p pause  x abort  q quit  (or: rollout pause shop-"),
]


def test_every_size_of_terminal_also_while_it_is_changed(running):
    watching = running.start("watch", columns=120, rows=40)
    watching.until("(or: rollout pause")
    assert not watching.echoes
    assert not watching.screen.cursor
    for columns, rows, first, last in SIZES:
        drawn = watching.raw.count(CLEARED)
        watching.resize(columns, rows)
        watching.until(lambda text, drawn=drawn: watching.raw.count(CLEARED) > drawn and "q" in text)
        lines = watching.until(lambda text, last=last: text.rpartition("\n")[2].startswith(last)).splitlines()
        assert lines[0].startswith(first), "nothing of the last picture is left"
        for part in ("running", "3/3", "green 10%", "errors"):
            assert part in "\n".join(lines)
    assert watching.screen.wrapped == 0
    watching.type("q")
    watching.ends(0)
    left_well(watching)


@pytest.mark.parametrize(
    ("env", "has", "has_not"),
    [
        ({"NO_COLOR": "1"}, ["\x1b[?25l", "█▒", "├──"], ["\x1b[32m", "\x1b[94m"]),
        ({"LANG": "C"}, ["\x1b[?25l", "|--", "* running"], ["├", "●", "試"]),
        ({"TERM": "dumb"}, ["step 3: 試し運転"], ["\x1b", "●"]),
    ],
    ids=["NO_COLOR", "LANG=C", "TERM=dumb"],
)
def test_what_the_environment_asks_for(running, env, has, has_not):
    watching = running.start("watch", env=env)
    watching.until("PASS")
    assert [part for part in has if part not in watching.raw] == []
    assert [part for part in has_not if part in watching.raw] == []


def test_without_a_stdin_there_are_no_keys_and_the_footer_says_what_there_is(running):
    watching = running.start("watch", stdin=subprocess.DEVNULL)
    assert watching.until("Ctrl-C").splitlines()[-1] == "Ctrl-C: leave (the rollout goes on)"
    watching.process.send_signal(signal.SIGINT)
    assert "left: shop-" in watching.ends(130)


def test_a_stdin_that_is_closed_is_no_terminal(running):
    watching = running.start("-c", 'exec "$@" <&-', "sh", *ROLLOUT, "watch", program=("sh",))
    watching.until("Ctrl-C: leave")
    watching.type("\x03")
    watching.ends(130)


def test_output_that_is_piped_gets_lines(running):
    watching = running.start("-c", '"$@" | cat', "sh", *ROLLOUT, "watch", program=("sh",))
    text = watching.until("PASS")
    assert "step 3: 試し運転" in text
    assert "\x1b" not in watching.raw
    assert watching.echoes, "keys belong to a view"


def test_a_signal_leaves_the_terminal_as_it_was(running):
    watching = running.start("watch")
    watching.until("q quit")
    watching.process.send_signal(signal.SIGTERM)
    assert "goes on" in watching.ends(130)
    left_well(watching)


def test_q_leaves_and_the_rollout_goes_on(running):
    watching = running.start("watch")
    watching.until("q quit")
    watching.type("\x1b[A\x1bOPa")  # an arrow and F1 are no keys of ours, though they send letters
    watching.until("no step waits for approval now")
    watching.type("q")
    assert "left: shop-" in watching.ends(0)
    left_well(watching)


@pytest.mark.skipif(shutil.which("bash") is None, reason="job control needs a shell")
def test_ctrl_z_gives_the_terminal_back_and_fg_takes_it_again(running):
    shell = running.start("--norc", "--noprofile", "-i", program=("bash",), env={"PS1": "$ ", "TERM": "xterm"})
    shell.until("$")
    shell.type(f"{' '.join(ROLLOUT)} watch\r")
    shell.until("q quit")
    shell.type("\x1a")
    shell.until("Stopped")
    # The cursor came back before the shell said that the job is stopped.
    assert shell.raw.rindex("\x1b[?25h") < shell.raw.index("Stopped")
    shell.type("echo it is $((40 + 2))\r")
    shell.until("it is 42")
    shell.type("fg\r")
    shell.until(lambda text: text.splitlines()[-1].startswith("p pause"))
    assert not shell.echoes
    shell.type("q")
    shell.until("left: shop-")
    shell.type("exit\r")
    shell.ends(0)


@pytest.mark.skipif(shutil.which("bash") is None, reason="job control needs a shell")
def test_in_the_background_nothing_is_drawn_and_nothing_stops(running):
    shell = running.start("--norc", "--noprofile", "-i", program=("bash",), env={"PS1": "$ ", "TERM": "xterm"})
    shell.until("$")
    shell.type(f"{' '.join(ROLLOUT)} watch &\r")
    shell.type("sleep 3; jobs\r")  # until it has drawn, were it to draw
    shell.until("Running")
    assert "● running" not in shell.text
    shell.type("fg\r")
    shell.until(lambda text: text.splitlines()[-1].startswith("p pause"))
    shell.type("q")
    shell.until("left: shop-")
    shell.type("exit\r")
    shell.ends(0)


# --- asking


def test_both_views_are_the_same_and_keys_reach_whoever_drives(shop):
    driver = shop.start("run", shop.plan())
    driver.until("latency  PASS")
    watching = shop.start("watch")
    watching.until("latency  PASS")
    watching.type("p")
    watching.until("pause accepted")
    driver.until("● paused")
    assert _picture(driver) == _picture(watching)
    assert "p resume" in driver.text
    driver.type("p")
    driver.until("resume accepted")
    watching.until("● running")
    driver.type("a")
    driver.until("no step waits for approval now")
    watching.type("x")
    watching.until("? y/n")
    watching.type("n")
    watching.until("not aborted")
    watching.type("x")
    watching.until("? y/n")
    watching.type("y")
    told = watching.ends(1)
    assert "aborted by ada" in told
    assert "● rolled back" in watching.raw, "shown until its end"
    assert "aborted by ada" in driver.ends(1)
    assert "● rolled back" in driver.raw
    left_well(driver)
    left_well(watching)

    again = shop.start("watch")
    assert "● rolled back" in again.ends(1)
    assert "p pause" not in again.raw
    left_well(again)


def _picture(terminal: Terminal) -> list[str]:
    """What both must show: from the status on to the gates, without the clocks."""
    kept = ("Rollout", "Endpoint", "Traffic", "Why", "├── ", "└── ")
    return [line.split("  ")[0] for line in terminal.text.splitlines() if line.startswith(kept)]


def test_a_approves_and_a_refusal_says_why(shop):
    steps = "\n  - deploy: green\n  - approve: ship it\n    not_by_starter: true\n  - promote: 100%\n"
    driver = shop.start("run", shop.plan(steps))
    driver.until("a approve")
    driver.type("a")
    driver.until("approve refused: ada started it, and the step says not_by_starter")
    watching = shop.start("watch", env={"ROLLOUT_ACTOR": "bob"})
    watching.until("a approve")
    watching.type("a")
    watching.ends(0)
    driver.ends(0)
    assert "approved by bob" in driver.raw


# --- leaving


def test_q_stops_safely(shop):
    driver = shop.start("run", shop.plan())
    driver.until("latency  PASS")
    driver.type("q")
    assert "rollout resume shop-" in driver.ends(130)
    assert "stopping safely" in driver.raw
    assert shop.events("parked") == 1
    left_well(driver)


SLOW = NO_TIME.replace("set_traffic: 0", "set_traffic: 20")


def test_ctrl_c_twice_leaves_at_once_with_the_terminal_as_it_was(shop):
    driver = shop.start("run", shop.plan(durations=SLOW))
    driver.until("bootstrap blue")
    driver.until("traffic blue 100%")
    driver.type("\x03")
    driver.until("stopping safely")
    assert driver.process.poll() is None, "the provider takes its time"
    driver.type("\x03")
    assert "left at once: nothing is lost" in driver.ends(130, 10)
    left_well(driver)


def test_a_terminal_that_stands_still_holds_up_nobody(shop):
    """As when a laptop falls asleep at the other end of ssh."""
    driver = shop.start("run", shop.plan(), columns=200, rows=60)
    driver.until("latency  PASS")
    driver.hold()
    measured = shop.events("measured")
    _eventually(lambda: shop.events("measured") > measured + 25, 60)
    driver.go_on()
    driver.until("latency  PASS")
    driver.hold()
    driver.process.send_signal(signal.SIGTERM)
    _eventually(lambda: shop.events("released") == 1, 30)
    driver.go_on()
    driver.ends(130)
    left_well(driver)


def test_a_terminal_that_closes_stops_safely(shop):
    driver = shop.start("run", shop.plan())
    driver.until("latency  PASS")
    driver.hang_up()
    _eventually(lambda: shop.events("released") == 1, 30)
    driver.process.wait(30)
    assert shop.events("parked") == 1


def test_a_plan_that_is_wrong_leaves_the_terminal_as_it_was(shop):
    shop.plan("\n  - deplyo: green\n")
    driver = shop.start("run", "plan.yml")
    assert "plan.yml:" in driver.ends(2)
    left_well(driver)


def test_a_kill_leaves_whole_lines_of_the_journal(shop):
    path = shop.folder / "events.ndjson"
    driver = shop.start("run", shop.plan(), "--events", str(path))
    driver.until("latency  PASS")
    _eventually(lambda: path.read_bytes().count(b"\n") > 20, 30)  # while it runs, not at its end
    driver.process.kill()
    driver.process.wait(10)
    text = path.read_text()
    assert text.endswith("}\n")
    history = [*ROLLOUT, "history", "--output", "ndjson"]
    told = subprocess.run(history, env=shop.env, capture_output=True, text=True, check=True).stdout
    assert told.startswith(text)


def _eventually(condition, seconds):
    import time

    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not come true in time"
        time.sleep(0.02)
