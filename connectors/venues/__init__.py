"""Venues: market data in. `contract` says what a venue is; `parse_frame` turns any raw frame into ticks.

Whoever feeds topic `raw` (`tapeline ingest`, demo, tests) opens a `Recording` with `binance_recording`,
`lean_recording` or `sim_market` and hands it to `pump`.
"""

from tapeline.connectors.venues.contract import (
    MESSAGE_BYTES_MAX,
    FeedMessage,
    Message,
    Parsed,
    Recording,
    RecordingError,
    Reject,
    Sequences,
    Unreadable,
    Venue,
)
from tapeline.connectors.venues.feed import LEASE
from tapeline.connectors.venues.parsing import VENUES, parse_frame, warm_up

__all__ = [
    "LEASE",
    "MESSAGE_BYTES_MAX",
    "VENUES",
    "FeedMessage",
    "Message",
    "Parsed",
    "Recording",
    "RecordingError",
    "Reject",
    "Sequences",
    "Unreadable",
    "Venue",
    "parse_frame",
    "warm_up",
]
