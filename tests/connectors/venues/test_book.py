"""The order book: what each tick does to it, and how it is read. Against a slow one: test_book_slowly."""

from functools import cache
from math import isnan
from typing import Any

import numpy as np
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from tapeline.connectors.venues.book import Book, BookError, Books, BookState, empty_snapshot
from tapeline.connectors.venues.book_arrays import FIRST, QUEUED, UNDER_WAY, WAITING
from tapeline.connectors.venues.book_kernel import WAITING_MAX
from tapeline.connectors.venues.book_saving import BOOK, HEADER
from tapeline.schemas import Flag, FrameFlag, GapReason, Kind, Lane, TickFrame, Ticks, empty_ticks
from tests.connectors.venues.slow_book import truth_of

pytestmark = pytest.mark.usefixtures("warm")
Levels = list[tuple[int, float, float]]
ID = 7
SNAPSHOT: Levels = [(1, 10.0, 1.0), (1, 9.0, 2.0), (-1, 11.0, 3.0), (-1, 12.0, 4.0)]
SEEN = (((10.0, 1.0), (9.0, 2.0)), ((11.0, 3.0), (12.0, 4.0)))
NOTHING: Any = ((), ())


@pytest.fixture(scope="module")
def warm() -> None:
    """Compiling takes seconds, and is no part of a test."""
    book = event(SNAPSHOT, snapshot=True)
    Books.restored(book_of(book).snapshot())
    one = book_of(book)[ID]
    one.state(), one.size_at(1, 1.0), one.depth_to(1, 1.0), one.bids()


def event(
    levels: Levels,
    number: int = 0,
    *,
    snapshot: bool = False,
    kept: int = 0,
    flags: int = 0,
    last: bool = True,
    at: int = 0,
) -> Ticks:
    """Make the ticks of an event; one without levels is a tick without side."""
    ticks = empty_ticks(max(len(levels), 1))
    ticks["instrument_id"], ticks["kind"], ticks["sequence"] = ID, Kind.BOOK, number
    ticks["size2"], ticks["ts_recv_ns"], ticks["ts_event_ns"] = kept, at, at - 5
    for tick, level in zip(ticks, levels, strict=False):
        tick["side"], tick["price"], tick["size"] = level
    ticks["flags"] = flags | (Flag.SNAPSHOT if snapshot else 0)
    if last:
        ticks["flags"][-1] |= Flag.LAST
    return ticks


def gap(kind: int = Kind.BOOK, reason: GapReason = GapReason.SEQUENCE) -> Ticks:
    ticks = empty_ticks(1)
    ticks["instrument_id"], ticks["kind"], ticks["price"], ticks["price2"] = ID, Kind.GAP, reason, kind
    return ticks


def book_of(*parts: Ticks) -> Books:
    books = Books()
    books.add(np.concatenate(parts))
    return books


def after(*parts: Ticks) -> Book:
    return book_of(*parts)[ID]


START = event(SNAPSHOT, 100, snapshot=True)


def test_a_snapshot_then_updates() -> None:
    book = after(START, event([(1, 10.0, 5.0), (1, 9.5, 6.0), (-1, 11.0, 0.0), (-1, 13.0, 0.0)], 101))
    assert truth_of(book) == (((10.0, 5.0), (9.5, 6.0), (9.0, 2.0)), ((12.0, 4.0),))
    assert (book.number, book.events, book.state(), book.reason) == (101, 2, BookState.SOUND, None)


def test_how_it_is_read() -> None:
    book = after(START)
    assert (book.best_bid, book.best_ask) == ((10.0, 1.0), (11.0, 3.0))
    assert (book.mid, book.spread) == (10.5, 1.0)
    prices, sizes = book.bids(1)
    assert (prices.tolist(), sizes.tolist()) == ([10.0], [1.0])
    assert [part.tolist() for part in book.asks()] == [[11.0, 12.0], [3.0, 4.0]]
    assert [book.size_at(1, price) for price in (10.0, 9.5, 1.0, 99.0)] == [1.0, 0.0, 0.0, 0.0]
    assert [book.depth_to(-1, price) for price in (10.0, 11.0, 11.5, 99.0)] == [0.0, 3.0, 3.0, 7.0]
    assert [book.depth_to(1, price) for price in (11.0, 10.0, 9.0)] == [0.0, 1.0, 3.0]


def test_an_empty_side_has_no_best_level() -> None:
    book = after(event([(1, 10.0, 1.0)], snapshot=True))
    assert book.best_ask is None
    assert isnan(book.mid)
    assert isnan(book.spread)
    assert book.state() == BookState.ONE_SIDED
    assert (book.size_at(-1, 11.0), book.depth_to(-1, 11.0)) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("bid", "state"), [(10.9, BookState.SOUND), (11.0, BookState.LOCKED), (11.1, BookState.CROSSED)]
)
def test_a_crossed_book_says_so(bid: float, state: BookState) -> None:
    assert after(START, event([(1, bid, 1.0)], 101)).state() == state


def test_a_book_that_stands_still_is_stale_by_the_clock_of_the_frames() -> None:
    books = book_of(event(SNAPSHOT, snapshot=True, at=1_000))
    assert books[ID].state(stale_ns=10) == BookState.SOUND
    quiet = empty_ticks(1)
    quiet["kind"], quiet["ts_recv_ns"] = Kind.TIME, 1_010
    books.add(quiet)
    assert books[ID].state(stale_ns=10) == BookState.SOUND
    books.take(TickFrame(Lane(0, 0), 0, 0, 1_011, empty_ticks(0)))
    assert books[ID].state(stale_ns=10) == BookState.STALE
    assert books[ID].state() == BookState.SOUND, "nothing is stale that was not declared to be"
    assert books[ID].state(stale_ns=10, now_ns=1_005) == BookState.SOUND
    books.add(event([(1, 9.0, 0.0)], at=1_009))
    assert books[ID].state(stale_ns=10) == BookState.SOUND
    assert (books[ID].updated_ns, books[ID].event_ns) == (1_009, 1_004)


def test_before_the_first_snapshot_it_is_not_synchronised() -> None:
    book = after(event(SNAPSHOT))
    assert (truth_of(book), book.best_bid, book.reason) == (NOTHING, None, None)
    assert BookState.UNSYNCHRONISED in book.state()


@pytest.mark.parametrize("kind", [0, Kind.BOOK])
def test_a_gap_empties_it_until_the_next_snapshot(kind: int) -> None:
    lost = after(START, gap(kind, GapReason.CHECKSUM), event([(1, 9.5, 1.0)], 102))
    assert (truth_of(lost), lost.reason) == (NOTHING, GapReason.CHECKSUM)
    assert BookState.UNSYNCHRONISED in lost.state()
    again = after(START, gap(kind), event([(1, 8.0, 1.0)], 50, snapshot=True))
    assert (truth_of(again), again.reason) == ((((8.0, 1.0),), ()), None)


def test_a_gap_in_trades_is_none_of_it() -> None:
    assert truth_of(after(START, gap(Kind.TRADE))) == SEEN


def test_an_event_is_seen_whole_or_not_at_all() -> None:
    books = book_of(START)
    change = event([(1, 10.0, 0.0), (-1, 11.0, 9.0)], 101)
    books.add(change[:1])
    assert truth_of(books[ID]) == SEEN
    books.add(change[1:])
    assert truth_of(books[ID]) == (((9.0, 2.0),), ((11.0, 9.0), (12.0, 4.0)))


@pytest.mark.parametrize(
    "broken",
    [
        event([(1, 10.0, 0.0)], 101, last=False),
        event([(1, float("nan"), 1.0)], 101),
        event([(1, 10.0, float("inf"))], 101),
        event([(1, 10.0, -1.0)], 101),
        event([(0, 10.0, 1.0)], 101),
        event([(2, 10.0, 1.0)], 101),
    ],
    ids=["no end", "nan", "infinite", "negative", "no side", "odd side"],
)
def test_a_broken_event_ends_the_book(broken: Ticks) -> None:
    book = after(START, broken, event([(1, 9.5, 1.0)], 102))
    assert (truth_of(book), book.reason) == (NOTHING, GapReason.GARBAGE)
    old = event(SNAPSHOT, 100, snapshot=True)
    assert truth_of(after(START, broken, event([(1, 9.5, 1.0)], 102), old)) == NOTHING, "it has not what was lost"
    new = event(SNAPSHOT, 102, snapshot=True)
    assert truth_of(after(START, broken, event([(1, 9.5, 1.0)], 102), new)) == SEEN


def test_repeats_are_left_out() -> None:
    assert truth_of(after(START, event([(1, 10.0, 7.0)], 0, flags=Flag.LATE))) == SEEN


def test_what_is_older_than_the_book_is_left_out() -> None:
    assert truth_of(after(START, event([(1, 10.0, 7.0)], 99))) == SEEN
    assert truth_of(after(START, event([(1, 10.0, 7.0)], 99, snapshot=True))) == SEEN


def test_updates_before_their_snapshot_go_on_top_of_it() -> None:
    book = after(event([(1, 1.0, 1.0)], 100), event([(1, 10.0, 7.0)], 101), event([(1, 9.0, 0.0)], 102), START)
    assert truth_of(book) == (((10.0, 7.0),), SEEN[1])
    assert book.number == 102


def test_without_numbers_nothing_waits() -> None:
    assert truth_of(after(event([(1, 10.0, 7.0)]), event(SNAPSHOT, snapshot=True))) == SEEN


def test_of_more_than_can_wait_the_snapshot_must_be_as_new() -> None:
    many = event([(1, float(price), 1.0) for price in range(1, WAITING_MAX + 1)], 101)
    more = event([(1, 5.0, 9.0)], 102)
    last = event([(1, 10.0, 9.0)], 103)
    assert truth_of(after(many, more, last, START)) == NOTHING
    assert truth_of(after(many, more, last, event(SNAPSHOT, 102, snapshot=True)))[0] == ((10.0, 9.0), (9.0, 2.0))


def test_an_empty_snapshot_empties_it() -> None:
    book = after(START, event([], 101, snapshot=True))
    assert (truth_of(book), book.state()) == (NOTHING, BookState.ONE_SIDED)
    assert truth_of(after(empty_snapshot(ID), event([(1, 1.0, 1.0)], 3))) == (((1.0, 1.0),), ())


def test_only_the_levels_that_the_venue_keeps_stay() -> None:
    """Kraken's rule: what falls out of its depth is gone without a word."""
    book = after(START, event([(1, 11.0, 1.0), (-1, 11.5, 1.0)], 101, kept=2))
    assert truth_of(book) == (((11.0, 1.0), (10.0, 1.0)), ((11.0, 3.0), (11.5, 1.0)))


def test_books_of_many_instruments() -> None:
    others = START.copy()
    others["instrument_id"] = 2**32 - 1
    others["price"] += 1
    mixed = np.stack([START, others], axis=1).ravel()  # their levels in turn
    books = book_of(mixed)
    assert list(books) == [ID, 2**32 - 1]
    assert truth_of(books[ID]) == SEEN
    assert books[2**32 - 1].mid == 11.5
    only = Books([ID])
    only.add(mixed)
    assert list(only) == [ID]
    assert 5 not in only
    with pytest.raises(KeyError):
        only[5]


def test_instrument_0_is_one_like_the_others() -> None:
    """Ids are places in `Parsed.names` where no registry has given others."""
    first = START.copy()
    first["instrument_id"], first["price"] = 0, first["price"] + 1
    books = book_of(START, first, event([(1, 10.0, 0.0)], 101))
    assert (books[0].mid, books[ID].mid) == (11.5, 10.0)
    assert Books.restored(books.snapshot())[0].mid == 11.5


def test_books_can_be_looked_at_behind_every_event() -> None:
    books = Books()
    ticks = np.concatenate([START, event([(1, 10.0, 0.0), (1, 10.5, 1.0)], 101), gap(), event([(1, 1.0, 1.0)])[:0]])
    seen = [(one, books[one].mid) for one in books.follow(ticks)]
    assert seen[:2] == [(ID, 10.5), (ID, 10.75)]
    assert isnan(seen[2][1])
    assert list(books.follow(START[:2])) == []
    assert list(books.follow(START[2:])) == [ID]
    assert truth_of(books[ID]) == SEEN


def test_a_book_whose_first_part_was_not_read_is_not_taken_for_whole() -> None:
    """A snapshot so long that a frame cannot hold it, and a reader that begins in its middle."""

    def frame(part: int, ticks: Ticks) -> TickFrame:
        return TickFrame(Lane(0, 0), 5, part, 0, ticks, FrameFlag.NONE if part else FrameFlag.MORE)

    whole = np.concatenate([START, event([(1, 9.5, 1.0)], 101)])
    seen = Books()
    for number, part in enumerate((whole[:2], whole[2:])):
        seen.take(frame(number, part))
        seen = Books.restored(seen.snapshot())
    assert seen[ID].number == 101
    cut = Books()
    cut.take(frame(1, whole[2:]))
    assert BookState.UNSYNCHRONISED in cut[ID].state()
    cut.add(START)
    assert cut[ID].number == 101, "the whole update behind it was kept"


def test_saved_books_go_on() -> None:
    change = event([(1, 10.0, 0.0), (-1, 11.0, 9.0)], 101)
    books = book_of(START, change[:1])
    copy = Books.restored(books.snapshot())
    assert copy.snapshot() == books.snapshot()
    copy.add(change[1:])
    assert truth_of(copy[ID]) == (((9.0, 2.0),), ((11.0, 9.0), (12.0, 4.0)))


@pytest.mark.parametrize("harm", [lambda data: data[:10], lambda data: b"x" + data[1:], lambda data: data + b"\0"])
def test_what_are_no_saved_books_is_refused(harm: Any) -> None:
    with pytest.raises(BookError):
        Books.restored(harm(book_of(START).snapshot()))


@cache
def saved_of_every_kind() -> bytes:
    """Two synchronised books, one of them in the middle of an update, and one whose updates wait for a snapshot."""
    books = book_of(START, event([(1, 10.5, 3.0)], 101, last=False))
    for instrument_id, ticks in ((8, START), (9, event([(1, 10.0, 2.0), (-1, 11.0, 2.0)], 101))):
        ticks = ticks.copy()
        ticks["instrument_id"] = instrument_id
        books.take(TickFrame(Lane(1, instrument_id), 5, 0, 9, ticks, FrameFlag.MORE))
    data = books.snapshot()
    assert len(data) == 760
    return data


def sealed(data: bytes) -> bytes:
    """The bytes with the checksum that belongs to them."""
    return data[:-8] + xxhash.xxh3_64_intdigest(data[:-8]).to_bytes(8, "little")


harms = st.lists(st.tuples(st.integers(0, 759), st.integers(1, 255)), min_size=1, max_size=3)
"""(place, bits that change)"""


def harmed(harm: list[tuple[int, int]]) -> bytes:
    data = bytearray(saved_of_every_kind())
    for place, mask in dict(harm).items():
        data[place] ^= mask
    return bytes(data)


@given(harms)
def test_saved_books_with_any_byte_changed_are_refused(harm: list[tuple[int, int]]) -> None:
    with pytest.raises(BookError):
        Books.restored(harmed(harm))


@given(harms)
def test_whatever_is_saved_is_refused_or_a_book_that_goes_on(harm: list[tuple[int, int]]) -> None:
    """With a checksum that fits: compiled code checks no bounds."""
    try:
        books = Books.restored(sealed(harmed(harm)))
    except BookError:
        return
    for instrument_id in list(books):
        for part in (event([(1, 10.2, 1.0), (-1, 11.0, 0.0)], 102), START, gap(), START):
            part = part.copy()
            part["instrument_id"] = instrument_id
            books.add(part)
        assert truth_of(books[instrument_id]) == SEEN
    assert Books.restored(books.snapshot()).snapshot() == books.snapshot()


@pytest.mark.parametrize(
    ("field", "value"), [(WAITING, 1 << 40), (WAITING, -1), (QUEUED, -1), (FIRST, 9), (UNDER_WAY, 2)]
)
def test_a_head_that_cannot_be_is_refused(field: int, value: int) -> None:
    """Such as one by which a compiled loop would never end."""
    data = bytearray(book_of(START).snapshot())
    np.frombuffer(data, BOOK, 1, HEADER.size)["head"][0, field] = value
    with pytest.raises(BookError, match="cannot be"):
        Books.restored(sealed(bytes(data)))
