"""Where the figures of a simulation's traffic come from: flags, a file, what was measured, or an assumption.

A simulation is only as true as its traffic, so each figure keeps where it came from, and what was only assumed is said
beside every result.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from orchestrator.errors import UsageError
from orchestrator.gates.advice import ASSUMED_ERRORS
from orchestrator.gates.spec import Gate, is_error
from orchestrator.simulate.latency import SPREAD, Latencies, LogNormal, Measured
from orchestrator.simulate.traffic import TOGETHER, Baseline
from plans import source
from plans.units import Frequency, Latency, Rate, show_frequency, show_latency, show_rate
from providers.measurement import Measurement

ASSUMED_P95 = 200_000.0
"""Microseconds, where no gate has a bound to go by."""
WITHIN = 0.6
"""Of the tightest bound on latency, where stable is assumed to be."""
FEWEST = 100
"""Stable's requests from which its errors and latencies can be told."""


def _buckets(value: list[tuple[float, float, float]]) -> list[tuple[float, float, float]]:
    Measured.of(value)
    return value


class BaselineFile(BaseModel):
    """A file for `--baseline`: what is known of stable and its traffic."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    traffic: Frequency | None = Field(None, description="requests to the endpoint, such as 60/s")
    errors: Rate | None = Field(None, description="stable's share of errors")
    latency: Latency | None = Field(None, description="stable's p95")
    sigma: Annotated[float, Field(gt=0, le=5)] | None = Field(
        None, description="standard deviation of the logarithm of its latencies"
    )
    histogram: Annotated[list[tuple[float, float, float]], AfterValidator(_buckets)] | None = Field(
        None, description="its latencies, as [lower, upper, count] in microseconds, in place of latency and sigma"
    )
    clusters: Annotated[float, Field(ge=1, le=1000)] = Field(1.0, description="mean size of clusters of errors")
    drift: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="by which part errors and latencies of both sides rise and fall within an hour"
    )

    @model_validator(mode="after")
    def _one_of(self) -> "BaselineFile":
        if self.histogram is not None and (self.latency is not None or self.sigma is not None):
            raise ValueError("histogram takes the place of latency and sigma: give one or the other")
        return self


@dataclass(frozen=True, slots=True)
class Given:
    """Figures of one source; None for what it does not say.

    Attributes:
        source: as in "as given", "measured in the last hour".
        rate: requests a second. errors: stable's, 0..1. latencies: stable's.
        p95, sigma: of a log-normal where there are no `latencies`, microseconds.
        clusters, drift: as in `Baseline`.
    """

    source: str
    rate: float | None = None
    errors: float | None = None
    latencies: Latencies | None = None
    p95: float | None = None
    sigma: float | None = None
    clusters: float = 1.0
    drift: float = 0.0


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure as people read it, and where it came from."""

    name: str
    shown: str
    source: str


def from_file(path: Path) -> Given:
    """The figures of a file. Raises PlanError with everything that is wrong with it."""
    read = source.load(path, BaselineFile)
    latencies = Measured.of(read.histogram) if read.histogram is not None else None
    return Given(
        f"from {path}",
        read.traffic,
        read.errors,
        latencies,
        read.latency,
        read.sigma,
        read.clusters,
        read.drift,
    )


def measured(measurements: Iterable[Measurement], stable: str | None, how: str) -> Given:
    """What measurements say of the endpoint's traffic, and of stable. `how`: their source, as in "measured now"."""
    seconds, requests, mine, bad = 0.0, 0, 0, 0
    buckets: dict[tuple[int, int], int] = {}
    for each in measurements:
        if each.lost:
            continue
        seconds += max(0.0, (each.end - each.start).total_seconds())
        for leg in each.legs:
            if leg.source != "live":
                continue
            requests += leg.requests
            if leg.deployment != stable:
                continue
            mine += leg.requests
            bad += sum(count for status, count in leg.classes.items() if is_error(status))
            for lower, upper, n in leg.latency.buckets if leg.latency is not None else ():
                buckets[lower, upper] = buckets.get((lower, upper), 0) + n
    if not seconds or not requests:
        return Given(how)
    enough = mine >= FEWEST
    known = Measured.of((*bounds, n) for bounds, n in sorted(buckets.items())) if enough and buckets else None
    return Given(how, requests / seconds, bad / mine if enough else None, known)


def baseline(sources: Sequence[Given], gates: Sequence[Gate]) -> tuple[Baseline, tuple[Figure, ...]]:
    """The traffic to simulate, each figure from the first source that has it, and where each came from.

    Raises:
        UsageError: nobody says how many requests there are.
    """
    rate = next(((each.rate, each.source) for each in sources if each.rate is not None), None)
    if rate is None:
        raise UsageError(
            "how many requests the endpoint gets is not known: say --traffic 60/s, or --baseline with a file or "
            "`endpoint`"
        )
    errors = next(
        ((each.errors, each.source) for each in sources if each.errors is not None), (ASSUMED_ERRORS, "assumed")
    )
    latencies, where = _latencies(sources, gates)
    clusters = next((each.clusters for each in sources if each.clusters != 1), 1.0)
    drift = next((each.drift for each in sources if each.drift), 0.0)
    made = Baseline(rate[0], errors[0], latencies, clusters, TOGETHER, drift)
    figures = [
        Figure("requests", show_frequency(rate[0]), rate[1]),
        Figure("errors", show_rate(errors[0]), errors[1]),
        Figure("p95", show_latency(latencies.quantile(0.95)), where),
    ]
    if clusters != 1:
        figures.append(Figure("clusters of errors", f"{clusters:g} on average", "from the file"))
    if drift:
        figures.append(Figure("drift", show_rate(drift), "from the file"))
    return made, tuple(figures)


def _latencies(sources: Sequence[Given], gates: Sequence[Gate]) -> tuple[Latencies, str]:
    sigma = next((each.sigma for each in sources if each.sigma is not None), SPREAD)
    for each in sources:
        if each.p95 is not None:
            return LogNormal.with_p95(each.p95, sigma), each.source
        if each.latencies is not None:
            return each.latencies, each.source
    bounds = [gate.max for gate in gates if gate.metric == "latency" and gate.max is not None]
    return LogNormal.with_p95(WITHIN * min(bounds) if bounds else ASSUMED_P95, sigma), "assumed"
