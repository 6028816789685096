"""Alpaca US stocks: the market data stream v2, as ticks. Called by `parse_frame` for sources `alpaca/...`.

Format: Alpaca "Real-time Stock Data", 2026-06. A message is an array of objects, each with its type T:

    t  TRADE   side: 0, not given; sequence: the trade's id i
    q  QUOTE   sizes as Alpaca gives them; a price of 0 is not given; sequence: 0
    s  STATUS  size 1: trading resumed (CTA 3, UTP T); 0: halted (CTA 2, UTP H, P, and Q: only quotes came back).
               Other codes (indications, imbalances, short sale restriction, price bands) say neither: no tick

ts_event_ns is t. Trade ids are an exchange's own, not counted over a symbol, so they are not followed: Alpaca promises
no numbers by which a loss would show. Corrections (c) and cancellations (x) of trades are rejected as UNKNOWN: no tick
says them, and the trade that they are about has been passed on. So are bars, price bands and order imbalances.
"""

from collections.abc import Iterable, Iterator, Sequence
from operator import itemgetter
from typing import Any

from tapeline.connectors.venues.assembly import Assembly
from tapeline.connectors.venues.columns import integers, iso_ns, symbols
from tapeline.connectors.venues.contract import Parsed, Sequences, Venue
from tapeline.connectors.venues.reading import (
    NUMBERS,
    Event,
    Read,
    Reading,
    Row,
    one_of,
    quotes,
    read,
    refused,
    trades,
    unknown,
)
from tapeline.schemas import Kind, RawFrame, RejectReason, empty_ticks

CONTROL = ("success", "subscription")
NO_TICK = {"c": "correction of a trade", "x": "cancellation of a trade"}
TRADING = {"3": 1, "T": 1, "2": 0, "H": 0, "P": 0, "Q": 0}
"""Status code -> whether the symbol is traded; the codes of the two tapes differ."""
NEITHER = frozenset("56789ACDEF")
"""Status codes that say something else."""


def parse(frame: RawFrame, state: Sequences) -> Parsed:
    """Return the ticks of one frame (see `contract`)."""
    assembly = Assembly("alpaca", frame, state)
    read(assembly, _events, READINGS)
    return assembly.parsed()


def _events(message: Any) -> Iterable[Event]:
    """Return what a message holds (see `reading.sort`)."""
    if not isinstance(message, list):
        return [(RejectReason.UNKNOWN, "not an array as Alpaca sends them")]
    return _each(message)


def _each(message: list[Any]) -> Iterator[Event]:
    for one in message:
        kind = one.get("T") if isinstance(one, dict) else None
        if not isinstance(kind, str):
            yield RejectReason.UNKNOWN, "not an object with a type T"
        elif kind == "s" and _says_neither(one):
            continue
        elif kind in READINGS:
            yield kind, one
        elif kind == "error":
            yield from refused(one.get("msg"))
        elif kind in NO_TICK:
            yield RejectReason.UNKNOWN, f"a {NO_TICK[kind]}: no tick says that"
        elif kind not in CONTROL:
            yield from unknown("type", kind)


def _says_neither(status: dict[str, Any]) -> bool:
    code = status.get("sc")
    return isinstance(code, str) and code in NEITHER


def _trades(rows: Sequence[Row]) -> Read:
    symbol, number, price, size, time = zip(*rows, strict=True)
    ticks = trades(symbol, iso_ns(time, "t"), price, size, [0] * len(rows), NUMBERS)
    ticks["sequence"] = integers(number, "i")
    return Read(symbol, ticks)


def _quotes(rows: Sequence[Row]) -> Read:
    symbol, *columns, time = zip(*rows, strict=True)
    return Read(symbol, quotes(symbol, iso_ns(time, "t"), columns, NUMBERS))


def _statuses(rows: Sequence[Row]) -> Read:
    symbol, code, time = zip(*rows, strict=True)
    symbols(symbol, "symbol")
    ticks = empty_ticks(len(rows))
    ticks["kind"] = Kind.STATUS
    ticks["ts_event_ns"] = iso_ns(time, "t")
    ticks["size"] = one_of(code, "sc", TRADING)
    return Read(symbol, ticks)


READINGS = {
    "t": Reading(itemgetter("S", "i", "p", "s", "t"), _trades),
    "q": Reading(itemgetter("S", "bp", "bs", "ap", "as", "t"), _quotes),
    "s": Reading(itemgetter("S", "sc", "t"), _statuses),
}
"""Type -> how it is read."""

VENUE = Venue("alpaca", parse)
