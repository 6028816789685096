"""The memory of order books: plain arrays, in which compiled code finds the books of many instruments by slot.

`book_levels` keeps sorted levels in them, `book_kernel` applies ticks, `book_reading` reads, `book.Books` owns them and
makes them grow. A side is a list of blocks of sorted levels, the best one at the end of the last block: what happens
near the top moves few levels, and what happens deep down moves a block at most, however many levels there are.
"""

from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt

BLOCK = 64
"""Levels in a block, at most; also records in a chunk of the queue."""

(
    SYNCHRONISED,  # whether the levels are the venue's
    NUMBER,  # the venue's, of the last event; 0 = it gives none
    EVENTS,  # how many events changed the book
    UPDATED_NS,  # the latest receive time of those
    EVENT_NS,  # the event time of the last one
    REASON,  # of the gap since which it is not synchronised (GapReason), 0 = there was none
    UNDER_WAY,  # whether an event has begun and not ended,
    OPEN_NUMBER,  # its number,
    OPEN_SNAPSHOT,  # whether it is a snapshot,
    OPEN_BROKEN,  # and whether a level of it was no level
    QUEUED,  # records in the queue: updates that wait for a snapshot, then the event under way
    WAITING,  # how many of them are of the former
    LOST,  # updates up to this number did not get into the queue: a snapshot must not be older
    FIRST,  # chunk of the queue, only where QUEUED > 0
    LAST_CHUNK,
) = range(15)
HEAD_FIELDS = 15

BLOCKS, LEVELS = range(2)
"""Of a side: how many blocks and levels it has."""

FREE_BLOCKS, FREE_CHUNKS, NEED_BLOCKS, NEED_CHUNKS, NEED_CHAIN = range(5)
"""Counters: what is free, and what must be free for the kernel to go on; of NEED_CHAIN: blocks in a side."""
COUNTERS = 5

QUEUED_LEVEL = np.dtype(
    [
        ("number", "<i8"),
        ("price", "<f8"),
        ("size", "<f8"),
        ("kept", "<i4"),  # levels a side that the venue keeps, 0 = all
        ("side", "<i2"),
        ("last", "<i2"),  # 1 on the last of an event
    ]
)
"""A level that waits: for the end of its event, or for a snapshot."""


class BookArrays(NamedTuple):
    """All books. A row is a side: 2 * slot for bids, 2 * slot + 1 for asks."""

    heads: npt.NDArray[np.int64]  # (slots, HEAD_FIELDS)
    sides: npt.NDArray[np.int64]  # (rows, 2)
    chain: npt.NDArray[np.int32]  # (rows, most blocks of a side), its blocks, worst levels first
    tops: npt.NDArray[np.float64]  # the same shape, the highest key of each
    keys: npt.NDArray[np.float64]  # (blocks, BLOCK), ascending: a bid's price, an ask's negative price
    sizes: npt.NDArray[np.float64]  # the same shape
    counts: npt.NDArray[np.int32]  # (blocks,) levels in each
    free_blocks: npt.NDArray[np.int32]  # (blocks,) a stack
    queue: npt.NDArray[np.void]  # (chunks, BLOCK) QUEUED_LEVEL
    following: npt.NDArray[np.int32]  # (chunks,) the chunk behind each
    free_chunks: npt.NDArray[np.int32]  # (chunks,) a stack
    counters: npt.NDArray[np.int64]  # (COUNTERS,)


def make_arrays(slots: int = 4, chain: int = 8, blocks: int = 32, chunks: int = 8) -> BookArrays:
    """Return room for so many books, blocks a side, blocks and chunks."""
    counters = np.zeros(COUNTERS, np.int64)
    counters[FREE_BLOCKS], counters[FREE_CHUNKS] = blocks, chunks
    return BookArrays(
        np.zeros((slots, HEAD_FIELDS), np.int64),
        np.zeros((2 * slots, 2), np.int64),
        np.zeros((2 * slots, chain), np.int32),
        np.zeros((2 * slots, chain)),
        np.zeros((blocks, BLOCK)),
        np.zeros((blocks, BLOCK)),
        np.zeros(blocks, np.int32),
        np.arange(blocks, dtype=np.int32)[::-1].copy(),
        np.zeros((chunks, BLOCK), QUEUED_LEVEL),
        np.zeros(chunks, np.int32),
        np.arange(chunks, dtype=np.int32)[::-1].copy(),
        counters,
    )


def grown(old: BookArrays, slots: int, chain: int, blocks: int, chunks: int) -> BookArrays:
    """Return the same books with room for so many more of each."""
    rows, wide = 2 * slots, ((0, 2 * slots), (0, chain))
    counters = old.counters.copy()
    counters[FREE_BLOCKS] += blocks
    counters[FREE_CHUNKS] += chunks
    return BookArrays(
        np.pad(old.heads, ((0, slots), (0, 0))),
        np.pad(old.sides, ((0, rows), (0, 0))),
        np.pad(old.chain, wide),
        np.pad(old.tops, wide),
        _more(old.keys, blocks),
        _more(old.sizes, blocks),
        _more(old.counts, blocks),
        _stack(old.free_blocks, int(old.counters[FREE_BLOCKS]), blocks),
        _more(old.queue, chunks),
        _more(old.following, chunks),
        _stack(old.free_chunks, int(old.counters[FREE_CHUNKS]), chunks),
        counters,
    )


def _more(old: npt.NDArray[Any], count: int) -> npt.NDArray[Any]:
    return np.concatenate([old, np.zeros((count, *old.shape[1:]), old.dtype)]) if count else old


def _stack(old: npt.NDArray[np.int32], free: int, count: int) -> npt.NDArray[np.int32]:
    """Return the stack with the new ones below the `free` ones that it has."""
    new = np.arange(len(old), len(old) + count, dtype=np.int32)[::-1]
    return np.concatenate([new, old[:free], np.zeros(len(old) - free, np.int32)]) if count else old


def arrays_type() -> Any:
    """Return numba's type of `BookArrays`."""
    return numba.typeof(make_arrays())  # type: ignore[no-untyped-call]
