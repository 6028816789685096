"""A connection of the client to a real socket: silence, answers to pings, refused snapshots, a queue that is full."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from aiohttp import WSMsgType, web

from tapeline.connectors.venues import FeedMessage, Message
from tapeline.connectors.venues.live import rest as rest_module
from tapeline.connectors.venues.live.chain import REFUSED_S
from tapeline.connectors.venues.live.client import Connection
from tapeline.connectors.venues.live.contract import Plan, StreamKind
from tapeline.connectors.venues.live.dialects import DIALECTS
from tapeline.connectors.venues.live.okx import OkxSession
from tapeline.connectors.venues.live.rest import Pace, Rest
from tapeline.connectors.venues.live.service import web_session
from tapeline.schemas import FeedAnswer, FeedConnect, FeedGap, GapReason
from tests.venue.run import Log

pytestmark = pytest.mark.slow

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
DEPTH = (
    '{"stream":"btcusdt@depth@100ms","data":{"e":"depthUpdate","E":1,"s":"BTCUSDT","U":11,"u":12,'
    '"b":[["1.0","2.0"]],"a":[]}}'
)


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[int]:
    """Serve on a free port."""
    app = web.Application()
    app.router.add_get("/{path:.*}", handler)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@asynccontextmanager
async def connected(
    venue: str, symbol: str, handler: Handler, log: Log, *, silence_s: float = 30.0, stream: str = "depth"
) -> AsyncIterator[None]:
    """Run a connection against the handler."""
    dialect = replace(DIALECTS[venue], sends_per_second=1000)
    async with serving(handler) as port, web_session() as http:
        url = f"http://127.0.0.1:{port}"
        plan = Plan("0", url.replace("http", "ws"), url, (symbol,), frozenset({StreamKind(stream)}))
        rest, pace = Rest(http, 1000), Pace(1000)
        connection = Connection(dialect, plan, http, rest, log, silence_s=silence_s, pace=pace, backoff_s=(0.01, 30.0))
        running = asyncio.create_task(connection.run())
        try:
            yield
        finally:
            running.cancel()
            await asyncio.wait([running])


def events(log: Log, kind: type) -> list[object]:
    return [item.event for item in log.items if isinstance(item, FeedMessage) and isinstance(item.event, kind)]


def reasons(log: Log) -> list[GapReason]:
    return [gap.reason for gap in events(log, FeedGap)]  # type: ignore[attr-defined]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - of another task's log
            await asyncio.sleep(0.01)


async def silent(request: web.Request) -> web.StreamResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for _ in socket:
        pass
    return socket


async def answering(request: web.Request) -> web.StreamResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        if message.type is WSMsgType.TEXT and message.data == "ping":
            await socket.send_str("pong")
    return socket


def test_a_quiet_market_is_not_looked_at_less_and_less(caplog: pytest.LogCaptureFixture) -> None:
    log = Log()

    async def run() -> None:
        async with connected("binance", "BTCUSDT", silent, log, silence_s=0.01):
            await until(lambda: len(events(log, FeedConnect)) == 5)

    asyncio.run(run())
    assert set(reasons(log)) == {GapReason.SILENCE}
    pauses = [record.getMessage() for record in caplog.records if "connecting anew" in record.msg]
    assert len(pauses) >= 4
    assert all(pause.endswith(" in 0.0 s") for pause in pauses), pauses


def test_answers_to_pings_are_no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OkxSession, "ping_ns", 1)
    log = Log()

    async def run() -> None:
        async with connected("okx", "BTC-USDT", answering, log, silence_s=1.2):
            await until(lambda: bool(reasons(log)))

    asyncio.run(run())
    assert reasons(log) == [GapReason.SILENCE]
    assert len([item for item in log.items if isinstance(item, Message)]) >= 2, "it did answer"


def test_a_snapshot_that_is_refused_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    assert REFUSED_S[0] <= 1.0
    asked = 0

    async def handler(request: web.Request) -> web.StreamResponse:
        nonlocal asked
        if request.headers.get("Upgrade", "").lower() != "websocket":
            asked += 1
            text = '{"lastUpdateId":12,"bids":[["1.0","2.0"]],"asks":[]}'
            return web.Response(status=403) if asked == 1 else web.Response(text=text)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.receive()
        await socket.send_str(DEPTH)
        async for _ in socket:
            pass
        return socket

    log = Log()

    async def run() -> None:
        async with connected("binance", "BTCUSDT", handler, log):
            await until(lambda: bool(events(log, FeedAnswer)))

    asyncio.run(run())
    assert asked == 2
    assert reasons(log) == []


def test_a_full_queue_ends_the_connection_until_there_is_room() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.receive()
        for number in range(100):
            await socket.send_str(DEPTH.replace('"u":12', f'"u":{12 + number}'))
        async for _ in socket:
            pass
        return socket

    log = Log(messages_max=10)

    async def run() -> None:
        async with connected("binance", "BTCUSDT", handler, log, stream="trade"):
            await until(lambda: bool(reasons(log)))
            assert len(log.items) < 20, "it stopped reading"
            await asyncio.sleep(0.1)
            assert len(events(log, FeedConnect)) == 1, "it does not connect anew while nothing leaves the queue"
            log.taken = len(log.items)
            await until(lambda: len(events(log, FeedConnect)) == 2)

    asyncio.run(run())
    assert set(reasons(log)) == {GapReason.OVERLOAD}


@pytest.mark.parametrize("status", [429, 418])
def test_a_refusal_without_a_time_holds_up_every_question(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(rest_module.PAUSE_S, status, 0.3)
    times: list[float] = []

    async def handler(_: web.Request) -> web.StreamResponse:
        times.append(asyncio.get_running_loop().time())
        return web.Response(status=status) if len(times) == 1 else web.Response(text="ok")

    async def run() -> None:
        async with serving(handler) as port, web_session() as http:
            rest = Rest(http, 1000)
            url = f"http://127.0.0.1:{port}/"
            first = asyncio.create_task(rest.get(url))
            await until(lambda: len(times) == 1)
            await asyncio.sleep(0.05)
            assert await rest.get(url) == b"ok"
            assert await first == b"ok"

    asyncio.run(run())
    assert times[1] - times[0] >= 0.29


def test_a_pace_is_kept() -> None:
    async def run() -> float:
        loop, pace = asyncio.get_running_loop(), Pace(50)
        started = loop.time()
        await asyncio.gather(*(pace.wait() for _ in range(6)))
        return loop.time() - started

    assert asyncio.run(run()) >= 5 / 50
