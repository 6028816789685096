"""Cut what one raw record says into tick frames, at most one a ticks partition. Pure; `normalize` calls it."""

from collections.abc import Sequence

import numpy as np

from tapeline.schemas import FrameFlag, Instrument, Kind, Lane, TickFrame, Ticks, empty_ticks

TICKS_PER_PART = 50_000
"""Ticks in one frame at most (3.2 MB); more from one raw record make several parts."""


def cut(
    raw_partition: int, raw_offset: int, time_ns: int, ticks: Ticks, instruments: Sequence[Instrument]
) -> list[TickFrame]:
    """Return the frames of one raw record, by ticks partition.

    ticks: (n,) TICK in order of arrival, `instrument_id` = index into `instruments`; time_ns: the record's clock.
    256 parts always suffice: they hold more ticks than a raw record has bytes.
    """
    if not len(ticks):
        return []
    ids = np.array([instrument.id for instrument in instruments], np.uint32)
    partitions = np.array([instrument.partition for instrument in instruments], np.int64)
    local = ticks["instrument_id"].astype(np.int64)
    resolved = ticks.copy()
    resolved["instrument_id"] = ids[local]
    of_tick = partitions[local]
    frames: list[TickFrame] = []
    for partition in np.unique(of_tick).tolist():
        own = resolved[of_tick == partition]
        starts = range(0, len(own), TICKS_PER_PART)
        for part, start in enumerate(starts):
            flags = FrameFlag.MORE if part + 1 < len(starts) else FrameFlag.NONE
            piece = own[start : start + TICKS_PER_PART]
            frames.append(TickFrame(Lane(raw_partition, partition), raw_offset, part, time_ns, piece, flags))
    return frames


def time_frames(raw_partition: int, raw_offset: int, time_ns: int, ticks_partitions: int) -> list[TickFrame]:
    """Return a TIME tick for every ticks partition, so that the clock of a quiet one moves too."""
    tick = empty_ticks(1)
    tick["ts_event_ns"] = tick["ts_recv_ns"] = time_ns
    tick["kind"] = Kind.TIME
    return [
        TickFrame(Lane(raw_partition, partition), raw_offset, 0, time_ns, tick) for partition in range(ticks_partitions)
    ]
