"""Faust on librdkafka: the transport driver, the app of a role, and how a process ends.

The agents are ordinary Faust agents; under them `group_consumer` reads and `producer` sends. `agents/*` build their
app with `role_app`; `tapeline worker` runs them with `run`.

Faust's own way through a rebalance (stop the flow, empty all queues, commit, seek) is not used: partitions that stay
are never disturbed. Records of a partition that came together pass through Faust as one message: what Faust spends on
a message is spent once for all of them. They carry the number of the assignment that they were fetched under, and
`drive` passes over those whose partition has gone meanwhile.
"""

import asyncio
import gc
import logging
import os
import sys
import time
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, NoReturn, cast

import faust
from confluent_kafka import Message as KafkaMessage
from faust.transport import base
from faust.transport.conductor import Conductor as FaustConductor
from faust.transport.consumer import Consumer as FaustConsumer
from faust.transport.producer import Producer as FaustProducer
from faust.types import TP, ConsumerMessage, Message, RecordMetadata
from faust.types.transports import ConsumerCallback

from tapeline.schemas import TapelineError, partition_of
from tapeline.streams.group_consumer import GroupConsumer
from tapeline.streams.producer import Producer as KafkaProducer
from tapeline.streams.role import Role
from tapeline.streams.settings import Settings, kafka_bootstrap
from tapeline.streams.watchdog import Watchdog

log = logging.getLogger(__name__)

BUFFERED_MESSAGES = 2
"""Faust's messages, each of several records, that wait in the queue of an agent."""
TURN_SECONDS = 0.002
"""So long an agent works before it lets the rest of the loop have its turn."""
EXIT_FAILED = 70
HANDOVER_SECONDS_MAX = 15
RESTORE_SECONDS_MAX = 60
GIL_SECONDS = 0.0001
GENERATION = 1
"""Faust's streams pass over records of another generation: ours never changes, `Records.assignment` says more."""


class Records(ConsumerMessage):
    """Records of one partition, in their order, on their way through Faust as one message.

    value: the records, as confluent-kafka gives them; offset and timestamp: of the last one. assignment: number of
    the assignment that they were fetched under.
    """

    __slots__ = ("assignment",)
    assignment: int


Stream = faust.StreamT[list[KafkaMessage]]
"""What an agent reads: each value holds the records of a `Records`."""


class Conductor(FaustConductor):
    """Hands messages to the streams that read them, as they are: nothing is decoded, and a full stream is waited for.

    Faust's own starts a task for each message while a stream is full, which it always is when there is much to do.
    """

    def _compile_message_handler(self) -> ConsumerCallback:
        app, streams_of = self.app, self._tp_index

        async def on_message(message: Message) -> None:
            await app.flow_control.acquire()
            app.sensors.on_message_in(message.tp, message.offset, message)
            for channel in streams_of[message.tp]:
                message.incref()
                await channel.queue.put(faust.Event(app, message.key, message.value, message.headers, message))

        return on_message


class Consumer(FaustConsumer):
    """Faust's consumer over a GroupConsumer. It owns the partitions on behalf of the role."""

    role: Role
    instance: str | None
    session_timeout_seconds: float

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.app.consumer_generation_id = GENERATION
        self.group: GroupConsumer | None = None
        self.watchdog: Watchdog | None = None
        self._leaving = False
        self._safe: dict[int, int] = {}  # next offsets of our partitions that may be committed

    # Starting and stopping

    async def subscribe(self, topics: Iterable[str]) -> None:
        """Open the role and join its group. Faust calls it once its agents run."""
        if self.group is not None:
            return
        role = self.role
        if set(topics) != {role.input.name}:
            end_process(role, TapelineError(f"its agents read {sorted(topics)} instead of {role.input.name}"))
        role.stats.refresh = self.refresh_stats
        try:
            await role.open()
            _settle_memory()
            self.group = GroupConsumer(
                role.kafka,
                role.input.name,
                self,
                group=self.app.conf.id,
                instance=self.instance,
                session_timeout_seconds=self.session_timeout_seconds,
                ghost_seconds=2 * role.settings.worker.stuck_seconds + role.settings.worker.snapshot_seconds,
                waits=lambda: bool(role.waits_for),
            )
        except Exception as error:
            if self._leaving:
                return
            end_process(role, error)
        if self._leaving:
            return
        self.group.start()
        self.watchdog = Watchdog(role, self.group, lambda reason: self.fail(TapelineError(reason)))
        self.watchdog.start()

    async def checkpoint(self) -> None:
        """Make the work so far safe, then tell the broker where we are; what it did not take is told again."""
        if self.group is None:
            return
        try:
            offsets = await self.role.checkpoint()
        except Exception as error:
            end_process(self.role, error)
        self._safe |= {partition: offset for partition, offset in offsets.items() if partition in self._safe}
        self.group.commit(self._safe)

    async def leave(self) -> None:
        """Give the partitions away and leave the group; the role's state is safe afterwards."""
        self._leaving = True
        if self.watchdog is not None:
            self.watchdog.stop()
        if self.group is not None:
            await self.group.stop()

    # The owner of the partitions: the group waits while these run, so each is bounded

    async def gain(self, partitions: Sequence[int]) -> Mapping[int, int]:
        """Restore the role's state of new partitions; return where reading starts. Ends every rebalance."""
        self.role.stats.rebalances += 1
        self._rebalance_begins()
        starts: dict[int, int] = await self._in_time(
            self._restore(partitions), RESTORE_SECONDS_MAX, "its state was not there"
        )
        # Faust learns which partitions there are now, and lets its streams go on.
        await self.on_partitions_assigned(self._faust_partitions({*self._ours(), *partitions}), GENERATION)
        self._safe |= starts
        log.info("role %s reads %s from %s", self.role.name, self.role.input.name, starts or "no partition more")
        return starts

    async def give(self, partitions: Sequence[int]) -> None:
        """Save the role's state of partitions that go."""
        self._rebalance_begins()
        why = "its work was not safe (is the broker away?)"
        offsets = await self._in_time(self.role.give(partitions), HANDOVER_SECONDS_MAX, why)
        self._group().commit(offsets)
        await self._gone(partitions)

    async def lose(self, partitions: Sequence[int]) -> None:
        """Forget partitions that others may have."""
        self._rebalance_begins()
        log.warning("role %s lost its membership, and with it %s", self.role.name, list(partitions))
        await self._in_time(self.role.lose(partitions), HANDOVER_SECONDS_MAX, "a record was not done")
        await self._gone(partitions)

    def fail(self, error: BaseException) -> None:
        """End the process: the group cannot go on."""
        end_process(self.role, error)

    async def _restore(self, partitions: Sequence[int]) -> dict[int, int]:
        role = self.role
        starts = await role.gain(partitions)
        for partition, start in starts.items():
            first, end = await role.store.ends(role.input.name, partition)
            where = f"{role.input.name}[{partition}]"
            refused = role.store.refused.get(partition, {})
            for unit, expected in role.expected(partition).items():
                who = f"{role.name}/{unit}"
                if expected > end:
                    raise TapelineError(
                        f"{who} has read {where} up to {expected}, but the topic ends at {end}: records that were "
                        "there are lost. Bring them back, or start with new topics and an empty database"
                    )
                if expected < first and unit in refused:
                    raise TapelineError(
                        f"{refused[unit]}. Its state cannot be made anew, because {where} begins at {first} only: run "
                        "the version that wrote it if that is newer, or start with new topics and an empty database"
                    )
                if 0 < expected < first:
                    log.error("%s: records %d to %d were removed before %s read them", where, expected, first - 1, who)
            if start < first:
                starts[partition] = first
                role.start_at(partition, first)
        return starts

    async def _in_time(self, work: Awaitable[Any], seconds: float, otherwise: str) -> Any:
        """Others wait for us: what is not done soon is left to whoever reads on from the last snapshot."""
        try:
            return await asyncio.wait_for(work, seconds)
        except TimeoutError:
            waits = f", it waits for {self.role.waits_for}" if self.role.waits_for else ""
            end_process(self.role, TapelineError(f"{otherwise} after {seconds} s{waits}"))
        except Exception as error:
            end_process(self.role, error)

    def _rebalance_begins(self) -> None:
        if not self.app.rebalancing:
            self.app.on_rebalance_start()

    async def _gone(self, partitions: Sequence[int]) -> None:
        for partition in partitions:
            self._safe.pop(partition, None)
        gone = self._faust_partitions(partitions)
        self._active_partitions.difference_update(gone)
        await self.app.on_partitions_revoked.send(gone)
        # Faust learns what is left with what comes: an assignment follows always, be it of nothing.

    # Records

    async def _drain_messages(self, fetcher: Any) -> None:
        """Hand records to Faust's streams; a full queue makes us wait, and in the end the partitions pause."""
        callback: ConsumerCallback = self.callback
        group = self._group()  # Faust fetches only once there was an assignment
        try:
            while not (self.should_stop or fetcher.should_stop):
                batch = await group.next_batch()
                for partition, records in groupby(batch.records, _partition):
                    assignment = batch.assignments.get(partition)
                    if assignment is not None and group.is_current(partition, assignment):
                        await callback(self._message(list(records), partition, assignment))
                    else:  # it has gone, and nothing that was held back must wait for it
                        self.role.producer.hurry()
                group.done()
        except asyncio.CancelledError:
            if not self.app.should_stop:
                raise

    def _message(self, records: list[KafkaMessage], partition: int, assignment: int) -> Records:
        last = records[-1]
        timestamp_type, timestamp_ms = last.timestamp()
        message = Records(
            self.role.input.name,
            partition,
            cast(int, last.offset()),
            timestamp_ms / 1000,
            timestamp_type,
            [],
            None,
            cast(Any, records),
            None,
            tp=TP(self.role.input.name, partition),
            generation_id=GENERATION,
        )
        message.assignment = assignment
        return message

    def is_current(self, message: Records) -> bool:
        """Return whether the partition of these records is still ours, by the assignment they were fetched under."""
        return self._group().is_current(message.partition, message.assignment)

    @property
    def is_behind(self) -> bool:
        """Whether records wait that Faust does not have yet."""
        return self.group is not None and self.group.waiting_batches > 0

    def refresh_stats(self) -> None:
        """Bring up to date what nobody counts; may be called in any thread."""
        group, stats = self.group, self.role.stats
        stats.waits_for = self.role.waits_for
        if group is None:
            return
        stats.buffered = group.waiting_records
        for partition in group.partitions:
            if (one := stats.partitions.get(partition)) is not None:
                one.paused = group.paused
                if (end := group.end_offset(partition)) is None:
                    continue
                one.end_offset = end
                self.app.monitor.track_tp_end_offset(TP(group.topic, partition), end)

    # What else Faust asks of a consumer. Back-pressure is ours: its own hints are not needed.

    def on_buffer_full(self, tp: TP) -> None:
        """Do nothing."""

    def on_buffer_drop(self, tp: TP) -> None:
        """Do nothing."""

    async def on_stop(self) -> None:
        """Do nothing: `leave` has done it."""

    async def perform_seek(self) -> None:
        """Do nothing: reading starts where it was assigned."""

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        self._group().commit({tp.partition: offset for tp, offset in offsets.items()})
        return True

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Return where each partition is; nothing is sought."""
        return {tp: self.role.next_offset(tp.partition) for tp in self.assignment()}

    def assignment(self) -> set[TP]:
        """Return the partitions that are ours."""
        return self._faust_partitions(self._ours())

    def highwater(self, tp: TP) -> int:
        """Return where a partition ends, as far as the client knows."""
        return self._group().end_offset(tp.partition) or 0

    async def highwaters(self, *partitions: TP) -> Mapping[TP, int]:
        """Ask where partitions end."""
        return {tp: (await self.role.store.ends(tp.topic, tp.partition))[1] for tp in partitions}

    async def earliest_offsets(self, *partitions: TP) -> Mapping[TP, int]:
        """Ask where partitions begin."""
        return {tp: (await self.role.store.ends(tp.topic, tp.partition))[0] for tp in partitions}

    async def position(self, tp: TP) -> int | None:
        """Return the next offset of a partition."""
        return self.role.next_offset(tp.partition)

    def topic_partitions(self, topic: str) -> int | None:
        """Return nothing: Faust asks only for tables, which are not used."""
        return None

    def key_partition(self, topic: str, key: bytes | None, partition: int | None = None) -> int | None:
        """Return the partition that was asked for."""
        return partition

    async def create_topic(self, topic: str, *args: Any, **kwargs: Any) -> None:
        """Refuse: `tapeline topics create` makes topics."""
        raise TapelineError(f"topic {topic} is not made here: `tapeline topics create` makes the topics")

    async def _seek(self, partition: TP, offset: int) -> None:
        raise TapelineError("a role reads from where its state ends; it does not seek")

    async def seek_wait(self, partitions: Mapping[TP, int]) -> None:
        """Refuse: a role reads from where its state ends."""
        raise TapelineError("a role reads from where its state ends; it does not seek")

    def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> NoReturn:
        raise NotImplementedError("records come through _drain_messages")

    def _to_message(self, tp: TP, record: Any) -> NoReturn:
        raise NotImplementedError("records come through _drain_messages")

    def _new_topicpartition(self, topic: str, partition: int) -> TP:
        return TP(topic, partition)

    def _ours(self) -> set[int]:
        return set(self.group.partitions) if self.group is not None else set()

    def _faust_partitions(self, partitions: Iterable[int]) -> set[TP]:
        return {TP(self.role.input.name, partition) for partition in partitions}

    def _group(self) -> GroupConsumer:
        if self.group is None:
            raise RuntimeError(f"role {self.role.name} has not joined its group")
        return self.group


class Producer(FaustProducer):
    """What `topic.send` of an agent goes through: the role's own producer, so that its checkpoints wait for it too."""

    role: Role
    _alone: KafkaProducer | None = None

    async def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        partition: int | None,
        timestamp: float | None,
        headers: Any,
        *,
        transactional_id: str | None = None,
    ) -> Awaitable[RecordMetadata]:
        """Queue a record; the future is done when it is confirmed. partition: None = that of the key."""
        loop = asyncio.get_running_loop()
        sent: asyncio.Future[RecordMetadata] = loop.create_future()
        producer = self._producer()
        if partition is None:
            partition = partition_of((key or b"").decode(errors="replace"), await producer.partition_count(topic))

        def confirmed(message: KafkaMessage) -> None:
            where = TP(topic, partition)
            metadata = RecordMetadata(topic, partition, where, cast(int, message.offset()), None, None)
            loop.call_soon_threadsafe(_settle, sent, metadata)

        await producer.send(
            topic,
            value,
            key=key,
            partition=partition,
            headers=list(headers.items()) if isinstance(headers, Mapping) else list(headers or ()),
            timestamp_ms=int((timestamp or 0) * 1000),
            on_delivery=confirmed,
        )
        if producer is self._alone:  # nobody else looks whether it arrives
            await producer.flush()
        return sent

    async def send_and_wait(self, *args: Any, **kwargs: Any) -> RecordMetadata:
        """Send a record and wait until it is confirmed."""
        sent = await self.send(*args, **kwargs)
        await self._producer().flush()  # raises what the future would wait for
        return await sent

    async def flush(self) -> None:
        """Wait until everything sent is confirmed."""
        await self.buffer.flush()
        if self.role.is_open or self._alone is not None:
            await self._producer().flush()

    async def on_stop(self) -> None:
        """Let go of the connection; the role closes its own."""
        if self._alone is not None:
            await self._alone.close()

    def supports_headers(self) -> bool:
        """Return that headers are kept."""
        return True

    def _producer(self) -> KafkaProducer:
        if self.role.is_open:
            return self.role.producer
        if self._alone is None:  # `faust send` runs without the role
            self._alone = KafkaProducer(self.role.kafka)
        return self._alone


class RoleApp(faust.App):
    """The Faust app of a role."""

    role: Role

    def FlowControlQueue(self, maxsize: int | None = None, *, clear_on_resume: bool = False) -> Any:
        """Return a queue that is never emptied.

        Faust empties its queues at the end of each rebalance and then seeks back; we do not seek, so what waits there
        must stay (and who waits for room in a queue that is emptied waits for ever).
        """
        return super().FlowControlQueue(maxsize)


def role_app(role: Role, settings: Settings, instance: str | None, web_port: int | None = None) -> RoleApp:
    """Return the Faust app of a role: one consumer group, started and stopped with the role's own connections.

    instance: name of this process that stays the same over restarts (static membership), so that a process
    that was killed gets its partitions back at once. web_port: where Faust shows its own pages; None = nowhere.
    """
    app = RoleApp(
        f"tapeline.{role.name}",
        broker=[f"kafka://{server.strip()}" for server in kafka_bootstrap(settings).split(",")],
        key_serializer="raw",
        value_serializer="raw",
        stream_buffer_maxsize=BUFFERED_MESSAGES,
        stream_wait_empty=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=web_port is not None,
        web_port=web_port or 6066,
        datadir=str(settings.home / "faust" / role.name),
        store="memory://",
    )
    app.role = role
    members = {
        "role": role,
        "instance": instance,
        "session_timeout_seconds": settings.worker.session_timeout_seconds,
    }
    drivers = {"Consumer": type("Consumer", (Consumer,), members), "Producer": type("Producer", (Producer,), members)}
    transport = type("Transport", (base.Transport,), {**drivers, "Conductor": Conductor, "driver_version": "tapeline"})
    app.transport = app.producer_transport = transport(app.conf.broker_consumer, app)
    app.conf.datadir.parent.mkdir(parents=True, exist_ok=True)

    @app.timer(interval=settings.worker.snapshot_seconds, name=f"{role.name}.checkpoint")  # type: ignore[untyped-decorator]
    async def now_and_then() -> None:
        await _consumer(app).checkpoint()

    @app.on_before_shutdown.connect
    async def before_shutdown(*_: Any, signal: Any, **__: Any) -> None:
        try:
            await asyncio.wait_for(_shut_down(app, role), HANDOVER_SECONDS_MAX + 5)
        except Exception as error:
            end_process(role, error)

    return app


async def drive(role: Role, stream: Stream) -> None:
    """Hand every record of the stream to the role, in order. An error ends the process: Faust would go on."""
    consumer = cast(Consumer, stream.app.consumer)
    queue = cast(Any, stream.channel).queue
    async for event in stream.events():
        message = cast(Records, event.message)
        left = len(event.value)
        turn_ends = time.monotonic() + TURN_SECONDS
        try:
            for record in event.value:
                if consumer.is_current(message):
                    await role.receive(message.partition, record.offset(), record.value() or b"")
                left -= 1
                role.producer.hurry(more_comes=left > 0 or not queue.empty() or consumer.is_behind)
                if left and time.monotonic() > turn_ends:
                    await asyncio.sleep(0)
                    turn_ends = time.monotonic() + TURN_SECONDS
            stream.app.sensors.on_message_out(message.tp, message.offset, message)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            end_process(role, error)


def run(apps: Sequence[RoleApp], loglevel: str = "INFO") -> None:
    """Run the apps in this process until Ctrl-C or SIGTERM; raises SystemExit with the worker's exit code."""
    # The consume thread and the loop take turns: at the default 5 ms each waits for the other at every record.
    sys.setswitchinterval(GIL_SECONDS)
    first, *others = apps
    faust.Worker(first, *others, loglevel=loglevel, redirect_stdouts=False).execute_from_commandline()


def end_process(role: Role, error: BaseException) -> NoReturn:
    """End this process at once: the state on the broker is whole, and a fresh process starts from it."""
    log.critical("role %s cannot go on: %s", role.name, error, exc_info=not isinstance(error, TapelineError))
    logging.shutdown()
    os._exit(EXIT_FAILED)


def _partition(record: KafkaMessage) -> int:
    return cast(int, record.partition())


def _settle(sent: asyncio.Future[RecordMetadata], metadata: RecordMetadata) -> None:
    if not sent.done():  # nobody waits any more
        sent.set_result(metadata)


def _settle_memory() -> None:
    """Let the collector pass over all that is there now: modules and compiled code, which stay.

    Without it a full collection looks through half a million objects of numba's, a tenth of a second and more in which
    no record moves.
    """
    gc.collect()
    gc.freeze()


async def _shut_down(app: faust.App, role: Role) -> None:
    consumer = _consumer(app)
    await consumer.leave()
    if consumer.group is not None:  # else it was still being opened, and has nothing to keep
        await role.close()


def _consumer(app: faust.App) -> Consumer:
    return cast(Consumer, app.consumer)
