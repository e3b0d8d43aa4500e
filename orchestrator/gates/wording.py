"""Figures and tolerances as a person reads them: what every face of the product shows of a gate.

A latency is the bound of a bucket, and is shown with the <= that it deserves.
"""

from orchestrator.gates.spec import Gate, TermName


def percent(rate: float) -> str:
    """0.021 -> "2.1%"."""
    if 0 < rate < 0.00001:
        return "<0.001%"
    return f"{100 * rate:.3g}%"


def duration(microseconds: float) -> str:
    """41200 -> "41 ms"."""
    if microseconds < 1000:
        return f"{microseconds:.0f} us"
    for unit, size in (("ms", 1e3), ("s", 1e6)):
        value = microseconds / size
        # What rounds to 1000 ms is a second.
        if unit == "s" or value < 999.5:
            return f"{value:.3g} {unit}"
    raise AssertionError


def seconds(value: float) -> str:
    """7.0 -> "7 s", 90 -> "90 s"."""
    return f"{value:.3g} s"


def quantile(level: float) -> str:
    """0.95 -> "p95", 0.999 -> "p99.9"."""
    return f"p{100 * level:.6g}"


def value(gate: Gate, rate: float, quantile_us: int | None) -> str:
    """What a gate looks at, of one leg: an error rate, or a quantile as a bucket's bound."""
    if gate.metric == "error_rate":
        return percent(rate)
    return "without an answer" if quantile_us is None else f"<= {duration(quantile_us)}"


def headline(gate: Gate, candidate: tuple[str, str], stable: tuple[str, str] | None, requests: int) -> str:
    """ "green 2.1% errors against blue 0.4% over 1,840 requests"; both sides as (name, value)."""
    own, figure = candidate
    what = f"{figure} errors" if gate.metric == "error_rate" else f"{quantile(gate.quantile)} {figure}"
    against = f" against {stable[0]} {stable[1]}" if stable else ""
    return f"{own} {what}{against} over {requests:,} {'request' if requests == 1 else 'requests'}"


def tolerance(gate: Gate, term: TermName) -> str:
    """ "bound of 5%", "tolerance of 1.5x + 0.5%"."""
    if term == "bound":
        assert gate.max is not None
        return f"bound of {percent(gate.max) if gate.metric == 'error_rate' else duration(gate.max)}"
    increase = f" + {percent(gate.increase)}" if gate.max_increase is not None else ""
    return f"tolerance of {gate.ratio:.4g}x{increase}"
