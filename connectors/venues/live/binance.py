"""Binance live: spot, USD-M and COIN-M futures, combined streams.

"WebSocket Streams" of each (2024 to 2026): a connection lasts 24 hours; the server pings; at most 5 (spot) or 10
messages to it a second, 1,024 (spot) or 200 (futures) streams. USD-M serves books under /public and trades under
/market. Trades of futures are aggregated (aggTrade): single ones are not documented.
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
    Session,
    StreamKind,
    chunks,
    load,
    text,
)

TRADE, QUOTE, DEPTH = StreamKind
NAMES_MAX = 100
"""Streams named in one message to the venue."""


class BinanceSession(Session):
    """One connection; trade: the stream of trades; depth: path of the snapshot below `rest`."""

    def __init__(self, plan: Plan, trade: str, depth: str) -> None:
        super().__init__(plan)
        self._names = {TRADE: f"@{trade}", QUOTE: "@bookTicker", DEPTH: "@depth@100ms"}
        symbols = plan.symbols if DEPTH in plan.streams else ()
        self._chain = Chain(symbols, f"{plan.rest}{depth}?symbol={{}}&limit=1000")

    def opened(self) -> list[Action]:
        """Subscribe."""
        names = [
            f"{symbol.lower()}{self._names[stream]}"
            for stream in sorted(self.plan.streams)
            for symbol in self.plan.symbols
        ]
        return [
            text({"method": "SUBSCRIBE", "params": names_, "id": number})
            for number, names_ in enumerate(chunks(names, NAMES_MAX), start=1)
        ]

    def received(self, data: bytes, now_ns: int) -> Sequence[Action]:
        """Follow the numbers of depth updates."""
        message = load(data)
        if not isinstance(message, dict):
            raise GarbageError("not a JSON object")
        event = message.get("data", message)
        if not isinstance(event, dict):
            raise GarbageError("data is not a JSON object")
        if "error" in message:
            return [Complain(f"refuses a subscription: {message['error']}")]
        if event.get("e") != "depthUpdate":
            return ()
        try:
            before = event["pu"] if "pu" in event else event["U"] - 1
            return self._chain.updated(event["s"], int(before), int(event["u"]))
        except (KeyError, TypeError, ValueError) as error:
            raise GarbageError(f"a depth update with a field that is missing or wrong: {error!r}") from error

    def answered(self, fetch: Fetch, body: bytes) -> Sequence[Action]:
        """Use a snapshot, unless it is too old."""
        answer = load(body)
        try:
            return self._chain.answered(fetch, int(answer["lastUpdateId"]), body)
        except (KeyError, TypeError, ValueError) as error:
            raise GarbageError(f"no depth snapshot: {error!r}") from error

    def refused(self, fetch: Fetch) -> Sequence[Action]:
        """Ask for the snapshot again, later."""
        return self._chain.refused(fetch)

    def timer(self, now_ns: int) -> Sequence[Action]:
        """Ask for the snapshots of quiet instruments."""
        return self._chain.timer(now_ns)


def describe(answer: Any) -> list[InstrumentInfo]:
    """Read `exchangeInfo`."""
    return [_describe(one) for one in answer["symbols"]]


def _describe(one: Any) -> InstrumentInfo:
    filters = {rule["filterType"]: rule for rule in one.get("filters", ())}
    size = one.get("contractSize")
    return InstrumentInfo(
        one["symbol"],
        one.get("baseAsset"),
        one.get("quoteAsset"),
        one.get("marginAsset", one.get("quoteAsset")),
        None if size is None else str(size),
        filters.get("PRICE_FILTER", {}).get("tickSize"),
        filters.get("LOT_SIZE", {}).get("stepSize"),
        str(one.get("status", one.get("contractStatus", ""))).lower() or None,
    )


SPOT = Dialect(
    "binance",
    "wss://stream.binance.com:9443/stream",
    "https://api.binance.com",
    frozenset(StreamKind),
    lambda plan: BinanceSession(plan, "trade", "/api/v3/depth"),
    symbols_max=200,
    sends_per_second=4,
    fetches_per_second=2,  # 50 of 6,000 weight a minute each
    instruments=("/api/v3/exchangeInfo",),
    describe=describe,
)
USDM = Dialect(
    "binance-usdm",
    "wss://fstream.binance.com",
    "https://fapi.binance.com",
    frozenset(StreamKind),
    lambda plan: BinanceSession(plan, "aggTrade", "/fapi/v1/depth"),
    symbols_max=60,
    sends_per_second=4,
    fetches_per_second=1.5,  # 20 of 2,400 weight a minute each
    instruments=("/fapi/v1/exchangeInfo",),
    describe=describe,
    paths=(("/public/stream", frozenset({QUOTE, DEPTH})), ("/market/stream", frozenset({TRADE}))),
)
COINM = Dialect(
    "binance-coinm",
    "wss://dstream.binance.com/stream",
    "https://dapi.binance.com",
    frozenset(StreamKind),
    lambda plan: BinanceSession(plan, "aggTrade", "/dapi/v1/depth"),
    symbols_max=60,
    sends_per_second=4,
    fetches_per_second=1.5,
    instruments=("/dapi/v1/exchangeInfo",),
    describe=describe,
)
