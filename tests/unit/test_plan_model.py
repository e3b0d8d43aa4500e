"""The plan language: a right plan of every kind, and what it becomes. Wrong ones are in test_plan_bad.py."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from plans import source
from plans.bounds import Bound
from plans.errors import PlanError
from plans.gates import Tolerance, gate_kind
from plans.model import FileRef, InlineSpec, Plan
from plans.steps import STEPS, DeployStep

TOP = """\
endpoint: {file: endpoint.yml}
deployments: {blue: {file: blue.yml}, green: {file: green.yml}}
gates: {errors: {metric: error_rate, max: 2%}, slow: {metric: latency, max: 500ms}}
steps:
"""


def plan(text: str) -> Plan:
    return source.loads(text, Plan, name="plan.yml")


def complaints(text: str) -> list[str]:
    with pytest.raises(PlanError) as caught:
        plan(text)
    return str(caught.value).splitlines()


WRITTEN = {
    "deploy": "- deploy: green\n    deadline: 30s",
    "scale": "- scale: {blue: 2}",
    "test": "- test: green\n    request: {body: '[1]'}\n    expect: {json: {predictions.0: 1.5}, max_latency: 1s}",
    "shadow": "- shadow: [1%, 10%]\n    gates: errors\n    hold: 10m\n    deadline: 1h",
    "canary": "- canary: [0.1%, 50%]\n    gates: [errors, slow]\n    interval: 5s",
    "promote": "- promote: 100%",
    "wait": "- wait: {until: '09:00', tz: Asia/Tokyo}",
    "approve": "- approve: really?\n    not_by_starter: on",
    "webhook": "- webhook: https://e.org\n    secret: ${env:KEY}\n    headers: {Cookie: 'a=${file:token}', X-Team: ml}",
    "load": "- load: 200/s\n    request: r.json\n    for: 30s",
    "delete": "- delete: blue",
}


def test_every_kind_of_step_is_tried_here():
    assert list(WRITTEN) == list(STEPS)


@pytest.mark.parametrize("kind", WRITTEN)
def test_a_right_step_is_read_and_comes_back_from_json(kind):
    first = "  - deploy: green\n" if kind in ("shadow", "canary", "promote") else ""
    read = plan(f"{TOP}{first}  {WRITTEN[kind]}\n")
    assert type(read.steps[-1]) is STEPS[kind]
    assert Plan.model_validate_json(read.model_dump_json()) == read


def test_the_inner_form_of_a_plan():
    read = plan(TOP + "".join(f"  {step}\n" for step in WRITTEN.values()) + "alpha: 2%\npause_limit: 1h30m\n")
    assert [type(step) for step in read.steps] == list(STEPS.values())
    _, scale, test, shadow, canary, promote, wait, approve, hook, load, _ = read.steps
    assert scale.scale == {"blue": 2}
    assert (test.expect.json_, test.expect.max_latency) == ({"predictions.0": "1.5"}, 1_000_000)
    assert (shadow.shadow, shadow.gates, shadow.hold, shadow.deadline) == ((10, 100), ("errors",), 600.0, 3600.0)
    assert (canary.canary, promote.promote) == ((1, 500), 1000)
    assert (wait.wait.until, wait.wait.tz, approve.not_by_starter) == ("09:00", "Asia/Tokyo", True)
    assert (hook.secret, hook.headers["X-Team"]) == ("${env:KEY}", "ml")
    assert (load.load, load.for_) == (200.0, 30.0)
    assert (read.alpha, read.pause_limit, read.provider.name) == (0.02, 5400.0, "local")
    assert read.gates["errors"].codes == ("5xx", "424", "429", "timeout", "reset")
    assert Plan.model_validate_json(read.model_dump_json()) == read


def test_short_forms():
    read = plan("provider: {name: azureml, workspace: w}\n" + TOP + "  - deploy: green\n  - promote:\n")
    assert read.provider.options == {"workspace": "w"}
    assert read.steps[1].promote == 1000
    assert plan(TOP + "  - wait: 5m\n").steps[0].wait == 300.0
    assert plan(TOP.replace("max: 2%", "max: 2%, codes: [Time-Out, 503]") + "  - wait: 5m\n").gates["errors"].codes == (
        "timeout",
        "503",
    )


PAIRED = """\
endpoint: scores
deployments: {blue: {file: blue.yml}, green: {file: green.yml}}
gates:
  hurt: {metric: latency, max_ratio: 1.1, guard: stable}
  slower: {metric: slowdown, max_ratio: 1.2x}
  lost: {metric: missing_pairs, max: 2%}
  other: {metric: prediction, max: 1%}
  near: {metric: prediction, max: 1%, tolerance: 0.5, path: a.0, examples: 3}
  far: {metric: prediction, max: 1%, tolerance: {relative: 1e-2}}
  rate: {metric: {prometheus: {url: '${env:URL}', total: a, good: b}}, max: 1%, max_increase: 0.5%}
  value: {metric: {http: {url: https://e.org, value: q, step: 5}}, max: -2.5, max_ratio: 2}
steps:
  - deploy: green
  - shadow: 10%
    gates: [hurt, slower, lost, other, near, far, rate, value]
"""


def test_the_inner_form_of_gates_on_pairs_and_from_elsewhere():
    gates: dict[str, Any] = dict(plan(PAIRED).gates)
    assert (gates["hurt"].guard, gates["hurt"].source, gates["hurt"].blame) == ("stable", "auto", None)
    assert (gates["slower"].max_ratio, gates["lost"].max) == (1.2, 0.02)
    assert (gates["other"].tolerance, gates["other"].path, gates["other"].examples) == (Tolerance(), None, 0)
    assert (gates["near"].tolerance, gates["near"].path) == (Tolerance(absolute=0.5, relative=0.0), "a.0")
    assert gates["far"].tolerance == Tolerance(absolute=0.0, relative=0.01)
    assert gates["rate"].external == ("prometheus", {"url": "${env:URL}", "total": "a", "good": "b"})
    assert (gates["rate"].max, gates["rate"].max_increase) == (Bound(0.01, rate=True), Bound(0.005, rate=True))
    assert gates["value"].external == ("http", {"url": "https://e.org", "value": "q", "step": "5"})
    assert (gates["value"].max, gates["value"].max_ratio) == (Bound(-2.5, rate=False), 2.0)
    assert {name: gate_kind(gate) for name, gate in gates.items() if name in ("lost", "rate")} == {
        "lost": "missing_pairs",
        "rate": "external",
    }
    read = plan(PAIRED)
    assert Plan.model_validate_json(read.model_dump_json()) == read


def test_a_plan_built_in_code_is_checked_too():
    steps = (DeployStep(deploy="gren"),)
    with pytest.raises(ValidationError) as caught:
        Plan(endpoint="scores", deployments={"green": {"file": "g.yml"}}, steps=steps)
    assert [e["loc"] for e in caught.value.errors()] == [("steps", 0, "deploy", "deploy")]


ROLES = """\
endpoint: scores
slots: [blue, green]
candidate: {file: deployment.yml}
"""


def test_roles_instead_of_names():
    read = plan(ROLES + "steps: [deploy: candidate, test: stable, promote: 100%, delete: stable]\n")
    assert (read.by_roles, read.slots, read.candidate, read.stable) == (
        True,
        ("blue", "green"),
        FileRef(file="deployment.yml"),
        None,
    )
    assert plan(TOP + "  - deploy: green\n").by_roles is False


@pytest.mark.parametrize(
    ("written", "stable"),
    [("blue", "blue"), ("{file: first.yml}", FileRef(file="first.yml")), ("{model: m}", InlineSpec(model="m"))],
)
def test_stable_is_a_name_or_with_roles_a_deployment(written, stable):
    assert plan(f"{ROLES}stable: {written}\nsteps: [deploy: candidate]\n").stable == stable


def test_a_deployment_written_in_place_is_kept_as_it_is():
    inline = "{model: {path: model}, instance_count: 2, tags: {a: }, environment_variables: {KEY: '${env:KEY}'}}"
    read = plan(f"endpoint: scores\ndeployments: {{green: {inline}}}\nsteps: [deploy: green]\n")
    assert read.deployments is not None
    spec = read.deployments["green"]
    assert isinstance(spec, InlineSpec)
    assert spec.spec == {
        "model": {"path": "model"},
        "instance_count": "2",
        "tags": {"a": None},
        "environment_variables": {"KEY": "${env:KEY}"},
    }
    assert Plan.model_validate_json(read.model_dump_json()) == read


def test_what_a_plan_says_besides_steps():
    read = plan(
        f"{TOP}  - deploy: green\n"
        "budget: {bad_responses: 20}\non_rollback: {candidate: keep}\nload: {request: {body: x}, rate: 30/m}\n"
        "notify: [{url: '${env:HOOK}', secret: '${file:key}'}, {url: https://e.org, events: failed}]\n"
    )
    assert read.budget is not None
    assert read.load is not None
    assert (read.budget.bad_responses, read.on_rollback.candidate, read.load.rate) == (20, "keep", 0.5)
    assert [len(each.events) for each in read.notify] == [9, 1]
    assert Plan.model_validate_json(read.model_dump_json()) == read


def test_right_steps_are_checked_against_the_plan_beside_wrong_ones():
    assert complaints(f"{TOP}  - deploy: gren\n  - canary: 10\n  - promote: 100%\n    gates: slw\nload: 5\n") == [
        "plan.yml:5:13: steps[0].deploy: `gren` is not among the deployments (blue, green); did you mean `green`?",
        "plan.yml:6:13: steps[1].canary: `10` is not a share of traffic: write a percentage such as 10% or 0.5%",
        "plan.yml:8:12: steps[2].gates: `slw` is not among the gates of this plan (errors, slow); did you mean `slow`?",
        "plan.yml:9:7: load: expected a mapping with `request` and `rate`, found `5`",
    ]


def test_a_secret_in_plain_text_is_not_repeated():
    text = f"{TOP}  - webhook: https://e.org\n    secret: hunter2\n    headers: {{Cookie: hunter2}}\n"
    assert not any("hunter2" in line for line in complaints(text))


SHARES = st.lists(st.integers(1, 999), min_size=1, max_size=4, unique=True).map(sorted)
SECONDS = st.floats(0.001, 1e6)


@given(
    canary=SHARES,
    shadow=SHARES,
    hold=SECONDS,
    burst=st.integers(1, 1_000_000) | st.floats(1e-3, 1e6),
    wait=SECONDS,
    bound=st.floats(1e-9, 0.99),
    latency=st.integers(1, 3_600_000_000),
)
def test_a_stored_plan_is_read_back_exactly(canary, shadow, hold, burst, wait, bound, latency):
    built = Plan(
        endpoint={"file": "e.yml"},
        deployments={"green": {"file": "g.yml"}},
        gates={"e": {"metric": "error_rate", "max": bound}, "l": {"metric": "latency", "max": latency}},
        steps=[
            {"deploy": "green"},
            {"shadow": shadow, "hold": hold, "gates": ["e", "l"]},
            {"canary": canary},
            {"wait": wait},
            {"load": burst, "request": {"body": "x"}, "for": 1.0},
        ],
    )
    stored = built.model_dump_json()
    again = Plan.model_validate_json(stored)
    assert again == built
    assert type(again.steps[4].load) is type(burst)
    assert again.model_dump_json() == stored


def test_editors_get_a_schema():
    schema = Plan.model_json_schema()
    assert set(schema["properties"]) == set(Plan.model_fields)
