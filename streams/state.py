"""Snapshots in topic `state`: where every stateful role keeps state and next offset, as one value.

A role loads the newest snapshot of each unit of its partitions when it gets them, and saves one now and
then. The topic's partition p holds the units whose input is partition p.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from tapeline.schemas import FrameError, Snapshot, TapelineError, UnavailableError, VersionError
from tapeline.schemas.topics import STATE
from tapeline.streams.producer import Producer

log = logging.getLogger(__name__)

READ_SECONDS_MAX = 60


class StateError(TapelineError):
    """A snapshot must not be used; says what to do."""


class PartitionTail:
    """Read one partition from where the last read ended up to its current end; no group, no commits.

    A read that is cancelled goes on in its thread, so whoever reads holds a lock of its own until it took everything.
    """

    def __init__(self, properties: Mapping[str, str | int], topic: str, partition: int) -> None:
        self._consumer = Consumer(
            {
                **properties,
                "group.id": "tapeline.tail",
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
                "fetch.queue.backoff.ms": 5,
                "log_level": 0,
            }
        )
        self._where = TopicPartition(topic, partition, 0)
        self._started = False

    def read(self) -> Iterator[tuple[int, str, bytes | None]]:
        """Yield (offset, key, value) of every record added since the last call; blocks until caught up."""
        first, end = self._watermarks()
        if not self._started:
            self._where.offset = first
            self._consumer.assign([self._where])
            self._started = True
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
                key, offset = message.key(), message.offset() or 0
                self._where.offset = offset + 1
                deadline = time.monotonic() + READ_SECONDS_MAX
                yield offset, key.decode() if key else "", message.value()
            # Compaction leaves holes up to the very end: the position knows, the records do not.
            position = self._consumer.position([self._where])[0].offset
            self._where.offset = max(self._where.offset, position)

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
    """Load and save the snapshots of one role. topic_id: Kafka's id of the input that the offsets belong to."""

    def __init__(self, role: str, properties: Mapping[str, str | int], producer: Producer, topic_id: str) -> None:
        self._role = role
        self._topic_id = topic_id
        self._lock = threading.Lock()
        self._properties = properties
        self._producer = producer
        self._tails: dict[int, PartitionTail] = {}
        self._newest: dict[int, dict[str, Snapshot]] = {}

    async def load(self, partitions: Iterable[int]) -> dict[int, dict[str, Snapshot]]:
        """Return the newest snapshot of every unit of these partitions: {partition: {unit: snapshot}}.

        Raises StateError if one belongs to another input topic or to a newer version.
        """
        wanted = sorted(partitions)
        for partition in self._tails.keys() - set(wanted):
            self._tails.pop(partition).close()
            self._newest.pop(partition, None)
        for partition in wanted:
            await asyncio.to_thread(self._catch_up, partition)
        return {partition: dict(self._newest.get(partition, {})) for partition in wanted}

    async def save(self, partition: int, unit: str, snapshot: Snapshot) -> None:
        """Send a snapshot; it counts once the producer is flushed. Outputs before it must be confirmed already."""
        record = replace(snapshot, meta={**snapshot.meta, "topic_id": self._topic_id}).encode()
        await self._producer.send(STATE.name, record, key=f"{self._role}/{unit}", partition=partition)

    def close(self) -> None:
        """Let go of the connections."""
        for tail in self._tails.values():
            tail.close()
        self._tails.clear()

    def _catch_up(self, partition: int) -> None:
        with self._lock:
            self._read(partition)

    def _read(self, partition: int) -> None:
        tail = self._tails.get(partition)
        if tail is None:
            tail = self._tails[partition] = PartitionTail(self._properties, STATE.name, partition)
        newest = self._newest.setdefault(partition, {})
        try:
            for offset, key, value in tail.read():
                role, _, unit = key.partition("/")
                if role == self._role and value is not None:
                    self._take(newest, unit, value, f"{key} in {STATE.name}[{partition}]@{offset}")
        except KafkaException as error:
            if error.args[0].code() in (KafkaError._UNKNOWN_PARTITION, KafkaError.UNKNOWN_TOPIC_OR_PART):
                raise UnavailableError(
                    f"topic {STATE.name} has no partition {partition}: `tapeline topics create` makes it"
                ) from error
            raise

    def _take(self, newest: dict[str, Snapshot], unit: str, value: bytes, where: str) -> None:
        try:
            snapshot = Snapshot.decode(value)
        except VersionError as error:
            raise StateError(f"snapshot {where}: {error}") from error
        except FrameError as error:
            # An older snapshot is as good: it only means reading more again.
            log.error("snapshot %s is not used: %s", where, error)
            return
        if snapshot.meta.get("topic_id") != self._topic_id:
            raise StateError(
                f"snapshot {where} was taken of another topic than the one that role {self._role} reads now: its input "
                f"was made anew. What was made from it does not fit either: delete the topics raw, ticks, signals and "
                f"{STATE.name} together (and use an empty database), or bring the old topic back"
            )
        newest[unit] = snapshot
