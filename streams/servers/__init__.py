"""The embedded servers of one home: a real Apache Kafka and a real PostgreSQL, started and stopped together.

`tapeline up`, the demo and the tests start them here; nothing restarts a server that dies (`supervisor.py` does).
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tapeline.streams.home import Addresses, Home
from tapeline.streams.servers.jars import KAFKA_VERSION, Progress
from tapeline.streams.servers.kafka import Kafka
from tapeline.streams.servers.postgres import Postgres
from tapeline.streams.servers.process import Process, ProcessError

__all__ = ["KAFKA_VERSION", "Kafka", "Postgres", "Process", "ProcessError", "Progress", "Servers"]


@dataclass(frozen=True, slots=True)
class Servers:
    """The servers that run, each with `start`, `stop`, `kill`, `restart` and `pid`; None: not wanted."""

    home: Home
    kafka: Kafka | None
    postgres: Postgres | None

    @property
    def bootstrap_servers(self) -> str | None:
        """`host:port` of the embedded Kafka, or None if it was not wanted."""
        return None if self.kafka is None else self.kafka.bootstrap_servers

    @property
    def dsn(self) -> str | None:
        """The connection string of the embedded PostgreSQL, or None if it was not wanted."""
        return None if self.postgres is None else self.postgres.dsn

    @property
    def running(self) -> list[Kafka | Postgres]:
        """The servers that were wanted."""
        return [one for one in (self.kafka, self.postgres) if one is not None]

    def addresses(self) -> Addresses:
        """Return where the servers are reached and which processes they are."""
        pids = {one.name: one.pid for one in self.running if one.pid is not None}
        return Addresses(os.getpid(), time.time_ns(), self.bootstrap_servers, self.dsn, pids)

    @classmethod
    @asynccontextmanager
    async def start(
        cls, home: Home, *, kafka: bool = True, database: bool = True, on_progress: Progress = lambda _: None
    ) -> AsyncIterator["Servers"]:
        """Hold the home, start what is wanted, publish the addresses, and stop all at the end.

        Enter it from a thread that stays: the servers die with the thread. Raises HomeError if the home is in
        use, UnavailableError or ProcessError if a server cannot be had.
        """
        with home.hold():
            servers = cls(
                home, Kafka(home, on_progress) if kafka else None, Postgres(home, on_progress) if database else None
            )
            try:
                outcomes = await asyncio.gather(*(one.start() for one in servers.running), return_exceptions=True)
                for outcome in outcomes:
                    if isinstance(outcome, BaseException):
                        raise outcome
                home.publish(servers.addresses())
                yield servers
            finally:
                await asyncio.gather(*(one.stop() for one in servers.running))
