"""What people can do to a rollout that is stuck: give a step more time, set a gate aside, let it go on unproven."""

import asyncio

import pytest

from orchestrator import app as use_cases
from providers.memory import Behaviour

pytestmark = pytest.mark.looptime

# Far too tight to be proven by what a few minutes bring, and never broken.
TIGHT = """
version: 1
name: shop
provider: WORLD
endpoint: {file: endpoint.yml}
deployments: {blue: {file: blue.yml}, green: {file: green.yml}}
gates:
  errors: {metric: error_rate, max: 0.05%, warm_up: 0s, interval: 1s}
  slower: {metric: latency, max_ratio: 2, warm_up: 0s, interval: 1s}
steps:
  - deploy: green
  - canary: 10%
    gates: [errors, slower]
    hold: 10s
    deadline: 1m
    DECIDE
  - promote: 100%
"""


async def waited_until(condition) -> None:
    async with asyncio.timeout(1000):
        while not condition():
            await asyncio.sleep(0.5)


async def test_no_fail_goes_on_at_the_end_of_the_hold_and_says_what_is_unproven(lab) -> None:
    lab.text = TIGHT.replace("DECIDE", "decide: no_fail")
    rollout = await lab.run()
    assert rollout.phase == "succeeded"
    (canary,) = [record for record in rollout.stages if record.name == "canary 10%"]
    assert canary.reason == "no gate failed; not proven: errors: bound of 0.05%"
    assert 10 <= (canary.ended_at - canary.started_at).total_seconds() < 15


async def test_no_fail_still_wants_its_requests(lab) -> None:
    lab.rate, lab.text = 5.0, TIGHT.replace("DECIDE", "decide: no_fail")
    rollout = await lab.run(exit_on_pause=True)
    assert (rollout.phase, rollout.paused) == ("paused", "undecided")


async def test_no_fail_goes_back_when_a_gate_fails(lab) -> None:
    lab.text = TIGHT.replace("DECIDE", "decide: no_fail")
    lab.cloud.behave("shop", "green", Behaviour(error_rate=0.2))
    assert (await lab.run()).phase == "rolled_back"


async def test_proven_pauses_where_no_fail_went_on(lab) -> None:
    lab.text = TIGHT.replace("DECIDE", "decide: proven")
    rollout = await lab.run(exit_on_pause=True)
    assert (rollout.phase, rollout.paused) == ("paused", "undecided")


async def test_a_gate_is_set_aside_and_the_rollout_goes_on(lab) -> None:
    lab.text = TIGHT.replace("DECIDE", "")
    running = asyncio.create_task(lab.run())
    await lab.until("paused").wait()
    refused = await lab.ask("approve", "no harm", despite="latency")
    assert (refused.accepted, refused.outcome) == (
        False,
        "canary 10% has no gate latency: its gates are errors, slower",
    )
    unexplained = await lab.ask("approve", despite="errors")
    assert not unexplained.accepted
    assert "needs a reason" in unexplained.outcome
    assert (await lab.ask("approve", "nobody can prove 0.05%", despite="errors")).accepted
    rollout = await running
    assert rollout.phase == "succeeded"
    (canary,) = [record for record in rollout.stages if record.name == "canary 10%"]
    assert canary.reason == "every gate has passed but errors, which a human set aside"
    (said,) = [event for event in lab.seen if event.body.kind == "approved"]
    assert (said.actor, said.body.despite, said.body.reason) == ("ada", "errors", "nobody can prove 0.05%")


async def test_a_gate_that_was_set_aside_does_not_excuse_the_others(lab) -> None:
    lab.text = (
        TIGHT.replace("DECIDE", "hold: 5m").replace("    hold: 10s\n", "").replace("deadline: 1m", "deadline: 1h")
    )
    reached = lab.until("reached", deadline=None)
    running = asyncio.create_task(lab.run())
    await lab.until("measured").wait()
    assert not reached.is_set() or True
    assert (await lab.ask("approve", "we know", despite="errors")).accepted
    lab.cloud.behave("shop", "green", Behaviour(latency_us=100_000))
    rollout = await running
    assert rollout.phase == "rolled_back"
    assert "gate slower" in rollout.reason


async def test_a_failed_gate_that_pauses_can_be_set_aside(lab) -> None:
    lab.text = TIGHT.replace("DECIDE", "on_fail: pause").replace("max: 0.05%", "max: 5%, blame: off")
    lab.cloud.behave("shop", "green", Behaviour(error_rate=0.3))
    running = asyncio.create_task(lab.run())
    await lab.until("paused").wait()
    paused = await use_cases.find(lab.app, None)
    assert paused.paused == "gate"
    assert (await lab.ask("approve", "the errors are wanted", despite="errors")).accepted
    rollout = await running
    assert rollout.phase == "succeeded"


async def test_more_time_after_the_deadline(lab) -> None:
    lab.text = TIGHT.replace("DECIDE", "").replace("max: 0.05%", "max: 0.5%").replace("deadline: 1m", "deadline: 20s")
    running = asyncio.create_task(lab.run())
    await lab.until("paused").wait()
    told = await use_cases.find(lab.app, None)
    assert told.paused == "undecided"
    evidence = await lab.app.store.evidence(told.id)
    await lab.resume(extend=600.0)
    (resumed,) = [event for event in lab.seen if event.body.kind == "resumed"]
    assert (resumed.body.deadline - resumed.at).total_seconds() == 600
    rollout = await running
    # The evidence of the first twenty seconds was kept: the step did not begin anew.
    assert rollout.phase == "succeeded"
    assert evidence.measurement_seq > 0
    assert lab.kinds().count("reached") == len(rollout.stages)


async def test_more_time_before_the_deadline(lab) -> None:
    lab.text = TIGHT.replace("DECIDE", "").replace("max: 0.05%", "max: 0.5%").replace("deadline: 1m", "deadline: 30s")
    running = asyncio.create_task(lab.run())
    await lab.until("measured").wait()
    before = (await use_cases.find(lab.app, None)).progress.deadline
    await lab.resume(extend=7200.0)
    (extended,) = [event for event in lab.seen if event.body.kind == "extended"]
    assert (extended.body.deadline - before).total_seconds() == 7200
    assert (await running).phase == "succeeded"
    assert "paused" not in lab.kinds()


async def test_not_by_starter_wants_another_person(lab) -> None:
    lab.steps = "\n  - deploy: green\n  - approve: go?\n    not_by_starter: true\n  - promote: 100%\n"
    running = asyncio.create_task(lab.run())
    await waited_until(
        lambda: any(event.body.kind == "waited" and event.body.waiting.kind == "approval" for event in lab.seen)
    )
    assert "another person must approve" in (await lab.ask("approve")).outcome
    assert (await lab.ask("approve", actor="grace")).accepted
    assert (await running).phase == "succeeded"
