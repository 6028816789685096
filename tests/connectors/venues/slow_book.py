"""An order book from BOOK and GAP ticks, in the plainest way: what the fast one is compared with.

connectors/venues/book_kernel.py says the rules; here they are written a second time, with dicts and lists.
"""

from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from tapeline.connectors.venues.book import Book
from tapeline.connectors.venues.book_kernel import WAITING_MAX
from tapeline.schemas import Flag, GapReason, Kind
from tests.venue.market import Truth


@dataclass
class Event:
    """Levels (side, price, size) that came with one number; kept: as the last of them says."""

    number: int
    snapshot: bool
    levels: list[tuple[int, float, float]] = field(default_factory=list)
    kept: int = 0
    broken: bool = False


class SlowBook:
    """One book. waiting_max: levels that wait for a snapshot, at most."""

    def __init__(self, waiting_max: int = WAITING_MAX) -> None:
        self.sides: dict[int, dict[float, float]] = {1: {}, -1: {}}
        self.synchronised = False
        self.reason = 0
        self.number = 0
        self.events = 0
        self.updated_ns = 0
        self._waiting_max = waiting_max
        self._waiting: list[Event] = []
        self._lost = 0
        self._open: Event | None = None

    def take(self, tick: Any) -> bool:
        """Take a tick of the instrument; return whether the book is whole and synchronised right behind a change."""
        if tick["kind"] == Kind.GAP and tick["price2"] in (0, Kind.BOOK):
            self.lose(int(tick["price"]))
        if tick["kind"] != Kind.BOOK or tick["flags"] & Flag.LATE:
            return False
        number, snapshot = int(tick["sequence"]), bool(tick["flags"] & Flag.SNAPSHOT)
        if self._open is not None and (self._open.number, self._open.snapshot) != (number, snapshot):
            self._break(self._open)
        if self._open is None:
            self._open = Event(number, snapshot)
        event, side, price, size = self._open, int(tick["side"]), float(tick["price"]), float(tick["size"])
        if side == 0 and snapshot:
            pass
        elif side in (1, -1) and isfinite(price) and isfinite(size) and size >= 0:
            event.levels.append((side, price, size))
            event.kept = int(tick["size2"])
        else:
            event.broken = True
        if not tick["flags"] & Flag.LAST:
            return False
        before = self.events
        if event.broken:
            self._break(event)
        elif snapshot:
            self._load(event)
        elif self.synchronised:
            if not number or number >= self.number:
                self._apply(event)
                self.events += 1
        elif number:
            self._wait(event)
        self._open = None
        if self.events == before:
            return False
        self.updated_ns = max(self.updated_ns, int(tick["ts_recv_ns"]))
        return True

    def lose(self, reason: int) -> None:
        """Know nothing any more."""
        self.sides = {1: {}, -1: {}}
        self.synchronised, self.reason, self.number = False, reason, 0
        self._waiting, self._lost, self._open = [], 0, None

    def _break(self, event: Event) -> None:
        lost = self._lost
        if self.synchronised:
            self.lose(GapReason.GARBAGE)
        self._open = None
        if not event.snapshot:
            self._lost = max(lost, event.number)

    def _wait(self, event: Event) -> None:
        self._waiting.append(event)
        if sum(len(one.levels) for one in self._waiting) > self._waiting_max:
            self._waiting, self._lost = [], max(self._lost, event.number)

    def _load(self, event: Event) -> None:
        if event.number and (event.number < self._lost or (self.synchronised and event.number < self.number)):
            return
        waiting = [one for one in self._waiting if one.number > event.number > 0]
        self.lose(0)
        for one in (event, *waiting):
            self._apply(one)
        self.synchronised = True
        self.events += 1

    def _apply(self, event: Event) -> None:
        for side, price, size in event.levels:
            if size:
                self.sides[side][price] = size
            else:
                self.sides[side].pop(price, None)
        self.number = event.number
        for side, levels in self.sides.items() if event.kept else ():
            for price in sorted(levels, key=lambda price, side=side: -side * price)[event.kept :]:  # type: ignore[misc]
                del levels[price]

    def truth(self) -> Truth:
        """Return all levels."""
        bids, asks = self.sides[1], self.sides[-1]
        return tuple(sorted(bids.items(), reverse=True)), tuple(sorted(asks.items()))


def truth_of(book: Book) -> Truth:
    """Return all levels of a fast book."""
    bids, asks = (tuple(zip(*(part.tolist() for part in side), strict=True)) for side in (book.bids(), book.asks()))
    return bids, asks


def assert_same(fast: Book, slow: SlowBook) -> None:
    """Compare everything that can be seen."""
    assert truth_of(fast) == slow.truth()
    assert bool(fast.state() & 1) != slow.synchronised
    assert (fast.number, fast.events, fast.updated_ns) == (slow.number, slow.events, slow.updated_ns)
    assert (fast.reason or 0) == slow.reason
