"""Bybit's parser, message by message; format from its documents and from recordings."""

from typing import Any

import pytest

from tapeline.connectors.venues import Sequences
from tapeline.schemas import Flag, GapReason, Kind
from tests.connectors.venues.made import (
    BAD_TEXT_NUMBERS,
    GONE,
    MS,
    Rows,
    assert_control,
    assert_good,
    assert_malformed,
    assert_unknown,
    parse,
    rows,
)

TS = 1_786_310_818_130
NS = TS * MS
DEALT = {
    "T": TS - 2,
    "s": "BTCUSDT",
    "S": "Sell",
    "v": "0.004",
    "p": "65114.20",
    "i": "a9188a0a",
    "BT": False,
    "seq": 7,
}
TRADE = {"topic": "publicTrade.BTCUSDT", "type": "snapshot", "ts": TS, "data": [DEALT]}
TICKER = {
    "topic": "tickers.BTCUSDT",
    "type": "snapshot",
    "cs": 50,
    "ts": TS,
    "data": {
        "symbol": "BTCUSDT",
        "bid1Price": "9.5",
        "bid1Size": "1.5",
        "ask1Price": "10",
        "ask1Size": "2",
        "markPrice": "9.8",
        "indexPrice": "9.7",
        "fundingRate": "-0.0001",
        "nextFundingTime": "1786320000000",
        "openInterest": "59891.732",
        "preOpenPrice": "",
    },
}


def delta(fields: dict[str, Any], number: int = 51) -> dict[str, Any]:
    return TICKER | {"type": "delta", "cs": number, "data": {"symbol": "BTCUSDT"} | fields}


def book(bids: Any, asks: Any, number: int = 1, what: str = "delta", depth: int = 200) -> dict[str, Any]:
    return {
        "topic": f"orderbook.{depth}.BTCUSDT",
        "type": what,
        "ts": TS,
        "data": {"s": "BTCUSDT", "b": bids, "a": asks, "u": number, "seq": 9 * number},
        "cts": TS - 1,
    }


PICTURE = book([["9", "1"], ["8", "2"]], [["9.5", "3"]], 10, "snapshot")
UPDATE = book([["9", "0"]], [["9.5", "4"]], 11)
TOP = book([["9", "1"]], [["9.5", "3"]], 5, "snapshot", 1)

QUOTE = (Kind.QUOTE, NS, 50, 0, 0, 9.5, 1.5, 10, 2)
MARK = (Kind.MARK, NS, 50, 0, 0, 9.8, 0, 9.7, 0)
FUNDING = (Kind.FUNDING, NS, 50, 0, 0, -0.0001, 1_786_320_000, 0, 0)
GOOD: list[tuple[Any, Rows]] = [
    (TRADE, [(Kind.TRADE, NS - 2 * MS, 7, -1, 0, 65114.2, 0.004, 0, 0)]),
    (
        TRADE | {"data": [DEALT, DEALT | {"S": "Buy"}]},
        [(Kind.TRADE, NS - 2 * MS, 7, side, 0, 65114.2, 0.004, 0, 0) for side in (-1, 1)],
    ),
    (TICKER, [QUOTE, MARK, FUNDING]),
    (
        PICTURE,
        [
            (Kind.BOOK, NS - MS, 10, 1, Flag.SNAPSHOT, 9, 1, 0, 0),
            (Kind.BOOK, NS - MS, 10, 1, Flag.SNAPSHOT, 8, 2, 0, 0),
            (Kind.BOOK, NS - MS, 10, -1, Flag.SNAPSHOT | Flag.LAST, 9.5, 3, 0, 0),
        ],
    ),
    (UPDATE, [(Kind.BOOK, NS - MS, 11, 1, 0, 9, 0, 0, 0), (Kind.BOOK, NS - MS, 11, -1, Flag.LAST, 9.5, 4, 0, 0)]),
    (
        {key: value for key, value in UPDATE.items() if key != "cts"},
        [(Kind.BOOK, NS, 11, 1, 0, 9, 0, 0, 0), (Kind.BOOK, NS, 11, -1, Flag.LAST, 9.5, 4, 0, 0)],
    ),
    (
        book([], [], 3, "snapshot"),
        [(Kind.BOOK, NS - MS, 3, 0, Flag.SNAPSHOT | Flag.LAST, 0, 0, 0, 0)],
    ),
    (TOP, [(Kind.QUOTE, NS - MS, 5, 0, 0, 9, 1, 9.5, 3)]),
    (book([], [["9.5", "3"]], 5, "snapshot", 1), [(Kind.QUOTE, NS - MS, 5, 0, Flag.ONE_SIDED, 0, 0, 9.5, 3)]),
]


@pytest.mark.parametrize("venue", ["bybit", "bybit-linear", "bybit-inverse"])
@pytest.mark.parametrize(("message", "expected"), GOOD)
def test_what_each_kind_says(venue: str, message: Any, expected: Rows) -> None:
    assert_good(venue, message, expected, ("BTCUSDT",))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"bid1Size": "7"}, [(Kind.QUOTE, NS, 51, 0, 0, 9.5, 7, 10, 2)]),
        ({"bid1Price": "", "bid1Size": ""}, [(Kind.QUOTE, NS, 51, 0, Flag.ONE_SIDED, 0, 0, 10, 2)]),
        ({"markPrice": "9.9"}, [(Kind.MARK, NS, 51, 0, 0, 9.9, 0, 9.7, 0)]),
        ({"indexPrice": ""}, [(Kind.MARK, NS, 51, 0, 0, 9.8, 0, 0, 0)]),
        ({"nextFundingTime": ""}, [(Kind.FUNDING, NS, 51, 0, 0, -0.0001, 0, 0, 0)]),
        ({"fundingRate": "0.0002"}, [(Kind.FUNDING, NS, 51, 0, 0, 0.0002, 1_786_320_000, 0, 0)]),
        ({"fundingRate": ""}, []),
        ({"openInterest": "1"}, []),
        ({}, []),
    ],
)
def test_a_ticker_says_only_what_changed(fields: dict[str, str], expected: Rows) -> None:
    state: Sequences = {}
    parse("bybit-linear", TICKER, state=state)
    assert rows(parse("bybit-linear", delta(fields), state=state)) == expected


def test_a_quote_waits_until_all_of_it_was_said() -> None:
    parts = [{"bid1Price": "9.5", "bid1Size": "1.5"}, {"ask1Size": "2"}, {"indexPrice": "9.7"}, {"ask1Price": "10"}]
    state: Sequences = {}
    found = [rows(parse("bybit-linear", delta(part, 50), state=state)) for part in parts]
    assert found == [[], [], [], [QUOTE]]
    parsed = parse("bybit-linear", TICKER, TICKER | {"data": {"symbol": "BTCUSDT", "bid1Price": "1"}}, state=state)
    assert rows(parsed) == [QUOTE, MARK, FUNDING], "a new picture says nothing of what is not in it"
    assert state == {"connection/ticker/BTCUSDT": "1 ? ? ? ? ? ? ?"}


def test_numbers_of_a_depth_are_consecutive() -> None:
    parsed = parse("bybit", PICTURE, UPDATE, book([["9", "1"]], [], 14), book([["9", "1"]], [], 90, depth=50))
    (gap,) = (row for row in rows(parsed) if row[0] == Kind.GAP)
    assert gap == (Kind.GAP, NS - MS, 12, 0, 0, GapReason.SEQUENCE, 2, Kind.BOOK, 0)
    assert rows(parsed)[5] == gap


def test_a_restart_of_the_service_is_said() -> None:
    state: Sequences = {}
    parsed = parse(
        "bybit", PICTURE, UPDATE, book([["7", "1"]], [], 1, "snapshot"), book([["7", "2"]], [], 2), state=state
    )
    kinds = [(Kind(row[0]), row[2]) for row in rows(parsed)[5:]]
    assert kinds == [(Kind.GAP, 0), (Kind.BOOK, 1), (Kind.BOOK, 2)]
    assert state == {"orderbook.200/BTCUSDT": 2}
    again = parse("bybit", book([["7", "1"]], [], 70, "snapshot"), state=state)
    assert len(again.ticks) == 1, "a picture further on is no break"


@pytest.mark.parametrize(
    ("message", "path", "values", "says"),
    [
        (TRADE, ("data", 0, "p"), [*BAD_TEXT_NUMBERS, "0"], "price"),
        (TRADE, ("data", 0, "v"), [*BAD_TEXT_NUMBERS, "0", GONE], ""),
        (TRADE, ("data", 0, "T"), ["1", -1, 1.5, 10**13, None, True, GONE], "T"),
        (TRADE, ("data", 0, "S"), ["buy", "", 1, None, [], GONE], ""),
        (TRADE, ("data", 0, "s"), ["", 1, None, "A B", [], GONE], ""),
        (TRADE, ("data", 0, "seq"), ["1", -1, 1.5, None], "seq"),
        (TRADE, ("data", 0), [None, [], "x", 1], "publicTrade"),
        (TRADE, ("data",), [GONE], "publicTrade"),
        (TICKER, ("data", "bid1Price"), [one for one in BAD_TEXT_NUMBERS if one != ""] + ["1" * 16], "bid1Price"),
        (TICKER, ("data", "markPrice"), ["-1", "x", None, 1, [], {}], "markPrice"),
        (TICKER, ("data", "fundingRate"), ["--1", "1e-5", "x", None, 0.1], "fundingRate"),
        (TICKER, ("data", "nextFundingTime"), ["-1", "1.5", "9" * 14, None, 1], "nextFundingTime"),
        (TICKER, ("data", "symbol"), ["", 1, None, "A B", [], GONE], "symbol"),
        (TICKER, ("ts",), ["1", -1, None, 10**13, GONE], "ts"),
        (TICKER, ("cs",), ["1", -1, None, 2**63], "cs"),
        (TICKER, ("type",), ["x", None, [], GONE], "type"),
        (TICKER, ("data",), [[], None, "x", 1], "tickers"),
        (UPDATE, ("data", "u"), ["1", -1, 1.5, None, 2**63, GONE], "u"),
        (UPDATE, ("data", "b"), [None, "ab", [1], [["1"]], [["1", "2", "3"]], [["0", "1"]], GONE], ""),
        (UPDATE, ("data", "a", 0, 1), BAD_TEXT_NUMBERS, "level"),
        (UPDATE, ("type",), ["x", None, GONE], ""),
        (UPDATE, ("cts",), ["1", -1, None, 10**13], "time"),
        (UPDATE, ("data",), [None, [], "x", 1], "orderbook"),
        (TOP, ("type",), ["delta"], "snapshot"),
        (TOP, ("data", "b"), [["55"], "5", [[]], [["1"]], None, {}], ""),
    ],
)
def test_a_wrong_field_is_one_reject_that_names_it(message: Any, path: tuple[Any, ...], values: Any, says: str) -> None:
    for value in values:
        assert_malformed("bybit-linear", message, (path, value), says)


@pytest.mark.parametrize(
    "message",
    [
        {"success": True, "ret_msg": "", "conn_id": "d8bu", "req_id": "", "op": "subscribe"},
        {"success": True, "ret_msg": "pong", "conn_id": "d8bu", "op": "ping"},
        {"op": "pong", "args": ["1672916271846"], "conn_id": "d8bu"},
        {"topic": "tickers.BTCUSDT", "ts": TS, "type": "snapshot", "data": {"symbol": "BTCUSDT", "lastPrice": "1"}},
        {"topic": "publicTrade.BTCUSDT", "ts": TS, "type": "snapshot", "data": []},
    ],
)  # fmt: skip
def test_what_says_nothing_of_the_market_is_neither_tick_nor_reject(message: Any) -> None:
    assert_control("bybit", message)


@pytest.mark.parametrize(
    ("message", "says"),
    [
        ({"success": False, "ret_msg": "error:handler not found", "op": "subscribe"}, "handler not found"),
        ({"topic": "kline.1.BTCUSDT", "data": [], "ts": TS, "type": "snapshot"}, "'kline.1.BTCUSDT'"),
        ({"topic": "allLiquidation.BTCUSDT", "data": []}, "allLiquidation"),
        ({"topic": "orderbook.rpi.BTCUSDT", "data": {}}, "orderbook.rpi"),
        ({"topic": "quote.BTCUSDT", "data": {}}, "quote"),
        ({}, ""),
        ([], ""),
        (7, ""),
        (None, ""),
        ("pong", ""),
    ],
)
def test_what_is_not_read_is_unknown(message: Any, says: str) -> None:
    assert_unknown("bybit", message, says)
