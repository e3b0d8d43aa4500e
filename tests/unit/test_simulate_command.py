"""`rollout simulate` as it is typed: its answer, its mistakes, its picture, its interruption."""

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from orchestrator.cli.main import main
from orchestrator.simulate import given
from orchestrator.simulate.latency import Measured
from providers.measurement import Cursor, Histogram, Leg, Measurement

PLAN = """\
version: 1
name: shop
provider: memory
endpoint: shop
deployments:
  blue: {name: blue, endpoint_name: shop}
  green: {name: green, endpoint_name: shop}
gates:
  errors: {metric: error_rate, max: 5%, max_ratio: 2, max_increase: 1%}
  latency: {metric: latency, max: 500ms, max_ratio: 1.5}
steps:
  - deploy: green
  - shadow: 20%
    gates: [errors, latency]
    hold: 1m
    deadline: 5m
  - canary: 20%
    gates: [errors, latency]
    hold: 1m
    deadline: 5m
  - promote: 100%
    gates: [errors]
"""
QUICK = ["--rollouts", "40", "--no-smallest", "--traffic", "60/s"]


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ROLLOUT_HOME", str(tmp_path / "home"))
    (tmp_path / "plan.yml").write_text(PLAN)
    return tmp_path / "plan.yml"


def test_the_table_for_people(plan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "plan.yml", *QUICK, "--errors", "1%", "--regression", "mine=errors 40%"]) == 0
    said = capsys.readouterr()
    assert said.err == "", "no bar where stderr is no terminal"
    assert "requests 60/s (as given), errors 1% (as given), p95 300 ms (assumed)" in said.out
    assert re.search(r"^  no change +0\.0% \(0\.0-8\.8%\) +\d+\.\d%", said.out, re.MULTILINE)
    assert re.search(r"^  mine +100\.0% ", said.out, re.MULTILINE)
    assert "deploy green" in said.out
    assert not (plan.parent / "home").exists(), "nothing is opened, nothing is made"


def test_the_same_for_programs_and_with_the_same_seed(plan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answers = []
    for _ in range(2):
        assert main(["simulate", "plan.yml", *QUICK, "--output", "json", "--seed", "7"]) == 0
        answers.append(json.loads(capsys.readouterr().out))
    assert answers[0] == answers[1]
    found = answers[0]
    assert found["complete"]
    assert {row["rollouts"] for row in found["rows"]} == {40}
    for row in found["rows"]:
        counts = [row[how]["count"] for how in ("stopped", "through", "undecided", "no_data")]
        assert sum(counts) == 40, row
        assert sum(each["rollouts"] for each in row["stopped_by"]) == row["stopped"]["count"]
    assert any(row["harmless"] for row in found["rows"])
    crash = next(row for row in found["rows"] if row["name"].startswith("crash"))
    assert crash["stopped"]["share"] == 1


def test_only_what_was_asked_for_and_the_smallest(plan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["simulate", "plan.yml", "--traffic", "60/s", "--rollouts", "30", "--only", "--output", "json"]
    assert main([*asked, "--regression", "a=latency x3", "--regression", "b=errors+0.1%"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(row["name"], row["harmless"]) for row in found["rows"]] == [("a", False), ("b", True)]
    assert [each["kind"] for each in found["smallest"]] == ["errors", "latency"]
    for each in found["smallest"]:
        assert each["caught"]["stopped"]["share"] >= 0.9 > each["missed"]["stopped"]["share"]
        assert each["caught"]["size"] > each["missed"]["size"]


@pytest.mark.parametrize("name", ["picture.svg", "picture.html"])
def test_a_picture_without_anything_from_elsewhere(plan: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["simulate", "plan.yml", *QUICK, "--only", "--regression", "a<b>&c=errors 50%", "--picture", name]
    for _ in range(2):
        assert main(line) == 0, "its own picture is replaced"
    assert f"the picture is in {name}" in capsys.readouterr().out
    text = (plan.parent / name).read_text()
    assert "a<b>" not in text
    assert not re.search(r'(?:src|href)="(?!data:)|url\(', text)
    if name.endswith(".svg"):
        root = ET.fromstring(text)
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert "a<b>&c" in [each.text for each in root.iter("{http://www.w3.org/2000/svg}text")]
    (plan.parent / name).write_text("mine")
    assert main(line) == 2
    assert (plan.parent / name).read_text() == "mine"
    assert main([*line, "--force"]) == 0


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ([], "how many requests the endpoint gets is not known"),
        (["--traffic", "many"], "a frequency"),
        (["--traffic", "1/s", "--errors", "1"], "a rate"),
        (["--traffic", "1/s", "--latency", "1"], "a latency"),
        (["--traffic", "1/s", "--sigma", "0"], "--sigma"),
        (["--traffic", "1/s", "--regression", "errors+1%"], "is not NAME=CHANGE"),
        (["--traffic", "1/s", "--only"], "give --regression"),
        (["--traffic", "1/s", "--picture", "x.png"], "ends in .svg or .html"),
        (["--traffic", "1/s", "--rollouts", "0"], "--rollouts"),
        (["--baseline", "nothing.yml"], "there is no such file"),
        (["--baseline", "endpoint"], "does not exist"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    plan: Path, line: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["simulate", "plan.yml", *line]) == 2
    said = capsys.readouterr()
    assert sentence in said.err
    assert said.out == ""
    assert "Traceback" not in said.err


def test_a_plan_without_gates_or_with_mistakes_is_refused(plan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan.write_text(PLAN[: PLAN.index("gates:")] + "steps:\n  - deploy: green\n  - canary: 5%\n")
    assert main(["simulate", "plan.yml", *QUICK]) == 2
    assert "has no step with gates" in capsys.readouterr().err
    plan.write_text(PLAN.replace("canary:", "canery:"))
    assert main(["simulate", "plan.yml", *QUICK]) == 2
    assert "canery" in capsys.readouterr().err


# --- the traffic ------------------------------------------------------------------------------------


def test_a_file_says_what_flags_do_not(plan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (plan.parent / "known.yml").write_text(
        "traffic: 600/m\nerrors: 2%\nhistogram: [[10000, 20000, 90], [20000, 40000, 10]]\nclusters: 2\n"
    )
    line = ["simulate", "plan.yml", "--baseline", "known.yml", "--rollouts", "5", "--no-smallest", "--output", "json"]
    assert main([*line, "--errors", "3%"]) == 0
    found = json.loads(capsys.readouterr().out)["baseline"]
    assert (found["requests_per_second"], found["errors"], found["clusters"]) == (10.0, 0.03, 2.0)
    assert 20_000 < found["p95_us"] < 40_000
    assert found["sources"]["errors"] == "as given"
    assert found["sources"]["p95"] == "from known.yml"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("trafic: 1/s\n", "known.yml:1:1"),
        ("traffic: 1/s\nlatency: 1s\nhistogram: [[1, 2, 3]]\n", "one or the other"),
        ("traffic: 1/s\nhistogram: [[2, 1, 3]]\n", "overlap or run backwards"),
        ("traffic: 1/s\nhistogram: []\n", "is empty"),
        ("traffic: 1/s\nclusters: 0\n", "clusters"),
    ],
)
def test_a_file_that_is_wrong_is_told_with_its_line(
    plan: Path, text: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (plan.parent / "known.yml").write_text(text)
    assert main(["simulate", "plan.yml", "--baseline", "known.yml"]) == 2
    assert sentence in capsys.readouterr().err


def test_measurements_say_what_stable_does() -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    blue = Histogram(((10_000, 20_000, 380), (20_000, 30_000, 19)), 1)

    def of(*legs: Leg, lost: bool = False) -> Measurement:
        return Measurement(at, at + timedelta(seconds=10), legs, Cursor("", at), lost=lost)

    known = given.measured(
        [
            of(
                Leg("blue", "live", 400, {"200": 390, "503": 10}, blue),
                Leg("green", "live", 100, {"500": 100}),
                Leg("green", "mirror", 900, {"500": 900}),
            ),
            of(lost=True),
            of(Leg("blue", "live", 0, {})),
        ],
        "blue",
        "measured now",
    )
    assert (known.rate, known.errors) == (25.0, 0.025)
    assert isinstance(known.latencies, Measured)
    assert known.latencies.above(20_000) == pytest.approx(19 / 399)
    assert given.measured([], "blue", "").rate is None
    few = given.measured([of(Leg("blue", "live", 20, {"500": 20}))], "blue", "")
    assert (few.rate, few.errors) == (2.0, None), "twenty requests are too few for a rate of errors"


# --- the process ------------------------------------------------------------------------------------


def test_ctrl_c_ends_it_within_a_second_and_shows_what_is_done(plan: Path) -> None:
    asked = [sys.executable, "-m", "orchestrator.cli.main", "simulate", "plan.yml", "--traffic", "60/s", "--only"]
    asked += ["--regression", "long=errors 90%", "--regression", "longer=errors 4%", "--rollouts", "1000000"]
    process = subprocess.Popen(
        asked, cwd=plan.parent, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | {"NO_COLOR": "1"}
    )
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and "numpy" not in Path(f"/proc/{process.pid}/maps").read_text():
            assert process.poll() is None
            time.sleep(0.05)
        time.sleep(1.0)  # somewhere in the middle of it
        process.send_signal(signal.SIGINT)
        begun = time.monotonic()
        out, err = process.communicate(timeout=20)
        took = time.monotonic() - begun
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    assert process.returncode == 130, err
    assert took < 5, "a second, on a machine that is busy with other tests"
    assert b"interrupted: " in err
    assert re.search(rb"0 of 2 rows were simulated(, and [0-9,]+ of 1,000,000 rollouts of long)?\n", err), err
    assert b"Traceback" not in err
    assert b"on simulated traffic" in out


def test_a_bar_goes_to_a_terminal_on_stderr_and_nowhere_else(plan: Path) -> None:
    ours, theirs = pty.openpty()
    asked = [sys.executable, "-m", "orchestrator.cli.main", "simulate", "plan.yml", *QUICK, "--output", "json"]
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": "120"}
    process = subprocess.Popen(asked, cwd=plan.parent, stdout=subprocess.PIPE, stderr=theirs, env=environment)
    os.close(theirs)
    shown = b""
    try:
        with contextlib.suppress(OSError):  # EIO: the last one who held the other end has closed it
            while data := os.read(ours, 65536):
                shown += data
        out, _ = process.communicate(timeout=60)
    finally:
        os.close(ours)
        if process.poll() is None:
            process.kill()
            process.wait()
    assert process.returncode == 0
    json.loads(out)
    assert re.search(rb"(\d+)/\1\D", shown), shown


ROLES = """\
version: 1
name: roles
provider:
  name: memory
  world: simulated
  rate: 600
  durations: {put_endpoint: 0, put_deployment: 0, scale: 0, delete_deployment: 0}
endpoint: {file: endpoint.yml}
slots: [blue, green]
candidate: {endpoint_name: simulated-endpoint}
gates:
  errors: {metric: error_rate, max: 10%, interval: 100ms, warm_up: 0s, min_requests: 20}
steps:
  - deploy: candidate
  - canary: 20%
    gates: [errors]
    hold: 500ms
    deadline: 20s
  - promote: 100%
    gates: [errors]
"""


def test_the_endpoints_own_traffic_is_looked_at_or_remembered(
    plan: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan.write_text(ROLES)
    (plan.parent / "endpoint.yml").write_text("name: simulated-endpoint\n")
    line = ["simulate", "plan.yml", "--baseline", "endpoint", "--rollouts", "5", "--no-smallest", "--only"]
    line += ["--regression", "bad=errors 50%", "--output", "json"]
    monkeypatch.setattr("orchestrator.simulate.endpoint.A_LOOK", 0.5)

    def known() -> dict:
        assert main(line) == 0
        found = json.loads(capsys.readouterr().out)["baseline"]
        assert found["requests_per_second"] == pytest.approx(600, rel=0.1)
        assert found["sources"]["requests"] == found["sources"]["errors"] == found["sources"]["p95"]
        return found["sources"]

    assert main(["run", "plan.yml", "--output", "json"]) == 0, "the first version: it is given everything"
    monkeypatch.setattr("orchestrator.simulate.endpoint.AN_HOUR", timedelta())
    capsys.readouterr()
    assert known()["requests"] == "measured just now"
    monkeypatch.undo()
    monkeypatch.chdir(plan.parent)
    monkeypatch.setenv("ROLLOUT_HOME", str(plan.parent / "home"))
    assert main(["run", "plan.yml", "--output", "json"]) == 0
    capsys.readouterr()
    assert known()["requests"] == "measured by rollouts in the last hour"
