"""Text into models: what a file may be, what YAML may say, where a complaint points, and that nothing gets past it."""

import json
import os
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from plans import expand, source
from plans.errors import PlanError, Problem
from plans.gates import KINDS
from plans.model import Plan
from plans.steps import STEPS
from plans.write import written
from providers.specs import DeploymentSpec, EndpointSpec


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    count: int = 0


class Loose(BaseModel):
    """A model of nobody's: source.py knows none of its names."""

    model_config = ConfigDict(extra="forbid")
    text: str | None = None
    number: float = 0
    either: str | Inner | None = None
    many: str | list[str] | None = None
    inner: Inner | None = None
    table: dict[str, Inner] = {}
    anything: Any = None
    alias_: str | None = Field(default=None, alias="$schema")


def complaints(text: str, model: type[BaseModel] = Loose, **more: Any) -> list[str]:
    with pytest.raises(PlanError) as caught:
        source.loads(text, model, name="f", **more)
    return str(caught.value).splitlines()


def test_every_scalar_is_text():
    loaded = source.loads("anything: [17:00, on, 0o7, 1_0, 2026-01-01, ~, null, '', 'null', .inf]", Loose, name="f")
    assert loaded.anything == ["17:00", "on", "0o7", "1_0", "2026-01-01", None, None, "", "null", ".inf"]


def test_aliases_are_expanded():
    assert source.loads("anything: [&a [x], *a, *a]", Loose, name="f").anything == [["x"]] * 3


BAD_YAML = [
    ("", "f:1:1: is empty; write something into it"),
    ("# only this\n", "f:1:1: is empty; write something into it"),
    ("[text]", "f:1:1: expected a mapping, found a list"),
    ("text: a\ntext: b", "f:2:1: text: `text` is already in line 1; keep one of them"),
    ("inner:\n  count: 1\n  count: 2", "f:3:3: inner.count: `count` is already in line 2; keep one of them"),
    ("? [a]\n: b", "f:1:3: a key must be text; quote it if it is meant"),
    ("~: b", "f:1:1: a key must be text; quote it if it is meant"),
    ("<<: {text: a}", "f:1:1: merge keys (`<<`) are not supported; write the fields out"),
    ("text:\n\t- a", "f:2:1: a tab; indent with spaces"),
    ("text: a\n---\ntext: b", "f:2:1: a second document begins here (`---`); write one document a file"),
    ("text: !!python/object:os.system x", "f:1:7: text: the tag `!!python/object:os.system` is not allowed; remove it"),
    ("anything: !!binary aGk=", "f:1:11: anything: the tag `!!binary` is not allowed; remove it"),
    ("text: *a", "f:1:7: the alias `*a` has no anchor `&a` before it"),
    ("anything: [&a x, &a y]", "f:1:18: the anchor `&a` is set twice; give it another name"),
    ("anything: &a [*a]", "f:1:15: the alias `*a` contains itself; write it out"),
    ("text: a: b", "f:1:8: a second `: ` where none can be; indent as the lines above, or quote the text"),
    ("text: 'a", "f:1:7: the quote that begins here is never closed; close it"),
    ("many: [a, b\ntext: c", "f:2:5: a list or mapping in brackets is not closed here; add `,` or the closing bracket"),
    ("text: a\nb\nnumber: 1", "f:2:1: a key without `: `; write `key: value`"),
    ("text: @a", "f:1:7: text cannot begin with `@`; quote it"),
    ('text: "\\ud800"', "f:1:7: text: a character that cannot be stored; remove it"),
    ('text: "\\0"', "f:1:7: text: a character that cannot be stored; remove it"),
    ("text: a\x07", "f:1:8: the character U+0007 is not allowed; remove it"),
    ('text: "\\UFFFFFFFF"', "f:1:10: this is not YAML; quote the text here"),
    ("tekst: a", "f:1:1: tekst: `tekst` is no field here; did you mean `text`?"),
    ("$shema: a", "f:1:1: $shema: `$shema` is no field here; did you mean `$schema`?"),
    ("text: [a]", "f:1:7: text: expected text, found a list"),
    ("number: much", "f:1:9: number: expected a number, found `much`"),
    ("either: [a]", "f:1:9: either: expected text or a mapping, found a list"),
    ("either: {cont: 1}", "f:1:10: either.cont: `cont` is no field here; did you mean `count`?"),
    ("either: {count: x}", "f:1:17: either.count: expected a whole number, found `x`"),
    ("many: {a: b}", "f:1:7: many: expected text or a list, found a mapping"),
    ("inner: x", "f:1:8: inner: expected a mapping, found `x`"),
    ("table: {a.b: {count: x}}", "f:1:22: table['a.b'].count: expected a whole number, found `x`"),
    ("table: {a: }", "f:1:9: table.a: expected a mapping, found nothing"),
]


@pytest.mark.parametrize(("text", "expected"), BAD_YAML)
def test_one_clear_message_at_its_place(text, expected):
    assert complaints(text) == [expected]


def test_all_errors_at_once_in_the_order_of_the_file():
    text = "tekst: a\nnumber: x\nnumber: y\ninner: {count: z}\ntable: {k: !t {cuont: 1}}\n"
    places = ["f:1:1", "f:2:9", "f:3:1", "f:4:16", "f:5:12", "f:5:16"]
    assert [line.split(": ")[0] for line in complaints(text)] == places


DEPTH = source.DEEPEST


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("anything: " + "[" * 400_000, id="deep flow"),
        pytest.param("".join(f"{' ' * i}-\n" for i in range(1200)), id="deep block"),
        pytest.param("- x\n" * 200_000, id="long"),
        pytest.param("{" + "a: 1, " * 100_000 + "}", id="wide"),
        pytest.param(
            "a: &a [x,x,x,x,x,x,x,x,x]\n"
            + "".join(f"{c}: &{c} [{','.join(['*' + p] * 9)}]\n" for p, c in zip("abcdefgh", "bcdefghi", strict=True)),
            id="billion laughs",
        ),
        pytest.param(
            "- &a0 " + "[" * 40 + "x" + "]" * 40 + "\n"
            + "".join(f"- &a{i} {'[' * 40}*a{i - 1}{']' * 40}\n" for i in range(1, 20)),
            id="deep through aliases",
        ),
    ],
)  # fmt: skip
def test_what_would_be_endless_is_refused_by_its_size(text):
    (line,) = complaints(text)
    assert f"more than {source.MOST_NODES} values" in line or f"more than {DEPTH} levels deep" in line


def test_the_limits_themselves_are_allowed():
    levels = DEPTH - 2  # the top mapping and the text inside
    loaded = source.loads("anything: " + "[" * levels + "x" + "]" * levels, Loose, name="f")
    assert str(loaded.anything).count("[") == levels
    many = source.loads("anything:\n" + "- x\n" * (source.MOST_NODES - 3), Loose, name="f")
    assert len(many.anything) == source.MOST_NODES - 3
    with pytest.raises(PlanError, match="more than 10000 values"):
        source.loads("anything:\n" + "- x\n" * (source.MOST_NODES - 2), Loose, name="f")


class TestFiles:
    def refused(self, path: Path) -> str:
        with pytest.raises(PlanError) as caught:
            source.load(path, Loose)
        return str(caught.value).replace(str(path), "F")

    def test_a_good_file_with_a_byte_order_mark(self, tmp_path):
        (tmp_path / "a.yml").write_bytes(b"\xef\xbb\xbftext: \xc3\xa9\r\n")
        assert source.load(tmp_path / "a.yml", Loose).text == "é"

    def test_missing(self, tmp_path):
        (tmp_path / "plan.yml").touch()
        assert self.refused(tmp_path / "plan.yaml") == "F: there is no such file; did you mean `plan.yml`?"
        assert self.refused(tmp_path / "other") == "F: there is no such file"
        assert "there is no folder" in self.refused(tmp_path / "no" / "plan.yml")

    def test_not_a_file(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        assert self.refused(tmp_path) == "F: is a folder; name a file in it"
        assert self.refused(tmp_path / "pipe") == "F: is not a regular file; name the file itself"
        assert "cannot be read" in self.refused(tmp_path / ("x" * 300))
        with pytest.raises(PlanError, match="its name is no file name"):
            source.read(Path("a\0b"))

    def test_not_text(self, tmp_path):
        path = tmp_path / "f"
        path.write_bytes(b"text: \0")
        assert self.refused(path) == "F: is a binary file; it must be text"
        path.write_bytes(b"text: a\nnumber: \xff")
        assert self.refused(path) == "F:2:9: is not UTF-8 text; save it as UTF-8"

    def test_size(self, tmp_path):
        path = tmp_path / "f"
        path.write_text("#" * source.LARGEST)
        assert self.refused(path) == "F:1:1: is empty; write something into it"
        path.write_text("#" * (source.LARGEST + 1))
        assert self.refused(path) == "F: is larger than 1 MB, which is no file of this kind"


def test_problems_are_sorted_and_counted_once():
    first, second = Problem("f", 2, 3, "a", "m"), Problem("f", 10, 1, "", "n", "did you mean `x`?")
    error = PlanError([second, first, first])
    assert error.problems == (first, second)
    assert str(error) == "f:2:3: a: m\nf:10:1: n; did you mean `x`?"


DEPLOYMENT = """\
$schema: https://azuremlschemas.azureedge.net/latest/managedOnlineDeployment.schema.json
name: green
endpoint_name: scores
model: {path: model}
code_configuration: {code: src, scoring_script: score.py}
environment:
  conda_file: {channels: [conda-forge], dependencies: [python=3.11]}
  image: mcr.microsoft.com/azureml/base
instance_count: 2
app_insights_enabled: true
scale_settings: {type: default}
environment_variables: {LOG: 1}
"""


def test_a_pattern_of_ours_is_told_in_words_wherever_it_stands():
    form = "3 to 32 letters, digits and dashes, from a letter to a letter or digit"
    assert complaints("name: x", EndpointSpec) == [f"f:1:7: name: `x` is not allowed; write {form}"]


def test_files_of_az_ml():
    spec = source.loads(DEPLOYMENT, DeploymentSpec, name="f")
    assert (spec.instance_count, spec.app_insights_enabled, spec.environment_variables) == (2, True, {"LOG": "1"})
    assert spec.scale_settings == {"type": "default"}
    assert source.loads("name: scores\ntraffic: {blue: 100}", EndpointSpec, name="f").traffic == {"blue": 100}


def test_wrong_files_of_az_ml():
    text = DEPLOYMENT.replace("path:", "pth:").replace("count: 2", "cuont: 2\nliveness_probe: {period: 0}")
    assert complaints(text, DeploymentSpec) == [
        "f:4:9: model.pth: `pth` is no field here; did you mean `path`?",
        "f:9:1: instance_cuont: `instance_cuont` is no field here; did you mean `instance_count`?",
        "f:10:26: liveness_probe.period: `0` is out of range: it must be at least 1",
    ]


PLAN = """\
provider:
  name: local
  concurrency: many
deployments:
  green:
    model: {path: model}
    instance_cuont: 2
    tags:
  blue: {}
candidate: green
list:
- a: x
- {b: }
"""


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid")
    concurrency: int = 1
    directory: str | None = None


class TestAPartOfAFile:
    def part(self, *at: str | int, model: type[BaseModel] = DeploymentSpec, **more: Any) -> list[str]:
        return complaints(PLAN, model, at=at, **more)

    def test_its_keys_are_told_from_the_top(self):
        key, said = "deployments.green.instance_cuont", "`instance_cuont` is no field here"
        assert self.part("deployments", "green", adding={"name": "green"}) == [
            f"f:7:5: {key}: {said}; did you mean `instance_count`?",
            "f:8:5: deployments.green.tags: expected a mapping, found nothing",
        ]

    def test_what_is_left_out_is_not_looked_at(self):
        said = "f:3:16: provider.concurrency: expected a whole number, found `many`"
        assert self.part("provider", model=Options, without={"name"}) == [said]
        spec = source.loads(
            PLAN, DeploymentSpec, name="f", at=("deployments", "green"), adding={"name": "green", "model": "not this"},
            without={"instance_cuont", "tags"},
        )  # fmt: skip
        assert (spec.name, spec.model.path) == ("green", "model")

    def test_what_is_added_is_checked_like_the_rest(self):
        said = "f:9:9: deployments.blue.instance_count: expected a whole number, found a mapping"
        assert self.part("deployments", "blue", adding={"name": "blue", "instance_count": "x"}) == [said]

    @pytest.mark.parametrize("text", ["provider: local", "provider:", "name: x"])
    def test_a_word_or_nothing_is_an_empty_mapping(self, text):
        assert source.loads(text, Options, name="f", at=("provider",)) == Options()
        assert source.loads(text, Options, name="f", at=("provider",), adding={"directory": "d"}).directory == "d"

    def test_what_is_missing_is_missed_where_it_should_be(self):
        assert self.part("candidate") == ["f:10:12: candidate.name: `name` is missing; add it"]
        assert self.part("deployments", "grey") == ["f:5:3: deployments.grey.name: `name` is missing; add it"]
        assert self.part("list") == ["f:12:1: list: expected a mapping with `name`, found a list"]
        assert self.part("list", 0, model=Inner) == ["f:12:3: list[0].a: `a` is no field here; only `count` is"]

    def test_the_rest_may_be_anything_but_no_yaml(self):
        assert complaints("a: {count: 1}\na: x\n", Inner, at=("a",)) == [
            "f:2:1: a: `a` is already in line 1; keep one of them"
        ]
        assert complaints("a: [", Inner, at=("a",)) == [
            "f:1:5: a list or mapping in brackets is not closed here; add `,` or the closing bracket"
        ]


class TestRewriting:
    def test_it_is_done_before_values_are_read(self):
        def double(root: yaml.Node, file: str) -> list[Problem]:
            (((_, value),),) = (root.value,)
            value.value = value.value * 2
            return []

        assert source.loads("number: 4", Loose, name="f", rewrite=double).number == 44
        assert complaints("number: x", rewrite=double) == ["f:1:9: number: expected a number, found `xx`"]

    def test_its_problems_are_told_with_the_others(self):
        def complain(root: yaml.Node, file: str) -> list[Problem]:
            return [Problem(file, 1, 1, "text", "is not nice")]

        assert complaints("text: a", rewrite=complain) == ["f:1:1: text: is not nice"]
        assert complaints("text: a\nnumber: x\nnumber: y", rewrite=complain) == [
            "f:1:1: text: is not nice",
            "f:2:9: number: expected a number, found `x`",
            "f:3:1: number: `number` is already in line 2; keep one of them",
        ]


@pytest.mark.parametrize(
    ("path", "at_key", "place"),
    [
        ((), False, "f:1:1: "),
        (("provider",), False, "f:2:3: provider: "),
        (("provider",), True, "f:1:1: provider: "),
        (("provider", "name"), False, "f:2:9: provider.name: "),
        (("deployments", "green", "model", "path"), False, "f:6:19: deployments.green.model.path: "),
        (("deployments", "green", "tags"), False, "f:8:5: deployments.green.tags: "),
        (("deployments", "green", "tags", "deeper"), False, "f:8:5: deployments.green.tags.deeper: "),
        (("deployments", "grey", "file"), False, "f:5:3: deployments.grey.file: "),
        (("deployments", "grey", "file"), True, "f:5:3: deployments.grey.file: "),
        (("list", 0), False, "f:12:3: list[0]: "),
        (("list", 0, "a"), False, "f:12:6: list[0].a: "),
        (("list", 1, "b"), False, "f:13:4: list[1].b: "),
        (("list", 7), False, "f:12:1: list[7]: "),
        (("list", -1), False, "f:12:1: list[-1]: "),
        (("list", "a"), False, "f:12:1: list.a: "),
        (("nowhere",), False, "f:1:1: nowhere: "),
    ],
)
def test_a_problem_at_a_path(path, at_key, place):
    problem = source.problem_at(PLAN, path, "is wrong", name="f", suggestion="did you mean `x`?", at_key=at_key)
    assert str(problem) == f"{place}is wrong; did you mean `x`?"


LONGEST = timedelta(seconds=20)
"""Far more than any of these takes: what fails here is a time that grows with more than the size of the text."""
PIECES = st.sampled_from(
    [
        *"{}[]&*!|>'\"%@`?:-,#~ \n\t",
        *["\n  ", ": ", "- ", "<<: ", "!!t ", "&a ", "*a", "---\n", "\\U", "\ud800", "\0", "٣"],
        *["steps:\n", "deploy", "canary: 5%", "gates", "metric", "model", "null", "9" * 400, "${env:A}"],
    ]
)
JARGON = ("Input should", "type=", "https://errors", "Traceback", "validation error")


def problems_of(read: Callable[[], object]) -> tuple[Problem, ...]:
    try:
        read()
    except PlanError as error:
        return error.problems or (Problem("no problem at all", -1, 0, "", ""),)
    return ()


def survives(text: str, **overrides: str) -> Plan | None:
    """Whatever is asked of a text, it is answered, or problems are told in words that a terminal may show."""
    rewrite = expand.rewriter(overrides)
    inline = {"name": "f", "rewrite": rewrite, "at": ("deployments", "green"), "adding": {"name": "green"}}
    readings: list[Callable[[], object]] = [
        partial(source.loads, text, Plan, name="f"),
        partial(source.loads, text, Plan, name="f", rewrite=rewrite),
        partial(source.loads, text, DeploymentSpec, name="f", rewrite=expand.substitution(overrides)),
        partial(source.loads, text, DeploymentSpec, **inline),
        partial(source.loads, text, Loose, name="f", rewrite=rewrite, at=("provider",), without={"name"}),
        partial(source.loads, text, Loose, name="f", rewrite=rewrite, at=("steps", 1)),
        partial(source.loads, text, Loose, name="f"),
        partial(source.problem_at, text, ("steps", 1, "gates", 0), "m", name="f"),
        partial(expand.variables, text, "f", overrides),
    ]
    for read in readings:
        for problem in problems_of(read):
            assert 0 <= problem.line <= len(text.splitlines()) + 2
            assert str(problem).isprintable()
            assert len(str(problem)) < 1500
            assert not any(jargon in str(problem) for jargon in JARGON)
    try:
        return source.loads(text, Plan, name="f", rewrite=rewrite)
    except PlanError:
        return None


@settings(max_examples=60, deadline=LONGEST)
@given(st.lists(PIECES | st.text(max_size=5), max_size=25).map("".join))
def test_any_text_is_a_model_or_a_list_of_problems(text):
    survives(text)


@settings(max_examples=60, deadline=LONGEST)
@given(at=st.integers(0, len(DEPLOYMENT)), gone=st.integers(0, 20), new=st.lists(PIECES, max_size=3).map("".join))
def test_a_good_file_with_a_wound_is_a_model_or_a_list_of_problems(at, gone, new):
    survives(DEPLOYMENT[:at] + new + DEPLOYMENT[at + gone :])


FIELDS = sorted({name for m in (Plan, *STEPS.values(), *KINDS.values()) for name in m.model_fields})
WORDS = ["green", "blue", "candidate", "stable", "endpoint", "file", "body", "until", "name", "url", "bad_responses"]
SCALARS = st.sampled_from(
    [
        *["10%", "5%", "0", "10m", "1h30m", "250ms", "p95", "1.5", "200/s", "on", "5xx", "auto", "rollback", "pause"],
        *["error_rate", "latency", "errors", "slow", "r.json", "https://e.org", "https://u:p@e.org", "local", "1"],
        *[
            "${env:KEY}",
            "${file:key}",
            "${var:A}",
            "${var:B}%",
            "x${var:NOPE}",
            "${var:",
            "${env:}",
            "\u2028",
            "\x07",
            "",
        ],
        *WORDS,
    ]
)
KEYS = st.sampled_from([*FIELDS, *WORDS, "for", "json", "${var:A}", "A", "B", "x" * 70, "a\nb", "<<", "~"])
LEAVES = st.none() | st.booleans() | st.integers(-1, 200) | SCALARS
VALUES = st.recursive(
    LEAVES, lambda below: st.lists(below, max_size=3) | st.dictionaries(KEYS, below, max_size=4), max_leaves=12
)
KINDS = st.sampled_from(sorted(STEPS))


def shaped(key: st.SearchStrategy[str], value: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """A mapping that is nearly a step or a gate."""
    more = st.dictionaries(st.sampled_from(FIELDS), value | VALUES, max_size=3)
    return st.tuples(key, value, more).map(lambda parts: {parts[0]: parts[1], **parts[2]})


TREES = st.fixed_dictionaries(
    {"endpoint": st.just("scores") | VALUES, "steps": st.lists(shaped(KINDS, SCALARS) | VALUES, max_size=4) | VALUES},
    optional={
        **{name: VALUES for name in Plan.model_fields if name not in ("endpoint", "steps")},
        "deployments": st.just({"blue": {"file": "b.yml"}, "green": {"model": "${var:A}"}}) | VALUES,
        "slots": st.just(["blue", "green"]) | VALUES,
        "gates": st.dictionaries(st.sampled_from(["errors", "slow"]), shaped(st.just("metric"), SCALARS)) | VALUES,
        "defaults": st.dictionaries(st.sampled_from(FIELDS), SCALARS | VALUES, max_size=4) | VALUES,
        "vars": st.dictionaries(st.sampled_from("AB"), SCALARS, max_size=2) | VALUES,
    },
)


@settings(max_examples=120, deadline=LONGEST)
@given(tree=TREES | VALUES, given=st.dictionaries(st.sampled_from("AB"), SCALARS, max_size=2))
def test_any_tree_is_a_plan_or_a_list_of_problems(tree, given):
    plan = survives(json.dumps(tree), **given)
    if plan is not None:
        assert source.loads(written(plan), Plan, name="written").steps is not None


@settings(max_examples=12, deadline=LONGEST)
@given(tree=TREES, piece=VALUES, times=st.integers(1, 3000))
def test_a_large_tree_is_a_plan_or_a_list_of_problems(tree, piece, times):
    """Of thousands of values everything that is not linear shows."""
    large = {**tree, "steps": [piece] * times, "vars": {f"V{i}": "${var:V1}" for i in range(times)}}
    problems = problems_of(partial(source.loads, json.dumps(large), Plan, name="f", rewrite=expand.rewriter({})))
    assert len(problems) <= 3 * source.MOST_NODES


@settings(max_examples=40, deadline=LONGEST)
@given(data=st.binary(max_size=200))
def test_any_bytes_are_text_or_a_list_of_problems(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "any.yml"
    path.write_bytes(data)
    assert all(p.line >= 0 for p in problems_of(lambda: source.load(path, Loose)))
