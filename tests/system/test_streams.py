"""Producer, state and registry against a real broker: what is promised of them when things go wrong."""

import asyncio
import os
import struct
from collections.abc import Callable, Iterator

import pytest
from confluent_kafka import Consumer, KafkaException, Message, TopicPartition
from confluent_kafka import Producer as KafkaProducer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # no __all__ there

from tapeline.schemas import RECORD_BYTES_MAX, Instrument, Snapshot, TapelineError, UnavailableError
from tapeline.schemas.topics import INSTRUMENTS, RECORD_OVERHEAD_BYTES, STATE
from tapeline.streams import producer as producer_module
from tapeline.streams import rebootstrap
from tapeline.streams.producer import DeliveryError, Producer
from tapeline.streams.rebootstrap import add_brokers
from tapeline.streams.registry import Registry, first_free_id
from tapeline.streams.role import Role
from tapeline.streams.servers import Servers
from tapeline.streams.state import LogReader, PartitionTail, StateError, StateStore
from tests.schemas.strategies import of_a_newer_version
from tests.system.broker import until

pytestmark = pytest.mark.slow

Kafka = dict[str, str | int]


@pytest.fixture
def kafka(servers: Servers) -> Kafka:
    """Client properties of the shared broker."""
    return {"bootstrap.servers": servers.bootstrap_servers or ""}


@pytest.fixture
def topic(kafka: Kafka, topic_prefix: str) -> Iterator[str]:
    """A new topic of two partitions that takes records up to 1 MB."""
    name = f"{topic_prefix}records"
    admin = AdminClient(dict(kafka))
    new = NewTopic(name, 2, 1, config={"max.message.bytes": "1000000"})
    admin.create_topics([new])[name].result(30)
    yield name
    admin.delete_topics([name])[name].result(30)


def values(kafka: Kafka, topic: str, partition: int = 0) -> list[bytes | None]:
    """Everything in a partition."""
    reader = LogReader(kafka)
    try:
        return [value for _, _, value in PartitionTail(reader, topic, partition).read()]
    finally:
        reader.close()


def messages(kafka: Kafka, topic: str, partition: int) -> list[Message]:
    """Everything in a partition, as the client gives it."""
    consumer = Consumer({**kafka, "group.id": "test", "enable.partition.eof": True})
    consumer.assign([TopicPartition(topic, partition, 0)])
    found: list[Message] = []
    try:
        while (message := consumer.poll(30)) is not None and message.error() is None:
            found.append(message)
    finally:
        consumer.close()
    return found


def test_what_is_flushed_is_in_the_log_in_order(kafka: Kafka, topic: str) -> None:
    async def run() -> None:
        async with Producer(kafka) as producer:
            for number in range(5_000):
                await producer.send(topic, b"%d" % number, key="k", partition=number % 2)
            await producer.flush()
            assert producer.stats.unconfirmed_records == 0
            assert await producer.partition_count(topic) == 2

    asyncio.run(run())
    assert values(kafka, topic, 0) == [b"%d" % number for number in range(0, 5_000, 2)]
    assert values(kafka, topic, 1) == [b"%d" % number for number in range(1, 5_000, 2)]


def test_a_full_queue_makes_the_sender_wait_and_loses_nothing(
    kafka: Kafka, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(producer_module, "QUEUE_BYTES_MAX", 256 * 1024)

    async def run() -> None:
        async with Producer(kafka) as producer:
            for number in range(200):
                await producer.send(topic, b"%06d" % number + b"x" * 20_000, key="k", partition=0)
                assert producer.stats.unconfirmed_bytes <= producer_module.QUEUE_BYTES_MAX
            await producer.flush()

    asyncio.run(run())
    assert [value[:6] for value in values(kafka, topic) if value] == [b"%06d" % number for number in range(200)]


def test_while_more_comes_small_batches_wait_for_company_and_nothing_else(
    kafka: Kafka, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(producer_module, "PATIENT_SECONDS", 3600.0)
    monkeypatch.setattr(producer_module, "PATIENT_BYTES", 10_000)
    monkeypatch.setattr(producer_module, "FLUSH_SECONDS", 0.01)
    looks: list[None] = []
    look = Producer._send_round

    def counted(producer: Producer) -> bool:
        looks.append(None)
        return look(producer)

    monkeypatch.setattr(Producer, "_send_round", counted)

    async def run() -> None:
        async with Producer(kafka) as producer:

            async def waits(records: int) -> None:
                seen = len(looks)
                await until(lambda: len(looks) > seen + 1, "two looks", 10)
                assert producer.stats.unconfirmed_records == records

            async def arrives() -> None:
                await until(lambda: not producer.stats.unconfirmed_records, "all to be confirmed", 10)

            await producer.send(topic, b"0", key="k", partition=0)  # the first record of a partition goes alone
            await producer.flush()
            producer.hurry(more_comes=True)
            await producer.send(topic, b"1", key="k", partition=0)
            await producer.send(topic, b"2", key="k", partition=0)
            producer.hurry(more_comes=True)
            await waits(2)
            producer.hurry()
            await producer.send(topic, b"3", key="k", partition=0)
            await arrives()  # nothing more comes: all goes
            producer.hurry(more_comes=True)
            await producer.send(topic, b"4", key="k", partition=0)
            await waits(1)
            await producer.send(topic, b"5" + b"x" * 10_000, key="k", partition=0)
            await arrives()  # enough for a batch
            await producer.send(topic, b"6", key="k", partition=0)
            await producer.flush()  # waits for no company
            producer.hurry(more_comes=True)
            await producer.send(topic, b"7", key="k", partition=0)
            await waits(1)
            monkeypatch.setattr(producer_module, "PATIENT_SECONDS", 0.0)
            producer.hurry(more_comes=True)
            await arrives()  # it has waited long enough
            monkeypatch.setattr(producer_module, "PATIENT_SECONDS", 3600.0)
            await producer.send(topic, b"8", key="k", partition=0)
            await waits(1)  # closing sends it

    asyncio.run(run())
    assert [value[:1] for value in values(kafka, topic) if value] == [b"%d" % number for number in range(9)]


def batches_in_log(servers: Servers, topic: str, partition: int = 0) -> list[tuple[int, str]]:
    """How many records each batch of a partition has and how it is compressed, as it lies at the broker."""
    log = (servers.home.kafka / "data" / f"{topic}-{partition}" / f"{0:020}.log").read_bytes()
    found: list[tuple[int, str]] = []
    at = 0
    while at < len(log):
        size, attributes, records = (
            struct.unpack_from(kind, log, at + where)[0] for kind, where in ((">i", 8), (">h", 21), (">i", 57))
        )
        if not size:  # space that was set aside
            break
        found.append((records, ("none", "gzip", "snappy", "lz4", "zstd")[attributes & 7]))
        at += 12 + size
    return found


@pytest.mark.parametrize("settings", [{}, {"compression": "none"}, {"compression": "zstd"}])
def test_what_waits_for_a_partition_goes_in_one_request_compressed_as_is_set(
    settings: dict[str, str], servers: Servers, kafka: Kafka, topic: str
) -> None:
    """Two on their way together are what a broker that is killed may get twice (librdkafka issue 4953)."""

    async def run() -> None:
        async with Producer(kafka, **settings) as producer:
            for _ in range(21):
                await producer.send_all(topic, [b"%d" % number for number in range(1000)], key="k", partition=0)
                await producer.flush()

    asyncio.run(run())
    (alone, _), *others = batches_in_log(servers, topic)
    assert alone == 1, "the first record of a partition"
    assert others == [(records, settings.get("compression", "lz4")) for records in (999, *[1000] * 20)]


def test_headers_and_times_arrive_whatever_they_are_sent_with(kafka: Kafka, topic: str) -> None:
    """All at once, so that they are in one batch: each with other things than the one before."""
    given: list[tuple[list[tuple[str, bytes]], int]] = [([], 0), ([], 1_700_000_000_000), ([("a", b"1")], 0)]
    given = [*given, ([("b", b"2")], 1_700_000_000_001)]

    async def run() -> None:
        for records in [*([one] for one in given), given]:
            async with Producer(kafka) as producer:
                await producer.send(topic, b"first", key="k", partition=1)  # what comes next waits, and goes together
                for headers, at in records:
                    await producer.send(topic, b"x", key="k", partition=1, headers=headers, timestamp_ms=at)
                await producer.flush()

    asyncio.run(run())
    found = [message for message in messages(kafka, topic, 1) if message.value() == b"x"]
    assert [message.headers() or [] for message in found] == [headers for headers, _ in given + given]
    for message, (_, at) in zip(found, given + given, strict=True):
        assert message.timestamp()[1] == at or (not at and message.timestamp()[1] > 1_790_000_000_000)


def test_after_a_refused_record_nothing_more_is_sent(kafka: Kafka, topic: str) -> None:
    """The topic takes 1 MB here, our producer 8: the broker refuses, and what comes later must not land."""

    async def run() -> None:
        async with Producer(kafka) as producer:
            await producer.send(topic, b"first", key="k", partition=0)
            await producer.flush()
            incompressible = os.urandom(3_000_000)
            await producer.send(topic, incompressible, key="k", partition=0)
            await producer.send(topic, b"later", key="k", partition=0)
            with pytest.raises(DeliveryError, match="start again from the last snapshot"):
                await producer.flush()
            with pytest.raises(DeliveryError):
                await producer.send(topic, b"much later", key="k", partition=0)

    asyncio.run(run())
    assert values(kafka, topic) == [b"first"]


def test_nothing_lands_behind_a_refused_record_that_is_a_producers_first(kafka: Kafka, topic: str) -> None:
    """A broker takes any sequence number of a producer that it does not know: batches in flight would land."""

    async def send_all(producer: Producer) -> None:
        await producer.send(topic, os.urandom(3_000_000), key="k", partition=0)
        for _ in range(200):
            await producer.send(topic, b"behind", key="k", partition=0)
            await asyncio.sleep(0.0005)
        await producer.flush()

    async def run() -> None:
        for _ in range(10):
            async with Producer(kafka, compression="none") as producer:
                with pytest.raises(DeliveryError):
                    await send_all(producer)

    asyncio.run(run())
    assert values(kafka, topic) == []


def test_a_record_above_our_own_limit_fails(kafka: Kafka, topic: str) -> None:
    async def run() -> None:
        async with Producer(kafka) as producer:
            await producer.send(topic, bytes(9 * 1024 * 1024 + RECORD_OVERHEAD_BYTES), key="k", partition=0)
            with pytest.raises(DeliveryError, match="refused a record of"):
                await producer.flush()

    asyncio.run(run())


def test_a_topic_that_is_not_there_says_what_to_do(kafka: Kafka) -> None:
    async def run() -> None:
        async with Producer(kafka) as producer:
            with pytest.raises(UnavailableError, match="tapeline topics create"):
                await producer.partition_count("no-such-topic")

    asyncio.run(run())


@pytest.mark.parametrize("client", [KafkaProducer, lambda properties: Consumer(properties | {"group.id": "x"})])
def test_a_client_without_brokers_gets_them_back(kafka: Kafka, client: Callable[[Kafka], KafkaProducer]) -> None:
    lost = client({"bootstrap.servers": "127.0.0.1:1", "log_level": 0})
    with pytest.raises(KafkaException):
        lost.list_topics(timeout=0.1)
    for _ in range(3):
        assert add_brokers(lost, str(kafka["bootstrap.servers"])) == 1
    assert lost.list_topics(timeout=30).brokers


def test_producer_and_reader_get_over_the_loss_of_all_brokers(
    kafka: Kafka, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """librdkafka may forget them all; here it never had one that answers."""
    monkeypatch.setattr(rebootstrap, "PATIENCE_SECONDS", 0.2)
    lost: Kafka = {"bootstrap.servers": "127.0.0.1:1"}

    async def run() -> None:
        async with Producer(lost) as producer:
            producer._lifeline.servers = str(kafka["bootstrap.servers"])
            await producer.send(topic, b"late", key="k", partition=0)
            await producer.flush()

    asyncio.run(run())
    reader = LogReader(lost)
    reader._lifeline.servers = str(kafka["bootstrap.servers"])
    assert reader.ends(TopicPartition(topic, 0)) == (0, 1)
    reader.close()
    assert values(kafka, topic) == [b"late"]


def test_a_tail_reads_on_from_where_it_was(kafka: Kafka, topic: str) -> None:
    async def run() -> None:
        reader = LogReader(kafka)
        tail = PartitionTail(reader, topic, 0)
        async with Producer(kafka) as producer:
            assert list(tail.read()) == []
            await producer.send(topic, b"one", key="k", partition=0)
            await producer.flush()
            assert list(tail.read()) == [(0, "k", b"one")]
            await producer.send(topic, b"two", key="k", partition=0)
            await producer.flush()
            assert list(tail.read()) == [(1, "k", b"two")]
            assert list(tail.read()) == []
        reader.close()

    asyncio.run(run())


@pytest.fixture
def topics(kafka: Kafka, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The topics of the state store and the registry, anew."""
    admin = AdminClient(dict(kafka))
    names = [STATE.name, INSTRUMENTS.name]
    have = admin.list_topics(timeout=30).topics
    for name in names:
        if name in have:
            admin.delete_topics([name])[name].result(30)
    deadline = 100
    while deadline and any(name in admin.list_topics(timeout=30).topics for name in names):
        deadline -= 1
    admin.create_topics([NewTopic(STATE.name, 2, 1), NewTopic(INSTRUMENTS.name, 1, 1)])
    while any(name not in admin.list_topics(timeout=30).topics for name in names):
        pass
    yield
    for future in admin.delete_topics(names).values():
        future.result(30)


def test_the_newest_whole_snapshot_of_each_unit_is_loaded(kafka: Kafka, topics: None) -> None:
    async def run() -> None:
        async with Producer(kafka) as producer:
            mine, others = StateStore("mine", kafka, producer, "log"), StateStore("others", kafka, producer, "log")
            assert await mine.load([0, 1]) == {0: {}, 1: {}}
            for number in range(3):
                await mine.save(0, "a", Snapshot(number, 0, payload=b"a%d" % number))
                await mine.save(0, "b/c", Snapshot(10 + number, 0))
                await others.save(0, "a", Snapshot(99, 0))
            await producer.flush()
            loaded = await mine.load([0])
            assert {unit: one.next_offset for unit, one in loaded[0].items()} == {"a": 2, "b/c": 12}
            damaged = bytearray(Snapshot(77, 0).encode())
            damaged[40] ^= 1
            await producer.send(STATE.name, bytes(damaged), key="mine/a", partition=0)
            await producer.flush()
            fresh = StateStore("mine", kafka, producer, "log")
            assert (await fresh.load([0]))[0]["a"].next_offset == 2, "a damaged one is passed over"
            mine.close()
            others.close()
            fresh.close()

    asyncio.run(run())


def test_snapshots_of_another_topic_are_refused_and_newer_ones_passed_over(kafka: Kafka, topics: None) -> None:
    async def run() -> None:
        async with Producer(kafka) as producer:
            await StateStore("mine", kafka, producer, "old log").save(0, "a", Snapshot(5, 0))
            newer = of_a_newer_version(Snapshot(5, 0).encode())
            await producer.send(STATE.name, newer, key="mine/b", partition=1)
            await producer.flush()
            store = StateStore("mine", kafka, producer, "new log")
            with pytest.raises(StateError, match="its input was made anew"):
                await store.load([0])
            await producer.send(STATE.name, Snapshot(4, 0, {"topic_id": "new log"}).encode(), key="mine/c", partition=1)
            await producer.flush()
            assert (await store.load([1]))[1].keys() == {"c"}, "a newer one is passed over, the others are taken"
            assert "upgrade" in store.refused[1]["b"]
            store.forget([1])
            store.close()

    asyncio.run(run())


def test_a_state_too_large_for_a_record_is_refused_and_the_last_one_stays(kafka: Kafka, topics: None) -> None:
    async def run() -> None:
        async with Producer(kafka) as producer:
            store = StateStore("mine", kafka, producer, "log", Role.remedy)
            await store.save(0, "a", Snapshot(5, 0))
            with pytest.raises(StateError, match=r"mine/a is too large .* more partitions"):
                await store.save(0, "a", Snapshot(6, 0, payload=bytes(RECORD_BYTES_MAX)))
            await producer.flush()
            assert (await store.load([0]))[0]["a"].next_offset == 5
            store.close()

    asyncio.run(run())


def test_a_missing_state_partition_says_what_to_do(kafka: Kafka, topics: None) -> None:
    async def run() -> None:
        async with Producer(kafka) as producer:
            store = StateStore("mine", kafka, producer, "log")
            with pytest.raises(TapelineError, match="no partition 7"):
                await store.load([7])
            store.close()

    asyncio.run(run())


def test_racing_registrations_agree(kafka: Kafka, topics: None) -> None:
    names = [f"sim:S{number}" for number in range(200)]

    async def run() -> None:
        async with Producer(kafka) as one, Producer(kafka) as other:
            first, second, late = (Registry(kafka, 4) for _ in range(3))
            await asyncio.gather(first.register(names, one), second.register(reversed(names), other))
            await first.refresh()
            await late.refresh()
            assert first.by_name == second.by_name == late.by_name
            assert set(late.by_name) == set(names)
            assert {number: one.name for number, one in late.by_id.items()} == {
                one.id: name for name, one in late.by_name.items()
            }
            for registry in (first, second, late):
                registry.close()

    asyncio.run(run())


def test_ids_that_collide_take_the_next_free_one() -> None:
    wanted = first_free_id("sim:A", {})
    assert first_free_id("sim:A", {wanted: "other:B", wanted + 1: "other:C"}) == wanted + 2


def test_the_first_record_of_a_name_or_id_wins(kafka: Kafka, topics: None) -> None:
    registry = Registry(kafka, 4)
    assert registry.learn(Instrument(id=5, name="sim:A", partition=0))
    assert not registry.learn(Instrument(id=6, name="sim:A", partition=1))
    assert not registry.learn(Instrument(id=5, name="sim:B", partition=1))
    assert registry.by_name == {"sim:A": Instrument(id=5, name="sim:A", partition=0)}
    registry.close()
