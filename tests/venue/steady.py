"""A steady Binance: numbered trades at a declared rate, as a process that costs little; for `make soak`, `make bench`.

`python -m tests.venue.steady --rate 20000 --symbols 12` prints {"port": ...} and serves WebSocket and exchangeInfo,
trade streams only, until it is told to stop (SIGTERM, Ctrl-C); then it prints {"sent": ...}. The market begins with the
first subscription. Message n is trade FIRST_ID + n // symbols of symbol n % symbols: none is left out, and whoever is
connected misses nothing. A client that does not read is cut off, as a venue would.
"""

import asyncio
import json
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import click
import numpy as np
import numpy.typing as npt
import orjson
from aiohttp import WSMsgType, web

from tests.bench.market import PAIRS, Pair

Bytes = npt.NDArray[np.uint8]

FIRST_ID = 1_000_000_000
"""Ten digits, as long as anybody cares to measure: all texts of a symbol have the same length."""
ROWS = 1024
"""Rounds of prices and sizes that are made beforehand; then they come again, the last first."""
REACH = 0.15
"""A price stays this near to its start, so that it has as many digits."""
BEHIND_BYTES_MAX = 64 * 1024 * 1024
"""A client that has so much to read is cut off."""
TURN_S = 0.001
TURN_MESSAGES_MAX = 2_000
SENT = np.dtype([("stop", "<i8"), ("time_ns", "<i8")])
"""What `--log` holds: the messages before `stop` that were not sent before went to the sockets at `time_ns`."""


class Tape:
    """The market as WebSocket frames; everything but ids and times is made beforehand."""

    def __init__(self, pairs: Sequence[Pair] = PAIRS, seed: int = 1) -> None:
        self.symbols = [pair.symbol for pair in pairs]
        walks = [_walk(pair, np.random.default_rng((seed, number))) for number, pair in enumerate(pairs)]
        sizes = np.random.default_rng(seed).integers(1_000, 10_000, (ROWS, len(pairs)))
        rounds = [
            [_frame(pair, walks[at][row], int(sizes[row, at]), maker=at % 2 == 0) for at, pair in enumerate(pairs)]
            for row in range(ROWS)
        ]
        lengths = [len(frame) for frame in rounds[0]]
        self._ends = np.cumsum([0, *lengths])
        self._rounds: Bytes = np.frombuffer(b"".join(map(b"".join, rounds)), np.uint8).reshape(ROWS, -1)
        whole = self._rounds[0].tobytes()
        self._ids = _places(whole, b'"t":', 10)
        self._times = np.concatenate([_places(whole, b'"E":', 13), _places(whole, b'"T":', 13)])

    def frames(self, start: int, stop: int, now_ms: int) -> bytes:
        """Return messages start to stop as one piece of frames, with this time of the venue's."""
        each = len(self.symbols)
        first, behind = start // each, -(-stop // each)
        numbers = np.arange(first, behind)
        back = numbers % (2 * ROWS)
        rows = self._rounds[np.minimum(back, 2 * ROWS - 1 - back)]
        rows[:, self._ids] = _digits(FIRST_ID + numbers, 10)[:, None, :]
        rows[:, self._times] = _digits(np.array([now_ms]), 13)
        at, end = (self._ends[number % each] + (number // each - first) * rows.shape[1] for number in (start, stop))
        return rows.tobytes()[at:end]

    def cut(self, piece: bytes, start: int, stop: int, wanted: frozenset[str]) -> bytes:
        """Return the frames of the symbols that are wanted out of what `frames` made."""
        if len(wanted) == len(self.symbols):
            return piece
        each, at, kept = len(self.symbols), 0, []
        for number in range(start, stop):
            length = self._ends[number % each + 1] - self._ends[number % each]
            if self.symbols[number % each] in wanted:
                kept.append(piece[at : at + length])
            at += length
        return b"".join(kept)


def _walk(pair: Pair, random: np.random.Generator) -> list[str]:
    """Return ROWS prices on the grid, each at most some steps from the one before."""
    reach = int(pair.start * REACH)
    steps = np.cumsum(random.integers(-3, 4, ROWS)) + reach
    steps = np.abs(steps % (4 * reach) - 2 * reach) - reach
    unit = 10**pair.decimals
    return [f"{price // unit}.{price % unit:0{pair.decimals}d}" for price in (pair.start + steps).tolist()]


def _frame(pair: Pair, price: str, size: int, *, maker: bool) -> bytes:
    """Return a trade as a WebSocket frame (RFC 6455, section 5.2: text, whole, not masked)."""
    text = (
        f'{{"stream":"{pair.symbol.lower()}@trade","data":{{"e":"trade","E":{0:013},"s":"{pair.symbol}","t":{0:010},'
        f'"p":"{price}","q":"{size // 1000}.{size % 1000:03}","T":{0:013},"m":{str(maker).lower()},"M":true}}}}'
    ).encode()
    return b"\x81\x7e" + len(text).to_bytes(2, "big") + text


def _places(texts: bytes, before: bytes, length: int) -> npt.NDArray[np.int64]:
    """Return the places of the digits behind each `before`: (found, length)."""
    found = [at for at in range(len(texts)) if texts.startswith(before, at)]
    return (np.array(found)[:, None] + len(before) + np.arange(length)).astype(np.int64)


def _digits(values: npt.NDArray[np.int64], length: int) -> Bytes:
    """Return the digits of numbers in ASCII: (n, length)."""
    digits = np.empty((len(values), length), np.uint8)
    for place in range(length):
        digits[:, length - 1 - place] = values // 10**place % 10 + ord("0")
    return digits


class Steady:
    """The venue. rate: messages a second; messages: it falls silent after so many, if not 0."""

    def __init__(self, tape: Tape, rate: float, messages: int = 0, log: BinaryIO | None = None) -> None:
        self.sent = 0
        self._tape = tape
        self._rate = rate
        self._messages = messages
        self._log = log
        self._wanted: dict[asyncio.Transport, frozenset[str]] = {}
        self._began = asyncio.Event()

    async def serve(self, port: int, ready: Callable[[int], None]) -> None:
        """Serve until cancelled; ready: called with the port."""
        app = web.Application()
        app.router.add_get("/{path:.*}", self._get)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", port).start()
            ready(runner.addresses[0][1])
            await self._began.wait()
            await self._send()
        finally:
            for transport in self._wanted:
                transport.abort()
            await runner.cleanup()

    async def _send(self) -> None:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        while True:
            due = int((loop.time() - began_s) * self._rate)
            stop = min(due, self.sent + TURN_MESSAGES_MAX, self._messages or due)
            if stop > self.sent:
                self._tell(stop)
            await asyncio.sleep(TURN_S)

    def _tell(self, stop: int) -> None:
        """Send the messages before `stop` that were not sent yet."""
        now_ns = time.time_ns()
        piece = self._tape.frames(self.sent, stop, now_ns // 1_000_000)
        if self._log is not None:
            self._log.write(np.array([(stop, time.time_ns())], SENT).tobytes())
        for transport, wanted in self._wanted.items():
            transport.write(self._tape.cut(piece, self.sent, stop, wanted))
            if transport.get_write_buffer_size() > BEHIND_BYTES_MAX:
                transport.abort()
        self.sent = stop

    async def _get(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Upgrade", "").lower() != "websocket":
            return web.Response(body=orjson.dumps(listing(PAIRS)))
        socket = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        transport = request.transport
        assert isinstance(transport, asyncio.Transport)
        try:
            async for message in socket:  # it answers pings by itself
                if message.type is WSMsgType.TEXT:
                    await self._told(socket, transport, orjson.loads(message.data))
        finally:
            self._wanted.pop(transport, None)
        return socket

    async def _told(self, socket: web.WebSocketResponse, transport: asyncio.Transport, asked: Any) -> None:
        symbols = {name.removesuffix("@trade").upper() for name in asked["params"] if name.endswith("@trade")}
        await socket.send_str(json.dumps({"result": None, "id": asked["id"]}))
        self._wanted[transport] = (self._wanted.get(transport, frozenset()) | symbols) & set(self._tape.symbols)
        self._began.set()


def listing(pairs: Sequence[Pair]) -> dict[str, object]:
    """Return exchangeInfo."""
    return {
        "symbols": [
            {
                "symbol": pair.symbol,
                "baseAsset": pair.symbol.removesuffix("USDT"),
                "quoteAsset": "USDT",
                "status": "TRADING",
                "filters": [
                    {"filterType": "PRICE_FILTER", "tickSize": f"{10**-pair.decimals:.8f}"},
                    {"filterType": "LOT_SIZE", "stepSize": "0.00100000"},
                ],
            }
            for pair in pairs
        ]
    }


async def _run(venue: Steady, port: int) -> None:
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        await venue.serve(port, lambda found: click.echo(json.dumps({"port": found})))
    except asyncio.CancelledError:
        click.echo(json.dumps({"sent": venue.sent}))


@click.command()
@click.option("--rate", type=click.FloatRange(1), default=20_000.0, help="Messages a second, of all symbols together.")
@click.option("--symbols", type=click.IntRange(1, len(PAIRS)), default=len(PAIRS), help="How many.")
@click.option("--port", type=int, default=0, help="0: a free one.")
@click.option("--messages", type=click.IntRange(0), default=0, help="It falls silent after so many [default: never].")
@click.option("--log", type=click.Path(path_type=Path), help="Where it notes when what was sent (SENT).")
def main(rate: float, symbols: int, port: int, messages: int, log: Path | None) -> None:
    """Serve until told to stop."""
    tape = Tape(PAIRS[:symbols])
    if log is None:
        asyncio.run(_run(Steady(tape, rate, messages), port))
        return
    with log.open("wb") as file:
        asyncio.run(_run(Steady(tape, rate, messages, file), port))


if __name__ == "__main__":
    main()
