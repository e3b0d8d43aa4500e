"""`rollout load`: an open loop in virtual time, what it counts and keeps, and the command as a user types it."""

import asyncio
import json
import os
import signal
import sys
import threading
import time
import tracemalloc
from pathlib import Path

import pytest

from orchestrator.cli import sending
from orchestrator.cli.load import progress, summary
from orchestrator.cli.main import main
from orchestrator.cli.sending import Latencies, Order, Tally, send
from providers.base import Request, Response
from providers.errors import NotFound, Temporary
from providers.memory import Behaviour
from tests.unit.simulated import AT, Cloud, fresh, said, told


def order(rate: float = 20.0, seconds: float | None = None, count: int | None = None, **more) -> Order:
    return Order(rate, seconds, count, **{"at_once": 64, "timeout": 60.0, "deployment": None, **more})


@pytest.fixture
def body(tmp_path: Path) -> str:
    path = tmp_path / "request.json"
    path.write_text('{"data": []}')
    return str(path)


@pytest.fixture
def shop(tmp_path, monkeypatch) -> Cloud:
    """blue and green share the traffic; each answers after 5 ms."""
    cloud = fresh(monkeypatch, tmp_path / "home").has({"blue": 500, "green": 500}, counts={"blue": 1, "green": 1})
    for name in ("blue", "green"):
        cloud.world.behave("shop", name, Behaviour(sigma=0.0))
    return cloud


class Slow:
    """Whatever answers, answers as late as the test says: in virtual time, so that a minute takes no time."""

    def __init__(self, *outcomes: float | Exception) -> None:
        self.outcomes = outcomes
        self.asked: list[float] = []

    async def invoke(self, endpoint: str, request: Request, *, deployment: str | None, timeout: float) -> Response:
        outcome = self.outcomes[min(len(self.asked), len(self.outcomes) - 1)]
        self.asked.append(asyncio.get_running_loop().time())
        if isinstance(outcome, Exception):
            raise outcome
        await asyncio.sleep(min(outcome, timeout))
        if outcome > timeout:
            raise Temporary(f"no answer within {timeout:g} s.")
        return Response(200, b"", outcome, deployment="blue")


async def sent(provider: Slow, wanted: Order) -> Tally:
    tally = Tally()
    await send(provider, "shop", Request(), wanted, tally, asyncio.Event())
    return tally


# --- the loop


@pytest.mark.looptime
@pytest.mark.parametrize(
    ("wanted", "sent_", "ends"),
    [
        (order(seconds=3.0), 60, 3.0),
        (order(count=10), 10, 0.45),
        (order(seconds=3.0, count=10), 10, 0.45),
        (order(seconds=0.2, count=10), 4, 0.2),
        (order(rate=1 / 3600, seconds=2.0), 1, 2.0),
    ],
)
async def test_requests_are_sent_when_they_are_due(wanted, sent_, ends):
    provider = Slow(0.0)
    tally = await sent(provider, wanted)
    assert (tally.sent, tally.statuses[200], tally.failed, tally.full, tally.late) == (sent_, sent_, 0, 0, 0)
    assert provider.asked == pytest.approx([n / wanted.rate for n in range(sent_)])
    assert tally.elapsed == pytest.approx(ends)
    assert tally.rate == pytest.approx(wanted.rate)


@pytest.mark.looptime
async def test_a_slow_answer_does_not_slow_the_sending_down():
    provider = Slow(2.0)
    tally = await sent(provider, order(seconds=3.0))
    assert provider.asked == pytest.approx([n / 20 for n in range(60)])
    assert (tally.sent, tally.full, tally.rate) == (60, 0, pytest.approx(20.0))
    assert tally.latencies.quantile(0.5) == pytest.approx(2_000_000, rel=0.01)


@pytest.mark.looptime
async def test_what_finds_no_room_is_left_out_and_the_achieved_rate_says_so():
    provider = Slow(1.0)
    wanted = order(seconds=4.0, at_once=5)
    tally = await sent(provider, wanted)
    # Five each second, for an answer takes one.
    assert (tally.sent, tally.full) == (20, 60)
    assert tally.rate == pytest.approx(5.0)
    assert summary("shop", wanted, tally).splitlines()[:2] == [
        "sent 20 requests to shop in 4s: 5/s of the 20/s asked for",
        "  left out    60: 5 requests were waiting for an answer (--concurrency allows more)",
    ]


async def test_what_could_not_be_sent_in_time_is_left_out_rather_than_sent_in_a_burst(monkeypatch):
    """In real time: this process stands still for a while."""

    class Stuck(Slow):
        async def invoke(self, *arguments, **named):
            if len(self.asked) == 5:
                time.sleep(0.3)
            return await super().invoke(*arguments, **named)

    monkeypatch.setattr(sending, "LATE", 0.05)
    wanted = order(rate=100.0, seconds=0.6)
    tally = await sent(Stuck(0.0), wanted)
    assert tally.due == tally.sent + tally.late == 60
    assert tally.late >= 20
    assert tally.rate < 0.7 * wanted.rate
    assert f"  left out    {tally.late}: this process could not send them in time" in summary("shop", wanted, tally)


@pytest.mark.looptime
async def test_time_outs_and_broken_connections_are_counted_and_the_last_is_told():
    provider = Slow(0.0, Temporary("The connection was reset."), 5.0, 0.0)
    wanted = order(count=4, timeout=1.0)
    tally = await sent(provider, wanted)
    assert (tally.sent, tally.good, tally.unanswered, tally.failed) == (4, 2, 2, 2)
    assert tally.problem == "no answer within 1 s."
    assert "200: 2, no answer: 2" in summary("shop", wanted, tally)


@pytest.mark.looptime
async def test_an_endpoint_that_is_gone_ends_it():
    provider = Slow(0.0, 0.0, NotFound("Endpoint shop does not exist."))
    tally = await sent(provider, order(seconds=3600.0))
    assert (tally.sent, tally.broken) == (3, "Endpoint shop does not exist.")


@pytest.mark.looptime
async def test_a_fault_of_our_own_is_raised():
    with pytest.raises(ZeroDivisionError):
        await sent(Slow(ZeroDivisionError()), order(seconds=3600.0))


@pytest.mark.looptime
async def test_when_it_is_stopped_the_answers_under_way_get_a_moment():
    provider, tally, stop = Slow(0.5, 30.0), Tally(), asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.call_later(0.07, stop.set)
    await send(provider, "shop", Request(), order(seconds=3600.0), tally, stop)
    assert (tally.sent, tally.good, tally.cut_off, tally.failed) == (2, 1, 1, 0)
    assert loop.time() < 0.07 + sending.GRACE + 2 * sending.TICK
    assert asyncio.all_tasks() == {asyncio.current_task()}


# --- what is kept


@pytest.mark.parametrize("seconds", [0.000001, 0.0042, 1.0, 60.0, 600.0])
def test_a_latency_is_told_at_most_one_percent_too_high(seconds):
    latencies = Latencies()
    latencies.add(seconds)
    assert seconds * 1e6 <= latencies.quantile(0.5) + 1 <= seconds * 1e6 * 1.01 + 2


def test_quantiles():
    latencies = Latencies()
    assert latencies.quantile(0.5) is None
    for milliseconds in range(1, 101):
        latencies.add(milliseconds / 1000)
    for quantile in (0.5, 0.95, 0.99):
        assert latencies.quantile(quantile) == pytest.approx(quantile * 100_000, rel=0.011)


def test_what_is_kept_does_not_grow_with_what_is_sent():
    def count(tally: Tally, number: int) -> None:
        for n in range(number):
            # A stranger's server may name whom it likes.
            tally.count(Response(200 + n % 300, b"", (n % 1000) / 1000, deployment=f"d{n}"))

    tally = Tally()
    count(tally, 5_000)
    tracemalloc.start()
    count(tally, 20_000)
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 50_000
    assert len(tally.answers) == sending.NAMES + 1
    assert tally.answers["others"] == 25_000 - 2 * sending.NAMES
    assert sum(tally.statuses.values()) == 25_000


def test_progress_is_one_line():
    tally = Tally(due=130, sent=120, full=10, under_way=3, elapsed=6.0, owed=6.0)
    tally.statuses.update({200: 115, 503: 2})
    assert progress(order(seconds=3600.0), tally) == (
        "6s of 1h: 120 sent (20/s), 200: 115, 503: 2, 3 under way, 10 left out"
    )
    assert progress(order(count=500), Tally()) == "0s: 0 of 500 sent (0/s)"


# --- the command


def test_the_command_tells_what_came_of_it(shop, body, capsys):
    assert main(["load", "shop", "--request", body, "--rate", "200/s", "--count", "60", *AT]) == 0
    shown = capsys.readouterr()
    first, *lines = shown.out.splitlines()
    assert first.startswith("sent 60 requests to shop in ")
    assert lines[-3] == "  status      200: 60"
    assert lines[-2].startswith("  deployment  blue: ")
    assert lines[-1].startswith("  latency     p50 5")
    assert shown.err == ""


def test_the_command_in_json(shop, body, capsys):
    found = json.loads(
        told(capsys, "load", "shop", "--request", body, "--rate", "100", "--count", "30", *AT, "--output", "json")
    )
    counted = found.pop("deployments")
    assert sum(each["answers"] for each in counted.values()) == 30
    assert set(counted) == {"blue", "green"}
    assert found.pop("seconds") > 0
    assert 0 < found.pop("rate") <= 100
    assert found.pop("latency_us")["p50"] == pytest.approx(5000, rel=0.011)
    assert found == {
        "endpoint": "shop",
        "deployment": None,
        "asked": {"rate": 100.0, "seconds": None, "count": 30, "concurrency": 64},
        "sent": 30,
        "left_out": {"full": 0, "late": 0},
        "statuses": {"200": 30},
        "no_answer": 0,
        "cut_off": 0,
        "interrupted": False,
        "problem": None,
    }


def test_one_deployment_is_asked_directly(shop, body, capsys):
    words = ("load", "shop", "--request", body, "--rate", "100/s", "--count", "5", "--deployment", "green", *AT)
    assert "deployment  green: 5\n" in told(capsys, *words)


def test_answers_that_are_not_2xx_are_an_exit_code_and_a_sentence(shop, body, capsys):
    shop.world.behave("shop", "green", Behaviour(error_rate=1.0, error_status=503, latency_us=1000))
    words = ("load", "shop", "--request", body, "--rate", "100/s", "--count", "4", "--deployment", "green", *AT)
    assert said(capsys, *words, code=3) == "4 of 4 requests to shop were not answered with 2xx (503: 4)"
    assert main([*words]) == 3
    assert "deployment  green: 4 (4 not 2xx)" in capsys.readouterr().out


def test_requests_without_an_answer_are_told(shop, body, capsys):
    shop.world.fail_next("invoke", Temporary("The connection was reset."), times=2)
    words = ("load", "shop", "--request", body, "--rate", "100/s", "--count", "3", *AT)
    assert said(capsys, *words, code=3) == (
        "2 of 3 requests to shop were not answered with 2xx (200: 1, no answer: 2); the last one without an answer: "
        "The connection was reset."
    )


def test_an_endpoint_that_is_deleted_meanwhile_ends_it(shop, body, capsys):
    shop.world.fail_next("invoke", NotFound("Endpoint shop does not exist."))
    words = ("load", "shop", "--request", body, "--rate", "100/s", "--for", "1h", *AT)
    assert said(capsys, *words, code=3) == "sending ended early: Endpoint shop does not exist."


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--rate 20/s", "say when to stop: --for 30s, or --count 100, or both"),
        ("--rate fast --for 3s", "--rate: `fast` is not a frequency: write 200/s, 30/m or 600/h"),
        ("--rate 0/s --for 3s", "--rate: `0/s` is out of range: a frequency is from 1/h to 1000000/s"),
        ("--rate 20/s --for 3", "--for: `3` is not a duration: write 30s, 10m, 1h30m or 2d"),
        ("--rate 20/s --for 0s", "--for 0 is no time at all: write 30s, 10m or 2h"),
        ("--for 3s", "missing option '--rate'."),
        ("--rate 20/s --for 3s --deployment gren", "endpoint shop has no deployment gren; did you mean `green`?"),
    ],
)
def test_it_refuses_with_one_sentence_and_sends_nothing(shop, body, capsys, words, message):
    assert said(capsys, "load", "shop", "--request", body, *words.split(), *AT, code=2) == message


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_it_with_the_summary_so_far(shop, body, capsys, number):
    words = ["load", "shop", "--request", body, "--rate", "100/s", "--for", "1h", *AT]
    asked, over = threading.Event(), threading.Event()
    original = shop.world.take_delay

    def take_delay(names):
        if "invoke" in names:
            asked.set()
        return original(names)

    def interrupt():
        if asked.wait(30) and not over.is_set():
            os.kill(os.getpid(), number)

    shop.world.take_delay = take_delay
    # By the first request the loop takes the signal for itself: nothing else of this process is interrupted.
    waiting = threading.Thread(target=interrupt)
    waiting.start()
    try:
        assert main(words) == 130
    finally:
        over.set()
        asked.set()
        waiting.join()
    assert "sent " in capsys.readouterr().out


def test_progress_is_told_line_by_line_where_stderr_is_no_terminal(shop, body, capsys, monkeypatch):
    from orchestrator.cli import load

    monkeypatch.setattr(load, "RETOLD", 0.05)
    assert main(["load", "shop", "--request", body, "--rate", "50/s", "--for", "400ms", *AT]) == 0
    shown = capsys.readouterr()
    assert shown.err.splitlines()[0].startswith("0s of 400ms: ")
    assert "\r" not in shown.err
    assert shown.out.startswith("sent 20 requests to shop in 400ms: 50/s, as asked\n")


def test_progress_is_one_line_written_again_on_a_terminal(shop, body, capsys, monkeypatch):
    from orchestrator.cli import load

    monkeypatch.setattr(load, "REDRAWN", 0.05)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "30")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert main(["load", "shop", "--request", body, "--rate", "50/s", "--for", "400ms", *AT]) == 0
    told_ = capsys.readouterr().err
    assert told_.count("\r") > 3
    assert "\n" not in told_
    assert {len(part) for part in told_.split("\r") if part} == {29}
    assert told_.endswith("\r" + " " * 29 + "\r")
