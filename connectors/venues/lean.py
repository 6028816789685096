"""Tick files of QuantConnect's LEAN: equity trades and quotes, FX quotes, as ticks.

Called by `parse_frame` for sources `lean/...`. A message is a CSV line as it stands in the file (LEAN "Data" folder,
tick resolution); what a line alone does not say stands in the source, `lean/SECURITY-MARKET/SYMBOL/YYYYMMDD/KIND`:

    equity trade  ms, price x 10000, size, exchange, conditions, suspicious       ms since midnight in New York
    equity quote  ms, bid x 10000, size, ask x 10000, size, exchange, conditions, suspicious
    forex quote   ms, bid, ask                                                    ms since midnight UTC

sequence is the line's number in the file, from 1. suspicious = 1 sets OUTLIER. A quote price of 0 is one that was not
given (ONE_SIDED); FX says no sizes (0). Receive times were not recorded: they are the running maximum of event times.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from typing import Literal, cast
from zoneinfo import ZoneInfo

import numpy as np

from tapeline.connectors.venues.assembly import UNSCANNED, Assembly, flag_inexact, flag_quotes, set_flag
from tapeline.connectors.venues.columns import MalformedError, decimals
from tapeline.connectors.venues.contract import Parsed, Sequences, Venue
from tapeline.connectors.venues.shapes import (
    CELL,
    EVENT_BITS,
    Column,
    Field,
    Scanner,
    bits,
    decimal,
    ends,
    integer,
    sets,
)
from tapeline.schemas import Flag, Kind, RawFrame, RejectReason, Ticks, empty_ticks
from tapeline.schemas.frames import Int64Array

EQUITY_SCALE = 10_000
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
MS = 1_000_000
INTEGER_DIGITS_MAX = 15
"""Of prices and sizes: a float64 holds them exactly."""

DATE = re.compile(r"[0-9]{8}")

What = Literal["trade", "quote"]
Fields = list[str]


@dataclass(frozen=True, slots=True)
class LeanFile:
    """What a tick file holds; date: YYYYMMDD, in the time zone of its times."""

    security: Literal["equity", "forex"]
    market: str
    symbol: str
    date: str
    what: What

    @property
    def connection(self) -> str:
        """The source without the venue."""
        return f"{self.security}-{self.market}/{self.symbol}/{self.date}/{self.what}"

    @classmethod
    def of(cls, connection: str) -> "LeanFile":
        """Read what `connection` wrote; raise ValueError that says what is wrong and what would be right."""
        right = "SECURITY-MARKET/SYMBOL/YYYYMMDD/KIND, such as equity-usa/spy/20131007/trade"
        parts = connection.split("/")
        if len(parts) != 4 or not all(parts):
            raise ValueError(f"{connection!r} is not {right}")
        (security, _, market), (symbol, date, what) = parts[0].partition("-"), parts[1:]
        if (security, what) not in LINES or (security == "equity" and market != "usa") or not market:
            raise ValueError(
                f"{security}-{market} {what} is not read here: equity-usa trade and quote are, and forex-MARKET quote"
            )
        try:
            if not DATE.fullmatch(date):  # strptime would take 2013107 too
                raise ValueError
            datetime.strptime(date, "%Y%m%d").replace(tzinfo=UTC)
        except ValueError:
            raise ValueError(f"{date!r} in {connection!r} is no date; write {right}") from None
        return cls(cast(Literal["equity", "forex"], security), market, symbol, date, cast(What, what))

    def offsets_ns(self) -> Int64Array:
        """Return, for each of the day's 24 hours, what to add to ms since midnight x 1e6 for ns since 1970."""
        return _offsets_ns(self.date, "America/New_York" if self.security == "equity" else "UTC")


@lru_cache(maxsize=64)
def _offsets_ns(date: str, zone: str) -> Int64Array:
    # By the hour, because clocks change within a day; an hour that comes twice is taken as its first.
    day = datetime.strptime(date, "%Y%m%d").replace(tzinfo=UTC)
    midnight_ns = int(day.timestamp()) * 1_000_000_000
    hours = [(day + timedelta(hours=hour)).replace(tzinfo=ZoneInfo(zone)) for hour in range(24)]
    utc_offsets = [cast(timedelta, hour.utcoffset()) for hour in hours]
    return np.array([midnight_ns - offset // timedelta(microseconds=1) * 1000 for offset in utc_offsets], np.int64)


@lru_cache(maxsize=64)
def _file_of(source: str) -> LeanFile:
    return LeanFile.of(source.partition("/")[2])


def event_ns(file: LeanFile, ms: Int64Array) -> Int64Array:
    """Return ns since 1970 of times in ms since midnight, each 0 to DAY_MS - 1."""
    return file.offsets_ns()[ms // HOUR_MS] + ms * MS


def parse(frame: RawFrame, state: Sequences, *, scanned: bool = True) -> Parsed:
    """Return the ticks of one frame (see `contract`); nothing is remembered in `state`.

    scanned: whether lines of known shapes are scanned. That changes nothing but the time it takes.
    """
    try:
        file = _file_of(frame.source)
    except ValueError as error:
        assembly = Assembly("lean", frame, state)
        assembly.reject_all(RejectReason.UNKNOWN, f"source {frame.source}: {error}"[:300])
        return assembly.parsed()
    scanner = SCANNERS[file.security, file.what] if scanned else UNSCANNED
    assembly = Assembly("lean", frame, state, scanner=scanner, symbol=file.symbol.upper())
    ticks, where = assembly.scanned
    if len(ticks):
        ticks["ts_event_ns"] = event_ns(file, ticks["ts_event_ns"])
        ticks["sequence"] = frame.first_message + where + 1
    if len(assembly.left):
        _parse_left(file, frame.first_message, assembly)
    return assembly.parsed()


def _parse_left(file: LeanFile, first_message: int, assembly: Assembly) -> None:
    """Parse the lines that were not scanned."""
    width, convert = LINES[file.security, file.what]
    events: list[int] = []
    rows: list[Fields] = []
    for event, data in assembly.messages():
        try:
            fields = data.rstrip(b"\r").decode("ascii").split(",")
        except UnicodeDecodeError:
            assembly.reject(event, RejectReason.MALFORMED, "not ASCII")
            continue
        if len(fields) != width:
            detail = f"{len(fields)} fields instead of the {width} of {file.security} {file.what}s"
            assembly.reject(event, RejectReason.MALFORMED, detail)
            continue
        events.append(event)
        rows.append(fields)
    if rows and (converted := assembly.convert(partial(convert, file), events, rows)) is not None:
        ticks, where = converted
        assembly.stamp(ticks, where, [file.symbol.upper()] * len(ticks))
        ticks["sequence"] = first_message + (where >> EVENT_BITS) + 1
        assembly.append(ticks, where)


def _equity_trades(file: LeanFile, rows: Sequence[Fields]) -> Ticks:
    ms, price, size, _, _, suspicious = zip(*rows, strict=True)
    ticks = _ticks(file, Kind.TRADE, ms)
    ticks["price"] = integers(price, "price", least=1) / EQUITY_SCALE
    ticks["size"] = integers(size, "size")
    _flag_suspicious(ticks, suspicious)
    return ticks


def _equity_quotes(file: LeanFile, rows: Sequence[Fields]) -> Ticks:
    ms, bid, bid_size, ask, ask_size, _, _, suspicious = zip(*rows, strict=True)
    ticks = _ticks(file, Kind.QUOTE, ms)
    ticks["price"] = integers(bid, "bid") / EQUITY_SCALE
    ticks["size"] = integers(bid_size, "bid size")
    ticks["price2"] = integers(ask, "ask") / EQUITY_SCALE
    ticks["size2"] = integers(ask_size, "ask size")
    _flag_suspicious(ticks, suspicious)
    flag_quotes(ticks)
    return ticks


def _forex_quotes(file: LeanFile, rows: Sequence[Fields]) -> Ticks:
    ms, bid, ask = zip(*rows, strict=True)
    ticks = _ticks(file, Kind.QUOTE, ms)
    ticks["price"] = decimals(bid, "bid")
    ticks["price2"] = decimals(ask, "ask")
    flag_inexact(ticks, bid, ask)
    flag_quotes(ticks)
    return ticks


LINES: dict[tuple[str, str], tuple[int, Callable[[LeanFile, Sequence[Fields]], Ticks]]] = {
    ("equity", "trade"): (6, _equity_trades),
    ("equity", "quote"): (8, _equity_quotes),
    ("forex", "quote"): (3, _forex_quotes),
}
"""(security, kind) -> number of fields, converter."""


def _ticks(file: LeanFile, kind: Kind, ms: Sequence[str]) -> Ticks:
    ticks = empty_ticks(len(ms))
    ticks["kind"] = kind
    ticks["ts_event_ns"] = event_ns(file, integers(ms, "time", most=DAY_MS - 1))
    return ticks


def _flag_suspicious(ticks: Ticks, values: Sequence[str]) -> None:
    if set(values) - {"0", "1"}:
        raise MalformedError("suspicious is not 0 or 1")
    set_flag(ticks, np.array([value == "1" for value in values]), Flag.OUTLIER)


def integers(
    values: Sequence[str], field: str, *, least: int = 0, most: int = 10**INTEGER_DIGITS_MAX - 1
) -> Int64Array:
    """Return strings of digits as int64; anything else, also what `int` would take, is at fault."""
    joined = "".join(values)
    if (joined and not (joined.isascii() and joined.isdigit())) or not all(values):
        raise MalformedError(f"{field} is not a whole number")
    if max(map(len, values)) > INTEGER_DIGITS_MAX:
        raise MalformedError(f"{field} has more than {INTEGER_DIGITS_MAX} digits")
    numbers = np.array(list(map(int, values)), np.int64)
    if not ((numbers >= least) & (numbers <= most)).all():
        raise MalformedError(f"{field} is not between {least} and {most}")
    return numbers


def _whole(column: Column, *, least: int = 0, most: int = 10**INTEGER_DIGITS_MAX - 1, unit: int = 1) -> Field:
    """Return a field that `integers` converts."""
    return integer(column, least=least, most=most, unit=unit, digits=INTEGER_DIGITS_MAX, zeros=True)


_FIELDS: dict[str, Field] = {
    "ms": _whole("TIME", most=DAY_MS - 1),
    "price": _whole("PRICE", least=1, unit=EQUITY_SCALE),
    "size": _whole("SIZE"),
    "bid": _whole("PRICE", unit=EQUITY_SCALE),
    "ask": _whole("PRICE2", unit=EQUITY_SCALE),
    "ask size": _whole("SIZE2"),
    "fx bid": decimal("PRICE"),
    "fx ask": decimal("PRICE2"),
    "cell": CELL,
    "suspicious": [[b"0"], [b"1", sets(bits(flags=Flag.OUTLIER))]],
}
SCANNERS = {
    key: Scanner([(line, ends(kind)), (line + "\r", ends(kind))], _FIELDS)
    for key, kind, line in (
        (("equity", "trade"), Kind.TRADE, "<ms>,<price>,<size>,<cell>,<cell>,<suspicious>"),
        (("equity", "quote"), Kind.QUOTE, "<ms>,<bid>,<size>,<ask>,<ask size>,<cell>,<cell>,<suspicious>"),
        (("forex", "quote"), Kind.QUOTE, "<ms>,<fx bid>,<fx ask>"),
    )
}
"""(security, kind) -> how its lines are written."""

VENUE = Venue("lean", parse)
