"""What may be wrong with a candidate: one row of the table that `rollout simulate` fills."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from orchestrator.gates import wording
from orchestrator.gates.spec import Gate
from orchestrator.simulate.latency import Latencies
from plans.units import parse_rate

Begins = Literal["start", "middle"]


@dataclass(frozen=True, slots=True)
class Change:
    """How the candidate differs from stable.

    Attributes:
        name: of the row.
        errors: the candidate's rate of errors, 0..1; None for stable's.
        latency: how many times as long its answers take, above 0.
        answers: share of its answers that differ from stable's to the same request, 0..1.
        missing: share of its mirrored requests that are never seen again, 0..1.
        begins: with its first request, or in the middle of the plan's gated stages.
        incident: errors that both sides have for a while in each stage, 0..1.
        harmless: within every tolerance, so that an abort of it is false.
    """

    name: str
    errors: float | None = None
    latency: float = 1.0
    answers: float = 0.0
    missing: float = 0.0
    begins: Begins = "start"
    incident: float = 0.0
    harmless: bool = False

    @property
    def none(self) -> bool:
        """Whether it is no change at all."""
        return self.errors is None and self.latency == 1.0 and not self.answers and not self.missing


def parse(text: str, errors: float) -> Change:
    """`NAME=errors+1%,latency x1.2` -> a row. `errors`: stable's rate.

    Raises:
        ValueError: with what is allowed.
    """
    name, equals, what = text.partition("=")
    if not equals or not name.strip() or not what.strip():
        raise ValueError(f"{text!r} is not NAME=CHANGE: {_ALLOWED}")
    change = Change(name.strip()[:60])
    for part in what.split(","):
        change = _with(change, part.strip(), errors)
    return change


_ALLOWED = (
    "write for example `worse=errors+1%`, `errors x2`, `errors 3%`, `latency x1.2`, `answers 1%` or `missing 2%`, "
    "several with a comma between them, and `from middle` for one that begins in mid-rollout"
)


def _with(change: Change, part: str, errors: float) -> Change:
    if re.fullmatch(r"from\s+(the\s+)?middle", part):
        return replace(change, begins="middle")
    found = re.fullmatch(r"(?:(errors)\s*[+]?|(?:answers|missing))\s*([0-9.]+%)", part)
    times = re.fullmatch(r"(errors|latency)\s*x\s*([0-9.]+)", part)
    what = re.split(r"[^a-z]", part)[0]
    try:
        number = float(parse_rate(found[2])) if found else float(times[2]) if times else None  # type: ignore[arg-type]
    except ValueError:
        number = None
    if number is None:
        raise ValueError(f"{part!r} is no change: {_ALLOWED}")
    if what == "latency":
        if not 0.01 <= number <= 1000:
            raise ValueError(f"{part!r}: a latency factor lies between 0.01 and 1000")
        return replace(change, latency=number)
    if times:
        number = errors * number
    elif "+" in part:
        number = errors + number
    if number > 1:
        raise ValueError(f"{part!r} makes a share of {100 * number:g}%: it must lie between 0% and 100%")
    return replace(change, **{what: number})  # type: ignore[arg-type]


def table(gates: Sequence[Gate], errors: float, latencies: Latencies) -> tuple[Change, ...]:
    """The rows that a plan's own gates suggest, the harmless ones first.

    Args:
        gates: of the whole plan.
        errors: stable's rate. latencies: stable's.
    """
    judged = {gate.metric for gate in gates}
    counts, timed = "error_rate" in judged, bool(judged & {"latency", "slowdown"})
    edge, slower = edges(gates, errors, latencies)
    rows = [Change("no change")]
    slightly = Change("a little worse")
    if counts and edge is not None:
        slightly = replace(slightly, errors=errors + (edge - errors) / 4)
    if timed and slower is not None:
        slightly = replace(slightly, latency=1 + (slower - 1) / 4)
    if not slightly.none:
        rows.append(slightly)
    if counts:
        rows.append(Change(f"incident of both: {wording.percent(0.05)} errors", incident=0.05))
        if edge is not None:
            rows.append(Change(f"errors {wording.percent(edge)}, the edge", errors=edge))
        worse = {
            **({f"errors x2: {wording.percent(2 * errors)}": 2 * errors} if errors else {}),
            **{f"errors +{wording.percent(more)}": errors + more for more in (0.01, 0.05)},
            f"errors {wording.percent(0.1)}": 0.1,
        }
        rows += [Change(name, errors=rate) for name, rate in worse.items() if rate <= 1]
        rows.append(Change("errors +5% from the middle on", errors=min(1.0, errors + 0.05), begins="middle"))
    if timed:
        factors = (1.1, 1.2, 1.5, 2.0)
        rows += [Change(f"latency x{each:g}", latency=each) for each in factors]
    if "prediction" in judged:
        rows += [Change(f"{wording.percent(each)} other answers", answers=each) for each in (0.01, 0.05, 0.2)]
    if "missing_pairs" in judged:
        rows += [Change(f"{wording.percent(each)} of copies lost", missing=each) for each in (0.01, 0.05, 0.2)]
    rows.append(Change("crash: every answer an error", errors=1.0))
    return tuple(tolerated(row, gates, errors, latencies) for row in rows)


def tolerated(change: Change, gates: Sequence[Gate], errors: float, latencies: Latencies) -> Change:
    """The change, marked as harmless where no gate of the plan forbids it. Args as of `table`."""
    edge, slower = edges(gates, errors, latencies)
    fine = edge is None or (change.errors if change.errors is not None else errors) <= edge
    fine &= slower is None or change.latency <= slower
    fine &= change.answers <= _most(gates, "prediction") and change.missing <= _most(gates, "missing_pairs")
    return replace(change, harmless=fine)


def _most(gates: Sequence[Gate], metric: str) -> float:
    """What a plan tolerates of pairs that are bad so; nothing where no gate looks, because that is no tolerance."""
    return min((gate.max for gate in gates if gate.metric == metric and gate.max is not None), default=0.0)


def edges(gates: Sequence[Gate], errors: float, latencies: Latencies) -> tuple[float | None, float | None]:
    """The largest error rate, and the largest latency factor, that no gate of the plan forbids; None without a limit.

    Args as of `table`. Where blame excuses a bound, nothing up to stable's own rate is forbidden.
    """
    rates, factors = [], []
    for gate in gates:
        if gate.guards_stable:
            continue
        if gate.metric == "error_rate":
            if gate.max is not None:
                rates.append(max(gate.max, errors) if gate.blame else gate.max)
            if gate.relative:
                rates.append(gate.ratio * errors + gate.increase)
        elif gate.metric == "latency":
            if gate.max is not None:
                bound = gate.max / latencies.quantile(gate.quantile)
                factors.append(max(bound, 1.0) if gate.blame else bound)
            if gate.relative:
                factors.append(gate.ratio)
        elif gate.metric == "slowdown":
            factors.append(gate.ratio)
    return (min([1.0, *rates]) if rates else None), (min(factors) if factors else None)
