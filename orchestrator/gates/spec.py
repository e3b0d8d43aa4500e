"""A gate as the engine runs it: every default filled in, every name resolved, nothing left to look up.

The plan's gate is what a person wrote; this one is what decides. It is stored with the evidence, so that a resumed
rollout cannot be judged by another tolerance than the one its evidence was gathered for.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

from providers.measurement import Comparison

Metric = Literal["error_rate", "latency", "slowdown", "missing_pairs", "prediction", "external"]
Form = Literal["counts", "values"]
GateSource = Literal["mirror", "live", "direct", "auto"]
Reaction = Literal["rollback", "pause"]
TermName = Literal["bound", "relative"]

DEFAULT_CODES: tuple[str, ...] = ("5xx", "424", "429", "timeout", "reset")
"""What counts as an error unless a gate says otherwise."""


@dataclass(frozen=True, slots=True)
class External:
    """Where the figures of an external gate come from.

    Attributes:
        name: of the metric, as installed distributions offer it (`rollout.metrics`).
        options: what the plan says inside `metric: {name: {...}}`; secrets as references.
        form: whether it answers with counts or with values.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    form: Form = "counts"


@dataclass(frozen=True, slots=True)
class Gate:
    """One tolerance and how sure one wants to be of it.

    Attributes:
        name: of the gate in its plan.
        metric: what makes an answer bad. error_rate: a class in `codes`. latency: slower than the bound; every status
            counts. slowdown: a mirrored request took more than `max_ratio` times as long as its live twin.
            missing_pairs: a mirrored request that could not be compared with its twin. prediction: another answer than
            the twin's. external: what `external` says.
        quantile: of a latency gate, 0..1.
        max: absolute bound: a rate, microseconds for latency, a value for an external metric of values; None for a
            relative gate.
        max_ratio, max_increase: candidate <= ratio * stable + increase (a rate or a value); None where not asked.
        blame: the absolute bound counts against the candidate only when it is also worse than stable.
        source: which of the candidate's legs is judged; auto is mirror on a shadow step and live elsewhere.
        min_requests: candidate requests in the stage before PASS; points in time for values.
        warm_up: seconds of candidate traffic that are discarded at its birth.
        settle: seconds by which the source's figures are late; whoever measures waits that long, `fold` does not use
            it.
        codes: patterns of status classes, such as "5xx", "424", "timeout", "reset".
        alpha, beta: tolerated probabilities of a false FAIL and of a false PASS.
        on_fail, on_no_data, on_undecided, on_error: what the engine does then.
        dispersion: correct for errors that come in clusters.
        comparison: of a prediction gate.
        external: of an external gate.
        guards_stable: stable is compared with itself as it was before the stage, and the candidate is not looked at.

    Raises:
        ValueError: the fields contradict each other.
    """

    name: str
    metric: Metric
    quantile: float = 0.95
    max: float | None = None
    max_ratio: float | None = None
    max_increase: float | None = None
    blame: bool = False
    source: GateSource = "auto"
    min_requests: int = 100
    warm_up: float = 10.0
    settle: float = 0.0
    codes: tuple[str, ...] = DEFAULT_CODES
    alpha: float = 0.01
    beta: float = 0.05
    on_fail: Reaction = "rollback"
    on_no_data: Reaction = "pause"
    on_undecided: Reaction = "pause"
    on_error: Reaction = "pause"
    dispersion: bool = True
    comparison: Comparison | None = None
    external: External | None = None
    guards_stable: bool = False

    def __post_init__(self) -> None:
        problem = self._problem()
        if problem:
            raise ValueError(f"gate {self.name}: {problem}")

    def _problem(self) -> str | None:
        if self.max is None and not self.relative and self.metric != "slowdown":
            return "has no tolerance; give it max, max_ratio or max_increase"
        if self.metric == "latency":
            if self.max_increase is not None:
                return "max_increase is for rates; a latency is compared by max_ratio"
            if self.max is not None and not self.max > 0:
                return "max must be a latency above 0"
            if not 0 < self.quantile < 1:
                return f"the quantile is {self.quantile}; it must lie between 0 and 1"
        elif self.metric == "slowdown":
            if self.max_ratio is None or self.max is not None or self.max_increase is not None:
                return "compares each mirrored request with its twin: give it max_ratio, and nothing else"
        elif not self.valued and self.max is not None and not 0 <= self.max < 1:
            return f"max is {self.max}; it must be a rate from 0% to less than 100%"
        if (self.metric == "prediction") != (self.comparison is not None):
            return "a comparison belongs to a prediction gate, and to no other"
        if (self.metric == "external") != (self.external is not None):
            return "a source of its own belongs to an external gate, and to no other"
        if self.metric in ("missing_pairs", "prediction") and self.relative:
            return "there is nothing to compare it with; give it max only"
        if not (self.ratio > 0 and (self.valued or 0 <= self.increase < 1)):
            return "max_ratio must be above 0 and max_increase from 0% to less than 100%"
        if not (0 < self.alpha < 1 and 0 < self.beta < 1):
            return "alpha and beta must lie between 0% and 100%"
        if self.min_requests < 0 or self.warm_up < 0 or self.settle < 0:
            return "min_requests, warm_up and settle must not be negative"
        return None

    @property
    def valued(self) -> bool:
        """Whether it judges values at points in time, not requests."""
        return self.external is not None and self.external.form == "values"

    @property
    def mirrors(self) -> bool:
        """Whether it needs mirrored requests joined with their live twins, and is silent without them."""
        return self.metric in ("slowdown", "missing_pairs", "prediction")

    @property
    def relative(self) -> bool:
        """Whether the candidate's rate is compared with stable's."""
        return self.metric != "slowdown" and (self.max_ratio is not None or self.max_increase is not None)

    @property
    def terms(self) -> tuple[TermName, ...]:
        """The parts that each have to pass: the absolute bound, the comparison."""
        bound: tuple[TermName, ...] = ("bound",) if self.max is not None or self.metric == "slowdown" else ()
        return (*bound, "relative") if self.relative else bound

    @property
    def bound_rate(self) -> float:
        """The rate of bad ones that the absolute bound tolerates, 0..1.

        Half of the pairs may be slower, and half of the points in time may lie beyond a value's limit: a median.
        """
        if self.metric == "latency":
            return 1 - self.quantile
        if self.metric == "slowdown" or self.valued:
            return 0.5
        return 0.0 if self.max is None else self.max

    @property
    def ratio(self) -> float:
        """Of the relative term; 1 where only an increase is asked."""
        return 1.0 if self.max_ratio is None else self.max_ratio

    @property
    def increase(self) -> float:
        """Of the relative term, as a rate; 0 where only a ratio is asked."""
        return 0.0 if self.max_increase is None else self.max_increase

    @property
    def hypothesis(self) -> tuple[object, ...]:
        """What the evidence is about; evidence for another hypothesis cannot be continued."""
        tolerance = (self.quantile, self.max, self.max_ratio, self.max_increase, self.source, self.codes)
        return (self.metric, *tolerance, self.comparison, self.external, self.guards_stable)

    def is_error(self, status_class: str) -> bool:
        """Whether a request of this class ("200", "503", "timeout", "reset") counts as an error."""
        return is_error(status_class, self.codes)


@lru_cache(maxsize=4096)
def is_error(status_class: str, codes: tuple[str, ...] = DEFAULT_CODES) -> bool:
    """Whether a request of this class ("200", "503", "timeout", "reset") is among the classes of errors."""
    return any(_matches(pattern, status_class) for pattern in codes)


def _matches(pattern: str, status_class: str) -> bool:
    """Whether a class fits a pattern, in which an x stands for any digit: "5xx", "50x"."""
    if pattern == status_class:
        return True
    if not pattern[:1].isdigit() or len(pattern) != len(status_class) or not status_class.isdigit():
        return False
    return all(p in (c, "x", "X") for p, c in zip(pattern, status_class, strict=True))
