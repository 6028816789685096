"""The one producer: idempotent, acks=all, bounded, and a failed delivery is final.

Every role and `tapeline ingest` send through it. Lanes stay exact only if no send fails for good while a
later one lands, so after the first failure nothing more is sent and every call raises `DeliveryError`.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from confluent_kafka import KafkaError, KafkaException, Message
from confluent_kafka import Producer as KafkaProducer

from tapeline.schemas import RECORD_BYTES_MAX, TapelineError, UnavailableError
from tapeline.schemas.topics import RECORD_OVERHEAD_BYTES

log = logging.getLogger(__name__)

QUEUE_BYTES_MAX = 64 * 1024 * 1024
METADATA_SECONDS_MAX = 30
QUIET_SECONDS = 10
"""A broker that is away is reported so often."""


class DeliveryError(TapelineError):
    """A record could not be delivered; the process must end and start again from its snapshots."""


class Producer:
    """Send records from asyncio; `properties` are librdkafka's (`settings.kafka.librdkafka(bootstrap)`)."""

    def __init__(self, properties: Mapping[str, str | int], *, linger_ms: float = 1) -> None:
        self._loop = asyncio.get_running_loop()
        self._failure: DeliveryError | None = None
        self._unconfirmed = 0
        self._full = False  # a send waits for room
        self._lock = threading.Lock()
        self._moved = asyncio.Event()  # something was confirmed, or all is lost
        self._producer = KafkaProducer(
            {
                **properties,
                "enable.idempotence": True,
                "enable.gapless.guarantee": True,
                "acks": "all",
                "compression.type": "lz4",
                "linger.ms": linger_ms,
                "message.max.bytes": RECORD_BYTES_MAX + RECORD_OVERHEAD_BYTES,
                "queue.buffering.max.kbytes": QUEUE_BYTES_MAX // 1024,
                # Never: a record that timed out could leave a hole before one that lands after it. A broker that
                # is away costs delay.
                "delivery.timeout.ms": 0,
                "log_level": 0,  # what is wrong comes to error_cb
                "error_cb": self._on_error,
            }
        )
        self._quiet_until = 0.0
        self._stopping = False
        self._poller = threading.Thread(target=self._poll, name="producer-poll", daemon=True)
        self._poller.start()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def send(self, topic: str, value: bytes, *, key: str, partition: int) -> None:
        """Queue a record; waits only while the queue is full; raises DeliveryError once anything failed."""
        while True:
            if self._failure:
                raise self._failure
            try:
                self._producer.produce(topic, value, key, partition, on_delivery=self._on_delivery)
            except BufferError:
                # Armed before one more try: a confirmation that came in between is not missed.
                if self._full:
                    await self._moved.wait()
                self._full = True
                self._moved.clear()
                continue
            except KafkaException as error:
                self._fail(f"{topic}[{partition}] refused a record of {len(value)} bytes: {error.args[0]}")
                continue
            with self._lock:
                self._unconfirmed += 1
                self._full = False
            return

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

    async def flush(self) -> None:
        """Wait until everything sent so far is confirmed by the broker; raise DeliveryError if it is not."""
        while self._unconfirmed and not self._failure:
            self._moved.clear()
            if self._unconfirmed and not self._failure:
                await self._moved.wait()
        if self._failure:
            raise self._failure

    async def close(self) -> None:
        """Give what is queued a moment to be confirmed, then let go of the connection."""
        try:
            await asyncio.wait_for(self.flush(), 5)
        except (DeliveryError, TimeoutError):
            self._producer.purge()
        self._stopping = True
        await asyncio.to_thread(self._poller.join)

    @property
    def unconfirmed(self) -> int:
        """Records sent and not yet confirmed."""
        return self._unconfirmed

    def _poll(self) -> None:
        try:
            while not self._stopping:
                self._producer.poll(0.1)
        except KafkaException as error:  # how a fatal error shows, once and for all
            self._fail(f"the producer cannot go on: {error.args[0].str()}")

    def _on_delivery(self, error: KafkaError | None, message: Message) -> None:
        # Runs in the polling thread. The failure is noted before the count falls, or a flush could pass it.
        if error is not None:
            self._fail(f"{message.topic()}[{message.partition()}] did not take a record: {error.str()}")
        with self._lock:
            self._unconfirmed -= 1
            wake = self._unconfirmed == 0 or self._full
        if wake:
            self._wake()

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal():
            self._fail(f"the producer cannot go on: {error.str()}")
        elif time.monotonic() > self._quiet_until:
            self._quiet_until = time.monotonic() + QUIET_SECONDS
            log.warning("Kafka: %s; %d records wait", error.str(), self._unconfirmed)

    def _fail(self, reason: str) -> None:
        if self._failure is None:
            self._failure = DeliveryError(f"Kafka: {reason}. Nothing more is sent; start again from the last snapshot")
        self._wake()

    def _wake(self) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._moved.set)
