"""Kraken spot: WebSocket v1 (arrays) and v2 (objects), as ticks. Called by `parse_frame` for sources `kraken/...`.

Formats: Kraken "Spot WebSocket" v1 and v2 and both "Book checksum" guides, 2026-07; v1 also from recordings of 2021.

    trade            TRADE  side: the taker's; sequence: v2 the trade's id, v1 0; SNAPSHOT (v2): from before
    ticker, spread   QUOTE  sequence: 0
    book             BOOK   asks and bids as they come, sequence: 0; size2: levels a side that Kraken keeps

v1 calls bitcoin XBT, v2 BTC: XBT/USD and BTC/USD are two instruments here. What falls beyond `size2` levels is gone
without a word. A v1 name says how many that are (book-1000), in v2 the answer to the subscription does (state
`connection/depth/SYMBOL`). Updates that v1 marks "r" (sent again) are levels like others. Checksums are not looked at.

ts_event_ns: of a v1 book the latest time of its levels; a v1 ticker has none, the receive time. v2 numbers are JSON
numbers. Nothing is promised to be consecutive: books have no numbers, and v2's trade ids leave some out where several
trades have one time (krakenfx/api-go issue 36, 2025-11), so ids only show what is LATE.
"""

from collections.abc import Iterable, Sequence
from functools import partial
from operator import itemgetter
from typing import Any

import numpy as np

from tapeline.connectors.venues.assembly import Assembly
from tapeline.connectors.venues.columns import (
    UNTIMED,
    MalformedError,
    digits,
    integers,
    iso_ns,
    optional_iso_ns,
    seconds_ns,
)
from tapeline.connectors.venues.contract import Parsed, Sequences, Venue
from tapeline.connectors.venues.depth import latest, levels, object_levels
from tapeline.connectors.venues.reading import (
    NUMBERS,
    TEXTS,
    Event,
    Read,
    Reading,
    Row,
    books,
    elements,
    one_of,
    quotes,
    read,
    refused,
    trades,
    unknown,
)
from tapeline.connectors.venues.shapes import Stream
from tapeline.schemas import Flag, Kind, RawFrame, RejectReason

STREAMS = (Stream("trade", Kind.TRADE, counted=False),)
DEPTH_KEY = "connection/depth/"
"""State: + symbol -> how many levels a side the v2 book of this connection has."""
DEPTH_MAX = 100_000
SIDES_V1, SIDES_V2 = {"b": 1, "s": -1}, {"buy": 1, "sell": -1}
LEVEL_WIDTHS = frozenset({3, 4})
"""Of v1: price, size, time, and "r" if it is sent again."""
CONTROL_EVENTS = ("heartbeat", "systemStatus", "subscriptionStatus", "pong")
CONTROL_CHANNELS = ("heartbeat", "status")


def parse(frame: RawFrame, state: Sequences) -> Parsed:
    """Return the ticks of one frame (see `contract`)."""
    assembly = Assembly("kraken", frame, state, STREAMS)
    read(assembly, partial(_events, state), READINGS)
    return assembly.parsed()


def _events(state: Sequences, message: Any) -> Iterable[Event]:
    """Return what a message holds (see `reading.sort`)."""
    match message:
        case [_, *parts, str(name), str(pair)] if parts:
            return _events_v1(parts, name, pair)
        case {"channel": str(channel), "type": str(what), "data": [*data]} if f"{channel} v2" in READINGS:
            if what not in ("snapshot", "update"):
                return unknown(f"type of {channel}", what)
            return [(f"{channel} v2", (what == "snapshot", state, one)) for one in data]
        case {"channel": str(channel)} if f"{channel} v2" in READINGS:
            return [(RejectReason.MALFORMED, f"{channel} without type and data")]
        case {"channel": str(channel)}:
            return [] if channel in CONTROL_CHANNELS else unknown("channel", channel)
        case {"event": str(event)}:
            if event in CONTROL_EVENTS and message.get("status") != "error":
                return []
            return refused(message["errorMessage"]) if "errorMessage" in message else unknown("event", event)
        case {"method": str(method), "success": bool(success)}:
            return _answer(state, method, message.get("result")) if success else refused(message.get("error"))
        case {"method": "pong"}:
            return []
    return [(RejectReason.UNKNOWN, "not an array or object as Kraken sends them")]


def _events_v1(parts: list[Any], name: str, pair: str) -> list[Event]:
    if name == "trade" and isinstance(parts[0], list):
        return [("trade", (pair, trade)) for trade in parts[0]]
    if name in ("ticker", "spread"):
        return [(name, (pair, parts[0]))]
    if name.startswith("book"):
        return [("book", (pair, name, parts))]
    return unknown("channel", name)


def _answer(state: Sequences, method: str, result: Any) -> list[Event]:
    """Note the depth of a book that was subscribed to."""
    match result:
        case {"channel": "book", "symbol": str(symbol), "depth": int(depth)} if method == "subscribe":
            if not isinstance(depth, bool) and 0 < depth <= DEPTH_MAX and len(symbol) <= 64:
                state[DEPTH_KEY + symbol] = depth
    return []


def _pick_trade(content: Any) -> Row:
    pair, trade = content
    return (pair, *elements(trade, "trade", 4)[:4])


def _pick_ticker(content: Any) -> Row:
    pair, ticker = content
    bid, ask = (elements(ticker[side], f"{side} of a ticker", 3) for side in "ba")
    return pair, bid[0], bid[2], ask[0], ask[2]


def _pick_spread(content: Any) -> Row:
    pair, spread = content
    bid, ask, time, bid_size, ask_size, *_ = elements(spread, "spread", 5)
    return pair, bid, bid_size, ask, ask_size, time


def _pick_book(content: Any) -> Row:
    pair, name, parts = content
    sides: dict[str, Any] = {}
    for part in parts:
        if sides.keys() & part.keys():
            raise MalformedError("book that says a side twice")
        sides |= part
    if not sides.keys() & {"a", "b", "as", "bs"}:
        raise MalformedError("book without levels")
    snapshot = "as" in sides or "bs" in sides
    bids, asks = (sides.get(f"{side}s" if snapshot else side, []) for side in "ba")
    return pair, name.partition("-")[2], snapshot, bids, asks


def _pick_trade_v2(content: Any) -> Row:
    snapshot, _, trade = content
    return (snapshot, *itemgetter("symbol", "trade_id", "price", "qty", "side", "timestamp")(trade))


def _pick_ticker_v2(content: Any) -> Row:
    _, _, ticker = content
    return (*itemgetter("symbol", "bid", "bid_qty", "ask", "ask_qty")(ticker), ticker.get("timestamp"))


def _pick_book_v2(content: Any) -> Row:
    snapshot, state, book = content
    symbol, bids, asks = itemgetter("symbol", "bids", "asks")(book)
    depth = state.get(DEPTH_KEY + symbol, 0) if isinstance(symbol, str) else 0
    return symbol, depth, snapshot, bids, asks, book.get("timestamp")


def _trades(rows: Sequence[Row]) -> Read:
    pair, price, size, time, side = zip(*rows, strict=True)
    sides = one_of(side, "side", SIDES_V1)
    return Read(pair, trades(pair, seconds_ns(time, "time"), price, size, sides, TEXTS))


def _quotes(rows: Sequence[Row]) -> Read:
    pair, *columns = zip(*rows, strict=True)
    time_ns = seconds_ns(columns[4], "time") if len(columns) > 4 else np.full(len(rows), UNTIMED)
    return Read(pair, quotes(pair, time_ns, columns[:4], TEXTS))


def _books(rows: Sequence[Row]) -> Read:
    pair, depth, snapshot, bids, asks = zip(*rows, strict=True)
    found = levels(bids, asks, LEVEL_WIDTHS)
    times = [level[2] for both in zip(bids, asks, strict=True) for side in both for level in side]
    heads = books(pair, latest(seconds_ns(times, "time of a level"), found.counts), snapshot=np.array(snapshot))
    heads["size2"] = digits(depth, "depth in the name of the book", most=DEPTH_MAX)
    return Read(pair, heads, levels=found)


def _trades_v2(rows: Sequence[Row]) -> Read:
    snapshot, symbol, number, price, size, side, time = zip(*rows, strict=True)
    ticks = trades(symbol, iso_ns(time, "timestamp"), price, size, one_of(side, "side", SIDES_V2), NUMBERS)
    ticks["sequence"] = integers(number, "trade_id")
    ticks["flags"][np.array(snapshot)] |= np.uint16(Flag.SNAPSHOT)
    return Read(symbol, ticks)


def _quotes_v2(rows: Sequence[Row]) -> Read:
    symbol, *columns, time = zip(*rows, strict=True)
    return Read(symbol, quotes(symbol, optional_iso_ns(time, "timestamp"), columns, NUMBERS))


def _books_v2(rows: Sequence[Row]) -> Read:
    symbol, depth, snapshot, bids, asks, time = zip(*rows, strict=True)
    heads = books(symbol, optional_iso_ns(time, "timestamp"), snapshot=np.array(snapshot))
    heads["size2"] = depth
    return Read(symbol, heads, levels=object_levels(bids, asks, "price", "qty"))


READINGS = {
    "trade": Reading(_pick_trade, _trades),
    "ticker": Reading(_pick_ticker, _quotes),
    "spread": Reading(_pick_spread, _quotes),
    "book": Reading(_pick_book, _books),
    "trade v2": Reading(_pick_trade_v2, _trades_v2, "trade"),
    "ticker v2": Reading(_pick_ticker_v2, _quotes_v2),
    "book v2": Reading(_pick_book_v2, _books_v2),
}
"""Kind of event -> how it is read."""

VENUE = Venue("kraken", parse)
