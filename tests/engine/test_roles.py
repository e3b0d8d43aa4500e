"""Plans that speak of roles: one file for every new version, whichever of its slots is free."""

import pytest

from orchestrator.errors import Refused
from providers.actions import SetTraffic
from providers.memory import Behaviour

pytestmark = pytest.mark.looptime

HEAD = """
version: 1
name: shop
provider: WORLD
endpoint: {file: endpoint.yml}
slots: [blue, green]
candidate: {file: candidate.yml}
gates:
  errors: {metric: error_rate, max: 5%, max_ratio: 2, max_increase: 2%, warm_up: 2s, interval: 1s}
  slower: {metric: latency, max_ratio: 2, warm_up: 2s, interval: 1s}
"""
STEPS = """
steps:
  - deploy: candidate
  - test: candidate
  - shadow: 10%
    gates: [errors, slower]
    hold: 10s
  - canary: [10%, 50%]
    gates: [errors, slower]
    hold: 10s
  - promote: 100%
    gates: [errors]
    hold: 5s
  - delete: stable
"""


def version(lab, number: int, *, instances: int = 1) -> None:
    (lab.folder / "candidate.yml").write_text(
        f"name: whatever\nmodel: azureml:m:{number}\ninstance_count: {instances}\n"
    )


async def test_the_same_file_alternates_between_its_slots(lab) -> None:
    lab.text = HEAD + STEPS
    served = []
    for number in (1, 2, 3):
        version(lab, number)
        rollout = await lab.run()
        assert rollout.phase == "succeeded", rollout.reason
        served.append(dict(lab.observed().traffic))
        assert len(lab.observed().deployments) == 1
    assert served == [{"blue": 1000}, {"green": 1000}, {"blue": 1000}]


async def test_the_first_version_is_deployed_tested_and_given_everything(lab) -> None:
    lab.text = HEAD + STEPS
    version(lab, 1)
    rollout = await lab.run()
    assert [record.name for record in rollout.stages] == ["bootstrap shop", "deploy blue", "test blue", "promote 100%"]
    (note,) = lab.seen[0].body.notes
    told = "with nothing to compare it with: it is deployed, tested and given 100%"
    assert note == f"blue is the first version here, {told}, without step 3 (shadow), step 4 (canary), step 6 (delete)"
    splits = [effect.action.traffic for effect in lab.cloud.effects if isinstance(effect.action, SetTraffic)]
    assert splits == [{"blue": 1000}]


async def test_a_first_version_without_a_promote_step_gets_everything_too(lab) -> None:
    lab.text = HEAD + "steps:\n  - deploy: candidate\n  - canary: 50%\n"
    version(lab, 1)
    assert (await lab.run()).phase == "succeeded"
    assert dict(lab.observed().traffic) == {"blue": 1000}


async def test_a_bad_first_version_leaves_an_endpoint_that_the_next_run_begins_with(lab) -> None:
    lab.text = HEAD + STEPS
    version(lab, 1)
    lab.cloud.behave("shop", "blue", Behaviour(starts=False))
    rollout = await lab.run()
    assert rollout.phase == "rolled_back"
    assert dict(lab.observed().deployments) == {}
    lab.cloud.behave("shop", "blue", Behaviour())
    assert (await lab.run()).phase == "succeeded"


async def test_a_gate_of_the_first_promote_can_still_fail(lab) -> None:
    lab.text = HEAD + STEPS.replace("hold: 5s", "hold: 60s")
    version(lab, 1)
    lab.cloud.behave("shop", "blue", Behaviour(error_rate=0.5))
    lab.text = lab.text.replace("  - test: candidate\n", "")
    rollout = await lab.run()
    assert rollout.phase == "rolled_back"
    assert dict(lab.observed().traffic) == {}


async def test_stable_from_a_file_is_brought_into_service_first(lab) -> None:
    lab.text = HEAD + "stable: {file: blue.yml}\n" + STEPS
    version(lab, 2)
    rollout = await lab.run()
    assert rollout.phase == "succeeded"
    assert [record.name for record in rollout.stages][:3] == ["bootstrap blue", "deploy green", "test green"]
    assert dict(lab.observed().traffic) == {"green": 1000}


async def test_written_in_place(lab) -> None:
    lab.text = HEAD.replace("{file: candidate.yml}", "{model: 'azureml:m:7', instance_count: 3}") + STEPS
    assert (await lab.run()).phase == "succeeded"
    assert lab.observed().deployments["blue"].desired == 3


async def test_words_for_deployments_in_every_step(lab) -> None:
    lab.text = HEAD + STEPS.replace("  - promote", "  - scale: {candidate: 2, stable: 1}\n  - promote")
    for number in (1, 2):
        version(lab, number)
        rollout = await lab.run()
        if number == 1:
            # There is no stable to scale in the first run.
            assert rollout.phase == "succeeded"
    assert [record.name for record in rollout.stages if "scale" in record.name] == ["scale green to 2, blue to 1"]


async def test_several_serve_and_the_plan_does_not_say_who_is_stable(lab) -> None:
    lab.text = HEAD + STEPS.replace("  - delete: stable\n", "").replace("promote: 100%", "promote: 60%")
    for number in (1, 2):
        version(lab, number)
        await lab.run()
    assert dict(lab.observed().traffic) == {"blue": 400, "green": 600}
    version(lab, 3)
    with pytest.raises(Refused, match="every slot serves"):
        await lab.run()
    lab.text = lab.text.replace("[blue, green]", "[blue, green, red]")
    with pytest.raises(Refused, match=r"several deployments serve .* say in the plan which is `stable:`"):
        await lab.run()


async def test_a_slot_that_holds_an_old_version_is_taken_only_with_replace(lab) -> None:
    lab.text = HEAD + STEPS.replace("  - delete: stable\n", "")
    for number in (1, 2):
        version(lab, number)
        assert (await lab.run()).phase == "succeeded"
    version(lab, 3)
    with pytest.raises(Refused, match="run with --replace"):
        await lab.run()
    assert (await lab.run(replace=True)).phase == "succeeded"
    assert dict(lab.observed().traffic) == {"blue": 1000}


async def test_a_mistyped_endpoint_creates_nothing(lab) -> None:
    lab.text = HEAD.replace("{file: endpoint.yml}", "shpo") + STEPS
    version(lab, 1)
    with pytest.raises(Refused, match="endpoint shpo does not exist"):
        await lab.run()
    assert lab.cloud.effects == []
