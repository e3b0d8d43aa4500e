"""Figures and tolerances as a person reads them: what every face of the product shows of a gate.

A latency is the bound of a bucket, and is shown with the <= that it deserves.
"""

from orchestrator.gates.spec import Gate, Metric, TermName
from orchestrator.gates.split import Split
from providers.measurement import Source


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


def count(number: float) -> str:
    """1840.0 -> "1,840", 12.5 -> "12.5"."""
    return f"{number:,.0f}" if float(number).is_integer() else f"{number:,.1f}"


def counted(gate: Gate, number: float) -> str:
    """What a gate counts: "1,840 requests", "1 pair"."""
    one, many = ("pair", "pairs") if gate.metric in ("slowdown", "prediction") else ("request", "requests")
    if gate.metric == "missing_pairs":
        one, many = "mirrored request", "mirrored requests"
    if gate.valued:
        one, many = "point in time", "points in time"
    return f"{count(number)} {one if number == 1 else many}"


def judged(gate: Gate, source: Source) -> str:
    """What a gate waits for, as in "no mirror requests since the step began"."""
    if gate.metric in ("slowdown", "prediction"):
        return "joined pairs"
    if gate.metric == "external":
        return "figures"
    return "live requests" if gate.guards_stable else f"{source} requests"


def bad_ones(metric: Metric) -> str:
    """What a gate calls the ones that it counts against the candidate, as in "share of errors"."""
    names: dict[Metric, str] = {
        "error_rate": "errors",
        "latency": "slow",
        "slowdown": "slower ones",
        "missing_pairs": "missing ones",
        "prediction": "other answers",
        "external": "bad ones",
    }
    return names[metric]


def value(gate: Gate, rate: float, quantile_us: int | None) -> str:
    """What a gate looks at, of one leg: a rate of bad ones, or a quantile as a bucket's bound."""
    if gate.metric != "latency":
        return percent(rate)
    return "without an answer" if quantile_us is None else f"<= {duration(quantile_us)}"


def headline(
    gate: Gate,
    candidate: tuple[str, str],
    stable: tuple[str, str] | None,
    requests: float,
    joined: int | None = None,
) -> str:
    """ "green 2.1% errors against blue 0.4% over 1,840 requests (1,835 pairs)".

    Args:
        gate: whose.
        candidate, stable: (name, value) of both sides.
        requests: that were judged.
        joined: mirrored ones whose live twins are known; None where none are looked for.
    """
    own, figure = candidate
    against = f" against {stable[0]} {stable[1]}" if stable else ""
    pairs = f" ({joined:,} {'pair' if joined == 1 else 'pairs'})" if joined is not None else ""
    over = counted(gate, requests) + pairs
    match gate.metric:
        case "error_rate":
            return f"{own} {figure} errors{against} over {over}"
        case "latency":
            return f"{own} {quantile(gate.quantile)} {figure}{against} over {over}"
        case "slowdown":
            return f"{own} took more than {gate.ratio:.4g}x as long as its twin in {figure} of {over}"
        case "missing_pairs":
            return f"{figure} of {over} to {own} could not be compared with their twins"
        case "prediction":
            return f"{own} answered otherwise in {figure} of {over}"
    if gate.valued:
        return f"{own} beyond its limit at {figure} of {over}"
    return f"{own} {figure} bad{against} over {over}"


def tolerance(gate: Gate, term: TermName) -> str:
    """ "bound of 5%", "tolerance of 1.5x + 0.5%"."""
    if gate.metric == "slowdown":
        return f"half of them that may take more than {gate.ratio:.4g}x as long"
    if term == "bound":
        assert gate.max is not None
        return f"bound of {_limit(gate, gate.max)}"
    increase = f" + {_increase(gate)}" if gate.max_increase is not None else ""
    return f"tolerance of {gate.ratio:.4g}x{increase}"


def misdirected(split: Split) -> str:
    """Why a split is not the one that was asked for."""
    share = percent(split.candidate / split.total) if split.total else "none"
    return (
        f"the candidate got {share} of {split.total:,} requests where {percent(split.asked or 0)} were asked for, "
        "which is not chance: something filters them or keeps them, so no comparison can be trusted"
    )


def _limit(gate: Gate, limit: float) -> str:
    if gate.metric == "latency":
        return duration(limit)
    return f"{limit:.6g}" if gate.valued else percent(limit)


def _increase(gate: Gate) -> str:
    return f"{gate.increase:.6g}" if gate.valued else percent(gate.increase)
