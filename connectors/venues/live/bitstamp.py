"""Bitstamp live: WebSocket v2 (www.bitstamp.net/websocket/v2, 2025), books by REST snapshot.

Nothing is numbered: a book's changes are ordered by `microtimestamp`, so that a change that is lost cannot be noticed.
Top of book is not offered as a stream of its own.
"""

from collections.abc import Sequence
from typing import Any

from tapeline.connectors.venues.live.chain import Chain
from tapeline.connectors.venues.live.contract import (
    Action,
    Complain,
    Dialect,
    Fetch,
    GarbageError,
    InstrumentInfo,
    Plan,
    Reconnect,
    Session,
    StreamKind,
    load,
    text,
)
from tapeline.schemas import GapReason

TRADE, DEPTH = StreamKind.TRADE, StreamKind.DEPTH
CHANNELS = {TRADE: "live_trades_", DEPTH: "diff_order_book_"}


class BitstampSession(Session):
    """One connection."""

    ping = text({"event": "bts:heartbeat"})
    pong = b'"bts:heartbeat"'

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        symbols = plan.symbols if DEPTH in plan.streams else ()
        self._chain = Chain(symbols, f"{plan.rest}/api/v2/order_book/{{}}/")

    def opened(self) -> list[Action]:
        """Subscribe."""
        return [
            text({"event": "bts:subscribe", "data": {"channel": CHANNELS[stream] + symbol}})
            for stream in sorted(self.plan.streams)
            for symbol in self.plan.symbols
        ]

    def received(self, data: bytes, now_ns: int) -> Sequence[Action]:
        """Note the times of book changes."""
        message = load(data)
        if not isinstance(message, dict):
            raise GarbageError("not a JSON object")
        event = message.get("event")
        if event == "bts:request_reconnect":
            return [Reconnect(GapReason.DISCONNECT, "the venue asks for a new connection")]
        if event == "bts:error":
            return [Complain(f"refuses a subscription: {message.get('data')}")]
        try:
            channel = message["channel"]
            if event != "data" or not channel.startswith(CHANNELS[DEPTH]):
                return ()
            number = int(message["data"]["microtimestamp"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            if event == "bts:heartbeat":
                return ()
            raise GarbageError(f"a message with a field that is missing or wrong: {error!r}") from error
        # The changes are those of this moment: none before it is known to be missing.
        symbol = channel.removeprefix(CHANNELS[DEPTH])
        return self._chain.updated(symbol, self._chain.last(symbol, number - 1), number)

    def answered(self, fetch: Fetch, body: bytes) -> Sequence[Action]:
        """Use a snapshot, unless it is too old."""
        answer = load(body)
        try:
            return self._chain.answered(fetch, int(answer["microtimestamp"]), body)
        except (KeyError, TypeError, ValueError) as error:
            raise GarbageError(f"no order book: {error!r}") from error

    def refused(self, fetch: Fetch) -> Sequence[Action]:
        """Ask for the snapshot again, later."""
        return self._chain.refused(fetch)

    def timer(self, now_ns: int) -> Sequence[Action]:
        """Ping, and ask for the snapshots of quiet instruments."""
        return [*self._chain.timer(now_ns), *super().timer(now_ns)]


def describe(answer: Any) -> list[InstrumentInfo]:
    """Read `trading-pairs-info` (now `markets`)."""
    return [_describe(one) for one in answer]


def _describe(one: Any) -> InstrumentInfo:
    base, _, quote = one["name"].partition("/")
    tick, lot = (f"{10.0**-digits:.{digits}f}" for digits in (one["counter_decimals"], one["base_decimals"]))
    status = str(one.get("trading", "")).lower() or None
    return InstrumentInfo(one.get("url_symbol") or one["market_symbol"], base, quote, quote, None, tick, lot, status)


BITSTAMP = Dialect(
    "bitstamp",
    "wss://ws.bitstamp.net",
    "https://www.bitstamp.net",
    frozenset({TRADE, DEPTH}),
    BitstampSession,
    symbols_max=50,
    sends_per_second=20,
    fetches_per_second=5,
    instruments=("/api/v2/trading-pairs-info/",),
    describe=describe,
)
