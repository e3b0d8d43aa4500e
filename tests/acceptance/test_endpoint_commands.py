"""An endpoint without any rollout, and beside one: made, scaled, shared, put under load, by the commands people
type.
"""

import re
import signal
from collections import Counter
from typing import Any

import pytest

pytestmark = pytest.mark.needs("linux", "envoy")

STEPS = """
  - deploy: green
    deadline: 30s
  - approve: shall green serve?
  - promote: 100%
"""


def test_an_endpoint_is_made_changed_and_put_under_load(site: Any) -> None:
    _made_from_its_file(site)
    _owned_by_a_rollout(site)
    site.rollout("approve")  # nobody drives: this does, to the end
    with site.clients(rate=100) as clients:
        _scaled(site)
        _shared(site, clients)
        assert clients.bad == []
    _loaded(site)
    _switched_off(site)


def _made_from_its_file(site: Any) -> None:
    told = site.rollout("endpoint", "create", "endpoint.yml")
    (url,) = re.findall(r"^shop is created: (http://127\.0\.0\.1:\d+)$", told, flags=re.MULTILINE)
    assert "rollout endpoint keys shop --show" in told
    made = site.show()
    assert (made["url"], made["traffic"], made["deployments"], made["claim"]) == (url, {}, {}, None)
    assert f"endpoint shop exists already at {url}" in site.rollout("endpoint", "create", "endpoint.yml", code=2)
    assert "rollout endpoint keys shop" in site.rollout("endpoint", "token", "shop", code=2)


def _owned_by_a_rollout(site: Any) -> None:
    site.rollout("run", site.plan(steps=STEPS), "--exit-on-pause", code=4)
    for change in (("scale", "shop", "blue=2"), ("traffic", "shop", "green=100", "--yes")):
        assert re.search(r"rollout swap-\S+ owns endpoint shop", site.rollout("endpoint", *change, code=2))
    assert site.show()["traffic"] == {"blue": 100}


def _scaled(site: Any) -> None:
    assert site.rollout("endpoint", "scale", "shop", "green=2", "blue=1") == (
        "green: 1 -> 2 instances, all healthy\nblue: 1 instance as before, all healthy\n"
    )
    assert len(site.instances("green")) == 2
    site.rollout("endpoint", "scale", "shop", "green=1")
    site.wait("one instance is left", lambda: len(site.instances("green")) == 1)


def _shared(site: Any, clients: Any) -> None:
    told = site.rollout("endpoint", "traffic", "shop", "blue=50%", "green=50", "--yes")
    assert "traffic  green 100%  ->  blue 50%, green 50%" in told
    seen = len(clients.answers)
    site.wait("answers", lambda: len(clients.answers) > seen + 100)
    met = Counter(answer.deployment for answer in clients.answers[seen:])
    assert 0.2 < met["blue"] / met.total() < 0.8
    site.rollout("endpoint", "traffic", "shop", "green=100", "--mirror", "blue=100", "--yes")
    shown = site.show()
    assert (shown["traffic"], shown["mirror"], shown["claim"]) == ({"green": 100}, {"blue": 100}, None)


def _loaded(site: Any) -> None:
    send = ("load", "shop", "--request", "sample-request.json", "--rate", "50/s")
    direct = site.rollout(*send, "--count", "20", "--deployment", "blue")
    assert direct.startswith("sent 20 requests to shop in ")
    assert "\n  status      200: 20\n  deployment  blue: 20\n  latency     p50 " in direct
    running = site.start(*send, "--for", "10m")
    site.wait("it tells how far it is", lambda: "of 10m: " in running.text)
    running.popen.send_signal(signal.SIGINT)
    told = running.ends(130, seconds=10)
    assert re.search(r"^sent \d+ requests to shop in \S+: \S+/s", told, flags=re.MULTILINE)
    assert re.search(r"^  deployment  green: \d+$", told, flags=re.MULTILINE)


def _switched_off(site: Any) -> None:
    """Clients get the status that was said."""
    assert "get status 404 from now on" in site.rollout("endpoint", "traffic", "shop", "green=0", "--yes")
    shown = site.show()
    assert (shown["traffic"], shown["mirror"]) == ({}, {})
    told = site.rollout("load", "shop", "--request", "sample-request.json", "--rate", "50", "--count", "3", code=3)
    assert "3 of 3 requests to shop were not answered with 2xx (404: 3)" in told
