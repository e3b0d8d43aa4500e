"""Writes plan-reference.md from the models of the plan language, so that the page cannot say what a plan cannot.

Types, ranges, defaults and meanings come from the models; examples, and a sentence here and there, from
`plan_examples.py`. What is missing is an error: a field without a word or an example stops the generator, and with it
the tests.

    python docs/generate.py
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import plan_examples as said
from plan_words import FORMS, NAMES, TITLES, anchor, default, fields, words
from pydantic import BaseModel, Tag
from pydantic.fields import FieldInfo

from plans.gates import KINDS, GateFields
from plans.model import Plan
from plans.steps import STEPS, GatedStep, StepFields

PAGE = Path(__file__).with_name("plan-reference.md")

ORDER = ("name", "metric", "guard", "quantile", "max", "max_ratio", "max_increase")
"""Fields that come first in a table, whatever their models say."""


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


def page() -> str:
    """The whole page. Raises KeyError for a field without an example, ValueError for one without words."""
    parts = [_HEAD, _forms(), _top(), _steps(), _gates(), _others(), _not_built()]
    return "\n\n".join(part.strip() for part in parts) + "\n"


# --- tables ---------------------------------------------------------------------------------------


def table(where: str, rows: Mapping[str, FieldInfo]) -> str:
    """A table of fields; `where` is the first half of the keys of their examples."""
    lines = ["| field | value | meaning | example |", "|---|---|---|---|"]
    places = {name: at for at, name in enumerate(ORDER)}
    for name, field in sorted(rows.items(), key=lambda row: places.get(row[0], len(places))):
        meaning = said.MEANINGS.get(f"{where}.{name}") or field.description
        if not meaning:
            raise ValueError(f"{where}.{name} has no description: say in its model what it means")
        what = said.VALUES.get(f"{where}.{name}") or words(field.annotation, tuple(field.metadata))
        given = f"**required**: {what}" if field.is_required() else what
        shown = default(field)
        cells = (f"`{name}`", f"{given}<br>default {shown}" if shown else given, meaning, _lines(example(where, name)))
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def _lines(text: str) -> str:
    return "<br>".join(f"`{line}`" for line in text.splitlines())


def example(where: str, field: str) -> str:
    """The example of a field, from the nearest place that has one. Raises KeyError."""
    places = [where]
    if where in STEPS:
        places += ["gated", "step"] if issubclass(STEPS[where], GatedStep) else ["step"]
    if where in KINDS:
        places += ["gate"]
    found = next((said.EXAMPLES[f"{p}.{field}"] for p in places if f"{p}.{field}" in said.EXAMPLES), None)
    if found is None:
        raise KeyError(f"{where}.{field} has no example: add one to docs/plan_examples.py")
    return str(found)


def common(models: Mapping[str, type[BaseModel]], base: type[BaseModel]) -> list[str]:
    """Fields of `base` that every model has just so."""
    return [
        name
        for name, field in fields(base).items()
        if all(
            (own := fields(model)[name]).annotation == field.annotation and own.metadata == field.metadata
            for model in models.values()
        )
    ]


def parts() -> dict[str, type[BaseModel]]:
    """Every other model that a plan is made of, in the order of its first use."""
    found: dict[str, type[BaseModel]] = {}

    def walk(annotation: Any) -> None:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            known = annotation in (Plan, *STEPS.values(), *KINDS.values())
            if known or annotation.__name__ not in found:
                if not known:
                    found[annotation.__name__] = annotation
                for field in annotation.model_fields.values():
                    walk(field.annotation)
            return
        for argument in get_args(annotation):
            if not isinstance(argument, Tag | FieldInfo | str):
                walk(argument)

    walk(Plan)
    return found


# --- sections -------------------------------------------------------------------------------------

_HEAD = """
# The plan, field by field

This page is made from the program's own models by `docs/generate.py`; a test fails when the two differ, and loads every
example. What the words mean is in the [glossary](glossary.md), how to choose tolerances in [gates](gates.md).

`rollout validate plan.yml` checks a plan and every file that it names, without touching anything.
"""

_FORMS_HEAD = """\
## How values are written

Every value is read by the field that it stands in: `to: 17:00` is not 1020, and `on` is not `true`. A key that is not
known, or stands twice, is an error.

| value | how it is written | examples |
|---|---|---|"""

_REFERENCES = """\
| reference | the value of an environment variable or a file, read when it is sent, never stored; in \
webhooks, notifications and metrics from elsewhere only | `${env:HOOK_KEY}`, `${file:hook.key}` |
| variable | the value of one of the plan's `vars`, anywhere in the plan | `${var:share}` |"""

_STEPS_HEAD = """\
## Steps

An entry of `steps` has exactly one of the keys {kinds}, and fields beside it. Every step may have these:
"""

_GATES_HEAD = """\
## Gates

An entry of `gates` has a `metric`, {metrics}, a tolerance (`max`, or one relative to stable), and fields beside it.
Every gate may have these:
"""


def _forms() -> str:
    lines = [_FORMS_HEAD]
    lines += [f"| {name} | {how} | {examples} |" for name, (how, examples) in FORMS.items()]
    longer = {short: form for form, short in NAMES.items() if form}
    lines += [f"| {short} | {form} | |" for short, form in longer.items()]
    return "\n".join([*lines, _REFERENCES])


def _top() -> str:
    return "\n".join(
        [
            "## The whole plan",
            "",
            "With deployments by name, for one replacement of one version by another:",
            "",
            f"```yaml\n{said.BY_NAME}```",
            "",
            "With roles, for a plan that is run for every new version. The candidate takes the slot that is free:",
            "",
            f"```yaml\n{said.BY_ROLES}```",
            "",
            "## Top level",
            "",
            table("Plan", fields(Plan)),
        ]
    )


def _steps() -> str:
    shared = common(STEPS, StepFields)
    rows = {name: field for name, field in fields(StepFields).items() if name in shared}
    kinds = ", ".join(f"[`{kind}`](#{anchor(kind)})" for kind in STEPS)
    lines = [_STEPS_HEAD.format(kinds=kinds), table("step", rows)]
    for kind, model in STEPS.items():
        own = {name: field for name, field in fields(model).items() if name not in shared}
        ordered = {kind: own.pop(kind), **own}
        lines += ["", f"### {kind}", "", _summary(model), "", table(kind, ordered)]
    return "\n".join(lines)


def _gates() -> str:
    shared = [name for name in common(KINDS, GateFields) if name != "metric"]
    rows = {name: field for name, field in fields(GateFields).items() if name in shared}
    metrics = " or ".join(f"[{_shown(kind)}](#{anchor(_title(kind))})" for kind in KINDS)
    lines = [_GATES_HEAD.format(metrics=metrics), table("gate", rows)]
    for kind, model in KINDS.items():
        own = {name: field for name, field in fields(model).items() if name not in shared}
        ordered = {"metric": own.pop("metric"), **own}
        lines += ["", f"### {_title(kind)}", "", _summary(model), "", table(kind, ordered)]
    return "\n".join(lines)


def _title(kind: str) -> str:
    return TITLES.get(kind, kind)


def _shown(kind: str) -> str:
    return _title(kind).lower() if kind in TITLES else f"`{kind}`"


def _others() -> str:
    lines = ["## Parts"]
    for name, model in parts().items():
        heading, sentence = said.SECTIONS[name]
        lines += ["", f"### {heading}", "", sentence]
        if model.model_fields:
            lines += ["", table(name, fields(model))]
    return "\n".join(lines)


def _not_built() -> str:
    places = {"a plan": Plan, "a step": StepFields, "a gate": GateFields}
    lines = [f"- of {place}: {', '.join(f'`{name}`' for name in sorted(m.not_built))}" for place, m in places.items()]
    lines = [line for line in lines if not line.endswith(": ")]
    if not lines:
        return ""
    head = "## Not built yet\n\nThese words belong to the language, and this version refuses a plan that uses them:\n\n"
    return head + "\n".join(lines)


def _summary(model: type[BaseModel]) -> str:
    """The first sentence of a model's docstring."""
    return (model.__doc__ or "").strip().split("\n\n")[0].replace("\n", " ")


if __name__ == "__main__":
    main()
