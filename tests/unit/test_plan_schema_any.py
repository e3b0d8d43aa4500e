"""For any plan: what the schema rejects, the loader never takes. An editor must not complain of what would run."""

import json
import re
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from plans import library
from plans.gates import KINDS, Tolerance
from plans.model import Plan
from plans.steps import STEPS
from tests.unit.editing import Core, complaints, objections

WORDS = sorted(
    {
        *STEPS,
        *KINDS,
        *Plan.model_fields,
        *Tolerance.model_fields,
        *(name for model in STEPS.values() for name in model.model_fields),
    }
    | {name for model in KINDS.values() for name in model.model_fields}
    | {"file", "body", "for", "json", "status", "until", "tz", "blue", "green", "candidate", "stable", "errors"}
)
SNIPPETS = (
    *(
        "0",
        "1",
        "2",
        "3.5",
        "-1",
        "100",
        "0x10",
        "1e3",
        "1_000",
        "007",
        "+5",
        ".5",
        "1.",
        "true",
        "True",
        "on",
        "off",
        "no",
    ),
    *(
        "null",
        "~",
        "''",
        "' '",
        "'10m '",
        "' 5 '",
        "'0'",
        "'1'",
        "'true'",
        "abc",
        "10m",
        "1h30m",
        "30m1h",
        "5m5m",
        "0s",
        "400d",
    ),
    *(
        "10%",
        "0%",
        "0.05%",
        "50.0%",
        "50%",
        "100%",
        "100.0%",
        "101%",
        "'7 %'",
        "250ms",
        "1.5 s",
        "0us",
        "200/s",
        "0/s",
        "5 / m",
    ),
    *(
        "1.5x",
        "p95",
        "p99.9",
        "p99.95",
        "p49",
        "503",
        "5xx",
        "6xx",
        "Reset",
        "rollback",
        "pause",
        "error_rate",
        "latency",
    ),
    *(
        "end",
        "'${var:V}'",
        "'${var:V}%'",
        "'${var:V}m'",
        "'${env:KEY}'",
        "'x${file:k}'",
        "'${env:1}'",
        "'09:00'",
        "'24:00'",
    ),
    *(
        "1e-6",
        "-2.5",
        "1e999",
        "slowdown",
        "external",
        "stable",
        "mirror",
        "a.0",
        "a..b",
        "{http: {}}",
        "{http: {url: 'https://u:p@e.org'}}",
        "{http: {api-key: x}}",
        "{http: {headers: {cookie: x}}}",
        "{latency: {}}",
        "{a: {}, b: {}}",
    ),
    *(
        "https://e.org",
        "/score",
        "score",
        "UTC",
        "proven",
        "[]",
        "{}",
        "[1]",
        "[10%, 20%]",
        "{file: a.yml}",
        "{body: 1}",
    ),
)


@st.composite
def mutated(draw: Any) -> str:
    """A right plan with a few of its values, keys and parts replaced, removed or put elsewhere."""
    tree = draw(st.sampled_from(TREES))
    for _ in range(draw(st.integers(1, 3))):
        tree = _mutate(draw, tree)
    return _written(tree) + "\n"


def _raw(node: yaml.Node) -> Any:
    """Lists and dicts, with scalars as they are written."""
    if isinstance(node, yaml.MappingNode):
        return {key.value: _raw(value) for key, value in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [_raw(value) for value in node.value]
    return node.value if node.style is None and not re.search(r"[{}\[\],]", node.value) else json.dumps(node.value)


def _written(tree: Any) -> str:
    if isinstance(tree, dict):
        return "{" + ", ".join(f"{json.dumps(key)}: {_written(value)}" for key, value in tree.items()) + "}"
    return "[" + ", ".join(map(_written, tree)) + "]" if isinstance(tree, list) else tree


def _mutate(draw: Any, tree: Any) -> Any:
    if isinstance(tree, dict) and tree and draw(st.integers(0, 4)):
        key = draw(st.sampled_from(sorted(tree)))
        match draw(st.integers(0, 9)):
            case 0:
                return {name: value for name, value in tree.items() if name != key}
            case 1:
                new = draw(st.sampled_from(WORDS))
                return {(new if name == key else name): value for name, value in tree.items()}
            case 2:
                return tree | {draw(st.sampled_from(WORDS)): draw(st.sampled_from(SNIPPETS))}
            case _:
                return tree | {key: _mutate(draw, tree[key])}
    if isinstance(tree, list) and tree and draw(st.integers(0, 4)):
        at = draw(st.integers(0, len(tree) - 1))
        more = draw(st.sampled_from([[], [tree[at]]]))
        return [*tree[:at], *more, _mutate(draw, tree[at]), *tree[at + 1 :]]
    return draw(st.sampled_from(SNIPPETS))


EVERYTHING = """\
version: 1
name: all
provider: {name: local}
endpoint: {file: e.yml}
deployments: {blue: {file: b.yml}, green: {model: {path: m}}}
stable: blue
vars: {V: 10}
defaults: {interval: 1s, hold: 5s, alpha: 2%, deadline: 10m}
gates:
  errors: {metric: error_rate, max: 2%, max_ratio: 1.5, max_increase: 1%, codes: [5xx, 429], min_requests: 10, beta: 1%}
  slow: {metric: latency, max: 1s, max_ratio: 1.2, quantile: p99, settle: 1s, warm_up: 0, blame: on, dispersion: off}
  hurt: {metric: latency, max_ratio: 1.1, guard: stable, source: live}
  slower: {metric: slowdown, max_ratio: 1.2}
  lost: {metric: missing_pairs, max: 1%}
  other: {metric: prediction, max: 1%, tolerance: {absolute: 0.1, relative: 0.01}, path: a.0, examples: 3}
  same: {metric: prediction, max: 1%, tolerance: 0.5}
  queue:
    metric: {prometheus: {url: 'https://${env:A}@e.org', token: '${env:T}', headers: {Cookie: '${file:c}'}, value: up}}
    max: -2.5
    max_ratio: 2
    max_increase: 1
    source: direct
load: {request: {body: x}, rate: 5/s, until: end}
budget: {bad_responses: 5}
on_rollback: {candidate: keep}
notify: [{url: https://e.org, events: [paused, failed], secret: '${env:KEY}'}]
on_fail: pause
pause_limit: 1h
steps:
  - deploy: green
  - scale: {blue: 2, green: 3}
  - test: green
    request: {body: '[1]'}
    method: PUT
    path: /score
    repeat: 3
    expect: {status: 200, json: {a: 1}, max_latency: 1s}
  - shadow: [1%, 10%]
    gates: [errors, slow, hurt, slower, lost, other, same, queue]
    decide: no_fail
  - canary: 10%
    gates: errors
    on_no_data: rollback
  - wait: {until: '09:00', tz: UTC}
  - wait: 10m
  - approve: really
    timeout: 1h
    not_by_starter: true
  - webhook: https://e.org
    headers: {X-A: b, Cookie: '${env:KEY}'}
    retries: 1
  - load: 5/s
    request: r.json
    for: 10s
  - promote: 100%
    name: all of it
  - delete: stable
"""
TREES = [_raw(yaml.compose(text, Core)) for text in (EVERYTHING, *(library.text(name) for name in library.names()))]


def test_the_plan_with_every_field_is_right():
    assert complaints(EVERYTHING) == []
    assert complaints(_written(TREES[0])) == []
    assert objections(_written(TREES[0])) == []


@settings(max_examples=500, deadline=None)
@given(mutated())
def test_what_the_schema_rejects_the_loader_never_takes(text):
    if not complaints(text):
        # A default that every step and gate overrides is read by nobody, and the schema cannot know that.
        assert [found for found in objections(text) if not found.startswith("$.defaults.")] == []
