"""How venues write what happens in a market: the other side of connectors/venues/live.

One `Speaker` a connection: it is told what the client sends, and writes what the client is to get.
"""

from binascii import crc32
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import orjson

from tests.venue.market import Book, Change, Event, Market, Trade

Levels = list[tuple[str, str]]


def dumps(message: Any) -> str:
    return orjson.dumps(message).decode()


class Speaker:
    """A connection as the venue sees it. now: the venue's clock, ns."""

    checksums = True

    def __init__(self, market: Market, now: Callable[[], int]) -> None:
        self.market = market
        self.now = now
        self.wanted: set[tuple[str, str]] = set()  # (stream, symbol)

    @property
    def ms(self) -> int:
        return self.now() // 1_000_000

    @property
    def iso(self) -> str:
        return datetime.fromtimestamp(self.now() / 1e9, UTC).isoformat().replace("+00:00", "Z")

    def hello(self) -> Iterator[str]:
        """What the venue says first."""
        return iter(())

    def told(self, text: str) -> Iterator[str]:
        """Answer what the client sends."""
        raise NotImplementedError

    def write(self, event: Event) -> Iterator[str]:
        """Write an event, if this client wants it."""
        stream = "depth" if isinstance(event, Change) else "trade"
        if (stream, event.symbol) in self.wanted:
            yield from self.change(event) if isinstance(event, Change) else self.trade(event)
        if isinstance(event, Change) and ("quote", event.symbol) in self.wanted:
            yield from self.quote(event.symbol, self.market.books[event.symbol])

    def change(self, event: Change) -> Iterator[str]:
        raise NotImplementedError

    def trade(self, event: Trade) -> Iterator[str]:
        raise NotImplementedError

    def quote(self, symbol: str, book: Book) -> Iterator[str]:
        raise NotImplementedError


class Binance(Speaker):
    """Spot; futures with pu."""

    futures = False
    trade_stream = "trade"

    def told(self, text: str) -> Iterator[str]:
        message = orjson.loads(text)
        for name in message["params"]:
            symbol, _, stream = name.partition("@")
            kind = {"bookTicker": "quote", "depth@100ms": "depth"}.get(stream, "trade")
            if symbol.upper() in self.market.books:
                self.wanted.add((kind, symbol.upper()))
        yield dumps({"result": None, "id": message["id"]})

    def _wrap(self, symbol: str, stream: str, data: dict[str, Any]) -> Iterator[str]:
        yield dumps({"stream": f"{symbol.lower()}@{stream}", "data": data})

    def change(self, event: Change) -> Iterator[str]:
        data: dict[str, Any] = {"e": "depthUpdate", "E": self.ms}
        if self.futures:
            data["T"] = self.ms
        data |= {"s": event.symbol, "U": event.before + 1, "u": event.number}
        if self.futures:
            data["pu"] = event.before
        yield from self._wrap(event.symbol, "depth@100ms", data | {"b": event.bids, "a": event.asks})

    def trade(self, event: Trade) -> Iterator[str]:
        data = {"e": self.trade_stream, "E": self.ms, "s": event.symbol, "t": event.id, "p": event.price}
        data |= {"q": event.size, "T": self.ms, "m": event.side < 0, "M": True}
        if self.futures:
            data["a"], data["f"], data["l"] = data.pop("t"), event.id, event.id
            del data["M"]
        yield from self._wrap(event.symbol, self.trade_stream, data)

    def quote(self, symbol: str, book: Book) -> Iterator[str]:
        bids, asks = book.best()
        data: dict[str, Any] = {"u": book.number, "s": symbol}
        if self.futures:
            data = {"e": "bookTicker", "u": book.number, "E": self.ms, "T": self.ms, "s": symbol}
        data |= {"b": bids[0][0], "B": bids[0][1], "a": asks[0][0], "A": asks[0][1]}
        yield from self._wrap(symbol, "bookTicker", data)


class BinanceFutures(Binance):
    futures = True
    trade_stream = "aggTrade"


def binance_listing(market: Market) -> Any:
    filters = [
        {"filterType": "PRICE_FILTER", "tickSize": "0.01000000"},
        {"filterType": "LOT_SIZE", "stepSize": "0.00001000"},
    ]
    return {
        "symbols": [
            {
                "symbol": symbol,
                "baseAsset": symbol[:3],
                "quoteAsset": symbol[3:],
                "status": "TRADING",
                "filters": filters,
            }
            for symbol in market.books
        ]
    }


def binance_snapshot(market: Market, symbol: str, now_ns: int) -> Any:
    book = market.books[symbol]
    bids, asks = book.best()
    return {"lastUpdateId": book.number, "bids": bids, "asks": asks}


class Kraken(Speaker):
    """v2. Its numbers are no strings, and their digits count for the checksum."""

    def hello(self) -> Iterator[str]:
        yield dumps({"channel": "status", "type": "update", "data": [{"system": "online", "api_version": "v2"}]})

    def told(self, text: str) -> Iterator[str]:
        message = orjson.loads(text)
        if message["method"] == "ping":
            yield dumps({"method": "pong", "time_in": self.iso})
            return
        kind = {"book": "depth", "ticker": "quote", "trade": "trade"}[message["params"]["channel"]]
        for symbol in message["params"]["symbol"]:
            answer: dict[str, Any] = {"method": message["method"], "success": symbol in self.market.books}
            answer["result"] = {"channel": message["params"]["channel"], "symbol": symbol}
            yield dumps(answer if answer["success"] else answer | {"error": "Currency pair not supported"})
            if not answer["success"]:
                continue
            if message["method"] == "unsubscribe":
                self.wanted.discard((kind, symbol))
                continue
            self.wanted.add((kind, symbol))
            if kind == "depth":
                book = self.market.books[symbol]
                yield self._book("snapshot", symbol, *book.best())

    def _book(self, kind: str, symbol: str, bids: Levels, asks: Levels) -> str:
        sides = (",".join(f'{{"price":{p},"qty":{s}}}' for p, s in side) for side in (bids, asks))
        best_bids, best_asks = self.market.books[symbol].best()
        digits = "".join(
            part.replace(".", "").lstrip("0") for level in best_asks[:10] + best_bids[:10] for part in level
        )
        return (
            '{{"channel":"book","type":"{}","data":[{{"symbol":"{}","bids":[{}],"asks":[{}],"checksum":{},'
            '"timestamp":"{}"}}]}}'
        ).format(kind, symbol, *sides, crc32(digits.encode()), self.iso)

    def change(self, event: Change) -> Iterator[str]:
        yield self._book("update", event.symbol, event.bids, event.asks)

    def trade(self, event: Trade) -> Iterator[str]:
        side = "buy" if event.side > 0 else "sell"
        yield (
            f'{{"channel":"trade","type":"update","data":[{{"symbol":"{event.symbol}","side":"{side}",'
            f'"price":{event.price},"qty":{event.size},"ord_type":"limit","trade_id":{event.id},'
            f'"timestamp":"{self.iso}"}}]}}'
        )

    def quote(self, symbol: str, book: Book) -> Iterator[str]:
        (bid, ask), last = (side[0] for side in book.best()), "1.0"
        yield (
            f'{{"channel":"ticker","type":"update","data":[{{"symbol":"{symbol}","bid":{bid[0]},"bid_qty":{bid[1]},'
            f'"ask":{ask[0]},"ask_qty":{ask[1]},"last":{last},"volume":1.0,"vwap":1.0,"low":1.0,"high":1.0,'
            f'"change":0.0,"change_pct":0.0,"timestamp":"{self.iso}"}}]}}'
        )


class Okx(Speaker):
    def told(self, text: str) -> Iterator[str]:
        if text == "ping":
            yield "pong"
            return
        message = orjson.loads(text)
        for arg in message["args"]:
            kind = {"books": "depth", "bbo-tbt": "quote"}.get(arg["channel"], "trade")
            symbol = arg["instId"]
            if symbol not in self.market.books:
                yield dumps({"event": "error", "code": "60018", "msg": f"Wrong URL or channel, {symbol} doesn't exist"})
                continue
            yield dumps({"event": message["op"], "arg": arg, "connId": "a4d3ae55"})
            if message["op"] == "unsubscribe":
                self.wanted.discard((kind, symbol))
                continue
            self.wanted.add((kind, symbol))
            if kind == "depth":
                book = self.market.books[symbol]
                yield self._book("snapshot", symbol, *book.best(), -1)

    def _book(self, action: str, symbol: str, bids: Levels, asks: Levels, before: int) -> str:
        book = self.market.books[symbol]
        best_bids, best_asks = book.best()
        parts: list[str] = []
        for place in range(25):
            for side in (best_bids, best_asks):
                parts += side[place] if place < len(side) else ()
        checksum = crc32(":".join(parts).encode())
        data = {"asks": [[p, s, "0", "1"] for p, s in asks], "bids": [[p, s, "0", "1"] for p, s in bids]}
        signed = checksum - 2**32 if checksum >= 2**31 else checksum
        data |= {"ts": str(self.ms), "checksum": signed if self.checksums else 0}  # type: ignore[dict-item]
        data |= {"seqId": book.number, "prevSeqId": before}  # type: ignore[dict-item]
        return dumps({"arg": {"channel": "books", "instId": symbol}, "action": action, "data": [data]})

    def change(self, event: Change) -> Iterator[str]:
        yield self._book("update", event.symbol, event.bids, event.asks, event.before)

    def trade(self, event: Trade) -> Iterator[str]:
        data = {"instId": event.symbol, "tradeId": str(event.id), "px": event.price, "sz": event.size}
        data |= {"side": "buy" if event.side > 0 else "sell", "ts": str(self.ms)}
        yield dumps({"arg": {"channel": "trades-all", "instId": event.symbol}, "data": [data]})

    def quote(self, symbol: str, book: Book) -> Iterator[str]:
        bids, asks = book.best()
        data = {"asks": [[*asks[0], "0", "1"]], "bids": [[*bids[0], "0", "1"]], "ts": str(self.ms)}
        data["seqId"] = book.number  # type: ignore[assignment]
        yield dumps({"arg": {"channel": "bbo-tbt", "instId": symbol}, "data": [data]})


class Bybit(Speaker):
    def __init__(self, market: Market, now: Callable[[], int]) -> None:
        super().__init__(market, now)
        self._numbers: dict[str, int] = {}

    def told(self, text: str) -> Iterator[str]:
        message = orjson.loads(text)
        if message["op"] == "ping":
            yield dumps({"success": True, "ret_msg": "pong", "conn_id": "0", "req_id": "", "op": "ping"})
            return
        yield dumps({"success": True, "ret_msg": "", "conn_id": "0", "req_id": "", "op": message["op"]})
        for topic in message["args"]:
            name, _, symbol = topic.rpartition(".")
            kind = {"publicTrade": "trade", "orderbook.1": "quote"}.get(name, "depth")
            if message["op"] == "unsubscribe":
                self.wanted.discard((kind, symbol))
                continue
            self.wanted.add((kind, symbol))
            if kind != "trade":
                bids, asks = self.market.books[symbol].best()
                if kind == "quote":
                    bids, asks = bids[:1], asks[:1]
                yield self._book(topic, "snapshot", symbol, bids, asks)

    def _book(self, topic: str, kind: str, symbol: str, bids: Levels, asks: Levels) -> str:
        self._numbers[topic] = self._numbers.get(topic, 100) + 1
        data = {"s": symbol, "b": bids, "a": asks, "u": self._numbers[topic], "seq": self.market.books[symbol].number}
        return dumps({"topic": topic, "type": kind, "ts": self.ms, "data": data, "cts": self.ms})

    def change(self, event: Change) -> Iterator[str]:
        yield self._book(f"orderbook.200.{event.symbol}", "delta", event.symbol, event.bids, event.asks)

    def trade(self, event: Trade) -> Iterator[str]:
        data = {"T": self.ms, "s": event.symbol, "S": "Buy" if event.side > 0 else "Sell", "v": event.size}
        data |= {"p": event.price, "L": "ZeroPlusTick", "i": f"id-{event.id}", "BT": False, "seq": event.id}
        yield dumps({"topic": f"publicTrade.{event.symbol}", "type": "snapshot", "ts": self.ms, "data": [data]})

    def quote(self, symbol: str, book: Book) -> Iterator[str]:
        bids, asks = book.best()
        yield self._book(f"orderbook.1.{symbol}", "snapshot", symbol, bids[:1], asks[:1])


class Coinbase(Speaker):
    """Advanced Trade."""

    def __init__(self, market: Market, now: Callable[[], int]) -> None:
        super().__init__(market, now)
        self._number = 0

    def _say(self, channel: str, events: list[Any]) -> str:
        number, self._number = self._number, self._number + 1
        return dumps({"channel": channel, "timestamp": self.iso, "sequence_num": number, "events": events})

    def told(self, text: str) -> Iterator[str]:
        message = orjson.loads(text)
        if message["channel"] == "heartbeats":
            yield self._say("subscriptions", [{"subscriptions": {"heartbeats": ["heartbeats"]}}])
            return
        kind = {"market_trades": "trade", "ticker": "quote", "level2": "depth"}[message["channel"]]
        for symbol in message["product_ids"]:
            self.wanted.add((kind, symbol))
            if kind == "depth":
                yield self._book("snapshot", symbol, *self.market.books[symbol].best())
        yield self._say("subscriptions", [{"subscriptions": {message["channel"]: message["product_ids"]}}])

    def _book(self, kind: str, symbol: str, bids: Levels, asks: Levels) -> str:
        updates = [
            {"side": side, "event_time": self.iso, "price_level": price, "new_quantity": size}
            for side, levels in (("bid", bids), ("offer", asks))
            for price, size in levels
        ]
        return self._say("l2_data", [{"type": kind, "product_id": symbol, "updates": updates}])

    def change(self, event: Change) -> Iterator[str]:
        yield self._book("update", event.symbol, event.bids, event.asks)

    def trade(self, event: Trade) -> Iterator[str]:
        trade = {"product_id": event.symbol, "trade_id": str(event.id), "price": event.price, "size": event.size}
        trade |= {"time": self.iso, "side": "BUY" if event.side < 0 else "SELL"}  # the maker's
        yield self._say("market_trades", [{"type": "update", "trades": [trade]}])

    def quote(self, symbol: str, book: Book) -> Iterator[str]:
        bids, asks = book.best()
        ticker = {"type": "ticker", "product_id": symbol, "price": bids[0][0], "best_bid": bids[0][0]}
        ticker |= {"best_ask": asks[0][0], "best_bid_quantity": bids[0][1], "best_ask_quantity": asks[0][1]}
        yield self._say("ticker", [{"type": "update", "tickers": [ticker]}])


class CoinbaseExchange(Speaker):
    def told(self, text: str) -> Iterator[str]:
        message = orjson.loads(text)
        names = message["channels"]
        yield dumps({"type": "subscriptions", "channels": [{"name": name} for name in names]})
        for name in names:
            kind = {"matches": "trade", "ticker": "quote", "level2_batch": "depth"}.get(name)
            for symbol in message["product_ids"] if kind else ():
                self.wanted.add((str(kind), symbol))
                if kind == "depth":
                    bids, asks = self.market.books[symbol].best()
                    yield dumps({"type": "snapshot", "product_id": symbol, "bids": bids, "asks": asks})

    def change(self, event: Change) -> Iterator[str]:
        changes = [["buy", *level] for level in event.bids] + [["sell", *level] for level in event.asks]
        yield dumps({"type": "l2update", "product_id": event.symbol, "changes": changes, "time": self.iso})

    def trade(self, event: Trade) -> Iterator[str]:
        match = {"type": "match", "trade_id": event.id, "maker_order_id": "a", "taker_order_id": "b"}
        match |= {"side": "sell" if event.side > 0 else "buy", "size": event.size, "price": event.price}
        yield dumps(match | {"product_id": event.symbol, "sequence": event.id * 7, "time": self.iso})

    def quote(self, symbol: str, book: Book) -> Iterator[str]:
        bids, asks = book.best()
        ticker = {"type": "ticker", "sequence": book.number, "product_id": symbol, "price": bids[0][0]}
        ticker |= {"best_bid": bids[0][0], "best_bid_size": bids[0][1], "best_ask": asks[0][0]}
        ticker |= {"best_ask_size": asks[0][1], "side": "buy", "time": self.iso, "trade_id": 1, "last_size": "1"}
        yield dumps(ticker)


class Bitstamp(Speaker):
    """Ordered by microtimestamp: here the update number stands for it."""

    def told(self, text: str) -> Iterator[str]:
        message = orjson.loads(text)
        if message["event"] == "bts:heartbeat":
            yield dumps({"event": "bts:heartbeat", "channel": "", "data": {"status": "success"}})
            return
        channel = message["data"]["channel"]
        name, _, symbol = channel.rpartition("_")
        self.wanted.add(("trade" if name == "live_trades" else "depth", symbol))
        yield dumps({"event": "bts:subscription_succeeded", "channel": channel, "data": {}})

    def change(self, event: Change) -> Iterator[str]:
        data = {"timestamp": str(self.ms // 1000), "microtimestamp": str(event.number)}
        data |= {"bids": event.bids, "asks": event.asks}  # type: ignore[dict-item]
        yield dumps({"data": data, "channel": f"diff_order_book_{event.symbol}", "event": "data"})

    def trade(self, event: Trade) -> Iterator[str]:
        data = {"id": event.id, "timestamp": str(self.ms // 1000), "amount": float(event.size), "type": 0}
        data |= {"amount_str": event.size, "price": float(event.price), "price_str": event.price}
        data |= {"microtimestamp": str(self.ms * 1000), "buy_order_id": 1, "sell_order_id": 2}
        if event.side < 0:
            data["type"] = 1
        yield dumps({"data": data, "channel": f"live_trades_{event.symbol}", "event": "trade"})


def bitstamp_snapshot(market: Market, symbol: str, now_ns: int) -> Any:
    book = market.books[symbol]
    bids, asks = book.best()
    return {"timestamp": str(now_ns // 10**9), "microtimestamp": str(book.number), "bids": bids, "asks": asks}


class Alpaca(Speaker):
    """Trades and quotes of stocks; asks for a key."""

    def hello(self) -> Iterator[str]:
        yield dumps([{"T": "success", "msg": "connected"}])

    def told(self, text: str) -> Iterator[str]:
        message = orjson.loads(text)
        if message["action"] == "auth":
            if (message["key"], message["secret"]) != ("key", "secret"):
                yield dumps([{"T": "error", "code": 402, "msg": "auth failed"}])
                return
            yield dumps([{"T": "success", "msg": "authenticated"}])
            return
        for kind, name in (("trade", "trades"), ("quote", "quotes")):
            self.wanted |= {(kind, symbol) for symbol in message.get(name, ())}
        yield dumps([{"T": "subscription", "trades": message.get("trades", []), "quotes": message.get("quotes", [])}])

    def trade(self, event: Trade) -> Iterator[str]:
        trade = {"T": "t", "i": event.id, "S": event.symbol, "x": "V", "p": float(event.price), "s": float(event.size)}
        yield dumps([trade | {"t": self.iso, "c": ["@"], "z": "B"}])

    def quote(self, symbol: str, book: Book) -> Iterator[str]:
        bids, asks = book.best()
        quote = {"T": "q", "S": symbol, "bx": "V", "bp": float(bids[0][0]), "bs": 2, "ax": "V"}
        yield dumps([quote | {"ap": float(asks[0][0]), "as": 3, "t": self.iso, "c": ["R"], "z": "B"}])


SPEAKERS: dict[str, type[Speaker]] = {
    "binance": Binance,
    "binance-usdm": BinanceFutures,
    "binance-coinm": BinanceFutures,
    "coinbase": Coinbase,
    "coinbase-exchange": CoinbaseExchange,
    "kraken": Kraken,
    "bybit": Bybit,
    "bybit-linear": Bybit,
    "bybit-inverse": Bybit,
    "okx": Okx,
    "bitstamp": Bitstamp,
    "alpaca": Alpaca,
}
