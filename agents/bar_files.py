"""Ticks of recorded files and captures, of all their instruments in one order, for `tapeline bars`.

No broker is needed: the same reading, framing and parsing as on the way to Kafka.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from tapeline.agents.quality.files import open_file
from tapeline.agents.quality.merging import merged
from tapeline.connectors.venues import FeedMessage, RecordingError, Sequences, Unreadable, parse_frame
from tapeline.connectors.venues.capture import Item, open_capture
from tapeline.connectors.venues.framer import Framer
from tapeline.schemas import Instrument, RawFrame, Ticks, empty_ticks

ITEMS = 8192
"""Messages that are parsed together, of all connections of a file."""


@dataclass(frozen=True, slots=True)
class TickFile:
    """A file that is open. items: (source, item) in order of arrival; total, done: bytes."""

    name: str
    items: Iterable[tuple[str, Item]]
    total: int
    done: Callable[[], int]


def open_ticks(path: Path) -> TickFile:
    """Open a capture, or a recorded file of any kind; raise RecordingError if it is neither."""
    try:
        recording = open_file(path)
    except RecordingError as error:
        try:
            capture = open_capture(path)
        except RecordingError as fault:
            if not path.is_file():
                raise error from None
            raise RecordingError(f"{error}. as a capture: {fault}") from error
        return TickFile(path.name, capture.items(), capture.total_bytes, lambda: capture.read_bytes)
    source = recording.source
    return TickFile(path.name, ((source, item) for item in recording.items), recording.total, recording.done)


class TickFiles:
    """The ticks of several files. `instrument_id` of a tick names it in `instruments`."""

    instrument = ""

    def __init__(self, files: Sequence[TickFile]) -> None:
        self._files = files
        self.words = ", ".join(file.name for file in files)
        self.total = sum(file.total for file in files)
        self.rejected: Counter[str] = Counter()
        self.damage: list[str] = []
        self.instruments: dict[int, Instrument] = {}
        self._ids: dict[str, int] = {}

    def done(self) -> int:
        """Return how many bytes were read."""
        return sum(file.done() for file in self._files)

    def chunks(self) -> Iterator[Ticks]:
        """Yield the ticks of all instruments in order of arrival, (n,) TICK each, n > 0."""
        yield from merged([self._ticks(file) for file in self._files])

    def _ticks(self, file: TickFile) -> Iterator[Ticks]:
        framers: dict[str, Framer] = {}
        states: dict[str, Sequences] = {}
        items = iter(file.items)
        clock_ns = 0
        while True:
            frames: list[RawFrame] = []
            damage = self._gather(items, framers, frames)
            ticks = [self._parse(frame, states.setdefault(frame.source, {})) for frame in frames]
            found = np.concatenate([empty_ticks(0), *ticks])
            if len(found):
                # Of several connections: as they came.
                found = found[np.argsort(found["ts_recv_ns"], kind="stable")] if len(framers) > 1 else found
                clock_ns = max(clock_ns, int(found["ts_recv_ns"][-1]))
                yield found
            if damage is not None:
                if damage:
                    self.damage.append(damage)
                return

    def _gather(
        self, items: Iterator[tuple[str, Item]], framers: dict[str, Framer], frames: list[RawFrame]
    ) -> str | None:
        """Frame some more items; return None if there are others, else what is wrong with the file, if anything."""
        count = 0
        damage = ""
        try:
            for source, item in islice(items, ITEMS):
                count += 1
                framer = framers.setdefault(source, Framer(source, ITEMS))
                if isinstance(item, Unreadable):
                    self.rejected[item.reason.value] += 1
                else:
                    frames += framer.say(item) if isinstance(item, FeedMessage) else framer.add(item)
        except RecordingError as error:
            # Everything before the damage was read.
            count, damage = 0, str(error)
        for framer in framers.values():
            frames += framer.flush() if count == ITEMS else framer.end()
        return None if count == ITEMS else damage

    def _parse(self, frame: RawFrame, state: Sequences) -> Ticks:
        parsed = parse_frame(frame, state)
        self.rejected.update(reject.reason.value for reject in parsed.rejects)
        ids = np.array([self._id_of(name) for name in parsed.names] or [0], np.uint32)
        ticks = parsed.ticks
        if len(ticks):
            ticks["instrument_id"] = ids[ticks["instrument_id"]]
        return ticks

    def _id_of(self, name: str) -> int:
        number = self._ids.setdefault(name, len(self._ids) + 1)
        if number not in self.instruments:
            self.instruments[number] = Instrument(id=number, name=name, partition=0)
        return number
