"""What live sessions do: what they subscribe to, when they ask for a book, what they say is missing."""

from dataclasses import replace
from typing import Any

import orjson
import pytest

from tapeline.connectors.venues.live.chain import Chain
from tapeline.connectors.venues.live.contract import (
    Complain,
    Fetch,
    GarbageError,
    Plan,
    Reconnect,
    Say,
    Send,
    Session,
    StreamKind,
)
from tapeline.connectors.venues.live.dialects import DIALECTS
from tapeline.schemas import FeedAnswer, FeedGap, GapReason, Kind
from tests.venue.run import SYMBOLS

S = 1_000_000_000


def session(venue: str, *streams: str, symbols: tuple[str, ...] = ()) -> Session:
    dialect = DIALECTS[venue]
    wanted = frozenset(map(StreamKind, streams)) or dialect.streams
    plan = Plan("0", "ws://x", "http://x", symbols or tuple(SYMBOLS[venue]), wanted, "key", "secret")
    return dialect.session(plan)


def sent(actions: Any) -> list[Any]:
    """The messages among actions, read."""
    return [orjson.loads(action.text) for action in actions if isinstance(action, Send)]


@pytest.mark.parametrize("venue", DIALECTS)
def test_every_venue_refuses_garbage_and_nothing_else_raises(venue: str) -> None:
    one = session(venue)
    one.opened()
    for data in (b"", b"<html>", b"\xff\x00", b'{"a":', b"12", b'"text"', b"null"):
        with pytest.raises(GarbageError):
            one.received(data, S)


@pytest.mark.parametrize(
    ("venue", "expected"),
    [
        (
            "binance",
            {"method": "SUBSCRIBE", "params": ["btcusdt@depth@100ms", "btcusdt@bookTicker", "btcusdt@trade"], "id": 1},
        ),
        (
            "binance-usdm",
            {
                "method": "SUBSCRIBE",
                "params": ["btcusdt@depth@100ms", "btcusdt@bookTicker", "btcusdt@aggTrade"],
                "id": 1,
            },
        ),
        ("bybit", {"op": "subscribe", "args": ["orderbook.200.BTCUSDT", "orderbook.1.BTCUSDT", "publicTrade.BTCUSDT"]}),
        (
            "okx",
            {
                "op": "subscribe",
                "args": [
                    {"channel": "books", "instId": "BTCUSDT"},
                    {"channel": "bbo-tbt", "instId": "BTCUSDT"},
                    {"channel": "trades-all", "instId": "BTCUSDT"},
                ],
            },
        ),
        (
            "coinbase-exchange",
            {
                "type": "subscribe",
                "channels": ["heartbeat", "level2_batch", "ticker", "matches"],
                "product_ids": ["BTCUSDT"],
            },
        ),
    ],
)
def test_what_is_subscribed_to_in_one_message(venue: str, expected: Any) -> None:
    assert sent(session(venue, symbols=("BTCUSDT",)).opened()) == [expected]


def test_subscriptions_come_in_chunks() -> None:
    symbols = tuple(f"S{number}" for number in range(120))
    binance = sent(session("binance", "trade", "quote", symbols=symbols).opened())
    assert [len(one["params"]) for one in binance] == [100, 100, 40]
    assert [one["id"] for one in binance] == [1, 2, 3]
    assert [len(one["args"]) for one in sent(session("bybit", "trade", symbols=symbols[:25]).opened())] == [10, 10, 5]


def test_alpaca_says_who_it_is_and_subscribes_when_it_is_known() -> None:
    one = session("alpaca")
    assert sent(one.opened()) == [{"action": "auth", "key": "key", "secret": "secret"}]
    assert one.received(b'[{"T":"success","msg":"connected"}]', S) == []
    [subscription] = sent(one.received(b'[{"T":"success","msg":"authenticated"}]', S))
    assert subscription == {
        "action": "subscribe",
        "trades": ["SPY", "AAPL"],
        "quotes": ["SPY", "AAPL"],
        "statuses": ["SPY", "AAPL"],
    }
    refused = one.received(b'[{"T":"error","code":402,"msg":"auth failed"}]', S)
    assert [type(action) for action in refused] == [Complain, Reconnect]


def test_coinbase_gives_a_connection_up_when_a_number_is_missing() -> None:
    one = session("coinbase")
    assert one.received(b'{"channel":"ticker","sequence_num":0,"events":[]}', S) == ()
    assert one.received(b'{"channel":"ticker","sequence_num":1,"events":[]}', S) == ()
    [action] = one.received(b'{"channel":"ticker","sequence_num":4,"events":[]}', S)
    assert isinstance(action, Reconnect)
    assert action.reason is GapReason.SEQUENCE
    assert "2 messages" in action.detail


def test_bybit_renews_a_book_whose_numbers_jump() -> None:
    one = session("bybit")

    def book(kind: str, number: int) -> bytes:
        data = {"s": "BTCUSDT", "b": [], "a": [], "u": number, "seq": 1}
        return orjson.dumps({"topic": "orderbook.200.BTCUSDT", "type": kind, "ts": 1, "data": data})

    assert one.received(book("delta", 5), S) == ()  # no book yet
    for kind, number in (("snapshot", 10), ("delta", 11), ("delta", 11), ("delta", 12)):
        assert one.received(book(kind, number), S) == ()
    topic = ["orderbook.200.BTCUSDT"]
    assert sent(one.received(book("delta", 14), S)) == [
        {"op": "unsubscribe", "args": topic},
        {"op": "subscribe", "args": topic},
    ]
    assert one.received(book("delta", 15), S) == ()  # until the next snapshot
    assert one.received(book("snapshot", 1), S) == ()
    assert one.received(book("delta", 2), S) == ()


def test_kraken_says_and_renews_a_book_that_does_not_match() -> None:
    one = session("kraken", "depth", symbols=("BTC/USD",))
    text = (
        '{"channel":"book","type":"snapshot","data":[{"symbol":"BTC/USD","bids":[{"price":100.10,"qty":1.50000000}],'
        '"asks":[{"price":100.20,"qty":2.00000000}],"checksum":%d,"timestamp":"2026-11-27T00:00:00Z"}]}'
    )
    from binascii import crc32

    right = crc32(b"10020200000000" + b"10010150000000")
    assert one.received((text % right).encode(), S) == []
    said, *renewed = one.received((text % (right + 1)).encode(), S)
    assert isinstance(said, Say)
    assert said.event == FeedGap(reason=GapReason.CHECKSUM, symbols=("BTC/USD",), kind=Kind.BOOK)
    assert [one["method"] for one in sent(renewed)] == ["unsubscribe", "subscribe"]


@pytest.mark.parametrize(
    ("venue", "message", "words"),
    [
        ("binance", {"error": {"code": 2, "msg": "Invalid request"}, "id": 1}, "Invalid request"),
        ("kraken", {"method": "subscribe", "success": False, "error": "Currency pair not supported"}, "not supported"),
        ("okx", {"event": "error", "code": "60018", "msg": "doesn't exist"}, "60018"),
        ("bybit", {"success": False, "ret_msg": "error:handler not found", "op": "subscribe"}, "handler not found"),
        ("coinbase", {"type": "error", "message": "channel required"}, "channel required"),
        ("coinbase-exchange", {"type": "error", "message": "Failed", "reason": "no such product"}, "no such product"),
        ("bitstamp", {"event": "bts:error", "channel": "", "data": {"message": "bad"}}, "bad"),
    ],
)
def test_what_a_venue_refuses_is_told_in_its_words(venue: str, message: Any, words: str) -> None:
    [action] = session(venue).received(orjson.dumps(message), S)
    assert isinstance(action, Complain)
    assert words in action.text


class TestChain:
    """Books by REST snapshot."""

    URL = "http://x/depth?symbol={}"

    def chain(self) -> Chain:
        return Chain(("A",), self.URL)

    def test_the_first_update_asks_once(self) -> None:
        chain = self.chain()
        ask = Fetch("http://x/depth?symbol=A", "A")
        assert chain.updated("A", 10, 12) == [ask]
        assert chain.updated("A", 12, 15) == []
        assert chain.updated("unknown", 12, 15) == []

    def test_a_snapshot_that_holds_enough_is_said(self) -> None:
        chain = self.chain()
        [ask] = chain.updated("A", 10, 12)
        assert isinstance(ask, Fetch)
        answer = FeedAnswer(url=ask.url, symbol="A", data="{}")
        assert chain.answered(ask, 10, b"{}") == [Say(answer)]
        assert chain.updated("A", 12, 13) == []

    def test_one_that_is_too_old_is_asked_for_again_ever_more_slowly(self) -> None:
        chain = self.chain()
        [ask] = chain.updated("A", 10, 12)
        pauses = []
        for _ in range(7):
            assert isinstance(ask, Fetch)
            [ask] = chain.answered(ask, 9, b"{}")
            assert isinstance(ask, Fetch)
            pauses.append(ask.after_s)
        assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0]

    def test_numbers_that_jump_need_a_new_one(self) -> None:
        chain = self.chain()
        [ask] = chain.updated("A", 10, 12)
        assert isinstance(ask, Fetch)
        chain.answered(ask, 11, b"{}")
        assert chain.updated("A", 14, 16) == [Fetch(ask.url, "A")]
        [again] = chain.answered(ask, 13, b"{}")  # older than the update behind the hole
        assert isinstance(again, Fetch)
        [said] = chain.answered(ask, 14, b"{}")
        assert isinstance(said, Say)

    def test_repeated_updates_change_nothing(self) -> None:
        chain = self.chain()
        [ask] = chain.updated("A", 10, 12)
        assert isinstance(ask, Fetch)
        chain.answered(ask, 12, b"{}")
        assert chain.updated("A", 8, 10) == []
        assert chain.updated("A", 12, 13) == []

    def test_a_quiet_one_is_asked_for_and_a_hole_behind_its_snapshot_is_said(self) -> None:
        chain = self.chain()
        assert chain.timer(S) == []
        assert chain.timer(2 * S) == []
        [ask] = chain.timer(3 * S)
        assert isinstance(ask, Fetch)
        assert chain.timer(4 * S) == []
        chain.answered(ask, 20, b"{}")
        said, again = chain.updated("A", 22, 23)
        assert isinstance(said, Say)
        assert isinstance(said.event, FeedGap)
        assert (said.event.reason, said.event.kind) == (GapReason.SEQUENCE, Kind.BOOK)
        assert again == replace(ask, after_s=0.0)
