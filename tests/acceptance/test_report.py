"""Reports and diagrams of real rollouts: what they tell is what the store and the endpoint say."""

import html
import json
import re
from typing import Any

import pytest

pytestmark = pytest.mark.needs("linux", "envoy")

EXPOSED = """
  - deploy: green
    deadline: 30s
  - canary: 20%
    gates: [errors]
    hold: 3m
    deadline: 10m
"""


def test_a_report_tells_what_the_store_knows_and_no_key(site: Any) -> None:
    driver = site.start("run", site.plan())
    with site.clients(rate=200):
        driver.ends(0)
    told = json.loads(site.rollout("report", "--file", "report.html", "--output", "json"))
    status, path = site.status(), site.files / "report.html"
    assert told == {"id": status["id"], "format": "html", "file": "report.html", "bytes": path.stat().st_size}
    page = path.read_text("utf-8")
    text = html.unescape(page)
    assert "default-src 'none'" in text
    assert "<script" not in page
    gates = [gate for step in status["steps"] for gate in step["gates"]]
    assert [gate["verdict"] for gate in gates] == ["PASS"] * 3
    for gate in gates:
        assert gate["reason"].removesuffix(" -> PASS") in text
        assert f"{gate['candidate']['requests']:,}" in text
    # One chart of figures and one of evidence a gate, each with a hover text for every poll that was stored.
    assert page.count('role="img" aria-labelledby') == 6
    ((stored,),) = site.query("SELECT count(*) FROM measurements")
    assert page.count('<g class="hit">') == 2 * stored
    markdown = site.rollout("report")
    for word in (status["id"], status["bundle_sha256"], "from here there was no way back", "| delete blue |"):
        assert word in markdown
    keys = json.loads((site.directory / "keys.json").read_text())
    secrets = [value for value in keys.values() if isinstance(value, str)]
    assert secrets
    for secret in secrets:
        assert secret not in page
        assert secret not in markdown
    ids = ",".join(f"s{step['index']}" for step in status["steps"])
    assert f"class {ids},done passed\n" in site.rollout("graph")


def test_a_rollout_can_be_reported_while_it_runs_and_what_people_did_after(site: Any) -> None:
    driver = site.start("run", site.plan(steps=EXPOSED))
    with site.clients(rate=150):
        site.reaches("measured", "canary 20%")
        running = site.rollout("report", "--format", "md")
        drawn = site.rollout("graph")
        site.rollout("abort", "--reason", "wrong version | <b>")
        driver.ends(1)
    assert "It has not ended: this is how it stood when this report was made." in running
    assert re.search(r"^\| 3 \| canary 20% \| running \|", running, re.MULTILINE)
    assert re.search(r"^    class s3 running$", drawn, re.MULTILINE)
    ended = site.rollout("report")
    assert "rolled back" in ended.splitlines()[2]
    assert "| alice | rolling back: aborted by alice: wrong version &#124; &lt;b> |" in ended
    assert re.search(r"^    class s3,back undone$", site.rollout("graph"), re.MULTILINE)
