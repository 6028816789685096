"""The one producer: idempotent, acks=all, bounded in bytes, and a failed delivery is final.

Every role and `tapeline ingest` send through it. Lanes stay exact only if no send fails for good while a
later one lands, so after the first failure nothing more is sent and every call raises `DeliveryError`.
"""

import asyncio
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Self

from confluent_kafka import KafkaError, KafkaException, Message
from confluent_kafka import Producer as KafkaProducer

from tapeline.schemas import RECORD_BYTES_MAX, TapelineError, UnavailableError
from tapeline.schemas.topics import RECORD_OVERHEAD_BYTES
from tapeline.streams.stats import ProducerStats

log = logging.getLogger(__name__)

QUEUE_BYTES_MAX = 64 * 1024 * 1024
KNOWN_SECONDS = 3600
"""So long after our last record a broker surely still knows our sequence number in a partition (it forgets in days)."""
CONSEQUENCES = (KafkaError._FATAL, KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT)
"""What a record fails with when something else failed before it."""
RECORD_BYTES = 64
"""Counted for a record beside its value."""
METADATA_SECONDS_MAX = 30
QUIET_SECONDS = 10
"""A broker that is away is reported so often."""


class DeliveryError(TapelineError):
    """A record could not be delivered; the process must end and start again from its snapshots."""


class Mark:
    """What was sent between two marks: `Producer.confirmed` waits for it and for all before it."""

    __slots__ = ("confirmed", "sent")

    def __init__(self) -> None:
        self.sent = 0  # counted by the loop
        self.confirmed = 0  # counted by the polling thread


class Producer:
    """Send records from asyncio; `properties` are librdkafka's (`settings.kafka.librdkafka(bootstrap)`)."""

    def __init__(self, properties: Mapping[str, str | int], *, linger_ms: float = 0, compression: str = "lz4") -> None:
        self._loop = asyncio.get_running_loop()
        self._failure: DeliveryError | None = None
        self._marks: deque[Mark] = deque([Mark()])
        self.stats = ProducerStats()
        self._known: dict[
            tuple[str, int], float
        ] = {}  # partitions that took a record of ours, and when the last was sent
        self._first: dict[tuple[str, int], asyncio.Event] = {}  # partitions whose first record is on its way
        self._waiting = False  # somebody waits for a confirmation
        self._moved = asyncio.Event()  # something was confirmed, or all is lost
        self._producer = KafkaProducer(
            {
                **properties,
                "enable.idempotence": True,
                "enable.gapless.guarantee": True,
                "acks": "all",
                "compression.type": compression,
                "linger.ms": linger_ms,
                "message.max.bytes": RECORD_BYTES_MAX + RECORD_OVERHEAD_BYTES,
                # We bound the queue ourselves, so that records are refused by nobody in the middle of a batch.
                "queue.buffering.max.kbytes": 2**31 - 1,
                "queue.buffering.max.messages": 0,
                "reconnect.backoff.max.ms": 1000,
                # Never: a record that timed out could leave a hole before one that lands after it. A broker that
                # is away costs delay.
                "delivery.timeout.ms": 0,
                "log_level": 0,  # what is wrong comes to error_cb
                "error_cb": self._on_error,
            }
        )
        self._quiet_until = 0.0
        self._unnamed: str | None = None  # a failure that follows from another
        self._stopping = False
        self._poller = threading.Thread(target=self._poll, name="producer-poll", daemon=True)
        self._poller.start()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def send(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: str | bytes | None,
        partition: int,
        headers: Sequence[tuple[str, bytes]] | None = None,
        timestamp_ms: int = 0,
        on_delivery: Callable[[Message], None] | None = None,
    ) -> None:
        """Queue a record; waits while the queue is full; raises DeliveryError once anything failed.

        The first record of a partition is waited for until it is confirmed. timestamp_ms: 0 = now. on_delivery is
        called in another thread, of a record that arrived.
        """
        where = (topic, partition)
        while not self._is_known(where):
            if (first := self._first.get(where)) is None:
                await self._introduce(
                    where, self._send(topic, value, key, partition, headers, timestamp_ms, on_delivery)
                )
                return
            await first.wait()
        await self._send(topic, value, key, partition, headers, timestamp_ms, on_delivery)
        self._known[where] = time.monotonic()

    async def _send(
        self,
        topic: str,
        value: bytes | None,
        key: str | bytes | None,
        partition: int,
        headers: Sequence[tuple[str, bytes]] | None,
        timestamp_ms: int,
        on_delivery: Callable[[Message], None] | None,
    ) -> None:
        size = RECORD_BYTES + (len(value) if value else 0)
        mark = await self._room(size)
        more: dict[str, Any] = {"headers": list(headers)} if headers else {}
        done = partial(self._on_delivery, mark, size, 1, on_delivery)
        try:
            self._producer.produce(topic, value, key, partition, done, timestamp=timestamp_ms, **more)
        except (KafkaException, BufferError) as error:
            raise self._fail(f"{topic}[{partition}] refused a record of {size} bytes: {error.args[0]}") from error
        self._count(mark, 1, size)

    async def send_all(self, topic: str, values: Sequence[bytes], *, key: str, partition: int) -> None:
        """Queue records of one partition in their order, as `send` does one by one."""
        where = (topic, partition)
        if values and not self._is_known(where):
            await self.send(topic, values[0], key=key, partition=partition)
            values = values[1:]
        if values:
            await self._send_all(topic, values, key, partition)
            self._known[where] = time.monotonic()

    async def _send_all(self, topic: str, values: Sequence[bytes], key: str, partition: int) -> None:
        size = sum(map(len, values)) + RECORD_BYTES * len(values)
        mark = await self._room(size)
        records: list[dict[str, Any]] = [{"value": value, "key": key} for value in values]
        # Along a partition an idempotent producer confirms in order, and nothing behind a record that failed.
        records[-1]["callback"] = partial(self._on_delivery, mark, size, len(values), None)
        if self._producer.produce_batch(topic, records, partition) != len(records):
            faults = [record["_error"] for record in records if "_error" in record]
            raise self._fail(f"{topic}[{partition}] refused {len(faults)} of {len(records)} records: {faults[0]}")
        self._count(mark, len(values), size)

    def _is_known(self, where: tuple[str, int]) -> bool:
        return time.monotonic() - self._known.get(where, -math.inf) < KNOWN_SECONDS

    async def _introduce(self, where: tuple[str, int], sending: Coroutine[Any, Any, None]) -> None:
        """Let nothing be sent behind our first record of a partition until that is confirmed.

        A broker takes any sequence number from a producer that it does not know in a partition. If the first batch is
        refused, the one behind it would land: the hole that sequence numbers are there to prevent.
        """
        first = self._first[where] = asyncio.Event()
        try:
            await sending
            await self.confirmed(self.mark())
            self._known[where] = time.monotonic()
        finally:
            del self._first[where]
            first.set()

    async def partition_count(self, topic: str) -> int:
        """Return how many partitions a topic has; raise UnavailableError if it is not there."""
        try:
            metadata = await asyncio.to_thread(self._producer.list_topics, topic, METADATA_SECONDS_MAX)
        except KafkaException as error:
            raise UnavailableError(f"Kafka does not answer: {error.args[0].str()}") from error
        found = metadata.topics[topic]
        if found.error is not None:
            raise UnavailableError(f"topic {topic}: {found.error.str()}; `tapeline topics create` makes the topics")
        return len(found.partitions)

    def mark(self) -> Mark:
        """End what was sent so far, for `confirmed`; what is sent from now on does not belong to it."""
        mark = self._marks[-1]
        self._marks.append(Mark())
        return mark

    async def confirmed(self, mark: Mark) -> None:
        """Wait until everything sent up to the mark is confirmed by the broker; raise DeliveryError if it is not."""
        while not self._failure:
            self._moved.clear()
            self._waiting = True  # before the look: a confirmation that comes after it wakes us
            while len(self._marks) > 1 and self._marks[0].confirmed == self._marks[0].sent:
                self._marks.popleft()
            if mark not in self._marks or all(one.confirmed == one.sent for one in self._until(mark)):
                return
            await self._moved.wait()
        raise self._failure

    async def flush(self) -> None:
        """Wait until everything sent so far is confirmed by the broker; raise DeliveryError if it is not."""
        await self.confirmed(self.mark())

    async def close(self) -> None:
        """Give what is queued a moment to be confirmed, then let go of the connection."""
        try:
            await asyncio.wait_for(self.flush(), 5)
        except (DeliveryError, TimeoutError):
            self._producer.purge()
        self._stopping = True
        await asyncio.to_thread(self._poller.join)

    async def _room(self, size: int) -> Mark:
        """Wait until there is room for so many bytes; return the mark that they will belong to."""
        while not self._failure:
            held = self.stats.unconfirmed_bytes
            if held + size <= QUEUE_BYTES_MAX or not held:
                return self._marks[-1]
            self._moved.clear()
            self._waiting = True  # before the look: a confirmation that comes after it wakes us
            if self.stats.unconfirmed_bytes == held:
                await self._moved.wait()
        raise self._failure

    def _until(self, mark: Mark) -> Iterator[Mark]:
        for one in self._marks:
            yield one
            if one is mark:
                return

    def _count(self, mark: Mark, records: int, size: int) -> None:
        if not self.stats.unconfirmed_records:
            self.stats.waiting_since_ns = time.time_ns()
        mark.sent += records
        self.stats.records_sent += records
        self.stats.bytes_sent += size

    def _poll(self) -> None:
        try:
            while not self._stopping:
                unnamed = self._unnamed
                self._producer.poll(0.1)
                if unnamed is not None:  # the cause has had its turn
                    self._fail(unnamed)
        except KafkaException as error:  # how a fatal error shows, once and for all
            self._fail(f"the producer cannot go on: {error.args[0].str()}")

    def _on_delivery(
        self,
        mark: Mark,
        size: int,
        records: int,
        then: Callable[[Message], None] | None,
        error: KafkaError | None,
        message: Message,
    ) -> None:
        # Runs in the polling thread. The failure is noted before the count moves, or a wait could pass it.
        if error is not None:
            reason = f"{message.topic()}[{message.partition()}] did not take a record: {error.str()}"
            if error.code() in CONSEQUENCES:
                self._unnamed = reason  # never counted as confirmed; what it follows from comes to error_cb
                return
            self._fail(reason)
        elif then is not None:
            then(message)
        self.stats.waiting_since_ns = time.time_ns()  # of those that are left, none waited before unheard
        mark.confirmed += records
        self.stats.records_confirmed += records
        self.stats.bytes_confirmed += size
        if self._waiting:
            self._wake()

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal() or error.code() == KafkaError._FATAL:
            self._fail(f"the producer cannot go on: {error.str()}")
        elif time.monotonic() > self._quiet_until:
            self._quiet_until = time.monotonic() + QUIET_SECONDS
            log.warning("Kafka: %s; %d records wait", error.str(), self.stats.unconfirmed_records)

    def _fail(self, reason: str) -> DeliveryError:
        if self._failure is None:
            self._failure = DeliveryError(f"Kafka: {reason}. Nothing more is sent; start again from the last snapshot")
        self._wake()
        return self._failure

    def _wake(self) -> None:
        self._waiting = False
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._moved.set)
