"""Polls of many rollouts, as one measurement of each: what the real engine would have been given."""

from datetime import datetime, timedelta

from orchestrator.simulate.cells import Cells
from orchestrator.simulate.poll import Counted, Joined, Poll
from providers.measurement import Count, Cursor, Histogram, Leg, Measurement, Pairs, Sample

CLASSES = (("500", "500"), ("500", "200"), ("200", "500"), ("200", "200"))


def measurement(
    poll: Poll, row: int, begin: datetime, stable: Cells, candidate: Cells, answers: tuple[str, ...] = ()
) -> Measurement:
    """One rollout's part of a poll. `answers`: names of the gates on predictions."""
    end = begin + timedelta(seconds=poll.seconds)
    legs = [leg("green", source, counted, candidate, row) for source, counted in poll.candidate.items()]
    if poll.stable is not None:
        legs.append(leg("blue", "live", poll.stable, stable, row))
    joined = poll.joined
    samples = {}
    if joined is not None:
        samples = dict.fromkeys(answers, Sample(Count(int(joined.different[row]), int(joined.pairs[row]))))
    return Measurement(
        begin, end, tuple(legs), Cursor("", end), pairs(joined, row) if joined is not None else None, samples=samples
    )


def leg(name: str, source: str, counted: Counted, cells: Cells, row: int) -> Leg:
    """One rollout's leg."""
    requests, bad = int(counted.requests[row]), int(counted.errors[row])
    latency = None
    if counted.latency is not None:
        edges, columns = cells.edges.tolist(), counted.latency[row].tolist()
        latency = Histogram(tuple((edges[i], edges[i + 1], n) for i, n in enumerate(columns[:-1]) if n), columns[-1])
    return Leg(name, source, requests, {"200": requests - bad, "500": bad}, latency)  # type: ignore[arg-type]


def pairs(joined: Joined, row: int) -> Pairs:
    """One rollout's pairs."""
    mine = joined.row == row
    return Pairs(
        tuple((*names, int(n)) for names, n in zip(CLASSES, joined.errors[row], strict=True)),
        tuple((int(a), int(b), 1) for a, b in zip(joined.copy[mine], joined.twin[mine], strict=True)),
        {"dropped": int(joined.lost[row])},
    )
