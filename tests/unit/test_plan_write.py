"""The long form of a plan: everything is written down, and what was written is read as the same plan."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Any, get_args, get_origin

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from orchestrator.compiler import compile_stages
from orchestrator.errors import Unfit
from orchestrator.gates.spec import Gate
from orchestrator.stages import Stage
from orchestrator.standing import Roles, Split
from plans import expand, source
from plans.gates import KINDS, Tolerance
from plans.model import NOTIFY_EVENTS, Load, Plan
from plans.steps import STEPS, Expect, GatedStep, Until
from plans.units import Shown
from plans.write import written
from providers.base import Capabilities
from tests.unit.making import bundle

SHORT = """\
name: shop
endpoint: {file: endpoint.yml}
vars: {SHARE: 5}
defaults: {gates: [errors], hold: 10m}
slots: [blue, green]
candidate: {model: {path: model}, instance_count: 2}
gates:
  errors: {metric: error_rate, max_increase: 0.05%}
  slow: {metric: latency, max: 1.5s, interval: 30s, on_fail: pause}
steps:
  - deploy: candidate
  - test: candidate
    request: {body: "[[1, 2],\\n [3, 4]]\\n"}
    expect: {json: {predictions.0: 1.5}}
  - canary: ['${var:SHARE}%', 50%]
    gates: [errors, slow]
    decide: no_fail
  - promote:
  - wait: {until: 09:00}
  - delete: stable
on_undecided: rollback
alpha: 0.5%
notify: [{url: '${env:HOOK}', events: failed}]
"""

LONG = """\
version: 1
name: shop
provider: local
endpoint: {file: endpoint.yml}
candidate: {model: {path: model}, instance_count: '2'}
slots: [blue, green]
gates:
  errors:
    metric: error_rate
    max_ratio: 1
    max_increase: 0.05%
    source: auto
    min_requests: 100
    warm_up: 10s
    interval: 10s
    settle: 0s
    alpha: 0.5%
    beta: 5%
    dispersion: true
    codes: [5xx, 424, 429, timeout, reset]
  slow:
    metric: latency
    quantile: p95
    max: 1.5s
    source: auto
    min_requests: 100
    warm_up: 10s
    interval: 30s
    settle: 0s
    alpha: 0.5%
    beta: 5%
    dispersion: true
    on_fail: pause
steps:
  - deploy: candidate
    deadline: 30m
    ready: full healthy count
    on_fail: rollback
    on_no_data: pause
    on_undecided: rollback
    on_error: pause
  - test: candidate
    request:
      body: |
        [[1, 2],
         [3, 4]]
    method: POST
    path: /score
    expect: {status: 200, json: {predictions.0: '1.5'}}
    repeat: 1
    on_fail: rollback
    on_no_data: pause
    on_undecided: rollback
    on_error: pause
  - canary: [5%, 50%]
    gates: [errors, slow]
    hold: 10m
    deadline: 1h10m
    interval: 30s
    decide: no_fail
    on_fail: rollback
    on_no_data: pause
    on_undecided: rollback
    on_error: pause
  - promote: 100%
    gates: [errors]
    hold: 10m
    deadline: 1h10m
    interval: 10s
    decide: proven
    on_fail: rollback
    on_no_data: pause
    on_undecided: rollback
    on_error: pause
  - wait: {until: '09:00', tz: UTC}
    on_fail: rollback
    on_no_data: pause
    on_undecided: rollback
    on_error: pause
  - delete: stable
    on_fail: rollback
    on_no_data: pause
    on_undecided: rollback
    on_error: pause
on_fail: rollback
on_no_data: pause
on_undecided: rollback
on_error: pause
alpha: 0.5%
beta: 5%
pause_limit: 1d
on_rollback: {candidate: delete}
notify:
  - {url: '${env:HOOK}', events: [failed]}
"""


def read(text: str) -> Plan:
    return source.loads(text, Plan, name="plan.yml", rewrite=expand.rewriter({}))


def test_the_long_form():
    assert written(read(SHORT), interval=10.0, settle=0.0) == LONG
    assert written(read(LONG)) == LONG


PAIRS = """\
endpoint: scores
deployments: {blue: {file: b}, green: {file: g}}
gates:
  hurt: {metric: error_rate, guard: stable, max_increase: 1%, interval: 1s, settle: 0s}
  slower: {metric: slowdown, max_ratio: 1.2, interval: 1s, settle: 0s}
  other: {metric: prediction, max: 1%, tolerance: 0.5, path: label, interval: 1s, settle: 0s}
  queue: {metric: {prometheus: {url: "${env:URL}", step: "60"}}, max: -2.50, max_increase: 1e-9}
steps: [deploy: green, {shadow: 5%, gates: [hurt, slower, other, queue]}]
"""


def test_the_long_form_of_gates_begins_with_what_is_tolerated():
    text = written(read(PAIRS))
    assert "guard: stable\n    max_ratio: 1\n    max_increase: 1%\n    source: auto\n    min_requests" in text
    assert "metric: slowdown\n    max_ratio: 1.2\n    min_requests" in text
    assert "tolerance: {absolute: 0.5, relative: 0}\n    path: label\n    examples: 0\n    min_requests" in text
    assert "metric: {prometheus: {url: '${env:URL}', step: '60'}}\n    max: -2.5\n    max_ratio: 1\n" in text
    assert "max_increase: 0.000000001\n" in text
    assert written(read(text)) == text


def test_what_nobody_knows_is_left_out():
    """How often a provider measures, where the plan does not say."""
    text = written(read(SHORT))
    assert "settle" not in text
    assert text.count("interval") == 2  # the gate that has one, and the step that has the gate


def test_a_step_measures_as_often_as_the_step_before_when_it_has_no_gates():
    text = (
        "endpoint: scores\ndeployments: {green: {file: g}}\n"
        "gates: {g: {metric: latency, max: 1s, interval: 3s}, h: {metric: latency, max: 1s}}\n"
        "steps: [{deploy: green}, {canary: 1%}, {canary: 5%, gates: g}, {canary: 9%}, {canary: 10%, gates: h},\n"
        "  {promote: , interval: 5s}]\n"
    )
    assert [getattr(s, "interval", 0) for s in read(written(read(text), interval=7.0)).steps] == [0, 7, 3, 3, 7, 5]
    assert [getattr(s, "interval", 0) for s in read(written(read(text))).steps] == [0, None, 3, 3, None, 5]


# --- any plan ---

RATES = st.floats(1e-9, 0.49)
SECONDS = st.sampled_from([0.5, 1.0, 90.0, 600.0, 5400.0, 86400.0]) | st.floats(1e-3, 1e6)
TEXTS = st.text(min_size=1, max_size=12).filter(lambda t: "${" not in t and "\0" not in t and t.isprintable())
BODIES = st.text(st.characters(exclude_characters="\0$", exclude_categories=["Cs"]), max_size=20)
ODD = st.sampled_from(
    [
        *["null", "~", "true", "on", "1", "1.5", "09:00", "2026-01-01", "<<", "=", "- a", "a: b", "#", "'", '"', "\\"],
        *[" a ", "*a", "!x", "%", "@", "[", "{", "`", "a\n\n", "\n a\n", "a \nb", "\ta\n", "\u2028", "\x85", "\ufeff"],
    ]
)
ANSWER = st.none() | st.sampled_from(["rollback", "pause"])
ANSWERS = {"on_fail": ANSWER, "on_no_data": ANSWER, "on_undecided": ANSWER, "on_error": ANSWER}
REQUEST = TEXTS | st.fixed_dictionaries({"body": BODIES | ODD})
MAYBE = st.none()
ANY_GATE = {
    **ANSWERS,
    "min_requests": st.integers(1, 1_000_000_000),
    "warm_up": SECONDS,
    "interval": MAYBE | SECONDS,
    "settle": MAYBE | SECONDS,
    "alpha": MAYBE | RATES,
    "beta": MAYBE | RATES,
    "dispersion": st.booleans(),
}
COMMON_GATE = {
    **ANY_GATE,
    "blame": MAYBE | st.booleans(),
    "source": st.sampled_from(["mirror", "live", "direct", "auto"]),
}
CODES = st.lists(st.sampled_from(["5xx", "424", "50x"[:2] + "3", "timeout", "reset"]), min_size=1, max_size=4)
ERRORS = st.fixed_dictionaries(
    {"metric": st.just("error_rate"), "max": RATES},
    optional={**COMMON_GATE, "max_increase": RATES, "codes": CODES},
) | st.fixed_dictionaries(
    {"metric": st.just("error_rate"), "max_increase": RATES},
    optional={**COMMON_GATE, "max_ratio": st.floats(1e-6, 1000), "codes": CODES},
)
LATENCIES = st.fixed_dictionaries(
    {"metric": st.just("latency"), "max": st.integers(1, 3_600_000_000)},
    optional={**COMMON_GATE, "max_ratio": MAYBE | st.floats(1, 1000), "quantile": st.sampled_from([0.5, 0.95, 0.999])},
)
GUARDS = st.fixed_dictionaries(
    {"metric": st.just("latency"), "max_ratio": st.floats(1, 1000), "guard": st.just("stable")},
    optional={**ANY_GATE, "source": st.sampled_from(["auto", "live"])},
)
NUMBERS = st.floats(-1e15, 1e15) | st.sampled_from([0.0, -0.0, 1e15, 5e-324, 1e-7, 0.1, 250.0])
TOLERANCES = NUMBERS.map(abs) | st.fixed_dictionaries(
    {}, optional={"absolute": NUMBERS.map(abs), "relative": st.floats(0, 1)}
)
PAIRED = (
    st.fixed_dictionaries({"metric": st.just("slowdown"), "max_ratio": st.floats(1, 1000)}, optional=ANY_GATE)
    | st.fixed_dictionaries({"metric": st.just("missing_pairs"), "max": RATES}, optional=ANY_GATE)
    | st.fixed_dictionaries(
        {"metric": st.just("prediction"), "max": RATES},
        optional={
            **ANY_GATE,
            "tolerance": TOLERANCES,
            "path": MAYBE | st.sampled_from(["a", "predictions.0.label", "0", "true", "a b.#"]),
            "examples": st.integers(0, 20),
        },
    )
)
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "url": st.sampled_from(["https://e.org", "${env:URL}", "https://a:${file:p}@e.org"]),
        "headers": st.dictionaries(st.sampled_from(["X-Team", "Cookie"]), st.just("a=${env:KEY}; #b")),
        "token": st.just("${file:t}"),
        "total": st.sampled_from(["requests", 'a{b="c"}', "sum by (x) (rate(y[1m]))"]),
        "bad": st.just("errors"),
        "more": st.lists(MAYBE | BODIES | ODD, max_size=2) | st.dictionaries(ODD, MAYBE | ODD, max_size=2),
    },
)
OUTSIDE = st.fixed_dictionaries(
    {
        "metric": st.dictionaries(
            st.sampled_from(["prometheus", "http", "somebodys-own"]), OPTIONS, min_size=1, max_size=1
        )
    },
    optional={**COMMON_GATE, "max": NUMBERS | st.sampled_from(["1%", "0.001%"]), "max_ratio": st.floats(1e-6, 1000)},
).flatmap(lambda gate: st.just(gate | ({} if "max" in gate else {"max_increase": "3%"})))
COMMON = {**ANSWERS, "name": MAYBE | TEXTS | ODD}
WHO = st.sampled_from(["candidate", "stable"])
TASKS = st.one_of(
    st.fixed_dictionaries(
        {"scale": st.dictionaries(WHO, st.integers(1, 50), min_size=1)}, optional={**COMMON, "deadline": SECONDS}
    ),
    st.fixed_dictionaries(
        {"test": WHO},
        optional={
            **COMMON,
            "request": MAYBE | REQUEST,
            "method": st.sampled_from(["GET", "POST", "PUT"]),
            "path": st.sampled_from(["/", "/score", "/a?b=c&d#e"]),
            "repeat": st.integers(1, 10_000),
            "expect": st.fixed_dictionaries(
                {},
                optional={
                    "status": st.integers(100, 599),
                    "json": st.dictionaries(TEXTS | ODD, BODIES | ODD, max_size=3),
                    "max_latency": MAYBE | st.integers(1, 3_600_000_000),
                },
            ),
        },
    ),
    st.fixed_dictionaries(
        {"wait": SECONDS | st.fixed_dictionaries({"until": st.just("09:30")}, optional={"tz": st.just("Asia/Tokyo")})},
        optional=COMMON,
    ),
    st.fixed_dictionaries(
        {"approve": TEXTS | ODD},
        optional={
            **COMMON,
            "timeout": SECONDS,
            "on_timeout": st.sampled_from(["rollback", "pause"]),
            "not_by_starter": st.booleans(),
        },
    ),
    st.fixed_dictionaries(
        {"webhook": st.sampled_from(["https://e.org/a?b=c", "${env:HOOK}/x", "${file:a b}"])},
        optional={
            **COMMON,
            "method": st.sampled_from(["POST", "PUT"]),
            "body": MAYBE | BODIES | ODD,
            "headers": st.dictionaries(st.sampled_from(["X-Team", "Cookie"]), st.just("a=${env:KEY}; #b")),
            "secret": MAYBE | st.just("${file:key}"),
            "timeout": st.floats(1e-3, 300),
            "retries": st.integers(0, 20),
        },
    ),
    st.fixed_dictionaries(
        {"load": st.integers(1, 1_000_000) | st.floats(1 / 3600, 1e6), "request": REQUEST, "for": SECONDS},
        optional=COMMON,
    ),
)  # fmt: skip


@st.composite
def gated(draw: st.DrawFn, kind: str, value: Any, names: list[str]) -> dict[str, Any]:
    hold = draw(st.just(0.0) | SECONDS)
    return {
        kind: value,
        "gates": draw(st.lists(st.sampled_from(names), unique=True)) if names else [],
        "hold": hold,
        "deadline": draw(MAYBE | st.floats(0.001, 1e6).map(lambda more: hold + more)),
        "interval": draw(MAYBE | SECONDS),
        "decide": draw(st.sampled_from(["proven", "no_fail"])),
        **draw(st.fixed_dictionaries({}, optional=COMMON)),
    }


DEPLOYMENT = st.fixed_dictionaries({"file": TEXTS | ODD}) | st.fixed_dictionaries(
    {"model": TEXTS | ODD},
    optional={
        "tags": st.dictionaries(TEXTS | ODD, MAYBE | TEXTS | ODD, max_size=2),
        "list": st.lists(BODIES | ODD, max_size=3),
    },
)


@st.composite
def plans(draw: st.DrawFn, *, roles: bool) -> Plan:
    """A plan with every field that there is; inner forms, as a stored plan has them."""
    each = ERRORS | LATENCIES | OUTSIDE
    gates = draw(st.dictionaries(st.sampled_from(["errors", "slow", "a-1", "0"]), each, max_size=3))
    mirrored = draw(st.dictionaries(st.sampled_from(["hurt", "other"]), GUARDS | PAIRED, max_size=2))
    shares = sorted(draw(st.lists(st.integers(1, 999), unique=True, max_size=3)))
    steps = [{"deploy": "candidate" if roles else "green", **draw(st.fixed_dictionaries({}, optional=COMMON))}]
    steps += draw(st.lists(TASKS, max_size=3))
    if draw(st.booleans()):
        steps.append(
            draw(gated("shadow", draw(st.lists(st.integers(1, 1000), min_size=1, max_size=3)), [*gates, *mirrored]))
        )
    steps += [draw(gated("canary", shares, list(gates)))] if shares else []
    bounded = [name for name, gate in gates.items() if "max" in gate]
    steps += [draw(gated("promote", 1000, bounded)), {"delete": draw(st.sampled_from(["stable", "endpoint"]))}]
    top = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "name": st.just("shop"),
                "provider": st.sampled_from(["memory", {"name": "memory", "seed": "1", "a": [None, {"b": "null"}]}]),
                "on_fail": st.sampled_from(["rollback", "pause"]),
                "on_error": st.sampled_from(["rollback", "pause"]),
                "alpha": RATES,
                "beta": RATES,
                "pause_limit": SECONDS,
                "load": st.fixed_dictionaries({"request": REQUEST, "rate": st.floats(1 / 3600, 1e6)}),
                "budget": st.fixed_dictionaries({"bad_responses": st.integers(0, 1_000_000_000)}),
                "on_rollback": st.fixed_dictionaries({"candidate": st.sampled_from(["delete", "keep"])}),
                "vars": st.just({"A": "b"}),
                "defaults": st.just({"hold": "1s"}),
                "notify": st.lists(
                    st.fixed_dictionaries(
                        {"url": st.sampled_from(["https://e.org", "${env:HOOK}"])},
                        optional={
                            "events": st.lists(st.sampled_from(NOTIFY_EVENTS), min_size=1, unique=True),
                            "secret": st.just("${env:KEY}"),
                        },
                    ),
                    max_size=2,
                ),
            },
        )
    )
    if roles:
        top |= {"slots": ("blue", "green"), "candidate": draw(DEPLOYMENT), "stable": draw(MAYBE | DEPLOYMENT)}
    else:
        top |= {"deployments": {"blue": draw(DEPLOYMENT), "green": draw(DEPLOYMENT)}}
        top |= {"stable": draw(MAYBE | st.just("blue"))}
    endpoint = draw(st.just("scores") | st.fixed_dictionaries({"file": TEXTS | ODD}))
    return Plan.model_validate({"endpoint": endpoint, "gates": gates | mirrored, "steps": steps, **top})


PLANS = plans(roles=True) | plans(roles=False)
ANSWERS_TO = ("on_fail", "on_no_data", "on_undecided", "on_error")
FILLED = ("alpha", "beta", "interval", "settle", "max_ratio", "deadline", *ANSWERS_TO)


def without_fills(part: Any, original: Any) -> Any:
    """A step or gate with nothing where the original had nothing and something may be filled in."""
    empty = [name for name in FILLED if getattr(original, name, 0) is None]
    return part.model_copy(update=dict.fromkeys(empty))


@settings(max_examples=100, deadline=None)
@given(plan=PLANS, interval=MAYBE | SECONDS, settle=MAYBE | SECONDS)
def test_what_is_written_is_read_as_the_same_plan(plan: Plan, interval: float | None, settle: float | None):
    text = written(plan, interval=interval, settle=settle)
    again = source.loads(text, Plan, name="written")
    assert written(again) == text
    gates = {name: without_fills(gate, plan.gates[name]) for name, gate in again.gates.items()}
    steps = tuple(without_fills(step, old) for step, old in zip(again.steps, plan.steps, strict=True))
    assert again.model_copy(update={"gates": gates, "steps": steps}) == plan.model_copy(
        update={"vars": {}, "defaults": {}}
    )


@settings(max_examples=50, deadline=None)
@given(plan=PLANS, interval=SECONDS, settle=SECONDS)
def test_nothing_is_left_out_but_what_depends_on_the_moment(plan: Plan, interval: float, settle: float):
    again = source.loads(written(plan, interval=interval, settle=settle), Plan, name="written")
    for gate in again.gates.values():
        assert None not in (gate.alpha, gate.beta, gate.interval, gate.settle)
    for step, old in zip(again.steps, plan.steps, strict=True):
        assert None not in (step.on_fail, step.on_no_data, step.on_undecided, step.on_error)
        assert step.on_fail == (old.on_fail or plan.on_fail)
        if isinstance(step, GatedStep) and isinstance(old, GatedStep):
            assert step.deadline == (old.deadline if old.deadline is not None else old.hold + 3600)
            assert step.interval is not None


CAN = Capabilities(interval=10.0, settle=2.0, mirror_limit=1000)


def behaviour(plan: Plan, made: Any) -> list[Stage] | list[str]:
    """The stages of a plan: what will be done; or why it cannot be."""
    roles = Roles("green", "blue", Split({"blue": 1000}), {"blue": 2})
    try:
        stages = compile_stages(replace(made, plan=plan), roles, CAN)
    except Unfit as unfit:
        return [problem.message for problem in unfit.problems]

    def bare(gate: Gate) -> Gate:
        # A multiple of one may be written or not, where there is an increase.
        return replace(gate, max_ratio=gate.ratio if gate.relative else None)

    def plain(stage: Stage) -> Stage:
        gates, guards = tuple(map(bare, stage.gates)), tuple(map(bare, stage.guards))
        work = stage.work.model_copy(update=dict.fromkeys(FILLED)) if hasattr(stage.work, "model_copy") else stage.work
        return replace(stage, gates=gates, guards=guards, work=work)

    return [plain(stage) for stage in stages]


@pytest.fixture(scope="module")
def made() -> Any:
    """A bundle whose plan is put in its place."""
    return bundle("  - deploy: green\n")


@settings(max_examples=50, deadline=None)
@given(plan=plans(roles=False))
def test_what_is_written_does_the_same(made: Any, plan: Plan):
    again = source.loads(written(plan, interval=10.0, settle=2.0), Plan, name="written")
    assert behaviour(again, made) == behaviour(plan, made)


def quantities(annotation: Any, metadata: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """What `Annotated` says of each fraction that a value of this type may hold."""
    if get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        yield from quantities(inner, (*metadata, *more))
    elif annotation is float:
        yield metadata
    else:
        for part in get_args(annotation):
            yield from quantities(part, metadata)


@pytest.mark.parametrize("model", [Plan, Load, Expect, Until, Tolerance, *STEPS.values(), *KINDS.values()])
def test_every_quantity_says_how_it_is_written(model: type[BaseModel]):
    for name, info in model.model_fields.items():
        for metadata in quantities(info.annotation, tuple(info.metadata)):
            assert any(isinstance(each, Shown) for each in metadata), f"{model.__name__}.{name} would be rounded"
