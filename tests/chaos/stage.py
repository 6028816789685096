"""One Kafka and one PostgreSQL over many runs; each run gets fresh topics and an empty database."""

import asyncio
import os
import shutil
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from confluent_kafka import KafkaError, KafkaException

from tapeline.schemas import TOPICS
from tapeline.streams.home import Home
from tapeline.streams.servers import Servers
from tapeline.streams.settings import Settings, load_settings
from tapeline.streams.topics import State, TopicAdmin, ensure_topics
from tests.chaos.inputs import LOGICS, SETTINGS, Connection
from tests.chaos.nursery import Tapeline
from tests.chaos.scenario import SESSION_SECONDS
from tests.system.broker import INPUTS, Broker, wait_until


@dataclass
class Stage:
    """The servers, and what has to be known of a run to start processes in it."""

    servers: Servers
    folder: Path
    broker: Broker
    env: dict[str, str]
    dsn: str = ""
    _changing: asyncio.Lock = field(default_factory=asyncio.Lock)  # one start or stop of the broker at a time

    @classmethod
    @asynccontextmanager
    async def open(cls, folder: Path) -> AsyncIterator["Stage"]:
        """Start the servers. folder: for everything that is kept while they run; others must be able to enter it."""
        config = folder / "tapeline.toml"
        config.write_text(LOGICS)
        async with Servers.start(Home(folder / "home")) as servers:
            assert servers.bootstrap_servers is not None
            env = {name: value for name, value in os.environ.items() if not name.startswith("TAPELINE_")} | {
                "TAPELINE_HOME": str(folder / "home"),
                "TAPELINE_CONFIG": str(config),
                "TAPELINE_KAFKA__BOOTSTRAP_SERVERS": servers.bootstrap_servers,
                "TAPELINE_WORKER__SESSION_TIMEOUT_SECONDS": str(SESSION_SECONDS),
                **SETTINGS,
            }
            yield cls(servers, folder, Broker(lambda: servers.bootstrap_servers or ""), env)

    @asynccontextmanager
    async def run(self, more: Mapping[str, str]) -> AsyncIterator[Path]:
        """Make topics and database anew; gives the folder for the run's logs. more: settings of this run alone."""
        assert self.servers.dsn is not None
        name = f"run_{uuid.uuid4().hex}"
        folder = self.folder / name
        folder.mkdir()
        self.dsn = psycopg.conninfo.make_conninfo(self.servers.dsn, dbname=name)
        before, self.env = self.env, self.env | {"TAPELINE_DATABASE__DSN": self.dsn, **more}
        try:
            with psycopg.connect(self.servers.dsn, autocommit=True) as connection:
                connection.execute(f'CREATE DATABASE "{name}"')
            await asyncio.to_thread(self._fresh_topics)
            yield folder
        finally:
            self.env = before
        with psycopg.connect(self.servers.dsn, autocommit=True) as connection:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
        shutil.rmtree(folder)

    @property
    def settings(self) -> Settings:
        """What the run's processes see."""
        return load_settings(env=self.env)

    async def feed(self, connection: Connection, seconds: float, folder: Path) -> str | None:
        """Ingest a connection so that it takes so long; return why it failed."""
        name = connection.source.replace("/", "-")
        speed = f"{connection.feed_seconds / seconds:.3f}x"
        process = Tapeline(
            ["ingest", *connection.args, "--speed", speed, "--quiet"], folder / f"ingest-{name}.log", self.env
        )
        process.start()
        try:
            status = await process.wait()
        finally:
            await process.kill()
        return f"ingest of {connection.source} ended with {status}" if status else None

    async def stop_broker(self, seconds: float) -> None:
        """Stop the broker in order, and start it later."""
        assert self.servers.kafka is not None
        async with self._changing:
            await self.servers.kafka.stop()
            await asyncio.sleep(seconds)
            await self.servers.kafka.start()

    async def kill_broker(self) -> None:
        """SIGKILL the broker and start it again."""
        assert self.servers.kafka is not None
        async with self._changing:
            await self.servers.kafka.kill()
            await self.servers.kafka.start()

    async def stop_database(self, seconds: float) -> None:
        """Stop the database, and start it later."""
        assert self.servers.postgres is not None
        await self.servers.postgres.stop()
        await asyncio.sleep(seconds)
        await self.servers.postgres.start()

    def _fresh_topics(self) -> None:
        settings = self.settings
        for topic, future in self.broker.admin.delete_topics(list(TOPICS), request_timeout=30).items():
            try:
                future.result()
            except KafkaException as error:
                if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                    raise RuntimeError(f"topic {topic} cannot be deleted: {error}") from error
        admin = TopicAdmin(settings)
        wait_until(lambda: all(one.state is State.MISSING for one in admin.inspect()), "the topics to go")
        ensure_topics(settings)
        wait_until(self._nothing_is_committed, "the offsets of the last run to go")

    def _nothing_is_committed(self) -> bool:
        committed = [self.broker.committed(role, topic) for role, topic in INPUTS.items()]
        return all(offsets and not any(offsets.values()) for offsets in committed)
