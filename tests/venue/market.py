"""The market behind the test venue: trades and order books that are known exactly, at every update number."""

import gzip
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from random import Random

import orjson

CAPTURES = Path(__file__).parents[3] / "shared" / "data" / "ws_raw" / "hftbacktest"
TICK = 0.01
LEVELS = 40

Side = dict[str, str]
"""Price -> size, as the venue writes them."""


@dataclass(frozen=True, slots=True)
class Change:
    """Levels of a book change together; size "0" takes one away. before: the update number before it."""

    symbol: str
    before: int
    number: int
    bids: list[tuple[str, str]]
    asks: list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Trade:
    """A trade; side: the aggressor's, 1 or -1."""

    symbol: str
    id: int
    price: str
    size: str
    side: int


Event = Change | Trade
Truth = tuple[tuple[tuple[float, float], ...], tuple[tuple[float, float], ...]]
"""Bids and asks of a book, best first."""


@dataclass(slots=True)
class Book:
    """The true book of one symbol."""

    number: int = 1000
    bids: Side = field(default_factory=dict)
    asks: Side = field(default_factory=dict)

    def apply(self, change: Change) -> None:
        for side, levels in ((self.bids, change.bids), (self.asks, change.asks)):
            for price, size in levels:
                if float(size) == 0:
                    side.pop(price, None)
                else:
                    side[price] = size
        self.number = change.number

    def best(self) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
        """Bids and asks, best first."""
        return sorted(self.bids.items(), key=lambda level: -float(level[0])), sorted(
            self.asks.items(), key=lambda level: float(level[0])
        )

    def truth(self) -> Truth:
        bids, asks = self.best()
        return tuple((float(p), float(s)) for p, s in bids), tuple((float(p), float(s)) for p, s in asks)


class Market:
    """Symbols with their books; what happens is noted, so that whoever listened can be compared."""

    def __init__(self, symbols: list[str]) -> None:
        self.books = {symbol: Book() for symbol in symbols}
        self.history: dict[str, dict[int, Truth]] = {symbol: {} for symbol in symbols}
        """symbol -> update number -> the book after it"""
        self.trades: dict[str, list[Trade]] = {symbol: [] for symbol in symbols}

    def take(self, event: Event) -> None:
        """Let an event happen."""
        if isinstance(event, Trade):
            self.trades[event.symbol].append(event)
        else:
            book = self.books[event.symbol]
            book.apply(event)
            self.history[event.symbol][book.number] = book.truth()


def invented(market: Market, rng: Random, levels: int = LEVELS) -> Iterator[Event]:
    """Yield what happens in a market that walks at random, without end. levels: a side, at most."""
    middles = {symbol: 10_000 + 1_000 * place for place, symbol in enumerate(market.books)}
    ids = dict.fromkeys(market.books, 5000)
    for symbol, middle in middles.items():  # the books as they are at first
        bids = [(_price(middle - 1 - depth), _size(rng)) for depth in range(levels)]
        asks = [(_price(middle + 1 + depth), _size(rng)) for depth in range(levels)]
        yield Change(symbol, 1000, 1000 + rng.randint(1, 3), bids, asks)
    while True:
        symbol = rng.choice(list(middles))
        if rng.random() < 0.4:
            ids[symbol] += 1
            price = _price(middles[symbol] + rng.choice((-1, 1)))
            yield Trade(symbol, ids[symbol], price, _size(rng), rng.choice((-1, 1)))
            continue
        middle = middles[symbol] = middles[symbol] + rng.choice((-1, 0, 0, 1))
        book = market.books[symbol]
        bids = [(price, "0") for price in book.bids if float(price) >= float(_price(middle))]
        asks = [(price, "0") for price in book.asks if float(price) <= float(_price(middle))]
        for side, changed in ((-1, bids), (1, asks)):
            places = rng.sample(range(1, levels), rng.randint(0, 4))
            changed += [(_price(middle + side * place), rng.choice(("0", _size(rng), _size(rng)))) for place in places]
            own = book.bids if side < 0 else book.asks
            beyond = sorted(own, key=lambda price: side * float(price))[levels - 5 :]
            changed += [(price, "0") for price in beyond]  # so few levels that a checksum sees them all
            if len(own) < 8:  # never empty
                changed += [(_price(middle + side * place), _size(rng)) for place in range(1, 4)]
        if bids or asks:
            yield Change(symbol, book.number, book.number + rng.randint(1, 5), bids, asks)


CAPTURED = {"binance": "spot_btcusdt_20240809.gz", "binance-usdm": "usdm_btcusdt_20240808.gz"}
"""Venue -> recorded market of BTCUSDT."""
FIRST_CHANGES = 50
"""So many depth updates make the book that the venue begins with."""


def captured(name: str, skipped: int, symbol: str = "BTCUSDT") -> Iterator[Event]:
    """Yield what happened in a recorded market (Binance): its depth updates and trades, after so many lines."""
    number = 1000
    first: list[Change] = []
    with gzip.open(CAPTURES / name, "rb") as lines:
        for line in islice(lines, skipped, None):
            message = orjson.loads(line.split(b" ", 1)[1])
            event = message.get("data", message)
            if event.get("e") == "depthUpdate":
                bids, asks = ([(p, s) for p, s in event[side]] for side in "ba")
                if not (bids or asks):
                    continue
                change = Change(symbol, number, number + 1, bids, asks)
                if len(first) < FIRST_CHANGES:
                    first.append(change)
                    if len(first) < FIRST_CHANGES:
                        continue
                    change = _together(first)
                yield change
                number += 1
            elif event.get("e") == "trade" and len(first) == FIRST_CHANGES:
                yield Trade(symbol, event["t"], event["p"], event["q"], -1 if event["m"] else 1)


def _together(changes: list[Change]) -> Change:
    """Return changes as one."""
    book = Book()
    for change in changes:
        book.apply(change)
    return Change(changes[0].symbol, 1000, 1001, list(book.bids.items()), list(book.asks.items()))


def _price(ticks: int) -> str:
    return f"{ticks * TICK:.2f}"


def _size(rng: Random) -> str:
    return f"{rng.randint(1, 10**6) / 10**5:.5f}"
