"""The contract of a live venue: what to connect to, what to say there, and what follows from what it says.

A `Dialect` is one venue's rules as plain values; a `Session` is one connection, from the moment it opens until it is
lost. Both wait for nothing: `client` holds the socket, sends, fetches and tells the time, and a test can do the same.

**When it is called.** `opened` once; then `received` for every message, in order, as it came; `answered` for each
`Fetch` once its answer is there (200 only: the client waits out refusals, 429 and 418 among them, and gives up on the
others); `timer` about once a second. A new session begins with every connection.

**What it returns.** Actions, done in their order:
- `Send`: a text for the venue. The client keeps to `sends_per_second`.
- `Fetch`: a question to the venue's REST about `symbol`. The client keeps to `fetches_per_second`, over all of them;
  `refused` is called where the venue will not answer it.
- `Say`: something for the log: it stands right before the message that led to it.
- `Reconnect`: this connection is of no use any more; the log gets a gap of every symbol with the reason.
- `Complain`: a refusal in the venue's words, for the operator's eyes; the rest goes on.

**What it owes.** After a break (numbers that jump, a checksum that does not match) it asks for a fresh snapshot, and
lets no snapshot into the log that is older than the updates it must carry. What the numbers in the messages already say
is not said again: `parse` makes those gaps. It never raises for what a venue sent, except `GarbageError`: that is no
message of this venue, and what it may have been is lost.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, TypeVar

import orjson

from tapeline.schemas import FeedEvent, GapReason, TapelineError

Item = TypeVar("Item")


PONG_BYTES_MAX = 256


class StreamKind(StrEnum):
    """What can be subscribed to."""

    TRADE = "trade"
    QUOTE = "quote"
    DEPTH = "depth"


class GarbageError(TapelineError):
    """What came is no message of the venue's."""


@dataclass(frozen=True, slots=True)
class Send:
    """Send a text to the venue."""

    text: str


@dataclass(frozen=True, slots=True)
class Fetch:
    """Ask the venue's REST; after_s: not before so long from now."""

    url: str
    symbol: str
    after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Say:
    """Put something into the log."""

    event: FeedEvent


@dataclass(frozen=True, slots=True)
class Reconnect:
    """Give the connection up and open another."""

    reason: GapReason
    detail: str


@dataclass(frozen=True, slots=True)
class Complain:
    """Tell the operator."""

    text: str


Action = Send | Fetch | Say | Reconnect | Complain


@dataclass(frozen=True, slots=True)
class Plan:
    """One connection: its name (second part of the source), where it goes, and what it carries."""

    connection: str
    url: str
    rest: str
    symbols: tuple[str, ...]
    streams: frozenset[StreamKind]
    key: str = ""
    secret: str = ""


class Session(ABC):
    """One connection to a venue; see the contract above. now_ns: receive time of the call, ns UTC."""

    ping: ClassVar[Send | None] = None
    """What keeps the connection, where the venue wants to hear something now and then,"""
    ping_ns: ClassVar[int] = 15_000_000_000
    """so often,"""
    pong: ClassVar[bytes] = b""
    """and what stands in the answer, which is no data."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._pinged_ns = 0

    @abstractmethod
    def opened(self) -> list[Action]:
        """Return what to do first: subscriptions, usually."""

    @abstractmethod
    def received(self, data: bytes, now_ns: int) -> Sequence[Action]:
        """Look at a message; return what follows from it. Raises GarbageError."""

    def answered(self, fetch: Fetch, body: bytes) -> Sequence[Action]:
        """Look at the answer to a `Fetch`; return what follows from it. Raises GarbageError."""
        raise NotImplementedError(f"{type(self).__name__} asks for nothing")

    def refused(self, fetch: Fetch) -> Sequence[Action]:
        """Hear that the venue will not answer a `Fetch`; return what follows from it."""
        return ()

    def is_pong(self, data: bytes) -> bool:
        """Return whether a message only answers our ping: then it says nothing of the data."""
        return self.pong != b"" and len(data) < PONG_BYTES_MAX and self.pong in data

    def timer(self, now_ns: int) -> Sequence[Action]:
        """Return what is due by now: a ping, if nothing else."""
        if self.ping is None or now_ns - self._pinged_ns < self.ping_ns:
            return ()
        self._pinged_ns = now_ns
        return [self.ping]


@dataclass(frozen=True, slots=True)
class InstrumentInfo:
    """What a venue's REST says of an instrument; decimals as texts, None = it does not say."""

    symbol: str
    base: str | None = None
    quote: str | None = None
    settle: str | None = None
    multiplier: str | None = None
    tick: str | None = None
    lot: str | None = None
    status: str | None = None


@dataclass(frozen=True, slots=True)
class Dialect:
    """One live venue.

    symbols_max: that one connection carries; sends_, fetches_, connects_per_second: what the venue allows, with room;
    instruments: paths of its REST that list instruments, and `describe`, which reads one such answer.
    """

    venue: str
    url: str
    rest: str
    streams: frozenset[StreamKind]
    session: Callable[[Plan], Session]
    symbols_max: int
    sends_per_second: float
    fetches_per_second: float
    instruments: tuple[str, ...]
    describe: Callable[[Any], list[InstrumentInfo]]
    connects_per_second: float = 4.0
    silence_s: float = 30.0
    """Without data for longer a connection is of no use, if the configuration does not say otherwise."""
    paths: tuple[tuple[str, frozenset[StreamKind]], ...] = (("", frozenset(StreamKind)),)
    """Paths behind `url` and the streams that each serves: a connection belongs to one of them."""
    needs_key: bool = False
    key_headers: tuple[str, str] | None = None
    """The headers of its REST that carry key and secret."""


def load(data: bytes) -> Any:
    """Read JSON; raise GarbageError."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise GarbageError(f"not JSON: {error}") from error


def chunks(items: Sequence[Item], size: int) -> list[tuple[Item, ...]]:
    """Cut into pieces of at most `size`."""
    return [tuple(items[start : start + size]) for start in range(0, len(items), size)]


def text(message: Any) -> Send:
    """Return a message for the venue."""
    return Send(orjson.dumps(message).decode())
