"""Binance's parser against two real recordings; what is right is computed here, from the JSON, the slow way."""

import json
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tapeline.connectors.venues import Message
from tapeline.schemas import Flag, Kind, Ticks
from tests.connectors.venues.conftest import Read, read_messages

pytestmark = pytest.mark.slow

Slow = tuple[int, int, int, int, int, int, float, float, float, float]
MS = 1_000_000


def slow_ticks(message: Message) -> Iterator[Slow]:
    """Give what one message says, field by field, without the code under test."""
    outer: dict[str, Any] = json.loads(message.data)
    event = outer.get("data", outer)
    recv = message.recv_ns
    at = event["T" if "T" in event else "E"] * MS if "E" in event else recv
    if "lastUpdateId" in event:
        levels = [(1, *level) for level in event["bids"]] + [(-1, *level) for level in event["asks"]]
        for number, (side, price, size) in enumerate(levels, 1):
            flags = Flag.SNAPSHOT | (Flag.LAST if number == len(levels) else 0)
            yield at, recv, event["lastUpdateId"], Kind.BOOK, side, flags, float(price), float(size), 0, 0
    elif event.get("e") == "trade":
        side = -1 if event["m"] else 1
        yield at, recv, event["t"], Kind.TRADE, side, 0, float(event["p"]), float(event["q"]), 0, 0
    elif event.get("e") == "depthUpdate":
        levels = [(1, *level) for level in event["b"]] + [(-1, *level) for level in event["a"]]
        for number, (side, price, size) in enumerate(levels, 1):
            flags = Flag.LAST if number == len(levels) else Flag(0)
            yield at, recv, event["u"], Kind.BOOK, side, flags, float(price), float(size), 0, 0
    else:
        prices = (float(event[name]) for name in "bBaA")
        yield at, recv, event["u"], Kind.QUOTE, 0, 0, *prices


def assert_same(read: Read) -> None:
    """Compare every field of every tick with the slow way."""
    expected = [tick for message in read.messages for tick in slow_ticks(message)]
    assert len(read.ticks) == len(expected)
    fields = ("ts_event_ns", "ts_recv_ns", "sequence", "kind", "side", "flags", "price", "size", "price2", "size2")
    for field, values in zip(fields, zip(*expected, strict=True), strict=True):
        assert read.ticks[field].tolist() == list(values), field
    assert not read.rejects


def times_back(values: Iterator[int]) -> int:
    times = list(values)
    return sum(later < earlier for earlier, later in pairwise(times))


def event_times(read: Read) -> Iterator[int]:
    """Binance's own "event time" E, where a message has one."""
    for message in read.messages:
        outer = json.loads(message.data)
        event = outer.get("data", outer)
        if "E" in event:
            yield event["E"]


def heads(ticks: Ticks) -> Ticks:
    """The last tick of each event: one a message."""
    mask: npt.NDArray[np.bool_] = (ticks["kind"] != Kind.BOOK) | (ticks["flags"] & Flag.LAST != 0)
    return ticks[mask]


def test_usdm_gives_every_message_and_level(usdm: Read) -> None:
    assert usdm.recording.source == "binance-usdm/usdm_btcusdt_20240808"
    assert usdm.names == ("binance-usdm:BTCUSDT",)
    assert len(usdm.messages) == 93_954
    assert Counter(heads(usdm.ticks)["kind"].tolist()) == {Kind.TRADE: 21_313, Kind.QUOTE: 66_089, Kind.BOOK: 6_552}
    assert_same(usdm)


def test_usdm_event_time_goes_back_and_nothing_is_dropped(usdm: Read) -> None:
    assert times_back(event_times(usdm)) == 855
    assert len(heads(usdm.ticks)) == len(usdm.messages)
    recv_ns = usdm.ticks["ts_recv_ns"]
    assert (np.diff(recv_ns) >= 0).all()


def test_spot_gives_every_message_and_level(spot: Read) -> None:
    assert spot.recording.source == "binance/spot_btcusdt_20240809"
    assert spot.names == ("binance:BTCUSDT",)
    assert Counter(heads(spot.ticks)["kind"].tolist()) == {Kind.QUOTE: 45_134, Kind.TRADE: 10_147, Kind.BOOK: 3_044}
    assert times_back(event_times(spot)) == 14
    assert_same(spot)


@pytest.mark.parametrize(("kind", "name"), [(Kind.TRADE, b"@trade"), (Kind.BOOK, b"@depth")])
def test_a_message_taken_out_shows_as_a_gap(usdm: Read, spot: Read, kind: Kind, name: bytes) -> None:
    for whole in (usdm, spot):
        messages = list(whole.messages[:3000])
        own = [position for position, message in enumerate(messages) if name in message.data]
        lost = own[len(own) // 2]
        before, after = slow_of(messages[own[len(own) // 2 - 1]]), slow_of(messages[own[len(own) // 2 + 1]])
        gone = slow_of(messages[lost])
        read = read_messages(whole.recording, messages[:lost] + messages[lost + 1 :])
        (gap,) = read.ticks[read.ticks["kind"] == Kind.GAP]
        (position,) = np.flatnonzero(read.ticks["kind"] == Kind.GAP)
        assert gap["sequence"] == before[2] + 1
        assert gap["price2"] == kind
        consecutive = kind == Kind.TRADE or whole is spot
        assert gap["size"] == (gone[2] - before[2] if consecutive else 0)
        assert read.ticks[position + 1]["sequence"] == after[2]
        assert read.ticks[position + 1]["kind"] == kind


def slow_of(message: Message) -> Slow:
    return next(slow_ticks(message))
