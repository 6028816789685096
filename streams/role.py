"""What every stateful role shares: its partitions, their next offsets, and the order of work.

`streams/transport.py` calls it; the role files in `agents/` implement `load`, `process` and `save`.

For each record: 1. process it and send its outputs. Now and then, and before a partition goes:
2. wait until all outputs are confirmed, 3. save state and next offset as one record, 4. wait until that is
confirmed, 5. commit the offset, for lag monitors only: the snapshot decides where reading starts.
"""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import ClassVar

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from tapeline.schemas import Rejected, TapelineError, Topic, UnavailableError, partition_of
from tapeline.schemas.topics import REJECTED
from tapeline.streams.producer import Producer
from tapeline.streams.settings import Settings, kafka_bootstrap

log = logging.getLogger(__name__)

TOPIC_SECONDS_MAX = 30


class LostRecordError(TapelineError):
    """The transport handed over a record that is not the next one."""


class Role(ABC):
    """One role's work on the partitions it has. Everything runs in one asyncio loop, one record at a time."""

    name: ClassVar[str]
    input: ClassVar[Topic]

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.kafka: Mapping[str, str | int] = settings.kafka.librdkafka(kafka_bootstrap(settings))
        self._producer: Producer | None = None
        self._opening: asyncio.Task[None] | None = None
        self.topic_id = ""
        """Kafka's id of the input topic, once the role is open: offsets belong to it, not to the name."""
        self._next: dict[int, int] = {}
        self._changed: set[int] = set()
        self._lock = asyncio.Lock()

    @property
    def producer(self) -> Producer:
        """The role's producer; there once it is open."""
        if self._producer is None:
            raise RuntimeError(f"role {self.name} is not open")
        return self._producer

    async def open(self) -> None:
        """Connect what the role needs; runs once, when the first partitions come."""
        self._producer = Producer(self.kafka)
        self.topic_id = await asyncio.to_thread(_topic_id, self.kafka, self.input.name)
        self._rejected_partitions = await self._producer.partition_count(REJECTED.name)

    async def reject(self, event: Rejected) -> None:
        """Send what cannot be processed to `rejected`; it is confirmed before the offset behind it passes."""
        partition = partition_of(event.key, self._rejected_partitions)
        await self.producer.send(REJECTED.name, event.encode(), key=event.key, partition=partition)

    @abstractmethod
    async def release(self) -> None:
        """Let go of what `open` connected beside the producer."""

    async def close(self) -> None:
        """Make the work so far safe and let go of everything; nothing is processed afterwards."""
        await self.checkpoint()
        async with self._lock:
            self._next.clear()
            if self._opening is not None and _succeeded(self._opening):
                await self.release()
            elif self._opening is not None:
                self._opening.cancel()
            if self._producer is not None:
                await self._producer.close()

    @abstractmethod
    async def load(self, partitions: frozenset[int]) -> dict[int, int]:
        """Restore the state of exactly these partitions, forget all others; return the next offset of each."""

    @abstractmethod
    async def process(self, partition: int, offset: int, record: bytes) -> None:
        """Take one record and send what follows from it; what cannot be processed goes to `rejected`."""

    @abstractmethod
    async def save(self, partitions: Iterable[int]) -> None:
        """Send the state of these partitions together with their next offsets."""

    async def restore(self, partitions: frozenset[int]) -> dict[int, int]:
        """Get these partitions and no others; return where reading starts."""
        async with self._lock:
            # A rebalance cancels us at any point; opening goes on and whoever restores next waits for the same.
            if self._opening is None:
                self._opening = asyncio.create_task(self.open(), name=f"{self.name}.open")
            await asyncio.shield(self._opening)
            self._changed.clear()
            self._next.clear()
            self._next = await self.load(partitions)
            return dict(self._next)

    def start_at(self, partition: int, offset: int) -> None:
        """Move the start of a partition whose expected records the topic no longer holds."""
        self._next[partition] = offset

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
            try:
                await self.process(partition, offset, record)
            except BaseException:
                # Half processed: state and offset no longer agree, so neither may be saved.
                self._next.pop(partition, None)
                self._changed.discard(partition)
                raise
            self._next[partition] = offset + 1
            self._changed.add(partition)

    async def checkpoint(self) -> dict[int, int]:
        """Confirm outputs, then save what changed; return the next offsets that are now safe to commit."""
        async with self._lock:
            changed = sorted(self._changed)
            if not changed:
                return {}
            await self.producer.flush()
            await self.save(changed)
            await self.producer.flush()
            self._changed.clear()
            return {partition: self._next[partition] for partition in changed}

    def next_offset(self, partition: int) -> int:
        """The first offset not yet in the state of a partition this role has."""
        return self._next[partition]


def _succeeded(task: asyncio.Task[None]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is None


def _topic_id(kafka: Mapping[str, str | int], topic: str) -> str:
    client = AdminClient({**kafka, "log_level": 0})  # held: when it goes, its answers go
    [future] = client.describe_topics(TopicCollection([topic])).values()
    try:
        return str(future.result(TOPIC_SECONDS_MAX).topic_id)
    except KafkaException as error:
        raise UnavailableError(f"topic {topic} cannot be described: {error.args[0].str()}") from error
