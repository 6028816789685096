"""A whole platform for a test: `tapeline up` in a home of its own, and the questions tests ask of it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, LiteralString

import psycopg
from confluent_kafka import Consumer, TopicPartition
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
        time.sleep(0.05)
    return found


class Platform:
    """A running `tapeline up`."""

    def __init__(self, home: Home, env: dict[str, str]) -> None:
        self.home = home
        self.env = dict(os.environ) | {"TAPELINE_HOME": str(home.path)} | env

    def cli(self, *args: str, code: int = 0) -> str:
        """Run a command to its end and return what it printed."""
        done = subprocess.run([*TAPELINE, *args], env=self.env, capture_output=True, text=True, timeout=300)
        assert done.returncode == code, f"tapeline {' '.join(args)} gave {done.returncode}:\n{done.stdout}{done.stderr}"
        return done.stdout

    def start(self, *args: str) -> subprocess.Popen[str]:
        """Start a command and leave it running."""
        return subprocess.Popen([*TAPELINE, *args], env=self.env, stdout=subprocess.PIPE, text=True)

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

    def consumer(self, topic: str) -> tuple[Consumer, dict[int, int]]:
        """A consumer at the beginning of a topic, and where each partition ends now."""
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": "test", "fetch.queue.backoff.ms": 5})
        partitions = consumer.list_topics(topic, timeout=30).topics[topic].partitions
        ends = {p: consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=30)[1] for p in partitions}
        consumer.assign([TopicPartition(topic, p, 0) for p in partitions])
        return consumer, ends

    def ends(self, topic: str) -> dict[int, int]:
        """Where each partition of a topic ends."""
        consumer, ends = self.consumer(topic)
        consumer.close()
        return ends

    def records(self, topic: str) -> Iterator[tuple[int, int, bytes]]:
        """(partition, offset, value) of everything in a topic now."""
        consumer, ends = self.consumer(topic)
        left = {p: end for p, end in ends.items() if end > 0}
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
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": "tapeline.normalize"})
        try:
            for role, topic in (("normalize", "raw"), ("logic", "ticks")):
                if self.ends(topic) != self._committed(role, topic):
                    return False
        finally:
            consumer.close()
        query = "SELECT partition, next_offset FROM input_offsets WHERE role = 'persist'"
        stored = {row["partition"]: row["next_offset"] for row in self.rows(query)}
        return all(stored.get(partition, 0) == end for partition, end in self.ends("signals").items())

    def _committed(self, role: str, topic: str) -> dict[int, int]:
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": f"tapeline.{role}"})
        partitions = [TopicPartition(topic, p) for p in self.ends(topic)]
        committed = {p.partition: max(p.offset, 0) for p in consumer.committed(partitions, timeout=30)}
        consumer.close()
        return committed

    def wait_until_done(self, seconds: float = 180.0) -> None:
        """Wait until everything that was ingested has gone all the way."""
        wait_until(self.done, "all roles to be done", seconds)


@contextmanager
def running_platform(home: Home, env: dict[str, str] | None = None) -> Iterator[Platform]:
    """Run `tapeline up` while the context lasts."""
    platform = Platform(home, env or {})
    up = platform.start("up")
    try:
        wait_until(lambda: up.poll() is None and platform.pid_of("persist"), "`tapeline up` to run its roles")
        yield platform
    finally:
        up.send_signal(signal.SIGTERM)
        up.communicate(timeout=60)


SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
"""Real recordings that are not ours to ship."""
