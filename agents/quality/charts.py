"""The day as one drawing: panels over one time axis, in SVG, without anything from outside. Called by `page`.

Pure: values in, markup out. Colours and fonts are classes that the page's style sheet names.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import floor, log10

from tapeline.agents.quality.markup import Content, Markup, element
from tapeline.agents.quality.words import time_of_day

WIDTH, LEFT, RIGHT = 960.0, 96.0, 28.0
PANEL, GAP, HEAD, FOOT, ROW = 84.0, 38.0, 30.0, 30.0, 22.0
"""Heights: of a panel, between two, above the first, of the time axis, of a row of marks."""
TIME_STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 14400)
TIMES_MAX = 10

Values = Sequence[float | None]
Format = Callable[[float], str]


@dataclass(frozen=True, slots=True)
class Panel:
    """One series over time. values: one a bin, None: nothing there; high: then it is a band from `values` to it.

    bars: drawn from zero up, else a line. marks: bins with a triangle at the top, and what they are.
    """

    title: str
    values: Values
    write: Format
    high: Values | None = None
    bars: bool = False
    marks: Sequence[bool] = ()
    mark: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """When something held: (start, end) in ns, in a row of its own."""

    title: str
    stretches: Sequence[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Span:
    """The time axis: bins of bin_ns from start_ns on."""

    start_ns: int
    bin_ns: int
    bins: int

    def x(self, ns: float) -> float:
        """Return where a moment is, within the panels."""
        share = (ns - self.start_ns) / (self.bin_ns * self.bins)
        return LEFT + min(max(share, 0.0), 1.0) * (WIDTH - LEFT - RIGHT)

    def edge(self, number: int) -> float:
        """Return where a bin begins."""
        return self.x(self.start_ns + number * self.bin_ns)


def nice_steps(low: float, high: float, most: int) -> list[float]:
    """Return round numbers from `low` to `high`, at most so many (two or more): 1, 2 or 5 x 10^n apart."""
    if high <= low:
        return [low]
    step = 10.0 ** floor(log10((high - low) / most))
    for factor in (1, 2, 5, 10, 20):
        first = floor(low / (step * factor)) + (low % (step * factor) != 0)
        steps = [(first + number) * step * factor for number in range(most + 1)]
        steps = [one for one in steps if one <= high]
        if len(steps) <= most:
            return steps
    return [low]


def drawing(span: Span, panels: Sequence[Panel], rows: Sequence[Row], notes: Sequence[str], title: str) -> Markup:
    """Return the whole drawing. notes: what a pointer shows over each bin."""
    height = HEAD + sum(PANEL + GAP for _ in panels) + len(rows) * ROW + FOOT
    bottom = height - FOOT
    parts: list[Content] = [element("title", title), list(_times(span, HEAD, bottom))]
    top = HEAD
    for panel in panels:
        parts.append(element("g", list(_panel(span, panel, top))))
        top += PANEL + GAP
    for row in rows:
        parts.append(element("g", list(_row(span, row, top - GAP / 2))))
        top += ROW
    for number, note in enumerate(notes):
        x = span.edge(number)
        width = span.edge(number + 1) - x
        parts.append(
            element("rect", element("title", note), class_="pick", x=x, y=HEAD, width=width, height=bottom - HEAD)
        )
    return element("svg", parts, viewBox=f"0 0 {WIDTH:.0f} {height:.0f}", role="img", aria_label=title)


def _text(x: float, y: float, text: str, class_: str) -> Markup:
    return element("text", text, x=x, y=y, class_=class_)


def _line(x: float, y: float, x2: float, y2: float, class_: str) -> Markup:
    return element("line", x1=x, y1=y, x2=x2, y2=y2, class_=class_)


def _times(span: Span, top: float, bottom: float) -> Iterator[Markup]:
    """Draw the time axis, with a line over all panels at round times."""
    length_s = span.bin_ns * span.bins / 1e9
    step_ns = next((one for one in TIME_STEPS_S if length_s / one <= TIMES_MAX), TIME_STEPS_S[-1]) * 1_000_000_000
    at_ns = -(-span.start_ns // step_ns) * step_ns
    digits = 0
    while at_ns <= span.start_ns + span.bin_ns * span.bins:
        x = span.x(at_ns)
        yield _line(x, top, x, bottom, "grid")
        text = time_of_day(at_ns, digits)
        yield _text(x, bottom + 18, text if step_ns < 60_000_000_000 else text[:5], "time")
        at_ns += step_ns


def _panel(span: Span, panel: Panel, top: float) -> Iterator[Markup]:
    bottom = top + PANEL
    highs = panel.values if panel.high is None else panel.high
    known = [one for one in (*panel.values, *highs) if one is not None]
    yield _text(LEFT, top - 9, panel.title, "title")
    yield _line(LEFT, bottom, WIDTH - RIGHT, bottom, "axis")
    if not known:
        yield _text(LEFT + 8, top + PANEL / 2, "nothing", "none")
        return
    low, high = 0.0 if panel.bars else min(known), max(known)
    if high == low:
        low, high = (low, high + 1) if panel.bars else (low - (abs(low) or 1) / 1e4, high + (abs(high) or 1) / 1e4)

    def y(value: float) -> float:
        return bottom - (value - low) / (high - low) * (PANEL - 6)

    for step in nice_steps(low, high, 4):
        yield _line(LEFT, y(step), WIDTH - RIGHT, y(step), "grid")
        yield _text(LEFT - 8, y(step) + 4, panel.write(step), "value")
    if panel.bars:
        yield element("path", d=_bars(span, panel.values, y, bottom), class_="bars")
    else:
        yield element("path", d=_band(span, panel.values, highs, y), class_="band")
    for number, marked in enumerate(panel.marks):
        if marked:
            x = (span.edge(number) + span.edge(number + 1)) / 2
            yield element("path", element("title", panel.mark), d=f"M{x - 5:.1f} {top - 4:.1f}h10l-5 9z", class_="mark")


def _bars(span: Span, values: Values, y: Callable[[float], float], bottom: float) -> str:
    parts = []
    for number, value in enumerate(values):
        if value:
            parts.append(
                f"M{span.edge(number):.1f} {bottom:.1f}V{y(value):.1f}H{span.edge(number + 1):.1f}V{bottom:.1f}z"
            )
    return "".join(parts)


def _band(span: Span, lows: Values, highs: Values, y: Callable[[float], float]) -> str:
    """Draw each run of known bins from its lows to its highs, as steps, at least a line thick."""
    parts = []
    run: list[tuple[int, float, float]] = []
    for number, (low, high) in enumerate(zip((*lows, None), (*highs, None), strict=True)):
        if low is not None and high is not None:
            run.append((number, y(low) + 0.75, y(high) - 0.75))
        elif run:
            there = "".join(f"V{at:.1f}H{span.edge(one + 1):.1f}" for one, _, at in run)
            back = "".join(f"V{at:.1f}H{span.edge(one):.1f}" for one, at, _ in reversed(run))
            parts.append(f"M{span.edge(run[0][0]):.1f} {run[0][1]:.1f}{there}{back}z")
            run = []
    return "".join(parts)


def _row(span: Span, row: Row, top: float) -> Iterator[Markup]:
    yield _text(LEFT - 8, top + ROW / 2 + 4, row.title, "value")
    yield _line(LEFT, top + ROW - 4, WIDTH - RIGHT, top + ROW - 4, "grid")
    for start_ns, end_ns in row.stretches:
        x = span.x(start_ns)
        width = max(span.x(end_ns) - x, 2.0)
        yield element("rect", x=x, y=top + 3, width=width, height=ROW - 9, class_="stretch")
