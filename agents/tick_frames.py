"""Cut what one raw record says into tick frames, at most one a ticks partition. Pure; `normalize` calls it."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from tapeline.connectors import venues
from tapeline.connectors.venues.compiled import array, compiled
from tapeline.schemas import TICK, FrameFlag, Instrument, Kind, Lane, TickFrame, Ticks, empty_ticks

TICKS_PER_PART = 50_000
"""Ticks in one frame at most (3.2 MB); more from one raw record make several parts."""
TICK_WORDS = TICK.itemsize // 8


def warm_up() -> None:
    """Compile everything between a raw record and its tick frames, so that the first one does not wait for it."""
    venues.warm_up()
    _kernel()


def cut(
    raw_partition: int, raw_offset: int, time_ns: int, ticks: Ticks, instruments: Sequence[Instrument]
) -> list[TickFrame]:
    """Return the frames of one raw record, by ticks partition.

    ticks: (n,) TICK in order of arrival, `instrument_id` = index into `instruments`; time_ns: the record's clock.
    256 parts always suffice: they hold more ticks than a raw record has bytes.
    """
    if not len(ticks):
        return []
    partitions = [instrument.partition for instrument in instruments]
    groups = sorted(set(partitions))
    group_of = [groups.index(partition) for partition in partitions]
    sorted_ticks, ends = np.empty((len(ticks), TICK_WORDS), np.int64), np.empty(len(groups), np.int64)
    known = _kernel()(
        ticks.view(np.int64).reshape(-1, TICK_WORDS),
        np.array([instrument.id for instrument in instruments], np.int64),
        np.array(group_of, np.int64),
        sorted_ticks,
        ends,
    )
    if not known:
        raise IndexError(f"a tick of an instrument beyond the {len(instruments)} that were given")
    resolved = sorted_ticks.view(TICK)[:, 0]
    frames: list[TickFrame] = []
    start = 0
    for partition, end in zip(groups, ends.tolist(), strict=True):
        for part, at in enumerate(range(start, end, TICKS_PER_PART)):
            flags = FrameFlag.MORE if at + TICKS_PER_PART < end else FrameFlag.NONE
            piece = resolved[at : min(at + TICKS_PER_PART, end)]
            frames.append(TickFrame(Lane(raw_partition, partition), raw_offset, part, time_ns, piece, flags))
        start = end
    return frames


def _group(ticks: Any, ids: Any, group_of: Any, grouped: Any, ends: Any) -> Any:
    """Write the ticks group by group, each in order of arrival, with their ids instead of their places in `ids`.

    Returns whether `ids` has all those places.

    ticks, grouped: (n, 8) int64; ids, group_of: (instruments,); ends: (groups,), where each group ends.
    """
    ends[:] = 0
    for number in range(len(ticks)):
        instrument = ticks[number, 3] & 0xFFFFFFFF
        if instrument >= len(ids):
            return False
        ends[group_of[instrument]] += 1
    start = 0
    for group in range(len(ends)):
        start, ends[group] = start + ends[group], start
    for number in range(len(ticks)):
        instrument = ticks[number, 3] & 0xFFFFFFFF
        place = ends[group_of[instrument]]
        ends[group_of[instrument]] = place + 1
        for word in range(8):
            grouped[place, word] = ticks[number, word]
        grouped[place, 3] += ids[instrument] - instrument
    return True


@cache
def _kernel() -> Callable[..., bool]:
    ticks, written = array(np.int64, 2), array(np.int64, written=True)
    return compiled(_group, ticks, array(np.int64), array(np.int64), array(np.int64, 2, written=True), written)


def time_frames(raw_partition: int, raw_offset: int, time_ns: int, ticks_partitions: int) -> list[TickFrame]:
    """Return a TIME tick for every ticks partition, so that the clock of a quiet one moves too."""
    tick = empty_ticks(1)
    tick["ts_event_ns"] = tick["ts_recv_ns"] = time_ns
    tick["kind"] = Kind.TIME
    return [
        TickFrame(Lane(raw_partition, partition), raw_offset, 0, time_ns, tick) for partition in range(ticks_partitions)
    ]
