"""Why a one-shot step did not succeed: the part of a rollout's reason that the step itself says."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from orchestrator import notify
from orchestrator.secrets import Resolver
from orchestrator.tasks.load import LoadProcess, Stream, run_load
from orchestrator.tasks.result import TaskResult
from orchestrator.tasks.test import run_test
from orchestrator.tasks.webhook import run_webhook
from plans.steps import LoadStep, TestStep, WebhookStep
from providers.base import Response
from providers.errors import Temporary
from providers.http import Http
from tests.engine.hook import listening
from tests.messages.bench import Bed, Bench, direct, lab, real
from tests.messages.entry import TOLD_BELOW, TRY, Message

DEAF: Any = SimpleNamespace(name="other")
GOOD = Response(200, b'{"predictions": [1.5]}', 0.012, {}, "green")


class Answering:
    """A deployment that answers just so."""

    name = "other"

    def __init__(self, answer: Response | Exception) -> None:
        self.answer = answer

    async def invoke(self, *_: object, **__: object) -> Response:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def tested(answer: Response | Exception, **step: Any) -> Callable[..., Any]:
    """A test step that gets this answer."""
    made = TestStep(test="green", **step)
    return direct(lambda: run_test(made, b"{}", provider=Answering(answer), endpoint="shop"))  # type: ignore[arg-type]


def told(*, secrets: dict[str, str] | None = None, **step: Any) -> Callable[..., Any]:
    """A webhook step; HOOK is where a server listens, which answers as `server` says."""
    server = step.pop("server", {})

    async def send(bench: Bench) -> TaskResult:
        async with listening() as hook:
            for name, value in server.items():
                setattr(hook, name, value)
            resolve = Resolver({"HOOK": hook.url, **(secrets or {})}, bench.folder)
            made = WebhookStep(**{"webhook": "${env:HOOK}", **step})
            return await run_webhook(made, key="k", resolve=resolve, facts={})

    return real(send)


def read(text: str, arrange: Callable[[Bench], Any] | None = None) -> Callable[..., Any]:
    """A reference to a secret, looked up."""

    def look(bench: Bench) -> str:
        if arrange is not None:
            arrange(bench)
        return Resolver({}, bench.folder)(text)

    return direct(look)


def notified(deliver: Callable[..., Any], url: str = "https://chat.example/hook", **changes: Any) -> Callable[..., Any]:
    """A rollout tells a webhook; what the journal says of the last delivery."""

    async def play(made: Bed) -> str:
        made.steps = "\n  - deploy: green\n"
        made.head = f"notify: [{{url: '{url}'}}]"
        made.bench.patch(notify.Notifier, "_over_http", deliver)
        for name, value in changes.items():
            made.bench.patch(notify, name, value)
        await made.run()
        details = [event.body.detail for event in made.seen if event.body.kind == "notified"]
        return next((detail for detail in details if "waited" in detail), details[-1])

    return lab(play)


async def mistaken(*_: object) -> TaskResult:
    """A mistake of ours."""
    raise ZeroDivisionError


async def silent(*_: object) -> TaskResult:
    """Nobody answers."""
    await asyncio.sleep(3600)
    raise AssertionError


async def sent_again(bench: Bench) -> str:
    """Its provider is not installed any more."""
    stream = Stream("nowhere", {}, str(bench.home), None, str(bench.folder), "shop", "{}", 10.0)
    load = LoadProcess(stream)
    try:
        while load.problem is None:
            await load.ensure()
            await asyncio.sleep(0.05)
        return load.problem
    finally:
        await load.stop()


async def sent(bench: Bench, *, delay: float = 0.0, closed: bool = False, limit: int | None = None) -> Any:
    """A request to a server that is slow, or away, or says more than one wants to hear."""
    async with listening() as hook:
        hook.delay, url = delay, hook.url
        if not closed:
            await Http(direct=True).send("POST", url, timeout=0.2 if delay else 5.0, limit=limit)
    await Http(direct=True).send("POST", url, timeout=1.0)


def part(where: str, when: str, cause: Callable[..., Any], marked: str) -> Message:
    """Words that stand in the reason of a rollout, after the name of the step."""
    return Message(where, when, cause, marked, None, do=TOLD_BELOW)


TESTS = [
    part(
        "tasks.test.run_test",
        "a test step, and the provider cannot send requests",
        direct(lambda: run_test(TestStep(test="green"), b"", provider=DEAF, endpoint="shop")),
        "provider other cannot send requests",
    ),
    part(
        "tasks.test.run_test",
        "a test step, and the provider gives no answer",
        tested(Temporary("Deployment green of endpoint shop did not answer within 30 s.")),
        "Deployment green of endpoint shop did not answer within 30 s.",
    ),
    part(
        "tasks.test.run_test",
        "the first of several requests of a test step is answered wrongly",
        tested(Response(500, b"no", 0.01, {}, "green"), repeat=3),
        "request 1 of 3: green answered 500 instead of 200: no",
    ),
    part(
        "tasks.test.run_test",
        "another deployment answers",
        tested(Response(200, b"", 0.01, {}, "blue")),
        "blue answered instead of green",
    ),
    part(
        "tasks.test.run_test",
        "the answer comes too late",
        tested(GOOD, expect={"max_latency": "10ms"}),
        "green took 12 ms, more than 10 ms",
    ),
    part(
        "tasks.test.run_test",
        "the answer is no JSON",
        tested(Response(200, b"<html>", 0.01, {}, "green"), expect={"json": {"predictions.0": "1.5"}}),
        "green answered with something that is not JSON",
    ),
    part(
        "tasks.test.run_test",
        "the answer lacks a value",
        tested(GOOD, expect={"json": {"predictions.7": "1.5"}}),
        "green: the answer has no `predictions.7`",
    ),
    part(
        "tasks.test.run_test",
        "the answer has another value",
        tested(GOOD, expect={"json": {"predictions.0": "2.5"}}),
        "green: `predictions.0` is 1.5, and 2.5 was expected",
    ),
]

WEBHOOKS = [
    part(
        "tasks.webhook.send", "a webhook answers with an error", told(server={"status": 503}), "127.0.0.1 answered 503"
    ),
    part(
        "tasks.webhook.send",
        "nobody answers a webhook in time",
        told(server={"delay": 30.0}, timeout="200ms"),
        "127.0.0.1 could not be reached, or gave no answer within 200ms",
    ),
    part(
        "tasks.webhook.send",
        "a webhook redirects to another host",
        told(server={"moved": {"/hook": (307, "http://localhost:9/")}}),
        "127.0.0.1 answered 307: «a redirect is followed to the same host and port only, or to its https»",
    ),
    part(
        "tasks.webhook.send",
        "a webhook redirects in a circle",
        told(server={"moved": {"/hook": (302, "/hook")}}),
        "127.0.0.1 redirected more than 3 times",
    ),
    part(
        "tasks.webhook.send",
        "a webhook's address is a secret, and is none",
        told(secrets={"HOOK": "not an address"}),
        "the webhook's address is no URL: «it must be http:// or https://, a host and a path»",
    ),
    part(
        "tasks.webhook.send",
        "a webhook's header is a secret with a line break in it",
        told(headers={"X-Token": "${env:TOKEN}"}, secrets={"TOKEN": "a\nb"}),
        "the value of header x-token cannot be sent: «it must be one line of plain ASCII»",
    ),
    part(
        "tasks.webhook.send",
        "the secret that signs a webhook is empty",
        told(secret="${env:KEY}", secrets={"KEY": ""}),
        "the webhook's secret is empty: a signature with it would prove nothing",
    ),
    part(
        "tasks.webhook.run_webhook secrets._value",
        "a webhook's secret is not in the environment",
        told(secret="${env:KEY}"),
        "${env:KEY}: the environment has no KEY; «set it and try again»",
    ),
    part(
        "notify._deliver secrets._value",
        "a notification's address is not in the environment",
        notified(silent, "${env:CHAT}"),
        "${env:CHAT}: the environment has no CHAT; «set it and try again»",
    ),
    part(
        "notify._deliver_all",
        "a mistake of ours while a notification is sent",
        notified(mistaken),
        "stopped by an error of its own (ZeroDivisionError)",
    ),
    part(
        "notify.drain",
        "nobody takes the notifications that are left when a rollout has ended",
        notified(silent),
        "given up: not done 10s after the driver had finished",
    ),
    part(
        "notify._queue",
        "a thousand notifications wait for one webhook (here two)",
        notified(silent, MOST_WAITING=2),
        "given up: more than 2 notifications waited for this webhook",
    ),
]

SECRETS = [
    Message(
        "secrets._value",
        "a secret's file is not there",
        read("${file:key}"),
        "${file:key}: <folder>/key cannot be read (No such file or directory)",
        3,
    ),
    Message(
        "secrets._value",
        "a secret's file is large",
        read("${file:key}", lambda b: b.write("key", "x" * 70_000)),
        "${file:key}: <folder>/key is larger than 64 KiB, which is no secret",
        3,
    ),
    Message(
        "secrets._value",
        "a secret's file is no text",
        read("${file:key}", lambda b: (b.folder / "key").write_bytes(b"\xff\xfe")),
        "${file:key}: <folder>/key is not text in UTF-8",
        3,
    ),
]

LOADS = [
    part(
        "tasks.load.run_load",
        "a load step, and the provider cannot send requests",
        direct(lambda: run_load(LoadStep(load="10", request={"body": ""}), b"", provider=DEAF, endpoint="shop")),
        "provider other cannot send requests",
    ),
    part(
        "tasks.load_child.(module)",
        "the process that sends a plan's load ends, and is started again",
        real(sent_again),
        "Provider nowhere is not known: there is local, memory.",
    ),
]

SENT = [
    Message(
        "http.send",
        "an HTTP request gets no answer in time",
        real(lambda bench: sent(bench, delay=30.0)),
        "POST http://127.0.0.1:<port>/hook got no answer within 0.2 s.",
        3,
        do=TRY,
    ),
    Message(
        "http.send",
        "an HTTP request to an address that is none",
        real(lambda: Http().send("GET", "http://a\x7f/", timeout=1.0)),
        "GET http://a/ is no valid address: Invalid non-printable ASCII character in URL, '\\x7f' at position 8..",
        3,
    ),
    Message(
        "http.send",
        "nobody listens where an HTTP request goes",
        real(lambda bench: sent(bench, closed=True)),
        "POST http://127.0.0.1:<port>/hook failed: All connection attempts failed.",
        3,
        do=TRY,
    ),
    Message(
        "http.send",
        "the answer to an HTTP request is larger than whoever asks can use",
        real(lambda bench: sent(bench, limit=0)),
        "POST http://127.0.0.1:<port>/hook was answered with more than 0 bytes: «ask for less».",
        3,
    ),
    Message(
        "http.send",
        "a secret with a character that no header may have",
        real(lambda: Http().send("GET", "http://a/", headers={"authorization": "\u20ac"}, timeout=1.0)),
        "GET http://a/ cannot be sent: a header holds a character that none may: «check the secret in it».",
        3,
    ),
]

ENTRIES = [*TESTS, *WEBHOOKS, *SECRETS, *LOADS, *SENT]
