"""Order books (L2) of many instruments from BOOK ticks, for logics, replay, backtests and people.

    books = Books()
    for frame in frames:                        # in the order of the topic, each once (`FrameReader`)
        books.take(frame)
        book = books[instrument_id]
        if not book.state(stale_ns=5_000_000_000):
            print(book.mid, book.bids(10))

What the ticks do is said in `book_kernel`, what may be wrong with a book by `BookState`. docs/order-book.md shows more.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import cache

import numpy as np

from tapeline.connectors.venues import book_kernel, book_saving
from tapeline.connectors.venues.book_arrays import (
    FREE_BLOCKS,
    FREE_CHUNKS,
    NEED_BLOCKS,
    NEED_CHAIN,
    NEED_CHUNKS,
    BookArrays,
    arrays_type,
    grown,
    make_arrays,
)
from tapeline.connectors.venues.book_reading import BookState
from tapeline.connectors.venues.book_saving import BookError
from tapeline.connectors.venues.book_view import Book, Level
from tapeline.connectors.venues.compiled import INT64, array, compiled
from tapeline.connectors.venues.slots import NOT_SELECTED, SlotTable
from tapeline.schemas import TICK, Flag, Kind, Lane, TickFrame, Ticks, empty_ticks

__all__ = ["Book", "BookError", "BookState", "Books", "Level", "empty_snapshot", "warm_up"]


@cache
def _apply() -> Callable[..., tuple[int, int]]:
    return compiled(
        book_kernel.apply,
        array(TICK),
        INT64,
        array(np.uint32, written=True),
        array(np.int64, written=True),
        INT64,
        arrays_type(),
        counted=False,
    )


def warm_up() -> None:
    """Compile now instead of at the first tick: seconds on a machine that never did, some ms else."""
    books = Books()
    books.add(empty_snapshot(1))
    book = books[1]
    book.state(), book.bids(), book.size_at(1, 1.0), book.depth_to(1, 1.0)
    Books.restored(books.snapshot())


def empty_snapshot(instrument_id: int) -> Ticks:
    """Return the tick of a snapshot without levels, shape (1,): for recordings that begin without any.

    Such a book is synchronised, but it only knows what changed since.
    """
    tick = empty_ticks(1)
    tick["instrument_id"], tick["kind"], tick["flags"] = instrument_id, Kind.BOOK, Flag.SNAPSHOT | Flag.LAST
    return tick


class Books:
    """The books of all instruments that come, or of those given. Pure: the same ticks give the same, however cut.

    instruments: ids; None = every one with a BOOK or GAP tick.
    """

    def __init__(self, instruments: Iterable[int] | None = None) -> None:
        self.arrays: BookArrays = make_arrays()
        """Where compiled code finds the books (`book_reading`); new ones after `take` or `add` if they had to grow."""
        self.time_ns = 0
        """The clock: the latest time of a frame, or receive time of a tick, ns."""
        self._selected = None if instruments is None else frozenset(instruments)
        self._table = SlotTable()
        self._slot_of_0 = book_kernel.NOT_MET
        self._slots: dict[int, int] = {}
        self._parts: dict[Lane, tuple[int, int]] = {}  # (origin offset, part) of records whose parts go on
        self._apply = _apply()

    def take(self, frame: TickFrame) -> None:
        """Apply a frame; frames come in the order of their topic, each once.

        Where reading begins behind the first part of a record, the event that was cut there is passed over.
        """
        ticks = frame.ticks
        before = self._parts.pop(frame.lane, None)
        if frame.part and before != (frame.origin_offset, frame.part - 1):
            ticks = self._without_rest(ticks)
        if frame.flags & frame.flags.MORE:
            self._parts[frame.lane] = frame.origin_offset, frame.part
        self.time_ns = max(self.time_ns, frame.time_ns)
        self.add(ticks)

    def add(self, ticks: Ticks) -> None:
        """Apply ticks. ticks: (n,) TICK, in order of arrival."""
        if not len(ticks):
            return
        self.time_ns = max(self.time_ns, int(ticks["ts_recv_ns"].max()))
        if not ticks.flags.c_contiguous:
            ticks = ticks.copy()
        done, why = 0, book_kernel.UNKNOWN
        while why != book_kernel.DONE:
            table = self._table
            done, why = self._apply(ticks, done, table.ids, table.slots, self._slot_of_0, self.arrays)
            if why == book_kernel.UNKNOWN:
                self._meet(int(ticks["instrument_id"][done]))
            elif why == book_kernel.FULL:
                self._make_room()

    def follow(self, ticks: Ticks) -> Iterator[int]:
        """Apply ticks; yield the id of the instrument behind each event of a book and each gap, before the next one.

        ticks: (n,) TICK, in order of arrival.
        """
        kinds, start = ticks["kind"], 0
        ends = ((kinds == Kind.BOOK) & (ticks["flags"] & Flag.LAST != 0)) | (kinds == Kind.GAP)
        for end in np.flatnonzero(ends).tolist():
            self.add(ticks[start : end + 1])
            start = end + 1
            yield int(ticks["instrument_id"][end])
        self.add(ticks[start:])

    def __getitem__(self, instrument_id: int) -> Book:
        """Return the book of an instrument, which stays up to date; KeyError if no BOOK or GAP tick of it came."""
        return Book(self, self._slots[instrument_id])

    def __contains__(self, instrument_id: object) -> bool:
        return instrument_id in self._slots

    def __iter__(self) -> Iterator[int]:
        """Yield the ids of the instruments, in order of their first ticks."""
        return iter(self._slots)

    def __len__(self) -> int:
        return len(self._slots)

    def slot(self, instrument_id: int) -> int:
        """Return where compiled code finds the book of an instrument; KeyError as above."""
        return self._slots[instrument_id]

    def snapshot(self) -> bytes:
        """Return everything that later ticks and reads depend on: equal states give equal bytes."""
        return book_saving.dump(self.arrays, self._slots, self._parts, self.time_ns)

    @classmethod
    def restored(cls, data: bytes, instruments: Iterable[int] | None = None) -> "Books":
        """Return the books that `snapshot` gave the bytes of; raises BookError if it did not."""
        saved = book_saving.load(data)
        books = cls(instruments)
        books.time_ns, books._parts = saved.time_ns, saved.parts
        for instrument_id in saved.books["instrument_id"].tolist():
            books._meet(instrument_id)
        for number, instrument_id in enumerate(saved.books["instrument_id"].tolist()):
            slot = books._slots.get(instrument_id)
            while slot is not None and not saved.fill(books.arrays, number, slot):
                books._make_room()
        return books

    def _without_rest(self, ticks: Ticks) -> Ticks:
        """Return the ticks behind the event that they begin in, if they do; its book is not known any more."""
        if not len(ticks) or ticks["kind"][0] != Kind.BOOK:
            return ticks
        gap = empty_ticks(1)
        gap["instrument_id"], gap["kind"], gap["price2"] = ticks["instrument_id"][0], Kind.GAP, Kind.BOOK
        self.add(gap)
        ends = np.flatnonzero(ticks["flags"] & Flag.LAST)
        return ticks[ends[0] + 1 :] if len(ends) else ticks[:0]

    def _meet(self, instrument_id: int) -> None:
        """Give an instrument a slot, if it is wanted."""
        slot = NOT_SELECTED
        if self._selected is None or instrument_id in self._selected:
            slot = self._slots[instrument_id] = len(self._slots)
            if slot == len(self.arrays.heads):
                self.arrays = grown(self.arrays, slot, 0, 0, 0)
        if instrument_id:
            self._table.add([instrument_id], [slot])
        else:
            self._slot_of_0 = slot

    def _make_room(self) -> None:
        """Grow what is lacking, by a half at least."""
        old = self.arrays
        counters = old.counters
        lacking = (
            int(counters[NEED_CHAIN]) - old.chain.shape[1],
            int(counters[NEED_BLOCKS] - counters[FREE_BLOCKS]),
            int(counters[NEED_CHUNKS] - counters[FREE_CHUNKS]),
        )
        have = old.chain.shape[1], len(old.counts), len(old.following)
        more = (max(lack, had // 2) if lack > 0 else 0 for lack, had in zip(lacking, have, strict=True))
        self.arrays = grown(old, 0, *more)
