"""`rollout backtest` at the command line: the example, its exit codes, and what it refuses."""

import json
import re
from pathlib import Path

import pytest

from orchestrator.backtest.columns import FIXED
from orchestrator.backtest.table import MOST_ROWS, recording_of
from orchestrator.cli.backtested import CODES, WORDS
from orchestrator.cli.main import main
from orchestrator.standing import Roles, Split
from tests.unit.pages import blocks, check_printed, sentences, table

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "backtest"


@pytest.fixture(autouse=True)
def at_the_example(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(EXAMPLE)
    for name, value in (("ROLLOUT_HOME", str(tmp_path / "home")), ("TZ", "UTC"), ("NO_COLOR", "1")):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("ROLLOUT_STORE", raising=False)


def typed(*arguments: str) -> int:
    return main(["backtest", *arguments])


def test_the_example_is_rolled_back_and_told_in_a_table(capsys, tmp_path: Path) -> None:
    assert typed("plan.yml", "--from", "traffic.csv") == 1
    said = capsys.readouterr().out
    assert re.search(r"shadow 20% +errors, latency +passed +\S+ \S+ +10m +10 +", said)
    assert re.search(r"canary 10% +errors, latency +rolled back ", said)
    assert re.search(r"promote 100% +errors +not reached\n", said)
    assert re.search(
        r"It would have been rolled back, after \d+ bad responses to clients: canary 10%: gate errors: ", said
    )
    assert not (tmp_path / "home").exists(), "a file is replayed without a store"


def test_the_example_as_json(capsys) -> None:
    assert typed("plan.yml", "--from", "traffic.csv", "--output", "json") == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["outcome"], found["step"], found["happened"]) == ("rolled_back", 4, None)
    assert [step["outcome"] for step in found["steps"]] == ["passed", "rolled_back", "not_reached"]
    stopped = found["steps"][1]
    assert (stopped["cause"], stopped["gate"], stopped["verdicts"]["errors"]) == ("gate", "errors", "FAIL")
    assert found["bad_responses"] == stopped["bad_responses"] > 0


def test_what_passes_runs_out_or_cannot_be_judged(capsys, tmp_path: Path) -> None:
    lines = (EXAMPLE / "traffic.csv").read_text().splitlines()
    shadow = [line for line in lines[1:] if "T17:0" in line or "T17:10" in line]
    copies = tmp_path / "copies.csv"
    copies.write_text("\n".join([lines[0], *shadow]))
    assert typed("plan.yml", "--from", str(copies)) == 4
    assert "the recording has no live requests" in capsys.readouterr().out

    short = tmp_path / "plan.yml"
    text = (EXAMPLE / "plan.yml").read_text().split("  - canary")[0]
    short.write_text(text.replace("../quickstart", str(EXAMPLE.parent / "quickstart")))
    assert typed(str(short), "--from", str(copies)) == 0
    assert "Every gated step would have passed, after 0 bad responses to clients." in capsys.readouterr().out

    blind = tmp_path / "blind.csv"
    blind.write_text("\n".join(",".join(line.split(",")[:5]) for line in [lines[0], *shadow]))
    assert typed(str(short), "--from", str(blind)) == 4
    said = capsys.readouterr().out
    assert "not every gate could be judged" in said
    assert "note: shadow 20%: gate latency was not judged: the recording has no latencies of green (mirror)" in said


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("plan.yml", "--from", "nothing"), "there is no file nothing, and there is no rollout nothing; the newest"),
        (("plan.yml", "--from", "nothing", "--gaps"), "--gaps is for a CSV file, and there is no file nothing"),
        (("plan.yml", "--from", "plan.yml"), "plan.yml:1: has a column `# A plan to be tried on traffic that was...`"),
        (("plan.yml", "--from", "."), ".: cannot be read (Is a directory); name a CSV file or a rollout with --from"),
        (("plan.yml", "--from", "traffic.csv", "--stable", "v7"), "no row is about v7, the stable, but about blue"),
        (("plan.yml",), "missing option '--from'"),
        (("traffic.csv", "--from", "traffic.csv"), "traffic.csv:1:1: "),
    ],
)
def test_what_is_refused(capsys, arguments: tuple[str, ...], told: str) -> None:
    assert typed(*arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert told in said.err


def test_a_plan_without_gates_has_nothing_to_replay(capsys, tmp_path: Path) -> None:
    plan = tmp_path / "plan.yml"
    text = (EXAMPLE / "plan.yml").read_text().replace("../quickstart", str(EXAMPLE.parent / "quickstart"))
    plan.write_text(re.sub(r"\ngates:\n(  .*\n)+", "\n", re.sub(r"    gates: .*\n", "", text)))
    assert typed(str(plan), "--from", "traffic.csv") == 2
    assert "has no step with gates, so there is nothing to replay; add `gates` to one" in capsys.readouterr().err


# --- the page -----------------------------------------------------------------------------------------


def test_the_page_shows_what_is_printed(capsys) -> None:
    shown, file = blocks("backtest.md", "text")
    typed("plan.yml", "--from", "traffic.csv")
    check_printed(shown, capsys.readouterr().out, "rollout backtest plan.yml --from traffic.csv")
    roles = Roles("green", "blue", Split({"blue": 1000}))
    assert len(recording_of(file, "x.csv", roles, candidate=None, stable=None, gaps=False).windows) == 1


def test_the_page_explains_every_outcome_and_column() -> None:
    outcomes = {row["outcome"]: row["exit code"] for row in table("backtest.md", "It ends in one of these ways:")}
    assert outcomes == {WORDS[outcome]: str(code) for outcome, code in CODES.items()}
    columns = " ".join(row["column"] for row in table("backtest.md", "in the order of time:"))
    assert {f"`{name}`" for name in FIXED} <= set(columns.replace(",", " ").split())
    assert f"at most {MOST_ROWS:,} rows" in sentences("backtest.md")
