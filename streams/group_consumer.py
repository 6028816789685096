"""One member of a consumer group on librdkafka, in a thread of its own. `transport.py` puts Faust on top of it.

The thread polls, hands batches to the asyncio loop and stops taking records while the loop is behind. When
partitions come or go it waits for the loop: the owner restores or saves their state meanwhile. Partitions that
stay are not disturbed (cooperative rebalancing).
"""

import asyncio
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from secrets import token_hex
from typing import Any, Protocol, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from tapeline.schemas import RECORD_BYTES_MAX, TapelineError
from tapeline.schemas.topics import RECORD_OVERHEAD_BYTES
from tapeline.streams import rebootstrap
from tapeline.streams.orphans import Orphans

log = logging.getLogger(__name__)

Result = TypeVar("Result")

BATCH_RECORDS = 64
BATCHES_MAX = 3
"""So many batches are on their way to the loop or in its hands."""
FETCHED_KBYTES_MAX = 16 * 1024
"""Fetched ahead by librdkafka."""
PATIENCE_SECONDS = 0.25
"""How long the thread waits for a loop that is behind before it pauses the partitions and goes on polling."""
POLL_SECONDS = 0.2
HEARTBEAT_MS = 500
"""Also how soon a member hears that others come or go."""
LOOK_SECONDS = 0.5
"""How often the thread looks where the partitions end, as the last fetch said; `orphans` asks the broker."""
EVICTED = "Kafka: this process cannot stay in its group (another one has its name, or the broker was started again)"
QUIET_SECONDS = 10
"""A broker that is away is reported so often."""
POLL_INTERVAL_MS_MAX = 600_000
"""More than an owner may take for an answer; the thread polls whatever the loop waits for, and the watchdog knows who
is stuck. A rebalance waits so long for a member that is gone and that the broker does not miss."""


class Owner(Protocol):
    """Whoever the partitions are for. Called in the loop; the group waits, so each call is bounded by its owner."""

    async def gain(self, partitions: Sequence[int]) -> Mapping[int, int]:
        """Restore the state of partitions that are ours now; return the offset where reading of each starts."""

    async def give(self, partitions: Sequence[int]) -> None:
        """Save the state of partitions that go to others, and process nothing more of them."""

    async def lose(self, partitions: Sequence[int]) -> None:
        """Forget partitions that others may have already."""

    def fail(self, error: BaseException) -> None:
        """The member cannot go on. Called in the thread."""


class Batch:
    """Records in the order of their partitions, each with the number of the assignment it was fetched under."""

    __slots__ = ("assignments", "records")

    def __init__(self, records: list[Message], assignments: Mapping[int, int]) -> None:
        self.records = records
        self.assignments = assignments


class GroupConsumer:
    """Read one topic as a member of a group. properties: librdkafka's, for the connection.

    instance: a name that stays the same over restarts (static membership): who comes back under it within the
    session time-out gets its partitions back at once. None: a member that leaves when it closes.
    ghost_seconds: another member that has work and does none for so long is put out of the group, unless `waits` says
    that we, and so perhaps others, wait for something outside.
    """

    def __init__(
        self,
        properties: Mapping[str, str | int],
        topic: str,
        owner: Owner,
        *,
        group: str,
        instance: str | None = None,
        session_timeout_seconds: float = 10,
        ghost_seconds: float = 60,
        waits: Callable[[], bool] = lambda: False,
    ) -> None:
        self.topic = topic
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        # Unlike every other member's: in containers each process may be the first one.
        client_id = f"tapeline-{instance or f'{os.getpid()}-{token_hex(3)}'}"
        self._orphans = Orphans(
            properties,
            topic,
            group=group,
            name=instance or client_id,
            ghost_seconds=ghost_seconds,
            waits=waits,
            on_ends=self._heard_ends,
        )
        self._consumer = Consumer(
            {
                **properties,
                "client.id": client_id,
                "group.id": group,
                **({"group.instance.id": instance} if instance else {}),
                "partition.assignment.strategy": "cooperative-sticky",
                "session.timeout.ms": int(session_timeout_seconds * 1000),
                "heartbeat.interval.ms": HEARTBEAT_MS,
                "max.poll.interval.ms": POLL_INTERVAL_MS_MAX,
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "error",  # where reading starts is never the client's choice
                "fetch.queue.backoff.ms": 5,
                "fetch.error.backoff.ms": 100,
                "fetch.message.max.bytes": 2 * 1024 * 1024,
                "fetch.max.bytes": RECORD_BYTES_MAX + RECORD_OVERHEAD_BYTES,
                "message.max.bytes": RECORD_BYTES_MAX + RECORD_OVERHEAD_BYTES,
                "queued.max.messages.kbytes": FETCHED_KBYTES_MAX,
                "allow.auto.create.topics": False,
                "reconnect.backoff.max.ms": 1000,
                "log_level": 0,  # what is wrong comes to error_cb
                "error_cb": self._on_error,
                "on_commit": self._on_commit,
            }
        )
        self._thread = threading.Thread(target=self._run, name=f"consume-{topic}", daemon=True)
        self._stopping = threading.Event()
        self._room = threading.Semaphore(BATCHES_MAX)
        self._batches: deque[Batch] = deque()
        self._arrived = asyncio.Event()
        self._assignments: dict[int, int] = {}  # partition -> number of its assignment; replaced, never changed
        self._number = 0
        self._quiet_until = 0.0
        self._lifeline = rebootstrap.Lifeline(self._consumer, properties)
        self._alone = False  # all brokers were gone, and no record has come since: the client may have forgotten them
        self._looked = 0.0
        self._ends: dict[int, int] = {}  # as the client heard with what it fetched; replaced, never changed
        self._asked_ends: Mapping[int, int] = {}  # as the broker said, also if nothing is fetched any more; likewise
        self._commits: dict[int, int] = {}  # to be committed soon
        self.paused = False
        """Whether the partitions are paused because the loop is behind."""
        self.lost_seconds: float | None = None
        """When the membership was lost (monotonic); None once partitions, or none, were assigned again."""
        self.joining_seconds: float | None = None
        """Since when the group owes us the first assignment, be it of nothing (monotonic); None once it came."""
        self.asking = False
        """Whether the owner is asked just now: no partition moves meanwhile, and the owner bounds its answer."""
        self.committed: dict[int, int] = {}
        """Next offsets that the broker has taken as committed."""

    @property
    def partitions(self) -> frozenset[int]:
        """The partitions that are ours."""
        return frozenset(self._assignments)

    def start(self) -> None:
        """Join the group."""
        self.joining_seconds = time.monotonic()
        self._thread.start()
        self._orphans.start()

    async def stop(self) -> None:
        """Give the partitions away (`Owner.give`) and leave the group; returns once it is done."""
        self._stopping.set()
        self._orphans.stop()
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join)

    async def next_batch(self) -> Batch:
        """Wait for records. Each batch must be followed by `done`."""
        while not self._batches:
            self._arrived.clear()
            await self._arrived.wait()
        return self._batches.popleft()

    def done(self) -> None:
        """Make room for another batch."""
        self._room.release()

    def is_current(self, partition: int, assignment: int) -> bool:
        """Return whether a record of this assignment is still to be processed."""
        return self._assignments.get(partition) == assignment

    @property
    def waiting_batches(self) -> int:
        """Batches that were handed to the loop and not yet taken by it."""
        return len(self._batches)

    @property
    def waiting_records(self) -> int:
        """Records that were handed to the loop and not yet taken by it."""
        return sum(len(batch.records) for batch in list(self._batches))

    def end_offset(self, partition: int) -> int | None:
        """Return where a partition ends as we last heard, None before we heard."""
        known = (ends[partition] for ends in (self._ends, self._asked_ends) if partition in ends)
        return max(known, default=None)

    def _heard_ends(self, ends: Mapping[int, int]) -> None:
        self._asked_ends = {partition: end for partition, end in ends.items() if end >= 0}  # others are not known

    def commit(self, offsets: Mapping[int, int]) -> None:
        """Tell the broker next offsets, for lag monitors: nothing reads from there. `committed` says what arrived."""
        self._commits = {**self._commits, **offsets}

    def _run(self) -> None:
        consumer = self._consumer
        try:
            consumer.subscribe(
                [self.topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
            )
            while not self._stopping.is_set():
                if self._room.acquire(timeout=PATIENCE_SECONDS):
                    self._hand_over(self._fetch())
                else:
                    self._wait_paused()
                self._keep_up()
            self._keep_up()
            consumer.close()  # gives the partitions away
        except BaseException as error:  # nobody sees what a thread raises
            self._owner.fail(error)

    def _fetch(self) -> list[Message]:
        first = self._consumer.poll(POLL_SECONDS)
        if first is None:
            return []
        if first.error() is None:
            self._alone = False
        return [first, *self._consumer.consume(BATCH_RECORDS - 1, 0)]

    def _keep_up(self) -> None:
        """Look where the partitions end, and commit what is to be committed.

        Here, because confluent-kafka locks a consumer while it polls: another thread would wait with the GIL in hand.
        """
        if self._commits:
            offsets, self._commits = self._commits, {}
            self._commit(offsets)
        now = time.monotonic()
        if self._alone:
            self._lifeline.give(now)
        if now - self._looked >= LOOK_SECONDS:
            self._looked = now
            ends = {partition: end for partition, end in self._ends.items() if partition in self._assignments}
            for partition in self._assignments:
                try:
                    _, end = self._consumer.get_watermark_offsets(TopicPartition(self.topic, partition), cached=True)
                except KafkaException:  # not known yet
                    continue
                if end >= 0:
                    ends[partition] = end
            self._ends = ends

    def _commit(self, offsets: Mapping[int, int]) -> None:
        wanted = [
            TopicPartition(self.topic, partition, offset)
            for partition, offset in offsets.items()
            if partition in self._assignments and self.committed.get(partition) != offset
        ]
        if wanted:
            try:
                self._consumer.commit(offsets=wanted, asynchronous=True)
            except KafkaException as error:  # whoever commits tries again
                log.info("%s: offsets are not committed: %s", self.topic, error)

    def _hand_over(self, messages: list[Message]) -> None:
        records = [message for message in messages if message.error() is None]
        for message in messages:
            if (error := message.error()) is not None:
                self._look_at(error)
        if records:
            self._loop.call_soon_threadsafe(self._take, Batch(records, self._assignments))
        else:
            self._room.release()

    def _take(self, batch: Batch) -> None:
        self._batches.append(batch)
        self._arrived.set()

    def _wait_paused(self) -> None:
        """Go on polling, for the group's sake, without taking records, until the loop has room."""
        consumer, held = self._consumer, list[Message]()
        self.paused = True
        consumer.pause(consumer.assignment())
        while not self._stopping.is_set() and not self._room.acquire(blocking=False):
            # A record can still come: of partitions that were assigned just now.
            if (message := consumer.poll(POLL_SECONDS)) is not None:
                held.append(message)
            self._keep_up()
        self.paused = False
        if self._stopping.is_set():
            return
        consumer.resume(consumer.assignment())
        self._hand_over(held)

    def _on_assign(self, consumer: Consumer, found: list[TopicPartition]) -> None:
        partitions = sorted(one.partition for one in found)
        self.lost_seconds = self.joining_seconds = None
        starts = self._ask(self._owner.gain(partitions))
        self._number += 1
        self._assignments = {**self._assignments, **dict.fromkeys(partitions, self._number)}
        consumer.incremental_assign([TopicPartition(self.topic, one, starts[one]) for one in partitions])
        if self.paused:
            consumer.pause([TopicPartition(self.topic, one) for one in partitions])

    def _on_revoke(self, consumer: Consumer, found: list[TopicPartition]) -> None:
        self._let_go(consumer, found, self._owner.give)

    def _on_lost(self, consumer: Consumer, found: list[TopicPartition]) -> None:
        self.lost_seconds = time.monotonic()
        self._let_go(consumer, found, self._owner.lose)

    def _let_go(self, consumer: Consumer, found: list[TopicPartition], ask: Any) -> None:
        partitions = sorted(one.partition for one in found)
        self._ask(ask(partitions))
        self._commit(self._commits)
        if self.paused:  # a partition that goes as paused would come back as paused
            consumer.resume(found)
        self._assignments = {one: number for one, number in self._assignments.items() if one not in partitions}
        for one in partitions:
            self.committed.pop(one, None)
        consumer.incremental_unassign(found)

    def _ask(self, question: Coroutine[Any, Any, Result]) -> Result:
        # The owner bounds its answers, so this does not wait for ever; nor does it when the loop has ended.
        future = asyncio.run_coroutine_threadsafe(question, self._loop)
        self.asking = True
        try:
            while True:
                try:
                    return future.result(1.0)
                except TimeoutError:
                    if future.done():
                        raise
                    if not self._loop.is_running():
                        raise TapelineError("the loop ended while partitions came or went") from None
        finally:
            self.asking = False

    def _look_at(self, error: KafkaError) -> None:
        if error.fatal() or error.code() == KafkaError._FATAL:
            raise TapelineError(f"{EVICTED}: {error.str()}")
        if error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            raise TapelineError(f"Kafka: records that were due are gone: {error.str()}")
        self._on_error(error)

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal() or error.code() == KafkaError._FATAL:
            self._owner.fail(TapelineError(f"{EVICTED}: {error.str()}"))
            return
        now = time.monotonic()
        if error.code() == KafkaError._ALL_BROKERS_DOWN:
            self._alone = True
        if now > self._quiet_until:
            self._quiet_until = now + QUIET_SECONDS
            log.warning("Kafka: %s", error.str())

    def _on_commit(self, error: KafkaError | None, offsets: list[TopicPartition]) -> None:
        if error is None:
            self.committed |= {one.partition: one.offset for one in offsets if one.error is None}
