"""Alpaca live: US stocks, trades and quotes (docs.alpaca.markets, real-time stock data, 2026).

A key is needed. A free plan has the feed of one exchange (iex, the default), 30 symbols and one connection; `url`
chooses another feed, such as wss://stream.data.alpaca.markets/v2/sip.
"""

from collections.abc import Sequence
from typing import Any

from tapeline.connectors.venues.live.contract import (
    Action,
    Complain,
    Dialect,
    GarbageError,
    InstrumentInfo,
    Reconnect,
    Session,
    StreamKind,
    load,
    text,
)
from tapeline.schemas import GapReason

TRADE, QUOTE = StreamKind.TRADE, StreamKind.QUOTE
FINAL = {401, 402, 403, 404, 406, 409}
"""Errors after which the connection is of no use: not authenticated, in use elsewhere."""


class AlpacaSession(Session):
    """One connection."""

    def opened(self) -> list[Action]:
        """Say who we are."""
        return [text({"action": "auth", "key": self.plan.key, "secret": self.plan.secret})]

    def received(self, data: bytes, now_ns: int) -> Sequence[Action]:
        """Subscribe once we are known; look for refusals."""
        messages = load(data)
        if not isinstance(messages, list) or not all(isinstance(one, dict) for one in messages):
            raise GarbageError("not a JSON list of objects")
        actions: list[Action] = []
        for one in messages:
            if one.get("T") == "success" and one.get("msg") == "authenticated":
                actions.append(self._subscription())
            elif one.get("T") == "error":
                words = f"{one.get('code')} {one.get('msg')}"
                actions.append(Complain(f"refuses: {words}"))
                if one.get("code") in FINAL:
                    actions.append(Reconnect(GapReason.DISCONNECT, words))
        return actions

    def _subscription(self) -> Action:
        symbols = list(self.plan.symbols)
        lists: dict[str, Any] = {"action": "subscribe", "statuses": symbols}
        if TRADE in self.plan.streams:
            lists["trades"] = symbols
        if QUOTE in self.plan.streams:
            lists["quotes"] = symbols
        return text(lists)


def describe(answer: Any) -> list[InstrumentInfo]:
    """Read `assets` of the trading API."""
    return [
        InstrumentInfo(
            one["symbol"],
            one["symbol"],
            "USD",
            "USD",
            None,
            one.get("price_increment") or "0.01",
            one.get("min_trade_increment") or "1",
            one.get("status"),
        )
        for one in answer
    ]


ALPACA = Dialect(
    "alpaca",
    "wss://stream.data.alpaca.markets/v2/iex",
    "https://paper-api.alpaca.markets",
    frozenset({TRADE, QUOTE}),
    AlpacaSession,
    symbols_max=500,
    sends_per_second=2,
    fetches_per_second=3,
    instruments=("/v2/assets?status=active&asset_class=us_equity",),
    describe=describe,
    silence_s=900.0,  # nobody trades at night, and IEX is quiet before the open
    needs_key=True,
    key_headers=("APCA-API-KEY-ID", "APCA-API-SECRET-KEY"),
)
