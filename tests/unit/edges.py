"""Candidates exactly at the edge of their tolerance, by the thousand: how often is one failed, or passed, by chance?

The edge is where a promise is hardest to keep: a candidate there is within its tolerance (a FAIL is false) and beyond
it (a PASS is false). Each situation is judged after every poll by the fold of `orchestrator.simulate`, which a test
holds equal to the engine's. `make test-statistics` runs many more of each than the tests do, and prints the table.
"""

import argparse
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from orchestrator.gates.kernels import Side
from orchestrator.gates.spec import Gate
from orchestrator.simulate.cells import LONGEST, Cells, candidate_cells, stable_cells
from orchestrator.simulate.fold import Fold
from orchestrator.simulate.latency import LogNormal
from orchestrator.simulate.poll import Counted, Joined, Poll

LEVEL = 0.05
"""Of alpha and of beta, in every situation: chance is seen sooner than at 1%."""
POLLS = 60
"""A minute each."""
LATENCIES = LogNormal.with_p95(400_000)
NO_CELLS = Cells(np.array([0, LONGEST], dtype=np.int64))


@dataclass(frozen=True)
class Situation:
    """Traffic at the edge.

    Attributes:
        name: what is special about it.
        gates: judged together, all in one group.
        poll: (generator, rollouts, number of the poll) -> what it counts.
        stages: polls of each gated stage; each opens a start.
        mirrored, joins: the candidate gets copies; they are joined with their twins.
        teach: polls at first in which the candidate gets nothing and stable's dispersion is learnt.
        promised: the sides on which the level holds. A candidate that is within its tolerance may pass, and without a
            safeguard it may be failed more often.
    """

    name: str
    gates: tuple[Gate, ...]
    poll: Callable[[np.random.Generator, int, int], Poll]
    stages: tuple[int, ...] = (POLLS,)
    mirrored: bool = False
    joins: bool = False
    teach: int = 0
    promised: tuple[Side, ...] = ("fail", "pass")


@dataclass(frozen=True)
class Measured:
    """Shares of rollouts: failed at any poll, and passed in the last stage (of the terms, the one that most did)."""

    failed: float
    passed: float
    rollouts: int


def run(situation: Situation, rollouts: int, seed: int) -> Measured:
    """Judge after every poll."""
    rng = np.random.default_rng(seed)
    timed = any(gate.metric == "latency" for gate in situation.gates)
    stable = stable_cells(situation.gates, LATENCIES, 540, 2) if timed else NO_CELLS
    candidate = candidate_cells(situation.gates, stable, 2) if timed else NO_CELLS
    fold = Fold(situation.gates, len(situation.stages), rollouts, stable=stable, candidate=candidate)
    failed, number = np.zeros(rollouts, dtype=bool), 0
    for stage, polls in enumerate(situation.stages):
        source = "mirror" if situation.mirrored else "live"
        fold.enter(stage, situation.gates, compared=True, source=source, paired=situation.joins)
        for at in range(polls + (situation.teach if stage == 0 else 0)):
            poll = situation.poll(rng, rollouts, number)
            if stage == 0 and at < situation.teach:
                quiet = np.zeros(rollouts, dtype=np.int64)
                poll = replace(poll, candidate={source: Counted(quiet, quiet)})
            fold.fold(poll)
            failed |= fold.failed()[0] >= 0
            number += 1
    passed = [proven.mean() for track in fold.current() for proven in track.proven.values()]
    return Measured(float(failed.mean()), float(max(passed)), rollouts)


def allowed(rollouts: int) -> float:
    """The level, and three standard errors of the simulation on top of it."""
    return LEVEL + 3 * math.sqrt(LEVEL * (1 - LEVEL) / rollouts)


def error_gate(name: str = "errors", **fields: Any) -> Gate:
    return Gate(name, "error_rate", **{"warm_up": 0, "min_requests": 0, "alpha": LEVEL, "beta": LEVEL, **fields})


RATIO = error_gate("ratio", max_ratio=1.5, max_increase=0.005)
BOUND = error_gate("bound", max=0.02)
BLAMED = error_gate("blamed", max=0.02, blame=True)


def tolerated(stable: Any) -> Any:
    """The candidate's rate at the edge of RATIO."""
    return 1.5 * stable + 0.005


def independent(
    stable: Callable[[int], float],
    candidate: Callable[[float], float] = tolerated,
    requests: Callable[[int], tuple[int, int]] = lambda _: (60, 540),
) -> Callable[[np.random.Generator, int, int], Poll]:
    """Errors that come one by one. Rates and numbers of requests may depend on the number of the poll."""

    def poll(rng: np.random.Generator, rows: int, number: int) -> Poll:
        rate, (mean, other) = stable(number), requests(number)
        n_c, n_s = rng.poisson(mean, rows), rng.poisson(other, rows)
        mine = Counted(n_c, rng.binomial(n_c, candidate(rate)))
        return Poll(60.0, {"live": mine}, Counted(n_s, rng.binomial(n_s, rate)))

    return poll


def clustered(size: float, rate: float) -> Callable[[np.random.Generator, int, int], Poll]:
    """Errors in bursts, geometric with this mean: one cause fails many requests of one minute."""

    def bad(rng: np.random.Generator, requests: Any, share: float) -> Any:
        causes = rng.poisson(requests * share / size)
        extra = rng.negative_binomial(np.maximum(causes, 1), 1 / size)
        return np.minimum(np.where(causes > 0, causes + extra, 0), requests)

    def poll(rng: np.random.Generator, rows: int, _: int) -> Poll:
        n_c, n_s = rng.poisson(600, rows), rng.poisson(5400, rows)
        mine = Counted(n_c, bad(rng, n_c, tolerated(rate)))
        return Poll(60.0, {"live": mine}, Counted(n_s, bad(rng, n_s, rate)))

    return poll


def pairs(
    rate: float, together: float, *, lost_bad: float = 0.0, lost: float = 0.0
) -> Callable[[np.random.Generator, int, int], Poll]:
    """Copies of a tenth of stable's requests.

    Args:
        rate: of stable; the candidate's is at the edge.
        together: how far errors of both sides meet in the same requests, 0 (by chance) .. 1 (as far as can be).
        lost_bad, lost: share of the bad copies, and of all others, that cannot be joined. Legs count them all the same.
    """
    mine = tolerated(rate)
    both = mine * rate + together * (min(mine, rate) - mine * rate)
    table = np.array([both, mine - both, rate - both, 1 - mine - rate + both])

    def poll(rng: np.random.Generator, rows: int, _: int) -> Poll:
        every = rng.multinomial(60, table, size=rows)
        gone = rng.binomial(every, (lost_bad, lost_bad, lost, lost))
        left = every - gone
        others = rng.binomial(480, rate, rows)
        bad = every[:, :2].sum(axis=1)
        nothing = np.zeros(0, dtype=np.int64)
        joined = Joined(left, gone.sum(axis=1), np.zeros(rows, dtype=np.int64), *[nothing] * 5)
        n_c, n_s = np.full(rows, 60), np.full(rows, 540)
        stable = Counted(n_s, every[:, 0] + every[:, 2] + others)
        return Poll(60.0, {"mirror": Counted(n_c, bad)}, stable, joined)

    return poll


def latencies(gates: Sequence[Gate], factor: float, rate: float) -> Callable[[np.random.Generator, int, int], Poll]:
    """A candidate that is slower by this factor, with errors at the edge."""
    stable = stable_cells(gates, LATENCIES, 540, 2)
    candidate = candidate_cells(gates, stable, 2)
    slow, usual = candidate.shares(LATENCIES, factor), stable.shares(LATENCIES)

    def poll(rng: np.random.Generator, rows: int, _: int) -> Poll:
        n_c, n_s = rng.poisson(60, rows), rng.poisson(540, rows)
        mine = Counted(n_c, rng.binomial(n_c, tolerated(rate)), rng.multinomial(n_c, slow))
        other = Counted(n_s, rng.binomial(n_s, rate), rng.multinomial(n_s, usual))
        return Poll(60.0, {"live": mine}, other)

    return poll


def slower(ratio: float) -> Callable[[np.random.Generator, int, int], Poll]:
    """Copies that take `ratio` times as long as their twins in the middle: half of them more, half of them less."""

    def poll(rng: np.random.Generator, rows: int, _: int) -> Poll:
        many = 30
        row = np.repeat(np.arange(rows), many)
        shared = rng.standard_normal(len(row))
        twin = LATENCIES.at(0.8 * shared + 0.6 * rng.standard_normal(len(row))).astype(np.int64)
        copy = (ratio * twin * np.exp(0.3 * rng.standard_normal(len(row)))).astype(np.int64)
        errors = np.tile(np.array([0, 0, 0, many]), (rows, 1))
        none = np.zeros(rows, dtype=np.int64)
        joined = Joined(errors, none, none, row, copy, copy + 1, twin, twin + 1)
        n = np.full(rows, many)
        return Poll(60.0, {"mirror": Counted(n, none)}, Counted(10 * n, none), joined)

    return poll


P95 = Gate("p95", "latency", max_ratio=1.1, warm_up=0, min_requests=0, alpha=LEVEL, beta=LEVEL)
MEDIAN = Gate("p50", "latency", quantile=0.5, max_ratio=1.1, warm_up=0, min_requests=0, alpha=LEVEL, beta=LEVEL)
SLOWDOWN = Gate("slower", "slowdown", max_ratio=1.2, warm_up=0, min_requests=0, alpha=LEVEL, beta=LEVEL)
GROUP = (RATIO, BOUND, P95, MEDIAN)


def _drift(number: int) -> float:
    return 0.01 + 0.03 * (0.5 - 0.5 * math.cos(2 * math.pi * number / POLLS))


def _incident(number: int) -> float:
    return 0.25 if 20 <= number < 30 else 0.01


def _weights(number: int) -> tuple[int, int]:
    share = (0.05, 0.5, 0.1, 0.9)[number // 3 % 4]
    return round(600 * share), round(600 * (1 - share))


def situations() -> tuple[Situation, ...]:
    """All of them."""
    steady = independent(lambda _: 0.01)
    stages = (20, 20, 20)
    alike = independent(_incident, lambda rate: rate)
    turns = independent(lambda n: 0.25 if 20 <= n < 30 else 0.002, lambda rate: max(rate, 0.015))
    both_beyond = independent(lambda n: max(0.02, _incident(n)), lambda rate: rate)
    return (
        Situation("an absolute bound", (BOUND,), independent(lambda _: 0.01, lambda _: 0.02)),
        Situation("a comparison", (RATIO,), steady),
        Situation("rates that drift", (RATIO,), independent(_drift)),
        Situation("an incident of both sides", (RATIO,), independent(_incident)),
        Situation("an incident of both, a blamed bound", (BLAMED,), both_beyond),
        Situation("the same, within the bound before and after", (BLAMED,), alike, promised=("fail",)),
        Situation("worse than stable within the bound, then the incident", (BLAMED,), turns, promised=("fail",)),
        Situation("traffic weights that change", (RATIO,), independent(lambda _: 0.01, requests=_weights)),
        Situation("weights that change, rates that drift", (RATIO,), independent(_drift, requests=_weights)),
        Situation("three stages", (RATIO,), steady, stages),
        Situation("four gates", GROUP, latencies(GROUP, 1.1, 0.01)),
        Situation("four gates, three stages", GROUP, latencies(GROUP, 1.1, 0.01), stages),
        Situation("pairs, errors met by chance", (RATIO,), pairs(0.05, 0.0), mirrored=True, joins=True),
        Situation("pairs, errors met wherever they can", (RATIO,), pairs(0.05, 1.0), mirrored=True, joins=True),
        Situation("pairs, a fifth lost", (RATIO,), pairs(0.05, 0.7, lost_bad=0.2, lost=0.2), mirrored=True, joins=True),
        Situation("pairs, bad copies lost", (RATIO,), pairs(0.05, 0.7, lost_bad=0.8), mirrored=True, joins=True),
        Situation("copies as slow as allowed", (SLOWDOWN,), slower(1.2), mirrored=True, joins=True),
        *(Situation(f"clusters of {size}, known", (RATIO,), clustered(size, 0.005), teach=15) for size in (2, 5, 10)),
        *(
            Situation(f"clusters of {size}, not known at first", (RATIO,), clustered(size, 0.005), promised=())
            for size in (2, 5, 10)
        ),
        *(
            Situation(
                f"clusters of {size}, dispersion off",
                (replace(RATIO, dispersion=False),),
                clustered(size, 0.005),
                promised=(),
            )
            for size in (2, 5, 10)
        ),
    )


def _interval(share: float, rollouts: int) -> str:
    """95%, Wilson's."""
    z = 1.96
    middle = (share + z * z / (2 * rollouts)) / (1 + z * z / rollouts)
    half = z / (1 + z * z / rollouts) * math.sqrt(share * (1 - share) / rollouts + z * z / (4 * rollouts**2))
    return f"{100 * share:.2f}% ({100 * max(0.0, middle - half):.2f} to {100 * (middle + half):.2f})"


def main() -> int:
    """Print the table; 1 where a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rollouts", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=4)
    given = parser.parse_args()
    broken = 0
    print(f"{given.rollouts:,} rollouts of {POLLS} polls each, seed {given.seed}; 95% intervals\n")
    print("| at the edge of the tolerance | nominal | false FAIL | false PASS |")
    print("| --- | --: | --: | --: |")
    for situation in situations():
        began, left, seed = time.monotonic(), given.rollouts, given.seed
        parts = []
        while left > 0:
            parts.append(run(situation, min(left, 2000), seed))
            left, seed = left - 2000, seed + 1
        n = sum(part.rollouts for part in parts)
        failed, passed = (
            sum(getattr(part, name) * part.rollouts for part in parts) / n for name in ("failed", "passed")
        )
        cells = []
        for side, share in (("fail", failed), ("pass", passed)):
            promised = side in situation.promised
            wrong = promised and share > allowed(n)
            broken += wrong
            cells.append(_interval(share, n) + (" **BROKEN**" if wrong else "" if promised else " no promise"))
        print(f"| {situation.name} | {100 * LEVEL:.0f}% | {' | '.join(cells)} |", flush=True)
        print(f"{situation.name}: {time.monotonic() - began:.1f} s", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
