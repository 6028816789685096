"""The contract of a venue: what turns the messages of one market data connection into ticks.

A venue is two functions, and both are easy to test without a network:

**Reading** (`binance_recording.open_recording`, `sim_market.open_market`, ...) gives a `Recording`: its `source`, and
`items` to iterate over once, in order of arrival. Called by `tapeline ingest` in the process that feeds topic `raw`.
- It may block on disk, for one block of the file; it holds no more than a line or a block in memory.
- It yields a `Message` for each message, byte for byte as received, a `FeedMessage` for what the feed itself has to say
  (that the connection broke), and an `Unreadable` for what is no message (a line without a receive time). It skips
  nothing in silence.
- Opening raises `RecordingError` if the file is not there or not of this venue; iterating raises it where a
  file is damaged, after everything before the damage was yielded.
- It does not promise sorted times: receive times are as recorded.

**`parse(frame, state)`** gives the ticks of one raw frame, `snapshot(frame, symbol, state)` those of an order book that
the venue's REST answered. Called by `agents/normalize` for every raw record.
- Pure: no I/O, no clock, no randomness. The same frame and an equal `state` give the same ticks, bit for bit: a
  worker that crashed reads again from a snapshot of `state` and must make the same record again.
- It changes `state` in place: what it must remember of a connection (JSON-able and small), such as the last
  number of each stream. The caller hands in an empty one when `frame.first_message` is 0: a new session, unless the
  connection is leased (`frame.epoch`).
- How messages are cut into frames changes neither ticks nor rejects.
- It never raises for what a venue sent. Each message gives ticks, or one `Reject`, or neither: a depth update without
  levels, and what the venue says of the connection (an answer to a subscription, a heartbeat, its system's status).
  Of a message that holds several events (a batch of trades) each gives ticks, and the first that is unsound the
  `Reject`. What is rejected leaves `state` as it was, so a number it carried shows as missing.
- What a connection counts or says from its beginning is in `state` under keys that start with `connection/`, which the
  caller drops when it learns that the connection was made anew.
- Ticks are in order of arrival. Where the venue's numbers jump a GAP tick stands before the tick that shows it.
- Messages of common shapes (`shapes`) are read by compiled code (`scan`), all others by the venue's parser, which says
  what is right: `parse(..., scanned=False)` leaves every message to it, and gives the same to the bit.
- It promises no order of event times, no unique (instrument, time), and no repair: what is odd is flagged.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from tapeline.schemas import FeedEvent, RawFrame, RejectReason, TapelineError, Ticks

MESSAGE_BYTES_MAX = 8_000_000
"""A longer message is rejected as OVERSIZED instead of parsed. Coinbase's picture of the BTC-USD book takes 5 MB."""

Sequences = dict[str, int | str]
"""What `parse` remembers of one connection, e.g. {"trade/BTCUSDT": 5266583935}."""


class RecordingError(TapelineError):
    """A recorded file cannot be read, or not to its end; names the file, the place and what to do."""


class Message(NamedTuple):
    """One message as received; recv_ns: when, nanoseconds UTC."""

    recv_ns: int
    data: bytes


class FeedMessage(NamedTuple):
    """What the feed itself has to say at this place; recv_ns: when, nanoseconds UTC."""

    recv_ns: int
    event: FeedEvent


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A piece of a recording that is no message; index: its number (line) in the recording, from 0."""

    index: int
    reason: RejectReason
    detail: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Recording:
    """Something to ingest. `done()` of `total` `unit`s are read (for progress); total 0 = without end."""

    source: str
    """`venue/connection`, at most 255 bytes: the key of its raw records."""
    origin: str
    """Where its rejects say they come from: a file's name."""
    items: Iterator[Message | FeedMessage | Unreadable]
    total: int
    unit: str
    done: Callable[[], int]


@dataclass(frozen=True, slots=True)
class Reject:
    """Message `index` of a raw frame could not be processed."""

    index: int
    reason: RejectReason
    detail: str


@dataclass(frozen=True, slots=True, eq=False)
class Parsed:
    """What one raw frame says.

    ticks: (n,) TICK in order of arrival, `instrument_id` = index into `names`; names: instruments as
    `venue:SYMBOL` in the venue's own spelling; rejects: in order of their messages.
    """

    ticks: Ticks
    names: tuple[str, ...]
    rejects: tuple[Reject, ...]


@dataclass(frozen=True, slots=True)
class Venue:
    """One venue as `parse_frame` knows it: `name` is the part of a source before the slash.

    `snapshot(frame, symbol, state)` gives the ticks of the one message in `frame`, what the venue's REST answered when
    asked for the order book of `symbol`; None: books come with the stream, or not at all.
    """

    name: str
    parse: Callable[[RawFrame, Sequences], Parsed]
    snapshot: Callable[[RawFrame, str, Sequences], Parsed] | None = None
    """The ticks of an order book that the venue's REST gave for a symbol; None: its books come by WebSocket."""
