"""Bars as a table, JSON or CSV, for `tapeline bars`."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

from tapeline.schemas import BarFlag, Instrument, Interval

FIELDS = (
    *("instrument", "interval", "start_ns", "end_ns", "number", "open", "high", "low", "close", "volume", "notional"),
    *("buy_volume", "trades", "revision", "late", "partial"),
)
"""Of JSON and CSV."""
TITLES = ("start (UTC)", "instrument", "interval", "open", "high", "low", "close", "volume", "trades", "")
_LEFT = {0, 1, 2, 9}

Row = dict[str, Any]


def row(bar: Any, instruments: Mapping[int, Instrument]) -> Row:
    """Return a bar by FIELDS. bar: one BAR record."""
    values = dict(zip(bar.dtype.names, bar.tolist(), strict=True))
    flags = values["flags"]
    named = {
        "instrument": instruments[values["instrument_id"]].name,
        "interval": str(Interval.of(values["kind"], values["size"])),
        "late": bool(flags & BarFlag.LATE),
        "partial": bool(flags & BarFlag.PARTIAL),
    }
    return {name: named[name] if name in named else values[name] for name in FIELDS}


def lines(rows: Iterable[Row], form: str) -> Iterator[str]:
    """Yield the lines of a `table`, `json` (an object a line) or `csv`, each as its row comes."""
    if form == "json":
        yield from (orjson.dumps(one).decode() for one in rows)
    elif form == "csv":
        yield ",".join(FIELDS)
        yield from map(_csv, rows)
    else:
        yield from _table(rows)


def _csv(one: Row) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(
        str(one[name]).lower() if name in ("late", "partial") else one[name] for name in FIELDS
    )
    return line.getvalue()


def _table(rows: Iterable[Row]) -> Iterator[str]:
    """Columns are as wide as what is there needs, or, of rows that come one by one, what came."""
    widths = [len(title) for title in TITLES]
    widths[0] = 23

    def padded(cells: Sequence[str]) -> str:
        for at, cell in enumerate(cells):
            widths[at] = max(widths[at], len(cell))
        aligned = (
            cell.ljust(width) if at in _LEFT else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return "  ".join(aligned).rstrip()

    for one in rows if isinstance(rows, list) else ():
        padded(_cells(one))
    yield padded(TITLES)
    for one in rows:
        yield padded(_cells(one))


def _cells(one: Row) -> list[str]:
    at = datetime.fromtimestamp(one["start_ns"] // 10**9, UTC).strftime("%Y-%m-%d %H:%M:%S")
    fraction = one["start_ns"] % 10**9 // 10**6
    words = [word for word in ("late", "partial") if one[word]]
    if one["revision"]:
        words.insert(0, f"revision {one['revision']}")
    prices = [f"{one[name]:.10g}" for name in ("open", "high", "low", "close", "volume")]
    start = f"{at}.{fraction:03}" if fraction else at
    return [start, one["instrument"], one["interval"], *prices, str(one["trades"]), ", ".join(words)]
