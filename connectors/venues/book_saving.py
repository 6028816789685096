"""Order books as bytes and back: what `Books.snapshot` gives and `Books.restored` takes.

Little-endian: magic 'TLBK', version, how many books, levels, queued levels and parts; the clock; then those arrays,
books by instrument id, a book's levels bids first, best first; and the checksum of the frames (XXH3-64) over all that.
Where levels lie in memory is not part of it.

Compiled code checks no bounds, so what it relies on is checked here.
"""

import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

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
    OPEN_BROKEN,
    OPEN_SNAPSHOT,
    QUEUED,
    QUEUED_LEVEL,
    SYNCHRONISED,
    UNDER_WAY,
    WAITING,
    BookArrays,
    arrays_type,
)
from tapeline.connectors.venues.book_kernel import EVENT_MAX, WAITING_MAX
from tapeline.connectors.venues.book_levels import HALF
from tapeline.connectors.venues.compiled import INT64, array, compiled
from tapeline.schemas import Lane, TapelineError
from tapeline.schemas.frames import PARTS_MAX

MAGIC, VERSION = int.from_bytes(b"TLBK", "little"), 2
HEADER = struct.Struct("<IIQQQQq")
CHECKSUM = struct.Struct("<Q")
PLACES = (FIRST, LAST_CHUNK)
"""Fields of a head that say where something lies in memory."""
BOOK = np.dtype([("instrument_id", "<i8"), ("bids", "<i8"), ("asks", "<i8"), ("head", "<i8", (HEAD_FIELDS,))])
LEVEL = np.dtype([("price", "<f8"), ("size", "<f8")])
PART = np.dtype([("lane", "<i8"), ("origin_offset", "<i8"), ("part", "<i8")])


class BookError(TapelineError):
    """These bytes are no saved books of this version, or are damaged."""


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
    data = b"".join([header, *bodies])
    return data + CHECKSUM.pack(xxhash.xxh3_64_intdigest(data))


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
    if len(data) < HEADER.size + CHECKSUM.size:
        raise BookError(f"{len(data)} bytes are no saved order books")
    magic, version, *counts, time_ns = HEADER.unpack_from(data)
    if magic != MAGIC:
        raise BookError(f"bytes that start with {magic:#010x} instead of {MAGIC:#010x} are no saved order books")
    if version != VERSION:
        raise BookError(f"saved order books of version {version}, this program reads version {VERSION}")
    data, checksum = data[: -CHECKSUM.size], data[-CHECKSUM.size :]
    if CHECKSUM.pack(xxhash.xxh3_64_intdigest(data)) != checksum:
        raise BookError(f"{len(data)} bytes of saved order books do not match their checksum: cut or damaged")
    kinds = (BOOK, LEVEL, QUEUED_LEVEL, PART)
    if HEADER.size + sum(count * kind.itemsize for count, kind in zip(counts, kinds, strict=True)) != len(data):
        raise BookError(f"{len(data)} bytes of saved order books, their header says another number")
    found, at = [], HEADER.size
    for count, kind in zip(counts, kinds, strict=True):
        found.append(np.frombuffer(data, kind, count, at))
        at += count * kind.itemsize
    books, levels, queued, parts = found
    for what, sound in _sound(books, levels, queued, parts):
        if not np.all(sound):
            raise BookError(f"saved order books cannot be: {what}")
    marks = {Lane.unpack(lane): (origin, part) for lane, origin, part in parts.tolist()}
    return Saved(books, levels, queued, marks, time_ns)


def _sound(books: Any, levels: Any, queued: Any, parts: Any) -> Iterator[tuple[str, Any]]:
    """Yield what must be so, and whether it is, (n,) bool; what comes later relies on what came before."""
    ids, bids, asks, heads = books["instrument_id"], books["bids"], books["asks"], books["head"]
    count, waiting = heads[:, QUEUED], heads[:, WAITING]
    yield "instrument ids are no numbers of 32 bits that grow", _grow(ids) & (ids >= 0).all() & (ids < 2**32).all()
    for name, each, whole in (("bids", bids, levels), ("asks", asks, levels), ("waiting levels", count, queued)):
        yield f"the number of {name} is none", (each >= 0) & (each <= len(whole))
    yield "there are other levels than they say", bids.sum() + asks.sum() == len(levels) and count.sum() == len(queued)

    switches = heads[:, [SYNCHRONISED, UNDER_WAY, OPEN_SNAPSHOT, OPEN_BROKEN]]
    yield "a switch is neither on nor off", (switches == 0) | (switches == 1)
    yield "where levels lie in memory is no part of them", heads[:, list(PLACES)] == 0
    yield "a book that is not synchronised has levels", (heads[:, SYNCHRONISED] == 1) | (bids + asks == 0)
    yield "more levels wait for a snapshot than there are", (waiting >= 0) & (waiting <= np.minimum(count, WAITING_MAX))
    yield "an event is too long", count - waiting <= EVENT_MAX
    yield "levels wait for the end of no event", (heads[:, UNDER_WAY] == 1) | (count == waiting)

    yield "a level is none", np.isfinite(levels["price"]) & np.isfinite(levels["size"]) & (levels["size"] > 0)
    sides = np.repeat(np.arange(2 * len(books)), np.stack([bids, asks], axis=1).ravel())
    keys = np.where(sides % 2 == 0, -levels["price"], levels["price"])
    yield "levels are not sorted", (sides[1:] != sides[:-1]) | (keys[1:] > keys[:-1])

    yield "a waiting level is none", np.isfinite(queued["price"]) & np.isfinite(queued["size"]) & (queued["size"] >= 0)
    yield "a waiting level has no side", np.isin(queued["side"], (1, -1))
    yield "a waiting level ends no event", np.isin(queued["last"], (0, 1)) & (queued["kept"] >= 0)

    lanes = parts["lane"]
    yield "lanes are no numbers of 32 bits that grow", _grow(lanes) & (lanes >= 0).all() & (lanes < 2**32).all()
    yield "a part is none", (parts["part"] >= 0) & (parts["part"] < PARTS_MAX)


def _grow(numbers: Any) -> Any:
    return np.all(numbers[1:] > numbers[:-1])


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
