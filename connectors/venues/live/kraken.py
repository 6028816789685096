"""Kraken live: WebSocket v2 (docs.kraken.com, 2026), whose books carry a checksum with every message.

A connection is kept as long as something is sent on it once a minute; heartbeats come every second.
"""

import json
from collections.abc import Sequence
from typing import Any

from tapeline.connectors.venues.live.contract import (
    Action,
    Complain,
    Dialect,
    GarbageError,
    InstrumentInfo,
    Plan,
    Say,
    Session,
    StreamKind,
    chunks,
    load,
    text,
)
from tapeline.connectors.venues.live.textbook import TextBook
from tapeline.schemas import FeedGap, GapReason, Kind

TRADE, QUOTE, DEPTH = StreamKind
BOOK_DEPTH = 1000
SYMBOLS_A_MESSAGE = 50


class KrakenSession(Session):
    """One connection."""

    ping = text({"method": "ping"})
    ping_ns = 30_000_000_000
    pong = b'"pong"'

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self._books: dict[str, TextBook] = {}  # those that match their checksums

    def opened(self) -> list[Action]:
        """Subscribe."""
        channels: dict[StreamKind, dict[str, Any]] = {
            TRADE: {"channel": "trade", "snapshot": False},
            QUOTE: {"channel": "ticker", "event_trigger": "bbo"},
            DEPTH: {"channel": "book", "depth": BOOK_DEPTH},
        }
        return [
            text({"method": "subscribe", "params": channels[stream] | {"symbol": symbols}})
            for stream in sorted(self.plan.streams)
            for symbols in chunks(self.plan.symbols, SYMBOLS_A_MESSAGE)
        ]

    def received(self, data: bytes, now_ns: int) -> Sequence[Action]:
        """Compare books with their checksums."""
        message = load(data)
        if not isinstance(message, dict):
            raise GarbageError("not a JSON object")
        if message.get("success") is False:
            return [Complain(f"refuses {message.get('method')} of {message.get('symbol')}: {message.get('error')}")]
        if message.get("channel") != "book" or message.get("type") not in ("snapshot", "update"):
            return ()
        try:
            # Once more, for the texts of the numbers: their digits count.
            [book] = json.loads(data, parse_float=str, parse_int=str)["data"]
            return self._check(book, snapshot=message["type"] == "snapshot")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise GarbageError(f"a book with a field that is missing or wrong: {error!r}") from error

    def _check(self, message: dict[str, Any], *, snapshot: bool) -> list[Action]:
        symbol: str = message["symbol"]
        if snapshot:
            self._books[symbol] = TextBook(BOOK_DEPTH)
        book = self._books.get(symbol)
        if book is None:  # until the next snapshot
            return []
        bids, asks = ([(level["price"], level["qty"]) for level in message[side]] for side in ("bids", "asks"))
        book.update(bids, asks)
        if book.kraken_checksum() == int(message["checksum"]):
            return []
        del self._books[symbol]
        params = {"channel": "book", "depth": BOOK_DEPTH, "symbol": [symbol]}
        return [
            Say(FeedGap(reason=GapReason.CHECKSUM, symbols=(symbol,), kind=Kind.BOOK)),
            text({"method": "unsubscribe", "params": params}),
            text({"method": "subscribe", "params": params}),
        ]


def describe(answer: Any) -> list[InstrumentInfo]:
    """Read `AssetPairs`."""
    return [_describe(one) for one in answer["result"].values() if "wsname" in one]  # others are not streamed


def _describe(one: Any) -> InstrumentInfo:
    # v2 writes BTC and DOGE where the older APIs write XBT and XDG.
    base, _, quote = (part.replace("XBT", "BTC").replace("XDG", "DOGE") for part in one["wsname"].partition("/"))
    tick, lot = (f"{10.0**-digits:.{digits}f}" for digits in (one["pair_decimals"], one["lot_decimals"]))
    tick = one.get("tick_size", tick)
    return InstrumentInfo(f"{base}/{quote}", base, quote, quote, None, tick, lot, one.get("status"))


KRAKEN = Dialect(
    "kraken",
    "wss://ws.kraken.com/v2",
    "https://api.kraken.com",
    frozenset(StreamKind),
    KrakenSession,
    symbols_max=100,
    sends_per_second=5,
    fetches_per_second=1,
    instruments=("/0/public/AssetPairs",),
    describe=describe,
)
