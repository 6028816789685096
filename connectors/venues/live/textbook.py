"""An order book of the venue's own texts, for its checksum: the digits count there, as they were sent. Pure.

Kraken: "Book checksum (WebSocket v1, v2)", CRC-32 of the ten best asks, then bids, without points and leading zeros.
OKX: "Checksum" of the order book channels (until 2026-06-23, since then it is 0), CRC-32 of the 25 best levels, bid and
ask in turn.
"""

from binascii import crc32
from bisect import bisect_left, insort
from collections.abc import Iterable

Level = tuple[str, str]
"""Price and size, as the venue writes them."""


class Side:
    """One side of a book, best first; sign: -1 for bids."""

    def __init__(self, sign: int) -> None:
        self._sign = sign
        self._order: list[float] = []  # price * sign, ascending
        self._levels: dict[float, Level] = {}

    def set(self, price: str, size: str) -> None:
        """Set a level; size 0 takes it away."""
        at = float(price) * self._sign
        if float(size) == 0:
            if self._levels.pop(at, None) is not None:
                del self._order[bisect_left(self._order, at)]
        else:
            if at not in self._levels:
                insort(self._order, at)
            self._levels[at] = price, size

    def cut(self, depth: int) -> None:
        """Keep the best `depth` levels."""
        while len(self._order) > depth:
            del self._levels[self._order.pop()]

    def best(self, count: int) -> list[Level]:
        """Return the best levels, at most `count`."""
        return [self._levels[at] for at in self._order[:count]]


class TextBook:
    """The levels of one instrument. depth: levels a side that the venue keeps, 0 = all."""

    def __init__(self, depth: int = 0) -> None:
        self._depth = depth
        self.bids, self.asks = Side(-1), Side(1)

    def update(self, bids: Iterable[Level], asks: Iterable[Level]) -> None:
        """Set levels, in their order. Raises ValueError for what is no number."""
        for side, levels in ((self.bids, bids), (self.asks, asks)):
            for price, size in levels:
                side.set(price, size)
            if self._depth:
                side.cut(self._depth)

    def kraken_checksum(self) -> int:
        """Return Kraken's checksum."""
        levels = [*self.asks.best(10), *self.bids.best(10)]
        return crc32("".join(part.replace(".", "").lstrip("0") for level in levels for part in level).encode())

    def okx_checksum(self) -> int:
        """Return OKX's checksum, a signed number."""
        bids, asks = self.bids.best(25), self.asks.best(25)
        both = [side[place] for place in range(25) for side in (bids, asks) if place < len(side)]
        number = crc32(":".join(part for level in both for part in level).encode())
        return number - 2**32 if number >= 2**31 else number
