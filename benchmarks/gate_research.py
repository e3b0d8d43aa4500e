"""What was tried to close the two weak spots, each on the same traffic as what it is compared with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from gate_engine import GATES, PLAIN, PRODUCTION, Policy, decide
from gate_scenarios import blocks
from gate_traffic import POLLS, Scenario, Traffic

FINER = tuple(np.geomspace(1.05, 40, 28).tolist())
COARSER = tuple(np.geomspace(1.25, 16, 6).tolist())

TRIALS: Mapping[str, Policy] = {
    "all alternatives alike (as it was)": PLAIN,
    "weights 1/m": Policy(tilt=1),
    "weights 1/m^2": Policy(tilt=2),
    "twice as many alternatives, from 1.05": Policy(fail_grid=FINER),
    "six alternatives, 1.25 to 16": Policy(fail_grid=COARSER),
    "one alternative, learnt from the past (plug-in)": Policy(plug_in=True),
    "errors weigh twice in their group": Policy(error_weight=2),
    "never divided by the dispersion": Policy(minutes=POLLS),
    "dispersion known after 3 minutes": Policy(minutes=3),
    "the same, only beyond chance": Policy(minutes=3, beyond_chance=True),
    "a fifth of the stake in reserve": Policy(minutes=3, beyond_chance=True, reserve=0.2),
    "half of the stake in reserve": Policy(minutes=3, beyond_chance=True, reserve=0.5),
    "reserve that does not wait for the dispersion": Policy(reserve=0.2, eager=True),
    "weights 1/m, 3 minutes beyond chance, a fifth in reserve": replace(PRODUCTION, corrected=False, excuses=False),
    "these, and what was won before is divided (as it is)": PRODUCTION,
    "these, errors weigh twice in their group": replace(PRODUCTION, error_weight=2),
    "these, counts halved until the dispersion is known": replace(PRODUCTION, before=2.0),
    "these, the dispersion known from an hour before": replace(PRODUCTION, foreknown=True),
}

LOOKED_AT: Mapping[str, Scenario] = {
    "0.5 -> 1.2%, 600": Scenario("errors 0.5 -> 1.2%", 600, harmful=True, errors=0.012),
    "0.5 -> 2%, 60": Scenario("errors 0.5 -> 2%", 60, harmful=True, errors=0.02),
    "0.5 -> 10%, 60": Scenario("errors 0.5 -> 10%", 60, harmful=True, errors=0.1),
    "0.5 -> 30%, 6": Scenario("errors 0.5 -> 30%", 6, harmful=True, errors=0.3),
    "0.5 -> 10%, 6": Scenario("errors 0.5 -> 10%", 6, harmful=True, errors=0.1),
    "20% slower, 600": Scenario("20% slower", 600, harmful=True, p50=1.2, p95=1.2),
    "0.5 -> 2% later, 600": Scenario("errors 0.5 -> 2% from minute 20 on", 600, harmful=True, errors=0.02, since=20),
    "20% slower later, 600": Scenario("20% slower from minute 20 on", 600, harmful=True, p50=1.2, p95=1.2, since=20),
    "at the tolerance, 600": Scenario("errors at the tolerance, 0.85%", 600, harmful=False, errors=0.0085),
    "clusters of 5, 600": Scenario("errors in clusters of 5", 600, harmful=False, cluster=5.0),
    "clusters of 5, 60": Scenario("errors in clusters of 5", 60, harmful=False, cluster=5.0),
}

ON_PASS: Mapping[str, Policy] = {
    "all alternatives alike (as it is)": PRODUCTION,
    "weights (m + 0.05)^0.5": replace(PRODUCTION, pass_tilt=0.5),
    "weights m + 0.05": replace(PRODUCTION, pass_tilt=1),
}
PROVEN: Mapping[str, Scenario] = {
    "nothing changed, 600": Scenario("nothing changed", 600, harmful=False),
    "errors 0.5 -> 0.6%, 600": Scenario("errors 0.5 -> 0.6%", 600, harmful=False, errors=0.006),
    "no errors on either side, 600": Scenario("no errors", 600, harmful=False, errors=0.0, stable_errors=0.0),
    "at the tolerance, 600": Scenario("errors at the tolerance, 0.85%", 600, harmful=False, errors=0.0085),
}


@dataclass(frozen=True, slots=True)
class Trial:
    """Of one scenario: the share stopped, and the median requests to the candidate before that over all rollouts.

    A rollout that is not stopped counts as more than any other; where that is the median it is infinite.
    """

    stopped: float
    requests: float


def trials(policies: Mapping[str, Policy], seed: int, rollouts: int) -> Mapping[str, Mapping[str, Trial]]:
    """Each policy in each scenario."""
    found: dict[str, dict[str, Trial]] = {name: {} for name in policies}
    for title, scenario in LOOKED_AT.items():
        seen = list(blocks(scenario, seed, rollouts))
        for name, policy in policies.items():
            found[name][title] = _trial(scenario, seen, policy)
    return found


def proofs(seed: int, rollouts: int) -> Mapping[str, Mapping[str, Trial]]:
    """What weights on the side of PASS gain for the gate of errors alone: the share that has passed, and the median
    minutes until then, of all.
    """
    found: dict[str, dict[str, Trial]] = {name: {} for name in ON_PASS}
    for title, scenario in PROVEN.items():
        seen = list(blocks(scenario, seed, rollouts))
        for name, policy in ON_PASS.items():
            passed = np.concatenate([decide(traffic, policy, GATES[:1]).passed for traffic in seen])
            done = passed < POLLS
            minutes = np.median(np.where(done, passed + 1.0, np.inf))
            found[name][title] = Trial(float(done.mean()), float(minutes))
    return found


def _trial(scenario: Scenario, seen: Sequence[Traffic], policy: Policy) -> Trial:
    failed = np.concatenate([decide(traffic, policy).failed for traffic in seen])
    requests = np.concatenate([traffic.candidate.requests for traffic in seen])
    late = np.arange(POLLS) >= scenario.since
    caught = (failed < POLLS) & (failed >= scenario.since)
    until = np.cumsum(requests * late, axis=1)[np.arange(len(failed)), np.minimum(failed, POLLS - 1)]
    return Trial(float(caught.mean()), float(np.median(np.where(caught, until, np.inf))))
