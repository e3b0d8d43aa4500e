"""Answers are joined by request, wait in bounded space and time, and what is left out is counted by its reason."""

import itertools
import json

from hypothesis import given
from hypothesis import strategies as st

from providers.local.joining import Answer, Joiner
from providers.local.predictions import key, sample
from providers.measurement import Comparison, Count, Sample

BLUE, GREEN = "blue.g1", "green.g2"
HOW = Comparison("a", examples=2)
SPECS = {key(HOW): HOW}


def joiner(**limits: float) -> Joiner:
    made = Joiner(**limits)  # type: ignore[arg-type]
    made.ask(SPECS)
    return made


def give(
    to: Joiner, leg: str, number: int, value: object = 1, *, status: int = 200, how: str = "whole", at: float = 0.0
) -> None:
    body = json.dumps({"a": value}).encode() if how == "whole" else b""
    to.take(Answer(f"id-{number}", leg, status, how, body), at)


def told(new: Joiner, old: dict | None = None, copies: int = 0) -> Sample:
    start = {"incarnation": "1", "pairs": {}, "alone": {}} if old is None else old
    return sample(HOW, start, {"incarnation": "1", **new.report()}, (GREEN, BLUE), copies)


def test_pairs_are_compared_in_whatever_order_they_come() -> None:
    one = joiner()
    give(one, BLUE, 1)
    give(one, GREEN, 2, "x")
    give(one, GREEN, 1)
    give(one, BLUE, 2, "y")
    give(one, BLUE, 3)
    found = told(one)
    assert (found.candidate, found.examples, found.left_out) == (Count(1, 2), ("a: texts differ",), {})
    assert one.report()["waiting"] == 1


def test_what_is_left_out_is_counted_by_reason() -> None:
    one = joiner()
    for number, (blue, green) in enumerate(
        [
            ({"status": 500}, {}),
            ({}, {"status": 424}),
            ({"how": "large"}, {}),
            ({}, {"how": "lost"}),
            ({}, {"status": 302}),
        ]
    ):
        give(one, BLUE, number, **blue)  # type: ignore[arg-type]
        give(one, GREEN, number, **green)  # type: ignore[arg-type]
    found = told(one)
    assert found.candidate == Count(0, 0)
    assert found.left_out == {
        "one of the two was no 2xx": 3,
        "one of the two is larger than 256 KiB": 1,
        "an instance could not hand its answer over in time": 1,
    }
    assert found.nothing.startswith("none of 5 pairs could be compared: 3 because one of the two was no 2xx; ")


def test_what_waits_is_bounded_in_time_number_and_bytes() -> None:
    late = joiner(held_s=10.0)
    give(late, GREEN, 1, at=0.0)
    give(late, GREEN, 2, at=5.0)
    late.expire(11.0)
    give(late, BLUE, 1, at=11.0)
    give(late, BLUE, 2, at=11.0)
    assert told(late).candidate == Count(0, 1)
    assert told(late).left_out == {"only one of the two answers came": 1}
    many = joiner(held_count=3)
    for number in range(10):
        give(many, BLUE, number)
    assert many.report()["waiting"] == 3
    assert many.report()["alone"] == {BLUE: 7}
    big = joiner(held_bytes=10_000)
    for number in range(10):
        give(big, BLUE, number, "x" * 2000)
    waiting = big.report()["waiting"]
    assert waiting == 3, "each weighs 2,000 bytes and some more"
    for number in range(10 - waiting, 10):
        give(big, GREEN, number, "x" * 2000)
    assert (told(big).candidate, told(big).left_out) == (Count(0, 3), {"only one of the two answers came": 7})


def test_differences_are_told_once_and_a_restart_is_said() -> None:
    one, numbers = joiner(), itertools.count()
    for value in (1, 2, 2):
        number = next(numbers)
        give(one, BLUE, number)
        give(one, GREEN, number, value)
    old = json.loads(json.dumps({"incarnation": "1", **one.report()}))
    assert told(one, old) == Sample(candidate=Count(0, 0), query="a exactly equal")
    number = next(numbers)
    give(one, BLUE, number)
    give(one, GREEN, number, 9)
    assert told(one, old).candidate == Count(1, 1)
    assert told(one, old).examples == ("a: numbers differ by 8 (tolerance 0)",)
    other = sample(HOW, {**old, "incarnation": "0"}, {"incarnation": "1", **one.report()}, (GREEN, BLUE), 5)
    assert (other.candidate, other.examples) == (None, ())
    assert other.problem.startswith("the process that compares answers restarted")


def test_copies_without_answers_are_said() -> None:
    one = joiner()
    give(one, BLUE, 1)
    assert told(one, copies=4).nothing == ""
    assert told(one, copies=7).nothing.startswith("7 requests were mirrored, and green handed no answer over; ")


def test_nothing_is_kept_while_nobody_asks() -> None:
    one = Joiner()
    give(one, BLUE, 1)
    assert one.report()["waiting"] == 0


@given(st.permutations([(leg, number) for leg in (BLUE, GREEN) for number in range(6)]), st.integers(0, 6))
def test_every_pair_is_counted_once_in_any_order(order: list[tuple[str, int]], differing: int) -> None:
    one = joiner()
    for leg, number in order:
        give(one, leg, number, 1 if leg == GREEN and number < differing else 0)
    report = one.report()
    assert (told(one).candidate, report["waiting"], report["alone"]) == (Count(differing, 6), 0, {})
