"""Read the messages that were not scanned: JSON, the events in them, their fields by kind, as ticks.

Most venues' `parse` does it all with `read`: a function tells the events of a message, a table of `Reading`s says how
each kind's fields become ticks.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import orjson

from tapeline.connectors.venues.assembly import Assembly, flag_quotes, set_flag
from tapeline.connectors.venues.columns import (
    Floats,
    MalformedError,
    Mask,
    decimals,
    inexact,
    inexact_numbers,
    numbers,
    symbols,
)
from tapeline.connectors.venues.depth import Levels, append_levels
from tapeline.schemas import Flag, Kind, RejectReason, Ticks, empty_ticks
from tapeline.schemas.frames import Int64Array

Row = tuple[Any, ...]
Pick = Callable[[Any], Row]
"""Give the fields of an event in the order in which the converter expects them."""
Event = tuple[str, Any]
"""A kind of the venue's table and what holds its fields; or a RejectReason and why."""
Found = dict[str, tuple[list[int], list[Row]]]
"""Kind -> its events, and the fields of each."""
DETAIL_CHARACTERS_MAX = 200


@dataclass(frozen=True, slots=True, eq=False)
class Read:
    """Events of one kind. symbols: n; ticks: (n,) one each (of a book: what its levels share); before: see `follow`."""

    symbols: Sequence[str]
    ticks: Ticks
    before: Int64Array | None = None
    levels: Levels | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """How events of one kind become ticks; stream: in which their numbers are followed, "": they are not."""

    pick: Pick
    convert: Callable[[Sequence[Row]], Read]
    stream: str = ""


def read(
    assembly: Assembly,
    events_of: Callable[[Any], Iterable[Event]],
    readings: Mapping[str, Reading],
    ignored: Collection[bytes] = (),
) -> None:
    """Read all messages that are left.

    events_of: says what a message (its JSON) holds, in order, and never raises; ignored: messages that are no JSON and
    say nothing.
    """
    found = sort(assembly, events_of, {kind: reading.pick for kind, reading in readings.items()}, ignored)
    for kind, (events, rows) in found.items():
        if rows:
            take(assembly, readings[kind], events, rows)


def sort(
    assembly: Assembly,
    events_of: Callable[[Any], Iterable[Event]],
    picks: Mapping[str, Pick],
    ignored: Collection[bytes] = (),
) -> Found:
    """Return the fields of all events in the messages that are left, by kind; reject what has not all of them."""
    found: Found = {kind: ([], []) for kind in picks}
    takes = {kind: (picks[kind], events.append, rows.append) for kind, (events, rows) in found.items()}
    loads = orjson.loads
    for first, data in assembly.messages():
        try:
            message = loads(data)
        except orjson.JSONDecodeError as error:
            if data not in ignored:
                assembly.reject(first, RejectReason.MALFORMED, f"not JSON: {error}")
            continue
        for event, (kind, content) in enumerate(events_of(message), first):
            if kind not in takes:
                assembly.reject(event, RejectReason(kind), content[:DETAIL_CHARACTERS_MAX])
                continue
            pick, add_event, add_row = takes[kind]
            try:
                add_row(pick(content))
            except KeyError as error:
                assembly.reject(event, RejectReason.MALFORMED, f"{kind} without field {error}")
            except MalformedError as error:
                assembly.reject(event, RejectReason.MALFORMED, str(error))
            except (TypeError, IndexError, AttributeError):
                assembly.reject(event, RejectReason.MALFORMED, f"{kind} that is not made as it should be")
            else:
                add_event(event)
    return found


def take(
    assembly: Assembly, reading: Reading, events: list[int], rows: list[Row]
) -> tuple[Sequence[str], Int64Array] | None:
    """Convert events of one kind and hand their ticks in; return the symbols and events of those that are sound."""
    converted = assembly.convert(reading.convert, events, rows)
    if converted is None:
        return None
    one, where = converted
    ticks = one.ticks
    assembly.stamp(ticks, where, one.symbols)
    untimed = ticks["ts_event_ns"] < 0
    ticks["ts_event_ns"][untimed] = ticks["ts_recv_ns"][untimed]
    if reading.stream:
        assembly.follow(reading.stream, ticks, where, one.before)
    if one.levels is None:
        assembly.append(ticks, where)
    else:
        append_levels(assembly, ticks, where, one.levels)
    return one.symbols, where


def unknown(what: str, name: Any) -> list[Event]:
    """Say that a message is of a kind that is not read; `name` may be anything."""
    # Only texts are shown: the repr of what is nested deeply enough ends the process.
    shown = repr(name[:40]) if isinstance(name, str) else f"that is a {type(name).__name__}"
    return [(RejectReason.UNKNOWN, f"not a kind of message that is read here: {what} {shown}")]


def refused(words: Any) -> list[Event]:
    """Say that the venue answered with an error."""
    shown = words if isinstance(words, str) else type(words).__name__
    return [(RejectReason.UNKNOWN, f"the venue says: {shown}")]


def elements(value: Any, what: str, least: int) -> list[Any]:
    """Return a JSON array of at least so many elements; a text has elements, too, but is none."""
    if type(value) is not list or len(value) < least:
        raise MalformedError(f"{what} is not a list of {least} or more")
    return value


def trades(
    symbol: Sequence[Any],
    time_ns: Int64Array,
    price: Sequence[Any],
    size: Sequence[Any],
    side: Sequence[int] | Int64Array,
    written: "Written",
) -> Ticks:
    """Return TRADE ticks, (n,); side: of the aggressor; written: how prices and sizes are."""
    symbols(symbol, "symbol")
    ticks = empty_ticks(len(symbol))
    ticks["kind"] = Kind.TRADE
    ticks["ts_event_ns"] = time_ns
    ticks["side"] = side
    for column, values in (("price", price), ("size", size)):
        ticks[column] = written.convert(values, column, positive=True)
        set_flag(ticks, written.inexact(values), Flag.INEXACT)
    return ticks


def quotes(symbol: Sequence[Any], time_ns: Int64Array, columns: Sequence[Sequence[Any]], written: "Written") -> Ticks:
    """Return QUOTE ticks, (n,); columns: n each of bid, its size, ask, its size; 0 is not given."""
    symbols(symbol, "symbol")
    ticks = empty_ticks(len(symbol))
    ticks["kind"] = Kind.QUOTE
    ticks["ts_event_ns"] = time_ns
    for (column, name), values in zip(QUOTE_COLUMNS, columns, strict=True):
        ticks[column] = written.convert(values, name)
        set_flag(ticks, written.inexact(values), Flag.INEXACT)
    flag_quotes(ticks)
    return ticks


def given(values: Sequence[Any]) -> Sequence[Any]:
    """Return numbers as texts with "0" for an empty text: the venue has none."""
    return ["0" if value == "" else value for value in values] if "" in values else values


def books(symbol: Sequence[Any], time_ns: Int64Array, *, snapshot: bool | Mask) -> Ticks:
    """Return what the levels of order books share, (n,); snapshot: whether it is a full picture."""
    symbols(symbol, "symbol")
    heads = empty_ticks(len(symbol))
    heads["kind"] = Kind.BOOK
    heads["ts_event_ns"] = time_ns
    heads["flags"] = np.where(snapshot, np.uint16(Flag.SNAPSHOT), np.uint16(0))
    return heads


def one_of(values: Sequence[Any], field: str, meaning: Mapping[str, int]) -> list[int]:
    """Return what each text means."""
    if any(kind is not str for kind in set(map(type, values))) or set(values) - meaning.keys():
        raise MalformedError(f"{field} is not one of {', '.join(meaning)}")
    return [meaning[value] for value in values]


QUOTE_COLUMNS = (
    ("price", "bid"),
    ("size", "size of the bid"),
    ("price2", "ask"),
    ("size2", "size of the ask"),
)


class Convert(Protocol):
    """Check and convert a column of numbers."""

    def __call__(self, values: Sequence[Any], field: str, *, positive: bool = False) -> Floats:
        """Return them as float64; raise MalformedError."""


class Written(NamedTuple):
    """How a venue writes numbers: how they are converted, and how to tell which are inexact."""

    convert: Convert
    inexact: Callable[[Sequence[Any]], Mask]


TEXTS = Written(decimals, inexact)
NUMBERS = Written(numbers, inexact_numbers)
"""Decimal strings, and JSON numbers."""
