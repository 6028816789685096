"""OKX's parser, message by message; format from its documents and from recordings."""

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

TS, NS = "1652459199958", 1_652_459_199_958 * MS


def arg(channel: str) -> dict[str, str]:
    return {"channel": channel, "instId": "BTC-USDT"}


TRADE = {
    "arg": arg("trades"),
    "data": [{"instId": "BTC-USDT", "tradeId": "7849", "px": "30218.8", "sz": "1.5", "side": "buy", "ts": TS}],
}
TICKER = {
    "arg": arg("tickers"),
    "data": [
        {"instId": "BTC-USDT", "last": "1", "askPx": "30.1", "askSz": "3", "bidPx": "30", "bidSz": "4", "ts": TS},
    ],
}
TOP = {
    "arg": arg("bbo-tbt"),
    "data": [{"asks": [["11.5", "5", "0", "2"]], "bids": [["11", "6", "0", "2"]], "ts": TS, "seqId": 363996337}],
}


def book(
    bids: Any, asks: Any, number: int | None = None, previous: int | None = None, action: str = "update"
) -> dict[str, Any]:
    """An update (or snapshot) of channel `books`, with numbers or, as in 2022, without."""
    numbers = {} if number is None else {"seqId": number, "prevSeqId": previous}
    return {
        "arg": arg("books"),
        "action": action,
        "data": [{"asks": asks, "bids": bids, "ts": TS, "checksum": 1} | numbers],
    }


PICTURE = book([["9", "1", "0", "1"], ["8", "2", "0", "1"]], [["9.5", "3", "0", "1"]], 10, -1, "snapshot")
UPDATE = book([["9", "0", "0", "0"]], [["9.5", "4", "0", "2"]], 15, 10)
FIVE = {
    "arg": arg("books5"),
    "data": [{"asks": [["9.5", "3", "0", "1"]], "bids": [], "instId": "BTC-USDT", "ts": TS, "seqId": 7}],
}
QUIET = book([], [], 15, 15)
ANEW = book([["9", "7", "0", "1"]], [], 3, 15)
AFTER = book([["9", "8", "0", "1"]], [], 5, 3)

GOOD: list[tuple[Any, Rows]] = [
    (TRADE, [(Kind.TRADE, NS, 7849, 1, 0, 30218.8, 1.5, 0, 0)]),
    (TRADE | {"arg": arg("trades-all")}, [(Kind.TRADE, NS, 7849, 1, 0, 30218.8, 1.5, 0, 0)]),
    (TICKER, [(Kind.QUOTE, NS, 0, 0, 0, 30, 4, 30.1, 3)]),
    (TOP, [(Kind.QUOTE, NS, 363996337, 0, 0, 11, 6, 11.5, 5)]),
    (
        TOP | {"data": [{"asks": [], "bids": [["11", "6", "0", "2"]], "ts": TS, "seqId": 1}]},
        [(Kind.QUOTE, NS, 1, 0, Flag.ONE_SIDED, 11, 6, 0, 0)],
    ),
    (
        PICTURE,
        [
            (Kind.BOOK, NS, 10, 1, Flag.SNAPSHOT, 9, 1, 0, 0),
            (Kind.BOOK, NS, 10, 1, Flag.SNAPSHOT, 8, 2, 0, 0),
            (Kind.BOOK, NS, 10, -1, Flag.SNAPSHOT | Flag.LAST, 9.5, 3, 0, 0),
        ],
    ),
    (UPDATE, [(Kind.BOOK, NS, 15, 1, 0, 9, 0, 0, 0), (Kind.BOOK, NS, 15, -1, Flag.LAST, 9.5, 4, 0, 0)]),
    (book([], [["9.5", "4", "0", "2"]]), [(Kind.BOOK, NS, 0, -1, Flag.LAST, 9.5, 4, 0, 0)]),
    (FIVE, [(Kind.BOOK, NS, 7, -1, Flag.SNAPSHOT | Flag.LAST, 9.5, 3, 0, 0)]),
    (
        FIVE | {"data": [{"asks": [], "bids": [], "ts": TS, "seqId": 7}]},
        [(Kind.BOOK, NS, 7, 0, Flag.SNAPSHOT | Flag.LAST, 0, 0, 0, 0)],
    ),
]


@pytest.mark.parametrize(("message", "expected"), GOOD)
def test_what_each_kind_says(message: Any, expected: Rows) -> None:
    assert_good("okx", message, expected, ("BTC-USDT",))


def test_a_side_that_is_not_given_is_an_empty_text() -> None:
    (ticker,) = TICKER["data"]
    (tick,) = parse("okx", TICKER | {"data": [ticker | {"bidPx": "", "bidSz": ""}]}).ticks  # type: ignore[operator]
    assert (tick["price"], tick["price2"], tick["flags"]) == (0, 30.1, Flag.ONE_SIDED)


def kinds(*messages: Any, state: Sequences | None = None) -> list[tuple[Kind, int]]:
    return [(Kind(row[0]), row[2]) for row in rows(parse("okx", *messages, state=state))]


def test_books_are_linked_by_their_numbers() -> None:
    last = book([["9", "1", "0", "1"]], [], 20, 15)
    assert kinds(PICTURE, UPDATE, QUIET, last) == [(Kind.BOOK, 10)] * 3 + [(Kind.BOOK, 15)] * 2 + [(Kind.BOOK, 20)]
    (gap,) = (row for row in rows(parse("okx", PICTURE, last)) if row[0] == Kind.GAP)
    assert gap == (Kind.GAP, NS, 11, 0, 0, GapReason.SEQUENCE, 0, Kind.BOOK, 0)


def test_a_quiet_message_shows_what_is_missing_too() -> None:
    assert kinds(PICTURE, QUIET) == [(Kind.BOOK, 10)] * 3 + [(Kind.GAP, 11)]


def test_numbers_that_begin_anew_are_said_to() -> None:
    state: Sequences = {}
    assert kinds(PICTURE, UPDATE, state=state)[3:] == [(Kind.BOOK, 15)] * 2
    assert kinds(ANEW, AFTER, state=state) == [(Kind.GAP, 0), (Kind.BOOK, 3), (Kind.BOOK, 5)]
    again = book([["9", "1", "0", "1"]], [], 2, -1, "snapshot")
    assert kinds(again, book([["9", "2", "0", "1"]], [], 4, 2), state=state) == [
        (Kind.GAP, 0),
        (Kind.BOOK, 2),
        (Kind.BOOK, 4),
    ]
    assert not parse("okx", book([], [["10", "1", "0", "1"]], 9, 4), state=state).ticks["flags"][0] & Flag.LATE


def test_a_later_picture_is_no_break() -> None:
    again = book([["9", "1", "0", "1"]], [], 90, -1, "snapshot")
    assert kinds(PICTURE, UPDATE, again)[5:] == [(Kind.BOOK, 90)]


def test_channels_are_followed_apart() -> None:
    (trade,) = TRADE["data"]
    older = {"arg": arg("trades-all"), "data": [trade | {"tradeId": "7000"}]}  # type: ignore[operator]
    assert (parse("okx", TRADE, older, FIVE, UPDATE).ticks["flags"] & Flag.LATE == 0).all()
    assert parse("okx", TRADE, TRADE).ticks["flags"].tolist() == [0, Flag.LATE]


@pytest.mark.parametrize(
    ("message", "path", "values", "says"),
    [
        (TRADE, ("data", 0, "px"), [*BAD_TEXT_NUMBERS, "0"], "price"),
        (TRADE, ("data", 0, "sz"), [*BAD_TEXT_NUMBERS, "0", GONE], "s"),
        (TRADE, ("data", 0, "ts"), ["", "x", "-1", "1.5", "9" * 13, "9" * 30, 1652459199958, None, [], GONE], "ts"),
        (TRADE, ("data", 0, "tradeId"), ["", "x", "-1", "9" * 19, "9" * 30, 5, None, GONE], "tradeId"),
        (TRADE, ("data", 0, "side"), ["", "Buy", 1, None], "side"),
        (TRADE, ("data", 0, "instId"), ["", 1, None, "A B", [], GONE], ""),
        (TRADE, ("data", 0), [None, [], "x", 1], "trades"),
        (TRADE, ("data",), [None, {}, "x", GONE], "trades"),
        (TICKER, ("data", 0, "bidPx"), [one for one in BAD_TEXT_NUMBERS if one != ""], "bid"),
        (TOP, ("data", 0, "bids"), [["55"], "5", [[]], [["1"]], None, {}, GONE], ""),
        (TOP, ("data", 0, "seqId"), ["1", -1, 1.5, None, GONE], "seqId"),
        (UPDATE, ("action",), ["partial", None, 1, GONE], "books"),
        (UPDATE, ("arg", "instId"), [1, None, "", GONE], ""),
        (UPDATE, ("data", 0, "seqId"), ["1", -1, 1.5, None, True, 2**63], "seqId"),
        (UPDATE, ("data", 0, "prevSeqId"), ["1", -2, 1.5, True, [], 2**63], "prevSeqId"),
        (UPDATE, ("data", 0, "bids"), [None, "ab", [1], [["1", "2"]], [["1"] * 5], [["0", "1", "0", "1"]]], ""),
        (UPDATE, ("data", 0, "asks", 0, 1), BAD_TEXT_NUMBERS, "level"),
        (UPDATE, ("data", 0), [None, [], 1, "x"], "books"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_one_reject_that_names_it(message: Any, path: tuple[Any, ...], values: Any, says: str) -> None:
    for value in values:
        assert_malformed("okx", message, (path, value), says)


@pytest.mark.parametrize(
    "message",
    [
        b"pong",
        {"event": "subscribe", "arg": {"channel": "tickers", "instId": "BTC-USDT"}},
        {"event": "unsubscribe", "arg": {"channel": "tickers", "instId": "BTC-USDT"}},
        {"event": "notice", "code": "64008", "msg": "The connection will soon be closed for a service upgrade."},
        {"event": "channel-conn-count", "channel": "orders", "connCount": "2"},
        QUIET,
    ],
)
def test_what_is_said_of_the_connection_is_neither_tick_nor_reject(message: Any) -> None:
    assert_control("okx", message)


@pytest.mark.parametrize(
    ("message", "says"),
    [
        ({"event": "error", "code": "60012", "msg": "Invalid request"}, "Invalid request"),
        ({"arg": arg("candle1m"), "data": []}, "'candle1m'"),
        ({"arg": arg("unnumbered books"), "data": []}, "unnumbered"),
        ({}, ""),
        ([], ""),
        (7, ""),
        (None, ""),
        ("ping", ""),
    ],
)
def test_what_is_not_read_is_unknown(message: Any, says: str) -> None:
    assert_unknown("okx", message, says)
