"""Bybit's scanned tickers: whatever they say, in whatever frames, it is what the library parser says, to the bit."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tapeline.connectors.venues import Message, bybit
from tapeline.connectors.venues.assembly import Assembly
from tapeline.connectors.venues.bybit_said import complete
from tapeline.connectors.venues.bybit_shapes import SCANNER, SCANNER_BUT_TICKERS, STREAMS
from tapeline.connectors.venues.bybit_tickers import FIELDS
from tapeline.connectors.venues.capture import open_capture
from tapeline.schemas import RawFrame
from tests.connectors.venues.made import encoded
from tests.connectors.venues.test_bybit import PICTURE, TICKER, TRADE, UPDATE, delta
from tests.connectors.venues.test_scan import assert_same, frames_of

NUMBERS = st.sampled_from(
    ["", "0", "0.0", "9.5", "10", "00.10", "9.50", "123456789012345", "1234567890.123456", "0.0000000000000001"]
)
RATES = NUMBERS | st.sampled_from(["-0.0001", "-0", "-1234567890.123456"])
TIMES = st.sampled_from(["", "0", "1786320000000", "0000000000007"])
SAID = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(list(FIELDS)[:6], NUMBERS),
        "fundingRate": RATES,
        "nextFundingTime": TIMES,
        "lastPrice": st.sampled_from(["", "1", "x"]),
    },
)
LINEAR, SPOT = ("topic", "type", "data", "cs", "ts"), ("topic", "ts", "type", "cs", "data")


def ordered(message: Any, order: tuple[str, ...] = LINEAR) -> dict[str, Any]:
    """Put the fields of a ticker into the order in which Bybit sends them."""
    return {name: message[name] for name in order}


WHOLE = ordered(TICKER)
OTHERS = [TRADE, PICTURE, UPDATE, {"success": True, "op": "subscribe"}, {"topic": "kline.1.BTCUSDT", "data": []}]


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """A ticker that says anything, or what comes between tickers."""
    if draw(st.integers(0, 4)) == 0:
        return encoded(draw(st.sampled_from(OTHERS)))[0]
    said, symbol = draw(SAID), draw(st.sampled_from(["BTCUSDT", "ETHUSDT"]))
    message = delta({name: said[name] for name in draw(st.permutations(list(said)))} | {"symbol": symbol})
    message |= {"type": draw(st.sampled_from(["delta", "delta", "delta", "snapshot"]))}
    return encoded(ordered(message, draw(st.sampled_from([LINEAR, SPOT]))))[0]


def is_completed(frame: RawFrame) -> bool:
    """Whether none of the tickers in a frame is left to the library parser."""
    assembly = Assembly("bybit", frame, {}, STREAMS, SCANNER)
    left = set(assembly.left.tolist())
    data = [bytes(one) for one in frame.messages()]
    return complete(assembly, {}) and not any(data[index].startswith(b'{"topic":"tickers') for index in left)


@pytest.mark.slow
@settings(deadline=None, max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(messages(), min_size=1, max_size=20), st.sets(st.integers(1, 19), max_size=4))
@example(encoded(*[WHOLE | {"data": {"symbol": "A", "bid1Price": "1"}}] * 2), set())
def test_tickers_are_the_same_however_they_are_cut(found: list[bytes], cuts: set[int]) -> None:
    frames = frames_of("bybit/x", found, (cut for cut in cuts if cut < len(found)))
    assert_same("bybit/x", frames)


@pytest.mark.parametrize(
    "odd",
    [
        ordered(delta({"bid1Price": "x"})),
        ordered(delta({"bid1Price": 7})),
        ordered(delta({"bid1Size": "1" * 15 + "." + "2" * 20})),
        b'{"topic":"\\u0074ickers.A","type":"delta","data":{"symbol":"BTCUSDT","bid1Size":"8"},"cs":1,"ts":1}',
        b'{"topic":"tickers.A","type":"delta","data":{"symbol":"BTCUSDT","bid1Size":"8"},"ts":1}',
    ],
)
def test_one_ticker_that_is_left_takes_the_others_along(odd: object) -> None:
    found = encoded(WHOLE, TRADE, ordered(delta({"bid1Size": "7"})), odd, ordered(delta({"ask1Size": "3"})))
    (frame,) = frames_of("bybit/x", found)
    assert not is_completed(frame)
    assert_same("bybit/x", [frame])
    assert is_completed(frames_of("bybit/x", [one for one in found if one != encoded(odd)[0]])[0])


def test_a_ticker_that_says_nothing_that_is_read_leaves_no_trace() -> None:
    state: dict[str, int | str] = {}
    (frame,) = frames_of("bybit/x", encoded(WHOLE, WHOLE | {"data": {"symbol": "ETHUSDT", "lastPrice": "1"}}))
    parsed = bybit.parse("bybit", frame, state)
    assert (parsed.names, list(state)) == (("bybit:BTCUSDT",), ["connection/ticker/BTCUSDT"])
    assert is_completed(frame)


def test_both_scanners_read_the_same_but_for_tickers() -> None:
    (frame,) = frames_of("bybit/x", encoded(WHOLE, PICTURE, UPDATE))
    without = Assembly("bybit", frame, {}, STREAMS, SCANNER_BUT_TICKERS)
    assert (without.left.tolist(), len(without.said)) == ([0], 0)


@pytest.mark.slow
@pytest.mark.parametrize("per_frame", [1, 7, 100, 1000])
def test_the_capture_is_the_same(data: Path, per_frame: int) -> None:
    by_source: dict[str, list[Message]] = {}
    for source, item in open_capture(data / "ws_raw/cryptofeed_v3/BYBIT.jsonl.zst").items():
        if isinstance(item, Message):
            by_source.setdefault(source, []).append(item)

    def framed(found: Sequence[Message], start: int) -> RawFrame:
        part = found[start : start + per_frame]
        return RawFrame.build("bybit/x", start, [one.recv_ns for one in part], [one.data for one in part])

    for found in by_source.values():
        frames = list(map(partial(framed, found), range(0, len(found), per_frame)))
        assert_same("bybit/x", frames)
        assert all(is_completed(frame) for frame in frames if len(Assembly("x", frame, {}, STREAMS, SCANNER).said))
