"""The plan language: a right plan of every kind, and the exact sentence for every wrong one."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from plans import model, source
from plans.errors import PlanError
from plans.model import Plan

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


STEPS = {
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
    "delete": "- delete: stable",
}


def test_every_kind_of_step_is_tried_here():
    assert list(STEPS) == list(model.STEPS)


@pytest.mark.parametrize("kind", STEPS)
def test_a_right_step_is_read_and_comes_back_from_json(kind):
    first = "  - deploy: green\n" if kind in ("shadow", "canary", "promote") else ""
    read = plan(f"{TOP}{first}  {STEPS[kind]}\n")
    assert type(read.steps[-1]) is model.STEPS[kind]
    assert Plan.model_validate_json(read.model_dump_json()) == read


def test_the_inner_form_of_a_plan():
    read = plan(TOP + "".join(f"  {step}\n" for step in STEPS.values()) + "alpha: 2%\npause_limit: 1h30m\n")
    assert [type(step) for step in read.steps] == list(model.STEPS.values())
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


def test_a_plan_built_in_code_is_checked_too():
    steps = (model.DeployStep(deploy="gren"),)
    with pytest.raises(ValidationError) as caught:
        Plan(endpoint="scores", deployments={"green": {"file": "g.yml"}}, steps=steps)
    assert [e["loc"] for e in caught.value.errors()] == [("steps", 0, "deploy", "deploy")]


def cases(name: str) -> list[Any]:
    """Blocks between empty lines: what is written, then each complaint after `=> `, without the name of the file."""
    found = []
    for block in (Path(__file__).parent / "plans_bad" / name).read_text().strip().split("\n\n"):
        written, *expected = block.split("\n=> ")
        found.append(pytest.param(written, expected, id=written.replace("\n", " ")))
    return found


@pytest.mark.parametrize(("steps", "expected"), cases("steps.txt"))
def test_a_wrong_step_is_named_at_its_place(steps, expected):
    assert complaints(f"{TOP}  {steps}\n") == [f"plan.yml:{line}" for line in expected]


@pytest.mark.parametrize(("gate", "expected"), cases("gates.txt"))
def test_a_wrong_gate_is_named_at_its_place(gate, expected):
    text = f"endpoint: scores\ndeployments: {{green: {{file: g}}}}\ngates: {{g: {gate}}}\nsteps: [deploy: green]\n"
    assert complaints(text) == [f"plan.yml:{line}" for line in expected]


@pytest.mark.parametrize(("line", "expected"), cases("tops.txt"))
def test_a_wrong_field_of_the_plan_is_named(line, expected):
    found = complaints(f"{TOP}  - deploy: green\n{line}\n")
    assert [f.split(": ", 1)[1] for f in found] == expected
    assert all(f.startswith("plan.yml:6:") for f in found)


def test_wrong_deployments():
    (case,) = cases("deployments.txt")
    written, expected = case.values
    assert complaints(written) == [f"plan.yml:{line}" for line in expected]


def test_stable_cannot_be_the_candidate():
    assert complaints(f"{TOP}  - deploy: green\nstable: green\n") == [
        "plan.yml:5:13: steps[0].deploy: `green` is `stable` already; deploy another one as the candidate"
    ]


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
