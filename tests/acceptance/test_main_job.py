"""The main job: the quickstart's plan, from nothing to green alone, under the eyes of a steady second client.

One rollout, looked at from all sides. The plan is the quickstart's own with shorter waits; a secret goes through it.
"""

import json
import math
import os
import stat
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.needs("linux", "envoy")

CANARY = "c4n4ry-7f3d90be51"
FIELDS = {
    *("id", "name", "bundle_sha256", "phase", "waiting", "reason", "step", "steps", "traffic", "mirror", "gates"),
    *("epoch", "started_at", "updated_at"),
}


@dataclass
class Done:
    """The rollout after its end: what was seen on the way."""

    site: Any
    output: str
    clients: Any
    listing: str
    status: dict[str, Any]
    secret: dict[str, Any]


@pytest.fixture(scope="module")
def done(wide_site: Any) -> Done:
    site = wide_site
    site.more = {"CANARY": CANARY}
    site.edit("plan.yml", hold="2s", warm_up="1s")
    path = site.files / "green-deployment.yml"
    path.write_text(
        path.read_text().replace("environment_variables:\n", "environment_variables:\n  TOKEN: ${env:CANARY}\n")
    )
    score = site.files / "onlinescoring" / "score.py"
    text = score.read_text()
    score.write_text(text.replace("    return {\n", '    return {\n        "token": os.environ.get("TOKEN", ""),\n', 1))
    run = site.start("run", "plan.yml")
    with site.clients(rate=200) as clients:
        site.reaches("reached", "canary 10%")
        status = site.status()
        listing = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
        request = ("--deployment", "green", "--request", "sample-request.json")
        secret = json.loads(site.rollout("endpoint", "invoke", site.endpoint, *request))
        output = run.ends(0, 110)
    return Done(site, output, clients, listing, status, secret)


def test_the_plan_of_the_quickstart_succeeds(done: Done) -> None:
    site = done.site
    assert "succeeded: shop now serves green 100%" in done.output
    shown = site.show()
    assert shown["traffic"] == {"green": 100}
    assert shown["mirror"] == {}
    assert list(shown["deployments"]) == ["green"]
    assert shown["claim"] is None
    assert shown["rollout"] is None
    assert site.instances("blue") == []
    assert len(site.instances("green")) == 2


def test_history_tells_the_story(done: Done, story: Any) -> None:
    told = done.site.rollout("history")
    steps = [
        *("bootstrap blue", "deploy green", "test green", "shadow 10%", "canary 10%", "promote 100%", "delete blue"),
    ]
    places = [told.index(f"step {number}: {name}") for number, name in enumerate(steps, 1)]
    assert places == sorted(places)
    assert "green answered 200" in told
    assert "all 2 gates passed" in told
    assert "from here there is no way back" in told
    assert told.rstrip().endswith("succeeded: shop now serves green 100%")
    whole = [json.loads(line) for line in done.site.rollout("history", "--output", "ndjson").splitlines()]
    assert [event["seq"] for event in whole] == list(range(1, len(whole) + 1))
    assert [event["kind"] for event in story(done.site.journal())] == [event["body"]["kind"] for event in whole]


def test_status_is_complete_for_programs(done: Done) -> None:
    during, after = done.status, done.site.status()
    for status in (during, after):
        assert status.keys() >= FIELDS
        assert status["step"].keys() >= {"index", "name", "state"}
        assert len(status["steps"]) == 7
    assert (during["phase"], during["traffic"], during["mirror"]) == ("running", {"blue": 90, "green": 10}, {})
    assert (during["step"]["index"], during["step"]["name"], during["step"]["state"]) == (5, "canary 10%", "running")
    assert [step["state"] for step in during["steps"]] == ["passed"] * 4 + ["running"] + ["waiting"] * 2
    assert (after["phase"], after["traffic"], after["mirror"]) == ("succeeded", {"green": 100}, {})
    assert [step["state"] for step in after["steps"]] == ["passed"] * 7
    shadow = {gate["name"]: gate for gate in after["steps"][3]["gates"]}
    assert shadow.keys() == {"errors", "latency"}
    for gate in shadow.values():
        assert gate.keys() >= {
            "name",
            "verdict",
            "reason",
            "candidate",
            "stable",
            "log_evidence_fail",
            "log_evidence_pass",
        }
        assert gate["verdict"] == "PASS"
        for side in ("candidate", "stable"):
            assert gate[side].keys() >= {"requests", "bad", "rate"}
        assert gate["candidate"]["requests"] >= 100
    assert shadow["latency"]["candidate"]["quantile_us"] > 0
    assert shadow["latency"]["stable"]["quantile_us"] > 0


def test_a_second_run_says_that_green_already_serves(done: Done) -> None:
    told = done.site.rollout("run", "plan.yml", code=2)
    assert "green" in told
    assert "serve" in told
    assert "Traceback" not in told


def test_no_client_saw_a_failure(done: Done) -> None:
    assert len(done.clients.answers) > 1000
    assert done.clients.bad == []
    assert {answer.deployment for answer in done.clients.answers} == {"blue", "green"}


def test_the_split_is_as_asked(done: Done, story: Any, sigmas: float) -> None:
    events = story(done.site.journal())
    start = next(event["at"] for event in events if event["kind"] == "reached" and event["where"] == "canary 10%")
    end = next(event["at"] for event in events if event["kind"] == "intended" and event["where"] == "promote 100%")
    seen = done.clients.between(start, end)
    total = seen.total()
    assert total > 300
    share = seen[200, "green"] / total
    assert abs(share - 0.1) < sigmas * math.sqrt(0.1 * 0.9 / total), seen


def test_the_mirror_is_as_asked_and_nobody_sees_it(done: Done, story: Any, sigmas: float) -> None:
    counts: Counter[tuple[str, str]] = Counter()
    rows = done.site.query("SELECT body FROM measurements WHERE stage = 3 ORDER BY seq")
    for (body,) in rows:
        for leg in json.loads(body)["legs"]:
            counts[leg["deployment"], leg["source"]] += leg["requests"]
    total = counts["blue", "live"]
    assert total > 500
    share = counts["green", "mirror"] / total
    assert abs(share - 0.1) < sigmas * math.sqrt(0.1 * 0.9 / total), counts
    events = story(done.site.journal())
    start = next(event["at"] for event in events if event["kind"] == "reached" and event["where"] == "shadow 10%")
    end = next(event["at"] for event in events if event["kind"] == "leaving" and event["where"] == "shadow 10%")
    assert set(done.clients.between(start, end)) == {(200, "blue")}


def test_a_secret_reaches_the_instance_and_nothing_else(done: Done) -> None:
    assert done.secret["token"] == CANARY
    assert CANARY not in done.listing
    assert CANARY not in done.output
    assert CANARY not in json.dumps(done.status)
    assert CANARY not in done.site.rollout("history", "--output", "json")
    assert "${env:CANARY}" in done.site.query("SELECT body FROM bundles")[0][0], "the reference itself is pinned"
    holding = [path for path in _files(done.site.home) if CANARY.encode() in path.read_bytes()]
    assert {path.parent.name for path in holding} == {"procs"}, holding
    assert {stat.S_IMODE(path.stat().st_mode) for path in holding} == {0o600}


def _files(folder: Path) -> list[Path]:
    found = [Path(where) / name for where, _, names in os.walk(folder) for name in names]
    assert any(path.name == "rollouts.db" for path in found)
    return [path for path in found if path.is_file()]
