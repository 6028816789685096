"""The fast book against a slow one: whatever ticks come, however they are cut, and saved at any place."""

from collections.abc import Iterator
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.connectors.venues import book_kernel
from tapeline.connectors.venues.book import Books
from tapeline.schemas import Flag, Kind, Ticks, empty_ticks
from tests.connectors.venues.slow_book import SlowBook, assert_same

pytestmark = pytest.mark.slow
IDS = (3, 2**32 - 1)
Draw = st.DrawFn


@st.composite
def events(draw: Draw) -> list[tuple[Any, ...]]:
    """Return rows (instrument, kind, sequence, side, flags, price, size, price2, size2) of an event, sound or not."""
    instrument, number = draw(st.sampled_from(IDS)), draw(st.integers(0, 6))
    what = draw(st.sampled_from(["update"] * 6 + ["snapshot"] * 3 + ["gap", "trade", "odd"]))
    if what == "gap":
        kind, reason = draw(st.sampled_from([0, Kind.BOOK, Kind.TRADE])), draw(st.integers(1, 7))
        return [(instrument, Kind.GAP, number, 0, 0, reason, 0, kind, 0)]
    if what == "trade":
        return [(instrument, Kind.TRADE, number, 1, 0, 5.0, 1.0, 0, 0)]
    flags = (Flag.SNAPSHOT if what == "snapshot" else 0) | draw(st.sampled_from([0] * 8 + [Flag.LATE]))
    kept = draw(st.sampled_from([0, 0, 0, 1, 2, 3]))
    price = st.sampled_from([float(one) for one in range(1, 9)])
    size = st.sampled_from([0.0, 1.0, 2.0] + [float("nan"), -1.0] * (what == "odd"))
    side = st.sampled_from([1, -1] + [0] * (what == "odd"))
    levels = draw(st.lists(st.tuples(side, price, size), min_size=what != "snapshot", max_size=6))
    rows = [(instrument, Kind.BOOK, number, one, flags, at, size, 0, kept) for one, at, size in levels]
    rows = rows or [(instrument, Kind.BOOK, number, 0, flags, 0, 0, 0, kept)]
    if draw(st.integers(0, 15)):  # else it has no end
        rows[-1] = (*rows[-1][:4], rows[-1][4] | Flag.LAST, *rows[-1][5:])
    return rows


def ticks_of(rows: list[tuple[Any, ...]]) -> Ticks:
    ticks = empty_ticks(len(rows))
    for number, row in enumerate(rows):
        fields = ("instrument_id", "kind", "sequence", "side", "flags", "price", "size", "price2", "size2")
        for field, value in zip(fields, row, strict=True):
            ticks[field][number] = value
        ticks["ts_recv_ns"][number] = 1000 + number - (number % 3) * 5
    return ticks


def compare(fast: Books, slow: dict[int, SlowBook]) -> None:
    for instrument_id in fast:
        assert_same(fast[instrument_id], slow[instrument_id])


@settings(max_examples=300, deadline=None)
@given(st.lists(events(), max_size=25), st.randoms(use_true_random=False))
def test_whatever_comes_however_cut(parts: list[list[tuple[Any, ...]]], rng: Random) -> None:
    """Events of two instruments may stand in each other; now and then the books are saved and restored."""
    rows = [row for part in parts for row in part]
    if rng.random() < 0.3:  # two instruments' events in turn
        first, second = ([row for row in rows if row[0] == one] for one in IDS)
        rows = [row for pair in zip(first, second, strict=False) for row in pair]
    ticks = ticks_of(rows)
    fast, slow, at = Books(), {one: SlowBook() for one in IDS}, 0
    while at < len(ticks):
        end = at + rng.choice((1, 1, 2, 5, 20))
        fast.add(ticks[at:end])
        for tick in ticks[at:end]:
            slow[int(tick["instrument_id"])].take(tick)
        compare(fast, slow)
        if rng.random() < 0.2:
            fast = Books.restored(fast.snapshot())
            compare(fast, slow)
        at = end
    whole = Books()
    whole.add(ticks)
    assert whole.snapshot() == fast.snapshot()


def deep_market(rng: Random, levels: int, kept: int) -> Iterator[list[tuple[Any, ...]]]:
    """Yield events all over a deep book: levels come, change and go, also many at once, and come back."""
    number = 1
    prices = range(1, 4 * levels)
    yield [
        (IDS[0], Kind.BOOK, number, 1 if price % 2 else -1, Flag.SNAPSHOT, float(price), 1.0, 0, kept)
        for price in rng.sample(prices, 2 * levels)
    ]
    while True:
        number += 1
        start = rng.choice((1, max(prices) - 80, rng.choice(prices)))
        near = rng.choice((prices, range(start, start + 200)))
        size = rng.choice((0.0, 1.0, None))  # all go, all come, or some of each
        yield [
            (
                *(IDS[0], Kind.BOOK, number, 1 if price % 2 else -1, 0, float(price)),
                *(rng.choice((0.0, 2.0)) if size is None else size, 0, kept),
            )
            for price in rng.sample(near, rng.choice((1, 20, 150)))
        ]


@pytest.mark.parametrize(("levels", "kept"), [(5_000, 0), (500, 0), (300, 200)])
def test_a_deep_book(levels: int, kept: int) -> None:
    rng = Random(levels)
    fast, slow = Books(), SlowBook()
    for number, rows in zip(range(400), deep_market(rng, levels, kept), strict=False):
        ticks = ticks_of(rows)
        ticks["flags"][-1] |= Flag.LAST
        fast.add(ticks)
        for tick in ticks:
            slow.take(tick)
        if number % 10 == 0:
            assert_same(fast[IDS[0]], slow)
            if number % 100 == 0:
                fast = Books.restored(fast.snapshot())
    assert_same(fast[IDS[0]], slow)
    for side in (1, -1):
        for price in range(1, 4 * levels, 7):
            assert fast[IDS[0]].size_at(side, price) == slow.sides[side].get(price, 0.0)
        worst = fast[IDS[0]].bids()[0] if side > 0 else fast[IDS[0]].asks()[0]
        assert fast[IDS[0]].depth_to(side, worst[-1]) == sum(slow.sides[side].values())


def test_an_event_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [(IDS[0], Kind.BOOK, 1, 1, Flag.SNAPSHOT, 1.0 + number, 1.0, 0, 0) for number in range(1000)]
    part = np.concatenate([ticks_of(rows)] * 100)
    books = Books()
    for _ in range(book_kernel.EVENT_MAX // len(part) + 2):
        books.add(part)
    used = books.arrays.queue.nbytes
    for _ in range(10):
        books.add(part)
    assert books.arrays.queue.nbytes == used
    part["flags"][-1] |= Flag.LAST
    books.add(part)
    assert books[IDS[0]].best_bid is None
    good = ticks_of(rows)
    good["flags"][-1] |= Flag.LAST
    books.add(good)
    assert books[IDS[0]].best_bid == (1000.0, 1.0)
