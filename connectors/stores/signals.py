"""`tapeline signals`: print what the database holds, as a table for people, as JSON lines or CSV for programs."""

import csv
import io
import re
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import chain, islice
from typing import Any

import click
import orjson
from rich.console import Console
from rich.text import Text

from tapeline.connectors.stores.reader import SignalQuery, connect, read_signals
from tapeline.schemas import Signal
from tapeline.streams.options import pass_settings
from tapeline.streams.settings import Settings, database_dsn

TABLE_LIMIT = 50
_MEASURED_ROWS = 200
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS_NS = {"s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9, "d": 86400 * 10**9}
_INT64 = 2**63
_SIDE_STYLES = {"buy": "green", "sell": "red", "flat": "yellow"}
CSV_COLUMNS = [
    *(name for name in Signal.model_fields if name not in ("origin", "tags")),
    *("origin_partition", "origin_offset", "origin_index", "tags"),
]


class TimeType(click.ParamType):
    """A moment: `2024-08-08`, `2024-08-08T12:00:00.5Z`, `90s`, `15m`, `2h`, `7d` (ago), or nanoseconds since 1970."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return nanoseconds UTC."""
        try:
            return value if isinstance(value, int) else parse_time(str(value), time.time_ns())
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is no time; write 2024-08-08, 2024-08-08T12:00:00Z, 15m (ago) or nanoseconds")


def parse_time(text: str, now_ns: int) -> int:
    """Return nanoseconds UTC, within int64; a time without zone is UTC. Raises ValueError if it is no time."""
    if ago := re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)([smhd])", text, re.ASCII):
        ns = now_ns - round(float(ago[1]) * _UNITS_NS[ago[2]])
    elif re.fullmatch(r"-?\d{9,19}", text, re.ASCII):
        ns = int(text)
    else:
        moment = datetime.fromisoformat(text)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
        ns = (moment - _EPOCH) // timedelta(microseconds=1) * 1000
    return max(-_INT64, min(ns, _INT64 - 1))


def format_time(ts_ns: int) -> str:
    """Return a time in UTC to the millisecond."""
    return (_EPOCH + timedelta(microseconds=ts_ns // 1000)).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


@click.command()
@click.option("--logic", metavar="NAME", help="Only signals of this logic.")
@click.option("--instrument", metavar="PATTERN", help="Only of these instruments: venue:SYMBOL, with * ? [...].")
@click.option("--since", type=TimeType(), metavar="TIME", help="Only from this event time on.")
@click.option("--until", type=TimeType(), metavar="TIME", help="Only before this event time.")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    metavar="N",
    help=f"Only the newest N by event time  [default: {TABLE_LIMIT} in a table, else all].",
)
@click.option(
    "--format", "form", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True, help="How."
)
@pass_settings
def signals(
    settings: Settings,
    logic: str | None,
    instrument: str | None,
    since: int | None,
    until: int | None,
    limit: int | None,
    form: str,
) -> None:
    """Print the signals that the database holds, each logic's in order of seq.

    TIME is 2024-08-08, 2024-08-08T12:00:00Z, 15m (ago; s, m, h, d) or nanoseconds since 1970; without a zone it is
    UTC. JSON is one signal a line, with the fields it has in the topic `signals`.

    \b
    Examples:
      tapeline signals                                            the newest
      tapeline signals --logic ema_cross --format json            all of one logic, for programs
      tapeline signals --instrument 'binance-*:BTC*' --since 15m  of the last 15 minutes
      tapeline signals --format csv > signals.csv                 for a spreadsheet
    """
    if limit is None and form == "table":
        limit = TABLE_LIMIT
    query = SignalQuery(logic, instrument, since, until, limit)
    with connect(database_dsn(settings)) as connection:
        found = read_signals(connection, query)
        if form == "json":
            count = _write(one.encode() + b"\n" for one in found)
        elif form == "csv":
            count = _write(_csv_lines(found)) - 1
        else:
            count = _print_table(found)
    if count == 0:
        click.echo("No signals match." if query != SignalQuery(limit=limit) else "No signals yet.", err=True)
    elif form == "table" and count == limit:
        click.echo(f"The newest {count}; --limit N shows more, --format json every field.", err=True)


def _write(lines: Iterable[bytes]) -> int:
    """Write to standard output, as UTF-8 whatever the locale; return how many lines."""
    out = click.get_binary_stream("stdout")
    count = 0
    for line in lines:
        out.write(line)
        count += 1
    out.flush()
    return count


def _csv_lines(found: Iterable[Signal]) -> Iterator[bytes]:
    line = io.StringIO()
    writer = csv.writer(line, lineterminator="\n")
    for row in chain([CSV_COLUMNS], map(_csv_row, found)):
        writer.writerow(row)
        yield line.getvalue().encode()
        line.seek(0)
        line.truncate()


def _csv_row(one: Signal) -> list[Any]:
    row = one.model_dump(mode="json", exclude={"origin", "tags"})
    return [*row.values(), *one.origin.model_dump().values(), orjson.dumps(one.tags).decode()]


def _print_table(found: Iterator[Signal]) -> int:
    """Print rows as they come, in columns as wide as the first rows need."""
    console = Console(highlight=False)
    rows = (_cells(one) for one in found)
    first = list(islice(rows, _MEASURED_ROWS))
    if not first:
        return 0
    titles = ["event time (UTC)", "logic", "instrument", "seq", "side", "strength", "price"]
    widths = [max(len(row[at]) for row in [titles, *first]) for at in range(len(titles))]
    console.print(_row(titles, widths, dict.fromkeys(range(len(titles)), "bold")), soft_wrap=True)
    count = 0
    for row in chain(first, rows):
        console.print(_row(row, widths, {0: "dim", 4: _SIDE_STYLES.get(row[4], "")}), soft_wrap=True)
        count += 1
    return count


def _cells(one: Signal) -> list[str]:
    price = format(one.price, "f")
    return [
        format_time(one.ts_event_ns),
        one.logic,
        one.instrument,
        str(one.seq),
        one.side,
        f"{one.strength:.6g}",
        price,
    ]


def _row(cells: list[str], widths: list[int], styles: dict[int, str]) -> Text:
    line = Text()
    for at, (cell, width) in enumerate(zip(cells, widths, strict=True)):
        padded = cell.rjust(width) if at in (3, 5, 6) else cell.ljust(width)
        line.append(padded.rstrip() if at == len(cells) - 1 else padded, style=styles.get(at, ""))
        line.append("" if at == len(cells) - 1 else "  ")
    return line
