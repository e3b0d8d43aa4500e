"""How single bets become the evidence of a gate, and gates become a decision: the few rules, each once.

All are means or minima of e-values, which is what keeps them valid at any stopping time, whatever the parts have in
common (Vovk, Wang, "E-values: calibration, combination and applications", 2021). They take logarithms, as floats for
one rollout or as arrays of one shape for thousands that are simulated together.
"""

import math
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

from orchestrator.gates.kernels import Floats, log_mean_exp

Logs = TypeVar("Logs", float, Floats)


def mixed(parts: Sequence[Logs]) -> Logs:
    """log of the mean of several e-values of one hypothesis: as good as the best of them, but for its share."""
    mean: Logs = _mean(parts)
    return mean


def excused(own: Logs, worse: Logs) -> Logs:
    """FAIL of a blamed bound: against *within the bound, or no worse than stable*; both parts must be refuted.

    Of all polls together, and of each poll that is an incident of both sides (`shared`). Without the second, a
    candidate that is worse than stable, though within its bound, would be failed by the first incident that hits both:
    one part refuted by the good hours, the other by the bad minutes. The smaller of two increments is never more than
    either, so that both parts remain what they were: e-values, each of its own hypothesis.
    """
    lesser: Logs = _lesser(own, worse)
    return lesser


def shared(bound_rate: float, bad_stable: Any, total_stable: Any) -> Any:
    """Whether stable is beyond a bound in a poll, too; of numbers or arrays."""
    return bad_stable > bound_rate * total_stable


def over_starts(begun: Sequence[Logs], stages: int) -> Logs:
    """FAIL over the whole rollout: the mean over the plan's gated stages, those to come counted as 1."""
    mean: Logs = _mean([*begun, *[0.0] * (stages - len(begun))])
    return mean


def accused(charges: Sequence[Logs], alphas: Sequence[float]) -> Logs:
    """log of mean(alpha * E_fail) over the terms of a group: it fails at 0 or more."""
    mean: Logs = _mean([charge + math.log(alpha) for charge, alpha in zip(charges, alphas, strict=True)])
    return mean


def _mean(parts: Sequence[Any]) -> Any:
    if len(parts) == 1:
        return parts[0]
    if np.ndarray in map(type, parts):
        return log_mean_exp(np.stack(np.broadcast_arrays(*parts)), axis=0)
    # One rollout: a hundred of these are asked for in each poll, and an array would cost ten times as much.
    top = max(parts)
    return top + math.log(math.fsum([math.exp(part - top) for part in parts]) / len(parts))


def _lesser(one: Any, other: Any) -> Any:
    return np.minimum(one, other) if isinstance(one, np.ndarray) else min(one, other)
