"""Webhooks hear of a rollout beside it: in virtual time with a sender to order, and over HTTP from a real server."""

import asyncio
import hashlib
import hmac
import itertools
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from orchestrator import app as use_cases
from orchestrator import events as ev
from orchestrator import ids, notify
from orchestrator.notify import Notifier, names_of, undelivered
from orchestrator.rollout import Rollout, apply
from orchestrator.secrets import Resolver
from orchestrator.standing import Roles, Snapshot, Split
from orchestrator.tasks.result import TaskResult
from orchestrator.tasks.webhook import Message
from plans.model import Notification
from providers.errors import Permanent
from tests.engine.hook import Hook, listening

EPOCH = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
ROLES = Roles("green", "blue", Split({"blue": 1000}), {"blue": 2})
PAUSED = ev.Paused("asked", "lunch")
RESUMED = ev.Resumed(restart=False)
DONE = TaskResult(True, "it answered 200")
BUSY = TaskResult(False, "it answered 500", retry=True)
GONE = TaskResult(False, "it answered 410")


class Story:
    """A journal that is told to a notifier as a driver does it: one event, then its words."""

    def __init__(self, *notifiers: Notifier) -> None:
        self.notifiers = notifiers
        self.rollout: Rollout | None = None
        self.events: list[ev.Event] = []
        stages = ("deploy green", "promote 100%")
        self.tell(ev.Started("shop", "/p.yml", "memory", "memory:shop", "shop", "0" * 64, ROLES, stages, Snapshot()))
        self.tell(ev.Driven("w", "laptop", 4711, 1))

    def tell(self, *bodies: ev.Body) -> "Story":
        for body in bodies:
            seq = len(self.events) + 1
            at = EPOCH + timedelta(seconds=seq)
            event = ev.Event("shop-1", seq, f"e{seq}", at, "engine", 1, body)
            self.rollout = apply(self.rollout, event)
            self.events.append(event)
            for notifier in self.notifiers:
                notifier.tell(self.rollout, [event])
        return self

    def pauses(self, count: int) -> "Story":
        for _ in range(count):
            self.tell(PAUSED, RESUMED)
        return self


@dataclass
class Sender:
    """What was sent when; answers by URL: the next of a list, whose last one stays. A number is slept before that."""

    answers: dict[str, list[TaskResult | Exception | float]] = field(default_factory=dict)
    sent: list[tuple[float, Message]] = field(default_factory=list)

    async def __call__(self, message: Message) -> TaskResult:
        self.sent.append((asyncio.get_running_loop().time(), message))
        answers = self.answers.get(message.url, [DONE])
        while True:
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
            if isinstance(answer, Exception):
                raise answer
            if isinstance(answer, TaskResult):
                return answer
            await asyncio.sleep(answer)

    def to(self, url: str) -> list[str]:
        """The keys of what was sent there, in order."""
        return [message.key for _, message in self.sent if message.url == url]

    def at(self) -> list[float]:
        return [at for at, _ in self.sent]


A, B = "https://a.example/hook", "https://b.example/hook"


def hooks(*urls: str, **fields: object) -> list[Notification]:
    return [Notification(url=url, **fields) for url in urls]  # type: ignore[arg-type]


def notifier(sender: Sender, *targets: Notification, resolve: Callable[[str], str] = str) -> Notifier:
    return Notifier(targets or hooks(A), resolve=resolve, send=sender)


def short(results: list[ev.Notified]) -> list[tuple[int, int, bool, int]]:
    return [(each.seq, each.target, each.ok, each.attempts) for each in results]


def journal(story: Story, results: list[ev.Notified]) -> list[ev.Event]:
    """The story as it is once the driver has written down what became of its deliveries."""
    last = story.events[-1]
    return [*story.events, *(replace(last, seq=last.seq + n, body=body) for n, body in enumerate(results, start=1))]


# --- in virtual time ---


@pytest.mark.looptime
async def test_a_webhook_hears_in_order_of_what_it_asked_for():
    sender, targets = Sender(), [*hooks(A), *hooks(B, events=("paused", "failed"))]
    tells = notifier(sender, *targets)
    story = Story(tells).tell(PAUSED, RESUMED, ev.Finished("failed", "stuck"))
    assert (sender.sent, tells.take_results()) == ([], []), "telling returns at once"
    results = await tells.drain(60)
    assert sender.to(A) == ["shop-1.1.0", "shop-1.3.0", "shop-1.4.0", "shop-1.5.0"]
    assert sender.to(B) == ["shop-1.3.1", "shop-1.5.1"]
    assert [each for each in short(results) if each[1] == 1] == [(3, 1, True, 1), (5, 1, True, 1)]
    assert {(each.target, each.host, each.detail) for each in results} == {
        (0, "a.example", "it answered 200"),
        (1, "b.example", "it answered 200"),
    }
    assert undelivered(journal(story, results), targets) == []
    assert tells.take_results() == [], "each result is handed out once"
    assert asyncio.get_running_loop().time() == 0, "nothing was waited for"


@pytest.mark.looptime
async def test_what_is_sent():
    sender = Sender()
    secrets = {"${env:HOOK}": A, "${env:KEY}": "s3cret"}
    tells = notifier(sender, *hooks("${env:HOOK}", secret="${env:KEY}"), resolve=secrets.__getitem__)
    Story(tells)
    await tells.drain(60)
    ((_, message),) = sender.sent
    assert (message.url, message.secret, message.method, message.timeout) == (A, "s3cret", "POST", 10.0)
    assert message.headers == {"x-rollout-event": "started"}
    assert json.loads(message.body) == {
        "event": "started",
        "rollout": "shop-1",
        "name": "shop",
        "endpoint": "shop",
        "phase": "pending",
        "step": None,
        "candidate": "green",
        "stable": "blue",
        "traffic": {},
        "reason": None,
        "at": "2026-03-02T09:00:01+00:00",
        "seq": 1,
        "id": "e1",
    }


@pytest.mark.looptime
async def test_five_retries_further_and_further_apart_under_the_same_key():
    sender = Sender({A: [BUSY]})
    tells = notifier(sender, *hooks(A, events=("started", "paused")))
    story = Story(tells)
    results = await tells.drain(600)
    waits = [ids.back_off("shop-1.1.0", attempt, first=1.0, most=60.0) for attempt in range(1, 6)]
    assert sender.at() == pytest.approx(list(itertools.accumulate(waits, initial=0.0)), abs=0.001)
    assert all(0.5 * 2**n <= wait <= 2**n for n, wait in enumerate(waits))
    assert len({(message.key, message.body) for _, message in sender.sent}) == 1
    assert results == [ev.Notified(1, 0, "a.example", False, "it answered 500", 6)]
    sender.answers[A] = [BUSY, DONE]
    story.tell(PAUSED)
    assert short(await tells.drain(600)) == [(3, 0, True, 2)], "the next one is told all the same"


@pytest.mark.looptime
async def test_what_makes_no_sense_is_not_tried_again_and_the_next_is_told():
    sender = Sender({A: [GONE, DONE]})
    tells = notifier(sender, *hooks(A, events=("started", "paused")))
    Story(tells).tell(PAUSED)
    assert [(each.ok, each.detail, each.attempts) for each in await tells.drain(60)] == [
        (False, "it answered 410", 1),
        (True, "it answered 200", 1),
    ]


@pytest.mark.looptime
async def test_one_that_hangs_delays_no_other():
    loop = asyncio.get_running_loop()
    sender = Sender({A: [10.0, BUSY, 10.0, BUSY, DONE]})
    tells = notifier(sender, *hooks(A, B))
    Story(tells).tell(PAUSED)
    await asyncio.sleep(0.001)
    assert short(tells.take_results()) == [(1, 1, True, 1), (3, 1, True, 1)]
    assert sender.to(A) == ["shop-1.1.0"]
    assert short(await tells.drain(600)) == [(1, 0, True, 3), (3, 0, True, 1)], "in its own order"
    assert 20 < loop.time() < 24


@pytest.mark.looptime
async def test_of_too_many_the_oldest_is_given_up():
    sender = Sender({A: [100.0, DONE]})
    tells = notifier(sender, *hooks(A, B))
    story = Story(tells)
    await asyncio.sleep(1)
    assert short(tells.take_results()) == [(1, 1, True, 1)]
    story.pauses(500)
    await asyncio.sleep(1)
    assert [each for each in tells.take_results() if each.target == 0] == [], "1000 may wait"
    story.tell(PAUSED, RESUMED)
    why = "given up: more than 1000 notifications waited for this webhook"
    assert tells.take_results() == [ev.Notified(seq, 0, "a.example", False, why, 0) for seq in (3, 4)]
    results = await tells.drain(600)
    assert short([each for each in results if each.target == 0]) == [(1, 0, True, 1)] + [
        (seq, 0, True, 1) for seq in range(5, 1005)
    ]


@pytest.mark.looptime
async def test_at_the_end_what_is_left_is_given_up_and_said():
    loop = asyncio.get_running_loop()
    sender = Sender({A: [BUSY, 900.0, DONE], B: [900.0, DONE]})
    targets = hooks(A, B, events=("started", "paused"))
    tells = notifier(sender, *targets)
    story = Story(tells).tell(PAUSED)
    results = await tells.drain(5)
    assert loop.time() == 5
    why = "given up: not done 5s after the driver had finished"
    assert results == [
        ev.Notified(1, 0, "a.example", False, f"{why}; the last try: it answered 500", 2),
        ev.Notified(3, 0, "a.example", False, why, 0),
        ev.Notified(1, 1, "b.example", False, why, 1),
        ev.Notified(3, 1, "b.example", False, why, 0),
    ]
    assert undelivered(journal(story, results), targets) == []
    assert asyncio.all_tasks() == {asyncio.current_task()}, "nothing goes on behind its back"
    story.tell(RESUMED, PAUSED)
    assert short(await tells.drain(5)) == [(5, 0, True, 1), (5, 1, True, 1)], "what was given up is not told any more"


@pytest.mark.looptime
@pytest.mark.parametrize("how", ["drained, to be gone on with", "closed"])
async def test_what_one_driver_leaves_the_next_delivers_with_the_same_words(how):
    first = Sender({A: [DONE, 900.0, DONE], B: [900.0, DONE]})
    targets = hooks(A, B)
    tells = notifier(first, *targets)
    story = Story(tells).tell(PAUSED, RESUMED)
    results = await tells.drain(5, give_up=False)
    if how == "closed":
        tells.tell(story.rollout, story.events)
        assert await tells.drain(0, give_up=False) == [], "an event is queued once"
    await tells.aclose()
    assert short(results) == [(1, 0, True, 1)]
    left = [(3, 0), (4, 0), (1, 1), (3, 1), (4, 1)]
    assert sorted((event.seq, place) for event, place in undelivered(journal(story, results), targets)) == sorted(left)

    second = Sender()
    takes_over = notifier(second, *targets)
    takes_over.catch_up(journal(story, results))
    story.notifiers = (takes_over,)
    story.tell(PAUSED)
    rest = await takes_over.drain(5)
    assert [(each.seq, each.target) for each in rest if each.target == 0] == [(3, 0), (4, 0), (5, 0)]
    assert [(each.seq, each.target) for each in rest if each.target == 1] == [(1, 1), (3, 1), (4, 1), (5, 1)]
    before, after = ({message.key: message for _, message in each.sent} for each in (first, second))
    twice = before.keys() & after.keys()
    assert twice == {"shop-1.3.0", "shop-1.1.1"}
    assert all(before[key] == after[key] for key in twice), "whoever compares a repetition finds it the same"


@pytest.mark.looptime
async def test_nothing_left_is_nothing_to_catch_up_with():
    sender = Sender()
    tells = notifier(sender)
    tells.catch_up([])
    tells.catch_up(journal(Story(), [ev.Notified(1, 0, "a.example", False, "given up", 6)]))
    assert (await tells.drain(5), sender.sent) == ([], [])


@pytest.mark.looptime
async def test_a_secret_that_cannot_be_had_is_named_and_the_next_is_told():
    sender, found = Sender(), {}

    def resolve(text: str) -> str:
        if text not in found:
            raise Permanent(f"{text}: the environment has no such thing")
        return found[text]

    urls = ("${env:HOOK}", "https://c.example/${env:HOOK}", "https://${file:/host}/x", "https://${env:HOST}/x")
    tells = notifier(sender, *hooks(*urls), resolve=resolve)
    story = Story(tells)
    assert await tells.drain(60) == [
        ev.Notified(1, place, host, False, f"{url}: the environment has no such thing", 0)
        for place, (host, url) in enumerate(
            zip(("notify[0]", "c.example", "notify[2]", "notify[3]"), urls, strict=True)
        )
    ]
    found["${env:HOOK}"] = A
    story.tell(PAUSED)
    assert [(each.host, each.ok) for each in await tells.drain(60)] == [
        ("a.example", True),
        ("c.example", False),
        ("notify[2]", False),
        ("notify[3]", False),
    ]


@pytest.mark.looptime
@pytest.mark.parametrize("error", [RuntimeError("https://a.example/hidden"), Permanent("https://a.example/hidden")])
async def test_a_mistake_of_our_own_costs_one_notification(error):
    sender = Sender({A: [error, DONE]})
    tells = notifier(sender)
    Story(tells).tell(PAUSED)
    assert [(each.ok, each.detail) for each in await tells.drain(60)] == [
        (False, f"stopped by an error of its own ({type(error).__name__})"),
        (True, "it answered 200"),
    ]


@pytest.mark.looptime
async def test_control_characters_in_what_came_back_are_replaced():
    tells = notifier(Sender({A: [TaskResult(False, "it said \x1b[2J\u202e")]}))
    Story(tells)
    assert [each.detail for each in await tells.drain(60)] == ["it said ?[2J?"]


@pytest.mark.looptime
async def test_a_cancelled_drain_leaves_everything_as_it_was():
    sender = Sender({A: [30.0, DONE]})
    tells = notifier(sender)
    Story(tells)
    draining = asyncio.create_task(tells.drain(60))
    await asyncio.sleep(1)
    draining.cancel()
    await asyncio.gather(draining, return_exceptions=True)
    assert short(await tells.drain(60)) == [(1, 0, True, 1)]
    assert sender.to(A) == ["shop-1.1.0"]


PLAN = f"""
notify:
  - url: {A}
  - {{url: {B}, events: [started, step_passed, succeeded]}}
  - {{url: "https://c.example/hook", secret: "${{env:KEY}}", events: paused}}
  - {{url: "https://d.example/hook", secret: "${{env:KEY}}", events: succeeded}}
"""


def sent_by(monkeypatch: pytest.MonkeyPatch, sender: Sender) -> None:
    """Every rollout's notifications go to this sender from now on."""
    monkeypatch.setattr(use_cases, "Notifier", partial(Notifier, send=sender))


def notified(events: Sequence[ev.Event], target: int) -> list[tuple[int, bool]]:
    return [
        (each.body.seq, each.body.ok) for each in events if each.body.kind == "notified" and each.body.target == target
    ]


@pytest.mark.looptime
async def test_a_rollout_is_not_held_up_by_webhooks_that_fail_and_says_so(lab, monkeypatch):
    """One webhook hangs for ever, one stutters, the secret of one is not there."""
    sender = Sender({A: [9.0, BUSY], B: [0.3, BUSY, 0.3, DONE, 0.3, BUSY, BUSY, 0.1, DONE]})
    sent_by(monkeypatch, sender)
    lab.head = PLAN
    rollout = await lab.run()
    assert (rollout.phase, rollout.reason) == ("succeeded", "shop now serves green 100%")
    end = next(event for event in lab.seen if event.body.kind == "finished")
    assert end.at < EPOCH + timedelta(seconds=60), "ten notifications would have taken the first ten minutes"

    heard = [event for event in lab.seen if names_of(event) is not None]
    assert [names_of(event) for event in heard] == ["started", *["step_passed"] * 8, "succeeded"]
    assert notified(lab.seen, 0) == [(event.seq, False) for event in heard]
    assert notified(lab.seen, 1) == [(event.seq, True) for event in heard]
    assert notified(lab.seen, 2) == []
    (missing,) = (event.body for event in lab.seen if event.body.kind == "notified" and event.body.target == 3)
    assert (missing.host, missing.ok, missing.attempts) == ("d.example", False, 0)
    assert missing.detail == "${env:KEY}: the environment has no KEY; set it and try again"

    said = {message.key: json.loads(message.body) for _, message in sender.sent if message.url == B}
    words = list(said.values())
    assert [each["step"] for each in words] == [None, *(record.name for record in rollout.stages), None]
    assert [each["traffic"] for each in words[5:]] == [
        {"blue": 90, "green": 10},
        {"blue": 50, "green": 50},
        {"green": 100},
        {"green": 100},
        {"green": 100},
    ]
    assert (words[-1]["phase"], words[-1]["reason"]) == ("succeeded", rollout.reason)
    assert {(each["endpoint"], each["candidate"], each["stable"]) for each in words} == {("shop", "green", "blue")}


@pytest.mark.looptime
async def test_what_an_interrupted_driver_did_not_deliver_the_next_one_does(lab, monkeypatch):
    first, second = Sender({A: [BUSY], B: [BUSY]}), Sender()
    sent_by(monkeypatch, first)
    lab.head = PLAN
    lab.on_event.append(lambda _, event: lab.stop.set() if names_of(event) == "step_passed" else None)
    left = await lab.run()
    assert left.active
    assert notified(lab.seen, 1) == [], "nothing was given up: somebody will go on"
    lab.on_event.clear()
    lab.stop, before = asyncio.Event(), list(lab.seen)

    sent_by(monkeypatch, second)
    rollout = await lab.resume()
    assert rollout.phase == "succeeded"
    wanted = [event.seq for event in before if names_of(event) in ("started", "step_passed")]
    assert notified(lab.seen, 1)[: len(wanted)] == [(seq, True) for seq in wanted]
    told = {message.key: message for _, message in first.sent if message.url == B}
    again = {message.key: message for _, message in second.sent if message.url == B}
    assert told
    assert all(again[key] == message for key, message in told.items())
    assert len(again) == len(second.to(B)), "each but once"


# --- over HTTP, in real time ---


@asynccontextmanager
async def over_http(tmp_path: Path, *targets: Notification, **environment: str) -> AsyncIterator[Notifier]:
    tells = Notifier(targets, resolve=Resolver(environment, tmp_path))
    try:
        yield tells
    finally:
        await tells.aclose()


@pytest.fixture
async def hook() -> AsyncIterator[Hook]:
    async with listening() as made:
        yield made


@pytest.fixture
async def other() -> AsyncIterator[Hook]:
    async with listening() as made:
        yield made


async def test_whoever_knows_the_secret_can_tell_that_it_is_from_us(hook, tmp_path):
    target = Notification(url="${env:HOOK}?token=${env:TOKEN}", secret="${file:key}", events=("paused",))
    (tmp_path / "key").write_text("s3cret-k3y\n")
    async with over_http(tmp_path, target, HOOK=hook.url, TOKEN="hidden") as tells:
        story = Story(tells).tell(PAUSED)
        results = await tells.drain(30)
    assert results == [ev.Notified(3, 0, "127.0.0.1", True, "127.0.0.1 answered 200", 1)]
    (heard,) = hook.heard
    assert (heard.method, heard.path) == ("POST", "/hook?token=hidden")
    signature = hmac.new(b"s3cret-k3y", heard.body, hashlib.sha256).hexdigest()
    assert heard.headers["x-rollout-signature"] == f"sha256={signature}"
    assert heard.headers["x-rollout-event"] == "paused"
    assert heard.headers["content-type"] == "application/json"
    assert heard.headers["idempotency-key"] == "shop-1.3.0"
    assert json.loads(heard.body) == notify.facts(story.rollout, story.events[-1])


async def test_busy_twice_then_well(hook, tmp_path):
    hook.first = [500, 429]
    async with over_http(tmp_path, *hooks(hook.url, events=("started", "paused"))) as tells:
        Story(tells).tell(PAUSED)
        results = await tells.drain(60)
    assert short(results) == [(1, 0, True, 3), (3, 0, True, 1)]
    assert [heard.headers["idempotency-key"] for heard in hook.heard] == ["shop-1.1.0"] * 3 + ["shop-1.3.0"]
    assert len({heard.body for heard in hook.heard[:3]}) == 1


async def test_a_connection_that_breaks_off(hook, tmp_path):
    hook.resets = 1
    async with over_http(tmp_path, *hooks(hook.url)) as tells:
        Story(tells)
        results = await tells.drain(60)
    assert (short(results), len(hook.heard)) == ([(1, 0, True, 2)], 2)


async def test_a_server_that_hangs_is_given_up_and_the_other_is_told_meanwhile(hook, other, tmp_path, monkeypatch):
    monkeypatch.setattr(notify, "TIMEOUT", 0.2)
    hook.delay = 600
    async with over_http(tmp_path, *hooks(hook.url, other.url, events=("started", "paused"))) as tells:
        Story(tells).tell(PAUSED)
        await other.hears(2)
        await hook.hears(2)
        told = tells.take_results()
        left = await tells.drain(0.01)
    assert short(told) == [(1, 1, True, 1), (3, 1, True, 1)]
    assert [(each.seq, each.target, each.ok) for each in left] == [(1, 0, False), (3, 0, False)]
    assert left[0].attempts >= 2
    assert left[0].detail == (
        "given up: not done 10ms after the driver had finished; "
        "the last try: 127.0.0.1 could not be reached, or gave no answer within 200ms"
    )
    assert {heard.headers["idempotency-key"] for heard in hook.heard} == {"shop-1.1.0"}


@pytest.mark.parametrize("status", [302, 308])
async def test_a_redirect_is_followed_to_the_own_host_only(hook, other, tmp_path, status):
    hook.moved = {"/hook": (status, "/new"), "/away": (status, f"http://localhost:{other.port}/hidden")}
    away = f"http://127.0.0.1:{hook.port}/away"
    async with over_http(tmp_path, *hooks(hook.url, away, secret="${env:KEY}"), KEY="s3cret") as tells:
        Story(tells)
        results = sorted(await tells.drain(30), key=lambda each: each.target)
    assert results == [
        ev.Notified(1, 0, "127.0.0.1", True, "127.0.0.1 answered 200", 1),
        ev.Notified(
            1,
            1,
            "127.0.0.1",
            False,
            f"127.0.0.1 answered {status}: a redirect is followed to the same host and port only, or to its https",
            1,
        ),
    ]
    first, second = (heard for heard in hook.heard if heard.path != "/away")
    assert (second.path, second.method, second.body, second.headers) == ("/new", "POST", first.body, first.headers)
    assert other.heard == []


@pytest.mark.parametrize(
    ("url", "host", "detail"),
    [
        ("hidden", "notify[0]", "the webhook's address is no URL: it must be http:// or https://, a host and a path"),
        (
            "http://127.0.0.1/\nhidden",
            "notify[0]",
            "the webhook's address is no URL: it must be http:// or https://, a host and a path",
        ),
    ],
)
async def test_an_address_that_is_none_is_not_shown(tmp_path, url, host, detail):
    async with over_http(tmp_path, *hooks("${env:HOOK}"), HOOK=url) as tells:
        Story(tells)
        assert await tells.drain(30) == [ev.Notified(1, 0, host, False, detail, 1)]


async def test_no_secret_is_in_what_is_reported(hook, tmp_path):
    secret = {"HOOK": f"http://me:hidden@127.0.0.1:{hook.port}/hidden?hidden", "KEY": "hidden"}
    hook.first = [404, 302]
    async with over_http(tmp_path, *hooks("${env:HOOK}", secret="${env:KEY}"), **secret) as tells:
        Story(tells).tell(PAUSED, RESUMED)
        results = await tells.drain(30)
    assert [each.ok for each in results] == [False, False, True]
    assert "hidden" not in repr((results, tells, vars(tells)))
    assert len(hook.heard) == 3


async def test_nobody_is_there(tmp_path):
    async with listening() as gone:
        url = gone.url
    async with over_http(tmp_path, *hooks(url)) as tells:
        Story(tells)
        (result,) = await tells.drain(0.3)
    assert not result.ok
    assert result.detail.endswith("the last try: 127.0.0.1 could not be reached, or gave no answer within 10s")
