"""Books whose snapshot the venue's REST gives: when to ask, and which answer may be used. Pure; sessions call it.

The procedure of Binance ("How to manage a local order book correctly", 2024) and Bitstamp: updates flow first, then
the snapshot is asked for, and it must not be older than the first of them. Consumers put the updates on top of it
(connectors/venues/book.py), so that nothing waits here.
"""

from dataclasses import dataclass

from tapeline.connectors.venues.live.contract import Action, Fetch, Say
from tapeline.schemas import FeedAnswer, FeedGap, GapReason, Kind

QUIET_NS = 2_000_000_000
"""An instrument without updates for so long gets its snapshot all the same."""
AGAIN_S = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Pauses before asking again, when the snapshot was too old."""
REFUSED_S = (1.0, 5.0, 30.0, 60.0)
"""Likewise, when the venue would not give it."""


@dataclass(slots=True)
class _Book:
    first_before: int | None = None  # the number before the first update since the break
    last: int | None = None  # the number of the last update
    snapshot: int | None = None  # the number of the snapshot that is in use
    asked: bool = False
    tries: int = 0
    refusals: int = 0


class Chain:
    """The books of one connection. url: of the snapshot, `{}` stands for the symbol."""

    def __init__(self, symbols: tuple[str, ...], url: str) -> None:
        self._books = {symbol: _Book() for symbol in symbols}
        self._url = url
        self._opened_ns = 0

    def last(self, symbol: str, otherwise: int) -> int:
        """Return the number of the last update of a symbol, or `otherwise` if there was none."""
        book = self._books.get(symbol)
        return otherwise if book is None or book.last is None else book.last

    def updated(self, symbol: str, before: int, last: int) -> list[Action]:
        """Take an update, whose changes are those after number `before` up to `last`; return what follows."""
        book = self._books.get(symbol)
        if book is None or (book.last is not None and last <= book.last):
            return []
        hole = book.last is not None and before > book.last
        actions: list[Action] = []
        if book.last is None and book.snapshot is not None and before > book.snapshot:
            # `parse` does not see this one: no update came before.
            detail = f"the first update begins after {before}, the snapshot ends at {book.snapshot}"
            event = FeedGap(reason=GapReason.SEQUENCE, symbols=(symbol,), kind=Kind.BOOK, detail=detail)
            actions.append(Say(event))
            hole = True
        if hole:
            book.snapshot, book.first_before, book.tries = None, None, 0
        if book.first_before is None:
            book.first_before = before
        book.last = last
        return actions + self._ask(symbol, book)

    def answered(self, fetch: Fetch, number: int, body: bytes) -> list[Action]:
        """Take the snapshot of a symbol, which holds everything up to `number`; return what follows."""
        book = self._books[fetch.symbol]
        book.asked = False
        if book.first_before is not None and number < book.first_before:
            return self._ask(fetch.symbol, book)
        book.snapshot, book.tries, book.refusals = number, 0, 0
        return [Say(FeedAnswer(url=fetch.url, symbol=fetch.symbol, data=body.decode()))]

    def refused(self, fetch: Fetch) -> list[Action]:
        """Ask again, later each time: what a venue refuses now it may give when its mood or its list has changed."""
        book = self._books[fetch.symbol]
        pause_s = REFUSED_S[min(book.refusals, len(REFUSED_S) - 1)]
        book.refusals += 1
        return [Fetch(fetch.url, fetch.symbol, pause_s)]

    def timer(self, now_ns: int) -> list[Action]:
        """Ask for the snapshots of quiet instruments."""
        self._opened_ns = self._opened_ns or now_ns
        if now_ns - self._opened_ns < QUIET_NS:
            return []
        return [action for symbol, book in self._books.items() for action in self._ask(symbol, book)]

    def _ask(self, symbol: str, book: _Book) -> list[Action]:
        if book.asked or book.snapshot is not None:
            return []
        pause_s = AGAIN_S[min(book.tries, len(AGAIN_S)) - 1] if book.tries else 0.0
        book.asked = True
        book.tries += 1
        return [Fetch(self._url.format(symbol), symbol, pause_s)]
