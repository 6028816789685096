"""One order book, as people and object logics read it. `book.Books` gives it; compiled logics call `book_reading`."""

from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from tapeline.connectors.venues import book_reading
from tapeline.connectors.venues.book_arrays import EVENT_NS, EVENTS, NUMBER, REASON, UPDATED_NS, BookArrays
from tapeline.connectors.venues.book_reading import NEVER_NS, BookState
from tapeline.schemas import GapReason

Floats = npt.NDArray[np.float64]
BID, ASK = 1, -1
ALL = 2**31


class Level(NamedTuple):
    """A price and the size there."""

    price: float
    size: float


class Owner(Protocol):
    """Who has the arrays, which may be others after each tick."""

    arrays: BookArrays
    time_ns: int


class Book:
    """A view of the book of one instrument. Prices and sizes are those of the ticks; an empty book has no levels."""

    __slots__ = ("_owner", "_slot")

    def __init__(self, owner: Owner, slot: int) -> None:
        self._owner = owner
        self._slot = slot

    def state(self, stale_ns: int = NEVER_NS, now_ns: int | None = None) -> BookState:
        """Return what is wrong with the book, if anything.

        stale_ns: without an update for longer it is stale; now_ns: the time, if not that of the latest frame.
        """
        now_ns = self._owner.time_ns if now_ns is None else now_ns
        return BookState(book_reading.reader("state")(self._owner.arrays, self._slot, now_ns, stale_ns))

    @property
    def reason(self) -> GapReason | None:
        """Why it is not synchronised; None if it is, or never was."""
        reason = self._head(REASON)
        return GapReason(reason) if reason else None

    @property
    def best_bid(self) -> Level | None:
        """The highest bid."""
        return self._best(BID)

    @property
    def best_ask(self) -> Level | None:
        """The lowest ask."""
        return self._best(ASK)

    @property
    def mid(self) -> float:
        """The middle between the best bid and ask; nan if one is missing."""
        (bid, _), (ask, _) = self._raw(BID), self._raw(ASK)
        return bid / 2 + ask / 2

    @property
    def spread(self) -> float:
        """Best ask minus best bid, below 0 in a crossed book; nan if one is missing."""
        (bid, _), (ask, _) = self._raw(BID), self._raw(ASK)
        return ask - bid

    def bids(self, count: int = ALL) -> tuple[Floats, Floats]:
        """Return prices and sizes of the best `count` bids, best first: (n,) each."""
        return self._top(BID, count)

    def asks(self, count: int = ALL) -> tuple[Floats, Floats]:
        """Return prices and sizes of the best `count` asks, best first: (n,) each."""
        return self._top(ASK, count)

    def size_at(self, side: int, price: float) -> float:
        """Return the size at a price of a side (1: bids, -1: asks), 0.0 if there is no level."""
        return float(book_reading.reader("size_at")(self._owner.arrays, self._slot, side, price))

    def depth_to(self, side: int, price: float) -> float:
        """Return the size of all levels of a side at a price or better: what a limit order at it could take."""
        return float(book_reading.reader("depth_to")(self._owner.arrays, self._slot, side, price))

    @property
    def number(self) -> int:
        """The venue's number of the last event, 0 if it gives none."""
        return self._head(NUMBER)

    @property
    def events(self) -> int:
        """How many events changed the book so far: compare it to see whether it changed."""
        return self._head(EVENTS)

    @property
    def event_ns(self) -> int:
        """The event time of the last change, ns."""
        return self._head(EVENT_NS)

    @property
    def updated_ns(self) -> int:
        """The latest receive time of a change, ns."""
        return self._head(UPDATED_NS)

    def _head(self, field: int) -> int:
        return int(self._owner.arrays.heads[self._slot, field])

    def _raw(self, side: int) -> tuple[float, float]:
        # In plain Python: that takes less than to call compiled code with so many arrays.
        price, size = book_reading.best.py_func(self._owner.arrays, self._slot, side)
        return float(price), float(size)

    def _best(self, side: int) -> Level | None:
        level = Level(*self._raw(side))
        return level if level.size else None

    def _top(self, side: int, count: int) -> tuple[Floats, Floats]:
        arrays = self._owner.arrays
        count = min(count, int(book_reading.count_levels.py_func(arrays, self._slot, side)))
        prices, sizes = np.empty(count), np.empty(count)
        book_reading.reader("top")(arrays, self._slot, side, prices, sizes)
        return prices, sizes
