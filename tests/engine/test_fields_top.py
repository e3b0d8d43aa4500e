"""What each field at the top of a plan does: plans that differ in that field alone go differently, in virtual time."""

import re

import pytest

from orchestrator.errors import Refused, Unfit
from plans.errors import PlanError
from providers.actions import PutDeployment
from providers.memory import Behaviour, named_world
from providers.memory.provider import MemoryProvider
from tests.engine.field_effects import HEAD, Lab, Ran, another, behaving, run_each

pytestmark = pytest.mark.looptime

STEPS = "steps:\n  - deploy: green\n  - canary: 10%\n    gates: errors\n    hold: 2s\n"
ROLES = """
name: shop
provider: WORLD
endpoint: {file: endpoint.yml}
slots: [blue, green]
candidate: {file: green.yml}
steps:
  - deploy: candidate
  - promote: 100%
"""


def served(ran: Ran) -> dict[str, int]:
    return dict(ran.lab.observed().traffic)


def deployed(ran: Ran) -> dict[str, tuple[str, int]]:
    """The model and instances of everything that was deployed."""
    specs = [e.action.deployment.spec for e in ran.lab.cloud.effects if isinstance(e.action, PutDeployment)]
    return {spec.name: (spec.model, spec.instance_count) for spec in specs}


# --- what it is and where ---


async def test_version_is_1_and_no_other(lab) -> None:
    plan = HEAD.replace("version: 1", "FIELD") + STEPS
    one, none = await run_each(lab, plan, "version: 1", "")
    assert one.end == none.end == "succeeded"
    with pytest.raises(PlanError, match="version"):
        await run_each(lab, plan, "version: 2")


async def test_name_is_what_its_rollouts_are_called_else_the_files_name(lab) -> None:
    plan = HEAD.replace("name: shop", "FIELD") + "stable: blue\nsteps:\n  - wait: 0s\n"
    named, unnamed = await run_each(lab, plan, "name: weekly-release", "")
    assert [ran.rollout.name for ran in (named, unnamed)] == ["weekly-release", "plan"]
    assert re.match(r"weekly-release-", named.rollout.id)
    assert re.match(r"plan-", unnamed.rollout.id)


async def test_provider_is_where_endpoints_live(lab) -> None:
    plan = HEAD.replace("provider: WORLD", "provider: FIELD") + "stable: blue\nsteps:\n  - wait: 0s\n"
    worlds = [f"{lab.world}-east", f"{lab.world}-west"]
    east, west = await run_each(lab, plan, *(f"{{name: memory, world: {world}}}" for world in worlds))
    assert [ran.rollout.endpoint for ran in (east, west)] == [f"memory:{world}/shop" for world in worlds]
    for world in worlds:
        assert dict(named_world(world).observe("shop").traffic) == {"blue": 1000}


async def test_the_name_of_the_provider_says_which_one(lab) -> None:
    """The simulated one takes any model; the local one wants something that it can run."""
    plan = HEAD.replace("provider: WORLD", "provider: {name: FIELD}") + "stable: blue\nsteps:\n  - wait: 0s\n"
    plan = plan.replace("endpoint.yml", f"{lab.world}.yml")

    def before(made: Lab) -> None:
        (made.folder / f"{lab.world}.yml").write_text(f"name: {lab.world}\n")

    (ran,) = await run_each(lab, plan, "memory", before=before)
    assert ran.rollout.endpoint == f"memory:default/{lab.world}"
    with pytest.raises(PlanError, match="is a registered model, and the local provider has none"):
        await run_each(lab, plan, "local", before=before)


@pytest.mark.parametrize(
    ("option", "values", "ends"),
    [
        ("rate", ("200", "0"), ["succeeded", "paused: no_data"]),
        ("durations", ("{put_deployment: 1}", "{put_deployment: 9}"), ["succeeded", "rolled_back: step"]),
    ],
)
async def test_a_providers_own_options(lab, option, values, ends) -> None:
    options = f"name: memory, world: {lab.world}-FIELD, rate: 200, {option}: FIELD"
    if option == "rate":
        options = options.replace("rate: 200, ", "")
    fields = []
    for number, value in enumerate(values):
        fields.append(options.replace("-FIELD", f"-{number}").replace("FIELD", value))
    steps = STEPS.replace("green\n", "green\n    deadline: 5s\n", 1).replace("hold: 2s", "hold: 2s\n    deadline: 9s")
    ran = await run_each(lab, HEAD.replace("provider: WORLD", "provider: {FIELD}") + steps, *fields)
    assert [each.end for each in ran] == ends


async def test_what_the_provider_cannot_do_is_refused_with_the_plan_that_it_could_run(lab) -> None:
    steps = "steps:\n  - deploy: green\n  - shadow: 25%\n    gates: errors\n"
    plan = HEAD.replace("provider: WORLD", "provider: {FIELD}") + steps
    can, cannot = (
        f"name: memory, world: {lab.world}-{limit}, rate: 200, capabilities: {{mirror_limit: {limit}}}"
        for limit in (250, 100)
    )
    (ran,) = await run_each(lab, plan, can)
    assert ran.end == "succeeded"
    with pytest.raises(Unfit, match="25% is more than this provider can mirror; write 10% or less") as refused:
        await run_each(lab, plan, cannot)
    assert "- shadow: 10%\n" in (refused.value.alternative or "")


async def blue_serves(lab: Lab) -> None:
    lab.text = HEAD + "stable: blue\nsteps:\n  - wait: 0s\n"
    assert (await lab.run()).phase == "succeeded"


async def test_endpoint_by_name_must_be_there_and_from_a_file_is_created(lab) -> None:
    plan = HEAD.replace("endpoint: {file: endpoint.yml}", "endpoint: FIELD") + STEPS
    (created,) = await run_each(lab, plan, "{file: endpoint.yml}")
    assert created.stages[0] == "bootstrap blue"
    with pytest.raises(Refused, match="endpoint shop does not exist, and the plan only names it"):
        await run_each(lab, plan, "shop")
    by_name, by_file = await run_each(lab, plan, "shop", "{file: endpoint.yml}", before=blue_serves)
    assert by_name.stages == by_file.stages == ["deploy green", "canary 10%"]


async def test_file_is_what_is_read(lab) -> None:
    def before(made: Lab) -> None:
        (made.folder / "sub").mkdir()
        (made.folder / "sub" / "big.yml").write_text("name: whatever\nmodel: azureml:m:9\ninstance_count: 5\n")

    plan = HEAD.replace("file: green.yml", "file: FIELD") + STEPS
    usual, big = await run_each(lab, plan, "green.yml", "sub/big.yml", before=before)
    assert deployed(usual)["green"] == ("azureml:m:2", 2)
    assert deployed(big)["green"] == ("azureml:m:9", 5)


async def test_deployments_are_known_by_the_plans_names(lab) -> None:
    plan = HEAD.replace("deployments: {blue: {file: blue.yml}, green: {file: green.yml}}", "deployments: {FIELD}")
    one, other = await run_each(
        lab,
        plan + STEPS,
        "blue: {file: blue.yml}, green: {file: green.yml}",
        "old: {file: blue.yml}, green: {file: green.yml}",
    )
    assert served(one) == {"blue": 900, "green": 100}
    assert served(other) == {"old": 900, "green": 100}


async def test_a_deployment_may_be_written_in_place(lab) -> None:
    plan = HEAD.replace("green: {file: green.yml}", "green: FIELD") + STEPS
    file, inline = await run_each(lab, plan, "{file: green.yml}", "{model: 'azureml:m:7', instance_count: 3}")
    assert deployed(file)["green"] == ("azureml:m:2", 2)
    assert deployed(inline)["green"] == ("azureml:m:7", 3)


async def test_candidate_is_what_comes_into_the_free_slot(lab) -> None:
    plan = ROLES.replace("candidate: {file: green.yml}", "candidate: FIELD")
    file, inline = await run_each(lab, plan, "{file: green.yml}", "{model: 'azureml:m:7'}", before=blue_serves)
    assert served(file) == served(inline) == {"green": 1000}
    assert [deployed(ran)["green"] for ran in (file, inline)] == [("azureml:m:2", 2), ("azureml:m:7", 1)]


async def test_slots_are_the_names_to_be_had(lab) -> None:
    ran = await run_each(
        lab, ROLES.replace("[blue, green]", "FIELD"), "[blue, green]", "[red, blue]", before=blue_serves
    )
    assert [served(each) for each in ran] == [{"green": 1000}, {"red": 1000}]


async def two_serve(lab: Lab) -> None:
    lab.text = HEAD + STEPS.replace("canary: 10%", "promote: 30%")
    assert (await lab.run()).phase == "succeeded"


async def test_stable_is_who_gives_weight_where_several_serve(lab) -> None:
    head = HEAD.replace("green.yml}}", "green.yml}, red: {model: 'azureml:m:3'}}")
    plan = head + "FIELD\n" + STEPS.replace("green", "red").replace("hold: 2s", "hold: 2s\n  - approve: well?")
    blue, green = await run_each(lab, plan, "stable: blue", "stable: green", before=two_serve)
    assert served(blue) == {"blue": 700, "green": 300}, "it was left at an approval, so what is exposed was taken back"
    assert [ran.splits[-2][0] for ran in (blue, green)] == [
        {"blue": 600, "green": 300, "red": 100},
        {"blue": 700, "green": 200, "red": 100},
    ]
    with pytest.raises(Refused, match=r"several deployments serve \(blue 70%, green 30%\); say .* which is `stable:`"):
        await run_each(lab, plan, "", before=two_serve)


# --- what is put into it ---

SHARE = HEAD + STEPS.replace("10%", "${var:SHARE}")


async def test_vars_are_put_in_their_places(lab) -> None:
    few, many = await run_each(lab, SHARE + "vars: {SHARE: FIELD}\n", "5%", "25%")
    assert [served(ran) for ran in (few, many)] == [{"blue": 950, "green": 50}, {"blue": 750, "green": 250}]


async def test_what_is_given_with_var_wins_and_is_pinned(lab) -> None:
    steps = STEPS.replace("  - canary", "  - approve: go?\n  - canary").replace("10%", "${var:SHARE}")
    (ran,) = await run_each(lab, HEAD + steps + "vars: {SHARE: 5%}\n", "", vars={"SHARE": "40%"})
    assert ran.stages[-1] == "canary 40%"
    assert (await ran.lab.resume(exit_on_pause=True)).waiting.kind == "approval", "its plan is not an edited one"
    assert (await ran.lab.ask("approve")).rollout.phase == "succeeded"
    assert served(ran) == {"blue": 600, "green": 400}
    with pytest.raises(PlanError, match="`--var SHRE` is given, and the plan has no variable `SHRE`"):
        await run_each(lab, HEAD + steps + "vars: {SHARE: 5%}\n", "", vars={"SHRE": "40%"})


async def test_vars_reach_the_files_that_the_plan_names(lab) -> None:
    def before(made: Lab) -> None:
        (made.folder / "v.yml").write_text("name: green\nmodel: 'azureml:m:${var:N}'\n")

    plan = HEAD.replace("green.yml", "v.yml") + STEPS + "vars: {N: FIELD}\n"
    ran = await run_each(lab, plan, "3", "4", before=before)
    assert [deployed(each)["green"][0] for each in ran] == ["azureml:m:3", "azureml:m:4"]


async def test_defaults_are_what_steps_and_gates_do_not_say_themselves(lab) -> None:
    steps = STEPS.replace("    hold: 2s\n", "") + "  - promote: 50%\n    gates: errors\n    hold: 3s\n"
    fields = ("", "defaults: {hold: 12s}", "defaults: {min_requests: 1000}", "defaults: {max: 60%}")
    without, of_a_step, of_a_gate, said_there = await run_each(lab, HEAD + steps + "FIELD\n", *fields)
    assert without.seconds("canary 10%") < 9
    assert 12 <= of_a_step.seconds("canary 10%") < 14
    assert of_a_step.seconds("promote 50%") < 9, "it has a hold of its own"
    assert of_a_gate.seconds("canary 10%") > 45
    for ran in (without, said_there):
        assert "bound of 5%" in ran.of("measured")[-1].body.judgement.sentence, "the gate has a max of its own"


async def test_gates_are_tolerances_by_name(lab) -> None:
    plan = HEAD.replace("max: 5%", "max: FIELD") + STEPS
    strict, mild = await run_each(lab, plan, "5%", "60%", before=behaving(error_rate=0.3))
    assert (strict.end, mild.end) == ("rolled_back: gate", "succeeded")


async def test_steps_are_done_in_order(lab) -> None:
    plan = HEAD + "steps:\n  - deploy: green\nFIELD"
    one, other = await run_each(
        lab, plan, "  - canary: 10%\n  - test: green\n", "  - test: green\n  - canary: 10%\n  - promote: 100%\n"
    )
    assert one.stages == ["bootstrap blue", "deploy green", "canary 10%", "test green"]
    assert other.stages == ["bootstrap blue", "deploy green", "test green", "canary 10%", "promote 100%"]
    for ran in (one, other):
        ended = [event.body.stage for event in ran.of("stage_ended")]
        assert ended == list(range(len(ran.stages)))


# --- what follows ---


async def test_on_fail_counts_where_a_step_says_nothing(lab) -> None:
    plan = HEAD + "FIELD\n" + STEPS
    ran = await run_each(lab, plan, "", "on_fail: rollback", "on_fail: pause", before=behaving(starts=False))
    assert [each.end for each in ran] == ["rolled_back: step", "rolled_back: step", "paused: step"]


async def test_pause_limit_is_how_long_a_pause_may_last(lab) -> None:
    waits = []
    for limit, seconds in (("5s", 5), ("20s", 20)):
        made = another(lab)
        behaving(starts=False)(made)
        made.text = HEAD + f"on_fail: pause\npause_limit: {limit}\n" + STEPS
        ran = Ran(made, await made.run())
        assert ran.end == "rolled_back: pause_limit"
        (paused,), (began,) = ran.of("paused"), ran.of("rollback_began")
        assert (paused.body.until - paused.at).total_seconds() == seconds
        assert began.body.reason.startswith("nobody resumed it in time; it was paused because deploy green: ")
        waits.append((began.at - paused.at).total_seconds())
    assert waits == pytest.approx([5, 20], abs=0.3)


async def test_without_a_pause_limit_it_is_a_day(lab) -> None:
    (ran,) = await run_each(lab, HEAD + "on_fail: pause\n" + STEPS, "", before=behaving(starts=False))
    (paused,) = ran.of("paused")
    assert (paused.body.until - paused.at).total_seconds() == 24 * 3600


async def test_on_rollback_says_what_becomes_of_the_candidate(lab) -> None:
    def before(made: Lab) -> None:
        made.cloud.behave("shop", "green", Behaviour(error_rate=0.5, prints=("{deployment} was here",)))

    fields = ("", "on_rollback: {candidate: delete}", "on_rollback: {candidate: keep}")
    default, deleted, kept = await run_each(lab, HEAD + STEPS + "FIELD\n", *fields, before=before)
    for ran in (default, deleted, kept):
        assert ran.end == "rolled_back: gate"
        assert served(ran) == {"blue": 1000}
        provider = MemoryProvider.in_world(ran.lab.cloud, ran.lab.context())
        assert "green was here" in await provider.logs("shop", "green", instance=None, tail=9)
    for ran in (default, deleted):
        assert list(ran.lab.observed().deployments) == ["blue"]
        (saved,) = ran.of("logs_saved")
        where = f"memory:{ran.lab.world}/shop/logs/{ran.rollout.id}/green"
        assert (saved.body.deployment, saved.body.where, ran.rollout.logs) == ("green", where, where)
    assert sorted(kept.lab.observed().deployments) == ["blue", "green"]
    assert dict(kept.lab.observed().mirror) == {}
    assert kept.of("logs_saved") == [], "they are where they always were"
