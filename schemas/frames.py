"""RawFrame and TickFrame: one Kafka record, many items, read by numpy without copying.

Layout, little-endian (`frames.ksy` describes it for other languages):

    RawFrame   magic u4 'TLRW', version u1, 0 u1, flags u2, count u4, source_bytes u2, epoch u2, first_message i8,
               time_ns i8 | recv_ns i8[count] | ends u4[count] | source utf-8 | messages | checksum u8
    TickFrame  magic u4 'TLTK', version u1, part u1, flags u2, count u4, lane u4, origin_offset i8,
               time_ns i8 | ticks TICK[count] | checksum u8

The checksum is XXH3-64 over everything before it: bytes that were cut, changed or never ours raise
`FrameError` and never become a wrong tick.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntFlag
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import xxhash

from tapeline.schemas.errors import FrameError, VersionError
from tapeline.schemas.tick import TICK, TICK_BYTES, Ticks

RECORD_BYTES_MAX = 8 * 1024 * 1024
"""The largest record anywhere in Tapeline; brokers and clients are set up for it."""
VERSION = 1
RAW_MAGIC = int.from_bytes(b"TLRW", "little")
TICK_MAGIC = int.from_bytes(b"TLTK", "little")
HEADER_BYTES = 32
CHECKSUM_BYTES = 8
PER_MESSAGE_BYTES = 12
SOURCE_BYTES_MAX = 255
TICKS_MAX = (RECORD_BYTES_MAX - HEADER_BYTES - CHECKSUM_BYTES) // TICK_BYTES
PARTS_MAX = 256

_RAW_HEADER = struct.Struct("<IBBHIHHqq")
_TICK_HEADER = struct.Struct("<IBBHIIqq")
_CHECKSUM = struct.Struct("<Q")
_INT64, _UINT32 = np.dtype("<i8"), np.dtype("<u4")

Int64Array = npt.NDArray[np.int64]
UInt32Array = npt.NDArray[np.uint32]
Buffer = bytes | bytearray | memoryview


class FrameFlag(IntFlag):
    """Header flags."""

    NONE = 0

    MORE = 1 << 0  # TickFrame: another part of the same raw record follows
    END = 1 << 1  # RawFrame: the connection or file ends with this frame
    FEED = 1 << 2  # RawFrame: its messages are our own feed's (`feed`), none is the venue's


class Lane(NamedTuple):
    """The way from one raw partition to one ticks partition: along it, origins only grow."""

    raw_partition: int
    ticks_partition: int

    def pack(self) -> int:
        """Return the lane as the u4 of a frame header."""
        return self.raw_partition << 16 | self.ticks_partition

    @classmethod
    def unpack(cls, value: int) -> "Lane":
        """Return the lane that `pack` made `value` from."""
        return cls(value >> 16, value & 0xFFFF)


@dataclass(frozen=True, slots=True, eq=False)
class RawFrame:
    """Messages as received on one connection, with receive times; no messages = a TIME record.

    source: `venue/connection`, e.g. `binance-usdm/btcusdt_20240808`; first_message: number of the first message
    in its connection (0 starts a new session); time_ns: the connection's clock, the running maximum of receive
    times; epoch: whose lease of a live connection it was (`lease`), 0 = there is no lease; recv_ns: (n,) receive times;
    ends: (n,) end of each message in `body`. A decoded frame's arrays and body are the record's own bytes.
    """

    source: str
    first_message: int
    time_ns: int
    recv_ns: Int64Array
    ends: UInt32Array
    body: Buffer
    flags: FrameFlag = FrameFlag.NONE
    epoch: int = 0

    @classmethod
    def build(
        cls,
        source: str,
        first_message: int,
        recv_ns: Sequence[int],
        messages: Sequence[bytes],
        *,
        time_ns: int | None = None,
        flags: FrameFlag = FrameFlag.NONE,
        epoch: int = 0,
    ) -> "RawFrame":
        """Pack `messages` and their receive times (n each); `time_ns` is max(recv_ns) unless given."""
        if len(recv_ns) != len(messages):
            raise FrameError(f"{len(messages)} messages but {len(recv_ns)} receive times")
        times = np.array(recv_ns, np.int64)
        if time_ns is None:
            if not len(times):
                raise FrameError("a frame without messages needs time_ns")
            time_ns = int(times.max())
        ends = np.cumsum([len(m) for m in messages], dtype=np.int64)
        if len(ends) and ends[-1] > RECORD_BYTES_MAX:
            raise FrameError(f"{ends[-1]} bytes of messages, the most is {RECORD_BYTES_MAX}: close frames earlier")
        return cls(source, first_message, time_ns, times, ends.astype(np.uint32), b"".join(messages), flags, epoch)

    def __len__(self) -> int:
        return len(self.ends)

    def messages(self) -> Iterator[bytes]:
        """Yield each message's bytes, in order of arrival."""
        body = bytes(self.body)
        start = 0
        for end in self.ends.tolist():
            yield body[start:end]
            start = end

    def encode(self) -> bytes:
        """Return the record's bytes; raise FrameError above RECORD_BYTES_MAX."""
        source = self.source.encode()
        if not 0 < len(source) <= SOURCE_BYTES_MAX:
            raise FrameError(f"source {self.source!r} has {len(source)} bytes, 1 to {SOURCE_BYTES_MAX} are allowed")
        header = _RAW_HEADER.pack(
            RAW_MAGIC, VERSION, 0, self.flags, len(self), len(source), self.epoch, self.first_message, self.time_ns
        )
        return seal(header, self.recv_ns.tobytes(), self.ends.tobytes(), source, self.body)

    @classmethod
    def decode(cls, record: Buffer) -> "RawFrame":
        """Read a record; raise FrameError unless it is whole, unharmed and of a version read here."""
        view = unseal(record, RAW_MAGIC, "RawFrame")
        _, _, _, flags, count, source_bytes, epoch, first_message, time_ns = _RAW_HEADER.unpack_from(view)
        body_start = HEADER_BYTES + PER_MESSAGE_BYTES * count + source_bytes
        if body_start > len(view):
            raise FrameError(f"RawFrame says {count} messages, its {len(view)} bytes cannot hold them")
        recv_ns: Int64Array = np.frombuffer(view, _INT64, count, HEADER_BYTES)
        ends: UInt32Array = np.frombuffer(view, _UINT32, count, HEADER_BYTES + 8 * count)
        body = view[body_start:]
        if (ends.item(-1) if count else 0) != len(body) or (count > 1 and (ends[1:] < ends[:-1]).any()):
            raise FrameError(f"RawFrame's {count} message ends do not fit its {len(body)} bytes of messages")
        try:
            source = str(view[body_start - source_bytes : body_start], "utf-8")
        except UnicodeDecodeError as error:
            raise FrameError("RawFrame's source is not UTF-8") from error
        known = FrameFlag(flags) if flags else FrameFlag.NONE
        return cls(source, first_message, time_ns, recv_ns, ends, body, known, epoch)


@dataclass(frozen=True, slots=True, eq=False)
class TickFrame:
    """The ticks of one ticks partition from one raw record (or one part of it), in order of arrival.

    lane and (origin_offset, part) say where it came from; readers skip what is not above their mark of the lane.
    time_ns: the receive clock (running maximum); ticks: (n,) TICK, read-only when decoded.
    """

    lane: Lane
    origin_offset: int
    part: int
    time_ns: int
    ticks: Ticks
    flags: FrameFlag = FrameFlag.NONE

    def __len__(self) -> int:
        return len(self.ticks)

    def encode(self) -> bytes:
        """Return the record's bytes; raise FrameError above TICKS_MAX ticks."""
        if len(self.ticks) > TICKS_MAX:
            raise FrameError(f"{len(self.ticks)} ticks in one frame, the most is {TICKS_MAX}: split it into parts")
        header = _TICK_HEADER.pack(
            TICK_MAGIC,
            VERSION,
            self.part,
            self.flags,
            len(self.ticks),
            self.lane.pack(),
            self.origin_offset,
            self.time_ns,
        )
        return seal(header, self.ticks.tobytes())

    @classmethod
    def decode(cls, record: Buffer) -> "TickFrame":
        """Read a record without copying its ticks; raise FrameError unless it is whole and unharmed."""
        view = unseal(record, TICK_MAGIC, "TickFrame")
        _, _, part, flags, count, lane, origin_offset, time_ns = _TICK_HEADER.unpack_from(view)
        if HEADER_BYTES + count * TICK_BYTES != len(view):
            raise FrameError(f"TickFrame says {count} ticks, its {len(view)} bytes hold another number")
        ticks = np.frombuffer(view, TICK, count, HEADER_BYTES)
        flag = FrameFlag(flags) if flags else FrameFlag.NONE
        return cls(Lane.unpack(lane), origin_offset, part, time_ns, ticks, flag)


def seal(*pieces: Buffer) -> bytes:
    """Join the pieces and append their checksum; copies each once."""
    checksum = xxhash.xxh3_64()
    for piece in pieces:
        checksum.update(piece)
    record = b"".join((*pieces, _CHECKSUM.pack(checksum.intdigest())))
    if len(record) > RECORD_BYTES_MAX:
        raise FrameError(f"a frame of {len(record)} bytes, the most is {RECORD_BYTES_MAX}: close frames earlier")
    return record


def unseal(record: Buffer, magic: int, name: str, version: int = VERSION) -> memoryview:
    """Check size, magic, checksum and version; return the record without the checksum.

    The checksum first: it is that of every version, and a version that was damaged on the way is no newer one.
    """
    view = memoryview(record)
    if not HEADER_BYTES + CHECKSUM_BYTES <= len(view) <= RECORD_BYTES_MAX:
        raise FrameError(
            f"{name} of {len(view)} bytes, not {HEADER_BYTES + CHECKSUM_BYTES} to {RECORD_BYTES_MAX}: cut or not ours"
        )
    found = int.from_bytes(view[:4], "little")
    if found != magic:
        raise FrameError(f"{name} starts with {found:#010x} instead of {magic:#010x}: not ours")
    content = view[:-CHECKSUM_BYTES]
    (stored,) = _CHECKSUM.unpack(view[-CHECKSUM_BYTES:])
    if xxhash.xxh3_64_intdigest(content) != stored:
        raise FrameError(f"{name} of {len(view)} bytes does not match its checksum: cut or damaged on the way")
    if view[4] != version:
        raise VersionError(f"{name} of version {view[4]}, this program reads version {version}: upgrade it")
    return content
