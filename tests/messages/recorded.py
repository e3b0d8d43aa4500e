"""What is said of recordings that `rollout backtest` cannot use: of the file, of its header, of a row, of a rollout."""

from collections.abc import Callable
from typing import Any

from orchestrator.backtest import table
from orchestrator.backtest.columns import KNOWN
from tests.messages.bench import PLAN, Bench, shop
from tests.messages.entry import Message

ROW = "backtest.table.read"
HEAD = "minute,deployment,source,requests,errors"
STATUSES = "minute,deployment,source,requests,status_200"
GATED = """\
  - deploy: green
  - canary: 10%
    gates: [errors]
gates:
  errors: {metric: error_rate, max: 5%}
"""
THERE = f"«there are {KNOWN}»"


def gated(bench: Bench) -> None:
    """A plan with something to replay."""
    bench.write("plan.yml", PLAN.replace("deployments:", "stable: blue\ndeployments:") + GATED)


def file(text: str | bytes) -> Callable[[Bench], None]:
    """A recording beside the plan."""

    def arrange(bench: Bench) -> None:
        gated(bench)
        (bench.folder / "traffic.csv").write_bytes(text if isinstance(text, bytes) else text.encode())

    return arrange


def row(cells: str, head: str = HEAD) -> str:
    """A file of one row, with one of stable after it."""
    return f"{head}\n{cells}\n"


def recorded(marked: str, when: str, text: str | bytes, *, line: int | None = None) -> Message:
    """A file that is refused."""
    place = "traffic.csv" if line is None else f"traffic.csv:{line}"
    cause = shop("backtest plan.yml --from traffic.csv", file(text))
    return Message(ROW, f"a recording as CSV: {when}", cause, f"{place}: {marked}")


def two(first: str, second: str, *more: str) -> str:
    """Rows of blue and green."""
    return "\n".join([HEAD, f"{first},blue,live,9,0", f"{second},green,live,1,0", *more])


def large(bench: Bench) -> None:
    """Without writing so much."""
    file(row("2026-11-22T17:00Z,green,live,1,0"))(bench)
    bench.patch(table, "LARGEST", 10)


def long(bench: Bench) -> None:
    """Without writing so much."""
    file(two("2026-11-22T17:00Z", "2026-11-22T17:00Z"))(bench)
    bench.patch(table, "MOST_ROWS", 1)


def folder(bench: Bench) -> None:
    """Of that name."""
    gated(bench)
    (bench.folder / "home").mkdir()


def unmeasured(bench: Bench) -> None:
    """A rollout without gates."""
    bench.do("run plan.yml")
    gated(bench)


def command(line: str, marked: str, when: str, where: str, arrange: Callable[[Bench], Any] = gated) -> Message:
    """A command line that is refused."""
    return Message(where, when, shop(line, arrange), marked)


FROM = "backtest plan.yml --from"
ENTRIES = [
    command(
        f"{FROM} nothing",
        "there is no file nothing, and there is no rollout nothing; «the newest are: there is none yet»",
        "backtest, from what is neither a file nor a rollout",
        "cli.backtest.backtest_command",
    ),
    command(
        f"{FROM} nothing --gaps --stable v7",
        "--stable and --gaps are for a CSV file, and there is no file nothing «(see rollout backtest --help)»",
        "backtest with a word about a file, from a rollout",
        "cli.backtest.backtest_command",
    ),
    Message(
        "cli.backtest._gated",
        "backtest of a plan that judges nothing",
        shop(f"{FROM} traffic.csv", lambda bench: bench.write("traffic.csv", HEAD)),
        "plan.yml has no step with gates, so there is nothing to replay; «add `gates` to one»",
    ),
    command(
        f"{FROM} shop",
        "nothing was measured in <id>, so there is nothing to replay: it had no gated step, or ended before one; "
        "«`rollout list` shows others»",
        "backtest, from a rollout without gates",
        "backtest.kept.kept",
        unmeasured,
    ),
    command(
        f"{FROM} home",
        "home: cannot be read (Is a directory); «name a CSV file or a rollout with --from»",
        "backtest, from a folder",
        ROW,
        folder,
    ),
    command(
        f"{FROM} traffic.csv",
        "traffic.csv: larger than 0 MB; «cut it to the time of one rollout»",
        "a recording as CSV: too large a file",
        ROW,
        large,
    ),
    command(
        f"{FROM} traffic.csv",
        "traffic.csv:3: more than 1 rows; «cut it to the time of one rollout»",
        "a recording as CSV: too many rows",
        ROW,
        long,
    ),
    recorded(
        "is not UTF-8 text; «save it as CSV in UTF-8»",
        "in another encoding",
        (HEAD + "\n2026-11-22T17:00Z,gr\xfcn,live,1,0\n").encode("latin-1"),
        line=2,
    ),
    recorded(
        "is not CSV (unexpected end of data); «write commas between values, and quotes in pairs»",
        "a quote that nothing closes",
        row('2026-11-22T17:00Z,"green,live,1,0'),
        line=2,
    ),
    # --- the header ---
    recorded(f"is empty; «its first line must name the columns: {HEAD}»", "nothing in it", ""),
    recorded("has no rows below its header; «write one for each minute, deployment and source»", "only a header", HEAD),
    recorded(
        f"has a column `p95`, which means nothing here; {THERE}", "a column too many", row("", f"{HEAD},p95"), line=1
    ),
    recorded(
        "names the column errors twice; «take one of them out»", "a column twice", row("", f"{HEAD},errors"), line=1
    ),
    recorded(f"has no column source; {THERE}", "a column too few", row("", "minute,deployment,requests"), line=1),
    recorded(
        "does not say when; «give a column minute, or start and end»",
        "no time",
        row("", "deployment,source,requests,errors"),
        line=1,
    ),
    recorded(
        "has minute beside start or end; «give either minute, or start and end»",
        "two times",
        row("", f"{HEAD},start"),
        line=1,
    ),
    recorded(
        "«needs errors or status_<code> columns, and not both»: it has both",
        "errors in two forms",
        row("", f"{HEAD},status_200"),
        line=1,
    ),
    recorded(
        "has a column `status_5xx`; «write status_ and one code, as in status_503, or status_timeout, status_reset; "
        "where only the number of errors is known, a column errors»",
        "a class of statuses",
        row("", "minute,deployment,source,requests,status_5xx"),
        line=1,
    ),
    recorded(
        "column `le_50`: `50` is not a latency: «write 250ms, 1.5s or 800us, as in le_250ms»",
        "a bound without a unit",
        row("", f"{HEAD},le_50"),
        line=1,
    ),
    recorded(
        "has latency columns that do not ascend; «order them from the fastest to the slowest»",
        "bounds out of order",
        row("", f"{HEAD},le_100ms,le_50ms"),
        line=1,
    ),
    recorded(
        "has le_inf, which belongs «after other le_<latency> columns»",
        "le_inf alone",
        row("", f"{HEAD},le_inf"),
        line=1,
    ),
    # --- a row ---
    recorded(
        "has 3 values, and the header has 5; «write one for each column»",
        "a row too short",
        row("2026-11-22T17:00Z,green,live"),
        line=2,
    ),
    recorded(
        "minute is `17:00`; «write a time such as 2026-11-22T17:00:00Z»",
        "a time without a date",
        row("17:00,green,live,1,0"),
        line=2,
    ),
    recorded(
        "minute is `2026-11-22T17:00`, without a zone; «write 2026-11-22T17:00:00Z for UTC»",
        "a time without a zone",
        row("2026-11-22T17:00,green,live,1,0"),
        line=2,
    ),
    recorded(
        "minute is `0001-01-01T00:00Z`; «write a time since 1970»",
        "a time before any clock",
        row("0001-01-01T00:00Z,green,live,1,0"),
        line=2,
    ),
    recorded(
        "ends at 2026-11-22T17:00Z, which is not after its start; «write the end of the window»",
        "a window of no length",
        row("2026-11-22T17:00Z,2026-11-22T17:00Z,green,live,1,0", "start,end,deployment,source,requests,errors"),
        line=2,
    ),
    recorded(
        "names no deployment; «write whose requests they are»",
        "a row about nobody",
        row("2026-11-22T17:00Z,,live,1,0"),
        line=2,
    ),
    recorded(
        "source is `shadow`; «write live or mirror or direct»",
        "another source",
        row("2026-11-22T17:00Z,green,shadow,1,0"),
        line=2,
    ),
    recorded(
        "requests is `-1`; «write a whole number from 0 on»",
        "a count that is none",
        row("2026-11-22T17:00Z,green,live,-1,0"),
        line=2,
    ),
    recorded(
        "has more errors (2) than requests (1); «correct the row»",
        "more errors than requests",
        row("2026-11-22T17:00Z,green,live,1,2"),
        line=2,
    ),
    recorded(
        "has 3 requests, and its status columns add up to 2; «give every status a column»",
        "statuses that do not add up",
        row("2026-11-22T17:00Z,green,live,3,2", STATUSES),
        line=2,
    ),
    recorded(
        "le_100ms is 4, less than le_50ms with 5; «the columns are cumulative, as Prometheus's le is»",
        "counts that are not cumulative",
        row("2026-11-22T17:00Z,green,live,9,0,5,4", f"{HEAD},le_50ms,le_100ms"),
        line=2,
    ),
    recorded(
        "le_50ms is 10, more than its 9 requests; «correct the row»",
        "more latencies than requests",
        row("2026-11-22T17:00Z,green,live,9,0,10", f"{HEAD},le_50ms"),
        line=2,
    ),
    recorded(
        "le_50ms is 9, and only 8 requests got an answer; «correct the row»",
        "latencies of requests without an answer",
        row(
            "2026-11-22T17:00Z,green,live,9,8,1,9", "minute,deployment,source,requests,status_200,status_reset,le_50ms"
        ),
        line=2,
    ),
    # --- rows together ---
    recorded(
        "begins at 2026-11-22T16:59:00Z, before the row above it; «sort the rows by time»",
        "rows out of order",
        two("2026-11-22T17:00Z", "2026-11-22T16:59Z"),
        line=3,
    ),
    recorded(
        "begins at 2026-11-22T17:00:30Z, while the window of line 2 lasts until 2026-11-22T17:01:00Z; "
        "«windows must not overlap»",
        "windows that overlap",
        two("2026-11-22T17:00Z", "2026-11-22T17:00:30Z"),
        line=3,
    ),
    recorded(
        "green (live) has this window in line 3 already; «write one row for each window, deployment and source»",
        "the same twice",
        two("2026-11-22T17:00Z", "2026-11-22T17:00Z", "2026-11-22T17:00Z,green,live,1,0"),
        line=4,
    ),
    recorded(
        "nothing is recorded between 2026-11-22T17:01:00Z and 2026-11-22T17:02:00Z; «write rows with 0 requests if "
        "there were none, or say --gaps if nobody counted»",
        "a hole between two windows",
        two("2026-11-22T17:00Z", "2026-11-22T17:02Z"),
        line=3,
    ),
    recorded(
        "no row is about green, the candidate, but about blue; «say --candidate NAME»",
        "nothing of the candidate",
        row("2026-11-22T17:00Z,blue,live,1,0"),
    ),
    recorded(
        "green has only direct requests; «a plan's steps need rows with source live or mirror»",
        "only direct requests",
        row("2026-11-22T17:00Z,blue,live,1,0\n2026-11-22T17:00Z,green,direct,1,0"),
    ),
    command(
        f"{FROM} traffic.csv --candidate green --stable green",
        "traffic.csv: green cannot be both the candidate and stable; «say --candidate NAME --stable NAME»",
        "backtest, with one name for both",
        ROW,
        file(two("2026-11-22T17:00Z", "2026-11-22T17:00Z")),
    ),
]
