"""The evidence of many rollouts at once: `GateState`, `Track` and `judge` with an array where each has a number.

Kernels, bets and their combination are those of the real engine (`gates.bets`, `gates.combine`); what is written again
here is what one rollout at a time is too slow for: who is counted, when it begins, what is frozen, what has passed. A
test feeds both the same polls and compares evidence and verdicts.

Two savings, neither of which changes a decision. A mean over alternatives never exceeds the largest of them, so it is
computed only for rollouts of which the largest would do. And what has passed needs no more evidence for it.

Gates of which a simulation knows nothing (`assumed`) neither fail nor hold anything up: they count as a bet that was
never placed.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from orchestrator.gates import bets, combine
from orchestrator.gates.bets import Bet
from orchestrator.gates.kernels import Floats, Side, log_mean_exp
from orchestrator.gates.spec import Gate, Reaction, TermName
from orchestrator.simulate.cells import Cells
from orchestrator.simulate.glance import Glance
from orchestrator.simulate.poll import Poll
from orchestrator.simulate.recent import Recent
from orchestrator.simulate.spreads import Spreads

Rows = NDArray[np.int64]
Booleans = NDArray[np.bool_]

PLAIN: Mapping[TermName, tuple[Bet, ...]] = {"bound": ("bound",), "relative": ("relative", "paired")}
EXCUSES: tuple[Bet, ...] = ("blame", "paired_blame")
REACTIONS: tuple[Reaction, ...] = ("rollback", "pause")


@dataclass(slots=True, eq=False)
class Tracks:
    """What is known about one gate in each rollout.

    Attributes:
        gate: as the current stage sees it.
        assumed: nothing of it is simulated.
        spread: of each term.
        seen, requests, stable, polls: (rollouts,) as in `Track`; `stable` are stable's requests.
        begun: (gated stage, blamed, bets) of each start, oldest first.
        fail: bet -> (rollouts, starts that placed it, alternatives); `places` says which starts those are.
        passing: bet -> (rollouts, alternatives).
        proven: term -> (rollouts,) whether it has passed in this stage.
    """

    gate: Gate
    assumed: bool
    spread: dict[TermName, Spreads]
    seen: Floats
    requests: Floats
    stable: Floats
    polls: Floats
    begun: list[tuple[int, bool, tuple[Bet, ...]]] = field(default_factory=list)
    fail: dict[Bet, Floats] = field(default_factory=dict)
    places: dict[Bet, list[int]] = field(default_factory=dict)
    passing: dict[Bet, Floats] = field(default_factory=dict)
    proven: dict[TermName, Booleans] = field(default_factory=dict)

    def enter(self, rows: int, stage: int, gate: Gate, placed: tuple[Bet, ...]) -> None:
        """At the start of a gated stage: one more start, and PASS anew."""
        self.gate = gate
        if all(begun != stage for begun, _, _ in self.begun):
            for bet in placed:
                wealth = np.tile(bets.opening(gate, bet, "fail"), (rows, 1, 1))
                self.fail[bet] = np.concatenate([self.fail[bet], wealth], axis=1) if bet in self.fail else wealth
                self.places.setdefault(bet, []).append(len(self.begun))
            self.begun.append((stage, "blame" in placed, placed))
        self.passing = {bet: np.zeros((rows, len(bets.alternatives(gate, bet, "pass")))) for bet in placed}
        self.proven = {term: np.zeros(rows, dtype=bool) for term in gate.terms}
        self.seen, self.requests, self.stable, self.polls = (np.zeros(rows) for _ in range(4))

    def win(self, bet: Bet, increments: Floats, placed: Sequence[Bet], minutes: Floats) -> None:
        """Add what a bet on FAIL won to every start that placed it and does not stand still; `minutes` as in
        `bets.entered`.
        """
        wealth, places = self.fail[bet], self.places[bet]
        going = [at for at, start in enumerate(places) if not (bet == "bound" and self._stands_still(start, placed))]
        if not going:
            return
        held = wealth if len(going) == len(places) else wealth[:, going, :]
        if bets.kernel_of(self.gate, bet) != "paired" and minutes.any():
            held = bets.entered(held, minutes[:, np.newaxis])
        held = held + increments[:, np.newaxis, :]
        if len(going) == len(places):
            self.fail[bet] = held
        else:
            wealth[:, going, :] = held

    def _stands_still(self, start: int, placed: Sequence[Bet]) -> bool:
        # An earlier incident that stable shared must not count once stable is gone to share the next.
        return self.begun[start][1] and "blame" not in placed

    def log_fail(self, term: TermName, stages: int, rows: Any = slice(None)) -> Floats:
        """log E_fail of a term in these rollouts."""
        if self.assumed:
            return np.zeros(len(self.seen[rows]))
        mean = {bet: log_mean_exp(self.fail[bet][rows]) for bet in (*PLAIN[term], *EXCUSES) if bet in self.fail}
        logs = [self._start(start, term, mean, rows) for start in range(len(self.begun))]
        return np.broadcast_to(combine.over_starts(logs, stages), self.seen[rows].shape)

    def _start(self, start: int, term: TermName, mean: Mapping[Bet, Floats], rows: Any) -> Floats:
        def of(chosen: Sequence[Bet]) -> list[Floats]:
            return [
                mean[bet][:, self.places[bet].index(start)]
                for bet in chosen
                if bet in mean and start in self.places[bet]
            ]

        own = of(PLAIN[term])
        if not own:
            return np.zeros(self.seen[rows].shape)
        if term == "bound":
            return combine.excused(own[0], combine.mixed(of(EXCUSES))) if self.begun[start][1] else own[0]
        return combine.mixed(own)

    def most_fail(self, term: TermName) -> Floats:
        """What log E_fail of a term cannot exceed, cheaply; at least 0."""
        largest = np.zeros(len(self.seen))
        for bet in PLAIN[term]:
            if bet in self.fail:
                np.maximum(largest, _largest(self.fail[bet]), out=largest)
        return largest

    def log_pass(self, term: TermName, rows: Any = slice(None)) -> Floats:
        """log E_pass of a term in this stage in these rollouts; 0 where it has no bet."""
        own = [log_mean_exp(self.passing[bet][rows]) for bet in PLAIN[term] if bet in self.passing]
        if term == "bound":
            excuses = [log_mean_exp(self.passing[bet][rows]) for bet in EXCUSES if bet in self.passing]
            if own and excuses:
                return combine.mixed([own[0], combine.mixed(excuses)])
        return combine.mixed(own) if own else np.zeros(self.seen[rows].shape)

    def correct(self, found: Mapping[TermName, Floats]) -> None:
        """Divide the evidence of these terms by their dispersion where it is known now, as `gates.state` does."""
        for term, index in found.items():
            rows = np.flatnonzero(index > 1)
            if not len(rows):
                continue
            for bet, wealth in self.fail.items():
                if bets.TERM_OF[bet] == term:
                    wealth[rows] = bets.corrected(self.gate, bet, "fail", wealth[rows], index[rows, np.newaxis])
            for bet, wealth in self.passing.items():
                if bets.TERM_OF[bet] == term:
                    wealth[rows] = bets.corrected(self.gate, bet, "pass", wealth[rows], index[rows])
            self.proven[term][rows] = False

    def latch(self) -> None:
        """Note what has passed now."""
        enough = self.requests >= self.gate.min_requests
        if not enough.any():
            return
        wanted = -math.log(self.gate.beta)
        for term, proven in self.proven.items():
            chosen = (*PLAIN[term], *EXCUSES) if term == "bound" else PLAIN[term]
            placed = [bet for bet in chosen if bet in self.passing]
            if not any(bet in PLAIN[term] for bet in placed):
                continue
            open_ = np.flatnonzero(enough & ~proven)
            if len(open_):
                largest = np.max([_largest(self.passing[bet][open_]) for bet in placed], axis=0)
                near = open_[largest >= wanted]
                if len(near):
                    proven[near] = self.log_pass(term, near) >= wanted

    def take(self, rows: Any) -> "Tracks":
        """These rollouts alone."""
        return replace(
            self,
            begun=list(self.begun),
            places={bet: list(places) for bet, places in self.places.items()},
            fail={bet: wealth[rows] for bet, wealth in self.fail.items()},
            passing={bet: wealth[rows] for bet, wealth in self.passing.items()},
            proven={term: proven[rows] for term, proven in self.proven.items()},
            spread={term: spread.take(rows) for term, spread in self.spread.items()},
            seen=self.seen[rows],
            requests=self.requests[rows],
            stable=self.stable[rows],
            polls=self.polls[rows],
        )


class Fold:
    """The evidence of `rows` rollouts of one plan.

    Args:
        gates: every gate of the plan.
        stages: J, its gated stages.
        rows: how many rollouts.
        stable, candidate: the cells in which their latencies are counted.
        assumed: names of gates of which nothing is simulated: they count as fine.
        sparing: leave out evidence for what has passed already.
    """

    def __init__(
        self,
        gates: Iterable[Gate],
        stages: int,
        rows: int,
        *,
        stable: Cells,
        candidate: Cells,
        assumed: Iterable[str] = (),
        sparing: bool = True,
    ) -> None:
        known = {gate.name: gate for gate in gates}
        self.stages, self.rows = stages, rows
        self._assumed = frozenset(assumed)
        self.tracks = {name: self._track(gate) for name, gate in known.items()}
        self._stable, self._candidate, self._sparing = stable, candidate, sparing
        timed = any(gate.metric == "latency" and gate.relative for gate in known.values())
        self._recent = Recent.begin(rows, len(stable)) if timed else None
        self.warmed: Floats = np.zeros(rows)
        self.active: tuple[str, ...] = ()
        self.compared, self.paired = False, False
        self.source: Literal["mirror", "live"] = "live"

    def enter(
        self,
        stage: int,
        gates: Sequence[Gate],
        *,
        compared: bool,
        source: Literal["mirror", "live"],
        paired: bool = False,
    ) -> None:
        """At the start of a gated stage, as in `GateState.enter`. `compared`: stable has live traffic."""
        if not 0 <= stage < self.stages:
            raise ValueError(f"gated stage {stage + 1} of a plan that has {self.stages}")
        self.active, self.compared, self.source = tuple(gate.name for gate in gates), compared, source
        self.paired = paired and source == "mirror" and compared
        for gate in gates:
            track = self.tracks.get(gate.name)
            if track is None or track.gate.hypothesis != gate.hypothesis:
                track = self.tracks[gate.name] = self._track(gate)
            placed = bets.bets_of(gate, compared=compared, paired=self.paired) if not track.assumed else ()
            track.enter(self.rows, stage, gate, placed)

    def fold(self, poll: Poll) -> None:
        """Add one more poll of every rollout."""
        glance = Glance(poll, self._stable, self._candidate, self.source, self._recent, compared=self.compared)
        for track in self.current():
            if not track.assumed:
                self._add(track, poll, glance)
        traffic = np.logical_or.reduce([leg.requests > 0 for leg in poll.candidate.values()])
        self.warmed = np.where(traffic, self.warmed + poll.seconds, self.warmed)
        if self._recent is not None and poll.stable is not None and poll.stable.latency is not None and self.compared:
            self._recent.add(poll.stable.latency)

    def _add(self, track: Tracks, poll: Poll, glance: Glance) -> None:
        gate = track.gate
        requests = glance.requests(gate)
        index: dict[TermName, Floats | float] = {}
        known: dict[TermName, Booleans | bool] = {}
        found: dict[TermName, Floats] = {}
        for term in gate.terms:
            before = track.spread.get(term) or Spreads.begin(self.rows)
            index[term] = before.index if gate.dispersion else 1.0
            known[term] = before.known if gate.dispersion and not gate.valued else True
            clusters = glance.clusters(gate, term)
            if clusters is not None:
                track.spread[term] = after = before.add(*clusters, poll.seconds)
                if gate.dispersion:
                    found[term] = np.where(after.known & ~before.known, after.index, 1.0)
        track.seen = track.seen + requests
        counting = self.warmed >= gate.warm_up
        if counting.any():
            self._settle(track, poll, glance, index, known, counting & (requests > 0))
            track.polls = track.polls + counting
            own, stable = glance.totals(gate)
            track.requests = track.requests + np.where(counting, own, 0)
            track.stable = track.stable + np.where(counting, stable, 0)
        track.correct(found)
        track.latch()

    def _settle(
        self,
        track: Tracks,
        poll: Poll,
        glance: Glance,
        index: Mapping[TermName, Floats | float],
        known: Mapping[TermName, Booleans | bool],
        judged: Booleans,
    ) -> None:
        """Settle the bets of the rollouts in which there is something to judge."""
        gate = track.gate
        if not judged.any():
            return
        placed = bets.bets_of(gate, compared=self.compared, paired=self.paired)
        gains = {bet: self._won(gate, bet, "fail", glance, index, judged) for bet in placed if bet in track.fail}
        if "bound" in gains and "blame" in gains:
            seen = glance.counts(gate, "bound", "fail")
            assert isinstance(seen, bets.Counts)
            incident = np.broadcast_to(
                combine.shared(gate.bound_rate, seen.bad_stable, seen.total_stable), (self.rows,)
            )[:, np.newaxis]
            excused = combine.excused(gains["bound"], gains["blame"])
            gains["bound"] = np.where(incident, excused, gains["bound"])
        for bet, increments in gains.items():
            minutes = np.where(judged & known[bets.TERM_OF[bet]], poll.seconds / 60, 0.0)
            track.win(bet, increments, placed, minutes)
        for bet in track.passing:
            # What has passed before its dispersion is known may have to pass once more.
            term = bets.TERM_OF[bet]
            if self._sparing and track.proven[term].all() and np.all(known[term]):
                continue
            won = track.passing[bet] + self._won(gate, bet, "pass", glance, index, judged)
            track.passing[bet] = np.maximum(won, bets.LOST, out=won)

    @staticmethod
    def _won(
        gate: Gate, bet: Bet, side: Side, glance: Glance, index: Mapping[TermName, Floats | float], judged: Booleans
    ) -> Floats:
        won = bets.settle(gate, bet, side, glance.counts(gate, bet, side), index[bets.TERM_OF[bet]])
        return won if judged.all() else np.where(judged[:, np.newaxis], won, 0.0)

    # --- judging ----------------------------------------------------------------------------------

    def current(self) -> list[Tracks]:
        """The tracks of this stage's gates, in the stage's order."""
        return [self.tracks[name] for name in self.active]

    def failed(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(reaction, culprit) of each rollout: places in REACTIONS and `active`, -1 where nothing fails."""
        reaction, culprit = (np.full(self.rows, -1, dtype=np.int64) for _ in range(2))
        for place, wanted in enumerate(REACTIONS):
            charges = [
                (at, track, term)
                for at, track in enumerate(self.current())
                if track.gate.on_fail == wanted
                for term in track.gate.terms
            ]
            if not charges:
                continue
            suspects = reaction < 0
            near = np.zeros(self.rows, dtype=bool)
            for _, track, term in charges:
                if not track.assumed and not self._ended(term):
                    near |= track.most_fail(term) >= -math.log(track.gate.alpha)
            rows = np.flatnonzero(suspects & near)
            if not len(rows):
                continue
            logs = [self.log_fail(track, term, rows) for _, track, term in charges]
            alphas = [track.gate.alpha for _, track, _ in charges]
            guilty = combine.accused(logs, alphas) >= 0
            weights = np.stack([log + math.log(alpha) for log, alpha in zip(logs, alphas, strict=True)])
            whose = np.array([at for at, _, _ in charges])[np.argmax(weights, axis=0)]
            reaction[rows[guilty]], culprit[rows[guilty]] = place, whose[guilty]
        return reaction, culprit

    def log_fail(self, track: Tracks, term: TermName, rows: Any = slice(None)) -> Floats:
        """log E_fail of a term as its group counts it: one that has ended can no longer accuse."""
        log = track.log_fail(term, self.stages, rows)
        return np.minimum(log, 0.0) if self._ended(term) else log

    def verdicts(self, track: Tracks) -> NDArray[np.int64]:
        """Of one gate, where nothing fails: 1 PASS, 0 CONTINUE, -1 NO_DATA."""
        if track.assumed:
            return np.ones(self.rows, dtype=np.int64)
        live = [term for term in track.gate.terms if not self._ended(term)]
        if not live:
            return np.full(self.rows, -1, dtype=np.int64)
        nothing = (track.seen <= 0) | ((track.polls > 0) & (track.requests <= 0))
        if live == ["relative"] and not track.gate.valued:
            nothing |= (track.polls > 0) & (track.stable <= 0)
        proven = np.logical_and.reduce([track.proven[term] for term in live])
        return np.where(nothing, -1, np.where(proven, 1, 0))

    def _ended(self, term: TermName) -> bool:
        return term == "relative" and not self.compared

    # --- who goes on ------------------------------------------------------------------------------

    def take(self, rows: Any) -> "Fold":
        """These rollouts alone (indices or a mask); the original is left as it is."""
        taken = object.__new__(Fold)
        taken.__dict__.update(self.__dict__)
        taken.tracks = {name: track.take(rows) for name, track in self.tracks.items()}
        taken.warmed = self.warmed[rows]
        taken.rows = len(taken.warmed)
        taken._recent = self._recent.take(rows) if self._recent is not None else None
        return taken

    @classmethod
    def together(cls, parts: Sequence["Fold"]) -> "Fold":
        """Rollouts that left the same stage at different times."""
        if len(parts) == 1:
            return parts[0]
        whole = parts[0].take(slice(None))
        for name, track in whole.tracks.items():
            others = [part.tracks[name] for part in parts]
            track.fail = {bet: np.concatenate([each.fail[bet] for each in others]) for bet in track.fail}
            track.passing = {bet: np.concatenate([each.passing[bet] for each in others]) for bet in track.passing}
            track.proven = {term: np.concatenate([each.proven[term] for each in others]) for term in track.proven}
            terms = [term for term in track.gate.terms if any(term in each.spread for each in others)]
            track.spread = {
                term: Spreads.together([each.spread.get(term) or Spreads.begin(len(each.seen)) for each in others])
                for term in terms
            }
            for counted in ("seen", "requests", "stable", "polls"):
                setattr(track, counted, np.concatenate([getattr(each, counted) for each in others]))
        whole.warmed = np.concatenate([part.warmed for part in parts])
        whole.rows = len(whole.warmed)
        if whole._recent is not None:
            whole._recent = Recent.together([part._recent for part in parts if part._recent is not None])
        return whole

    def _track(self, gate: Gate) -> Tracks:
        seen, requests, stable, polls = (np.zeros(self.rows) for _ in range(4))
        return Tracks(gate, gate.name in self._assumed, {}, seen, requests, stable, polls)


def _largest(wealth: Floats) -> Floats:
    """The largest of each rollout."""
    largest: Floats = wealth.reshape(len(wealth), -1).max(axis=1)
    return largest
