"""HTML and SVG that cannot be broken out of: text is escaped unless it was made here.

Names, reasons and the lines of a log come from users and models. Whatever is put into an element as a plain string is
text; only what `el` returns is markup.
"""

import html
import re
from collections.abc import Iterable

# What no document may hold, or what turns the order of the text around it: shown as a replacement character instead.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff\ufffe\uffff]"
)
_VOID = frozenset({"meta", "link", "br"})


class Markup(str):
    """A string that is markup already."""

    __slots__ = ()


Child = str | Markup | None | Iterable["Child"]


def plain(text: str) -> str:
    """The text without characters that a reader cannot see; line breaks and tabs stay."""
    return _HIDDEN.sub("\ufffd", text.replace("\r\n", "\n").replace("\r", "\n"))


def escaped(text: str) -> Markup:
    """The text as markup that shows it."""
    return text if isinstance(text, Markup) else Markup(html.escape(plain(text)))


def joined(*children: Child) -> Markup:
    """Children one after the other: strings escaped, markup as it is, None left out."""
    parts: list[str] = []
    for child in children:
        if child is None:
            continue
        parts.append(escaped(child) if isinstance(child, str) else joined(*child))
    return Markup("".join(parts))


def el(name: str, /, *children: Child, **attributes: str | float | None) -> Markup:
    """An element. `class_` is the attribute class, `view_box` is viewBox, `a_b` is a-b; those that are None are left
    out.
    """
    shown = "".join(f' {_attribute(key)}="{_quoted(value)}"' for key, value in attributes.items() if value is not None)
    if name in _VOID:
        return Markup(f"<{name}{shown}>")
    return Markup(f"<{name}{shown}>{joined(*children)}</{name}>")


def _attribute(key: str) -> str:
    return "viewBox" if key == "view_box" else key.rstrip("_").replace("_", "-")


def _quoted(value: str | float) -> str:
    """An attribute's value, escaped also where it is markup."""
    return html.escape(plain(str(value))) if isinstance(value, str) else number(value)


def number(value: float) -> str:
    """A coordinate: one decimal, and none where it is whole."""
    return f"{value:.1f}".removesuffix(".0")
