"""Adds pairs to a measurement of the local proxy: reads the log, and keeps in the cursor where it stands.

What belongs together is in three modules, so that each can be tried alone: `pair_log` knows files, `pairs` knows
halves, and this one knows the state of the endpoint and the shape of a cursor.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from providers.local import launching, measure, pair_log, xds
from providers.local.pair_log import Place
from providers.local.pairs import Joining, Reading, Side, Sides, first, since
from providers.local.state import Deployment, Layout
from providers.measurement import Cursor, Measurement, Pairs

PART = "~pairs"
"""Key in the cursor; no deployment is called so."""
_TAIL = 1 << 20
"""Bytes of the log that a first measurement looks at, for live requests whose copies are under way."""


def sides(names: Sequence[str], deployments: Mapping[str, Deployment]) -> Sides | None:
    """Candidate and stable, the first two names; None while one of them is not there."""
    two = [deployments[name] for name in names[:2] if name in deployments]
    if len(two) < 2 or any(one.baseline is None for one in two):
        return None
    candidate, stable = (_side(one) for one in two)
    return Sides(candidate, stable, max(_timeout_s(one) for one in deployments.values()))


def added(
    measurement: Measurement, cursor: Cursor | None, layout: Layout, both: Sides | None, began: datetime
) -> Measurement:
    """The measurement with its pairs.

    Args:
        measurement: of the counters, read just now.
        cursor: that it goes on from.
        layout: where the log is.
        both: whose pairs are wanted; None where there cannot be any.
        began: when the reading of the counters began.
    """
    if not _logged(layout.bootstrap):
        return measurement
    log = layout.directory / xds.PAIR_LOG
    old: Mapping[str, Any] | None = None if cursor is None or measurement.lost else cursor.raw.get(PART)
    if cursor is None or old is None:
        read = pair_log.end(log, _TAIL)
        at = began.timestamp()
        joining = Joining(since=at) if both is None else first(read.lines, both, at)
        return _with(measurement, read.place, joining, None)
    read, joining = pair_log.since(log, Place.of(old["log"])), Joining.read(old)
    if both is None:
        return _with(measurement, read.place, Joining(since=joining.since), Pairs())
    copies = measure.copies(cursor, measurement.cursor, both.candidate.name)
    reading = Reading(cursor.at.timestamp(), measurement.end.timestamp(), copies, read.gap)
    return _with(measurement, read.place, joining, since(joining, read.lines, both, reading))


def _logged(bootstrap: Path) -> bool:
    """Whether the proxy writes lines that can be joined; one that an earlier version has started does not, and it is
    never restarted for that.
    """
    try:
        return xds.END in bootstrap.read_text(encoding="utf-8")
    except FileNotFoundError:
        return False


def _with(measurement: Measurement, place: Place, joining: Joining, pairs: Pairs | None) -> Measurement:
    raw = {**measurement.cursor.raw, PART: {"log": place.json(), **joining.json()}}
    return replace(measurement, pairs=pairs, cursor=replace(measurement.cursor, raw=raw))


def _side(deployment: Deployment) -> Side:
    one = deployment.serves
    return Side(deployment.name, one.id, one.born.timestamp(), _timeout_s(deployment))


def _timeout_s(deployment: Deployment) -> float:
    return launching.upstream(deployment).timeout_ms / 1000
