"""Quantities: what a person may write, what the code holds, and that what is shown can be written again."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from plans import units

WRITTEN = [
    (units.parse_share, "10%", 100),
    (units.parse_share, "0.5 %", 5),
    (units.parse_share, "100%", 1000),
    (units.parse_share, "12.30%", 123),
    (units.parse_rate, "2%", 0.02),
    (units.parse_rate, "0.05%", 0.0005),
    (units.parse_duration, "0", 0.0),
    (units.parse_duration, "30s", 30.0),
    (units.parse_duration, "1h30m", 5400.0),
    (units.parse_duration, "2d", 172800.0),
    (units.parse_duration, "250ms", 0.25),
    (units.parse_latency, "250ms", 250_000),
    (units.parse_latency, "1.5s", 1_500_000),
    (units.parse_latency, "800 us", 800),
    (units.parse_frequency, "200/s", 200.0),
    (units.parse_frequency, "30/m", 0.5),
    (units.parse_ratio, "1.5", 1.5),
    (units.parse_ratio, "2x", 2.0),
    (units.parse_quantile, "p95", 0.95),
    (units.parse_quantile, "p99.9", 0.999),
    (units.parse_load, "500", 500),
    (units.parse_load, "5/s", 5.0),
]

REFUSED = [
    (units.parse_share, "10", "`10` is not a share of traffic: write a percentage such as 10% or 0.5%"),
    (units.parse_share, "100.1%", "`100.1%` is more than 100%"),
    (units.parse_share, "0.25%", "`0.25%` is too fine: shares of traffic go in steps of 0.1%"),
    (units.parse_rate, "-1%", "`-1%` is not a rate: write a percentage such as 2% or 0.05%"),
    (units.parse_rate, "101%", "`101%` is more than 100%"),
    (units.parse_duration, "10", "`10` is not a duration: write 30s, 10m, 1h30m or 2d"),
    (units.parse_duration, "1m1m", "`1m1m` is not a duration: write 30s, 10m, 1h30m or 2d"),
    (units.parse_duration, "367d", "`367d` is longer than a year"),
    (units.parse_latency, "0ms", "`0ms` is out of range: a latency is more than 0 and at most 3600s"),
    (units.parse_latency, "٣ms", "`٣ms` is not a latency: write 250ms, 1.5s or 800us"),
    (units.parse_frequency, "0/s", "`0/s` is out of range: a frequency is from 1/h to 1000000/s"),
    (units.parse_frequency, "1000001/s", "`1000001/s` is out of range: a frequency is from 1/h to 1000000/s"),
    (units.parse_ratio, "nan", "`nan` is not a ratio: write a number such as 1.5"),
    (units.parse_quantile, "p10", "`p10` is not a quantile: write p50, p95, p99 or any up to p99.9"),
    (units.parse_load, "0", "`0` is out of range: a count is from 1 to 1000000"),
]

PARSERS = sorted({parse for parse, _, _ in WRITTEN}, key=lambda parse: parse.__name__)


@pytest.mark.parametrize(("parse", "text", "inner"), WRITTEN)
def test_what_is_written_becomes_the_inner_form(parse, text, inner):
    assert parse(text) == inner
    assert type(parse(text)) is type(inner)


@pytest.mark.parametrize(("parse", "text", "message"), REFUSED)
def test_a_refusal_says_what_to_write(parse, text, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        parse(text)


@pytest.mark.parametrize("parse", PARSERS)
@given(text=st.text() | st.from_regex(r"p?[0-9.]{1,60}(%|ms|s|/s|x|h|d)?"))
def test_any_text_is_a_number_or_a_sentence(parse, text):
    try:
        number, sentence = parse(text), ""
    except ValueError as error:
        number, sentence = 0, str(error)
    assert 0 <= number < float("inf")
    assert len(sentence) < 140
    assert "\n" not in sentence


@pytest.mark.parametrize("parse", PARSERS)
def test_a_very_long_text_is_refused_without_being_searched(parse):
    with pytest.raises(ValueError, match=r"\.\.\."):
        parse("1" * 1_000_000)


@pytest.mark.parametrize("parse", PARSERS)
def test_numbers_are_already_in_the_inner_form(parse):
    assert parse(7) == 7
    assert parse(0.25) == 0.25


@given(st.integers(0, 1000))
def test_a_shown_share_is_the_share(tenths):
    assert units.parse_share(units.show_share(tenths)) == tenths


@given(st.floats(1e-12, 1))
def test_a_shown_rate_is_near_the_rate_and_never_zero(rate):
    shown = units.show_rate(rate)
    assert units.parse_rate(shown) == pytest.approx(rate, rel=0.051)
    assert units.parse_rate(shown) > 0


@given(st.floats(0.005, 300 * 86400))
def test_a_shown_duration_is_near_the_duration(seconds):
    assert units.parse_duration(units.show_duration(seconds)) == pytest.approx(seconds, rel=0.21)


@given(st.integers(0, 59), st.integers(0, 23))
def test_two_units_are_shown_exactly(minutes, hours):
    seconds = hours * 3600.0 + minutes * 60
    assert units.parse_duration(units.show_duration(seconds)) == seconds


@given(st.integers(1, 3600 * 1_000_000))
def test_a_shown_latency_has_three_digits(microseconds):
    assert units.parse_latency(units.show_latency(microseconds)) == pytest.approx(microseconds, rel=0.0051)


@given(st.integers(500, 999))
def test_a_shown_quantile_is_the_quantile(thousandths):
    assert units.parse_quantile(units.show_quantile(thousandths / 1000)) == pytest.approx(thousandths / 1000)


EXACT = [
    (units.write_rate, units.parse_rate, st.floats(1e-9, 1)),
    (units.write_duration, units.parse_duration, st.floats(1e-9, 3e7) | st.integers(0, 31_000_000).map(float)),
    (units.write_latency, units.parse_latency, st.integers(1, 3600 * 1_000_000)),
    (units.write_frequency, units.parse_frequency, st.floats(1 / 3600, 1e6)),
    (units.write_ratio, units.parse_ratio, st.floats(1e-9, 1000)),
    (units.write_quantile, units.parse_quantile, st.integers(500_000, 999_000).map(lambda n: n / 1_000_000)),
    (units.show_share, units.parse_share, st.integers(0, 1000)),
]


@pytest.mark.parametrize(("write", "parse", "numbers"), EXACT, ids=[write.__name__ for write, _, _ in EXACT])
@given(data=st.data())
def test_what_is_written_is_read_exactly(write, parse, numbers, data):
    number = data.draw(numbers)
    text = write(number)
    assert parse(text) == number
    assert write(parse(text)) == text


@given(st.from_regex(r"[1-9][0-9]{0,5}(\.[0-9]{1,6})?/(s|m|h)", fullmatch=True))
def test_whatever_frequency_was_read_can_be_written(text):
    try:
        read = units.parse_frequency(text)
    except ValueError:
        return
    assert units.parse_frequency(units.write_frequency(read)) == read


@pytest.mark.parametrize(
    ("written", "text"),
    [
        (units.write_rate(0.0005), "0.05%"),
        (units.write_rate(1.0), "100%"),
        (units.write_rate(0.0), "0%"),
        (units.write_duration(0.0), "0s"),
        (units.write_duration(0.25), "250ms"),
        (units.write_duration(0.0001), "0.0001s"),
        (units.write_duration(90.5), "1m30.5s"),
        (units.write_duration(86400.0), "1d"),
        (units.write_duration(5400.0), "1h30m"),
        (units.write_latency(800), "800us"),
        (units.write_latency(41_500), "41.5ms"),
        (units.write_latency(1_500_000), "1.5s"),
        (units.write_frequency(200.0), "200/s"),
        (units.write_frequency(1 / 60), "1/m"),
        (units.write_frequency(10 / 3600), "10/h"),
        (units.write_ratio(1.1), "1.1"),
        (units.write_quantile(0.999), "p99.9"),
    ],
)
def test_numbers_are_written_in_the_words_of_plans(written, text):
    assert written == text


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (units.show_rate(0.0214), "2.1%"),
        (units.show_rate(0.0), "0%"),
        (units.show_rate(0.9996), "100%"),
        (units.show_duration(0), "0s"),
        (units.show_duration(0.25), "250ms"),
        (units.show_duration(9.97), "10s"),
        (units.show_duration(90061), "1d1h"),
        (units.show_latency(41_000), "41 ms"),
        (units.show_latency(999_999), "1 s"),
        (units.show_latency(3600e6), "3600 s"),
    ],
)
def test_numbers_are_shown_as_people_write_them(shown, text):
    assert shown == text


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Asia/Tokyo"])
def test_a_known_zone_is_taken_as_it_is(zone: str) -> None:
    assert TypeAdapter(units.Zone).validate_python(zone) == zone


@pytest.mark.parametrize("zone", ["Nope/Nope", "", "../etc/passwd", "/etc/localtime", "UTC\x00"])
def test_an_unknown_zone_is_refused_in_one_sentence(zone: str) -> None:
    with pytest.raises(ValidationError, match="is no time zone: write a name such as Europe/Berlin"):
        TypeAdapter(units.Zone).validate_python(zone)
