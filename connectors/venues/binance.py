"""Binance spot, USD-M and COIN-M futures: WebSocket market streams and the REST depth snapshot, as ticks.

Called by `parse_frame` for sources `binance/...`, `binance-usdm/...` and `binance-coinm/...`. Formats: Binance
"WebSocket Streams" of spot and of both futures and their REST `depth`, 2024-08, in a combined-stream envelope
{"stream", "data"} or bare.

    trade, aggTrade  TRADE  side: the aggressor's (m = "the buyer is the maker" false: +1); sequence: t, a
    bookTicker       QUOTE  sequence: u
    depthUpdate      BOOK   a tick a level, bids then asks, LAST on the last one; sequence: u
    depth snapshot   BOOK   likewise, with SNAPSHOT; sequence: lastUpdateId

ts_event_ns is T, the matching engine's time, where a message has it, else E, the time of the event, else (spot
bookTicker and snapshot) the receive time. Breaks: trade and aggTrade ids are consecutive; a spot update's U follows
the u before it; a futures update's pu is the u before it (ids jump, so the size of such a gap is not known). The
snapshot stands outside that chain: compare its sequence with the updates' to know where to apply it. Sizes of COIN-M
are contracts.
"""

from collections.abc import Sequence
from functools import partial
from operator import itemgetter
from typing import Any

import numpy as np

from tapeline.connectors.venues.assembly import UNSCANNED, Assembly
from tapeline.connectors.venues.binance_shapes import SCANNERS, STREAMS
from tapeline.connectors.venues.columns import UNTIMED, MalformedError, booleans, integers, symbols, times_ns
from tapeline.connectors.venues.contract import Parsed, Sequences, Venue
from tapeline.connectors.venues.depth import levels
from tapeline.connectors.venues.reading import (
    TEXTS,
    Event,
    Found,
    Pick,
    Read,
    Reading,
    Row,
    books,
    quotes,
    sort,
    take,
    trades,
    unknown,
)
from tapeline.schemas import RawFrame, RejectReason

Seen = dict[str, int]
"""Symbol -> the first event with it that was taken."""

TRADE, AGGREGATE, QUOTE, DEPTH, SNAPSHOT = "trade", "aggTrade", "bookTicker", "depthUpdate", "depth snapshot"
SYMBOLS_KEY = "symbols"
"""State: the first two symbols of the connection. A snapshot names none, so there must be exactly one."""


def parse(venue: str, frame: RawFrame, state: Sequences, *, scanned: bool = True) -> Parsed:
    """Return the ticks of one frame (see `contract`); venue: `binance`, `binance-usdm` or `binance-coinm`.

    scanned: whether messages of known shapes are scanned. That changes nothing but the time it takes.
    """
    assembly = Assembly(venue, frame, state, STREAMS[venue], SCANNERS[venue] if scanned else UNSCANNED)
    seen = assembly.seen
    if len(assembly.left):
        _read_left(venue, assembly, seen)
    if seen:
        state[SYMBOLS_KEY] = " ".join(_first_symbols(state, seen))
    return assembly.parsed()


def snapshot(venue: str, frame: RawFrame, symbol: str, state: Sequences) -> Parsed:
    """Return the ticks of the one message of a frame, what REST `depth` answered for `symbol` (see `Venue`)."""
    assembly = Assembly(venue, frame, state)
    found = sort(assembly, _answers, {SNAPSHOT: partial(_pick_snapshot, symbol)})
    _add_snapshots(assembly, *found[SNAPSHOT])
    return assembly.parsed()


def _read_left(venue: str, assembly: Assembly, seen: Seen) -> None:
    """Read the messages that were not scanned; `seen` is told of their symbols."""
    readings = READINGS[venue]
    picks: dict[str, Pick] = {kind: reading.pick for kind, reading in readings.items()}
    found: Found = sort(assembly, _events, picks | {SNAPSHOT: partial(_pick_snapshot, None)})
    for kind, reading in readings.items():
        events, rows = found[kind]
        taken = take(assembly, reading, events, rows) if rows else None
        for symbol, event in zip(taken[0], taken[1].tolist(), strict=True) if taken else ():
            seen[symbol] = min(event, seen.get(symbol, event))
    _add_snapshots(assembly, *_named(assembly, seen, *found[SNAPSHOT]))


def _events(message: Any) -> list[Event]:
    """Return what a message holds (see `reading.sort`)."""
    event = message.get("data", message) if isinstance(message, dict) else None
    if not isinstance(event, dict):
        return [(RejectReason.UNKNOWN, "not a JSON object with one event in it")]
    kind = event.get("e")
    if isinstance(kind, str) and kind in _COMMON:
        return [(kind, event)]
    if kind is not None:
        return unknown("event type", kind)
    # Two kinds do not say what they are: the depth snapshot and the spot book ticker.
    if "lastUpdateId" in event:
        return [(SNAPSHOT, event if event is message else {"stream": message.get("stream")} | event)]
    if "s" in event and "u" in event:
        return [(QUOTE, event)]
    if "id" in event and "result" in event:  # an answer to a subscription
        return []
    return _nameless(event)


def _answers(message: Any) -> list[Event]:
    if isinstance(message, dict) and "lastUpdateId" in message:
        return [(SNAPSHOT, message)]
    return _nameless(message) if isinstance(message, dict) else unknown("an answer", message)


def _nameless(event: dict[str, Any]) -> list[Event]:
    fields = ", ".join(list(event)[:8])
    return [(RejectReason.UNKNOWN, f"not a kind of message that is read here: no event type, fields {fields}")]


def _pick_snapshot(symbol: str | None, event: dict[str, Any]) -> Row:
    # The time is given by futures, the symbol by COIN-M, the stream by the envelope of a partial depth stream.
    name = symbol or event.get("symbol")
    if name is None and (stream := event.get("stream")) is not None:
        name = stream.partition("@")[0].upper() if isinstance(stream, str) else ""
    return name, event["lastUpdateId"], event["bids"], event["asks"], event.get("T")


def _first_symbols(state: Sequences, seen: Seen) -> list[str]:
    """Return the first two symbols of the connection, with those of this frame."""
    known = str(state.get(SYMBOLS_KEY, "")).split()
    return (known + sorted(seen.keys() - set(known), key=lambda symbol: seen[symbol]))[:2]


def _named(assembly: Assembly, seen: Seen, events: list[int], rows: list[Row]) -> tuple[list[int], list[Row]]:
    """Return the snapshots whose symbol is known: named, or the only one of the connection before them."""
    kept: list[tuple[int, Row]] = []
    for event, row in zip(events, rows, strict=True):
        before = _first_symbols(assembly.state, {one: first for one, first in seen.items() if first < event})
        if row[0] is not None:
            kept.append((event, row))
        elif len(before) == 1:
            kept.append((event, (before[0], *row[1:])))
        else:
            so_far = f"several symbols ({', '.join(before)}, ...)" if before else "no symbol"
            detail = f"a depth snapshot names no symbol, and this connection had {so_far} before it"
            assembly.reject(event, RejectReason.UNKNOWN, detail)
    return [event for event, _ in kept], [row for _, row in kept]


def _add_snapshots(assembly: Assembly, events: list[int], rows: list[Row]) -> None:
    if rows:
        take(assembly, Reading(tuple, _snapshots), events, rows)


def _trades(rows: Sequence[Row]) -> Read:
    symbol, sequence, price, size, time_ms, maker = zip(*rows, strict=True)
    symbols(symbol, "s")
    side = np.where(booleans(maker, "m"), -1, 1)
    ticks = trades(symbol, times_ns(time_ms, "T"), price, size, side, TEXTS)
    ticks["sequence"] = integers(sequence, "trade id")
    return Read(symbol, ticks, ticks["sequence"] - 1)


def _quotes(rows: Sequence[Row]) -> Read:
    symbol, sequence, *columns = zip(*rows, strict=True)
    # Spot says no time.
    time_ns = times_ns(columns[4], "T") if len(columns) > 4 else np.full(len(rows), UNTIMED)
    ticks = quotes(symbol, time_ns, columns[:4], TEXTS)
    ticks["sequence"] = integers(sequence, "u")
    return Read(symbol, ticks)


def _updates(rows: Sequence[Row]) -> Read:
    symbol, last, bids, asks, time_ms, first, *previous = zip(*rows, strict=True)
    heads = books(symbol, times_ns(time_ms, "time of the update"), snapshot=False)
    heads["sequence"] = integers(last, "u")
    before = integers(first, "U") - 1
    if (before >= heads["sequence"]).any():
        raise MalformedError("U is above u")
    if previous:
        before = integers(previous[0], "pu")
        if (before >= heads["sequence"]).any():
            raise MalformedError("pu is not below u")
    return Read(symbol, heads, before, levels(bids, asks))


def _snapshots(rows: Sequence[Row]) -> Read:
    symbol, last, bids, asks, time_ms = zip(*rows, strict=True)
    timed = np.array([ms is not None for ms in time_ms])
    time_ns = np.where(timed, times_ns([0 if ms is None else ms for ms in time_ms], "T"), UNTIMED)
    heads = books(symbol, time_ns, snapshot=True)
    heads["sequence"] = integers(last, "lastUpdateId")
    return Read(symbol, heads, levels=levels(bids, asks))


_COMMON: dict[str, Reading] = {
    TRADE: Reading(itemgetter("s", "t", "p", "q", "T", "m"), _trades, TRADE),
    AGGREGATE: Reading(itemgetter("s", "a", "p", "q", "T", "m"), _trades, AGGREGATE),
    QUOTE: Reading(itemgetter("s", "u", "b", "B", "a", "A"), _quotes, QUOTE),
    DEPTH: Reading(itemgetter("s", "u", "b", "a", "E", "U"), _updates, DEPTH),
}
_FUTURES = _COMMON | {
    QUOTE: Reading(itemgetter("s", "u", "b", "B", "a", "A", "T"), _quotes, QUOTE),
    DEPTH: Reading(itemgetter("s", "u", "b", "a", "T", "U", "pu"), _updates, DEPTH),
}
READINGS = {"binance": _COMMON, "binance-usdm": _FUTURES, "binance-coinm": _FUTURES}
"""Venue -> event type -> how it is read."""

SPOT, USDM, COINM = (Venue(name, partial(parse, name), partial(snapshot, name)) for name in READINGS)
