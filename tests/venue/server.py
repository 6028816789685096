"""The test venue itself: WebSocket and REST on this machine, in a venue's dialect, with the faults asked for."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from copy import deepcopy
from random import Random
from typing import Any

from aiohttp import WSCloseCode, web

from tests.venue.dialects import SPEAKERS, Speaker, binance_listing, binance_snapshot, bitstamp_snapshot, dumps
from tests.venue.market import Book, Change, Event, Market

NUMBERED: dict[str, frozenset[str]] = {
    "binance": frozenset({"depth", "trade"}),
    "binance-usdm": frozenset({"depth", "trade"}),
    "binance-coinm": frozenset({"depth", "trade"}),
    "coinbase": frozenset({"depth", "trade", "quote"}),
    "coinbase-exchange": frozenset({"trade"}),
    "kraken": frozenset({"depth"}),
    "bybit": frozenset({"depth"}),
    "bybit-linear": frozenset({"depth"}),
    "bybit-inverse": frozenset({"depth"}),
    "okx": frozenset({"depth"}),
    "bitstamp": frozenset(),
    "alpaca": frozenset(),
}
"""Venue -> streams whose messages are numbered or summed, so that a loss can be noticed."""
SUMMED = frozenset({"kraken", "okx"})
"""Venues whose books carry a checksum."""

MESSAGE_FAULTS = ("drop", "repeat", "swap", "corrupt")
"""What befalls one message, where it can be noticed."""
ALWAYS_FAULTS = ("garbage", "half", "binary", "big", "padded", "cut", "close", "stall", "quiet", "slow")
"""What befalls any connection."""
REST_FAULTS = ("stale", "403", "429", "418", "500", "rest garbage")
HANDSHAKE_FAULTS = ("refuse", "busy")
OUR_FAULTS = ("overload",)
"""Nothing of the venue's: what leaves the client's queue is held up."""
FAULTS = (*MESSAGE_FAULTS, *ALWAYS_FAULTS, *REST_FAULTS, *HANDSHAKE_FAULTS, *OUR_FAULTS)

BIG = "[" + ",".join(["12345"] * 200_000) + "]"
"""A megabyte that is JSON, and nothing of the venue's."""


class Faults:
    """Which faults happen, how often (by chance, seeded), and what happened.

    owed: those that happen at the first occasion for certain: too rare to be left to chance alone.
    """

    def __init__(self, rng: Random, owed: tuple[str, ...] = ()) -> None:
        self.rng = rng
        self.owed = owed
        self.wanted: tuple[str, ...] = ()
        self.often = 0.0
        self.done: list[str] = []

    def pick(self, among: tuple[str, ...]) -> str:
        """Return the fault that is due now, or ""."""
        possible = [fault for fault in among if fault in self.wanted]
        often = 0.3 if among in (REST_FAULTS, HANDSHAKE_FAULTS) else self.often  # questions are rarer than messages
        owed = [fault for fault in possible if fault in self.owed and fault not in self.done]
        if not possible or (not owed and self.rng.random() >= often):
            return ""
        fault = self.rng.choice(owed or possible)
        self.done.append(fault)
        return fault

    def stop(self) -> None:
        """No more faults."""
        self.wanted = ()


class Client:
    """A connection that a client has opened."""

    def __init__(self, venue: "Venue", socket: web.WebSocketResponse, transport: asyncio.Transport) -> None:
        self.venue = venue
        self.speaker: Speaker = SPEAKERS[venue.name](venue.market, time.time_ns)
        self._socket, self._transport = socket, transport
        self._texts: deque[str | bytes | None] = deque()
        self._some = asyncio.Event()
        self._held = ""  # waits for the message that overtakes it
        self.speaker.checksums = venue.checksums
        self.stalled = False
        self.quiet = False
        self.slow = False

    def say(self, texts: Iterator[str], stream: str) -> None:
        """Send texts, unless a fault befalls them. stream: of what; "" = the venue's own."""
        for text in texts:
            if self.quiet and stream:
                continue
            fault = self._fault(stream)
            if fault == "drop":
                continue
            if fault == "swap" and not self._held:
                self._held = text
                continue
            if fault == "corrupt":
                text = self._corrupt(text)
            if fault in ("garbage", "half", "binary"):
                text = {"garbage": "<html>502 Bad Gateway</html>", "half": text[: len(text) // 2]}.get(fault, text)
                self._put(text if fault != "binary" else b"\xff\xfe\x00" + text.encode())
                continue
            self._put(text if fault != "padded" else text + " " * 2**20)
            if fault == "repeat":
                self._put(text)
            if self._held:
                self._put(self._held)
                self._held = ""
            if fault == "big":
                self._put(BIG)
            elif fault == "cut":
                self._transport.abort()
            elif fault == "close":
                self._put(None)
            elif fault == "stall":
                self.stalled = True
            elif fault == "quiet":  # no data any more, but answers
                self.quiet = True
            elif fault == "slow":
                self.slow = True

    def _fault(self, stream: str) -> str:
        venue = self.venue
        possible: tuple[str, ...] = ALWAYS_FAULTS
        if stream in NUMBERED[venue.name]:
            possible += ("drop", "repeat", "swap")
        if stream == "depth" and venue.name in SUMMED and venue.checksums:
            possible += ("corrupt",)
        return venue.faults.pick(possible) if stream else ""

    def _corrupt(self, text: str) -> str:
        """Change a digit of a price or size."""
        sizes = text.find('"asks"')
        places = [at for at, one in enumerate(text) if at > max(sizes, 0) and one.isdigit()][:12]
        if not places:
            return text
        at = self.venue.faults.rng.choice(places)
        return text[:at] + str((int(text[at]) + 5) % 10) + text[at + 1 :]

    def _put(self, text: str | bytes | None) -> None:
        self._texts.append(text)
        self._some.set()

    @property
    def behind(self) -> bool:
        """Whether it has not been told everything yet."""
        return bool(self._texts) or self.stalled or self.quiet

    async def send(self) -> None:
        """Send what is put, until the connection ends."""
        with suppress(ConnectionError):
            while True:
                while self._texts and not self.stalled:
                    text = self._texts.popleft()
                    if text is None:
                        await self._socket.close(code=WSCloseCode.GOING_AWAY)
                        return
                    if self.slow and isinstance(text, str):
                        await self._drip(text.encode())
                    else:
                        await (
                            self._socket.send_bytes(text) if isinstance(text, bytes) else self._socket.send_str(text)
                        )
                self._some.clear()
                await self._some.wait()

    async def _drip(self, data: bytes) -> None:
        """Send a frame (RFC 6455, section 5.2: text, whole, not masked) in three pieces, as a slow network would."""
        size = len(data)
        head = bytes([size]) if size < 126 else b"\x7e" + size.to_bytes(2, "big")
        frame = b"\x81" + (head if size < 2**16 else b"\x7f" + size.to_bytes(8, "big")) + data
        for start in range(0, len(frame), len(frame) // 3 + 1):
            self._transport.write(frame[start : start + len(frame) // 3 + 1])
            await asyncio.sleep(0.001)


class Venue:
    """The test venue. name: whose dialect; a context manager that serves on a free port of this machine."""

    def __init__(self, name: str, market: Market, events: Iterator[Event], faults: Faults | None = None) -> None:
        self.name = name
        self.market = market
        self.faults = faults or Faults(Random(0))
        self.checksums = True
        """Whether it sends checksums, where its dialect has them (OKX's are 0 since June 2026)."""
        self.clients: list[Client] = []
        self.opened = 0
        self.asked = 0
        self._events = events
        self._old: dict[str, Book] = {}
        self.port = 0

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    @property
    def rest(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> "Venue":
        app = web.Application()
        app.router.add_get("/{path:.*}", self._get)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        for client in self.clients:
            client._transport.abort()
        await self._runner.cleanup()

    def happen(self, count: int = 1) -> None:
        """Let so many things happen in the market, and tell the clients."""
        for _ in range(count):
            event = next(self._events)
            if isinstance(event, Change) and (event.symbol not in self._old or self.faults.rng.random() < 0.1):
                self._old[event.symbol] = deepcopy(self.market.books[event.symbol])
            self.market.take(event)
            stream = "depth" if isinstance(event, Change) else "trade"
            for client in self.clients:
                client.say(client.speaker.write(event), stream)

    async def _get(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Upgrade", "").lower() != "websocket":
            return self._answer(request)
        fault = self.faults.pick(HANDSHAKE_FAULTS)
        if fault:
            return web.Response(status=503 if fault == "refuse" else 429, headers={"Retry-After": "1"})
        socket = web.WebSocketResponse(max_msg_size=2**23)
        await socket.prepare(request)
        assert isinstance(request.transport, asyncio.Transport)
        client = Client(self, socket, request.transport)
        self.opened += 1
        client.say(client.speaker.hello(), "")
        sending = asyncio.create_task(client.send())
        self.clients.append(client)
        try:
            async for message in socket:
                client.say(client.speaker.told(message.data), "")
        finally:
            self.clients.remove(client)
            sending.cancel()
        return socket

    def _answer(self, request: web.Request) -> web.Response:
        if request.path.endswith("/exchangeInfo"):
            return web.Response(text=dumps(binance_listing(self.market)))
        self.asked += 1
        snapshot: Callable[[Market, str, int], Any] = binance_snapshot
        symbol = request.query.get("symbol", "")
        if self.name == "bitstamp":
            snapshot, symbol = bitstamp_snapshot, request.path.strip("/").rpartition("/")[2]
        if symbol not in self.market.books:
            return web.Response(status=400, text='{"code":-1121,"msg":"Invalid symbol."}')
        fault = self.faults.pick(REST_FAULTS)
        if fault.isdigit():
            return web.Response(status=int(fault), headers={"Retry-After": "1"} if fault in ("429", "418") else {})
        if fault == "rest garbage":
            return web.Response(text="<html>oops</html>")
        market = self.market
        if fault == "stale":
            market = Market([symbol])
            market.books[symbol] = self._old[symbol]
        return web.Response(text=dumps(snapshot(market, symbol, time.time_ns())))
