"""What is known about one gate: the wealth of its bets, what it has counted, and what has passed.

`GateState` holds one of these for each gate and adds a poll to it; `judge` reads it. How single bets become the
evidence of a term is `combine`'s business.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from orchestrator.gates import combine
from orchestrator.gates.bets import Bet, Wealth
from orchestrator.gates.spec import Gate, TermName
from orchestrator.gates.spread import Spread

_PLAIN: Mapping[TermName, tuple[Bet, ...]] = {"bound": ("bound",), "relative": ("relative", "paired")}
_EXCUSES: tuple[Bet, ...] = ("blame", "paired_blame")


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

    def log(self, term: TermName) -> float:
        """log E_fail of a term; 0 where it has no bet."""
        own = _logs(self.wealth, _PLAIN[term])
        if not own:
            return 0.0
        if term == "bound" and self.blamed:
            return combine.excused(own[0], combine.mixed(_logs(self.wealth, _EXCUSES)))
        return combine.mixed(own)


@dataclass(frozen=True, slots=True)
class Tally:
    """Requests of one leg since the stage began, after the warm-up: as the gate's first term counts them for FAIL."""

    requests: int | float = 0
    bad: int | float = 0

    def add(self, counts: tuple[float, float]) -> "Tally":
        """With one more poll of (requests, bad)."""
        requests, bad = counts
        return Tally(self.requests + requests, self.bad + bad) if requests or bad else self


@dataclass(frozen=True, slots=True)
class Track:
    """What is known about one gate.

    Attributes:
        gate: as the last stage that has it sees it.
        starts: bets on FAIL, oldest first; over the whole rollout.
        passing: bets on PASS; of this stage.
        proven: terms that have passed in this stage.
        spread: of stable's bad requests, per term.
        candidate, stable: counts of this stage.
        seen: candidate requests of this stage, the warm-up included.
        polls: those of this stage that counted, after the warm-up.
        nothing: why the source had no figures in the last poll, or "".
        joined: pairs of this stage that were judged; None where nothing joins them.
        examples: of what was found, redacted.
        left_out: why pairs of this stage could not be judged -> how many.
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
    seen: float = 0
    polls: int = 0
    nothing: str = ""
    joined: int | None = None
    examples: tuple[str, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)
    error: str = ""
    errors: int = 0

    def log_fail(self, term: TermName, stages: int) -> float:
        """log E_fail of a term: the mean over all starts, those to come counted as 1."""
        return combine.over_starts([start.log(term) for start in self.starts], stages)

    def log_pass(self, term: TermName) -> float:
        """log E_pass of a term in this stage; 0 where it has no bet."""
        wealth = self.passing or {}
        own = _logs(wealth, _PLAIN[term])
        if not own:
            return 0.0
        excuses = _logs(wealth, _EXCUSES) if term == "bound" else []
        return combine.mixed([own[0], combine.mixed(excuses)]) if excuses else combine.mixed(own)


def latched(track: Track) -> Track:
    """With the terms that have passed now; what has passed in a stage stays so."""
    terms = track.gate.terms
    if len(track.proven) == len(terms) or track.candidate.requests < track.gate.min_requests:
        return track
    # Where a term has no bet its evidence is 0, which proves nothing.
    wanted = -math.log(track.gate.beta)
    proven = tuple(term for term in terms if term in track.proven or track.log_pass(term) >= wanted)
    return track if proven == track.proven else replace(track, proven=proven)


def _logs(wealth: Wealth, bets: Sequence[Bet]) -> list[float]:
    return [wealth[bet].log for bet in bets if bet in wealth]


def interrupted(spread: Mapping[TermName, Spread] | None) -> Mapping[TermName, Spread] | None:
    """Without the open minutes, a part of which was not seen."""
    return None if spread is None else {term: moments.interrupted() for term, moments in spread.items()}
