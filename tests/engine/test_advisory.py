"""An advisory rollout measures and judges what another tool does, and changes nothing."""

import asyncio

import pytest

from orchestrator.errors import Refused
from providers.memory import Behaviour

pytestmark = pytest.mark.looptime

PLAN = """
version: 1
name: shop
provider: WORLD
endpoint: {file: endpoint.yml}
deployments: {blue: {file: blue.yml}, green: {file: green.yml}}
gates:
  errors: {metric: error_rate, max: 5%, max_ratio: 2, max_increase: 2%, warm_up: 0s, interval: 1s}
steps:
  - deploy: green
  - canary: [10%, 50%]
    gates: [errors]
    hold: 10s
    deadline: 2m
  - promote: 100%
    gates: [errors]
    hold: 10s
  - delete: blue
"""


async def beside(lab):
    """Others' endpoint: blue serves, green stands beside it. Returns what shifts its traffic, and our effects."""
    lab.text = PLAN.partition("steps:")[0] + "steps:\n  - deploy: green\n"
    assert (await lab.run()).phase == "succeeded"
    lab.text = PLAN
    lab.seen.clear()
    begun = len(lab.cloud.effects)
    return lambda traffic: lab.cloud.meddle("shop", traffic=traffic), lambda: lab.cloud.effects[begun:]


async def test_it_judges_each_stage_that_the_other_tool_comes_to(lab) -> None:
    shift, ours = await beside(lab)
    running = asyncio.create_task(lab.run(advisory=True))
    for traffic in ({"blue": 900, "green": 100}, {"blue": 500, "green": 500}, {"green": 1000}):
        await asyncio.sleep(5)
        passed = lab.until("stage_ended", outcome="passed")
        shift(traffic)
        await passed.wait()
    rollout = await running
    assert rollout.phase == "succeeded"
    assert [(record.name, record.state) for record in rollout.stages] == [
        ("deploy green", "skipped"),
        ("canary 10%", "passed"),
        ("canary 50%", "passed"),
        ("promote 100%", "passed"),
        ("delete blue", "skipped"),
    ]
    assert rollout.stages[1].reason.startswith("would go on: ")
    assert ours() == []
    assert lab.observed().claim is None


async def test_it_says_when_it_would_roll_back(lab) -> None:
    shift, ours = await beside(lab)
    lab.cloud.behave("shop", "green", Behaviour(error_rate=0.3))
    running = asyncio.create_task(lab.run(advisory=True))
    await asyncio.sleep(5)
    shift({"blue": 900, "green": 100})
    rollout = await running
    assert rollout.phase == "rolled_back"
    assert rollout.reason.startswith("advisory: would roll back: canary 10%: gate errors: green ")
    assert rollout.reason.endswith("; nothing was changed")
    assert dict(lab.observed().traffic) == {"blue": 900, "green": 100}
    assert ours() == []


async def test_somebody_moves_on_before_it_is_proven(lab) -> None:
    shift, _ = await beside(lab)
    running = asyncio.create_task(lab.run(advisory=True))
    await asyncio.sleep(5)
    shift({"green": 1000})
    rollout = await running
    assert [record.state for record in rollout.stages][1:4] == ["skipped", "skipped", "passed"]
    assert "not judged: traffic green 100% already" in rollout.stages[1].reason


async def test_abort_and_budget_change_nothing_either(lab) -> None:
    shift, ours = await beside(lab)
    lab.text = PLAN + "budget: {bad_responses: 20}\n"
    lab.cloud.behave("shop", "green", Behaviour(error_rate=0.04))
    running = asyncio.create_task(lab.run(advisory=True))
    await asyncio.sleep(5)
    shift({"blue": 900, "green": 100})
    rollout = await running
    assert rollout.reason.startswith("advisory: would roll back: canary 10%: green gave clients ")
    again = asyncio.create_task(lab.run(advisory=True))
    await asyncio.sleep(5)
    assert (await lab.ask("abort", "enough")).accepted
    assert (await again).reason == "advisory: aborted by ada: enough; nothing was changed"
    assert dict(lab.observed().traffic) == {"blue": 900, "green": 100}
    assert ours() == []


async def test_there_must_be_something_to_watch(lab) -> None:
    lab.text = PLAN
    with pytest.raises(Refused, match="does not exist, so there is nothing to watch"):
        await lab.run(advisory=True)
