"""The bar: one 104-byte little-endian record that sums up the trades of an instrument.

Made by the bar builder from TRADE ticks, carried in `BarFrame`s, kept by the database, read by logics and people.
"""

from enum import IntEnum, IntFlag

import numpy as np
import numpy.typing as npt

BAR = np.dtype(
    [
        ("start_ns", "<i8"),  # time bars: begin of the interval; others: event time of the first trade
        ("end_ns", "<i8"),  # time bars: end of the interval, exclusive; others: event time of the last trade
        ("number", "<i8"),  # n-th bar: time bars start_ns // size (docs/bars.md: of a session), others counted from 0
        ("instrument_id", "<u4"),  # from the instrument registry
        ("kind", "u1"),  # BarKind
        ("flags", "u1"),  # BarFlag
        ("revision", "<u2"),  # 0 at first; a late trade gives the same bar again with one more
        ("size", "<f8"),  # ns, trades, volume or notional of a bar, by kind
        ("open", "<f8"),
        ("high", "<f8"),
        ("low", "<f8"),
        ("close", "<f8"),
        ("volume", "<f8"),
        ("notional", "<f8"),  # sum of price x size; by volume: the average price
        ("buy_volume", "<f8"),  # of trades whose aggressor bought
        ("trades", "<i8"),
    ]
)
BAR_BYTES = BAR.itemsize

Bars = npt.NDArray[np.void]
"""An array of BAR records, shape (n,). (instrument_id, kind, size, number) names a bar, its highest revision counts."""


class BarKind(IntEnum):
    """What makes a bar complete."""

    TIME = 1
    TICK = 2  # so many trades
    VOLUME = 3  # so much traded size
    DOLLAR = 4  # so much price x size


class BarFlag(IntFlag):
    """What is worth knowing about a bar."""

    LATE = 1 << 0  # revised: a trade came after it had closed
    PARTIAL = 1 << 1  # data is missing in it, or it began in the middle


def empty_bars(count: int) -> Bars:
    """Return `count` zeroed bars, shape (count,)."""
    return np.zeros(count, BAR)
