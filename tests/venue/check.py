"""Compare what a client put into the log with what happened in the market: nothing wrong, nothing lost in silence."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from tapeline.connectors.venues import FeedMessage, Message, parse_frame
from tapeline.connectors.venues.framer import Framer
from tapeline.schemas import Flag, GapReason, Kind, RawFrame, Ticks
from tests.venue.market import Market, Truth

BY_ID = frozenset({"binance", "binance-usdm", "binance-coinm", "coinbase-exchange"})
"""Venues that number their trades: the number is the tick's sequence."""


@dataclass
class SlowBook:
    """An order book from BOOK and GAP ticks, in the plainest way; connectors/venues/book.py says the rules."""

    bids: dict[float, float] = field(default_factory=dict)
    asks: dict[float, float] = field(default_factory=dict)
    synchronised: bool = False
    number: int = 0
    pending: list[tuple[int, int, float, float]] = field(default_factory=list)
    snapshot: list[tuple[int, float, float]] | None = None

    def gap(self) -> None:
        self.synchronised, self.snapshot, self.pending, self.number = False, None, [], 0

    def level(self, number: int, side: int, price: float, size: float, flags: int) -> bool:
        """Take a BOOK tick; return whether the book is whole behind it."""
        if flags & Flag.SNAPSHOT:
            if self.snapshot is None:
                self.snapshot = []
            if side:
                self.snapshot.append((side, price, size))
            if flags & Flag.LAST:
                self._load(number)
            return self.synchronised and bool(flags & Flag.LAST)
        if not self.synchronised:
            self.pending.append((number, side, price, size))
            return False
        if number and number < self.number:
            return False
        self._set(side, price, size)
        self.number = number
        return bool(flags & Flag.LAST)

    def _load(self, number: int) -> None:
        self.bids, self.asks = {}, {}
        for side, price, size in self.snapshot or ():
            self._set(side, price, size)
        pending, self.pending, self.snapshot, self.synchronised = self.pending, [], None, True
        self.number = number
        for one, side, price, size in pending:
            if number and one > number:
                self._set(side, price, size)
                self.number = one

    def _set(self, side: int, price: float, size: float) -> None:
        levels = self.bids if side > 0 else self.asks
        if size == 0:
            levels.pop(price, None)
        else:
            levels[price] = size

    def truth(self) -> Truth:
        return tuple(sorted(self.bids.items(), reverse=True)), tuple(sorted(self.asks.items()))


@dataclass
class Report:
    """What was found. faults: what is wrong, in words; empty = all is well."""

    faults: list[str] = field(default_factory=list)
    gaps: dict[str, int] = field(default_factory=dict)
    trades: int = 0
    books: int = 0
    rejects: int = 0


def frames_of(source: str, items: Iterable[Message | FeedMessage], rng: Random) -> list[RawFrame]:
    """Put items into frames, cut anywhere."""
    framer = Framer(source, rng.choice((1, 7, 100, 1000)), epoch=1)
    frames: list[RawFrame] = []
    for item in items:
        frames += framer.say(item) if isinstance(item, FeedMessage) else framer.add(item)
        if rng.random() < 0.05:
            frames += framer.flush()
    return frames + framer.flush()


def check(market: Market, venue: str, logs: dict[str, list[Message | FeedMessage]], rng: Random) -> Report:
    """Compare logs, by source."""
    report = Report()
    for source, items in logs.items():
        check_ticks(market, venue, _parsed(frames_of(source, items, rng), report), report)
    return report


def _parsed(frames: list[RawFrame], report: Report) -> Iterator[tuple[Ticks, Sequence[str]]]:
    state: dict[str, int | str] = {}
    for frame in frames:
        parsed = parse_frame(RawFrame.decode(frame.encode()), state)
        report.rejects += len(parsed.rejects)
        yield parsed.ticks, parsed.names


def check_ticks(
    market: Market, venue: str, parts: Iterable[tuple[Ticks, Sequence[str] | Mapping[int, str]]], report: Report
) -> None:
    """Compare the ticks of one source. parts: ticks, and what their `instrument_id`s mean."""
    books: dict[str, SlowBook] = {}
    places: dict[str, int] = {}  # how far the book has come in its history
    traded: dict[str, int] = {}  # how many of the symbol's trades were seen or are behind a gap
    gap_since: dict[str, bool] = {}
    history = {symbol: list(truths.values()) for symbol, truths in market.history.items()}
    wanted_depth = False
    for ticks, names in parts:
        for tick in ticks:
            if tick["kind"] == Kind.TIME:
                continue
            symbol = names[int(tick["instrument_id"])].partition(":")[2]
            kind, flags = int(tick["kind"]), int(tick["flags"])
            if kind == Kind.GAP:
                reason = GapReason(int(tick["price"])).name
                report.gaps[reason] = report.gaps.get(reason, 0) + 1
                if tick["price2"] in (0, Kind.BOOK):
                    books.setdefault(symbol, SlowBook()).gap()
                if tick["price2"] in (0, Kind.TRADE):
                    gap_since[symbol] = True
            elif kind == Kind.BOOK:
                wanted_depth = True
                book = books.setdefault(symbol, SlowBook())
                if book.level(int(tick["sequence"]), int(tick["side"]), tick["price"], tick["size"], flags):
                    report.books += 1
                    try:
                        places[symbol] = history[symbol].index(book.truth(), places.get(symbol, 0))
                    except ValueError:
                        report.faults.append(f"{venue}:{symbol}: a book at {tick['sequence']} that never was")
                        book.gap()
            elif kind == Kind.TRADE and not flags & Flag.LATE:
                report.trades += 1
                _check_trade(market, venue, symbol, tick, traded, gap_since, report)
    for symbol in market.books if wanted_depth else ():
        ended = books.get(symbol)
        if ended is not None and not ended.synchronised:
            report.faults.append(f"{venue}:{symbol}: its book is not synchronised in the end")
        elif ended is not None and ended.truth() != history[symbol][-1]:
            report.faults.append(f"{venue}:{symbol}: its book is behind in the end")


def _check_trade(
    market: Market,
    venue: str,
    symbol: str,
    tick: Any,
    traded: dict[str, int],
    gap_since: dict[str, bool],
    report: Report,
) -> None:
    trades = market.trades[symbol]
    first = traded.get(symbol)
    start = first or 0
    for place in range(start, len(trades)):
        trade = trades[place]
        if venue in BY_ID and trade.id != tick["sequence"]:
            continue
        if (float(trade.price), float(trade.size)) == (tick["price"], tick["size"]):
            if first is not None and place > start and not gap_since.get(symbol):
                report.faults.append(f"{symbol}: {place - start} trades before {trade.id} are missing without a gap")
            traded[symbol] = place + 1
            gap_since[symbol] = False
            return
    report.faults.append(f"{symbol}: a trade at {tick['price']} that never was, or came twice")
