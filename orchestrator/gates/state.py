"""The evidence of a rollout between two polls: everything that the next measurement is added to, and nothing else.

It is stored in the transaction that stores the measurement and its cursor, so that each request is counted once, also
across a kill. A mean over alternatives cannot be continued, so the wealth of each alternative is kept: per gate, side,
bet and start.

*Starts.* A regression may begin in mid-rollout, when hours of good evidence would drown it. Every gated stage
therefore opens a new bet on FAIL beside those that run: each of the plan's J stages has the weight 1/J, and a start
whose stage has not come counts as the 1 it begins with. Evidence for PASS begins anew with each stage: what a mirrored
request proves is not proof for a live one.

What is accepted: a poll in which one side got no request is not compared; warm-up ends at a poll's boundary, never
within.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from orchestrator.gates import bets
from orchestrator.gates.bets import Bet, Wealth
from orchestrator.gates.histogram import Baseline, baseline, merge
from orchestrator.gates.kernels import Side, log_mean_exp
from orchestrator.gates.spec import Gate, TermName
from orchestrator.gates.spread import Spread
from providers.measurement import Histogram, Leg, Measurement, Source

BASELINE_POLLS = 10


@dataclass(frozen=True, slots=True)
class Start:
    """Bets on FAIL that were opened when a stage began.

    Attributes:
        stage: gated stage, from 0.
        blamed: the absolute bound is excused by `blame`; such a start stands still where stable has no live traffic.
        wealth: of each bet.
    """

    stage: int
    blamed: bool
    wealth: Wealth


@dataclass(frozen=True, slots=True)
class Tally:
    """Requests of one leg since the stage began, after the warm-up.

    Attributes:
        requests, bad: as the gate's first term counts them on the fail side.
        latency: of a latency gate.
    """

    requests: int = 0
    bad: int = 0
    latency: Histogram | None = None

    def add(self, requests: int, bad: int, latency: Histogram | None) -> "Tally":
        """With one more poll."""
        merged = self.latency if latency is None else merge((self.latency or Histogram(), latency))
        return Tally(self.requests + requests, self.bad + bad, merged)


@dataclass(frozen=True, slots=True)
class Track:
    """What is known about one gate.

    Attributes:
        gate: as the last stage that has it sees it.
        starts: bets on FAIL, oldest first; over the whole rollout.
        passing: bets on PASS; of this stage.
        proven: terms that have passed in this stage.
        spread: of stable's bad requests, per term.
        candidate, stable: figures of this stage.
        seen: candidate requests of this stage, the warm-up included.
        polls: those of this stage that counted, after the warm-up.
        error: why the last poll could not be read, or "".
        errors: polls in a row that could not.
    """

    gate: Gate
    starts: tuple[Start, ...] = ()
    passing: Wealth | None = None
    proven: tuple[TermName, ...] = ()
    spread: Mapping[TermName, Spread] | None = None
    candidate: Tally = Tally()
    stable: Tally = Tally()
    seen: int = 0
    polls: int = 0
    error: str = ""
    errors: int = 0

    def log_fail(self, term: TermName, stages: int) -> float:
        """log E_fail of a term: the mean over all starts, those to come counted as 1."""
        logs = [self._start_log(start, term) for start in self.starts]
        return float(log_mean_exp(logs + [0.0] * (stages - len(logs))))

    def log_pass(self, term: TermName) -> float:
        """log E_pass of a term in this stage; 0 where it has no bet."""
        wealth = self.passing or {}
        if term not in wealth:
            return 0.0
        own = bets.log_wealth(wealth[term])
        if term == "bound" and "blame" in wealth:
            return float(log_mean_exp([own, bets.log_wealth(wealth["blame"])]))
        return own

    @staticmethod
    def _start_log(start: Start, term: TermName) -> float:
        own = bets.log_wealth(start.wealth[term]) if term in start.wealth else 0.0
        if term == "bound" and start.blamed:
            return min(own, bets.log_wealth(start.wealth["blame"]))
        return own


@dataclass(frozen=True, slots=True)
class GateState:
    """All evidence of a rollout. Stored as JSON through pydantic's TypeAdapter, exactly.

    Attributes:
        stages: J, the gated stages of the whole plan.
        tracks: one for each gate.
        stage: the gated stage now, from 0; -1 before the first.
        active: names of its gates.
        candidate, stable: deployments; stable is the last that was compared with, or None.
        compared: stable has live traffic in this stage.
        source: where the candidate's requests come from in this stage.
        warmed: seconds in which the candidate had traffic so far.
        baseline: stable's latencies in the polls before.
        lost: measurements of this stage that were lost with their data plane.
    """

    stages: int
    tracks: tuple[Track, ...]
    stage: int = -1
    active: tuple[str, ...] = ()
    candidate: str = ""
    stable: str | None = None
    compared: bool = False
    source: Literal["mirror", "live"] = "live"
    warmed: float = 0.0
    baseline: tuple[Histogram, ...] = ()
    lost: int = 0

    @classmethod
    def begin(cls, gates: tuple[Gate, ...], stages: int) -> "GateState":
        """No evidence yet.

        Args:
            gates: every gate of the plan.
            stages: how many gated stages it compiles to.
        """
        return cls(stages, tuple(Track(gate) for gate in {gate.name: gate for gate in gates}.values()))

    def enter(
        self,
        stage: int,
        gates: tuple[Gate, ...],
        candidate: str,
        stable: str | None,
        source: Literal["mirror", "live"],
    ) -> "GateState":
        """At the start of a gated stage: PASS is to be proven anew, FAIL goes on and opens one more start.

        Entering the same stage again (after a repeat of the step) opens no second start. A gate that comes with
        another hypothesis than before begins without evidence: one tolerance proves nothing about another.

        Args:
            stage: gated stage, from 0.
            gates: of this stage, as it sees them.
            candidate, stable: deployments; stable None where it has no live traffic: relative terms then end.
            source: of the candidate's requests where a gate says auto; stable's are always live ones.

        Raises:
            ValueError: the plan has not that many gated stages.
        """
        if not 0 <= stage < self.stages:
            raise ValueError(f"gated stage {stage + 1} of a plan that has {self.stages}")
        tracks = {track.gate.name: track for track in self.tracks}
        for gate in gates:
            known = tracks.get(gate.name)
            same = known is not None and known.gate.hypothesis == gate.hypothesis
            tracks[gate.name] = _entered(known if known and same else Track(gate), gate, stage, stable is not None)
        return replace(
            self,
            tracks=tuple(tracks.values()),
            stage=stage,
            active=tuple(gate.name for gate in gates),
            candidate=candidate,
            stable=stable or self.stable,
            compared=stable is not None,
            source=source,
            lost=0,
        )

    def restart_pass(self) -> "GateState":
        """After parking: this stage's proof of PASS and its figures begin anew, evidence for FAIL is kept."""
        tracks = tuple(_restarted(t, self.compared) if t.gate.name in self.active else t for t in self.tracks)
        return replace(self, tracks=tracks, lost=0)

    def current(self) -> tuple[Track, ...]:
        """The tracks of this stage's gates, in the stage's order."""
        by_name = {track.gate.name: track for track in self.tracks}
        return tuple(by_name[name] for name in self.active)

    def source_of(self, gate: Gate) -> Source:
        """Which of the candidate's legs a gate judges in this stage."""
        return self.source if gate.source == "auto" else gate.source

    def missed(self, reason: str) -> "GateState":
        """A poll that could not be measured at all; `reason` is a clause, such as "the proxy does not answer"."""
        return self._each(lambda track: replace(track, error=reason, errors=track.errors + 1))

    def fold(self, measurement: Measurement, gap: bool = False) -> "GateState":
        """With one more measurement. Pure; to be called once for each.

        Args:
            measurement: what came since the last one. A lost one adds no counts and is noted; one of no length changes
                nothing.
            gap: it spans much more than a poll (the driver was away): counted with the thresholds and the dispersion
                from before it, and leaves both as they were.
        """
        if not self.active:
            return self
        if measurement.lost:
            state = self._each(lambda track: replace(track, spread=_interrupted(track.spread)))
            return replace(state, lost=self.lost + 1)
        seconds = (measurement.end - measurement.start).total_seconds()
        if seconds <= 0:
            return self
        stable = measurement.leg(self.stable, "live") if self.compared and self.stable else None
        recent, minute = merge(self.baseline), 0.0 if gap else seconds
        state = self._each(lambda track: self._folded(track, measurement, stable, recent, minute))
        warmed = self.warmed
        if any(leg.requests for leg in measurement.legs if leg.deployment == self.candidate):
            warmed += seconds
        return replace(state, warmed=warmed, baseline=self.baseline if gap else self._next_baseline(stable))

    def _folded(
        self, track: Track, measurement: Measurement, stable: Leg | None, recent: Histogram, minute: float
    ) -> Track:
        """One gate's share of a fold.

        Args:
            track: of the gate.
            measurement: the poll.
            stable: its leg to compare with, if any.
            recent: stable's latencies before this poll.
            minute: seconds by which the open one-minute bucket of its dispersion grows; 0 for "do not touch".
        """
        gate = track.gate
        candidate = measurement.leg(self.candidate, self.source_of(gate))
        placed = bets.bets_of(gate, compared=stable is not None)
        problem = _unreadable(gate, candidate)
        if stable is not None and not problem and placed != ("bound",):
            problem = _unreadable(gate, stable)
        if problem:
            return replace(track, error=problem, errors=track.errors + 1, spread=_interrupted(track.spread))
        known = baseline(recent, gate.quantile) if gate.metric == "latency" and gate.relative else None
        requests = bets.total(gate, candidate)
        before, after = dict(track.spread or {}), dict(track.spread or {})
        if stable is not None and minute:
            for term in gate.terms:
                bad = bets.bad(gate, term, "fail", stable, known, stable=True)
                after[term] = before.get(term, Spread()).add(bad, bets.total(gate, stable), minute)
        track = replace(track, spread=after, seen=track.seen + requests, error="", errors=0)
        if self.warmed < gate.warm_up:
            return track
        track = replace(_tallied(track, candidate, stable, known), polls=track.polls + 1)
        if not requests:
            return track

        def increments(bet: Bet, side: Side) -> list[float]:
            index = before.get(bets.TERM_OF[bet], Spread()).index if gate.dispersion else 1.0
            return bets.settle(gate, bet, side, bets.counts(gate, bet, side, candidate, stable, known), index)

        fail = {bet: increments(bet, "fail") for bet in placed}
        track = replace(track, starts=tuple(_continued(start, fail) for start in track.starts))
        passing = {bet: bets.won(logs, increments(bet, "pass")) for bet, logs in (track.passing or {}).items()}
        return _latched(replace(track, passing=passing))

    def _next_baseline(self, stable: Leg | None) -> tuple[Histogram, ...]:
        wanted = any(track.gate.metric == "latency" and track.gate.relative for track in self.tracks)
        if not wanted or stable is None or stable.latency is None or not stable.latency.buckets:
            return self.baseline
        return (*self.baseline, stable.latency)[-BASELINE_POLLS:]

    def _each(self, change: Callable[[Track], Track]) -> "GateState":
        return replace(self, tracks=tuple(change(t) if t.gate.name in self.active else t for t in self.tracks))


def _entered(track: Track, gate: Gate, stage: int, compared: bool) -> Track:
    track = replace(track, gate=gate)
    if all(start.stage != stage for start in track.starts):
        placed = bets.bets_of(gate, compared=compared)
        start = Start(stage, "blame" in placed, bets.begun(gate, placed, "fail"))
        track = replace(track, starts=(*track.starts, start))
    return _restarted(track, compared)


def _restarted(track: Track, compared: bool) -> Track:
    passing = bets.begun(track.gate, bets.bets_of(track.gate, compared=compared), "pass")
    return Track(track.gate, track.starts, passing, spread=track.spread)


def _continued(start: Start, increments: Mapping[Bet, list[float]]) -> Start:
    """One start after a poll. Bets that it did not open with, or that are not placed now, stand still."""
    if start.blamed and "blame" not in increments:
        # An earlier incident that stable shared must not count once stable is gone to share the next.
        increments = {bet: won for bet, won in increments.items() if bet != "bound"}
    wealth = {bet: bets.won(logs, increments[bet]) if bet in increments else logs for bet, logs in start.wealth.items()}
    return replace(start, wealth=wealth)


def _tallied(track: Track, candidate: Leg, stable: Leg | None, known: Baseline | None) -> Track:
    gate = track.gate
    term = gate.terms[0]

    def add(tally: Tally, leg: Leg, *, of_stable: bool) -> Tally:
        bad = bets.bad(gate, term, "fail", leg, known, stable=of_stable)
        return tally.add(bets.total(gate, leg), bad, leg.latency if gate.metric == "latency" else None)

    track = replace(track, candidate=add(track.candidate, candidate, of_stable=False))
    return track if stable is None else replace(track, stable=add(track.stable, stable, of_stable=True))


def _latched(track: Track) -> Track:
    if track.candidate.requests < track.gate.min_requests:
        return track
    wanted = -math.log(track.gate.beta)
    proven = [
        term
        for term in track.gate.terms
        if term in track.proven or (term in (track.passing or {}) and track.log_pass(term) >= wanted)
    ]
    return replace(track, proven=tuple(proven))


def _interrupted(spread: Mapping[TermName, Spread] | None) -> Mapping[TermName, Spread] | None:
    return None if spread is None else {term: moments.interrupted() for term, moments in spread.items()}


def _unreadable(gate: Gate, leg: Leg) -> str:
    """Why a leg's figures cannot be used, or ""."""
    if leg.requests < 0 or min(leg.classes.values(), default=0) < 0 or sum(leg.classes.values()) > leg.requests:
        return f"the counts of {leg.deployment} ({leg.source}) do not add up"
    if gate.metric == "latency" and leg.requests and leg.latency is None:
        return f"there are no latencies for {leg.deployment} ({leg.source})"
    return ""
