"""One broker and the processes of the contender under test: topics, clocks and how to wait for them.

Every clock is the broker's: topics that are measured keep the time at which the broker appended a record.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import psutil
from confluent_kafka import Consumer, ConsumerGroupState, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # no __all__ there
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    OffsetSpec,
    ResourceType,
)
from rich.console import Console

from tapeline.streams.servers import Process
from tests.bench.market import PARTITIONS

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS_MAX = 120
"""A contender that is not ready by then is broken."""
LOOK_SECONDS = 0.1
ELECTED = (KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE)
"""What brokers say for a moment of a partition that has a new leader."""
BROKER_TIME = {"message.timestamp.type": "LogAppendTime"}
KEPT = {"retention.ms": "-1", "max.message.bytes": str(8 * 1024 * 1024 + 65536)}


class BenchError(Exception):
    """A contender failed, or said something else than the others: its figures would mean nothing."""


@dataclass(frozen=True, slots=True)
class Records:
    """What lies in a topic, by append time. append_ms, sizes: (n,); values: n, or none where they were not wanted."""

    append_ms: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]
    values: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Usage:
    """Of one process: resident memory now, processor time since its start."""

    memory_mb: float
    cpu_s: float


class Lab:
    """What contenders are run with; `folder` takes their logs and what they keep."""

    def __init__(self, bootstrap: str, folder: Path, console: Console) -> None:
        self.bootstrap = bootstrap
        self.folder = folder
        self.console = console
        self._quiet: dict[str, str | int | float | bool] = {"bootstrap.servers": bootstrap, "log_level": 0}
        self._admin = AdminClient(self._quiet)  # held: answers come only while it is there
        self._started = 0

    # Topics

    async def create(self, names: Iterable[str], settings: Mapping[str, str] = BROKER_TIME) -> None:
        """Make topics of PARTITIONS partitions that keep everything."""
        wanted = [NewTopic(name, PARTITIONS, 1, config={**KEPT, **settings}) for name in names]
        for future in self._admin.create_topics(wanted).values():
            future.result()
        await self._until_listed([topic.topic for topic in wanted], listed=True)

    async def delete(self, names: Iterable[str]) -> None:
        """Remove topics, those that are there."""
        gone = list(names)
        if not gone:
            return
        for future in self._admin.delete_topics(gone).values():
            try:
                future.result()
            except KafkaException as error:
                if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                    raise
        await self._until_listed(gone, listed=False)

    def keep_append_times(self, names: Iterable[str]) -> None:
        """Let topics that exist keep the broker's time."""
        changes = [
            ConfigResource(
                ResourceType.TOPIC,
                name,
                incremental_configs=[
                    ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
                    for key, value in BROKER_TIME.items()
                ],
            )
            for name in names
        ]
        for future in self._admin.incremental_alter_configs(changes).values():
            future.result()

    def has(self, topic: str) -> bool:
        """Return whether a topic is there."""
        return topic in self._admin.list_topics(timeout=30).topics

    def ends(self, topic: str) -> list[int]:
        """Return how many records each partition holds."""
        latest: OffsetSpec = OffsetSpec.latest()  # type: ignore[no-untyped-call]
        partitions = dict.fromkeys((TopicPartition(topic, number) for number in range(PARTITIONS)), latest)
        deadline = time.monotonic() + START_SECONDS_MAX
        while True:
            found = self._admin.list_offsets(partitions, request_timeout=30)
            try:
                return [int(found[partition].result().offset) for partition in partitions]
            except KafkaException as error:  # a topic that was made just now has a leader that does not know it yet
                if error.args[0].code() not in ELECTED or time.monotonic() > deadline:
                    raise
            time.sleep(LOOK_SECONDS)

    async def _until_listed(self, names: Sequence[str], *, listed: bool) -> None:
        deadline = time.monotonic() + START_SECONDS_MAX
        while True:
            topics = self._admin.list_topics(timeout=30).topics
            settled = [
                (name in topics and all(one.leader >= 0 for one in topics[name].partitions.values())) is listed
                for name in names
            ]
            if all(settled):
                return
            if time.monotonic() > deadline:
                raise BenchError(f"the broker did not {'make' if listed else 'remove'} the topics {', '.join(names)}")
            await asyncio.sleep(LOOK_SECONDS)

    def read(self, topic: str, *, values: bool = False) -> Records:
        """Read all there is in a topic."""
        left = {number: end for number, end in enumerate(self.ends(topic)) if end}
        consumer = Consumer(
            {**self._quiet, "group.id": "bench.read", "fetch.queue.backoff.ms": 5, "enable.auto.commit": False}
        )
        consumer.assign([TopicPartition(topic, number, 0) for number in left])
        stamps: list[int] = []
        sizes: list[int] = []
        kept: list[bytes] = []
        try:
            while left:
                batch = consumer.consume(10_000, 1)
                for message in batch:
                    value = message.value()
                    if message.error() is not None or value is None:
                        raise BenchError(f"{topic} cannot be read: {message.error()}")
                    stamps.append(message.timestamp()[1])
                    sizes.append(len(value))
                    if values:
                        kept.append(value)
                    partition = message.partition()
                    assert partition is not None
                    left[partition] -= 1
                    if not left[partition]:
                        del left[partition]
        finally:
            consumer.close()
        order = np.argsort(np.array(stamps, np.int64), kind="stable")
        return Records(
            np.array(stamps, np.int64)[order],
            np.array(sizes, np.int64)[order],
            [kept[at] for at in order] if values else [],
        )

    def read_first(self, topic: str) -> npt.NDArray[np.int64]:
        """Return when the first record of each partition was appended, in milliseconds."""
        consumer = Consumer({**self._quiet, "group.id": "bench.read", "enable.auto.commit": False})
        filled = [number for number, end in enumerate(self.ends(topic)) if end]
        found: list[int] = []
        try:
            for number in filled:
                consumer.assign([TopicPartition(topic, number, 0)])
                message = consumer.poll(30)
                if message is None or message.error() is not None:
                    raise BenchError(f"{topic}[{number}] cannot be read")
                found.append(message.timestamp()[1])
        finally:
            consumer.close()
        return np.array(found, np.int64)

    # Processes

    @asynccontextmanager
    async def run(
        self, name: str, command: Sequence[str], *, env: Mapping[str, str] | None = None
    ) -> AsyncIterator[Process]:
        """Run a process while the context lasts; it is asked to stop at the end and cannot outlive us."""
        self._started += 1
        stem = self.folder / f"{self._started:03d}-{name}"
        process = Process(
            name,
            command,
            log=stem.with_suffix(".log"),
            pid_file=stem.with_suffix(".pid"),
            env={**os.environ, **(env or {})},
            cwd=ROOT,
        )
        await process.start()
        try:
            yield process
        finally:
            await process.stop()

    async def until(
        self,
        condition: Callable[[], bool],
        what: str,
        processes: Sequence[Process],
        *,
        seconds: float = START_SECONDS_MAX,
    ) -> None:
        """Wait for a condition; raise BenchError if a process ends before, or if it takes longer than `seconds`."""
        deadline = time.monotonic() + seconds
        while not await asyncio.to_thread(condition):
            for process in processes:
                if process.pid is None:
                    raise BenchError(f"{process.name} ended before {what}:\n{log_end(process)}")
            if time.monotonic() > deadline:
                logs = "\n".join(f"{process.name}: {log_end(process)}" for process in processes)
                raise BenchError(f"waited {seconds:.0f} s for {what}:\n{logs}")
            await asyncio.sleep(LOOK_SECONDS)

    async def until_it_says(self, word: str, process: Process) -> None:
        """Wait until a process has written a line that is `word`."""
        await self.until(lambda: word in process.log.read_text().splitlines(), f"it said {word}", [process])

    async def until_settled(self, group: str, topic: str, processes: Sequence[Process]) -> None:
        """Wait until a consumer group has the partitions of a topic, each of the processes its share."""

        def settled() -> bool:
            try:
                found = self._admin.describe_consumer_groups([group], request_timeout=10)[group].result()
            except KafkaException:  # no coordinator yet
                return False
            shares = [
                sum(one.topic == topic for one in member.assignment.topic_partitions) if member.assignment else 0
                for member in found.members
            ]
            return found.state == ConsumerGroupState.STABLE and shares == [PARTITIONS // len(processes)] * len(
                processes
            )

        await self.until(settled, f"group {group} shared {topic}", processes)

    @contextmanager
    def progress(self, what: str) -> Iterator[Callable[[float], None]]:
        """Show `what` goes on, on a terminal; yields what to call with the share that is done."""
        with self.console.status(what) as status:
            yield lambda share: status.update(f"{what}  {share:.0%}")

    def usage(self, process: Process) -> Usage:
        """Return what a running process uses."""
        found = psutil.Process(process.pid)
        times = found.cpu_times()
        return Usage(found.memory_info().rss / 1e6, times.user + times.system)


def log_end(process: Process, lines: int = 15) -> str:
    """Return the last lines that a process wrote."""
    text = process.log.read_text(errors="replace") if process.log.exists() else ""
    return "\n".join(text.splitlines()[-lines:])
