"""Whatever is killed with -9, whenever: the rollout goes on, and what was done is done once."""

import contextlib
import json
import os
import signal
import sys
import threading
from collections import Counter
from typing import Any, Self

import pytest

pytestmark = pytest.mark.needs("linux", "envoy")

# Where the driver is killed, one after the other: right after this event was written in this stage.
KILLS = [
    ("bootstrap blue", "intended"),
    ("bootstrap blue", "begun"),
    ("deploy green", "stage_entered"),
    ("deploy green", "intended"),
    ("test green", "task_tried"),
    ("shadow 20%", "intended"),
    ("shadow 20%", "begun"),
    ("shadow 20%", "reached"),
    ("shadow 20%", "measured"),
    ("shadow 20%", "leaving"),
    ("canary 20%", "intended"),
    ("canary 20%", "reached"),
    ("canary 20%", "measured"),
    ("promote 100%", "intended"),
    ("promote 100%", "measured"),
    ("delete blue", "intended"),
    ("delete blue", "begun"),
]


def test_a_rollout_that_is_killed_again_and_again_succeeds(site: Any) -> None:
    driver = site.start("run", site.plan())
    killed: list[Any] = []
    point = 0
    with _Late(site) as late:
        for stage, kind in KILLS:
            passed = [m.seq for m in site.marks() if m.seq > point and (m.stage, m.kind) == (stage, kind)]
            if passed:
                # The last kill came a little late, and what this one waits for was done by then.
                point = passed[0]
                continue
            found = site.reaches(kind, stage, after=point, every=0.002)
            assert driver.running, driver.text
            driver.kill()
            killed.append(found)
            point = found.seq
            driver = site.start("resume")
            late.start_if_it_serves()
        driver.ends(0)
    assert len(killed) >= len(KILLS) * 3 // 4, killed
    assert {mark.stage for mark in killed} == {stage for stage, _ in KILLS}, killed
    assert {mark.kind for mark in killed} >= {"intended", "begun", "reached", "measured"}, killed
    assert len(late.clients.answers) > 500
    assert late.clients.bad == []

    events = site.journal()
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert [event["epoch"] for event in events] == sorted(event["epoch"] for event in events)
    driven = [event for event in events if event["kind"] == "driven"]
    assert len(driven) >= len(killed)
    _once(site, events)


def _once(site: Any, events: list[dict[str, Any]]) -> None:
    """Every effect was asked for once, and left one trace at the provider."""
    asked = [event["intent"]["action"] for event in events if event["kind"] == "intended"]
    ended = {event["key"]: event["outcome"] for event in events if event["kind"] == "ended"}
    assert set(ended.values()) == {"done"}, ended
    done = Counter(_effect(action) for action in asked)
    assert done == {
        ("put_endpoint", "shop"): 1,
        ("put_deployment", "blue"): 1,
        ("put_deployment", "green"): 1,
        ("set_traffic", '{"blue": 1000} {}'): 2,  # by the bootstrap, and when the mirror is cleared
        ("set_traffic", '{"blue": 1000} {"green": 200}'): 1,
        ("set_traffic", '{"blue": 800, "green": 200} {}'): 1,
        ("set_traffic", '{"green": 1000} {}'): 1,
        ("delete_deployment", "blue"): 1,
    }
    state = site.state()
    assert Counter(_effect(record["action"]) for record in state["operations"].values()) == done
    assert state["traffic"] == {"green": 1000}
    # One folder of logs a generation: nothing was made twice, and each instance was started once.
    for name in ("blue", "green"):
        folders = list((site.directory / "logs").glob(f"{name}~*"))
        assert len(folders) == 1, folders
        assert [path.name for path in folders[0].iterdir()] == ["instance-0.log"]
    assert site.instances("blue") == []
    assert len(site.instances("green")) == 1


def _effect(action: dict[str, Any]) -> tuple[str, str]:
    kind = action["kind"]
    if kind == "put_deployment":
        return kind, action["deployment"]["spec"]["name"]
    if kind == "set_traffic":
        return kind, f"{json.dumps(action['traffic'], sort_keys=True)} {json.dumps(action['mirror'], sort_keys=True)}"
    return kind, action.get("deployment") or action["endpoint"]


class _Late:
    """Clients that begin once there is something to ask, though the test does not wait for that."""

    def __init__(self, site: Any) -> None:
        self._site = site
        self._stack = contextlib.ExitStack()
        self.clients: Any = None

    def start_if_it_serves(self) -> None:
        """Begin, if that was not done and can be."""
        if self.clients is None and any(mark.kind == "stage_ended" for mark in self._site.marks()):
            self.clients = self._stack.enter_context(self._site.clients())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


# `rollout`, whose process dies when the provider has recorded a shift to green and done nothing of it yet.
CUT_SHORT = """
import os, sys
from orchestrator.cli.main import main
from providers.actions import SetTraffic
from providers.local.operations import Operations

carry = Operations._carry

def cut(self, operation, seconds):
    if isinstance(operation.action, SetTraffic) and operation.action.traffic.get("green"):
        os._exit(99)
    return carry(self, operation, seconds)

Operations._carry = cut
sys.exit(main())
"""


def test_a_shift_that_was_only_recorded_is_carried_out(site: Any) -> None:
    """The endpoint looks as wanted then, and clients would go on meeting blue alone."""
    steps = """
  - deploy: green
    deadline: 30s
  - canary: 30%
    hold: 1s
"""
    site.start("run", site.plan(steps=steps), program=(sys.executable, "-c", CUT_SHORT)).ends(99)
    assert site.show()["traffic"] == {"blue": 70, "green": 30}
    with site.clients(rate=100) as clients:
        site.rollout("resume")
        met = {answer.deployment for answer in clients.answers}
    assert met == {"blue", "green"}
    assert clients.bad == []


def test_the_parts_of_the_endpoint_may_be_killed(site: Any) -> None:
    """The keeper without a failure; an instance and the proxy with some, and the rollout goes on to its end."""
    driver = site.start("run", site.plan(steps=CALM, tolerated="80%"))
    with site.clients(rate=150) as clients, _Watch(site) as watch:
        site.reaches("measured", "shadow 20%")
        keeper = site.pid("keeper")
        os.kill(keeper, signal.SIGKILL)
        site.wait("another keeper", lambda: site.pid("keeper") != keeper and site.processes("keeper.py"))
        site.reaches("measured", "canary 20%")
        assert clients.bad == [], "after the keeper was killed"

        old = site.pid("green.0")
        os.kill(old, signal.SIGKILL)
        site.wait("another instance", lambda: site.pid("green.0") != old and site.instances("green"))
        assert driver.running
        envoy = site.pid("envoy")
        before = len(clients.answers)
        os.kill(envoy, signal.SIGKILL)
        site.wait("another proxy", lambda: site.pid("envoy") != envoy)
        site.wait("answers of the new proxy", lambda: any(a.status == 200 for a in clients.answers[before + 50 :]))
        driver.ends(0, 100)
        after = len(clients.answers)
        site.wait("more answers", lambda: len(clients.answers) > after + 30)
    assert all(answer.status == 200 for answer in clients.answers[after:])
    assert any(event["kind"] == "measured" and event["lost"] for event in site.journal()), (
        "the proxy's counters were lost"
    )
    assert watch.proxies == {0, 1} or watch.proxies == {1}, "never two proxies"
    assert site.show()["traffic"] == {"green": 100}
    assert len(site.processes("keeper.py")) == 1


# The gate allows what the kills cost: this is about the machinery, not about the verdict.
CALM = """
  - deploy: green
    deadline: 30s
  - shadow: 20%
    gates: [errors]
    hold: 1s
    deadline: 60s
  - canary: 20%
    gates: [errors]
    hold: 10s
    deadline: 90s
  - promote: 100%
    hold: 1s
  - delete: blue
"""


class _Watch(threading.Thread):
    """Counts the endpoint's proxies all the time."""

    def __init__(self, site: Any) -> None:
        super().__init__(daemon=True)
        self._site, self._over = site, threading.Event()
        self.proxies: set[int] = set()

    def run(self) -> None:
        while not self._over.wait(0.2):
            self.proxies.add(sum("bootstrap.json" in command for command in self._site.processes().values()))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join(10)
