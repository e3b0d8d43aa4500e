"""What webhooks hear of: which events, in which words, and what a journal shows that nobody was told."""

from datetime import UTC, datetime

import pytest

from orchestrator import events as ev
from orchestrator.notify import facts, names_of, undelivered
from orchestrator.rollout import apply
from orchestrator.standing import Intent, Roles, Snapshot, Split, Waiting
from plans.model import NOTIFY_EVENTS, Notification
from providers.actions import SetTraffic
from providers.base import Operation

AT = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
ROLES = Roles("green", "blue", Split({"blue": 1000}), {"blue": 2})
SHIFT = SetTraffic("shop", {"blue": 900, "green": 100}, {})
INTENT = Intent("k1", 0, 1, SHIFT, Snapshot(exists=True), Snapshot(exists=True, traffic={"blue": 875, "green": 125}))
STARTED = ev.Started(
    "shop", "/p.yml", "memory", "memory:shop", "shop", "0" * 64, ROLES, ("canary 12.5%", "approve: go?"), Snapshot()
)
DRIVEN = ev.Driven("w", "laptop", 4711, 1)
ENTERED = ev.StageEntered(0, "canary 12.5%")
PASSED = ev.StageEnded(0, "passed", "held for 10s, all 2 gates passed")
APPROVAL = ev.Waited(Waiting("approval", "waits for approval: go?", AT))
PAUSED = ev.Paused("asked", "lunch", AT)
RESUMED = ev.Resumed(restart=False)
BACK = ev.RollbackBegan("gate", "gate errors: too many")


def event(body: ev.Body, seq: int = 7) -> ev.Event:
    return ev.Event("shop-1", seq, f"e{seq}", AT, "engine", 1, body)


def journal(*bodies: ev.Body) -> list[ev.Event]:
    return [event(body, seq) for seq, body in enumerate((STARTED, *bodies), start=1)]


def told(*bodies: ev.Body) -> dict[str, object]:
    """The facts of the last of these events."""
    rollout = None
    for each in journal(*bodies):
        rollout = apply(rollout, each)
    return facts(rollout, each)


HEARD: tuple[tuple[ev.Body, str], ...] = (
    (STARTED, "started"),
    (PASSED, "step_passed"),
    (APPROVAL, "waiting_for_approval"),
    (PAUSED, "paused"),
    (RESUMED, "resumed"),
    (BACK, "rolling_back"),
    (ev.Finished("succeeded", "x"), "succeeded"),
    (ev.Finished("rolled_back", "x"), "rolled_back"),
    (ev.Finished("failed", "x"), "failed"),
)
# Not built: what a kind of event is called depends on nothing else of it.
_HEARD = {type(body) for body, _ in HEARD}
UNHEARD = [kind for kind in ev.Body.__origin__.__args__ if kind not in _HEARD]  # type: ignore[attr-defined]


def test_the_language_knows_the_same_names():
    assert {name for _, name in HEARD} == set(NOTIFY_EVENTS)


@pytest.mark.parametrize(("body", "name"), HEARD, ids=[name for _, name in HEARD])
def test_what_is_heard(body, name):
    assert names_of(event(body)) == name


@pytest.mark.parametrize("kind", UNHEARD, ids=[kind.__name__ for kind in UNHEARD])
def test_what_is_not(kind):
    assert names_of(event(object.__new__(kind))) is None


@pytest.mark.parametrize("outcome", ["failed", "skipped", "undone"])
def test_only_a_passed_step_has_passed(outcome):
    assert names_of(event(ev.StageEnded(0, outcome, "x"))) is None


@pytest.mark.parametrize("waiting", [None, Waiting("hold", "x"), Waiting("human", "x")])
def test_not_every_wait_is_for_approval(waiting):
    assert names_of(event(ev.Waited(waiting))) is None


def test_the_facts_of_a_passed_step():
    shifted = (ev.Intended(INTENT), ev.Begun("k1", Operation("k1", SHIFT)), ev.Ended("k1", "done"))
    assert told(DRIVEN, ENTERED, *shifted, PASSED) == {
        "event": "step_passed",
        "rollout": "shop-1",
        "name": "shop",
        "endpoint": "shop",
        "phase": "running",
        "step": "canary 12.5%",
        "candidate": "green",
        "stable": "blue",
        "traffic": {"blue": 87.5, "green": 12.5},
        "reason": "held for 10s, all 2 gates passed",
        "at": "2026-03-02T09:00:00+00:00",
        "seq": 7,
        "id": "e7",
    }


@pytest.mark.parametrize(
    ("bodies", "expected"),
    [
        ((), ("started", "pending", None, None)),
        ((DRIVEN, ENTERED, PAUSED), ("paused", "paused", "canary 12.5%", "lunch")),
        ((DRIVEN, ENTERED, PAUSED, RESUMED), ("resumed", "running", "canary 12.5%", None)),
        ((DRIVEN, ENTERED, PASSED, PAUSED), ("paused", "paused", None, "lunch")),
        (
            (DRIVEN, ENTERED, PASSED, ev.StageEntered(1, "approve: go?"), APPROVAL),
            ("waiting_for_approval", "running", "approve: go?", "waits for approval: go?"),
        ),
        ((DRIVEN, ENTERED, BACK), ("rolling_back", "rolling_back", "canary 12.5%", "gate errors: too many")),
        (
            (DRIVEN, ENTERED, BACK, ev.Finished("rolled_back", "undone")),
            ("rolled_back", "rolled_back", "canary 12.5%", "undone"),
        ),
        (
            (DRIVEN, ENTERED, PASSED, ev.StageEnded(1, "passed", "x"), ev.Finished("succeeded", "done")),
            ("succeeded", "succeeded", None, "done"),
        ),
        ((DRIVEN, ENTERED, ev.Finished("failed", "stuck")), ("failed", "failed", "canary 12.5%", "stuck")),
    ],
)
def test_where_the_rollout_is(bodies, expected):
    said = told(*bodies)
    assert (said["event"], said["phase"], said["step"], said["reason"]) == expected


def test_control_characters_from_elsewhere_are_replaced():
    log = ev.Paused("step", "its log ends with:\n\x1b[31mboom\x00\u202e\ttab", AT)
    assert told(DRIVEN, ENTERED, log)["reason"] == "its log ends with:\n?[31mboom??\ttab"
    assert told(DRIVEN, ev.Waited(Waiting("approval", "go\x07", AT)))["reason"] == "go?"


ALL = Notification(url="https://all.example/x")
ENDS = Notification(url="https://ends.example/x", events=("succeeded", "failed"))
STORY = (DRIVEN, ENTERED, PASSED, ev.Finished("succeeded", "done"))


def done(seq: int, target: int, *, ok: bool = True) -> ev.Notified:
    return ev.Notified(seq, target, "all.example", ok, "x", 1)


@pytest.mark.parametrize(
    ("bodies", "left"),
    [
        ((), [(1, 0)]),
        (STORY, [(1, 0), (4, 0), (5, 0), (5, 1)]),
        ((DRIVEN, done(1, 0), ENTERED, PASSED), [(5, 0)]),
        ((DRIVEN, done(1, 1), ENTERED, PASSED), [(1, 0), (5, 0)]),
        ((DRIVEN, done(1, 0, ok=False), ENTERED, PASSED, done(5, 0)), []),
        ((DRIVEN, ENTERED, PASSED, ev.Adopted("0", "1", ("a", "b")), PAUSED), [(6, 0)]),
    ],
)
def test_what_nobody_was_told(bodies, left):
    events = journal(*bodies)
    assert undelivered(events, (ALL, ENDS)) == [(events[seq - 1], place) for seq, place in left]
    assert undelivered(events, ()) == []
