"""A rollout from start to end, and every way in which it may turn back, in virtual time."""

import asyncio
from dataclasses import replace

import pytest

from orchestrator import app as use_cases
from orchestrator.app import Flags
from orchestrator.errors import Refused, UsageError
from providers.errors import Temporary
from providers.memory import Behaviour

pytestmark = pytest.mark.looptime


async def test_a_good_candidate_ends_up_with_everything(lab) -> None:
    rollout = await lab.run()
    assert (rollout.phase, rollout.reason) == ("succeeded", "shop now serves green 100%")
    assert [record.state for record in rollout.stages] == ["passed"] * 8
    state = lab.observed()
    assert dict(state.traffic) == {"green": 1000}
    assert dict(state.mirror) == {}
    assert list(state.deployments) == ["green"]
    assert state.claim is None


async def test_it_goes_through_every_split_in_order_and_clears_the_mirror_first(lab) -> None:
    await lab.run()
    splits = [
        (dict(effect.action.traffic), dict(effect.action.mirror))
        for effect in lab.cloud.effects
        if effect.action.kind == "set_traffic"
    ]
    assert splits == [
        ({"blue": 1000}, {}),
        ({"blue": 1000}, {"green": 100}),
        ({"blue": 1000}, {}),
        ({"blue": 900, "green": 100}, {}),
        ({"blue": 500, "green": 500}, {}),
        ({"green": 1000}, {}),
    ]


@pytest.mark.parametrize(
    ("behaviour", "where", "culprit"),
    [
        (Behaviour(error_rate=0.10), "shadow 10%", "errors"),
        (Behaviour(latency_us=15_000), "shadow 10%", "latency"),
        (Behaviour(timeouts=0.2), "shadow 10%", "errors"),
        (Behaviour(starts=False), "deploy green", "init() failed"),
    ],
)
async def test_a_bad_candidate_is_rolled_back_before_anybody_sees_it(lab, behaviour, where, culprit) -> None:
    lab.steps = lab.steps.replace("  - test: green\n", "")
    lab.cloud.behave("shop", "green", behaviour)
    rollout = await lab.run()
    assert rollout.phase == "rolled_back"
    assert culprit in rollout.reason
    assert next(record for record in rollout.stages if record.state == "failed").name == where
    state = lab.observed()
    assert dict(state.traffic) == {"blue": 1000}
    assert dict(state.mirror) == {}
    assert list(state.deployments) == ["blue"]
    assert rollout.logs


async def test_without_traffic_nothing_passes(lab) -> None:
    lab.rate = 0
    lab.steps = lab.steps.replace("    hold: 10s", "    hold: 10s\n    deadline: 1m")
    rollout = await lab.run(exit_on_pause=True)
    assert (rollout.phase, rollout.paused) == ("paused", "no_data")
    assert dict(lab.observed().mirror) == {}


async def test_a_claim_of_another_store_is_respected(lab) -> None:
    lab.steps = "\n  - deploy: green\n  - approve: go?\n  - promote: 100%\n"
    left = await lab.run(exit_on_pause=True)
    assert left.phase == "running"
    from orchestrator.store.memory import MemoryStore

    other = use_cases.App(MemoryStore(id="store-2"), lab.app.settings, lab.app.clock)
    with pytest.raises(Refused, match=r"claimed by rollout shop-.* of another store"):
        await use_cases.run(other, lab.folder / "plan.yml", Flags(), watcher=lambda *_: None, stop=asyncio.Event())


async def test_only_one_rollout_owns_an_endpoint(lab) -> None:
    lab.steps = "\n  - deploy: green\n  - approve: go?\n  - promote: 100%\n"
    first = await lab.run(exit_on_pause=True)
    with pytest.raises(UsageError, match=first.id):
        await lab.run()


async def test_approval_lets_it_go_on(lab) -> None:
    lab.steps = "\n  - deploy: green\n  - approve: go?\n  - promote: 100%\n"
    running = asyncio.create_task(lab.run())
    await lab.until("reached").wait()
    while lab.seen[-1].body.kind != "waited" or lab.seen[-1].body.waiting.kind != "approval":
        await asyncio.sleep(1)
    asked = await lab.ask("approve", "looks fine")
    assert asked.accepted
    rollout = await running
    assert rollout.phase == "succeeded"
    assert [event.actor for event in lab.seen if event.body.kind == "approved"] == ["ada"]


async def test_nobody_approves_in_time(lab) -> None:
    lab.steps = "\n  - deploy: green\n  - approve: go?\n    timeout: 5m\n  - promote: 100%\n"
    rollout = await lab.run()
    assert rollout.phase == "rolled_back"
    assert "nobody approved within 5m" in rollout.reason


@pytest.mark.parametrize("at", ["deploy green", "shadow 10%", "canary 10%", "canary 50%", "promote 100%"])
async def test_abort_restores_what_was_before(lab, at) -> None:
    entered = lab.until("stage_entered", name=at)
    running = asyncio.create_task(lab.run())
    await entered.wait()
    await asyncio.sleep(0.5)
    before = asyncio.get_running_loop().time()
    asked = await lab.ask("abort", "changed my mind")
    rollout = await running
    assert asked.accepted
    assert asyncio.get_running_loop().time() - before < 40
    assert (rollout.phase, rollout.reason) == ("rolled_back", "aborted by ada: changed my mind")
    assert dict(lab.observed().traffic) == {"blue": 1000}
    assert list(lab.observed().deployments) == ["blue"]
    with pytest.raises(UsageError, match="has ended"):
        await lab.ask("abort")


async def test_pause_freezes_the_clocks_and_still_guards(lab) -> None:
    lab.cloud.behave("shop", "green", Behaviour())
    reached = asyncio.Event()
    lab.on_event.append(
        lambda rollout, event: (
            reached.set() if event.body.kind == "reached" and rollout.record.name == "canary 10%" else None
        )
    )
    running = asyncio.create_task(lab.run())
    await reached.wait()
    await asyncio.sleep(4)
    assert (await lab.ask("pause")).accepted
    paused = await use_cases.find(lab.app, None)
    assert paused.phase == "paused"
    assert 5 < paused.progress.hold_left <= 6.1
    measured = lab.kinds().count("measured")
    await asyncio.sleep(300)
    assert lab.kinds().count("measured") > measured + 200
    lab.cloud.behave("shop", "green", Behaviour(error_rate=0.2))
    rollout = await running
    assert rollout.phase == "rolled_back"
    assert "while paused" in rollout.reason


async def test_pause_and_resume_from_elsewhere(lab) -> None:
    entered = lab.until("stage_entered", name="canary 10%")
    running = asyncio.create_task(lab.run())
    await entered.wait()
    assert (await lab.ask("pause")).accepted
    await asyncio.sleep(600)
    resumed = await use_cases.resume(lab.app, None, Flags(), watcher=lab.watch, stop=asyncio.Event())
    assert resumed.phase == "running"
    assert (await running).phase == "succeeded"


async def test_a_pause_that_nobody_ends_rolls_back(lab) -> None:
    lab.steps += "pause_limit: 10m\n"
    entered = lab.until("stage_entered", name="canary 10%")
    running = asyncio.create_task(lab.run())
    await entered.wait()
    await lab.ask("pause")
    rollout = await running
    assert rollout.phase == "rolled_back"
    assert "nobody resumed it in time" in rollout.reason


async def test_a_safe_stop_parks_the_candidate_and_resume_proves_anew(lab) -> None:
    lab.on_event.append(
        lambda rollout, event: (
            lab.stop.set() if event.body.kind == "measured" and rollout.record.name == "canary 10%" else None
        )
    )
    rollout = await lab.run()
    assert (rollout.phase, rollout.paused, rollout.parked) == ("paused", "interrupted", True)
    assert dict(lab.observed().traffic) == {"blue": 1000}
    lab.on_event.clear()
    lab.stop.clear()
    rollout = await lab.resume()
    assert rollout.phase == "succeeded"
    reached = [event for event in lab.seen if event.body.kind == "reached"]
    assert len(reached) == 9


async def test_a_resume_that_somebody_did_not_live_to_see_is_not_in_the_way_of_the_next(lab) -> None:
    lab.on_event.append(lambda rollout, event: lab.stop.set() if event.body.kind == "measured" else None)
    left = await lab.run()
    assert left.paused == "interrupted"
    lab.on_event.clear()
    lab.stop.clear()
    await use_cases.post(lab.app, "resume", left)
    assert (await lab.resume()).phase == "succeeded"
    assert "commanded" not in lab.kinds()


async def test_leave_exposed_leaves_it(lab) -> None:
    lab.on_event.append(
        lambda rollout, event: (
            lab.stop.set() if event.body.kind == "measured" and rollout.record.name == "canary 10%" else None
        )
    )
    rollout = await lab.run(leave_exposed=True)
    assert (rollout.phase, rollout.parked) == ("paused", False)
    assert dict(lab.observed().traffic) == {"blue": 900, "green": 100}


async def test_drift_pauses_and_the_human_chooses(lab) -> None:
    entered = lab.until("stage_entered", name="canary 10%")
    running = asyncio.create_task(lab.run())
    await entered.wait()
    await asyncio.sleep(3)
    lab.cloud.meddle("shop", traffic={"blue": 300, "green": 700})
    await lab.until("paused").wait()
    paused = await use_cases.find(lab.app, None)
    assert paused.paused == "drift"
    assert "traffic is blue 30%, green 70%, and was left at blue 90%, green 10%" in paused.reason
    with pytest.raises(UsageError, match="--take-back"):
        await use_cases.resume(lab.app, None, Flags(), watcher=lab.watch, stop=asyncio.Event())
    await use_cases.resume(lab.app, None, Flags(take_back=True), watcher=lab.watch, stop=asyncio.Event())
    assert (await running).phase == "succeeded"


async def test_drift_kept(lab) -> None:
    entered = lab.until("stage_entered", name="canary 10%")
    running = asyncio.create_task(lab.run())
    await entered.wait()
    await asyncio.sleep(3)
    lab.cloud.meddle("shop", traffic={"blue": 300, "green": 700})
    await lab.until("paused").wait()
    await use_cases.resume(lab.app, None, Flags(keep_theirs=True), watcher=lab.watch, stop=asyncio.Event())
    rollout = await running
    assert rollout.phase == "failed"
    assert "left as found by ada" in rollout.reason
    assert dict(lab.observed().traffic) == {"blue": 300, "green": 700}


async def test_throttling_and_lost_answers_are_ridden_out(lab) -> None:
    lab.cloud.fail_next("set_traffic", Temporary("too many requests", retry_after=7), times=2)
    lab.cloud.fail_next("put_deployment", Temporary("the answer was lost"), after_effect=True)
    rollout = await lab.run()
    assert rollout.phase == "succeeded"
    assert lab.kinds().count("retried") >= 2
    created = [effect for effect in lab.cloud.effects if effect.action.kind == "put_deployment"]
    assert len(created) == 2


async def test_measuring_that_fails_five_times_acts(lab) -> None:
    entered = lab.until("stage_entered", name="canary 10%")
    running = asyncio.create_task(lab.run(exit_on_pause=True))
    await entered.wait()
    await asyncio.sleep(3)
    lab.cloud.fail_next("measure", Temporary("no answer"), times=50)
    rollout = await running
    assert (rollout.phase, rollout.paused) == ("paused", "error")
    assert "5 times in a row" in rollout.reason


async def test_abort_while_the_provider_is_down_is_recorded_and_carried_out_later(lab) -> None:
    entered = lab.until("stage_entered", name="canary 10%")
    running = asyncio.create_task(lab.run())
    await entered.wait()
    await asyncio.sleep(3)
    lab.cloud.fail_next("observe", Temporary("down"), times=6)
    asked = await lab.ask("abort")
    assert asked.accepted
    assert asked.rollout.phase == "rolling_back"
    assert (await running).phase == "rolled_back"
    assert dict(lab.observed().traffic) == {"blue": 1000}


async def test_the_plan_that_was_edited_needs_adopt(lab) -> None:
    lab.steps = "\n  - deploy: green\n  - approve: go?\n  - promote: 100%\n"
    await lab.run(exit_on_pause=True)
    lab.steps = "\n  - deploy: green\n  - wait: 5s\n  - promote: 100%\n"
    lab.write()
    with pytest.raises(Refused, match="--adopt"):
        await lab.resume()
    rollout = await lab.resume(adopt=True)
    assert rollout.phase == "succeeded"
    assert [record.name for record in rollout.stages] == ["bootstrap blue", "deploy green", "wait 5s", "promote 100%"]


async def test_scaling_is_undone_by_a_rollback(lab) -> None:
    lab.steps = "\n  - scale: {blue: 4}\n  - deploy: green\n  - canary: 10%\n    gates: [errors]\n    hold: 10s\n"
    lab.cloud.behave("shop", "green", Behaviour(error_rate=0.3))
    rollout = await lab.run()
    assert rollout.phase == "rolled_back"
    assert lab.observed().deployments["blue"].desired == 2


async def test_who_is_provably_gone_is_not_said_to_drive(lab) -> None:
    lab.steps = "\n  - deploy: green\n  - approve: go?\n  - promote: 100%\n"
    entered = lab.until("stage_entered", name="approve: go?")
    running = asyncio.create_task(lab.run())
    await entered.wait()
    rollout = await use_cases.find(lab.app, None)
    assert (await use_cases.as_it_stands(lab.app, rollout)).worker == rollout.worker
    worker = await lab.app.store.worker(rollout.worker)
    await lab.app.store.put_worker(replace(worker, pid_started="1"))
    assert (await use_cases.as_it_stands(lab.app, rollout)).worker is None
    await lab.app.store.put_worker(worker)
    await lab.ask("abort")
    await running


async def test_a_candidate_that_never_gets_ready_ends_with_its_last_words(lab) -> None:
    lab.steps = lab.steps.replace("  - deploy: green\n", "  - deploy: green\n    deadline: 30s\n", 1)
    slow = Behaviour(start_seconds=3600, prints=("still loading the model",))
    lab.cloud.behave("shop", "green", slow)
    rollout = await lab.run()
    assert rollout.phase == "rolled_back"
    assert rollout.reason.startswith("deploy green was not done within 30s")
    assert "its log ends with:\n" in rollout.reason
    assert "still loading the model" in rollout.reason


async def test_what_a_model_prints_cannot_write_to_the_terminal(lab) -> None:
    lab.steps = lab.steps.replace("  - deploy: green\n", "  - deploy: green\n    deadline: 30s\n", 1)
    lab.cloud.behave("shop", "green", Behaviour(start_seconds=3600, prints=("\x1b[2Jgone\x07\r" + "x" * 20_000,)))
    rollout = await lab.run()
    assert "?[2Jgone??" in rollout.reason
    assert "\x1b" not in rollout.reason
    assert len(rollout.reason) <= 8_000
