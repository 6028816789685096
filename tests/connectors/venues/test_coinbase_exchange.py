"""The parser of Coinbase Exchange, message by message; format from its documents."""

import json
from typing import Any

import pytest

from tapeline.connectors.venues import VENUES, Parsed, Sequences
from tapeline.schemas import Flag, GapReason, Kind, RawFrame, RejectReason
from tests.connectors.venues.made import (
    BAD_ISO_TIMES,
    BAD_TEXT_NUMBERS,
    GONE,
    RECV_NS,
    Rows,
    assert_control,
    assert_good,
    assert_malformed,
    assert_unknown,
    parse,
    rows,
)

VENUE = "coinbase-exchange"
ISO, NS = "2026-08-09T21:05:48.228568Z", 1_786_309_548_228_568_000
PRODUCT = {"product_id": "BTC-USD"}
TRADE = PRODUCT | {
    "type": "match",
    "trade_id": 10,
    "sequence": 50,
    "time": ISO,
    "size": "5.23512",
    "price": "400.23",
    "side": "sell",
}
TICKER = PRODUCT | {
    "type": "ticker",
    "sequence": 37475248783,
    "price": "1285.22",
    "best_bid": "9.5",
    "best_bid_size": "1.5",
    "best_ask": "10",
    "best_ask_size": "2",
    "time": ISO,
    "trade_id": 370843401,
}
PICTURE = PRODUCT | {"type": "snapshot", "bids": [["9", "1"], ["8", "2"]], "asks": [["9.5", "3"]], "time": ISO}
UPDATE = PRODUCT | {"type": "l2update", "changes": [["sell", "9.5", "0.0"], ["buy", "9", "4"]], "time": ISO}
ANSWER = {
    "bids": [["9", "1", 2]],
    "asks": [["9.5", "3", 1]],
    "sequence": 13051505638,
    "auction_mode": False,
    "time": ISO,
}


def without(message: dict[str, Any], *fields: str) -> dict[str, Any]:
    return {key: value for key, value in message.items() if key not in fields}


def picture(time_ns: int) -> Rows:
    return [
        (Kind.BOOK, time_ns, 0, 1, Flag.SNAPSHOT, 9, 1, 0, 0),
        (Kind.BOOK, time_ns, 0, 1, Flag.SNAPSHOT, 8, 2, 0, 0),
        (Kind.BOOK, time_ns, 0, -1, Flag.SNAPSHOT | Flag.LAST, 9.5, 3, 0, 0),
    ]


GOOD: list[tuple[Any, Rows]] = [
    (TRADE, [(Kind.TRADE, NS, 10, 1, 0, 400.23, 5.23512, 0, 0)]),
    (TRADE | {"type": "last_match", "side": "buy"}, [(Kind.TRADE, NS, 10, -1, Flag.SNAPSHOT, 400.23, 5.23512, 0, 0)]),
    (TICKER, [(Kind.QUOTE, NS, 37475248783, 0, 0, 9.5, 1.5, 10, 2)]),
    (
        without(TICKER, "time", "best_bid_size", "best_ask_size"),
        [(Kind.QUOTE, RECV_NS, 37475248783, 0, 0, 9.5, 0, 10, 0)],
    ),
    (PICTURE, picture(NS)),
    (without(PICTURE, "time"), picture(RECV_NS)),
    (UPDATE, [(Kind.BOOK, NS, 0, -1, 0, 9.5, 0, 0, 0), (Kind.BOOK, NS, 0, 1, Flag.LAST, 9, 4, 0, 0)]),
    (PICTURE | {"bids": [], "asks": []}, [(Kind.BOOK, NS, 0, 0, Flag.SNAPSHOT | Flag.LAST, 0, 0, 0, 0)]),
]


@pytest.mark.parametrize(("message", "expected"), GOOD)
def test_what_each_kind_says(message: Any, expected: Rows) -> None:
    assert_good(VENUE, message, expected, ("BTC-USD",))


def test_trade_ids_are_consecutive() -> None:
    state: Sequences = {}
    parsed = parse(VENUE, TRADE, TRADE | {"trade_id": 13}, state=state)
    assert rows(parsed)[1] == (Kind.GAP, NS, 11, 0, 0, GapReason.SEQUENCE, 2, Kind.TRADE, 0)
    again = parse(VENUE, TRADE | {"type": "last_match", "trade_id": 13}, TRADE | {"trade_id": 14}, state=state)
    assert again.ticks["flags"].tolist() == [Flag.SNAPSHOT | Flag.LATE, 0]
    assert parse(VENUE, TICKER, TICKER | {"sequence": 1}).ticks["flags"].tolist() == [0, Flag.LATE]


def answered(body: Any) -> Parsed:
    snapshot = VENUES[VENUE].snapshot
    assert snapshot is not None
    return snapshot(RawFrame.build(f"{VENUE}/x", 3, [RECV_NS], [json.dumps(body).encode()]), "ETH-USD", {})


def test_a_picture_by_rest_is_of_the_symbol_that_was_asked_for() -> None:
    parsed = answered(ANSWER)
    assert rows(parsed) == [picture(NS)[0], picture(NS)[2]], "without its sequence: updates have none to compare"
    assert parsed.names == ("coinbase-exchange:ETH-USD",)


@pytest.mark.parametrize(
    ("body", "reason", "says"),
    [
        ({"message": "NotFound"}, RejectReason.UNKNOWN, "NotFound"),
        ({}, RejectReason.UNKNOWN, ""),
        ([], RejectReason.UNKNOWN, ""),
        (ANSWER | {"bids": [["1", "2"]]}, RejectReason.MALFORMED, "level"),
        (ANSWER | {"time": "now"}, RejectReason.MALFORMED, "time"),
    ],
)
def test_an_answer_that_is_no_picture_is_rejected(body: Any, reason: RejectReason, says: str) -> None:
    (reject,) = answered(body).rejects
    assert (reject.index, reject.reason) == (0, reason)
    assert says in reject.detail


@pytest.mark.parametrize(
    ("message", "path", "values", "says"),
    [
        (TRADE, ("price",), [*BAD_TEXT_NUMBERS, "0", GONE], "price"),
        (TRADE, ("size",), [*BAD_TEXT_NUMBERS, "0"], "size"),
        (TRADE, ("side",), ["BUY", "", 1, None, []], "side"),
        (TRADE, ("trade_id",), ["1", -1, 1.5, None, 2**63, GONE], "trade_id"),
        (TRADE, ("time",), [*BAD_ISO_TIMES, GONE], "time"),
        (TRADE, ("product_id",), ["", 1, None, "A B", [], GONE], ""),
        (TICKER, ("best_bid",), [*(one for one in BAD_TEXT_NUMBERS if one != ""), GONE], "bid"),
        (TICKER, ("best_ask_size",), [one for one in BAD_TEXT_NUMBERS if one != ""], "ask"),
        (TICKER, ("sequence",), ["1", -1, None, GONE], "sequence"),
        (PICTURE, ("bids",), [None, "ab", [1], [["1"]], [["1", "2", "3"]], [["0", "1"]], GONE], ""),
        (PICTURE, ("asks", 0, 1), BAD_TEXT_NUMBERS, "level"),
        (UPDATE, ("changes",), [None, "ab", {}, [1], ["abc"], [["buy", "1"]], GONE], "change"),
        (UPDATE, ("changes", 0, 0), ["bid", "", 1, None, []], "side"),
        (UPDATE, ("changes", 0, 1), [*BAD_TEXT_NUMBERS, "0"], "price"),
        (UPDATE, ("changes", 0, 2), BAD_TEXT_NUMBERS, "size"),
        (UPDATE, ("time",), [*BAD_ISO_TIMES, GONE], "time"),
    ],
)
def test_a_wrong_field_is_one_reject_that_names_it(message: Any, path: tuple[Any, ...], values: Any, says: str) -> None:
    for value in values:
        assert_malformed(VENUE, message, (path, value), says)


@pytest.mark.parametrize(
    "message",
    [
        PRODUCT | {"type": "heartbeat", "sequence": 90, "last_trade_id": 0, "time": ISO},
        {"type": "subscriptions", "channels": [{"name": "level2_batch", "product_ids": ["BTC-USD"]}]},
        UPDATE | {"changes": []},
    ],
)
def test_what_says_nothing_of_the_market_is_neither_tick_nor_reject(message: Any) -> None:
    assert_control(VENUE, message)


@pytest.mark.parametrize(
    ("message", "says"),
    [
        ({"type": "error", "message": "Failed to subscribe", "reason": "FOO is not a valid product"}, "FOO is not"),
        (PRODUCT | {"type": "received", "sequence": 1}, "'received'"),
        ({"type": "status", "products": []}, "'status'"),
        ({"type": "book by REST", "bids": [], "asks": []}, "book by REST"),
        ({"type": ["match"]}, ""),
        ({}, ""),
        ([], ""),
        (7, ""),
        (None, ""),
    ],
)
def test_what_is_not_read_is_unknown(message: Any, says: str) -> None:
    assert_unknown(VENUE, message, says)
