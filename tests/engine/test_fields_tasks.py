"""What each field of each one-shot step does: plans that differ in that field alone go differently."""

import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from datetime import datetime

import pytest

from providers.base import Request
from providers.errors import Temporary
from providers.memory.provider import MemoryProvider
from tests.engine.field_effects import HEAD, Lab, Ran, behaving, run_each, when
from tests.engine.hook import Hook, listening

DEPLOYED = HEAD + "steps:\n  - deploy: green\n"
virtual = pytest.mark.looptime


# --- test ---

TESTED = DEPLOYED + "  - test: green\n    FIELD\n"


@pytest.fixture
def asked(monkeypatch) -> list[tuple[Request, str | None]]:
    """What every simulated deployment is asked by name: the request, and which deployment."""
    requests: list[tuple[Request, str | None]] = []
    invoke = MemoryProvider.invoke

    async def noting(self, endpoint, request, *, deployment, timeout):
        requests.append((request, deployment))
        return await invoke(self, endpoint, request, deployment=deployment, timeout=timeout)

    monkeypatch.setattr(MemoryProvider, "invoke", noting)
    return requests


@virtual
async def test_test_says_which_deployment_is_asked(lab, asked) -> None:
    await run_each(lab, DEPLOYED + "  - test: FIELD\n", "green", "blue", "candidate", "stable")
    assert [deployment for _, deployment in asked] == ["green", "blue", "green", "blue"]


@virtual
@pytest.mark.parametrize(
    ("field", "attribute", "default", "changed"),
    [
        ("request: question.json", "body", b"", b'{"data": [1]}'),
        ('request: {body: "[1, 2]"}', "body", b"", b"[1, 2]"),
        ("method: PUT", "method", "POST", "PUT"),
        ("path: /v2/models/m/infer?x=1", "path", "/score", "/v2/models/m/infer?x=1"),
    ],
    ids=["request", "body", "method", "path"],
)
async def test_what_a_test_asks(lab, asked, field, attribute, default, changed) -> None:
    def before(made: Lab) -> None:
        (made.folder / "question.json").write_text('{"data": [1]}')

    await run_each(lab, TESTED, "", field, before=before)
    assert [getattr(request, attribute) for request, _ in asked] == [default, changed]


@virtual
async def test_repeat_is_how_often(lab, asked) -> None:
    once, often = await run_each(lab, TESTED, "", "repeat: 7")
    assert len(asked) == 1 + 7
    assert once.stage("test green").reason.startswith("green answered 200 in ")
    assert often.stage("test green").reason.startswith("green answered 200 7 times, at most ")


ANSWERS = {
    "status": ("status: 500", {"error_rate": 1.0}, "green answered 500 instead of 200: "),
    "json": ("json: {mood: bad}", {"answer": b'{"mood": "good"}'}, 'green: `mood` is "good", and bad was expected'),
    "max_latency": ("max_latency: 100ms", {"latency_us": 300_000, "sigma": 0.0}, "green took 300 ms, more than 100 ms"),
}
"""Field of expect -> the field, how green answers, and what is then wrong."""


@virtual
@pytest.mark.parametrize("field", ANSWERS)
async def test_expect_is_what_the_answer_must_be(lab, field) -> None:
    expected, answers, wrong = ANSWERS[field]
    plan = TESTED.replace("FIELD", "expect: {FIELD}")
    without, with_it = await run_each(lab, plan, "", expected, before=behaving(**answers))
    bad, good = (without, with_it) if field == "status" else (with_it, without)
    assert (good.end, bad.end) == ("succeeded", "rolled_back: step")
    assert bad.rollout.reason.startswith(f"test green: {wrong}")


# --- wait, approve ---


@virtual
async def test_wait_is_how_long(lab) -> None:
    ran = await run_each(lab, HEAD + "stable: blue\nsteps:\n  - wait: FIELD\n", "10s", "1m30s")
    assert [each.seconds(each.stages[-1]) for each in ran] == pytest.approx([10, 90], abs=0.3)


def waits_until(ran: Ran) -> datetime:
    (waited,) = ran.of("waited", ran.stages[-1])
    return waited.body.waiting.until


@virtual
@pytest.mark.parametrize(
    ("one", "other", "times"),
    [
        ("09:01", "09:02", ["2026-03-02T09:01:00+00:00", "2026-03-02T09:02:00+00:00"]),
        ("'09:01', tz: UTC", "'18:02', tz: Asia/Tokyo", ["2026-03-02T09:01:00+00:00", "2026-03-02T09:02:00+00:00"]),
    ],
    ids=["until", "tz"],
)
async def test_wait_until_a_time_of_day_somewhere(lab, one, other, times) -> None:
    plan = HEAD + "stable: blue\nsteps:\n  - wait: {until: FIELD}\n"
    for ran, time in zip(await run_each(lab, plan, one, other), times, strict=True):
        assert waits_until(ran).isoformat() == time
        assert abs((ran.rollout.stages[-1].ended_at - datetime.fromisoformat(time)).total_seconds()) < 0.5


APPROVED = DEPLOYED + "  - approve: FIELD\n"


@virtual
async def test_approve_is_what_the_human_is_asked(lab) -> None:
    ran = await run_each(lab, APPROVED, "does it look right?", "shall it go on?")
    assert [each.rollout.waiting.reason for each in ran] == [
        "waits for approval: does it look right?",
        "waits for approval: shall it go on?",
    ]


@virtual
async def test_timeout_is_how_long_an_approval_waits(lab) -> None:
    ran = await run_each(lab, APPROVED, "go?\n    timeout: 5s", "go?\n    timeout: 20s", stay=True)
    assert [each.end for each in ran] == ["rolled_back: approval"] * 2
    assert [each.rollout.reason for each in ran] == [f"nobody approved within {limit}s: go?" for limit in (5, 20)]
    assert [each.seconds("approve: go?") for each in ran] == pytest.approx([5, 20], abs=0.3)


@virtual
async def test_on_timeout_is_what_happens_then(lab) -> None:
    plan = APPROVED.replace("FIELD", "go?\n    timeout: 5s\n    FIELD")
    default, back, paused = await run_each(lab, plan, "", "on_timeout: rollback", "on_timeout: pause", stay=True)
    assert (default.end, back.end) == ("rolled_back: approval", "rolled_back: approval")
    assert [event.body.reason for event in paused.of("paused")] == ["nobody approved within 5s: go?"]
    assert paused.end == "rolled_back: pause_limit"


# --- load ---


@pytest.fixture
def bursts(lab) -> Lab:
    lab.rate = 0.0
    return lab


def sent(ran: Ran) -> int:
    return sum(ran.lab.cloud.endpoint("shop").counters.of("blue", "live").classes.values())


@virtual
async def test_load_is_a_count_or_a_frequency(bursts) -> None:
    steps = "stable: blue\nsteps:\n  - load: FIELD\n    request: {body: x}\n"
    fifty, more = await run_each(bursts, HEAD + steps, "50", "70")
    slow, fast = await run_each(bursts, HEAD + steps + "    for: 4s\n", "5/s", "20/s")
    assert [sent(ran) for ran in (fifty, more, slow, fast)] == [50, 70, 20, 80]
    assert fifty.seconds("load 50 requests") < 1
    assert slow.seconds("load 5/s for 4s") == pytest.approx(fast.seconds("load 20/s for 4s"), abs=0.3)


@virtual
async def test_for_is_how_long_a_frequency_is_sent(bursts) -> None:
    plan = HEAD + "stable: blue\nsteps:\n  - load: 10/s\n    request: {body: x}\n    for: FIELD\n"
    short, long = await run_each(bursts, plan, "2s", "6s")
    assert [sent(ran) for ran in (short, long)] == [20, 60]
    assert long.seconds("load 10/s for 6s") > short.seconds("load 10/s for 2s") + 3.5


@virtual
async def test_request_is_what_a_load_sends(bursts, asked) -> None:
    def before(made: Lab) -> None:
        (made.folder / "question.json").write_text('{"data": [1]}')

    plan = HEAD + "stable: blue\nsteps:\n  - load: 2\n    request: FIELD\n"
    await run_each(bursts, plan, "question.json", "{body: other}", before=before)
    assert [request.body for request, _ in asked] == [b'{"data": [1]}'] * 2 + [b"other"] * 2


# --- webhook, over HTTP and in real time ---


@pytest.fixture
async def hook() -> AsyncIterator[Hook]:
    async with listening() as made:
        yield made


def telling(hook: Hook, *lines: str) -> str:
    body = "".join(f"    {line}\n" for line in (*lines, "FIELD"))
    return HEAD + f"stable: blue\nsteps:\n  - webhook: {hook.url}\n{body}"


async def test_webhook_says_where_to(lab, hook) -> None:
    plan = HEAD + f"stable: blue\nsteps:\n  - webhook: {hook.url}FIELD\n"
    await run_each(lab, plan, "", "/other?team=ml", quick=True)
    assert [heard.path for heard in hook.heard] == ["/hook", "/hook/other?team=ml"]


async def test_method_of_a_webhook(lab, hook) -> None:
    await run_each(lab, telling(hook), "", "method: PUT", quick=True)
    assert [heard.method for heard in hook.heard] == ["POST", "PUT"]


async def test_body_of_a_webhook(lab, hook) -> None:
    ran, _ = await run_each(lab, telling(hook), "", 'body: "it is done"', quick=True)
    facts, body = [heard.body for heard in hook.heard]
    assert json.loads(facts) == {"rollout": ran.rollout.id, "name": "shop", "endpoint": "shop", "step": "webhook"}
    assert body == b"it is done"


async def test_headers_of_a_webhook(lab, hook) -> None:
    await run_each(lab, telling(hook), "", "headers: {X-Team: ml, Content-Type: text/plain}", quick=True)
    told = [(heard.headers.get("x-team"), heard.headers["content-type"]) for heard in hook.heard]
    assert told == [(None, "application/json"), ("ml", "text/plain")]


async def test_secret_of_a_webhook_signs_the_body(lab, hook) -> None:
    def before(made: Lab) -> None:
        (made.folder / "key").write_text("s3cret-k3y\n")

    await run_each(lab, telling(hook, "body: hello"), "", "secret: ${file:key}", before=before, quick=True)
    signature = hmac.new(b"s3cret-k3y", b"hello", hashlib.sha256).hexdigest()
    assert [heard.headers.get("x-rollout-signature") for heard in hook.heard] == [None, f"sha256={signature}"]


async def test_timeout_of_a_webhook(lab, hook) -> None:
    hook.delay = 0.5
    plan = telling(hook, "retries: 0")
    patient, hasty = await run_each(lab, plan, "", "timeout: 100ms", quick=True)
    assert (patient.end, hasty.end) == ("succeeded", "rolled_back: step")
    assert hasty.rollout.reason == "webhook: 127.0.0.1 could not be reached, or gave no answer within 100ms"


async def test_retries_of_a_webhook(lab, hook) -> None:
    hook.first = [500]
    (never,) = await run_each(lab, telling(hook), "retries: 0", quick=True)
    hook.first = [500]
    (once,) = await run_each(lab, telling(hook), "retries: 1", quick=True)
    assert (never.end, once.end) == ("rolled_back: step", "succeeded")
    keys = [heard.headers["idempotency-key"] for heard in hook.heard]
    assert keys == [f"{never.rollout.id}.1", *[f"{once.rollout.id}.1"] * 2]


async def test_only_2xx_is_well(lab, hook) -> None:
    hook.first = [204, 301]
    well, ill = await run_each(lab, telling(hook), "", "", quick=True)
    assert (well.end, ill.end) == ("succeeded", "rolled_back: step")


async def test_on_fail_of_a_webhook(lab, hook) -> None:
    hook.status = 404
    back, paused = await run_each(lab, telling(hook), "on_fail: rollback", "on_fail: pause", quick=True)
    assert (back.end, paused.end) == ("rolled_back: step", "paused: step")


async def test_on_error_of_a_webhook_that_the_gates_before_it_guard(lab, hook) -> None:
    hook.delay = 30
    plan = HEAD.replace("interval: 1s", "interval: 50ms") + (
        "steps:\n  - deploy: green\n  - canary: 50%\n    gates: errors\n"
        f"  - webhook: {hook.url}\n    timeout: 1m\n    on_error: FIELD\n"
    )

    def before(made: Lab) -> None:
        when(
            made,
            "task_tried",
            lambda: made.cloud.fail_next("measure", Temporary("no answer"), times=9),
        )

    lab.rate = 2000.0
    back, paused = await run_each(lab, plan, "rollback", "pause", before=before, quick=True)
    assert (back.end, paused.end) == ("rolled_back: error", "paused: error")
