"""A report as one HTML file: style and charts inline, no script, and not one request when it is opened.

The page says so itself: its Content-Security-Policy allows its own style and nothing else. Every string of the story
goes through `markup`, which escapes it.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

from orchestrator.explain import clause
from orchestrator.gates import wording
from orchestrator.report.captions import remarks
from orchestrator.report.charts import evidence_chart, figures_chart
from orchestrator.report.file import MARKER
from orchestrator.report.markup import Markup, el, joined
from orchestrator.report.series import GateStory
from orchestrator.report.sides import Side
from orchestrator.report.story import Report, StepStory
from orchestrator.report.style import STYLE
from orchestrator.report.svg import figure
from orchestrator.report.telling import QUIET, UNTOUCHED, Entry
from orchestrator.views import FiguresView
from plans.units import show_duration, show_latency, show_rate

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
COLUMNS, LEAST_COLUMNS, ALL_COLUMNS = 120, 12, 2400
"""Columns of a chart: so many, fewer where there are many charts, so that the file stays small."""
PHASES = {"succeeded": "good", "rolled_back": "bad", "failed": "bad", "paused": "open", "rolling_back": "open"}
VERDICTS = {"PASS": "good", "FAIL": "bad", "CONTINUE": "open", "NO_DATA": "open", "ERROR": "bad"}
STATES = {"passed": "good", "failed": "bad", "running": "info", "undone": "open"}
MARKS = {"passed": "✓", "failed": "✗", "skipped": "–", "undone": "↩"}


def page(report: Report) -> str:
    """The whole file."""
    view = report.view
    title = f"{view.name}: {_words(view.phase)}"
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=POLICY),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("meta", name="referrer", content="no-referrer"),
        el("link", rel="icon", href="data:,"),
        el("title", f"{title} ({view.id})"),
        el("style", Markup(STYLE)),
    )
    bar = el("header", el("strong", "rollout report"), el("span", f"as of {_full(view.at)}"), class_="bar")
    body = el("body", bar, el("main", _sections(report)))
    return f"<!DOCTYPE html>{MARKER}\n{el('html', head, body, lang='en')}\n"


def _sections(report: Report) -> Markup:
    gates = max(1, 2 * report.charts)
    columns = max(LEAST_COLUMNS, min(COLUMNS, ALL_COLUMNS // gates))
    return joined(
        _top(report),
        el("div", _end(report), _what(report), class_="pair"),
        _steps(report),
        [_gated(step, report, columns) for step in report.gated],
        _log("What people did", report.people, UNTOUCHED),
        _log("Drift", report.drift, "") if report.drift else None,
        _log("Retries and errors", report.troubles, QUIET),
        _card(
            "Appendix: the plan, as it was pinned",
            el("p", report.plan_path, class_="soft small"),
            el("pre", report.plan),
        ),
        _log("Appendix: what happened", report.story, ""),
        el("footer", "All times are UTC. The journal in full: ", el("code", f"rollout history {report.view.id} --all")),
    )


def _top(report: Report) -> Markup:
    view = report.view
    return joined(
        el("h1", view.name, " ", _pill(_words(view.phase), PHASES.get(view.phase, "info"))),
        el("p", report.headline),
        el("ol", [_dot(step) for step in report.steps], class_="line"),
    )


def _dot(step: StepStory) -> Markup:
    mark = MARKS.get(step.view.state, str(step.view.index))
    said = f"step {step.view.index}, {step.view.name}: {step.view.state}"
    dot = el("span", mark, class_="dot", title=said, role="img", aria_label=said)
    return el("li", dot, el("span", step.view.name), class_=step.view.state)


def _what(report: Report) -> Markup:
    view = report.view
    facts: list[tuple[str, str | Markup]] = [
        ("Rollout", el("code", view.id)),
        ("Endpoint", f"{view.endpoint} ({view.provider})"),
        *((side.role.capitalize(), _side(side, report)) for side in report.sides),
        ("Plan", joined(el("code", view.bundle_sha256), " (sha256 of the plan and its files)")),
        ("Started", f"{_full(view.started_at)} by {report.starter}"),
    ]
    facts += report.more
    if report.drivers:
        facts.append(("Driven by", "; ".join(report.drivers)))
    return _card("What", _facts(facts))


def _side(side: Side, report: Report) -> Markup:
    own = report.names.candidate_colour if side.role == "candidate" else report.names.stable_colour
    made_of = "; ".join(f"{what} {value}" for what, value in side.made_of)
    return joined(
        el("span", class_=f"swatch {own}"),
        el("strong", side.name),
        [" ", el("code", side.digest)] if side.digest else " (not in the plan)",
        el("div", made_of, class_="soft small") if made_of else None,
    )


def _end(report: Report) -> Markup:
    view = report.view
    facts: list[tuple[str, str | Markup]] = []
    if not view.active:
        facts.append(("Ended", f"{_full(view.updated_at)}, after {_took(view.seconds)}"))
    facts.append(("Traffic now" if view.active else "Traffic", _split(view.traffic) or "nothing"))
    if view.mirror:
        facts.append(("Mirror", _split(view.mirror)))
    if view.logs:
        facts.append(("Candidate's logs", el("code", view.logs)))
    return _card(
        "How it ended, and why" if not view.active else "How it stands, and why",
        el("p", el("strong", f"{_words(view.phase).capitalize()}. "), _reason(report.reason)),
        _facts(facts),
        [el("p", note, class_="note-line small") for note in report.notes],
    )


def _reason(reason: str) -> Markup:
    """A reason, which may end with the lines of a log."""
    first, *log = reason.splitlines() or [""]
    return joined(first, el("pre", "\n".join(log)) if log else None)


def _steps(report: Report) -> Markup:
    heads = ("", "Step", "State", "Began (UTC)", "Took", "Traffic", "Verdict")
    rows = [_step_row(step, report) for step in report.steps]
    head = el("thead", el("tr", [el("th", each) for each in heads]))
    return _card("Steps", el("div", el("table", head, el("tbody", rows), class_="steps"), class_="scroll"))


def _step_row(step: StepStory, report: Report) -> Markup:
    seen, began = step.view, report.view.started_at
    name = joined(
        el("strong", seen.name),
        el("span", "from here there was no way back", class_="soft") if step.no_return else None,
    )
    same_day = seen.started_at is not None and seen.started_at.date() == began.date()
    at = "" if seen.started_at is None else f"{seen.started_at:%H:%M:%S}" if same_day else _full(seen.started_at)
    traffic = _split(step.traffic)
    if step.mirror:
        traffic += f"; mirrored to {_split(step.mirror)}"
    why = report.why(step)
    verdicts = [_pill(f"{gate.view.name} {gate.view.verdict}", VERDICTS[gate.view.verdict]) for gate in step.gates]
    return el(
        "tr",
        el("td", str(seen.index), class_="soft lead"),
        el("td", name, class_="lead"),
        el("td", _pill(report.state(step), STATES.get(seen.state, "")), class_="lead"),
        el("td", at, class_="when", data_is="began"),
        el("td", _took(step.took) if step.took is not None else "", class_="nowrap", data_is="took"),
        el("td", traffic, data_is="traffic" if traffic else None),
        el("td", verdicts, el("span", why, class_="soft") if why else None),
    )


def _gated(step: StepStory, report: Report, columns: int) -> Markup:
    seen = step.view
    what = [f"traffic {_split(step.traffic) or 'nothing'}"]
    if step.mirror:
        what.append(f"mirrored to {_split(step.mirror)}")
    if step.took is not None:
        what.append(f"{'took' if seen.ended_at is not None else 'running for'} {_took(step.took)}")
    if step.guarded:
        what.append("guarded by the gates of the step before: they were only watched for FAIL")
    title = [f"Step {seen.index}: {seen.name} ", _pill(seen.state, STATES.get(seen.state, ""))]
    return _card(
        title,
        el("p", "; ".join(what), class_="soft"),
        [_gate(gate, report, columns, f"s{seen.index}g{number}") for number, gate in enumerate(step.gates)],
    )


def _gate(gate: GateStory, report: Report, columns: int, key: str) -> Markup:
    seen = gate.view
    asks = f"{gate.asks}; alpha {show_rate(gate.alpha)}, beta {show_rate(gate.beta)}" if gate.asks else ""
    drawn = None
    if gate.polls:
        charts = figures_chart(gate, report.names, columns), evidence_chart(gate, columns)
        drawn = el("div", [figure(chart, f"{key}c{n}") for n, chart in enumerate(charts)], class_="charts")
    return el(
        "section",
        el(
            "div",
            el("h3", seen.name),
            _pill(seen.verdict, VERDICTS[seen.verdict]),
            el("span", asks, class_="soft small") if asks else None,
            class_="head",
        ),
        el("p", clause(seen)),
        _figures(gate, report),
        [el("p", _sentence(note), class_="soft small") for note in remarks(seen)],
        drawn,
        class_="gate",
    )


def _figures(gate: GateStory, report: Report) -> Markup:
    names, seen = report.names, gate.view
    heads = ["", "Requests", gate.bad.capitalize(), "Share"]
    heads += [wording.quantile(gate.quantile)] if gate.latency else []
    sides: list[tuple[str, str, FiguresView | None]] = [
        (names.candidate, names.candidate_colour, seen.candidate),
        (names.stable, names.stable_colour, seen.stable),
    ]
    head = el("thead", el("tr", [el("th", each, class_="num" if each else None) for each in heads]))
    body = el("tbody", [_figures_row(name, colour, side, gate) for name, colour, side in sides])
    return el("div", el("table", head, body), class_="scroll")


def _figures_row(name: str, colour: str, side: FiguresView | None, gate: GateStory) -> Markup:
    who = el("td", el("span", class_=f"swatch {colour}"), name)
    if side is None:
        return el("tr", who, el("td", "not compared: no live traffic", colspan="4", class_="soft"))
    cells = [f"{side.requests:,}", f"{side.bad:,}", show_rate(side.rate) if side.requests else "-"]
    if gate.latency:
        cells.append(f"≤ {show_latency(side.quantile_us)}" if side.quantile_us is not None else "-")
    return el("tr", who, [el("td", cell, class_="num") for cell in cells])


# --- small parts ----------------------------------------------------------------------------------


def _log(title: str, entries: Sequence[Entry], none: str) -> Markup:
    if not entries:
        return _card(title, el("p", none, class_="soft"))
    days = {entry.at.date() for entry in entries if entry.at is not None}
    rows = []
    for entry in entries:
        at = "" if entry.at is None else f"{entry.at:%H:%M:%S}" if len(days) == 1 else f"{entry.at:%Y-%m-%d %H:%M:%S}"
        cells = [el("td", at, class_="when"), el("td", entry.who, class_="nowrap"), el("td", entry.text, class_="text")]
        rows.append(el("tr", cells, class_="chapter" if entry.chapter else None))
    head = el("thead", el("tr", [el("th", each) for each in ("When (UTC)", "Who", "What")]))
    return _card(title, el("div", el("table", head, el("tbody", rows), class_="log"), class_="scroll"))


def _card(title: str | list[str | Markup], *children: object) -> Markup:
    return el("section", el("h2", title), *children, class_="card")  # type: ignore[arg-type]


def _facts(facts: Sequence[tuple[str, str | Markup]]) -> Markup:
    return el("dl", [[el("dt", name), el("dd", value)] for name, value in facts], class_="facts")


def _pill(text: str, kind: str) -> Markup:
    return el("span", text, class_=f"pill {kind}".strip())


def _split(shares: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {share:g}%" for name, share in shares.items())


def _words(phase: str) -> str:
    return phase.replace("_", " ")


def _took(seconds: float) -> str:
    return show_duration(seconds if seconds < 10 else round(seconds))


def _full(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
