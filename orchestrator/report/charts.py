"""What a gate's charts show, before anything is drawn: lines, thresholds, scales and the words beside them.

Two kinds. *Figures*: both sides over the polls, with the tolerance. *Evidence*: how far the bets on FAIL and on PASS
were, in parts of what is needed, with the two thresholds. Where there are more polls than fit, a column of them has one
point on the line, and a band from its lowest to its highest value: an outlier is never thinned out.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from orchestrator.gates import wording
from orchestrator.gates.spec import TermName
from orchestrator.report import axes
from orchestrator.report.axes import Axis
from orchestrator.report.captions import (
    HIGHEST,
    LOWEST,
    Names,
    evidence_caption,
    evidence_text,
    figures_caption,
    figures_text,
    shared,
)
from orchestrator.report.series import GateStory, Poll, Seen, thinned

FAR = 5.0
"""A tolerance that is so many times as high as everything else would flatten it, and is only told."""
GAP = 5.0
"""A line is broken where polls are missing for so many of the usual distances between two."""


Points = tuple[tuple[float, float | None], ...]
"""(seconds, value); None where nothing is known, and the line is broken."""
Bands = tuple[tuple[float, float, float], ...]
"""(seconds, lowest, highest) of columns that hold several polls."""
Hits = tuple[tuple[float, float, str], ...]
"""(from, to, text) of each column, in seconds."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line: its label in the legend, the classes of its style, its points; `bands` around it where polls share a
    column.
    """

    label: str
    class_: str
    points: Points
    bands: Bands = ()

    @property
    def highest(self) -> float:
        """Its highest value, those of its bands included; 0 without any."""
        known = [value for _, value in self.points if value is not None]
        return max([*known, *(high for _, _, high in self.bands)], default=0.0)


@dataclass(frozen=True, slots=True)
class Threshold:
    """A horizontal line with its words."""

    label: str
    class_: str
    value: float


@dataclass(frozen=True, slots=True)
class Chart:
    """What is drawn, and what is said of it.

    Attributes:
        title: above it. axis: of the values. times: of the polls.
        lines, thresholds: as said. hidden: thresholds that lie above the chart, in words.
        bands: (from, to) seconds that do not count (the warm-up).
        hits: what each column says when it is pointed at.
        shared: what a column shows that holds several polls, without a stop; "" where each poll has its own.
        caption: sentences below it.
    """

    title: str
    axis: Axis
    times: Axis
    lines: tuple[Line, ...]
    thresholds: tuple[Threshold, ...]
    hidden: tuple[str, ...]
    bands: tuple[tuple[float, float], ...]
    hits: Hits
    shared: str
    caption: str

    @property
    def remarks(self) -> str:
        """The caption, and what is not drawn."""
        return " ".join([self.caption, *(f"{words[:1].upper()}{words[1:]}." for words in self.hidden)]).strip()


def figures_chart(story: GateStory, names: Names, columns: int) -> Chart:
    """Both sides over the polls, with the tolerance: the absolute bound, and what the comparison allows."""
    groups = thinned(story.polls, _when, columns)
    stable = _line(names.stable, f"stable {names.stable_colour}", groups, lambda poll: poll.stable, _together)
    candidate = _line(
        names.candidate, f"candidate {names.candidate_colour}", groups, lambda poll: poll.candidate, _together
    )
    lines, thresholds, hidden = [candidate], [], []
    if any(value is not None for _, value in stable.points):
        lines.insert(0, stable)
    top = max(line.highest for line in lines)
    for term, words in _tolerances(story):
        allowed = _line(words, "tolerated", groups, lambda poll: poll.tolerated, _last)
        least = story.bound if term == "bound" else min((v for _, v in allowed.points if v is not None), default=None)
        if least is None:
            continue
        if least > FAR * top > 0:
            hidden.append(f"the {words} lies above the chart")
        elif term == "bound":
            thresholds.append(Threshold(words, "bound", least))
            top = max(top, least)
        else:
            lines.append(allowed)
            top = max(top, min(allowed.highest, FAR * top) if top else allowed.highest)
    return Chart(
        title=f"{wording.quantile(story.quantile)} of each poll"
        if story.latency
        else f"Share of {story.bad} in each poll",
        axis=axes.latencies(top * 1.05) if story.latency else axes.rates(top * 1.05),
        times=_times(story.polls),
        lines=tuple(lines),
        thresholds=tuple(thresholds),
        hidden=tuple(hidden),
        bands=_warm_up(story.polls),
        hits=_hits(groups, lambda group: figures_text(group, story, names)),
        shared=shared(story, len(groups), evidence=False),
        caption=figures_caption(story, names),
    )


def evidence_chart(story: GateStory, columns: int) -> Chart:
    """How far the evidence for FAIL and for PASS was after each poll; 100% is the threshold of each."""
    groups = thinned(story.polls, _when, columns)
    fail = _line("for FAIL", "fail", groups, lambda poll: poll.fail, _last)
    passed = _line("for PASS", "pass", groups, lambda poll: poll.passed, _last)
    known = [value for line in (fail, passed) for _, value in line.points if value is not None]
    known += [value for line in (fail, passed) for _, low, high in line.bands for value in (low, high)]
    alone = story.alone
    if alone is not None and max(known, default=0.0) > 0.8:
        known.append(alone + 0.1)
    axis = axes.evidence(known, lowest=LOWEST, highest=HIGHEST)
    needed = f"FAIL: 1/alpha = {1 / story.alpha:.4g}, PASS: 1/beta = {1 / story.beta:.4g}"
    thresholds = [Threshold(needed, "needed", 1.0)]
    if alone is not None and alone <= axis.high:
        thresholds.append(Threshold(f"FAIL by itself: {story.terms / story.alpha:.4g}", "alone", alone))
    return Chart(
        title="Evidence, in parts of what is needed",
        axis=axis,
        times=_times(story.polls),
        lines=(fail, passed),
        thresholds=tuple(thresholds),
        hidden=(),
        bands=_warm_up(story.polls),
        hits=_hits(groups, lambda group: evidence_text(group, story)),
        shared=shared(story, len(groups), evidence=True),
        caption=evidence_caption(story),
    )


def _tolerances(story: GateStory) -> list[tuple[TermName, str]]:
    """The comparison first, because its tolerance may be what makes the bound fit."""
    gate = story.gate
    return [(term, wording.tolerance(gate, term)) for term in reversed(gate.terms)] if gate is not None else []


# --- columns --------------------------------------------------------------------------------------


def _when(poll: Poll) -> float:
    return poll.seconds


def _times(polls: Sequence[Poll]) -> Axis:
    return axes.times(polls[-1].seconds if polls else 1.0)


def _line(
    label: str,
    class_: str,
    groups: Sequence[Sequence[Poll]],
    value: Callable[[Poll], Seen | float | None],
    one: Callable[[Sequence[Seen | float]], float | None],
) -> Line:
    """A line through the columns: `one` makes the values of a column one."""
    points: list[tuple[float, float | None]] = []
    bands: list[tuple[float, float, float]] = []
    usual, before = _usual(groups), None
    for group in groups:
        at = (group[0].seconds + group[-1].seconds) / 2
        if before is not None and group[0].seconds - before > GAP * usual:
            points.append((at, None))
        values = [given for poll in group if (given := value(poll)) is not None]
        points.append((at, one(values)))
        single = [each for given in values if (each := given.value if isinstance(given, Seen) else given) is not None]
        if len(group) > 1 and single:
            bands.append((at, min(single), max(single)))
        before = group[-1].seconds
    return Line(label, class_, tuple(points), tuple(bands))


def _together(values: Sequence[Seen | float]) -> float | None:
    """What several polls say of one side: of errors the share in all of their requests, of a quantile the median."""
    seen = [each for each in values if isinstance(each, Seen) and each.value is not None]
    if not seen:
        return None
    if all(each.bad is not None for each in seen):
        return sum(each.bad or 0 for each in seen) / sum(each.requests for each in seen)
    return sorted(each.value for each in seen if each.value is not None)[len(seen) // 2]


def _last(values: Sequence[Seen | float]) -> float | None:
    """Of what grows from poll to poll, how it stood at the end of the column."""
    return next((each for each in reversed(values) if not isinstance(each, Seen)), None)


def _usual(groups: Sequence[Sequence[Poll]]) -> float:
    """The median distance between two columns."""
    distances = sorted(after[0].seconds - before[-1].seconds for before, after in pairwise(groups))
    return max(1e-9, distances[len(distances) // 2]) if distances else 1.0


def _warm_up(polls: Sequence[Poll]) -> tuple[tuple[float, float], ...]:
    """From the beginning to the last poll before the first that counts."""
    warming = 0.0
    for poll in polls:
        if poll.counted:
            break
        warming = poll.seconds
    return ((0.0, warming),) if warming else ()


def _hits(groups: Sequence[Sequence[Poll]], text: Callable[[Sequence[Poll]], str]) -> Hits:
    edges = [(a[-1].seconds + b[0].seconds) / 2 for a, b in pairwise(groups)]
    last = groups[-1][-1].seconds if groups else 0.0
    bounds = [0.0, *edges, last]
    return tuple((bounds[at], bounds[at + 1], text(group)) for at, group in enumerate(groups))
