"""docs/messages.md, made from the catalogue: every message with what to do, for whoever searches for one.

python -m tests.messages.page
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.messages.catalogue import THEMES
from tests.messages.entry import NOTHING, Message

PAGE = Path(__file__).resolve().parents[2] / "docs" / "messages.md"
HEAD = """\
# Messages

Every message for people, with the situation that causes it, how things stand then, and what to do. Search for words of
the one that you see; names, numbers and shares are those of an example: endpoint `shop`, where green takes over from
blue. `<id>`, `<digest>`, `<time>`, `<folder>` and the like stand for what changes.

On a terminal each begins with `rollout: ` and goes to stderr. *Exit* is the exit code of the command; a dash says that
the words are part of a longer message, mostly after the name of a step. The codes: 2 usage or an invalid plan, 3 try
again, 1 rolled back, 4 a human is needed, 5 failed.

This page is made from the catalogue of the tests (`tests/messages`), which causes each of them.
"""
COLUMNS = "| what is said | exit | when | what stands | what to do |\n|---|---|---|---|---|"
LONGEST = 3
"""Lines of a message that are shown."""


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for theme, entries in THEMES.items():
        parts.append(f"## {theme}\n\n{COLUMNS}\n" + "\n".join(_rows(entries)))
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _rows(entries: Sequence[Message]) -> Iterator[str]:
    """One for each message; situations that cause the same share one."""
    same: dict[tuple[str, ...], list[Message]] = {}
    for entry in sorted(entries, key=_order):
        code = "-" if entry.code is None else str(entry.code)
        stands = entry.stands if entry.code is not None or entry.stands != NOTHING else "-"
        same.setdefault((_code(entry.says), code, _plain(stands), _plain(entry.advice)), []).append(entry)
    for (said, code, stands, advice), causes in same.items():
        when = "<br>".join(dict.fromkeys(_plain(entry.when) for entry in causes))
        yield f"| {said} | {code} | {when} | {stands} | {advice} |"


def _order(entry: Message) -> tuple[str, str]:
    """As one looks for it: by its first words, after the place in a file."""
    words = re.sub(r"^\S+:\d+:\d+: \S+: ", "", entry.says)
    return words.lstrip("`$<-'").lower(), entry.when


def _code(text: str) -> str:
    lines = text.splitlines()
    shown = lines if len(lines) <= LONGEST else [*lines[: LONGEST - 1], "..."]
    return "<br>".join(f"`` {line} ``" for line in shown if line).replace("|", "\\|")


def _plain(text: str) -> str:
    """Text for a cell, with what looks like a tag as it is."""
    first = text.splitlines()[0] if text else ""
    return first.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
