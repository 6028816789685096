"""Alpaca's parser, message by message; format from its documents."""

from typing import Any

import pytest

from tapeline.schemas import Flag, Kind
from tests.connectors.venues.made import (
    BAD_ISO_TIMES,
    BAD_NUMBERS,
    GONE,
    Rows,
    assert_control,
    assert_good,
    assert_malformed,
    assert_unknown,
    parse,
    rows,
)

ISO, NS = "2021-02-22T15:51:44.208123456Z", 1_614_009_104_208_123_456
TRADE = {"T": "t", "i": 96921, "S": "AAPL", "x": "D", "p": 126.55, "s": 1, "t": ISO, "c": ["@", "I"], "z": "C"}
QUOTE = {"T": "q", "S": "AAPL", "bx": "U", "bp": 87.66, "bs": 1, "ax": "X", "ap": 87.67, "as": 4, "t": ISO, "c": ["R"]}
HALT = {"T": "s", "S": "AAPL", "sc": "H", "sm": "Trading Halt", "rc": "T12", "t": "2021-02-22T15:51:44Z", "z": "C"}
HALT_NS = 1_614_009_104_000_000_000

TICKS: list[tuple[Any, Rows]] = [
    ([TRADE], [(Kind.TRADE, NS, 96921, 0, 0, 126.55, 1, 0, 0)]),
    ([QUOTE], [(Kind.QUOTE, NS, 0, 0, 0, 87.66, 1, 87.67, 4)]),
    ([QUOTE | {"bp": 0, "bs": 0}], [(Kind.QUOTE, NS, 0, 0, Flag.ONE_SIDED, 0, 0, 87.67, 4)]),
    ([QUOTE | {"bp": 87.67}], [(Kind.QUOTE, NS, 0, 0, Flag.LOCKED, 87.67, 1, 87.67, 4)]),
    *(
        ([HALT | {"sc": code}], [(Kind.STATUS, HALT_NS, 0, 0, 0, 0, trading, 0, 0)])
        for code, trading in {"H": 0, "P": 0, "Q": 0, "T": 1, "2": 0, "3": 1}.items()
    ),
]


@pytest.mark.parametrize(("message", "expected"), TICKS)
def test_what_each_kind_says(message: Any, expected: Rows) -> None:
    assert_good("alpaca", message, expected, ("AAPL",))


def test_a_batch_keeps_its_order_over_kinds_and_symbols() -> None:
    batch = [QUOTE, TRADE, QUOTE | {"S": "IBM"}, HALT, TRADE | {"i": 3}, {"T": "c", "S": "AAPL"}, TRADE | {"p": -1}]
    parsed = parse("alpaca", batch, [TRADE])
    assert [row[0] for row in rows(parsed)] == [
        *(Kind.QUOTE, Kind.TRADE, Kind.QUOTE, Kind.STATUS, Kind.TRADE),
        Kind.TRADE,
    ]
    assert parsed.names == ("alpaca:AAPL", "alpaca:IBM")
    assert parsed.ticks["instrument_id"].tolist() == [0, 0, 1, 0, 0, 0]
    (reject,) = parsed.rejects
    assert (reject.index, "correction" in reject.detail) == (0, True), "the first that is not read is named"


def test_a_number_that_float64_does_not_keep_is_flagged() -> None:
    message = b'[{"T":"t","i":1,"S":"A","p":12345678.123456789,"s":1,"t":"2021-02-22T15:51:44Z"}]'
    assert parse("alpaca", message).ticks["flags"].tolist() == [Flag.INEXACT]
    assert parse("alpaca", [TRADE | {"p": 1e-7, "s": 1e14}]).ticks["flags"].tolist() == [0]


@pytest.mark.parametrize(
    ("message", "path", "values", "says"),
    [
        ([TRADE], (0, "p"), [*BAD_NUMBERS, 0, GONE], "p"),
        ([TRADE], (0, "s"), [*BAD_NUMBERS, 0], "size"),
        ([TRADE], (0, "t"), [*BAD_ISO_TIMES, GONE], "t"),
        ([TRADE], (0, "i"), ["1", -1, 1.5, None, True, 2**63], "i"),
        ([TRADE], (0, "S"), ["", 1, None, "A B", [], GONE], ""),
        ([QUOTE], (0, "bp"), [*BAD_NUMBERS, GONE], "b"),
        ([QUOTE], (0, "as"), BAD_NUMBERS, "ask"),
        ([HALT], (0, "sc"), ["", "x", 1, None, [], GONE], "sc"),
        ([HALT], (0, "S"), ["", 1, None], "symbol"),
    ],
)
def test_a_wrong_field_is_one_reject_that_names_it(message: Any, path: tuple[Any, ...], values: Any, says: str) -> None:
    for value in values:
        assert_malformed("alpaca", message, (path, value), says)


@pytest.mark.parametrize(
    "message",
    [
        [{"T": "success", "msg": "connected"}],
        [{"T": "success", "msg": "authenticated"}],
        [{"T": "subscription", "trades": ["AAPL"], "quotes": ["AMD"], "bars": ["*"]}],
        *([HALT | {"sc": code}] for code in "56789ACDEF"),
        [],
    ],
)
def test_what_says_nothing_of_the_market_is_neither_tick_nor_reject(message: Any) -> None:
    assert_control("alpaca", message)


@pytest.mark.parametrize(
    ("message", "says"),
    [
        ([{"T": "error", "code": 402, "msg": "auth failed"}], "auth failed"),
        ([{"T": "b", "S": "SPY", "o": 388.985}], "'b'"),
        ([{"T": "l", "S": "IONM"}], "'l'"),
        ([{"T": "c", "S": "EEM", "oi": 52983525033527, "ci": 52983525034326, "t": ISO}], "correction"),
        ([{"T": "x", "S": "GOOGL", "i": 465, "a": "C", "t": ISO}], "cancellation"),
        ([{"T": ["t"]}], ""),
        ([[]], ""),
        ([None], ""),
        ({"T": "t"}, ""),
        (7, ""),
        ("t", ""),
    ],
)
def test_what_is_not_read_is_unknown(message: Any, says: str) -> None:
    assert_unknown("alpaca", message, says)
