"""The peer `cryptofeed`: its own handlers over the messages of a capture, as its playback calls them.

Runs in an environment of its own, without Tapeline: `python cryptofeed_app.py CAPTURE.jsonl SAMPLES SECONDS` prints one
JSON object: `messages`, `seconds` of the fastest pass (one a sample, of SECONDS or more), and `counts` of callbacks in
one pass.
"""

import asyncio
import json
import logging
import sys
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from cryptofeed.connection import HTTPAsyncConn, HTTPSync  # type: ignore[import-not-found]  # not in our environment
from cryptofeed.exchanges import EXCHANGE_MAP  # type: ignore[import-not-found]

Handler = Callable[[str, "Connection", float], Coroutine[Any, Any, None]]


ASKS_FIRST = ("BITSTAMP",)
"""Exchanges that are asked for their order books when a feed subscribes, not in the handler."""


class Connection:
    """What a feed sees of a connection."""

    conn_type = "wss"
    uuid = "1"

    def __init__(self, address: str, subscription: Any) -> None:
        self.address = address
        self.subscription = subscription

    async def write(self, *_: Any, **__: Any) -> None:
        """Send nothing."""


class Capture:
    """One capture, and the answers of REST that are in it."""

    def __init__(self, path: str) -> None:
        self.answers: dict[str, str] = {}
        self.addresses: dict[str, str] = {}
        self.messages: list[tuple[str, str, float]] = []
        with open(path, encoding="utf-8") as file:
            for line in map(json.loads, file):
                match line["t"]:
                    case "header":
                        self.exchange, self.config = line["exchange"], line["config"]
                    case "http":
                        self.answers.setdefault(asked(line["url"]), line["data"])
                    case "connect":
                        self.addresses[line["conn"]] = line["addr"]
                    case "recv":
                        self.messages.append((line["conn"], line["data"], line["ts"]))
        channels = EXCHANGE_MAP[self.exchange].websocket_channels
        self.config = {name: symbols for name, symbols in self.config.items() if name in channels}

    async def one_pass(self, counts: Counter[str]) -> float:
        """Hand every message to the handler of a new feed; return how long that took."""

        async def called(*_: Any, name: str, **__: Any) -> None:
            counts[name] += 1

        callbacks = {name: partial(called, name=name) for name in self.config}
        feed = EXCHANGE_MAP[self.exchange](candle_closed_only=False, subscription=self.config, callbacks=callbacks)
        handler: Handler | None = None
        subscriptions: dict[str, Any] = {}
        for connection, subscribe, found, _ in feed.connect():
            if self.exchange in ASKS_FIRST:
                await subscribe(Connection("", feed.subscription))
            subscriptions[connection.address] = connection.subscription
            handler = found
        assert handler is not None
        connections = {
            name: Connection(address, subscriptions.get(address, feed.subscription))
            for name, address in self.addresses.items()
        }
        messages = [(data, connections[name], ts) for name, data, ts in self.messages]
        start = time.perf_counter()
        for data, connection, ts in messages:
            await handler(data, connection, ts)
        taken = time.perf_counter() - start
        feed.stop()
        await feed.shutdown()
        return taken


def asked(url: str) -> str:
    """Return what a URL asks for: this version gets Coinbase's products where a key is needed, the same otherwise."""
    return url.replace("/brokerage/market/", "/brokerage/")


async def main(path: str, samples: int, seconds: float) -> None:
    """Measure, after a pass that does not count."""
    capture = Capture(path)

    async def read(_: Any, url: str, **__: Any) -> str:
        return capture.answers[asked(url)]

    async def sleep(*_: Any) -> None:
        """Wait for no limits of a REST that is not asked."""

    HTTPAsyncConn.read = read
    HTTPSync.read = lambda _, url, **__: json.loads(capture.answers[asked(url)])
    asyncio.sleep = sleep  # type: ignore[assignment]
    counts: Counter[str] = Counter()
    await capture.one_pass(counts)
    found = []
    for _ in range(samples):
        taken: list[float] = []
        while sum(taken) < seconds:
            taken.append(await capture.one_pass(Counter()))
        found.append(min(taken))
    print(json.dumps({"messages": len(capture.messages), "seconds": found, "counts": counts}))  # noqa: T201


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
