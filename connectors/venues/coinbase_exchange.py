"""Coinbase Exchange: WebSocket feed and the REST book, as ticks.

Called by `parse_frame` for sources `coinbase-exchange/...`. Formats: Coinbase "Exchange WebSocket Channels" and "Get
product book", 2026-08.

    match, last_match                 TRADE  side: against the maker's, which is what Coinbase says; sequence: trade_id;
                                             SNAPSHOT: last_match, the last one before the subscription
    ticker                            QUOTE  sequence: the product's sequence
    snapshot, l2update (level2,       BOOK   in the order they come; sequence: 0, updates have none
    level2_batch), REST level 2

ts_event_ns is time, else (a picture without one) the receive time. Breaks: trade ids of a product are consecutive: the
documents say that messages of `matches` can be dropped and that the last trade id shows it, and they are in Coinbase's
recordings. The sequence counts all messages of the product's `full` channel, of which this is a part, so it only shows
what is LATE. Heartbeats are not looked at: their last_trade_id has been 0 for years (coinbasepro-python issue 356).
"""

from collections.abc import Iterable, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any

import numpy as np

from tapeline.connectors.venues.assembly import Assembly
from tapeline.connectors.venues.columns import MalformedError, decimals, inexact, integers, iso_ns, optional_iso_ns
from tapeline.connectors.venues.contract import Parsed, Sequences, Venue
from tapeline.connectors.venues.depth import PAIR, Levels, checked, levels
from tapeline.connectors.venues.reading import (
    TEXTS,
    Event,
    Read,
    Reading,
    Row,
    books,
    given,
    one_of,
    quotes,
    read,
    refused,
    trades,
    unknown,
)
from tapeline.connectors.venues.shapes import Stream
from tapeline.schemas import Flag, Kind, RawFrame

TRADE, LAST_TRADE, QUOTE, PICTURE, CHANGES = "match", "last_match", "ticker", "snapshot", "l2update"
ANSWER = "book by REST"
STREAMS = (Stream(TRADE, Kind.TRADE), Stream(QUOTE, Kind.QUOTE, counted=False))
AGAINST_MAKER = {"buy": -1, "sell": 1}
LEVEL_SIDES = {"buy": 1, "sell": -1}
ANSWER_WIDTHS = frozenset({3})
"""Of a level by REST: price, size, number of orders."""


def parse(frame: RawFrame, state: Sequences) -> Parsed:
    """Return the ticks of one frame (see `contract`)."""
    assembly = Assembly("coinbase-exchange", frame, state, STREAMS)
    read(assembly, _events, READINGS)
    return assembly.parsed()


def snapshot(frame: RawFrame, symbol: str, state: Sequences) -> Parsed:
    """Return the ticks of the one message of a frame, what REST `book?level=2` answered for `symbol` (see `Venue`)."""
    assembly = Assembly("coinbase-exchange", frame, state, STREAMS)
    read(assembly, lambda message: _answer(symbol, message), READINGS)
    return assembly.parsed()


def _events(message: Any) -> Iterable[Event]:
    """Return what a message holds (see `reading.sort`)."""
    kind = message.get("type") if isinstance(message, dict) else None
    if kind in ("heartbeat", "subscriptions"):
        return []
    if kind == "error":
        return refused(message.get("reason", message.get("message")))
    return [(kind, message)] if isinstance(kind, str) and kind in KINDS else unknown("type", kind)


def _answer(symbol: str, message: Any) -> Iterable[Event]:
    match message:
        case {"bids": _, "asks": _}:
            return [(ANSWER, {"product_id": symbol} | message)]
        case {"message": words}:
            return refused(words)
    return unknown("answer", message)


def _pick_trade(trade: Any) -> Row:
    fields = itemgetter("product_id", "trade_id", "price", "size", "side", "time")(trade)
    return (trade["type"] == LAST_TRADE, *fields)


def _pick_ticker(ticker: Any) -> Row:
    symbol, bid, ask, number = itemgetter("product_id", "best_bid", "best_ask", "sequence")(ticker)
    sizes = (ticker.get(f"best_{side}_size", "") for side in ("bid", "ask"))
    return (symbol, number, bid, ask, *sizes, ticker.get("time"))


def _pick_picture(book: Any) -> Row:
    return (*itemgetter("product_id", "bids", "asks")(book), book.get("time"))


def _trades(rows: Sequence[Row]) -> Read:
    last, symbol, number, price, size, side, time = zip(*rows, strict=True)
    sides = one_of(side, "side", AGAINST_MAKER)
    ticks = trades(symbol, iso_ns(time, "time"), price, size, sides, TEXTS)
    ticks["sequence"] = integers(number, "trade_id")
    ticks["flags"][np.array(last)] |= np.uint16(Flag.SNAPSHOT)
    return Read(symbol, ticks, ticks["sequence"] - 1)


def _quotes(rows: Sequence[Row]) -> Read:
    symbol, number, bid, ask, bid_size, ask_size, time = zip(*rows, strict=True)
    columns = (given(bid), given(bid_size), given(ask), given(ask_size))
    ticks = quotes(symbol, optional_iso_ns(time, "time"), columns, TEXTS)
    ticks["sequence"] = integers(number, "sequence")
    return Read(symbol, ticks)


def _pictures(rows: Sequence[Row]) -> Read:
    return _full(rows, PAIR)


def _answers(rows: Sequence[Row]) -> Read:
    return _full(rows, ANSWER_WIDTHS)


def _full(rows: Sequence[Row], widths: frozenset[int]) -> Read:
    symbol, bids, asks, time = zip(*rows, strict=True)
    return Read(symbol, books(symbol, optional_iso_ns(time, "time"), snapshot=True), levels=levels(bids, asks, widths))


def _changes(rows: Sequence[Row]) -> Read:
    symbol, changes, time = zip(*rows, strict=True)
    if any(kind is not list for kind in set(map(type, changes))):
        raise MalformedError("changes are not a list")
    found = list(chain.from_iterable(changes))
    if any(kind is not list for kind in set(map(type, found))) or set(map(len, found)) - {3}:
        raise MalformedError("a change is not a list of side, price and size")
    side, price, size = list(zip(*found, strict=True)) or [()] * 3
    sides = np.array(one_of(side, "side", LEVEL_SIDES), np.int8)
    prices, sizes = decimals(price, "price of a change"), decimals(size, "size of a change")
    counts = np.array([len(one) for one in changes], np.int64)
    heads = books(symbol, iso_ns(time, "time"), snapshot=False)
    return Read(symbol, heads, levels=checked(Levels(counts, sides, prices, sizes, inexact(price) | inexact(size))))


KINDS = {
    TRADE: Reading(_pick_trade, _trades, TRADE),
    LAST_TRADE: Reading(_pick_trade, _trades, TRADE),
    QUOTE: Reading(_pick_ticker, _quotes, QUOTE),
    PICTURE: Reading(_pick_picture, _pictures),
    CHANGES: Reading(itemgetter("product_id", "changes", "time"), _changes),
}
READINGS = KINDS | {ANSWER: Reading(_pick_picture, _answers)}
"""Type of message -> how it is read."""

VENUE = Venue("coinbase-exchange", parse, snapshot)
