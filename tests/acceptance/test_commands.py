"""Other terminals: abort, pause, resume and approve a rollout that another process drives, or that nobody drives."""

import re
import signal
import time
from typing import Any

import pytest

pytestmark = pytest.mark.needs("linux", "envoy")

# Long enough for whatever the test does meanwhile; nothing waits for its end.
EXPOSED = """
  - deploy: green
    deadline: 30s
  - canary: 20%
    gates: [errors]
    hold: 3m
    deadline: 10m
"""
RESTORED_WITHIN = 5.0


def test_abort_restores_stable_within_seconds(site: Any) -> None:
    driver = site.start("run", site.plan(steps=EXPOSED))
    with site.clients(rate=150) as clients:
        site.reaches("measured", "canary 20%")
        _meets(site, clients, "green")
        told = site.rollout("abort", "--reason", "wrong version")
        driver.ends(1)
        _blue_alone(site, clients)
    assert "rolled back" in told
    status = site.status()
    assert (status["phase"], status["traffic"], status["rollback"]) == ("rolled_back", {"blue": 100}, "abort")
    assert "aborted by alice: wrong version" in status["reason"]
    assert clients.bad == []
    again = site.rollout("abort", code=2)
    assert "has ended: rolled back" in again


def test_abort_restores_stable_though_the_driver_was_killed(site: Any) -> None:
    driver = site.start("run", site.plan(steps=EXPOSED))
    with site.clients(rate=150) as clients:
        site.reaches("measured", "canary 20%")
        driver.kill()
        _meets(site, clients, "green")
        told = site.rollout("abort")
        _blue_alone(site, clients)
    assert "rolled back" in told
    assert site.status()["phase"] == "rolled_back"
    assert list(site.show()["deployments"]) == ["blue"]
    assert clients.bad == []


def _meets(site: Any, clients: Any, deployment: str) -> None:
    seen = len(clients.answers)
    site.wait(f"clients meet {deployment}", lambda: any(a.deployment == deployment for a in clients.answers[seen:]))


def _blue_alone(site: Any, clients: Any) -> None:
    """No client met green later than a few seconds after the abort was recorded.

    Before that a process of Python starts, which takes as long as the machine lets it.
    """
    ended = time.time()
    site.wait("answers after it", lambda: clients.answers[-1].asked > ended + 0.5)
    ((asked,),) = site.query("SELECT at FROM commands WHERE kind = 'abort'")
    last = max(answer.answered for answer in clients.answers if answer.deployment == "green")
    assert last - asked / 1e6 < RESTORED_WITHIN


def test_of_two_resumes_one_drives_and_the_other_says_who(site: Any) -> None:
    driver = site.start("run", site.plan(steps=EXPOSED))
    site.reaches("reached", "canary 20%")
    driver.kill()
    last = site.journal()[-1]["seq"]
    both = [site.start("resume"), site.start("resume")]
    site.wait("one of them ends", lambda: not all(process.running for process in both))
    (loser,) = [process for process in both if not process.running]
    (winner,) = [process for process in both if process.running]
    assert loser.popen.returncode in (2, 3), loser.text
    (driven,) = [event for event in site.journal(after=last) if event["kind"] == "driven"]
    assert driven["pid"] == winner.popen.pid
    assert re.search(rf"driven by \D*{winner.popen.pid}\b", loser.text), loser.text
    assert "Traceback" not in loser.text
    # And a third one, long after.
    told = site.start("resume")
    told.popen.wait(60)
    assert told.popen.returncode in (2, 3), told.text
    assert re.search(rf"driven by \D*{winner.popen.pid}\b", told.text), told.text
    site.rollout("abort")
    winner.ends(1)


def test_pause_resume_and_approve_from_another_terminal(site: Any) -> None:
    steps = """
  - deploy: green
    deadline: 30s
  - canary: 20%
    gates: [errors]
    hold: 4s
    deadline: 60s
  - approve: does it look well?
    not_by_starter: true
  - promote: 100%
"""
    driver = site.start("run", site.plan(steps=steps))
    with site.clients(rate=150) as clients:
        site.reaches("measured", "canary 20%")
        site.rollout("pause", "--reason", "lunch")
        status = site.status()
        assert (status["phase"], status["paused"], status["traffic"]) == ("paused", "asked", {"blue": 80, "green": 20})
        assert "paused by alice: lunch" in status["reason"]
        assert status["step"]["hold_left"] > 0
        paused = site.journal()[-1]["seq"]
        site.reaches("measured", "canary 20%", after=paused)  # still guarding
        assert driver.running
        assert "paused already" in site.rollout("pause", code=2)

        site.start("resume").ends(0)
        # The driver that waited all the time goes on; whoever resumed did not have to stay.
        site.wait("it waits for approval", lambda: _waits(site) == "approval")
        assert "not_by_starter" in site.rollout("approve", code=2)
        site.rollout("approve", "--reason", "it does", ROLLOUT_ACTOR="bob")
        driver.ends(0)
    assert clients.bad == []
    told = site.rollout("history")
    assert "approved by bob: it does" in told
    assert site.status()["traffic"] == {"green": 100}


def _waits(site: Any) -> str | None:
    waited = [event for event in site.journal() if event["kind"] == "waited"]
    return waited[-1]["waiting"]["kind"] if waited and waited[-1]["waiting"] else None


def test_who_leaves_takes_the_candidate_out_of_traffic(site: Any) -> None:
    """Ctrl-C, and --exit-on-pause at an approval: parked, 130 and 4; each time `resume` goes on."""
    steps = """
  - deploy: green
    deadline: 30s
  - canary: 20%
    gates: [errors]
    hold: 3s
    deadline: 60s
  - approve: does it look well?
  - promote: 100%
"""
    driver = site.start("run", site.plan(steps=steps))
    with site.clients(rate=150) as clients:
        site.reaches("measured", "canary 20%")
        driver.popen.send_signal(signal.SIGINT)
        told = driver.ends(130)
        assert "rollout resume" in told
        _parked(site, clients)
        first = site.journal()[-1]["seq"]

        driver = site.start("resume", "--exit-on-pause")
        again = site.reaches("reached", "canary 20%", after=first)
        driver.ends(4)
        (begun_anew,) = [event for event in site.journal() if event["seq"] == again.seq]
        assert begun_anew["hold_until"], "the stage begins anew, with its hold"
        assert "does it look well?" in driver.text
        _parked(site, clients)
        assert site.status()["waiting"]["kind"] in ("approval", "human")

        _approve_where_nobody_drives(site)
    assert clients.bad == []


def _parked(site: Any, clients: Any) -> None:
    assert site.show()["traffic"] == {"blue": 100}
    assert site.status()["parked"]
    seen, now = len(clients.answers), time.time()
    site.wait("answers", lambda: len(clients.answers) > seen + 50)
    assert {answer.deployment for answer in clients.answers if answer.asked > now} == {"blue"}


def _approve_where_nobody_drives(site: Any) -> None:
    """Whoever approves then drives, to the end."""
    driver = site.start("approve")
    driver.popen.wait(60)
    if site.status()["phase"] == "paused":
        site.rollout("resume")
    assert site.status()["phase"] == "succeeded", driver.text
    assert site.show()["traffic"] == {"green": 100}
