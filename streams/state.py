"""Snapshots in topic `state`: where every stateful role keeps state and next offset, as one value.

A role loads the newest snapshot of each unit of its partitions when it gets them, and saves one now and
then. The topic's partition p holds the units whose input is partition p.
"""

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from tapeline.schemas import FrameError, Snapshot, UnavailableError
from tapeline.schemas.topics import STATE
from tapeline.streams.producer import Producer

log = logging.getLogger(__name__)

READ_SECONDS_MAX = 60


class PartitionTail:
    """Read one partition from where the last read ended up to its current end; no group, no commits."""

    def __init__(self, properties: Mapping[str, str | int], topic: str, partition: int) -> None:
        self._consumer = Consumer(
            {
                **properties,
                "group.id": "tapeline.tail",
                "enable.auto.commit": False,
                "fetch.queue.backoff.ms": 5,
                "log_level": 0,
            }
        )
        self._where = TopicPartition(topic, partition, 0)
        self._started = False

    def read(self) -> list[tuple[int, str, bytes | None]]:
        """Return (offset, key, value) of every record added since the last call; blocks until caught up."""
        first, end = self._watermarks()
        if not self._started:
            self._where.offset = first
            self._consumer.assign([self._where])
            self._started = True
        found: list[tuple[int, str, bytes | None]] = []
        deadline = time.monotonic() + READ_SECONDS_MAX
        while self._where.offset < end:
            if time.monotonic() > deadline:
                raise UnavailableError(
                    f"Kafka: {self._where.topic}[{self._where.partition}] gave nothing for {READ_SECONDS_MAX} s "
                    f"at offset {self._where.offset} of {end}; is the broker overloaded?"
                )
            for message in self._consumer.consume(1000, 0.05):
                error = message.error()
                if error is not None:
                    raise KafkaException(error)
                key = message.key()
                found.append((message.offset() or 0, key.decode() if key else "", message.value()))
                self._where.offset = (message.offset() or 0) + 1
                deadline = time.monotonic() + READ_SECONDS_MAX
            # Compaction leaves holes up to the very end: the position knows, the records do not.
            position = self._consumer.position([self._where])[0].offset
            self._where.offset = max(self._where.offset, position)
        return found

    def close(self) -> None:
        """Let go of the connection."""
        self._consumer.close()

    def _watermarks(self) -> tuple[int, int]:
        """First and next offset of the partition; a leader that was just elected refuses for a moment."""
        deadline = time.monotonic() + READ_SECONDS_MAX
        while True:
            try:
                return self._consumer.get_watermark_offsets(self._where, timeout=READ_SECONDS_MAX)
            except KafkaException as error:
                passing = error.args[0].code() in (KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE)
                if not passing or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)


class StateStore:
    """Load and save the snapshots of one role."""

    def __init__(self, role: str, properties: Mapping[str, str | int], producer: Producer) -> None:
        self._role = role
        self._properties = properties
        self._producer = producer
        self._tails: dict[int, PartitionTail] = {}
        self._newest: dict[int, dict[str, Snapshot]] = {}

    async def load(self, partitions: Iterable[int]) -> dict[int, dict[str, Snapshot]]:
        """Return the newest snapshot of every unit of these partitions: {partition: {unit: snapshot}}."""
        wanted = sorted(partitions)
        for partition in wanted:
            await asyncio.to_thread(self._catch_up, partition)
        return {partition: dict(self._newest.get(partition, {})) for partition in wanted}

    async def save(self, partition: int, unit: str, snapshot: Snapshot) -> None:
        """Send a snapshot; it counts once the producer is flushed. Outputs before it must be confirmed already."""
        await self._producer.send(STATE.name, snapshot.encode(), key=f"{self._role}/{unit}", partition=partition)

    def close(self) -> None:
        """Let go of the connections."""
        for tail in self._tails.values():
            tail.close()
        self._tails.clear()

    def _catch_up(self, partition: int) -> None:
        tail = self._tails.get(partition)
        if tail is None:
            tail = self._tails[partition] = PartitionTail(self._properties, STATE.name, partition)
        newest = self._newest.setdefault(partition, {})
        try:
            records = tail.read()
        except KafkaException as error:
            if error.args[0].code() in (KafkaError._UNKNOWN_PARTITION, KafkaError.UNKNOWN_TOPIC_OR_PART):
                raise UnavailableError(
                    f"topic {STATE.name} has no partition {partition}: `tapeline topics create` makes it"
                ) from error
            raise
        for offset, key, value in records:
            role, _, unit = key.partition("/")
            if role != self._role or value is None:
                continue
            try:
                newest[unit] = Snapshot.decode(value)
            except FrameError as error:
                # An older snapshot is as good: it only means reading more again.
                log.error("snapshot of %s in %s[%d]@%d is not used: %s", key, STATE.name, partition, offset, error)
