"""Keeps this process's leases of live connections: claims, renews, gives back. `run` uses it; schemas/lease.py decides.

A lease is ours for sure until TTL_MS after we *sent* the last word that the broker took: others count from when the
broker took it, which was later. Beyond that nothing is sent until the log, read to its end, says that it still is ours.
"""

import asyncio
import logging
from collections.abc import Mapping
from typing import Literal

from tapeline.schemas import EventError, Lease, Leases
from tapeline.schemas.lease import TTL_MS
from tapeline.schemas.topics import LEASES
from tapeline.streams.producer import Producer
from tapeline.streams.state import LogReader, PartitionTail

log = logging.getLogger(__name__)

TICK_S = 0.5
RENEW_S = 1.0
MARGIN_S = 0.5
"""So much sooner than others may claim it we stop using a lease: clocks do not run alike."""


class LeaseKeeper:
    """The leases of one process. holder: a name that no other process, and no later one of ours, has."""

    def __init__(self, holder: str, kafka: Mapping[str, str | int], producer: Producer) -> None:
        self._holder = holder
        self._producer = producer
        self._reader = LogReader(kafka)
        self._tail = PartitionTail(self._reader, LEASES.name, 0)
        self._leases = Leases()
        self._wanted: set[str] = set()
        self._sure_until_s: dict[str, float] = {}
        self._heard: dict[str, tuple[int, float]] = {}  # source -> (the holder's last word, when we read it)
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()

    def holds(self, source: str) -> bool:
        """Say whether a connection is ours, for sure and now."""
        return self._sure_until_s.get(source, 0.0) > self._loop.time()

    def lost(self, source: str) -> bool:
        """Say whether another process has a connection, as far as the log was read."""
        return self._leases.of(source).holder != self._holder

    async def acquire(self, source: str) -> int:
        """Wait until a connection is ours; return the epoch."""
        self._wanted.add(source)
        while not self.holds(source):
            self._changed.clear()
            await self._changed.wait()
        return self._leases.of(source).epoch

    async def release(self, source: str) -> None:
        """Give a connection back, so that another process takes it at once."""
        self._wanted.discard(source)
        if self._sure_until_s.pop(source, None) is not None and not self.lost(source):
            await self._say(source, "release")
            await self._producer.confirmed(self._producer.mark())

    async def run(self) -> None:
        """Claim and renew until cancelled."""
        renewed_s = 0.0
        while True:
            now_s = self._loop.time()
            mine = [source for source in self._wanted if not self.lost(source)]
            claims = [source for source in self._wanted if self.lost(source) and self._is_free(source)]
            renewed = now_s - renewed_s >= RENEW_S
            if claims or (mine and renewed):
                for source in mine if renewed else ():
                    await self._say(source, "hold")
                for source in claims:
                    await self._say(source, "claim")
                await self._producer.confirmed(self._producer.mark())
                if renewed:
                    renewed_s = now_s
            await asyncio.to_thread(self._read)
            won = [source for source in claims if not self.lost(source)]
            if won:
                # Its epoch must outlive us before anything is sent under it: claims are forgotten.
                for source in won:
                    await self._say(source, "hold")
                await self._producer.confirmed(self._producer.mark())
            for source in list(self._wanted):
                if self.lost(source):
                    if self._sure_until_s.pop(source, None) is not None:
                        log.warning("%s: another process has taken this connection over", source)
                elif source in won or (source in mine and renewed):
                    self._sure_until_s[source] = now_s + TTL_MS / 1000 - MARGIN_S
            self._changed.set()
            await asyncio.sleep(TICK_S)

    def close(self) -> None:
        """Let go of the connection to Kafka."""
        self._reader.close()

    def _is_free(self, source: str) -> bool:
        """Guess whether the broker would take a claim; it has the last word."""
        held = self._leases.of(source)
        if not held.holder:
            return True
        last, heard_s = self._heard.get(source, (0, 0.0))
        if last != held.time_ms:
            self._heard[source] = held.time_ms, self._loop.time()
            return False
        return self._loop.time() - heard_s > TTL_MS / 1000

    async def _say(self, source: str, what: Literal["claim", "hold", "release"]) -> None:
        record = Lease(source=source, holder=self._holder, epoch=self._leases.of(source).epoch, what=what)
        await self._producer.send(LEASES.name, record.encode(), key=record.key, partition=0)

    def _read(self) -> None:
        for offset, _, value in self._tail.read():
            try:
                if value is not None:
                    self._leases.take(Lease.decode(value), self._reader.time_ms)
            except EventError as error:
                log.warning("%s, offset %d: %s", LEASES.name, offset, error)
