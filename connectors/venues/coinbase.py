"""Coinbase Advanced Trade: WebSocket market data, as ticks. Called by `parse_frame` for sources `coinbase/...`.

Formats: Coinbase "Advanced Trade WebSocket channels" and its AsyncAPI document, 2026-08, and recordings of 2026-08.

    market_trades  TRADE  side: against the maker's, which is what Coinbase says; sequence: trade_id; oldest first (they
                          come newest first); SNAPSHOT: from before the subscription
    ticker         QUOTE  sequence: sequence_num of the message
    l2_data        BOOK   in the order of its updates; sequence: sequence_num

ts_event_ns: of a book's event the latest event_time in it, of a quote the message's timestamp. sequence_num counts all
messages of a connection from 0, whatever they are about: a jump is a GAP of every kind for each symbol that the
connection has had so far. So is a 0 that comes later: the connection was made anew, and nobody said so. What comes
again is LATE. What is rejected as MALFORMED counts as missing, a kind that is not read does not. Trade ids only show
what is LATE. State: `connection/sequence`, `symbols`.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any

import numpy as np

from tapeline.connectors.venues.assembly import Assembly
from tapeline.connectors.venues.columns import (
    INTEGER_MAX,
    MalformedError,
    decimals,
    digits,
    inexact,
    integers,
    iso_ns,
    symbols,
)
from tapeline.connectors.venues.contract import Parsed, Sequences, Venue
from tapeline.connectors.venues.depth import Levels, checked, latest
from tapeline.connectors.venues.reading import (
    TEXTS,
    Event,
    Read,
    Reading,
    Row,
    books,
    one_of,
    quotes,
    refused,
    sort,
    take,
    trades,
    unknown,
)
from tapeline.connectors.venues.shapes import EVENT_BITS, Stream
from tapeline.schemas import Flag, Kind, RawFrame, RejectReason
from tapeline.schemas.frames import Int64Array

TRADE, QUOTE, BOOK = "market_trades", "ticker", "l2_data"
STREAMS = (Stream(TRADE, Kind.TRADE, counted=False),)
NUMBER, SUBSCRIBED = "sequence", "subscription"
NUMBER_KEY, SYMBOLS_KEY = "connection/sequence", "symbols"
AGAINST_MAKER = {"BUY": -1, "SELL": 1}
LEVEL_SIDES = {"bid": 1, "offer": -1}
SUBSCRIPTIONS = frozenset({TRADE, QUOTE, "level2"})
LISTS = {TRADE: "trades", QUOTE: "tickers"}
"""Channel -> the field of an event that lists what happened."""


def parse(frame: RawFrame, state: Sequences) -> Parsed:
    """Return the ticks of one frame (see `contract`)."""
    assembly = Assembly("coinbase", frame, state, STREAMS)
    picks = {kind: reading.pick for kind, reading in READINGS.items()}
    found = sort(assembly, _events, picks | {NUMBER: _pick_itself, SUBSCRIBED: _pick_itself})
    first: dict[str, int] = {}
    for kind, reading in READINGS.items():
        events, rows = found[kind]
        taken = take(assembly, reading, events, rows) if rows else None
        for symbol, event in zip(taken[0], taken[1].tolist(), strict=True) if taken else ():
            first[symbol] = min(event, first.get(symbol, event))
    for event, (symbol,) in zip(*found[SUBSCRIBED], strict=True):
        first[symbol] = min(event, first.get(symbol, event))
    _follow_connection(assembly, *found[NUMBER], first)
    return assembly.parsed()


def _follow_connection(assembly: Assembly, events: list[int], rows: list[Row], first: dict[str, int]) -> None:
    """Compare the numbers of all messages; first: symbol -> the first event of this frame with it."""
    state = assembly.state
    seen = dict.fromkeys(str(state.get(SYMBOLS_KEY, "")).split(), -1)
    seen |= {symbol: first[symbol] for symbol in sorted(first, key=first.__getitem__) if symbol not in seen}
    if seen:
        state[SYMBOLS_KEY] = " ".join(seen)
    lost, again = assembly.lost, []
    last = state.get(NUMBER_KEY)
    for event, (number,) in zip(events, rows, strict=True):
        if event in lost:
            continue
        if isinstance(last, int) and 0 < number <= last:
            again.append(event)
            continue
        if isinstance(last, int) and number != last + 1:
            had = [symbol for symbol, at in seen.items() if at >> EVENT_BITS <= event >> EVENT_BITS]
            missing = max(0, number - last - 1)
            assembly.lose(event, had, last + 1 if missing else 0, missing)
        last = state[NUMBER_KEY] = number
    assembly.mark_late(again)


def _events(message: Any) -> Iterable[Event]:
    """Return what a message holds (see `reading.sort`); its number comes first."""
    match message:
        case {"channel": str(channel), "events": [*events], "sequence_num": int(number)}:
            if isinstance(number, bool) or not 0 <= number <= INTEGER_MAX:
                return [(RejectReason.MALFORMED, "sequence_num is not an integer from 0 on")]
            return [(NUMBER, number), *_of_channel(channel, message, events)]
        case {"channel": str(channel)}:
            return [(RejectReason.MALFORMED, f"{channel[:40]} without events and sequence_num")]
        case {"type": "error"}:
            return refused(message.get("message"))
    return [(RejectReason.UNKNOWN, "not an object as Coinbase sends them")]


def _of_channel(channel: str, message: dict[str, Any], events: list[Any]) -> Iterator[Event]:
    if channel in ("heartbeats", "subscriptions"):
        for event in events:
            if isinstance(event, dict) and isinstance(event.get("subscriptions"), dict):
                yield from ((SUBSCRIBED, symbol) for symbol in _subscribed(event["subscriptions"]))
        return
    if channel not in READINGS:
        yield from unknown("channel", channel)
        return
    for event in events:
        if not isinstance(event, dict) or event.get("type") not in ("snapshot", "update"):
            yield RejectReason.MALFORMED, f"event of {channel} that is no snapshot or update"
        elif channel == BOOK:
            yield BOOK, (message, event)
        elif isinstance(happened := event.get(LISTS[channel]), list):
            # The newest comes first.
            yield from ((channel, (message, event, one)) for one in reversed(happened))
        else:
            yield RejectReason.MALFORMED, f"event of {channel} without a list of {LISTS[channel]}"


def _subscribed(subscriptions: dict[str, Any]) -> Iterator[str]:
    """Give the products that are named in an answer to a subscription."""
    for channel, names in subscriptions.items():
        for name in names if channel in SUBSCRIPTIONS and isinstance(names, list) else ():
            try:
                symbols([name], "product")
            except MalformedError:
                continue
            yield name


def _pick_itself(content: Any) -> Row:
    return (content,)


def _pick_trade(content: Any) -> Row:
    _, event, trade = content
    fields = itemgetter("product_id", "trade_id", "price", "size", "time", "side")(trade)
    return (event["type"] == "snapshot", *fields)


def _pick_ticker(content: Any) -> Row:
    message, _, ticker = content
    fields = itemgetter("product_id", "best_bid", "best_bid_quantity", "best_ask", "best_ask_quantity")(ticker)
    return (*fields, message["timestamp"], message["sequence_num"])


def _pick_book(content: Any) -> Row:
    message, event = content
    return event["product_id"], event["type"] == "snapshot", event["updates"], message["sequence_num"]


def _trades(rows: Sequence[Row]) -> Read:
    snapshot, symbol, number, price, size, time, side = zip(*rows, strict=True)
    sides = one_of(side, "side", AGAINST_MAKER)
    ticks = trades(symbol, iso_ns(time, "time"), price, size, sides, TEXTS)
    ticks["sequence"] = digits(number, "trade_id")
    ticks["flags"][np.array(snapshot)] |= np.uint16(Flag.SNAPSHOT)
    return Read(symbol, ticks)


def _quotes(rows: Sequence[Row]) -> Read:
    symbol, *columns, time, number = zip(*rows, strict=True)
    ticks = quotes(symbol, iso_ns(time, "timestamp"), columns, TEXTS)
    ticks["sequence"] = integers(number, "sequence_num")
    return Read(symbol, ticks)


def _books(rows: Sequence[Row]) -> Read:
    symbol, snapshot, updates, number = zip(*rows, strict=True)
    if any(kind is not list for kind in set(map(type, updates))):
        raise MalformedError("updates are not a list")
    full, counts = np.array(snapshot), np.array([len(one) for one in updates], np.int64)
    found, times = _levels(list(chain.from_iterable(updates)), counts)
    heads = books(symbol, latest(times, counts), snapshot=full)
    heads["sequence"] = integers(number, "sequence_num")
    return Read(symbol, heads, levels=found)


def _levels(updates: list[Any], counts: Int64Array) -> tuple[Levels, Int64Array]:
    """Return the levels of updates, and the time of each."""
    if any(kind is not dict for kind in set(map(type, updates))):
        raise MalformedError("an update is not an object")
    try:
        fields = list(zip(*map(_LEVEL, updates), strict=True)) or [()] * 4
    except KeyError as error:
        raise MalformedError(f"an update without field {error}") from error
    side, price, size, time = fields
    sides = np.array(one_of(side, "side", LEVEL_SIDES), np.int8)
    prices, sizes = decimals(price, "price_level"), decimals(size, "new_quantity")
    levels = checked(Levels(counts, sides, prices, sizes, inexact(price) | inexact(size)))
    return levels, iso_ns(time, "event_time")


_LEVEL = itemgetter("side", "price_level", "new_quantity", "event_time")
READINGS = {
    TRADE: Reading(_pick_trade, _trades, TRADE),
    QUOTE: Reading(_pick_ticker, _quotes),
    BOOK: Reading(_pick_book, _books),
}
"""Channel -> how its events are read."""

VENUE = Venue("coinbase", parse)
