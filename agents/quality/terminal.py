"""A report as tables on a terminal, or as plain text in a file: `tapeline quality --format table`."""

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from tapeline.agents.quality.report import QualityReport
from tapeline.agents.quality.tables import Table, tables
from tapeline.agents.quality.words import time_of_day

ROWS_MAX = 10
STYLES = {"ok": "green", "look": "bold yellow", "unknown": "dim"}
LONG = ("Gaps", "Outliers", "Sessions")
"""Tables of which only the first rows are shown."""


def show(report: QualityReport, console: Console) -> None:
    """Print a report."""
    console.print(Text.assemble((report.instrument, "bold"), f" on {report.day} (UTC, by receive time)"))
    console.print(Text(f"{report.ticks:,} ticks from {report.source}"))
    if report.first_recv_ns is not None:
        console.print(Text(f"{time_of_day(report.first_recv_ns)} to {time_of_day(report.last_recv_ns)}"))
    findings = _plain("topic", "", "what was found", "held against")
    for one in report.verdicts:
        findings.add_row(one.topic, Text(one.finding, STYLES[one.finding]), Text(one.text), Text(one.limit, "dim"))
    console.print()
    console.print(findings)
    for table in tables(report):
        _show(table, console)


def _plain(*columns: str) -> RichTable:
    table = RichTable(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)
    for name in columns:
        table.add_column(name, overflow="fold")
    return table


def _show(table: Table, console: Console) -> None:
    console.print()
    console.print(Text(table.title, "bold underline"))
    if table.note:
        console.print(Text(table.note))
    printed = _plain()
    for at, name in enumerate(table.columns):
        printed.add_column(name, justify="left" if at == 0 else "right", overflow="fold")
    rows = table.rows[:ROWS_MAX] if table.title in LONG else table.rows
    for row in rows:
        printed.add_row(*map(Text, row))
    console.print(printed)
    if len(rows) < len(table.rows):
        console.print(Text(f"and {len(table.rows) - len(rows):,} more: --format json or html has them", "dim"))
