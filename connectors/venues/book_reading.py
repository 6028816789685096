"""Read the books in `BookArrays`: for compiled logics, and for `book.Book`. A side is 1 (bids) or -1 (asks).

A function whose answer is one number gives nan where there is none: check that, or the `state`, before it decides.
"""

from collections.abc import Callable
from enum import IntFlag
from functools import cache
from typing import Any

import numpy as np
from numba import types

from tapeline.connectors.venues.book_arrays import BLOCKS, LEVELS, SYNCHRONISED, UPDATED_NS, arrays_type
from tapeline.connectors.venues.book_levels import find_block, find_level
from tapeline.connectors.venues.compiled import INT64, array, compiled, inlined

NEVER_NS = 2**63 - 1
"""How old a book may be that never gets stale."""


class BookState(IntFlag):
    """What is wrong with a book; 0 = it can be used as it is."""

    SOUND = 0
    UNSYNCHRONISED = 1  # there was no snapshot yet, or none since a gap: it is empty
    CROSSED = 2  # the best bid is above the best ask
    LOCKED = 4  # they are equal
    ONE_SIDED = 8  # no bids or no asks
    STALE = 16  # no update for the time that was declared


_UNSYNCHRONISED, _CROSSED, _LOCKED = (
    int(one) for one in (BookState.UNSYNCHRONISED, BookState.CROSSED, BookState.LOCKED)
)
_ONE_SIDED, _STALE = int(BookState.ONE_SIDED), int(BookState.STALE)


@inlined
def best(books: Any, slot: Any, side: Any) -> Any:
    """Return (price, size) of the best level; (nan, 0.0) if there is none."""
    row = 2 * slot if side == 1 else 2 * slot + 1
    blocks = books.sides[row, BLOCKS]
    if blocks == 0:
        return np.nan, 0.0
    block = books.chain[row, blocks - 1]
    at = books.counts[block] - 1
    return side * books.keys[block, at], books.sizes[block, at]


@inlined
def state(books: Any, slot: Any, now_ns: Any, stale_ns: Any) -> Any:
    """Return the bits of `BookState`. now_ns: the clock of the frames; stale_ns: how old a book may be, or NEVER_NS."""
    if not books.heads[slot, SYNCHRONISED]:
        return _UNSYNCHRONISED | _ONE_SIDED
    found = 0
    bid, _ = best(books, slot, 1)
    ask, _ = best(books, slot, -1)
    if bid > ask:
        found |= _CROSSED
    elif bid == ask:
        found |= _LOCKED
    elif not bid < ask:
        found |= _ONE_SIDED
    if now_ns - books.heads[slot, UPDATED_NS] > stale_ns:
        found |= _STALE
    return found


@inlined
def count_levels(books: Any, slot: Any, side: Any) -> Any:
    """Return how many levels a side has."""
    return books.sides[2 * slot if side == 1 else 2 * slot + 1, LEVELS]


@inlined
def top(books: Any, slot: Any, side: Any, prices: Any, sizes: Any) -> Any:
    """Copy the best levels, best first, until the arrays are full; return how many. prices, sizes: (n,)."""
    row = 2 * slot if side == 1 else 2 * slot + 1
    count = 0
    for place in range(books.sides[row, BLOCKS] - 1, -1, -1):
        block = books.chain[row, place]
        for at in range(books.counts[block] - 1, -1, -1):
            if count == len(prices):
                return count
            prices[count] = side * books.keys[block, at]
            sizes[count] = books.sizes[block, at]
            count += 1
    return count


@inlined
def size_at(books: Any, slot: Any, side: Any, price: Any) -> Any:
    """Return the size of the level at a price; 0.0 if there is none."""
    row = 2 * slot if side == 1 else 2 * slot + 1
    if books.sides[row, BLOCKS] == 0:
        return 0.0
    block = books.chain[row, find_block(books, row, side * price)]
    at = find_level(books, block, side * price)
    if at < books.counts[block] and books.keys[block, at] == side * price:
        return books.sizes[block, at]
    return 0.0


@inlined
def depth_to(books: Any, slot: Any, side: Any, price: Any) -> Any:
    """Return the size of all levels at a price or better."""
    row = 2 * slot if side == 1 else 2 * slot + 1
    total = 0.0
    for place in range(books.sides[row, BLOCKS] - 1, -1, -1):
        block = books.chain[row, place]
        for at in range(books.counts[block] - 1, -1, -1):
            if books.keys[block, at] < side * price:
                return total
            total += books.sizes[block, at]
    return total


@cache
def reader(name: str) -> Callable[..., Any]:
    """Return one of the functions above, compiled for calls from Python: slot and side as ints, float64 arrays."""
    floats = array(np.float64, written=True)
    arguments = {
        "state": (INT64, INT64),
        "top": (INT64, floats, floats),
        "size_at": (INT64, types.float64),
        "depth_to": (INT64, types.float64),
    }[name]
    return compiled(globals()[name].py_func, arrays_type(), INT64, *arguments, counted=False)
