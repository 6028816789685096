"""Bars of topic `bars`, for `tapeline bars`: read as any subscriber may, without a group, committing nothing."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterator

import numpy as np
from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from tapeline.schemas import BarFrame, Bars, FrameError, Instrument, VersionError
from tapeline.schemas.topics import BARS
from tapeline.streams.frame_reader import BarFrameReader
from tapeline.streams.registry import Registry
from tapeline.streams.settings import Settings, kafka_bootstrap
from tapeline.streams.state import LogReader, kafka_answers

ANSWER_SECONDS = 10.0
POLL_SECONDS = 0.1
"""So often it is looked whether there is more."""


class BarTopic:
    """The topic, from its first record on. Raises UnavailableError if there is no broker or no topic."""

    def __init__(self, settings: Settings) -> None:
        properties = settings.kafka.librdkafka(kafka_bootstrap(settings))
        self._registry = Registry(properties, ticks_partitions=1)  # which matters only to who registers
        self._reader = LogReader(properties)
        self._frames: dict[int, BarFrameReader] = defaultdict(BarFrameReader)
        self.unread_records = 0
        with kafka_answers():
            # Asked, not set: a topic keeps the partitions that it was made with.
            found = AdminClient({**properties, "log_level": 0}).list_topics(BARS.name, timeout=ANSWER_SECONDS)
            if (error := found.topics[BARS.name].error) is not None:
                raise KafkaException(error)
        self._places = [
            TopicPartition(BARS.name, partition) for partition in sorted(found.topics[BARS.name].partitions)
        ]
        self._started: set[int] = set()

    @property
    def instruments(self) -> dict[int, Instrument]:
        """Those that are known, by id."""
        return self._registry.by_id

    def read(self) -> Iterator[tuple[int, Bars]]:
        """Yield (stream, bars) of every frame that came since the last call; damaged ones are counted."""
        with kafka_answers():
            for place in self._places:
                for _, _, value in self._reader.read(place, started=place.partition in self._started):
                    self._started.add(place.partition)
                    try:
                        frame = BarFrame.decode(value or b"")
                    except VersionError:
                        raise
                    except FrameError:
                        self.unread_records += 1
                        continue
                    if self._frames[place.partition].take(frame):
                        self._know(frame.bars)
                        yield frame.stream, frame.bars

    def follow(self) -> Iterator[tuple[int, Bars]]:
        """Yield (stream, bars) of every frame that comes from now on, for ever."""
        while True:
            yield from self.read()
            time.sleep(POLL_SECONDS)

    def close(self) -> None:
        """Let go of the connections."""
        self._reader.close()
        self._registry.close()

    def _know(self, bars: Bars) -> None:
        # An instrument is in its topic before its first tick is sent.
        if any(one not in self.instruments for one in np.unique(bars["instrument_id"]).tolist()):
            asyncio.run(self._registry.refresh())
