"""The compiled part of `bybit_said`: numbers out of texts, fields over fields, ticks out of fields."""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from tapeline.connectors.venues.bybit_said import EMPTY, EXACT, INEXACT, PAYMENT, UNKNOWN
from tapeline.connectors.venues.columns import NUMBER_MAX
from tapeline.connectors.venues.compiled import array, compiled
from tapeline.connectors.venues.lexing import MINUS, address_of, byte_at, read_decimal, read_digits
from tapeline.connectors.venues.scan import (
    ANEW_BIT,
    CROSSED,
    LOCKED,
    ONE_SIDED,
    PRICE,
    PRICE2,
    ROW,
    SAID_FIELDS,
    SAID_GROUPS,
    SIZE,
    SIZE2,
    SLOT_OF,
    TEXTS,
    WHAT,
)
from tapeline.connectors.venues.scan import INEXACT as INEXACT_BIT
from tapeline.connectors.venues.shapes import bits
from tapeline.schemas import Kind

BID, BID_SIZE, ASK, ASK_SIZE, MARK, INDEX, RATE = range(7)
"""The fields before PAYMENT, as `bybit_tickers` and `bybit_shapes` number them."""
QUOTE_BITS, MARK_BITS, FUNDING_BITS = bits(Kind.QUOTE), bits(Kind.MARK), bits(Kind.FUNDING)
QUOTED, MARKED = 0, 1
"""Groups; the third is funding."""
BELOW = int(NUMBER_MAX)


def _complete(
    body: Any, said: Any, values: Any, known: Any, starts: Any, sizes: Any, ints: Any, floats: Any, where: Any
) -> Any:
    """Complete the ticks that `scan` made room for; return how many ticks there are now, -1: a number is too long.

    body: (bytes,) uint8; said: (messages, SAID_WORDS). Changed: values, known, starts, sizes: (symbols, SAID_FIELDS)
    what a field is, what is known of it, and where in the body it was said, size -1 if not; ints, floats: (n, 8), two
    views of the ticks; where: (n,) their events, -1 for those that are none: of them too little is known.
    """
    base = address_of(body)
    last = base + len(body)
    count = len(where)
    for number in range(len(said)):
        slot, what = said[number, SLOT_OF], said[number, WHAT]
        # 1. put what it says over what was said
        for field in range(SAID_FIELDS):
            if what & ANEW_BIT:
                known[slot, field] = UNKNOWN
            start, size = said[number, TEXTS + 2 * field], said[number, TEXTS + 2 * field + 1]
            if size < 0:
                continue
            starts[slot, field], sizes[slot, field] = start, size
            values[slot, field] = 0.0
            known[slot, field] = EMPTY
            if size == 0:
                continue
            at, end = base + start, base + start + size
            known[slot, field] = EXACT
            if field == PAYMENT:
                time_ms, _ = read_digits(at, end, last)
                values[slot, field] = np.float64(np.int64(time_ms)) / 1000
                continue
            negative = byte_at(at) == MINUS
            decimal, inexact, at = read_decimal(at + (1 if negative else 0), end, last, np.int64(0), np.int64(BELOW))
            if at < 0:
                return -1
            values[slot, field] = 0.0 - decimal if negative else decimal
            if inexact:
                known[slot, field] = INEXACT
        # 2. complete a tick of each group that it says something of
        tick = said[number, ROW]
        for group in range(SAID_GROUPS):
            if not what & (1 << group):
                continue
            ints[tick, 3] |= QUOTE_BITS if group == QUOTED else MARK_BITS if group == MARKED else FUNDING_BITS
            first = BID if group == QUOTED else MARK if group == MARKED else RATE
            second = first + (2 if group == QUOTED else 1)
            floats[tick, PRICE] = values[slot, first]
            floats[tick, SIZE] = floats[tick, PRICE2] = floats[tick, SIZE2] = 0.0
            whole = known[slot, first] >= EXACT
            exact = known[slot, first] != INEXACT
            if group == QUOTED:
                whole = True
                for field in range(BID, ASK_SIZE + 1):
                    whole = whole and known[slot, field] != UNKNOWN
                    exact = exact and known[slot, field] != INEXACT
                bid, ask = values[slot, BID], values[slot, ASK]
                floats[tick, SIZE] = values[slot, BID_SIZE]
                floats[tick, PRICE2] = ask
                floats[tick, SIZE2] = values[slot, ASK_SIZE]
                if bid == 0 or ask == 0:
                    ints[tick, 3] |= ONE_SIDED
                elif bid > ask:
                    ints[tick, 3] |= CROSSED
                elif bid == ask:
                    ints[tick, 3] |= LOCKED
            elif group == MARKED:
                exact = exact and known[slot, second] != INEXACT
                floats[tick, PRICE2] = values[slot, second] if known[slot, second] >= EXACT else 0.0
            else:
                floats[tick, SIZE] = values[slot, second] if known[slot, second] >= EXACT else 0.0
            if not exact:
                ints[tick, 3] |= INEXACT_BIT
            if not whole:
                where[tick] = -1
                count -= 1
            tick += 1
    return count


@cache
def kernel() -> Callable[..., int]:
    """Return the compiled function: takes seconds at the first call, or some ms from numba's cache."""
    read, written = array(np.int64, 2), array(np.int64, 2, written=True)
    floats = array(np.float64, 2, written=True)
    where = array(np.int64, written=True)
    return compiled(_complete, array(np.uint8), read, floats, written, written, written, written, floats, where)
