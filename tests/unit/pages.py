"""The pages of docs/, read as people read them: a table by the words before it, a block by the file name on its first
line."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))


def text(name: str) -> str:
    """A page."""
    return (DOCS / name).read_text("utf-8")


def sentences(name: str) -> str:
    """A page with its lines joined."""
    return re.sub(r"\s+", " ", text(name))


def table(page: str, after: str) -> list[dict[str, str]]:
    """The first table after some words: for each row its cells by their headings."""
    parts = text(page).split(after, 1)
    assert len(parts) == 2, f"docs/{page} does not say {after!r}"
    found = re.search(r"(?:^\|.*\n)+", parts[1], re.MULTILINE)
    assert found, f"docs/{page} has no table after {after!r}"
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in found[0].splitlines()]
    head, _, *body = rows
    return [dict(zip(head, row, strict=True)) for row in body]


def blocks(page: str, language: str = r"\w+") -> list[str]:
    """The code blocks of a page."""
    return re.findall(rf"^```{language}\n(.*?)^```", text(page), re.MULTILINE | re.DOTALL)


def file_block(page: str, name: str) -> str:
    """The code block that begins with `# name`."""
    found = [block for block in blocks(page) if block.startswith(f"# {name}\n")]
    assert len(found) == 1, f"docs/{page} has {len(found)} blocks `# {name}`"
    return found[0]


def check_printed(expected: str, printed: str, by: str) -> None:
    """Every line of a block is in an output, in order; `...` stands for anything, and lines may break elsewhere."""
    rest = re.sub(r"\s+", " ", printed)
    for piece in re.sub(r"\s+", " ", expected).split("..."):
        at = rest.find(piece.strip())
        assert at >= 0, f"`{by}` did not print {piece.strip()!r}:\n{printed}"
        rest = rest[at + len(piece.strip()) :]
