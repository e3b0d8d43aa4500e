"""Lines as Envoy may write them, read in pieces: what is told is the same, and never told too early."""

import json
import random
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.local import pair_log
from providers.local.pair_log import Place
from providers.local.pairs import MOST_HALVES, Joining, Reading, Side, Sides, cut, first, since, told
from providers.measurement import RESET, TIMEOUT, Pairs

T0 = 1_800_000_000.0
GREEN = Side("green", "g1", T0 - 1000, 2.0)
BLUE = Side("blue", "b1", T0 - 1000, 3.0)
SIDES = Sides(GREEN, BLUE, 3.0)


def line(
    identity: str, cluster: str, start: float, end: float, *, status: int = 200, flags: str = "-", us: int | None = 1234
) -> bytes:
    """A line of the log."""
    fields = {"at": f"{start:.6f}", "end": f"{end:.6f}", "id": identity, "cluster": cluster, "status": status}
    return json.dumps({**fields, "flags": flags, "us": us if status and flags == "-" else None}).encode()


@dataclass
class Leg:
    end: float
    seen: float
    text: bytes


@dataclass
class Request:
    """One mirrored request.

    Attributes:
        live, copy: their lines; None where there is none.
        done: when the counters counted the copy.
        told: ("joined", class, class), ("dropped",), ("twin",) or ("left out",).
    """

    live: Leg | None
    copy: Leg | None
    done: float
    told: tuple[str, ...]


def requests(seed: int, number: int) -> list[Request]:
    """Requests of ten seconds, of every kind."""
    draw, found = random.Random(seed), []
    for index in range(number):
        start = T0 + draw.uniform(-2, 10)
        name = f"{seed}-{index}"

        def leg(
            cluster: str,
            timeout: float,
            kind: str,
            start: float = start,
            name: str = name,
        ) -> tuple[Leg, str]:
            seconds = draw.uniform(0.001, timeout * 0.85)
            more: dict[str, Any] = {}
            label = "200"
            if kind == "error":
                more, label = {"status": 503}, "503"
            elif kind == "reset":
                more, label = {"status": 0, "flags": "UC"}, RESET
            elif kind == "cut":
                more, label = {"status": 200, "flags": "UPE"}, RESET
            elif kind == "timeout":
                more, label, seconds = {"status": 0}, TIMEOUT, timeout - 0.003
            elif kind == "gone":
                more, label = {"status": 0}, ""
            end = start + seconds
            seen = end + draw.uniform(0.0, 0.6)
            return Leg(end, seen, line(name, cluster, start, end, us=draw.randrange(1, 10**7), **more)), label

        kinds = ["fine"] * 6 + ["error", "reset", "cut", "timeout"]
        copy, copied = leg("green~mirror", GREEN.timeout_s, draw.choice(kinds), start + draw.choice([0.0, 1.5]))
        where = draw.choice(["blue"] * 6 + ["red", ""])
        live, twin = leg(where or "blue", BLUE.timeout_s, draw.choice([*kinds, "gone"]))
        if draw.random() < 0.1:
            found.append(Request(live, None, copy.end, ("dropped",)))
        elif where == "red":
            found.append(Request(live, copy, copy.end, ("left out",)))
        elif not where or not twin:
            found.append(Request(live if where else None, copy, copy.end, ("twin",)))
        else:
            found.append(Request(live, copy, copy.end, ("joined", copied, twin)))
    return found


def totals(into: Counter[tuple[str, ...]], pairs: Pairs) -> None:
    for copy, twin, n in pairs.classes:
        into["joined", copy, twin] += n
    for reason, n in pairs.missing.items():
        assert n > 0
        into[(reason,)] += n
    assert sum(n for _, _, n in pairs.latencies) == pairs.joined


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 120), st.lists(st.floats(0.05, 6.0), max_size=12))
def test_however_often_it_is_read_the_same_is_told(seed: int, number: int, pauses: list[float]) -> None:
    world = requests(seed, number)
    legs = sorted((leg for one in world for leg in (one.live, one.copy) if leg), key=lambda leg: leg.seen)
    wanted = Counter(one.told for one in world if one.done >= T0 and one.told != ("left out",))

    def lines(after: float, until: float) -> list[bytes]:
        return [leg.text for leg in legs if after < leg.seen <= until]

    def copies(after: float, until: float) -> int:
        return sum(after < one.done <= until for one in world)

    joining, last, seen = first(lines(0, T0), SIDES, T0), T0, Counter[tuple[str, ...]]()
    # At the end all has long been written, and is looked at twice, as what is dropped is told one reading later.
    for pause in [*pauses, 40.0, 5.0]:
        now = last + pause
        joining = Joining.read(json.loads(json.dumps(joining.json())))
        totals(seen, since(joining, lines(last, now), SIDES, Reading(last, now, copies(last, now))))
        surely = sum(one.told == ("dropped",) and T0 <= one.done <= now for one in world)
        assert seen[("dropped",)] <= surely, "told too early"
        last = now
    assert seen == wanted
    assert not joining.live
    assert not joining.copies


def test_halves_are_bounded_and_what_is_given_up_is_said() -> None:
    surplus = 500
    joining = first([], SIDES, T0)
    alone = [line(f"c{n}", "green~mirror", T0 + 1, T0 + 1.5) for n in range(MOST_HALVES + surplus)]
    pairs = since(joining, alone, SIDES, Reading(T0, T0 + 2, len(alone)))
    assert pairs.missing == {"twin": surplus}
    assert len(joining.copies) == MOST_HALVES
    waiting = [line(f"l{n}", "blue", T0 + 1, T0 + 1.5) for n in range(MOST_HALVES + surplus)]
    assert since(joining, waiting, SIDES, Reading(T0 + 2, T0 + 3, 0)) == Pairs()
    assert len(joining.live) == MOST_HALVES
    end = since(joining, [], SIDES, Reading(T0 + 3, T0 + 60, 0))
    assert end.missing == {"twin": MOST_HALVES}
    assert (joining.live, joining.copies) == ({}, {})


def test_what_is_no_line_of_ours_is_passed_over_and_missed() -> None:
    joining = first([], SIDES, T0)
    good = line("a", "blue", T0 + 1, T0 + 2)
    copy = line("a", "green~mirror", T0 + 1, T0 + 2)
    strange = [
        b"",
        b"{",
        b"[" * 100_000,
        b"null",
        b"[1]",
        b"\xff\xfe",
        copy[:-10],
        copy.replace(b'"200"', b"{}").replace(b"200", b'"200"'),
        copy.replace(b"200", b"true"),
        copy.replace(b"1234", b"-5"),
        copy.replace(b'"id": "a"', b'"id": ["a"]'),
        copy.replace(b'"id": "a"', b'"id": "' + b"a" * 100 + b'"'),
        copy.replace(f"{T0 + 2:.6f}".encode(), b"nan"),
        copy.replace(b'"end"', b'"ends"'),
    ]
    assert since(joining, [good, *strange], SIDES, Reading(T0, T0 + 3, 1)) == Pairs()
    assert since(joining, [], SIDES, Reading(T0 + 3, T0 + 6, 0)).missing == {"dropped": 1}


def test_a_line_that_comes_too_late_is_made_up_for() -> None:
    joining = first([], SIDES, T0)
    live, copy = line("a", "blue", T0 + 1, T0 + 1.1), line("a", "green~mirror", T0 + 1, T0 + 1.1)
    assert since(joining, [live], SIDES, Reading(T0, T0 + 2.5, 1)) == Pairs()
    assert since(joining, [], SIDES, Reading(T0 + 2.5, T0 + 5, 0)).missing == {"dropped": 1}
    late = since(joining, [copy], SIDES, Reading(T0 + 5, T0 + 5.5, 0))
    assert (late.joined, late.missing) == (1, {})
    # The next one that is really dropped was told already.
    assert since(joining, [], SIDES, Reading(T0 + 5.5, T0 + 8, 1)) == Pairs()
    assert since(joining, [], SIDES, Reading(T0 + 8, T0 + 11, 0)) == Pairs()


def test_another_generation_begins_anew() -> None:
    joining = first([], SIDES, T0)
    since(joining, [line("a", "green~mirror", T0 + 1, T0 + 1.1)], SIDES, Reading(T0, T0 + 2, 1))
    reborn = Sides(Side("green", "g2", T0 + 3, 2.0), BLUE, 3.0)
    lines = [line("a", "blue", T0 + 1, T0 + 2.4), line("b", "green~mirror", T0 + 2, T0 + 3.5)]
    lines += [line("c", name, T0 + 4, T0 + 4.1) for name in ("blue", "green~mirror")]
    pairs = since(joining, lines, reborn, Reading(T0 + 2, T0 + 5, 1))
    assert (pairs.joined, pairs.missing) == (1, {})
    assert since(joining, [], reborn, Reading(T0 + 5, T0 + 60, 0)) == Pairs()


def test_lines_that_may_have_been_read_before_are_not_told_again() -> None:
    joining = first([], SIDES, T0)
    both = [line("a", name, T0 + 1, T0 + 1.1) for name in ("blue", "green~mirror")]
    assert since(joining, both, SIDES, Reading(T0, T0 + 2, 1)).joined == 1
    assert since(joining, both, SIDES, Reading(T0 + 2, T0 + 4, 0, gap=True)) == Pairs()


@given(st.integers(0, 10**9), st.integers(1, 5))
def test_a_latency_is_cut_to_its_digits(us: int, digits: int) -> None:
    short = cut(us, digits)
    assert short <= us < short + 10 ** max(len(str(us)) - digits, 0)
    assert len(str(short).rstrip("0")) <= digits


def test_many_latencies_are_told_with_fewer_digits() -> None:
    draw = random.Random(1)
    latencies = [(draw.randrange(100_000, 200_000), draw.randrange(100_000, 200_000)) for _ in range(4_000)]
    joined = [(("200", copy, T0), ("200", twin, T0)) for copy, twin in latencies]
    few, many = told(joined[:1_000], {}), told(joined, {})
    assert (few.digits, many.digits) == (3, 2)
    assert len(few.latencies) > 900
    assert len(many.latencies) <= 100
    assert many.joined == 4_000 == sum(n for _, _, n in many.latencies)


# The file


def numbers(lines: tuple[bytes, ...]) -> list[int]:
    return [int(text.split()[0]) for text in lines]


def written(*which: int) -> bytes:
    return b"".join(f"{number} {'x' * 100}\n".encode() for number in which)


def test_a_half_written_line_waits_for_its_end(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert pair_log.end(log, 1000).place == Place()
    assert pair_log.since(log, Place()).lines == ()
    log.write_bytes(written(1, 2) + written(3)[:50])
    read = pair_log.since(log, Place())
    assert (numbers(read.lines), read.gap) == ([1, 2], False)
    with log.open("ab") as file:
        file.write(written(3)[50:])
    read = pair_log.since(log, read.place)
    assert numbers(read.lines) == [3]
    assert pair_log.since(log, read.place).lines == ()
    assert numbers(pair_log.end(log, 250).lines) == [2, 3]
    assert pair_log.end(log, 250).place == read.place


def test_a_renamed_file_is_read_to_its_end_first(tmp_path: Path) -> None:
    log, older = tmp_path / "log", tmp_path / "log.1"
    log.write_bytes(written(1, 2))
    place = pair_log.since(log, Place()).place
    with log.open("ab") as file:
        log.rename(older)
        file.write(written(3))
        file.flush()
        read = pair_log.since(log, place)
        assert (numbers(read.lines), read.gap) == ([3], False)
        file.write(written(4))
    log.write_bytes(written(5))
    for start, expected in ((place, [3, 4, 5]), (read.place, [4, 5])):
        after = pair_log.since(log, start)
        assert (numbers(after.lines), after.gap) == (expected, False)
    with log.open("ab") as file:
        file.write(written(6))
    assert numbers(pair_log.since(log, after.place).lines) == [6]


@pytest.mark.parametrize("shorter", [b"", written(7)])
def test_a_place_that_is_gone_is_a_gap(tmp_path: Path, shorter: bytes) -> None:
    log, older = tmp_path / "log", tmp_path / "log.1"
    log.write_bytes(written(1, 2, 3))
    place = pair_log.since(log, Place()).place
    log.write_bytes(shorter)
    read = pair_log.since(log, place)
    assert (read.gap, numbers(read.lines)) == (True, [7] if shorter else [])
    # Rotated twice since; the inode may be the same again, the beginning is not.
    older.write_bytes(written(4, 5, 6))
    log.write_bytes(written(8, 9, 10, 11))
    read = pair_log.since(log, place)
    assert (read.gap, numbers(read.lines)) == (True, [4, 5, 6, 8, 9, 10, 11])
    assert not pair_log.since(log, read.place).gap
