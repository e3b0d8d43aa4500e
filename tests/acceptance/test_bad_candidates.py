"""Bad candidates: each is stopped, blue gets everything back, and somebody can read why.

The plans are those of the quickstart; only the shares are larger and the waits shorter, so that it is over sooner.
"""

import math
import re
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.needs("linux", "envoy")

# plan -> the step that stops it, and what the reason and the log say.
BAD = {
    "plan-errors.yml": (
        "shadow 25%",
        r"gate errors: green \d+(\.\d+)?% errors against blue 0%.* -> FAIL",
        "no rule for this input",
    ),
    "plan-slow.yml": ("shadow 25%", r"gate latency: green p95 .*against blue.* -> FAIL", None),
    "plan-differs.yml": ("shadow 25%", r"gate answers: green answered otherwise in \d+(\.\d+)?% of .* -> FAIL", None),
    "plan-crashes.yml": ("deploy green", r"unknown format 3", "unknown format 3"),
    "plan-hangs.yml": ("deploy green", r"deploy green was not done within 4s", "waiting for the feature store"),
    "plan-errors-live.yml": (
        "canary 25%",
        r"gate errors: green \d+(\.\d+)?% errors against blue 0%.* -> FAIL",
        "no rule for this input",
    ),
}


@pytest.mark.parametrize("plan", BAD)
def test_a_bad_candidate_is_rolled_back(site: Any, story: Any, sigmas: float, plan: str) -> None:
    step, reason, logged = BAD[plan]
    _shorten(site.files / plan)
    run = site.start("run", plan)
    with site.clients(rate=240) as clients:
        output = run.ends(1)
        ended = clients.answers[-1].answered
        site.wait("answers after the rollback", lambda: clients.answers[-1].answered > ended + 0.3)

    events = story(site.journal())
    began = next(event for event in events if event["kind"] == "rollback_began")
    assert began["where"] == step
    assert re.search(reason, began["reason"], re.DOTALL), began["reason"]
    assert re.search(reason, output, re.DOTALL), output
    assert re.search(reason, site.rollout("explain"), re.DOTALL)

    status = site.status()
    assert status["phase"] == "rolled_back"
    assert re.search(reason, status["reason"], re.DOTALL)
    assert status["traffic"] == {"blue": 100}
    shown = site.show()
    assert (shown["traffic"], shown["mirror"], list(shown["deployments"])) == ({"blue": 100}, {}, ["blue"])
    assert shown["rollout"] is None
    assert site.instances("green") == []

    kept = Path(status["logs"])
    assert kept.is_dir()
    assert list(kept.rglob("instance-*.log"))
    if logged is not None:
        assert logged in site.rollout("endpoint", "logs", site.endpoint, "--deployment", "green")
        assert any(logged in path.read_text() for path in kept.rglob("*.log"))

    _check_clients(clients, events, step, sigmas)


def _check_clients(clients: Any, events: list[dict[str, Any]], step: str, sigmas: float) -> None:
    """Only a canary is felt by clients, and only as far as its share goes."""
    if not step.startswith("canary"):
        assert clients.bad == []
        assert {answer.deployment for answer in clients.answers} == {"blue"}
        return
    assert {answer.status for answer in clients.bad} == {500}
    assert {answer.deployment for answer in clients.bad} == {"green"}
    reached = next(event["at"] for event in events if event["kind"] == "reached" and event["where"] == step)
    began = next(event["at"] for event in events if event["kind"] == "rollback_began")
    restored = next(event["at"] for event in events if event["kind"] == "ended" and event["at"] > began)
    seen = clients.between(reached, began)
    green = sum(number for (_, who), number in seen.items() if who == "green")
    total = seen.total()
    assert abs(green / total - 0.25) < sigmas * math.sqrt(0.25 * 0.75 / total), seen
    # Exactly every tenth request that reaches this candidate fails; ours are a part of them or all.
    assert seen[500, "green"] <= green * 0.1 + sigmas * math.sqrt(green * 0.1 * 0.9) + 1
    assert all(answer.status == 200 for answer in clients.answers if answer.asked > restored)


def _shorten(path: Path) -> None:
    text = path.read_text()
    for old, new in (
        (r"\bload: .*\n", ""),
        (r"(shadow|canary): 10%", r"\1: 25%"),
        (r"warm_up: 2s", "warm_up: 0s"),
        (r"interval: 1s", "interval: 500ms"),
        (r"deadline: 10s", "deadline: 4s"),
    ):
        text = re.sub(old, new, text)
    path.write_text(text)
