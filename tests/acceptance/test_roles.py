"""One plan file for every version, on real processes: three rollouts in a row, the same plan twice, a wrong name."""

from typing import Any

import pytest

pytestmark = pytest.mark.needs("linux", "envoy")

PLAN = """
version: 1
endpoint: {file: endpoint.yml}
slots: [blue, green]
candidate: {file: "${var:VERSION}-deployment.yml"}
vars: {VERSION: blue}
load: {request: sample-request.json, rate: 150/s}
defaults: {hold: 1s, deadline: 60s, interval: 500ms, warm_up: 0s, min_requests: 50}
gates:
  errors: {metric: error_rate, max: 10%}
steps:
  - deploy: candidate
  - test: candidate
    request: sample-request.json
  - shadow: 20%
    gates: errors
  - canary: 30%
    gates: errors
  - promote: 100%
    gates: errors
  - delete: stable
"""


def test_three_versions_take_turns_in_two_slots(site: Any) -> None:
    (site.files / "release.yml").write_text(PLAN)
    told = site.rollout("run", "release.yml")
    assert "blue is the first version here" in told
    for version, serves, was in (("green", "green", "blue"), ("blue", "blue", "green")):
        preview = site.rollout("plan", "release.yml", "--var", f"VERSION={version}")
        assert f"candidate  {serves}" in preview
        assert f"stable     {was}" in preview
        assert "requests   150/s (the plan's own load)" in preview
        told = site.rollout("run", "release.yml", "--var", f"VERSION={version}")
        assert f"{serves} takes over from {was}" in told
        assert site.show()["traffic"] == {serves: 100}
        assert set(site.show()["deployments"]) == {serves}


def test_a_plan_that_was_carried_out_is_refused_the_second_time(site: Any) -> None:
    steps = "\n  - deploy: green\n  - promote: 100%\n    hold: 1s\n  - delete: blue\n"
    plan = site.plan(steps=steps)
    site.rollout("run", plan)
    again = site.rollout("run", plan, code=2)
    assert "green already serves 100% of the traffic, so there is nothing to roll out" in again
    assert len(site.query("SELECT id FROM rollouts")) == 1


def test_a_mistyped_endpoint_creates_nothing(site: Any) -> None:
    (site.files / "release.yml").write_text(PLAN.replace("{file: endpoint.yml}", "shpo"))
    told = site.rollout("run", "release.yml", code=2)
    assert "endpoint shpo does not exist, and the plan only names it" in told
    assert not (site.home / "local").exists()
    assert site.query("SELECT id FROM rollouts") == []


def test_every_mistake_is_told_at_once_where_it_stands(site: Any) -> None:
    wrong = PLAN.replace("deadline: 60s", "dedline: 60s").replace("max: 10%", "max: 10")
    (site.files / "release.yml").write_text(wrong)
    (site.files / "blue-deployment.yml").write_text("name: blue\ninstance_cuont: 2\n")
    told = site.rollout("validate", "release.yml", code=2).splitlines()
    assert [line.split(": ")[0] for line in told] == [
        "blue-deployment.yml:2:1",
        "release.yml:8:22",
        "release.yml:10:37",
        "rollout",
    ]
    assert told[-1] == "rollout: 3 mistakes in the plan or its files; nothing was changed"
