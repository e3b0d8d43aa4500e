"""From a gate as a person wrote it to the gate that decides: every default filled in, every word of the plan heard.

Part of compiling a plan: what the provider cannot measure, and a metric that is not installed or was asked in vain, is
refused here, before anything runs.
"""

from dataclasses import dataclass
from typing import Any

from orchestrator.gates.spec import External, Form, Gate
from plans.bounds import Bound
from plans.gates import ErrorRateGate, ExternalGate, LatencyGate, MissingPairsGate, PredictionGate, SlowdownGate
from plans.model import Plan
from plans.steps import GatedStep
from providers.base import Capabilities
from providers.errors import ProviderError
from providers.measurement import Comparison
from providers.registry import metric_form

PlanGate = ErrorRateGate | LatencyGate | SlowdownGate | MissingPairsGate | PredictionGate | ExternalGate


class Undecidable(Exception):
    """A gate that could never decide in its step; the sentence says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a gate stands.

    Attributes:
        plan, step: of the gate.
        stable: the rollout has a stable side at all.
        served: stable has live traffic in this step.
        capabilities: of the provider.
    """

    plan: Plan
    step: GatedStep
    stable: bool
    served: bool
    capabilities: Capabilities


def engine_gate(name: str, gate: PlanGate, place: Place) -> Gate:
    """The gate that decides. Raises Undecidable."""
    plan, step = place.plan, place.step
    common: dict[str, Any] = {
        "name": name,
        "min_requests": gate.min_requests,
        "warm_up": gate.warm_up,
        "settle": gate.settle if gate.settle is not None else place.capabilities.settle,
        "alpha": gate.alpha if gate.alpha is not None else plan.alpha,
        "beta": gate.beta if gate.beta is not None else plan.beta,
        "on_fail": gate.on_fail or step.on_fail or plan.on_fail,
        "on_no_data": gate.on_no_data or step.on_no_data or plan.on_no_data,
        "on_undecided": gate.on_undecided or step.on_undecided or plan.on_undecided,
        "on_error": gate.on_error or step.on_error or plan.on_error,
        "dispersion": gate.dispersion,
    }
    match gate:
        case ErrorRateGate():
            rates: dict[str, Any] = {"max": gate.max, "max_increase": gate.max_increase, "codes": gate.codes}
            return Gate(metric="error_rate", **rates, **_compared(name, gate, place), **common)
        case LatencyGate():
            bound: dict[str, Any] = {"max": gate.max, "quantile": gate.quantile}
            return Gate(metric="latency", **bound, **_compared(name, gate, place), **common)
        case SlowdownGate():
            _joined(name, place)
            return Gate(metric="slowdown", source="mirror", max_ratio=gate.max_ratio, **common)
        case MissingPairsGate():
            _joined(name, place)
            return Gate(metric="missing_pairs", source="mirror", max=gate.max, **common)
        case PredictionGate():
            if not place.capabilities.predictions:
                raise Undecidable(f"gate {name}: this provider cannot compare answers; remove it from this step")
            within = Comparison(gate.path, gate.tolerance.absolute, gate.tolerance.relative, gate.examples)
            return Gate(metric="prediction", source="mirror", max=gate.max, comparison=within, **common)
        case ExternalGate():
            return _external(name, gate, place, common)


def _compared(name: str, gate: ErrorRateGate | LatencyGate, place: Place) -> dict[str, Any]:
    """What gates have that compare two sides."""
    if gate.guard is not None:
        if not place.served:
            raise Undecidable(f"gate {name} guards stable, and stable has no live traffic there; remove it")
        return {"max_ratio": gate.max_ratio, "blame": gate.blame is not False, "source": "live", "guards_stable": True}
    if gate.max is None and not place.served:
        raise Undecidable(
            f"gate {name} only compares with stable, and stable has no live traffic there; give it a `max`"
        )
    blame = gate.blame if gate.blame is not None else place.stable
    return {"max_ratio": gate.max_ratio, "blame": blame, "source": gate.source}


def _joined(name: str, place: Place) -> None:
    if not place.capabilities.paired:
        raise Undecidable(
            f"gate {name}: this provider does not join mirrored requests with their live twins; remove it from this "
            "step"
        )


def _external(name: str, gate: ExternalGate, place: Place, common: dict[str, Any]) -> Gate:
    asked, options = gate.external
    try:
        form = metric_form(asked, options)
    except ProviderError as error:
        raise Undecidable(f"gate {name}: {str(error).rstrip('.')}") from None
    relative = gate.max_ratio is not None or gate.max_increase is not None
    if gate.max is None and not place.served:
        raise Undecidable(
            f"gate {name} only compares with stable, and stable has no live traffic there; give it a `max`"
        )
    if form == "counts" and gate.max_ratio is not None and gate.max_increase is None:
        raise Undecidable(
            f"gate {name}: `max_ratio` of counts needs a `max_increase`, such as 0.5%: while stable has nothing bad at "
            "all, nothing can be proved against a multiple of zero"
        )
    return Gate(
        metric="external",
        max=_bound(name, "max", gate.max, form),
        max_ratio=gate.max_ratio,
        max_increase=_bound(name, "max_increase", gate.max_increase, form),
        blame=gate.blame if gate.blame is not None else relative and place.stable,
        source=gate.source,
        external=External(asked, options, form),
        **common,
    )


def _bound(name: str, field: str, bound: Bound | None, form: Form) -> float | None:
    if bound is None:
        return None
    if bound.rate != (form == "counts"):
        what = "counts, so write a rate such as 1%" if form == "counts" else "values, so write a number in their unit"
        raise Undecidable(f"gate {name}: `{field}: {bound}` does not fit: this metric gives {what}")
    return bound.value
