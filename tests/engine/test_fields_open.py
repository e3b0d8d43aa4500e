"""What fields mean where more than one thing comes together: several gates, a stop, a resume, an edited plan."""

import asyncio

import pytest

from providers.errors import Temporary
from providers.memory import Behaviour
from tests.engine.field_effects import HEAD, Lab, Ran, run_each, when

pytestmark = pytest.mark.looptime

DEPLOYED = HEAD + "steps:\n  - deploy: green\n"
CANARY = "steps:\n  - deploy: green\n  - canary: 10%\n    gates: errors\n    hold: 2s\n"


async def state(lab: Lab) -> Ran:
    (rollout,) = await lab.app.store.rollouts(limit=1)
    return Ran(lab, rollout)


async def ended_after(lab: Lab, driving: asyncio.Task[object], seconds: float) -> Ran:
    """How it stands that much later; whatever goes on then is aborted."""
    await asyncio.sleep(seconds)
    found = await state(lab)
    if found.rollout.active:
        await lab.ask("abort")
    await driving
    return found


async def test_only_a_gate_that_is_undecided_says_what_then_happens(lab) -> None:
    tight = "gates: {tight: {metric: error_rate, max: 0.01%, warm_up: 0s, interval: 1s}, errors:"
    steps = "steps:\n  - deploy: green\n  - canary: 10%\n    gates: [tight, errors]\n    deadline: 20s\n"
    plan = HEAD.replace("gates: {errors:", tight).replace("max: 5%,", "max: 5%, FIELD,") + steps
    (ran,) = await run_each(lab, plan, "on_undecided: rollback")
    verdicts = ran.of("measured")[-1].body.judgement.verdicts
    assert [(each.gate, each.verdict) for each in verdicts] == [("tight", "CONTINUE"), ("errors", "PASS")]
    assert ran.end == "paused: undecided"


async def test_on_fail_of_a_step_counts_for_the_gates_that_guard_it(lab) -> None:
    def before(made: Lab) -> None:
        ill = Behaviour(error_rate=0.9)
        when(made, "stage_entered", lambda: made.cloud.behave("shop", "green", ill), name="wait 30s")

    plan = HEAD + CANARY + "  - wait: 30s\n    FIELD\n"
    back, paused = await run_each(lab, plan, "", "on_fail: pause", before=before)
    assert [back.end, paused.end] == ["rolled_back: gate", "paused: gate"]


async def test_on_error_of_a_gate_counts_where_it_guards(lab) -> None:
    def before(made: Lab) -> None:
        silent = Temporary("no answer")
        when(made, "stage_entered", lambda: made.cloud.fail_next("measure", silent, times=9), name="wait 30s")

    plan = HEAD.replace("max: 5%,", "max: 5%, FIELD,") + CANARY + "  - wait: 30s\n"
    paused, back = await run_each(lab, plan, "on_error: pause", "on_error: rollback", before=before)
    assert [paused.end, back.end] == ["paused: error", "rolled_back: error"]


async def test_an_approval_that_was_resumed_has_its_timeout_again(lab) -> None:
    lab.text = DEPLOYED + "  - approve: go?\n    timeout: 5s\n    on_timeout: pause\n"
    driving = asyncio.create_task(lab.run())
    await lab.until("paused").wait()
    assert (await lab.resume()).phase == "running"
    assert (await ended_after(lab, driving, 10)).end == "paused: step"


async def test_on_rollback_of_an_adopted_plan(lab) -> None:
    lab.text = HEAD + CANARY + "  - approve: go?\n"
    await lab.run(exit_on_pause=True)
    lab.text += "on_rollback: {candidate: keep}\n"
    lab.write()
    driving = asyncio.create_task(lab.resume(adopt=True))
    assert (await ended_after(lab, driving, 10)).stages[-1] == "approve: go?"
    assert sorted(lab.observed().deployments) == ["blue", "green"]


async def test_a_count_of_requests_is_spread_over_for(lab) -> None:
    plan = DEPLOYED + "  - load: 50\n    request: {body: x}\n    FIELD\n"
    at_once, spread = await run_each(lab, plan, "", "for: 5s")
    took = [ran.seconds(ran.stages[-1]) for ran in (at_once, spread)]
    assert took[0] < 1
    assert took[1] == pytest.approx(5, abs=0.3)


async def test_a_time_of_day_that_passed_while_nobody_drove_is_over(lab) -> None:
    lab.text = DEPLOYED + "  - canary: 10%\n  - wait: {until: '09:01'}\n"
    lab.on_event.append(
        lambda _, event: lab.stop.set() if event.body.kind == "waited" and event.body.waiting.kind == "time" else None
    )
    assert (await lab.run()).parked
    await asyncio.sleep(120)
    lab.on_event.clear()
    lab.stop = asyncio.Event()
    assert (await ended_after(lab, asyncio.create_task(lab.resume()), 10)).end == "succeeded"


async def test_on_error_counts_before_a_budget_can_be_watched(lab) -> None:
    lab.text = DEPLOYED + "  - canary: 10%\n    on_error: rollback\nbudget: {bad_responses: 5}\n"
    lab.cloud.fail_next("measure", Temporary("no answer"), times=99)
    driving = asyncio.create_task(lab.run())
    assert (await ended_after(lab, driving, 20)).end == "rolled_back: error"
