"""The table of a simulation as a picture: what becomes of each change, as bars with their 95% intervals.

No bar is told by its colour alone: each kind has its own texture of edges and its number beside it. Drawn with the
same parts as a report; nothing is fetched when it is opened.
"""

from collections.abc import Sequence
from typing import Literal

from orchestrator.report.html import POLICY
from orchestrator.report.markup import Markup, el, joined, number
from orchestrator.report.style import STYLE
from orchestrator.simulate.summary import Row, Share

MARKER = "<!-- made by `rollout simulate`, which may write it again -->"
"""In the first line of every picture."""

WIDTH, ROW, TOP, FOOT = 960.0, 26.0, 64.0, 40.0
LEFT, BAR = 320.0, 420.0
_KINDS: tuple[tuple[str, str], ...] = (
    ("caught", "stopped"),
    ("open", "undecided or without data"),
    ("through", "went through"),
)
_OWN = """
svg.simulation { display: block; width: 100%; height: auto; }
svg.simulation text { font: 13px system-ui, -apple-system, "Segoe UI", "Noto Sans", Roboto, Arial, sans-serif;
  fill: var(--ink); }
svg.simulation .soft { fill: var(--soft); font-size: 12px; } svg.simulation .end { text-anchor: end; }
svg.simulation .head { font-weight: 600; }
.caught { fill: var(--fail); } .open { fill: var(--limit); fill-opacity: .45; stroke: var(--limit); }
.through { fill: var(--green); fill-opacity: .35; stroke: var(--green); }
.whisker { stroke: var(--ink); stroke-width: 1.5; fill: none; }
"""


def picture(title: str, said: Sequence[str], rows: Sequence[Row], form: Literal["svg", "html"]) -> str:
    """The whole file.

    Args:
        title: of the plan. said: sentences below it, such as where the traffic came from.
        rows: of the table.
        form: an SVG image, or a page that holds it.
    """
    drawn = _svg(title, said, rows, alone=form == "svg")
    if form == "svg":
        return f"{MARKER}\n{drawn}\n"
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=POLICY),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("title", title),
        el("style", Markup(STYLE + _OWN)),
    )
    body = el("body", el("main", el("section", drawn, class_="card")))
    return f"<!DOCTYPE html>{MARKER}\n{el('html', head, body, lang='en')}\n"


def _svg(title: str, said: Sequence[str], rows: Sequence[Row], *, alone: bool) -> Markup:
    height = TOP + 18 * len(said) + ROW * (len(rows) + 1) + FOOT
    begin = TOP + 18 * len(said)
    variables = STYLE[: STYLE.index("* {")]
    return el(
        "svg",
        el("title", title),
        el("desc", "; ".join(_told(row) for row in rows)),
        el("style", Markup(variables + _OWN)) if alone else None,
        el("rect", width=WIDTH, height=height, fill="var(--card)") if alone else None,
        el("text", title, x=8, y=24, font_size="18", class_="head"),
        [el("text", sentence, x=8, y=46 + 18 * at, class_="soft") for at, sentence in enumerate(said)],
        _heads(begin),
        [_row(row, begin + ROW * (at + 1)) for at, row in enumerate(rows)],
        _legend(height - 14),
        view_box=f"0 0 {number(WIDTH)} {number(height)}",
        role="img",
        class_="simulation",
        xmlns="http://www.w3.org/2000/svg" if alone else None,
        width=WIDTH if alone else None,
        height=height if alone else None,
    )


def _heads(y: float) -> Markup:
    return joined(
        el("text", "change", x=8, y=y, class_="soft"),
        el("text", "share of rollouts", x=LEFT, y=y, class_="soft"),
        el("text", "stopped", x=LEFT + BAR + 80, y=y, class_="soft end"),
        el("text", "bad answers before", x=WIDTH - 8, y=y, class_="soft end"),
    )


def _row(row: Row, y: float) -> Markup:
    shares = {
        "caught": row.caught.rate,
        "open": row.undecided.rate + row.no_data.rate,
        "through": row.through.rate,
    }
    parts, x = [], LEFT
    for kind, _ in _KINDS:
        width = BAR * shares[kind]
        if width:
            parts.append(el("rect", x=x, y=y - 12, width=width, height=ROW - 10, class_=kind))
        x += width
    bad = f"{row.bad.median:,.0f} (p95 {row.bad.p95:,.0f})" if row.bad is not None else "-"
    return el(
        "g",
        el("title", _told(row)),
        el("text", row.change.name, x=8, y=y),
        parts,
        _whisker(row.caught, y),
        el("text", f"{100 * row.caught.rate:.1f}%", x=LEFT + BAR + 80, y=y, class_="end"),
        el("text", bad, x=WIDTH - 8, y=y, class_="end"),
    )


def _whisker(share: Share, y: float) -> Markup:
    low, high, middle = LEFT + BAR * share.low, LEFT + BAR * share.high, y - 12 + (ROW - 10) / 2
    d = f"M{number(low)} {number(middle - 4)}v8M{number(low)} {number(middle)}H{number(high)}"
    return el("path", d=f"{d}M{number(high)} {number(middle - 4)}v8", class_="whisker")


def _legend(y: float) -> Markup:
    parts, x = [], LEFT
    for kind, words in _KINDS:
        parts.append(el("rect", x=x, y=y - 10, width=12, height=12, class_=kind))
        parts.append(el("text", words, x=x + 18, y=y, class_="soft"))
        x += 40 + 7 * len(words)
    return joined(parts, el("text", "whisker: 95% interval of stopped", x=8, y=y, class_="soft"))


def _told(row: Row) -> str:
    return (
        f"{row.change.name}: stopped {row.caught.count} of {row.rollouts}, went through {row.through.count}, undecided "
        f"{row.undecided.count}, without data {row.no_data.count}"
    )
