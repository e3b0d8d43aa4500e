"""How fast the engine is: one poll of 20 gates, and simulated rollouts, each against what was promised of it."""

import statistics
import time
from datetime import UTC, datetime, timedelta

import numpy as np
from gate_rules import engine
from gate_traffic import POLLS, Scenario, simulate

from orchestrator.gates.judge import judge
from orchestrator.gates.spec import Gate
from orchestrator.gates.state import GateState
from providers.measurement import Cursor, Histogram, Leg, Measurement

POLL_MS, ROLLOUTS_A_SECOND = 1.0, 2000.0
_BOUNDS = [(10_000 * n, 10_000 * (n + 1)) for n in range(10, 100)]


def speed() -> None:
    """Print both."""
    took = one_poll()
    print(f"one poll of 20 gates     {took:6.2f} ms         {took / POLL_MS:.2f} of the limit ({POLL_MS:g} ms)")
    rate = rollouts()
    text = f"simulated rollouts       {rate:6,.0f} a second   {ROLLOUTS_A_SECOND / rate:.2f} of the limit"
    print(f"{text} ({ROLLOUTS_A_SECOND:,.0f} a second, {POLLS} polls, 3 gates, both sides)")


def one_poll(polls: int = 60) -> float:
    """Median milliseconds of a fold and a judgement."""
    gates = tuple(_gate(number) for number in range(20))
    state = GateState.begin(gates, 4).enter(0, gates, "green", "blue", "live")
    rng = np.random.default_rng(1)
    at, times = datetime(2026, 1, 1, tzinfo=UTC), []
    for _ in range(polls):
        begin, at = at, at + timedelta(minutes=1)
        legs = _leg("green", 600, rng), _leg("blue", 5400, rng)
        measurement = Measurement(begin, at, legs, Cursor("1", at))
        began = time.perf_counter()
        state = state.fold(measurement)
        judge(state)
        times.append(time.perf_counter() - began)
    return 1e3 * statistics.median(times)


def rollouts(rows: int = 500) -> float:
    """Rollouts a second through the production fold; making the traffic is not counted."""
    traffic = simulate(Scenario("nothing changed", 600, harmful=False), rows, np.random.default_rng(1))
    began = time.perf_counter()
    engine(traffic)
    return rows / (time.perf_counter() - began)


def _gate(number: int) -> Gate:
    if number % 2:
        return Gate(
            f"errors {number}", "error_rate", max=0.01, max_ratio=1.5, max_increase=0.001, blame=True, warm_up=0
        )
    return Gate(
        f"p{50 + number}", "latency", quantile=0.5 + number / 100, max=900_000, max_ratio=1.1, blame=True, warm_up=0
    )


def _leg(name: str, requests: int, rng: np.random.Generator) -> Leg:
    counts = rng.multinomial(requests, np.full(len(_BOUNDS), 1 / len(_BOUNDS)))
    buckets = tuple((lower, upper, int(n)) for (lower, upper), n in zip(_BOUNDS, counts, strict=True))
    bad = int(rng.binomial(requests, 0.005))
    return Leg(name, "live", requests, {"200": requests - bad, "500": bad}, Histogram(buckets, 0))
