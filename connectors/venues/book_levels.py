"""The sorted levels of one side of a book: set, remove, cut, clear. Compiled; `book_kernel` calls it.

A side never has an empty block. A full block is halved when a level is to go into it; one that gets small is merged
with its neighbour. So a block takes BLOCK / 2 new levels at least before it is halved again: `blocks_needed` rests on
that.
"""

from typing import Any

from tapeline.connectors.venues.book_arrays import BLOCK, BLOCKS, FREE_BLOCKS, LEVELS
from tapeline.connectors.venues.compiled import inlined

HALF = BLOCK // 2
SMALL = BLOCK // 8


@inlined
def blocks_needed(books: Any, row: Any, count: Any) -> Any:
    """Return how many new blocks setting `count` levels of a side takes at most."""
    return count // HALF + 2 + min(count, books.sides[row, BLOCKS])


@inlined
def find_block(books: Any, row: Any, key: Any) -> Any:
    """Return the place of the first block whose highest key is not below `key`, or the last. The side is not empty."""
    tops = books.tops
    high = books.sides[row, BLOCKS] - 1
    low, step = high - 1, 1
    while low >= 0 and tops[row, low] >= key:  # from the best, in growing steps: most of what happens is near
        high = low
        low -= step
        step *= 2
    low = max(low, -1)
    while high - low > 1:
        middle = (low + high) >> 1
        if tops[row, middle] >= key:
            high = middle
        else:
            low = middle
    return high


@inlined
def find_level(books: Any, block: Any, key: Any) -> Any:
    """Return the place in a block of the first key that is not below `key`, or the place behind the last."""
    keys = books.keys
    low, count = 0, books.counts[block]
    while count > 0:
        half = count >> 1
        if keys[block, low + half] < key:
            low += half + 1
            count -= half + 1
        else:
            count = half
    return low


@inlined
def set_level(books: Any, row: Any, key: Any, size: Any) -> None:
    """Set the size of a level; 0 removes it. The caller has seen to it that there are blocks."""
    blocks = books.sides[row, BLOCKS]
    if blocks == 0:
        if size != 0:
            _put(books, _add_block(books, row, 0), 0, key, size)
            books.tops[row, 0] = key
            books.sides[row, LEVELS] = 1
        return
    place = find_block(books, row, key)
    block = books.chain[row, place]
    count = books.counts[block]
    at = find_level(books, block, key)
    if at < count and books.keys[block, at] == key:
        if size != 0:
            books.sizes[block, at] = size
        else:
            _remove(books, row, place, block, at)
    elif size != 0:
        if count == BLOCK:
            _halve(books, row, place)
            if at > HALF:
                place += 1
                block = books.chain[row, place]
                at -= HALF
        _put(books, block, at, key, size)
        if at == books.counts[block] - 1:
            books.tops[row, place] = key
        books.sides[row, LEVELS] += 1


@inlined
def _put(books: Any, block: Any, at: Any, key: Any, size: Any) -> None:
    """Put a level into a block that has room."""
    keys, sizes = books.keys, books.sizes
    for place in range(books.counts[block], at, -1):
        keys[block, place] = keys[block, place - 1]
        sizes[block, place] = sizes[block, place - 1]
    keys[block, at] = key
    sizes[block, at] = size
    books.counts[block] += 1


@inlined
def _remove(books: Any, row: Any, place: Any, block: Any, at: Any) -> None:
    keys, sizes = books.keys, books.sizes
    count = books.counts[block] - 1
    for one in range(at, count):
        keys[block, one] = keys[block, one + 1]
        sizes[block, one] = sizes[block, one + 1]
    books.counts[block] = count
    books.sides[row, LEVELS] -= 1
    if count == 0:
        _drop_block(books, row, place)
        return
    if at == count:
        books.tops[row, place] = keys[block, count - 1]
    if count <= SMALL:
        if place + 1 < books.sides[row, BLOCKS]:
            _merge(books, row, place)
        elif place > 0:
            _merge(books, row, place - 1)


@inlined
def _merge(books: Any, row: Any, place: Any) -> None:
    """Put a block and the one behind it together, if that is a half at most."""
    block, behind = books.chain[row, place], books.chain[row, place + 1]
    count, more = books.counts[block], books.counts[behind]
    if count + more > HALF:
        return
    for one in range(more):
        books.keys[block, count + one] = books.keys[behind, one]
        books.sizes[block, count + one] = books.sizes[behind, one]
    books.counts[block] = count + more
    books.tops[row, place] = books.tops[row, place + 1]
    _drop_block(books, row, place + 1)


@inlined
def _halve(books: Any, row: Any, place: Any) -> None:
    """Move the better half of a full block into a new one behind it."""
    new = _add_block(books, row, place + 1)
    block = books.chain[row, place]
    for one in range(HALF):
        books.keys[new, one] = books.keys[block, HALF + one]
        books.sizes[new, one] = books.sizes[block, HALF + one]
    books.counts[new] = HALF
    books.counts[block] = HALF
    books.tops[row, place + 1] = books.tops[row, place]
    books.tops[row, place] = books.keys[block, HALF - 1]


@inlined
def _add_block(books: Any, row: Any, place: Any) -> Any:
    """Take a free block, and put it at this place of a side."""
    free = books.counters[FREE_BLOCKS] - 1
    books.counters[FREE_BLOCKS] = free
    block = books.free_blocks[free]
    books.counts[block] = 0
    chain, tops = books.chain, books.tops
    for one in range(books.sides[row, BLOCKS], place, -1):
        chain[row, one] = chain[row, one - 1]
        tops[row, one] = tops[row, one - 1]
    chain[row, place] = block
    books.sides[row, BLOCKS] += 1
    return block


@inlined
def _drop_block(books: Any, row: Any, place: Any) -> None:
    chain, tops = books.chain, books.tops
    _free_block(books, chain[row, place])
    last = books.sides[row, BLOCKS] - 1
    for one in range(place, last):
        chain[row, one] = chain[row, one + 1]
        tops[row, one] = tops[row, one + 1]
    books.sides[row, BLOCKS] = last


@inlined
def _free_block(books: Any, block: Any) -> None:
    books.free_blocks[books.counters[FREE_BLOCKS]] = block
    books.counters[FREE_BLOCKS] += 1


@inlined
def clear_side(books: Any, row: Any) -> None:
    """Remove every level."""
    for place in range(books.sides[row, BLOCKS]):
        _free_block(books, books.chain[row, place])
    books.sides[row, BLOCKS] = 0
    books.sides[row, LEVELS] = 0


@inlined
def cut_side(books: Any, row: Any, kept: Any) -> None:
    """Keep the best `kept` levels, 1 or more."""
    while books.sides[row, LEVELS] > kept:
        block = books.chain[row, 0]
        count, over = books.counts[block], books.sides[row, LEVELS] - kept
        if over >= count:
            books.sides[row, LEVELS] -= count
            _drop_block(books, row, 0)
            continue
        keys, sizes = books.keys, books.sizes
        for one in range(count - over):
            keys[block, one] = keys[block, one + over]
            sizes[block, one] = sizes[block, one + over]
        books.counts[block] = count - over
        books.sides[row, LEVELS] = kept
