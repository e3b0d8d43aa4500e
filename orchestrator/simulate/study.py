"""One plan, one traffic, many changes: the table, and the smallest regression that is caught nine times in ten.

The one entrance for whoever simulates: the command line, benchmarks, tests. Seeds are derived from the one given and
from what is simulated, so that a row is the same whichever others stand beside it.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from orchestrator.simulate import course as courses
from orchestrator.simulate.change import Change, edges
from orchestrator.simulate.course import gates_of
from orchestrator.simulate.given import Figure
from orchestrator.simulate.run import Ended, Rules, run
from orchestrator.simulate.summary import Row, Share, summed_up
from orchestrator.simulate.traffic import Baseline, Lens, Traffic, lens
from orchestrator.stages import Stage

BATCH = 1000
"""Rollouts that go through a plan together, unless their polls would take too much memory."""
MEMORY = 32_000_000
"""Numbers that one batch may hold."""
NINE_IN_TEN = 0.9
RESOLUTION = 1.1
"""The smallest regression caught is found to within this factor."""

TRIED = 400
"""Rollouts for each size that the search for the smallest regression tries, at most."""

__all__ = ["Result", "Smallest", "Study", "caveats", "gates_of", "kinds", "smallest"]

Told = Callable[[int], None]
Kind = Literal["errors", "latency"]


@dataclass(frozen=True, slots=True)
class Study:
    """A plan on its traffic, ready to be simulated.

    Attributes:
        rules: of the plan. view: in which cells latencies are counted. baseline: stable and its traffic.
        seed: of all that is random.
    """

    rules: Rules
    view: Lens
    baseline: Baseline
    seed: int = 0

    @classmethod
    def of(
        cls,
        stages: Sequence[Stage],
        stable: str | None,
        baseline: Baseline,
        *,
        digits: int | None = None,
        seed: int = 0,
    ) -> "Study":
        """From compiled stages.

        Args:
            stages: of the plan. stable: its deployment, or None.
            baseline: its traffic.
            digits: of the provider's latency bounds, as its `Capabilities` say.
            seed: of all that is random.
        """
        stretches, gates = courses.course(stages, stable), gates_of(stages)
        view = lens(gates, stretches, baseline, digits)
        rules = Rules(
            stretches,
            gates,
            courses.starts(stages),
            view.stable,
            view.candidate,
            assumed=courses.assumed(gates),
        )
        return cls(rules, view, baseline, seed)

    def ended(self, change: Change, rollouts: int, told: Told = lambda _: None) -> Ended:
        """How so many rollouts with this change end. `told`: how many have ended, now and then."""
        return Ended.together(list(self.batches(change, rollouts, told)))

    def row(self, change: Change, rollouts: int, told: Told = lambda _: None) -> Row:
        """The same, summed up."""
        return summed_up(change, self.ended(change, rollouts, told), self.rules)

    def batches(self, change: Change, rollouts: int, told: Told) -> Iterator[Ended]:
        """The same, batch by batch."""
        left, number, size = rollouts, 0, self.batch
        while left > 0 or not number:
            rows = min(size, left)
            rng = np.random.default_rng([self.seed, number, *_digest(change)])
            traffic = Traffic(self.baseline, change, self.rules.stretches, self.view, rng=rng)
            yield run(self.rules, traffic, rows, told)
            left, number = left - rows, number + 1

    @property
    def batch(self) -> int:
        """Rollouts that go through the plan together: as many as memory allows."""
        one = 14 * (len(self.rules.stable) + len(self.rules.candidate))
        one += 200 * len(self.rules.gates) * (1 + self.rules.starts)
        if self.rules.joins and self.view.twins:
            polls = [s.mirrored * s.stable * s.stage.interval for s in self.rules.stretches if s.stage.paired]
            one += int(8 * self.baseline.rate * max(polls, default=0.0))
        return max(1, min(BATCH, MEMORY // one))


@dataclass(frozen=True, slots=True)
class Smallest:
    """The smallest regression of a kind that is caught nine times in ten.

    Attributes:
        kind: `errors`: the candidate's rate of errors beyond stable's, 0..1; `latency`: a factor.
        caught: the smallest tried that was, and how often; None when none was.
        missed: the largest below it that was not; None when the smallest tried was caught.
    """

    kind: Kind
    caught: tuple[float, Share] | None
    missed: tuple[float, Share] | None


def smallest(study: Study, kind: Kind, rollouts: int, told: Told = lambda _: None) -> Smallest:
    """By bisection on a logarithmic scale, to within RESOLUTION.

    Args:
        study: the plan. kind: of regression.
        rollouts: for each size that is tried.
    """
    base = study.baseline
    edge, slower = edges(study.rules.gates, base.errors, base.latencies)
    if kind == "errors":
        low, high = max(1e-5, ((edge if edge is not None else base.errors) - base.errors) / 4), 1 - base.errors
    else:
        low, high = max(0.01, ((slower if slower is not None else 1.0) - 1) / 4), 99.0

    def tried(size: float) -> Share:
        made = Change("", errors=base.errors + size) if kind == "errors" else Change("", latency=1 + size)
        return study.row(made, rollouts, told).caught

    def shown(size: float, share: Share) -> tuple[float, Share]:
        return (size if kind == "errors" else 1 + size), share

    first, last = tried(low), tried(high)
    if last.rate < NINE_IN_TEN:
        return Smallest(kind, None, shown(high, last))
    if first.rate >= NINE_IN_TEN:
        return Smallest(kind, shown(low, first), None)
    missed, caught = (low, first), (high, last)
    while caught[0] / missed[0] > RESOLUTION:
        # From the bottom in steps of two first: large regressions are of no interest, and small ones cost most.
        size = (
            min(2 * missed[0], math.sqrt(missed[0] * caught[0]))
            if caught[0] == high
            else math.sqrt(missed[0] * caught[0])
        )
        share = tried(size)
        if share.rate >= NINE_IN_TEN:
            caught = (size, share)
        else:
            missed = (size, share)
    return Smallest(kind, shown(*caught), shown(*missed))


@dataclass(slots=True)
class Result:
    """What a simulation found, as far as it got.

    Attributes:
        study: what was simulated. figures: of its traffic, with where they came from.
        caveats: what it does not do, as sentences.
        asked, rollouts: rows that were asked for, and rollouts of each.
        rows: of the table. smallest: regressions caught nine times in ten.
        complete: nobody interrupted it.
    """

    study: Study
    figures: tuple[Figure, ...]
    caveats: tuple[str, ...]
    asked: int
    rollouts: int
    rows: list[Row] = field(default_factory=list)
    smallest: list[Smallest] = field(default_factory=list)
    complete: bool = True

    def add(self, change: Change, told: Told) -> None:
        """Simulate one more row. Where it is interrupted, what was done by then is a row, too."""
        done: list[Ended] = []
        try:
            for batch in self.study.batches(change, self.rollouts, told):
                done.append(batch)  # noqa: PERF402 - what is done before an interruption must be there
        finally:
            if done:
                self.rows.append(summed_up(change, Ended.together(done), self.study.rules))


def caveats(study: Study, stages: Sequence[Stage]) -> tuple[str, ...]:
    """What of these stages a simulation does not do, as sentences."""
    return courses.left_out(stages, paired=study.rules.joins)


def kinds(study: Study) -> tuple[Kind, ...]:
    """The kinds of regression that some gate of the plan looks at."""
    metrics = {gate.metric for gate in study.rules.gates if gate.name not in study.rules.assumed}
    found: list[Kind] = ["errors"] if "error_rate" in metrics else []
    return (*found, "latency") if metrics & {"latency", "slowdown"} else tuple(found)


def _digest(change: Change) -> list[int]:
    """Numbers that stand for a change, whatever it is called."""
    plain = replace(change, name="", harmless=False)
    return list(repr(plain).encode())
