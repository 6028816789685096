"""Runs live venues: every planned connection under its lease, from the venue into topic `raw`, until told to stop.

For each connection: 1. get its lease (a standby waits here), 2. say that there is a gap before us, 3. connect and send
what comes, 4. when the lease is lost, forget what waits and begin again; when told to stop, say so, send what waits,
give the lease back.
"""

import asyncio
import logging
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import aiohttp

from tapeline.connectors.venues.command import together
from tapeline.connectors.venues.contract import FeedMessage
from tapeline.connectors.venues.live.client import TIMER_S, Connection
from tapeline.connectors.venues.live.contract import Dialect, Plan
from tapeline.connectors.venues.live.dialects import plans
from tapeline.connectors.venues.live.feed import Feed
from tapeline.connectors.venues.live.instruments import keep_described
from tapeline.connectors.venues.live.lease import LeaseKeeper
from tapeline.connectors.venues.live.rest import Pace, Rest
from tapeline.schemas import FeedGap, GapReason, TapelineError, partition_of
from tapeline.schemas.topics import LEASES, RAW, TICKS
from tapeline.streams.producer import Producer
from tapeline.streams.registry import Registry
from tapeline.streams.settings import Settings, VenueSettings

log = logging.getLogger(__name__)

DRAIN_S = 10.0


@dataclass(slots=True)
class LiveConnection:
    """How one connection is, for whoever shows it."""

    source: str
    plan: Plan
    state: str = "standby"
    """`standby` (another process has it), `connecting`, `connected`."""
    epoch: int = 0
    messages: int = 0
    waiting: int = 0
    losses: Mapping[str, int] = field(default_factory=dict)
    refusal: str = ""
    unlisted: tuple[str, ...] = ()
    """Symbols that the venue does not list."""

    def follow(self, connection: Connection, feed: Feed) -> None:
        """Take the numbers of the connection under way."""
        self.state = "connected" if connection.connected else "connecting"
        self.messages, self.waiting = feed.messages, feed.waiting
        self.losses, self.refusal = dict(connection.losses), connection.refusal


@asynccontextmanager
async def web_session() -> AsyncIterator[aiohttp.ClientSession]:
    """Open what connections and REST share; a proxy in WSS_PROXY and HTTPS_PROXY counts."""
    connector = aiohttp.TCPConnector(limit=0, ttl_dns_cache=60)
    async with aiohttp.ClientSession(connector=connector, headers={"User-Agent": "tapeline"}, trust_env=True) as http:
        yield http


async def run_live(
    settings: Settings,
    venues: Mapping[Dialect, VenueSettings],
    kafka: Mapping[str, str | int],
    *,
    stop: asyncio.Event,
    on_start: Callable[[list[LiveConnection]], None] = lambda _: None,
) -> list[LiveConnection]:
    """Run the connections of these venues until `stop` is set; returns when what they sent is safe.

    Raises what ends the process: DeliveryError, UnavailableError.
    """
    live: list[LiveConnection] = []
    async with (
        Producer(kafka, compression=settings.frames.compression) as producer,
        web_session() as http,
        together() as group,
    ):
        partitions = await producer.partition_count(RAW.name)
        await producer.partition_count(LEASES.name)  # says what to do if it is not there
        holder = f"{socket.gethostname()}/{os.getpid()}/{time.time_ns()}"
        keeper = LeaseKeeper(holder, kafka, producer)
        registry = Registry(kafka, await producer.partition_count(TICKS.name))
        keeping = [group.create_task(keeper.run())]
        serving = []
        for dialect, venue in venues.items():
            rest = Rest(http, dialect.fetches_per_second, key_headers(dialect, venue))
            pace = Pace(dialect.connects_per_second)
            base = venue.rest or dialect.rest
            of_venue: list[LiveConnection] = []
            unlisted = partial(_note_unlisted, of_venue)
            describing = keep_described(dialect, base, venue.symbols, rest, registry, producer, unlisted)
            keeping.append(group.create_task(describing))
            for plan in plans(dialect, venue):
                shown = LiveConnection(f"{dialect.venue}/{plan.connection}", plan)
                of_venue.append(shown)
                serve = _Served(settings, dialect, venue, shown, producer, keeper, http, rest, pace, partitions)
                serving.append(group.create_task(serve.run(stop)))
            live += of_venue
        on_start(live)
        await asyncio.wait(serving)
        for task in keeping:
            task.cancel()
        await asyncio.wait(keeping)
        keeper.close()
        registry.close()
    return live


def _note_unlisted(connections: Sequence[LiveConnection], symbols: Sequence[str]) -> None:
    for one in connections:
        one.unlisted = tuple(symbol for symbol in one.plan.symbols if symbol in symbols)


def silence_s(dialect: Dialect, venue: VenueSettings) -> float:
    """Return how long a connection may give no data."""
    return dialect.silence_s if venue.silence_seconds is None else venue.silence_seconds


def key_headers(dialect: Dialect, venue: VenueSettings) -> dict[str, str]:
    """Return what a venue's REST wants to see of the key."""
    if dialect.key_headers is None or venue.key is None or venue.secret is None:
        return {}
    values = (venue.key.get_secret_value(), venue.secret.get_secret_value())
    return dict(zip(dialect.key_headers, values, strict=True))


@dataclass(slots=True)
class _Served:
    """One connection under its lease."""

    settings: Settings
    dialect: Dialect
    venue: VenueSettings
    shown: LiveConnection
    producer: Producer
    keeper: LeaseKeeper
    http: aiohttp.ClientSession
    rest: Rest
    pace: Pace
    partitions: int

    async def run(self, stop: asyncio.Event) -> None:
        """Serve it under one lease after the other, until `stop`."""
        source = self.shown.source
        stopping = asyncio.create_task(stop.wait())
        while not stop.is_set():
            acquiring = asyncio.create_task(self.keeper.acquire(source))
            await asyncio.wait((acquiring, stopping), return_when=asyncio.FIRST_COMPLETED)
            if acquiring.done():
                await self._hold(acquiring.result(), stopping)
            acquiring.cancel()
            self.shown.state = "standby"
        await self.keeper.release(source)

    async def _hold(self, epoch: int, stopping: "asyncio.Task[bool]") -> None:
        """Serve it until the lease is lost or we stop."""
        source, plan = self.shown.source, self.shown.plan
        log.info("%s: this process has the lease (epoch %d)", source, epoch)
        feed = Feed(
            source,
            partition_of(source, self.partitions),
            self.producer,
            self.settings.frames,
            epoch=epoch,
            messages_max=self.venue.queue_messages,
            holding=lambda: self.keeper.holds(source),
        )
        self._gap(feed, GapReason.TAKEOVER, "this process begins here")
        connection = Connection(
            self.dialect,
            plan,
            self.http,
            self.rest,
            feed,
            silence_s=silence_s(self.dialect, self.venue),
            pace=self.pace,
        )
        work = [asyncio.create_task(connection.run()), asyncio.create_task(feed.run())]
        self.shown.epoch = epoch
        try:
            while not stopping.done() and not self.keeper.lost(source):
                self.shown.follow(connection, feed)
                done, _ = await asyncio.wait((*work, stopping), timeout=TIMER_S, return_when=asyncio.FIRST_COMPLETED)
                for task in done & set(work):
                    task.result()  # raises: they never end by themselves
        finally:
            for task in work:
                task.cancel()
            await asyncio.wait(work)
        if self.keeper.lost(source):
            log.warning("%s: %d messages that waited are left to the other process", source, feed.waiting)
            return
        self._gap(feed, GapReason.DISCONNECT, "this process was stopped")
        try:
            async with asyncio.timeout(DRAIN_S):
                await feed.drain()
        except TimeoutError:
            raise TapelineError(f"{source}: {feed.waiting} messages could not be sent within {DRAIN_S:g} s") from None
        self.shown.messages, self.shown.waiting = feed.messages, feed.waiting

    def _gap(self, feed: Feed, reason: GapReason, detail: str) -> None:
        feed.put(FeedMessage(time.time_ns(), FeedGap(reason=reason, symbols=self.shown.plan.symbols, detail=detail)))
