"""A bad candidate: quick and without errors, but one answer in twenty is another one, as from a cache gone wrong."""

import itertools

import score
from score import init as init

requests = itertools.count(1)


def run(raw_data: str) -> dict[str, list]:
    answer = score.run(raw_data)
    if next(requests) % 20 == 0:
        answer["predictions"] = answer["predictions"][::-1]
    return answer
