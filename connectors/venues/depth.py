"""Levels of order books, as BOOK ticks: a tick a level. The venues' `parse` take their depth messages apart with it."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt

from tapeline.connectors.venues.assembly import Assembly, set_flag
from tapeline.connectors.venues.columns import (
    UNTIMED,
    Floats,
    MalformedError,
    Mask,
    decimals,
    inexact,
    inexact_numbers,
    numbers,
)
from tapeline.schemas import Flag, Ticks
from tapeline.schemas.frames import Int64Array

PAIR = frozenset({2})
"""Of a level [price, size]."""
BID, ASK = 1, -1


@dataclass(frozen=True, slots=True, eq=False)
class Levels:
    """Book levels of several events; counts: (events,) levels of each; side, price, size, inexact: (levels,)."""

    counts: Int64Array
    side: npt.NDArray[np.int8]
    price: Floats
    size: Floats
    inexact: Mask


def levels(bids: Sequence[Any], asks: Sequence[Any], widths: Collection[int] = PAIR) -> Levels:
    """Take apart the levels of events: of each its bids, then its asks; a level is [price, size, ...].

    widths: how many elements a level may have.
    """
    sides = [side for both in zip(bids, asks, strict=True) for side in both]
    found = _joined(sides)
    if any(kind is not list for kind in set(map(type, found))) or set(map(len, found)) - set(widths):
        raise MalformedError("a level is not a list of price and size")
    # price, size, price, size, ...
    texts = list(chain.from_iterable(found if widths is PAIR else map(itemgetter(0, 1), found)))
    values, too_long = decimals(texts, "price or size of a level"), inexact(texts)
    return _levels(sides, values[0::2], values[1::2], too_long[0::2] | too_long[1::2])


def object_levels(bids: Sequence[Any], asks: Sequence[Any], price: str, size: str) -> Levels:
    """Take apart levels that are objects of two JSON numbers, whose names are `price` and `size`."""
    sides = [side for both in zip(bids, asks, strict=True) for side in both]
    found = _joined(sides)
    if any(kind is not dict for kind in set(map(type, found))):
        raise MalformedError("a level is not an object of price and size")
    try:
        texts = list(chain.from_iterable(map(itemgetter(price, size), found)))
    except KeyError as error:
        raise MalformedError(f"a level without {error}") from error
    values, too_long = numbers(texts, "price or size of a level"), inexact_numbers(texts)
    return _levels(sides, values[0::2], values[1::2], too_long[0::2] | too_long[1::2])


def _joined(sides: Sequence[Any]) -> list[Any]:
    if any(kind is not list for kind in set(map(type, sides))):
        raise MalformedError("bids or asks are not a list")
    return list(chain.from_iterable(sides))


def _levels(sides: Sequence[Any], price: Floats, size: Floats, too_long: Mask) -> Levels:
    of_side = np.array([len(side) for side in sides], np.int64)
    side = np.repeat(np.tile(np.array([BID, ASK], np.int8), len(sides) // 2), of_side)
    return checked(Levels(of_side[0::2] + of_side[1::2], side, price, size, too_long))


def checked(found: Levels) -> Levels:
    """Return the levels if all prices are above zero."""
    if not (found.price > 0).all():
        raise MalformedError("price of a level is not above zero")
    return found


def latest(times_ns: Int64Array, counts: Int64Array) -> Int64Array:
    """Return the latest time of each event, UNTIMED without levels. times_ns: (levels,); counts: (events,)."""
    found = np.full(len(counts), UNTIMED, np.int64)
    filled = np.flatnonzero(counts)
    if len(filled):
        found[filled] = np.maximum.reduceat(times_ns, (np.cumsum(counts) - counts)[filled])
    return found


def append_levels(assembly: Assembly, heads: Ticks, where: Int64Array, found: Levels) -> None:
    """Make the BOOK ticks: what `heads` (one an event) says, a level each, LAST on each event's last.

    A full picture without levels is one tick without side.
    """
    empty = (found.counts == 0) & (heads["flags"] & Flag.SNAPSHOT != 0)
    counts = np.where(empty, 1, found.counts)
    ticks = np.repeat(heads, counts)
    filled = ~np.repeat(empty, counts)
    ticks["side"][filled], ticks["price"][filled], ticks["size"][filled] = found.side, found.price, found.size
    set_flag(ticks, np.flatnonzero(filled)[found.inexact], Flag.INEXACT)
    set_flag(ticks, np.cumsum(counts)[counts > 0] - 1, Flag.LAST)
    assembly.append(ticks, np.repeat(where, counts))
