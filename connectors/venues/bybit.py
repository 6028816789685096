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

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from operator import itemgetter
from typing import Any

import numpy as np

from tapeline.connectors.venues.assembly import Assembly, set_flag
from tapeline.connectors.venues.columns import (
    INTEGER_MAX,
    MS_MAX,
    MalformedError,
    decimals,
    digits,
    inexact,
    integers,
    signed,
    symbols,
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
from tapeline.connectors.venues.shapes import ANEW, Stream
from tapeline.schemas import Flag, Kind, RawFrame, RejectReason, Ticks, empty_ticks

BOOKS = tuple(f"orderbook.{depth}" for depth in (50, 200, 500, 1000))
TOP = "orderbook.1"
STREAMS = tuple(Stream(topic, Kind.BOOK) for topic in BOOKS)
SIDES = {"Buy": 1, "Sell": -1}

TICKER_KEY = "connection/ticker/"
"""State: + symbol -> the FIELDS of its ticker, UNSAID what it has not said yet."""
UNSAID = "?"
_NUMBER, _SIGNED = (
    re.compile(r"(?:[0-9]{1,15}(?:\.[0-9]{1,30})?)?"),
    re.compile(r"(?:-?[0-9]{1,15}(?:\.[0-9]{1,30})?)?"),
)
_MS = re.compile(r"[0-9]{0,13}")
FIELDS: dict[str, re.Pattern[str]] = {
    **dict.fromkeys(("bid1Price", "bid1Size", "ask1Price", "ask1Size", "markPrice", "indexPrice"), _NUMBER),
    "fundingRate": _SIGNED,
    "nextFundingTime": _MS,
}
"""What is kept of a ticker, and how it is written; an empty text is none."""
TICKS_OF: dict[str, tuple[slice, int]] = {
    "quote": (slice(0, 4), 4),
    "mark": (slice(4, 6), 1),
    "funding": (slice(6, 8), 1),
}
"""Tick of a ticker -> its fields, and how many of the first of them must have been said."""


def parse(venue: str, frame: RawFrame, state: Sequences) -> Parsed:
    """Return the ticks of one frame (see `contract`); venue: `bybit`, `bybit-linear` or `bybit-inverse`."""
    assembly = Assembly(venue, frame, state, STREAMS)
    read(assembly, partial(_events, state), READINGS)
    return assembly.parsed()


def _events(state: Sequences, message: Any) -> Iterable[Event]:
    """Return what a message holds (see `reading.sort`)."""
    match message:
        case {"topic": str(topic), "data": data}:
            kind = topic.rpartition(".")[0]
            if kind == "tickers":
                return _ticker(state, message, data)
            if kind == "publicTrade" and isinstance(data, list):
                return [(kind, trade) for trade in data]
            if kind == TOP or kind in BOOKS:
                return [(kind, message)]
            return unknown("topic", topic)
        case {"topic": str(topic)}:
            return [(RejectReason.MALFORMED, f"{topic.partition('.')[0]} without data")]
        case {"success": False}:
            return refused(message.get("ret_msg"))
        case {"op": str()}:
            return []
    return [(RejectReason.UNKNOWN, "not an object as Bybit sends them")]


def _ticker(state: Sequences, message: Mapping[str, Any], data: Any) -> list[Event]:
    """Take what a ticker says over what it said before; return the ticks that it makes."""
    try:
        symbol, ts, sequence, said = _said(message, data)
    except KeyError as error:
        return [(RejectReason.MALFORMED, f"tickers without field {error}")]
    except MalformedError as error:
        return [(RejectReason.MALFORMED, str(error))]
    known = [UNSAID] * len(FIELDS)
    if message["type"] == "delta" and (kept := state.get(TICKER_KEY + symbol)) is not None:
        known = str(kept).split(" ")
    now = [said.get(field, before) for field, before in zip(FIELDS, known, strict=True)]
    if not said:
        return []
    state[TICKER_KEY + symbol] = " ".join(now)
    events: list[Event] = []
    names = list(FIELDS)
    for kind, (part, least) in TICKS_OF.items():
        values = now[part]
        enough = UNSAID not in values[:least] and (kind == "quote" or values[0] != "")
        if enough and not said.keys().isdisjoint(names[part]):
            events.append((kind, (symbol, ts, sequence, *values)))
    return events


def _said(message: Mapping[str, Any], data: Any) -> tuple[str, int, int, dict[str, str]]:
    """Return symbol, time, number and the fields that are kept; raise MalformedError for what later would be one."""
    if not isinstance(data, dict):
        raise MalformedError("tickers whose data is no object")
    symbol, ts, sequence = data["symbol"], message["ts"], message.get("cs", 0)
    symbols([symbol], "symbol")
    integers([ts], "ts", most=MS_MAX)
    integers([sequence], "cs", most=INTEGER_MAX)
    if message["type"] not in ("snapshot", "delta"):
        raise MalformedError("type of tickers is no snapshot or delta")
    said = {field: data[field] for field in FIELDS if field in data}
    for field, value in said.items():
        if not isinstance(value, str) or not FIELDS[field].fullmatch(value):
            raise MalformedError(f"{field} is not a decimal number")
    return symbol, ts, sequence, said


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


def _marks(rows: Sequence[Row]) -> Read:
    symbol, time, number, mark, index = zip(*rows, strict=True)
    ticks = _ticker_ticks(Kind.MARK, time, number)
    given_index = ["0" if value in ("", UNSAID) else value for value in index]
    for column, values in (("price", mark), ("price2", given_index)):
        ticks[column] = decimals(values, column)
        set_flag(ticks, inexact(values), Flag.INEXACT)
    return Read(symbol, ticks)


def _fundings(rows: Sequence[Row]) -> Read:
    symbol, time, number, rate, paid = zip(*rows, strict=True)
    ticks = _ticker_ticks(Kind.FUNDING, time, number)
    ticks["price"] = signed(rate, "fundingRate")
    set_flag(ticks, inexact([value.removeprefix("-") for value in rate]), Flag.INEXACT)
    ticks["size"] = digits(["0" if value in ("", UNSAID) else value for value in paid], "nextFundingTime") / 1000
    return Read(symbol, ticks)


def _ticker_ticks(kind: Kind, time: Sequence[Any], number: Sequence[Any]) -> Ticks:
    ticks = empty_ticks(len(time))
    ticks["kind"] = kind
    ticks["ts_event_ns"] = times_ns(time, "ts")
    ticks["sequence"] = integers(number, "cs")
    return ticks


def _books(rows: Sequence[Row]) -> Read:
    symbol, snapshot, bids, asks, time, number = zip(*rows, strict=True)
    full = np.array(snapshot)
    heads = books(symbol, times_ns(time, "time of the book"), snapshot=full)
    heads["sequence"] = integers(number, "u")
    return Read(symbol, heads, np.where(full, ANEW, heads["sequence"] - 1), levels(bids, asks))


READINGS = {
    "publicTrade": Reading(_pick_trade, _trades),
    "quote": Reading(tuple, _quotes),
    "mark": Reading(tuple, _marks),
    "funding": Reading(tuple, _fundings),
    TOP: Reading(_pick_top, _quotes),
    **{topic: Reading(_pick_book, _books, topic) for topic in BOOKS},
}
"""Kind of event (a topic without its symbol; a ticker makes three) -> how it is read."""

SPOT, LINEAR, INVERSE = (Venue(name, partial(parse, name)) for name in ("bybit", "bybit-linear", "bybit-inverse"))
