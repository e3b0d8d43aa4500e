"""What is said to somebody who typed something: by each command, about its own words, files and endpoints."""

import os
import signal
from collections.abc import Callable
from typing import Any

from orchestrator.cli import ndjson, session
from orchestrator.cli.shown import Shown
from orchestrator.errors import StoreError
from orchestrator.starter import writing
from tests.messages.bench import Bench, direct, shop
from tests.messages.entry import HISTORY, OWN_WISH, Message

TRY_AGAIN, INTERRUPTED = 3, 130
AT = "--provider memory"


def two(bench: Bench) -> None:
    """blue serves, and green stands beside it."""
    bench.served("  - deploy: green\n")


def typed(
    line: str, marked: str, when: str, where: str, arrange: Callable[[Bench], Any] | None = None, **more: Any
) -> Message:
    """One line, and what it says."""
    code = more.pop("code", 2)
    stdin = more.pop("stdin", "")
    return Message(where, when, shop(line, arrange, stdin=stdin), marked, code, **more)


def ctrl_c(bench: Bench) -> None:
    """In the middle of the work."""

    def interrupted(*_: object) -> int:
        raise KeyboardInterrupt

    bench.patch(session, "within", interrupted)


def mistake(bench: Bench) -> None:
    """In the middle of the work."""

    def wrong(*_: object) -> int:
        raise ZeroDivisionError("division by zero")

    bench.patch(session, "within", wrong)


def written(to: ndjson.Target, *, before: Callable[[], Any] = lambda: None) -> str:
    """What a writer of events tells when it writes there."""
    heard: list[str] = []
    writer = ndjson.Writer(to, tell=heard.append)
    before()
    for _ in range(3):
        writer.put(b"{}\n")
    writer.close(5.0)
    return heard[0]


def broken_pipe() -> str:
    """Its reader has left."""
    reader, descriptor = os.pipe()
    return written(ndjson.Target("events", descriptor), before=lambda: os.close(reader))


def no_pipe(bench: Bench) -> str:
    """It was removed."""
    return written(ndjson.Target(str(bench.folder / "gone"), None))


def no_last_events(bench: Bench) -> None:
    """Neither these nor any before."""

    async def away(*_: object) -> None:
        raise StoreError("the store does not answer")

    bench.patch(ndjson.Recorder, "_look", away)


def watching(bench: Bench) -> None:
    """Ctrl-C, once the picture is there."""
    bench.waiting()
    enter = Shown.__aenter__

    async def entered(self: Shown) -> Shown:
        await enter(self)
        os.kill(os.getpid(), signal.SIGINT)
        return self

    bench.patch(Shown, "__aenter__", entered)


def word_serves(bench: Bench) -> None:
    """Somebody called it so, elsewhere."""
    bench.served()
    there = bench.world.endpoint("shop")
    blue = there.deployments.pop("blue")
    blue.name = "candidate"
    there.deployments["candidate"], there.traffic = blue, {"candidate": 1000}


def linked_plan(bench: Bench) -> None:
    (bench.folder / "there").mkdir()
    (bench.folder / "there" / "plan.yml").symlink_to("../plan.yml")


def read_only(bench: Bench) -> None:
    """Whoever runs the tests may be allowed everything."""

    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    bench.patch(writing, "_write", refused)


MAIN = [
    typed(
        "stauts",
        "there is no command stauts: «did you mean status?» (see rollout --help)",
        "a command that is misspelt",
        "cli.main.known_or_option cli.main.main",
    ),
    typed(
        "endpoint shwo",
        "there is no command shwo: «did you mean show?» (see rollout endpoint --help)",
        "a command of endpoint that is misspelt",
        "cli.main.known_or_option",
    ),
    typed(
        "bogus",
        "there is no command bogus: «there are init, run, resume, pause, abort, approve, status, watch, explain, "
        "list, history, report, validate, plan, simulate, backtest, graph, endpoint, load, completion, doctor» (see "
        "rollout --help)",
        "a command that does not exist",
        "cli.main.known_or_option",
    ),
    typed(
        "status --frist",
        "no such option '--frist'. «(see rollout status --help)»",
        "an option that does not exist",
        "cli.main.main",
    ),
    typed("run", "missing argument 'PLAN'. «(see rollout run --help)»", "an argument that is missing", "cli.main.main"),
    typed(
        "run nowhere.yml",
        "invalid value for 'PLAN': File 'nowhere.yml' does not exist. «(see rollout run --help)»",
        "run, with a file that is not there",
        "cli.main.main",
    ),
    typed(
        "endpoint invoke shop --request nowhere.json",
        "invalid value for '--request': 'nowhere.json': No such file or directory «(see rollout endpoint invoke "
        "--help)»",
        "invoke, with a file that is not there",
        "cli.main.main",
    ),
    typed(
        "status -o xml",
        "invalid value for '-o' / '--output': 'xml' is not one of 'text', 'json'. «(see rollout status --help)»",
        "an output that does not exist",
        "cli.main.main",
    ),
    typed(
        "list", "interrupted", "Ctrl-C, while nothing is driven", "cli.main.main", ctrl_c, code=INTERRUPTED, do=OWN_WISH
    ),
    typed(
        "list",
        "this is a fault of rollout itself (ZeroDivisionError: division by zero); what was done is in the journal, "
        "and «`rollout resume` goes on from there. ROLLOUT_DEBUG=1 shows where it happened»",
        "a mistake in rollout itself",
        "cli.main._ended_by",
        mistake,
        code=TRY_AGAIN,
    ),
]

OPTIONS = [
    typed(
        "validate plan.yml --var VERSION",
        "invalid value for --var: 'VERSION' is not NAME=VALUE: «write for example --var VERSION=7 (NAME of letters, "
        "digits and underscores, not beginning with a digit)» (see rollout validate --help)",
        "--var without a value",
        "cli.options._variables",
    ),
    typed(
        "validate plan.yml --var A=1 --var A=2",
        "invalid value for --var: A is given twice, as '1' and as '2': «give it once» (see rollout validate --help)",
        "--var twice",
        "cli.options._variables",
    ),
    typed(
        "resume --extend soon",
        "invalid value for --extend: `soon` is not a duration: «write 30s, 10m, 1h30m or 2d» (see rollout resume "
        "--help)",
        "--extend, and no duration",
        "cli.options._seconds",
    ),
    typed(
        "resume --extend 0s",
        "invalid value for --extend: '0s' adds nothing: «write 30m or 2h» (see rollout resume --help)",
        "--extend by nothing",
        "cli.options._seconds",
    ),
    typed(
        "resume --take-back --keep-theirs",
        "--take-back and --keep-theirs contradict each other: «give one» (see rollout resume --help)",
        "--take-back and --keep-theirs",
        "cli.run.resume_command",
    ),
    typed(
        "resume --keep-theirs --extend 1h",
        "--keep-theirs ends the rollout, so --extend adds nothing: «give one» (see rollout resume --help)",
        "--keep-theirs and --extend",
        "cli.run.resume_command",
    ),
    typed(
        "run plan.yml --events - --output json",
        "--events - and --output json both want stdout: «name a file after --events» (see rollout run --help)",
        "two outputs for one stdout",
        "cli.run._journal",
    ),
    typed(
        "approve --despite-gate errors",
        "--despite-gate errors «demands a --reason: it is kept in the journal, for whoever asks why» (see rollout "
        "approve --help)",
        "--despite-gate without a reason",
        "cli.ask.approve_command",
    ),
    typed(
        "validate",
        "«give a PLAN, or --schema» (see rollout validate --help)",
        "validate without a plan",
        "cli.plan.validate_command",
    ),
    typed(
        "validate plan.yml --traffic much",
        "--traffic: `much` is not a frequency: «write 200/s, 30/m or 600/h» (see rollout validate --help)",
        "--traffic, and no rate",
        "cli.plan._rate",
    ),
    typed(
        "completion",
        "«say for which shell: bash, zsh or fish» (see rollout completion --help)",
        "completion without a shell",
        "cli.completion.completion_command",
    ),
    typed(
        "report --output json",
        "--output json tells where a report was written: «name a file with --file PATH; for the rollout itself as "
        "JSON there is `rollout status --output json`» (see rollout report --help)",
        "a report as JSON, and no file",
        "cli.report.report_command",
    ),
    typed(
        "graph nowhere.yml",
        "there is no file nowhere.yml: «name a plan file that exists, or a rollout» (see rollout graph --help)",
        "graph, with a plan that is not there",
        "cli.graph.graph_command",
    ),
    typed(
        "graph --var A=1",
        "--var is for plan files: a rollout's plan is pinned «(see rollout graph --help)»",
        "graph of a rollout with --var",
        "cli.graph.graph_command",
    ),
    typed(
        "list --since 2027-01-01",
        "--since: `2027-01-01` has not come yet «(see rollout list --help)»",
        "--since a day that has not come",
        "cli.filtering.moment cli.look.list_command",
    ),
    typed(
        "list --since lately",
        "--since: `lately` is «neither a duration such as 2d or 12h nor a date such as 2026-11-22» (see rollout list "
        "--help)",
        "--since, and neither duration nor date",
        "cli.filtering.moment cli.look.list_command",
    ),
    typed(
        "list --since 9000d",
        "--since: `9000d` is longer than a year; «write a date such as 2026-11-22» (see rollout list --help)",
        "--since more than a year ago",
        "cli.filtering.moment cli.look.list_command",
    ),
    typed(
        "init --from safe-rollout --from-endpoint shop",
        "--from and --from-endpoint contradict each other: «give one» (see rollout init --help)",
        "init with two sources",
        "cli.init.init_command",
    ),
]

EVENTS = [
    typed(
        "run plan.yml --events nowhere/e.ndjson",
        "--events: nowhere/e.ndjson cannot be written (No such file or directory): «name a file in a folder of yours» "
        "(see rollout run --help)",
        "--events, and no such folder",
        "cli.ndjson.target cli.ndjson._usage",
    ),
    typed(
        "run plan.yml --events plan.yml",
        "--events: plan.yml exists and is not empty: «name another file, or remove it first» (see rollout run --help)",
        "--events, and the file holds something",
        "cli.ndjson.target cli.ndjson._usage",
    ),
    typed(
        "run plan.yml --events /dev/full",
        "/dev/full cannot be written (No space left on device): tried again and again, ‹the rollout goes "
        "on›\n/dev/full lacks the last 33 of 33 events: «rollout history <id> --output ndjson has them all»",
        "--events, and the disk is full to the end",
        "cli.ndjson._line cli.ndjson.finish",
        code=0,
        stands="traffic green 100%; green 1 of 1 healthy",
    ),
    Message(
        "cli.ndjson._work",
        "nobody reads the pipe of --events any more",
        direct(broken_pipe),
        "nobody reads events any more: no more events are written there, ‹the rollout goes on›",
        None,
        do=OWN_WISH,
    ),
    Message(
        "cli.ndjson._work",
        "the pipe of --events cannot be opened",
        direct(no_pipe),
        "<folder>/gone cannot be written (No such file or directory): no more events there, ‹the rollout goes on›",
        None,
        do=HISTORY,
    ),
    typed(
        "run plan.yml --events e.ndjson",
        "the last events could not be read for e.ndjson: the store does not answer",
        "the store does not answer when the last events are to be written",
        "cli.ndjson.finish",
        no_last_events,
        do=HISTORY,
        code=0,
        stands="traffic green 100%; green 1 of 1 healthy",
    ),
]

WATCHED = [
    typed(
        "watch",
        "left: ‹<id> goes on› («rollout watch <id> shows it again»)",
        "Ctrl-C while watching",
        "cli.watch.watch_command",
        watching,
        code=INTERRUPTED,
    ),
]


REPORTS = [
    typed(
        "report --file nowhere/r.md",
        "nowhere/r.md cannot be written (No such file or directory): «name another file»",
        "a report into a folder that is not there",
        "report.file.write",
        lambda b: b.served(),
    ),
    typed(
        "report --file plan.yml",
        "plan.yml is there already, and is no report of ours: «name another file, or say --force»",
        "a report over another file",
        "report.file._replaceable",
        lambda b: b.served(),
    ),
    typed(
        "report --file link.md",
        "link.md is a symbolic link, and a report is not written through one: «name the file itself»",
        "a report through a link",
        "report.file._replaceable",
        lambda b: (b.served(), (b.folder / "link.md").symlink_to("plan.yml")),
    ),
    typed(
        "report --file home",
        "home is not a regular file: «name a file to write the report to»",
        "a report over a folder",
        "report.file._replaceable",
        lambda b: b.served(),
    ),
    typed(
        "report --file plan.yml/r.md",
        "plan.yml/r.md cannot be looked at (Not a directory): «name another file»",
        "a report below a file",
        "report.file._replaceable",
        lambda b: b.served(),
    ),
]

FIRST_PLANS = [
    typed(
        "init there --from safe-rolout",
        "there is no stock plan safe-rolout: «did you mean safe-rollout?» (there are blue-green, canary-ladder, "
        "kubernetes, low-traffic, safe-rollout, scheduled, shadow-only)",
        "init from a stock plan that does not exist",
        "starter.kits.stock",
    ),
    typed(
        "init there --provider azure",
        "Provider azure is not known: «there is local, memory»",
        "init for a provider that is not installed",
        "starter.kits._known",
    ),
    typed(
        "init there --name 1",
        "'1' cannot be the name of an endpoint: «write 3 to 32 letters, digits and dashes, from a letter to a letter "
        "or digit»",
        "init with a name that no endpoint can have",
        "starter.kits._name",
    ),
    typed(
        f"init there --from-endpoint shpo {AT}",
        "there is no endpoint shpo at memory: «did you mean shop?» (there are shop)",
        "init for an endpoint that does not exist",
        "starter.kits.existing",
        two,
    ),
    typed(
        f"init there --from-endpoint shop {AT}",
        "candidate serves on endpoint shop, and that is a word of the plan language, so no plan can name it: «deploy "
        "the same version under another name first, such as blue»",
        "init for an endpoint whose deployment has a word's name",
        "starter.found.plan_for",
        word_serves,
    ),
    typed(
        "init there",
        "plan.yml is a folder, where a file would be written: «move it away, or name another folder»",
        "init, and a folder is in a file's place",
        "starter.writing._exists",
        lambda b: (b.folder / "there" / "plan.yml").mkdir(parents=True),
    ),
    typed(
        "init there --force",
        "plan.yml is a link or no regular file, so it is not replaced: «remove it, then init again»",
        "init --force, and the plan is a link",
        "starter.writing._replace",
        linked_plan,
    ),
    typed(
        "init plan.yml",
        "plan.yml is a link or no folder, and nothing is written through it: «name another folder»",
        "init into a file",
        "starter.writing._refused",
    ),
    typed(
        "init there",
        "plan.yml cannot be written: permission denied; «name another folder»",
        "init into a folder that may not be written to",
        "starter.writing._refused",
        read_only,
    ),
]

ENTRIES = [*MAIN, *OPTIONS, *EVENTS, *WATCHED, *REPORTS, *FIRST_PLANS]
