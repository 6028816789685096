"""A status report as text: tables for a terminal, the same without colours for a pipe. Called by `status.py`."""

import sys
from collections.abc import Iterator, Mapping

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from tapeline.streams.status_report import Report

PLAIN_COLUMNS = 200
"""For a pipe: nothing is cut there."""
LANES_MAX = 3
"""So many lanes are shown; --json has all."""


def console() -> Console:
    """Return where reports are printed."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else PLAIN_COLUMNS)


def view(report: Report) -> Group:
    """Return the report as tables, with what needs attention at the end."""
    parts: list[Table | Text] = [_partitions(report)]
    if report.roles:
        parts += [Text(), _roles(report)]
    if report.feeds:
        parts += [Text(), _feeds(report)]
    parts += _stopped(report)
    if report.problems:
        parts += [Text(), *(Text(f"! {problem}", style="yellow") for problem in report.problems)]
    return Group(*parts)


def _partitions(report: Report) -> Table:
    table = Table("role", "partition", "worker", box=None, pad_edge=False)
    for name in ("lag", "items/s", "snapshot"):
        table.add_column(name, justify="right")
    table.add_column("duplicates")
    table.add_column("state")
    for row in report.partitions:
        table.add_row(
            row.role,
            f"{row.topic} {row.partition}",
            row.worker or "-",
            _number(row.lag),
            _number(row.items_per_second),
            "-" if row.snapshot_age_seconds is None else f"{_age(row.snapshot_age_seconds)} ago",
            _lanes(row.duplicates),
            Text(row.state, style="" if row.state in ("ok", "paused", "elsewhere") else "yellow"),
        )
    return table


def _roles(report: Report) -> Table:
    table = Table("worker", "role", "process", "address", box=None, pad_edge=False)
    for name in ("partitions", "rejected", "unconfirmed", "rebalances", "restarts"):
        table.add_column(name, justify="right")
    table.add_column("watchdog")
    for row in report.roles:
        table.add_row(
            row.worker,
            row.role,
            str(row.pid),
            row.address,
            *map(_number, (row.partitions, row.rejected, row.unconfirmed_records, row.rebalances, row.restarts)),
            Text(f"{row.watchdog}: {row.reason}" if row.reason else row.watchdog, style="yellow" if row.reason else ""),
        )
    return table


def _feeds(report: Report) -> Table:
    table = Table("connection", "state", box=None, pad_edge=False)
    for name in ("messages", "messages/s", "waiting"):
        table.add_column(name, justify="right")
    table.add_column("lost, by reason")
    for row in report.feeds:
        table.add_row(
            row.source,
            Text(row.state, style="yellow" if row.state == "connecting" else ""),
            *map(_number, (row.messages, row.messages_per_second, row.waiting)),
            ", ".join(f"{reason.lower()} {count:,}" for reason, count in row.losses.items()) or "-",
        )
    return table


def _stopped(report: Report) -> Iterator[Text]:
    """One line for each other process of `tapeline up` that was started again or does not run."""
    known = {row.pid for row in report.roles}
    for one in report.processes:
        if one.pid not in known and (one.restarts or one.phase != "running"):
            yield Text(f"{one.name}: {one.phase}, {one.restarts} restarts")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _age(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.1f} s"


def _lanes(duplicates: Mapping[str, int]) -> str:
    shown = [f"{lane}: {frames:,}" for lane, frames in list(duplicates.items())[:LANES_MAX]]
    more = len(duplicates) - len(shown)
    return ", ".join(shown) + (f", {more} lanes more" if more else "") or "-"
