"""A bad candidate: right answers, but more than three times as late, however busy the machine is."""

import time

import score
from score import init as init


def run(raw_data: str) -> dict[str, list]:
    started = time.perf_counter()
    answer = score.run(raw_data)
    time.sleep(max(0.010, 3 * (time.perf_counter() - started)))
    return answer
