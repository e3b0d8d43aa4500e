"""What of a JSON document is a promise, and what is only today's figure.

A program that reads `--output json` breaks when a key goes, a type changes, a word of a closed set is spelled otherwise
or a share becomes a fraction; it does not when another port is free or another request was slow. So what differs from
run to run is replaced by a word for its type, and nothing else is: what is not named here stays as it is, and a value
of another type than before leaves another word.

Sentences become `<text>`: they are for people, and `tests/messages` holds their wording.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

Json = Any

MEASURED: Mapping[str, tuple[str, ...]] = {
    "rollout": (
        "candidate.requests",
        "candidate.bad",
        "candidate.rate",
        "candidate.quantile_us",
        "stable.requests",
        "stable.bad",
        "stable.rate",
        "stable.quantile_us",
        "log_evidence_fail",
        "log_evidence_pass",
        "hold_left",
        "deadline_left",
        "driver.pid",
    ),
    "preview": (
        "clean.errors",
        "clean.requests",
        "clean.seconds",
        "usual.errors",
        "usual.requests",
        "usual.seconds",
        "available",
        "risk.bad_responses",
        "requests_per_second",
    ),
    "event": (
        "seq",
        "pid",
        "measurement",
        "candidate.requests",
        "candidate.bad",
        "candidate.rate",
        "candidate.quantile_us",
        "stable.requests",
        "stable.bad",
        "stable.rate",
        "stable.quantile_us",
        "log_evidence_fail",
        "log_evidence_pass",
        "retry_after",
    ),
    "report": ("bytes",),
    "backtest": (
        "recording.measurements",
        "requests",
        "bad_responses",
        "seconds",
        "polls",
        "first_measurement",
        "last_measurement",
        "happened.measurement",
    ),
    "simulation": (
        "count",
        "share",
        "low",
        "high",
        "rolled_back",
        "median",
        "p95",
        "size",
        "stopped_in.rollouts",
        "stopped_by.rollouts",
    ),
    "invoke": ("seconds",),
    "load": ("seconds", "rate", "statuses.200", "latency_us.p50", "latency_us.p95", "latency_us.p99"),
}
"""Document -> numbers that differ from run to run, each by the end of its path."""

CONSTANT: Mapping[str, tuple[str, ...]] = {"load": ("asked.rate", "asked.seconds")}
"""Document -> numbers that do not, although the end of their path says so."""

SENTENCES: Mapping[str, tuple[str, ...]] = {
    "rollout": ("reason", "unproven", "notes", "logs"),
    "answer": ("outcome",),
    "explanation": ("reason", "explanation", "does"),
    "preview": ("notes", "price"),
    "problems": ("message", "suggestion", "alternative"),
    "expanded": ("plan",),
    "graph": ("mermaid",),
    "backtest": ("reason", "notes", "not_judged.latency"),
    "simulation": ("notes",),
    "checks": ("found", "advice"),
    "stock": ("summary",),
    "completion": ("script",),
    "endpoint": ("busy", "problem"),
    "scaled": ("problem",),
    "invoke": ("body",),
    "logs": ("blue", "green"),
    "load": ("problem",),
    "event": ("reason", "sentence", "detail", "notes", "unproven", "progress", "where"),
}
"""Document -> texts for people, or of somebody else, each by the end of its path."""

MAPS: Mapping[str, tuple[str, ...]] = {
    "rollout": ("traffic", "mirror"),
    "preview": ("traffic", "traffic_before", "mirror", "needs"),
    "graph": ("traffic", "mirror"),
    "backtest": ("verdicts", "not_judged"),
    "simulation": ("sources",),
    "endpoint": ("traffic", "mirror", "deployments"),
    "scaled": ("before", "deployments"),
    "traffic": ("traffic", "mirror"),
    "logs": ("",),
    "load": ("statuses", "deployments"),
    "event": (
        "traffic",
        "mirror",
        "counts",
        "digests",
        "versions",
        "tags",
        "properties",
        "environment_variables",
        "options",
        "token",
    ),
}
"""Document -> objects whose keys are names that somebody chose, each by the end of its path; "" is the whole."""

WHOLE = {"event": 1000}
"""Document -> what the shares of all live traffic sum to; else 100."""

WORDS = {
    "<time>": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?\+00:00",
    "<time with Z>": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?Z",
    "<sha256>": r"\b[0-9a-f]{64}\b",
    "<id>": r"\b[0-9a-f]{32}\b",
    "<rollout>": r"\b[a-z]+(?:-[a-z]+)*-\d{8}-[0-9a-z]{5}\b",
    "<token>": r"(?<![\w/-])(?=[\w-]*[A-Z_-])[\w-]{32,43}(?![\w-])",
    "<masked>": r"\*{12}[\w-]{4}(?![\w-])",
    "127.0.0.1:<port>": r"127\.0\.0\.1:\d+",
}
"""Word -> what it stands for in a string, wherever it is."""

MOMENT = "<of the moment>"
"""The word for a value that another process may change at any moment; it says nothing of the value's type."""
TYPES = {"<time>": "time", "<time with Z>": "time", "<integer>": "integer", "<number>": "number"}


def shape(document: str, found: Json, places: Mapping[str, str]) -> Json:
    """The document with words for what varies.

    Args:
        document: which one it is.
        found: as read from JSON.
        places: text -> word, for paths and names of this machine.
    """

    def walk(value: Json, path: tuple[str, ...]) -> Json:
        if isinstance(value, dict):
            return {name: walk(each, (*path, name)) for name, each in value.items()}
        if isinstance(value, list):
            return [walk(each, path) for each in value]
        if isinstance(value, str):
            return "<text>" if value and _ends(path, SENTENCES, document) else scrubbed(value, places)
        if value is None or isinstance(value, bool):
            return value
        if _ends(path, CONSTANT, document) or not _ends(path, MEASURED, document):
            return value
        return "<integer>" if isinstance(value, int) else "<number>"

    return walk(found, ())


def scrubbed(text: str, places: Mapping[str, str]) -> str:
    """A text with words for what varies in it."""
    for place, word in sorted(places.items(), key=lambda pair: -len(pair[0])):
        # A host may be called anything, also a part of another word.
        text = text.replace(place, word) if "/" in place else word if text == place else text
    for word, pattern in WORDS.items():
        text = re.sub(pattern, word, text)
    return text


def _ends(path: tuple[str, ...], table: Mapping[str, tuple[str, ...]], document: str) -> bool:
    dotted = "." + ".".join(path)
    return any(dotted.endswith(f".{end}") if end else not path for end in table.get(document, ()))


# --- units ------------------------------------------------------------------------------------------


def misfits(document: str, found: Json) -> Iterator[str]:
    """What breaks the promises that hold in every document: units, ranges, no number that is none."""
    for path, value in _all(found, ()):
        name, where = path[-1] if path else "", ".".join(path)
        if name in ("traffic", "traffic_before") and isinstance(value, dict) and path[-2:-1] != ("spec",):
            whole = WHOLE.get(document, 100)
            if sum(value.values()) not in (0, whole) or not all(
                isinstance(each, int | float) for each in value.values()
            ):
                yield f"{where}: {value} sums neither to 0 nor to {whole}"
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        if name in ("rate", "errors") and path[-2:] != ("asked", "rate") and document != "load" and not 0 <= value <= 1:
            yield f"{where}: {value} is no rate from 0 to 1"
        if any(part.endswith("_us") for part in path) and not isinstance(value, int):
            yield f"{where}: {value} is no whole number of microseconds"
        if name in ("seconds", "hold", "deadline", "interval", "hold_left", "deadline_left") and value < 0:
            yield f"{where}: {value} s is less than nothing"


def _all(value: Json, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Json]]:
    yield path, value
    if isinstance(value, dict):
        for name, each in value.items():
            yield from _all(each, (*path, name))
    if isinstance(value, list):
        for each in value:
            yield from _all(each, path)


# --- keys and types ---------------------------------------------------------------------------------

PARTS: Mapping[str, Mapping[str, str]] = {
    "rollout": {"gates": "gate", "waiting": "waiting"},
    "preview": {"clean": "need", "usual": "need"},
    "event": {
        "body": "",
        "action": "",
        "operation": "operation",
        "waiting": "waiting",
        "expected": "standing",
        "before": "standing",
        "after": "standing",
        "left": "standing",
        "found": "standing",
    },
}
"""Document -> objects that have a table of their own, each by the end of its path; "": that of their `kind`."""

OPAQUE: Mapping[str, tuple[str, ...]] = {"event": ("spec", "token")}
"""Document -> objects whose keys are somebody else's, each by the end of its path."""

Keys = dict[str, dict[str, set[str]]]
"""Table -> key, as the page names it -> types that it was seen with."""


def keys(document: str, shaped: Json) -> Keys:
    """Every key of a shaped document, in the table of the part of the page that it belongs to.

    `steps[].name` is in each item of a list, `deployments.*.healthy` in each value of a map. A list or map of plain
    values is one key: `list of strings`.
    """
    found: Keys = {}

    def walk(value: Json, table: str, shown: str, path: tuple[str, ...]) -> None:
        if value == MOMENT:
            return
        is_map = _ends(path, MAPS, document)
        if shown:
            found.setdefault(table, {}).setdefault(shown, set()).add(_type(value, is_map=is_map))
        if _ends(path, OPAQUE, document):
            return
        if isinstance(value, list):
            for each in value:
                if isinstance(each, dict):
                    inside(each, table, f"{shown}[].", path)
        elif is_map:
            for name, each in (value or {}).items():
                if isinstance(each, dict):
                    inside(each, table, f"{shown}.*.", (*path, name))
        elif isinstance(value, dict):
            inside(value, table, f"{shown}." if shown else "", path)

    def inside(value: dict[str, Json], table: str, prefix: str, path: tuple[str, ...]) -> None:
        ends = PARTS.get(document, {})
        if path and path[-1] in ends:
            table, prefix = ends[path[-1]] or str(value["kind"]), ""
            value = {name: each for name, each in value.items() if ends[path[-1]] or name != "kind"}
            found.setdefault(table, {})
        for name, each in value.items():
            walk(each, table, prefix + name, (*path, name))

    walk(shaped, document, "*" if _ends((), MAPS, document) else "", ())
    return found


def _type(value: Json, *, is_map: bool = False) -> str:
    if isinstance(value, dict):
        return f"map{_of(list(value.values()))}" if is_map else "object"
    if isinstance(value, list):
        return f"list{_of(value)}"
    if isinstance(value, str):
        return TYPES.get(value, "string")
    names = {bool: "boolean", int: "integer", float: "number", type(None): "null"}
    return names[type(value)]


def _of(values: list[Json]) -> str:
    kinds = {_type(value) for value in values}
    if kinds == {"integer", "number"}:
        kinds = {"number"}
    return f" of {' and '.join(sorted(kinds))}s" if kinds else ""
