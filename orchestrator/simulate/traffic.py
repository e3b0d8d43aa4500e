"""Requests that nobody sends: what one poll counts in each of many rollouts, from a model of two sides.

Arrivals are Poisson, errors independent of each other (or in clusters), latencies as `latency` has them. A mirrored
copy and its live twin are the same request: their latencies go together, and so do some of their errors. An error is
one that every gate counts, whatever its `codes`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orchestrator.gates.spec import Gate
from orchestrator.simulate.cells import LONGEST, Cells, bounds, candidate_cells, stable_cells
from orchestrator.simulate.change import Change
from orchestrator.simulate.course import Stretch
from orchestrator.simulate.latency import Latencies
from orchestrator.simulate.poll import Counted, Ints, Joined, Poll

Floats = NDArray[np.float64]

TOGETHER = 0.5
"""Correlation of a copy's and its twin's log latency, and the share of the rarer side's errors that hit both."""
DIGITS_OF_PAIRS = 3
"""Significant ones of a pair's latencies, as in `Pairs`."""
INCIDENT = 60.0
"""Seconds that an incident lasts; where a stage is short, a quarter of its hold."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """Stable, and its traffic.

    Attributes:
        rate: requests to the endpoint, a second.
        errors: stable's rate, 0..1.
        latencies: stable's.
        clusters: mean size of the clusters that errors come in; 1 for none.
        together: how far a copy and its twin share their fate, 0..1.
        drift: by which part errors and latencies of both rise and fall within an hour, 0..1.
    """

    rate: float
    errors: float
    latencies: Latencies
    clusters: float = 1.0
    together: float = TOGETHER
    drift: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """The latencies that a pair can have once its last digits are cut away, numbered from 0.

    Attributes:
        least, most: of each, microseconds.
        stable, candidate: the cell that each lies in.
    """

    least: Ints
    most: Ints
    stable: Ints
    candidate: Ints

    @classmethod
    def of(cls, stable: Cells, candidate: Cells) -> "Grid":
        """For these cells, whose bounds must have no more digits than pairs have."""
        every = bounds(DIGITS_OF_PAIRS)
        columns = [np.searchsorted(cells.edges, every[:-1], side="right") - 1 for cells in (stable, candidate)]
        return cls(every[:-1], every[1:], *columns)


@dataclass(frozen=True, slots=True)
class Lens:
    """In which cells latencies are counted, for a whole plan.

    Attributes:
        stable, candidate: cells; as small as they can be where no gate looks at latencies.
        timed: whether any gate does.
        twins: whether one looks at the latencies of single pairs.
        slow: an answer of the candidate that takes longer counts as bad for clients, microseconds; None without a
            latency gate.
        grid: of the latencies of pairs.
    """

    stable: Cells
    candidate: Cells
    timed: bool
    twins: bool
    slow: float | None
    grid: Grid


def lens(gates: Sequence[Gate], stretches: Sequence[Stretch], baseline: Baseline, digits: int | None) -> Lens:
    """The cells for a plan on this traffic. `digits`: of the provider's latency bounds."""
    compared = [stretch for stretch in stretches if stretch.stable]
    fewest = min(
        (baseline.rate * stretch.stable * min(stretch.stage.interval, 60.0) for stretch in compared), default=1.0
    )
    timed = any(gate.metric == "latency" for gate in gates)
    twins = any(
        gate.metric == "slowdown" or (gate.metric == "latency" and gate.relative | gate.blame) for gate in gates
    )
    slow = slow_from(gates, baseline.latencies)
    stable = stable_cells(gates, baseline.latencies, fewest, digits, baseline.drift)
    candidate = candidate_cells(gates, stable, digits, slow)
    return Lens(stable, candidate, timed, twins, slow, Grid.of(stable, candidate))


def slow_from(gates: Sequence[Gate], latencies: Latencies) -> float | None:
    """The latency beyond which an answer is a bad one for its client: what the strictest latency gate tolerates."""
    limits = []
    for gate in gates:
        if gate.metric == "latency" and not gate.guards_stable:
            own = [gate.max] if gate.max is not None else []
            limits.append(min([*own, *([gate.ratio * latencies.quantile(gate.quantile)] if gate.relative else [])]))
        elif gate.metric == "slowdown":
            limits.append(gate.ratio * latencies.quantile(0.95))
    return min(limits, default=None)


class Traffic:
    """The polls of many rollouts with one change.

    Args:
        baseline: stable, and how many requests there are.
        change: what the candidate does differently.
        stretches: of the plan.
        view: in which cells latencies are counted.
        rng: seeded.
    """

    def __init__(
        self,
        baseline: Baseline,
        change: Change,
        stretches: Sequence[Stretch],
        view: Lens,
        *,
        rng: np.random.Generator,
    ) -> None:
        self._baseline, self._change, self._view, self._rng = baseline, change, view, rng
        gated = [stretch for stretch in stretches if stretch.stage.gates]
        middle = gated[len(gated) // 2] if gated else None
        self._middle = (middle.stage.index, middle.stage.hold / 2) if middle is not None else (0, 0.0)
        self._shares: dict[tuple[bool, float], Floats] = {}
        self._grids: dict[float, Ints] = {}
        longest = max((stretch.stage.interval for stretch in stretches), default=0.0)
        self._kind = np.int32 if baseline.rate * longest < _SMALL else np.int64

    def poll(self, stretch: Stretch, begin: float, end: float, rows: int) -> Poll:
        """What is counted between two instants (seconds since the stretch began) in so many rollouts."""
        seconds, base = end - begin, self._baseline
        changed = self._changed(stretch, begin)
        wave = 1 + base.drift * math.sin(2 * math.pi * begin / 3600)
        shared = self._incident(stretch, begin, end)
        mine = self._change.errors if changed and self._change.errors is not None else base.errors
        errors, errors_stable = min(1.0, mine * wave + shared), min(1.0, base.errors * wave + shared)
        factor, slower = wave, (self._change.latency if changed else 1.0) * wave
        rate = base.rate * seconds
        live = self._leg(rate * stretch.exposure, rows, errors, slower, candidate=True) if stretch.exposure else None
        legs: dict[str, Counted] = {"live": live} if live is not None else {}
        if stretch.mirrored and stretch.stage.paired and stretch.stable:
            copies, twins, joined = self._joined(
                rate * stretch.mirrored * stretch.stable, rows, errors, errors_stable, slower, factor, changed=changed
            )
            rest = self._leg(
                rate * stretch.stable * (1 - stretch.mirrored), rows, errors_stable, factor, candidate=False
            )
            return Poll(seconds, {**legs, "mirror": copies}, _sum(twins, rest), joined)  # type: ignore[dict-item]
        if stretch.mirrored:
            legs["mirror"] = self._leg(rate * stretch.mirrored, rows, errors, slower, candidate=True)
        stable = None
        if stretch.stable:
            stable = self._leg(rate * stretch.stable, rows, errors_stable, factor, candidate=False)
        if not legs:
            legs["live"] = self._leg(0.0, rows, 0.0, 1.0, candidate=True)
        return Poll(seconds, legs, stable)  # type: ignore[arg-type]

    def bad(self, stretch: Stretch, begin: float, poll: Poll) -> Ints:
        """Answers of the candidate that clients would call bad: errors, and what the change makes of the others.

        Those are answers slower than `Lens.slow` where the change is one of latency, and other answers than stable's.
        """
        live = poll.candidate.get("live")
        if live is None:
            return np.zeros(0, dtype=np.int64)
        good, worse = live.requests - live.errors, np.zeros_like(live.requests)
        if self._change.latency != 1 and live.latency is not None and self._view.slow is not None:
            column = int(self._view.candidate.surely(self._view.slow))
            slow = live.latency[:, column:].sum(axis=1)
            worse = slow * good // np.maximum(live.requests, 1)  # of errors, as many are slow as of all
        if self._change.answers and self._changed(stretch, begin):
            worse = worse + self._rng.binomial(good - worse, self._change.answers)
        return live.errors + worse

    def _changed(self, stretch: Stretch, begin: float) -> bool:
        return self._change.begins == "start" or (stretch.stage.index, begin) >= self._middle

    def _incident(self, stretch: Stretch, begin: float, end: float) -> float:
        """Errors that both sides have in this poll beside their own: from the middle of the hold on."""
        if not self._change.incident:
            return 0.0
        held = max(stretch.stage.hold, 10 * stretch.stage.interval)
        overlap = min(end, held / 2 + min(INCIDENT, held / 4)) - max(begin, held / 2)
        return self._change.incident * max(0.0, overlap) / (end - begin)

    def _leg(self, mean: float, rows: int, errors: float, factor: float, *, candidate: bool) -> Counted:
        shares = self._cells_of(factor, candidate=candidate) if self._view.timed else None
        latency: Ints | None = None
        if shares is not None and mean >= len(shares):
            # Of Poisson arrivals each cell's are Poisson on their own, which is drawn faster where there are many.
            latency = self._rng.poisson(mean * shares, (rows, len(shares))).astype(self._kind)
            requests = latency.sum(axis=1, dtype=np.int64)
        else:
            requests = self._rng.poisson(mean, rows)
            latency = self._latencies(requests, factor, candidate=candidate)
        return Counted(requests, self._errors(requests, errors), latency)

    def _errors(self, requests: Ints, rate: float) -> Ints:
        if self._baseline.clusters <= 1 or rate >= 1:
            return self._rng.binomial(requests, rate)
        size = self._baseline.clusters
        clusters = self._rng.poisson(requests * (rate / size))
        # A sum of geometric sizes: one each, and a negative binomial of the rest.
        more = self._rng.negative_binomial(np.maximum(clusters, 1), 1 / size)
        return np.minimum(np.where(clusters > 0, clusters + more, 0), requests)

    def _latencies(self, requests: Ints, factor: float, *, candidate: bool) -> Ints | None:
        if not self._view.timed:
            return None
        return self._rng.multinomial(requests, self._cells_of(factor, candidate=candidate)).astype(self._kind)

    def _cells_of(self, factor: float, *, candidate: bool) -> Floats:
        """The probability of each cell, where answers take so many times as long as stable's."""
        factor = round(factor, 6)
        shares = self._shares.get((candidate, factor))
        if shares is None:
            if len(self._shares) > 2000:
                self._shares.clear()
            cells = self._view.candidate if candidate else self._view.stable
            shares = cells.shares(self._baseline.latencies, factor)
            shares /= shares.sum()
            self._shares[candidate, factor] = shares
        return shares

    def _joined(
        self,
        mean: float,
        rows: int,
        errors: float,
        errors_stable: float,
        slower: float,
        factor: float,
        *,
        changed: bool,
    ) -> tuple[Counted, Counted, Joined]:
        """(copies, their live twins, pairs)."""
        rng, change, base = self._rng, self._change, self._baseline
        copies = rng.poisson(mean, rows)
        lost = rng.binomial(copies, change.missing if changed else 0.0)
        pairs = copies - lost
        both = base.together * min(errors, errors_stable)
        both += (errors - both) * (errors_stable - both) / (1 - both) if both < 1 else 0.0
        shares = np.clip([both, errors - both, errors_stable - both, 1 - errors - errors_stable + both], 0.0, 1.0)
        table = rng.multinomial(pairs, shares / shares.sum())
        bad = table[:, 0] + table[:, 1] + rng.binomial(lost, errors)
        bad_twins = table[:, 0] + table[:, 2] + rng.binomial(lost, errors_stable)
        different = rng.binomial(pairs, change.answers if changed else 0.0)
        none = np.empty(0, dtype=np.int64)
        latencies = (none, none, none, none, none)
        of_copies, of_twins = (self._latencies(lost, f, candidate=c) for f, c in ((slower, True), (factor, False)))
        if self._view.twins:
            row = np.repeat(np.arange(rows), pairs)
            shared = math.sqrt(base.together) * rng.standard_normal(len(row), dtype=np.float32)
            own = math.sqrt(1 - base.together)
            copy, twin = (
                self._digits(f)[self._place(shared + own * rng.standard_normal(len(row), dtype=np.float32))]
                for f in (slower, factor)
            )
            grid = self._view.grid
            latencies = (row, grid.least[copy], grid.most[copy], grid.least[twin], grid.most[twin])
            if of_copies is not None and of_twins is not None:
                of_copies += _columns(grid.candidate[copy], row, rows, len(self._view.candidate))
                of_twins += _columns(grid.stable[twin], row, rows, len(self._view.stable))
        elif self._view.timed:
            of_copies = self._latencies(copies, slower, candidate=True)
            of_twins = self._latencies(copies, factor, candidate=False)
        joined = Joined(table, lost, different, *latencies)
        return Counted(copies, bad, of_copies), Counted(copies, bad_twins, of_twins), joined

    @staticmethod
    def _place(normal: NDArray[np.float32]) -> Ints:
        """Standard normal draws as places in a table of `_FINE` to the unit."""
        normal += _FAR
        normal *= _FINE
        places: Ints = np.clip(normal, 0, len(_NORMAL) - 1, out=normal).astype(np.int32)
        return places

    def _digits(self, factor: float) -> Ints:
        """For each place of `_NORMAL` the number of its latency in the grid of pairs."""
        factor = round(factor, 6)
        found = self._grids.get(factor)
        if found is None:
            if len(self._grids) > 50:
                self._grids.clear()
            latencies = np.clip(self._baseline.latencies.at(_NORMAL) * factor, 1, LONGEST - 1)
            found = np.searchsorted(self._view.grid.least, latencies, side="right") - 1
            # The smaller the table, the more of it is at hand: this is what takes the time.
            found = self._grids[factor] = found.astype(np.int16)
        return found


_SMALL = 1e9  # requests in a poll that can be added up in 32 bits, which takes half the time
_FAR, _FINE = 8.0, 4096
_NORMAL = (np.arange(2 * int(_FAR) * _FINE) + 0.5) / _FINE - _FAR


def _sum(one: Counted, other: Counted) -> Counted:
    latency = one.latency + other.latency if one.latency is not None and other.latency is not None else None
    return Counted(one.requests + other.requests, one.errors + other.errors, latency)


def _columns(column: Ints, row: Ints, rows: int, width: int) -> Ints:
    """(rollouts, columns): how many lie in each cell."""
    counts: Ints = np.bincount(row * width + column, minlength=rows * width).reshape(rows, width)
    return counts
