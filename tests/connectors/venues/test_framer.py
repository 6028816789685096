"""The framer: nothing lost or reordered, frames end where the rules say, one TIME record a second of feed time."""

from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tapeline.connectors.venues import Message
from tapeline.connectors.venues.framer import FRAME_BYTES, FRAMEABLE_BYTES_MAX, SECOND_NS, Framer
from tapeline.schemas import FrameFlag, RawFrame

START_NS = 1_700_000_000 * SECOND_NS
MS = 1_000_000


def at(*seconds: float) -> list[Message]:
    """Messages received so many seconds after START_NS."""
    return [Message(START_NS + round(second * SECOND_NS), b"%d" % number) for number, second in enumerate(seconds)]


def cut(messages: list[Message], messages_max: int = 1000, wait_ns: int | None = None) -> list[RawFrame]:
    framer = Framer("sim/x", messages_max, wait_ns)
    return [frame for message in messages for frame in framer.add(message)] + framer.end()


def shape(frames: list[RawFrame]) -> list[tuple[int, float]]:
    """(number of messages, clock in seconds after START_NS) of each frame."""
    return [(len(frame), (frame.time_ns - START_NS) / SECOND_NS) for frame in frames]


def test_at_full_speed_frames_end_by_number_and_time_follows_them() -> None:
    frames = cut(at(0, 0.1, 0.2, 0.3, 0.4, 5.5, 5.6, 5.7, 5.8), messages_max=2)
    assert shape(frames) == [(2, 0.1), (2, 0.3), (2, 5.5), (0, 5.5), (2, 5.7), (1, 5.8), (0, 5.8)]
    assert [frame.first_message for frame in frames] == [0, 2, 4, 6, 6, 8, 9]
    assert [frame.flags for frame in frames] == [FrameFlag.NONE] * 6 + [FrameFlag.END]


@pytest.mark.parametrize("wait_ns", [None, 100 * SECOND_NS])
def test_where_nothing_waits_every_full_second_has_its_time_record(wait_ns: int | None) -> None:
    frames = cut(at(0.5, 0.6, 3.2, 3.3), 2, wait_ns)
    assert shape(frames) == [(2, 0.6), (0, 1), (0, 2), (0, 3), (2, 3.3), (0, 3.3)]


def test_at_a_pace_frames_end_after_the_wait() -> None:
    frames = cut(at(0.5, 0.503, 0.506, 2.2), wait_ns=5 * MS)
    assert shape(frames) == [(2, 0.503), (1, 0.506), (0, 1), (0, 2), (1, 2.2), (0, 2.2)]


def test_a_time_record_never_overtakes_messages_that_wait() -> None:
    frames = cut(at(0.999, 1.001, 1.6), wait_ns=500 * MS)
    assert shape(frames) == [(2, 1.001), (0, 1.001), (1, 1.6), (0, 1.6)]


def test_a_very_long_hole_gets_one_time_record() -> None:
    week = 7 * 24 * 3600
    assert shape(cut(at(0, week + 0.5), messages_max=1)) == [(1, 0), (0, week), (1, week + 0.5), (0, week + 0.5)]


def test_feed_time_passes_without_messages() -> None:
    assert Framer("sim/x", 1000, 5 * MS).due_ns is None
    framer = Framer("sim/x", 1000, 5 * MS)
    assert framer.advance(START_NS) == []
    framer.add(*at(0.5))
    assert framer.due_ns == START_NS + 505 * MS
    assert shape(framer.advance(START_NS + 505 * MS)) == [(1, 0.5)]
    assert framer.due_ns == START_NS + SECOND_NS
    assert shape(framer.advance(START_NS + 2 * SECOND_NS)) == [(0, 1), (0, 2)]


def test_the_clock_does_not_go_back() -> None:
    frames = cut(at(2, 1, 0.5, 3), messages_max=1)
    assert [frame.time_ns for frame in frames] == sorted(frame.time_ns for frame in frames)
    assert [frame.recv_ns.tolist() for frame in frames if len(frame)] == [[m.recv_ns] for m in at(2, 1, 0.5, 3)]


def test_frames_stay_near_a_megabyte_and_hold_the_longest_message() -> None:
    sizes = [FRAME_BYTES // 2, FRAME_BYTES // 2, 1, FRAME_BYTES // 2, FRAMEABLE_BYTES_MAX, 1]
    frames = cut([Message(START_NS, bytes(size)) for size in sizes])
    assert [frame.ends.tolist()[-1] for frame in frames if len(frame)] == [
        FRAME_BYTES,
        1 + FRAME_BYTES // 2,
        FRAMEABLE_BYTES_MAX,
        1,
    ]
    for frame in frames:
        assert list(RawFrame.decode(frame.encode()).messages()) == list(frame.messages())


def test_a_skipped_message_keeps_its_number() -> None:
    framer = Framer("sim/x", 1000)
    first, second = at(0, 1)
    (opening,) = framer.skip()
    assert (opening.first_message, len(opening)) == (0, 0), "a session is known by message 0"
    framer.add(first)
    (frame,) = framer.skip()
    assert (frame.first_message, len(frame)) == (1, 1)
    framer.add(second)
    assert framer.end()[0].first_message == 3


def test_no_message_makes_no_session() -> None:
    assert Framer("sim/x", 10).end() == []


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.tuples(st.integers(-2_000, 3_000), st.binary(max_size=5)), max_size=60),
    st.integers(1, 10),
    st.none() | st.integers(1, 3000),
)
def test_nothing_is_lost_doubled_or_moved(
    steps: list[tuple[int, bytes]], messages_max: int, wait_ms: int | None
) -> None:
    messages, now = [], START_NS
    for step_ms, data in steps:
        now += step_ms * MS
        messages.append(Message(now, data))
    wait_ns = None if wait_ms is None else wait_ms * MS
    frames = cut(messages, messages_max, wait_ns)
    got = [Message(*pair) for frame in frames for pair in zip(frame.recv_ns.tolist(), frame.messages(), strict=True)]
    assert got == messages
    number = 0
    for frame in frames:
        assert frame.first_message == number
        assert len(frame) <= messages_max
        number += len(frame)
    clocks = [frame.time_ns for frame in frames]
    assert clocks == sorted(clocks)
    assert [frame.encode() for frame in cut(messages, messages_max, wait_ns)] == [frame.encode() for frame in frames]
    ends = [frame for frame in frames if frame.flags & FrameFlag.END]
    assert ends == (frames[-1:] if messages else [])
    if wait_ns is None:
        assert shape(cut(messages, messages_max, 10**6 * SECOND_NS)) == shape(frames), "the pace changes nothing"
    for earlier, later in pairwise(frames):
        if not len(later) and not later.flags:
            assert later.time_ns == earlier.time_ns or later.time_ns % SECOND_NS == 0
    if messages:
        quiet = [frame.time_ns for frame in frames if not len(frame)]
        seconds = [clock // SECOND_NS for clock in quiet[:-1]]
        assert sorted(set(seconds)) == seconds, "at most one a second"
