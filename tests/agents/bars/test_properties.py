"""The builder against a slow one, whatever comes; and frames cut and states saved anywhere change nothing."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tapeline.agents.logic.bar_spec import BarSpec
from tapeline.agents.logic.bars import BarSeries
from tapeline.schemas import FrameFlag, Lane, Snapshot, TickFrame, Ticks
from tests.agents.bars.slow import SlowBars
from tests.agents.bars.ticks import frames, joined, markets, resolve, specs

cuts = st.lists(st.integers(0, 60), max_size=6)


@given(spec=specs, ticks=markets(), cuts=cuts)
def test_as_the_slow_one(spec: BarSpec, ticks: Ticks, cuts: list[int]) -> None:
    fast, slow = BarSeries(spec, resolve), SlowBars(spec)
    made, late, done = [], [], 0
    for piece, time_ns in frames(ticks, cuts):
        found = fast.add(piece, time_ns)
        made.append(found.bars)
        late += (found.too_late + done).tolist()
        done += len(piece)
        slow.add(piece, time_ns)
    assert np.concatenate([slow.bars[:0], *made]).tolist() == slow.bars.tolist()
    assert fast.left_out == slow.left_out
    assert late == slow.too_late


@given(spec=specs, ticks=markets(), cuts=cuts)
def test_where_frames_are_cut_and_state_is_saved_changes_nothing(spec: BarSpec, ticks: Ticks, cuts: list[int]) -> None:
    whole, pieces = BarSeries(spec, resolve), BarSeries(spec, resolve)
    at_once = [whole.add(piece, time_ns).bars for piece, time_ns in frames(ticks, [])]
    made = []
    for piece, time_ns in frames(ticks, cuts):
        made.append(pieces.add(piece, time_ns).bars)
        pieces = BarSeries(spec, resolve, Snapshot.decode(pieces.snapshot().encode()))
    assert joined(made) == joined(at_once)
    assert joined([pieces.finish()]) == joined([whole.finish()])
    assert pieces.left_out == whole.left_out


@given(spec=specs, ticks=markets(), cuts=cuts)
def test_parts_of_a_raw_record_are_one(spec: BarSpec, ticks: Ticks, cuts: list[int]) -> None:
    """However it is parted, its clock moves at its end; and each frame counts once."""
    whole, parted = BarSeries(spec, resolve), BarSeries(spec, resolve)
    time_ns = int(ticks["ts_recv_ns"].max(initial=0)) + 10**10
    one = TickFrame(Lane(1, 2), 7, 0, time_ns, ticks)
    pieces = [piece for piece, _ in frames(ticks, cuts)] or [ticks]
    made = []
    for part, piece in enumerate(pieces):
        more = FrameFlag.MORE if part + 1 < len(pieces) else FrameFlag.NONE
        frame = TickFrame(Lane(1, 2), 7, part, time_ns, piece, more)
        made += [parted.on_record(2 * part, frame).bars, parted.on_record(2 * part + 1, frame).bars]
    assert joined(made) == joined([whole.on_record(0, one).bars])
    assert parted.next_offset == 2 * len(pieces)
    assert len(parted.on_record(0, one).bars) == 0
