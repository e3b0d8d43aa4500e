"""`gates.reading` of many rollouts at once: from a poll to the counts that a gate's bets are settled by."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from orchestrator.gates.bets import Bet, Counts, PairCounts
from orchestrator.gates.kernels import Side
from orchestrator.gates.spec import Gate, TermName
from orchestrator.simulate.cells import Cells
from orchestrator.simulate.poll import Counted, Poll
from orchestrator.simulate.recent import Known, Recent
from providers.measurement import Source

Ints = NDArray[Any]


class Glance:
    """One poll, as every gate of a stage reads it.

    Args:
        poll: of all rollouts.
        stable, candidate: cells of their latencies.
        source: of the candidate's requests where a gate says auto.
        recent: stable's latencies before this poll; None where no gate compares any.
        compared: stable has live traffic in this stage.
    """

    def __init__(
        self,
        poll: Poll,
        stable: Cells,
        candidate: Cells,
        source: Literal["mirror", "live"],
        recent: Recent | None,
        *,
        compared: bool,
    ) -> None:
        self._poll, self._source, self._recent = poll, source, recent
        self._cells = {"stable": stable, "candidate": candidate}
        rows = len(next(iter(poll.candidate.values())).requests)
        self._zero = np.zeros(rows, dtype=np.int64)
        self._none = self._nothing(rows, candidate)
        self._stable = (poll.stable or self._nothing(rows, stable)) if compared else None
        self._tails: dict[int, Ints] = {}
        self._known: dict[float, Known] = {}

    def _nothing(self, rows: int, cells: Cells) -> Counted:
        return Counted(self._zero, self._zero, np.zeros((rows, len(cells)), dtype=np.int64))

    # --- how many ---------------------------------------------------------------------------------

    def requests(self, gate: Gate) -> Ints:
        """What a gate judges in this poll."""
        match gate.metric:
            case "error_rate":
                return self._leg(gate).requests
            case "latency":
                return self._total(gate, self._leg(gate))
        return np.asarray(self._plain(gate, "fail").total_candidate)

    def totals(self, gate: Gate) -> tuple[Ints, Ints]:
        """Requests of the candidate and of stable that its first term counts for FAIL."""
        if gate.metric in ("error_rate", "latency"):
            stable = self._total(gate, self._stable) if self._stable is not None else self._zero
            return self._total(gate, self._leg(gate)), stable
        return self.requests(gate), self._zero

    def clusters(self, gate: Gate, term: TermName) -> tuple[Any, Any] | None:
        """(bad, requests) by which a term's clusters are known; None where nothing is to be learnt."""
        if gate.metric in ("error_rate", "latency"):
            if self._stable is None:
                return None
            bet: Bet = "relative" if term == "relative" else "bound"
            bad, total = self._bad(gate, bet, "fail", self._stable, of_stable=True), self._total(gate, self._stable)
            if gate.metric == "latency" and term == "relative":
                total = np.where(self._threshold(gate).there, total, 0)
            return bad, total
        seen = self._plain(gate, "fail")
        return seen.bad_candidate, seen.total_candidate

    def counts(self, gate: Gate, bet: Bet, side: Side) -> Counts | PairCounts:
        """What settles a bet; all zero where there is nothing to go by."""
        if bet in ("paired", "paired_blame"):
            return self._paired(gate, bet, side)
        if gate.metric not in ("error_rate", "latency"):
            return self._plain(gate, side)
        leg, stable = self._leg(gate), self._stable
        bad, total = self._bad(gate, bet, side, leg, of_stable=False), self._total(gate, leg)
        expected: Any = 0.0
        there = None
        if gate.metric == "latency" and gate.relative:
            known = self._threshold(gate)
            expected = np.where(known.there, known.rate, 0.0)
            there = known.there if bet == "relative" and not known.there.all() else None
        if stable is None:
            return Counts(bad, self._zero, total, self._zero, expected)
        others = self._bad(gate, bet, side, stable, of_stable=True), self._total(gate, stable)
        seen = (bad, others[0], total, others[1])
        if there is not None:
            seen = tuple(np.where(there, each, 0) for each in seen)  # type: ignore[assignment]
        return Counts(*seen, expected)

    # --- two streams ------------------------------------------------------------------------------

    def _leg(self, gate: Gate) -> Counted:
        source: Source = self._source if gate.source == "auto" else gate.source
        return self._poll.candidate.get(source, self._none)

    def _total(self, gate: Gate, leg: Counted) -> Ints:
        if gate.metric == "error_rate":
            return leg.requests
        return self._tail(leg)[:, 0]

    def _bad(self, gate: Gate, bet: Bet, side: Side, leg: Counted, *, of_stable: bool) -> Ints:
        if gate.metric == "error_rate":
            return leg.errors
        cells = self._cells["stable" if of_stable else "candidate"]
        tail = self._tail(leg)
        if bet != "relative":
            assert gate.max is not None
            return tail[:, int(cells.surely(gate.max) if side == "fail" else cells.maybe(gate.max))]
        known = self._threshold(gate)
        limit = self._limit(gate, of_stable=of_stable)
        # FAIL takes of the candidate what is surely above, and of stable all that may be; PASS the other way round.
        surely = (side == "fail") != of_stable
        column = (cells.surely(limit) if surely else cells.maybe(limit))[known.cell]
        counted = np.take_along_axis(tail, column[:, np.newaxis], axis=1)[:, 0]
        return counted if known.there.all() else np.where(known.there, counted, 0)

    def _limit(self, gate: Gate, *, of_stable: bool) -> NDArray[np.float64]:
        """What each of stable's cells means as a threshold, microseconds."""
        upper = self._cells["stable"].upper.astype(np.float64)
        return upper if of_stable else np.round(gate.ratio * upper, 6)

    def _threshold(self, gate: Gate) -> Known:
        found = self._known.get(gate.quantile)
        if found is None:
            assert self._recent is not None
            found = self._known[gate.quantile] = self._recent.known(gate.quantile)
        return found

    def _tail(self, leg: Counted) -> Ints:
        """(rollouts, columns): requests in this column and all that follow."""
        found = self._tails.get(id(leg))
        if found is None:
            assert leg.latency is not None
            found = self._tails[id(leg)] = np.cumsum(leg.latency[:, ::-1], axis=1, dtype=leg.latency.dtype)[:, ::-1]
        return found

    # --- pairs ------------------------------------------------------------------------------------

    def _paired(self, gate: Gate, bet: Bet, side: Side) -> PairCounts:
        joined = self._poll.joined
        source: Source = self._source if gate.source == "auto" else gate.source
        if joined is None or source != "mirror":
            return PairCounts(self._zero, self._zero, self._zero, self._zero)
        there = None
        if gate.metric == "error_rate":
            table = joined.errors
        elif bet == "paired_blame":
            table = joined.beyond(gate.max, gate.max, side)
        else:
            known = self._threshold(gate)
            below = self._cells["stable"].upper[known.cell]
            table = joined.beyond(np.round(gate.ratio * below, 6), below, side)
            there = known.there
        both, only_candidate, only_stable, neither = table.T
        if side == "pass":
            only_candidate = only_candidate + joined.lost
        if there is not None and not there.all():
            # Where there is no threshold yet nothing is judged, what was lost included.
            kept = [np.where(there, each, 0) for each in (both, only_candidate, only_stable, neither)]
            return PairCounts(*kept)
        return PairCounts(both, only_candidate, only_stable, neither)

    def _plain(self, gate: Gate, side: Side) -> Counts:
        joined = self._poll.joined
        if joined is None:
            return Counts(self._zero, self._zero, self._zero, self._zero)
        lost = joined.lost
        match gate.metric:
            case "slowdown":
                more = lost if side == "pass" else 0
                return Counts(joined.slower(gate.ratio, side) + more, self._zero, joined.pairs + more, self._zero)
            case "missing_pairs":
                return Counts(lost, self._zero, joined.pairs + lost, self._zero)
            case "prediction":
                return Counts(joined.different, self._zero, joined.pairs, self._zero)
        raise ValueError(f"gate {gate.name}: {gate.metric} is not simulated")
