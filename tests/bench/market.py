"""The messages that every contender gets: Binance trades of a few symbols, invented and seeded."""

import time

import numpy as np

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


def signal_count(messages: list[bytes]) -> int:
    """How many signals an EMA cross of FAST and SLOW finds in the messages, counted the slow way."""
    import orjson

    states: dict[str, tuple[float, float, int, int]] = {}
    found = 0
    for message in messages:
        trade = orjson.loads(message)["data"]
        price = float(trade["p"])
        fast, slow, n, side = states.get(trade["s"], (price, price, 0, 0))
        n += 1
        fast += (price - fast) * 2 / (FAST + 1)
        slow += (price - slow) * 2 / (SLOW + 1)
        new = 1 if fast > slow else -1
        if new != side and n >= SLOW:
            side = new
            found += 1
        states[trade["s"]] = fast, slow, n, side
    return found


def now_ns() -> int:
    """Wall clock, the one clock that feeder and reader share."""
    return time.time_ns()
