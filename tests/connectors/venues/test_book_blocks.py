"""The blocks of sorted levels: none is lost, and there is always room, whatever is made of them."""

from random import Random

import numpy as np
import pytest

from tapeline.connectors.venues.book import Books
from tapeline.connectors.venues.book_arrays import BLOCK, BLOCKS, FREE_BLOCKS, LEVELS, BookArrays
from tapeline.schemas import Flag, Kind, Ticks, empty_ticks

pytestmark = pytest.mark.slow
LEVELS_MAX = 30_000


def event(levels: list[tuple[float, float]], flags: int = 0) -> Ticks:
    """Make an event of bids (price, size)."""
    ticks = empty_ticks(len(levels))
    ticks["instrument_id"], ticks["kind"], ticks["side"], ticks["flags"] = 1, Kind.BOOK, 1, flags
    ticks["price"], ticks["size"] = np.array(levels).T
    ticks["flags"][-1] |= Flag.LAST
    return ticks


def blocks_of(arrays: BookArrays) -> list[list[float]]:
    """Return the prices of each block."""
    return [arrays.keys[block, : arrays.counts[block]].tolist() for block in arrays.chain[0, : arrays.sides[0, BLOCKS]]]


def hard_event(rng: Random, blocks: list[list[float]]) -> list[tuple[float, float]]:
    """Return an event that is hard on blocks: one more level in each, all of them full, most of them gone, ..."""
    match rng.choice(("each", "fill", "wipe", "anywhere", "run")):
        case "each":
            return [(rng.choice(prices) + rng.random(), 1.0) for prices in blocks]
        case "fill":
            return [(prices[0] + rng.random() / 100, 1.0) for prices in blocks for _ in range(BLOCK - len(prices))]
        case "wipe":
            return [(price, 0.0) for prices in blocks for price in prices if rng.random() < 0.9]
        case "anywhere":
            return [(1 + 1e6 * rng.random(), rng.choice((0.0, 1.0))) for _ in range(rng.choice((1, 50, 1000)))]
    start = 1e4 + 1e6 * rng.random()
    return [(start + rng.choice((1, -1)) * number / 100, 1.0) for number in range(500)]


@pytest.mark.parametrize("seed", range(10))
def test_no_block_is_lost_and_none_is_lacking(seed: int) -> None:
    rng = Random(seed)
    books, prices = Books(), {10.0 * number + 1 for number in rng.sample(range(10**5), rng.choice((100, 3000)))}
    books.add(event([(price, 1.0) for price in prices], Flag.SNAPSHOT))
    for _ in range(40):
        levels = hard_event(rng, blocks_of(books.arrays))
        if not levels or len(prices) + len(levels) > LEVELS_MAX:
            continue
        books.add(event(levels))
        for price, size in levels:
            (prices.add if size else prices.discard)(price)
        arrays = books.arrays
        blocks = blocks_of(arrays)
        assert [price for block in blocks for price in block] == sorted(prices)
        assert all(blocks)
        assert arrays.sides[0, LEVELS] == len(prices)
        assert arrays.tops[0, : len(blocks)].tolist() == [block[-1] for block in blocks]
        free = int(arrays.counters[FREE_BLOCKS])
        assert free >= 0
        used = arrays.chain[0, : len(blocks)].tolist()
        assert sorted(used + arrays.free_blocks[:free].tolist()) == list(range(len(arrays.counts)))
