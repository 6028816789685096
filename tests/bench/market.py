"""The messages that every contender gets: Binance trades of a few symbols, invented and seeded."""

import time

import numpy as np
import orjson

SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT")
FAST, SLOW = 20, 50


def trades(count: int, seed: int = 1) -> list[bytes]:
    """Return `count` spot trade messages as Binance sends them; the first n of them are the same for every count."""
    rng = np.random.default_rng(seed)
    who = np.arange(count) % len(SYMBOLS)
    prices = 30_000 + rng.normal(0, 1, (count // len(SYMBOLS) + 1, len(SYMBOLS))).cumsum(axis=0).ravel()[:count]
    sizes = rng.integers(1, 1_000, count)
    return [
        (
            f'{{"stream":"{SYMBOLS[w].lower()}@trade","data":{{"e":"trade","E":{1_700_000_000_000 + i},'
            f'"s":"{SYMBOLS[w]}","t":{i // len(SYMBOLS) + 1},"p":"{price:.2f}","q":"0.{size:03d}",'
            f'"T":{1_700_000_000_000 + i},"m":{"true" if size % 2 else "false"},"M":true}}}}'
        ).encode()
        for i, (w, price, size) in enumerate(zip(who.tolist(), prices.tolist(), sizes.tolist(), strict=True))
    ]


States = dict[str, tuple[float, float, int, int]]
"""symbol -> fast average, slow average, trades seen, last side."""


def ema_cross(states: States, symbol: str, price: float) -> tuple[int, float] | None:
    """Take a trade; return (side, strength) if the averages crossed. What a user writes by hand."""
    fast, slow, n, side = states.get(symbol, (price, price, 0, 0))
    n += 1
    fast += (price - fast) * 2 / (FAST + 1)
    slow += (price - slow) * 2 / (SLOW + 1)
    now = 1 if fast > slow else -1
    crossed = now != side and n >= SLOW
    states[symbol] = fast, slow, n, now if crossed else side
    return (now, abs(fast - slow) / price) if crossed else None


def signal_count(messages: list[bytes]) -> int:
    """How many signals an EMA cross of FAST and SLOW finds in the messages."""
    states: States = {}
    trades_ = (orjson.loads(message)["data"] for message in messages)
    return sum(ema_cross(states, trade["s"], float(trade["p"])) is not None for trade in trades_)


def now_ns() -> int:
    """Wall clock, the one clock that feeder and reader share."""
    return time.time_ns()
