"""Coinbase live: Advanced Trade (docs.cdp.coinbase.com, 2026) and Exchange (the same site, 2026).

Advanced Trade counts the messages of a connection (`sequence_num`, from 0): a number that is missing may have been
anything, so that the connection is opened anew. Exchange numbers nothing in the channels that need no login; what can
be compared is the last trade id that its heartbeats carry, which `parse` leaves to the trades themselves.
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
    Reconnect,
    Session,
    StreamKind,
    load,
    text,
)
from tapeline.schemas import GapReason

TRADE, QUOTE, DEPTH = StreamKind


class AdvancedSession(Session):
    """One connection to Advanced Trade."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self._next: int | None = None

    def opened(self) -> list[Action]:
        """Subscribe; heartbeats keep quiet channels open."""
        channels = {TRADE: "market_trades", QUOTE: "ticker", DEPTH: "level2"}
        products = list(self.plan.symbols)
        return [
            text({"type": "subscribe", "channel": "heartbeats"}),
            *(
                text({"type": "subscribe", "channel": channels[stream], "product_ids": products})
                for stream in sorted(self.plan.streams)
            ),
        ]

    def received(self, data: bytes, now_ns: int) -> Sequence[Action]:
        """Follow the numbers of messages."""
        message = load(data)
        if not isinstance(message, dict):
            raise GarbageError("not a JSON object")
        if message.get("type") == "error":
            return [Complain(f"refuses a subscription: {message.get('message')}")]
        number = message.get("sequence_num")
        if not isinstance(number, int):
            raise GarbageError("a message without sequence_num")
        missing = 0 if self._next is None else number - self._next
        self._next = number + 1
        if missing > 0:
            return [Reconnect(GapReason.SEQUENCE, f"{missing} messages before number {number} are missing")]
        return ()


class ExchangeSession(Session):
    """One connection to Exchange."""

    def opened(self) -> list[Action]:
        """Subscribe."""
        channels = {TRADE: "matches", QUOTE: "ticker", DEPTH: "level2_batch"}
        names = ["heartbeat", *(channels[stream] for stream in sorted(self.plan.streams))]
        return [text({"type": "subscribe", "channels": names, "product_ids": list(self.plan.symbols)})]

    def received(self, data: bytes, now_ns: int) -> Sequence[Action]:
        """Look for refusals."""
        message = load(data)
        if not isinstance(message, dict) or not isinstance(message.get("type"), str):
            raise GarbageError("not a JSON object with a type")
        if message["type"] == "error":
            return [Complain(f"refuses a subscription: {message.get('message')} {message.get('reason', '')}")]
        return ()


def describe(answer: Any) -> list[InstrumentInfo]:
    """Read the products of Advanced Trade."""
    return [
        InstrumentInfo(
            one["product_id"],
            one.get("base_currency_id") or None,
            one.get("quote_currency_id") or None,
            one.get("quote_currency_id") or None,
            None,
            one.get("price_increment", one.get("quote_increment")),
            one.get("base_increment"),
            one.get("status") or None,
        )
        for one in answer["products"]
    ]


def describe_exchange(answer: Any) -> list[InstrumentInfo]:
    """Read the products of Exchange."""
    return [
        InstrumentInfo(
            one["id"],
            one.get("base_currency"),
            one.get("quote_currency"),
            one.get("quote_currency"),
            None,
            one.get("quote_increment"),
            one.get("base_increment"),
            one.get("status"),
        )
        for one in answer
    ]


ADVANCED = Dialect(
    "coinbase",
    "wss://advanced-trade-ws.coinbase.com",
    "https://api.coinbase.com",
    frozenset(StreamKind),
    AdvancedSession,
    symbols_max=20,
    sends_per_second=4,
    fetches_per_second=5,
    instruments=("/api/v3/brokerage/market/products",),
    describe=describe,
)
EXCHANGE = Dialect(
    "coinbase-exchange",
    "wss://ws-feed.exchange.coinbase.com",
    "https://api.exchange.coinbase.com",
    frozenset(StreamKind),
    ExchangeSession,
    symbols_max=20,
    sends_per_second=4,
    fetches_per_second=5,
    instruments=("/products",),
    describe=describe_exchange,
)
