"""Kraken's parser, message by message, both protocols; format from its documents and from recordings."""

from typing import Any

import pytest

from tapeline.connectors.venues import Sequences
from tapeline.schemas import Flag, Kind
from tests.connectors.venues.made import (
    BAD_ISO_TIMES,
    BAD_NUMBERS,
    BAD_TEXT_NUMBERS,
    GONE,
    RECV_NS,
    Edit,
    Rows,
    assert_control,
    assert_good,
    assert_malformed,
    assert_unknown,
    parse,
)

T1, T2 = 1_618_678_142_557_535_000, 1_618_678_145_920_708_000
ISO, ISO_NS = "2023-09-25T07:49:36.925603Z", 1_695_628_176_925_603_000

TRADE = [0, [["5541.20", "0.15850568", "1618678142.557535", "s", "l", ""]], "trade", "XBT/USD"]
TRADES = [0, [*TRADE[1], ["5541.3", "2", "1618678145.920708", "b", "m", ""]], "trade", "XBT/USD"]  # type: ignore[misc]
TICKER = [1, {"a": ["13.2539", 35, "35.7"], "b": ["13.2329", 185, "185.5"], "c": ["13", "3"]}, "ticker", "WAVES/EUR"]
SPREAD = [0, ["5698.4", "5700.0", "1618678142.557535", "1.01", "0.98"], "spread", "XBT/USD"]
PICTURE = [
    1360,
    {"as": [["9.5", "3", "1618678142.557535"]], "bs": [["9", "1", "1618678145.920708"], ["8", "2", "1618678140.1"]]},
    "book-1000",
    "XBT/USD",
]
UPDATE = [9, {"a": [["9.5", "0.0", "1618678142.557535", "r"]], "c": "974942666"}, "book-10", "XBT/USD"]
BOTH = [
    9,
    {"a": [["9.5", "4", "1618678145.920708"]]},
    {"b": [["9", "0", "1618678142.557535"]], "c": "1"},
    "book-10",
    "XBT/USD",
]
TRADE_V2 = {
    "channel": "trade",
    "type": "update",
    "data": [
        {"symbol": "BTC/USD", "side": "sell", "price": 0.5147, "qty": 6423.46326, "trade_id": 4665846, "timestamp": ISO}
    ],
}
TICKER_V2 = {
    "channel": "ticker",
    "type": "snapshot",
    "data": [{"symbol": "ALGO/USD", "bid": 0.10025, "bid_qty": 740.0, "ask": 0.10036, "ask_qty": 1361, "last": 0.1}],
}
BOOK_V2 = {
    "channel": "book",
    "type": "update",
    "data": [
        {
            "symbol": "BTC/USD",
            "bids": [{"price": 9, "qty": 1.5}],
            "asks": [{"price": 9.5, "qty": 0.0}],
            "checksum": 1,
            "timestamp": ISO,
        }
    ],
}
ANSWER = {
    "method": "subscribe",
    "success": True,
    "result": {"channel": "book", "depth": 25, "snapshot": True, "symbol": "BTC/USD"},
}

GOOD: list[tuple[Any, Rows, str]] = [
    (TRADE, [(Kind.TRADE, T1, 0, -1, 0, 5541.2, 0.15850568, 0, 0)], "XBT/USD"),
    (
        TRADES,
        [(Kind.TRADE, T1, 0, -1, 0, 5541.2, 0.15850568, 0, 0), (Kind.TRADE, T2, 0, 1, 0, 5541.3, 2, 0, 0)],
        "XBT/USD",
    ),
    (TICKER, [(Kind.QUOTE, RECV_NS, 0, 0, 0, 13.2329, 185.5, 13.2539, 35.7)], "WAVES/EUR"),
    (SPREAD, [(Kind.QUOTE, T1, 0, 0, 0, 5698.4, 1.01, 5700, 0.98)], "XBT/USD"),
    (
        PICTURE,
        [
            (Kind.BOOK, T2, 0, 1, Flag.SNAPSHOT, 9, 1, 0, 1000),
            (Kind.BOOK, T2, 0, 1, Flag.SNAPSHOT, 8, 2, 0, 1000),
            (Kind.BOOK, T2, 0, -1, Flag.SNAPSHOT | Flag.LAST, 9.5, 3, 0, 1000),
        ],
        "XBT/USD",
    ),
    (UPDATE, [(Kind.BOOK, T1, 0, -1, Flag.LAST, 9.5, 0, 0, 10)], "XBT/USD"),
    (BOTH, [(Kind.BOOK, T2, 0, 1, 0, 9, 0, 0, 10), (Kind.BOOK, T2, 0, -1, Flag.LAST, 9.5, 4, 0, 10)], "XBT/USD"),
    (
        [9, {"as": [], "bs": []}, "book-10", "XBT/USD"],
        [(Kind.BOOK, RECV_NS, 0, 0, Flag.SNAPSHOT | Flag.LAST, 0, 0, 0, 10)],
        "XBT/USD",
    ),
    (TRADE_V2, [(Kind.TRADE, ISO_NS, 4665846, -1, 0, 0.5147, 6423.46326, 0, 0)], "BTC/USD"),
    (TICKER_V2, [(Kind.QUOTE, RECV_NS, 0, 0, 0, 0.10025, 740, 0.10036, 1361)], "ALGO/USD"),
    (
        BOOK_V2,
        [(Kind.BOOK, ISO_NS, 0, 1, 0, 9, 1.5, 0, 0), (Kind.BOOK, ISO_NS, 0, -1, Flag.LAST, 9.5, 0, 0, 0)],
        "BTC/USD",
    ),
]


@pytest.mark.parametrize(("message", "expected", "name"), GOOD)
def test_what_each_kind_says(message: Any, expected: Rows, name: str) -> None:
    assert_good("kraken", message, expected, (name,))


def test_what_was_traded_before_subscribing_is_marked() -> None:
    (tick,) = parse("kraken", TRADE_V2 | {"type": "snapshot"}).ticks
    assert tick["flags"] == Flag.SNAPSHOT


def test_the_answer_to_a_subscription_says_how_deep_the_book_is() -> None:
    state: Sequences = {}
    parsed = parse("kraken", BOOK_V2, ANSWER, BOOK_V2, state=state)
    assert parsed.ticks["size2"].tolist() == [0, 0, 25, 25]
    assert state == {"connection/depth/BTC/USD": 25}
    assert parse("kraken", BOOK_V2, state=state).ticks["size2"].tolist() == [25, 25]


def test_trade_ids_that_jump_make_no_gap_and_those_that_come_again_are_late() -> None:
    (trade,) = TRADE_V2["data"]
    parsed = parse("kraken", *(TRADE_V2 | {"data": [trade | {"trade_id": number}]} for number in (5, 9, 9, 7, 10)))  # type: ignore[operator]
    assert parsed.ticks["sequence"].tolist() == [5, 9, 9, 7, 10]
    assert (parsed.ticks["flags"] & Flag.LATE != 0).tolist() == [False, False, True, True, False]


def test_a_batch_with_one_bad_trade_gives_the_others() -> None:
    bad = [0, [TRADES[1][0], ["0", "1", "1", "s", "l", ""], TRADES[1][1], ["x"]], "trade", "XBT/USD"]  # type: ignore[index]
    parsed = parse("kraken", bad, TRADE)
    assert [(one.index, one.detail) for one in parsed.rejects] == [(0, "price is not above zero")]
    assert parsed.ticks["price"].tolist() == [5541.2, 5541.3, 5541.2]


@pytest.mark.parametrize(
    ("message", "path", "values", "says"),
    [
        (TRADE, (1, 0, 0), [*BAD_TEXT_NUMBERS, "0"], "price"),
        (TRADE, (1, 0, 1), [*BAD_TEXT_NUMBERS, "0"], "size"),
        (TRADE, (1, 0, 2), ["", "1.", ".5", "1.1234567891", "99999999999", "9999999999", "-1", 1, None, []], "time"),
        (TRADE, (1, 0, 3), ["x", "", "buy", 1, None, []], "side"),
        (TRADE, (1, 0), ["1234", {}, 1, None, [], ["1", "2", "3"]], "trade"),
        (TICKER, (1, "b"), ["123", [], ["1"], None, GONE, {}], "b"),
        (TICKER, (1, "a", 0), BAD_TEXT_NUMBERS, "ask"),
        (TICKER, (1,), [[], "ab", None, 1], "ticker"),
        (SPREAD, (1,), ["12345", [], {}, None], "spread"),
        (SPREAD, (1, 2), ["x", None], "time"),
        (PICTURE, (1, "bs"), [None, "ab", [1], ["abc"], [["1", "2"]], [["1"] * 5], [["0", "1", "1"]]], ""),
        (PICTURE, (1, "as", 0, 0), BAD_TEXT_NUMBERS, "level"),
        (PICTURE, (1, "as", 0, 2), ["", None, 1, "x"], "time of a level"),
        (PICTURE, (2,), ["book", "book-", "book-x", "book-1000000"], "depth in the name"),
        (BOTH, (2,), [[], "b", None, {"a": []}], ""),
        (UPDATE, (1,), [{"c": "1"}], "without levels"),
        (TRADE_V2, ("data", 0, "price"), [*BAD_NUMBERS, 0], "price"),
        (TRADE_V2, ("data", 0, "qty"), [*BAD_NUMBERS, 0], "size"),
        (TRADE_V2, ("data", 0, "timestamp"), BAD_ISO_TIMES, "timestamp"),
        (TRADE_V2, ("data", 0, "trade_id"), ["1", 1.5, -1, True, None, 2**63, GONE], "trade_id"),
        (TRADE_V2, ("data", 0), [None, [], "x", 1], "trade"),
        (TRADE_V2, ("data",), [None, {}, "x", GONE], "trade"),
        (TICKER_V2, ("data", 0, "bid"), BAD_NUMBERS, "bid"),
        (TICKER_V2, ("data", 0, "symbol"), [1, None, [], "", "A B", "x" * 65], "symbol"),
        (BOOK_V2, ("data", 0, "bids"), [None, {}, "x", [1], [[1, 2]], [{"price": 1}], GONE], ""),
        (BOOK_V2, ("data", 0, "bids", 0, "price"), [*BAD_NUMBERS, 0], "level"),
        (BOOK_V2, ("data", 0, "asks", 0, "qty"), BAD_NUMBERS, "level"),
        (BOOK_V2, ("data", 0, "symbol"), [1, None, [], {}], "symbol"),
        (BOOK_V2, ("data", 0, "timestamp"), BAD_ISO_TIMES[:-6], "timestamp"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_one_reject_that_names_it(message: Any, path: tuple[Any, ...], values: Any, says: str) -> None:
    for value in values:
        edit: Edit = (path, value)
        assert_malformed("kraken", message, edit, says)


@pytest.mark.parametrize(
    "message",
    [
        {"event": "heartbeat"},
        {"connectionID": 1, "event": "systemStatus", "status": "online", "version": "1.8.3"},
        {"channelID": 1, "channelName": "trade", "event": "subscriptionStatus", "status": "subscribed"},
        {"event": "pong", "reqid": 42},
        {"channel": "heartbeat"},
        {"channel": "status", "type": "update", "data": [{"system": "online", "api_version": "v2"}]},
        ANSWER,
        {"method": "pong", "time_in": ISO, "time_out": ISO},
    ],
)
def test_what_is_said_of_the_connection_is_neither_tick_nor_reject(message: Any) -> None:
    assert_control("kraken", message)


@pytest.mark.parametrize(
    ("message", "says"),
    [
        ([42, ["1542057314.748456", "1542057360.435743"], "ohlc-5", "XBT/USD"], "'ohlc-5'"),
        ({"channel": "ohlc", "type": "snapshot", "data": []}, "'ohlc'"),
        ({"event": "subscriptionStatus", "status": "error", "errorMessage": "Currency pair not supported"}, "not supp"),
        ({"method": "subscribe", "success": False, "error": "Currency pair not supported"}, "not supported"),
        ({"error": "Already subscribed", "method": "subscribe", "success": False}, "Already"),
        (TRADE_V2 | {"type": "other"}, "'other'"),
        ({"event": "addOrderStatus"}, "addOrderStatus"),
        (["trade", "XBT/USD"], ""),
        ([], ""),
        ({}, ""),
        (7, ""),
        (None, ""),
        ("trade", ""),
    ],
)
def test_what_is_not_read_is_unknown(message: Any, says: str) -> None:
    assert_unknown("kraken", message, says)
