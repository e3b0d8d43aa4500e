"""Why a step failed: what it was to do, what its gates found, or a rule that it would have broken."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from orchestrator import measuring, reconcile
from orchestrator.stages import Target
from orchestrator.tasks import test as test_step
from providers.actions import SetTraffic
from providers.base import Capabilities, EndpointState
from providers.errors import Temporary
from providers.memory import Behaviour
from tests.messages.asked import held, paused, until
from tests.messages.bench import Bed, direct, lab
from tests.messages.decisions import decided, situation
from tests.messages.ended import (
    AND_LOGS,
    BACK,
    BLUE,
    BOTH,
    EXPOSED,
    FAILED,
    GATED,
    HUMAN,
    OVER,
    PAUSED,
    gone_for_good,
    plain,
    then,
    until_paused,
)
from tests.messages.entry import TOLD_BELOW, Message
from tests.unit.making import deployment, endpoint


async def rarely_looked_at(made: Bed) -> None:
    """Twice a minute."""
    made.steps = GATED.replace("deadline: 1m", "deadline: 1m\n    interval: 30s")
    await until(made, "canary 10%")


async def broken_before_traffic(made: Bed) -> Any:
    """All of green's instances have crashed, and the provider says why."""
    made.steps = "\n  - deploy: green\n  - wait: 1m\n  - promote: 100%\n"
    await until(made, "wait 1m")
    made.cloud.meddle("shop", healthy={"green": 0})
    made.cloud.endpoint("shop").deployments["green"].problem = "exited 3 times: out of memory"
    return await made.running


async def code_of_a_step_fails(made: Bed) -> Any:
    """A mistake of ours, which must not leave the rollout unguarded."""

    def wrong(*_: object) -> None:
        raise ZeroDivisionError("division by zero")

    made.bench.patch(test_step, "_problem", wrong)
    made.steps = "\n  - deploy: green\n  - test: green\n  - promote: 100%\n"
    return await made.run()


async def evidence_lost(made: Bed) -> Any:
    """The row is not there when it is resumed."""
    await held(made)
    made.running.cancel()
    await asyncio.sleep(0)
    made.app.store._data.evidence.clear()  # type: ignore[attr-defined]
    return made.resume()


async def unmeasured() -> None:
    """A provider that only deploys."""
    await measuring._measure(SimpleNamespace(name="other"), situation().rollout, None)  # type: ignore[arg-type]


async def blue_cannot_start(made: Bed) -> Any:
    """The first version of all."""
    made.cloud.behave("shop", "blue", Behaviour(starts=False))
    return await made.run()


STEPS_FAILED = [
    Message(
        "decide._running memory.world._come_up",
        "the candidate cannot start",
        plain(GATED, green=Behaviour(starts=False)),
        "deploy green: Deployment green cannot start: exited 3 times: RuntimeError: init() failed.",
        BACK,
        BLUE,
        AND_LOGS,
    ),
    Message(
        "decide._late reconcile._health",
        "the candidate is not ready in time",
        plain(
            GATED.replace("deploy: green\n", "deploy: green\n    deadline: 30s\n"),
            green=Behaviour(start_seconds=3600, prints=("still loading the model",)),
        ),
        "deploy green was not done within 30s (green: 0 of 2 instances are healthy); its log ends with:\nstill "
        "loading the model\nstill loading the model",
        BACK,
        BLUE,
        AND_LOGS,
    ),
    Message(
        "decide._towards reconcile._health",
        "instances of the candidate break down before it gets traffic",
        lab(broken_before_traffic),
        "promote 100%: exited 3 times: out of memory",
        BACK,
        BLUE,
        AND_LOGS,
    ),
    Message(
        "decide._task tasks.test.run_test",
        "a test step gets another answer than it expects",
        plain("\n  - deploy: green\n  - test: green\n  - promote: 100%\n", green=Behaviour(error_rate=1.0)),
        'test green: green answered 500 instead of 200: {"error": "run() failed"}',
        BACK,
        BLUE,
        AND_LOGS,
    ),
    Message(
        "decide.decide reconcile._health",
        "a step needs a deployment that is not there any more",
        direct(lambda: decided(situation(observed=endpoint({"blue": 1000})))),
        "deployment green has disappeared",
        None,
        do=TOLD_BELOW,
    ),
    Message(
        "driver._reap_task",
        "the code of a step fails",
        lab(code_of_a_step_fails),
        "test green: stopped by an error of its own (ZeroDivisionError: division by zero)",
        BACK,
        BLUE,
        AND_LOGS,
    ),
    Message(
        "driver._measure",
        "the evidence of a rollout is gone from the store",
        lab(evidence_lost),
        "rollout <id>: the evidence of stage canary 10% is missing from the store",
        3,
        "it is running as before",
    ),
    Message(
        "holding.consequence",
        "stable cannot start, while the endpoint is brought into service",
        lab(blue_cannot_start),
        "bootstrap blue: Deployment blue cannot start: exited 3 times: RuntimeError: init() failed.; the next run "
        "goes on with it; traffic empty; blue 0 of 2 healthy",
        FAILED,
        "failed; traffic empty; blue 0 of 2 healthy",
        OVER,
    ),
]

CAN = Capabilities(mirror_limit=500)

SERVED = endpoint({"blue": 1000}, None, deployment("blue"), deployment("green"))


def split(live: dict[str, int], mirror: dict[str, int] | None = None) -> Callable[..., Any]:
    """A split that a step would want."""
    action = SetTraffic("shop", live, mirror or {})
    return direct(lambda: reconcile.check_split(action, SERVED, CAN), code=None)


def wanted(observed: EndpointState | None, **target: Any) -> Callable[..., Any]:
    """What a step would do next."""

    def ask() -> Any:
        work = Target(**{"traffic": {"blue": 1000}, **target})
        return reconcile.next_action(observed, work, endpoint="shop", replace_existing=False, capabilities=CAN)

    return direct(ask, code=None)


def rule(function: str, when: str, cause: Callable[..., Any], marked: str) -> Message:
    """The last line of defence: the rollout is paused with these words as its reason."""
    return Message(f"reconcile.{function}", f"(last line of defence) {when}", cause, marked, None, do=TOLD_BELOW)


INVARIANTS = [
    rule("next_action", "the endpoint is gone", wanted(None), "endpoint shop has disappeared"),
    rule("_scaling", "a deployment is gone", wanted(SERVED, instances={"grey": 2}), "deployment grey has disappeared"),
    rule(
        "_health",
        "a deployment that shall get traffic is gone",
        wanted(SERVED, traffic={"grey": 1000}),
        "deployment grey has disappeared",
    ),
    rule(
        "_deletion",
        "what shall be deleted has traffic",
        wanted(SERVED, absent=("blue",)),
        "deployment blue still has traffic, so it is not deleted",
    ),
    rule(
        "check_split", "shares that are not everything", split({"blue": 900}), "weights sum to 90%, not to 0% or 100%"
    ),
    rule(
        "check_split",
        "a mirror to two",
        split({"blue": 1000}, {"green": 10, "grey": 10}),
        "mirror to green, grey: this provider mirrors to 1 at most",
    ),
    rule(
        "check_split",
        "a larger mirror than is allowed",
        split({"blue": 1000}, {"green": 600}),
        "mirror 60% to green is more than 50%",
    ),
    rule(
        "check_split",
        "live and mirrored traffic for one",
        split({"blue": 500, "green": 500}, {"green": 10}),
        "green would have live and mirrored traffic together",
    ),
    rule(
        "check_split",
        "traffic for what is not there",
        split({"grey": 1000}),
        "deployment grey does not exist, so it gets no traffic",
    ),
]

GATES = [
    Message(
        "holding.condemned undo.undo",
        "a gate fails",
        plain(GATED, green=Behaviour(error_rate=0.3)),
        "canary 10%: gate errors: green 32% errors against blue 0% over 25 requests: beyond the bound of 5% and "
        "worse than blue -> FAIL",
        BACK,
        BLUE,
        AND_LOGS,
    ),
    Message(
        "holding.condemned holding.consequence",
        "a gate fails, and its step says so: on_fail: pause",
        plain(
            GATED.replace("[errors]", "[errors]\n    on_fail: pause"),
            green=Behaviour(error_rate=0.3),
            flags={"exit_on_pause": True},
        ),
        "canary 10%: gate errors: green 32% errors against blue 0% over 25 requests: beyond the bound of 5% and "
        "worse than blue -> FAIL",
        PAUSED,
        f"paused; {BOTH}",
        ("resume", "approve", "abort", "history"),
    ),
    Message(
        "decide._paused",
        "a gate fails during a pause",
        then(paused, lambda m: m.cloud.behave("shop", "green", Behaviour(error_rate=0.3))),
        "while paused: canary 10%: gate errors: green 32% errors against blue 0% over 25 requests: beyond the "
        "bound of 5% and worse than blue -> FAIL",
        BACK,
        BLUE,
        AND_LOGS,
    ),
    Message(
        "holding.consequence",
        "a gate fails after stable was deleted",
        then(gone_for_good, lambda m: m.cloud.behave("shop", "green", Behaviour(error_rate=0.3))),
        "wait 1h: gate errors: green 12% errors over 1,100 requests: beyond the bound of 5% -> FAIL; stable is gone, "
        "so nothing can be restored; traffic green 100%; green 2 of 2 healthy",
        FAILED,
        "failed; traffic green 100%; green 2 of 2 healthy",
        OVER,
    ),
    Message(
        "holding.condemned",
        "the budget of bad responses is spent",
        plain(
            "\n  - deploy: green\n  - canary: 10%\n    hold: 1h\n  - promote: 100%\n",
            head="budget: {bad_responses: 20}",
            green=Behaviour(error_rate=0.3),
        ),
        "canary 10%: green gave clients 67 bad responses, and the budget is 20",
        BACK,
        BLUE,
        AND_LOGS,
    ),
    Message(
        "holding._undecided",
        "no requests come, until the deadline",
        plain(GATED, rate=0, flags={"exit_on_pause": True}),
        "canary 10%: no data within 1m: green: no live requests since the step began -> NO_DATA",
        PAUSED,
        f"paused; {BOTH}",
        ("resume", "resume", "approve", "abort", "history"),
    ),
    Message(
        "holding._undecided",
        "the metrics do not answer, and the step is over",
        until_paused(
            rarely_looked_at,
            lambda m: m.cloud.fail_next("measure", Temporary("the metrics do not answer"), times=50),
        ),
        "canary 10%: no data within 1m: nothing was measured",
        PAUSED,
        f"paused; {EXPOSED}",
        ("resume", "resume", "abort", "history"),
    ),
    Message(
        "holding._undecided",
        "too few requests come, until the deadline",
        plain(GATED, rate=20, flags={"exit_on_pause": True}),
        "canary 10%: undecided within 1m: green 0% errors against blue 0% over 129 requests: needs more evidence (64% "
        "of the way to PASS) -> CONTINUE",
        PAUSED,
        f"paused; {BOTH}",
        ("resume", "resume", "approve", "abort", "history"),
    ),
    Message(
        "holding.unreadable",
        "nothing can be measured, five times in a row",
        until_paused(held, lambda m: m.cloud.fail_next("measure", Temporary("the metrics do not answer"), times=50)),
        "could not be measured 5 times in a row: the metrics do not answer",
        PAUSED,
        f"paused; {EXPOSED}",
        HUMAN,
    ),
    Message(
        "measuring._measure",
        "a gate, and the provider cannot count requests",
        direct(unmeasured),
        "provider other cannot measure requests, so no gate can be judged",
        3,
    ),
]

ENTRIES = [*INVARIANTS, *STEPS_FAILED, *GATES]
