"""Bybit spot, linear and inverse: WebSocket v5 public topics, as ticks.

Called by `parse_frame` for sources `bybit/...` (spot), `bybit-linear/...` and `bybit-inverse/...`. Formats: Bybit "V5
WebSocket public" documents, 2026-08, and recordings of 2026-08.

    publicTrade     TRADE    side: the taker's; sequence: seq, the cross sequence, which several trades share
    tickers         QUOTE    where one of its four fields comes; the others as they were (linear and inverse only)
                    MARK     likewise, of mark and index price; FUNDING of rate and next time. sequence: cs
    orderbook.1     QUOTE    sequence: u; comes again after 3 s without a change
    orderbook.50,   BOOK     bids then asks, snapshot or changes; sequence: u
    200, 500, 1000

ts_event_ns: T of a trade, cts (the matching engine's time) of a book, else ts. Sizes of inverse are USD. Breaks: u of a
depth is "always in sequence" (documents of v3; in the recordings each of 2,142 changes is one above the one before);
where it begins anew at 1 (restart of the service) a snapshot comes, and a GAP says that it does. The numbers of trades
and tickers may repeat or jump and are not followed. State: `connection/ticker/SYMBOL`, the fields as last said.
"""

from collections.abc import Iterable, Sequence
from functools import partial
from operator import itemgetter
from typing import Any

import numpy as np

from tapeline.connectors.venues.assembly import UNSCANNED, Assembly
from tapeline.connectors.venues.bybit_said import complete
from tapeline.connectors.venues.bybit_shapes import BOOKS, SCANNER, SCANNER_BUT_TICKERS, STREAMS, TOP
from tapeline.connectors.venues.bybit_tickers import fundings, marks, ticker_events
from tapeline.connectors.venues.columns import (
    MalformedError,
    integers,
    times_ns,
)
from tapeline.connectors.venues.contract import Parsed, Sequences, Venue
from tapeline.connectors.venues.depth import levels
from tapeline.connectors.venues.reading import (
    TEXTS,
    Event,
    Read,
    Reading,
    Row,
    books,
    elements,
    given,
    one_of,
    quotes,
    read,
    refused,
    trades,
    unknown,
)
from tapeline.connectors.venues.shapes import ANEW
from tapeline.schemas import RawFrame, RejectReason

SIDES = {"Buy": 1, "Sell": -1}


def parse(venue: str, frame: RawFrame, state: Sequences, *, scanned: bool = True) -> Parsed:
    """Return the ticks of one frame (see `contract`); venue: `bybit`, `bybit-linear` or `bybit-inverse`.

    scanned: whether messages of known shapes are scanned. That changes nothing but the time it takes.
    """
    assembly = Assembly(venue, frame, state, STREAMS, SCANNER if scanned else UNSCANNED)
    if len(assembly.said) and not complete(assembly, state):
        assembly = Assembly(venue, frame, state, STREAMS, SCANNER_BUT_TICKERS)
    read(assembly, partial(_events, state), READINGS)
    return assembly.parsed()


def _events(state: Sequences, message: Any) -> Iterable[Event]:
    """Return what a message holds (see `reading.sort`)."""
    topic = message.get("topic") if isinstance(message, dict) else None
    if isinstance(topic, str):
        return _of_topic(state, topic, message)
    match message:
        case {"success": False}:
            return refused(message.get("ret_msg"))
        case {"op": str()}:
            return []
    return [(RejectReason.UNKNOWN, "not an object as Bybit sends them")]


def _of_topic(state: Sequences, topic: str, message: dict[str, Any]) -> Iterable[Event]:
    kind, _, rest = topic.partition(".")
    if "data" not in message:
        return [(RejectReason.MALFORMED, f"{kind} without data")]
    data = message["data"]
    if kind == "tickers":
        return ticker_events(state, message, data)
    if kind == "publicTrade" and isinstance(data, list):
        return [(kind, trade) for trade in data]
    if kind == "orderbook":
        kind = f"{kind}.{rest.partition('.')[0]}"
    if kind == TOP or kind in BOOKS:
        return [(kind, message)]
    return unknown("topic", topic)


def _pick_trade(trade: Any) -> Row:
    return (*itemgetter("s", "T", "p", "v", "S")(trade), trade.get("seq", 0))


def _pick_book(message: Any) -> Row:
    symbol, bids, asks, number = itemgetter("s", "b", "a", "u")(message["data"])
    if message["type"] not in ("snapshot", "delta"):
        raise MalformedError("type of orderbook is no snapshot or delta")
    time = message["cts"] if "cts" in message else message["ts"]
    return symbol, message["type"] == "snapshot", bids, asks, time, number


def _pick_top(message: Any) -> Row:
    symbol, snapshot, bids, asks, time, number = _pick_book(message)
    if not snapshot:
        raise MalformedError("orderbook.1 is no snapshot")
    bid, ask = (_best(side) for side in (bids, asks))
    return symbol, time, number, *bid[:2], *ask[:2]


def _best(side: Any) -> list[Any]:
    found = elements(side, "side of orderbook.1", 0)
    return elements(found[0], "level", 2) if found else ["0", "0"]


def _trades(rows: Sequence[Row]) -> Read:
    symbol, time, price, size, side, number = zip(*rows, strict=True)
    ticks = trades(symbol, times_ns(time, "T"), price, size, one_of(side, "side", SIDES), TEXTS)
    ticks["sequence"] = integers(number, "seq")
    return Read(symbol, ticks)


def _quotes(rows: Sequence[Row]) -> Read:
    symbol, time, number, *columns = zip(*rows, strict=True)
    ticks = quotes(symbol, times_ns(time, "time of the quote"), [given(values) for values in columns], TEXTS)
    ticks["sequence"] = integers(number, "number of the quote")
    return Read(symbol, ticks)


def _books(rows: Sequence[Row]) -> Read:
    symbol, snapshot, bids, asks, time, number = zip(*rows, strict=True)
    full = np.array(snapshot)
    heads = books(symbol, times_ns(time, "time of the book"), snapshot=full)
    heads["sequence"] = integers(number, "u")
    return Read(symbol, heads, np.where(full, ANEW, heads["sequence"] - 1), levels(bids, asks))


READINGS = {
    "publicTrade": Reading(_pick_trade, _trades),
    "quote": Reading(tuple, _quotes),
    "mark": Reading(tuple, marks),
    "funding": Reading(tuple, fundings),
    TOP: Reading(_pick_top, _quotes),
    **{topic: Reading(_pick_book, _books, topic) for topic in BOOKS},
}
"""Kind of event (a topic without its symbol; a ticker makes three) -> how it is read."""

SPOT, LINEAR, INVERSE = (Venue(name, partial(parse, name)) for name in ("bybit", "bybit-linear", "bybit-inverse"))
