"""A plan's text with some of its values removed or replaced, and everything else, comments too, as its author wrote it.

For answers such as "this provider could run: ...": what a person reads there should be their own plan, not ours.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import yaml


@dataclass(frozen=True, slots=True)
class Change:
    """What is to become of the value at a path of keys and indices: `text` instead of it, or None to remove it."""

    at: tuple[int | str, ...]
    text: str | None = None


def changed(text: str, changes: Iterable[Change]) -> str:
    """The text with all changes made. It must be valid YAML, and every path must lead to something in it.

    A removed item of a block list goes with its lines; one of a flow list (`[a, b]`) with its comma.
    """
    root = yaml.compose(text, yaml.SafeLoader)
    spans = sorted((_span(text, root, change) for change in changes), reverse=True)
    for begin, end, new in spans:
        text = text[:begin] + new + text[end:]
    return text


def _span(text: str, root: yaml.Node | None, change: Change) -> tuple[int, int, str]:
    node, parent = root, root
    for step in change.at:
        parent = node
        if isinstance(node, yaml.MappingNode):
            node = next(value for key, value in node.value if key.value == step)
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int):
            node = node.value[step]
        else:
            raise LookupError(f"nothing at {change.at}")
    assert node is not None
    begin, end = node.start_mark.index, node.end_mark.index
    if change.text is not None:
        return begin, begin + len(text[begin:end].rstrip()), change.text
    if isinstance(parent, yaml.SequenceNode) and parent.flow_style:
        comma = text[end:].lstrip()[:1] == ","
        return begin, text.index(",", end) + 1 if comma else end, ""
    return _lines(text, begin, begin + len(text[begin:end].rstrip()))


def _lines(text: str, begin: int, end: int) -> tuple[int, int, str]:
    """From the beginning of the first line to the end of the last: a block item without what comes after it."""
    newline = text.find("\n", end)
    return text.rfind("\n", 0, begin) + 1, len(text) if newline < 0 else newline + 1, ""
