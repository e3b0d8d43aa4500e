"""The benchmark of the gates measures what it says: its engine is the engine, its traffic what was ordered, and its
report has a figure for every rule in every situation."""

import importlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"
ROLLOUTS = 60


@pytest.fixture(scope="module")
def load() -> Iterator[object]:
    """Imports a module of benchmarks/, which is no package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        known = set(sys.modules)
        yield importlib.import_module
        for name in set(sys.modules) - known:
            if name.startswith("gate") or name == "rivals":
                del sys.modules[name]


@pytest.fixture(scope="module")
def quick() -> str:
    """The report of a quick run."""
    command = [sys.executable, "benchmarks/gates.py", "--quick", "--seed", "7"]
    # Its parts lie beside it, where PYTHONSAFEPATH would not look.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def rows(report: str, heading: str) -> dict[str, list[str]]:
    """The table below a heading, by its first cell."""
    part = report.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line.strip("| ").split(" | ") for line in part.splitlines() if line.startswith("|")]
    return {line[0]: line[1:] for line in lines[2:]}


def share(cell: str) -> float:
    return float(cell.split("%", maxsplit=1)[0])


def test_the_report_has_a_figure_for_every_rule_in_every_situation(load, quick: str) -> None:
    scenarios, rules = load("gate_scenarios"), load("gate_rules").RULES
    for heading, situations in (
        ("False aborts", scenarios.HARMLESS),
        ("Time to promote", scenarios.HARMLESS),
        ("Regressions caught", scenarios.HARMFUL),
        ("Bad answers that users saw", scenarios.HARMFUL),
    ):
        table = rows(quick, heading)
        assert list(table) == [f"{one.per_minute}, {one.name}" for one in situations]
        assert all(len(cells) == len(rules) and all(cells) for cells in table.values())
    assert "--seed 7" in quick


def test_the_gates_keep_their_promise_and_the_rules_of_others_make_none(quick: str) -> None:
    false = rows(quick, "False aborts")
    for situation in ("60, nothing changed", "600, nothing changed", "600, errors at the tolerance, 0.85%"):
        assert share(false[situation][0]) <= 10, situation  # 5% of 40 rollouts, and chance
    assert share(false["600, errors at the tolerance, 0.85%"][1]) >= 15  # Argo: 41% of thousands
    assert share(false["60, nothing changed"][3]) >= 90  # Argo in the background


def test_a_clear_regression_is_caught_by_all_that_watch(quick: str) -> None:
    caught = rows(quick, "Regressions caught")["600, errors 0.5 -> 10%"]
    assert all(share(cell) == 100 for cell in caught)
    medians = [float(re.search(r": ([\d,]+)", cell)[1].replace(",", "")) for cell in caught]
    assert medians[0] == min(medians)


def test_the_same_seed_gives_the_same_report(load) -> None:
    gates, scenarios, rules = load("gates"), load("gate_scenarios"), load("gate_rules")
    one = scenarios.HARMFUL[0]
    first, again, other = (gates.compare(one, {"this": rules.engine}, seed, 20) for seed in (1, 1, 2))
    assert repr(first) == repr(again)
    assert repr(first) != repr(other)


def test_the_speed_is_that_of_the_engine_with_what_it_is_given(load) -> None:
    speed = load("gate_speed")
    assert 0 < speed.one_poll(polls=3) < 1000
    assert speed.rollouts(rows=20) > 0


def test_traffic_is_what_the_scenario_orders(load) -> None:
    traffic = load("gate_traffic")
    scenario = traffic.Scenario("", 600, harmful=True, errors=0.02, p50=1.2, p95=1.2, since=30)
    seen = traffic.simulate(scenario, 50, np.random.default_rng(1))
    own, other = seen.candidate, seen.stable
    assert own.requests.mean() == pytest.approx(600, rel=0.01)
    assert other.requests.mean() == pytest.approx(5400, rel=0.01)
    rate = own.bad.sum(axis=0) / own.requests.sum(axis=0)
    assert rate[:30].mean() == pytest.approx(0.005, rel=0.1)
    assert rate[30:].mean() == pytest.approx(0.02, rel=0.1)
    at = int(np.searchsorted(traffic.BOUNDS_MS, 400))
    above = own.above[..., at].sum(axis=0) / own.requests.sum(axis=0)
    assert above[:30].mean() == pytest.approx(0.05, abs=0.004)
    assert above[30:].mean() > 0.09


def test_clusters_come_as_large_as_ordered(load) -> None:
    traffic = load("gate_traffic")
    clustered = traffic.Scenario("", 600, harmful=False, cluster=5.0)
    bad = traffic.simulate(clustered, 200, np.random.default_rng(1)).stable.bad
    assert bad.mean() == pytest.approx(27, rel=0.05)
    # Geometric clusters of mean 5: variance over mean is 2 * 5 - 1.
    assert bad.var() / bad.mean() == pytest.approx(9, rel=0.1)


def test_pairs_are_the_requests_that_were_counted(load) -> None:
    traffic = load("gate_traffic")
    seen = traffic.simulate(load("gate_scenarios").MIRRORED[1], 20, np.random.default_rng(1))
    pairs = seen.pairs
    joined = pairs.both + pairs.only_candidate + pairs.only_stable + pairs.neither
    assert np.array_equal(joined, seen.candidate.requests)
    assert np.array_equal(pairs.both + pairs.only_candidate, seen.candidate.bad)


@pytest.mark.parametrize("place", range(4))
def test_the_engine_of_the_research_decides_as_the_production_fold(load, place: int) -> None:
    """Else its figures would be about something else."""
    traffic, rules, engine, rivals = load("gate_traffic"), load("gate_rules"), load("gate_engine"), load("rivals")
    scenario = (
        traffic.Scenario("", 60, harmful=True, errors=0.02),
        traffic.Scenario("", 600, harmful=True, errors=0.012, since=20),
        traffic.Scenario("", 600, harmful=True, p50=1.2, p95=1.2),
        traffic.Scenario("", 600, harmful=False, cluster=5.0),
    )[place]
    seen = traffic.simulate(scenario, ROLLOUTS, np.random.default_rng(place))
    fold, own = rules.engine(seen), engine.decide(seen, engine.PRODUCTION)
    failed = np.where(own.failed < traffic.POLLS, own.failed, rivals.NEVER)
    assert np.array_equal(failed, fold.failed)
    passed = np.where((own.passed < traffic.POLLS) & (failed == rivals.NEVER), own.passed, rivals.NEVER)
    assert np.array_equal(passed, fold.passed)


def test_the_engine_keeps_its_level_at_the_edge(load) -> None:
    """False aborts of a candidate exactly at a tolerance, looked at every minute, at most alpha."""
    traffic, engine = load("gate_traffic"), load("gate_engine")
    edge = traffic.Scenario("", 600, harmful=False, errors=0.0085)
    gates = (engine.Tolerance("error_rate", 1.5, max_increase=0.001),)
    seen = traffic.simulate(edge, 600, np.random.default_rng(11))
    failed = engine.decide(seen, engine.PRODUCTION, gates).failed < traffic.POLLS
    assert failed.mean() <= 0.05


def test_no_spread_of_the_stake_expects_to_win_at_the_edge(load) -> None:
    """E <= 1 by enumeration of every count of one poll, over a grid of null parameters; so a mixture's, too."""
    engine = load("gate_engine")
    n_c, n_s, ratio, slack = 12, 30, 1.5, 0.01
    k_c, k_s = np.meshgrid(np.arange(n_c + 1), np.arange(n_s + 1), indexing="ij")

    def binomial(n: int, k: np.ndarray, p: float) -> np.ndarray:
        ways = np.array([1.0, *np.cumprod((n - np.arange(n)) / (1 + np.arange(n)))])
        return ways[k] * p**k * (1 - p) ** (n - k)

    counts = (k_c.ravel()[:, np.newaxis], k_s.ravel()[:, np.newaxis], n_c, n_s)
    won = engine.kernels.ratio_increments(*counts, ratio, slack, "fail", engine.FAIL_GRID)
    unknown = engine._Spread(np.ones((won.shape[0], 1)), np.zeros((won.shape[0], 1), dtype=bool))
    wealth = np.exp(engine._run(won, "fail", engine.PRODUCTION, unknown)[:, 0]).reshape(k_c.shape)
    for p_s in np.linspace(0, 0.6, 25):
        for share_of_edge in (0.3, 0.8, 1.0):
            p_c = share_of_edge * (ratio * p_s + slack)
            expected = np.sum(wealth * binomial(n_c, k_c, p_c) * binomial(n_s, k_s, p_s))
            assert expected <= 1 + 1e-12, (p_s, p_c)
