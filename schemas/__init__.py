"""What every event looks like. Imports nothing of ours and does no I/O."""

from tapeline.schemas.bar import BAR, BarFlag, BarKind, Bars, empty_bars
from tapeline.schemas.bar_frame import BarFrame
from tapeline.schemas.errors import (
    EventError,
    FrameError,
    SettingsError,
    TapelineError,
    UnavailableError,
    VersionError,
)
from tapeline.schemas.events import (
    Instrument,
    Rejected,
    RejectOrigin,
    RejectReason,
    Signal,
    SignalOrigin,
    computed_id,
    decimal_text,
)
from tapeline.schemas.feed import FeedAnswer, FeedConnect, FeedEvent, FeedGap, decode_feed
from tapeline.schemas.frames import RECORD_BYTES_MAX, TICKS_MAX, FrameFlag, Lane, RawFrame, TickFrame
from tapeline.schemas.interval import Interval, IntervalError
from tapeline.schemas.lease import Lease, Leases, is_older
from tapeline.schemas.snapshot import Snapshot
from tapeline.schemas.tick import TICK, Flag, GapReason, Kind, Ticks, empty_ticks
from tapeline.schemas.topics import TOPICS, Topic, partition_of

__all__ = [
    "BAR",
    "RECORD_BYTES_MAX",
    "TICK",
    "TICKS_MAX",
    "TOPICS",
    "BarFlag",
    "BarFrame",
    "BarKind",
    "Bars",
    "EventError",
    "FeedAnswer",
    "FeedConnect",
    "FeedEvent",
    "FeedGap",
    "Flag",
    "FrameError",
    "FrameFlag",
    "GapReason",
    "Instrument",
    "Interval",
    "IntervalError",
    "Kind",
    "Lane",
    "Lease",
    "Leases",
    "RawFrame",
    "RejectOrigin",
    "RejectReason",
    "Rejected",
    "SettingsError",
    "Signal",
    "SignalOrigin",
    "Snapshot",
    "TapelineError",
    "TickFrame",
    "Ticks",
    "Topic",
    "UnavailableError",
    "VersionError",
    "computed_id",
    "decimal_text",
    "decode_feed",
    "empty_bars",
    "empty_ticks",
    "is_older",
    "partition_of",
]
