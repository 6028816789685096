"""The parser of Coinbase Advanced Trade, message by message; format from its documents and from recordings."""

from typing import Any

import pytest

from tapeline.connectors.venues import Sequences
from tapeline.schemas import Flag, GapReason, Kind
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

ISO, NS = "2026-08-09T21:05:48.228568804Z", 1_786_309_548_228_568_804
T1, NS1 = "2026-08-09T21:05:48.170326Z", 1_786_309_548_170_326_000
T2, NS2 = "2026-08-09T21:05:49Z", 1_786_309_549_000_000_000


def message(channel: str, number: int, *events: Any) -> dict[str, Any]:
    return {"channel": channel, "timestamp": ISO, "sequence_num": number, "events": list(events)}


def dealt(number: int, side: str = "SELL", symbol: str = "BTC-USD") -> dict[str, Any]:
    identity = {"product_id": symbol, "trade_id": str(number)}
    return identity | {"price": "65083.67", "size": "0.25", "time": T1, "side": side}


def level(side: str, price: str, size: str, time: str = T1) -> dict[str, str]:
    return {"side": side, "event_time": time, "price_level": price, "new_quantity": size}


def trades(number: int, *ids: int, what: str = "update", symbol: str = "BTC-USD") -> dict[str, Any]:
    listed = [dealt(one, symbol=symbol) for one in ids]
    return message("market_trades", number, {"type": what, "trades": listed})


def book(number: int, *levels: Any, what: str = "update", symbol: str = "BTC-USD") -> dict[str, Any]:
    return message("l2_data", number, {"type": what, "product_id": symbol, "updates": list(levels)})


TRADES = message("market_trades", 0, {"type": "update", "trades": [dealt(8, "BUY"), dealt(7)]})
TRADE = trades(0, 7)
TICKER = message(
    "ticker",
    3,
    {
        "type": "update",
        "tickers": [
            {
                "type": "ticker",
                "product_id": "BTC-USD",
                "price": "65086.18",
                "best_bid": "9.5",
                "best_bid_quantity": "1.5",
                "best_ask": "10",
                "best_ask_quantity": "2",
            }
        ],
    },
)
PICTURE = book(4, level("bid", "9", "1"), level("offer", "9.5", "3", T2), what="snapshot")
UPDATE = book(5, level("offer", "9.5", "0", T2), level("bid", "9", "4"))
HEARTBEAT = message("heartbeats", 0, {"current_time": "2026-08-09 21:05:48.85 +0000 UTC m=+41", "heartbeat_counter": 1})
SUBSCRIBED = message("subscriptions", 0, {"subscriptions": {"level2": ["BTC-USD", "ETH-USD"], "heartbeats": ["x"]}})

GOOD: list[tuple[Any, Rows]] = [
    (
        TRADES,
        [(Kind.TRADE, NS1, 7, 1, 0, 65083.67, 0.25, 0, 0), (Kind.TRADE, NS1, 8, -1, 0, 65083.67, 0.25, 0, 0)],
    ),
    (trades(1, 8, what="snapshot"), [(Kind.TRADE, NS1, 8, 1, Flag.SNAPSHOT, 65083.67, 0.25, 0, 0)]),
    (TICKER, [(Kind.QUOTE, NS, 3, 0, 0, 9.5, 1.5, 10, 2)]),
    (
        PICTURE,
        [
            (Kind.BOOK, NS2, 4, 1, Flag.SNAPSHOT, 9, 1, 0, 0),
            (Kind.BOOK, NS2, 4, -1, Flag.SNAPSHOT | Flag.LAST, 9.5, 3, 0, 0),
        ],
    ),
    (UPDATE, [(Kind.BOOK, NS2, 5, -1, 0, 9.5, 0, 0, 0), (Kind.BOOK, NS2, 5, 1, Flag.LAST, 9, 4, 0, 0)]),
    (book(6, what="snapshot"), [(Kind.BOOK, RECV_NS, 6, 0, Flag.SNAPSHOT | Flag.LAST, 0, 0, 0, 0)]),
    (
        message("l2_data", 7, *(UPDATE["events"] * 2)),
        [(Kind.BOOK, NS2, 7, -1, 0, 9.5, 0, 0, 0), (Kind.BOOK, NS2, 7, 1, Flag.LAST, 9, 4, 0, 0)] * 2,
    ),
]


@pytest.mark.parametrize(("message", "expected"), GOOD)
def test_what_each_kind_says(message: Any, expected: Rows) -> None:
    assert_good("coinbase", message, expected, ("BTC-USD",))


def gaps(*messages: Any, state: Sequences | None = None) -> list[tuple[str, int, int, int]]:
    """Symbol, first number, how many, n-th message; each is of every kind, before the ticks of its message."""
    parsed = parse("coinbase", *messages, state=state)
    found = []
    for position in (parsed.ticks["kind"] == Kind.GAP).nonzero()[0].tolist():
        gap = parsed.ticks[position]
        assert (gap["price"], gap["price2"], gap["size2"]) == (GapReason.SEQUENCE, 0, 0)
        shown_by = gap["ts_recv_ns"].item() - RECV_NS
        assert not ((parsed.ticks["ts_recv_ns"] == gap["ts_recv_ns"])[:position] & (gap["kind"] != Kind.GAP)).any()
        name = parsed.names[gap["instrument_id"]].removeprefix("coinbase:")
        found.append((name, gap["sequence"].item(), int(gap["size"]), shown_by))
    return found


def test_a_number_that_is_missing_is_missing_for_all_symbols_so_far() -> None:
    ether = trades(1, 5, symbol="ETH-USD")
    assert gaps(trades(0, 1), ether, TICKER) == [("BTC-USD", 2, 1, 2), ("ETH-USD", 2, 1, 2)]
    assert gaps(trades(0, 1), trades(2, 5, symbol="ETH-USD"), trades(3, 6, symbol="SOL-USD")) == [
        ("BTC-USD", 1, 1, 1),
        ("ETH-USD", 1, 1, 1),
    ]


def test_it_shows_by_whatever_comes_next_and_the_subscription_names_symbols() -> None:
    assert gaps(SUBSCRIBED, HEARTBEAT | {"sequence_num": 4}) == [("BTC-USD", 1, 3, 1), ("ETH-USD", 1, 3, 1)]
    state: Sequences = {}
    assert gaps(SUBSCRIBED, state=state) == []
    assert state == {"connection/sequence": 0, "symbols": "BTC-USD ETH-USD"}
    candles = message("candles", 2, {"type": "snapshot", "candles": []})
    assert gaps(candles, state=state) == [("BTC-USD", 1, 1, 0), ("ETH-USD", 1, 1, 0)]
    assert gaps(HEARTBEAT | {"sequence_num": 3}, state=state) == [], "a kind that is not read is not missing"


def test_what_is_malformed_is_missing() -> None:
    bad = book(1, level("bid", "0", "1"))
    assert gaps(trades(0, 1), bad, trades(2, 2)) == [("BTC-USD", 1, 1, 2)]
    assert gaps(trades(0, 1), b"{", trades(2, 2)) == [("BTC-USD", 1, 1, 2)]


def test_numbers_that_come_again_make_no_gap_and_mark_books() -> None:
    parsed = parse("coinbase", PICTURE, UPDATE, UPDATE)
    assert Kind.GAP not in parsed.ticks["kind"]
    assert (parsed.ticks["flags"] & Flag.LATE != 0).tolist() == [False] * 4 + [True] * 2


def test_a_connection_that_began_anew_in_silence_is_a_gap() -> None:
    state: Sequences = {}
    parse("coinbase", PICTURE, UPDATE, state=state)
    parsed = parse("coinbase", book(0, level("bid", "8", "1"), what="snapshot"), state=state)
    assert rows(parsed)[0] == (Kind.GAP, RECV_NS, 0, 0, 0, GapReason.SEQUENCE, 0, 0, 0)
    assert not parsed.ticks["flags"][-1] & Flag.LATE
    assert state["connection/sequence"] == 0
    told = {key: value for key, value in state.items() if not key.startswith("connection/")}
    assert gaps(book(0, level("bid", "8", "1"), what="snapshot"), state=told) == [], "it was said"


def test_trades_that_come_again_after_connecting_anew_are_late() -> None:
    parsed = parse("coinbase", trades(0, 7, 6, 5, what="snapshot"), trades(1, 8), trades(2, 9, 8, 7, what="snapshot"))
    assert parsed.ticks["sequence"].tolist() == [5, 6, 7, 8, 7, 8, 9]
    assert (parsed.ticks["flags"] & Flag.LATE != 0).tolist() == [False] * 4 + [True] * 2 + [False]


@pytest.mark.parametrize(
    ("message", "path", "values", "says"),
    [
        (TRADE, ("events", 0, "trades", 0, "price"), [*BAD_TEXT_NUMBERS, "0"], "price"),
        (TRADE, ("events", 0, "trades", 0, "size"), [*BAD_TEXT_NUMBERS, "0"], "size"),
        (TRADE, ("events", 0, "trades", 0, "time"), BAD_ISO_TIMES, "time"),
        (TRADE, ("events", 0, "trades", 0, "side"), ["buy", "", 1, None, [], GONE], ""),
        (TRADE, ("events", 0, "trades", 0, "trade_id"), ["", "x", "-1", 5, None, GONE], "trade_id"),
        (TRADE, ("events", 0, "trades", 0, "product_id"), ["", 1, None, "A B", [], GONE], ""),
        (TRADE, ("events", 0, "trades", 0), [None, [], "x", 1], "market_trades"),
        (TRADE, ("events", 0, "trades"), [None, {}, "x", GONE], "market_trades"),
        (TRADE, ("events", 0, "type"), ["x", None, GONE], "market_trades"),
        (TRADE, ("events", 0), [None, [], "x", 1], "market_trades"),
        (TRADE, ("events",), [None, {}, "x", GONE], "market_trades"),
        (TRADE, ("sequence_num",), ["1", -1, 1.5, None, 2**63, True, GONE], "sequence_num"),
        (TICKER, ("events", 0, "tickers", 0, "best_bid"), BAD_TEXT_NUMBERS, "bid"),
        (TICKER, ("events", 0, "tickers", 0, "best_ask_quantity"), [*BAD_TEXT_NUMBERS, GONE], "ask"),
        (TICKER, ("timestamp",), [*BAD_ISO_TIMES, GONE], "timestamp"),
        (UPDATE, ("events", 0, "updates", 0, "price_level"), [*BAD_TEXT_NUMBERS, "0"], "price"),
        (UPDATE, ("events", 0, "updates", 0, "new_quantity"), [*BAD_TEXT_NUMBERS, GONE], "new_quantity"),
        (UPDATE, ("events", 0, "updates", 0, "side"), ["ask", "", 1, None, GONE], "side"),
        (UPDATE, ("events", 0, "updates", 0, "event_time"), [*BAD_ISO_TIMES, GONE], "event_time"),
        (UPDATE, ("events", 0, "updates", 0), [None, [], "x", 1], "update"),
        (UPDATE, ("events", 0, "updates"), [None, {}, "x", GONE], "updates"),
        (UPDATE, ("events", 0, "product_id"), ["", 1, None, "A B", [], GONE], ""),
    ],
)
def test_a_wrong_field_is_one_reject_that_names_it(message: Any, path: tuple[Any, ...], values: Any, says: str) -> None:
    for value in values:
        assert_malformed("coinbase", message, (path, value), says)


@pytest.mark.parametrize("message", [HEARTBEAT, SUBSCRIBED, message("subscriptions", 0, {"subscriptions": None}, 7)])
def test_what_is_said_of_the_connection_is_neither_tick_nor_reject(message: Any) -> None:
    assert_control("coinbase", message)


@pytest.mark.parametrize(
    ("message", "says"),
    [
        ({"type": "error", "message": "authentication failure"}, "authentication failure"),
        (message("candles", 0), "'candles'"),
        (message("ticker_batch", 0), "'ticker_batch'"),
        (message("sequence", 0), "'sequence'"),
        ({}, ""),
        ([], ""),
        (7, ""),
        (None, ""),
        ("pong", ""),
    ],
)
def test_what_is_not_read_is_unknown(message: Any, says: str) -> None:
    assert_unknown("coinbase", message, says)
