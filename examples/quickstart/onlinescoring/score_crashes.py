"""A bad candidate: its process ends while it starts, as with a model that does not fit the code."""


def init() -> None:
    raise RuntimeError("ridge.json: unknown format 3, this code reads formats 1 and 2")


def run(raw_data: str) -> None:
    raise AssertionError("never reached: init() did not succeed")
