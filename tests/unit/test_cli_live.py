"""What a live view writes to, when that does not do as it should: pipes that nobody reads, full disks; and flags."""

import io
import json
import os
import resource
import signal
import stat
import threading
import time
from pathlib import Path

import click
import pytest
from rich.console import Console

from orchestrator import app as use_cases
from orchestrator.cli.live import PlainFace, Screen, face, says_ascii
from orchestrator.cli.main import main
from orchestrator.cli.ndjson import Target, Writer, target
from orchestrator.cli.paint import UNICODE
from orchestrator.cli.plain import Lines
from orchestrator.errors import Refused
from orchestrator.flags import Flags
from orchestrator.views import view
from providers.memory import DURATIONS, World
from providers.memory import provider as memory

LINE = b'{"seq": 1}\n'


def eventually(condition, seconds=10.0):
    """Wait for a condition; returns its value."""
    until = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < until, "it did not come true in time"
        time.sleep(0.005)
    return found


# --- where events may go


def test_a_new_file_an_empty_one_and_devices_are_fine(tmp_path):
    empty = tmp_path / "empty"
    empty.touch()
    for name in (tmp_path / "new", empty, Path(os.devnull)):
        found = target(str(name))
        assert found.descriptor is not None
        os.close(found.descriptor)
    os.mkfifo(tmp_path / "pipe")
    assert target(str(tmp_path / "pipe")).descriptor is None, "opening it would wait for a reader"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("full", "--events: {path} exists and is not empty: name another file, or remove it first"),
        (".", "--events: {path} cannot be written (Is a directory): name a file in a folder of yours"),
        (
            "no/where",
            "--events: {path} cannot be written (No such file or directory): name a file in a folder of yours",
        ),
    ],
)
def test_what_cannot_take_events_is_refused_before_anything_begins(tmp_path, name, message):
    (tmp_path / "full").write_text("precious\n")
    path = tmp_path / name
    with pytest.raises(click.UsageError) as refused:
        target(str(path))
    assert refused.value.message == message.format(path=path)
    assert (tmp_path / "full").read_text() == "precious\n"


# --- writing them


class Told:
    """What the user was told."""

    def __init__(self):
        self.messages = []

    def __call__(self, message):
        self.messages.append(message)


@pytest.fixture
def told():
    return Told()


def test_lines_are_written_one_by_one(tmp_path, told):
    path = tmp_path / "events"
    writer = Writer(target(str(path)), tell=told)
    for number in range(1, 4):
        writer.put(LINE)
        eventually(lambda number=number: path.read_bytes() == LINE * number)
    assert writer.close(5) == 0
    assert told.messages == []


def test_a_reader_that_goes_away_is_told_once(tmp_path, told):
    read, write = os.pipe()
    os.close(read)
    writer = Writer(Target("stdout", write), tell=told)
    for _ in range(3):
        writer.put(LINE)
    assert writer.close(5) == 3
    assert told.messages == ["nobody reads stdout any more: no more events are written there, the rollout goes on"]


def test_a_reader_that_stands_still_holds_up_nobody(tmp_path, told):
    read, write = os.pipe()
    writer = Writer(Target("stdout", write), tell=told)
    began = time.monotonic()
    for _ in range(100):
        writer.put(b"x" * 10_000 + b"\n")
    assert time.monotonic() - began < 1
    assert writer.close(0.1) > 0, "it says how many lines are missing"
    os.close(read)
    eventually(lambda: told.messages)


def test_a_named_pipe_may_wait_for_its_reader(tmp_path, told):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = Writer(target(str(path)), tell=told)
    writer.put(LINE)
    with path.open("rb") as reader:
        assert reader.readline() == LINE
        assert writer.close(5) == 0


def test_a_named_pipe_that_nobody_ever_reads_is_left(tmp_path, told):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = Writer(target(str(path)), tell=told)
    writer.put(LINE)
    assert writer.close(0.05) == 1
    path.open("rb").close()


def test_a_device_without_room_is_told_once_and_tried_to_the_end(told):
    writer = Writer(target("/dev/full"), tell=told)
    for _ in range(3):
        writer.put(LINE)
    eventually(lambda: told.messages)
    assert writer.close(5) == 3
    assert told.messages == [
        "/dev/full cannot be written (No space left on device): tried again and again, the rollout goes on"
    ]


def test_a_full_disk_leaves_whole_lines_and_goes_on_when_there_is_room(tmp_path, told, monkeypatch):
    path = tmp_path / "events"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(LINE) * 2 + 4, limits[1]))
    try:
        writer = Writer(target(str(path)), tell=told)
        for _ in range(4):
            writer.put(LINE)
        eventually(lambda: told.messages)
        assert path.read_bytes() == LINE * 2, "never half a line"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert writer.close(5) == 0
    assert path.read_bytes() == LINE * 4
    assert told.messages == [
        f"{path} cannot be written (no room for a whole line): tried again and again, the rollout goes on"
    ]


# --- the whole command


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """A plan in a cloud in which everything takes no time; returns the plan's file."""
    monkeypatch.setenv("ROLLOUT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ROLLOUT_ACTOR", "ada")
    monkeypatch.delenv("ROLLOUT_STORE", raising=False)
    monkeypatch.setitem(memory._WORLDS, "default", World("default", durations=dict.fromkeys(DURATIONS, 0.0)))
    (tmp_path / "endpoint.yml").write_text("name: shop\n")
    for name in ("blue", "green"):
        (tmp_path / f"{name}.yml").write_text(f"name: {name}\ntags: {{side: {name}}}\nmodel: azureml:{name}:1\n")
    (tmp_path / "plan.yml").write_text(
        "provider: memory\nendpoint: {file: endpoint.yml}\nname: shop\n"
        "deployments: {blue: {file: blue.yml}, green: {file: green.yml}}\n"
        "steps: [{deploy: green}, {approve: ship it}, {promote: 100%}]\n"
    )
    return str(tmp_path / "plan.yml")


def history(capfd) -> str:
    assert main(["history", "--output", "ndjson"]) == 0
    return capfd.readouterr().out


def test_the_file_is_what_history_says(shop, tmp_path, capfd):
    path = tmp_path / "events.ndjson"
    assert main(["run", shop, "--exit-on-pause", "--events", str(path)]) == 4
    capfd.readouterr()
    assert path.read_text() == history(capfd)
    assert len(path.read_text().splitlines()) > 10
    again = tmp_path / "again.ndjson"
    assert main(["run", shop, "--events", str(path)]) == 2
    assert f"{path} exists and is not empty" in capfd.readouterr().err
    assert main(["resume", "--exit-on-pause", "--events", str(again)]) == 4
    capfd.readouterr()
    assert again.read_text() == history(capfd)
    assert again.read_text().startswith(path.read_text()), "from the first event of the rollout on"


def test_events_on_stdout_leave_it_to_them(shop, capfd):
    assert main(["run", shop, "--exit-on-pause", "--events", "-"]) == 4
    shown = capfd.readouterr()
    assert [json.loads(line)["seq"] for line in shown.out.splitlines()] == list(
        range(1, 1 + len(shown.out.splitlines()))
    )
    assert shown.out == history(capfd)
    assert "step 2: deploy green" in shown.err
    assert "left where a human is needed" in shown.err
    assert main(["run", shop, "--events", "-", "--output", "json"]) == 2
    assert "both want stdout" in capfd.readouterr().err


def test_a_disk_that_is_full_ends_no_rollout(shop, capfd):
    assert main(["run", shop, "--exit-on-pause", "--events", "/dev/full"]) == 4
    said = capfd.readouterr().err
    assert said.count("/dev/full cannot be written") == 1
    last = json.loads(history(capfd).splitlines()[-1])["seq"]
    assert f"/dev/full lacks the last {last} of {last} events: rollout history shop-" in said


def test_a_plan_that_is_wrong_leaves_an_empty_file(shop, tmp_path, capfd):
    Path(shop).write_text("nonsense: true\n")
    path = tmp_path / "events.ndjson"
    assert main(["run", shop, "--events", str(path)]) == 2
    assert path.read_bytes() == b""


# --- faces


class Pipe(io.StringIO):
    """A stream whose reader stands still until it is let go."""

    def __init__(self):
        super().__init__()
        self.go = threading.Event()

    def write(self, text):
        assert self.go.wait(30)
        return super().write(text)


def test_what_is_said_waits_for_no_reader(story):
    stream = Pipe()
    plain = PlainFace(Lines(stream))
    drawing = threading.Thread(target=plain.show, args=(None, story.events, 0))
    drawing.start()
    plain.say("stopping safely")
    plain.close()
    assert stream.getvalue() == ""
    stream.go.set()
    drawing.join(10)
    assert [line.split("  ")[-1].split(" ")[0] for line in stream.getvalue().splitlines()] == [
        "rollout",
        "driven",
        "stopping",
    ]


@pytest.mark.parametrize("stream", [None, "closed"])
def test_without_a_stdout_there_is_nothing_to_say(story, stream):
    if stream == "closed":
        stream = io.StringIO()
        stream.close()
    plain = PlainFace(Lines(stream))
    plain.show(None, story.events, 0)
    plain.say("done")
    plain.close()


def test_a_stream_without_unicode_gets_question_marks(story):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)
    Lines(stream).say("approve: 本番 ×2")
    assert stream.buffer.getvalue() == b"approve: ?? ?2\n"


def test_a_line_that_a_plan_made_up_moves_no_cursor(story):
    story.waiting("approval", "look\x1b[2Jthere", 60)
    stream = io.StringIO()
    PlainFace(Lines(stream)).show(None, story.events, 0)
    assert "look?[2Jthere" in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


class Gone(io.StringIO):
    """A terminal that was closed."""

    def isatty(self):
        return True

    def write(self, text):
        raise OSError(5, "Input/output error")


def test_a_terminal_that_was_closed_ends_no_rollout(story):
    console = Console(file=Gone(), force_terminal=True, width=80, height=24)
    screen = Screen(console, lambda view, width: "", UNICODE)
    shown = view(story.rollout, events=story.events, now=story.now)
    screen.show(shown, story.events, 0)
    screen.show(shown, story.events, 0)
    screen.say("stopping safely")
    screen.suspend()
    screen.close()


@pytest.mark.parametrize("variable", ["FORCE_COLOR", "TTY_COMPATIBLE"])
def test_a_pipe_gets_lines_whatever_the_environment_says(monkeypatch, capsys, variable):
    monkeypatch.setenv(variable, "1")
    assert isinstance(face(footer=lambda view, width: "", for_programs=False, environment={}), PlainFace)


@pytest.mark.parametrize(
    ("environment", "coerced", "plain"),
    [
        ({"LANG": "C"}, True, True),
        ({"LANG": "C", "LC_CTYPE": "C.UTF-8"}, True, True),  # Python's own doing
        ({"LANG": "C", "LC_CTYPE": "C.UTF-8"}, False, False),  # the user's
        ({"LANG": "POSIX", "LC_CTYPE": "C.UTF-8"}, True, True),
        ({"LC_ALL": "C", "LANG": "en_US.UTF-8"}, True, True),
        ({"LC_ALL": "en_US.UTF-8", "LANG": "C"}, False, False),
        ({"LC_CTYPE": "C", "LANG": "en_US.UTF-8"}, True, True),
        ({"LANG": "C.UTF-8"}, False, False),
        ({"LANG": "en_US.UTF-8", "LC_CTYPE": "C.UTF-8"}, True, False),  # a locale that is not installed
        ({"LANG": "", "LC_CTYPE": "C.UTF-8"}, True, False),
        ({}, True, False),
    ],
)
def test_a_locale_called_c_means_ascii(environment, coerced, plain):
    assert says_ascii(environment, coerced=coerced) is plain


def test_the_file_may_be_read_by_others_as_the_umask_says(tmp_path):
    before = os.umask(0o027)
    try:
        os.close(target(str(tmp_path / "events")).descriptor)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "events").stat().st_mode) == 0o640


# --- flags


@pytest.fixture
def asked(shop, monkeypatch):
    """What reached the use cases: (kind, everything given by name)."""
    seen = []

    def record(kind):
        async def use_case(app, *positional, **named):
            flags = next((given for given in positional if isinstance(given, Flags)), named.get("flags"))
            seen.append((kind, flags, named))
            raise Refused("not today")

        return use_case

    for name in ("run", "resume", "ask"):
        monkeypatch.setattr(use_cases, name, record(name))
    return seen


@pytest.mark.parametrize(
    ("words", "flags"),
    [
        (["run", "PLAN", "--var", "A=1", "--var", "B=x=y", "--var", "C="], Flags(vars={"A": "1", "B": "x=y", "C": ""})),
        (["run", "PLAN", "--advisory"], Flags(advisory=True)),
        (["resume", "--extend", "1h30m"], Flags(extend=5400.0)),
        (["resume", "--extend", "2h", "--take-back"], Flags(extend=7200.0, take_back=True)),
        (["resume"], Flags()),
    ],
)
def test_flags_reach_the_use_cases(shop, asked, words, flags):
    assert main([shop if word == "PLAN" else word for word in words]) == 2
    assert [found for _, found, _ in asked] == [flags]


def test_a_gate_that_is_set_aside_reaches_the_use_case_with_its_reason(asked):
    assert main(["approve", "--despite-gate", "latency", "--reason", "a batch job"]) == 2
    (_, _, named) = asked[0]
    assert (named["despite"], named["reason"]) == ("latency", "a batch job")


NO_PAIR = (
    "invalid value for --var: {} is not NAME=VALUE: write for example --var VERSION=7 (NAME of letters, digits and "
    "underscores, not beginning with a digit)"
)
NO_REASON = "--despite-gate latency demands a --reason: it is kept in the journal, for whoever asks why"
TWICE = "invalid value for --var: A is given twice, as '1' and as '2': give it once"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "PLAN", "--var", "VERSION"], NO_PAIR.format("'VERSION'")),
        (["run", "PLAN", "--var", "7=x"], NO_PAIR.format("'7=x'")),
        (["run", "PLAN", "--var", "=x"], NO_PAIR.format("'=x'")),
        (["run", "PLAN", "--var", "A=1", "--var", "A=2"], TWICE),
        (
            ["resume", "--extend", "1 week"],
            "invalid value for --extend: `1 week` is not a duration: write 30s, 10m, 1h30m or 2d",
        ),
        (["resume", "--extend", "0"], "invalid value for --extend: '0' adds nothing: write 30m or 2h"),
        (
            ["resume", "--extend", "2h", "--keep-theirs"],
            "--keep-theirs ends the rollout, so --extend adds nothing: give one",
        ),
        (["approve", "--despite-gate", "latency"], NO_REASON),
        (["approve", "--despite-gate", "latency", "--reason", " "], NO_REASON),
    ],
)
def test_a_flag_that_makes_no_sense_is_told_before_anything_begins(shop, asked, capsys, words, message):
    assert main([shop if word == "PLAN" else word for word in words]) == 2
    assert capsys.readouterr().err == f"rollout: {message} (see rollout {words[0]} --help)\n"
    assert asked == []
