"""What becomes of each of many rollouts: the plan's stages in order, poll by poll, until it is stopped or through.

The policy is that of `holding`, in its order: harm first (the budget, then a gate that fails), then whether the stage
may go on, then its deadline. Rollouts of a batch go through a stage together; those that leave it sooner wait, with
their own clocks, until all have. Memory is that of one poll of one batch, whatever the plan's length.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from orchestrator.gates.spec import Gate
from orchestrator.simulate.cells import Cells
from orchestrator.simulate.course import Stretch
from orchestrator.simulate.fold import REACTIONS, Fold
from orchestrator.simulate.poll import Poll

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

THROUGH, FAILED, BUDGET, UNDECIDED, NO_DATA = range(5)
"""How a rollout ends: it went through the whole plan; a gate failed; the budget was spent; a stage was undecided, or
without data, at its deadline."""
_LEAST = 1e-9
_CROWDED = 0.9
"""Arrays are made smaller when less of them than this is still of use."""


class Counting(Protocol):
    """Where polls come from: `traffic.Traffic`, or arrays of one's own."""

    def poll(self, stretch: Stretch, begin: float, end: float, rows: int) -> Poll:
        """What is counted between two instants, seconds since the stretch began, in so many rollouts."""
        ...

    def bad(self, stretch: Stretch, begin: float, poll: Poll) -> Ints:
        """Answers of the candidate to clients in this poll that they would call bad, of each rollout."""
        ...


@dataclass(frozen=True, slots=True)
class Rules:
    """What of a plan a simulation goes by.

    Attributes:
        stretches: in order. gates: all of them. starts: J, the gated stages.
        stable, candidate: cells of latencies.
        assumed: names of gates that are taken to be fine.
    """

    stretches: tuple[Stretch, ...]
    gates: tuple[Gate, ...]
    starts: int
    stable: Cells
    candidate: Cells
    assumed: tuple[str, ...] = ()

    @property
    def joins(self) -> bool:
        """Mirrored requests are joined with their twins in some stage."""
        return any(stretch.stage.paired for stretch in self.stretches)


@dataclass(frozen=True, slots=True, eq=False)
class Ended:
    """How each rollout ended.

    Attributes:
        how: THROUGH, FAILED, ...
        reaction: to a FAIL, a place in `REACTIONS`; -1 without one.
        stretch: where it ended, a place in `Rules.stretches`; the last one for THROUGH.
        culprit: the gate that failed, a place in `Rules.gates`; -1 without one.
        seconds: since the first stretch began.
        requests, bad: of clients, answered by the candidate.
    """

    how: Ints
    reaction: Ints
    stretch: Ints
    culprit: Ints
    seconds: Floats
    requests: Ints
    bad: Ints

    @classmethod
    def together(cls, parts: Sequence["Ended"]) -> "Ended":
        """Of several batches."""
        names = ("how", "reaction", "stretch", "culprit", "seconds", "requests", "bad")
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def run(rules: Rules, traffic: Counting, rows: int, ended: Callable[[int], None] = lambda _: None) -> Ended:
    """One batch of rollouts, from the first stretch to the end of each.

    Args:
        rules: of the plan.
        traffic: makes the polls; it knows how many rollouts are still there.
        rows: how many rollouts.
        ended: told how many have ended, after each poll in which some did.
    """
    batch = _Batch(rules, traffic, rows, ended)
    for number, stretch in enumerate(rules.stretches):
        if not len(batch.ids):
            break
        batch.go(number, stretch)
    batch.end(batch.ids, THROUGH, len(rules.stretches) - 1, batch.clock[batch.ids])
    return batch.result()


class _Batch:
    """Rollouts that go through a plan together; what is known of each is at its id."""

    def __init__(self, rules: Rules, traffic: Counting, rows: int, ended: Callable[[int], None]) -> None:
        self.rules, self.traffic, self.ended = rules, traffic, ended
        self.ids: Ints = np.arange(rows)
        self.clock: Floats = np.zeros(rows)
        self.fold = Fold(
            rules.gates,
            rules.starts,
            rows,
            stable=rules.stable,
            candidate=rules.candidate,
            assumed=rules.assumed,
        )
        self.how, self.stretch, self.requests, self.bad, self.errors = (
            np.zeros(rows, dtype=np.int64) for _ in range(5)
        )
        self.reaction, self.culprit = (np.full(rows, -1, dtype=np.int64) for _ in range(2))
        self.seconds: Floats = np.zeros(rows)
        self.numbers = {gate.name: number for number, gate in enumerate(rules.gates)}

    def go(self, number: int, stretch: Stretch) -> None:
        """Through one stretch: those that pass it are left in `ids`, with what was learnt of them in `fold`."""
        stage = stretch.stage
        if stage.gates:
            source: Literal["mirror", "live"] = "mirror" if stretch.mirrored else "live"
            assert stage.gated is not None
            self.fold.enter(stage.gated, stage.gates, compared=stretch.stable > 0, source=source, paired=stage.paired)
        passed: list[tuple[Ints, Fold]] = []
        here = np.ones(len(self.ids), dtype=bool)
        for begin, end in () if stretch.idle else stretch.polls():
            poll = self.traffic.poll(stretch, begin, end, len(self.ids))
            self._served(stretch, begin, poll, here)
            if stretch.gates:
                self.fold.fold(poll)
            at = self.clock[self.ids] + stage.settle + end
            self._stop(number, stretch, here, at)
            if stage.gates and end >= stage.hold - _LEAST:
                going = np.flatnonzero(here & self._may_go_on(stretch))
                if len(going):
                    passed.append((self.ids[going], self.fold.take(going)))
                    self.clock[self.ids[going]] = at[going]
                    here[going] = False
            if not here.any():
                break
            if here.mean() < _CROWDED:
                kept = np.flatnonzero(here)
                self.fold, self.ids, here = self.fold.take(kept), self.ids[kept], np.ones(len(kept), dtype=bool)
        left = np.flatnonzero(here)
        if stage.gates:
            self._give_up(number, stretch, left)
        elif len(left):
            self.clock[self.ids[left]] += stretch.lasts or 0.0
            passed.append((self.ids[left], self.fold.take(left)))
        self.ids = np.concatenate([ids for ids, _ in passed]) if passed else self.ids[:0]
        if passed:
            self.fold = Fold.together([fold for _, fold in passed])

    def end(self, ids: Ints, how: int, number: int, seconds: Floats) -> None:
        """These have ended, so."""
        self.how[ids], self.stretch[ids], self.seconds[ids] = how, number, seconds
        if len(ids):
            self.ended(len(ids))

    def result(self) -> Ended:
        """How all of them ended."""
        return Ended(self.how, self.reaction, self.stretch, self.culprit, self.seconds, self.requests, self.bad)

    # --- one poll -----------------------------------------------------------------------------------

    def _served(self, stretch: Stretch, begin: float, poll: Poll, here: NDArray[np.bool_]) -> None:
        live = poll.candidate.get("live")
        if live is None or not stretch.exposure:
            return
        ids = self.ids[here]
        self.requests[ids] += live.requests[here]
        self.errors[ids] += live.errors[here]
        self.bad[ids] += self.traffic.bad(stretch, begin, poll)[here]

    def _stop(self, number: int, stretch: Stretch, here: NDArray[np.bool_], at: Floats) -> None:
        """End those that do harm."""
        budget = stretch.stage.budget
        if budget is not None:
            spent = here & (self.errors[self.ids] > budget)
            self._end(spent, BUDGET, number, at, here)
        if not stretch.gates:
            return
        reaction, culprit = self.fold.failed()
        failed = here & (reaction >= 0)
        if not failed.any():
            return
        ids = self.ids[failed]
        names = [self.fold.active[place] for place in culprit[failed]]
        self.culprit[ids] = [self.numbers[name] for name in names]
        if stretch.stage.gates:
            self.reaction[ids] = reaction[failed]
        else:
            # A gate that only guards answers with what this stage makes of its FAIL.
            own = {gate.name: REACTIONS.index(gate.on_fail) for gate in stretch.stage.guards}
            self.reaction[ids] = [own[name] for name in names]
        self._end(failed, FAILED, number, at, here)

    def _end(self, which: NDArray[np.bool_], how: int, number: int, at: Floats, here: NDArray[np.bool_]) -> None:
        if which.any():
            self.end(self.ids[which], how, number, at[which])
            here[which] = False

    def _may_go_on(self, stretch: Stretch) -> NDArray[np.bool_]:
        may = np.ones(len(self.ids), dtype=bool)
        for track in self.fold.current():
            verdict = self.fold.verdicts(track)
            fits = verdict == 1
            if stretch.stage.decide == "no_fail":
                fits |= (verdict == 0) & (track.requests >= track.gate.min_requests)
            may &= fits
        return may

    def _give_up(self, number: int, stretch: Stretch, left: Ints) -> None:
        """The deadline of these has passed."""
        if not len(left):
            return
        silent = np.zeros(len(self.ids), dtype=bool)
        for track in self.fold.current():
            silent |= self.fold.verdicts(track) < 0
        at = self.clock[self.ids] + stretch.stage.settle + (stretch.stage.deadline or 0.0)
        for how, chosen in ((NO_DATA, left[silent[left]]), (UNDECIDED, left[~silent[left]])):
            self.end(self.ids[chosen], how, number, at[chosen])
