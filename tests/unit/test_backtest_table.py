"""The CSV file of a recording: what it means, and one sentence with its line for each way to get it wrong."""

import io
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.backtest import table
from orchestrator.backtest.columns import Unusable
from orchestrator.backtest.table import read, recording_of
from orchestrator.errors import Refused
from orchestrator.standing import Roles, Split
from providers.measurement import Histogram

ROLES = Roles("green", "blue", Split({"blue": 1000}))
HEAD = "minute,deployment,source,requests,errors"
GOOD = f"""{HEAD},le_50ms,le_100ms,le_inf
2026-11-22T17:00Z,blue,live,900,9,500,800,890
2026-11-22T17:00Z,green,live,100,2,50,90,99
2026-11-22T17:01Z,blue,live,900,9,500,800,890
2026-11-22T17:01Z,green,live,100,2,,,
"""


def recorded(text: str, **given):
    return recording_of(text, "x.csv", ROLES, **({"candidate": None, "stable": None, "gaps": False} | given))


def test_what_the_columns_mean():
    found = recorded(GOOD)
    first, second = found.windows
    assert (first.measurement.start, first.measurement.end) == (
        datetime(2026, 11, 22, 17, 0, tzinfo=UTC),
        datetime(2026, 11, 22, 17, 1, tzinfo=UTC),
    )
    assert (first.number, first.live, first.mirrored, second.number) == (1, True, False, 2)
    green = first.measurement.leg("green", "live")
    assert (green.requests, sum(green.classes.values()), green.classes["500"]) == (100, 100, 2)
    # 9 are slower than 100 ms, and nobody knows how much; one got no answer at all.
    assert green.latency == Histogram(((0, 50_000, 50), (50_000, 100_000, 40), (100_000, table.SLOWEST, 9)), above=1)
    assert green.latency.count == 100
    assert second.measurement.leg("green", "live").latency is None
    assert not found.classes


def test_statuses_and_windows_of_any_length():
    found = recorded(
        "start,end,deployment,source,requests,status_200,status_503,status_timeout,le_100ms\n"
        "2026-11-22T17:00:00+01:00,2026-11-22T17:00:30+01:00,blue,live,10,9,1,0,8\n"
        "2026-11-22T17:00:00+01:00,2026-11-22T17:00:30+01:00,green,mirror,10,7,1,2,8\n"
    )
    (window,) = found.windows
    assert (window.mirrored, window.live, found.classes) == (True, False, True)
    assert window.measurement.start == datetime(2026, 11, 22, 16, 0, tzinfo=UTC)
    green = window.measurement.leg("green", "mirror")
    assert green.classes == {"200": 7, "503": 1, "timeout": 2}
    assert green.latency == Histogram(((0, 100_000, 8),), above=2)


def test_other_names_stand_for_those_of_the_plan():
    text = GOOD.replace("green", "v8").replace("blue", "v7")
    found = recorded(text, candidate="v8", stable="v7")
    assert {leg.deployment for leg in found.windows[0].measurement.legs} == {"green", "blue"}
    assert (found.candidate, found.stable) == ("v8", "v7")
    assert found.notes == (
        "x.csv calls the candidate green v8",
        "x.csv calls the stable deployment blue v7",
    )


def test_gaps_are_taken_when_somebody_says_so():
    text = GOOD.replace("17:01Z", "17:09Z")
    assert len(recorded(text, gaps=True).windows) == 2
    assert recorded(text, gaps=True).notes == ("the recording lacks windows in 1 place; its clocks stand still there",)


def row(cells: str, head: str = HEAD) -> str:
    return f"{head}\n{cells}\n"


BAD = {
    "is empty; its first line must name the columns: minute,deployment,source,requests,errors": (0, ""),
    "has no rows below its header; write one for each minute, deployment and source": (0, HEAD),
    "names the column errors twice": (1, row("", f"{HEAD},errors")),
    "has a column `p95`, which means nothing here": (1, row("", f"{HEAD},p95")),
    "has no column source; there are minute": (1, row("", "minute,deployment,requests,errors")),
    "has minute beside start or end; give either minute, or start and end": (1, row("", f"{HEAD},start")),
    "does not say when; give a column minute, or start and end": (1, row("", "deployment,source,requests,errors")),
    "needs errors or status_<code> columns, and not both": (1, row("", f"{HEAD},status_200")),
    "has a column `status_5xx`; write status_ and one code, as in status_503": (1, row("", f"{HEAD},status_5xx")),
    "has latency columns that do not ascend": (1, row("", f"{HEAD},le_100ms,le_50ms")),
    "has le_inf, which belongs after other le_<latency> columns": (1, row("", f"{HEAD},le_inf,le_50ms")),
    "column `le_50`: `50` is not a latency": (1, row("", f"{HEAD},le_50")),
    "has 4 values, and the header has 5": (2, row("2026-11-22T17:00Z,green,live,1")),
    "minute is `17:00`; write a time such as 2026-11-22T17:00:00Z": (2, row("17:00,green,live,1,0")),
    "minute is `2026-11-22T17:00`, without a zone": (2, row("2026-11-22T17:00,green,live,1,0")),
    "minute is `0001-01-01T00:00Z`; write a time since 1970": (2, row("0001-01-01T00:00Z,green,live,1,0")),
    "names no deployment": (2, row("2026-11-22T17:00Z,,live,1,0")),
    "source is `shadow`; write live or mirror or direct": (2, row("2026-11-22T17:00Z,green,shadow,1,0")),
    "requests is `-1`; write a whole number from 0 on": (2, row("2026-11-22T17:00Z,green,live,-1,0")),
    "requests is `1.5`; write a whole number from 0 on": (2, row("2026-11-22T17:00Z,green,live,1.5,0")),
    "requests is `NaN`; write a whole number from 0 on": (2, row("2026-11-22T17:00Z,green,live,NaN,0")),
    "errors is ``; write a whole number from 0 on": (2, row("2026-11-22T17:00Z,green,live,1,")),
    "has more errors (2) than requests (1)": (2, row("2026-11-22T17:00Z,green,live,1,2")),
    "has 3 requests, and its status columns add up to 2": (
        2,
        row("2026-11-22T17:00Z,green,live,3,2", "minute,deployment,source,requests,status_200"),
    ),
    "le_100ms is 4, less than le_50ms with 5; the columns are cumulative, as Prometheus's le is": (
        2,
        row("2026-11-22T17:00Z,green,live,9,0,5,4", f"{HEAD},le_50ms,le_100ms"),
    ),
    "le_50ms is 10, more than its 9 requests": (2, row("2026-11-22T17:00Z,green,live,9,0,10", f"{HEAD},le_50ms")),
    "le_50ms is ``; write a whole number": (2, row("2026-11-22T17:00Z,green,live,9,0,,9", f"{HEAD},le_50ms,le_inf")),
    "ends at 2026-11-22T17:00Z, which is not after its start": (
        2,
        row(
            "2026-11-22T17:00Z,2026-11-22T17:00Z,green,live,1,0",
            "start,end,deployment,source,requests,errors",
        ),
    ),
    "begins at 2026-11-22T16:59:00Z, before the row above it; sort the rows by time": (
        4,
        GOOD.replace("17:01Z", "16:59Z"),
    ),
    "begins at 2026-11-22T17:00:30Z, while the window of line 2 lasts until 2026-11-22T17:01:00Z": (
        4,
        GOOD.replace("17:01Z", "17:00:30Z"),
    ),
    "blue (live) has this window in line 2 already": (4, GOOD.replace("17:01Z", "17:00Z")),
    "nothing is recorded between 2026-11-22T17:01:00Z and 2026-11-22T17:02:00Z": (4, GOOD.replace("17:01Z", "17:02Z")),
    "no row is about green, the candidate, but about blue; say --candidate NAME": (
        0,
        row("2026-11-22T17:00Z,blue,live,1,0"),
    ),
    "no row is about blue, the stable, but about green; say --stable NAME": (
        0,
        row("2026-11-22T17:00Z,green,live,1,0"),
    ),
    "green has only direct requests": (
        0,
        row("2026-11-22T17:00Z,green,direct,1,0\n2026-11-22T17:00Z,blue,live,1,0"),
    ),
    "is not CSV": (2, row('2026-11-22T17:00Z,"green"x,live,1,0')),
}


@pytest.mark.parametrize("sentence", BAD)
def test_what_is_wrong_is_one_sentence_with_its_line(sentence: str) -> None:
    line, text = BAD[sentence]
    with pytest.raises(Unusable) as problem:
        recorded(text)
    assert str(problem.value).startswith(sentence)
    assert problem.value.line == line
    assert "\n" not in str(problem.value)


def test_the_stable_deployment_of_a_plan_without_one_is_of_no_interest():
    roles = Roles("green", None, Split())
    found = recording_of(
        row("2026-11-22T17:00Z,green,live,1,0"), "x.csv", roles, candidate=None, stable=None, gaps=False
    )
    assert found.stable is None


# --- files ---


def test_a_byte_order_mark_and_windows_line_ends_are_no_mistake(tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    file.write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert len(read(file, ROLES, candidate=None, stable=None, gaps=False).windows) == 2


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (GOOD.encode("utf-16"), "x.csv:1: is not UTF-8 text; save it as CSV in UTF-8"),
        (GOOD.replace("17:01Z,blue", "17:01Z,bl\xfce").encode("latin-1"), "x.csv:4: is not UTF-8 text"),
        (GOOD.encode().replace(b"900,9,500", b"900,9,\x00"), "x.csv:2: "),
        (GOOD.replace("900,9", "900,nine").encode(), "x.csv:2: errors is `nine`; write a whole number from 0 on"),
    ],
)
def test_the_file_and_the_line_are_named(tmp_path: Path, content: bytes, told: str) -> None:
    file = tmp_path / "x.csv"
    file.write_bytes(content)
    with pytest.raises(Refused) as refused:
        read(file, ROLES, candidate=None, stable=None, gaps=False)
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


def test_what_is_no_file_or_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Refused, match="cannot be read \\(Is a directory\\)"):
        read(tmp_path, ROLES, candidate=None, stable=None, gaps=False)
    monkeypatch.setattr(table, "MOST_ROWS", 3)
    with pytest.raises(Unusable, match="more than 3 rows; cut it to the time of one rollout") as refused:
        recorded(GOOD)
    assert refused.value.line == 5


# --- any text ---

CELLS = st.one_of(
    st.sampled_from(
        ["2026-11-22T17:00Z", "2026-11-22T17:01Z", "green", "blue", "live", "mirror", "direct", "0", "1", "7", "", '"']
    ),
    st.text(max_size=6),
)
NAMES = st.one_of(
    st.sampled_from(
        ["minute", "start", "end", "deployment", "source", "requests", "errors", "status_200", "status_503"]
    ),
    st.sampled_from(["status_timeout", "le_5ms", "le_1s", "le_inf", "le_0ms", "x"]),
)


@st.composite
def texts(draw: st.DrawFn) -> str:
    head = draw(st.one_of(st.just(HEAD.split(",")), st.lists(NAMES, max_size=9), st.permutations(HEAD.split(","))))
    rows = draw(st.lists(st.lists(CELLS, min_size=max(0, len(head) - 1), max_size=len(head)), max_size=5))
    return "\n".join(",".join(cells) for cells in [head, *rows])


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(max_size=200), texts()))
def test_any_text_is_a_recording_or_a_sentence(text: str) -> None:
    found, problem = None, None
    try:
        found = recorded(text)
    except Unusable as unusable:
        problem = unusable
    if found is None:
        assert problem is not None
        assert str(problem)
        assert "\n" not in str(problem)
        assert 0 <= problem.line <= text.count("\n") + text.count("\r") + 1
        return
    for window in found.windows:
        for leg in window.measurement.legs:
            assert sum(leg.classes.values()) == leg.requests
            assert leg.latency is None or leg.latency.count == leg.requests


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 500), st.integers(0, 500), *[st.integers(0, 50)] * 4, st.booleans()),
        min_size=1,
        max_size=20,
    )
)
def test_what_is_written_is_what_is_read(minutes: list[tuple[int, int, int, int, int, int, bool]]) -> None:
    start = datetime(2026, 11, 22, 17, 0, tzinfo=UTC)
    out = io.StringIO()
    out.write("start,end,deployment,source,requests,status_200,status_500,le_50ms,le_100ms,le_inf\n")
    for at, (good, bad, *latencies, mirrored) in enumerate(minutes):
        window = f"{(start + timedelta(minutes=at)).isoformat()},{(start + timedelta(minutes=at + 1)).isoformat()}"
        first, second, rest, silent = latencies
        count = first + second + rest + silent
        cells = [count, 0, count, first, first + second, first + second + rest]
        out.write(f"{window},blue,live,{good + bad},{good},{bad},,,\n")
        out.write(f"{window},green,{'mirror' if mirrored else 'live'},{','.join(map(str, cells))}\n")
    found = recorded(out.getvalue())
    assert len(found.windows) == len(minutes)
    for window, (good, bad, first, second, rest, silent, mirrored) in zip(found.windows, minutes, strict=True):
        blue = window.measurement.leg("blue", "live")
        assert (blue.classes.get("200", 0), blue.classes.get("500", 0), blue.latency) == (good, bad, None)
        green = window.measurement.leg("green", "mirror" if mirrored else "live")
        slots = [(0, 50_000, first), (50_000, 100_000, second), (100_000, table.SLOWEST, rest)]
        assert green.latency == Histogram(tuple(slot for slot in slots if slot[2]), silent)
        assert (window.mirrored, window.live) == (mirrored, not mirrored)
