"""BOOK and GAP ticks to order books: what an event does to the book of its instrument. Compiled; `book.Books` calls it.

1. A tick flagged LATE is a repeat: it is left out.
2. Levels wait until their event ends with LAST, then it is seen whole. An event that another one begins in, or with a
   level that is none (no finite price and size, no side), is broken: the book is not synchronised from there on.
3. A snapshot replaces the book, and makes it synchronised. One that is older (by its number) than the book it would
   replace, or than updates that were lost, is left out.
4. An update changes a synchronised book, unless it is older than it. Numbered ones that come before their snapshot wait
   for it, and those above its number go on top of it ("How to manage a local order book correctly", Binance, 2024).
5. After each event the best `size2` levels a side are kept, where the venue says so (Kraken).
6. A GAP in BOOK or in every kind empties the book; it is not synchronised until the next snapshot.
"""

from typing import Any

import numpy as np

from tapeline.connectors.venues.book_arrays import (
    BLOCK,
    BLOCKS,
    EVENT_NS,
    EVENTS,
    FREE_BLOCKS,
    FREE_CHUNKS,
    LOST,
    NEED_BLOCKS,
    NEED_CHAIN,
    NEED_CHUNKS,
    NUMBER,
    OPEN_BROKEN,
    OPEN_NUMBER,
    OPEN_SNAPSHOT,
    QUEUED,
    REASON,
    SYNCHRONISED,
    UNDER_WAY,
    UPDATED_NS,
    WAITING,
)
from tapeline.connectors.venues.book_levels import blocks_needed, clear_side, cut_side, set_level
from tapeline.connectors.venues.book_queue import chunk_of, cut_queue, push
from tapeline.connectors.venues.compiled import inlined
from tapeline.connectors.venues.slots import NOT_SELECTED, find_compiled
from tapeline.schemas import Flag, GapReason, Kind

WAITING_MAX = 1 << 16
"""Levels that wait for a snapshot, at most: beyond that they are given up, and the snapshot must be as new as they."""
EVENT_MAX = 1 << 20
"""Levels of an event, at most: a longer one is broken."""

DONE, UNKNOWN, FULL = range(3)
"""Why `apply` returns: all ticks are applied; an instrument is not in the table; room is needed (NEED_*)."""
NOT_MET = -2
"""Slot of instrument 0 before it was met."""

_BOOK, _GAP = int(Kind.BOOK), int(Kind.GAP)
_SNAPSHOT, _LAST, _LATE = int(Flag.SNAPSHOT), int(Flag.LAST), int(Flag.LATE)
_GARBAGE = int(GapReason.GARBAGE)


def apply(ticks: Any, start: Any, ids: Any, slots: Any, slot_of_0: Any, books: Any) -> Any:
    """Apply ticks from `start` on; return (the first that is not applied, why).

    ticks: (n,) TICK; ids, slots: a `SlotTable`'s, which has no id 0: that of the first instrument where ids are places
    in `Parsed.names`. Nothing was done of the tick that is returned.
    """
    last_id, slot = np.uint32(0), np.int64(slot_of_0)
    for place in range(start, len(ticks)):
        tick = ticks[place]
        if tick.kind != _BOOK and tick.kind != _GAP:
            continue
        if tick.instrument_id == 0:
            last_id, slot = np.uint32(0), np.int64(slot_of_0)
            if slot == NOT_MET:
                return place, UNKNOWN
        elif tick.instrument_id != last_id:
            at = find_compiled(ids, tick.instrument_id)
            if ids[at] != tick.instrument_id:
                return place, UNKNOWN
            last_id, slot = tick.instrument_id, slots[at]
        if slot == NOT_SELECTED:
            continue
        if tick.kind == _GAP:
            if tick.price2 == 0 or tick.price2 == _BOOK:
                lose(books, slot, np.int64(tick.price))
        elif not tick.flags & _LATE:
            if not _has_room(books, slot, tick.flags):
                return place, FULL
            _take(books, slot, tick)
    return len(ticks), DONE


@inlined
def lose(books: Any, slot: Any, reason: Any) -> None:
    """Empty a book: it is not synchronised until the next snapshot."""
    heads = books.heads
    clear_side(books, 2 * slot)
    clear_side(books, 2 * slot + 1)
    cut_queue(books, slot, 0)
    heads[slot, SYNCHRONISED], heads[slot, NUMBER], heads[slot, REASON] = 0, 0, reason
    heads[slot, UNDER_WAY], heads[slot, OPEN_BROKEN], heads[slot, LOST] = 0, 0, 0


@inlined
def _has_room(books: Any, slot: Any, flags: Any) -> Any:
    """Return whether there is room for whatever the next tick does; note what is needed if not."""
    counters = books.counters
    if counters[FREE_CHUNKS] == 0:
        counters[NEED_BLOCKS], counters[NEED_CHUNKS], counters[NEED_CHAIN] = 0, 1, 0
        return False
    if not flags & _LAST:
        return True
    count = books.heads[slot, QUEUED] + 1
    bids, asks = blocks_needed(books, 2 * slot, count), blocks_needed(books, 2 * slot + 1, count)
    chain = max(books.sides[2 * slot, BLOCKS] + bids, books.sides[2 * slot + 1, BLOCKS] + asks)
    if bids + asks <= counters[FREE_BLOCKS] and chain <= books.chain.shape[1]:
        return True
    counters[NEED_BLOCKS], counters[NEED_CHUNKS], counters[NEED_CHAIN] = bids + asks, 0, chain
    return False


@inlined
def _take(books: Any, slot: Any, tick: Any) -> None:
    """Take a BOOK tick."""
    heads = books.heads
    snapshot = np.int64(tick.flags & _SNAPSHOT != 0)
    if heads[slot, UNDER_WAY] and (heads[slot, OPEN_NUMBER] != tick.sequence or heads[slot, OPEN_SNAPSHOT] != snapshot):
        _break(books, slot)
    if not heads[slot, UNDER_WAY]:
        heads[slot, UNDER_WAY], heads[slot, OPEN_NUMBER], heads[slot, OPEN_SNAPSHOT] = 1, tick.sequence, snapshot
    last = np.int64(tick.flags & _LAST != 0)
    if tick.side == 1 or tick.side == -1:
        # Written so that a NaN is refused.
        sound = abs(tick.price) < np.inf and tick.size >= 0 and tick.size < np.inf
        if sound and heads[slot, QUEUED] - heads[slot, WAITING] < EVENT_MAX:
            kept = np.int64(min(max(tick.size2, 0.0), 1e9))
            push(books, slot, tick.sequence, tick.side, tick.price, tick.size, kept, last)
        else:
            heads[slot, OPEN_BROKEN] = 1
    elif tick.side != 0 or not snapshot:  # a snapshot without levels is a tick without side
        heads[slot, OPEN_BROKEN] = 1
    if last:
        if heads[slot, OPEN_BROKEN]:
            _break(books, slot)
        elif snapshot:
            _load(books, slot, tick)
        else:
            _update(books, slot, tick)
        heads[slot, UNDER_WAY] = 0


@inlined
def _break(books: Any, slot: Any) -> None:
    """Give up the event under way, and the book with it."""
    heads = books.heads
    number, snapshot, lost = heads[slot, OPEN_NUMBER], heads[slot, OPEN_SNAPSHOT], heads[slot, LOST]
    if heads[slot, SYNCHRONISED]:
        lose(books, slot, _GARBAGE)
    cut_queue(books, slot, heads[slot, WAITING])
    heads[slot, UNDER_WAY], heads[slot, OPEN_BROKEN] = 0, 0
    if not snapshot:
        heads[slot, LOST] = max(lost, number)


@inlined
def _load(books: Any, slot: Any, tick: Any) -> None:
    """Take a whole snapshot: it is the last event of the queue."""
    heads = books.heads
    number, waiting = tick.sequence, heads[slot, WAITING]
    if number != 0 and ((heads[slot, SYNCHRONISED] and number < heads[slot, NUMBER]) or number < heads[slot, LOST]):
        cut_queue(books, slot, waiting)
        return
    clear_side(books, 2 * slot)
    clear_side(books, 2 * slot + 1)
    _set_levels(books, slot, waiting, heads[slot, QUEUED], np.iinfo(np.int64).min)
    heads[slot, NUMBER] = number
    if number != 0:
        _set_levels(books, slot, 0, waiting, number)
    heads[slot, SYNCHRONISED], heads[slot, REASON], heads[slot, LOST] = 1, 0, 0
    _changed(books, slot, tick)


@inlined
def _update(books: Any, slot: Any, tick: Any) -> None:
    """Take a whole update: it is the last event of the queue."""
    heads = books.heads
    number = tick.sequence
    if heads[slot, SYNCHRONISED]:
        if number != 0 and number < heads[slot, NUMBER]:
            cut_queue(books, slot, 0)
            return
        _set_levels(books, slot, 0, heads[slot, QUEUED], np.iinfo(np.int64).min)
        heads[slot, NUMBER] = number
        _changed(books, slot, tick)
    elif number == 0:  # a snapshot could not say whether it has this one
        cut_queue(books, slot, heads[slot, WAITING])
    elif heads[slot, QUEUED] > WAITING_MAX:
        cut_queue(books, slot, 0)
        heads[slot, LOST] = max(heads[slot, LOST], number)
    else:
        heads[slot, WAITING] = heads[slot, QUEUED]


@inlined
def _changed(books: Any, slot: Any, tick: Any) -> None:
    heads = books.heads
    cut_queue(books, slot, 0)
    heads[slot, EVENTS] += 1
    heads[slot, UPDATED_NS] = max(heads[slot, UPDATED_NS], tick.ts_recv_ns)
    heads[slot, EVENT_NS] = tick.ts_event_ns


@inlined
def _set_levels(books: Any, slot: Any, start: Any, end: Any, above: Any) -> None:
    """Set queued levels whose numbers are above `above`, and cut the book at the end of each event."""
    if start == end:
        return
    chunk = chunk_of(books, slot, start)
    for place in range(start, end):
        if place > start and place % BLOCK == 0:
            chunk = books.following[chunk]
        one = books.queue[chunk, place % BLOCK]
        if one.number <= above:
            continue
        row = 2 * slot if one.side == 1 else 2 * slot + 1
        set_level(books, row, one.side * one.price, one.size)
        if one.last:
            books.heads[slot, NUMBER] = one.number
            if one.kept > 0:
                cut_side(books, 2 * slot, one.kept)
                cut_side(books, 2 * slot + 1, one.kept)
