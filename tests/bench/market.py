"""The messages that every contender gets: Binance spot trades of twelve symbols, invented and seeded.

Three symbols belong to each of four partitions, for Tapeline's instruments and for the peers' records alike.
"""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tapeline.schemas import partition_of

PARTITIONS = 4


class Pair(NamedTuple):
    """A symbol, the price it starts at in its smallest steps, and how many decimals these have."""

    symbol: str
    start: int
    decimals: int


PAIRS = (
    Pair("BTCUSDT", 6_412_350, 2),
    Pair("ETHUSDT", 312_745, 2),
    Pair("ADAUSDT", 4_521, 4),
    Pair("BNBUSDT", 58_230, 2),
    Pair("DOGEUSDT", 12_345, 5),
    Pair("SOLUSDT", 15_432, 2),
    Pair("LINKUSDT", 14_321, 3),
    Pair("LTCUSDT", 8_345, 2),
    Pair("DOTUSDT", 6_789, 3),
    Pair("XRPUSDT", 5_231, 4),
    Pair("TRXUSDT", 12_321, 5),
    Pair("NEARUSDT", 5_123, 3),
)
ALL = tuple(range(len(PAIRS)))
"""The columns of every symbol."""
HOMES = tuple(partition_of(f"binance:{pair.symbol}", PARTITIONS) for pair in PAIRS)
"""The partition of each column."""
FIRST_MS = 1_700_000_000_000


def columns_of(partition: int) -> tuple[int, ...]:
    """Return the columns whose symbols belong to a partition."""
    return tuple(column for column in ALL if HOMES[column] == partition)


class Market:
    """`rows` trades of each symbol: the n-th of all symbols before the next of any. Texts are made on demand."""

    def __init__(self, rows: int, seed: int = 1) -> None:
        self.rows = rows
        starts = np.array([pair.start for pair in PAIRS])
        walk = np.random.default_rng((seed, 0)).normal(0, np.maximum(starts / 5_000, 1), (rows, len(PAIRS)))
        # Reflected at half and at one and a half of the start: a long walk must not reach zero.
        half = starts // 2
        walk = np.abs((np.cumsum(walk, axis=0) + half) % (4 * half) - 2 * half) - half
        self._prices = starts + np.rint(walk).astype(np.int64)
        self._sizes = np.random.default_rng((seed, 1)).integers(1, 200_000, (rows, len(PAIRS)), np.int32)

    def __len__(self) -> int:
        return self.rows * len(PAIRS)

    def texts(self, start: int, stop: int, columns: Sequence[int] = ALL) -> list[bytes]:
        """Return the messages of these rows and columns, in their order."""
        made: list[list[bytes]] = []
        for column in columns:
            symbol, _, decimals = PAIRS[column]
            head = f'{{"stream":"{symbol.lower()}@trade","data":{{"e":"trade","E":'
            name, unit = f',"s":"{symbol}","t":', 10**decimals
            prices, sizes = self._prices[start:stop, column].tolist(), self._sizes[start:stop, column].tolist()
            made.append(
                [
                    (
                        f"{head}{FIRST_MS + number * 3 + 1}{name}{number + 1}"
                        f',"p":"{price // unit}.{price % unit:0{decimals}d}","q":"{size // 1000}.{size % 1000:03d}"'
                        f',"T":{FIRST_MS + number * 3},"m":{"true" if size & 1 else "false"},"M":true}}}}'
                    ).encode()
                    for number, (price, size) in enumerate(zip(prices, sizes, strict=True), start)
                ]
            )
        return [text for row in zip(*made, strict=True) for text in row]

    @cache  # noqa: B019 - there is one market a run
    def crossings(self, fast: int, slow: int) -> npt.NDArray[np.int64]:
        """Return the row of every signal that an EMA cross finds, sorted. Written apart from what is measured."""
        found: list[int] = []
        for column, pair in enumerate(PAIRS):
            quick = late = float(self._prices[0, column]) / 10**pair.decimals
            last = 0
            for row, price in enumerate((self._prices[:, column] / 10**pair.decimals).tolist()):
                quick += (price - quick) * 2 / (fast + 1)
                late += (price - late) * 2 / (slow + 1)
                side = 1 if quick > late else -1
                if side != last and row + 1 >= slow:
                    last = side
                    found.append(row)
        return np.sort(np.array(found, np.int64))

    def signal_count(self, rows: int, fast: int, slow: int) -> int:
        """Return how many signals there are in the first `rows` trades of each symbol."""
        return int(np.searchsorted(self.crossings(fast, slow), rows))
