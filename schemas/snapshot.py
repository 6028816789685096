"""Snapshot: a role's state with the next offset it expects, in one record of topic `state`.

Layout, little-endian: magic u4 'TLST', version u1, 0 u1[3], meta_bytes u4, 0 u4, next_offset i8, time_ns i8 |
meta JSON | payload | checksum u8. The checksum is that of the frames.
"""

import struct
from dataclasses import dataclass, field

import orjson

from tapeline.schemas.errors import FrameError
from tapeline.schemas.frames import HEADER_BYTES, Buffer, seal, unseal

SNAPSHOT_VERSION = 1
"""Apart from that of the frames: whoever saves state in another way still reads the same records."""
SNAPSHOT_MAGIC = int.from_bytes(b"TLST", "little")
_HEADER = struct.Struct("<IB3xI4xqq")

Meta = dict[str, object]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """State of one unit of a role.

    next_offset: the first input offset not yet in the state; time_ns: the unit's clock; meta: JSON object;
    payload: bytes whose meaning the role knows.
    """

    next_offset: int
    time_ns: int
    meta: Meta = field(default_factory=dict)
    payload: bytes = b""

    def encode(self) -> bytes:
        """Return the record's bytes; raise FrameError above RECORD_BYTES_MAX."""
        meta = orjson.dumps(self.meta)
        return seal(
            _HEADER.pack(SNAPSHOT_MAGIC, SNAPSHOT_VERSION, len(meta), self.next_offset, self.time_ns),
            meta,
            self.payload,
        )

    @classmethod
    def decode(cls, record: Buffer) -> "Snapshot":
        """Read a record; raise FrameError unless it is whole, unharmed and of a version read here."""
        view = unseal(record, SNAPSHOT_MAGIC, "Snapshot", SNAPSHOT_VERSION)
        _, _, meta_bytes, next_offset, time_ns = _HEADER.unpack_from(view)
        payload_start = HEADER_BYTES + meta_bytes
        try:
            meta = orjson.loads(view[HEADER_BYTES:payload_start])
        except orjson.JSONDecodeError as error:
            raise FrameError("Snapshot's meta is not JSON") from error
        if not isinstance(meta, dict):
            raise FrameError("Snapshot's meta is not a JSON object")
        return cls(next_offset, time_ns, meta, bytes(view[payload_start:]))
