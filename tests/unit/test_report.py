"""The report: its story, its charts in numbers, both of its faces; and that nobody's text can break out of it."""

import math
import re
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from orchestrator import events as ev
from orchestrator.bundle import Bundle
from orchestrator.gates.spec import Gate
from orchestrator.lifecycle import TERMINAL
from orchestrator.report import axes, html, markdown, telling
from orchestrator.report.captions import Names
from orchestrator.report.charts import evidence_chart, figures_chart
from orchestrator.report.file import MARKER
from orchestrator.report.markup import Markup, el, escaped, joined, plain
from orchestrator.report.series import Seen, thinned
from orchestrator.report.story import Material, tell
from orchestrator.rollout import apply
from orchestrator.stages import Stage, Target
from orchestrator.standing import Snapshot
from plans import source
from plans.model import Budget, Plan
from providers.base import Operation
from providers.measurement import Cursor, Histogram, Leg, Measurement
from providers.specs import Content, DeploymentSpec, EndpointSpec, ResolvedDeployment

PLAN = """# who <script>alert(1)</script> and ``` came
endpoint: {file: endpoint.yml}
deployments:
  blue: {file: blue.yml}
  green: {file: green.yml}
gates:
  errors: {metric: error_rate, max: 5%, max_ratio: 2, max_increase: 2%}
  latency: {metric: latency, max_ratio: 2, alpha: 2%}
steps:
  - deploy: green
  - promote: 100%
    gates: [errors, latency]
"""
ERRORS = Gate("errors", "error_rate", max=0.05, max_ratio=2.0, max_increase=0.02, blame=True)
LATENCY = Gate("latency", "latency", max_ratio=2.0, alpha=0.02)
KINDS = ("bootstrap", "deploy", "test", "shadow", "canary", "promote", "delete")
JOURNALS = sorted((Path(__file__).parents[1] / "journals").glob("*/*.ndjson"))
EVIL = "<script>alert('x')</script> | `code` ``` *b* [a](http://x) \x1b[31m \u202e ${env:TOKEN} &amp; <!-- --> ]]>"


def bundle(plan=PLAN):
    def resolved(name):
        spec = DeploymentSpec(name=name, model="azureml:m:1", instance_count=2)
        return ResolvedDeployment(spec, "/plans", f"{name}-digest", Content("/plans/src", "c" * 64), None, {"m": "m:7"})

    loaded = source.loads(PLAN, Plan, name="plan.yml")
    deployments = {name: resolved(name) for name in ("blue", "green")}
    spec = EndpointSpec(name="diabetes")
    return Bundle(loaded, "/plans/plan.yml", "diabetes", "diabetes", spec, deployments, {"": plan}, "0" * 64)


def stages(names, *, gates=(ERRORS, LATENCY)):
    splits = ({"blue": 1000},) * 4 + ({"blue": 900, "green": 100}, {"green": 1000}, {"green": 1000})
    made = []
    for index, (name, kind, split) in enumerate(zip(names, KINDS, splits, strict=True)):
        own = gates if kind in ("shadow", "canary", "promote") else ()
        mirror = {"green": 100} if kind == "shadow" else {}
        made.append(Stage(index, name, kind, index, Target(split, mirror), gates=own, irreversible=kind == "delete"))
    return tuple(made)


def material(story, made, *, plan=PLAN, compiled=True):
    found = stages(made.stages) if compiled else ()
    why_not = "" if compiled else "there is no provider cloud"
    return Material(story.rollout, bundle(plan), found, why_not, story.events, story.measurements)


def told(story, made, seconds=0.0, **more):
    return tell(material(story, made, **more), story.now + timedelta(seconds=seconds))


class Page(HTMLParser):
    """Elements, their attributes and the text of a page; fails on what is not closed."""

    VOID = ("meta", "link", "br")

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.elements, self.words = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def tags(self):
        return {tag for tag, _ in self.elements}

    @property
    def text(self):
        return "".join(self.words)


# --- the story ------------------------------------------------------------------------------------


def test_a_report_tells_who_what_when_and_why(story, made):
    report = told(story.upto_rolled_back(), made)
    assert (
        report.headline == "The rollout of green over blue on endpoint diabetes (local) was rolled back. It took 13s."
    )
    assert report.reason.startswith("gate errors: green 15% errors against blue")
    assert (report.starter, report.plan_path, report.plan) == ("ada", "/plans/plan.yml", PLAN)
    assert report.drivers == ("process 4711 on laptop",)
    candidate, stable = report.sides
    assert (candidate.name, candidate.role, candidate.digest) == ("green", "candidate", "green-digest")
    assert candidate.made_of == (("instances", "2"), ("code", f"src (sha256 {'c' * 12})"), ("m", "m:7"))
    assert (stable.name, stable.digest) == ("blue", "blue-digest")


def test_the_digest_of_a_stable_that_no_file_declares_is_the_one_that_was_found(story, made):
    story.upto_canary()
    found = replace(story.events[0].body, expected=Snapshot(True, {"blue": 1000}, digests={"blue": "seen"}))
    story.events[0] = replace(story.events[0], body=found)
    given = material(story, made)
    known = {"green": given.bundle.deployments["green"]}
    report = tell(replace(given, bundle=replace(given.bundle, deployments=known)), story.now)
    assert [side.digest for side in report.sides] == ["green-digest", "seen"]


def test_steps_have_their_split_as_it_was_in_place_and_end_as_the_journal_says(story, made):
    report = told(story.upto_end(), made)
    splits = [(dict(step.traffic), dict(step.mirror)) for step in report.steps]
    assert splits[3] == ({"blue": 100}, {"green": 10}), "the mirror, although the step cleared it at its end"
    assert splits[4] == ({"blue": 90, "green": 10}, {})
    assert splits[5] == ({"green": 100}, {})
    assert [step.took for step in report.steps[:2]] == [3.2, 1.4]
    assert [step.view.index for step in report.gated] == [4, 5]
    assert [gate.view.verdict for gate in report.gated[1].gates] == ["PASS", "PASS"]


def test_what_an_ended_rollout_did_not_reach_waits_for_nothing(story, made):
    report = told(story.upto_rolled_back(), made)
    assert [report.state(step) for step in report.steps] == ["passed"] * 4 + ["failed", "not reached", "not reached"]
    running = told(made.Story().upto_canary(), made)
    assert running.state(running.steps[-1]) == "waiting"


def test_the_point_of_no_return_is_where_the_journal_has_it(story, made):
    story.upto_end()
    at = next(number for number, event in enumerate(story.events) if isinstance(event.body, ev.Intended))
    assert all(not step.no_return for step in told(story, made).steps)
    body = replace(story.events[at].body, irreversible=True)
    story.events[at] = replace(story.events[at], body=body)
    assert [step.no_return for step in told(story, made).steps] == [True] + [False] * 6


def test_a_rollout_that_runs_says_so(story, made):
    story.upto_canary().measured(made.judgement(requests=80)).waiting("evidence", "errors needs more evidence", 40)
    report = told(story, made, 5)
    assert "is running" in report.headline
    assert "It began" in report.headline
    assert report.reason == "It waits: errors needs more evidence"
    assert report.notes[0] == "It has not ended: this is how it stood when this report was made."
    for text in (html.page(report), markdown.document(report)):
        assert "It has not ended" in text
        assert "Ended" not in text


@pytest.mark.parametrize(
    ("stable", "candidate", "colours"),
    [
        ("blue", "green", ("blue", "green")),
        ("green", "blue", ("green", "blue")),
        ("v1", "v2", ("blue", "green")),
        ("v1", "blue", ("green", "blue")),
    ],
)
def test_a_side_has_the_colour_of_its_name_else_of_its_role(story, made, stable, candidate, colours):
    story.rollout = replace(story.rollout, roles=replace(story.rollout.roles, stable=stable, candidate=candidate))
    names = told(story, made).names
    assert (names.stable_colour, names.candidate_colour) == colours


def test_without_the_compiled_plan_the_report_says_what_it_lacks(story, made):
    report = told(story.upto_rolled_back(), made, compiled=False)
    note = "The tolerances are not drawn, because the plan cannot be compiled here: there is no provider cloud."
    assert note in report.notes
    errors, latency = report.gated[1].gates
    assert (errors.alpha, latency.alpha, latency.latency) == (0.01, 0.02, True), "from the plan's text"
    assert figures_chart(errors, report.names, 60).thresholds == ()
    assert note in Page(html.page(report)).text


def test_variables_and_the_budget_are_told(story, made):
    story.upto_canary()
    given = material(story, made)
    plan = given.bundle.plan.model_copy(update={"budget": Budget(bad_responses=1000)})
    given = replace(given, bundle=replace(given.bundle, plan=plan, vars={"VERSION": "7", "A": "<b>"}))
    given = replace(given, rollout=replace(given.rollout, spent=12))
    report = tell(given, story.now)
    assert report.more == (
        ("Variables", "A=<b>, VERSION=7"),
        ("Budget", "12 of 1,000 bad responses by green to clients"),
    )
    assert "A=<b>, VERSION=7" in Page(html.page(report)).text
    assert "| Variables | A=&lt;b>, VERSION=7 |" in markdown.document(report)


def test_what_was_not_proven_is_told_of_a_gate_that_did_not_pass(story, made):
    undecided = made.judgement()
    verdicts = tuple(replace(each, unproven=("bound of 5%", "tolerance of 2x")) for each in undecided.verdicts)
    story.upto_canary().measured(replace(undecided, verdicts=verdicts))
    assert "Note: not proven: bound of 5%, tolerance of 2x." in markdown.document(told(story, made))
    assert Page(html.page(told(story, made))).text.count("Not proven: bound of 5%, tolerance of 2x.") == 1


@pytest.mark.parametrize("journal", JOURNALS, ids=lambda path: path.stem)
def test_every_golden_journal_makes_a_report(journal, made):
    events = [ev.EVENT.validate_json(line) for line in journal.read_text().splitlines()]
    rollout = None
    for event in events:
        rollout = apply(rollout, event)
        if event.seq % 10 and event is not events[-1]:
            continue
        report = tell(Material(rollout, bundle(), (), "", events[: event.seq], ()), event.at)
        assert Page(html.page(report)).text.count(rollout.id) >= 1
        assert markdown.document(report).startswith(MARKER)
    assert report.view.phase == journal.stem.rpartition(".")[2]
    assert [entry.who for entry in report.people] == [e.actor for e in events[1:] if e.actor != "engine"]


def test_counts_that_are_gone_are_missed_and_their_evidence_is_not(story, made):
    story.upto_canary().measured(made.judgement())
    story.measurements.clear()
    report = told(story, made)
    assert "The counts of 8 polls are not in the store any more; their evidence is." in report.notes
    poll = report.gated[1].gates[0].polls[0]
    assert (poll.candidate, poll.fail) == (None, pytest.approx(-0.7 / math.log(100)))


# --- what happened --------------------------------------------------------------------------------


def test_what_people_did_is_told_with_their_reasons(story, made):
    story.upto_canary().tell(ev.Paused("asked", "paused by grace: lunch", None), actor="grace")
    story.tell(ev.Resumed(False), actor="ada").tell(ev.Commanded("abort", False, "no way back"), actor="eve")
    story.tell(ev.Approved("ada", "looked at it"), actor="ada")
    entries = telling.people(story.events)
    assert [(entry.who, entry.text) for entry in entries] == [
        ("grace", "paused: paused by grace: lunch"),
        ("ada", "resumed by ada"),
        ("eve", "eve asked for an abort, refused: no way back"),
        ("ada", "approved by ada: looked at it"),
    ]
    assert "looked at it" in Page(html.page(told(story, made))).text


def test_drift_has_a_chapter_of_its_own_only_where_there_was_any(story, made):
    assert "Drift" not in html.page(told(story.upto_canary(), made))
    story.tell(ev.Paused("drift", "traffic is blue 30%, green 70%", None))
    story.tell(ev.Resumed(False, Snapshot(True, {"blue": 900, "green": 100})), actor="ada")
    assert [entry.text for entry in telling.drift(story.events)] == [
        "paused: traffic is blue 30%, green 70%",
        "resumed by ada, what others changed is taken back",
    ]
    assert "## Drift" in markdown.document(told(story, made))


def test_retries_and_errors_are_told(story, made):
    story.upto_canary()
    key, later = "k", story.now + timedelta(seconds=9)
    bodies = [
        ev.Retried(key, "busy", 1, later),
        ev.MeasureFailed("the proxy does not answer", 1),
        ev.MeasureFailed("the proxy does not answer", 2),
        ev.TaskTried(1),
        ev.TaskTried(2, "status 503", later),
        ev.Measured(9, made.judgement(), story.now, story.now, lost=True),
        ev.Released("its driver was stopped"),
    ]
    events = [ev.Event(story.id, number, "e", story.now, "engine", 1, body) for number, body in enumerate(bodies)]
    assert [entry.text for entry in telling.troubles(events)] == [
        "attempt 1 did not succeed (busy), the next in 9s",
        "could not measure (1 time in a row): the proxy does not answer",
        "attempt 2 did not succeed (status 503), the next in 9s",
        "the proxy was restarted: what it had counted since the last measurement is lost",
        "driver let go: its driver was stopped",
    ]


def test_the_story_tells_a_poll_when_a_verdict_changes(story, made):
    lines = [entry.text for entry in telling.story(story.upto_end().events)]
    assert sum("requests:" in line for line in lines) == 2 + 1  # two verdicts in the shadow step, one in the canary
    assert lines[-1].startswith("succeeded: green serves all traffic")


def test_lists_that_are_too_long_lose_their_middle_and_say_so(story):
    entries = [telling.Entry(story.now, "engine", str(number)) for number in range(1000)]
    kept = telling.cut(entries, 100)
    assert len(kept) == 101
    assert kept[50].text == "900 more are left out here; `rollout history` has them all"
    assert (kept[49].text, kept[51].text) == ("49", "950")
    assert telling.cut(entries[:100], 100) == tuple(entries[:100])
    assert telling.shortened("x" * 5000).endswith("... (1,000 more characters)")


# --- charts ---------------------------------------------------------------------------------------

NAMES = Names("green", "blue", "green", "blue")


def canary(story, made, polls=5, **more):
    story.upto_canary()
    for number in range(polls):
        story.measured(made.judgement(requests=20 * (number + 1), **more), bad=2)
    return told(story, made).gated[1].gates


def test_figures_have_both_sides_the_bound_and_what_the_comparison_allows(story, made):
    errors, latency = canary(story, made)
    assert [(poll.candidate.bad, poll.candidate.requests) for poll in errors.polls] == [(2, 20)] * 5
    assert errors.polls[0].candidate.value == 0.1
    chart = figures_chart(errors, NAMES, 60)
    assert [line.label for line in chart.lines] == ["blue", "green", "tolerance of 2x + 2%"]
    assert [(mark.label, mark.value) for mark in chart.thresholds] == [("bound of 5%", 0.05)]
    stable = 2 / 180
    assert chart.lines[2].points[0] == (1.0, pytest.approx(2 * stable + 0.02))
    assert chart.hits[0][2] == (
        f"{story.now - timedelta(seconds=4):%Y-%m-%d %H:%M:%S} UTC, after 1 s\nblue: 0%, 0 of 180 requests\n"
        "green: 10%, 2 of 20 requests\ntolerated: 4.2%"
    )
    slow = figures_chart(latency, NAMES, 60)
    assert slow.title == "p95 of each poll"
    assert slow.lines[2].points[0] == (1.0, 92_000)
    assert (
        "Slow in the table: requests to blue above its own recent p95, and to green above 2x of that." in slow.caption
    )


def test_a_tolerance_far_above_everything_is_told_and_not_drawn(story, made):
    errors, _ = canary(story, made)
    generous = replace(errors, gate=replace(errors.gate, max=0.9))
    chart = figures_chart(generous, NAMES, 60)
    assert chart.thresholds == ()
    assert chart.hidden == ("the bound of 90% lies above the chart",)
    assert chart.axis.high < 0.2


def test_evidence_is_a_part_of_what_is_needed_with_both_thresholds(story, made):
    errors, latency = canary(story, made)
    assert errors.polls[-1].passed == pytest.approx(1.7 / math.log(20))
    assert errors.polls[-1].fail == pytest.approx(-0.7 / math.log(100))
    assert latency.polls[-1].fail == pytest.approx(-1.2 / math.log(50)), "its own alpha"
    chart = evidence_chart(errors, 60)
    assert [(mark.label, mark.value) for mark in chart.thresholds] == [("FAIL: 1/alpha = 100, PASS: 1/beta = 20", 1.0)]
    assert errors.terms == 3
    assert errors.alone == pytest.approx(math.log(300) / math.log(100))
    assert "The 3 tolerances of this step's gates fail together, when the mean of alpha x E reaches 1" in chart.caption
    assert "by itself needs 124%" in chart.caption


def test_gates_that_react_in_another_way_are_another_group(story, made):
    story.upto_canary().measured(made.judgement())
    gates = (ERRORS, replace(LATENCY, on_fail="pause"))
    report = tell(replace(material(story, made), stages=stages(made.stages, gates=gates)), story.now)
    errors, latency = report.gated[1].gates
    assert (errors.terms, latency.terms, latency.alone) == (2, 1, None)
    assert "fail together" not in evidence_chart(latency, 60).caption


def test_evidence_that_was_refuted_for_good_is_drawn_at_the_edge_and_told(story, made):
    story.upto_canary().measured(made.judgement(verdict="FAIL", bad=9))
    errors = told(story, made).gated[1].gates[0]
    assert errors.polls[0].passed == -math.inf
    chart = evidence_chart(errors, 60)
    assert "for PASS: none at all of the way (E = 0)" in chart.hits[0][2]
    assert "Cut off at -50% and 200%." in chart.caption
    assert chart.axis.place(-math.inf) == 0
    assert Page(html.page(told(story, made)))


def test_many_polls_share_columns_and_the_caption_says_so(story, made):
    errors, latency = canary(story, made, polls=500)
    chart = figures_chart(errors, NAMES, 50)
    assert len(chart.hits) == 50
    assert all(len(line.points) == len(line.bands) == 50 for line in chart.lines)
    assert chart.shared == "500 polls in 50 columns: shown is a column's share of errors in all of its requests"
    page, document = html.page(told(story, made)), markdown.document(told(story, made))
    assert "the band goes from its lowest poll to its highest." in page
    assert "500 polls in 60 columns: shown is a column's share of errors in all of its requests." in document
    assert "10 polls\nblue: 0% to 0.56%, 5 of 1,800 requests\ngreen: 10%, 20 of 200 requests" in chart.hits[3][2]
    stable = chart.lines[0]
    assert stable.points[3][1] == 5 / 1800
    assert stable.bands[3][1:] == (0.0, 1 / 180)
    assert figures_chart(latency, NAMES, 50).shared == "500 polls in 50 columns: shown is the median of a column"
    assert evidence_chart(latency, 50).shared.endswith("how the evidence stood at a column's end")


def test_an_outlier_is_never_thinned_out(story, made):
    errors, _ = canary(story, made, polls=400)
    polls = list(errors.polls)
    polls[217] = replace(polls[217], candidate=Seen(20, 19, 0.95), fail=1.6)
    odd = replace(errors, polls=tuple(polls))
    figures, evidence = figures_chart(odd, NAMES, 20), evidence_chart(odd, 20)
    assert max(high for _, _, high in figures.lines[1].bands) == 0.95
    assert max(high for _, _, high in evidence.lines[0].bands) == 1.6
    assert figures.axis.high >= 0.95
    assert evidence.axis.high >= 1.6


def test_neighbours_are_grouped_by_equal_parts_of_the_time():
    groups = thinned(list(range(1000)), float, 40)
    assert len(groups) == 40
    assert [item for group in groups for item in group] == list(range(1000))
    assert thinned([1, 2, 3], float, 40) == [[1], [2], [3]]
    assert thinned([5, 5, 5], float, 2) == [[5, 5, 5]]
    assert thinned([0, 1, 2, 98, 99, 100], float, 4) == [[0, 1, 2], [98, 99, 100]], "a time without polls is a gap"


def test_a_line_is_broken_where_nobody_measured(story, made):
    story.upto_canary()
    for _ in range(4):
        story.measured(made.judgement())
    story.wait(600)
    for _ in range(4):
        story.measured(made.judgement())
    chart = figures_chart(told(story, made).gated[1].gates[0], NAMES, 60)
    assert [value is None for _, value in chart.lines[0].points] == [False] * 4 + [True] + [False] * 4
    assert html.page(told(story, made))


def test_the_warm_up_is_shaded_as_long_as_nothing_counts(story, made):
    story.upto_canary()
    warming = made.judgement(requests=1)
    none = tuple(replace(each, candidate=replace(each.candidate, requests=0)) for each in warming.verdicts)
    for judgement in (replace(warming, verdicts=none), replace(warming, verdicts=none), warming):
        story.measured(judgement)
    errors = told(story, made).gated[1].gates[0]
    assert figures_chart(errors, NAMES, 60).bands == ((0.0, 2.0),)
    assert "not counted" in figures_chart(errors, NAMES, 60).hits[0][2]


@pytest.mark.parametrize(
    ("axis", "labels"),
    [
        (axes.rates(0.0), ["0%", "0.2%", "0.4%", "0.6%", "0.8%", "1%"]),
        (axes.rates(0.053), ["0%", "2%", "4%", "6%"]),
        (axes.rates(1.0), ["0%", "20%", "40%", "60%", "80%", "100%"]),
        (axes.latencies(0), ["0 us", "0.2 us", "0.4 us", "0.6 us", "0.8 us", "1 us"]),
        (axes.latencies(4_300), ["0 ms", "1 ms", "2 ms", "3 ms", "4 ms", "5 ms"]),
        (axes.latencies(1_250_000), ["0 s", "0.25 s", "0.5 s", "0.75 s", "1 s", "1.25 s"]),
        (axes.latencies(90 * 60e6), ["0 min", "20 min", "40 min", "60 min", "80 min", "100 min"]),
        (axes.times(19.7), ["0s", "5s", "10s", "15s"]),
        (axes.times(3600), ["0s", "10m", "20m", "30m", "40m", "50m", "1h"]),
        (axes.times(86400 * 2), ["0s", "12h", "1d", "1d12h", "2d"]),
        (axes.evidence([0.3, -0.2], lowest=-0.5, highest=2), ["0%", "25%", "50%", "75%", "100%"]),
        (axes.evidence([-math.inf, 9.0], lowest=-0.5, highest=2), ["-50%", "0%", "50%", "100%", "150%", "200%"]),
    ],
)
def test_ticks_are_numbers_that_a_person_would_have_chosen(axis, labels):
    assert [label for _, label in axis.ticks] == labels
    assert all(axis.low <= value <= axis.high + 1e-9 for value, _ in axis.ticks)


# --- HTML -----------------------------------------------------------------------------------------


def test_the_page_is_whole_and_asks_for_nothing(story, made):
    text = html.page(told(story.upto_rolled_back(), made))
    assert text.splitlines()[0] == f"<!DOCTYPE html>{MARKER}"
    page = Page(text)
    policy = next(a["content"] for tag, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:")
    assert not page.tags & {"script", "img", "iframe", "object", "embed", "form", "a", "base", "video", "audio"}
    assert [a for tag, a in page.elements if tag == "link"] == [{"rel": "icon", "href": "data:,"}]
    assert not re.search(r"url\(|@import|https?:|//[a-z]", text.replace(MARKER, ""))
    assert not any(name.startswith("on") or name in ("src", "style") for _, a in page.elements for name in a)
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text


def test_each_chart_is_told_to_who_cannot_see_it(story, made):
    page = Page(html.page(told(story.upto_rolled_back(), made)))
    charts = [a for tag, a in page.elements if tag == "svg" and a.get("role") == "img"]
    assert len(charts) == 8  # two steps, two gates, two charts each
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    assert all(name in ids for chart in charts for name in chart["aria-labelledby"].split())
    dashes = [a["class"] for tag, a in page.elements if tag == "path" and "class" in a]
    assert "line candidate green" in dashes
    assert "line stable blue" in dashes


def test_the_page_tells_verdicts_figures_and_reasons(story, made):
    text = Page(html.page(told(story.upto_rolled_back(), made))).text
    for words in (
        "green 15% errors against blue 0.37% over 60 requests: beyond the tolerance of 2x + 2%",
        "errors FAIL",
        "bound of 5% and tolerance of 2x + 2%; alpha 1%, beta 5%",
        "≤ 51 ms",
        "Not corrected for clustered errors: 0 of 10 minutes seen.",
        "/home/local/diabetes/saved-logs/green",
        "rolled back",
        "2026-11-22 10:00:00 UTC by ada",
        "max_increase: 2%",
    ):
        assert words in text


# --- whose text it is -----------------------------------------------------------------------------


def haunted(story, made):
    """A rollout in which every text that a stranger can write is hostile."""
    story.upto_rolled_back()
    failed = made.judgement(requests=60, verdict="FAIL", bad=9)
    verdicts = tuple(replace(each, gate=EVIL, sentence=EVIL, notes=(EVIL,)) for each in failed.verdicts)
    for number, event in enumerate(story.events):
        body = event.body
        match body:
            case ev.Measured():
                body = replace(body, judgement=replace(body.judgement, verdicts=verdicts, sentence=EVIL))
            case ev.StageEntered():
                body = replace(body, name=EVIL)
            case ev.StageEnded() | ev.RollbackBegan() | ev.Finished():
                body = replace(body, reason=f"{EVIL}\n# log\n```\n{EVIL}\n</pre></td>")
            case ev.Started():
                body = replace(body, notes=(EVIL,), stages=(EVIL,) * len(made.stages))
            case ev.TaskEnded():
                body = replace(body, detail=EVIL)
        story.events[number] = replace(event, body=body, actor=EVIL if event.actor == "engine" else event.actor)
    records = tuple(replace(record, name=EVIL, reason=EVIL) for record in story.rollout.stages)
    roles = replace(story.rollout.roles, candidate=EVIL)
    reason = f"{EVIL}\n{EVIL}\n```\n</pre>"
    story.rollout = replace(
        story.rollout,
        name=EVIL,
        stages=records,
        roles=roles,
        reason=reason,
        starter=EVIL,
        endpoint_name=EVIL,
        logs=EVIL,
    )
    return told(story, made, plan=f"{PLAN}# {EVIL}\n````\n</pre><script>alert(2)</script>\n")


def test_no_text_breaks_out_of_the_page(story, made):
    text = html.page(haunted(story, made))
    page = Page(text)
    assert not page.tags & {"script", "a", "img"}
    assert "alert('x')" in page.text
    assert "\x1b" not in text
    assert "\u202e" not in text
    # Not one of its quotes ended an attribute.
    known = {*("class", "id", "role", "d", "x", "y", "width", "height", "viewbox", "title", "lang", "content", "name")}
    known |= {
        "aria-labelledby",
        "aria-label",
        "aria-hidden",
        "charset",
        "http-equiv",
        "rel",
        "href",
        "colspan",
        "data-is",
    }
    assert {name for _, a in page.elements for name in a} <= known


def test_no_text_breaks_out_of_markdown(story, made):
    text = markdown.document(haunted(story, made))
    tokens = MarkdownIt("gfm-like", {"html": True, "linkify": False}).parse(text)
    flat = [child for token in tokens for child in (token, *(token.children or ()))]
    raw = [token.content for token in flat if token.type in ("html_block", "html_inline")]
    assert [each.strip() for each in raw] == [MARKER]
    assert not {token.type for token in flat} & {"link_open", "image", "em_open", "s_open"}
    assert "\x1b" not in text
    assert "\u202e" not in text
    plan = next(token for token in flat if token.type == "fence" and token.info == "yaml")
    assert plan.content.endswith("````\n</pre><script>alert(2)</script>\n")
    headings = [tokens[at + 1].content for at, token in enumerate(tokens) if token.type == "heading_open"]
    assert not any(heading.startswith("log") for heading in headings)
    assert headings[-1] == "Appendix: what happened"
    # Every row of every table has as many cells as its head.
    width = 0
    for at, token in enumerate(tokens):
        if token.type == "tr_open":
            end = next(n for n in range(at, len(tokens)) if tokens[n].type == "tr_close")
            cells = sum(tokens[n].type in ("td_open", "th_open") for n in range(at, end))
            width = cells if tokens[at - 1].type == "thead_open" else width
            assert cells == width


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("canary 10%", "canary 10%"),
        ("a | b", "a &#124; b"),
        ("<b>x</b> a < b & c -> d", "&lt;b>x&lt;/b> a < b & c -> d"),
        ("&lt;", "&amp;lt;"),
        ("`x` *y* [z](u) ~~s~~ $m$", r"\`x\` \*y\* \[z\](u) \~\~s\~\~ \$m\$"),
        ("on_fail _x_", r"on_fail \_x\_"),
        ("two\nlines\there", "two lines here"),
        ("# no heading", r"\# no heading"),
        ("- no item", r"\- no item"),
        ("> no quote", r"\> no quote"),
        ("1. no list", r"1\. no list"),
        ("--- no rule", r"\--- no rule"),
        ("1.5x is fine", "1.5x is fine"),
        ("back\\slash", "back\\\\slash"),
    ],
)
def test_text_in_markdown_is_shown_as_it_is(given, shown):
    assert markdown.text(given) == shown
    rendered = MarkdownIt("gfm-like", {"html": True, "linkify": False}).render(markdown.text(given))
    assert rendered == f"<p>{escaped(' '.join(given.split())).replace('&#x27;', chr(39))}</p>\n"


def test_code_and_fences_hold_what_they_are_given():
    assert markdown.code("rollout-1") == "`rollout-1`"
    assert markdown.code("a`b|c") == r"a\`b&#124;c"
    assert markdown.fenced("x\n```\ny") == "````\nx\n```\ny\n````"


def test_markup_escapes_all_that_it_did_not_make():
    assert el("b", "<i>", Markup("<i></i>"), class_='"x"') == '<b class="&quot;x&quot;">&lt;i&gt;<i></i></b>'
    assert el("b", ["a", None, ["&"]], title=Markup('"')) == '<b title="&quot;">a&amp;</b>'
    assert el("br") == "<br>"
    assert el("rect", x=1.25, y=2.0, view_box="0 0") == '<rect x="1.2" y="2" viewBox="0 0"></rect>'
    assert joined("a", None, el("p")) == "a<p></p>"
    assert plain("a\x00b\r\nc\u202ed\ud800") == "a\ufffdb\nc\ufffdd\ufffd"


# --- how large ------------------------------------------------------------------------------------


def test_ten_thousand_polls_make_a_small_file(story, made):
    story.upto_canary()
    verdicts = [made.judgement(verdict="CONTINUE"), made.judgement(verdict="PASS")]
    for number in range(10_000):
        at = story.now + timedelta(seconds=number * 10)
        # Written as the engine would, without folding each into the rollout once more.
        seq = len(story.events) + 1
        judged = ev.Measured(8 + number, verdicts[number % 7 == 0], at, at + timedelta(seconds=10))
        story.events.append(ev.Event(story.id, seq, f"e{seq}", judged.end, "engine", 1, judged))
        bad = number % 3
        legs = (
            Leg("blue", "live", 180, {"200": 179, "500": 1}, Histogram(((40_000, 44_000 + number, 180),))),
            Leg("green", "live", 20, {"200": 20 - bad, "500": bad}, Histogram(((45_000, 48_000 + number, 20),))),
        )
        story.measurements.append((8 + number, 4, Measurement(at, judged.end, legs, Cursor("i", at))))
    story.now += timedelta(seconds=100_000)
    report = told(story, made)
    page, document = html.page(report), markdown.document(report)
    assert len(page.encode()) < 1_000_000
    assert len(document.encode()) < 1_000_000
    assert "10,000 polls in 120 columns: shown is" in page
    assert "more are left out here" in page
    assert Page(page)


def test_the_same_rollout_always_gives_the_same_report(story, made):
    story.upto_rolled_back()
    assert story.rollout.phase in TERMINAL
    assert html.page(told(story, made)) == html.page(told(story, made))
    assert markdown.document(told(story, made)) == markdown.document(told(story, made))


def test_operations_and_intents_are_no_news(story):
    action = next(event.body.intent.action for event in story.upto_end().events if isinstance(event.body, ev.Intended))
    begun = ev.Event(story.id, 1, "e", story.now, "engine", 1, ev.Begun("k", Operation("k", action)))
    assert telling.story([begun]) == ()
