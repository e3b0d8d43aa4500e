"""The fold of thousands is the fold of one: the same polls give the same evidence and the same verdicts."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.gates.judge import judge
from orchestrator.gates.spec import Gate
from orchestrator.gates.state import GateState
from orchestrator.simulate.cells import Cells, candidate_cells, stable_cells
from orchestrator.simulate.fold import REACTIONS, Fold
from orchestrator.simulate.latency import LogNormal
from orchestrator.simulate.poll import Counted, Joined, Poll
from providers.measurement import Comparison, Measurement
from tests.unit.simulating import measurement

START = datetime(2026, 1, 1, tzinfo=UTC)
LATENCIES = LogNormal.with_p95(400_000)
ROWS = 6
VERDICTS = {"PASS": 1, "CONTINUE": 0, "NO_DATA": -1}

GATES = {
    "bound": Gate("bound", "error_rate", max=0.02, warm_up=0, min_requests=50),
    "blamed": Gate("blamed", "error_rate", max=0.02, blame=True, warm_up=12, on_fail="pause"),
    "ratio": Gate("ratio", "error_rate", max_ratio=1.5, max_increase=0.005, warm_up=0, min_requests=10),
    "both": Gate("both", "error_rate", max=0.03, max_ratio=2.0, max_increase=0.01, blame=True, alpha=0.05),
    "p95": Gate("p95", "latency", max=500_000, blame=True, warm_up=0),
    "slower": Gate("slower", "latency", max_ratio=1.1, warm_up=10, dispersion=False),
    "median": Gate("median", "latency", quantile=0.5, max=250_000, max_ratio=1.3, blame=True, on_fail="pause"),
    "mirrored": Gate("mirrored", "error_rate", max=0.02, source="mirror", warm_up=0),
    "sign": Gate("sign", "slowdown", max_ratio=1.05, warm_up=0),
    "missing": Gate("missing", "missing_pairs", max=0.02, warm_up=0),
    "answers": Gate("answers", "prediction", max=0.02, comparison=Comparison(), warm_up=10),
}
# (gates, mirrored, stable has traffic, joined, polls)
SHADOW = ("shadow", True)
PLANS = {
    "one gate": [(["bound"], False, True, 12)],
    "blame": [(["blamed", "both"], False, True, 12)],
    "ratio": [(["ratio"], False, True, 12), (["ratio", "bound"], False, True, 8)],
    "latency": [(["p95", "slower", "median"], False, True, 16)],
    "stages": [
        (["both", "slower"], True, True, 9),
        (["both", "median", "ratio"], False, True, 9),
        (["both", "p95"], False, False, 9),
    ],
    "mirror": [(["mirrored", "blamed"], True, True, 9), (["mirrored", "blamed"], False, True, 9)],
    "pairs": [(["both", "slower", "sign", "missing", "answers"], True, True, 14), (["both", "p95"], False, True, 9)],
    "a median in pairs": [(["median", "sign"], True, True, 14), (["median"], False, False, 9)],
}


class World:
    """Polls as arrays, and as one measurement of each rollout."""

    def __init__(self, gates: Sequence[Gate], seed: int, busy: float, *, joins: bool) -> None:
        self.rng = np.random.default_rng(seed)
        self.gates, self.busy, self.joins = gates, busy, joins
        self.stable = stable_cells(gates, LATENCIES, busy, 2)
        self.candidate = candidate_cells(gates, self.stable, 2)
        self.at = START
        # Some are fine, some are bad from the beginning.
        self.errors = self.rng.choice([0.0, 0.005, 0.05], ROWS)
        self.factor = self.rng.choice([1.0, 1.02, 1.6], ROWS)

    def poll(self, *, mirrored: bool, compared: bool, seconds: float) -> tuple[Poll, list[Measurement]]:
        mine = self._counted(self.busy / 3, self.candidate, self.errors, self.factor)
        other = self._counted(self.busy, self.stable, np.full(ROWS, 0.005), np.ones(ROWS))
        joined = self._joined(mine) if mirrored and self.joins else None
        source = "mirror" if mirrored else "live"
        poll = Poll(seconds, {source: mine}, other if compared else None, joined)
        begin, self.at = self.at, self.at + timedelta(seconds=seconds)
        answers = tuple(gate.name for gate in self.gates if gate.metric == "prediction")
        return poll, [measurement(poll, row, begin, self.stable, self.candidate, answers) for row in range(ROWS)]

    def _counted(self, mean: float, cells: Cells, errors: np.ndarray, factor: np.ndarray) -> Counted:
        requests = self.rng.poisson(mean, ROWS) * (self.rng.random(ROWS) > 0.05)
        latency = np.array(
            [self.rng.multinomial(n, cells.shares(LATENCIES, f)) for n, f in zip(requests, factor, strict=True)]
        )
        latency[:, -1] += self.rng.poisson(0.3, ROWS)  # without an answer
        requests = latency.sum(axis=1)
        return Counted(requests, self.rng.binomial(requests, errors), latency)

    def _joined(self, mine: Counted) -> Joined:
        rng = self.rng
        lost = rng.binomial(mine.requests, 0.02)
        many = mine.requests - lost
        errors = np.array(
            [rng.multinomial(n, [0.002, e, 0.003, 0.995 - e]) for n, e in zip(many, self.errors, strict=True)]
        )
        row = np.repeat(np.arange(ROWS), many)
        shared = rng.standard_normal(len(row))

        def cut(latencies: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            whole = np.maximum(latencies.astype(np.int64), 1)
            width = 10 ** np.maximum(np.char.str_len(whole.astype(str)) - 3, 0)
            return whole // width * width, whole // width * width + width

        copy, copy_most = cut(LATENCIES.at(0.8 * shared + 0.6 * rng.standard_normal(len(row))) * self.factor[row])
        twin, twin_most = cut(LATENCIES.at(0.8 * shared + 0.6 * rng.standard_normal(len(row))))
        return Joined(errors, lost, rng.binomial(many, 0.01), row, copy, copy_most, twin, twin_most)


@pytest.mark.parametrize(("busy", "sparing"), [(6.0, False), (90.0, True), (1500.0, False)])
@pytest.mark.parametrize("joins", [False, True], ids=["legs", "pairs"])
@pytest.mark.parametrize("name", PLANS)
def test_the_fold_is_the_engines(name: str, joins: bool, busy: float, sparing: bool) -> None:
    plan = PLANS[name]
    gates = tuple(GATES[each] for each in dict.fromkeys(each for stage in plan for each in stage[0]))
    world = World(gates, hash((len(name), joins, int(busy))) % 2**32, busy, joins=joins)
    states = [GateState.begin(gates, len(plan) + 1) for _ in range(ROWS)]
    fold = Fold(gates, len(plan) + 1, ROWS, stable=world.stable, candidate=world.candidate, sparing=sparing)
    for number, (names, mirrored, compared, polls) in enumerate(plan):
        chosen = tuple(GATES[each] for each in names)
        source = "mirror" if mirrored else "live"
        stable = "blue" if compared else None
        states = [state.enter(number, chosen, "green", stable, source, paired=joins) for state in states]
        fold.enter(number, chosen, compared=compared, source=source, paired=joins)
        for at in range(polls):
            poll, measurements = world.poll(mirrored=mirrored, compared=compared, seconds=7.0 if at == 3 else 10.0)
            states = [state.fold(each) for state, each in zip(states, measurements, strict=True)]
            fold.fold(poll)
            compare(states, fold, sparing=sparing)


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**20),
    rate=st.one_of(st.none(), st.floats(0.001, 0.2)),
    ratio=st.floats(0.5, 3),
    increase=st.floats(0.001, 0.1),
    quantile=st.sampled_from([0.5, 0.9, 0.99]),
    factor=st.floats(1.01, 2),
    bound=st.one_of(st.none(), st.integers(10_000, 2_000_000)),
    flags=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    busy=st.floats(2, 3000),
)
def test_so_it_is_for_any_tolerance(
    seed: int,
    rate: float | None,
    ratio: float,
    increase: float,
    quantile: float,
    factor: float,
    bound: int | None,
    flags: tuple[bool, bool, bool],
    busy: float,
) -> None:
    blame, dispersion, joins = flags
    common = {"blame": blame, "dispersion": dispersion, "warm_up": 0.0, "min_requests": 5}
    gates = (
        Gate("errors", "error_rate", max=rate, max_ratio=ratio, max_increase=increase, **common),
        Gate("latency", "latency", quantile=quantile, max=bound, max_ratio=factor, on_fail="pause", **common),
    )
    world = World(gates, seed, busy, joins=joins)
    states = [GateState.begin(gates, 2) for _ in range(ROWS)]
    fold = Fold(gates, 2, ROWS, stable=world.stable, candidate=world.candidate, sparing=False)
    for number, source in enumerate(("mirror", "live")):
        states = [state.enter(number, gates, "green", "blue", source, paired=joins) for state in states]
        fold.enter(number, gates, compared=True, source=source, paired=joins)
        for _ in range(5):
            poll, measurements = world.poll(mirrored=source == "mirror", compared=True, seconds=30.0)
            states = [state.fold(each) for state, each in zip(states, measurements, strict=True)]
            fold.fold(poll)
            compare(states, fold, sparing=False)


def compare(states: list[GateState], fold: Fold, *, sparing: bool) -> None:
    for track in fold.current():
        real = [next(t for t in state.current() if t.gate.name == track.gate.name) for state in states]
        for term in track.gate.terms:
            logs = [each.log_fail(term, state.stages) for each, state in zip(real, states, strict=True)]
            np.testing.assert_allclose(track.log_fail(term, fold.stages), logs, rtol=1e-9, atol=1e-9)
            assert np.all(track.most_fail(term) >= np.array(logs) - 1e-9)
            proven = np.array([term in each.proven for each in real])
            np.testing.assert_array_equal(track.proven[term], proven)
            mine, theirs = track.log_pass(term), np.array([each.log_pass(term) for each in real])
            still = ~proven if sparing else slice(None)
            np.testing.assert_allclose(mine[still], theirs[still], rtol=1e-9, atol=1e-9)
            for row, each in enumerate(real):
                spread = (each.spread or {}).get(term)
                if spread is not None:
                    assert math.isclose(track.spread[term].index[row], spread.index, rel_tol=1e-12)
    reaction, culprit = fold.failed()
    for row, state in enumerate(states):
        judgement = judge(state)
        if judgement.outcome == "failed":
            assert REACTIONS[reaction[row]] == judgement.on_fail
            assert fold.active[culprit[row]] == judgement.culprit
            continue
        assert reaction[row] == -1
        for verdict, track in zip(judgement.verdicts, fold.current(), strict=True):
            assert fold.verdicts(track)[row] == VERDICTS[verdict.verdict], (verdict, row)
