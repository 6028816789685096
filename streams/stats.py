"""What a role counts while it runs: plain numbers that are cheap to change and read only when somebody asks.

`role.py`, `transport.py` and `producer.py` change them, each field from one thread, without locks; `telemetry.py`
reads them when it is scraped and `status.py` shows them. Nothing here decides anything.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum

BOUNDS_SECONDS = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
"""Upper bounds of the buckets of every `Durations`; one more bucket takes what is longer."""
UNKNOWN = -1


class WatchdogState(StrEnum):
    """What the watchdog thinks of a role."""

    OK = "ok"
    SUSPECT = "suspect"
    """Something does not move; the process ends if that lasts."""
    ENDING = "ending"
    """The process ends, for the reason beside it."""


@dataclass(slots=True)
class Durations:
    """How long something took, as a histogram; also its last and its longest time, in seconds."""

    total: float = 0.0
    last: float = 0.0
    longest: float = 0.0
    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_SECONDS) + 1))
    """How many fell between the bound before and the bound of each bucket."""

    def add(self, seconds: float) -> None:
        """Count one."""
        self.total += seconds
        self.last = seconds
        if seconds > self.longest:
            self.longest = seconds
        self.counts[bisect_left(BOUNDS_SECONDS, seconds)] += 1


@dataclass(slots=True)
class PartitionStats:
    """One partition of a role's input; counters go on when it goes and comes back."""

    held: bool = False
    """Whether it is ours now."""
    paused: bool = False
    next_offset: int = UNKNOWN
    """The first offset not yet taken."""
    end_offset: int = UNKNOWN
    """Where the partition ends, as the client last heard."""
    records: int = 0
    items: int = 0
    """Messages (normalize), ticks (logic, bars, persist-ticks), bars (persist-bars) or signals (persist) in them."""
    bytes: int = 0
    snapshot_time_ns: int = 0
    """Wall clock when the newest state was confirmed, by us or (not `persist*`) whoever had it before; 0: not known."""
    snapshot_bytes: int = 0
    duplicates: dict[int, int] = field(default_factory=dict)
    """Frames (or signals) that were seen before, by packed lane."""
    overtaken: int = 0
    """Messages of a live connection that another process had taken over by then."""

    def took(self, next_offset: int, items: int, size: int) -> None:
        """Count one record of `size` bytes with `items` in it, after which `next_offset` is due."""
        self.next_offset = next_offset
        self.records += 1
        self.items += items
        self.bytes += size

    def skipped(self, lane: int, frames: int = 1) -> None:
        """Count frames of a packed lane that were seen before."""
        self.duplicates[lane] = self.duplicates.get(lane, 0) + frames

    @property
    def lag(self) -> int:
        """How many records wait; UNKNOWN until both offsets are known."""
        if self.next_offset < 0 or self.end_offset < 0:
            return UNKNOWN
        return max(self.end_offset - self.next_offset, 0)


@dataclass(slots=True)
class ProducerStats:
    """What a producer sent and what the broker confirmed: one thread counts the one, another the other."""

    records_sent: int = 0
    bytes_sent: int = 0
    records_confirmed: int = 0
    bytes_confirmed: int = 0
    waiting_since_ns: int = 0
    """Wall clock since which records wait and none was confirmed; means nothing while all is confirmed."""

    @property
    def unconfirmed_records(self) -> int:
        """Records sent and not yet confirmed."""
        return max(self.records_sent - self.records_confirmed, 0)

    @property
    def unconfirmed_bytes(self) -> int:
        """Bytes sent and not yet confirmed."""
        return max(self.bytes_sent - self.bytes_confirmed, 0)

    def unconfirmed_seconds(self, now_ns: int) -> float:
        """How long records have waited without any being confirmed; 0 if none waits."""
        if not self.unconfirmed_records or not self.waiting_since_ns:
            return 0.0
        return max(now_ns - self.waiting_since_ns, 0) / 1e9


@dataclass(slots=True)
class RoleStats:
    """One role in this process."""

    name: str
    topic: str
    """Its input."""
    partitions: dict[int, PartitionStats] = field(default_factory=dict)
    """Every partition this process ever had."""
    producer: ProducerStats = field(default_factory=ProducerStats)
    rejected: int = 0
    buffered: int = 0
    """Records that were fetched and wait to be processed."""
    rebalances: int = 0
    processing: Durations = field(default_factory=Durations)
    """Of one record."""
    checkpoints: Durations = field(default_factory=Durations)
    """From asking for a checkpoint until state and outputs are confirmed."""
    restores: Durations = field(default_factory=Durations)
    """From an assignment until the state is there."""
    handovers: Durations = field(default_factory=Durations)
    """From a revocation until others may go on."""
    watchdog: WatchdogState = WatchdogState.OK
    watchdog_reason: str = ""
    waits_for: str = ""
    """What outside this process it waits for (a database that is away), in words for a user."""
    refresh: Callable[[], None] | None = None
    """Called before the numbers are read, in another thread: brings up to date what nobody counts, such as ends."""

    def hold(self, partitions: Iterable[int]) -> None:
        """Have exactly these partitions from now on."""
        ours = frozenset(partitions)
        for partition in ours - self.partitions.keys():
            self.partitions[partition] = PartitionStats()
        for partition, stats in self.partitions.items():
            stats.held = partition in ours
