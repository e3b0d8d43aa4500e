"""Bad plans: every mistake that can be seen from a plan alone, and the exact words that its author gets."""

import inspect
import os
import re
import types
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Union, get_args, get_origin

import pytest
import yaml
from pydantic import BaseModel

from plans import expand, source
from plans.errors import PlanError
from plans.gates import KINDS, gate_kind
from plans.model import Plan
from plans.steps import STEPS
from tests.unit.plans_bad.corpus import BadPlan, bad_plans

CORPUS = list(bad_plans())


def complaints(text: str, overrides: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(PlanError) as caught:
        source.loads(text, Plan, name="plan.yml", rewrite=expand.rewriter(overrides or {}))
    return str(caught.value).splitlines()


@pytest.mark.parametrize("bad", CORPUS, ids=[f"{bad.theme}: {' '.join(bad.written.split())}" for bad in CORPUS])
def test_its_author_is_told(bad: BadPlan):
    assert complaints(bad.text, bad.overrides) == [f"plan.yml:{line}" for line in bad.complaints]


def test_there_are_many_and_each_is_another_one():
    assert len({bad.text for bad in CORPUS}) == len(CORPUS) >= 350
    assert all(bad.complaints for bad in CORPUS)


def test_every_complaint_is_one_sentence_for_people():
    for line in {line for bad in CORPUS for line in bad.complaints}:
        _, _, said = line.rpartition(": ") if ": " not in line else line.partition(" ")
        assert not re.search(r"Input should|pydantic|type=|\bNone\b|\bdict\b|\bstr\b|Traceback", said), line
        assert not line.endswith((".", ";", " ")), line
        assert len(line) < 320, line


# --- every field has a wrong value there ---


def models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models that a value of this type may be, or contain in a list or mapping."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in (Annotated, Union, types.UnionType, tuple, dict):
        for part in get_args(annotation):
            yield from models(part)


def definer(model: type[BaseModel], field: str) -> str:
    """Where a field is defined: a field that all steps have needs one wrong value, not one for each kind."""
    return next(c.__name__ for c in model.__mro__ if field in inspect.get_annotations(c))


def every_field(model: type[BaseModel] = Plan, seen: frozenset[str] = frozenset()) -> set[str]:
    found = set()
    for name, info in model.model_fields.items():
        found.add(f"{definer(model, name)}.{info.alias or name}")
        for below in models(info.annotation):
            if below.__name__ not in seen:
                found |= every_field(below, seen | {model.__name__})
    return found


PATH = re.compile(r"\d+:\d+: ([\w$-]+(?:\.[\w$-]+|\[\d+\]|\['.*?'\])*): (?!.* is (?:missing|no field))")


def wrong_fields(bad: BadPlan) -> Iterator[str]:
    """The fields whose values are complained about."""
    for key in [match[1] for complaint in bad.complaints if (match := PATH.match(complaint))]:
        data, below = yaml.load(bad.text, yaml.BaseLoader), [Plan]
        for word, index, text in re.findall(r"([\w$-]+)|\[(\d+)\]|\['(.*?)'\]", key):
            data = data[int(index) if index else word or text] if isinstance(data, dict | list) else None
            hits = [(m, n, i) for m in below for n, i in m.model_fields.items() if word and word in (i.alias, n)]
            yield from (f"{definer(m, n)}.{word}" for m, n, _ in hits)
            if hits:
                below = [model for _, _, info in hits for model in models(info.annotation)]
            elif isinstance(data, dict):
                kinds = [STEPS[kind] for kind in STEPS if kind in data] if index else []
                metrics = [KINDS[kind]] if (kind := str(gate_kind(data))) in KINDS else []
                below = kinds or metrics or below


def test_every_field_of_the_language_has_a_wrong_value_here():
    named = {field for bad in CORPUS if bad.theme not in ("yaml", "tags", "keys") for field in wrong_fields(bad)}
    assert every_field() - named == set()


# --- what cannot stand in a text file ---


LARGE = source.LARGEST + 1


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: None, "there is no such file"),
        (lambda path: path.mkdir(), "is a folder; name a file in it"),
        (os.mkfifo, "is not a regular file; name the file itself"),
        (lambda path: path.write_bytes(b"\x7fELF\0\0"), "is a binary file; it must be text"),
        (lambda path: path.write_bytes(b"PK\x03\x04\xff\xfe"), ":1:5: is not UTF-8 text; save it as UTF-8"),
        (lambda path: path.write_bytes("name: é".encode("latin-1")), ":1:7: is not UTF-8 text; save it as UTF-8"),
        (lambda path: path.write_bytes(b"\n" * 10_000_000), "is larger than 1 MB, which is no file of this kind"),
        (lambda path: path.write_bytes(b"a\x07"), ":1:2: the character U+0007 is not allowed; remove it"),
        (lambda path: path.write_bytes(b""), ":1:1: is empty; write something into it"),
    ],
)
def test_a_file_that_is_no_plan(tmp_path, make: Callable[[Any], object], said: str):
    path = tmp_path / "plan.yml"
    make(path)
    with pytest.raises(PlanError) as caught:
        source.load(path, Plan)
    separator = "" if said.startswith(":") else ": "
    assert str(caught.value) == f"{path}{separator}{said}"


NINE = ", ".join(["*{}"] * 9)
DOUBLING = (
    "vars: {A0: aaaaaaaaaa, " + ", ".join(f"A{i}: '${{var:A{i - 1}}}${{var:A{i - 1}}}'" for i in range(1, 40)) + "}"
)
BOMBS = {
    "billion laughs": (
        "a: &a [x,x,x,x,x,x,x,x,x]\n"
        + "".join(f"{c}: &{c} [{NINE.replace('{}', b)}]\n" for b, c in zip("abcdefgh", "bcdefghi", strict=True)),
        "more than 10000 values, each alias counted in full; make it smaller",
    ),
    "long text many times": (
        "name: &a " + "x" * 300_000 + "\nsteps: [*a, *a, *a, *a]\n",
        "more than 1 MB of text, each alias counted in full; make it smaller",
    ),
    "deep": ("steps: " + "[" * 400_000, "nested more than 50 levels deep; make it flatter"),
    "variables that double": (DOUBLING, "the variables make more than 1 MB of text"),
    "a long variable in many places": (
        f"vars: {{A: {'x' * 9_000}}}\nsteps:\n" + "".join("  - approve: ${var:A}\n" for _ in range(200)),
        "the variables make more than 1 MB of text",
    ),
    "one text with a variable in many places": (
        f"vars: {{A: {'x' * 9_000}}}\nname: &a {'${var:A}' * 30}\nslots: [{', '.join(['*a'] * 9)}]\n",
        "the variables make more than 1 MB of text",
    ),
    "a large default in many steps": (
        "defaults: {expect: {json: {"
        + ", ".join(f"k{i}: v" for i in range(1000))
        + "}}}\nsteps:\n"
        + "".join("  - test: green\n" for _ in range(500)),
        "with these defaults the plan has more than 10000 values; make it smaller",
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_small_file_that_would_be_large_is_refused(name: str):
    text, said = BOMBS[name]
    assert any(said in line for line in complaints(text))


def test_thousands_of_mistakes_are_told_in_bounded_time_and_length():
    """Whoever lists all that is allowed for each of them, or looks for what was meant, takes minutes."""
    gates = "".join(f"  gate-{i}: {{metric: latency, max: 1s}}\n" for i in range(700))
    steps = "".join(f"  - {{canary: 5%, gates: [gaet-{i}]}}\n" for i in range(700))
    found = complaints(f"endpoint: scores\ndeployments: {{green: {{file: g}}}}\ngates:\n{gates}steps:\n{steps}")
    assert len(found) == 1400  # no candidate, no such gate
    assert sum(map(len, found)) < 600_000
    assert sum("did you mean" in line for line in found) <= 101
