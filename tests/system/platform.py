"""A whole platform for a test: `tapeline up` in a home of its own, and the questions tests ask of it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, LiteralString

import psycopg
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]  # no __all__ there
from psycopg.rows import dict_row

from tapeline.schemas import Rejected, TickFrame
from tapeline.streams.frame_reader import FrameReader
from tapeline.streams.home import Home

TAPELINE = (sys.executable, "-m", "tapeline.streams.cli")


def wait_until(condition: Callable[[], Any], what: str, seconds: float = 120.0) -> Any:
    """Poll until the condition holds and return what it gave; fail with `what` was awaited."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.1)
    return found


class Platform:
    """A running `tapeline up`."""

    def __init__(self, home: Home, env: dict[str, str] | None = None) -> None:
        self.home = home
        self.env = dict(os.environ) | {"TAPELINE_HOME": str(home.path)} | (env or {})
        self.started: list[subprocess.Popen[bytes]] = []
        self._consumers: dict[str, Consumer] = {}

    def cli(self, *args: str, env: dict[str, str] | None = None) -> str:
        """Run a command to its end and return what it printed."""
        done = subprocess.run(
            [*TAPELINE, *args], env=self.env | (env or {}), capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, f"tapeline {' '.join(args)} gave {done.returncode}:\n{done.stdout}{done.stderr}"
        return done.stdout

    def start(self, *args: str, env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start a command; it is ended with the platform at the latest."""
        process = subprocess.Popen([*TAPELINE, *args], env=self.env | (env or {}), stdout=subprocess.DEVNULL)
        self.started.append(process)
        return process

    @property
    def bootstrap(self) -> str:
        """The broker."""
        addresses = self.home.addresses()
        assert addresses is not None
        assert addresses.bootstrap_servers is not None
        return addresses.bootstrap_servers

    @property
    def dsn(self) -> str:
        """The database."""
        addresses = self.home.addresses()
        assert addresses is not None
        assert addresses.dsn is not None
        return addresses.dsn

    def pid_of(self, role: str) -> int | None:
        """The process that runs a role now."""
        addresses = self.home.addresses()
        return addresses.pids.get(role) if addresses else None

    def kill(self, role: str) -> int:
        """SIGKILL a role's process, and return the pid it had."""
        pid = wait_until(lambda: self.pid_of(role), f"{role} to run")
        os.kill(pid, signal.SIGKILL)
        return int(pid)

    def wait_for_new_process(self, role: str, old: int) -> None:
        """Wait until the supervisor started the role again."""
        wait_until(lambda: self.pid_of(role) not in (None, old), f"{role} to start again")

    @cached_property
    def admin(self) -> AdminClient:
        """One connection for all questions about offsets."""
        return AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})

    def ends(self, topic: str) -> dict[int, int]:
        """Where each partition of a topic ends."""
        partitions = self.admin.list_topics(topic, timeout=30).topics[topic].partitions
        wanted = {TopicPartition(topic, partition): OffsetSpec.latest() for partition in partitions}  # type: ignore[no-untyped-call]

        def ask() -> dict[int, int]:
            try:
                found = self.admin.list_offsets(wanted, request_timeout=30)
                return {one.partition: future.result().offset for one, future in found.items()}
            except KafkaException as error:  # a leader that was just elected refuses for a moment
                if error.args[0].code() != KafkaError.NOT_LEADER_FOR_PARTITION:
                    raise
                return {}

        ends: dict[int, int] = wait_until(ask, f"the offsets of {topic}")
        return ends

    def committed(self, role: str, topic: str) -> dict[int, int]:
        """Up to where a role says that its input is done; empty while a new broker has nobody to ask."""
        # Not by the admin client: confluent-kafka 2.16 crashes on the answer of a coordinator that is not there yet.
        group = f"tapeline.{role}"
        if group not in self._consumers:
            self._consumers[group] = Consumer({"bootstrap.servers": self.bootstrap, "group.id": group, "log_level": 0})
        consumer = self._consumers[group]
        partitions = [TopicPartition(topic, partition) for partition in self.ends(topic)]
        try:
            return {one.partition: max(one.offset, 0) for one in consumer.committed(partitions, timeout=10)}
        except KafkaException:
            return {}

    def records(self, topic: str) -> Iterator[tuple[int, int, bytes]]:
        """(partition, offset, value) of everything in a topic now."""
        left = {partition: end for partition, end in self.ends(topic).items() if end > 0}
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": "test", "fetch.queue.backoff.ms": 5})
        consumer.assign([TopicPartition(topic, partition, 0) for partition in left])
        while left:
            message = consumer.poll(30)
            assert message is not None, f"{topic} gave nothing, {left} are left"
            assert message.error() is None, message.error()
            partition, offset, value = message.partition(), message.offset(), message.value()
            assert partition is not None
            assert offset is not None
            assert value is not None
            yield partition, offset, value
            if offset + 1 >= left.get(partition, 0):
                left.pop(partition, None)
        consumer.close()

    def frames(self) -> Iterator[TickFrame]:
        """Every tick frame once, as a reader of each partition sees them."""
        readers: dict[int, FrameReader] = {}
        for partition, _, value in self.records("ticks"):
            frame = TickFrame.decode(value)
            if readers.setdefault(partition, FrameReader()).take(frame):
                yield frame

    def rejected(self) -> list[Rejected]:
        """Everything in `rejected`."""
        return [Rejected.decode(value) for _, _, value in self.records("rejected")]

    def rows(self, query: LiteralString) -> list[dict[str, Any]]:
        """Rows of the database."""
        with psycopg.connect(self.dsn, row_factory=dict_row) as connection:
            return connection.execute(query).fetchall()

    def done(self) -> bool:
        """Whether each role has processed and saved everything there is in its input."""
        inputs = {"normalize": "raw", "logic": "ticks", "persist": "signals"}
        return all(self.committed(role, topic) == self.ends(topic) for role, topic in inputs.items())

    def wait_until_done(self, seconds: float = 180.0) -> None:
        """Wait until everything that was ingested has gone all the way."""
        wait_until(self.done, "all roles to be done", seconds)


@contextmanager
def running_platform(home: Home, env: dict[str, str] | None = None) -> Iterator[Platform]:
    """Run `tapeline up` while the context lasts."""
    platform = Platform(home, env)
    up = platform.start("up")
    try:
        wait_until(lambda: up.poll() is None and platform.pid_of("persist"), "`tapeline up` to run its roles")
        yield platform
    finally:
        for process in reversed(platform.started):
            process.terminate()
            process.wait(60)


SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
"""Real recordings that are not ours to ship."""
