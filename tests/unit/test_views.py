"""What every face shows: the view, its JSON, one sentence for each event, and the explanation."""

import json
import typing
from dataclasses import replace
from datetime import timedelta

import pytest

from orchestrator import events as ev
from orchestrator.explain import commands, explain
from orchestrator.sentences import sentence
from orchestrator.standing import Snapshot
from orchestrator.views import as_json, percents, view

LEAST = {
    *("id", "name", "bundle_sha256", "phase", "waiting", "reason", "step", "steps", "traffic", "mirror", "gates"),
    *("epoch", "started_at", "updated_at", "endpoint", "provider", "candidate", "stable", "driver"),
}


def seen(story, seconds=0.0):
    now = story.now + timedelta(seconds=seconds)
    return view(story.rollout, events=story.events, measurements=story.measurements, now=now)


def test_the_current_step_counts_compiled_stages_from_one(story):
    shown = seen(story.upto_canary())
    assert (shown.step.index, shown.step.name, shown.step.state) == (5, "canary 10%", "running")
    assert [step.state for step in shown.steps] == ["passed"] * 4 + ["running", "waiting", "waiting"]
    assert shown.traffic == {"blue": 90, "green": 10}
    assert shown.driver is not None
    assert (shown.driver.host, shown.driver.pid) == ("laptop", 4711)


def test_before_the_first_poll_of_a_step_no_gate_of_another_step_is_shown(story):
    shown = seen(story.upto_canary())
    assert shown.gates == ()
    assert [gate.verdict for gate in shown.steps[3].gates] == ["PASS", "PASS"]


def test_json_has_every_field_that_is_promised_and_is_valid_with_infinite_evidence(story, made):
    story.upto_canary().measured(made.judgement(verdict="FAIL", bad=9))
    text = json.dumps(as_json(seen(story)), allow_nan=False)
    body = json.loads(text)
    assert set(body) >= LEAST
    assert "points" not in body
    assert body["step"]["index"] == 5
    errors, latency = body["gates"]
    assert set(errors) >= {"name", "verdict", "reason", "candidate", "stable", "log_evidence_fail", "log_evidence_pass"}
    assert errors["log_evidence_pass"] is None  # was -inf
    assert set(errors["candidate"]) == {"requests", "bad", "rate"}
    assert latency["candidate"]["quantile_us"] == 51_000
    assert set(body["steps"][0]) >= {"index", "name", "state", "started_at", "ended_at", "reason"}
    assert body["started_at"] == "2026-11-22T10:00:00+00:00"


def test_an_ended_rollout_keeps_the_gates_that_decided(story):
    shown = seen(story.upto_rolled_back())
    assert shown.phase == "rolled_back"
    assert not shown.active
    assert shown.step.name == "canary 10%"
    assert [gate.verdict for gate in shown.gates] == ["FAIL", "PASS"]
    assert shown.driver is None
    assert shown.traffic == {"blue": 100}


def test_time_stands_still_once_it_has_ended(story):
    story.upto_end()
    assert seen(story, 3600).seconds == seen(story).seconds > 0


def test_curves_have_a_point_for_each_side_and_poll_and_skip_lost_polls(story, made):
    story.upto_canary().measured(made.judgement(), bad=2)
    shown = seen(story)
    assert len(shown.points) == 2 * 8
    assert {point.side for point in shown.points} == {"stable", "candidate"}
    last = shown.points[-1]
    assert (last.side, last.requests, last.bad, last.step) == ("candidate", 20, 2, 5)
    assert last.p95_us is not None
    number, stage, measurement = story.measurements[-1]
    story.measurements[-1] = (number, stage, replace(measurement, lost=True, legs=()))
    assert len(seen(story).points) == 2 * 7


def test_shares_are_percent_and_whole_where_they_can_be():
    assert percents({"blue": 995, "green": 5, "old": 0}) == {"blue": 99.5, "green": 0.5}
    assert json.dumps(percents({"blue": 1000})) == '{"blue": 100}'


def examples(story, made):
    """One event of every kind at least, from stories and by hand."""
    later = story.now + timedelta(seconds=90)
    ended = made.Story().upto_end()
    bodies = [
        *(event.body for event in ended.events),
        *(event.body for event in made.Story().upto_rolled_back().events),
        ev.Released("its driver was stopped"),
        ev.Begun("k", ev.Operation("k", next(e.body.intent.action for e in ended.events if e.body.kind == "intended"))),
        ev.Retried("k", "the proxy does not answer.", 2, later),
        ev.Ended("k", "failed", "no memory"),
        ev.Measured(3, made.judgement(), story.now, story.now, lost=True),
        ev.MeasureFailed("the proxy does not answer", 1),
        ev.TaskTried(1),
        ev.TaskTried(2, "status 503", later),
        ev.Approved("grace", "looked at it"),
        ev.Waited(None),
        ev.Waited(ev.Waiting("approval", "ship it?", later)),
        ev.Paused("asked", "paused by ada", later),
        ev.Parked("nobody guards it"),
        ev.Resumed(True, Snapshot()),
        ev.Extended(7200.0, story.now + timedelta(hours=3)),
        ev.Notified(3, 0, "hooks.example.org", False, "given up", 6),
        ev.Commanded("abort", False, "there is no way back any more"),
        ev.Adopted("a" * 64, "b" * 64, ("one",)),
        ev.LogsSaved("green", None, "it printed nothing"),
    ]
    return [ev.Event(story.id, 1, "e", story.now, "ada", 1, body) for body in bodies]


def test_every_kind_of_event_has_a_sentence(story, made):
    found = {}
    for event in examples(story, made):
        said = sentence(event)
        assert said
        assert said == said.strip()
        assert "None" not in said
        assert "Snapshot(" not in said
        found[event.body.kind] = said
    union = typing.get_args(typing.get_args(ev.Body)[0])
    assert set(found) == {kind.__dataclass_fields__["kind"].default for kind in union}
    assert found["retried"] == "attempt 2 did not succeed (the proxy does not answer), the next in 1m30s"
    assert found["commanded"] == "ada asked for an abort, refused: there is no way back any more"
    assert found["adopted"] == "edited plan adopted: aaaaaaaaaaaa -> bbbbbbbbbbbb"


def test_what_is_no_event_has_no_sentence(story):
    with pytest.raises(TypeError, match="not an event"):
        sentence(replace(story.events[0], body=object()))


def test_explain_a_running_rollout(story, made):
    story.upto_canary().measured(made.judgement(requests=80))
    story.waiting("evidence", "errors needs more evidence", 40)
    text = explain(seen(story, 2), story.events)
    assert text.startswith("diabetes-20261122-7kq3m is running at step 5 of 7, canary 10%. ")
    assert "process 4711 on laptop drives it" in text
    assert "It waits for evidence: errors needs more evidence (in 38s at the latest)." in text
    assert "traffic blue 90%, green 10%" in text
    assert "errors   CONTINUE  green 0% errors against blue 0.28% over 80 requests" in text
    assert "when the hold has passed (in 7s) and errors passes, step 6, promote 100%" in text
    assert "rollout abort diabetes-20261122-7kq3m" in text


def test_explain_tells_why_it_was_rolled_back_and_where_the_logs_are(story):
    text = explain(seen(story.upto_rolled_back()), story.events)
    assert "was rolled back after" in text
    assert "Why: gate errors: green 15% errors" in text
    assert "kept in /home/local/diabetes/saved-logs/green" in text
    assert "errors   FAIL" in text
    assert "What happens next" not in text


def test_a_log_in_a_reason_is_indented(story):
    reason = "green cannot start; its log ends:\nTraceback\nImportError"
    story.enter(1).leave(1, reason, "failed").tell(ev.RollbackBegan("step", reason))
    text = explain(seen(story.tell(ev.Finished("rolled_back", reason))), story.events)
    assert "Why: green cannot start; its log ends:\n    Traceback\n    ImportError\n" in text


@pytest.mark.parametrize(
    ("cause", "words"),
    [("asked", ["rollout resume", "rollout abort"]), ("drift", ["--take-back", "--keep-theirs"])],
)
def test_explain_a_pause_says_what_to_type(story, cause, words):
    story.upto_canary().tell(ev.Paused(cause, "somebody set green to 30%", story.now + timedelta(hours=24)))
    text = explain(seen(story), story.events)
    assert "is paused" in text
    assert "Why it is paused: somebody set green to 30%." in text
    assert "rolls back by itself in 1d" in text
    assert "a FAIL still rolls it back" in text
    for word in words:
        assert word in text


def test_what_can_be_done_follows_the_state(story):
    running = [command.split()[1] for command, _ in commands(seen(story.upto_canary()))]
    assert running == ["watch", "pause", "abort"]
    story.tell(ev.Released("its driver was stopped"))
    assert next(iter(commands(seen(story))))[0].split()[1] == "resume"
    story.waiting("approval", "ship it?")
    assert next(iter(commands(seen(story))))[0].split()[1] == "approve"


def test_after_the_point_of_no_return_no_abort_is_offered(story):
    story.upto_canary()
    story.rollout = replace(story.rollout, no_return=True)
    assert "abort" not in " ".join(command for command, _ in commands(seen(story)))
