"""`rollout list`: filters combine, the limit counts what is left, and an empty list says why."""

import json
import time
from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest

from orchestrator.cli import filtering, look
from orchestrator.cli.main import main
from orchestrator.lifecycle import Phase
from tests.unit.simulated import said, told
from tests.unit.stored import BEGAN, put

SEVEN = (
    ("shop-20241120-aaaaa", "shop", "shop", "failed"),
    ("shop-20241120-bbbbb", "shop", "shop", "rolled_back"),
    ("cart-20241120-ccccc", "cart", "cart", "succeeded"),
    ("shop-20241120-ddddd", "shop", "shop", "succeeded"),
    ("nightly-20241120-eeeee", "nightly", "shop", "succeeded"),
    ("cart-20241120-fffff", "cart", "cart", "paused"),
    ("shop-20241120-ggggg", "shop", "shop", "running"),
)
PHASES = "their phases: running, paused, succeeded, rolled_back, failed"
NOW = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("ROLLOUT_HOME", str(tmp_path))
    monkeypatch.delenv("ROLLOUT_STORE", raising=False)
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield tmp_path
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def store(home):
    put(*SEVEN)


def listed(capsys, *words: str) -> str:
    """The last letters of the ids that are shown, in their order."""
    return "".join(each["id"][-1] for each in json.loads(told(capsys, "list", *words, "--output", "json")))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", "gfedcba"),
        ("--limit 2", "gf"),
        ("--active", "gf"),
        ("--phase succeeded", "edc"),
        ("--phase succeeded --phase failed", "edca"),
        ("--phase rolled_back", "b"),
        ("--name shop", "gdba"),
        ("--endpoint shop", "gedba"),
        ("--endpoint shop --name nightly", "e"),
        ("--endpoint shop --phase succeeded", "ed"),
        ("--active --endpoint cart", "f"),
        ("--name shop --limit 2", "gd"),
        ("--phase failed --limit 1", "a"),
        ("--since 2024-11-20T13:00Z", "gfe"),
        ("--since 2024-11-20T13:00+00:00 --name shop", "g"),
        ("--since 2024-11-20", "gfedcba"),
        ("--phase running --phase paused --active", "gf"),
        ("--phase failed --name cart", ""),
        ("--name shpo", ""),
    ],
)
def test_filters_combine_and_the_limit_counts_what_is_left(store, capsys, words, expected):
    assert listed(capsys, *words.split()) == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--name shpo", "--name shpo excludes every rollout; did you mean `shop`?"),
        ("--name payments", "--name payments excludes every rollout; their names: shop, cart, nightly"),
        ("--endpoint crat", "--endpoint crat excludes every rollout; did you mean `cart`?"),
        ("--endpoint warehouse", "--endpoint warehouse excludes every rollout; their endpoints: shop, cart"),
        (
            "--phase pending",
            f"--phase pending excludes every rollout; {PHASES}",
        ),
        (
            "--phase pending --phase rolling_back --name shop",
            f"--phase pending --phase rolling_back excludes every rollout; {PHASES}",
        ),
        ("--since 2024-11-21", "--since 2024-11-21 excludes every rollout; the newest began at 2024-11-20 15:00"),
        (
            "--name cart --phase failed",
            "no rollout fits all of these together; of 7, --phase failed fits 1, --name cart fits 2",
        ),
        (
            "--name cart --endpoint shop --active",
            "no rollout fits all of these together; of 7, --active fits 2, --endpoint shop fits 5, --name cart fits 2",
        ),
    ],
)
def test_an_empty_list_says_which_filter_excludes_everything(store, capsys, words, message):
    assert told(capsys, "list", *words.split()) == f"{message}\n"


def test_without_any_rollout_it_says_how_to_begin_one(home, capsys):
    for words in ([], ["--active"], ["--name", "shop"]):
        assert told(capsys, "list", *words) == "there is no rollout yet: rollout run plan.yml starts one\n"
        assert listed(capsys, *words) == ""


def test_nothing_active_is_no_fault_of_a_filter(home, capsys):
    put(SEVEN[0])
    assert told(capsys, "list", "--active") == "no rollout is active\n"


def test_the_table_says_when_there_is_more(store, capsys):
    shown = told(capsys, "list", "--name", "shop", "--limit", "2").splitlines()
    assert [line.split()[0] for line in shown[:3]] == ["ROLLOUT", "shop-20241120-ggggg", "shop-20241120-ddddd"]
    assert shown[3] == "there are older ones: --limit 4 shows more"
    assert len(told(capsys, "list", "--name", "shop", "--limit", "4").splitlines()) == 5


@pytest.mark.parametrize(
    ("since", "message"),
    [
        ("yesterday", "--since: `yesterday` is neither a duration such as 2d or 12h nor a date such as 2026-11-22"),
        ("2026-13-01", "--since: `2026-13-01` is neither a duration such as 2d or 12h nor a date such as 2026-11-22"),
        ("400d", "--since: `400d` is longer than a year; write a date such as 2026-11-22"),
        ("2999-01-01", "--since: `2999-01-01` has not come yet"),
    ],
)
def test_a_time_that_is_none_is_told(home, capsys, since, message):
    assert said(capsys, "list", "--since", since, code=2) == message


@pytest.mark.parametrize("words", [("--phase", "faild"), ("--limit", "0"), ("--limit", "many")])
def test_what_click_checks_is_a_usage_error(home, capsys, words):
    assert main(["list", *words]) == 2
    assert words[0] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2d", NOW - timedelta(days=2)),
        ("1h30m", NOW - timedelta(minutes=90)),
        ("2026-11-20", datetime(2026, 11, 19, 15, 0, tzinfo=UTC)),
        ("2026-11-20T17:00", datetime(2026, 11, 20, 8, 0, tzinfo=UTC)),
        ("2026-11-20T17:00Z", datetime(2026, 11, 20, 17, 0, tzinfo=UTC)),
    ],
)
def test_a_date_is_one_of_the_clock_on_the_wall(monkeypatch, text, expected):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert filtering.moment(text, NOW) == expected
    finally:
        monkeypatch.undo()
        time.tzset()


def test_old_ones_are_found_beyond_the_first_look(store, capsys, monkeypatch):
    monkeypatch.setattr(filtering, "FIRST_LOOK", 1)
    assert listed(capsys, "--phase", "failed") == "a"
    assert told(capsys, "list", "--name", "shpo") == "--name shpo excludes every rollout; did you mean `shop`?\n"


def test_the_phases_are_those_of_the_lifecycle():
    assert set(look.PHASES) == set(get_args(Phase))


def test_the_stored_rollouts_begin_when_the_tests_say(store, capsys):
    assert json.loads(told(capsys, "list", "--output", "json"))[-1]["started_at"] == BEGAN.isoformat()
