"""The one frame reader: every reader of tick frames goes through it and sees each frame once.

Kept beside a reader's state and saved with it. After a crash or a rebalance frames come again, from a
zombie even in between; along a lane origins only grow, so what is not above the lane's mark was seen.
"""

from collections.abc import Mapping

from tapeline.schemas import Lane, TickFrame

Mark = tuple[int, int]
"""(origin offset, part) of the last frame taken from a lane."""


class FrameReader:
    """The marks of one reader's lanes."""

    def __init__(self, marks: Mapping[Lane, Mark] | None = None) -> None:
        self.marks: dict[Lane, Mark] = dict(marks or {})
        self.duplicates = 0

    def take(self, frame: TickFrame) -> bool:
        """Return True if the frame is new, and remember it; False if it was seen before."""
        here = (frame.origin_offset, frame.part)
        mark = self.marks.get(frame.lane)
        if mark is not None and here <= mark:
            self.duplicates += 1
            return False
        self.marks[frame.lane] = here
        return True
