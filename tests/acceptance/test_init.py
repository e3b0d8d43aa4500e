"""The first minutes of a newcomer: `rollout init`, `rollout run plan.yml`, then a plan for what is there already."""

import json
from typing import Any

import pytest

pytestmark = [pytest.mark.needs("linux", "envoy"), pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def done(wide_site: Any) -> Any:
    """The first rollout of somebody who changed nothing."""
    site = wide_site
    site.rollout("init", "mine", "--name", site.endpoint)
    site.rollout("validate", "mine/plan.yml")
    site.first = site.start("run", "mine/plan.yml").ends(0, 240)
    return site


def test_what_init_writes_runs_to_its_end_with_traffic_of_its_own(done: Any) -> None:
    assert f"succeeded: {done.endpoint} now serves green 100%" in done.first
    steps = ("bootstrap blue", "test green", "shadow 10%", "canary 10%", "canary 50%", "promote 100%", "delete blue")
    places = [done.first.index(step) for step in steps]
    assert places == sorted(places)
    assert done.first.count("all 2 gates passed") >= 4
    answer = json.loads(done.rollout("endpoint", "invoke", done.endpoint, "--request", "mine/sample-request.json"))
    assert answer == {"predictions": [7.25, 1.0]}, "of model 2"


def test_a_plan_for_that_endpoint_cannot_harm_it_before_it_is_filled_in(done: Any) -> None:
    told = done.rollout("init", "next", "--from-endpoint", done.endpoint)
    assert "wrote  deployment.yml" in told
    text = (done.files / "next" / "plan.yml").read_text()
    assert "green   100% of the traffic, 1 of 1 instances healthy" in text
    done.rollout("validate", "next/plan.yml")
    planned = json.loads(done.rollout("plan", "next/plan.yml", "--output", "json"))
    assert (planned["candidate"], planned["stable"]) == ("blue", "green")

    ended = done.rollout("run", "next/plan.yml", code=1)
    assert "score.py is not filled in yet" in ended
    assert done.show()["traffic"] == {"green": 100}
    assert list(done.show()["deployments"]) == ["green"]


def test_filled_in_it_is_a_rollout(done: Any) -> None:
    """The same model again, on nearly the same plan: shorter, and with requests that the endpoint has not yet."""
    folder = done.files / "next"
    if not folder.exists():
        done.rollout("init", "next", "--from-endpoint", done.endpoint)
    for file in ("onlinescoring/score.py", "sample-request.json"):
        (folder / file).write_text((done.files / "mine" / file).read_text())
    (folder / "model" / "model.json").write_text((done.files / "mine" / "model-1" / "model.json").read_text())
    text = (folder / "plan.yml").read_text()
    steps = "steps:\n  - deploy: candidate\n  - test: candidate\n    request: sample-request.json\n"
    (folder / "plan.yml").write_text(text[: text.index("steps:")] + steps + "  - promote: 100%\n  - delete: stable\n")
    done.rollout("run", "next/plan.yml")
    assert done.show()["traffic"] == {"blue": 100}
