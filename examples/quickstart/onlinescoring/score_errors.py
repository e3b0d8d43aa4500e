"""A bad candidate: every tenth request fails, as if one input in ten met an unhandled case."""

import itertools

import score
from score import init as init

requests = itertools.count(1)


def run(raw_data: str) -> dict[str, list]:
    if next(requests) % 10 == 0:
        raise RuntimeError("no rule for this input")
    return score.run(raw_data)
