"""Envoy's counters -> what came since a cursor.

Envoy counts a request in two places, and neither is enough. The statistics of a cluster know every request, also those
that found no healthy instance, but not whether a 503 or a 504 is the model's own; the statistics of the upstream log
(`leg.*`) know how each request that reached an instance ended, with its flags, and nothing of the others. Together
(each line was seen in an experiment with live, mirrored and direct requests alike):

    the instance answered         cluster upstream_rq_<code>; leg.rq code=<code>, flags="-"
    cut after the status line     cluster upstream_rq_200;    leg.rq code=200, flags="UPE"
    connection refused, reset     cluster upstream_rq_503;    leg.rq code=0, flags="UF" or "UC"
    no healthy instance           cluster upstream_rq_503;    cluster upstream_cx_none_healthy; no leg.rq
    too slow for its deployment   cluster upstream_rq_max_duration_reached; leg.rq code=0, flags="-"
    too slow for the route        cluster upstream_rq_timeout, upstream_rq_504; leg.rq code=0, flags="-"
    the client went away          nothing in the cluster;     leg.rq code=0, flags="-"

A changed cluster begins at zero while its `leg.*` go on, so increments are added up counter by counter, and classes
are made of the sums. What was handed out for a class never shrinks: a reading that caught a request half-way makes the
next increment smaller by as much, so nothing is negative and nothing is counted twice in the end.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from providers.local.envoy import Statistics
from providers.local.state import Baseline, Deployment
from providers.local.xds import SUFFIXES
from providers.measurement import RESET, TIMEOUT, Cursor, Histogram, Leg, Measurement

_ANSWERED = "-"
_LOGGED = re.compile(r"leg\.rq\.cluster\.([^.]+)\.code\.(\d+)\.flags\.(.+)")
_COUNTED = re.compile(r"cluster\.([^.]+)\.upstream_(rq_\d\d\d|rq_timeout|rq_max_duration_reached|cx_none_healthy)")
_WHOLE = re.compile(r"rq_\d\d\d|rq_max_duration_reached")
_LATENCY = re.compile(r"leg\.us\.cluster\.([^.]+)")

Buckets = dict[str, int]
"""`lower:upper` -> count."""


@dataclass(frozen=True, slots=True)
class _Reading:
    """One cluster: counters, and histogram buckets, as Envoy shows them."""

    counters: Mapping[str, int]
    buckets: Buckets

    def json(self) -> dict[str, Any]:
        return {"counters": dict(self.counters), "buckets": dict(self.buckets)}

    @classmethod
    def of(cls, raw: Mapping[str, Any] | None) -> "_Reading":
        raw = raw or {}
        return cls(dict(raw.get("counters", {})), dict(raw.get("buckets", {})))


def baseline(deployment: str, generation: str, statistics: Statistics) -> Baseline:
    """What stands in the counters of this name before the generation's first request."""
    readings = _readings(statistics)
    raw = {cluster: readings[cluster].json() for cluster in _clusters(deployment) if cluster in readings}
    return Baseline(generation, statistics.incarnation, raw)


def since(
    cursor: Cursor | None, statistics: Statistics, deployments: Iterable[Deployment], now: datetime
) -> Measurement:
    """The difference between a reading and a cursor.

    Args:
        cursor: of an earlier measurement; None only sets the first one.
        statistics: the reading.
        deployments: those that exist, of the ones that were asked for.
        now: when the reading was taken.
    """
    readings = _readings(statistics)
    started = cursor is not None and cursor.incarnation == statistics.incarnation
    before: Mapping[str, Any] = cursor.raw if cursor is not None and started else {}
    raw: dict[str, Any] = {}
    legs = []
    for deployment in deployments:
        if deployment.baseline is None:
            continue  # it has no clusters yet
        generation = deployment.baseline.generation
        old = before.get(deployment.name)
        if old is None or old["generation"] != generation:
            # It appeared, or another one took its name, since the cursor: everything since its birth is new.
            same = deployment.baseline.incarnation == statistics.incarnation
            old = {"clusters": {c: {"last": r} for c, r in deployment.baseline.raw.items()} if same else {}}
        kept = {}
        for source, suffix in SUFFIXES.items():
            cluster = deployment.name + suffix
            reading = readings.get(cluster, _Reading({}, {}))
            state = _advanced(old["clusters"].get(cluster, {}), reading)
            kept[cluster] = state["kept"]
            legs.append(
                Leg(deployment.name, source, sum(state["classes"].values()), state["classes"], state["latency"])
            )
        raw[deployment.name] = {"generation": generation, "clusters": kept}
    fresh = Cursor(statistics.incarnation, now, raw)
    if cursor is None:
        return Measurement(now, now, (), fresh)
    if not started:
        return Measurement(cursor.at, now, (), fresh, lost=True)
    return Measurement(cursor.at, now, tuple(legs), fresh)


def copies(before: Cursor, after: Cursor, deployment: str) -> int:
    """How many mirrored requests of any class were completed from one cursor to a later one; exact in torn readings,
    too, because each request moves exactly one of these counters.
    """
    old, new = before.raw.get(deployment), after.raw[deployment]
    if old is None or old["generation"] != new["generation"]:
        return _completed(new, deployment)
    return _completed(new, deployment) - _completed(old, deployment)


def _completed(raw: Mapping[str, Any], deployment: str) -> int:
    sums = raw["clusters"].get(deployment + SUFFIXES["mirror"], {}).get("sums", {})
    return sum(n for name, n in sums.items() if _WHOLE.fullmatch(name))


def _clusters(deployment: str) -> list[str]:
    return [deployment + suffix for suffix in SUFFIXES.values()]


def _readings(statistics: Statistics) -> dict[str, _Reading]:
    counters: dict[str, dict[str, int]] = {}
    for name, value in statistics.counters.items():
        if match := _LOGGED.fullmatch(name):
            counters.setdefault(match[1], {})[f"log {match[2]} {match[3]}"] = value
        elif match := _COUNTED.fullmatch(name):
            counters.setdefault(match[1], {})[match[2]] = value
    buckets = {
        match[1]: {f"{lower}:{lower + width}": count for lower, width, count in totals if count}
        for name, totals in statistics.histograms.items()
        if (match := _LATENCY.fullmatch(name))
    }
    return {name: _Reading(counters.get(name, {}), buckets.get(name, {})) for name in counters.keys() | buckets.keys()}


def _advanced(old: Mapping[str, Any], reading: _Reading) -> dict[str, Any]:
    """One cluster's increments since `old`, and what to keep for the next time."""
    last = _Reading.of(old.get("last"))
    increments = _increments(last.counters, reading.counters)
    sums = {
        name: n
        for name in {*old.get("sums", {}), *increments}
        if (n := old.get("sums", {}).get(name, 0) + increments.get(name, 0))
    }
    handed = old.get("handed", {})
    classes = {name: n for name, total in _classes(sums).items() if (n := total - handed.get(name, 0)) > 0}
    new_handed = {name: handed.get(name, 0) + classes.get(name, 0) for name in {*handed, *classes}}
    grown = _increments(last.buckets, reading.buckets)
    buckets = sorted((*map(int, name.split(":")), n) for name, n in grown.items() if n)
    above = classes.get(TIMEOUT, 0) + classes.get(RESET, 0)
    return {
        "kept": {"last": reading.json(), "sums": sums, "handed": new_handed},
        "classes": classes,
        "latency": Histogram(tuple((lower, upper, n) for lower, upper, n in buckets), above),
    }


def _increments(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, int]:
    """A counter that is smaller than it was began anew."""
    return {name: n - before.get(name, 0) if n >= before.get(name, 0) else n for name, n in after.items()}


def _classes(sums: Mapping[str, int]) -> dict[str, int]:
    """Disjoint classes of all requests so far; see the table at the top."""
    route_timeouts = sums.get("rq_timeout", 0)
    classes = {name.removeprefix("rq_"): n for name, n in sums.items() if re.fullmatch(r"rq_\d\d\d", name)}
    refused = cut = 0
    for name, n in sums.items():
        if not name.startswith("log "):
            continue
        _, code, flags = name.split(" ", 2)
        if flags == _ANSWERED:
            continue
        if code == "0":
            refused += n
        else:
            cut += n
            classes[code] = classes.get(code, 0) - n
    made_here = refused + sums.get("cx_none_healthy", 0)
    classes["503"] = classes.get("503", 0) - made_here
    classes["504"] = classes.get("504", 0) - route_timeouts
    classes[TIMEOUT] = route_timeouts + sums.get("rq_max_duration_reached", 0)
    classes[RESET] = made_here + cut
    return {name: n for name, n in classes.items() if n > 0}
