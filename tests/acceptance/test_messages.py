"""Messages that need a real proxy and real processes; all others are in tests/messages, without any."""

import re
from typing import Any

import pytest

pytestmark = pytest.mark.needs("linux", "envoy")

THERE = "endpoint shop exists already at <url> (traffic blue 100%; blue 1 of 1 healthy); nothing was changed: rollout"
SAYS = {
    "endpoint create endpoint.yml": (2, f"{THERE} endpoint show shop tells more"),
    "endpoint traffic shop grene=100": (2, "endpoint shop has no deployment grene; there is blue"),
    "endpoint logs shop --deployment green --instance 7": (3, "Deployment green has no log of instance 7: there is 0."),
    "endpoint logs shop --deployment grey": (
        3,
        "Deployment grey does not exist on endpoint shop, and no logs of it were kept.",
    ),
    "endpoint traffic shop blue=100 --mirror blue=10": (
        2,
        "blue cannot have live and mirrored traffic together: give it one of them",
    ),
    "endpoint token shop": (
        2,
        "endpoints of the provider local have keys and no tokens: rollout endpoint keys shop",
    ),
    "endpoint delete shop": (2, "nobody is there to be asked, so nothing was done: add --yes to agree beforehand"),
    "endpoint invoke shop --deployment grey": (3, "shop answered with status 404"),
}
"""Command -> exit code and last line, where blue serves alone, and green was."""


def test_a_candidate_that_crashes_and_what_is_said_of_its_endpoint(site: Any) -> None:
    said = site.rollout("run", "plan-crashes.yml", code=1)
    reason = r"deploy green: Deployment green cannot start: instance 0 exited 3 times \(exit code 3\); its log ends:\n"
    assert re.search(reason, said), said
    assert "endpoint shop now: blue 100%" in said
    offer = r"^ +rollout endpoint logs shop --deployment green +read what the candidate printed$"
    assert re.search(offer, said, re.MULTILINE)

    before = site.state()
    for typed, (code, words) in SAYS.items():
        last = site.rollout(*typed.split(), code=code).strip().splitlines()[-1]
        assert re.sub(r"http://127\.0\.0\.1:\d+", "<url>", last) == f"rollout: {words}", typed
    assert site.state() == before, "nothing was changed"
