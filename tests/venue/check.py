"""Compare what a client put into the log with what happened in the market: nothing wrong, nothing lost in silence."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np

from tapeline.connectors.venues import FeedMessage, Message, parse_frame
from tapeline.connectors.venues.book import Book, Books, BookState
from tapeline.connectors.venues.framer import Framer
from tapeline.schemas import Flag, GapReason, Kind, RawFrame, Ticks
from tests.connectors.venues.slow_book import SlowBook, truth_of
from tests.venue.market import Market, Truth

BY_ID = frozenset({"binance", "binance-usdm", "binance-coinm", "coinbase-exchange"})
"""Venues that number their trades: the number is the tick's sequence."""


class Both:
    """The book of a symbol from its ticks, the fast and the slow one. place: how far it has come in its history."""

    def __init__(self) -> None:
        self._books = Books()
        self._waiting: list[Ticks] = []
        self.slow = SlowBook()
        self.place = 0

    @property
    def fast(self) -> Book:
        return self._books[1]

    def take(self, ticks: Ticks) -> bool:
        """Take one tick, shape (1,); return whether the book is whole behind a change."""
        self._waiting.append(ticks)
        if ticks["kind"][0] == Kind.GAP or ticks["flags"][0] & Flag.LAST:
            self.bring_up()
        return self.slow.take(ticks[0])

    def bring_up(self) -> None:
        """Give the fast book what waits for the end of its event."""
        if self._waiting:
            ticks = np.concatenate(self._waiting)
            ticks["instrument_id"] = 1
            self._books.add(ticks)
            self._waiting.clear()


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


def settled(market: Market, logs: dict[str, list[Message | FeedMessage]]) -> bool:
    """Return whether every book there is equals the market's: quick, to know when to `check`."""
    ids = {symbol: number for number, symbol in enumerate(market.books, start=1)}
    for source, items in logs.items():
        books, depth = Books(), False
        for ticks, names in _parsed(frames_of(source, items, Random(0)), Report()):
            told = ticks[ticks["kind"] != Kind.TIME]
            if len(told):
                of_names = np.array([ids[name.partition(":")[2]] for name in names], np.uint32)
                told["instrument_id"] = of_names[told["instrument_id"]]
                depth = depth or bool((told["kind"] == Kind.BOOK).any())
                books.add(told)
        for symbol, number in ids.items() if depth else ():
            if number not in books:
                continue
            book, truth = books[number], market.books[symbol].truth()
            if book.state() & BookState.UNSYNCHRONISED or truth_of(book) != truth:
                return False
    return True


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
    books: defaultdict[str, Both] = defaultdict(Both)
    traded: dict[str, int] = {}  # how many of the symbol's trades were seen or are behind a gap
    gap_since: dict[str, bool] = {}
    history = {symbol: list(truths.values()) for symbol, truths in market.history.items()}
    wanted_depth = False
    for ticks, names in parts:
        for number, tick in enumerate(ticks):
            if tick["kind"] == Kind.TIME:
                continue
            symbol = names[int(tick["instrument_id"])].partition(":")[2]
            kind, flags = int(tick["kind"]), int(tick["flags"])
            if kind == Kind.GAP:
                reason = GapReason(int(tick["price"])).name
                report.gaps[reason] = report.gaps.get(reason, 0) + 1
                books[symbol].take(ticks[number : number + 1])
                if tick["price2"] in (0, Kind.TRADE):
                    gap_since[symbol] = True
            elif kind == Kind.BOOK:
                wanted_depth = True
                book = books[symbol]
                if book.take(ticks[number : number + 1]):
                    report.books += 1
                    _check_book(f"{venue}:{symbol}", book, history[symbol], report)
            elif kind == Kind.TRADE and not flags & Flag.LATE:
                report.trades += 1
                _check_trade(market, venue, symbol, tick, traded, gap_since, report)
    for symbol in market.books if wanted_depth else ():
        ended = books.get(symbol)
        if ended is not None:
            ended.bring_up()
        if ended is not None and ended.fast.state() & BookState.UNSYNCHRONISED:
            report.faults.append(f"{venue}:{symbol}: its book is not synchronised in the end")
        elif ended is not None and truth_of(ended.fast) != history[symbol][-1]:
            report.faults.append(f"{venue}:{symbol}: its book is behind in the end")


def _check_book(name: str, book: Both, history: list[Truth], report: Report) -> None:
    """Compare a book behind an event: with the slow one, and with what it was in the market from its last place on."""
    seen = truth_of(book.fast)
    if seen != book.slow.truth() or bool(book.fast.state() & BookState.UNSYNCHRONISED) == book.slow.synchronised:
        report.faults.append(f"{name}: the fast book at {book.fast.number} is not the slow one")
    try:
        book.place = history.index(seen, book.place)
    except ValueError:
        report.faults.append(f"{name}: a book at {book.fast.number} that never was")


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
