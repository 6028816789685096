"""The venues' checksums hold over every book message of the recordings of Kraken and OKX."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from backports import zstd

from tapeline.connectors.venues.live.textbook import TextBook

CAPTURES = Path(__file__).parents[5] / "shared" / "data" / "ws_raw" / "cryptofeed_v3"
needs_captures = pytest.mark.skipif(not CAPTURES.is_dir(), reason="needs the recordings in ../shared/data")


def messages(name: str) -> Iterator[Any]:
    with zstd.open(CAPTURES / name, "rt", encoding="utf-8") as lines:
        for line in lines:
            record = json.loads(line)
            if record["t"] == "recv":
                yield json.loads(record["data"])


@needs_captures
def test_every_kraken_checksum_holds() -> None:
    books: dict[str, TextBook] = {}
    held = 0
    for message in messages("KRAKEN.jsonl.zst"):
        if not isinstance(message, list) or not message[-2].startswith("book"):
            continue
        *parts, channel, pair = message[1:]
        if "as" in parts[0]:
            books[pair] = TextBook(int(channel.removeprefix("book-")))
            parts = [{"a": parts[0]["as"], "b": parts[0]["bs"]}]
        book = books[pair]
        for part in parts:
            book.update(*([(level[0], level[1]) for level in part.get(side, ())] for side in ("b", "a")))
        for part in parts:
            if "c" in part:
                assert book.kraken_checksum() == int(part["c"])
                held += 1
    assert held == 4269  # every update; the ten snapshots of v1 carry none


@needs_captures
def test_every_okx_checksum_holds() -> None:
    books: dict[str, TextBook] = {}
    held = 0
    for message in messages("OKX.jsonl.zst"):
        if message.get("arg", {}).get("channel") != "books" or "data" not in message:
            continue
        symbol = message["arg"]["instId"]
        if message["action"] == "snapshot":
            books[symbol] = TextBook()
        for data in message["data"]:
            books[symbol].update(*([(level[0], level[1]) for level in data[side]] for side in ("bids", "asks")))
            assert books[symbol].okx_checksum() == data["checksum"]
            held += 1
    assert held == 290


def test_a_book_is_cut_to_its_depth_and_forgets_what_goes() -> None:
    book = TextBook(2)
    book.update([("1.5", "2"), ("1.4", "1")], [("1.6", "1"), ("1.7", "0.5")])
    book.update([], [("1.65", "3")])
    assert book.asks.best(10) == [("1.6", "1"), ("1.65", "3")]
    book.update([("1.5", "0")], [])
    assert book.bids.best(10) == [("1.4", "1")]
    book.update([("1.4", "0"), ("1.4", "0")], [])
    assert book.bids.best(10) == []
