"""What one poll shows a gate: from legs, joined pairs and samples to the counts that bets are settled by.

Each side of a gate takes the reading that makes its own claim harder. FAIL counts what is surely bad of the candidate
and all that may be bad of stable; PASS the other way round. That is how buckets of a histogram are read, and also
mirrored requests that could not be joined: for PASS they are bad, FAIL leaves them to the bets on the legs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.gates.bets import Bet, Counts, PairCounts, bets_of
from orchestrator.gates.histogram import Baseline, Tail
from orchestrator.gates.kernels import Side
from orchestrator.gates.spec import Gate, TermName, is_error
from providers.measurement import TIMEOUT, Histogram, Leg, Measurement, Pairs, Sample, Source

_LATER = np.iinfo(np.int64).max
"""Latency of a request that got no answer."""
_QUERY_SHOWN = 200


@dataclass(frozen=True, slots=True)
class Sides:
    """Who is compared with whom in a stage.

    Attributes:
        candidate: deployment.
        source: of its requests where a gate says auto.
        stable: deployment with live traffic, or None.
        before: stable's leg of a poll before the stage, for gates that guard it; None when there is none left.
    """

    candidate: str
    source: Source
    stable: str | None
    before: Leg | None = None


class Reading:
    """One poll, as every gate of a stage reads it.

    Args:
        measurement: the poll.
        sides: who is compared.
        recent: stable's latencies in the polls before, from which thresholds are taken.
    """

    def __init__(self, measurement: Measurement, sides: Sides, recent: Histogram) -> None:
        self._measurement, self._sides, self._recent = measurement, sides, recent
        self._tails: dict[int, Tail] = {}
        self._legs: dict[tuple[str, str], Leg] = {}
        self._errors: dict[tuple[int, tuple[str, ...]], int] = {}
        self._known: dict[float, Baseline | None] = {}
        self._both: dict[tuple[str, bool], tuple[Leg, Leg | None]] = {}
        self._seen: dict[tuple[object, ...], Counts] = {}
        self._problems: dict[tuple[int, bool], str] = {}
        self._joined: _Joined | None = None

    # --- who --------------------------------------------------------------------------------------

    def source_of(self, gate: Gate) -> Source:
        """Which of the candidate's requests a gate judges."""
        return self._sides.source if gate.source == "auto" else gate.source

    def candidate(self, gate: Gate) -> Leg:
        """Who is judged: the candidate, or stable where a gate guards it."""
        return self._who(gate)[0]

    def stable(self, gate: Gate) -> Leg | None:
        """With whom it is compared, if with anybody."""
        return self._who(gate)[1]

    def _who(self, gate: Gate) -> tuple[Leg, Leg | None]:
        key = gate.source, gate.guards_stable
        found = self._both.get(key)
        if found is None:
            stable = self._leg(self._sides.stable, "live") if self._sides.stable else None
            if gate.guards_stable:
                found = stable or Leg("", "live", 0, {}), self._sides.before
            else:
                found = self._leg(self._sides.candidate, self.source_of(gate)), stable
            self._both[key] = found
        return found

    def _leg(self, deployment: str, source: Source) -> Leg:
        found = self._legs.get((deployment, source))
        if found is None:
            found = self._legs[deployment, source] = self._measurement.leg(deployment, source)
        return found

    def latencies(self, gate: Gate) -> tuple[Histogram | None, Histogram | None]:
        """Latencies of both, for the figures that people see."""
        stable = self.stable(gate)
        return self.candidate(gate).latency, stable.latency if stable is not None else None

    # --- what can be read -------------------------------------------------------------------------

    def problem(self, gate: Gate) -> str:
        """Why a gate's figures cannot be used, as a clause, or ""."""
        if gate.metric in ("prediction", "external"):
            sample = self._measurement.samples.get(gate.name)
            return _unusable(gate, sample) if sample is not None else ""
        if gate.metric in ("slowdown", "missing_pairs"):
            pairs = self._measurement.pairs
            return _unjoinable(pairs) if pairs is not None else ""
        stable = self.stable(gate)
        problem = self._unreadable(gate, self.candidate(gate))
        if not problem and stable is not None and (gate.relative or gate.blame):
            problem = self._unreadable(gate, stable)
        if not problem and self._measurement.pairs is not None and self.source_of(gate) == "mirror":
            problem = _unjoinable(self._measurement.pairs)
        return problem

    def _unreadable(self, gate: Gate, leg: Leg) -> str:
        key = id(leg), gate.metric == "latency"
        if key not in self._problems:
            self._problems[key] = _unreadable(gate, leg)
        return self._problems[key]

    def nothing(self, gate: Gate) -> str:
        """Why a gate has no figures in this poll, where its source says so, or ""."""
        if gate.metric in ("prediction", "external"):
            sample = self._measurement.samples.get(gate.name)
            if sample is None:
                return "nothing was measured"
            return _asked(sample, sample.nothing) if sample.nothing else ""
        if gate.metric in ("slowdown", "missing_pairs") and self._measurement.pairs is None:
            return "no mirrored request was joined with its live twin"
        return ""

    # --- how many ---------------------------------------------------------------------------------

    def requests(self, gate: Gate) -> float:
        """What a gate judges in this poll: requests of the candidate, joined pairs, or points in time."""
        match gate.metric:
            case "error_rate":
                return self.candidate(gate).requests
            case "latency":
                latency = self.candidate(gate).latency
                return self._tail(latency).total if latency is not None else 0
        if gate.valued:
            sample = self._measurement.samples.get(gate.name)
            return len(sample.values) if sample is not None else 0
        return float(np.sum(self._plain(gate, "bound", "fail").total_candidate))

    def counts(self, gate: Gate, bet: Bet, side: Side) -> Counts | PairCounts:
        """What settles a bet; all zero where there is nothing to go by."""
        if bet in ("paired", "paired_blame"):
            return self._paired(gate, bet, side)
        return self._streams(gate, bet, side) if _counted_by_legs(gate) else self._plain(gate, bet, side)

    def seen(self, gate: Gate) -> tuple[tuple[float, float], tuple[float, float]]:
        """(requests, bad) of the candidate and of stable, as a gate's first term counts them for FAIL."""
        bet: Bet = "relative" if gate.terms[0] == "relative" else "bound"
        seen = self._streams(gate, bet, "fail") if _counted_by_legs(gate) else self._plain(gate, bet, "fail")
        bad, bad_stable, total, total_stable = (_whole(value) for value in seen[:4])
        if gate.metric == "latency" and bet == "relative" and self.known(gate) is None:
            # There was no threshold yet: they are seen, though not judged.
            total, total_stable = self.requests(gate), self._total_stable(gate)
        return (total, bad), (total_stable, bad_stable)

    def clusters(self, gate: Gate, term: TermName) -> tuple[float, float] | None:
        """(bad, requests) by which a term's clusters are known: stable's, or what a gate that has no stable side counts
        itself; None where nothing is to be learnt.
        """
        if gate.valued:
            return None
        if gate.metric in ("error_rate", "latency"):
            stable = self.stable(gate)
            if stable is None:
                return None
            if gate.metric == "latency" and term == "relative" and self.known(gate) is None:
                # Nothing is bad where there is no threshold yet; that is not a quiet minute.
                return 0, 0
            bet: Bet = "relative" if term == "relative" else "bound"
            return self._bad(gate, bet, "fail", stable, of_stable=True), self._total(gate, stable)
        seen = self._plain(gate, "bound" if term == "bound" else "relative", "fail")
        if gate.metric == "external" and (gate.relative or gate.blame):
            return float(np.sum(seen.bad_stable)), float(np.sum(seen.total_stable))
        return float(np.sum(seen.bad_candidate)), float(np.sum(seen.total_candidate))

    def known(self, gate: Gate) -> Baseline | None:
        """What stable's past says about a latency gate's quantile."""
        if gate.quantile not in self._known:
            self._known[gate.quantile] = self._tail(self._recent).baseline(gate.quantile)
        return self._known[gate.quantile]

    def joined(self, gate: Gate, so_far: int | None) -> int | None:
        """Pairs that a gate has judged in a stage, with this poll's; None where it looks at none."""
        pairs = self._measurement.pairs
        if pairs is None or self.source_of(gate) != "mirror" or self._sides.stable is None:
            return so_far
        placed = bets_of(gate, compared=True, paired=True)
        return (so_far or 0) + pairs.joined if "paired" in placed or "paired_blame" in placed else so_far

    def left_out(self, gate: Gate, so_far: Mapping[str, int]) -> Mapping[str, int]:
        """Why pairs of a stage could not be judged -> how many, with this poll's."""
        sample = self._measurement.samples.get(gate.name)
        if sample is None or not sample.left_out:
            return so_far
        reasons = {**so_far, **sample.left_out}
        return {why: so_far.get(why, 0) + sample.left_out.get(why, 0) for why in reasons}

    def examples(self, gate: Gate, so_far: tuple[str, ...]) -> tuple[str, ...]:
        """Examples of what was found, as many as the gate asks for."""
        sample = self._measurement.samples.get(gate.name)
        if sample is None or gate.comparison is None or not sample.examples:
            return so_far
        return (*so_far, *sample.examples)[: gate.comparison.examples]

    # --- two streams ------------------------------------------------------------------------------

    def _streams(self, gate: Gate, bet: Bet, side: Side) -> Counts:
        candidate, stable = self._who(gate)
        what: tuple[object, ...]
        if gate.metric == "error_rate":
            what = gate.codes
        else:
            what = (side, gate.quantile, gate.ratio) if bet == "relative" else (side, gate.max)
        # Bets and gates that ask for the same counts share them: most of them do.
        key = id(candidate), id(stable), what
        found = self._seen.get(key)
        if found is None:
            found = self._seen[key] = self._counted(gate, bet, side, candidate, stable)
        return found

    def _counted(self, gate: Gate, bet: Bet, side: Side, candidate: Leg, stable: Leg | None) -> Counts:
        expected = 0.0
        if gate.metric == "latency" and bet == "relative":
            known = self.known(gate)
            if known is None:
                return Counts(0, 0, 0, 0)
            expected = known.rate
        bad, total = self._bad(gate, bet, side, candidate, of_stable=False), self._total(gate, candidate)
        if stable is None:
            return Counts(bad, 0, total, 0, expected)
        return Counts(
            bad, self._bad(gate, bet, side, stable, of_stable=True), total, self._total(gate, stable), expected
        )

    def _total(self, gate: Gate, leg: Leg) -> int:
        if gate.metric == "error_rate":
            return leg.requests
        return self._tail(leg.latency).total if leg.latency is not None else 0

    def _total_stable(self, gate: Gate) -> int:
        stable = self.stable(gate)
        return self._total(gate, stable) if stable is not None else 0

    def _bad(self, gate: Gate, bet: Bet, side: Side, leg: Leg, *, of_stable: bool) -> int:
        if gate.metric == "error_rate":
            key = id(leg), gate.codes
            if key not in self._errors:
                self._errors[key] = sum(n for status, n in leg.classes.items() if is_error(status, gate.codes))
            return self._errors[key]
        tail = self._tail(leg.latency or Histogram())
        if bet != "relative":
            assert gate.max is not None
            return tail.surely(gate.max) if side == "fail" else tail.maybe(gate.max)
        known = self.known(gate)
        if known is None:
            return 0
        if of_stable:
            # The threshold is one of stable's own bounds, so that both readings agree unless its buckets changed
            # meanwhile.
            return tail.maybe(known.threshold) if side == "fail" else tail.surely(known.threshold)
        threshold = _times(gate.ratio, known.threshold)
        return tail.surely(threshold) if side == "fail" else tail.maybe(threshold)

    def _tail(self, histogram: Histogram) -> Tail:
        found = self._tails.get(id(histogram))
        if found is None:
            found = self._tails[id(histogram)] = Tail(histogram)
        return found

    # --- pairs ------------------------------------------------------------------------------------

    def _paired(self, gate: Gate, bet: Bet, side: Side) -> PairCounts:
        pairs = self._measurement.pairs
        if pairs is None or self.source_of(gate) != "mirror":
            return PairCounts(0, 0, 0, 0)
        if gate.metric == "error_rate":
            table = _errors(gate, pairs)
        else:
            known = self.known(gate)
            if bet == "paired" and known is None:
                return PairCounts(0, 0, 0, 0)
            below = gate.max if bet == "paired_blame" or known is None else known.threshold
            assert below is not None
            above = _times(gate.ratio, below) if bet == "paired" else below
            table = self._latencies(pairs).beyond(above, below, side)
        both, only_candidate, only_stable, neither = table
        if side == "pass":
            only_candidate += pairs.lost
        return PairCounts(both, only_candidate, only_stable, neither)

    def _latencies(self, pairs: Pairs) -> "_Joined":
        if self._joined is None:
            self._joined = _Joined(pairs)
        return self._joined

    # --- one stream, or samples -------------------------------------------------------------------

    def _plain(self, gate: Gate, bet: Bet, side: Side) -> Counts:
        pairs = self._measurement.pairs
        if gate.metric == "slowdown":
            if pairs is None:
                return Counts(0, 0, 0, 0)
            slower, compared = self._latencies(pairs).slower(gate.ratio, side)
            return Counts(
                slower + (pairs.lost if side == "pass" else 0), 0, compared + (pairs.lost if side == "pass" else 0), 0
            )
        if gate.metric == "missing_pairs":
            if pairs is None:
                return Counts(0, 0, 0, 0)
            silent = sum(n for copy, _, n in pairs.classes if copy == TIMEOUT)
            return Counts(silent + pairs.lost, 0, pairs.joined + pairs.lost, 0)
        sample = self._measurement.samples.get(gate.name)
        if sample is None:
            return Counts(0, 0, 0, 0)
        if gate.valued:
            return _points(gate, bet, sample)
        mine, other = sample.candidate, sample.stable
        return Counts(
            mine.bad if mine else 0.0,
            other.bad if other else 0.0,
            mine.total if mine else 0.0,
            other.total if other else 0.0,
        )


class _Joined:
    """Latencies of joined pairs, as arrays: the copy's and the twin's bounds, and how many."""

    def __init__(self, pairs: Pairs) -> None:
        rows = pairs.latencies
        self._n = np.array([n for _, _, n in rows], dtype=np.int64)
        self._copy = _bounds([copy for copy, _, _ in rows], pairs.digits)
        self._twin = _bounds([twin for _, twin, _ in rows], pairs.digits)

    def beyond(self, above: float, below: float, side: Side) -> tuple[int, int, int, int]:
        """Pairs by whether the copy took more than `above`, and its twin more than `below` (microseconds)."""
        (copy_least, copy_most), (twin_least, twin_most) = self._copy, self._twin
        if side == "fail":
            worse, bad = copy_least >= above, twin_most > below
        else:
            worse, bad = copy_most > above, twin_least >= below
        return self._sum(worse & bad), self._sum(worse & ~bad), self._sum(~worse & bad), self._sum(~worse & ~bad)

    def slower(self, ratio: float, side: Side) -> tuple[int, int]:
        """(pairs whose copy took more than `ratio` times as long as its twin, pairs that can be told)."""
        (copy_least, copy_most), (twin_least, twin_most) = self._copy, self._twin
        told = ~((copy_least == _LATER) & (twin_least == _LATER))
        answered = twin_least != _LATER
        if side == "fail":
            longer = answered & (copy_least >= ratio * twin_most.astype(np.float64))
        else:
            longer = answered & (copy_most > ratio * twin_least.astype(np.float64))
        return self._sum(longer & told), self._sum(told)

    def _sum(self, chosen: NDArray[np.bool_]) -> int:
        return int(self._n[chosen].sum())


def _bounds(latencies: list[int | None], digits: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Least and most of each: what was cut away may have been anything up to the next number of so many digits."""
    least = np.array([_LATER if us is None else us for us in latencies], dtype=np.int64)
    width = np.array([0 if us is None else 10 ** max(0, len(str(us)) - digits) for us in latencies], dtype=np.int64)
    return least, least + width


def _errors(gate: Gate, pairs: Pairs) -> tuple[int, int, int, int]:
    table = {(True, True): 0, (True, False): 0, (False, True): 0, (False, False): 0}
    for copy, twin, n in pairs.classes:
        table[gate.is_error(copy), gate.is_error(twin)] += n
    return table[True, True], table[True, False], table[False, True], table[False, False]


def _points(gate: Gate, bet: Bet, sample: Sample) -> Counts:
    """Points in time that lie beyond the limit, among those that can be told."""
    if bet == "bound":
        assert gate.max is not None
        limit = gate.max
        return Counts(sum(1 for own, _ in sample.values if own > limit), 0, len(sample.values), 0)
    ratio, increase = (1.0, 0.0) if bet == "blame" else (gate.ratio, gate.increase)
    both = [(own, other) for own, other in sample.values if other is not None]
    return Counts(sum(1 for own, other in both if own > ratio * other + increase), 0, len(both), 0)


def _counted_by_legs(gate: Gate) -> bool:
    return gate.metric in ("error_rate", "latency")


def _times(ratio: float, threshold: float) -> float:
    return round(ratio * threshold, 6)  # 1.1 * 3000 must meet the bound at 3300


def _whole(value: Any) -> float:
    if type(value) is int:
        return value
    number = float(value)
    return int(number) if number.is_integer() else number


def _unreadable(gate: Gate, leg: Leg) -> str:
    if leg.requests < 0 or min(leg.classes.values(), default=0) < 0 or sum(leg.classes.values()) > leg.requests:
        return f"the counts of {leg.deployment} ({leg.source}) do not add up"
    if gate.metric == "latency" and leg.requests and leg.latency is None:
        return f"there are no latencies for {leg.deployment} ({leg.source})"
    return ""


def _unjoinable(pairs: Pairs) -> str:
    counts = [n for *_, n in (*pairs.classes, *pairs.latencies)] + list(pairs.missing.values())
    if min(counts, default=0) < 0 or (pairs.latencies and sum(n for _, _, n in pairs.latencies) != pairs.joined):
        return "the counts of joined pairs do not add up"
    return ""


def _asked(sample: Sample, clause: str) -> str:
    query = sample.query if len(sample.query) <= _QUERY_SHOWN else sample.query[: _QUERY_SHOWN - 3] + "..."
    return f"{clause}; asked was {query}" if query else clause


def _unusable(gate: Gate, sample: Sample) -> str:
    if sample.problem:
        return _asked(sample, sample.problem)
    counted: Mapping[str, Any] = {"candidate": sample.candidate, "stable": sample.stable}
    for count in counted.values():
        if count is not None and not (0 <= count.bad <= count.total < float("inf")):
            return f"{count.bad:g} bad of {count.total:g} do not add up"
    if gate.valued and not all(np.isfinite(value) for point in sample.values for value in point if value is not None):
        return "a value is no number"
    return ""
