"""The schema that editors get: right in itself, right about right plans, and how much of what is wrong it sees.

It is judged by a validator of others, on plans as an editor reads them. That it is never stricter than the loader, for
any plan, is in test_plan_schema_any.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from pydantic import BaseModel

from plans import library
from plans.gates import KINDS
from plans.model import Plan
from plans.schema import DIALECT, ID, schema
from plans.steps import STEPS
from tests.unit.editing import complaints, objections
from tests.unit.plans_bad.corpus import bad_plans

ROOT = Path(__file__).resolve().parents[2]


# --- the schema itself ---


def nodes(form: Any, at: str = "#") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(form, dict):
        yield at, form
        for name, below in form.items():
            yield from nodes(below, f"{at}/{name}")
    elif isinstance(form, list):
        for number, below in enumerate(form):
            yield from nodes(below, f"{at}/{number}")


def test_it_is_valid_names_itself_and_is_the_same_every_time():
    Draft202012Validator.check_schema(schema())
    assert (schema()["$schema"], schema()["$id"]) == (DIALECT, ID)
    assert ID.startswith("urn:")
    assert json.dumps(schema()) == json.dumps(schema())


def test_every_field_of_every_model_is_in_it_and_nothing_else():
    def fields(model: type[BaseModel]) -> set[str]:
        return {info.alias or name for name, info in model.model_fields.items()}

    found = schema()
    assert set(found["properties"]) == fields(Plan)
    models = {f"{kind}_step": model for kind, model in STEPS.items()}
    models |= {f"{metric}_gate": model for metric, model in KINDS.items()}
    for name, model in models.items():
        assert set(found["$defs"][name]["properties"]) == fields(model), name
        assert found["$defs"][name]["additionalProperties"] is False
    every = set().union(*(fields(model) for model in models.values())) - {*STEPS, "metric", "name"}
    assert set(found["properties"]["defaults"]["properties"]) == every
    for refused in Plan.not_built:
        assert refused not in json.dumps(found)


def test_every_field_is_described_with_its_default_as_a_person_would_write_it():
    found = schema()
    for name, form in nodes(found):
        if name.endswith("/properties") and not re.search(r"/(if|then|else|items|(any|all)Of/\d+)/properties$", name):
            for key, field in form.items():
                assert field.get("description"), f"{name}/{key}"
    shown = found["$defs"]["error_rate_gate"]["properties"] | found["$defs"]["latency_gate"]["properties"]
    assert (found["properties"]["alpha"]["default"], shown["warm_up"]["default"]) == ("1%", "10s")
    assert (shown["quantile"]["default"], shown["codes"]["default"][0], shown["dispersion"]["default"]) == (
        "p95",
        "5xx",
        True,
    )
    assert found["properties"]["on_rollback"]["default"] == {"candidate": "delete"}


def test_defaults_and_examples_are_valid_themselves():
    tried = 0
    for name, form in nodes(schema()):
        if name.endswith("/properties") or not {"examples", "default"} & form.keys():
            continue
        at = Draft202012Validator({**form, "$defs": schema()["$defs"]})
        for value in [*form.get("examples", []), *([form["default"]] if "default" in form else [])]:
            at.validate(value)
            tried += 1
    assert tried > 60


def test_patterns_mean_the_same_to_every_engine():
    """No syntax that only Python has: an editor runs them as JavaScript."""
    for name, form in nodes(schema()):
        for pattern in filter(None, [form.get("pattern"), *form.get("patternProperties", {})]):
            if isinstance(pattern, str):
                assert not re.search(r"\(\?[aiLmsux]|\(\?P|\(\?<|\\[AZz]|\(\?>|(?<!\[)[*+?}]\+(?![^[]*\])", pattern), (
                    name
                )


# --- right plans ---


def blocks(path: Path) -> Iterator[tuple[str, str]]:
    """The plans in a page's fenced YAML."""
    for number, text in enumerate(re.findall(r"^```yaml\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE)):
        if re.search(r"^steps:", text, re.MULTILINE) and re.search(r"^endpoint:", text, re.MULTILINE):
            yield f"{path.relative_to(ROOT)}, block {number + 1}", text


def good() -> dict[str, str]:
    """Every plan that we give to others."""
    found = {f"library/{name}": library.text(name) for name in library.names()}
    found |= {str(path.relative_to(ROOT)): path.read_text() for path in sorted(ROOT.glob("examples/*/plan*.yml"))}
    for page in [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]:
        found |= dict(blocks(page))
    return found


GOOD = good()


@pytest.mark.parametrize("name", GOOD)
def test_every_plan_that_we_give_to_others_is_valid(name):
    assert complaints(GOOD[name]) == []
    assert objections(GOOD[name]) == []


def test_the_corpus_of_right_plans_is_there():
    assert sum(name.startswith("library/") for name in GOOD) >= 7
    assert sum(name.startswith("examples/") for name in GOOD) >= 6
    assert "README.md, block 1" in GOOD


TOP = """\
endpoint: {file: endpoint.yml}
deployments: {blue: {file: blue.yml}, green: {file: green.yml}}
gates: {errors: {metric: error_rate, max: 2%}, slow: {metric: latency, max: 500ms}}
steps:
  - deploy: green
"""


@pytest.mark.parametrize(
    "lines",
    [
        "version: 1",
        "version: '1'",
        "name: 42",
        "name: true",
        "name:",
        "stable:",
        "slots:",
        "provider: {name: azureml, workspace: w, retries: 3}",
        "alpha: 0.05%\nbeta: 49.9%",
        "pause_limit: 1h30m",
        "vars: {N: 3, RATE: 10%, FLAG: on, MORE: true}\nname: run-${var:N}",
        "vars: {RATE: 200}\nload: {request: r.json, rate: '${var:RATE}/s'}",
        "load: {request: {body: 5}, rate: 0.5 / m, until: end}",
        "budget: {bad_responses: 0}",
        "notify: [{url: https://e.org, events: paused}, {url: '${env:HOOK}', secret: '${file:key}'}]",
        "on_rollback: {candidate: keep}",
        "defaults: {min_requests: 50, deadline: 5m, max_increase: 1%, interval: 1s}\n",
        "  - canary: 10%\n    gates: errors\n    hold: 0\n    deadline: 2d12h",
        "  - shadow: [0.1%, 10.0%]\n    gates: [errors, slow]\n    decide: no_fail",
        "  - promote:",
        "  - promote: ~",
        "  - promote: 50%",
        "  - scale: {green: 2, candidate: '3'}",
        "  - test: candidate\n    repeat: 3\n    path: /\n    expect: {status: 201, json: {a.0: 1.5, b: true}}",
        "  - wait: 0",
        "  - wait: 10m5s",
        "  - wait: {until: 09:00, tz: Asia/Tokyo}",
        "  - approve: 5\n    not_by_starter: on\n    timeout: 1d",
        "  - load: 500\n    request: r.json",
        "  - load: 5/s\n    request: r.json\n    for: 1m",
        "  - webhook: https://e.org/?a=${env:A}\n    headers: {Cookie: '${file:c}', X-Team: 7}\n    retries: 0",
        "  - promote: 100%\n  - delete: stable",
    ],
)
def test_what_yaml_makes_of_a_value_is_allowed_where_the_loader_takes_it(lines):
    text = TOP + lines + "\n"
    assert complaints(text) == []
    assert objections(text) == []


@pytest.mark.parametrize(
    "gate",
    [
        "{metric: error_rate, max: 2%, codes: 503, blame: off, dispersion: true}",
        "{metric: error_rate, max_increase: 0.1%, codes: [5XX, Time-Out, 429], min_requests: 10}",
        "{metric: error_rate, max_ratio: 1.5x, max_increase: 1 %, alpha: 2%, on_fail: pause}",
        "{metric: latency, max_ratio: 1.10, quantile: p99.9, settle: 0, source: mirror}",
        "{metric: latency, max: 1.5 s, max_ratio: 2, quantile: p50}",
        "{metric: latency, max_ratio: 1.1, guard: stable}",
        "{metric: error_rate, max: 1%, guard: stable, source: live}",
        "{metric: slowdown, max_ratio: 1.2x, on_undecided: pause}",
        "{metric: missing_pairs, max: 0.5%, min_requests: 10}",
        "{metric: prediction, max: 1%}",
        "{metric: prediction, max: 1%, tolerance: 0, path: label}",
        "{metric: prediction, max: 1%, tolerance: {absolute: 1e-6, relative: 0.01}, path: a.0.b, examples: 20}",
        "{metric: {prometheus: {url: 'https://a:${env:P}@e.org', total: a, good: b}}, max: 1%, max_increase: 1 %}",
        "{metric: {http: {url: '${env:U}', headers: {Cookie: '${file:c}', n: 5}}}, max: -2.5, source: direct}",
        "{metric: {somebodys-own: {}}, max_ratio: 1.5, max_increase: 0, blame: off}",
        "{metric: {own: {api-key: '${env:K}', list: [1, {a: b}], nothing: , flag: true}}, max_increase: 250}",
    ],
)
def test_gates_in_all_forms(gate):
    text = TOP.replace("{metric: error_rate, max: 2%}", gate)
    assert complaints(text) == []
    assert objections(text) == []


def test_roles_inline_specs_and_fields_that_defaults_give():
    roles = """\
endpoint: scores
slots: [blue, green]
candidate: {model: {path: m}, instance_count: 2}
stable: {file: first.yml}
steps: [deploy: candidate, promote: 100%, delete: stable]
"""
    given = """\
endpoint: scores
deployments: {green: {file: g.yml}}
vars: {METRIC: latency}
defaults: {max: 5%, request: r.json, for: 30s}
gates: {errors: {metric: error_rate}, slow: {metric: '${var:METRIC}', quantile: p50, max: 1s}}
steps: [load: 5/s, deploy: green]
"""
    for text in (roles, given):
        assert complaints(text) == []
        assert objections(text) == []
    assert complaints(given.replace("request: r.json, ", "")) == ["`request` is missing; add it"]


# --- wrong plans ---

UNSEEN = {
    "a name that leads nowhere": r"is not among the|there is no variable",
    "steps in a wrong order": r"has no candidate|a rollout has one candidate|exposure only grows|move this step up",
    "what has traffic by then": r"of the traffic by then|all the traffic that there is",
    "what is stable already": r"is `stable` already",
    "shares that do not grow": r"a canary only grows",
    "a gate where nothing is mirrored": r"use it in a shadow step",
    "what stands deep in a metric's options": r"a secret would be stored|metrics; write the text itself",
    "two times that do not fit": r"`deadline` is shorter than `hold`",
    "a quantity that is too large": r"longer than a year|must be at most 5m|must be at most 1h|a frequency is from",
    "a time zone": r"is no time zone",
    "a secret inside a URL": r"in a URL would be stored",
    "a key that is there twice": r"is already in line",
    "a tag": r"the tag `",
    "too much of it": r"values, each alias|levels deep|1 MB",
    "a variable made of itself": r"is made of itself",
    "what is given with --var": r"`--var \w+` is given|given with --var",
    "what a variable stands for": r"\(it comes from `",
    "a default for nobody": r"no step or gate of this plan takes",
    "a default that does not fit all": r"a default has to fit all|comes from `defaults`",
}
"""Mistakes that no schema can see -> what the loader says of them. They are found by `rollout validate` only."""
TEN = "[{0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}]"
BOMB = f"{{a: &a {TEN.format(1)}, b: &b {TEN.format('*a')}, c: &c {TEN.format('*b')}, d: {TEN.format('*c')}}}"
MORE_BAD = [
    TOP + "  - wait: {until: '09:00', tz: Mars/Olympus}\n",
    TOP + "  - wait: 400d\n",
    TOP + "  - webhook: https://me:hunter2@e.org\n",
    TOP + "name: one\nname: two\n",
    TOP + "name: !!int 5\n",
    TOP + "vars: {A: '${var:B}', B: '${var:A}'}\n",
    TOP + "defaults: {hold: 10m}\n",
    TOP + "stable: green\n",
    TOP.replace("{file: blue.yml}", f"{{model: m, tags: {BOMB}}}"),
]


BAD = [pytest.param(text, {}, id=f"more {number}") for number, text in enumerate(MORE_BAD, 1)]
BAD += [
    pytest.param(case.text, case.overrides, id=f"{case.theme}: {case.written}".replace("\n", " "))
    for case in bad_plans()
]


def unseen(complaint: str) -> str | None:
    return next((kind for kind, said in UNSEEN.items() if re.search(said, complaint)), None)


def overlooked(text: str, overrides: dict[str, str]) -> list[str]:
    """What the loader says of a wrong plan that the schema takes; nothing where it does not, or where it is no YAML."""
    try:
        return [] if objections(text) else complaints(text, **overrides)
    except (yaml.YAMLError, RecursionError, OverflowError):
        return []  # an editor tells of it before it asks a schema


@pytest.mark.parametrize(("text", "overrides"), BAD)
def test_what_is_wrong_is_rejected_unless_no_schema_can_see_it(text, overrides):
    assert complaints(text, **overrides), "the loader takes it"
    visible = [complaint for complaint in overlooked(text, overrides) if unseen(complaint) is None]
    assert not visible, "the schema does not see it"


def test_what_no_schema_can_see_is_still_not_seen():
    """Whoever makes the schema see one of these takes it from the list."""
    assert {unseen(said) for param in BAD for said in overlooked(*param.values)} == set(UNSEEN)
