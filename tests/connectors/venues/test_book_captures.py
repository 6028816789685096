"""The fast book over real recordings: at every update it equals a slow one from the raw JSON, and checksums hold."""

import gzip
import json
from binascii import crc32
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tapeline.connectors.venues import Message, parse_frame
from tapeline.connectors.venues.book import Book, Books, BookState, empty_snapshot
from tapeline.connectors.venues.capture import open_capture
from tapeline.connectors.venues.framer import Framer
from tapeline.schemas import Flag, Kind, Ticks
from tests.connectors.venues.conftest import Read
from tests.connectors.venues.slow_book import truth_of

pytestmark = pytest.mark.slow
MIX = 0x9E3779B97F4A7C15
BITS = 2**64 - 1


class RawBook:
    """A book from Binance's JSON, as Binance says how, without any of our code but for the comparison."""

    def __init__(self) -> None:
        self.sides: tuple[dict[float, float], dict[float, float]] = {}, {}
        self.digest = 0
        """Sum over all levels of a mixture of their bits: changes with each of them, and is quick to keep."""

    def update(self, bids: list[list[str]], asks: list[list[str]]) -> None:
        for number, (side, levels) in enumerate(zip(self.sides, (bids, asks), strict=True)):
            for price_text, size_text in levels:
                price, size = float(price_text), float(size_text)
                old = side.pop(price, None)
                if old is not None:
                    self.digest -= mixed(number, price, old)
                if size:
                    side[price] = size
                    self.digest += mixed(number, price, size)
        self.digest &= BITS


def mixed(side: int, price: float, size: float) -> int:
    bits = int(np.float64(price).view(np.uint64)), int(np.float64(size).view(np.uint64))
    return ((bits[0] * MIX & BITS) ^ (bits[1] + side)) * MIX & BITS


def digest_of(book: Book) -> int:
    """The same of a fast book: all its levels, read through its front door."""
    total = 0
    for side, (prices, sizes) in enumerate((book.bids(), book.asks())):
        mix = (prices.view(np.uint64) * np.uint64(MIX)) ^ (sizes.view(np.uint64) + np.uint64(side))
        total += int((mix * np.uint64(MIX)).sum())
    return total & BITS


def raw_books(path: Path, *, snapshot: bool) -> Iterator[tuple[int, RawBook]]:
    """Yield (number, book) after each update, and after the snapshot if there is one."""
    book, buffered, synchronised = RawBook(), [], not snapshot
    for line in gzip.decompress(path.read_bytes()).splitlines():
        message = json.loads(line.split(b" ", 1)[1])
        data = message.get("data", message)
        if data.get("e") == "depthUpdate":
            if synchronised:
                book.update(data["b"], data["a"])
                yield data["u"], book
            else:
                buffered.append(data)
        elif "lastUpdateId" in data:
            book.update(data["bids"], data["asks"])
            synchronised, number = True, data["lastUpdateId"]
            for one in buffered:
                if one["u"] >= number:
                    book.update(one["b"], one["a"])
                    number = one["u"]
            yield number, book


@pytest.mark.parametrize(
    ("market", "file", "updates"),
    [("usdm", "usdm_btcusdt_20240808", 6546), ("spot", "spot_btcusdt_20240809", 3044)],
)
def test_at_every_update_it_equals_a_slow_book(
    request: pytest.FixtureRequest, data: Path, market: str, file: str, updates: int
) -> None:
    recording: Read = request.getfixturevalue(market)
    ticks = recording.ticks[recording.ticks["kind"] == Kind.BOOK]
    ticks["instrument_id"] = 1
    books = Books()
    has_snapshot = bool((ticks["flags"] & Flag.SNAPSHOT).any())
    if not has_snapshot:  # it then knows what changed since
        books.add(empty_snapshot(1))
    ends = np.flatnonzero(ticks["flags"] & Flag.LAST) + 1
    slow = raw_books(data / f"ws_raw/hftbacktest/{file}.gz", snapshot=has_snapshot)
    compared = start = 0
    for end in ends.tolist():
        books.add(ticks[start:end])
        start = end
        book = books[1]
        if book.state() & BookState.UNSYNCHRONISED:
            continue
        number, raw = next(slow)
        assert (book.number, digest_of(book)) == (number, raw.digest)
        compared += 1
        if compared % 250 == 1:
            bids, asks = truth_of(book)
            assert bids == tuple(sorted(raw.sides[0].items(), reverse=True))
            assert asks == tuple(sorted(raw.sides[1].items()))
    assert next(slow, None) is None
    assert compared == updates


def kraken_digits(book: Book, price_digits: int) -> str:
    """Of the ten best asks, then bids: no points, no zeros in front; sizes have 8 decimals."""
    parts = []
    for prices, sizes in (book.asks(10), book.bids(10)):
        for price, size in zip(prices, sizes, strict=True):
            parts += [f"{price:.{price_digits}f}", f"{size:.8f}"]
    return "".join(part.replace(".", "").lstrip("0") for part in parts)


def okx_texts(book: Book) -> str:
    """Of the 25 best levels, bid and ask in turn; the venue writes no zeros behind."""
    sides = [list(zip(*side, strict=True)) for side in (book.bids(25), book.asks(25))]
    levels = [side[place] for place in range(25) for side in sides if place < len(side)]
    return ":".join(np.format_float_positional(number, trim="-") for level in levels for number in level)


def kraken_sums(message: Any) -> Iterator[tuple[str, int, int]]:
    """Yield (symbol, checksum, decimals of prices) of a book update."""
    if isinstance(message, list) and message[-2].startswith("book"):
        for part in message[1:-2]:
            for levels in (part.get(side) for side in "ab" if "c" in part):
                if levels:
                    yield message[-1], int(part["c"]), len(levels[0][0].partition(".")[2])
                    break


def okx_sums(message: Any) -> Iterator[tuple[str, int, int]]:
    if message.get("arg", {}).get("channel") == "books":
        for one in message.get("data", ()):
            yield message["arg"]["instId"], one["checksum"] % 2**32, 0


def checked(path: Path, sums: Callable[[Any], Iterator[tuple[str, int, int]]], text: Callable[[Book, int], str]) -> int:
    """Compare every checksum of a capture; return how many there were."""
    found, ids = 0, dict[str, int]()
    books: dict[str, Books] = {}
    states: dict[str, dict[str, int | str]] = {}
    framers: dict[str, Framer] = {}
    for source, item in open_capture(path).items():
        framer = framers.setdefault(source, Framer(source, 1))
        frames = framer.add(item) if isinstance(item, Message) else []
        for frame in frames:
            parsed = parse_frame(frame, states.setdefault(source, {}))
            books.setdefault(source, Books()).add(renamed(parsed.ticks, parsed.names, ids))
            said = (one for message in frame.messages() for one in sums(json.loads(message)))  # one message at most
            for symbol, expected, digits in said:
                name = f"{source.partition('/')[0]}:{symbol}"
                assert crc32(text(books[source][ids[name]], digits).encode()) == expected, (name, found)
                found += 1
    return found


def renamed(ticks: Ticks, names: tuple[str, ...], ids: dict[str, int]) -> Ticks:
    """Return ticks with one id an instrument, whatever the frame."""
    ticks = ticks.copy()
    numbers = np.array([ids.setdefault(name, 1 + len(ids)) for name in names], np.uint32)
    if len(ticks):
        ticks["instrument_id"] = numbers[ticks["instrument_id"]]
    return ticks


def test_krakens_checksums_hold(data: Path) -> None:
    """Its prices have as many decimals in every message of a pair."""
    assert checked(data / "ws_raw/cryptofeed_v3/KRAKEN.jsonl.zst", kraken_sums, kraken_digits) == 4269


def test_okx_checksums_hold(data: Path) -> None:
    assert checked(data / "ws_raw/cryptofeed_v3/OKX.jsonl.zst", okx_sums, lambda book, _: okx_texts(book)) == 290
