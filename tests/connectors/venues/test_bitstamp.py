"""Bitstamp's parser, message by message; format from its documents and from recordings."""

import json
from typing import Any

import pytest

from tapeline.connectors.venues import VENUES, Parsed
from tapeline.schemas import Flag, Kind, RawFrame, RejectReason
from tests.connectors.venues.made import (
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

US = "1641343699596123"
NS = int(US) * 1000


def message(channel: str, event: str, data: Any) -> dict[str, Any]:
    return {"data": data, "channel": f"{channel}_btcusd", "event": event}


def book(channel: str, bids: Any, asks: Any, us: str = US) -> dict[str, Any]:
    return message(channel, "data", {"timestamp": us[:10], "microtimestamp": us, "bids": bids, "asks": asks})


TRADE = message(
    "live_trades",
    "trade",
    {
        "id": 216000477,
        "timestamp": "1641343699",
        "amount": 0.0792,
        "amount_str": "0.07920000",
        "price": 3805.44,
        "price_str": "3805.44",
        "type": 0,
        "microtimestamp": US,
    },
)
UPDATE = book("diff_order_book", [["9", "0.00000000"]], [["9.5", "4"]])
PICTURE = book("order_book", [["9", "1"]], [["9.5", "3"]])
LEVELS = (Flag.SNAPSHOT, Flag.SNAPSHOT | Flag.LAST)

GOOD: list[tuple[Any, Rows]] = [
    (TRADE, [(Kind.TRADE, NS, 216000477, 1, 0, 3805.44, 0.0792, 0, 0)]),
    (
        UPDATE,
        [(Kind.BOOK, NS, int(US), 1, 0, 9, 0, 0, 0), (Kind.BOOK, NS, int(US), -1, Flag.LAST, 9.5, 4, 0, 0)],
    ),
    (
        PICTURE,
        [(Kind.BOOK, NS, int(US), 1, LEVELS[0], 9, 1, 0, 0), (Kind.BOOK, NS, int(US), -1, LEVELS[1], 9.5, 3, 0, 0)],
    ),
    (book("order_book", [], []), [(Kind.BOOK, NS, int(US), 0, LEVELS[1], 0, 0, 0, 0)]),
]


@pytest.mark.parametrize(("message", "expected"), GOOD)
def test_what_each_kind_says(message: Any, expected: Rows) -> None:
    assert_good("bitstamp", message, expected, ("btcusd",))


def answered(body: Any) -> Parsed:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    snapshot = VENUES["bitstamp"].snapshot
    assert snapshot is not None
    return snapshot(RawFrame.build("bitstamp/x", 3, [RECV_NS], [data]), "ethusd", {})


def test_a_picture_by_rest_is_of_the_symbol_that_was_asked_for() -> None:
    parsed = answered(PICTURE["data"])
    assert rows(parsed) == GOOD[2][1]
    assert parsed.names == ("bitstamp:ethusd",)


@pytest.mark.parametrize(
    ("body", "reason", "says"),
    [
        ({"status": "error", "reason": "Invalid pair", "code": "API0017"}, RejectReason.UNKNOWN, "Invalid pair"),
        ({}, RejectReason.UNKNOWN, ""),
        ([], RejectReason.UNKNOWN, ""),
        (b"<html>", RejectReason.MALFORMED, "JSON"),
        ({"microtimestamp": "x", "bids": [], "asks": []}, RejectReason.MALFORMED, "microtimestamp"),
        ({"microtimestamp": US, "bids": [["1"]], "asks": []}, RejectReason.MALFORMED, "level"),
    ],
)
def test_an_answer_that_is_no_picture_is_rejected(body: Any, reason: RejectReason, says: str) -> None:
    (reject,) = answered(body).rejects
    assert (reject.index, reject.reason) == (0, reason)
    assert says in reject.detail


def test_numbers_that_go_back_are_late_and_nothing_is_a_gap() -> None:
    parsed = parse("bitstamp", *(book("diff_order_book", [["9", "1"]], [], f"164134369959612{n}") for n in (1, 5, 3)))
    assert parsed.ticks["flags"].tolist() == [Flag.LAST, Flag.LAST, Flag.LAST | Flag.LATE]


@pytest.mark.parametrize(
    ("message", "path", "values", "says"),
    [
        (TRADE, ("data", "price_str"), [*BAD_TEXT_NUMBERS, "0", GONE], "price"),
        (TRADE, ("data", "amount_str"), [*BAD_TEXT_NUMBERS, "0"], "size"),
        (TRADE, ("data", "type"), ["0", 2, -1, None, True], "type"),
        (TRADE, ("data", "id"), ["1", -1, 1.5, None, 2**63], "id"),
        (TRADE, ("data", "microtimestamp"), ["", "x", "-1", 1, None, "9" * 19, GONE], "microtimestamp"),
        (TRADE, ("data",), [None, [], "x", 1, GONE], "live_trades"),
        (TRADE, ("channel",), ["live_trades_", "live_trades_a b"], "symbol"),
        (UPDATE, ("data", "bids"), [None, "ab", [1], [["1"]], [["1", "2", "3"]], [["0", "1"]], GONE], ""),
        (UPDATE, ("data", "asks", 0, 1), BAD_TEXT_NUMBERS, "level"),
        (PICTURE, ("data", "microtimestamp"), ["", "x", None, GONE], "microtimestamp"),
    ],
)
def test_a_wrong_field_is_one_reject_that_names_it(message: Any, path: tuple[Any, ...], values: Any, says: str) -> None:
    for value in values:
        assert_malformed("bitstamp", message, (path, value), says)


@pytest.mark.parametrize(
    "event", ["subscription_succeeded", "unsubscription_succeeded", "heartbeat", "request_reconnect"]
)
def test_what_is_said_of_the_connection_is_neither_tick_nor_reject(event: str) -> None:
    assert_control("bitstamp", {"event": f"bts:{event}", "channel": "live_trades_btcusd", "data": {}})


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (
            {"event": "bts:error", "channel": "", "data": {"code": None, "message": "Bad subscription string."}},
            "Bad sub",
        ),
        ({"event": "bts:error"}, ""),
        (message("detail_order_book", "data", {}), "'detail_order_book_btcusd'"),
        (message("live_orders", "order_created", {}), "order_created"),
        (message("live_trades", "data", {}), "'data'"),
        ({}, ""),
        ([], ""),
        (7, ""),
        (None, ""),
    ],
)
def test_what_is_not_read_is_unknown(message: Any, says: str) -> None:
    assert_unknown("bitstamp", message, says)
