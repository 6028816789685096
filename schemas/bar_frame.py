"""BarFrame: the bars that one tick frame completed, of one interval and one partition of topic `bars`.

Layout, little-endian (`frames.ksy` describes it for other languages):

    magic u4 'TLBR', version u1, 0 u1, part u2, count u4, lane u4, origin_offset i8, time_ns i8, stream u4, 0 u4 |
    bars BAR[count] | checksum u8

Lane and origin are those of the tick frame, and the checksum is that of all frames.
"""

import struct
from dataclasses import dataclass

import numpy as np

from tapeline.schemas.bar import BAR, BAR_BYTES, Bars
from tapeline.schemas.errors import FrameError
from tapeline.schemas.frames import CHECKSUM_BYTES, RECORD_BYTES_MAX, VERSION, Buffer, Lane, seal, unseal

BAR_MAGIC = int.from_bytes(b"TLBR", "little")
BAR_HEADER_BYTES = 40
BARS_MAX = (RECORD_BYTES_MAX - BAR_HEADER_BYTES - CHECKSUM_BYTES) // BAR_BYTES
PIECES_MAX = 256
"""Frames that one tick frame may make of an interval in one partition."""

_HEADER = struct.Struct("<IBxHIIqqI4x")


@dataclass(frozen=True, slots=True, eq=False)
class BarFrame:
    """Bars in the order in which they were completed.

    lane, origin_offset: those of the tick frame whose clock or trades completed them; part: its part x 256, plus the
    number of this frame among those that it made. Readers skip what is not above their mark of (stream, lane).
    stream: hash of the configuration: bars of another stream are others. time_ns: the clock. bars: (n,) BAR,
    read-only when decoded.
    """

    lane: Lane
    origin_offset: int
    part: int
    time_ns: int
    stream: int
    bars: Bars

    def __len__(self) -> int:
        return len(self.bars)

    def encode(self) -> bytes:
        """Return the record's bytes; raise FrameError above BARS_MAX bars."""
        if len(self.bars) > BARS_MAX:
            raise FrameError(f"{len(self.bars)} bars in one frame, the most is {BARS_MAX}: split it into parts")
        header = _HEADER.pack(
            BAR_MAGIC,
            VERSION,
            self.part,
            len(self.bars),
            self.lane.pack(),
            self.origin_offset,
            self.time_ns,
            self.stream,
        )
        return seal(header, self.bars.tobytes())

    @classmethod
    def decode(cls, record: Buffer) -> "BarFrame":
        """Read a record without copying its bars; raise FrameError unless it is whole and unharmed."""
        view = unseal(record, BAR_MAGIC, "BarFrame")
        if len(view) < BAR_HEADER_BYTES:
            raise FrameError(f"BarFrame of {len(view)} bytes is shorter than its header")
        _, _, part, count, lane, origin_offset, time_ns, stream = _HEADER.unpack_from(view)
        if BAR_HEADER_BYTES + count * BAR_BYTES != len(view):
            raise FrameError(f"BarFrame says {count} bars, its {len(view)} bytes hold another number")
        bars = np.frombuffer(view, BAR, count, BAR_HEADER_BYTES)
        return cls(Lane.unpack(lane), origin_offset, part, time_ns, stream, bars)
