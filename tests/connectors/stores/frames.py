"""Tick frames to write, used by the tests of stores with and without a server."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tapeline.schemas import FrameFlag, Instrument, Kind, Lane, TickFrame, Ticks, empty_ticks
from tests.connectors.stores.examples import DAY_NS, START_NS

A = Instrument(id=77, name="sim:A", partition=1)
B = Instrument(id=4_000_000_000, name="sim:B", partition=1)
C = Instrument(id=5, name="sim:C", partition=1)
SECOND_NS = 10**9

__all__ = ["DAY_NS", "START_NS", "A", "B", "C", "make_frame", "make_ticks", "placed"]


def make_ticks(count: int, *, start_ns: int = START_NS, step_ns: int = SECOND_NS, **fields: Any) -> Ticks:
    """Trades of A and B in turn, each a step after the one before; fields: others than these."""
    ticks = empty_ticks(count)
    ticks["ts_event_ns"] = start_ns + np.arange(count) * step_ns
    ticks["ts_recv_ns"] = ticks["ts_event_ns"] + 5_000_123
    ticks["sequence"] = 1000 + np.arange(count)
    ticks["instrument_id"] = np.resize([A.id, B.id], count)
    ticks["kind"] = Kind.TRADE
    ticks["side"] = np.resize([1, -1, -1], count)
    ticks["price"] = 100 + np.arange(count) % 7 / 4
    ticks["size"] = 1 + np.arange(count) % 3
    for name, value in fields.items():
        ticks[name] = value
    return ticks


def make_frame(
    origin: int, count: int = 4, *, part: int = 0, more: bool = False, raw: int = 3, **fields: Any
) -> TickFrame:
    """The frame of a raw record of partition `raw`, for ticks partition 1; a second of market after the one before."""
    ticks = make_ticks(count, **{"start_ns": START_NS + origin * SECOND_NS, "step_ns": SECOND_NS // 1000} | fields)
    flags = FrameFlag.MORE if more else FrameFlag.NONE
    return TickFrame(Lane(raw, 1), origin, part, START_NS, ticks, flags)


def placed(frames: Sequence[TickFrame], start: int = 0) -> list[tuple[int, TickFrame]]:
    """The frames as they lie in the topic, from offset `start` on."""
    return list(enumerate(frames, start))
