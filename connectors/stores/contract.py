"""The contract of a store: where signals, ticks and bars are kept. The roles `persist*` in `agents/` call it.

Each store is one module here; `SignalStore` takes signals, `FrameStore` frames of ticks or of bars.

**When it is called.** One task calls `open` once, then `next_offsets` whenever the role gets partitions and `write`
for every batch of a partition, in the order of its offsets; at the end `close`. Other processes may write the same
store at the same time, and after a crash or a rebalance the same items come again, also from a process that does
not know yet that it lost its partition.

**What it owes.**
1. Items and offset are one: after `write` returned no refusals, both are kept; after it failed, neither is missed.
2. An item is kept once however often it comes. A signal's id says which it is; a frame's lane and origin, by the marks
   that are kept with the offset; of a bar its highest revision counts.
3. The offset of a partition never goes back, whoever writes it.
4. Nothing is dropped in silence. An item that the store will never take is returned, with the reason, and the
   offset stays where it was until the caller has put it elsewhere and calls `write` again.

**Waiting.** A store that is away is waited for, with growing pauses and a line in the log for each try, for as long
as it takes: every call but `close` returns late, not with an error. Cancel the call to stop waiting.

**Errors.** `StoreError` for what no waiting heals: tables of a newer version, missing rights, offsets of another topic
of the same name. Never an error of the driver.

**Not promised.** That signals are seen by readers in the order of their `seq`, or that two partitions move together.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from tapeline.schemas import Instrument, TapelineError

Frame = TypeVar("Frame", contravariant=True)


class StoreError(TapelineError):
    """The store cannot be used as it is; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Refused:
    """An item that the store will never take. index: its place in the batch; reason: in the store's words."""

    index: int
    reason: str


class Store(Protocol):
    """What every store offers."""

    repeats: Counter[int]
    """Items that came again and were kept before; counted up by `write`.

    Signals by the raw partition of their origin, frames by their packed lane.
    """

    async def open(self) -> None:
        """Connect and bring the tables up to date; waits for a store that is away, raises StoreError."""

    async def close(self) -> None:
        """Let go of the connection."""

    async def next_offsets(self, topic: str) -> dict[int, int]:
        """Return the first offset not yet kept, for each partition of the topic that was ever written."""


class SignalStore(Store, Protocol):
    """A store of signals."""

    async def write(self, signals: Sequence[bytes], topic: str, partition: int, next_offset: int) -> list[Refused]:
        """Keep the signals and, if none is refused, that reading goes on at next_offset; both or neither.

        signals: as they lie in the topic, each such that `Signal.decode` takes it.
        Refused ones are returned, the others are kept, and the offset has not moved: when they are safe elsewhere,
        call again with no signals.
        """


class FrameStore(Store, Protocol[Frame]):
    """A store of frames, each with many ticks or bars."""

    async def learn(self, instruments: Collection[Instrument]) -> Mapping[int, str]:
        """Make the names of instruments known; returns those that the store will never take: id -> reason."""

    async def write(
        self, frames: Sequence[tuple[int, Frame]], topic: str, partition: int, next_offset: int
    ) -> list[Refused]:
        """Keep frames and that reading goes on at next_offset; both or neither.

        frames: each with its offset, in order of that; of instruments that the store knows.
        If some are refused they are returned, and nothing is kept: when they are safe elsewhere, call again without.
        """

    async def upkeep(self) -> None:
        """Drop what is older than the store is to keep it; called now and then."""
