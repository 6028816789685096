"""Where the ticks of `tapeline quality` come from: what a source is, and what is common to files and topics.

`files` and `topic` each have one. A source is read once, by iterating over `chunks()`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Protocol

import numpy as np

from tapeline.schemas import TapelineError, Ticks

BATCH = 32_768
"""Ticks that are handed on together, at least: frames are small."""
NAMED_MAX = 10


class NotFoundError(TapelineError):
    """There is no such instrument, or nothing of it on that day; says what there is."""


class Shown(Protocol):
    """How far the reading of something is; `progress` shows it."""

    @property
    def instrument(self) -> str:
        """Its name, known at the latest after the first chunk; empty if there are several."""

    @property
    def words(self) -> str:
        """Where it is read, for people."""

    @property
    def total(self) -> int:
        """Of what `done` counts; 0: not known. It may change while it is read."""

    def done(self) -> int:
        """Return how much of `total` was read."""


class Source(Shown, Protocol):
    """Ticks of one instrument, in order of arrival."""

    @property
    def rejected(self) -> Mapping[str, int] | None:
        """Messages that could not be read so far, by reason; None: a topic has only ticks."""

    @property
    def damage(self) -> str | None:
        """Why reading ended before the end, if it did."""

    @property
    def repeated_frames(self) -> int:
        """Tick frames that came again."""

    @property
    def unread_records(self) -> int:
        """Records that are damaged."""

    def chunks(self) -> Iterator[Ticks]:
        """Yield its ticks, (n,) TICK each, n > 0, all with the same instrument_id."""

    def close(self) -> None:
        """Let go of files and connections."""


def batched(chunks: Iterable[Ticks], least: int = BATCH) -> Iterator[Ticks]:
    """Yield the same ticks in chunks of at least `least`, but for the last."""
    waiting: list[Ticks] = []
    count = 0
    for chunk in chunks:
        waiting.append(chunk)
        count += len(chunk)
        if count >= least:
            yield np.concatenate(waiting) if len(waiting) > 1 else chunk
            waiting, count = [], 0
    if count:
        yield np.concatenate(waiting)


def unknown(instrument: str, names: Iterable[str], where: str) -> NotFoundError:
    """Return the error for a name that is not there: which come close, or which there are."""
    known = sorted(names)
    text = f"{where} has no instrument {instrument!r}"
    if not known:
        return NotFoundError(f"{text}: it has none yet")
    by_small = {name.lower(): name for name in known}
    close = get_close_matches(instrument.lower(), by_small, n=5, cutoff=0.6)
    close += [small for small in by_small if small.partition(":")[2] == instrument.lower().rpartition(":")[2]]
    if close:
        return NotFoundError(f"{text}; did you mean {' or '.join(by_small[one] for one in dict.fromkeys(close))}?")
    return NotFoundError(f"{text}: it has {listed(known)}")


def listed(names: Sequence[str]) -> str:
    """Return some names, and how many more there are."""
    more = f" and {len(names) - NAMED_MAX:,} more" if len(names) > NAMED_MAX else ""
    return ", ".join(names[:NAMED_MAX]) + more
