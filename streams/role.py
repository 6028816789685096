"""What every role shares: its partitions, their next offsets, and the order of work.

`streams/transport.py` calls it; the role files in `agents/` implement `load`, `process`, `capture` and `forget`.

For each record: 1. process it and send its outputs. Now and then, and before a partition goes:
2. take state and next offset as one value, 3. wait until all outputs before it are confirmed, 4. save it,
5. wait until that is confirmed, 6. commit the offset, for lag monitors only: the snapshot decides where reading starts.
"""

import asyncio
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, NamedTuple

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from tapeline.schemas import Rejected, Snapshot, TapelineError, Topic, UnavailableError, partition_of
from tapeline.schemas.topics import REJECTED
from tapeline.streams.producer import Producer
from tapeline.streams.settings import Settings, kafka_bootstrap
from tapeline.streams.state import StateStore
from tapeline.streams.stats import RoleStats

log = logging.getLogger(__name__)

TOPIC_SECONDS_MAX = 30


class LostRecordError(TapelineError):
    """The transport handed over a record that is not the next one."""


class Unit(NamedTuple):
    """State of one unit of a partition, as it is saved."""

    partition: int
    name: str
    snapshot: Snapshot


class Role(ABC):
    """One role's work on the partitions it has. Everything runs in one asyncio loop, one record at a time."""

    name: ClassVar[str]
    input: ClassVar[Topic]
    remedy: ClassVar[str] = "Spread its instruments over more partitions"
    """What to do when its state is too large for a record."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.kafka: Mapping[str, str | int] = settings.kafka.librdkafka(kafka_bootstrap(settings))
        self.stats = RoleStats(self.name, self.input.name)
        self.topic_id = ""
        """Kafka's id of the input topic, once the role is open: offsets belong to it, not to the name."""
        self._producer: Producer | None = None
        self._store: StateStore | None = None
        self._next: dict[int, int] = {}
        self._changed: set[int] = set()
        self._lock = asyncio.Lock()  # a record is processed
        self._saving = asyncio.Lock()  # a checkpoint is on its way

    @property
    def waits_for(self) -> str:
        """What the role waits for outside Kafka, such as its database: no reason to end the process."""
        return ""

    @property
    def is_open(self) -> bool:
        """Whether `open` has connected the producer."""
        return self._producer is not None

    @property
    def producer(self) -> Producer:
        """The role's producer; there once it is open."""
        if self._producer is None:
            raise RuntimeError(f"role {self.name} is not open")
        return self._producer

    @property
    def store(self) -> StateStore:
        """The role's snapshots; there once it is open."""
        if self._store is None:
            raise RuntimeError(f"role {self.name} is not open")
        return self._store

    async def open(self) -> None:
        """Connect what the role needs and compile what it runs; once, before the first partitions come."""
        self._producer = Producer(self.kafka, compression=self.settings.frames.compression)
        self.stats.producer = self._producer.stats
        self.topic_id = await asyncio.to_thread(_topic_id, self.kafka, self.input.name)
        self._rejected_partitions = await self._producer.partition_count(REJECTED.name)
        self._store = StateStore(self.name, self.kafka, self._producer, self.topic_id, self.remedy)

    @abstractmethod
    async def load(self, partitions: frozenset[int]) -> dict[int, int]:
        """Restore the state of these partitions, beside those that are ours; return the next offset of each."""

    @abstractmethod
    def forget(self, partitions: Iterable[int]) -> None:
        """Drop the state of these partitions."""

    @abstractmethod
    async def process(self, partition: int, offset: int, record: bytes) -> int:
        """Take one record and send what follows from it; what cannot be processed goes to `rejected`.

        Returns how many items (messages, ticks, signals) were in it.
        """

    def capture(self, partitions: Iterable[int]) -> list[Unit]:
        """Return the state of these partitions, each unit with its next offset; runs between two records."""
        return []

    async def release(self) -> None:  # noqa: B027 - most roles have nothing else
        """Let go of what `open` connected beside producer and store."""

    async def reject(self, event: Rejected) -> None:
        """Send what cannot be processed to `rejected`; it is confirmed before the offset behind it passes."""
        self.stats.rejected += 1
        partition = partition_of(event.key, self._rejected_partitions)
        await self.producer.send(REJECTED.name, event.encode(), key=event.key, partition=partition)

    async def close(self) -> None:
        """Let go of everything, after all partitions were given away."""
        self._next.clear()
        await self.release()
        if self._store is not None:
            self._store.close()
        if self._producer is not None:
            await self._producer.close()

    async def gain(self, partitions: Sequence[int]) -> dict[int, int]:
        """Get these partitions too; return where reading of each starts."""
        started = time.monotonic()
        starts = await self.load(frozenset(partitions)) if partitions else {}
        for partition, offset in starts.items():
            self.start_at(partition, offset)
            self.stats.partitions[partition].snapshot_time_ns = self.store.saved_ns.get(partition, 0)
        self.stats.restores.add(time.monotonic() - started)
        return starts

    def start_at(self, partition: int, offset: int) -> None:
        """Let `offset` be the next record of a partition that is ours."""
        self._next[partition] = offset
        self.stats.hold(self._next)
        self.stats.partitions[partition].next_offset = offset

    async def give(self, partitions: Sequence[int]) -> dict[int, int]:
        """Make the work on these partitions safe and forget them; return their next offsets."""
        started = time.monotonic()
        offsets = await self.checkpoint(frozenset(partitions))
        await self.lose(partitions)
        self.stats.handovers.add(time.monotonic() - started)
        return offsets

    async def lose(self, partitions: Sequence[int]) -> None:
        """Forget these partitions; whoever has them reads on from their last snapshots."""
        async with self._lock:
            for partition in partitions:
                self._next.pop(partition, None)
                self._changed.discard(partition)
            self.forget(partitions)
            self.stats.hold(self._next)

    async def receive(self, partition: int, offset: int, record: bytes) -> None:
        """Process a record if it is the next of its partition, skip it if it was processed; anything else is fatal."""
        async with self._lock:
            expected = self._next.get(partition)
            if expected is None or offset < expected:
                return
            if offset > expected:
                raise LostRecordError(
                    f"{self.input.name}[{partition}]: record {offset} came, {expected} was due; starting again"
                )
            started = time.perf_counter()
            try:
                items = await self.process(partition, offset, record)
            except BaseException:
                # Half processed: state and offset no longer agree, so neither may be saved.
                self._next.pop(partition, None)
                self._changed.discard(partition)
                raise
            self._next[partition] = offset + 1
            self._changed.add(partition)
            self.stats.partitions[partition].took(offset + 1, items, len(record))
            self.stats.processing.add(time.perf_counter() - started)

    async def checkpoint(self, only: frozenset[int] | None = None) -> dict[int, int]:
        """Make the work so far safe; return the next offsets that may be committed now. only: of these partitions."""
        started = time.monotonic()
        async with self._saving:  # an older state must not be saved after a newer one
            async with self._lock:
                changed = sorted(self._changed if only is None else self._changed & only)
                self._changed.difference_update(changed)
                offsets = {partition: self._next[partition] for partition in changed}
                units = self.capture(changed)
                outputs = self.producer.mark()
            # From here on records are processed again: what is saved is what was taken.
            await self.producer.confirmed(outputs)
            sizes = dict.fromkeys(changed, 0)
            for unit in units:
                sizes[unit.partition] += await self.store.save(unit.partition, unit.name, unit.snapshot)
            await self.producer.flush()
        now_ns = time.time_ns()
        for partition in changed:
            self.stats.partitions[partition].snapshot_time_ns = now_ns
            self.stats.partitions[partition].snapshot_bytes = sizes[partition]
        if changed:
            self.stats.checkpoints.add(time.monotonic() - started)
        return offsets

    def expected(self, partition: int) -> dict[str, int]:
        """Return the offset that each unit of a partition expects next; one that keeps no snapshots has one unit."""
        return {str(partition): self._next[partition]}

    def next_offset(self, partition: int) -> int:
        """The first offset not yet in the state of a partition this role has."""
        return self._next[partition]


def _topic_id(kafka: Mapping[str, str | int], topic: str) -> str:
    client = AdminClient({**kafka, "log_level": 0})  # held: when it goes, its answers go
    [future] = client.describe_topics(TopicCollection([topic])).values()
    try:
        return str(future.result(TOPIC_SECONDS_MAX).topic_id)
    except KafkaException as error:
        raise UnavailableError(f"topic {topic} cannot be described: {error.args[0].str()}") from error
    except TimeoutError as error:
        raise UnavailableError(f"Kafka did not describe topic {topic} within {TOPIC_SECONDS_MAX} s") from error
