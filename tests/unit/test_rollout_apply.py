"""Every event in every phase: what it changes, where it is illegal, and that a journal replays to the same rollout."""

from dataclasses import replace
from datetime import timedelta

import pytest

from orchestrator import events as ev
from orchestrator.lifecycle import TERMINAL, IllegalTransition
from orchestrator.rollout import Rollout, apply
from orchestrator.standing import Intent, Roles, Snapshot, Split, Waiting
from orchestrator.store.rows import dump, load
from providers.actions import PutDeployment, Scale, SetTraffic
from providers.base import Operation
from tests.unit.making import BORN, resolved

SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)


def started(roles: Roles | None = None) -> ev.Started:
    roles = roles or Roles("green", "blue", Split({"blue": 1000}), {"blue": 2})
    stages = ("deploy green", "shadow 10%", "promote 100%")
    return ev.Started("shop", "/p.yml", "memory", "memory:shop", "shop", "0" * 64, roles, stages, Snapshot(exists=True))


class Journal:
    """Events told one a second."""

    def __init__(self, *bodies: ev.Body) -> None:
        self.rollout: Rollout | None = None
        self.events: list[ev.Event] = []
        for body in (started(), *bodies):
            self.tell(body)

    @property
    def now(self):
        return BORN + len(self.events) * SECOND

    def tell(self, body: ev.Body, **changes: object) -> Rollout:
        seq = len(self.events) + 1
        event = replace(ev.Event("shop-1", seq, f"e{seq}", self.now, "ada", 1, body), **changes)
        self.rollout = apply(self.rollout, event)
        self.events.append(event)
        return self.rollout


DRIVEN = ev.Driven("w1", "laptop", 4711, 7)
SHIFT = SetTraffic("shop", {"blue": 900, "green": 100}, {})
INTENT = Intent("k1", 1, 7, SHIFT, Snapshot(exists=True), Snapshot(exists=True, traffic={"blue": 900, "green": 100}))
PAUSED = ev.Paused("asked", "lunch", BORN + HOUR)
BACK = ev.RollbackBegan("abort", "changed my mind")
PHASES: dict[str, tuple[ev.Body, ...]] = {
    "pending": (),
    "running": (DRIVEN,),
    "paused": (DRIVEN, PAUSED),
    "rolling_back": (DRIVEN, BACK),
    "succeeded": (DRIVEN, ev.Finished("succeeded", "done")),
    "rolled_back": (DRIVEN, BACK, ev.Finished("rolled_back", "undone")),
    "failed": (DRIVEN, ev.Finished("failed", "stuck")),
}
MOVES: dict[str, tuple[ev.Body, dict[str, str]]] = {
    "paused": (PAUSED, {"running": "paused"}),
    "resumed": (ev.Resumed(restart=False), {"paused": "running"}),
    "rollback_began": (
        BACK,
        {"pending": "rolling_back", "running": "rolling_back", "paused": "rolling_back"},
    ),
    "succeeded": (ev.Finished("succeeded", "x"), {"running": "succeeded"}),
    "rolled_back": (ev.Finished("rolled_back", "x"), {"rolling_back": "rolled_back"}),
    "failed": (ev.Finished("failed", "x"), dict.fromkeys(("running", "paused", "rolling_back"), "failed")),
    "driven": (
        DRIVEN,
        {"pending": "running", "running": "running", "paused": "paused", "rolling_back": "rolling_back"},
    ),
}


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("kind", MOVES)
def test_an_event_that_moves_in_every_phase(kind, phase, made):
    journal = Journal(*PHASES[phase])
    assert journal.rollout.phase == phase
    body, legal = MOVES[kind]
    if phase in legal:
        assert journal.tell(body).phase == legal[phase]
        return
    before = journal.rollout
    with pytest.raises(IllegalTransition):
        journal.tell(body)
    assert journal.rollout is before


QUIET: tuple[ev.Body, ...] = (
    ev.Released("stopped"),
    ev.StageEntered(0, "deploy green"),
    ev.Intended(INTENT),
    ev.Reached(),
    ev.MeasureFailed("away", 1),
    ev.TaskTried(1),
    ev.TaskEnded(True, "fine"),
    ev.Approved("ada"),
    ev.Leaving("passed"),
    ev.StageEnded(0, "passed", "done"),
    ev.Waited(Waiting("hold", "x")),
    ev.Parked("x"),
    ev.Commanded("abort", False, "no"),
    ev.Extended(60.0, BORN),
    ev.Notified(1, 0, "hooks.example.org", True, "answered 200", 1),
    ev.Adopted("0", "1", ("deploy green",)),
    ev.LogsSaved("green", "/x"),
)


@pytest.mark.parametrize("body", QUIET, ids=[body.kind for body in QUIET])
def test_an_event_that_moves_nothing(body):
    for phase in ("running", "paused", "rolling_back"):
        journal = Journal(*PHASES[phase])
        after = journal.tell(body)
        assert (after.phase, after.last_seq, after.updated_at) == (phase, len(journal.events), journal.events[-1].at)
    for phase in TERMINAL:
        journal = Journal(*PHASES[phase])
        before = journal.rollout
        if isinstance(body, ev.Notified):
            told = journal.tell(body)
            assert told == replace(before, last_seq=before.last_seq + 1), "who heard of an end changes nothing of it"
            continue
        with pytest.raises(IllegalTransition, match=f"{body.kind} after its end"):
            journal.tell(body)


def test_every_kind_of_event_is_tried_here():
    tried = {type(body) for body in QUIET} | {type(body) for body, _ in MOVES.values()}
    rest = {ev.Started, ev.Begun, ev.Retried, ev.Ended, ev.Measured}
    assert tried | rest == set(ev.Body.__origin__.__args__)  # type: ignore[attr-defined]


def test_a_journal_begins_with_started_and_has_no_gap():
    event = ev.Event("shop-1", 1, "e", BORN, "ada", 0, DRIVEN)
    with pytest.raises(ValueError, match="it begins with driven, not with `started`"):
        apply(None, event)
    with pytest.raises(ValueError, match="it begins with started"):
        apply(None, replace(event, seq=2, body=started()))
    journal = Journal(DRIVEN)
    for seq in (1, 2, 4):
        with pytest.raises(ValueError, match=f"event {seq} after 2"):
            journal.tell(PAUSED, seq=seq)
    with pytest.raises(ValueError, match="unknown event"):
        journal.tell(started())


def test_a_long_story_replays_from_its_json(made):
    for story in (made.Story().upto_end(), made.Story().upto_rolled_back(), made.Story(bootstrap=False).upto_canary()):
        replayed = None
        for event in story.events:
            body = load(ev.BODY, dump(event.body), "the event")
            assert body == event.body
            replayed = apply(replayed, replace(event, body=body))
        assert replayed == story.rollout


def test_an_intent_from_open_to_done():
    journal = Journal(DRIVEN)
    made = journal.tell(ev.Intended(INTENT, irreversible=True))
    assert (made.intents["k1"].state, made.intended, made.no_return) == ("open", 1, True)
    operation = Operation("k1", SHIFT)
    begun = journal.tell(ev.Begun("k1", operation)).intents["k1"]
    assert (begun.state, begun.operation, begun.not_before) == ("begun", operation, None)
    again = journal.tell(ev.Retried("k1", "busy", 1, BORN + HOUR)).intents["k1"]
    assert (again.state, again.operation, again.attempt, again.not_before) == ("open", None, 1, BORN + HOUR)
    journal.tell(ev.Begun("k1", operation))
    done = journal.tell(ev.Ended("k1", "done"))
    assert (dict(done.intents), done.expected) == ({}, INTENT.after)
    assert done.no_return, "there is no way back from it"


@pytest.mark.parametrize("outcome", ["failed", "superseded"])
def test_an_intent_that_was_not_done(outcome):
    left = Snapshot(exists=True, traffic={"blue": 1000})
    known = Journal(DRIVEN, ev.Intended(INTENT)).tell(ev.Ended("k1", outcome, "why", left))
    assert known.expected == left
    assert known.progress.failure == ("why" if outcome == "failed" else None)
    unknown = Journal(DRIVEN, ev.Intended(INTENT)).tell(ev.Ended("k1", outcome, "why"))
    assert unknown.expected == Snapshot(exists=True), "what it was before"


def test_what_cannot_be_undone_is_remembered_apart():
    journal = Journal(DRIVEN, BACK, ev.Intended(replace(INTENT, stage=-1)))
    after = journal.tell(ev.Ended("k1", "failed", "no quota"))
    assert (after.rollback_failure, after.progress.failure) == ("no quota", None)


def test_counts_that_the_plan_set():
    put = PutDeployment("shop", resolved("green"))
    after = Snapshot(True, {"blue": 1000}, {}, {"green": "d"}, {"green": 2})
    journal = Journal(DRIVEN, ev.Intended(Intent("k", 0, 1, put, Snapshot(True), after)))
    assert journal.rollout.counted == frozenset(), "not before it was done"
    assert journal.tell(ev.Ended("k", "done")).counted == {"green"}
    scale = Intent("s", 0, 1, Scale("shop", "blue", 3), after, replace(after, counts={"green": 2, "blue": 3}))
    journal.tell(ev.Intended(scale))
    assert journal.tell(ev.Ended("s", "done")).counted == {"green", "blue"}


def test_stages_one_after_the_other():
    journal = Journal(DRIVEN)
    entered = journal.tell(ev.StageEntered(0, "deploy green", BORN + HOUR))
    assert (entered.record.state, entered.progress.entered_at, entered.progress.deadline) == (
        "running",
        journal.events[-1].at,
        BORN + HOUR,
    )
    passed = journal.tell(ev.StageEnded(0, "passed", "done"))
    assert (passed.stage, passed.stages[0].state, passed.record.name) == (1, "passed", "shadow 10%")
    assert passed.progress.entered_at is None
    journal.tell(ev.StageEnded(1, "skipped", "not needed"))
    last = journal.tell(ev.StageEnded(2, "passed", "done"))
    assert (last.stage, last.record) == (3, None)


def test_an_approval_between_two_stages_counts():
    journal = Journal(DRIVEN, ev.StageEnded(0, "passed", "done"))
    journal.tell(ev.Approved("bob"))
    assert journal.tell(ev.StageEntered(1, "approve")).progress.approved_by == "bob"
    assert journal.tell(ev.StageEnded(1, "passed", "approved")).progress.approved_by is None


def test_a_pause_freezes_the_clocks_and_a_resume_starts_them_again():
    journal = Journal(DRIVEN, ev.StageEntered(0, "deploy green"))
    journal.tell(ev.Reached(journal.now + 60 * SECOND, journal.now + HOUR))
    reached_at = journal.events[-1].at
    frozen = journal.tell(PAUSED)
    assert (frozen.progress.hold_left, frozen.progress.deadline_left) == (59.0, 3599.0)
    assert (frozen.progress.hold_until, frozen.progress.deadline) == (None, None)
    assert (frozen.paused, frozen.paused_until, frozen.reason) == ("asked", BORN + HOUR, "lunch")
    on = journal.tell(ev.Resumed(False, None, BORN + HOUR, BORN + 2 * HOUR))
    assert (on.progress.hold_until, on.progress.deadline) == (BORN + HOUR, BORN + 2 * HOUR)
    assert (on.progress.hold_left, on.progress.deadline_left, on.paused, on.reason) == (None, None, None, None)
    assert on.progress.reached_at == reached_at


def test_a_clock_that_ran_out_has_nothing_left():
    journal = Journal(DRIVEN, ev.StageEntered(0, "x"), ev.Reached(BORN, BORN))
    assert journal.tell(PAUSED).progress.hold_left == 0.0


def test_a_restart_proves_anew_but_keeps_what_a_human_said(made):
    journal = Journal(DRIVEN, ev.StageEntered(0, "x"), ev.Reached())
    journal.tell(ev.Measured(1, made.judgement(verdict="FAIL", bad=9), BORN, BORN))
    journal.tell(ev.Approved("bob"))
    journal.tell(PAUSED)
    journal.tell(ev.Parked("nobody guards it"))
    taken = Snapshot(exists=True, traffic={"blue": 1000})
    on = journal.tell(ev.Resumed(True, taken))
    p = on.progress
    assert (p.reached_at, p.judgement, p.approved_by, p.entered_at is None) == (None, None, "bob", False)
    assert (on.parked, on.expected) == (False, taken)


def test_measuring(made):
    journal = Journal(DRIVEN, ev.StageEntered(0, "x"), ev.Reached())
    failed = journal.tell(ev.MeasureFailed("away", 3)).progress
    assert (failed.errors, failed.last_error, failed.measured_at) == (3, "away", journal.events[-1].at)
    read = journal.tell(ev.Measured(4, made.judgement(), BORN, BORN + SECOND))
    assert (read.measurements, read.progress.errors, read.progress.last_error) == (4, 0, None)
    assert read.progress.measured_at == BORN + SECOND


def test_one_shot_steps():
    journal = Journal(DRIVEN, ev.StageEntered(0, "x"), ev.TaskTried(1))
    waiting = journal.tell(ev.TaskTried(1, "busy", BORN + HOUR)).progress
    assert (waiting.task_attempt, waiting.task_not_before, waiting.task_detail) == (1, BORN + HOUR, "busy")
    ended = journal.tell(ev.TaskEnded(False, "busy still")).progress
    assert (ended.task_ok, ended.task_detail, ended.task_not_before) == (False, "busy still", None)


@pytest.mark.parametrize(
    ("cause", "state"), [("abort", "undone"), ("pause_limit", "undone"), ("gate", "failed"), ("step", "failed")]
)
def test_rolling_back_closes_the_stage(cause, state):
    journal = Journal(DRIVEN, ev.StageEntered(0, "x"), PAUSED)
    after = journal.tell(ev.RollbackBegan(cause, "why"))
    assert (after.stages[0].state, after.stages[0].reason, after.rollback) == (state, "why", cause)
    assert (after.paused, after.paused_until, after.rollback_at) == (None, None, journal.events[-1].at)
    untouched = Journal(DRIVEN).tell(ev.RollbackBegan(cause, "why"))
    assert untouched.stages[0].state == "waiting"


def test_an_end_leaves_nothing_open():
    journal = Journal(DRIVEN, ev.StageEntered(0, "x"), ev.Intended(INTENT), ev.Waited(Waiting("hold", "x")))
    after = journal.tell(ev.Finished("failed", "stuck"))
    assert (dict(after.intents), after.worker, after.waiting, after.reason, after.active) == (
        {},
        None,
        None,
        "stuck",
        False,
    )
    assert (after.stages[0].state, after.stages[0].reason) == ("failed", "stuck")


def test_a_failure_after_parking_is_one_of_parking():
    left = Snapshot(exists=True)
    journal = Journal(DRIVEN, ev.StageEntered(0, "x"), ev.Intended(INTENT), ev.Ended("k1", "failed", "no quota", left))
    journal.tell(PAUSED)
    assert journal.rollout.progress.failure == "no quota"
    parked = journal.tell(ev.Parked("nobody guards it"))
    assert (parked.parked, parked.progress.failure) == (True, None)


def test_adopting_an_edited_plan_keeps_what_was_done():
    journal = Journal(DRIVEN, ev.StageEntered(0, "x"), ev.StageEnded(0, "passed", "done"), ev.StageEntered(1, "x"))
    after = journal.tell(ev.Adopted("0" * 64, "1" * 64, ("deploy green", "wait 5s", "promote 100%", "delete blue")))
    assert [(record.name, record.state) for record in after.stages] == [
        ("deploy green", "passed"),
        ("wait 5s", "waiting"),
        ("promote 100%", "waiting"),
        ("delete blue", "waiting"),
    ]
    assert (after.bundle, after.stage, after.progress.entered_at) == ("1" * 64, 1, None)


def test_drivers_come_and_go():
    journal = Journal(DRIVEN)
    assert (journal.rollout.worker, journal.rollout.epoch) == ("w1", 7)
    assert journal.tell(ev.Released("stopped")).worker is None
    again = journal.tell(ev.Driven("w2", "other", 1, 8))
    assert (again.worker, again.epoch) == ("w2", 8)


def test_logs_that_were_not_there_are_not_asked_for_again():
    assert Journal(DRIVEN).rollout.logs is None
    assert Journal(DRIVEN, ev.LogsSaved("green", None, "none")).rollout.logs == ""
