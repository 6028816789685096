"""Ticks of topic `ticks`, for `tapeline quality`: read as any subscriber may, without a group, committing nothing.

Which records hold a day: those made on it, with an hour to each side. A recording may be sent into Kafka at any later
time, so if those have nothing of the instrument, all that were made after them are read too.
"""

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import closing

from confluent_kafka import TopicPartition

from tapeline.agents.quality.analysis import DAY_NS, day_of, day_start_ns
from tapeline.agents.quality.sources import NotFoundError, unknown
from tapeline.schemas import FrameError, Instrument, TickFrame, Ticks, VersionError
from tapeline.schemas.topics import INSTRUMENTS, TICKS
from tapeline.streams.frame_reader import FrameReader
from tapeline.streams.registry import Registry
from tapeline.streams.settings import Settings, kafka_bootstrap
from tapeline.streams.state import LogReader, kafka_answers

MARGIN_MS = 3_600_000
"""Clocks differ, and a record is made some time after its ticks were received."""
LOOK_BACK_RECORDS = 20_000
"""The newest records, in which the newest day is looked for."""
MS = 1_000_000


class TopicSource:
    """A `Source` of one instrument's ticks of one UTC day of receive time, up to where the topic ends now.

    day: YYYY-MM-DD; None = the newest that the last records have of it, else today. Raises UnavailableError if there is
    no broker or no topic, NotFoundError if the registry does not know the instrument.
    """

    rejected = None
    damage = None

    def __init__(self, settings: Settings, instrument: str, day: str | None = None) -> None:
        properties = settings.kafka.librdkafka(kafka_bootstrap(settings))
        self.instrument = instrument
        self.unread_records = 0
        self._id, self._partition = _find(properties, instrument)
        self._frames = FrameReader()
        self._read = 0
        self._reader = LogReader(properties)
        where = TopicPartition(TICKS.name, self._partition)
        with kafka_answers():
            self._first, self._end = self._reader.ends(where)
            self.day = day or self._newest_day() or day_of(time.time_ns())
            self._day_ns = day_start_ns(self.day)
            day_ms, next_day_ms = self._day_ns // MS, (self._day_ns + DAY_NS) // MS
            self._start = min(self._reader.at_time(where, day_ms - MARGIN_MS), self._end)
            self._stop = min(self._reader.at_time(where, next_day_ms + MARGIN_MS), self._end)
        self.total = self._stop - self._start

    @property
    def words(self) -> str:
        """Which records are read."""
        last = self._start + self.total - 1
        return f"{TICKS.name}[{self._partition}], " + (
            f"offsets {self._start:,} to {last:,}" if self.total else "no records"
        )

    @property
    def repeated_frames(self) -> int:
        """Frames that came again and were skipped."""
        return self._frames.duplicates

    def chunks(self) -> Iterator[Ticks]:
        """Yield the instrument's ticks of the records that hold the day, a few of other days among them.

        NotFoundError if none is of the day.
        """
        found = False
        with kafka_answers():
            for start, stop in ((self._start, self._stop), (self._stop, self._end)):
                if found:
                    break
                self.total = stop - self._start
                for frame in self._records(start, stop):
                    self._read += 1
                    if not self._frames.take(frame) or not len(ticks := self._own(frame)):
                        continue
                    at_ns = ticks["ts_recv_ns"]
                    found = found or bool(((at_ns >= self._day_ns) & (at_ns < self._day_ns + DAY_NS)).any())
                    yield ticks
            if not found:
                newest = self._newest_day()
                raise NotFoundError(
                    f"{TICKS.name}[{self._partition}] has nothing of {self.instrument} that was received on {self.day} "
                    f"(UTC); " + (f"it has of {newest}: --day {newest}" if newest else "give another --day")
                )

    def done(self) -> int:
        """Return how many records were read."""
        return self._read

    def close(self) -> None:
        """Let go of the connection."""
        self._reader.close()

    def _records(self, start: int, stop: int) -> Iterator[TickFrame]:
        """Yield the frames of these offsets; damaged records are counted."""
        where = TopicPartition(TICKS.name, self._partition, start)
        with closing(self._reader.read(where, started=True)) as records:
            for offset, _, value in records:
                if offset >= stop:
                    return
                try:
                    yield TickFrame.decode(value or b"")
                except VersionError:
                    raise
                except FrameError:
                    self.unread_records += 1

    def _own(self, frame: TickFrame) -> Ticks:
        own: Ticks = frame.ticks[frame.ticks["instrument_id"] == self._id]
        return own

    def _newest_day(self) -> str | None:
        """Return the day of the instrument's last tick among the newest records, None if they have none."""
        day = None
        for frame in self._records(max(self._first, self._end - LOOK_BACK_RECORDS), self._end):
            if len(ticks := self._own(frame)):
                day = day_of(int(ticks["ts_recv_ns"][-1]))
        self.unread_records = 0  # whatever counts is read again
        return day


def _find(properties: Mapping[str, str | int], name: str) -> tuple[int, int]:
    """Return an instrument's id and partition, from the registry."""
    registry = Registry(properties, ticks_partitions=1)  # which matters only to who registers
    try:
        with kafka_answers():
            asyncio.run(registry.refresh())
        instrument: Instrument | None = registry.by_name.get(name)
        if instrument is None:
            raise unknown(name, registry.by_name, f"topic {INSTRUMENTS.name}")
        return instrument.id, instrument.partition
    finally:
        registry.close()
