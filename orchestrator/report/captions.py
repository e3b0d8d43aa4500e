"""What is said of a chart: below it, and of each column when it is pointed at.

Kept apart from what is drawn, because both faces say it, and because here stands what a reader must know so as not to
read a chart wrongly: what a column of many polls shows, what the thresholds mean, what was cut off.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from orchestrator.gates import wording
from orchestrator.report.markup import number
from orchestrator.report.series import GateStory, Poll, Seen
from orchestrator.views import GateView
from plans.units import show_latency, show_rate

LOWEST, HIGHEST = -0.5, 2.0
"""Where evidence is cut off, in multiples of what is needed: beyond that it only says "far"."""


@dataclass(frozen=True, slots=True)
class Names:
    """How the two sides are called, and the colour each has: `blue`, `green` or `other`."""

    candidate: str
    stable: str
    candidate_colour: str
    stable_colour: str


def show_value(story: GateStory, value: float | None) -> str:
    """A rate or a latency, as people read it."""
    if value is None:
        return "no answer" if story.latency else "no requests"
    return f"<= {show_latency(value)}" if story.latency else show_rate(value)


def show_evidence(part: float) -> str:
    """Evidence as a part of what is needed: `31%`; far below nothing where an alternative was refuted."""
    return f"{round(100 * part)}%" if math.isfinite(part) else "none at all"


def figures_text(group: Sequence[Poll], story: GateStory, names: Names) -> str:
    """What a column of figures says when it is pointed at: when, the counts of both sides, the tolerance."""
    lines = [_span(group)]
    sides = (
        (names.stable, [poll.stable for poll in group if poll.stable]),
        (names.candidate, [poll.candidate for poll in group if poll.candidate]),
    )
    lines += [f"{name}: {_side_text(seen, story)}" for name, seen in sides if seen]
    tolerated = [poll.tolerated for poll in group if poll.tolerated is not None]
    if tolerated:
        lines.append(f"tolerated: {show_value(story, tolerated[-1])}")
    return "\n".join([*lines, *_remarks(group)])


def _side_text(seen: Sequence[Seen], story: GateStory) -> str:
    requests = sum(each.requests for each in seen)
    values = [each.value for each in seen if each.value is not None]
    if not values:
        return f"no answers to {requests:,} requests" if requests else "no requests"
    low, high = show_value(story, min(values)), show_value(story, max(values))
    what = high if low == high else f"{low} to {high}"
    if story.latency:
        return f"{wording.quantile(story.quantile)} {what}, {requests:,} requests"
    bad = sum(each.bad or 0 for each in seen)
    return f"{what}, {bad:,} of {requests:,} requests"


def evidence_text(group: Sequence[Poll], story: GateStory) -> str:
    """What a column of evidence says when it is pointed at: when, and how far it was at the column's end."""
    last = group[-1]
    fail = f"for FAIL: {show_evidence(last.fail)} of the way ({_wealth(last.fail, story.alpha)})"
    passed = f"for PASS: {show_evidence(last.passed)} of the way ({_wealth(last.passed, story.beta)})"
    return "\n".join([_span(group), fail, passed, *_remarks(group)])


def _wealth(part: float, level: float) -> str:
    """`E = 12.5`, from the multiple of log(1/level)."""
    power = part * math.log10(1 / level) if math.isfinite(part) else part
    return f"E = {10**power:.3g}" if power < 15 else f"E = 10^{power:.0f}"


def _span(group: Sequence[Poll]) -> str:
    first, last = group[0], group[-1]
    if len(group) == 1:
        return f"{clock(last.at)} UTC, after {number(last.seconds)} s"
    return f"{clock(first.at)} to {clock(last.at)} UTC, {len(group)} polls"


def _remarks(group: Sequence[Poll]) -> list[str]:
    remarks = []
    if not any(poll.counted for poll in group):
        remarks.append("not counted: warm-up, or no requests yet")
    if any(poll.lost for poll in group):
        remarks.append("lost: the data plane had restarted")
    return remarks


def clock(at: datetime) -> str:
    """A date and time in UTC, as everywhere in a report."""
    return f"{at:%Y-%m-%d %H:%M:%S}"


def remarks(view: GateView) -> tuple[str, ...]:
    """What one should know of a gate besides its sentence, as clauses."""
    unproven = () if view.verdict == "PASS" or not view.unproven else (f"not proven: {', '.join(view.unproven)}",)
    return (*unproven, *view.notes)


def shared(story: GateStory, columns: int, *, evidence: bool) -> str:
    """What a column that holds several polls shows, without a stop; empty where each poll has its own."""
    polls = len(story.polls)
    if columns >= polls:
        return ""
    one = (
        "how the evidence stood at a column's end"
        if evidence
        else f"a column's share of {story.bad} in all of its requests"
    )
    if story.latency and not evidence:
        one = "the median of a column"
    return f"{polls:,} polls in {columns} columns: shown is {one}"


def figures_caption(story: GateStory, names: Names) -> str:
    """What one must know to read the chart of the figures."""
    parts = []
    if story.gate is not None and story.gate.relative and any(poll.tolerated is not None for poll in story.polls):
        parts.append(f"The tolerance follows {names.stable} over the whole step so far, not the single poll.")
    if story.latency:
        parts.append("Latencies are upper bounds of buckets.")
    if story.latency and story.gate is not None and story.gate.terms[0] == "relative":
        level, ratio = wording.quantile(story.quantile), story.gate.ratio
        parts.append(
            f"Slow in the table: requests to {names.stable} above its own recent {level}, "
            f"and to {names.candidate} above {ratio:.4g}x of that."
        )
    return " ".join(parts)


def evidence_caption(story: GateStory) -> str:
    """What one must know to read the chart of the evidence; above all, that gates fail together."""
    parts = ["E is what a bet against the opposite has won; 100% is an E of 1/alpha for FAIL, and of 1/beta for PASS."]
    if story.alone is not None:
        parts.append(
            f"The {story.terms} tolerances of this step's gates fail together, when the mean of alpha x E reaches 1, "
            f"so that one of them by itself needs {100 * story.alone:.0f}%."
        )
    parts.append("Evidence for FAIL goes on from step to step, PASS is proven anew in each.")
    if any(not LOWEST <= part <= HIGHEST for poll in story.polls for part in (poll.fail, poll.passed)):
        parts.append(f"Cut off at {100 * LOWEST:.0f}% and {100 * HIGHEST:.0f}%.")
    return " ".join(parts)
