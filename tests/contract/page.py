"""docs/json.md as it stands: its tables, and how they are written anew without losing their words.

Keys and types come from the snapshots, and types from the program's own classes where there is one; the words are
people's, and stand in the page alone.
"""

import dataclasses
import re
import types
import typing
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from orchestrator import events as ev
from orchestrator.cli.checks import Check
from orchestrator.gates.judge import Figures, Judgement, Verdict
from orchestrator.standing import Intent, Roles, Snapshot, Split, Waiting
from orchestrator.views import CurrentStep, DriverView, FiguresView, GateView, RolloutView, StepView
from plans.errors import Problem
from providers import actions
from providers.base import Claim, DeploymentState, EndpointState, Operation
from providers.specs import ResolvedDeployment
from tests.contract.kept import all_of_them
from tests.contract.shapes import Keys, keys

PAGE = Path(__file__).resolve().parents[2] / "docs" / "json.md"
HEAD = "| key | type | meaning |\n|---|---|---|\n"

BODIES: Mapping[str, type] = {
    body.__dataclass_fields__["kind"].default: body for body in get_args(get_args(ev.Body)[0])
}
ACTIONS: Mapping[str, type] = {
    action.__dataclass_fields__["kind"].default: action for action in get_args(get_args(actions.Action)[0])
}
CLASSES: Mapping[tuple[str, str], type] = {
    ("rollout", ""): RolloutView,
    ("rollout", "step."): CurrentStep,
    ("rollout", "steps[]."): StepView,
    ("rollout", "driver."): DriverView,
    ("gate", ""): GateView,
    ("gate", "candidate."): FiguresView,
    ("gate", "stable."): FiguresView,
    ("waiting", ""): Waiting,
    ("standing", ""): Snapshot,
    ("operation", ""): Operation,
    ("event", ""): ev.Event,
    ("started", "roles."): Roles,
    ("started", "roles.baseline."): Split,
    ("intended", "intent."): Intent,
    ("measured", "judgement."): Judgement,
    ("measured", "judgement.verdicts[]."): Verdict,
    ("measured", "judgement.verdicts[].candidate."): Figures,
    ("measured", "judgement.verdicts[].stable."): Figures,
    ("put_deployment", "deployment."): ResolvedDeployment,
    ("checks", ""): Check,
    ("problems", "problems[]."): Problem,
    ("endpoint", "deployments.*."): DeploymentState,
    ("scaled", "deployments.*."): DeploymentState,
    ("endpoint", "claim."): Claim,
    **{(kind, ""): body for kind, body in (*BODIES.items(), *ACTIONS.items())},
}
"""(table, beginning of its keys) -> the class that they are fields of."""

ENDPOINT = {"url", "busy", "problem", "claim"}
"""Keys of the document `endpoint` that are fields of the provider's EndpointState as they are."""


NOT_AS_DECLARED: Mapping[tuple[str, str], set[str]] = {
    # Left out where it makes no sense, and there otherwise.
    ("gate", "candidate.quantile_us"): {"integer"},
    ("gate", "stable.quantile_us"): {"integer"},
    # An infinite one has no JSON.
    ("measured", "judgement.verdicts[].log_evidence_fail"): {"number", "null"},
    ("measured", "judgement.verdicts[].log_evidence_pass"): {"number", "null"},
}
"""(table, key) -> its types, where the class does not tell them."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One key of a table: its types, the meaning in words."""

    types: frozenset[str]
    meaning: str


def tables(text: str | None = None) -> dict[str, dict[str, Row]]:
    """Every table of keys in the page: the name in its heading -> key -> row."""
    found = {}
    for name, section in sections(PAGE.read_text("utf-8") if text is None else text).items():
        _, head, body = section.partition(HEAD)
        if head:
            rows = re.findall(r"^\| `([^`]+)` \| (.*?) \| ?(.*?) ?\|$", body, re.MULTILINE)
            found[name] = {key: Row(frozenset(kinds.split(" or ")), meaning) for key, kinds, meaning in rows}
    return found


def sections(text: str) -> dict[str, str]:
    """The name in a heading -> what stands below it, up to the next heading."""
    return dict(re.findall(r"^#+ `([a-z_]+)`\n(.*?)(?=^#|\Z)", text, re.DOTALL | re.MULTILINE))


def observed() -> Keys:
    """Every key of every snapshot, with the types that it was seen with."""
    found: Keys = {}
    for snapshot in all_of_them():
        for document in snapshot.documents:
            for table, rows in keys(snapshot.document, document).items():
                known = found.setdefault(table, {})
                for key, kinds in rows.items():
                    known.setdefault(key, set()).update(kinds)
    return found


def declared(table: str) -> dict[str, set[str]]:
    """The types of a table's keys as the program's classes have them, of those that are fields of one."""
    found = {}
    for (where, prefix), kind in CLASSES.items():
        if where == table:
            hints = typing.get_type_hints(kind)
            found |= {f"{prefix}{name}": _types(hint) for name, hint in hints.items()}
    if table == "endpoint":
        found |= {key: _types(hint) for key, hint in typing.get_type_hints(EndpointState).items() if key in ENDPOINT}
    return found | {key: kinds for (where, key), kinds in NOT_AS_DECLARED.items() if where == table}


def closed(table: str) -> dict[str, tuple[str, ...]]:
    """The words that a key of a class can have, of those that have a closed set of them."""
    found: dict[str, tuple[str, ...]] = {}
    for (where, prefix), kind in CLASSES.items():
        for name, hint in typing.get_type_hints(kind).items() if where == table else ():
            words = _words(hint)
            if (words and name != "kind") or (where, name) == ("waiting", "kind"):
                found[f"{prefix}{name}"] = words
    return found


def _words(hint: Any) -> tuple[str, ...]:
    if get_origin(hint) is Literal:
        return get_args(hint)
    if get_origin(hint) in (typing.Union, types.UnionType):
        return tuple(word for each in get_args(hint) for word in _words(each))
    return ()


def _types(hint: Any) -> set[str]:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return set().union(*(_types(each) for each in arguments))
    if origin is typing.Annotated:
        return _types(arguments[0])
    if origin is Literal:
        return {"string"}
    if origin is tuple:
        return {f"list of {next(iter(_types(arguments[0])))}s"}
    if isinstance(origin, type) and issubclass(origin, Mapping):
        values = {"string"} if arguments[1] is Any else _types(arguments[1])
        return {f"map of {next(iter(values))}s"}
    plain = {str: "string", bool: "boolean", int: "integer", float: "number", datetime: "time", types.NoneType: "null"}
    return {plain.get(hint, "object")}


def fits(seen: set[str], said: frozenset[str] | set[str]) -> bool:
    """Whether everything that was seen is what a row says."""

    def one(kind: str) -> bool:
        wider = {kind, kind.replace("integer", "number")}
        empty = kind in ("list", "map") and any(each.startswith(kind) for each in said)
        return bool(wider & said) or empty

    return all(map(one, seen))


def shown(kinds: set[str] | frozenset[str]) -> str:
    """Types as a cell has them."""
    return " or ".join(sorted(kinds, key=lambda kind: (kind == "null", kind)))


def written(text: str) -> str:
    """The page with its tables written anew: keys and types as they are now, meanings as they were."""
    known, rest = tables(text), observed()
    for name, section in sections(text).items():
        rows = rest.pop(name, None)
        if not rows:
            continue
        before, head, after = section.partition(HEAD)
        after = re.sub(r"\A(\|.*\n)*", "", after)
        made = f"{before}{HEAD if head else chr(10) + HEAD}{_rows(name, rows, known.get(name, {}))}{after}"
        text = text.replace(section, made, 1)
    for name, rows in rest.items():
        text += f"\n### `{name}`\n" + (f"\n{HEAD}{_rows(name, rows, {})}" if rows else "")
    return text


def _rows(table: str, rows: dict[str, set[str]], known: Mapping[str, Row]) -> str:
    said = declared(table)
    lines = []
    for key in _in_order(rows):
        seen = rows[key]
        old = known.get(key, Row(frozenset(), ""))
        kinds = said.get(key) or (set(old.types) if fits(seen, old.types) else _merged(seen))
        lines.append(f"| `{key}` | {shown(kinds)} | {old.meaning} |\n")
    return "".join(lines)


def _in_order(found: Mapping[str, object]) -> list[str]:
    """Keys as a person reads them: what is inside an object right after the object."""
    places: dict[str, int] = {}

    def place(key: str) -> tuple[int, ...]:
        parts = key.replace("[]", "").split(".")
        return tuple(places.setdefault(".".join(parts[: n + 1]), len(places)) for n in range(len(parts)))

    return sorted(found, key=place)


def _merged(seen: set[str]) -> set[str]:
    """Without the empty list beside a list of something, and without whole numbers beside numbers."""
    kinds = {kind for kind in seen if not any(other.startswith(f"{kind} of") for other in seen)}
    return {kind for kind in kinds if "integer" not in kind or kind.replace("integer", "number") not in kinds}
