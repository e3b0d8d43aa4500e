"""What a gate may say: a metric, its tolerance, and how sure one wants to be.

The models only; what a gate decides from counts is the orchestrator's business. A gate is told by its metric: a word,
or for figures from elsewhere a mapping (see `plans.external`).
"""

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, StringConstraints, Tag, model_validator

from plans import references, units
from plans.bounds import Number, parse_number
from plans.compared import ComparingGate, GateFields, GuardingGate
from plans.errors import Part, either, problem, quoted, raise_all, refuse
from plans.external import FORM, ExternalGate
from plans.units import Latency, Rate, Ratio, Wanted

__all__ = ["EXTERNAL", "GATES", "KINDS", "ComparingGate", "ExternalGate", "Gate", "GateFields", "GuardingGate"]


def _for_prediction_only(*fields: str) -> Mapping[str, str]:
    return {field: f"`{field}` is for prediction only; remove it" for field in fields}


_OTHERS = _for_prediction_only("tolerance", "path", "examples")
_OF_PAIRS = {
    "quantile": "`quantile` is for latency only; remove it",
    "codes": "`codes` is for error_rate only; remove it",
    "guard": "`guard` is for error_rate and latency only; remove it",
    "source": "`source` cannot be chosen here: it is about mirrored requests and their live twins; remove it",
    "blame": "`blame` has no meaning here: a mirrored request and its twin are asked the same; remove it",
}


class ErrorRateGate(GuardingGate):
    """How often the candidate answers with an error."""

    misplaced: ClassVar[Mapping[str, str]] = {"quantile": "`quantile` is for latency only; remove it", **_OTHERS}

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


class LatencyGate(GuardingGate):
    """How slow the candidate is at a quantile."""

    misplaced: ClassVar[Mapping[str, str]] = {
        "max_increase": "`max_increase` is for error_rate only; for latency write `max_ratio`, such as 1.10",
        "codes": "`codes` is for error_rate only; a latency gate counts every answer, so remove it",
        **_OTHERS,
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


class SlowdownGate(GateFields):
    """How much longer a mirrored request takes than its live twin."""

    misplaced: ClassVar[Mapping[str, str]] = {
        "max": "`max` is for other metrics; each request is compared with its twin, so write `max_ratio`, such as 1.2",
        "max_increase": "`max_increase` is for error_rate only; for slowdown write `max_ratio`, such as 1.2",
        **_OF_PAIRS,
        **_OTHERS,
    }

    metric: Literal["slowdown"] = Field(description="How much longer a mirrored request takes than its live twin.")
    max_ratio: Annotated[Ratio, Field(ge=1)] = Field(
        description="Tolerated of the typical request: at most half of the mirrored ones may take more than this many "
        "times as long as their twins."
    )


class MissingPairsGate(GateFields):
    """How many mirrored requests could not be compared with their twins."""

    misplaced: ClassVar[Mapping[str, str]] = {
        "max_ratio": "`max_ratio` compares with stable, of which no copies are made; write `max`, such as 1%",
        "max_increase": "`max_increase` compares with stable, of which no copies are made; write `max`, such as 1%",
        **_OF_PAIRS,
        **_OTHERS,
    }

    metric: Literal["missing_pairs"] = Field(
        description="How many mirrored requests could not be compared: the copy was dropped, had no answer in time, or "
        "its twin is unknown."
    )
    max: Annotated[Rate, Field(gt=0, lt=1)] = Field(description="Absolute bound of their share.")


class Tolerance(Part):
    """How far apart two numbers may be that count as the same."""

    absolute: Annotated[Number, Field(ge=0)] = Field(default=0.0, description="By so much.")
    relative: Annotated[Number, Field(ge=0, le=1)] = Field(
        default=0.0, description="By this part of the larger one: 0.01 is a hundredth."
    )


def _tolerance(value: object) -> object:
    """A number alone is an absolute tolerance."""
    if isinstance(value, list | tuple):
        raise ValueError("this is no tolerance: write a number such as 0.001, or {absolute: 0.001, relative: 0.01}")
    return {"absolute": parse_number(value)} if isinstance(value, str | int | float) else value


class PredictionGate(GateFields):
    """How often the candidate answers otherwise than stable, request by request."""

    misplaced: ClassVar[Mapping[str, str]] = {
        "max_ratio": "`max_ratio` has nothing to compare with: every pair is equal or is not; write `max`, such as 1%",
        "max_increase": "`max_increase` has nothing to compare with: every pair is equal or is not; write `max`, "
        "such as 1%",
        **_OF_PAIRS,
    }

    metric: Literal["prediction"] = Field(
        description="How often a mirrored request is answered otherwise than its live twin."
    )
    max: Annotated[Rate, Field(gt=0, lt=1)] = Field(description="Absolute bound of the share that is.")
    tolerance: Annotated[Tolerance, BeforeValidator(_tolerance)] = Field(
        default=Tolerance(), description="Numbers count as the same when they are at most so far apart."
    )
    path: (
        Annotated[
            str,
            StringConstraints(pattern=r"^[^.]+(\.[^.]+)*$"),
            Wanted("a dotted path such as predictions.0.label"),
            AfterValidator(references.no_reference),
        ]
        | None
    ) = Field(default=None, description="Dotted path to the part that is compared; without it the whole answer.")
    examples: Annotated[int, Field(ge=0, le=20)] = Field(
        default=0, description="How many differing answers are shown, redacted; none are stored otherwise."
    )


EXTERNAL = "external"
GATES: Mapping[str, type[GateFields]] = {
    "error_rate": ErrorRateGate,
    "latency": LatencyGate,
    "slowdown": SlowdownGate,
    "missing_pairs": MissingPairsGate,
    "prediction": PredictionGate,
}
"""Metric, as it is written -> its gate."""
KINDS: Mapping[str, type[GateFields]] = {**GATES, EXTERNAL: ExternalGate}
"""The same, and the gate of whatever is written as a mapping."""


def gate_kind(gate: Any) -> str | None:
    """Which of KINDS a gate is, as it was written or loaded; None where it has no metric."""
    metric = gate.get("metric") if isinstance(gate, Mapping) else getattr(gate, "metric", None)
    return EXTERNAL if isinstance(metric, Mapping) else metric


def _known_metric(gate: Any) -> Any:
    """Before the union, which could only say that nothing fits."""
    if not isinstance(gate, Mapping):
        return gate
    metric = gate.get("metric")
    if metric is None:
        refuse("no_metric", "a gate needs a `metric`, such as `metric: error_rate` or `metric: latency`")
    if isinstance(metric, Mapping):
        names = list(metric)
        if len(names) != 1:
            message = f"a metric from elsewhere is one name with its options, such as {FORM}"
            raise_all([problem("no_metric", message, "metric")])
        if names[0] in GATES:
            message = f"{quoted(names[0])} has no options of its own; write `metric: {names[0]}`"
            raise_all([problem("no_metric", message, "metric")])
    elif not isinstance(metric, str):
        message = f"a metric is a word such as error_rate, or a mapping such as {FORM}"
        raise_all([problem("no_metric", message, "metric")])
    elif metric not in GATES:
        message = f"{quoted(metric)} is no metric; write {either(tuple(GATES))}"
        if not difflib.get_close_matches(metric[:64].lower(), GATES, 1):
            message = f"{quoted(metric)} is no metric of our own; one from elsewhere is a mapping, such as {FORM}"
        raise_all([problem("no_metric", message, "metric", found=metric, near=GATES)])
    return gate


Gate = Annotated[
    Annotated[ErrorRateGate, Tag("error_rate")]
    | Annotated[LatencyGate, Tag("latency")]
    | Annotated[SlowdownGate, Tag("slowdown")]
    | Annotated[MissingPairsGate, Tag("missing_pairs")]
    | Annotated[PredictionGate, Tag("prediction")]
    | Annotated[ExternalGate, Tag(EXTERNAL)],
    Discriminator(gate_kind, "no_metric", "a gate is a mapping, such as {metric: error_rate, max: 2%}"),
    BeforeValidator(_known_metric),
]
