"""The simulated venue's messages, as ticks. Called by `parse_frame` for sources `sim/...`; `sim_market` makes them.

Its own JSON, one object a message, times in ns since 1970, prices and sizes as decimal strings:

    {"type":"trade","symbol":"SIM001","id":17,"time_ns":1735828200000000000,"price":"101.23","size":"5","side":"buy"}
    {"type":"quote","symbol":"SIM001","id":18,"time_ns":...,"bid":"101.22","bid_size":"3","ask":"101.24","ask_size":"9"}
    {"type":"status","symbol":"SIM001","time_ns":...,"status":"open"}           or "close"

`id` counts an instrument's trades, and apart from them its quotes, without gaps: a jump is missing data. A STATUS tick
has size 1 when trading opens and 0 when it closes.
"""

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

import orjson

from tapeline.connectors.venues.assembly import UNSCANNED, Assembly, flag_inexact, flag_quotes
from tapeline.connectors.venues.columns import MalformedError, decimals, integers, symbols
from tapeline.connectors.venues.contract import Parsed, Sequences, Venue
from tapeline.connectors.venues.shapes import SYMBOL, Field, Scanner, Step, Stream, bits, decimal, ends, integer, sets
from tapeline.schemas import Kind, RawFrame, RejectReason, Ticks, empty_ticks

Row = tuple[Any, ...]


def parse(frame: RawFrame, state: Sequences, *, scanned: bool = True) -> Parsed:
    """Return the ticks of one frame (see `contract`).

    scanned: whether messages of known shapes are scanned. That changes nothing but the time it takes.
    """
    assembly = Assembly("sim", frame, state, STREAMS, SCANNER if scanned else UNSCANNED)
    if len(assembly.left):
        _parse_left(assembly)
    return assembly.parsed()


def _parse_left(assembly: Assembly) -> None:
    """Parse the messages that were not scanned."""
    found: dict[str, tuple[list[int], list[Row]]] = {kind: ([], []) for kind in KINDS}
    takes = {kind: (KINDS[kind][0], events.append, rows.append) for kind, (events, rows) in found.items()}
    for event, data in assembly.messages():
        try:
            message = orjson.loads(data)
            pick, add_event, add_row = takes[message["type"]]
        except orjson.JSONDecodeError as error:
            assembly.reject(event, RejectReason.MALFORMED, f"not JSON: {error}")
            continue
        except (TypeError, KeyError):
            assembly.reject(event, RejectReason.UNKNOWN, "not a trade, quote or status object")
            continue
        try:
            add_row(pick(message))
        except KeyError as error:
            assembly.reject(event, RejectReason.MALFORMED, f"{message['type']} without field {error}")
            continue
        add_event(event)
    for kind, (events, rows) in found.items():
        converted = assembly.convert(KINDS[kind][1], events, rows) if rows else None
        if converted is not None:
            (symbol, ticks), where = converted
            assembly.stamp(ticks, where, symbol)
            if kind != "status":  # has no number
                assembly.follow(kind, ticks, where, ticks["sequence"] - 1)
            assembly.append(ticks, where)


def _trades(rows: Sequence[Row]) -> tuple[Row, Ticks]:
    symbol, number, time_ns, price, size, side = zip(*rows, strict=True)
    ticks = _ticks(Kind.TRADE, symbol, time_ns)
    ticks["sequence"] = integers(number, "id")
    ticks["price"] = decimals(price, "price", positive=True)
    ticks["size"] = decimals(size, "size", positive=True)
    ticks["side"] = _one_of(side, "side", {"buy": 1, "sell": -1})
    flag_inexact(ticks, price, size)
    return symbol, ticks


def _quotes(rows: Sequence[Row]) -> tuple[Row, Ticks]:
    symbol, number, time_ns, *numbers = zip(*rows, strict=True)
    ticks = _ticks(Kind.QUOTE, symbol, time_ns)
    ticks["sequence"] = integers(number, "id")
    for field, name, values in zip(("price", "size", "price2", "size2"), QUOTE_FIELDS, numbers, strict=True):
        ticks[field] = decimals(values, name)
    flag_inexact(ticks, *numbers)
    flag_quotes(ticks)
    return symbol, ticks


def _statuses(rows: Sequence[Row]) -> tuple[Row, Ticks]:
    symbol, time_ns, status = zip(*rows, strict=True)
    ticks = _ticks(Kind.STATUS, symbol, time_ns)
    ticks["size"] = _one_of(status, "status", {"open": 1, "close": 0})
    return symbol, ticks


def _ticks(kind: Kind, symbol: Row, time_ns: Row) -> Ticks:
    symbols(symbol, "symbol")
    ticks = empty_ticks(len(symbol))
    ticks["kind"] = kind
    ticks["ts_event_ns"] = integers(time_ns, "time_ns")
    return ticks


def _one_of(values: Row, field: str, meaning: dict[str, int]) -> list[int]:
    if any(kind is not str for kind in set(map(type, values))) or set(values) - meaning.keys():
        raise MalformedError(f"{field} is not one of {', '.join(meaning)}")
    return [meaning[value] for value in values]


QUOTE_FIELDS = ("bid", "bid_size", "ask", "ask_size")
KINDS: dict[str, tuple[Callable[[dict[str, Any]], Row], Callable[[Sequence[Row]], tuple[Row, Ticks]]]] = {
    "trade": (itemgetter("symbol", "id", "time_ns", "price", "size", "side"), _trades),
    "quote": (itemgetter("symbol", "id", "time_ns", *QUOTE_FIELDS), _quotes),
    "status": (itemgetter("symbol", "time_ns", "status"), _statuses),
}
"""Type -> the fields that are read, and the converter that expects them in that order."""

STREAMS = (Stream("trade", Kind.TRADE), Stream("quote", Kind.QUOTE))
_FIELDS: dict[str, Field] = {
    "symbol": SYMBOL,
    "id": integer("SEQUENCE"),
    "ns": integer("TIME"),
    "price": decimal("PRICE", positive=True),
    "size": decimal("SIZE", positive=True),
    "side": [[b"buy", sets(bits(side=1))], [b"sell", sets(bits(side=-1))]],
    "bid": decimal("PRICE"),
    "bid size": decimal("SIZE"),
    "ask": decimal("PRICE2"),
    "ask size": decimal("SIZE2"),
    "status": [[b"open", Step("SET", column="SIZE", unit=1)], [b"close", Step("SET", column="SIZE", unit=0)]],
}
SCANNER = Scanner(
    [
        (
            '{"type":"trade","symbol":"<symbol>","id":<id>,"time_ns":<ns>,"price":"<price>","size":"<size>",'
            '"side":"<side>"}',
            ends(Kind.TRADE, 0, "CONSECUTIVE"),
        ),
        (
            '{"type":"quote","symbol":"<symbol>","id":<id>,"time_ns":<ns>,"bid":"<bid>","bid_size":"<bid size>",'
            '"ask":"<ask>","ask_size":"<ask size>"}',
            ends(Kind.QUOTE, 1, "CONSECUTIVE"),
        ),
        ('{"type":"status","symbol":"<symbol>","time_ns":<ns>,"status":"<status>"}', ends(Kind.STATUS)),
    ],
    _FIELDS,
)

VENUE = Venue("sim", parse)
