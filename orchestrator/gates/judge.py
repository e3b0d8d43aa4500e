"""What the evidence allows: from the state of all gates to one judgement, with the reason that a person is told.

Several gates are several chances of a false alarm. The gates of a group (those that ask for the same reaction to a
FAIL) therefore fail together: when the mean of alpha * E_fail over their terms reaches 1. That holds whatever they
have in common, and is never worse than dividing alpha among them. PASS needs no such care: all of them have to pass.

A relative term that has ended, because stable has no live traffic any more, stays in that mean as at most the 1 that a
bet begins with: it can no longer accuse, and its going does not make the others louder.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from orchestrator.gates import combine, wording
from orchestrator.gates.histogram import Tail
from orchestrator.gates.spec import Gate, Reaction, TermName
from orchestrator.gates.spread import MINUTES_NEEDED, Spread
from orchestrator.gates.state import GateState
from orchestrator.gates.track import Tally, Track
from providers.measurement import Histogram

VerdictName = Literal["PASS", "FAIL", "CONTINUE", "NO_DATA", "ERROR"]
Outcome = Literal["passed", "failed", "open", "no_data"]


@dataclass(frozen=True, slots=True)
class Figures:
    """One side of a gate in this stage, after the warm-up.

    Attributes:
        requests, bad: counts; bad as the gate's first term counts them. Whole, but for a metric that extrapolates.
        rate: bad / requests, 0..1; 0 without requests.
        quantile_us: of a latency gate: the bucket bound that the quantile lies at or below; None where it got no
            answer.
    """

    requests: int | float
    bad: int | float
    rate: float
    quantile_us: int | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one gate says.

    Attributes:
        gate: its name.
        verdict: ERROR while its figures cannot be read.
        sentence: the figures, the tolerance and the verdict, for a person.
        candidate, stable: figures; stable None where it has no live traffic.
        log_evidence_fail: the largest of its terms' log E_fail.
        log_evidence_pass: the smallest of its terms' log E_pass.
        unproven: its tolerances that have not passed yet, such as "tolerance of 1.5x + 0.5%".
        notes: what one should know besides, as clauses.
        errors: polls in a row that could not be read.
    """

    gate: str
    verdict: VerdictName
    sentence: str
    candidate: Figures
    stable: Figures | None
    log_evidence_fail: float
    log_evidence_pass: float
    unproven: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    errors: int = 0


@dataclass(frozen=True, slots=True)
class Judgement:
    """What all gates of a stage say together.

    Attributes:
        outcome: failed when a group fails; passed when every gate has passed; no_data when a gate has nothing to go by.
        verdicts: in the stage's order.
        culprit: of a failed group, the gate with the most evidence.
        on_fail: of the failed group; rollback when several fail.
        sentence: the one to show when there is room for one.
    """

    outcome: Outcome
    verdicts: tuple[Verdict, ...]
    culprit: str | None
    on_fail: Reaction | None
    sentence: str


@dataclass(frozen=True, slots=True)
class _Charge:
    """One term's share in its group: log(alpha * E_fail)."""

    track: Track
    term: TermName
    weight: float
    log_fail: float


@dataclass(frozen=True, slots=True)
class _Group:
    """The gates that ask for the same reaction: gate -> its charges, how many there are, whether it fails."""

    on_fail: Reaction
    charges: Mapping[str, Sequence[_Charge]]
    size: int
    failed: bool

    @property
    def culprit(self) -> str:
        """The gate with the most evidence."""
        every = [charge for charges in self.charges.values() for charge in charges]
        return max(every, key=lambda charge: charge.weight).track.gate.name


def judge(state: GateState) -> Judgement:
    """The judgement that the evidence allows now. Pure; looking costs nothing, however often."""
    groups = _groups(state)
    of_group = {group.on_fail: group for group in groups}
    tails: dict[int, Tail] = {}
    verdicts = tuple(_verdict(state, track, of_group[track.gate.on_fail], tails) for track in state.current())
    for group in groups:
        if group.failed:
            culprit = group.culprit
            sentence = next(verdict.sentence for verdict in verdicts if verdict.gate == culprit)
            return Judgement("failed", verdicts, culprit, group.on_fail, sentence)
    if not verdicts:
        return Judgement("passed", (), None, None, "no gates")
    for name, outcome in (("NO_DATA", "no_data"), ("ERROR", "open"), ("CONTINUE", "open")):
        for verdict in verdicts:
            if verdict.verdict == name:
                return Judgement("no_data" if outcome == "no_data" else "open", verdicts, None, None, verdict.sentence)
    sentence = verdicts[0].sentence if len(verdicts) == 1 else f"all {len(verdicts)} gates passed"
    return Judgement("passed", verdicts, None, None, sentence)


def _groups(state: GateState) -> tuple[_Group, ...]:
    """The charges by reaction, rollback first."""
    reactions: tuple[Reaction, ...] = ("rollback", "pause")
    groups = []
    for reaction in reactions:
        charges = {t.gate.name: _charges(state, t) for t in state.current() if t.gate.on_fail == reaction}
        every = [charge for of_gate in charges.values() for charge in of_gate]
        if every:
            logs, alphas = [each.log_fail for each in every], [each.track.gate.alpha for each in every]
            groups.append(_Group(reaction, charges, len(every), combine.accused(logs, alphas) >= 0))
    return tuple(groups)


def _charges(state: GateState, track: Track) -> list[_Charge]:
    log_alpha = math.log(track.gate.alpha)
    charges = []
    for term in track.gate.terms:
        log_fail = track.log_fail(term, state.stages)
        if _ended(state, term):
            log_fail = min(log_fail, 0.0)
        charges.append(_Charge(track, term, log_alpha + log_fail, log_fail))
    return charges


def _verdict(state: GateState, track: Track, group: _Group, tails: dict[int, Tail]) -> Verdict:
    gate = track.gate
    live = [term for term in gate.terms if not _ended(state, term)]
    charges = group.charges[gate.name]
    accused = max(charges, key=lambda charge: charge.weight)
    passing = {term: track.log_pass(term) for term in live}
    name, clause = _decide(state, track, group, passing, accused)
    own, other = state.latencies_of(gate)
    candidate = _figures(gate, track.candidate, own, tails)
    stable = _figures(gate, track.stable, other, tails) if _compares(state, gate) else None
    return Verdict(
        gate=gate.name,
        verdict=name,
        sentence=f"{_headline(state, track, candidate, stable)}{clause} -> {name}",
        candidate=candidate,
        stable=stable,
        log_evidence_fail=max(charge.log_fail for charge in charges),
        log_evidence_pass=min(passing.values(), default=0.0),
        unproven=tuple(wording.tolerance(gate, term) for term in live if term not in track.proven),
        notes=_notes(state, track),
        errors=max(track.errors, state.split.off),
    )


def _decide(
    state: GateState, track: Track, group: _Group, passing: Mapping[TermName, float], accused: _Charge
) -> tuple[VerdictName, str]:
    """The verdict and the clause that gives its reason; `passing` is log E_pass of the terms that have not ended."""
    gate, live = track.gate, list(passing)
    if group.failed and accused.weight >= 0:
        return "FAIL", f"beyond the {wording.tolerance(gate, accused.term)}{_blamed(state, gate, accused.term)}"
    if track.errors:
        return "ERROR", track.error
    if state.split.off:
        return "ERROR", wording.misdirected(state.split)
    ended = f" ({_end(state)})" if len(live) < len(gate.terms) else ""
    nothing = _nothing(state, track, live)
    if nothing:
        return "NO_DATA", nothing
    if all(term in track.proven for term in live):
        return "PASS", f"within the {' and the '.join(_within(state, track, term) for term in live)}{ended}"
    if state.warmed < gate.warm_up and not track.polls:
        return "CONTINUE", f"warming up, {wording.seconds(gate.warm_up - state.warmed)} left{ended}"
    way = _way_to_fail(group, accused)
    if way >= 50:
        doubt = f"doubtful about the {wording.tolerance(gate, accused.term)}"
        return "CONTINUE", f"{doubt} ({way}% of the way to FAIL){ended}"
    requests = track.candidate.requests
    of = f"{wording.count(requests)} of {wording.counted(gate, gate.min_requests)}"
    few = f"{of}, " if requests < gate.min_requests else ""
    return "CONTINUE", f"needs more evidence ({few}{_way_to_pass(track, passing)}% of the way to PASS){ended}"


def _nothing(state: GateState, track: Track, live: Sequence[TermName]) -> str:
    """Why the gate has nothing to go by, or ""."""
    if not live:
        return _end(state)
    judged = wording.judged(track.gate, state.source_of(track.gate))
    if not track.seen:
        return track.nothing or f"no {judged} since the step began"
    if track.polls and not track.candidate.requests:
        return track.nothing or f"no {judged} since the warm-up"
    if live == ["relative"] and track.polls and not track.stable.requests and not track.gate.valued:
        if track.gate.guards_stable:
            return f"{state.stable} was not measured before the step, so there is nothing to compare with"
        return f"{state.stable} had no live requests to compare with"
    return ""


def _way_to_pass(track: Track, passing: Mapping[TermName, float]) -> int:
    """How far the slowest term is, in percent of the log evidence that it needs; below 100 until it has passed."""
    needed = -math.log(track.gate.beta)
    slowest = min(log for term, log in passing.items() if term not in track.proven)
    return max(0, min(99, int(100 * slowest / needed)))


def _way_to_fail(group: _Group, accused: _Charge) -> int:
    """How far a term is, in percent of the log evidence with which it would fail its group alone."""
    needed = -math.log(accused.track.gate.alpha) + math.log(group.size)
    return max(0, min(99, int(100 * accused.log_fail / needed)))


def _within(state: GateState, track: Track, term: TermName) -> str:
    gate = track.gate
    text = wording.tolerance(gate, term)
    if not _blamed(state, gate, term) or gate.max is None:
        return text
    within = track.candidate.bad <= gate.bound_rate * track.candidate.requests
    return text if within else f"{text} as far as {state.stable} is"


def _blamed(state: GateState, gate: Gate, term: TermName) -> str:
    if term != "bound" or not gate.blame or gate.max is None or not state.compared:
        return ""
    return " and worse than before" if gate.guards_stable else f" and worse than {state.stable}"


def _notes(state: GateState, track: Track) -> tuple[str, ...]:
    gate = track.gate
    notes = []
    if gate.relative and not state.compared:
        notes.append(_end(state))
    if track.joined is not None:
        notes.append(f"{track.joined:,} mirrored requests were joined with their live twins")
    elif state.source_of(gate) == "mirror" and gate.metric in ("error_rate", "latency") and state.compared:
        notes.append("mirrored requests are not joined with their live twins: all of both sides are compared")
    notes += [f"for example: {example}" for example in track.examples]
    notes += [f"left out: {count:,}, because {why}" for why, count in track.left_out.items()]
    if track.nothing and track.seen:
        notes.append(f"no figures in the last poll: {track.nothing}")
    if gate.valued:
        notes.append("the coarse form: points in time are judged, not requests")
    if gate.guards_stable:
        notes.append(f"compares {state.stable} with itself before the step: what changed by itself counts as well")
    if gate.dispersion and not gate.valued:
        moments = track.spread or {}
        minutes = min((moments.get(term, Spread()).minutes for term in gate.terms), default=0)
        if minutes < MINUTES_NEEDED:
            notes.append(f"not corrected for clustered errors: {minutes} of {MINUTES_NEEDED} minutes seen")
        else:
            index = max(moments[term].index for term in gate.terms)
            notes.append(f"corrected for clustered errors: counts divided by {index:.3g}")
    if state.lost:
        notes.append(f"{state.lost} of the step's measurements lost with a restart of the data plane")
    return tuple(notes)


def _headline(state: GateState, track: Track, candidate: Figures, stable: Figures | None) -> str:
    gate = track.gate
    judged = (state.stable or "stable") if gate.guards_stable else state.candidate
    if not candidate.requests:
        return f"{judged}: "
    own = (judged, wording.value(gate, candidate.rate, candidate.quantile_us))
    other = None
    if stable is not None and stable.requests and state.stable:
        name = "before" if gate.guards_stable else state.stable
        other = (name, wording.value(gate, stable.rate, stable.quantile_us))
    return wording.headline(gate, own, other, candidate.requests, track.joined) + ": "


def _figures(gate: Gate, tally: Tally, latency: Histogram, tails: dict[int, Tail]) -> Figures:
    rate = tally.bad / tally.requests if tally.requests else 0.0
    if gate.metric != "latency":
        return Figures(tally.requests, tally.bad, rate)
    # Gates share the histogram that is shown; adding it up for each of them would be most of a judgement's time.
    tail = tails.get(id(latency)) or Tail(latency)
    tails[id(latency)] = tail
    return Figures(tally.requests, tally.bad, rate, tail.bound(gate.quantile))


def _compares(state: GateState, gate: Gate) -> bool:
    return state.compared and not gate.mirrors and not gate.valued


def _end(state: GateState) -> str:
    return f"no longer compared: {state.stable or 'stable'} has no live traffic"


def _ended(state: GateState, term: TermName) -> bool:
    return term == "relative" and not state.compared
