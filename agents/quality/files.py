"""Ticks of recorded files, for `tapeline quality --file`: the same reading, framing and parsing as on the way to Kafka.

No broker is needed. Several files of one instrument (its trades, its quotes) are put in order by receive time.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from tapeline.agents.quality.merging import merged
from tapeline.agents.quality.sources import NotFoundError, batched, listed, unknown
from tapeline.connectors.venues import (
    FeedMessage,
    Recording,
    RecordingError,
    Sequences,
    Unreadable,
    parse_frame,
)
from tapeline.connectors.venues.binance_recording import open_recording as open_binance
from tapeline.connectors.venues.framer import Framer
from tapeline.connectors.venues.lean_recording import open_recording as open_lean
from tapeline.schemas import RawFrame, Ticks

MESSAGES_MAX = 8192
"""Messages that are parsed together."""
OPENERS = (("a LEAN tick file", open_lean), ("a Binance recording", open_binance))
"""Tried in this order."""


class RecordingSource:
    """A `Source` of recordings. instrument: None = the only one that they have."""

    repeated_frames = 0
    unread_records = 0

    def __init__(self, recordings: Sequence[Recording], instrument: str | None = None) -> None:
        self._recordings = recordings
        self._asked = instrument
        self.instrument = instrument or ""
        self.words = ", ".join(recording.origin for recording in recordings)
        self.total = sum(recording.total for recording in recordings)
        self._rejected: Counter[str] = Counter()
        self.damage: str | None = None
        self._names: set[str] = set()

    def chunks(self) -> Iterator[Ticks]:
        """Yield the instrument's ticks, with instrument_id 0; NotFoundError if there are none, or no name was asked
        for and there are several."""
        found = False
        for chunk in merged([batched(self._ticks(recording)) for recording in self._recordings]):
            found = True
            yield chunk
        if not found:
            if self._asked is None:
                raise NotFoundError(f"{self.words} has no ticks")
            raise unknown(self._asked, self._names, self.words)

    @property
    def rejected(self) -> dict[str, int]:
        """Messages of all instruments that could not be read so far, by reason."""
        return dict(self._rejected)

    def done(self) -> int:
        """Return how many bytes were read."""
        return sum(recording.done() for recording in self._recordings)

    def close(self) -> None:
        """Nothing is held."""

    def _ticks(self, recording: Recording) -> Iterator[Ticks]:
        state: Sequences = {}
        for frame in self._frames(recording):
            parsed = parse_frame(frame, state)
            self._rejected.update(reject.reason.value for reject in parsed.rejects)
            self._meet(parsed.names)
            if self.instrument in parsed.names:
                ticks = parsed.ticks
                if len(parsed.names) > 1:
                    ticks = ticks[ticks["instrument_id"] == parsed.names.index(self.instrument)]
                ticks["instrument_id"] = 0
                if len(ticks):
                    yield ticks

    def _frames(self, recording: Recording) -> Iterator[RawFrame]:
        framer = Framer(recording.source, MESSAGES_MAX)
        try:
            for item in recording.items:
                if isinstance(item, Unreadable):
                    self._rejected[item.reason.value] += 1
                    continue
                yield from framer.say(item) if isinstance(item, FeedMessage) else framer.add(item)
        except RecordingError as error:
            # Everything before the damage was read, and that is what the report is about.
            self.damage = str(error)
        yield from framer.end()

    def _meet(self, names: Sequence[str]) -> None:
        """Know the names that are there; the first is the instrument if none was asked for, and must stay alone."""
        self._names.update(names)
        if self._asked is None and names:
            self.instrument = self.instrument or names[0]
            if len(self._names) > 1:
                raise NotFoundError(f"{self.words} has several instruments: name one of {listed(sorted(self._names))}")


def open_files(paths: Sequence[Path], instrument: str | None = None) -> RecordingSource:
    """Open recorded files of any venue; raise RecordingError if one is not there or not of a kind that is read."""
    return RecordingSource([open_file(path) for path in paths], instrument)


def open_file(path: Path) -> Recording:
    """Open a recorded file as what it is; raise RecordingError that says why it is none of those that are read."""
    faults = []
    for what, open_recording in OPENERS:
        try:
            return open_recording(path)
        except RecordingError as error:
            faults.append(f"as {what}: {error}")
    if not path.is_file():
        raise RecordingError(f"cannot read {path}: there is no such file")
    raise RecordingError(f"{path} cannot be read. {'. '.join(faults)}")
