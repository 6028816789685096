"""The one table of topics: name, schema, key, partitions, retention, writers, readers.

Topic creation, `tapeline topics`, the AsyncAPI document and the docs are made from it.
"""

import zlib
from dataclasses import dataclass
from enum import StrEnum

from tapeline.schemas.frames import RECORD_BYTES_MAX

HOURS_FOREVER = -1
RECORD_OVERHEAD_BYTES = 64 * 1024
"""Room beside the largest record for its key, headers and the batch around it."""


class Schema(StrEnum):
    """What a topic's records hold."""

    RAW_FRAME = "RawFrame"
    TICK_FRAME = "TickFrame"
    BAR_FRAME = "BarFrame"
    SIGNAL = "Signal"
    INSTRUMENT = "Instrument"
    REJECTED = "Rejected"
    SNAPSHOT = "Snapshot"
    LEASE = "Lease"


@dataclass(frozen=True, slots=True)
class Topic:
    """One row of the table. partitions: default, the configuration may say otherwise; retention in hours."""

    name: str
    schema: Schema
    key: str
    partitions: int
    retention_hours: int
    writers: tuple[str, ...]
    readers: tuple[str, ...]
    public: bool
    description: str
    compacted: bool = False
    broker_time: bool = False
    """Records carry the time at which the broker took them, not that of their sender."""

    def settings(self, retention_hours: int | None = None) -> dict[str, str]:
        """Return the broker's topic settings, all as strings."""
        settings = {
            "max.message.bytes": str(RECORD_BYTES_MAX + RECORD_OVERHEAD_BYTES),
            "compression.type": "producer",
            "message.timestamp.type": "LogAppendTime" if self.broker_time else "CreateTime",
        }
        if self.compacted:
            # Small segments and an eager cleaner: a restart reads the whole partition.
            return settings | {
                "cleanup.policy": "compact",
                "segment.ms": "600000",
                "segment.bytes": str(64 * 1024 * 1024),
                "min.cleanable.dirty.ratio": "0.2",
            }
        hours = self.retention_hours if retention_hours is None else retention_hours
        retention_ms = -1 if hours == HOURS_FOREVER else hours * 3_600_000
        return settings | {"cleanup.policy": "delete", "retention.ms": str(retention_ms), "retention.bytes": "-1"}


RAW = Topic(
    "raw",
    Schema.RAW_FRAME,
    "venue/connection",
    partitions=4,
    retention_hours=72,
    writers=("ingest",),
    readers=("normalize",),
    public=False,
    description="Messages as received, with receive times; a TIME record a second.",
)
TICKS = Topic(
    "ticks",
    Schema.TICK_FRAME,
    "ticks partition (the instrument record says which)",
    partitions=4,
    retention_hours=720,
    writers=("normalize",),
    readers=("logic", "bars", "persist-ticks", "subscribers"),
    public=True,
    description="Ticks of one partition from one raw record.",
)
BARS = Topic(
    "bars",
    Schema.BAR_FRAME,
    "bars partition (hash of the instrument's name)",
    partitions=4,
    retention_hours=2160,
    writers=("bars",),
    readers=("persist-bars", "subscribers"),
    public=True,
    description="Bars of one partition and interval that one tick frame completed or revised.",
)
SIGNALS = Topic(
    "signals",
    Schema.SIGNAL,
    "logic",
    partitions=4,
    retention_hours=HOURS_FOREVER,
    writers=("logic",),
    readers=("persist", "subscribers"),
    public=True,
    description="What trading logics say.",
)
INSTRUMENTS = Topic(
    "instruments",
    Schema.INSTRUMENT,
    "instrument",
    partitions=1,
    # Not compacted: the first record of a name decides, and compaction keeps the last.
    retention_hours=HOURS_FOREVER,
    writers=("normalize", "ingest"),
    readers=("normalize", "ingest", "logic", "bars", "persist-ticks", "persist-bars", "subscribers"),
    public=True,
    description="The registry of instruments: the first record of a name decides its id, later ones describe it.",
)
STATE = Topic(
    "state",
    Schema.SNAPSHOT,
    "role/unit",
    partitions=4,
    retention_hours=HOURS_FOREVER,
    writers=("normalize", "logic", "bars"),
    readers=("normalize", "logic", "bars"),
    public=False,
    description="Snapshots: state, next offset and lane marks in one record, in the partition of the input.",
    compacted=True,
)
REJECTED = Topic(
    "rejected",
    Schema.REJECTED,
    "origin topic/partition",
    partitions=4,
    retention_hours=720,
    writers=("ingest", "normalize", "logic", "bars", "persist", "persist-ticks", "persist-bars"),
    readers=("operators",),
    public=False,
    description="What could not be processed, with reason and origin.",
)
LEASES = Topic(
    "leases",
    Schema.LEASE,
    "venue/connection",
    partitions=1,
    retention_hours=HOURS_FOREVER,
    writers=("ingest",),
    readers=("ingest",),
    public=False,
    description="Who reads which live connection: claimed, kept and given back.",
    compacted=True,
    broker_time=True,
)

TOPICS: dict[str, Topic] = {
    topic.name: topic for topic in (RAW, TICKS, BARS, SIGNALS, INSTRUMENTS, STATE, REJECTED, LEASES)
}


def partition_of(key: str, partitions: int) -> int:
    """Return the partition of a key: CRC-32 modulo the number, as librdkafka's `consistent` partitioner does."""
    return zlib.crc32(key.encode()) % partitions
