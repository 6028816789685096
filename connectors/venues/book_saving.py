"""Order books as bytes and back: what `Books.snapshot` gives and `Books.restored` takes.

Little-endian: magic 'TLBK', version, how many books, levels, queued levels and parts; the clock; then those arrays,
books by instrument id, a book's levels bids first, best first. Where levels lie in memory is not part of it.
"""

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from tapeline.connectors.venues import book_levels, book_queue, book_reading
from tapeline.connectors.venues.book_arrays import (
    BLOCK,
    FIRST,
    FREE_BLOCKS,
    FREE_CHUNKS,
    HEAD_FIELDS,
    LAST_CHUNK,
    LEVELS,
    NEED_BLOCKS,
    NEED_CHAIN,
    NEED_CHUNKS,
    QUEUED,
    QUEUED_LEVEL,
    BookArrays,
    arrays_type,
)
from tapeline.connectors.venues.book_levels import HALF
from tapeline.connectors.venues.compiled import INT64, array, compiled
from tapeline.schemas import Lane, TapelineError

MAGIC, VERSION = int.from_bytes(b"TLBK", "little"), 1
HEADER = struct.Struct("<IIQQQQq")
PLACES = (FIRST, LAST_CHUNK)
"""Fields of a head that say where something lies in memory."""
BOOK = np.dtype([("instrument_id", "<i8"), ("bids", "<i8"), ("asks", "<i8"), ("head", "<i8", (HEAD_FIELDS,))])
LEVEL = np.dtype([("price", "<f8"), ("size", "<f8")])
PART = np.dtype([("lane", "<i8"), ("origin_offset", "<i8"), ("part", "<i8")])


class BookError(TapelineError):
    """These bytes are no saved books of this version."""


def dump(arrays: BookArrays, slots: Mapping[int, int], parts: Mapping[Lane, tuple[int, int]], time_ns: int) -> bytes:
    """Return the bytes. slots: by instrument id; parts: of records whose parts go on."""
    read, (copy_queue, _) = book_reading.reader("top"), _kernels()
    books = np.zeros(len(slots), BOOK)
    levels, queued = [], []
    for number, (instrument_id, slot) in enumerate(sorted(slots.items())):
        head = arrays.heads[slot].copy()
        head[list(PLACES)] = 0
        counts = arrays.sides[2 * slot : 2 * slot + 2, LEVELS].tolist()
        books[number] = instrument_id, *counts, head
        for side, count in zip((1, -1), counts, strict=True):
            prices, sizes = np.empty(count), np.empty(count)
            read(arrays, slot, side, prices, sizes)
            one = np.empty(count, LEVEL)
            one["price"], one["size"] = prices, sizes
            levels.append(one)
        waiting = np.zeros(int(head[QUEUED]), QUEUED_LEVEL)
        copy_queue(arrays, slot, waiting)
        queued.append(waiting)
    open_parts = np.array([(lane.pack(), *mark) for lane, mark in sorted(parts.items())], PART)
    bodies = [books.tobytes(), *(one.tobytes() for one in (*levels, *queued)), open_parts.tobytes()]
    header = HEADER.pack(MAGIC, VERSION, len(books), sum(map(len, levels)), sum(map(len, queued)), len(parts), time_ns)
    return b"".join([header, *bodies])


@dataclass(frozen=True, slots=True)
class Saved:
    """Books that were read from bytes."""

    books: npt.NDArray[np.void]
    levels: npt.NDArray[np.void]
    queued: npt.NDArray[np.void]
    parts: dict[Lane, tuple[int, int]]
    time_ns: int

    def fill(self, arrays: BookArrays, number: int, slot: int) -> bool:
        """Put a book into a slot that is empty; return whether there was room, else the counters say what is needed."""
        bids, asks = self.books["bids"], self.books["asks"]
        head = self.books["head"][number]
        first = int((bids + asks)[:number].sum())
        first_queued = int(self.books["head"][:number, QUEUED].sum())
        levels = self.levels[first : first + bids[number] + asks[number]]
        queued = self.queued[first_queued : first_queued + head[QUEUED]]
        blocks = [count // HALF + 2 for count in (int(bids[number]), int(asks[number]))]
        needs = sum(blocks), len(queued) // BLOCK + 1
        arrays.counters[[NEED_BLOCKS, NEED_CHUNKS]], arrays.counters[NEED_CHAIN] = needs, max(blocks)
        if (arrays.counters[[FREE_BLOCKS, FREE_CHUNKS]] < needs).any() or arrays.chain.shape[1] < max(blocks):
            return False
        _, put = _kernels()
        put(arrays, slot, int(bids[number]), levels["price"].copy(), levels["size"].copy(), queued)
        kept = [arrays.heads[slot, field] for field in PLACES]
        arrays.heads[slot] = head
        arrays.heads[slot, list(PLACES)] = kept
        return True


def load(data: bytes) -> Saved:
    """Read the bytes; raise BookError."""
    if len(data) < HEADER.size:
        raise BookError(f"{len(data)} bytes are no saved order books")
    magic, version, *counts, time_ns = HEADER.unpack_from(data)
    if magic != MAGIC or version != VERSION:
        raise BookError(f"saved order books of version {version} (magic {magic:#010x}), this reads version {VERSION}")
    kinds = (BOOK, LEVEL, QUEUED_LEVEL, PART)
    if HEADER.size + sum(count * kind.itemsize for count, kind in zip(counts, kinds, strict=True)) != len(data):
        raise BookError(f"{len(data)} bytes of saved order books, their header says another number")
    found, at = [], HEADER.size
    for count, kind in zip(counts, kinds, strict=True):
        found.append(np.frombuffer(data, kind, count, at))
        at += count * kind.itemsize
    books, levels, queued, parts = found
    if (books["bids"] + books["asks"]).sum() != len(levels) or books["head"][:, QUEUED].sum() != len(queued):
        raise BookError("saved order books have other levels than they say")
    marks = {Lane.unpack(lane): (origin, part) for lane, origin, part in parts.tolist()}
    return Saved(books, levels, queued, marks, time_ns)


def _put(books: Any, slot: Any, bids: Any, prices: Any, sizes: Any, queued: Any) -> None:
    """Put levels and queue into an empty book."""
    for number in range(len(prices)):
        row, key = (2 * slot, prices[number]) if number < bids else (2 * slot + 1, -prices[number])
        book_levels.set_level(books, row, key, sizes[number])
    for one in queued:
        book_queue.push(books, slot, one.number, one.side, one.price, one.size, one.kept, one.last)


@cache
def _kernels() -> tuple[Callable[..., Any], ...]:
    floats, queued = array(np.float64), array(QUEUED_LEVEL, written=True)
    return (
        compiled(book_queue.copy_queue.py_func, arrays_type(), INT64, queued, counted=False),
        compiled(_put, arrays_type(), INT64, INT64, floats, floats, array(QUEUED_LEVEL), counted=False),
    )
