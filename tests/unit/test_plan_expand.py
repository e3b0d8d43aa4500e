"""Variables and defaults: what they put where, what they leave alone, and where their mistakes are told."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from plans import expand, gates, source
from plans.errors import PlanError
from plans.model import InlineSpec, Plan
from plans.steps import STEPS, ApproveStep

TOP = "endpoint: scores\ndeployments: {blue: {file: blue.yml}, green: {file: green.yml}}\n"


class Anything(BaseModel):
    """A file that takes whatever is written."""

    model_config = ConfigDict(extra="allow")


def plan(text: str, **overrides: str) -> Plan:
    return source.loads(text, Plan, name="plan.yml", rewrite=expand.rewriter(overrides))


def question(text: str, **overrides: str) -> str:
    """What a plan's first step asks."""
    step = plan(text, **overrides).steps[0]
    assert isinstance(step, ApproveStep)
    return step.approve


def complaints(read: Any) -> list[str]:
    with pytest.raises(PlanError) as caught:
        read()
    return str(caught.value).splitlines()


class TestVariables:
    def test_they_are_replaced_in_every_value(self):
        read = plan(
            "vars: {A: green, N: 2, SHARE: 5, URL: 'https://e.org', KEY: '${env:KEY}', ZONE: Asia/Tokyo}\n"
            "name: ${var:A}-plan\n"
            "provider: {name: memory, seed: 'x${var:N}', deep: {er: ['${var:N}', '${var:A}']}}\n"
            "endpoint: {file: '${var:A}.yml'}\n"
            "deployments: {green: {model: '${var:A}:${var:N}', tags: {a: '${var:A}'}}, blue: {file: '${var:N}.yml'}}\n"
            "gates: {e: {metric: error_rate, max: '${var:N}%', min_requests: '${var:N}00'}}\n"
            "steps:\n"
            "  - deploy: ${var:A}\n"
            "    deadline: ${var:N}m\n"
            "  - canary: ['${var:SHARE}%', '${var:SHARE}0%']\n"
            "  - wait: {until: '0${var:N}:00', tz: '${var:ZONE}'}\n"
            "  - webhook: ${var:URL}\n"
            "    secret: ${var:KEY}\n"
            "    headers: {X-Team: 'a-${var:A}-b-${var:A}'}\n"
            "notify: [{url: '${var:URL}/${var:KEY}'}]\n"
        )
        deploy, canary, wait, hook = read.steps
        assert (read.name, read.provider.options) == ("green-plan", {"seed": "x2", "deep": {"er": ["2", "green"]}})
        assert read.deployments is not None
        assert read.deployments["green"] == InlineSpec(model="green:2", tags={"a": "green"})
        assert (read.gates["e"].max, read.gates["e"].min_requests) == (0.02, 200)
        assert (deploy.deploy, deploy.deadline, canary.canary) == ("green", 120.0, (50, 500))
        assert (wait.wait.until, wait.wait.tz) == ("02:00", "Asia/Tokyo")
        assert (hook.secret, hook.headers["X-Team"]) == ("${env:KEY}", "a-green-b-green")
        assert read.notify[0].url == "https://e.org/${env:KEY}"
        assert read.endpoint.file == "green.yml"

    def test_a_variable_is_made_of_others_in_any_order(self):
        text = f"{TOP}vars: {{A: '${{var:B}}!', B: '${{var:C}}${{var:C}}', C: x}}\nsteps: [approve: '${{var:A}}']\n"
        assert question(text) == "xx!"
        assert plan(text).vars == {"A": "xx!", "B": "xx", "C": "x"}

    def test_a_long_chain_of_variables_is_no_deep_recursion(self):
        chain = "".join(f"  V{i}: ${{var:V{i + 1}}}\n" for i in range(4000))
        assert question(f"{TOP}steps: [approve: '${{var:V0}}']\nvars:\n{chain}  V4000: end\n") == "end"

    def test_what_is_given_wins_and_is_pinned_with_the_plan(self):
        text = f"{TOP}vars: {{A: '${{var:B}}', B: x}}\nsteps: [approve: '${{var:A}}']\n"
        assert question(text, B="y") == "y"
        assert question(text, A="z") == "z"
        assert plan(text, A="z").vars == {"A": "z", "B": "x"}

    def test_a_wrong_value_that_is_replaced_does_not_matter(self):
        text = f"{TOP}vars: {{A: '${{var:A}}', B: '${{var:NOPE}}'}}\nsteps: [approve: '${{var:A}}${{var:B}}']\n"
        assert question(text, A="x", B="y") == "xy"

    @pytest.mark.parametrize(
        "value", ["[a, b]", "{a: b}", "*a", "&a x", "!!int 5", "null", "~", "- a", "a: b", "# a", "'"]
    )
    def test_text_stays_text(self, value):
        written = json.dumps(value)
        assert question(f"{TOP}vars: {{A: {written}}}\nsteps: [approve: '${{var:A}}']\n") == value
        assert question(f"{TOP}vars: {{A: x}}\nsteps: [approve: '${{var:A}}']\n", A=value) == value

    def test_an_empty_value_is_empty_text(self):
        assert question(f"{TOP}vars: {{A: ''}}\nsteps: [approve: 'a${{var:A}}b']\n") == "ab"
        assert question(f"{TOP}vars: {{A: x}}\nsteps: [approve: 'a${{var:A}}b']\n", A="") == "ab"

    def test_other_dollars_are_left_alone(self):
        assert question(f"{TOP}vars: {{A: x}}\nsteps: [approve: '$A $${{var:A}} ${{ var:A }} {{var:A}}']\n") == (
            "$A $x ${ var:A } {var:A}"
        )

    def test_what_an_anchor_stands_for_is_replaced_once(self):
        text = f"{TOP}vars: {{A: a}}\nsteps:\n  - &s {{approve: &t 'x${{var:A}}'}}\n  - *s\n  - approve: *t\n"
        assert [step.approve for step in plan(text).steps] == ["xa"] * 3

    def test_two_readings_of_a_text_do_not_meet(self):
        text = f"{TOP}vars: {{A: a}}\nsteps: [approve: '${{var:A}}']\n"
        rewrite = expand.rewriter({})
        for _ in range(2):
            assert source.loads(text, Plan, name="p", rewrite=rewrite).steps[0].approve == "a"

    def test_the_model_does_not_take_a_variable_that_nobody_replaced(self):
        said = complaints(lambda: source.loads(f"{TOP}steps: [approve: '${{var:A}}']\n", Plan, name="p"))
        assert said == [
            "p:3:18: steps[0].approve: a variable such as ${var:NAME} has no value here; write the text itself"
        ]


class TestOtherFiles:
    TEXT = f"{TOP}vars: {{A: 'a${{var:B}}', B: b}}\nsteps: [deploy: gren]\n"

    def test_the_values_of_a_plan(self):
        """Also of one that is wrong elsewhere, which is told with the plan."""
        assert expand.variables(self.TEXT, "p", {}) == {"A": "ab", "B": "b"}
        assert expand.variables(self.TEXT, "p", {"B": "c"}) == {"A": "ac", "B": "c"}
        assert expand.variables(TOP, "p", {}) == {}

    @pytest.mark.parametrize(
        ("written", "overrides", "said"),
        [
            ("vars: {A: [x]}", {}, "p:1:11: vars.A: expected text, found a list"),
            ("vars: {A: '${var:B}'}", {}, "p:1:11: vars.A: there is no variable `B` (A)"),
            ("vars: {A: x}", {"B": "y"}, "p:1:1: vars: `--var B` is given, and the plan has no variable `B` (A)"),
            ("name: x", {"B": "y"}, "p: `--var B` is given, and the plan has no `vars`"),
        ],
    )
    def test_wrong_ones(self, written, overrides, said):
        assert complaints(lambda: expand.variables(written, "p", overrides)) == [said]

    def test_they_are_put_into_another_file(self):
        text = "name: scores\nvars: {A: '${var:A}'}\nlist: ['${var:A}', {b: '${var:B}${env:X}'}]\n"
        read = source.loads(text, Anything, name="f", rewrite=expand.substitution({"A": "a", "B": "b"}))
        assert read.model_extra == {"name": "scores", "vars": {"A": "a"}, "list": ["a", {"b": "b${env:X}"}]}

    def test_what_is_wrong_there_is_told_there(self):
        text = "a: '${var:AB}'\n'${var:A}': x\nb: '${var:'\n"
        said = complaints(lambda: source.loads(text, Anything, name="f", rewrite=expand.substitution({"A": "a"})))
        assert said == [
            "f:1:4: a: there is no variable `AB` (A); did you mean `A`?",
            "f:2:1: ['${var:A}']: a variable cannot be part of a key; write the key itself",
            "f:3:4: b: `${var:` is never closed; write `}` after the variable's name",
        ]
        text = "a: ${var:A}\n"
        said = complaints(lambda: source.loads(text, Anything, name="f", rewrite=expand.substitution({})))
        assert said == ["f:1:4: a: there is no variable `A`; give the plan `vars` with it"]


NAMES = st.sampled_from(["A", "B", "C", "D"])
PIECES = st.lists(st.text("ab%[:", max_size=3) | NAMES.map("${{var:{}}}".format), min_size=1, max_size=4).map("".join)


@given(values=st.fixed_dictionaries({name: st.text("xy{}$ ", max_size=4) for name in "ABCD"}), asked=PIECES)
def test_replacing_is_what_replacing_text_is(values, asked):
    text = f"{TOP}vars: {json.dumps(values)}\nsteps: [approve: {json.dumps('-' + asked)}]\n"
    expected = "-" + asked
    for name, value in values.items():
        expected = expected.replace(f"${{var:{name}}}", f"\0{value}\0")
    assert question(text) == expected.replace("\0", "")


class TestDefaults:
    GATES = "gates: {e: {metric: error_rate, max: 1%}, l: {metric: latency, max: 1s, settle: 5s}}\n"

    def test_they_go_where_they_may_and_nobody_says_otherwise(self):
        read = plan(
            f"{TOP}{self.GATES}"
            "defaults: {gates: [e, l], hold: 10m, deadline: 2h, interval: 30s, settle: 90s, codes: 5xx,\n"
            "  on_fail: pause, request: {body: x}, for: 1m, timeout: 5m, expect: {status: 201}}\n"
            "steps:\n"
            "  - deploy: green\n"
            "    deadline: 5m\n"
            "  - test: green\n"
            "  - canary: [5%, 50%]\n"
            "    gates: e\n"
            "    on_fail: rollback\n"
            "  - load: 5/s\n"
            "  - approve: ok?\n"
            "  - promote: 100%\n"
            "    hold: 1m\n"
            "  - delete: stable\n"
        )
        deploy, test, canary, load, approve, promote, delete = read.steps
        assert (read.gates["e"].interval, read.gates["e"].settle, read.gates["l"].settle) == (30.0, 90.0, 5.0)
        assert read.gates["e"].codes == ("5xx",)
        assert (read.gates["e"].on_fail, read.gates["l"].on_fail) == ("pause", "pause")
        assert (deploy.deadline, canary.deadline, promote.deadline) == (300.0, 7200.0, 7200.0)
        assert (test.request.body, test.expect.status, load.for_, approve.timeout) == ("x", 201, 60.0, 300.0)
        assert (canary.gates, promote.gates, promote.hold, canary.hold) == (("e",), ("e", "l"), 60.0, 600.0)
        assert [step.on_fail for step in read.steps] == ["pause", "pause", "rollback", *["pause"] * 4]
        assert delete.name is None

    def test_a_default_may_be_what_a_step_needs(self):
        read = plan(f"{TOP}defaults: {{request: r.json}}\nsteps: [load: 5]\n")
        assert read.steps[0].request == "r.json"

    def test_they_reach_gates_of_every_kind(self):
        more = "o: {metric: prediction, max: 1%}, p: {metric: prediction, max: 1%, examples: 3}, "
        more += "x: {metric: {http: {}}, max: 5}"
        gates = self.GATES.replace("}}", f"}}, {more}}}")
        read = plan(f"{TOP}{gates}defaults: {{source: live, examples: 7, min_requests: 9}}\nsteps: [deploy: green]\n")
        assert {name: getattr(gate, "source", None) for name, gate in read.gates.items()} == {
            **dict.fromkeys("elx", "live"),
            **dict.fromkeys("op"),
        }
        assert (read.gates["o"].examples, read.gates["p"].examples) == (7, 3)
        assert {gate.min_requests for gate in read.gates.values()} == {9}

    def test_nothing_is_not_a_default(self):
        """A field that is written without a value is written."""
        text = f"{TOP}defaults: {{interval: 30s}}\nsteps: [{{deploy: green}}, {{canary: 5%, interval: }}]\n"
        assert plan(text).steps[1].interval is None

    def test_defaults_of_one_that_stands_for_several(self):
        steps = "steps: [{deploy: green}, &c {canary: 5%}, *c, {promote: , hold: 1s}]\n"
        text = f"{TOP}defaults: {{hold: 10m}}\n{steps}"
        assert [step.hold for step in plan(text).steps[1:]] == [600.0, 600.0, 1.0]
        same = f"{TOP}defaults: &d {{hold: 10m}}\nsteps: [{{deploy: green}}, {{canary: 5%}}]\nvars: {{A: x}}\n"
        assert plan(same).steps[1].hold == 600.0

    def test_variables_come_first(self):
        text = f"{TOP}vars: {{H: 5}}\ndefaults: {{hold: '${{var:H}}m'}}\nsteps: [{{deploy: green}}, {{canary: 5%}}]\n"
        assert plan(text).steps[1].hold == 300.0
        assert plan(text, H="7").steps[1].hold == 420.0

    def test_a_stored_plan_has_them_already(self):
        read = plan(f"{TOP}defaults: {{hold: 10m}}\nsteps: [{{deploy: green}}, {{canary: 5%}}]\n")
        assert Plan.model_validate_json(read.model_dump_json()) == read

    def test_without_defaults_nothing_changes(self):
        text = f"{TOP}{self.GATES}defaults: {{}}\nsteps: [deploy: green]\n"
        assert plan(text).steps == plan(text.replace("defaults: {}\n", "")).steps


VALUES: dict[str, st.SearchStrategy[Any]] = {
    "hold": st.sampled_from(["0", "5m"]),
    "deadline": st.sampled_from(["10m", "1h"]),
    "interval": st.just("7s"),
    "decide": st.sampled_from(["no_fail", "proven"]),
    "gates": st.sampled_from(["g", ["g", "h"], []]),
    "on_fail": st.sampled_from(["pause", "rollback"]),
    "on_error": st.sampled_from(["pause", "rollback"]),
    "request": st.sampled_from(["r.json", {"body": "x"}]),
    "method": st.sampled_from(["POST", "PUT"]),
    "timeout": st.just("1m"),
    "retries": st.just("5"),
    "repeat": st.just("3"),
    "for": st.just("30s"),
    "min_requests": st.just("7"),
    "quantile": st.just("p50"),
    "alpha": st.just("3%"),
    "max_increase": st.just("1%"),
}
SOME = st.fixed_dictionaries({}, optional=VALUES)
KINDS = st.sampled_from(
    [
        *[{"deploy": "green"}, {"test": "green"}, {"canary": "5%"}, {"shadow": "5%"}, {"approve": "really?"}],
        *[{"load": "5", "request": "r.json"}, {"webhook": "https://e.org"}, {"wait": "5m"}],
    ]
)


def belonging(part: dict[str, Any], fields: dict[str, Any]) -> dict[str, Any]:
    """Those of the fields that a step or gate may have."""
    model = (
        gates.KINDS[str(gates.gate_kind(part))]
        if "metric" in part
        else next(STEPS[key] for key in part if key in STEPS)
    )
    names = {info.alias or name for name, info in model.model_fields.items()}
    return {key: value for key, value in fields.items() if key in names}


@given(defaults=SOME, steps=st.lists(st.tuples(KINDS, SOME), max_size=5))
def test_a_default_is_the_same_as_writing_it_everywhere(defaults, steps):
    gates: dict[str, dict[str, Any]] = {
        "g": {"metric": "error_rate", "max": "1%", "max_increase": "2%", "min_requests": "9", "alpha": "1%"},
        "h": {"metric": "latency", "max": "1s", "quantile": "p99"},
    }
    short = [{"deploy": "green"}, *({**kind, **belonging(kind, own)} for kind, own in steps)]
    long = [{**belonging(step, defaults), **step} for step in short]
    written = {name: {**belonging(gate, defaults), **gate} for name, gate in gates.items()}
    taken = {key: defaults[key] for key in defaults if any(key in each for each in (*long, *written.values()))}
    head = {"endpoint": "scores", "deployments": {"green": {"file": "g.yml"}}}

    def outcome(tree: dict[str, Any]) -> Any:
        try:
            read = plan(json.dumps(head | tree))
        except PlanError:
            return "refused"
        return read.steps, read.gates

    once = outcome({"gates": gates, "steps": short, "defaults": taken})
    assert once == outcome({"gates": written, "steps": long})
