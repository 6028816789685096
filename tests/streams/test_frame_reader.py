"""The frame reader sees every frame of a lane once, in order, whatever crashes and zombies send again."""

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.schemas import Lane, TickFrame, empty_ticks
from tapeline.streams.frame_reader import FrameReader

TICKS = empty_ticks(1)


def frame(raw_partition: int, offset: int, part: int = 0) -> TickFrame:
    """A frame of the lane from `raw_partition` to ticks partition 0."""
    return TickFrame(Lane(raw_partition, 0), offset, part, 0, TICKS)


def test_new_frames_pass_and_seen_ones_do_not() -> None:
    reader = FrameReader()
    assert reader.take(frame(0, 5))
    assert not reader.take(frame(0, 5))
    assert not reader.take(frame(0, 4))
    assert reader.take(frame(0, 5, part=1))
    assert not reader.take(frame(0, 5, part=0))
    assert reader.take(frame(0, 9))
    assert reader.duplicates == 3


def test_lanes_do_not_know_of_each_other() -> None:
    reader = FrameReader()
    assert reader.take(frame(0, 7))
    assert reader.take(frame(1, 3))
    assert reader.marks == {Lane(0, 0): (7, 0), Lane(1, 0): (3, 0)}


def test_marks_go_on_where_they_were_saved() -> None:
    before = FrameReader()
    before.take(frame(0, 7))
    after = FrameReader(before.marks)
    assert not after.take(frame(0, 7))
    assert after.take(frame(0, 8))
    assert before.marks == {Lane(0, 0): (7, 0)}, "a saved set of marks is not shared"


def written_by_crashing_senders(chance: Random, last: int) -> list[TickFrame]:
    """A log whose senders each start anywhere already written (a snapshot) and stop anywhere (a kill).

    Zombies: up to three of them write at the same time. Each sends its frames in order and loses none.
    """
    written = 0
    log: list[int] = []
    senders: list[list[int]] = []
    while written < last:
        senders.append(list(range(chance.randint(0, written), last)))
        senders = senders[-3:]
        for _ in range(chance.randint(1, 30)):
            sender = chance.choice(senders)
            if sender:
                log.append(sender.pop(0))
                written = max(written, log[-1] + 1)
    return [frame(0, offset) for offset in log]


@settings(max_examples=1_000)
@given(st.integers(0, 2**32), st.integers(1, 12))
def test_the_exact_prefix_comes_out_of_any_interleaving(seed: int, last: int) -> None:
    reader = FrameReader()
    log = written_by_crashing_senders(Random(seed), last)
    assert [one.origin_offset for one in log if reader.take(one)] == list(range(last))
