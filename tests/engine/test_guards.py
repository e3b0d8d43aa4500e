"""While the candidate answers clients, somebody looks: also during steps that only wait for the provider."""

import asyncio

import pytest

from providers.memory import Behaviour

pytestmark = pytest.mark.looptime

PLAN = """
version: 1
name: shop
provider: WORLD
endpoint: {file: endpoint.yml}
deployments: {blue: {file: blue.yml}, green: {file: green.yml}}
gates:
  errors: {metric: error_rate, max: 5%, warm_up: 0s, interval: 1s}
steps:
  - deploy: green
  - canary: 10%
    gates: [errors]
    hold: 5s
  - scale: {green: 4}
  - promote: 100%
"""


@pytest.mark.parametrize("more", ["", "budget: {bad_responses: 10}\n"])
async def test_a_candidate_that_turns_bad_during_a_scale_is_stopped_there(lab, more) -> None:
    lab.text = PLAN + more
    if more:
        lab.text = lab.text.replace("    gates: [errors]\n", "    interval: 1s\n")
    entered = lab.until("stage_entered", name="scale green to 4")
    running = asyncio.create_task(lab.run())
    await entered.wait()
    lab.cloud.behave("shop", "green", Behaviour(error_rate=0.9))
    before = asyncio.get_running_loop().time()
    rollout = await running
    assert (rollout.phase, rollout.rollback) == ("rolled_back", "budget" if more else "gate")
    assert rollout.reason.startswith("scale green to 4: ")
    (began,) = [event for event in lab.seen if event.body.kind == "rollback_began"]
    assert (began.at.timestamp() - rollout.started_at.timestamp()) - before < 30
    assert dict(lab.observed().traffic) == {"blue": 1000}


async def test_a_gate_that_was_set_aside_does_not_come_back_as_a_guard(lab) -> None:
    lab.text = PLAN.replace("max: 5%", "max: 5%, blame: off, on_fail: pause")
    lab.cloud.behave("shop", "green", Behaviour(error_rate=0.3))
    running = asyncio.create_task(lab.run())
    await lab.until("paused").wait()
    assert (await lab.ask("approve", "these errors are wanted", despite="errors")).accepted
    rollout = await running
    assert rollout.phase == "succeeded"
    assert lab.kinds().count("paused") == 1


async def test_the_split_of_a_guarded_step_is_its_own(lab) -> None:
    """The gates of the canary guard a promote that has none, and asks for all of the requests."""
    lab.rate = 500
    lab.text = PLAN.replace("  - scale: {green: 4}\n", "").replace("canary: 10%", "canary: 30%") + "    hold: 20s\n"
    rollout = await lab.run()
    assert rollout.phase == "succeeded", rollout.reason
    promote = [event for event in lab.seen if event.body.kind == "measured"][-1].body.judgement
    assert {verdict.errors for verdict in promote.verdicts} == {0}


async def test_requests_that_go_elsewhere_make_every_gate_an_error(lab) -> None:
    """Half of the canary's requests never reach it: whoever keeps them, no comparison can be trusted."""
    lab.text = PLAN
    lab.rate = 500
    lab.cloud.behave("shop", "green", Behaviour(kept_away=0.5))
    rollout = await lab.run(exit_on_pause=True)
    assert (rollout.phase, rollout.paused) == ("paused", "error")
    assert "where 10% were asked for, which is not chance" in rollout.reason, rollout.reason
