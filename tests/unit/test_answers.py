"""Two answers are the same, or different, or cannot be compared; whatever they hold, and without repeating it."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.answers import NO_PATH, UNREADABLE, compare, described
from providers.measurement import Comparison

EXACT = Comparison()
NUMBERS = st.one_of(st.integers(), st.integers(-3, 3), st.floats(), st.floats(-2, 2))
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("abc"), inner, max_size=3)),
    max_leaves=8,
)
TOLERANCES = st.one_of(st.just(0.0), st.floats(0, 1e3), st.floats(0, 1e-6))
PATHS = st.one_of(st.none(), st.sampled_from(["a", "0", "a.0", "-1", "a.b.c", "", "."]))
HOWS = st.builds(Comparison, PATHS, TOLERANCES, TOLERANCES)
BODIES = st.one_of(st.binary(max_size=40), VALUES.map(lambda value: json.dumps(value).encode()))


def word(one: Any, other: Any, how: Comparison = EXACT) -> str:
    return compare(json.dumps(one).encode(), json.dumps(other).encode(), how).word


@pytest.mark.parametrize(
    ("one", "other", "how", "expected"),
    [
        ([1.0], [1], EXACT, "same"),
        ([1], [True], EXACT, "different"),
        ([0], [None], EXACT, "different"),
        ("1", 1, EXACT, "different"),
        ("cat", "cat", EXACT, "same"),
        ("cat", "Cat", Comparison(absolute=9), "different"),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, EXACT, "same"),
        ({"a": 1}, {"a": 1, "b": None}, EXACT, "different"),
        ([1, 2], [1, 2, 3], EXACT, "different"),
        (1.0, 1.0 + 1e-9, EXACT, "different"),
        (1.0, 1.0 + 1e-9, Comparison(absolute=1e-8), "same"),
        (0.4, 0.3, Comparison(absolute=0.1), "same"),
        (0.41, 0.3, Comparison(absolute=0.1), "different"),
        (100.0, 101.0, Comparison(relative=0.01), "same"),
        (100.0, 102.0, Comparison(relative=0.01), "different"),
        (100.0, 102.0, Comparison(absolute=2, relative=0.01), "same"),
        (2**53, 2**53 + 1, EXACT, "different"),
        (2**53, 2**53 + 1, Comparison(absolute=0.5), "different"),
        (2**53, 2**53 + 1, Comparison(absolute=1), "same"),
        (2**53 + 1, float(2**53), EXACT, "different"),
        (10**400, 1.0, Comparison(absolute=1e9, relative=0.5), "different"),
        (10**400, 10**400 + 1, Comparison(relative=1e-9), "same"),
        (math.nan, math.nan, EXACT, "same"),
        (math.nan, 0.0, Comparison(absolute=1e9), "different"),
        (math.inf, math.inf, EXACT, "same"),
        (math.inf, 1e308, Comparison(absolute=1e9, relative=1.0), "different"),
        (math.inf, -math.inf, Comparison(relative=1.0), "different"),
    ],
)
def test_what_is_the_same(one: Any, other: Any, how: Comparison, expected: str) -> None:
    assert (word(one, other, how), word(other, one, how)) == (expected, expected)


@pytest.mark.parametrize(
    ("one", "other", "path", "expected", "note"),
    [
        ({"p": [1, 9], "t": 1}, {"p": [1, 8], "t": 2}, "p.0", "same", ""),
        ({"p": [1, 9]}, {"p": [1, 8]}, "p.-1", "different", "p.-1: numbers differ by 1 (tolerance 0)"),
        ({"p": {"0": "x"}}, {"p": {"0": "y"}}, "p.0", "different", "p.0: texts differ"),
        ({"p": [1]}, {"q": [1]}, "p.0", "different", "p.0: only one of the answers has it"),
        ({"q": 1}, {"q": 1}, "p", "unknown", NO_PATH),
        ([1], [1], "1", "unknown", NO_PATH),
        (1, 1, "0", "unknown", NO_PATH),
    ],
)
def test_a_path_picks_a_part(one: Any, other: Any, path: str, expected: str, note: str) -> None:
    found = compare(json.dumps(one).encode(), json.dumps(other).encode(), Comparison(path))
    assert (found.word, found.note) == (expected, note)


def test_what_is_no_json_is_compared_byte_by_byte() -> None:
    assert compare(b"\xff\x00", b"\xff\x00", EXACT).word == "same"
    assert (
        compare(b"yes", b"no!", Comparison(absolute=1e9)).note
        == "the bodies differ: 3 and 3 bytes, neither of them JSON"
    )
    assert compare(b"yes", b"1", EXACT).note == "only one of the answers is JSON"
    assert compare(b"yes", b"yes", Comparison("a")).note == NO_PATH
    assert compare(b"", b"", EXACT).word == "same"


def test_depth_and_size_are_survived() -> None:
    deep, other = b"[" * 100_000 + b"]" * 100_000, b"[" * 90_000 + b"]" * 90_000
    assert compare(deep, deep, EXACT).word == "same"
    assert compare(deep, other, EXACT).note == UNREADABLE
    level = b"[" * 400 + b"%s" + b"]" * 400
    assert compare(level % b"1", level % b"2", EXACT).word == "different"
    many = json.dumps([0.5] * 20_000).encode()
    assert compare(many, many.replace(b"0.5]", b"0.75]"), EXACT).note == "19999: numbers differ by 0.25 (tolerance 0)"
    assert compare(b"9" * 9_000, b"8" * 9_000, EXACT).word == "different"


def test_notes_repeat_nothing() -> None:
    secret = {"label": "canary-7", "rows": [{"alice@example.org": "canary-8"}, 1.5]}
    found = compare(
        json.dumps(secret).encode(),
        json.dumps({"label": "canary-7", "rows": [{"alice@example.org": "canary-9"}, 1.5]}).encode(),
        EXACT,
    )
    assert found.note == "rows.0.*: texts differ"
    changes = [{**secret, "label": 1}, {**secret, "rows": 1}, {**secret, "canary": 1}, "canary-6", None]
    for change in changes:
        note = compare(json.dumps(secret).encode(), json.dumps(change).encode(), EXACT).note
        assert note
        assert "canary" not in note
        assert "alice" not in note


def test_a_comparison_is_described_as_a_person_would() -> None:
    assert described(Comparison("predictions.0", 1e-6)) == "predictions.0 within 1e-06"
    assert described(Comparison(None, 0.5, 0.01)) == "the whole answer within 0.5 or 1%"
    assert described(EXACT) == "the whole answer exactly equal"


@given(BODIES, BODIES, HOWS)
def test_symmetric_and_never_an_error(one: bytes, other: bytes, how: Comparison) -> None:
    assert compare(one, other, how).word == compare(other, one, how).word


@given(BODIES, HOWS)
def test_reflexive(body: bytes, how: Comparison) -> None:
    assert compare(body, body, how).word in ({"same"} if how.path is None else {"same", "unknown"})


@given(VALUES, VALUES, HOWS, TOLERANCES, TOLERANCES)
def test_a_wider_tolerance_never_separates(one: Any, other: Any, how: Comparison, more: float, again: float) -> None:
    wider = Comparison(how.path, how.absolute + more, how.relative + again)
    if word(one, other, how) == "same":
        assert word(one, other, wider) == "same"


@given(NUMBERS, NUMBERS, st.floats(1e-9, 1e3))
def test_what_is_clearly_farther_apart_is_different(one: float, other: float, absolute: float) -> None:
    if math.isfinite(one) and math.isfinite(other) and abs(one) < 1e9 and abs(other) < 1e9:
        apart = abs(one - other)
        if apart > absolute * 1.001 + 1e-6:
            assert word(one, other, Comparison(absolute=absolute)) == "different"
        if apart <= absolute:
            assert word(one, other, Comparison(absolute=absolute)) == "same"
