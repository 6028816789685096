"""One run of a live client against the test venue, with faults of a seed; then the log is compared with the market."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from random import Random

from tapeline.connectors.venues import FeedMessage, Message
from tapeline.connectors.venues.live.client import Connection
from tapeline.connectors.venues.live.contract import Dialect, Plan
from tapeline.connectors.venues.live.dialects import DIALECTS, plans
from tapeline.connectors.venues.live.rest import Rest
from tapeline.connectors.venues.live.service import web_session
from tapeline.streams.settings import VenueSettings
from tests.venue.check import Report, check, settled
from tests.venue.market import CAPTURED, CAPTURES, Event, Market, captured, invented
from tests.venue.server import FAULTS, REST_FAULTS, Faults, Venue

SYMBOLS = {
    "binance": ["BTCUSDT", "ETHUSDT"],
    "binance-usdm": ["BTCUSDT", "ETHUSDT"],
    "binance-coinm": ["BTCUSD_PERP", "ETHUSD_PERP"],
    "coinbase": ["BTC-USD", "ETH-USD"],
    "coinbase-exchange": ["BTC-USD", "ETH-USD"],
    "kraken": ["BTC/USD", "ETH/USD"],
    "bybit": ["BTCUSDT", "ETHUSDT"],
    "bybit-linear": ["BTCUSDT", "ETHUSDT"],
    "bybit-inverse": ["BTCUSD", "ETHUSD"],
    "okx": ["BTC-USDT", "BTC-USDT-SWAP"],
    "bitstamp": ["btcusd", "ethusd"],
    "alpaca": ["SPY", "AAPL"],
}
LEVELS = {"kraken": 10, "okx": 20}
"""Levels a side, where a checksum must see all of them."""
QUEUE = 60
"""Messages that may wait: so few that it overflows when nothing leaves it for half a second."""
SETTLE_S = 60.0
"""On a machine that has nothing else to do it takes a second or two."""


class Log:
    """An outlet that keeps everything in memory. messages_max: when it is full; 0 = never."""

    def __init__(self, messages_max: int = 0) -> None:
        self.items: list[Message | FeedMessage] = []
        self.messages_max = messages_max
        self.taken = 0

    def put(self, item: Message | FeedMessage) -> None:
        self.items.append(item)

    def sent(self, now_ns: int, text: str) -> None:
        pass

    @property
    def full(self) -> bool:
        return bool(self.messages_max) and len(self.items) - self.taken >= self.messages_max

    @property
    def roomy(self) -> bool:
        return not self.messages_max or 2 * (len(self.items) - self.taken) <= self.messages_max


@dataclass
class Outcome:
    """What a run came to."""

    venue: str
    seed: int
    report: Report
    done: list[str] = field(default_factory=list)
    connections: int = 0
    recorded: bool = False
    """Whether the market is a recorded one."""


def settings_of(venue: Venue, streams: tuple[str, ...]) -> VenueSettings:
    """The settings of a client of the test venue."""
    key = {"key": "key", "secret": "secret"} if DIALECTS[venue.name].needs_key else {}
    return VenueSettings.model_construct(
        symbols=tuple(venue.market.books),
        streams=streams,
        url=venue.url,
        rest=venue.rest,
        key=_Secret(key["key"]) if key else None,
        secret=_Secret(key["secret"]) if key else None,
        symbols_per_connection=None,
        silence_seconds=1.0,
        queue_messages=100_000,
    )


def market_of(name: str, rng: Random) -> tuple[Market, Iterator[Event], bool]:
    """Return a market, what happens in it, and whether it is recorded: every second one where there is a recording."""
    if name in CAPTURED and CAPTURES.is_dir() and rng.random() < 0.5:
        return Market(["BTCUSDT"]), captured(CAPTURED[name], rng.randrange(20_000)), True
    market = Market(SYMBOLS[name])
    return market, invented(market, rng, LEVELS.get(name, 40)), False


class _Secret:
    def __init__(self, value: str) -> None:
        self._value = value

    def get_secret_value(self) -> str:
        return self._value


async def run(name: str, seed: int, faults: tuple[str, ...] = FAULTS, events: int = 400) -> Outcome:
    """Run one. faults: those that may befall it."""
    rng = Random(seed)
    market, happening, recorded = market_of(name, rng)
    # Another REST fault than that of the venue's last seed.
    luck = Faults(rng, ("corrupt", REST_FAULTS[sum(divmod(seed, len(SYMBOLS))) % len(REST_FAULTS)]))
    dialect = replace(DIALECTS[name], sends_per_second=1000)
    streams = tuple(stream for stream in ("trade", "quote", "depth") if stream in dialect.streams)
    async with Venue(name, market, happening, luck) as venue, web_session() as http:
        venue.checksums = name != "okx" or rng.random() < 0.5
        venue.happen(len(market.books))  # the books as they are at first
        wanted = plans(dialect, settings_of(venue, streams))
        rest = Rest(http, 1000)
        logs = {f"{name}/{plan.connection}": Log(QUEUE) for plan in wanted}
        work = [asyncio.create_task(_connect(dialect, plan, http, rest, logs)) for plan in wanted]
        held_until = 0.0  # until then nothing leaves the queues
        await _connected(venue, len(wanted))
        luck.wanted, luck.often = faults, rng.choice((0.005, 0.02, 0.05))
        for _ in range(events):
            venue.happen(rng.choice((1, 1, 1, 5)))
            if rng.random() < 0.3:
                await asyncio.sleep(rng.choice((0, 0.001, 0.01)))
            await _connected(venue, 1)
            if rng.random() < 0.1 and luck.pick(("overload",)):
                held_until = asyncio.get_running_loop().time() + 0.5
            if asyncio.get_running_loop().time() > held_until:
                for log in logs.values():
                    log.taken = len(log.items)
        luck.stop()
        for log in logs.values():
            log.messages_max = 0
        await _settle(venue, logs, market, name, work)
        for task in work:
            task.cancel()
        await asyncio.wait(work)
        report = check(market, name, {source: log.items for source, log in logs.items()}, rng)
        return Outcome(name, seed, report, luck.done, venue.opened, recorded)


async def _connected(venue: Venue, count: int) -> None:
    """Let the market go on until so many clients are there, though not for long."""
    for _ in range(100):
        if len(venue.clients) >= count:
            return
        venue.happen()
        await asyncio.sleep(0.02)


async def _connect(dialect: Dialect, plan: Plan, http: object, rest: Rest, logs: dict[str, Log]) -> None:
    log = logs[f"{dialect.venue}/{plan.connection}"]
    connection = Connection(dialect, plan, http, rest, log, silence_s=1.0, backoff_s=(0.02, 0.3))  # type: ignore[arg-type]
    await connection.run()


async def _settle(
    venue: Venue, logs: dict[str, Log], market: Market, name: str, work: list["asyncio.Task[None]"]
) -> None:
    """Let the market go on without faults until every log is right, or it is clear that it will not be."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + SETTLE_S
    while loop.time() < deadline:
        for task in work:
            if task.done():
                task.result()
        for _ in range(10):
            venue.happen(3)
            await asyncio.sleep(0.03)
        while any(client.behind for client in venue.clients) and loop.time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        if len(venue.clients) < len(logs):
            continue
        await asyncio.sleep(0.1)  # for what is on its way
        if settled(market, {source: log.items for source, log in logs.items()}):
            return
