"""One self-contained HTML page of a report: `tapeline quality --format html`. Pure: a report in, text out.

No script, no font, no picture from outside, and a policy that forbids them. What a drawing shows is in a table too.
"""

from collections.abc import Sequence

from tapeline.agents.quality.charts import Panel, Row, Span, drawing
from tapeline.agents.quality.markup import Content, Markup, element
from tapeline.agents.quality.report import QualityReport, Stretches, Timeline
from tapeline.agents.quality.style import STYLE
from tapeline.agents.quality.tables import Table, tables
from tapeline.agents.quality.words import length, many, number, time_of_day

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
LONG_ROWS = 20
"""A table with more of them scrolls."""
SIGNS = {"ok": "✓", "look": "!", "unknown": "?"}


def page(report: QualityReport) -> str:
    """Return the page, a whole HTML document."""
    title = f"{report.instrument} on {report.day}: quality of its ticks"
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'),
        element("title", title),
        element("style", Markup(STYLE)),
    )
    body = element(
        "body",
        _header(report),
        element("main", _findings(report), _course(report), *(_section(one) for one in tables(report))),
        element("footer", element("p", "Made by tapeline quality. What each rule says: docs/quality.md.")),
    )
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"


def _header(report: QualityReport) -> Markup:
    facts = [
        ("Day", f"{report.day} (UTC, by receive time)"),
        ("Ticks", f"{report.ticks:,}"),
        ("From", time_of_day(report.first_recv_ns)),
        ("To", time_of_day(report.last_recv_ns)),
        ("Read from", report.source),
    ]
    pairs = [element("div", element("dt", name), element("dd", value)) for name, value in facts]
    return element("header", element("h1", report.instrument), element("dl", pairs))


def _findings(report: QualityReport) -> Markup:
    rows = [
        element(
            "tr",
            element("th", one.topic, scope="row"),
            element("td", element("span", f"{SIGNS[one.finding]} {one.finding}", class_=f"badge {one.finding}")),
            element("td", one.text),
            element("td", one.limit),
        )
        for one in report.verdicts
    ]
    looks = sum(one.finding == "look" for one in report.verdicts)
    caption = f"{many(looks, 'topic')} to look at" if looks else "Nothing to look at"
    return element(
        "section",
        element("h2", "Findings"),
        _table(caption, ("topic", "finding", "what was found", "held against"), rows),
    )


def _course(report: QualityReport) -> Markup:
    line = report.timeline
    if line is None:
        return element("section", element("h2", "Over the day"), element("p", "There are no ticks."))
    span = Span(line.start_ns, line.bin_ns, len(line.trades))
    title = f"Ticks of {report.instrument} over {report.day}, in bins of {length(line.bin_ns)}"
    picture = drawing(span, _panels(line), _rows(report), _notes(line), title)
    columns = ("from", "trades", "quotes", "levels", "outliers", "gaps", "price", "latency")
    cells = [element("tr", [element("td", cell) for cell in row]) for row in _bins(line)]
    return element(
        "section",
        element("h2", "Over the day"),
        element("p", f"Bins of {length(line.bin_ns)}, UTC. At the bottom: gaps, and the longest stretches."),
        element("div", picture, class_="drawing", tabindex="0", role="region", aria_label="The drawing, scrolls"),
        element("details", element("summary", "The same as a table"), _table(title, columns, cells)),
    )


def _a_second(counts: Sequence[int], bin_ns: int) -> list[float | None]:
    return [count * 1e9 / bin_ns for count in counts]


def _panels(line: Timeline) -> list[Panel]:
    panels = [
        Panel(f"{name} a second", _a_second(counts, line.bin_ns), number, bars=True)
        for name, counts in (("Trades", line.trades), ("Quotes", line.quotes), ("Book levels", line.levels))
        if any(counts)
    ]
    outliers = [count > 0 for count in line.outliers]
    title = "Price, lowest to highest" + (" (▾ outliers, left out)" if any(outliers) else "")
    panels.append(Panel(title, line.price_low, number, line.price_high, marks=outliers, mark="outliers"))
    if any(one is not None for one in line.latency_min_ns):
        panels.append(Panel("Smallest latency: our clock against the venue's", line.latency_min_ns, _ms))
        panels.append(Panel("Largest latency", line.latency_max_ns, _ms))
    return panels


def _ms(value: float) -> str:
    """Write ns at an axis: all in one unit, so that steps can be compared."""
    return f"{value / 1e6:,.10g} ms"


def _rows(report: QualityReport) -> list[Row]:
    rows = [Row("gaps", [(one.recv_ns, one.recv_ns) for one in report.gaps.listed])]

    def add(title: str, found: Stretches | None) -> None:
        if found is not None and found.count:
            rows.append(Row(title, [(one.start_ns, one.end_ns) for one in found.longest]))

    add("no sync", report.gaps.book_unsynchronised)
    add("quiet", report.rates.quiet)
    add("closed", report.sessions.closed)
    if report.stale is not None:
        add("stale", report.stale.stretches)
    if report.quotes is not None:
        add("crossed", report.quotes.crossed_stretches)
        add("locked", report.quotes.locked_stretches)
        add("one-sided", report.quotes.one_sided_stretches)
    return [row for row in rows if row.stretches]


def _bins(line: Timeline) -> list[tuple[str, ...]]:
    """Return each bin's cells as text."""
    rows = []
    for at in range(len(line.trades)):
        low, high = line.price_low[at], line.price_high[at]
        least, most = line.latency_min_ns[at], line.latency_max_ns[at]
        counts = (line.trades[at], line.quotes[at], line.levels[at], line.outliers[at], line.gaps[at])
        rows.append(
            (
                time_of_day(line.start_ns + at * line.bin_ns, 0),
                *(f"{count:,}" for count in counts),
                "-" if low is None else f"{number(low)} to {number(high)}",
                "-" if least is None else f"{length(least)} to {length(most)}",
            )
        )
    return rows


def _notes(line: Timeline) -> list[str]:
    notes = []
    for start, trades, quotes, levels, outliers, gaps, price, latency in _bins(line):
        text = f"{start}\ntrades {trades}, quotes {quotes}, levels {levels}\nprice {price}\nlatency {latency}"
        notes.append(text + (f"\noutliers {outliers}, gaps {gaps}" if (outliers, gaps) != ("0", "0") else ""))
    return notes


def _section(table: Table) -> Markup:
    rows = [
        element("tr", element("th", row[0], scope="row"), [element("td", cell) for cell in row[1:]])
        for row in table.rows
    ]
    note: Content = element("p", table.note) if table.note else ""
    return element("section", element("h2", table.title), note, _table(table.title, table.columns, rows))


def _table(caption: str, columns: Sequence[str], rows: Sequence[Markup]) -> Markup:
    head = element("thead", element("tr", [element("th", column, scope="col") for column in columns]))
    inner = element("table", element("caption", caption), head, element("tbody", rows))
    class_ = "table long" if len(rows) > LONG_ROWS else "table"
    return element("div", inner, class_=class_, tabindex="0", role="region", aria_label=caption)
