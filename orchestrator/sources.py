"""The metrics that a rollout's gates ask beside the provider: opened once, asked about the window that was measured.

They come from elsewhere and may be down when the endpoint is not: what goes wrong with one is in its own gate's sample,
and nothing here is raised.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from types import TracebackType
from typing import Any, Self

from orchestrator.gates.spec import External, Gate
from orchestrator.gates.state import GateState
from orchestrator.stages import Stage
from providers.errors import ProviderError
from providers.measurement import Measurement, Sample, Source
from providers.metrics.base import Metric, Spec
from providers.metrics.sampling import Question, sampled

Open = Callable[[str, Mapping[str, Any]], Metric]
"""A metric by name and options. Raises ProviderError."""


class Metrics:
    """The open metrics of one rollout; close it by leaving it as a context."""

    def __init__(self, opening: Open) -> None:
        self._opening = opening
        self._open: dict[str, Metric] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._open:
            _, metric = self._open.popitem()
            try:
                await metric.aclose()
            except Exception:  # noqa: BLE001, S110 - a stranger's mistake while it leaves changes nothing any more
                pass

    def of(self, external: External) -> Metric:
        """The metric that a gate names, opened when it is first asked for. Raises ProviderError."""
        key = digest(external)
        if key not in self._open:
            self._open[key] = self._opening(external.name, external.options)
        return self._open[key]


async def with_samples(
    metrics: Metrics, measured: Measurement, stage: Stage, gates: GateState, endpoint: str, sources: Mapping[str, Any]
) -> Measurement:
    """The measurement, with what the external gates' metrics say of its window, and where they go on in its cursor.

    Args:
        stage: whose gates and guards are asked for.
        gates: the evidence, entered into that stage: it knows the sides.
        sources: where each gate goes on; a gate without one begins here.

    A measurement that is lost, or of no length while there are sources already, asks nothing: it would not be folded.
    """
    external = {gate.name: gate for gate in (*stage.gates, *stage.guards) if gate.external is not None}
    empty = measured.end <= measured.start and bool(sources)
    if not external or measured.lost or empty:
        return replace(measured, cursor=replace(measured.cursor, sources=sources))
    questions: dict[str, Question] = {}
    samples: dict[str, Sample] = {}
    for gate in external.values():
        try:
            questions[gate.name] = _question(metrics, gate, measured, stage, gates, endpoint)
        except ProviderError as error:
            samples[gate.name] = Sample(problem=str(error).rstrip("."))
    found, after = await sampled(questions, sources)
    cursor = replace(measured.cursor, sources={**_kept(sources, external), **after})
    return replace(measured, samples={**measured.samples, **samples, **found}, cursor=cursor)


def digest(external: External) -> str:
    """Tells one metric with its options from every other."""
    text = json.dumps([external.name, external.form, dict(external.options)], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _question(
    metrics: Metrics, gate: Gate, measured: Measurement, stage: Stage, gates: GateState, endpoint: str
) -> Question:
    assert gate.external is not None
    compared = gates.compared and (gate.relative or gate.blame)

    def about(deployment: str, source: Source) -> Spec:
        return Spec(endpoint, deployment, source, measured.end - timedelta(seconds=gate.settle), stage.interval)

    stable = about(gates.stable, "live") if compared and gates.stable else None
    candidate = about(gates.candidate, gates.source_of(gate))
    return Question(metrics.of(gate.external), digest(gate.external), candidate, stable)


def _kept(sources: Mapping[str, Any], gates: Iterable[str]) -> dict[str, Any]:
    """Where they go on that could not be asked."""
    return {name: sources[name] for name in gates if name in sources}
