"""A budget of bad responses: counted over the whole rollout, whoever watches, and stronger than a pause."""

import pytest

from providers.memory import Behaviour

pytestmark = pytest.mark.looptime

PLAN = """
version: 1
name: shop
provider: WORLD
endpoint: {file: endpoint.yml}
deployments: {blue: {file: blue.yml}, green: {file: green.yml}}
budget: {bad_responses: LIMIT}
gates:
  errors: {metric: error_rate, max: 40%, on_fail: pause, interval: 1s, warm_up: 0s}
steps:
  - deploy: green
STEPS
"""
UNWATCHED = "  - canary: 10%\n    hold: 1h\n  - wait: 1h\n  - promote: 100%\n    hold: 1h"
WATCHED = "  - canary: 10%\n    gates: [errors]\n    hold: 1h\n  - promote: 100%"


def bad_by_green(lab) -> int:
    classes = lab.cloud.endpoint("shop").counters.of("green", "live").classes
    return sum(count for status, count in classes.items() if not status.startswith("2"))


async def test_where_no_gate_looks(lab) -> None:
    lab.text = PLAN.replace("STEPS", UNWATCHED).replace("LIMIT", "100")
    lab.cloud.behave("shop", "green", Behaviour(error_rate=0.1))
    rollout = await lab.run()
    assert (rollout.phase, rollout.rollback) == ("rolled_back", "budget")
    assert rollout.reason.startswith("canary 10%: green gave clients ")
    assert rollout.reason.endswith("bad responses, and the budget is 100")
    # At 200 requests a second green gets twenty, and two of them fail: seen within an interval of ten seconds.
    assert 100 < rollout.spent <= 140


async def test_it_overrides_a_pause(lab) -> None:
    lab.text = PLAN.replace("STEPS", WATCHED).replace("LIMIT", "300")
    lab.cloud.behave("shop", "green", Behaviour(error_rate=0.9))
    rollout = await lab.run()
    assert "paused" in lab.kinds()
    assert (rollout.phase, rollout.rollback) == ("rolled_back", "budget")
    assert rollout.reason.startswith("while paused: canary 10%: green gave clients ")


async def test_what_is_within_it_is_let_through(lab) -> None:
    lab.text = PLAN.replace("STEPS", "  - canary: 10%\n    hold: 1m\n  - promote: 100%").replace("LIMIT", "100000")
    lab.cloud.behave("shop", "green", Behaviour(error_rate=0.1))
    rollout = await lab.run()
    assert rollout.phase == "succeeded"
    assert rollout.spent > 100


async def test_it_counts_across_steps_and_what_came_between_them(lab) -> None:
    steps = "".join(f"  - canary: {share}%\n    gates: [errors]\n    hold: 20s\n" for share in (10, 20, 30, 40, 50))
    lab.text = PLAN.replace("STEPS", steps + "  - promote: 100%\n    gates: [errors]\n    hold: 20s").replace(
        "LIMIT", "1000000"
    )
    lab.cloud.behave("shop", "green", Behaviour(error_rate=0.05))
    rollout = await lab.run()
    assert rollout.phase == "succeeded"
    seen = sum(getattr(event.body, "bad", 0) for event in lab.seen if event.body.kind in ("measured", "reached"))
    assert rollout.spent == seen
    # Each bad response until the last measurement was counted once, also those while the traffic was being shifted.
    assert 0 <= bad_by_green(lab) - rollout.spent <= 15


async def test_mirrored_requests_cost_nothing(lab) -> None:
    lab.text = PLAN.replace("STEPS", "  - shadow: 50%\n    hold: 1m").replace("LIMIT", "0")
    lab.cloud.behave("shop", "green", Behaviour(error_rate=0.5))
    assert (await lab.run()).phase == "succeeded"
