"""A member of a consumer group on a real broker: what it promises its owner when partitions and brokers come and go."""

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

import pytest
from confluent_kafka import Message, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # no __all__ there

from tapeline.streams import group_consumer, orphans, rebootstrap
from tapeline.streams.group_consumer import GroupConsumer
from tapeline.streams.groups import Offsets
from tapeline.streams.home import Home
from tapeline.streams.producer import Producer
from tapeline.streams.servers import Kafka as KafkaServer
from tapeline.streams.servers import Servers
from tests.system.broker import until

pytestmark = pytest.mark.slow

Kafka = dict[str, str | int]
PARTITIONS = 4


@pytest.fixture
def kafka(servers: Servers) -> Kafka:
    """Client properties of the shared broker."""
    return {"bootstrap.servers": servers.bootstrap_servers or "", "topic.metadata.refresh.interval.ms": 5000}


@pytest.fixture
def topic(kafka: Kafka, topic_prefix: str) -> Iterator[str]:
    """A new topic."""
    name = f"{topic_prefix}input"
    admin = AdminClient(dict(kafka))
    admin.create_topics([NewTopic(name, PARTITIONS, 1)])[name].result(30)
    yield name
    admin.delete_topics([name])[name].result(30)


class Member:
    """An owner that remembers what it was asked, and every record that it was handed and still wanted."""

    def __init__(
        self,
        kafka: Kafka,
        topic: str,
        *,
        instance: str | None = None,
        starts: int = 0,
        ghost_seconds: float = 60,
    ) -> None:
        self._ghost_seconds = ghost_seconds
        self.next: dict[int, int] = {}
        self.calls: list[tuple[str, tuple[int, ...]]] = []
        self.records: list[Message] = []
        self.failure: BaseException | None = None
        self.taking = asyncio.Event()
        self.taking.set()
        self._starts = starts
        self._kafka, self._topic, self._instance = kafka, topic, instance

    async def __aenter__(self) -> "Member":
        self.group = GroupConsumer(
            self._kafka,
            self._topic,
            self,
            group=self._topic,
            instance=self._instance,
            session_timeout_seconds=6,
            ghost_seconds=self._ghost_seconds,
        )
        self.group.start()
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.group.stop()
        self._reader.cancel()
        with suppress(asyncio.CancelledError):
            await self._reader

    async def gain(self, partitions: Sequence[int]) -> Mapping[int, int]:
        self.calls.append(("gain", tuple(partitions)))
        for partition in partitions:
            self.next.setdefault(partition, self._starts)
        return {partition: self.next[partition] for partition in partitions}

    async def give(self, partitions: Sequence[int]) -> None:
        self.calls.append(("give", tuple(partitions)))
        self.group.commit({partition: self.next[partition] for partition in partitions})

    async def lose(self, partitions: Sequence[int]) -> None:
        self.calls.append(("lose", tuple(partitions)))

    def fail(self, error: BaseException) -> None:
        self.failure = error

    async def _read(self) -> None:
        while True:
            batch = await self.group.next_batch()
            await self.taking.wait()
            for record in batch.records:
                partition, offset = record.partition() or 0, record.offset() or 0
                if self.group.is_current(partition, batch.assignments.get(partition, -1)):
                    assert offset == self.next[partition], "each record is the next of its partition"
                    self.next[partition] = offset + 1
                    self.records.append(record)
            self.group.done()


async def fill(kafka: Kafka, topic: str, first: int, count: int) -> None:
    """Send `count` numbered records to each partition."""
    async with Producer(kafka) as producer:
        for number in range(first, first + count):
            for partition in range(PARTITIONS):
                await producer.send(topic, b"%d" % number, key="k", partition=partition)
        await producer.flush()


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await test()

    asyncio.run(main())


def test_reading_starts_where_the_owner_says_and_keeps_key_headers_and_time(kafka: Kafka, topic: str) -> None:
    async def test() -> None:
        async with Producer(kafka) as producer:
            for number in range(10):
                headers = [("number", b"%d" % number), ("empty", b"")]
                for partition in range(PARTITIONS):
                    await producer.send(
                        topic, b"v", key=b"key", partition=partition, headers=headers, timestamp_ms=1_700_000_000_000
                    )
            await producer.flush()
        async with Member(kafka, topic, starts=7) as member:
            await until(lambda: len(member.records) == 3 * PARTITIONS, "the records from 7 on")
            assert {(one.partition(), one.offset()) for one in member.records} == {
                (partition, offset) for partition in range(PARTITIONS) for offset in (7, 8, 9)
            }
            for one in member.records:
                assert (one.key(), one.value()) == (b"key", b"v")
                assert one.headers() == [("number", b"%d" % (one.offset() or 0)), ("empty", b"")]
                assert one.timestamp()[1] == 1_700_000_000_000
            await until(lambda: member.group.end_offset(0) == 10, "the end to be known")

    run(test)


def test_partitions_that_stay_are_not_disturbed(kafka: Kafka, topic: str) -> None:
    async def test() -> None:
        await fill(kafka, topic, 0, 100)
        async with Member(kafka, topic) as first:
            await until(lambda: len(first.records) == 400, "all records")
            async with Member(kafka, topic, starts=100) as second:
                await until(lambda: len(second.group.partitions) == 2, "two members to share")
                gone = set(second.group.partitions)
                assert first.group.partitions == set(range(PARTITIONS)) - gone
                assert [call for call in first.calls if call[1]] == [
                    ("gain", tuple(range(PARTITIONS))),
                    ("give", tuple(sorted(gone))),
                ]
                await fill(kafka, topic, 100, 50)
                await until(lambda: len(first.records) + len(second.records) == 600, "the new records, once each")
                assert {one.partition() for one in second.records} == gone
                first.next |= second.next  # what a snapshot would carry over
            assert second.calls[-1] == ("give", tuple(sorted(gone)))
            await until(lambda: len(first.group.partitions) == PARTITIONS, "the first to have all again", 20)
            await fill(kafka, topic, 150, 10)
            await until(lambda: sum(first.next.values()) == 160 * PARTITIONS, "the rest")
        assert first.failure is second.failure is None

    run(test)


def test_a_static_member_comes_back_without_a_rebalance(kafka: Kafka, topic: str) -> None:
    async def test() -> None:
        async with Member(kafka, topic, instance="a") as stays:
            async with Member(kafka, topic, instance="b") as goes:
                await until(lambda: len(goes.group.partitions) == len(stays.group.partitions) == 2, "both to share")
                had = goes.group.partitions
            before = list(stays.calls)
            started = time.monotonic()
            async with Member(kafka, topic, instance="b") as back:
                await until(lambda: back.group.partitions == had, "the old partitions")
                assert time.monotonic() - started < 5, "before its session ran out"
                assert [call for call in stays.calls[len(before) :] if call[1]] == []

    run(test)


def test_who_takes_a_name_that_is_taken_ends_the_one_who_had_it(kafka: Kafka, topic: str) -> None:
    async def test() -> None:
        async with Member(kafka, topic, instance="same") as old:
            await until(lambda: len(old.group.partitions) == PARTITIONS, "the first to have all")
            async with Member(kafka, topic, instance="same") as new:
                await until(lambda: old.failure is not None, "the first to be told")
                assert "cannot stay in its group" in str(old.failure)
                await until(lambda: len(new.group.partitions) == PARTITIONS, "the second to have all")

    run(test)


def test_a_slow_reader_pauses_the_partitions_and_stays_in_its_group(
    kafka: Kafka, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_consumer, "BATCH_RECORDS", 5)

    async def test() -> None:
        await fill(kafka, topic, 0, 300)
        async with Member(kafka, topic) as member:
            member.taking.clear()
            await until(lambda: member.group.paused, "the pause")
            assert member.group.waiting_records <= 5 * group_consumer.BATCHES_MAX
            async with Member(kafka, topic, starts=300) as other:
                await until(lambda: len(other.group.partitions) == 2, "a rebalance while it is paused")
                member.taking.set()
                await until(lambda: not member.group.paused, "the flow to go on")
            await until(lambda: len(member.group.partitions) == PARTITIONS, "the partitions that went to be back")
            await until(lambda: sum(member.next.values()) == 300 * PARTITIONS, "all records once", 20)
        assert member.failure is None

    run(test)


def test_a_topic_that_is_made_later_is_found(kafka: Kafka, topic_prefix: str, caplog: pytest.LogCaptureFixture) -> None:
    name = f"{topic_prefix}late"
    admin = AdminClient(dict(kafka))

    async def test() -> None:
        async with Member(kafka, name) as member:
            await until(lambda: "topic not available" in caplog.text, "the broker to say that it is not there")
            admin.create_topics([NewTopic(name, PARTITIONS, 1)])[name].result(30)
            await until(lambda: len(member.group.partitions) == PARTITIONS, "the topic to be found", 30)
            await fill(kafka, name, 0, 1)
            await until(lambda: len(member.records) == PARTITIONS, "its records")

    run(test)
    admin.delete_topics([name])[name].result(30)


def test_a_member_gets_over_the_loss_of_all_brokers(kafka: Kafka, topic: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """librdkafka may forget them all; here it never had one that answers."""
    monkeypatch.setattr(rebootstrap, "PATIENCE_SECONDS", 0.2)

    async def test() -> None:
        async with Member({"bootstrap.servers": "127.0.0.1:1"}, topic) as member:
            member.group._lifeline.servers = str(kafka["bootstrap.servers"])
            await fill(kafka, topic, 0, 1)
            await until(lambda: len(member.records) == PARTITIONS, "its records")

    run(test)


DIES_WHEN_IT_GIVES = """
import os, sys
from confluent_kafka import Consumer
consumer = Consumer({
    "bootstrap.servers": sys.argv[1], "group.id": sys.argv[2], "group.instance.id": "a", "session.timeout.ms": 30000,
    "partition.assignment.strategy": "cooperative-sticky", "heartbeat.interval.ms": 500,
})
consumer.subscribe(
    [sys.argv[2]],
    on_assign=lambda consumer, found: (consumer.incremental_assign(found), print("has", len(found), flush=True)),
    on_revoke=lambda *_: os._exit(0),
)
while True:
    consumer.poll(1)
"""

GHOST = """
import sys
from confluent_kafka import Consumer
consumer = Consumer({
    "bootstrap.servers": sys.argv[1], "group.id": sys.argv[2], "group.instance.id": "a", "session.timeout.ms": 600000,
    "partition.assignment.strategy": "cooperative-sticky", "heartbeat.interval.ms": 500, "max.poll.interval.ms": 900000,
})
consumer.subscribe([sys.argv[2]], on_assign=lambda _, found: print("has", len(found), flush=True))
while True:
    consumer.poll(1)
"""


@pytest.fixture
def beside(kafka: Kafka, topic_prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The topic that a group is joined with to make it share anew."""
    name = f"{topic_prefix}beside"
    admin = AdminClient(dict(kafka))  # held: when it goes, its answers go
    admin.create_topics([NewTopic(name, 1, 1)])[name].result(30)
    monkeypatch.setattr(orphans, "BESIDE", name)


@contextmanager
def member_process(program: str, kafka: Kafka, topic: str) -> Iterator["subprocess.Popen[str]"]:
    """A member in a process of its own, once it has all partitions."""
    command = [sys.executable, "-c", program, str(kafka["bootstrap.servers"]), topic]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"has {PARTITIONS}\n"
        yield process


@pytest.mark.usefixtures("beside")
def test_what_a_member_gave_away_before_it_died_is_taken(kafka: Kafka, topic: str) -> None:
    """The broker gives its successor, under its name, what it had at last and asks nobody about the rest."""
    with member_process(DIES_WHEN_IT_GIVES, kafka, topic) as dying:

        async def test() -> None:
            async with Member(kafka, topic, instance="b") as other:
                await until(lambda: dying.poll() is not None, "the first to die")
                async with Member(kafka, topic, instance="a") as successor:
                    await until(
                        lambda: len(successor.group.partitions | other.group.partitions) == PARTITIONS,
                        "all to be taken",
                    )

        run(test)


@pytest.mark.usefixtures("beside")
def test_a_member_that_is_gone_and_that_the_broker_does_not_miss_is_put_out(kafka: Kafka, topic: str) -> None:
    """Its session lasts ten minutes, as it lasts for ever where the broker has forgotten to count."""
    with member_process(GHOST, kafka, topic) as ghost:

        async def test() -> None:
            async with Member(kafka, topic, instance="b", ghost_seconds=5) as other:
                await until(lambda: len(other.group.partitions) == PARTITIONS // 2, "two members to share")
                ghost.kill()
                await fill(kafka, topic, 0, 3)
                await until(lambda: len(other.records) == 3 * PARTITIONS, "all records")

        run(test)


def test_a_clean_stop_commits_what_was_given(kafka: Kafka, topic: str) -> None:
    async def test() -> None:
        await fill(kafka, topic, 0, 3)
        async with Member(kafka, topic) as member:
            await until(lambda: len(member.records) == 3 * PARTITIONS, "all records")
        assert member.calls[-1] == ("give", tuple(range(PARTITIONS)))
        assert member.group.partitions == frozenset()
        offsets = Offsets(kafka)
        where = [TopicPartition(topic, partition) for partition in range(PARTITIONS)]
        assert offsets.committed(topic, where) == dict.fromkeys(range(PARTITIONS), 3)
        offsets.close()

    run(test)


def waits_for_the_group(member: Member) -> bool:
    return member.group.joining_seconds is not None


def test_where_partitions_end_is_known_also_if_nothing_is_fetched_any_more(
    kafka: Kafka, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A member that stalls in silence would else believe that it has everything, and the watchdog with it."""
    goes_on = threading.Event()

    async def test() -> None:
        async with Member(kafka, topic) as member:
            assert waits_for_the_group(member)
            await until(lambda: len(member.group.partitions) == PARTITIONS, "the partitions")
            assert not waits_for_the_group(member)
            fetch = member.group._fetch
            hangs = threading.Event()

            def hanging() -> list[Message]:
                hangs.set()
                return fetch() if goes_on.wait() else []

            monkeypatch.setattr(member.group, "_fetch", hanging)
            try:
                await until(hangs.is_set, "the member to hang")
                await fill(kafka, topic, 0, 3)
                ends = [3] * PARTITIONS
                await until(lambda: [member.group.end_offset(one) for one in range(PARTITIONS)] == ends, "the ends")
                assert len(member.records) < 3 * PARTITIONS
            finally:
                goes_on.set()
            await until(lambda: len(member.records) == 3 * PARTITIONS, "all records")

    run(test)


def test_a_broker_that_was_away_is_read_on(home: Home, topic_prefix: str) -> None:
    async def test() -> None:
        server = KafkaServer(home)
        await server.start()
        kafka: Kafka = {"bootstrap.servers": server.bootstrap_servers}
        topic = f"{topic_prefix}input"
        admin = AdminClient(dict(kafka))
        admin.create_topics([NewTopic(topic, PARTITIONS, 1)])[topic].result(30)
        await fill(kafka, topic, 0, 10)
        async with Member(kafka, topic) as member:
            await until(lambda: len(member.records) == 40, "the first records")
            await server.stop()
            await server.start()
            await fill(kafka, topic, 10, 10)
            await until(lambda: len(member.records) == 80, "the records after the broker came back")
            assert member.failure is None
        await server.stop()

    run(test)
