"""Cutting a raw record into tick frames loses nothing, keeps the order, and depends on nothing else."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.agents import tick_frames
from tapeline.agents.tick_frames import TICKS_PER_PART, cut, time_frames
from tapeline.schemas import RECORD_BYTES_MAX, TICKS_MAX, FrameFlag, Instrument, Kind, Lane, empty_ticks
from tapeline.schemas.frames import PARTS_MAX

INSTRUMENTS = [Instrument(id=1000 + i, name=f"sim:S{i}", partition=i % 3) for i in range(6)]


@settings(deadline=None)  # the first example may compile
@given(st.lists(st.integers(0, 5), max_size=60), st.integers(1, 7))
def test_every_tick_is_in_one_frame_of_its_partition_in_order(local: list[int], per_part: int) -> None:
    ticks = empty_ticks(len(local))
    ticks["instrument_id"] = local
    ticks["sequence"] = np.arange(len(local))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tick_frames, "TICKS_PER_PART", per_part)
        frames = cut(2, 77, 5, ticks, INSTRUMENTS)
    for partition in range(3):
        own = [frame for frame in frames if frame.lane == Lane(2, partition)]
        wanted = [(i, 1000 + number) for i, number in enumerate(local) if number % 3 == partition]
        got = [(int(t["sequence"]), int(t["instrument_id"])) for frame in own for t in frame.ticks]
        assert got == wanted
        assert [frame.part for frame in own] == list(range(len(own)))
        assert all(0 < len(frame) <= per_part for frame in own)
        assert [bool(frame.flags & FrameFlag.MORE) for frame in own] == [True] * (len(own) - 1) + [False] * bool(own)
        assert {(frame.origin_offset, frame.time_ns) for frame in own} <= {(77, 5)}
    assert ticks["instrument_id"].tolist() == local, "the parser's array is left as it was"


def test_the_parts_suffice_for_any_raw_record() -> None:
    assert PARTS_MAX * TICKS_PER_PART > RECORD_BYTES_MAX
    assert TICKS_PER_PART <= TICKS_MAX


def test_a_time_record_moves_every_partition() -> None:
    frames = time_frames(1, 9, 123, 3)
    assert [frame.lane for frame in frames] == [Lane(1, 0), Lane(1, 1), Lane(1, 2)]
    for frame in frames:
        assert frame.ticks["kind"].tolist() == [Kind.TIME]
        assert frame.ticks["ts_recv_ns"].tolist() == [frame.time_ns] == [123]
        assert frame.ticks["instrument_id"].tolist() == [0]


def test_a_tick_of_no_given_instrument_is_an_error() -> None:
    ticks = empty_ticks(2)
    ticks["instrument_id"] = [5, 6]
    with pytest.raises(IndexError, match="beyond the 6"):
        cut(0, 0, 0, ticks, INSTRUMENTS)
