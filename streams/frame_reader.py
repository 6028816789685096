"""The one frame reader: every reader of tick frames, or of bar frames, goes through it and sees each frame once.

Kept beside a reader's state and saved with it. After a crash or a rebalance frames come again, from a
zombie even in between; along a lane origins only grow, so what is not above the lane's mark was seen.
"""

from collections import defaultdict
from collections.abc import Mapping
from typing import Protocol

from tapeline.schemas import BarFrame, Lane

Mark = tuple[int, int]
"""(origin offset, part) of the last frame taken from a lane."""


class SentFrame(Protocol):
    """What tells a frame from the others of its lane."""

    @property
    def lane(self) -> Lane:
        """Its lane."""

    @property
    def origin_offset(self) -> int:
        """Of the raw record that it came from."""

    @property
    def part(self) -> int:
        """Which frame of that record."""


class FrameReader:
    """The marks of one reader's lanes."""

    def __init__(self, marks: Mapping[Lane, Mark] | None = None) -> None:
        self.marks: dict[Lane, Mark] = dict(marks or {})
        self.duplicates = 0

    def take(self, frame: SentFrame) -> bool:
        """Return True if the frame is new, and remember it; False if it was seen before."""
        here = (frame.origin_offset, frame.part)
        mark = self.marks.get(frame.lane)
        if mark is not None and here <= mark:
            self.duplicates += 1
            return False
        self.marks[frame.lane] = here
        return True


class BarFrameReader:
    """The marks of one reader of bar frames: those of each stream are apart, for each begins at the first tick."""

    def __init__(self) -> None:
        self._streams: dict[int, FrameReader] = defaultdict(FrameReader)

    def take(self, frame: BarFrame) -> bool:
        """Return True if the frame is new, and remember it; False if it was seen before."""
        return self._streams[frame.stream].take(frame)
