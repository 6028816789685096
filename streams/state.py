"""Snapshots in topic `state`: where every stateful role keeps state and next offset, as one value.

A role loads the newest snapshot of each unit of its partitions when it gets them, and saves one now and
then. The topic's partition p holds the units whose input is partition p.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from tapeline.schemas import FrameError, Snapshot, TapelineError, UnavailableError, VersionError
from tapeline.schemas.topics import STATE
from tapeline.streams import rebootstrap
from tapeline.streams.producer import Producer

log = logging.getLogger(__name__)

READ_SECONDS_MAX = 60
MISSING = (KafkaError._UNKNOWN_PARTITION, KafkaError._UNKNOWN_TOPIC, KafkaError.UNKNOWN_TOPIC_OR_PART)
"""What a broker says of a partition that is not there; every other refusal passes (an election, a restart)."""
MISSING_SECONDS_MAX = 3
"""It says so too for a moment after it has started, and a client goes on believing it."""


@contextmanager
def kafka_answers() -> Iterator[None]:
    """Turn what Kafka's client raises into an UnavailableError that says what to do: for commands that only look."""
    try:
        yield
    except KafkaException as error:
        if error.args[0].code() in MISSING:
            text = "there are no topics here yet: `tapeline up` or `tapeline topics create` makes them"
        else:
            text = f"Kafka does not answer: {error.args[0].str()}; `tapeline doctor` looks at it"
        raise UnavailableError(text) from error


class StateError(TapelineError):
    """A snapshot must not be used; says what to do."""


class LogReader:
    """Reads partitions from anywhere to their current end; no group, no commits. One call at a time."""

    def __init__(self, properties: Mapping[str, str | int]) -> None:
        self.time_ms = 0
        """When the record that was read last was made."""
        self._consumer = Consumer(
            {
                **properties,
                "group.id": "tapeline.tail",
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
                "fetch.queue.backoff.ms": 5,
                # The next read would wait for the fetch that the last one has left behind.
                "fetch.wait.max.ms": 10,
                "reconnect.backoff.max.ms": 1000,
                "log_level": 0,
            }
        )
        self._lifeline = rebootstrap.Lifeline(self._consumer, properties)

    def read(self, where: TopicPartition, *, started: bool) -> Generator[tuple[int, str, bytes | None]]:
        """Yield (offset, key, value) from `where` (from the first record unless started) on; moves `where` along."""
        first, end = self.ends(where)
        if not started:
            where.offset = first
        if where.offset >= end:
            return
        self._consumer.assign([where])
        try:
            yield from self._read(where, end)
        finally:
            self._consumer.unassign()  # who is not read costs nothing

    def _read(self, where: TopicPartition, end: int) -> Iterator[tuple[int, str, bytes | None]]:
        heard = time.monotonic()
        while where.offset < end:
            now = time.monotonic()
            if now - heard > rebootstrap.PATIENCE_SECONDS:
                self._lifeline.give(now)
            if now - heard > READ_SECONDS_MAX:
                raise UnavailableError(
                    f"Kafka: {where.topic}[{where.partition}] gave nothing for {READ_SECONDS_MAX} s "
                    f"at offset {where.offset} of {end}; is the broker overloaded?"
                )
            message = self._consumer.poll(0.05)
            while message is not None:
                error = message.error()
                if error is not None:
                    raise KafkaException(error)
                key, offset = message.key(), message.offset() or 0
                where.offset = offset + 1
                self.time_ms = message.timestamp()[1]
                heard = time.monotonic()
                yield offset, key.decode() if key else "", message.value()
                message = self._consumer.poll(0) if where.offset < end else None
            # Compaction leaves holes up to the very end: the position knows, the records do not.
            position = self._consumer.position([where])[0].offset
            where.offset = max(where.offset, position)

    def close(self) -> None:
        """Let go of the connection."""
        self._consumer.close()

    def ends(self, where: TopicPartition) -> tuple[int, int]:
        """Ask for the first and the next offset of a partition; a leader that was just elected refuses for a moment.

        Raises the broker's KafkaException (one of MISSING) if it has no such partition.
        """
        started, missing = time.monotonic(), None
        while True:
            try:
                return self._consumer.get_watermark_offsets(where, timeout=rebootstrap.PATIENCE_SECONDS)
            except KafkaException as error:
                now = time.monotonic()
                self._lifeline.give(now)
                if error.args[0].code() not in MISSING or self._is_there(where):
                    missing = None
                elif now - (missing := missing or now) > MISSING_SECONDS_MAX:
                    raise
                if now - started > READ_SECONDS_MAX:
                    text = f"Kafka does not say where {where.topic}[{where.partition}] ends: {error.args[0].str()}"
                    raise UnavailableError(text) from error
                time.sleep(0.05)

    def at_time(self, where: TopicPartition, time_ms: int) -> int:
        """Ask for the offset of the first record made at that time (ms since 1970) or later; the end if none was."""
        _, end = self.ends(where)
        asked = TopicPartition(where.topic, where.partition, max(time_ms, 0))
        try:
            (found,) = self._consumer.offsets_for_times([asked], timeout=READ_SECONDS_MAX)
        except KafkaException as error:
            text = f"Kafka does not say what {where.topic}[{where.partition}] had at a time: {error.args[0].str()}"
            raise UnavailableError(text) from error
        if found.error is not None:
            raise KafkaException(found.error)
        return end if found.offset < 0 else min(found.offset, end)

    def _is_there(self, where: TopicPartition) -> bool:
        """Ask whether a partition is there; True also while no broker answers."""
        try:
            found = self._consumer.list_topics(where.topic, timeout=MISSING_SECONDS_MAX).topics[where.topic]
        except KafkaException:
            return True
        return found.error is None and where.partition in found.partitions


class PartitionTail:
    """Reads one partition from where the last read ended up to its current end.

    A read that is cancelled goes on in its thread, so whoever reads holds a lock of its own until it took everything.
    """

    def __init__(self, reader: LogReader, topic: str, partition: int) -> None:
        self._reader = reader
        self._where = TopicPartition(topic, partition, 0)
        self._started = False

    def read(self) -> Iterator[tuple[int, str, bytes | None]]:
        """Yield (offset, key, value) of every record added since the last call; blocks until caught up."""
        started, self._started = self._started, True
        yield from self._reader.read(self._where, started=started)


class StateStore:
    """Load and save the snapshots of one role.

    topic_id: Kafka's id of the input that the offsets belong to; remedy: what to do when one is too large.
    """

    def __init__(
        self,
        role: str,
        properties: Mapping[str, str | int],
        producer: Producer,
        topic_id: str,
        remedy: str = "",
    ) -> None:
        self._role = role
        self._remedy = remedy
        self._topic_id = topic_id
        self._lock = threading.Lock()
        self._reader = LogReader(properties)
        self._producer = producer
        self._tails: dict[int, PartitionTail] = {}
        self._newest: dict[int, dict[str, Snapshot]] = {}
        self.saved_ns: dict[int, int] = {}
        """When the newest snapshot of a partition was made, of those that can be used."""
        self.refused: dict[int, dict[str, str]] = {}
        """By partition, units whose newest snapshot could not be used, and why: it must be made by reading again."""

    async def load(self, partitions: Iterable[int]) -> dict[int, dict[str, Snapshot]]:
        """Return the newest snapshot of every unit of these partitions: {partition: {unit: snapshot}}.

        One that cannot be read, or is of a newer version, is refused with a line in the log: the one before it, or
        none, is returned. Raises StateError if one belongs to another input topic.
        """
        wanted = sorted(partitions)
        for partition in wanted:
            await asyncio.to_thread(self._catch_up, partition)
        return {partition: dict(self._newest.get(partition, {})) for partition in wanted}

    async def ends(self, topic: str, partition: int) -> tuple[int, int]:
        """Ask the broker for the first and the next offset of a partition of any topic."""
        return await asyncio.to_thread(self._ends, TopicPartition(topic, partition))

    def _ends(self, where: TopicPartition) -> tuple[int, int]:
        with self._lock:
            return self._reader.ends(where)

    def refuse(self, partition: int, unit: str, error: TapelineError) -> None:
        """Note that the newest snapshot of a unit says what the role cannot use, and tell the log."""
        del self._newest[partition][unit]
        self._note_refused(partition, unit, f"snapshot {self._role}/{unit} in {STATE.name}[{partition}]", error)

    def forget(self, partitions: Iterable[int]) -> None:
        """Drop what is known of these partitions: whoever gets them next reads them from the start."""
        for partition in partitions:
            self._tails.pop(partition, None)
            self._newest.pop(partition, None)
            self.saved_ns.pop(partition, None)

    async def save(self, partition: int, unit: str, snapshot: Snapshot) -> int:
        """Send a snapshot and return its size in bytes; it counts once the producer is flushed.

        Outputs before it must be confirmed already. Raises StateError if it is too large for a record.
        """
        try:
            record = replace(snapshot, meta={**snapshot.meta, "topic_id": self._topic_id}).encode()
        except FrameError as error:
            raise StateError(
                f"the state of {self._role}/{unit} is too large to be saved ({error}). {self._remedy}"
            ) from error
        await self._producer.send(STATE.name, record, key=f"{self._role}/{unit}", partition=partition)
        return len(record)

    def close(self) -> None:
        """Let go of the connection."""
        self._reader.close()
        self._tails.clear()

    def _catch_up(self, partition: int) -> None:
        with self._lock:
            self._read(partition)

    def _read(self, partition: int) -> None:
        tail = self._tails.get(partition)
        if tail is None:
            tail = self._tails[partition] = PartitionTail(self._reader, STATE.name, partition)
            self.refused.pop(partition, None)
        newest = self._newest.setdefault(partition, {})
        try:
            for offset, key, value in tail.read():
                role, _, unit = key.partition("/")
                if role == self._role and value is not None:
                    self._take(newest, partition, unit, value, f"{key} in {STATE.name}[{partition}]@{offset}")
        except KafkaException as error:
            if error.args[0].code() in MISSING:
                raise UnavailableError(
                    f"topic {STATE.name} has no partition {partition}: `tapeline topics create` makes it"
                ) from error
            raise

    def _take(self, newest: dict[str, Snapshot], partition: int, unit: str, value: bytes, where: str) -> None:
        try:
            snapshot = Snapshot.decode(value)
        except (FrameError, VersionError) as error:
            # An older snapshot is as good: it only means reading more again.
            self._note_refused(partition, unit, f"snapshot {where}", error)
            return
        if snapshot.meta.get("topic_id") != self._topic_id:
            raise StateError(
                f"snapshot {where} was taken of another topic than the one that role {self._role} reads now: its input "
                f"was made anew. What was made from it does not fit either: delete the topics raw, ticks, signals and "
                f"{STATE.name} together (and use an empty database), or bring the old topic back"
            )
        newest[unit] = snapshot
        self.refused.get(partition, {}).pop(unit, None)
        self.saved_ns[partition] = self._reader.time_ms * 1_000_000

    def _note_refused(self, partition: int, unit: str, what: str, error: TapelineError) -> None:
        log.error("%s is refused: %s. Its state is made anew by reading again", what, error)
        self.refused.setdefault(partition, {})[unit] = f"{what} is refused: {error}"
