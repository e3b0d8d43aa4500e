"""What `load` at the top of a plan does: it is sent by a process of its own, so it is shown on a real endpoint."""

from typing import Any

import pytest

pytestmark = pytest.mark.needs("linux", "envoy")

PLAN = """
version: 1
endpoint: {file: endpoint.yml}
deployments: {blue: {file: blue-deployment.yml}, green: {file: green-deployment.yml}}
gates: {errors: {metric: error_rate, max: 20%, blame: off, min_requests: 30, warm_up: 0s, interval: 500ms}}
on_no_data: rollback
on_undecided: rollback
steps:
  - deploy: green
  - canary: 50%
    gates: errors
    hold: 2s
    deadline: 20s
  - approve: go back?
    timeout: 1ms
"""


def ran(site: Any, load: str, deadline: str = "20s") -> tuple[str, int]:
    """Run the plan with this load; why it went back, and how many requests of the candidate were judged."""
    before = len(site.query("SELECT id FROM rollouts")) if (site.home / "rollouts.db").exists() else 0
    (site.files / "loaded.yml").write_text(PLAN.replace("deadline: 20s", f"deadline: {deadline}") + load)
    site.rollout("run", "loaded.yml", code=1)
    assert len(site.query("SELECT id FROM rollouts")) == before + 1
    measured = [event for event in site.journal() if event["kind"] == "measured"]
    return site.status()["reason"], measured[-1]["judgement"]["verdicts"][0]["candidate"]["requests"]


def test_every_field_of_load(site: Any) -> None:
    nothing, none = ran(site, "", deadline="3s")
    assert "canary 50%: no data within 3s" in nothing
    assert none == 0

    good, few = ran(site, "load: {request: sample-request.json, rate: 30/s}\n")
    better, many = ran(site, "load: {request: sample-request.json, rate: 150/s}\n")
    assert good == better == "nobody approved within 1ms: go back?", "the gate has passed"
    # Half of two or three seconds at 30 and at 150 a second; the first have to wait for thirty.
    assert 30 <= few < 90
    assert 110 < many < 350

    bad, _ = ran(site, 'load: {request: {body: "{}"}, rate: 150/s}\n')
    assert "canary 50%: gate errors: green 100% errors" in bad, "the model cannot read that"

    # `until: end` is all that could be said: nobody sends any more, and nothing else is allowed.
    assert site.processes("load_child") == {}
    (site.files / "loaded.yml").write_text(PLAN + "load: {request: sample-request.json, rate: 150/s, until: 10m}\n")
    assert "until" in site.rollout("validate", "loaded.yml", code=2)
