"""What `contract` promises of every venue's `parse`, over messages that are mixed, damaged and cut in every way."""

import json
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tapeline.connectors.venues import VENUES, Parsed, Sequences, parse_frame
from tapeline.schemas import Kind, RawFrame
from tests.connectors.venues import (
    test_alpaca,
    test_bitstamp,
    test_bybit,
    test_coinbase,
    test_coinbase_exchange,
    test_kraken,
    test_okx,
)
from tests.connectors.venues.made import RECV_NS, encoded

BYBIT = [*(one[0] for one in test_bybit.GOOD), test_bybit.delta({"bid1Size": "7", "markPrice": "9"})]
MESSAGES: dict[str, list[Any]] = {
    "alpaca": [one[0] for one in test_alpaca.TICKS],
    "bitstamp": [one[0] for one in test_bitstamp.GOOD],
    "bybit": BYBIT,
    "bybit-linear": BYBIT,
    "bybit-inverse": BYBIT,
    "coinbase": [*(one[0] for one in test_coinbase.GOOD), test_coinbase.HEARTBEAT, test_coinbase.SUBSCRIBED],
    "coinbase-exchange": [one[0] for one in test_coinbase_exchange.GOOD],
    "kraken": [*(one[0] for one in test_kraken.GOOD), test_kraken.ANSWER],
    "okx": [*(one[0] for one in test_okx.GOOD), test_okx.QUIET, test_okx.ANEW, test_okx.AFTER],
}
SYMBOLS = {"BTC-USD", "BTC-USDT", "BTCUSDT", "XBT/USD", "BTC/USD", "AAPL"}
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**65), 2**65) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=6,
)


def leaves(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[tuple[str | int, ...], Any]]:
    """List everything in a message with its path, but the message itself."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = [] if not path else [(path, value)]
    return found + [leaf for key, one in inner for leaf in leaves(one, (*path, key))]


def put(message: Any, path: tuple[str | int, ...], value: Any) -> None:
    for step in path[:-1]:
        message = message[step]
    message[path[-1]] = value


@st.composite
def messages_of(draw: st.DrawFn, venue: str) -> bytes:
    """A message of any kind with other numbers or another symbol, or damaged."""
    message = json.loads(json.dumps(draw(st.sampled_from(MESSAGES[venue]))))
    for path, value in leaves(message):
        if type(value) is int and 0 < value < 10**9:
            put(message, path, max(0, value + draw(st.sampled_from([0, 0, 1, 1, 2, -1, 7]))))
        elif isinstance(value, str) and value in SYMBOLS and draw(st.booleans()):
            put(message, path, "ETH-USD")
    damage = draw(st.sampled_from(["none", "none", "none", "value", "bytes", "another"]))
    if damage == "value" and (found := leaves(message)):
        path, _ = draw(st.sampled_from(found))
        put(message, path, draw(JSON_VALUES))
    (data,) = encoded(message)
    if damage == "another":
        return draw(st.sampled_from([b"", b"{", b"[]", b"7", data + b" ", data[:-1], data + data, b"pong"]))
    if damage != "bytes":
        return data
    changed = bytearray(data)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(changed)))
        match draw(st.integers(0, 2)):
            case 0:
                del changed[at : at + draw(st.integers(1, 8))]
            case 1:
                changed[at:at] = draw(st.binary(min_size=1, max_size=4))
            case _:
                changed[at : at + 1] = draw(st.sampled_from([b"0", b'"', b"[", b"}", b",", b"-", b"e", b"null"]))
    return bytes(changed)


def in_frames(venue: str, messages: list[bytes], cuts: set[int]) -> tuple[list[Any], list[Any], Sequences]:
    """Parse messages cut into frames; return ticks with their names, rejects, and the state at the end."""
    state: Sequences = {}
    ticks: list[Any] = []
    rejects: list[Any] = []
    for start, end in pairwise(sorted({0, *cuts, len(messages)})):
        frame = RawFrame.build(f"{venue}/x", start, range(RECV_NS + start, RECV_NS + end), messages[start:end])
        state = json.loads(json.dumps(state))  # as a snapshot would carry it
        again = dict(state)
        part = parse_frame(frame, state)
        assert_sound(part)
        repeated = parse_frame(frame, again)
        assert repeated.ticks.tobytes() == part.ticks.tobytes(), "the same again"
        assert again == state
        for tick in part.ticks:
            row = tick.copy()
            row["instrument_id"] = 0
            ticks.append((part.names[tick["instrument_id"]], row.tobytes()))
        rejects += [(start + one.index, one.reason, one.detail) for one in part.rejects]
    return ticks, rejects, state


def assert_sound(parsed: Parsed) -> None:
    ticks = parsed.ticks
    assert set(ticks["instrument_id"].tolist()) == set(range(len(parsed.names))), "every name has ticks, in order"
    for column in ("price", "size", "price2", "size2"):
        assert np.isfinite(ticks[column]).all()
        assert (ticks[column][ticks["kind"] != Kind.FUNDING] >= 0).all()
    indices = [reject.index for reject in parsed.rejects]
    assert indices == sorted(set(indices)), "one a message, in order"
    assert (np.diff(ticks["ts_recv_ns"]) >= 0).all(), "in order of arrival"


@pytest.mark.slow
@pytest.mark.parametrize("venue", MESSAGES)
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_nothing_makes_it_raise_and_cutting_into_frames_changes_nothing(venue: str, data: st.DataObject) -> None:
    messages = data.draw(st.lists(messages_of(venue) | st.binary(max_size=20), min_size=1, max_size=25))
    cuts = data.draw(st.sets(st.integers(1, len(messages)), max_size=6))
    whole = in_frames(venue, messages, set())
    assert in_frames(venue, messages, cuts) == whole
    assert len(json.dumps(whole[2])) < 2000, "what is remembered is small"


@pytest.mark.parametrize("venue", MESSAGES)
@pytest.mark.parametrize(
    "data", [b"[" * 100_000 + b"]" * 100_000, b'{"a":' * 1000 + b"1" + b"}" * 1000, b'"' + b"a" * 10**6 + b'"']
)
def test_deep_and_long_nonsense_is_one_reject(venue: str, data: bytes) -> None:
    for message in (data, b'{"event":' + data + b"}", b'{"topic":' + data + b',"data":[]}', b'[{"T":' + data + b"}]"):
        parsed = parse_frame(RawFrame.build(f"{venue}/x", 0, [RECV_NS], [message]), {})
        assert (len(parsed.rejects), len(parsed.ticks)) == (1, 0)


def test_all_new_venues_are_here() -> None:
    assert set(MESSAGES) | {"binance", "binance-usdm", "binance-coinm", "sim", "lean"} == set(VENUES)
