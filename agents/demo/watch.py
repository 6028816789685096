"""Look at the topics and the database from outside, as any subscriber could. `command.py` starts it.

A thread, because reading blocks: it starts at the ends of the topics, commits nothing and joins no group.
"""

import logging
import threading
import time
from dataclasses import replace

import psycopg
from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaException, Message, TopicPartition

from tapeline.agents.demo.meter import Meter, Reading
from tapeline.connectors.stores.reader import connect, count_received, newest_received
from tapeline.schemas import Instrument, RawFrame, Signal, TapelineError, TickFrame, UnavailableError
from tapeline.schemas.topics import INSTRUMENTS, RAW, REJECTED, SIGNALS, TICKS
from tapeline.streams.frame_reader import FrameReader
from tapeline.streams.settings import Settings, database_dsn, kafka_bootstrap

log = logging.getLogger(__name__)

LATEST_MAX = 60
LOOK_SECONDS = 0.25
ANSWER_SECONDS = 10.0


class Watch:
    """Readings of one run. since_ns: signals received before do not count; instruments: SQL pattern of theirs."""

    def __init__(self, settings: Settings, since_ns: int, instruments: str) -> None:
        self._since_ns = since_ns
        self._instruments = instruments
        self._dsn = database_dsn(settings)
        self._meter = Meter(settings.worker.snapshot_seconds)
        self._frames = FrameReader()
        self._stopping = threading.Event()
        self.reading = Reading()
        properties = settings.kafka.librdkafka(kafka_bootstrap(settings)) | {
            "enable.auto.commit": False,
            "fetch.queue.backoff.ms": 5,
            "log_level": 2,
        }
        self._consumer = Consumer({**properties, "group.id": "tapeline.demo"})
        self._committed = Consumer({**properties, "group.id": "tapeline.logic"})
        self._connection: psycopg.Connection | None = None
        self._thread = threading.Thread(target=self._run, name="demo-watch", daemon=True)

    def start(self) -> None:
        """Find the ends of the topics and begin; raises UnavailableError if Kafka does not answer."""
        try:
            topics = self._consumer.list_topics(timeout=ANSWER_SECONDS).topics
            parts = []
            for topic in (RAW, TICKS, SIGNALS, REJECTED, INSTRUMENTS):
                for partition in topics[topic.name].partitions:
                    start = OFFSET_BEGINNING if topic is INSTRUMENTS else OFFSET_END
                    if start == OFFSET_END:
                        where = TopicPartition(topic.name, partition)
                        _, start = self._consumer.get_watermark_offsets(where, timeout=ANSWER_SECONDS)
                    parts.append(TopicPartition(topic.name, partition, start))
        except (KafkaException, KeyError) as error:
            raise UnavailableError(f"Kafka does not say what its topics hold: {error}") from error
        self._ticks_partitions = [TopicPartition(TICKS.name, one) for one in topics[TICKS.name].partitions]
        self._consumer.assign(parts)
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        self._thread.join()
        self._consumer.close()
        self._committed.close()
        if self._connection is not None:
            self._connection.close()

    def _run(self) -> None:
        try:
            self._watch()
        except Exception as error:
            log.exception("the demo cannot look any more")
            self.reading = replace(self.reading, trouble=f"what you see stands still: {error}")

    def _watch(self) -> None:
        next_look = 0.0
        while not self._stopping.is_set():
            for message in self._consumer.consume(1000, 0.05):
                if message.error() is None:
                    self._take(message)
            if time.monotonic() >= next_look:
                next_look = time.monotonic() + LOOK_SECONDS
                self._look()
                self.reading = self._meter.reading(_now_ms())

    def _take(self, message: Message) -> None:
        meter, now_ms = self._meter, _now_ms()
        topic, value, at_ms = message.topic(), message.value() or b"", message.timestamp()[1]
        partition, offset = message.partition() or 0, message.offset() or 0
        try:
            match topic:
                case RAW.name:
                    meter.take_raw(partition, offset, at_ms, len(RawFrame.decode(value)), now_ms)
                case TICKS.name:
                    frame = TickFrame.decode(value)
                    if self._frames.take(frame):
                        meter.take_ticks(partition, offset, at_ms, frame, now_ms)
                case SIGNALS.name:
                    meter.take_signal(partition, offset, at_ms, Signal.decode(value), now_ms)
                case REJECTED.name:
                    meter.rejected += 1
                case INSTRUMENTS.name:
                    instrument = Instrument.decode(value)
                    meter.names.setdefault(instrument.id, instrument.name)
        except TapelineError as error:
            # The roles reject it; here it is only not counted.
            meter.trouble = f"{topic}[{partition}]@{offset}: {error}"

    def _look(self) -> None:
        """Ask for the offsets of `logic` and for what the database has."""
        self._meter.trouble = ""
        try:
            self._look_at_offsets()
        except KafkaException as error:
            self._meter.trouble = f"Kafka does not answer: {error.args[0].str()}"
        try:
            self._look_at_database()
        except (psycopg.Error, TapelineError) as error:
            self._meter.trouble = " ".join(str(error).split())
            if self._connection is not None and self._connection.broken:
                self._connection.close()
                self._connection = None

    def _look_at_offsets(self) -> None:
        for one in self._committed.committed(self._ticks_partitions, timeout=ANSWER_SECONDS):
            if one.offset >= 0:
                self._meter.passed_by_logic(one.partition, one.offset)

    def _look_at_database(self) -> None:
        if self._connection is None:
            self._connection = connect(self._dsn)
            self._connection.autocommit = True
        connection, now_ms = self._connection, _now_ms()
        query = (
            "SELECT partition, next_offset, extract(epoch FROM changed_at) * 1000 FROM input_offsets "
            "WHERE role = 'persist' AND topic = %s"
        )
        for partition, next_offset, changed_ms in connection.execute(query, [SIGNALS.name]).fetchall():
            self._meter.kept(partition, next_offset, float(changed_ms), now_ms)
        total = count_received(connection, self._since_ns, self._instruments)
        if total != self._meter.stored.total:
            self._meter.latest = newest_received(connection, self._since_ns, self._instruments, LATEST_MAX)
            self._meter.count_kept(total, now_ms)


def _now_ms() -> float:
    return time.time_ns() / 1e6
