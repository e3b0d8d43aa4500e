"""One-shot steps against what they really talk to: a small HTTP server, the simulated provider, real processes."""

import asyncio
import contextlib
import hashlib
import hmac
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from orchestrator.secrets import Resolver
from orchestrator.tasks.load import LoadProcess, Stream, run_load, send
from orchestrator.tasks.test import run_test
from orchestrator.tasks.webhook import Message, run_webhook
from orchestrator.tasks.webhook import send as send_message
from plans.steps import Expect, LoadStep, TestStep, WebhookStep
from providers.base import Request, Response
from providers.errors import Permanent, Temporary
from providers.http import Answer
from providers.memory.provider import MemoryProvider
from tests.engine.hook import Hook, listening

FACTS = {"rollout": "shop-1", "name": "shop"}


@pytest.fixture
async def hook() -> AsyncIterator[Hook]:
    async with listening() as made:
        yield made


def told(tmp_path: Path, **environment: str) -> Callable[[str], str]:
    return Resolver(environment, tmp_path)


# --- webhook ---


async def test_a_webhook_says_what_happened(hook, tmp_path):
    step = WebhookStep(webhook=hook.url, headers={"X-Team": "ml"})
    result = await run_webhook(step, key="shop-1.4", resolve=told(tmp_path), facts=FACTS)
    assert (result.ok, result.detail) == (True, "127.0.0.1 answered 200")
    (heard,) = hook.heard
    assert (heard.method, heard.path, json.loads(heard.body)) == ("POST", "/hook", FACTS)
    assert (heard.headers["content-type"], heard.headers["x-team"]) == ("application/json", "ml")
    assert heard.headers["idempotency-key"] == "shop-1.4"
    assert "x-rollout-signature" not in heard.headers


async def test_it_is_signed_over_the_body_as_sent(hook, tmp_path):
    (tmp_path / "key").write_text("s3cret-k3y\n")
    step = WebhookStep(webhook=hook.url, method="PUT", body='{"text": "größer"}', secret="${file:key}")
    assert (await run_webhook(step, key="k", resolve=told(tmp_path), facts=FACTS)).ok
    (heard,) = hook.heard
    assert (heard.method, heard.body) == ("PUT", '{"text": "größer"}'.encode())
    expected = hmac.new(b"s3cret-k3y", heard.body, hashlib.sha256).hexdigest()
    assert heard.headers["x-rollout-signature"] == f"sha256={expected}"
    assert b"s3cret" not in heard.body


async def test_secrets_reach_the_other_side_and_no_message(hook, tmp_path):
    resolve = told(tmp_path, HOOK=f"{hook.url}?token=hidden", TOKEN="hidden")
    step = WebhookStep(
        webhook="${env:HOOK}", headers={"Authorization": "Bearer ${env:TOKEN}", "Idempotency-Key": "mine"}
    )
    for hook.status in (200, 404, 500):
        result = await run_webhook(step, key="k", resolve=resolve, facts=FACTS)
        assert "hidden" not in repr(result)
    assert [heard.path for heard in hook.heard] == ["/hook?token=hidden"] * 3
    assert {heard.headers["authorization"] for heard in hook.heard} == {"Bearer hidden"}
    assert {heard.headers["idempotency-key"] for heard in hook.heard} == {"k"}, "the same with every try, and ours"


@pytest.mark.parametrize(
    ("status", "ok", "retry"),
    [
        (200, True, False),
        (204, True, False),
        (300, False, False),
        (303, False, False),
        (400, False, False),
        (404, False, False),
        (408, False, True),
        (425, False, True),
        (429, False, True),
        (500, False, True),
        (503, False, True),
    ],
)
async def test_which_answers_are_worth_another_try(hook, tmp_path, status, ok, retry):
    hook.status = status
    result = await run_webhook(WebhookStep(webhook=hook.url), key="k", resolve=told(tmp_path), facts=FACTS)
    assert (result.ok, result.retry, result.detail) == (ok, retry, f"127.0.0.1 answered {status}")


@pytest.mark.parametrize("status", [301, 302, 307, 308])
@pytest.mark.parametrize("location", ["/hook/v2?a=b", "v2?a=b", "{host}/hook/v2?a=b", "//{address}/hook/v2?a=b#x"])
async def test_a_redirect_to_the_own_host_is_followed_as_it_was_sent(hook, tmp_path, status, location):
    address = f"127.0.0.1:{hook.port}"
    there = location.format(host=f"http://{address}", address=address)
    hook.moved = {"/hook/v1": (status, there)}
    step = WebhookStep(webhook=f"{hook.url}/v1", method="PUT", secret="${env:KEY}", headers={"X-Team": "ml"})
    result = await run_webhook(step, key="k", resolve=told(tmp_path, KEY="s3cret"), facts=FACTS)
    assert (result.ok, result.detail) == (True, "127.0.0.1 answered 200")
    first, second = hook.heard
    assert (first.path, second.path) == ("/hook/v1", "/hook/v2?a=b")
    assert (second.method, second.body, second.headers) == ("PUT", first.body, first.headers)


NOT_OURS = "127.0.0.1 answered 307: a redirect is followed to the same host and port only, or to its https"


@pytest.mark.parametrize(
    "location",
    [
        "http://localhost:{other}/hidden",
        "//localhost:{other}/hidden",
        "http://127.0.0.1:{other}/hidden",
        "http://127.0.0.1:{own}@localhost:{other}/hidden",
        "http://localhost:{other}\\@127.0.0.1:{own}/hidden",
        "http://127.0.0.2:{other}/hidden",
        "http://127.0.0.1.:{own}/hidden",
        "ftp://127.0.0.1:{own}/hidden",
        "file:///hidden",
        "http://[hidden",
        "http://127.0.0.1:99999/hidden",
        "/hid den",
        "/hidden-\u00e9",
        "",
    ],
)
async def test_a_redirect_elsewhere_is_refused(hook, tmp_path, location):
    async with listening() as other:
        hook.moved = {"/hook": (307, location.format(own=hook.port, other=other.port))}
        result = await run_webhook(WebhookStep(webhook=hook.url), key="k", resolve=told(tmp_path), facts=FACTS)
        assert (result.ok, result.retry, result.detail) == (False, False, NOT_OURS)
        assert ([heard.path for heard in hook.heard], other.heard) == (["/hook"], [])


class Moving:
    """HTTP as far as redirects go, for hosts that a test cannot have."""

    def __init__(self, *locations: str) -> None:
        self.locations = list(locations)
        self.asked: list[str] = []

    async def send(self, method: str, url: str, **_: object) -> Answer:
        self.asked.append(url)
        return Answer(308, b"", 0.0, {"location": self.locations.pop(0)}) if self.locations else Answer(200, b"", 0.0)


@pytest.mark.parametrize(
    ("url", "location", "goes_to"),
    [
        ("http://h/a", "https://h/a", "https://h/a"),
        ("http://h:8080/a", "https://H:8443/b", "https://H:8443/b"),
        ("http://h/a", "http://h:80/b", "http://h:80/b"),
        ("https://h:443/a", "https://h/b", "https://h/b"),
        ("https://me:pass@h/a", "https://h/b", "https://me:pass@h/b"),
        ("https://me:pass@h/a", "/b", "https://me:pass@h/b"),
        ("https://me:pass@h/a", "https://you:word@h/b", "https://me:pass@h/b"),
        ("https://h/a", "http://h/a", None),
        ("https://h/a", "http://h:443/a", None),
        ("https://h/a", "https://h:8443/a", None),
        ("https://h/a", "https://h.evil.org/a", None),
        ("https://h/a", "https://h@evil.org/a", None),
    ],
)
async def test_what_the_own_host_is(url, location, goes_to):
    http = Moving(location)
    result = await send_message(Message(url, b"", "k"), http)  # type: ignore[arg-type]
    assert (result.ok, http.asked) == (goes_to is not None, [url, *([goes_to] if goes_to else [])])


async def test_redirects_end(hook, tmp_path):
    hook.moved = {"/hook": (302, "/hook")}
    result = await run_webhook(WebhookStep(webhook=hook.url), key="k", resolve=told(tmp_path), facts=FACTS)
    assert (result.ok, result.retry, result.detail) == (False, False, "127.0.0.1 redirected more than 3 times")
    assert len(hook.heard) == 4


async def test_three_redirects_are_followed(hook, tmp_path):
    hook.moved = {f"/{n}": (301, f"/{n + 1}") for n in range(3)}
    step = WebhookStep(webhook=f"http://127.0.0.1:{hook.port}/0")
    assert (await run_webhook(step, key="k", resolve=told(tmp_path), facts=FACTS)).ok
    assert [heard.path for heard in hook.heard] == ["/0", "/1", "/2", "/3"]


async def test_redirects_are_within_the_time_of_one_try(hook, tmp_path):
    hook.delay, hook.moved = 0.2, {"/hook": (302, "/hook")}
    step = WebhookStep(webhook=hook.url, timeout="500ms")
    result = await run_webhook(step, key="k", resolve=told(tmp_path), facts=FACTS)
    assert (result.ok, result.retry) == (False, True)
    assert result.detail == "127.0.0.1 could not be reached, or gave no answer within 500ms"


async def test_nobody_answers_in_time(hook, tmp_path):
    hook.delay = 30
    step = WebhookStep(webhook=hook.url, timeout="200ms")
    result = await run_webhook(step, key="k", resolve=told(tmp_path), facts=FACTS)
    assert (result.ok, result.retry) == (False, True)
    assert result.detail == "127.0.0.1 could not be reached, or gave no answer within 200ms"


async def test_nobody_is_there(hook, tmp_path):
    unused = await asyncio.start_server(hook.answer, "127.0.0.1", 0)
    port = unused.sockets[0].getsockname()[1]
    unused.close()
    await unused.wait_closed()
    resolve = told(tmp_path, HOOK=f"http://user:hidden@127.0.0.1:{port}/hidden")
    result = await run_webhook(WebhookStep(webhook="${env:HOOK}"), key="k", resolve=resolve, facts=FACTS)
    assert (result.ok, result.retry) == (False, True)
    assert result.detail == "127.0.0.1 could not be reached, or gave no answer within 10s"


ODD = (
    "http://hidden:99999/",
    "http://hidden/a b",
    "http://hid\nden/",
    "http://hidden/\x00",
    " http://hidden/",
    "http://xn--/",
)


@pytest.mark.parametrize("url", ["hidden", "ftp://hidden/x", "http://[hidden", "http:///hidden", "//hidden", *ODD])
async def test_a_secret_address_that_is_none(tmp_path, url):
    result = await run_webhook(
        WebhookStep(webhook="${env:HOOK}"), key="k", resolve=told(tmp_path, HOOK=url), facts=FACTS
    )
    assert (result.ok, result.retry) == (False, False)
    assert result.detail.startswith("the webhook's address is no URL")
    assert "hidden" not in result.detail


@pytest.mark.parametrize("value", ["hidden\nx: y", "hidden-ü", "hidden\x00"])
async def test_a_secret_that_no_header_can_carry(hook, tmp_path, value):
    step = WebhookStep(webhook=hook.url, headers={"X-Token": "${env:TOKEN}"})
    result = await run_webhook(step, key="k", resolve=told(tmp_path, TOKEN=value), facts=FACTS)
    assert (result.ok, result.retry) == (False, False)
    assert result.detail == "the value of header x-token cannot be sent: it must be one line of plain ASCII"
    assert hook.heard == []


async def test_a_reference_to_nothing_is_named(hook, tmp_path):
    step = WebhookStep(webhook=hook.url, secret="${env:GONE}")
    result = await run_webhook(step, key="k", resolve=told(tmp_path), facts=FACTS)
    assert (result.ok, result.retry) == (False, False)
    assert result.detail == "${env:GONE}: the environment has no GONE; set it and try again"
    assert hook.heard == [], "nothing is sent unsigned"


async def test_an_empty_secret_signs_nothing(hook, tmp_path):
    step = WebhookStep(webhook=hook.url, secret="${env:KEY}")
    result = await run_webhook(step, key="k", resolve=told(tmp_path, KEY=""), facts=FACTS)
    assert (result.ok, result.retry) == (False, False)
    assert result.detail == "the webhook's secret is empty: a signature with it would prove nothing"
    assert hook.heard == []


def test_a_message_shows_no_secret():
    message = Message("https://h/hidden", b"hidden", "k", "hidden", {"authorization": "hidden"})
    assert repr(message) == "Message(key='k', method='POST', timeout=10.0)"


async def rollout_that_tells(lab, hook, retries: int):
    """In real time, because the server's sockets know no other; so the simulated cloud is a quick one."""
    quick = {"put_endpoint": 0.0, "put_deployment": 0.01, "set_traffic": 0.0}
    MemoryProvider(MemoryProvider.Options(world=lab.world, durations=quick), lab.context())
    lab.steps = f"\n  - webhook: {hook.url}\n    retries: {retries}\n"
    lab.head = "stable: blue\n"
    return await lab.run()


async def test_a_step_tries_again_under_the_same_key(lab, hook):
    hook.first = [500, 429]
    rollout = await rollout_that_tells(lab, hook, retries=2)
    assert rollout.phase == "succeeded"
    keys = {heard.headers["idempotency-key"] for heard in hook.heard}
    assert (len(hook.heard), keys) == (3, {f"{rollout.id}.1"})
    assert {json.loads(heard.body)["rollout"] for heard in hook.heard} == {rollout.id}


async def test_a_step_gives_up_after_its_retries(lab, hook):
    hook.status = 503
    rollout = await rollout_that_tells(lab, hook, retries=1)
    assert (rollout.phase, rollout.reason) == ("rolled_back", "webhook: 127.0.0.1 answered 503")
    assert len(hook.heard) == 2


# --- test ---


class Scripted:
    """A provider that answers as it is told; of a provider, only what a test step uses."""

    name = "scripted"

    def __init__(self, *answers: Response | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[Request, str | None, float]] = []

    async def invoke(self, endpoint: str, request: Request, *, deployment: str | None, timeout: float) -> Response:
        assert endpoint == "shop"
        self.asked.append((request, deployment, timeout))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


GOOD = Response(200, b'{"predictions": [1.5, {"label": "yes"}]}', 0.012, {}, "green")


async def asked(step: TestStep, *answers: Response | Exception, body: bytes = b"{}"):
    return await run_test(step, body, provider=Scripted(*answers), endpoint="shop")  # type: ignore[arg-type]


async def test_the_deployment_is_asked_by_name():
    provider = Scripted(GOOD)
    step = TestStep(test="green", path="/score/v2", method="PUT", expect={"max_latency": "40s"}, repeat=3)
    result = await run_test(step, b"[1]", provider=provider, endpoint="shop")  # type: ignore[arg-type]
    assert (result.ok, result.detail) == (True, "green answered 200 3 times, at most 12 ms")
    assert provider.asked == [(Request("PUT", "/score/v2", b"[1]"), "green", 80.0)] * 3


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (replace(GOOD, status=500, body=b" boom \n"), "green answered 500 instead of 200: boom"),
        (replace(GOOD, status=503, body=b""), "green answered 503 instead of 200"),
        (replace(GOOD, status=500, body=b"x" * 9999), "green answered 500 instead of 200: " + "x" * 200),
        (replace(GOOD, deployment="blue"), "blue answered instead of green"),
        (Temporary("no answer within 30 s."), "no answer within 30 s."),
        (Permanent("no such deployment"), "no such deployment"),
    ],
)
async def test_an_answer_that_was_not_expected(answer, sentence):
    result = await asked(TestStep(test="green"), answer)
    assert (result.ok, result.detail, result.retry) == (False, sentence, False)


async def test_the_first_wrong_answer_ends_it():
    provider = Scripted(GOOD, replace(GOOD, status=500, body=b""), GOOD)
    step = TestStep(test="green", repeat=5)
    result = await run_test(step, b"", provider=provider, endpoint="shop")  # type: ignore[arg-type]
    assert result.detail == "request 2 of 5: green answered 500 instead of 200"
    assert len(provider.asked) == 2


async def test_too_slow():
    step = TestStep(test="green", expect={"max_latency": "10ms"})
    assert (await asked(step, GOOD)).detail == "green took 12 ms, more than 10 ms"


async def test_a_deployment_that_does_not_say_who_it_is():
    assert (await asked(TestStep(test="green"), replace(GOOD, deployment=None))).ok


async def test_another_status_may_be_expected():
    assert (await asked(TestStep(test="green", expect=Expect(status=422)), replace(GOOD, status=422))).ok


DOCUMENT = {
    "predictions": [1.5, {"label": "yes", "0": "zero"}, 12],
    "ok": True,
    "no": None,
    "one": 1,
    "text": "1.50",
    "huge": 10**400,
    "list": [1, 2],
    "truth": "true",
}


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("predictions.0", "1.5"),
        ("predictions.0", "1.50"),
        ("predictions.0", "2"),  # rounded to what was written
        ("predictions.0", "15e-1"),
        ("predictions.-1", "12"),
        ("predictions.1.label", "yes"),
        ("predictions.1.label", '"yes"'),
        ("predictions.1.0", "zero"),
        ("ok", "true"),
        ("no", "null"),
        ("one", "1"),
        ("text", "1.50"),
        ("list", "[1, 2]"),
        ("truth", "true"),
    ],
)
async def test_values_that_are_as_written(path, wanted):
    answer = replace(GOOD, body=json.dumps(DOCUMENT).encode())
    result = await asked(TestStep(test="green", expect={"json": {path: wanted}}), answer)
    assert result.ok, result.detail


@pytest.mark.parametrize(
    ("path", "wanted", "sentence"),
    [
        ("predictions.0", "1.51", "green: `predictions.0` is 1.5, and 1.51 was expected"),
        ("predictions.0", "1.4", "green: `predictions.0` is 1.5, and 1.4 was expected"),
        ("one", "true", "green: `one` is 1, and true was expected"),
        ("ok", "1", "green: `ok` is true, and 1 was expected"),
        ("no", "false", "green: `no` is null, and false was expected"),
        ("text", "1.5", 'green: `text` is "1.50", and 1.5 was expected'),
        ("huge", "1.5", "green: `huge` is 1" + "0" * 99 + ", and 1.5 was expected"),
        ("huge", "NaN", "green: `huge` is 1" + "0" * 99 + ", and NaN was expected"),
        ("list", "[1, 2, 3]", "green: `list` is [1, 2], and [1, 2, 3] was expected"),
        ("gone", "1", "green: the answer has no `gone`"),
        ("predictions.3", "1", "green: the answer has no `predictions.3`"),
        ("predictions.--1", "1", "green: the answer has no `predictions.--1`"),
        ("predictions.²", "1", "green: the answer has no `predictions.²`"),
        ("predictions.x", "1", "green: the answer has no `predictions.x`"),
        ("one.x", "1", "green: the answer has no `one.x`"),
        ("", "1", "green: the answer has no ``"),
    ],
)
async def test_values_that_are_not(path, wanted, sentence):
    answer = replace(GOOD, body=json.dumps(DOCUMENT).encode())
    result = await asked(TestStep(test="green", expect={"json": {path: wanted}}), answer)
    assert (result.ok, result.detail) == (False, sentence)


@pytest.mark.parametrize("body", [b"", b"<html>", b"\xff\xfe{}", b"[" * 100_000])
async def test_an_answer_that_is_not_json(body):
    result = await asked(TestStep(test="green", expect={"json": {"x": "1"}}), replace(GOOD, body=body))
    assert (result.ok, result.detail) == (False, "green answered with something that is not JSON")


async def test_a_provider_that_cannot_send():
    class Mute:
        name = "mute"

    for result in (
        await run_test(TestStep(test="green"), b"", provider=Mute(), endpoint="shop"),  # type: ignore[arg-type]
        await run_load(LoadStep(load=5, request="r"), b"", provider=Mute(), endpoint="shop"),  # type: ignore[arg-type]
    ):
        assert (result.ok, result.detail) == (False, "provider mute cannot send requests")


@pytest.mark.looptime
async def test_the_steps_of_a_real_plan(lab):
    lab.steps = """
  - deploy: green
  - test: green
    repeat: 3
  - load: 50/s
    for: 4s
    request: {body: "{}"}
  - load: 30
    request: {body: "{}"}
"""
    rollout = await lab.run()
    assert rollout.phase == "succeeded"
    said = [event.body.detail for event in lab.seen if event.body.kind == "task_ended"]
    assert said[0].startswith("green answered 200 3 times, at most ")
    assert said[1:] == [
        "200 requests sent, 0 of them without a 2xx answer",
        "30 requests sent, 0 of them without a 2xx answer",
    ]


# --- load ---


@pytest.mark.looptime
async def test_what_is_sent_and_what_came_of_it():
    ill = replace(GOOD, status=503)
    provider = Scripted(GOOD, ill, Temporary("no answer"), GOOD)
    assert await send(provider, "shop", b"x", rate=None, count=20) == (18, 2)
    assert provider.asked[0][0].body == b"x"
    assert {deployment for _, deployment, _ in provider.asked} == {None}


@pytest.mark.looptime
async def test_a_rate_is_kept_and_a_slow_endpoint_does_not_pile_up():
    loop = asyncio.get_running_loop()

    class Slow(Scripted):
        under_way = most = 0

        async def invoke(self, *args: object, **kwargs: object) -> Response:
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            await asyncio.sleep(10)
            self.under_way -= 1
            return await super().invoke(*args, **kwargs)  # type: ignore[arg-type]

    quick, slow = Scripted(GOOD), Slow(GOOD)
    assert await send(quick, "shop", b"", rate=10, count=50) == (50, 0)
    assert 4.8 <= loop.time() <= 5.2
    sending = asyncio.create_task(send(slow, "shop", b"", rate=100, count=None))
    await asyncio.sleep(60)
    assert slow.most == 64
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    assert len(slow.asked) <= 64 * 6


# --- the process beside a rollout ---

STREAM = Stream("memory", {"world": "child"}, "/nonexistent", None, "/", "shop", '{"secret": "hidden"}', 50.0)


async def until(condition: Callable[[], bool], what: str, seconds: float = 30) -> None:
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while not condition():
        assert loop.time() < end, f"{what}: not within {seconds} s"
        await asyncio.sleep(0.02)


@pytest.fixture
def children() -> Iterator[Callable[[], list[psutil.Process]]]:
    before = {child.pid for child in psutil.Process().children()}

    def now() -> list[psutil.Process]:
        found = []
        for child in psutil.Process().children():
            with contextlib.suppress(psutil.NoSuchProcess):
                if child.pid not in before and "orchestrator.tasks.load_child" in child.cmdline():
                    found.append(child)
        return found

    yield now
    for child in now():
        child.kill()


async def test_the_child_is_started_once_and_told_nothing_in_its_arguments(children):
    load = LoadProcess(STREAM)
    try:
        await load.ensure()
        await load.ensure()
        await until(lambda: len(children()) == 1, "one child")
        (child,) = children()
        assert child.cmdline() == [sys.executable, "-P", "-m", "orchestrator.tasks.load_child"]
        assert "hidden" not in " ".join([*child.cmdline(), *child.environ().values()])
        assert os.getsid(child.pid) == child.pid, "an interrupt at the terminal is not for it"
    finally:
        await load.stop()
    await until(lambda: not children(), "the child is gone")
    await load.stop()


async def test_a_child_that_cannot_send_says_why(children):
    load = LoadProcess(replace(STREAM, provider="nowhere"))
    try:
        async with asyncio.timeout(30):
            while load.problem is None:
                await load.ensure()
                await asyncio.sleep(0.05)
        assert "nowhere" in load.problem
        assert "Traceback" not in load.problem
    finally:
        await load.stop()


async def test_a_child_that_dies_is_started_again_but_not_in_a_hurry(children):
    load = LoadProcess(STREAM)
    try:
        await load.ensure()
        await until(lambda: len(children()) == 1, "one child")
        (first,) = children()
        first.kill()

        async def again() -> None:
            while not [child for child in children() if child.pid != first.pid]:
                await load.ensure()
                await asyncio.sleep(0.02)

        began = asyncio.get_running_loop().time()
        await asyncio.wait_for(again(), 30)
        assert asyncio.get_running_loop().time() - began > 0.5
    finally:
        await load.stop()
    await until(lambda: not children(), "the child is gone")


PARENT = """
import asyncio, json, sys
from orchestrator.tasks.load import LoadProcess, Stream

async def main():
    load = LoadProcess(Stream(**json.loads(sys.argv[1])))
    await load.ensure()
    print(load._process.pid, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.mark.parametrize("after", ["at once", "while it sends"])
async def test_a_child_ends_when_its_parent_is_killed(after):
    given: Mapping[str, object] = {name: getattr(STREAM, name) for name in STREAM.__dataclass_fields__}
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, json.dumps(given), stdout=asyncio.subprocess.PIPE
    )
    child: psutil.Process | None = None
    try:
        assert parent.stdout is not None
        child = psutil.Process(int(await asyncio.wait_for(parent.stdout.readline(), 30)))
        if after == "while it sends":
            # It has read what to send: the interpreter is up, and it works.
            await until(lambda: child.cpu_times().user > 0 and child.num_threads() >= 1, "the child works")
            await until(lambda: bool(imported(child)), "the child opened its provider")
        os.kill(parent.pid, signal.SIGKILL)
        await parent.wait()
        await until(lambda: not alive(child), "the child has ended")
    finally:
        for process in (parent.pid, child.pid if child else None):
            with contextlib.suppress(ProcessLookupError, TypeError):
                os.kill(process, signal.SIGKILL)  # type: ignore[arg-type]


def alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def imported(process: psutil.Process) -> list[str]:
    """Compiled modules of numpy that it has mapped: the simulated provider is the last thing that it imports."""
    try:
        return [mapped.path for mapped in process.memory_maps() if "numpy" in mapped.path]
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return []
