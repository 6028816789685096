"""What a message of a venue says, read field by field without the code under test: slow, plain, for sound ones.

A row is (symbol, kind, event ns, sequence, side, flags, price, size, price2, size2). Event ns None: the receive time.
"""

import json
from calendar import timegm
from collections.abc import Callable, Iterator
from decimal import Decimal
from time import strptime
from typing import Any

from tapeline.schemas import Flag, Kind

Row = tuple[str, int, int | None, int, int, int, float, float, float, float]
Slow = Callable[[bytes], Iterator[Row]]
MS = 1_000_000


def iso(text: str) -> int:
    """Return ns since 1970 of a time such as 2026-08-09T21:05:48.228568804Z."""
    whole, _, part = text.removesuffix("Z").partition(".")
    return timegm(strptime(whole, "%Y-%m-%dT%H:%M:%S")) * 10**9 + int(Decimal(f"0.{part or 0}") * 10**9)


def seconds(text: str) -> int:
    return int(Decimal(text) * 10**9)


def trade(symbol: str, at: int, sequence: int, side: int, price: Any, size: Any, flags: int = 0) -> Row:
    return symbol, Kind.TRADE, at, sequence, side, flags, float(price), float(size), 0, 0


def quote(symbol: str, at: int | None, sequence: int, *numbers: Any) -> Row:
    bid, bid_size, ask, ask_size = (float(number) for number in numbers)
    flag = Flag.CROSSED if bid > ask else Flag.LOCKED if bid == ask else Flag(0)
    if 0 in (bid, ask):
        flag = Flag.ONE_SIDED
    return symbol, Kind.QUOTE, at, sequence, 0, flag, bid, bid_size, ask, ask_size


def book(
    symbol: str, at: int | None, sequence: int, levels: list[tuple[int, Any, Any]], *, full: bool, depth: int = 0
) -> Iterator[Row]:
    for number, (side, price, size) in enumerate(levels, 1):
        flags = (Flag.SNAPSHOT if full else 0) | (Flag.LAST if number == len(levels) else 0)
        yield symbol, Kind.BOOK, at, sequence, side, flags, float(price), float(size), 0, depth


def sides(bids: Any, asks: Any) -> list[tuple[int, Any, Any]]:
    return [(1, level[0], level[1]) for level in bids] + [(-1, level[0], level[1]) for level in asks]


def binance(data: bytes) -> Iterator[Row]:
    event = json.loads(data)["data"]
    match event.get("e"):
        case "aggTrade":
            side = -1 if event["m"] else 1
            yield trade(event["s"], event["T"] * MS, event["a"], side, event["p"], event["q"])
        case "depthUpdate":
            at = event.get("T", event["E"]) * MS
            yield from book(event["s"], at, event["u"], sides(event["b"], event["a"]), full=False)
        case "bookTicker" | None:
            at = event["T"] * MS if "T" in event else None
            yield quote(event["s"], at, event["u"], *(event[name] for name in "bBaA"))


def bitstamp(data: bytes) -> Iterator[Row]:
    message = json.loads(data)
    content, symbol = message["data"], message["channel"].rpartition("_")[2]
    if message["event"] == "trade":
        at, side = int(content["microtimestamp"]) * 1000, -1 if content["type"] else 1
        yield trade(symbol, at, content["id"], side, content["price_str"], content["amount_str"])
    elif message["event"] == "data":
        number = int(content["microtimestamp"])
        yield from book(symbol, number * 1000, number, sides(content["bids"], content["asks"]), full=False)


def coinbase(data: bytes) -> Iterator[Row]:
    message = json.loads(data)
    number = message["sequence_num"]
    for event in message["events"]:
        full = event.get("type") == "snapshot"
        for one in reversed(event.get("trades", [])):
            side = {"BUY": -1, "SELL": 1}[one["side"]]
            flags = Flag.SNAPSHOT if full else Flag(0)
            at = iso(one["time"])
            yield trade(one["product_id"], at, int(one["trade_id"]), side, one["price"], one["size"], flags)
        for one in event.get("tickers", []):
            names = ("best_bid", "best_bid_quantity", "best_ask", "best_ask_quantity")
            yield quote(one["product_id"], iso(message["timestamp"]), number, *(one[name] for name in names))
        if "updates" in event:
            updates = event["updates"]
            levels = [
                ({"bid": 1, "offer": -1}[one["side"]], one["price_level"], one["new_quantity"]) for one in updates
            ]
            at = max(map(iso, {one["event_time"] for one in updates}))
            yield from book(event["product_id"], at, number, levels, full=full)


def kraken(data: bytes) -> Iterator[Row]:
    message = json.loads(data)
    if not isinstance(message, list):
        return
    *parts, channel, pair = message[1:]
    if channel == "trade":
        for price, size, time, side, *_ in parts[0]:
            yield trade(pair, seconds(time), 0, {"b": 1, "s": -1}[side], price, size)
    elif channel == "ticker":
        bid, ask = parts[0]["b"], parts[0]["a"]
        yield quote(pair, None, 0, bid[0], bid[2], ask[0], ask[2])
    else:
        depth = int(channel.removeprefix("book-"))
        content = {key: value for part in parts for key, value in part.items()}
        full = "as" in content
        bids, asks = (content.get(side + ("s" if full else ""), []) for side in "ba")
        at = max(seconds(level[2]) for level in (*bids, *asks))
        yield from book(pair, at, 0, sides(bids, asks), full=full, depth=depth)


def okx(data: bytes) -> Iterator[Row]:
    message = json.loads(data)
    for one in message.get("data", []):
        symbol, channel, at = message["arg"]["instId"], message["arg"]["channel"], int(one["ts"]) * MS
        if channel == "trades":
            side = {"buy": 1, "sell": -1}[one["side"]]
            yield trade(symbol, at, int(one["tradeId"]), side, one["px"], one["sz"])
        elif channel == "tickers":
            yield quote(symbol, at, 0, *(one[name] or "0" for name in ("bidPx", "bidSz", "askPx", "askSz")))
        else:
            yield from book(symbol, at, 0, sides(one["bids"], one["asks"]), full=message["action"] == "snapshot")


class Bybit:
    """Bybit's tickers say what changed only."""

    def __init__(self) -> None:
        self.tickers: dict[str, dict[str, str]] = {}

    def __call__(self, data: bytes) -> Iterator[Row]:
        message = json.loads(data)
        topic, _, symbol = message.get("topic", "").rpartition(".")
        content = message.get("data")
        if topic == "publicTrade":
            for one in content:
                side = {"Buy": 1, "Sell": -1}[one["S"]]
                yield trade(one["s"], one["T"] * MS, one["seq"], side, one["p"], one["v"])
        elif topic.startswith("orderbook"):
            levels = sides(content["b"], content["a"])
            yield from book(symbol, message["cts"] * MS, content["u"], levels, full=message["type"] == "snapshot")
        elif topic == "tickers":
            ticker = self.tickers.setdefault(symbol, {})
            if message["type"] == "snapshot":
                ticker.clear()
            ticker |= content
            at, number = message["ts"] * MS, message["cs"]
            names = ("bid1Price", "bid1Size", "ask1Price", "ask1Size")
            if set(names) & content.keys():
                yield quote(symbol, at, number, *(ticker[name] for name in names))
            if {"markPrice", "indexPrice"} & content.keys():
                mark, index = float(ticker["markPrice"]), float(ticker["indexPrice"])
                yield symbol, Kind.MARK, at, number, 0, 0, mark, 0, index, 0
            if {"fundingRate", "nextFundingTime"} & content.keys():
                paid_s = int(ticker["nextFundingTime"]) / 1000
                yield symbol, Kind.FUNDING, at, number, 0, 0, float(ticker["fundingRate"]), paid_s, 0, 0
