"""The contract of a store: where signals are kept. `agents/persist.py` calls it; each store is one module here.

**When it is called.** One task calls `open` once, then `next_offsets` whenever the role gets partitions and `write`
for every batch of a partition, in the order of its offsets; at the end `close`. Other processes may write the same
store at the same time, and after a crash or a rebalance the same signals come again, also from a process that does
not know yet that it lost its partition.

**What it owes.**
1. Signals and offset are one: after `write` returned no refusals, both are kept; after it failed, neither is missed.
2. A signal is kept once however often it comes. Its id says which it is.
3. The offset of a partition never goes back, whoever writes it.
4. Nothing is dropped in silence. A signal that the store will never take is returned, with the reason, and the
   offset stays where it was until the caller has put it elsewhere and calls `write` again.

**Waiting.** A store that is away is waited for, with growing pauses and a line in the log for each try, for as long
as it takes: `next_offsets` and `write` return late, not with an error. Cancel the call to stop waiting.

**Errors.** `StoreError` for what no waiting heals: tables of a newer version, missing rights, offsets of another topic
of the same name. Never an error of the driver.

**Not promised.** That signals are seen by readers in the order of their `seq`, or that two partitions move together.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tapeline.schemas import TapelineError


class StoreError(TapelineError):
    """The store cannot be used as it is; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A signal that the store will never take. index: its place in the batch; reason: in the store's words."""

    index: int
    reason: str


class SignalStore(Protocol):
    """What every store offers."""

    repeats: Counter[int]
    """Signals that came again and were kept before, by the raw partition of their origin; counted up by `write`."""

    async def open(self) -> None:
        """Connect and bring the tables up to date; waits for a store that is away, raises StoreError."""

    async def close(self) -> None:
        """Let go of the connection."""

    async def next_offsets(self, topic: str) -> dict[int, int]:
        """Return the first offset not yet kept, for each partition of the topic that was ever written."""

    async def write(self, signals: Sequence[bytes], topic: str, partition: int, next_offset: int) -> list[Refused]:
        """Keep the signals and, if none is refused, that reading goes on at next_offset; both or neither.

        signals: as they lie in the topic, each such that `Signal.decode` takes it.
        Refused ones are returned, the others are kept, and the offset has not moved: when they are safe elsewhere,
        call again with no signals.
        """
