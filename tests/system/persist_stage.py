"""Servers for the tests of the roles that keep their input in the database."""

import asyncio
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg
from confluent_kafka import KafkaException

from tapeline.schemas import TOPICS
from tapeline.streams.producer import Producer
from tapeline.streams.servers import Postgres, Servers
from tapeline.streams.settings import load_settings
from tapeline.streams.topics import ensure_topics
from tests.system.conftest import temporary_home
from tests.system.platform import TAPELINE, Platform, wait_until


class Stage(Platform):
    """Servers without roles; the tests start workers of one role themselves, and stop the database."""

    def __init__(self, servers: Servers, runner: asyncio.Runner, role: str, topic: str, env: dict[str, str]) -> None:
        super().__init__(servers.home, {"TAPELINE_WORKER__SNAPSHOT_SECONDS": "0.2"} | env)
        self._servers, self._runner = servers, runner
        self.role = role
        self.topic = topic
        assert servers.postgres is not None
        self.postgres: Postgres = servers.postgres
        self.log = servers.home.path / f"{role}.log"

    def beside(self, role: str, topic: str, env: dict[str, str]) -> "Stage":
        """The same servers, for workers of another role."""
        return Stage(self._servers, self._runner, role, topic, env)

    def send(self, partition: int, *records: bytes) -> int:
        """Put records at the end of a partition of the role's input; return where it ends then."""

        async def run() -> None:
            async with Producer({"bootstrap.servers": self.bootstrap}) as producer:
                for record in records:
                    await producer.send(self.topic, record, key="test", partition=partition)
                await producer.flush()

        self._runner.run(run())
        return self.ends(self.topic)[partition]

    def has_leaders(self) -> bool:
        """Whether a broker that has just made the topics serves them."""
        with suppress(KafkaException):
            return all(self.ends(topic) for topic in TOPICS)
        return False

    def stop_database(self) -> None:
        """Stop it as an administrator does."""
        self._runner.run(self.postgres.stop())

    def start_database(self) -> None:
        """Start it again on its socket."""
        self._runner.run(self.postgres.start())

    def kept_up_to(self, partition: int) -> int:
        """The next offset that the database has."""
        with psycopg.connect(self.dsn) as connection, suppress(psycopg.errors.UndefinedTable):
            query = "SELECT next_offset FROM input_offsets WHERE role = %s AND partition = %s"
            if row := connection.execute(query, [self.role, partition]).fetchone():
                return int(row[0])
        return 0

    def wait_until_kept(self, partition: int, end: int) -> None:
        """Wait until the database has everything before `end`."""
        wait_until(lambda: self.kept_up_to(partition) == end, f"{self.topic}[{partition}] to be kept up to {end}")

    @contextmanager
    def worker(self) -> Iterator[subprocess.Popen[str]]:
        """Run `tapeline worker` with the role; what it logs is in `log`."""
        with open(self.log, "w", encoding="utf-8") as log:
            command = [*TAPELINE, "worker", self.role, "--instance", f"{self.role}-0"]
            process = subprocess.Popen(command, env=self.env, stdout=log, stderr=log, text=True)
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def logged(self, text: str) -> bool:
        """Whether the worker said it."""
        return text in self.log.read_text("utf-8")

    def waits_for(self) -> list[str]:
        """What the roles of the workers say that they wait for."""
        with suppress(OSError):  # one has just ended
            return [role.waits_for for worker in self.workers() for role in worker.roles]
        return []


@contextmanager
def staged(role: str, topic: str) -> Iterator[Stage]:
    """Run the servers for one role, with the topics in them."""
    with temporary_home() as home, asyncio.Runner() as runner:
        starting = Servers.start(home)
        servers = runner.run(starting.__aenter__())
        stage = Stage(servers, runner, role, topic, {})
        ensure_topics(load_settings(env=stage.env))
        wait_until(stage.has_leaders, "leaders of the new topics")
        yield stage
        runner.run(starting.__aexit__(None, None, None))
