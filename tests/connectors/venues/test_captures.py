"""Cryptofeed's captures of seven venues: every tick is what the message says, and the counts are its answer key's.

Where a count is another, a rule says why, message by message (docs/captures.md has them in words).
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tapeline.connectors.venues import Message, Reject, parse_frame
from tapeline.connectors.venues.capture import open_capture
from tapeline.connectors.venues.contract import FeedMessage
from tapeline.connectors.venues.framer import Framer
from tapeline.schemas import FeedAnswer, Flag, Kind, RejectReason, Ticks
from tests.connectors.venues import slow

pytestmark = pytest.mark.slow

FRAME_MESSAGES = 100


@dataclass(frozen=True)
class Read:
    """A connection of a capture: its messages and answers of REST, all ticks, their names, all rejects."""

    source: str
    messages: list[Message]
    answers: dict[str, Any]
    ticks: Ticks
    names: list[str]
    rejects: list[Reject]

    def json(self) -> Iterator[Any]:
        return (json.loads(message.data) for message in self.messages)


def read(source: str, items: list[Message | FeedMessage]) -> Read:
    framer = Framer(source, FRAME_MESSAGES)
    frames = []
    for item in items:
        frames += framer.add(item) if isinstance(item, Message) else framer.say(item)
    state: dict[str, int | str] = {}
    parts, names, rejects = [], [], []
    for frame in frames + framer.end():
        parsed = parse_frame(frame, state)
        parts.append(parsed.ticks)
        names += [parsed.names[number].partition(":")[2] for number in parsed.ticks["instrument_id"]]
        rejects += [Reject(frame.first_message + one.index, one.reason, one.detail) for one in parsed.rejects]
    messages = [item for item in items if isinstance(item, Message)]
    said = [item.event for item in items if isinstance(item, FeedMessage)]
    answers = {one.symbol: json.loads(one.data) for one in said if isinstance(one, FeedAnswer)}
    return Read(source, messages, answers, np.concatenate(parts), names, rejects)


@pytest.fixture(scope="module")
def captures(data: Path) -> dict[str, list[Read]]:
    """Exchange -> its connections."""
    found = {}
    for path in sorted((data / "ws_raw/cryptofeed_v3").glob("*.jsonl.zst")):
        by_source: dict[str, list[Any]] = {}
        for source, item in open_capture(path).items():
            by_source.setdefault(source, []).append(item)
        found[path.name.removesuffix(".jsonl.zst")] = [read(source, items) for source, items in by_source.items()]
    return found


def counts(connections: list[Read]) -> Counter[str]:
    """Count what cryptofeed counts: trades that happen, quotes, events of books, and what is rejected."""
    found: Counter[str] = Counter()
    for one in connections:
        ticks = one.ticks
        found["trades"] += int(((ticks["kind"] == Kind.TRADE) & (ticks["flags"] & Flag.SNAPSHOT == 0)).sum())
        found["ticker"] += int((ticks["kind"] == Kind.QUOTE).sum())
        found["l2_book"] += int(((ticks["kind"] == Kind.BOOK) & (ticks["flags"] & Flag.LAST != 0)).sum())
        found["candles"] += len(one.rejects)
        found["funding"] += int((ticks["kind"] == Kind.FUNDING).sum())
        found["index"] += int((ticks["kind"] == Kind.MARK).sum())
    return +found


# Why a count is another: each rule returns how many more cryptofeed has.


def stale(connections: list[Read], is_stale: Callable[[Any, Any], bool]) -> int:
    """Updates that the snapshot by REST already has: cryptofeed leaves them out, here the book does."""
    return -sum(
        is_stale(update, one.answers[symbol])
        for one in connections
        for symbol, update in map(updates_of, one.json())
        if update is not None
    )


def updates_of(message: Any) -> tuple[str, Any]:
    content = message["data"]
    if message.get("event") == "data":
        return message["channel"].rpartition("_")[2], content
    return content.get("s", ""), content if content.get("e") == "depthUpdate" else None


def linear_tickers(connections: list[Read], *fields: str) -> int:
    """Messages of Bybit's linear tickers without these fields: cryptofeed says again what it knew."""
    (linear,) = (one for one in connections if one.source.startswith("bybit-linear"))
    tickers = [message for message in linear.json() if message.get("topic", "").startswith("tickers.")]
    return sum(not message["data"].keys() & set(fields) for message in tickers)


def spot_tickers(connections: list[Read]) -> int:
    """Messages of Bybit's spot tickers, which have neither bid nor ask: cryptofeed calls them tickers, too."""
    (spot,) = (one for one in connections if one.source.startswith("bybit/"))
    return sum(message.get("topic", "").startswith("tickers.") for message in spot.json())


def candles_of_a_message(connections: list[Read]) -> int:
    """Messages may list several candles; here the message is rejected."""
    more = 0
    for message in (message for one in connections for message in one.json()):
        if str(message.get("topic", "")).startswith("kline."):
            more += len(message["data"]) - 1
        elif message.get("channel") == "candles":
            more += sum(len(event["candles"]) for event in message["events"]) - 1
    return more


RULES: dict[tuple[str, str], Callable[[list[Read]], int]] = {
    ("BINANCE", "l2_book"): lambda all_: stale(all_, lambda update, book: update["u"] <= book["lastUpdateId"]),
    ("BINANCE_FUTURES", "l2_book"): lambda all_: stale(all_, lambda update, book: update["u"] < book["lastUpdateId"]),
    ("BITSTAMP", "l2_book"): lambda all_: stale(all_, lambda update, book: update["timestamp"] < book["timestamp"]),
    ("BYBIT", "candles"): candles_of_a_message,
    ("COINBASE", "candles"): candles_of_a_message,
    ("BYBIT", "ticker"): lambda all_: (
        linear_tickers(all_, "bid1Price", "bid1Size", "ask1Price", "ask1Size") + spot_tickers(all_)
    ),
    ("BYBIT", "index"): lambda all_: linear_tickers(all_, "markPrice", "indexPrice"),
    ("BYBIT", "funding"): lambda all_: linear_tickers(all_, "fundingRate", "nextFundingTime"),
    ("BYBIT", "open_interest"): linear_tickers,  # not read here
}
SIZES = {
    ("BINANCE", "l2_book"): -5,
    ("BINANCE_FUTURES", "l2_book"): -12,
    ("BITSTAMP", "l2_book"): -100,
    ("BYBIT", "candles"): 4,
    ("COINBASE", "candles"): 198,
    ("BYBIT", "ticker"): 120 + 81,
    ("BYBIT", "index"): 620,
    ("BYBIT", "funding"): 752,
    ("BYBIT", "open_interest"): 758,
}
"""What the rules come to: the numbers in docs/captures.md."""


def test_counts_are_those_of_the_answer_key_or_a_rule_says_why(data: Path, captures: dict[str, list[Read]]) -> None:
    expected = json.loads((data / "ws_raw/cryptofeed_v3/expected_counts.json").read_text())
    assert captures.keys() == expected.keys()
    more = {key: rule(captures[key[0]]) for key, rule in RULES.items()}
    assert more == SIZES
    found = {exchange: counts(connections) for exchange, connections in captures.items()}
    for (exchange, name), number in more.items():
        found[exchange][name] += number
    assert found == expected


@pytest.mark.parametrize(
    ("exchange", "rejected"),
    [
        ("BINANCE", {"kline": 2}),
        ("BINANCE_FUTURES", {"kline": 67}),
        ("BITSTAMP", {}),
        ("BYBIT", {"kline": 96}),
        ("COINBASE", {"candles": 6}),
        ("KRAKEN", {}),
        ("OKX", {}),
    ],
)
def test_nothing_is_rejected_but_candles(
    captures: dict[str, list[Read]], exchange: str, rejected: dict[str, int]
) -> None:
    found: Counter[str] = Counter()
    for reject in (reject for one in captures[exchange] for reject in one.rejects):
        assert reject.reason is RejectReason.UNKNOWN
        found[next(name for name in ("kline", "candles") if name in reject.detail)] += 1
    assert found == rejected


SLOW: dict[str, Callable[[], slow.Slow]] = {
    "BINANCE": lambda: slow.binance,
    "BINANCE_FUTURES": lambda: slow.binance,
    "BITSTAMP": lambda: slow.bitstamp,
    "BYBIT": slow.Bybit,
    "COINBASE": lambda: slow.coinbase,
    "KRAKEN": lambda: slow.kraken,
    "OKX": lambda: slow.okx,
}


@pytest.mark.parametrize("exchange", SLOW)
def test_every_tick_is_what_the_message_says(captures: dict[str, list[Read]], exchange: str) -> None:
    """All fields of all ticks; none is late, and no number is missing."""
    for one in captures[exchange]:
        rows = SLOW[exchange]()
        expected = []
        for message in one.messages:
            for symbol, kind, at, *rest in rows(message.data):
                event_ns = message.recv_ns if at is None else at
                expected.append((symbol, kind, event_ns, message.recv_ns, *rest))
        by_rest = np.zeros(len(one.ticks), np.bool_)
        if one.answers:  # their ticks are the only snapshots
            by_rest = one.ticks["flags"] & Flag.SNAPSHOT != 0
            assert by_rest.sum() == sum(len(book["bids"]) + len(book["asks"]) for book in one.answers.values())
        ticks, names = one.ticks[~by_rest], np.array(one.names)[~by_rest]
        fields = ("kind", "ts_event_ns", "ts_recv_ns", "sequence", "side", "flags", "price", "size", "price2", "size2")
        found = list(zip(names.tolist(), *(ticks[field].tolist() for field in fields), strict=True))
        assert len(found) == len(expected)
        for ours, theirs in zip(found, expected, strict=True):
            assert ours == theirs


@pytest.mark.parametrize("exchange", ["BINANCE", "BINANCE_FUTURES", "BITSTAMP"])
def test_pictures_by_rest_are_whole(captures: dict[str, list[Read]], exchange: str) -> None:
    (one,) = captures[exchange]
    names = np.array(one.names)
    for symbol, book in one.answers.items():
        ticks = one.ticks[(one.ticks["flags"] & Flag.SNAPSHOT != 0) & (names == symbol)]
        expected = [(1, *map(float, level)) for level in book["bids"]]
        expected += [(-1, *map(float, level)) for level in book["asks"]]
        assert [tuple(level) for level in ticks[["side", "price", "size"]].tolist()] == expected
        assert set(ticks["sequence"].tolist()) == {int(book.get("lastUpdateId", book.get("microtimestamp")))}
        assert (ticks["flags"] & Flag.LAST != 0).tolist() == [False] * (len(ticks) - 1) + [True]


@pytest.mark.parametrize(
    ("exchange", "has"),
    [("BINANCE", b'"depthUpdate"'), ("BINANCE_FUTURES", b'"aggTrade"'), ("BYBIT", b'"delta"'), ("COINBASE", b"")],
)
def test_a_message_taken_out_shows_as_a_gap(captures: dict[str, list[Read]], exchange: str, has: bytes) -> None:
    one = captures[exchange][0]
    own = [
        number for number, message in enumerate(one.messages) if has in message.data and b'"tickers' not in message.data
    ]
    lost = own[len(own) // 2]
    assert not (one.ticks["kind"] == Kind.GAP).any()
    items: list[Message | FeedMessage] = [*one.messages[:lost], *one.messages[lost + 1 :]]
    gaps = np.flatnonzero((ticks := read(one.source, items).ticks)["kind"] == Kind.GAP)
    assert len(gaps) == (2 if exchange == "COINBASE" else 1), "Coinbase: for both symbols"
    assert ticks["ts_recv_ns"][gaps[0]] > one.messages[lost].recv_ns
