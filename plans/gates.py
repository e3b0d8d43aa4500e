"""What a gate may say: a metric, its tolerance, and how sure one wants to be.

The models only; what a gate decides from counts is the orchestrator's business. A metric of the language that this
version does not build yet is refused by its name.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from plans import units
from plans.answers import Answers
from plans.errors import problem, quoted, raise_all, refuse
from plans.units import Duration, Flag, Latency, Rate, Ratio


class GateFields(Answers):
    """What gates of every metric have."""

    not_built: ClassVar[frozenset[str]] = frozenset({"guard"})

    max_ratio: Annotated[Ratio, Field(gt=0)] | None = Field(
        default=None, description="Tolerated: this many times what stable has."
    )
    blame: Flag | None = Field(
        default=None,
        description="Whether `max` counts only while the candidate is also worse than stable; without it: where stable "
        "is measured.",
    )
    source: Literal["mirror", "live", "direct", "auto"] = Field(
        default="auto", description="Which of the candidate's requests count; auto: mirrored ones in a shadow step."
    )
    min_requests: Annotated[int, Field(ge=1, le=1_000_000_000)] = Field(
        default=100, description="Candidate requests before PASS."
    )
    warm_up: Duration = Field(default=10.0, description="Discarded at the candidate's birth.")
    interval: Annotated[Duration, Field(gt=0)] | None = Field(
        default=None, description="Time between measurements; without it the provider's."
    )
    settle: Duration | None = Field(default=None, description="How late the figures may be; without it the provider's.")
    alpha: Annotated[Rate, Field(gt=0, lt=0.5)] | None = Field(
        default=None, description="As at the top, for this gate."
    )
    beta: Annotated[Rate, Field(gt=0, lt=0.5)] | None = Field(default=None, description="As at the top, for this gate.")
    dispersion: Flag = Field(default=True, description="Correct for errors that come in clusters.")


class ErrorRateGate(GateFields):
    """How often the candidate answers with an error."""

    misplaced: ClassVar[Mapping[str, str]] = {"quantile": "`quantile` is for latency only; remove it"}

    metric: Literal["error_rate"] = Field(description="How often the candidate answers with an error.")
    max: Annotated[Rate, Field(gt=0, lt=1)] | None = Field(default=None, description="Absolute bound of the rate.")
    max_increase: Annotated[Rate, Field(gt=0, lt=1)] | None = Field(
        default=None, description="Tolerated on top of `max_ratio` times stable's rate."
    )
    codes: units.ErrorClasses = Field(
        default=("5xx", "424", "429", "timeout", "reset"), description="What counts as an error."
    )

    @model_validator(mode="after")
    def _decidable(self) -> Self:
        if self.max is None and self.max_ratio is None and self.max_increase is None:
            absolute, relative = "`max` (an absolute bound)", "`max_ratio` and `max_increase` (relative to stable)"
            refuse("no_bound", f"a gate needs {absolute}, or {relative}")
        if self.max_ratio is not None and self.max_increase is None:
            why = "while stable has no errors at all, nothing can be proved against a multiple of zero"
            refuse("unprovable", f"`max_ratio` needs a `max_increase`, such as 0.5%: {why}")
        return self


class LatencyGate(GateFields):
    """How slow the candidate is at a quantile."""

    misplaced: ClassVar[Mapping[str, str]] = {
        "max_increase": "`max_increase` is for error_rate only; for latency write `max_ratio`, such as 1.10",
        "codes": "`codes` is for error_rate only; a latency gate counts every answer, so remove it",
    }

    metric: Literal["latency"] = Field(description="How slow the candidate is at a quantile.")
    quantile: units.Quantile = Field(default=0.95, description="Which one.")
    max: Latency | None = Field(default=None, description="Absolute bound of the quantile.")
    max_ratio: Annotated[Ratio, Field(ge=1)] | None = Field(
        default=None, description="Tolerated: this many times stable's quantile."
    )

    @model_validator(mode="after")
    def _decidable(self) -> Self:
        if self.max is None and self.max_ratio is None:
            absolute = "`max` (an absolute bound such as 500ms)"
            refuse("no_bound", f"a gate needs {absolute} or `max_ratio` (relative to stable, such as 1.10)")
        return self


METRICS_NOT_BUILT = ("missing_pairs", "prediction", "prometheus", "http")


def _metric(gate: Any) -> str | None:
    return gate.get("metric") if isinstance(gate, Mapping) else getattr(gate, "metric", None)


def _known_metric(gate: Any) -> Any:
    """Before the union, which could only say that nothing fits."""
    if not isinstance(gate, Mapping):
        return gate
    metric = gate.get("metric")
    if metric is None:
        refuse("no_metric", "a gate needs `metric: error_rate` or `metric: latency`")
    if isinstance(metric, Mapping) and len(metric) == 1:
        metric = next(iter(metric))
    if metric in METRICS_NOT_BUILT:
        message = f"the metric `{metric}` is not built yet in this version; error_rate and latency are"
        raise_all([problem("not_built", message, "metric")])
    if not isinstance(gate["metric"], str):
        raise_all([problem("no_metric", "a metric is error_rate or latency; write `metric: error_rate`", "metric")])
    if gate["metric"] not in GATES:
        message = f"{quoted(gate['metric'])} is no metric; write error_rate or latency"
        raise_all([problem("no_metric", message, "metric", found=gate["metric"], near=GATES)])
    return gate


GATES: Mapping[str, type[GateFields]] = {"error_rate": ErrorRateGate, "latency": LatencyGate}
Gate = Annotated[
    Annotated[ErrorRateGate, Tag("error_rate")] | Annotated[LatencyGate, Tag("latency")],
    Discriminator(_metric, "no_metric", "a gate is a mapping, such as {metric: error_rate, max: 2%}"),
    BeforeValidator(_known_metric),
]
