"""Leases of live connections: who may write what a venue's connection says into `raw`. Pure; one log decides.

Topic `leases` has one partition, and every record in it the broker's time. Whoever reads it comes to the same answer:
a claim counts if nobody holds the connection, or its holder was silent for TTL_MS of that time. An epoch, one more with
each holder, is in every raw frame: readers pass over those of a holder that was followed by another.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from tapeline.schemas.events import Event, Name

TTL_MS = 4000
"""A holder that was silent for longer can be followed by another."""
EPOCHS = 2**16
UInt16 = Annotated[int, Field(ge=0, lt=EPOCHS)]


class Lease(Event):
    """What a process says of one live connection."""

    source: Name = Field(description="the connection, as venue/connection")
    holder: Name = Field(description="the process, another one after each start")
    epoch: UInt16 = Field(description="of its lease; of a claim, the one before")
    what: Literal["claim", "hold", "release"]

    @property
    def key(self) -> str:
        """The key of its record: the last word of a holder outlives compaction, claims are apart."""
        return f"claim/{self.source}" if self.what == "claim" else self.source


@dataclass(slots=True)
class Held:
    """One connection. holder: "" = nobody."""

    holder: str = ""
    epoch: int = 0
    time_ms: int = 0


class Leases:
    """The state of all leases after the records so far."""

    def __init__(self) -> None:
        self._held: dict[str, Held] = {}

    def of(self, source: str) -> Held:
        """Return the lease of a connection."""
        return self._held.setdefault(source, Held())

    def take(self, record: Lease, time_ms: int) -> None:
        """Take the next record; time_ms: the broker's."""
        held = self.of(record.source)
        ours = held.holder == record.holder
        unknown = not held.time_ms  # what came before was compacted
        match record.what:
            case "claim" if not ours and (not held.holder or time_ms - held.time_ms > TTL_MS):
                held.holder, held.epoch, held.time_ms = record.holder, next_epoch(held.epoch), time_ms
            case "claim" if ours:
                held.time_ms = time_ms
            case "hold" if ours or unknown:
                held.holder, held.epoch, held.time_ms = record.holder, record.epoch, time_ms
            case "release" if ours or unknown:
                held.holder, held.epoch, held.time_ms = "", record.epoch, time_ms


def next_epoch(epoch: int) -> int:
    """Return the epoch after this one; 0 means that there is no lease and is left out."""
    return (epoch + 1) % EPOCHS or 1


def is_older(epoch: int, other: int) -> bool:
    """Say whether an epoch came before another one, though they begin anew after 65,535 (RFC 1982, section 3.2)."""
    return epoch != other and (other - epoch) % EPOCHS < EPOCHS // 2
