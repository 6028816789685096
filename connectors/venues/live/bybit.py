"""Bybit live: v5 public channels of spot, linear and inverse (bybit-exchange.github.io/docs/v5/ws, 2026).

Update numbers `u` of a book are consecutive; a snapshot begins them anew. Spot takes 10 topics in a request. A ping
every 20 s keeps the connection.
"""

from collections.abc import Sequence
from typing import Any

from tapeline.connectors.venues.live.contract import (
    Action,
    Complain,
    Dialect,
    GarbageError,
    InstrumentInfo,
    Plan,
    Session,
    StreamKind,
    chunks,
    load,
    text,
)

TRADE, QUOTE, DEPTH = StreamKind
TOPICS = {TRADE: "publicTrade.", QUOTE: "orderbook.1.", DEPTH: "orderbook.200."}
ARGS_A_MESSAGE = 10


class BybitSession(Session):
    """One connection."""

    ping = text({"op": "ping"})
    pong = b'"pong"'

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self._last: dict[str, int] = {}  # topic -> number of its last update, if the book is whole

    def opened(self) -> list[Action]:
        """Subscribe."""
        args = [TOPICS[stream] + symbol for stream in sorted(self.plan.streams) for symbol in self.plan.symbols]
        return [text({"op": "subscribe", "args": some}) for some in chunks(args, ARGS_A_MESSAGE)]

    def received(self, data: bytes, now_ns: int) -> Sequence[Action]:
        """Follow the numbers of books."""
        message = load(data)
        if not isinstance(message, dict):
            raise GarbageError("not a JSON object")
        if message.get("success") is False:
            return [Complain(f"refuses {message.get('op')}: {message.get('ret_msg')}")]
        topic = message.get("topic")
        if not isinstance(topic, str):
            if "op" not in message:
                raise GarbageError("neither a topic nor an answer")
            return ()
        if not topic.startswith("orderbook."):
            return ()
        try:
            number = int(message["data"]["u"])
            snapshot = message["type"] == "snapshot"
        except (KeyError, TypeError, ValueError) as error:
            raise GarbageError(f"a book with a field that is missing or wrong: {error!r}") from error
        if not snapshot:
            if topic not in self._last:  # until the next snapshot
                return ()
            if number > self._last[topic] + 1:  # the numbers themselves make the gap
                del self._last[topic]
                return [text({"op": "unsubscribe", "args": [topic]}), text({"op": "subscribe", "args": [topic]})]
        self._last[topic] = number if snapshot else max(number, self._last[topic])
        return ()


def describe(answer: Any) -> list[InstrumentInfo]:
    """Read `instruments-info` of one category."""
    return [_describe(one) for one in answer["result"]["list"]]


def _describe(one: Any) -> InstrumentInfo:
    lot = one["lotSizeFilter"]
    return InstrumentInfo(
        one["symbol"],
        one.get("baseCoin"),
        one.get("quoteCoin"),
        one.get("settleCoin", one.get("quoteCoin")),
        None,
        one["priceFilter"].get("tickSize"),
        lot.get("qtyStep", lot.get("basePrecision")),
        str(one.get("status", "")).lower() or None,
    )


def _dialect(venue: str, category: str) -> Dialect:
    return Dialect(
        venue,
        f"wss://stream.bybit.com/v5/public/{category}",
        "https://api.bybit.com",
        frozenset(StreamKind),
        BybitSession,
        symbols_max=50,
        sends_per_second=5,
        fetches_per_second=5,
        instruments=(f"/v5/market/instruments-info?category={category}&limit=1000",),
        describe=describe,
    )


SPOT, LINEAR, INVERSE = (
    _dialect("bybit", "spot"),
    _dialect("bybit-linear", "linear"),
    _dialect("bybit-inverse", "inverse"),
)
