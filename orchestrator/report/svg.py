"""Charts drawn as SVG, by hand: a report opens without a network, prints, and is read by people who see no colours.

A side has its colour and its own kind of line. The drawing has a title and a description for who hears it, and each
column says its figures when pointed at. All text goes through `markup`.
"""

from orchestrator.report.axes import Axis
from orchestrator.report.charts import Chart, Line, Threshold
from orchestrator.report.markup import Markup, el, joined, number

WIDTH, HEIGHT = 440.0, 212.0
LEFT, RIGHT, TOP, BOTTOM = 50.0, 8.0, 12.0, 34.0


def figure(chart: Chart, key: str) -> Markup:
    """The chart with its title, legend and caption; `key` is unique in the document."""
    shared = f"{chart.shared}; the band goes from its lowest poll to its highest. " if chart.shared else ""
    return el(
        "figure",
        el("div", chart.title, class_="chart-title"),
        el("div", [_swatch(line) for line in chart.lines], _warm_up() if chart.bands else None, class_="legend"),
        _svg(chart, key),
        el("figcaption", f"{shared}{chart.remarks}"),
    )


def _swatch(line: Line) -> Markup:
    return _in_legend(el("path", d="M1 5H25", class_=f"line {line.class_}"), line.label)


def _warm_up() -> Markup:
    return _in_legend(el("rect", width="26", height="10", class_="warm-up"), "not counted (warm-up)")


def _in_legend(drawn: Markup, words: str) -> Markup:
    return el("span", el("svg", drawn, view_box="0 0 26 10", width="26", height="10", aria_hidden="true"), words)


def _svg(chart: Chart, key: str) -> Markup:
    what = ", ".join(line.label for line in chart.lines)
    ends = [f"{line.label}: {_ends(line, chart.axis)}" for line in chart.lines]
    described = f"{chart.title}: {what}. " + "; ".join(ends) + "."
    return el(
        "svg",
        el("title", chart.title, id=f"{key}-title"),
        el("desc", described, id=f"{key}-desc"),
        [_band(chart, begin, end) for begin, end in chart.bands],
        _grid(chart),
        [_spread(chart, line) for line in chart.lines],
        [_threshold(chart, threshold) for threshold in chart.thresholds],
        [_path(chart, line) for line in chart.lines],
        [_words(chart, threshold) for threshold in chart.thresholds],
        [_hit(chart, begin, end, text) for begin, end, text in chart.hits],
        view_box=f"0 0 {number(WIDTH)} {number(HEIGHT)}",
        role="img",
        aria_labelledby=f"{key}-title {key}-desc",
        class_="chart",
    )


def _ends(line: Line, axis: Axis) -> str:
    known = [value for _, value in line.points if value is not None]
    if not known:
        return "nothing known"
    below = [label for value, label in axis.ticks if value <= max(known)]
    return f"{len(known)} points, the highest above {below[-1]}" if below else f"{len(known)} points"


def _x(chart: Chart, seconds: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * chart.times.place(seconds)


def _y(chart: Chart, value: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * chart.axis.place(value)


def _band(chart: Chart, begin: float, end: float) -> Markup:
    left, right = _x(chart, begin), _x(chart, end)
    return el("rect", x=left, y=TOP, width=right - left, height=HEIGHT - TOP - BOTTOM, class_="warm-up")


def _grid(chart: Chart) -> Markup:
    bottom = HEIGHT - BOTTOM
    parts = []
    for value, label in chart.axis.ticks:
        y = _y(chart, value)
        parts.append(el("path", d=f"M{number(LEFT)} {number(y)}H{number(WIDTH - RIGHT)}", class_="grid"))
        parts.append(el("text", label, x=LEFT - 6, y=y + 4, class_="tick end"))
    for seconds, label in chart.times.ticks:
        x = _x(chart, seconds)
        parts.append(el("path", d=f"M{number(x)} {number(bottom)}v4", class_="axis"))
        place = "start" if x < LEFT + 8 else "end" if x > WIDTH - RIGHT - 12 else "middle"
        parts.append(el("text", label, x=x, y=bottom + 16, class_=f"tick {place}"))
    parts.append(el("path", d=f"M{number(LEFT)} {number(bottom)}H{number(WIDTH - RIGHT)}", class_="axis"))
    parts.append(el("text", "time since the step's first poll", x=WIDTH - RIGHT, y=HEIGHT - 3, class_="note end"))
    return joined(parts)


def _threshold(chart: Chart, threshold: Threshold) -> Markup:
    y = number(_y(chart, threshold.value))
    return el("path", d=f"M{number(LEFT)} {y}H{number(WIDTH - RIGHT)}", class_=f"line {threshold.class_}")


def _words(chart: Chart, threshold: Threshold) -> Markup:
    """Of a threshold: at its left end, where evidence has not risen yet; those of the uppermost stand above it."""
    y = _y(chart, threshold.value)
    upper = all(threshold.value >= other.value for other in chart.thresholds)
    above = upper and y > TOP + 14
    return el("text", threshold.label, x=LEFT + 5, y=y - 4 if above else y + 12, class_=f"note {threshold.class_}")


def _spread(chart: Chart, line: Line) -> Markup | None:
    """A stroke for each column that holds several polls, from its lowest to its highest."""
    if not line.bands:
        return None
    half = max(0.8, (WIDTH - LEFT - RIGHT) / len(line.bands) / 2 - 0.3)
    strokes = [
        f"M{number(_x(chart, at))} {number(_y(chart, low) + half / 2)}V{number(_y(chart, high) - half / 2)}"
        for at, low, high in line.bands
    ]
    return el("path", d="".join(strokes), stroke_width=2 * half, class_=f"spread {line.class_}")


def _path(chart: Chart, line: Line) -> Markup:
    """The line, broken where nothing is known; a lonely point is a short dash."""
    commands: list[str] = []
    run: list[str] = []

    def end() -> None:
        if len(run) == 1:
            commands.append(f"M{run[0]}h0.1")
        elif run:
            commands.append(f"M{'L'.join(run)}")
        run.clear()

    for seconds, value in line.points:
        if value is None:
            end()
        else:
            run.append(f"{number(_x(chart, seconds))} {number(_y(chart, value))}")
    end()
    return el("path", d="".join(commands), class_=f"line {line.class_}") if commands else Markup("")


def _hit(chart: Chart, begin: float, end: float, text: str) -> Markup:
    left, right = _x(chart, begin), _x(chart, end)
    area = el("rect", x=left, y=TOP, width=max(0.5, right - left), height=HEIGHT - TOP - BOTTOM)
    return el("g", el("title", text), area, class_="hit")
