"""Levels of one book that wait: for the end of their event, or for a snapshot. Compiled; `book_kernel` calls it.

A queue is a chain of chunks: first whole updates that came before their snapshot (WAITING of them), then the event
under way (up to QUEUED).
"""

from typing import Any

from tapeline.connectors.venues.book_arrays import BLOCK, FIRST, FREE_CHUNKS, LAST_CHUNK, QUEUED, WAITING
from tapeline.connectors.venues.compiled import inlined


@inlined
def push(books: Any, slot: Any, number: Any, side: Any, price: Any, size: Any, kept: Any, last: Any) -> None:
    """Append a level. The caller has seen to it that there is a free chunk."""
    heads = books.heads
    count = heads[slot, QUEUED]
    if count % BLOCK == 0:
        free = books.counters[FREE_CHUNKS] - 1
        books.counters[FREE_CHUNKS] = free
        chunk = books.free_chunks[free]
        if count == 0:
            heads[slot, FIRST] = chunk
        else:
            books.following[heads[slot, LAST_CHUNK]] = chunk
        heads[slot, LAST_CHUNK] = chunk
    one = books.queue[heads[slot, LAST_CHUNK], count % BLOCK]
    one.number = number
    one.side = side
    one.price = price
    one.size = size
    one.kept = kept
    one.last = last
    heads[slot, QUEUED] = count + 1


@inlined
def cut_queue(books: Any, slot: Any, kept: Any) -> None:
    """Drop all but the first `kept` levels."""
    heads = books.heads
    have, want = (heads[slot, QUEUED] + BLOCK - 1) // BLOCK, (kept + BLOCK - 1) // BLOCK
    chunk, last = heads[slot, FIRST], heads[slot, FIRST]
    for number in range(have):
        following = books.following[chunk]
        if number < want:
            last = chunk
        else:
            books.free_chunks[books.counters[FREE_CHUNKS]] = chunk
            books.counters[FREE_CHUNKS] += 1
        chunk = following
    heads[slot, LAST_CHUNK] = last
    heads[slot, QUEUED] = kept
    heads[slot, WAITING] = min(heads[slot, WAITING], kept)


@inlined
def chunk_of(books: Any, slot: Any, place: Any) -> Any:
    """Return the chunk of the level at `place`; that of the end of a chunk is the next one."""
    chunk = books.heads[slot, FIRST]
    for _ in range(place // BLOCK):
        chunk = books.following[chunk]
    return chunk


@inlined
def copy_queue(books: Any, slot: Any, out: Any) -> None:
    """Copy all levels. out: (QUEUED,) QUEUED_LEVEL."""
    if len(out) == 0:
        return
    chunk = books.heads[slot, FIRST]
    for place in range(len(out)):
        if place and place % BLOCK == 0:
            chunk = books.following[chunk]
        out[place] = books.queue[chunk, place % BLOCK]
