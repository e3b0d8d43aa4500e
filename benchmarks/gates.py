"""The gates of this project against how others decide, on the same simulated traffic.

    .venv/bin/python benchmarks/gates.py --seed 4 --write      # the report, docs/benchmarks/gates.md
    .venv/bin/python benchmarks/gates.py --quick               # seconds, to the terminal
    .venv/bin/python benchmarks/gates.py --speed               # how fast the engine itself is

Everything is drawn from the seed: the same command gives the same tables. Figures of speed are of the machine, which is
why they are told as shares of a limit and are no part of the report.
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import gate_report
import numpy as np
from gate_research import TRIALS, Trial, proofs, trials
from gate_rules import ON_TWINS, RULES
from gate_scenarios import HARMFUL, HARMLESS, MIRRORED, Outcome, blocks, outcome, wrong
from gate_traffic import Scenario, Traffic
from rivals import Stops

REPORT = Path(__file__).parents[1] / "docs" / "benchmarks" / "gates.md"
ROLLOUTS, QUICK = 1000, 40


def main() -> None:
    """Compare, and tell."""
    parser = argparse.ArgumentParser(description="The gates of this project against how others decide.")
    parser.add_argument("--seed", type=int, default=4, help="of all random numbers (4)")
    parser.add_argument("--rollouts", type=int, default=ROLLOUTS, help=f"of each scenario ({ROLLOUTS})")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} rollouts of each scenario, no research")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks/gates.md instead of printing it")
    parser.add_argument("--speed", action="store_true", help="only how fast the engine is")
    asked = parser.parse_args()
    if asked.speed:
        from gate_speed import speed

        speed()
        return
    rollouts = QUICK if asked.quick else asked.rollouts
    text = report(asked.seed, rollouts, research=not asked.quick)
    if asked.write:
        REPORT.parent.mkdir(parents=True, exist_ok=True)
        REPORT.write_text(text, encoding="utf-8")
        print(f"{REPORT.relative_to(Path.cwd()) if REPORT.is_relative_to(Path.cwd()) else REPORT} is written")
    else:
        print(text)


def report(seed: int, rollouts: int, *, research: bool) -> str:
    """The whole report as markdown."""
    compared = {scenario: compare(scenario, RULES, seed, rollouts) for scenario in (*HARMLESS, *HARMFUL)}
    twins = {scenario: compare(scenario, ON_TWINS, seed, rollouts) for scenario in MIRRORED}
    tried: Mapping[str, Mapping[str, Trial]] = {}
    proven: Mapping[str, Mapping[str, Trial]] = {}
    if research:
        half = max(rollouts // 2, 1)
        tried, proven = trials(TRIALS, seed, half), proofs(seed, half)
    return gate_report.markdown(seed, rollouts, compared, twins, tried, proven)


def compare(
    scenario: Scenario, rules: Mapping[str, Callable[[Traffic], Stops]], seed: int, rollouts: int
) -> Mapping[str, Outcome]:
    """What each rule does in a scenario: all of them see the same requests."""
    done: dict[str, list[Stops]] = {name: [] for name in rules}
    requests, bad = [], []
    print(f"{scenario.per_minute} a minute: {scenario.name}", file=sys.stderr)
    for traffic in blocks(scenario, seed, rollouts):
        requests.append(traffic.candidate.requests)
        bad.append(wrong(scenario, traffic))
        for name, rule in rules.items():
            done[name].append(rule(traffic))
    counts = np.concatenate(requests), np.concatenate(bad)
    return {name: outcome(scenario, *counts, _together(stops)) for name, stops in done.items()}


def _together(stops: Sequence[Stops]) -> Stops:
    return Stops(np.concatenate([s.failed for s in stops]), np.concatenate([s.passed for s in stops]))


if __name__ == "__main__":
    main()
