"""A plan as the loader reads it, and as an editor does before it asks the schema: with the types of YAML 1.2."""

import functools
import re
from typing import Any, ClassVar

import yaml
from jsonschema import Draft202012Validator

from plans import expand, source
from plans.errors import PlanError
from plans.model import Plan
from plans.schema import schema


def complaints(text: str, **overrides: str) -> list[str]:
    """What the loader has to say, without the places."""
    try:
        source.loads(text, Plan, name="plan.yml", rewrite=expand.rewriter(overrides))
    except PlanError as error:
        return [problem.message for problem in error.problems]
    return []


class Core(yaml.SafeLoader):
    """YAML 1.2's core schema; PyYAML's own is 1.1, to which `on` is true."""

    yaml_implicit_resolvers: ClassVar[dict[str, list[Any]]] = {}


for tag, pattern in {
    "null": r"~|null|Null|NULL|",
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+",
    "float": r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
}.items():
    Core.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(f"^(?:{pattern})$"), None)


def typed(text: str) -> Any:
    """A plan as an editor sees it: numbers, flags and nothing where they stand unquoted; keys are text."""
    return _plain(yaml.compose(text, Core))


def _plain(node: yaml.Node | None) -> Any:
    if isinstance(node, yaml.MappingNode):
        return {str(key.value): _plain(value) for key, value in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [_plain(value) for value in node.value]
    match node.tag.rpartition(":")[2] if node is not None else "null":
        case "null":
            return None
        case "bool":
            return node.value.lower() == "true"
        case "int" if node.value.startswith("0o"):
            return int(node.value, 8)
        case "int":
            return int(node.value, 16 if node.value.startswith("0x") else 10)
        case "float":
            return float(node.value.replace(".inf", "inf").replace(".nan", "nan").lower())
        case _:
            return node.value


@functools.cache
def validator() -> Draft202012Validator:
    return Draft202012Validator(schema())


def objections(text: str) -> list[str]:
    """What the schema has to say."""
    return [f"{error.json_path}: {error.message}" for error in validator().iter_errors(typed(text))]
