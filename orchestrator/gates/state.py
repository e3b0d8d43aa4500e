"""The evidence of a rollout between two polls: everything that the next measurement is added to, and nothing else.

It is stored in the transaction that stores the measurement and its cursor, so that each request is counted once, also
across a kill. A mean over alternatives cannot be continued, so the wealth of each alternative is kept: per gate, side,
bet and start.

*Starts.* A regression may begin in mid-rollout, when hours of good evidence would drown it. Every gated stage
therefore opens a new bet on FAIL beside those that run: each of the plan's J stages has the weight 1/J, and a start
whose stage has not come counts as the 1 it begins with. Evidence for PASS begins anew with each stage: what a mirrored
request proves is not proof for a live one.

*Before.* A gate that guards stable compares each poll of its stage with one poll from before the stage, and uses none
twice; where they run out it learns nothing more.

What is accepted: a poll in which one side got no request is not compared; warm-up ends at a poll's boundary, never
within.
"""

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from orchestrator.gates import bets
from orchestrator.gates.bets import Bet, Purse, Wealth
from orchestrator.gates.histogram import merge, moved
from orchestrator.gates.kernels import Side, log_mean_exp
from orchestrator.gates.reading import Reading, Sides
from orchestrator.gates.settling import Settlement, settle_all
from orchestrator.gates.spec import Gate, TermName
from orchestrator.gates.split import Split
from orchestrator.gates.spread import Spread
from orchestrator.gates.track import Start, Track, interrupted, latched
from providers.measurement import Histogram, Leg, Measurement, Source

BASELINE_POLLS = 10
MOST_BEFORE = 720
"""Polls of stable that are kept for the gates that guard it."""
_NOTHING = Spread()


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
        paired: mirrored requests are joined with their live twins in this stage.
        warmed: seconds in which the candidate had traffic so far.
        baseline: stable's latencies in the polls before.
        recent: all of them in one; None where they have not been added up.
        before: stable's legs from before the stage, oldest first, that no poll has been compared with yet.
        latencies: what is shown of this stage's latencies: `deployment~source~warm-up` -> all of them.
        split: whether requests go where they were sent.
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
    paired: bool = False
    warmed: float = 0.0
    baseline: tuple[Histogram, ...] = ()
    recent: Histogram | None = None
    before: tuple[Leg, ...] = ()
    latencies: Mapping[str, Histogram] = field(default_factory=dict)
    split: Split = field(default_factory=Split)
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
        *,
        paired: bool = False,
        asked: float | None = None,
    ) -> "GateState":
        """At the start of a gated stage: PASS is to be proven anew, FAIL goes on and opens one more start.

        Entering the same stage again (after a repeat of the step) opens no second start. A gate that comes with
        another hypothesis than before begins without evidence: one tolerance proves nothing about another.

        Args:
            stage: gated stage, from 0.
            gates: of this stage, as it sees them.
            candidate, stable: deployments; stable None where it has no live traffic: relative terms then end.
            source: of the candidate's requests where a gate says auto; stable's are always live ones.
            paired: the provider joins mirrored requests with their live twins.
            asked: the share that `Split.asked` checks, 0..1; None where there is none.

        Raises:
            ValueError: the plan has not that many gated stages.
        """
        if not 0 <= stage < self.stages:
            raise ValueError(f"gated stage {stage + 1} of a plan that has {self.stages}")
        entered = replace(
            self,
            stage=stage,
            active=tuple(gate.name for gate in gates),
            candidate=candidate,
            stable=stable or self.stable,
            compared=stable is not None,
            source=source,
            paired=paired and source == "mirror" and stable is not None,
            latencies={},
            split=Split(asked),
            lost=0,
        )
        tracks = {track.gate.name: track for track in self.tracks}
        for gate in gates:
            known = tracks.get(gate.name)
            same = known is not None and known.gate.hypothesis == gate.hypothesis
            tracks[gate.name] = entered._entered(known if known and same else Track(gate), gate)
        return replace(entered, tracks=tuple(tracks.values()))

    def restart_pass(self) -> "GateState":
        """After parking: this stage's proof of PASS and its figures begin anew, evidence for FAIL is kept."""
        tracks = tuple(self._restarted(t) if t.gate.name in self.active else t for t in self.tracks)
        return replace(self, tracks=tracks, latencies={}, split=Split(self.split.asked), lost=0)

    def unchecked(self) -> "GateState":
        """Without the sample-ratio check: the stage has no gates of its own and asks for another split, or for none."""
        return replace(self, split=Split())

    def current(self) -> tuple[Track, ...]:
        """The tracks of this stage's gates, in the stage's order."""
        by_name = {track.gate.name: track for track in self.tracks}
        return tuple(by_name[name] for name in self.active)

    def source_of(self, gate: Gate) -> Source:
        """Which of the candidate's legs a gate judges in this stage."""
        return self.source if gate.source == "auto" else gate.source

    def latencies_of(self, gate: Gate) -> tuple[Histogram, Histogram]:
        """Latencies of the candidate and of stable in this stage, after a gate's warm-up."""
        own, other = self._shown(gate)
        return self.latencies.get(own, Histogram()), self.latencies.get(other, Histogram())

    def missed(self, reason: str) -> "GateState":
        """A poll that could not be measured at all; `reason` is a clause, such as "the proxy does not answer"."""
        return self._each(lambda track: replace(track, error=reason, errors=track.errors + 1))

    def remember(self, measurement: Measurement, stable: str) -> "GateState":
        """With one poll of stable from before a stage, for the gates that guard it.

        Before the first gated stage all others learn of it as well how stable's bad answers come and how long its
        answers take, so that the candidate's first requests are already judged by that.
        """
        leg, seconds = measurement.leg(stable, "live"), _seconds(measurement)
        if measurement.lost or not leg.requests or seconds <= 0:
            return self
        state = replace(self, before=(*self.before, leg)[-MOST_BEFORE:])
        if self.active:
            return state
        baseline, recent = self.baseline, merge(self.baseline) if self.recent is None else self.recent
        reading = Reading(measurement, Sides("", "live", stable), recent)
        if not any(track.gate.guards_stable for track in self.tracks):
            # What is compared later must not have moved the threshold that it is held against.
            baseline, recent = self._next_baseline(leg, recent)
        tracks = tuple(_taught(track, reading, seconds) for track in self.tracks)
        return replace(state, tracks=tracks, baseline=baseline, recent=recent)

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
            state = self._each(lambda track: replace(track, spread=interrupted(track.spread)))
            return replace(state, lost=self.lost + 1)
        seconds = _seconds(measurement)
        if seconds <= 0:
            return self
        stable = self.stable if self.compared else None
        sides = Sides(self.candidate, self.source, stable, self.before[0] if self.before else None)
        recent = merge(self.baseline) if self.recent is None else self.recent
        reading = Reading(measurement, sides, recent)
        looked = [self._looked(track, reading, seconds, gap=gap) for track in self.current()]
        after = {track.gate.name: track for track in _settled(looked)}
        guarded = any(track.gate.guards_stable for track in after.values())
        leg = measurement.leg(stable, "live") if stable else None
        if guarded:
            # What is guarded must not move the threshold that it is held against.
            leg = self.before[0] if self.before else None
        baseline, recent = (self.baseline, recent) if gap else self._next_baseline(leg, recent)
        warmed = self.warmed
        if any(leg.requests for leg in measurement.legs if leg.deployment == self.candidate):
            warmed += seconds
        return replace(
            self,
            tracks=tuple(after.get(track.gate.name, track) for track in self.tracks),
            warmed=warmed,
            baseline=baseline,
            recent=recent,
            before=self.before[1:] if guarded else self.before,
            latencies=self._next_latencies(reading),
            split=self._next_split(measurement),
        )

    def _looked(self, track: Track, reading: Reading, seconds: float, *, gap: bool) -> "_Looked":
        """What one gate sees in a poll of so many seconds, and the bets to be settled by it."""
        gate = track.gate
        problem = reading.problem(gate)
        if problem:
            spread = interrupted(track.spread)
            return _Looked(track, {"error": problem, "errors": track.errors + 1, "spread": spread})
        requests = reading.requests(gate)
        before = track.spread or {}
        spread = dict(before)
        found: dict[TermName, float] = {}
        for term in gate.terms if not gap else ():
            clusters = reading.clusters(gate, term)
            if clusters is not None:
                spread[term] = moments = before.get(term, _NOTHING).add(*clusters, seconds)
                if gate.dispersion and moments.known and not before.get(term, _NOTHING).known and moments.index > 1:
                    found[term] = moments.index
        changes: dict[str, Any] = {
            "spread": spread,
            "seen": track.seen + requests,
            "nothing": reading.nothing(gate),
            "error": "",
            "errors": 0,
        }
        if self.warmed < gate.warm_up:
            return _Looked(track, changes, found=found)
        own, other = reading.seen(gate)
        changes |= {
            "polls": track.polls + 1,
            "candidate": track.candidate.add(own),
            "stable": track.stable.add(other),
            "joined": reading.joined(gate, track.joined),
            "examples": reading.examples(gate, track.examples),
            "left_out": reading.left_out(gate, track.left_out),
        }
        settlements = self._settlements(track, reading, before, seconds) if requests else ()
        return _Looked(track, changes, settlements, found)

    def _settlements(
        self, track: Track, reading: Reading, spread: Mapping[TermName, Spread], seconds: float
    ) -> tuple[Settlement, ...]:
        """The bets that a poll settles; `spread` is what was known before it."""
        gate = track.gate
        compared = reading.stable(gate) is not None
        placed = bets.bets_of(gate, compared=compared, paired=self.paired)
        index = {term: moments.index for term, moments in spread.items()} if gate.dispersion else {}
        # Fresh stakes would meet the first clusters undivided.
        waits = (
            [] if gate.valued or not gate.dispersion else [t for t in gate.terms if not spread.get(t, _NOTHING).known]
        )
        settlements = []
        for bet in placed:
            purses = tuple([start.wealth[bet] for start in track.starts if _settles(start, bet, placed)])
            if purses:
                seen, term = reading.counts(gate, bet, "fail"), bets.TERM_OF[bet]
                enters = term not in waits and bets.kernel_of(gate, bet) != "paired"
                minutes = seconds / 60 if enters else 0.0
                settlements.append(Settlement(gate, bet, "fail", seen, index.get(term, 1.0), purses, minutes))
        for bet, purse in (track.passing or {}).items():
            seen, by = reading.counts(gate, bet, "pass"), index.get(bets.TERM_OF[bet], 1.0)
            settlements.append(Settlement(gate, bet, "pass", seen, by, (purse,)))
        return tuple(settlements)

    def _next_baseline(self, stable: Leg | None, recent: Histogram) -> tuple[tuple[Histogram, ...], Histogram]:
        wanted = any(track.gate.metric == "latency" and track.gate.relative for track in self.tracks)
        latency = stable.latency if stable is not None else None
        if not wanted or latency is None or not latency.buckets:
            return self.baseline, recent
        oldest = self.baseline[0] if len(self.baseline) == BASELINE_POLLS else None
        return (*self.baseline, latency)[-BASELINE_POLLS:], moved(recent, latency, oldest)

    def _next_latencies(self, reading: Reading) -> Mapping[str, Histogram]:
        found = dict(self.latencies)
        added: set[str] = set()
        for track in self.current():
            gate = track.gate
            if gate.metric != "latency" or self.warmed < gate.warm_up:
                continue
            for key, latency in zip(self._shown(gate), reading.latencies(gate), strict=True):
                if latency is not None and key not in added:
                    added.add(key)
                    found[key] = merge((found.get(key, Histogram()), latency))
        return found

    def _shown(self, gate: Gate) -> tuple[str, str]:
        if gate.guards_stable:
            return f"{self.stable}~live~{gate.warm_up:g}", f"{self.stable}~before~{gate.warm_up:g}"
        own = f"{self.candidate}~{self.source_of(gate)}~{gate.warm_up:g}"
        return own, f"{self.stable}~live~{gate.warm_up:g}"

    def _next_split(self, measurement: Measurement) -> Split:
        if self.split.asked is None or not self.stable or self.warmed < max(t.gate.warm_up for t in self.current()):
            return self.split
        candidate = measurement.leg(self.candidate, self.source).requests
        stable = measurement.leg(self.stable, "live").requests
        return self.split.add(candidate, stable if self.source == "mirror" else candidate + stable)

    def _each(self, change: Callable[[Track], Track]) -> "GateState":
        return replace(self, tracks=tuple(change(t) if t.gate.name in self.active else t for t in self.tracks))

    def _placed(self, gate: Gate) -> tuple[Bet, ...]:
        return bets.bets_of(gate, compared=self.compared, paired=self.paired)

    def _entered(self, track: Track, gate: Gate) -> Track:
        track = replace(track, gate=gate)
        if all(start.stage != self.stage for start in track.starts):
            placed = self._placed(gate)
            start = Start(self.stage, "blame" in placed, bets.begun(gate, placed, "fail"))
            track = replace(track, starts=(*track.starts, start))
        return self._restarted(track)

    def _restarted(self, track: Track) -> Track:
        passing = bets.begun(track.gate, self._placed(track.gate), "pass")
        return Track(track.gate, track.starts, passing, spread=track.spread)


@dataclass(frozen=True, slots=True)
class _Looked:
    """What a look at a poll changes about one gate.

    Attributes:
        track, changes: as it was, and its fields that are another now.
        settlements: bets that the poll settles.
        found: dispersion of the terms of which it is known from now on, where it is above 1.
    """

    track: Track
    changes: Mapping[str, Any]
    settlements: tuple[Settlement, ...] = ()
    found: Mapping[TermName, float] = field(default_factory=dict)


def _settled(looked: Sequence[_Looked]) -> list[Track]:
    """The gates with what their bets won; all bets of all gates in one go."""
    after = iter(settle_all([one for each in looked for one in each.settlements]))
    tracks = []
    for each in looked:
        if not each.settlements:
            tracks.append(_corrected(replace(each.track, **each.changes), each.found))
            continue
        fail: dict[Bet, Iterator[Purse]] = {}
        passing: dict[Bet, Purse] = {}
        for one in each.settlements:
            if one.side == "fail":
                fail[one.bet] = iter(next(after))
            else:
                (passing[one.bet],) = next(after)
        starts = tuple([_won(start, fail) for start in each.track.starts])
        track = replace(each.track, **each.changes, starts=starts, passing=passing)
        tracks.append(latched(_corrected(track, each.found)))
    return tracks


def _taught(track: Track, reading: Reading, seconds: float) -> Track:
    gate, spread = track.gate, dict(track.spread or {})
    if gate.guards_stable or gate.metric not in ("error_rate", "latency"):
        return track
    for term in gate.terms:
        clusters = reading.clusters(gate, term)
        if clusters is not None:
            spread[term] = spread.get(term, _NOTHING).add(*clusters, seconds)
    return replace(track, spread=spread)


def _corrected(track: Track, found: Mapping[TermName, float]) -> Track:
    """With the evidence of these terms divided by their dispersion; what has passed has to pass once more."""
    if not found:
        return track

    def of(wealth: Wealth, side: Side) -> Wealth:
        after = dict(wealth)
        for bet, purse in wealth.items():
            index = found.get(bets.TERM_OF[bet])
            if index is not None:
                logs = bets.corrected(track.gate, bet, side, purse.logs, index)
                after[bet] = Purse(tuple(logs.tolist()), float(log_mean_exp(logs)))
        return after

    starts = tuple(replace(start, wealth=of(start.wealth, "fail")) for start in track.starts)
    proven = tuple(term for term in track.proven if term not in found)
    return replace(track, starts=starts, passing=of(track.passing or {}, "pass"), proven=proven)


def _won(start: Start, after: Mapping[Bet, Iterator[Purse]]) -> Start:
    settled = {bet: next(purses) for bet, purses in after.items() if _settles(start, bet, after)}
    return Start(start.stage, start.blamed, {**start.wealth, **settled})


def _settles(start: Start, bet: Bet, placed: Container[Bet]) -> bool:
    # An earlier incident that stable shared must not count once stable is gone to share the next.
    return bet in start.wealth and not (bet == "bound" and start.blamed and "blame" not in placed)


def _seconds(measurement: Measurement) -> float:
    return (measurement.end - measurement.start).total_seconds()
