"""OKX (spot, swaps, futures): WebSocket v5 public channels, as ticks. Called by `parse_frame` for sources `okx/...`.

Formats: OKX "API v5" documents, 2026-06, and recordings of 2022, when books had no numbers yet.

    trades, trades-all        TRADE  side: the taker's; sequence: tradeId (of `trades` the last of those put together)
    tickers, bbo-tbt          QUOTE  sequence: bbo-tbt seqId, tickers 0; "" is not given
    books, books-l2-tbt,      BOOK   bids then asks; sequence: seqId, 0 where there is none; books5 is a full picture
    books50-l2-tbt, books5           each time

Sizes of derivatives are contracts. ts_event_ns is ts. An update's prevSeqId is the seqId before it, say the documents
("Sequence ID"). seqId jumps, so the size of a gap is not known; it may also begin anew below prevSeqId (maintenance):
then a GAP says so, since books compare numbers with those of their snapshot. A message without levels and seqId =
prevSeqId is sent when nothing happens for a minute. Trade ids are not promised to be consecutive; they only show what
is LATE. The checksum (always 0 since 2026-06) is not looked at.
"""

from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Any

import numpy as np

from tapeline.connectors.venues.assembly import Assembly
from tapeline.connectors.venues.columns import digits, digits_ms_ns, integers
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
from tapeline.connectors.venues.shapes import ANEW, ANY, Stream
from tapeline.schemas import Kind, RawFrame, RejectReason

TRADES = ("trades", "trades-all")
TOP = "bbo-tbt"
BOOKS = ("books", "books-l2-tbt", "books50-l2-tbt", "books5")
CHANNELS = (*TRADES, "tickers", TOP, *BOOKS)
STREAMS = (
    *(Stream(channel, Kind.TRADE, counted=False) for channel in TRADES),
    Stream(TOP, Kind.QUOTE, counted=False),
    *(Stream(channel, Kind.BOOK, counted=False) for channel in BOOKS),
)
SIDES = {"buy": 1, "sell": -1}
LEVEL_WIDTHS = frozenset({4})
"""Price, size, a field that means nothing any more, number of orders."""
CONTROL_EVENTS = ("subscribe", "unsubscribe", "notice", "channel-conn-count")
PONG = b"pong"


def parse(frame: RawFrame, state: Sequences) -> Parsed:
    """Return the ticks of one frame (see `contract`)."""
    assembly = Assembly("okx", frame, state, STREAMS)
    read(assembly, _events, READINGS, ignored=(PONG,))
    return assembly.parsed()


def _events(message: Any) -> Iterable[Event]:
    """Return what a message holds (see `reading.sort`)."""
    match message:
        case {"event": str(event)}:
            return [] if event in CONTROL_EVENTS else refused(message.get("msg", event))
        case {"arg": {"channel": str(channel)}} if channel not in CHANNELS:
            return unknown("channel", channel)
        case {"arg": {"channel": str(channel), "instId": symbol}, "data": [*data]}:
            kind = channel
            if channel in BOOKS:
                if channel != "books5" and message.get("action") not in ("snapshot", "update"):
                    return [(RejectReason.MALFORMED, f"{channel} whose action is no snapshot or update")]
                if not all(isinstance(one, dict) and "seqId" in one for one in data):
                    kind = "unnumbered books"
            return [(kind, (symbol, message.get("action", "snapshot") == "snapshot", one)) for one in data]
        case {"arg": {"channel": str(channel)}}:
            return [(RejectReason.MALFORMED, f"{channel} without instId or data")]
    return [(RejectReason.UNKNOWN, "not an object as OKX sends them")]


def _pick_trade(content: Any) -> Row:
    _, _, trade = content
    return (*itemgetter("instId", "tradeId", "px", "sz", "side", "ts")(trade),)


def _pick_ticker(content: Any) -> Row:
    _, _, ticker = content
    return (*itemgetter("instId", "bidPx", "bidSz", "askPx", "askSz", "ts")(ticker),)


def _pick_top(content: Any) -> Row:
    symbol, _, top = content
    bid, ask = (_best(top[side], side) for side in ("bids", "asks"))
    return symbol, bid[0], bid[1], ask[0], ask[1], top["ts"], top["seqId"]


def _best(levels: Any, side: str) -> list[Any]:
    found = elements(levels, side, 0)
    return elements(found[0], side, 2) if found else ["", ""]


def _pick_book(content: Any) -> Row:
    symbol, snapshot, book = content
    return (symbol, snapshot, *itemgetter("bids", "asks", "ts", "seqId")(book), book.get("prevSeqId"))


def _pick_unnumbered(content: Any) -> Row:
    symbol, snapshot, book = content
    return (symbol, snapshot, *itemgetter("bids", "asks", "ts")(book))


def _trades(rows: Sequence[Row]) -> Read:
    symbol, number, price, size, side, time = zip(*rows, strict=True)
    ticks = trades(symbol, digits_ms_ns(time, "ts"), price, size, one_of(side, "side", SIDES), TEXTS)
    ticks["sequence"] = digits(number, "tradeId")
    return Read(symbol, ticks)


def _quotes(rows: Sequence[Row]) -> Read:
    symbol, *columns = zip(*rows, strict=True)
    ticks = quotes(symbol, digits_ms_ns(columns[4], "ts"), [given(values) for values in columns[:4]], TEXTS)
    if len(columns) > 5:
        ticks["sequence"] = integers(columns[5], "seqId")
    return Read(symbol, ticks)


def _books(rows: Sequence[Row]) -> Read:
    symbol, snapshot, bids, asks, time, *numbers = zip(*rows, strict=True)
    full = np.array(snapshot)
    heads = books(symbol, digits_ms_ns(time, "ts"), snapshot=full)
    before = None
    if numbers:
        number, previous = numbers
        heads["sequence"] = integers(number, "seqId")
        linked = np.array([one is not None for one in previous]) & ~full
        last = integers([0 if one is None else one for one in previous], "prevSeqId", least=-1)
        before = np.where(full, ANEW, np.where(linked, last, ANY))
    return Read(symbol, heads, before, levels(bids, asks, LEVEL_WIDTHS))


READINGS = {
    **{channel: Reading(_pick_trade, _trades, channel) for channel in TRADES},
    "tickers": Reading(_pick_ticker, _quotes),
    TOP: Reading(_pick_top, _quotes, TOP),
    **{channel: Reading(_pick_book, _books, channel) for channel in BOOKS},
    "unnumbered books": Reading(_pick_unnumbered, _books),
}
"""Kind of data (its channel, but for books without numbers) -> how it is read."""

VENUE = Venue("okx", parse)
