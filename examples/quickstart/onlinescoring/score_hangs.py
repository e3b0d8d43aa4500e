"""A bad candidate: it never becomes ready, as if it waited for a download that does not come."""

import time


def init() -> None:
    print("init: waiting for the feature store ...", flush=True)
    while True:
        time.sleep(60)


def run(raw_data: str) -> None:
    raise AssertionError("never reached: init() did not return")
