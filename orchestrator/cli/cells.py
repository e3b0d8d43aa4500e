"""Text measured in columns of a terminal, where some characters take two and some none.

`len` and `textwrap` count characters, which is wrong for CJK text, emoji and combining accents: a table that counts so
is crooked, and a line that counts so wraps where nobody expected it.
"""

from rich.cells import cell_len, chop_cells, set_cell_size
from rich.text import Text


def pad(text: str, columns: int) -> str:
    """With spaces behind it up to so many columns; longer ones stay as they are."""
    return text + " " * (columns - cell_len(text))


def widest(texts: list[str]) -> int:
    """Columns of the widest; 0 of none."""
    return max(map(cell_len, texts), default=0)


def cut(text: str, columns: int, ellipsis: str) -> str:
    """At most so many columns, with the ellipsis, one column wide, where something was left out at the end."""
    if cell_len(text) <= columns:
        return text
    return set_cell_size(text, columns - 1) + ellipsis if columns > 0 else ""


def end_of(text: str, columns: int, ellipsis: str) -> str:
    """As `cut`, but what was left out is the beginning: of names with a version, the end tells them apart."""
    if cell_len(text) <= columns:
        return text
    return ellipsis + set_cell_size(text[::-1], columns - 1)[::-1] if columns > 0 else ""


def wrapped(text: str, columns: int) -> list[str]:
    """Lines of at most so many columns, broken between words where there are any; [] of blank text."""
    lines: list[str] = []
    line = ""
    for word in text.split():
        if line and cell_len(line) + 1 + cell_len(word) <= columns:
            line = f"{line} {word}"
            continue
        lines += [line] if line else []
        *whole, line = chop_cells(word, max(columns, 2))
        lines += whole
    return [*lines, line] if line else lines


def legible(line: Text, *, ascii_only: bool) -> None:
    """Replace what would move the cursor, or what the terminal has no sign for; the styles stay where they are.

    Names and reasons come from plans, logs and humans: an escape sequence in one must not reach the terminal.
    """
    text = line.plain
    if text.isprintable() and (not ascii_only or text.isascii()):
        return
    line.plain = "".join(
        " " if c.isspace() else c if c.isprintable() and (c.isascii() or not ascii_only) else "?" for c in text
    )
