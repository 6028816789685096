"""Binance spot and USD-M futures: WebSocket market streams and the REST depth snapshot, as ticks.

Called by `parse_frame` for sources `binance/...` and `binance-usdm/...`. Formats: Binance "WebSocket Streams" of
spot and of USD-M futures and their REST `depth`, 2024-08, in a combined-stream envelope {"stream", "data"} or bare.

    trade, aggTrade  TRADE  side: the aggressor's (m = "the buyer is the maker" false: +1); sequence: t, a
    bookTicker       QUOTE  sequence: u
    depthUpdate      BOOK   a tick a level, bids then asks, LAST on the last one; sequence: u
    depth snapshot   BOOK   likewise, with SNAPSHOT; sequence: lastUpdateId

ts_event_ns is T, the matching engine's time, where a message has it, else E, the time of the event, else (spot
bookTicker and snapshot) the receive time. Breaks: trade and aggTrade ids are consecutive; a spot update's U follows
the u before it; a USD-M update's pu is the u before it (ids jump, so the size of such a gap is not known). The
snapshot stands outside that chain: compare its sequence with the updates' to know where to apply it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from operator import itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from tapeline.connectors.venues.assembly import UNSCANNED, Assembly, flag_inexact, flag_quotes, set_flag
from tapeline.connectors.venues.binance_shapes import SCANNERS, STREAMS
from tapeline.connectors.venues.columns import (
    Floats,
    MalformedError,
    Mask,
    booleans,
    decimals,
    inexact,
    integers,
    symbols,
    times_ns,
)
from tapeline.connectors.venues.contract import Parsed, Sequences, Venue
from tapeline.schemas import Flag, Kind, RawFrame, RejectReason, Ticks, empty_ticks
from tapeline.schemas.frames import Int64Array

Row = tuple[Any, ...]
Seen = dict[str, int]
"""Symbol -> index of the first message with it that was taken."""
Pick = Callable[[dict[str, Any]], Row]

TRADE, AGGREGATE, QUOTE, DEPTH, SNAPSHOT = "trade", "aggTrade", "bookTicker", "depthUpdate", "depth snapshot"


def _pick_snapshot(event: dict[str, Any]) -> Row:
    # The time is given by USD-M, the stream by the envelope of a partial depth stream.
    return event["lastUpdateId"], event["bids"], event["asks"], event.get("T"), event.get("stream")


_COMMON: dict[str, Pick] = {
    TRADE: itemgetter("s", "t", "p", "q", "T", "m"),
    AGGREGATE: itemgetter("s", "a", "p", "q", "T", "m"),
    SNAPSHOT: _pick_snapshot,
}
PICKS: dict[str, dict[str, Pick]] = {
    "binance": _COMMON
    | {QUOTE: itemgetter("s", "u", "b", "B", "a", "A"), DEPTH: itemgetter("s", "u", "b", "a", "E", "U")},
    "binance-usdm": _COMMON
    | {QUOTE: itemgetter("s", "u", "b", "B", "a", "A", "T"), DEPTH: itemgetter("s", "u", "b", "a", "T", "U", "pu")},
}
"""Venue -> event type -> the fields that are read, in the order in which the converters below expect them."""

SYMBOLS_KEY = "symbols"
"""State: the first two symbols of the connection. A snapshot names none, so there must be exactly one."""


def parse(venue: str, frame: RawFrame, state: Sequences, *, scanned: bool = True) -> Parsed:
    """Return the ticks of one frame (see `contract`); venue: `binance` or `binance-usdm`.

    scanned: whether messages of known shapes are scanned. That changes nothing but the time it takes.
    """
    assembly = Assembly(venue, frame, state, STREAMS[venue], SCANNERS[venue] if scanned else UNSCANNED)
    seen = assembly.seen
    if len(assembly.left):
        _parse_left(venue, assembly, seen)
    if seen:
        state[SYMBOLS_KEY] = " ".join(_first_symbols(state, seen))
    return assembly.parsed()


def _parse_left(venue: str, assembly: Assembly, seen: Seen) -> None:
    """Parse the messages that were not scanned; `seen` is told of their symbols."""
    picks = PICKS[venue]
    found: dict[str, tuple[list[int], list[Row]]] = {kind: ([], []) for kind in picks}
    takes = {kind: (picks[kind], indices.append, rows.append) for kind, (indices, rows) in found.items()}
    loads = orjson.loads
    for index, data in assembly.messages():
        # 1. read the JSON, take off the envelope, 2. tell the kind, 3. pick its fields
        try:
            message = loads(data)
            event = message.get("data", message)
            take = takes.get(event.get("e"))
        except orjson.JSONDecodeError as error:
            assembly.reject(index, RejectReason.MALFORMED, f"not JSON: {error}")
            continue
        except (TypeError, AttributeError):
            assembly.reject(index, RejectReason.UNKNOWN, "not a JSON object with one event in it")
            continue
        if take is None:
            take = takes.get(_kind_without_name(event) or "")
            if take is None:
                assembly.reject(index, RejectReason.UNKNOWN, _unknown(event))
                continue
            event.setdefault("stream", message.get("stream"))
        pick, add_index, add_row = take
        try:
            add_row(pick(event))
        except KeyError as error:
            kind = event.get("e") or _kind_without_name(event)
            assembly.reject(index, RejectReason.MALFORMED, f"{kind} without field {error}")
            continue
        add_index(index)

    for kind, add in ((TRADE, _add_trades), (AGGREGATE, _add_trades), (QUOTE, _add_quotes), (DEPTH, _add_updates)):
        indices, rows = found[kind]
        for symbol, index in add(assembly, kind, indices, rows).items() if rows else ():
            seen[symbol] = min(index, seen.get(symbol, index))
    _add_snapshots(assembly, seen, *found[SNAPSHOT])


def _first_symbols(state: Sequences, seen: Seen) -> list[str]:
    """Return the first two symbols of the connection, with those of this frame."""
    known = str(state.get(SYMBOLS_KEY, "")).split()
    return (known + sorted(seen.keys() - set(known), key=lambda symbol: seen[symbol]))[:2]


def _kind_without_name(event: dict[str, Any]) -> str | None:
    """Tell the two kinds that do not say what they are: the depth snapshot and the spot book ticker."""
    if event.get("e") is not None:
        return None
    return SNAPSHOT if "lastUpdateId" in event else QUOTE if "s" in event and "u" in event else None


def _unknown(event: dict[str, Any]) -> str:
    kind = event.get("e")
    # Only texts are shown: the repr of what is nested deeply enough ends the process.
    shown = repr(kind[:40]) if isinstance(kind, str) else f"that is a {type(kind).__name__}"
    named = f"event type {shown}" if kind is not None else f"no event type, fields {', '.join(list(event)[:8])}"
    return f"not a kind of message that is read here: {named}"[:200]


def _first(symbol: Row, where: Int64Array) -> Seen:
    return dict(zip(reversed(symbol), reversed(where.tolist()), strict=True))


def _add_trades(assembly: Assembly, stream: str, indices: list[int], rows: list[Row]) -> Seen:
    converted = assembly.convert(_trades, indices, rows)
    if converted is None:
        return {}
    (symbol, ticks), where = converted
    assembly.stamp(ticks, where, symbol)
    assembly.follow(stream, ticks, where, ticks["sequence"] - 1)
    assembly.append(ticks, where)
    return _first(symbol, where)


def _trades(rows: Sequence[Row]) -> tuple[Row, Ticks]:
    symbol, sequence, price, size, time_ms, maker = zip(*rows, strict=True)
    symbols(symbol, "s")
    ticks = empty_ticks(len(rows))
    ticks["kind"] = Kind.TRADE
    ticks["ts_event_ns"] = times_ns(time_ms, "T")
    ticks["sequence"] = integers(sequence, "trade id")
    ticks["side"] = np.where(booleans(maker, "m"), -1, 1)
    ticks["price"] = decimals(price, "p", positive=True)
    ticks["size"] = decimals(size, "q", positive=True)
    flag_inexact(ticks, price, size)
    return symbol, ticks


def _add_quotes(assembly: Assembly, stream: str, indices: list[int], rows: list[Row]) -> Seen:
    converted = assembly.convert(_quotes, indices, rows)
    if converted is None:
        return {}
    (symbol, ticks), where = converted
    assembly.stamp(ticks, where, symbol)
    if len(rows[0]) == 6:  # spot says no time
        ticks["ts_event_ns"] = ticks["ts_recv_ns"]
    assembly.follow(stream, ticks, where, None)
    assembly.append(ticks, where)
    return _first(symbol, where)


def _quotes(rows: Sequence[Row]) -> tuple[Row, Ticks]:
    symbol, sequence, *numbers = zip(*rows, strict=True)
    numbers, time_ms = numbers[:4], numbers[4:]
    symbols(symbol, "s")
    ticks = empty_ticks(len(rows))
    ticks["kind"] = Kind.QUOTE
    if time_ms:
        ticks["ts_event_ns"] = times_ns(time_ms[0], "T")
    ticks["sequence"] = integers(sequence, "u")
    for field, name, values in zip(("price", "size", "price2", "size2"), "bBaA", numbers, strict=True):
        ticks[field] = decimals(values, name)
    flag_inexact(ticks, *numbers)
    flag_quotes(ticks)
    return symbol, ticks


def _add_updates(assembly: Assembly, stream: str, indices: list[int], rows: list[Row]) -> Seen:
    converted = assembly.convert(_updates, indices, rows)
    if converted is None:
        return {}
    (symbol, heads, before, levels), where = converted
    assembly.stamp(heads, where, symbol)
    assembly.follow(stream, heads, where, before)
    _append_levels(assembly, heads, where, levels)
    return _first(symbol, where)


def _updates(rows: Sequence[Row]) -> tuple[Row, Ticks, Int64Array, "Levels"]:
    symbol, last, bids, asks, time_ms, first, *previous = zip(*rows, strict=True)
    symbols(symbol, "s")
    heads = empty_ticks(len(rows))
    heads["kind"] = Kind.BOOK
    heads["ts_event_ns"] = times_ns(time_ms, "time of the update")
    heads["sequence"] = integers(last, "u")
    before = integers(first, "U") - 1
    if (before >= heads["sequence"]).any():
        raise MalformedError("U is above u")
    if previous:
        before = integers(previous[0], "pu")
        if (before >= heads["sequence"]).any():
            raise MalformedError("pu is not below u")
    return symbol, heads, before, _levels(bids, asks)


def _add_snapshots(assembly: Assembly, seen: Seen, indices: list[int], rows: list[Row]) -> None:
    named: list[tuple[int, Row]] = []
    for index, row in zip(indices, rows, strict=True):
        before = _first_symbols(assembly.state, {one: first for one, first in seen.items() if first < index})
        if row[-1] is not None:  # a partial depth stream: its name begins with the symbol
            named.append((index, (row[-1].partition("@")[0].upper() if isinstance(row[-1], str) else "", *row)))
        elif len(before) == 1:
            named.append((index, (before[0], *row)))
        else:
            so_far = f"several symbols ({', '.join(before)}, ...)" if before else "no symbol"
            detail = f"a depth snapshot names no symbol, and this connection had {so_far} before it"
            assembly.reject(index, RejectReason.UNKNOWN, detail)
    if not named:
        return
    converted = assembly.convert(_snapshots, [index for index, _ in named], [row for _, row in named])
    if converted is None:
        return
    (symbol, heads, levels), where = converted
    assembly.stamp(heads, where, symbol)
    heads["ts_event_ns"] = np.where(heads["ts_event_ns"] == 0, heads["ts_recv_ns"], heads["ts_event_ns"])
    _append_levels(assembly, heads, where, levels)


def _snapshots(rows: Sequence[Row]) -> tuple[Row, Ticks, "Levels"]:
    symbol, last, bids, asks, time_ms, _ = zip(*rows, strict=True)
    symbols(symbol, "stream")
    heads = empty_ticks(len(rows))
    heads["kind"] = Kind.BOOK
    heads["flags"] = Flag.SNAPSHOT
    heads["ts_event_ns"] = times_ns([0 if ms is None else ms for ms in time_ms], "T")
    heads["sequence"] = integers(last, "lastUpdateId")
    return symbol, heads, _levels(bids, asks)


@dataclass(frozen=True, slots=True, eq=False)
class Levels:
    """Book levels of several messages; counts: (messages,) levels of each; side, price, size, inexact: (levels,)."""

    counts: Int64Array
    side: npt.NDArray[np.int8]
    price: Floats
    size: Floats
    inexact: Mask


def _levels(bids: Sequence[Any], asks: Sequence[Any]) -> Levels:
    """Take apart the levels of messages: of each its bids, then its asks; a level is [price, size]."""
    sides = [side for both in zip(bids, asks, strict=True) for side in both]
    if any(kind is not list for kind in set(map(type, sides))):
        raise MalformedError("bids or asks are not a list")
    levels = list(chain.from_iterable(sides))
    if any(kind is not list for kind in set(map(type, levels))) or set(map(len, levels)) - {2}:
        raise MalformedError("a level is not a list of price and size")
    numbers = list(chain.from_iterable(levels))  # price, size, price, size, ...
    values, too_long = decimals(numbers, "price or size of a level"), inexact(numbers)
    if not (values[0::2] > 0).all():
        raise MalformedError("price of a level is not above zero")
    of_side = np.array([len(side) for side in sides], np.int64)
    return Levels(
        of_side[0::2] + of_side[1::2],
        np.repeat(np.tile(np.array([1, -1], np.int8), len(bids)), of_side),
        values[0::2],
        values[1::2],
        too_long[0::2] | too_long[1::2],
    )


def _append_levels(assembly: Assembly, heads: Ticks, where: Int64Array, levels: Levels) -> None:
    """Make the BOOK ticks: what `heads` (one a message) says, a level each, LAST on each message's last."""
    ticks = np.repeat(heads, levels.counts)
    ticks["side"], ticks["price"], ticks["size"] = levels.side, levels.price, levels.size
    set_flag(ticks, levels.inexact, Flag.INEXACT)
    set_flag(ticks, np.cumsum(levels.counts)[levels.counts > 0] - 1, Flag.LAST)
    assembly.append(ticks, np.repeat(where, levels.counts))


SPOT = Venue("binance", partial(parse, "binance"))
USDM = Venue("binance-usdm", partial(parse, "binance-usdm"))
