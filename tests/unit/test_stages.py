"""Every kind of step as stages, the split that stands before and after each, and each refusal with its sentence."""

import pytest

from orchestrator.compiler import compile_stages
from orchestrator.errors import Unfit
from orchestrator.stages import Target, gated_count
from orchestrator.standing import Roles, Split
from providers.base import Capabilities
from tests.unit.making import BLUE, bundle, endpoint, stages_of

DEPLOY = "  - deploy: green\n"
WHOLE = """
  - deploy: green
    deadline: 5m
  - scale: {blue: 4}
  - test: green
  - shadow: [1%, 10%]
    gates: [errors, slower]
    hold: 10m
  - canary: [10%, 50%]
    gates: errors
    interval: 3s
  - wait: 5m
  - approve: sure?
  - webhook: https://example.org/hook
  - load: 200/s
    for: 30s
    request: {body: x}
  - promote: 100%
    gates: slow
    hold: 30m
  - delete: stable
"""


def refusal(steps: str, **making: object) -> str:
    """`steps[1].canary: message` of the one step that is refused."""
    with pytest.raises(Unfit) as caught:
        stages_of(steps, **making)
    (problem,) = caught.value.problems
    return f"{problem.key}: {problem.message}"


def test_a_whole_plan():
    stages = stages_of(WHOLE)
    assert [stage.index for stage in stages] == list(range(13))
    assert [(stage.name, stage.kind, stage.step, stage.exposure, stage.mirrored) for stage in stages] == [
        ("deploy green", "deploy", 0, 0, 0),
        ("scale blue to 4", "scale", 1, 0, 0),
        ("test green", "test", 2, 0, 0),
        ("shadow 1%", "shadow", 3, 0, 10),
        ("shadow 10%", "shadow", 3, 0, 100),
        ("canary 10%", "canary", 4, 100, 0),
        ("canary 50%", "canary", 4, 500, 0),
        ("wait 5m", "wait", 5, 500, 0),
        ("approve: sure?", "approve", 6, 500, 0),
        ("webhook", "webhook", 7, 500, 0),
        ("load 200/s for 30s", "load", 8, 500, 0),
        ("promote 100%", "promote", 9, 1000, 0),
        ("delete blue", "delete", 10, 1000, 0),
    ]
    assert [stage.gated for stage in stages] == [None, None, None, 0, 1, 2, 3, None, None, None, None, 4, None]
    assert gated_count(stages) == 5
    assert [stage.irreversible for stage in stages] == [False] * 12 + [True]


def test_targets_and_what_stands_while_a_task_runs():
    stages = {stage.name: stage for stage in stages_of(WHOLE)}
    deploy = stages["deploy green"].work
    assert isinstance(deploy, Target)
    assert (dict(deploy.traffic), list(deploy.deployments), dict(deploy.instances)) == (
        {"blue": 1000},
        ["green"],
        {"green": 2},
    )
    assert stages["deploy green"].deadline == 300
    assert stages["scale blue to 4"].work == Target({"blue": 1000}, instances={"blue": 4})
    assert stages["test green"].standing == Target({"blue": 1000})
    assert stages["shadow 1%"].work == Target({"blue": 1000}, {"green": 10})
    assert stages["shadow 1%"].after is None
    assert stages["shadow 10%"].after == Target({"blue": 1000})
    assert stages["canary 10%"].work == Target({"blue": 900, "green": 100})
    assert stages["canary 10%"].after is None
    for name in ("wait 5m", "approve: sure?", "webhook", "load 200/s for 30s"):
        assert stages[name].standing == Target({"blue": 500, "green": 500})
    assert stages["promote 100%"].work == Target({"green": 1000})
    assert stages["delete blue"].work == Target({"green": 1000}, absent=("blue",))


def test_gates_guards_and_clocks():
    stages = {stage.name: stage for stage in stages_of(WHOLE)}
    assert [gate.name for gate in stages["shadow 10%"].gates] == ["errors", "slower"]
    assert (stages["shadow 10%"].interval, stages["shadow 10%"].hold, stages["shadow 10%"].deadline) == (1, 600, 4200)
    assert stages["canary 50%"].interval == 3
    assert stages["test green"].guards == ()
    assert stages["canary 10%"].guards == (), "its own gates watch it"
    for name in ("wait 5m", "approve: sure?", "webhook", "load 200/s for 30s"):
        assert [gate.name for gate in stages[name].guards] == ["errors"], f"{name}: canary exposure outlives its step"
        assert stages[name].interval == 3
    assert stages["delete blue"].guards == (), "there is nothing left to go back to"
    assert stages["promote 100%"].interval == 5


def test_a_guard_keeps_its_cadence_through_a_step_without_gates():
    steps = DEPLOY + "  - canary: 10%\n    gates: errors\n  - canary: 20%\n  - wait: 1m\n"
    *_, second, wait = stages_of(steps)
    assert [gate.name for gate in second.guards] == ["errors"]
    assert (second.interval, wait.interval) == (1, 1)


def test_what_a_gate_inherits():
    top = "gates: {errors: {metric: error_rate, max: 5%, on_error: rollback}}\nalpha: 2%\non_undecided: rollback\n"
    steps = DEPLOY + "  - canary: 10%\n    gates: errors\n    on_fail: pause\n"
    stage = stages_of(steps, top=top)[-1]
    (gate,) = stage.gates
    assert (gate.alpha, gate.beta, gate.blame) == (0.02, 0.05, True)
    assert (gate.on_fail, gate.on_no_data, gate.on_undecided, gate.on_error) == (
        "pause",
        "pause",
        "rollback",
        "rollback",
    )
    assert (stage.on_fail, stage.on_undecided) == ("pause", "rollback")


def test_copies_do_not_guard_live_traffic():
    """What a shadow's gates know comes from the mirror, which is empty by then."""
    stages = stages_of(DEPLOY + "  - shadow: 10%\n    gates: errors\n  - canary: 10%\n  - wait: 5m\n")
    assert [stage.guards for stage in stages] == [()] * 4


def test_names_of_steps():
    steps = "  - deploy: green\n    name: bring it\n  - canary: [10%, 20%]\n    name: carefully\n"
    assert [stage.name for stage in stages_of(steps)] == [
        "bring it",
        "carefully (canary 10%)",
        "carefully (canary 20%)",
    ]


def test_the_bootstrap_comes_first():
    roles = Roles("green", "blue", Split({"blue": 1000}), {"blue": 2}, bootstrap=True)
    first, second = stages_of(DEPLOY, roles=roles)
    assert (first.name, first.kind, first.step, first.deadline) == ("bootstrap blue", "bootstrap", None, 1800)
    assert isinstance(first.work, Target)
    assert first.work.endpoint is not None
    assert (dict(first.work.traffic), dict(first.work.instances)) == ({"blue": 1000}, {"blue": 2})
    assert second.index == 1


def test_the_same_bundle_gives_the_same_stages():
    made = bundle(WHOLE)
    assert compile_stages(made, BLUE, Capabilities()) == compile_stages(made, BLUE, Capabilities())


def test_while_several_serve_only_stable_gives_weight():
    observed = endpoint({"blue": 700, "red": 300})
    steps = DEPLOY + "  - canary: [10%, 70%]\n  - promote: 100%\n  - delete: red\n"
    stages = stages_of(steps, observed=observed, top="stable: blue", names=("blue", "green", "red"))
    assert [dict(stage.work.traffic) for stage in stages[1:]] == [
        {"red": 300, "blue": 600, "green": 100},
        {"red": 300, "green": 700},
        {"green": 1000},
        {"green": 1000},
    ]
    assert stages[-1].irreversible, "a rollback would have to give red its share back"


def test_more_than_stable_has_to_give():
    observed = endpoint({"blue": 700, "red": 300})
    said = refusal(DEPLOY + "  - canary: 80%\n", observed=observed, top="stable: blue", names=("blue", "green", "red"))
    assert said == "steps[1].canary: 80%: only blue gives weight before 100%, and there is 70% to give"


def test_promote_to_less_than_everything():
    stages = stages_of(DEPLOY + "  - promote: 80%\n    gates: slower\n  - promote: 100%\n")
    assert [dict(stage.work.traffic) for stage in stages[1:]] == [{"blue": 200, "green": 800}, {"green": 1000}]


def test_deleting():
    assert refusal(DEPLOY + "  - promote: 80%\n  - delete: blue\n") == (
        "steps[2].delete: blue still has 20% of the traffic there, so it is not deleted; "
        "promote the candidate to 100% first"
    )
    assert refusal("  - delete: green\n") == (
        "steps[0].delete: green does not exist at that point of the plan; remove this step"
    )
    made = stages_of(DEPLOY + "  - delete: green\n")[-1]
    assert (made.name, made.irreversible, dict(made.work.traffic)) == ("delete green", False, {"blue": 1000})
    again = stages_of(DEPLOY + "  - delete: green\n  - deploy: green\n  - test: green\n  - canary: 10%\n")
    assert again[-1].name == "canary 10%", "what was deleted and deployed again is there"
    assert refusal(DEPLOY + "  - delete: green\n  - canary: 10%\n") == "steps[2].canary: green was deleted before"
    assert "does not exist" in refusal(DEPLOY + "  - delete: green\n  - test: green\n")
    assert "does not exist" in refusal(DEPLOY + "  - delete: green\n  - scale: {green: 2}\n")


def test_deleting_the_endpoint():
    stages = stages_of("  - delete: endpoint\n  - wait: 1s\n  - webhook: https://example.org\n  - approve: done?\n")
    assert stages[0].work == Target({}, gone=True)
    assert stages[0].irreversible
    assert [stage.standing for stage in stages[1:]] == [Target({}, gone=True)] * 3, "it must not be missed"
    for step in ("deploy: green", "scale: {blue: 2}", "test: blue", "load: 5\n    request: {body: x}", "delete: blue"):
        said = refusal(f"  - delete: endpoint\n  - {step}\n")
        assert f"steps[1].{step.partition(':')[0]}: the endpoint is deleted by then" in said


LESS = Capabilities(mirror_limit=0, scale=False, direct=False)
REFUSALS = [
    ("  - test: green\n", {}, "steps[0].test: green does not exist at that point of the plan; deploy it first"),
    ("  - scale: {green: 3}\n", {}, "steps[0].scale: green does not exist at that point of the plan; deploy it first"),
    ("  - scale: {blue: 3}\n", {"capabilities": LESS}, "steps[0].scale: this provider cannot change instance counts"),
    (
        DEPLOY + "  - test: green\n",
        {"capabilities": LESS},
        "steps[1].test: this provider cannot address a deployment without traffic; take this step out",
    ),
    (
        DEPLOY + "  - shadow: 10%\n",
        {"capabilities": LESS},
        "steps[1].shadow: this provider cannot mirror traffic; take this step out",
    ),
    (
        DEPLOY + "  - shadow: 60%\n",
        {},
        "steps[1].shadow: 60% is more than this provider can mirror; write 50% or less",
    ),
    (
        DEPLOY + "  - shadow: 0.5%\n",
        {"capabilities": Capabilities(weight_step=10)},
        "steps[1].shadow: 0.5%: this provider's weights go in steps of 1%",
    ),
    (
        DEPLOY + "  - canary: 0.5%\n",
        {"capabilities": Capabilities(weight_step=10)},
        "steps[1].canary: 0.5%: this provider's weights go in steps of 1%",
    ),
    (
        DEPLOY + "  - canary: 10%\n  - shadow: 10%\n",
        {},
        (
            "steps[2].shadow: green has live traffic there, and a deployment cannot have live and mirrored traffic "
            "together; shadow before the canary"
        ),
    ),
    (
        DEPLOY + "  - promote: 100%\n    gates: slower\n",
        {},
        "steps[1].gates: gate slower only compares with stable, and stable has no live traffic there; give it a `max`",
    ),
]


@pytest.mark.parametrize(("steps", "making", "sentence"), REFUSALS)
def test_what_is_refused(steps, making, sentence):
    assert refusal(steps, **making) == sentence


def test_exposure_only_grows_also_where_the_candidate_has_traffic_already():
    roles = Roles("green", "blue", Split({"blue": 800, "green": 200}), {"blue": 2, "green": 2}, existed=True)
    said = refusal(DEPLOY + "  - canary: 10%\n", roles=roles)
    assert said == "steps[1].canary: 10% is less than the 20% that green has by then: exposure only grows"


def test_without_a_stable_nobody_gives_weight():
    said = refusal(DEPLOY + "  - canary: 10%\n", roles=Roles("green", None, Split({}), {}))
    assert said == "steps[1].canary: 10%: only stable gives weight before 100%, and there is 100% to give"
    said = refusal(DEPLOY + "  - shadow: 10%\n", roles=Roles("green", None, Split({}), {}))
    assert said == "steps[1].shadow: no deployment has live traffic there, so there is nothing to mirror"


def test_a_relative_gate_is_fine_with_a_bound_after_promote():
    stage = stages_of(DEPLOY + "  - promote: 100%\n    gates: errors\n")[-1]
    assert stage.gates[0].terms == ("bound", "relative")


def test_every_step_that_cannot_be_carried_out_is_told_at_once():
    steps = "  - deploy: green\n  - delete: blue\n  - canary: 10%\n  - test: red\n"
    with pytest.raises(Unfit) as caught:
        stages_of(steps, names=("blue", "green", "red"))
    assert [(problem.line, problem.column, problem.key) for problem in caught.value.problems] == [
        (14, 13, "steps[1].delete"),
        (16, 11, "steps[3].test"),
    ]
    assert str(caught.value).startswith("/plans/plan.yml:14:13: steps[1].delete: blue still has 100% of the traffic")


def test_a_provider_that_cannot_is_answered_with_the_plan_that_it_could_run():
    steps = """  - deploy: green
  # as a copy first
  - shadow: [10%, 60%]  # all of it
    gates: [errors]
  - scale: {blue: 3}
  - canary: 10%   # then for some
"""
    with pytest.raises(Unfit) as caught:
        stages_of(steps, capabilities=Capabilities(scale=False))
    could = caught.value.alternative
    assert could is not None
    assert (
        could.split("steps:\n")[1]
        == """  - deploy: green
  # as a copy first
  - shadow: [10%, 50%]  # all of it
    gates: [errors]
  - canary: 10%   # then for some
"""
    )
    stages_of(could.split("steps:\n")[1], capabilities=Capabilities(scale=False))


def test_no_plan_is_offered_where_nothing_would_be_left_or_the_author_erred_too():
    with pytest.raises(Unfit) as caught:
        stages_of("  - scale: {blue: 3}\n", capabilities=LESS)
    assert caught.value.alternative is None
    with pytest.raises(Unfit) as caught:
        stages_of("  - deploy: green\n  - scale: {blue: 3}\n  - delete: blue\n", capabilities=LESS)
    assert caught.value.alternative is None
