"""The tick: one 64-byte little-endian record, one cache line, for everything a venue can say.

Made by the venue parsers, carried in `TickFrame`s, read by logics, sinks and backtests as numpy arrays.
Prices are float64 (15 significant digits; what does not fit is flagged INEXACT and stays exact in `raw`).
"""

from enum import IntEnum, IntFlag

import numpy as np
import numpy.typing as npt

TICK = np.dtype(
    [
        ("ts_event_ns", "<i8"),  # when it happened at the venue; may go back
        ("ts_recv_ns", "<i8"),  # when our recorder received it
        ("sequence", "<i8"),  # the venue's own number (trade id, update id), 0 if it gives none
        ("instrument_id", "<u4"),  # from the instrument registry
        ("kind", "u1"),  # Kind
        ("side", "i1"),  # +1 buy or bid, -1 sell or ask, 0 not given; of a trade: the aggressor
        ("flags", "<u2"),  # Flag
        ("price", "<f8"),  # QUOTE: bid
        ("size", "<f8"),  # QUOTE: bid size; 0 = not given, and in a BOOK tick: the level is gone
        ("price2", "<f8"),  # QUOTE: ask
        ("size2", "<f8"),  # QUOTE: ask size
    ]
)
TICK_BYTES = TICK.itemsize

Ticks = npt.NDArray[np.void]
"""An array of TICK records, shape (n,)."""


class Kind(IntEnum):
    """What a tick says."""

    TRADE = 1
    QUOTE = 2  # top of book: price, size = bid; price2, size2 = ask
    BOOK = 3  # one level of depth; size 0 removes it; size2 = how many levels a side the venue keeps (0: all)
    GAP = (
        4  # missing data: sequence = first missing, size = how many (0 unknown), price = GapReason, price2 = Kind or 0
    )
    STATUS = 5  # trading of the instrument: size 1 = open, 0 = closed or halted
    TIME = 6  # the clock of a quiet partition; instrument_id 0
    CONTROL = 7
    MARK = 8  # price = mark price, price2 = index price (0 not given)
    FUNDING = (
        9  # price = rate of the next payment (may be below 0), size = when it is, seconds since 1970 (0 not given)
    )


class Flag(IntFlag):
    """What is worth knowing about a tick; rules set flags, they drop nothing."""

    SNAPSHOT = 1 << 0  # part of a full picture, not a change
    LAST = 1 << 1  # last tick of its event (a depth update is many ticks)
    OUTLIER = 1 << 2
    STALE = 1 << 3
    CROSSED = 1 << 4  # bid above ask
    ONE_SIDED = 1 << 5  # bid or ask not given
    LATE = 1 << 6  # its sequence is not above the highest before it
    INEXACT = 1 << 7  # a number had more than 15 significant digits
    LOCKED = 1 << 8  # bid equals ask


class GapReason(IntEnum):
    """Why data is missing (field `price` of a GAP tick). Field `price2` is the kind that is missing, 0 = every kind.

    After a gap in BOOK (or in every kind) an order book is not synchronised until the next snapshot.
    """

    SEQUENCE = 1  # the venue's numbers jumped
    DISCONNECT = 2  # the connection to the venue was lost, or ended
    SILENCE = 3  # nothing came for too long
    CHECKSUM = 4  # the book does not match the venue's checksum
    GARBAGE = 5  # what came was no message of the venue's
    OVERLOAD = 6  # we were too slow: messages were dropped
    TAKEOVER = 7  # another process took the connection over


def empty_ticks(count: int) -> Ticks:
    """Return `count` zeroed ticks, shape (count,)."""
    return np.zeros(count, TICK)
