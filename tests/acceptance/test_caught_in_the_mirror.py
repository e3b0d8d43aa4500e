"""Small regressions, each caught from mirrored traffic alone: no client ever gets an answer of the candidate.

A fifth slower, one error in a hundred, another answer to one request in twenty: what pairs of the same request show
soon. The same gates let through a candidate that is as good as what serves.
"""

import re
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.needs("linux", "envoy")

PLAN = """
version: 1
name: mirror
endpoint: {file: endpoint.yml}
deployments:
  blue: {file: blue-deployment.yml}
  green: {file: green-deployment.yml}
gates:
  GATES
on_undecided: rollback
on_no_data: rollback
steps:
  - deploy: green
    deadline: 30s
  - shadow: 50%
    gates: [NAMES]
    interval: 500ms
    deadline: 90s
  - promote: 100%
"""
SLOWER = "slower: {metric: slowdown, max_ratio: 1.1, warm_up: 1s}"
ERRORS = "errors: {metric: error_rate, max_increase: 0.2%, warm_up: 1s}"
ANSWERS = "answers: {metric: prediction, max: 1%, path: predictions.0, tolerance: 0.001, examples: 3, warm_up: 1s}"
MISSING = "missing: {metric: missing_pairs, max: 2%, warm_up: 1s}"

# Takes a while without work, so that the machine's cores are nobody's bottleneck.
SLEEPS = """
import time
import score
from score import init as init
def run(raw_data):
    time.sleep(SECONDS)
    return score.run(raw_data)
"""
FAILS = """
import itertools
import score
from score import init as init
requests = itertools.count(1)
def run(raw_data):
    if next(requests) % 100 == 0:
        raise RuntimeError("no rule for this input")
    return score.run(raw_data)
"""
DIFFERS = """
import itertools
import score
from score import init as init
requests = itertools.count(1)
def run(raw_data):
    answer = score.run(raw_data)
    if next(requests) % 20 == 0:
        answer["predictions"] = [value + 7.0 for value in answer["predictions"]]
    return answer
"""

# name -> (gate, blue's script, green's script, requests a second, what is said)
BAD = {
    "a fifth slower": (
        SLOWER,
        SLEEPS.replace("SECONDS", "0.060"),
        SLEEPS.replace("SECONDS", "0.072"),
        12,
        r"gate slower: green took more than 1\.1x as long as its twin in \d+(\.\d+)?% of \d+ pairs: .* -> FAIL",
    ),
    "one error in a hundred": (
        ERRORS,
        None,
        FAILS,
        240,
        r"gate errors: green \d\.\d+% errors against blue 0% over .* -> FAIL",
    ),
    "another answer to one in twenty": (
        ANSWERS,
        None,
        DIFFERS,
        120,
        r"gate answers: green answered otherwise in \d+(\.\d+)?% of \d+ pairs: beyond the bound of 1% -> FAIL",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_it_is_caught_before_any_user_sees_it(site: Any, story: Any, case: str) -> None:
    gate, blue, green, rate, reason = BAD[case]
    _scripts(site.files, blue, green)
    # So that no live request waits in line behind another: blue gets twice what green gets.
    site.edit("blue-deployment.yml", instance_count="2")
    run = site.start("run", _plan(site.files, gate))
    with site.clients(rate=rate) as clients:
        output = run.ends(1, seconds=150)

    assert re.search(reason, output, re.DOTALL), output
    began = next(event for event in story(site.journal()) if event["kind"] == "rollback_began")
    assert began["where"] == "shadow 50%"
    assert clients.bad == []
    assert {answer.deployment for answer in clients.answers} == {"blue"}
    if gate == ANSWERS:
        notes = [note for step in site.status()["steps"] for each in step["gates"] for note in each["notes"]]
        assert any("predictions.0: numbers differ by 7" in note for note in notes), notes


def test_as_good_a_candidate_is_let_through(site: Any, story: Any) -> None:
    _scripts(site.files, None, None)
    run = site.start("run", _plan(site.files, ERRORS, ANSWERS, MISSING))
    with site.clients(rate=240) as clients:
        output = run.ends(0, seconds=150)

    ended = next(
        event for event in story(site.journal()) if event["kind"] == "stage_ended" and event["where"] == "shadow 50%"
    )
    assert ended["reason"] == "all 3 gates passed", output
    assert clients.bad == []


def _plan(files: Path, *gates: str) -> str:
    names = ", ".join(gate.partition(":")[0] for gate in gates)
    (files / "plan-mirror.yml").write_text(PLAN.replace("GATES", "\n  ".join(gates)).replace("NAMES", names))
    return "plan-mirror.yml"


def _scripts(files: Path, blue: str | None, green: str | None) -> None:
    # The same model on both sides: what differs is what a test says differs.
    green_file = files / "green-deployment.yml"
    green_file.write_text(green_file.read_text().replace("model-2/", "model-1/"))
    for name, script in (("blue", blue), ("green", green)):
        if script is None:
            continue
        (files / "onlinescoring" / f"score_{name}.py").write_text(script)
        path = files / f"{name}-deployment.yml"
        path.write_text(re.sub(r"scoring_script: \S+", f"scoring_script: score_{name}.py", path.read_text()))
