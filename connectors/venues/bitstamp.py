"""Bitstamp: WebSocket v2 and the REST order book, as ticks. Called by `parse_frame` for sources `bitstamp/...`.

Formats: Bitstamp "WebSocket API v2" and "HTTP API" documents, 2024-06, and recordings of 2022-01.

    live_trades                  TRADE  side: the taker's (type 0: buy); sequence: id
    diff_order_book              BOOK   bids then asks; sequence: microtimestamp
    order_book, REST order_book  BOOK   likewise, a full picture; order_book has the best 100 levels a side

ts_event_ns is the microtimestamp. Symbols are written as in the names of channels: btcusd. Nothing is consecutive: ids
are counted over all pairs, so numbers only show what is LATE. A REST picture's microtimestamp is on the clock of those
of diff_order_book: those that are not above it are in it.
"""

from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Any

import numpy as np

from tapeline.connectors.venues.assembly import Assembly
from tapeline.connectors.venues.columns import digits, digits_us_ns, integers
from tapeline.connectors.venues.contract import Parsed, Sequences, Venue
from tapeline.connectors.venues.depth import levels
from tapeline.connectors.venues.reading import (
    TEXTS,
    Event,
    Read,
    Reading,
    Row,
    books,
    read,
    refused,
    trades,
    unknown,
)
from tapeline.connectors.venues.shapes import Stream
from tapeline.schemas import Kind, RawFrame, RejectReason

TRADE, CHANGES, PICTURE, ANSWER = "live_trades", "diff_order_book", "order_book", "order book by REST"
STREAMS = (
    Stream(TRADE, Kind.TRADE, counted=False),
    Stream(CHANGES, Kind.BOOK, counted=False),
    Stream(PICTURE, Kind.BOOK, counted=False),
)
EVENTS = {TRADE: "trade", CHANGES: "data", PICTURE: "data"}
"""Channel -> the event that is read."""


def parse(frame: RawFrame, state: Sequences) -> Parsed:
    """Return the ticks of one frame (see `contract`)."""
    assembly = Assembly("bitstamp", frame, state, STREAMS)
    read(assembly, _events, READINGS)
    return assembly.parsed()


def snapshot(frame: RawFrame, symbol: str, state: Sequences) -> Parsed:
    """Return the ticks of the one message of a frame, what REST `order_book` answered for `symbol` (see `Venue`)."""
    assembly = Assembly("bitstamp", frame, state, STREAMS)
    read(assembly, lambda message: _answer(symbol, message), READINGS)
    return assembly.parsed()


def _events(message: Any) -> Iterable[Event]:
    """Return what a message holds (see `reading.sort`)."""
    match message:
        case {"event": "bts:error"}:
            return refused(message["data"].get("message") if isinstance(message.get("data"), dict) else None)
        case {"event": str(event)} if event.startswith("bts:"):
            return []
        case {"event": str(event), "channel": str(channel)}:
            kind, _, symbol = channel.rpartition("_")
            if EVENTS.get(kind) != event:
                return unknown(f"event {event[:40]!r} of channel", channel)
            return [(kind, (symbol, kind == PICTURE, message.get("data")))]
    return [(RejectReason.UNKNOWN, "not an object as Bitstamp sends them")]


def _answer(symbol: str, message: Any) -> Iterable[Event]:
    match message:
        case {"microtimestamp": _, "bids": _, "asks": _}:
            return [(ANSWER, (symbol, True, message))]
        case {"reason": reason}:
            return refused(reason)
    return unknown("answer", message)


def _pick_trade(content: Any) -> Row:
    symbol, _, trade = content
    return (symbol, *itemgetter("id", "price_str", "amount_str", "type", "microtimestamp")(trade))


def _pick_book(content: Any) -> Row:
    symbol, full, book = content
    return (symbol, full, *itemgetter("bids", "asks", "microtimestamp")(book))


def _trades(rows: Sequence[Row]) -> Read:
    symbol, number, price, size, kind, time = zip(*rows, strict=True)
    side = 1 - 2 * integers(kind, "type", most=1)
    ticks = trades(symbol, digits_us_ns(time, "microtimestamp"), price, size, side, TEXTS)
    ticks["sequence"] = integers(number, "id")
    return Read(symbol, ticks)


def _books(rows: Sequence[Row]) -> Read:
    symbol, full, bids, asks, time = zip(*rows, strict=True)
    heads = books(symbol, digits_us_ns(time, "microtimestamp"), snapshot=np.array(full))
    heads["sequence"] = digits(time, "microtimestamp")
    return Read(symbol, heads, levels=levels(bids, asks))


READINGS = {
    TRADE: Reading(_pick_trade, _trades, TRADE),
    CHANGES: Reading(_pick_book, _books, CHANGES),
    PICTURE: Reading(_pick_book, _books, PICTURE),
    ANSWER: Reading(_pick_book, _books),
}
"""Channel -> how its data is read."""

VENUE = Venue("bitstamp", parse, snapshot)
