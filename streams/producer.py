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
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Self

from confluent_kafka import KafkaError, KafkaException, Message
from confluent_kafka import Producer as KafkaProducer

from tapeline.schemas import RECORD_BYTES_MAX, TapelineError, UnavailableError
from tapeline.schemas.topics import RECORD_OVERHEAD_BYTES
from tapeline.streams import rebootstrap
from tapeline.streams.stats import ProducerStats

log = logging.getLogger(__name__)

QUEUE_BYTES_MAX = 64 * 1024 * 1024
BATCH_BYTES_MAX = 900_000
"""Less than librdkafka's `batch.size`, so that a batch is one request, and than what a broker takes by default."""
BATCH_RECORDS_MAX, LINGER_MS_MAX = 1_000_000, 900_000
"""The most that librdkafka allows."""
PATIENT_BYTES = 600_000
PATIENT_SECONDS = 0.02
"""A patient producer lets records of a partition wait for company: until there are so many bytes, or for so long."""
FLUSH_SECONDS = 0.1
"""How often the producer's thread looks around while a round is under way, or nothing is."""
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


class Outbox:
    """Records of one partition: those that wait, and the batch that is under way to the broker."""

    __slots__ = (
        "confirmed",
        "heard_seconds",
        "partition",
        "sent",
        "shipped_seconds",
        "topic",
        "under_way",
        "waiting",
        "waiting_bytes",
    )

    def __init__(self, topic: str, partition: int) -> None:
        self.topic = topic
        self.partition = partition
        self.waiting: deque[dict[str, Any]] = deque()  # as `confluent_kafka.Producer.produce` takes them
        self.waiting_bytes = 0
        self.under_way = False
        self.shipped_seconds = 0.0  # since when (monotonic)
        self.sent = 0  # counted by the loop
        self.confirmed = 0  # counted by the producer's thread
        self.heard_seconds = -math.inf  # when the broker last took a record (monotonic)

    def add(self, records: Sequence[dict[str, Any]], size: int) -> None:
        """Let records wait; size: the bytes that they are counted as."""
        self.waiting.extend(records)
        self.waiting_bytes += size

    def next_batch(self) -> tuple[list[dict[str, Any]], int]:
        """Take the records that go next, and how many bytes they are counted as.

        One alone as long as the broker may not know our sequence numbers in the partition: it takes any first number,
        so if our first batch were refused, a second one under way behind it would land.
        """
        alone = time.monotonic() - self.heard_seconds > KNOWN_SECONDS
        batch: list[dict[str, Any]] = []
        size = 0
        while self.waiting and not (batch and alone):
            more = _size(self.waiting[0]["value"])
            if batch and size + more > BATCH_BYTES_MAX:
                break
            batch.append(self.waiting.popleft())
            size += more
        self.waiting_bytes -= size
        return batch, size


Mark = Sequence[tuple[Outbox, int]]
"""What was sent before a moment and was not confirmed then: how many records of each outbox must be."""


class Producer:
    """Send records from asyncio; `properties` are librdkafka's (`settings.kafka.librdkafka(bootstrap)`).

    Records go in rounds: a batch of each partition for which something waits, each batch one request, and the next
    round when all are confirmed. A record alone goes at once, and the busier the broker, the larger the batches.
    `hurry` says whether small batches may wait for company.

    librdkafka's own way is several requests of a partition at a time. A broker that ends then, and has the first but
    did not say so, may get it twice (its issue 4953). And its thread spins while more than five records of a partition
    are under way and others wait. So all of a batch is with it before any is sent: its linger ends only in `flush`.
    """

    def __init__(self, properties: Mapping[str, str | int], *, compression: str = "lz4") -> None:
        self._loop = asyncio.get_running_loop()
        self._failure: DeliveryError | None = None
        self._outboxes: dict[tuple[str, int], Outbox] = {}
        self._lock = threading.Lock()  # of the outboxes and what waits in them
        self._bell = threading.Event()  # a round may be due
        self._ringing = False  # the loop will ring it
        self._patient = False  # small batches may wait,
        self._impatient_once = False  # but not now
        self._hurried_seconds = 0.0  # when that was last so (monotonic)
        self.stats = ProducerStats()
        self._waiting = False  # somebody waits for a confirmation
        self._moved = asyncio.Event()  # something was confirmed, or all is lost
        self._producer = KafkaProducer(
            {
                **properties,
                "enable.idempotence": True,
                "enable.gapless.guarantee": True,
                "acks": "all",
                "compression.type": compression,
                "linger.ms": LINGER_MS_MAX,
                "batch.num.messages": BATCH_RECORDS_MAX,
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
        self._lifeline = rebootstrap.Lifeline(self._producer, properties)
        self._quiet_until = 0.0
        self._unnamed: str | None = None  # a failure that follows from another
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="producer", daemon=True)
        self._thread.start()

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

        timestamp_ms: 0 = now. on_delivery is called in another thread, of a record that arrived.
        """
        record: dict[str, Any] = {"value": value, "key": key}
        if headers:
            record["headers"] = list(headers)
        if timestamp_ms:
            record["timestamp"] = timestamp_ms
        if on_delivery is not None:
            record["callback"] = partial(_tell, on_delivery)
        size = _size(value)
        await self._room(size)
        self._put(topic, partition, [record], size)

    async def send_all(self, topic: str, values: Sequence[bytes], *, key: str, partition: int) -> None:
        """Queue records of one partition in their order, as `send` does one by one."""
        size = sum(map(_size, values))
        await self._room(size)
        self._put(topic, partition, [{"value": value, "key": key} for value in values], size)

    def _put(self, topic: str, partition: int, records: Sequence[dict[str, Any]], size: int) -> None:
        with self._lock:
            if (outbox := self._outboxes.get((topic, partition))) is None:
                outbox = self._outboxes[topic, partition] = Outbox(topic, partition)
            if not self.stats.unconfirmed_records:
                self.stats.waiting_since_ns = time.time_ns()
            outbox.sent += len(records)
            self.stats.records_sent += len(records)
            self.stats.bytes_sent += size
            outbox.add(records, size)
        if not self._ringing and (not self._patient or outbox.waiting_bytes >= PATIENT_BYTES):
            # Once the loop's turn is over: what follows from one record goes in one round.
            self._ringing = True
            self._loop.call_soon(self._ring)
        if self._failure:
            raise self._failure

    def hurry(self, *, more_comes: bool = False) -> None:
        """Send what waits; more_comes: let small batches wait a moment from now on, because more is made just now.

        Few large batches cost much less than many small ones, here, at the broker and at who reads them. Who says that
        more comes calls again when it came, and once nothing more does; `flush` and `confirmed` hurry, too.
        """
        if not (more_comes or self._patient):
            return  # nothing was held back
        now = time.monotonic()
        if more_comes and self._patient and now - self._hurried_seconds < PATIENT_SECONDS:
            return
        self._hurried_seconds = now
        self._patient = more_comes
        if any(outbox.waiting for outbox in self._outboxes.values()):
            self._impatient_once = True
            self._ring()

    def _ring(self) -> None:
        self._ringing = False
        self._bell.set()

    def _run(self) -> None:
        try:
            while not self._stopping:
                if self._send_round():
                    self._end_round()
                else:
                    self._serve(lambda: self._producer.poll(0))  # what is wrong comes to error_cb
                    self._bell.wait(FLUSH_SECONDS)
                    self._bell.clear()
        except KafkaException as error:  # how a fatal error shows, once and for all
            self._fail(f"the producer cannot go on: {error.args[0].str()}")
        except Exception as error:
            # A thread that ends in silence confirms nothing any more.
            self._fail(f"the producer cannot go on: {type(error).__name__}: {error}")

    def _send_round(self) -> bool:
        """Hand what waits to librdkafka, a batch a partition; return whether there was anything that must not wait."""
        now = time.monotonic()
        with self._lock:
            waiting = [outbox for outbox in self._outboxes.values() if outbox.waiting]
            patient, self._impatient_once = self._patient and not self._impatient_once, False
            failed = self._failure or self._unnamed
            if failed or (patient and all(one.waiting_bytes < PATIENT_BYTES for one in waiting)):
                return False
            batches = [(outbox, *outbox.next_batch()) for outbox in waiting]
        for outbox, batch, size in batches:
            outbox.shipped_seconds = now  # before `under_way`: `slowest` reads them in another thread
            outbox.under_way = True
            if not (self._failure or self._unnamed):
                self._produce(outbox, batch, size)
        return bool(batches)

    def _end_round(self) -> None:
        """Wait until all of it is confirmed or has failed."""
        while self._serve(lambda: self._producer.flush(FLUSH_SECONDS)) and not self._stopping:
            self._look_after_brokers(time.monotonic())

    def _serve(self, wait: Callable[[], int]) -> int:
        """Let librdkafka tell what happened; a failure that only follows from another waits for that one's turn."""
        unnamed = self._unnamed
        left = wait()
        if unnamed is not None:
            self._fail(unnamed)
        return left

    def _produce(self, outbox: Outbox, batch: list[dict[str, Any]], size: int) -> None:
        # Along a partition an idempotent producer confirms in order, and nothing behind a record that failed.
        last = batch[-1]
        last["callback"] = partial(self._on_delivery, outbox, len(batch), size, last.get("callback"))
        try:
            if any("headers" in record or "timestamp" in record for record in batch):  # produce_batch takes neither
                for record in batch:
                    self._producer.produce(outbox.topic, partition=outbox.partition, **record)
            elif self._producer.produce_batch(outbox.topic, batch, outbox.partition) != len(batch):
                raise next(KafkaException(record["_error"]) for record in batch if "_error" in record)
        except Exception as error:  # whatever it is: this batch would be missing for ever
            reason = f"{outbox.topic}[{outbox.partition}] refused {_said(batch, size)}: {error}"
            if isinstance(error, KafkaException) and error.args[0].code() in CONSEQUENCES:
                self._unnamed = reason
            else:
                self._fail(reason)

    @property
    def slowest(self) -> tuple[str, float] | None:
        """The partition that has been without an answer for longest, and since when (monotonic); in any thread."""
        waiting = [outbox for outbox in list(self._outboxes.values()) if outbox.under_way]
        if not waiting:
            return None
        outbox = min(waiting, key=lambda one: one.shipped_seconds)
        return f"{outbox.topic}[{outbox.partition}]", outbox.shipped_seconds

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
        """Return what was sent so far and is not confirmed, for `confirmed`."""
        boxes = self._outboxes.values()
        return [(outbox, outbox.sent) for outbox in boxes if outbox.confirmed < outbox.sent]

    async def confirmed(self, mark: Mark) -> None:
        """Wait until everything sent up to the mark is confirmed by the broker; raise DeliveryError if it is not."""
        self.hurry()
        while not self._failure:
            self._moved.clear()
            self._waiting = True  # before the look: a confirmation that comes after it wakes us
            if all(outbox.confirmed >= sent for outbox, sent in mark):
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
            left = self.stats.unconfirmed_records
            log.warning("%s", self._fail(f"closed while {left} records were not confirmed"))
            self._producer.purge()
        self._stopping = True
        self._bell.set()
        await asyncio.to_thread(self._thread.join)

    async def _room(self, size: int) -> None:
        """Wait until there is room for so many bytes."""
        while not self._failure:
            held = self.stats.unconfirmed_bytes
            if held + size <= QUEUE_BYTES_MAX or not held:
                return
            self.hurry()
            self._moved.clear()
            self._waiting = True  # before the look: a confirmation that comes after it wakes us
            if self.stats.unconfirmed_bytes == held:
                await self._moved.wait()
        raise self._failure

    def _look_after_brokers(self, now: float) -> None:
        """Give the client its brokers again if no broker answers."""
        if (slowest := self.slowest) is not None and now - slowest[1] > rebootstrap.PATIENCE_SECONDS:
            self._lifeline.give(now)

    def _on_delivery(
        self,
        outbox: Outbox,
        records: int,
        size: int,
        then: Callable[[KafkaError | None, Message], None] | None,
        error: KafkaError | None,
        message: Message,
    ) -> None:
        # Runs in the producer's thread, of the last record of a batch. A failure is noted before the count moves, or a
        # wait could pass it.
        if error is not None:
            reason = f"{outbox.topic}[{outbox.partition}] did not take {records} records: {error.str()}"
            if error.code() in CONSEQUENCES:
                self._unnamed = reason  # never counted as confirmed; what it follows from comes to error_cb
            else:
                self._fail(reason)
            return
        if then is not None:
            then(None, message)
        outbox.heard_seconds = time.monotonic()
        self.stats.waiting_since_ns = time.time_ns()  # of those that are left, none waited before unheard
        outbox.confirmed += records
        self.stats.records_confirmed += records
        self.stats.bytes_confirmed += size
        outbox.under_way = False
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


def _size(value: bytes | None) -> int:
    """Return the bytes that a record is counted as."""
    return RECORD_BYTES + (len(value) if value else 0)


def _said(batch: Sequence[dict[str, Any]], size: int) -> str:
    return f"a record of {size} bytes" if len(batch) == 1 else f"{len(batch)} records of {size} bytes"


def _tell(then: Callable[[Message], None], error: KafkaError | None, message: Message) -> None:
    if error is None:
        then(message)
