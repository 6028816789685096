"""The questions that tests ask of a broker: where topics end, how far roles are, what was written."""

import asyncio
import time
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, cast

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]  # no __all__ there

from tapeline.schemas import Rejected, TickFrame
from tapeline.streams.frame_reader import FrameReader

PASSING = {KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE, KafkaError.FENCED_LEADER_EPOCH}
"""What a leader that was just elected answers for a moment."""
INPUTS = {"normalize": "raw", "logic": "ticks", "persist": "signals"}
"""Which topic each role reads, in the order of the way of a tick."""


def wait_until(condition: Callable[[], Any], what: str, seconds: float = 120.0) -> Any:
    """Poll until the condition holds and return what it gave; fail with `what` was awaited."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.1)
    return found


async def until(condition: Callable[[], Any], what: str, seconds: float = 60.0) -> None:
    """Wait, beside other tasks, until the condition holds; fail with `what` was awaited."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        await asyncio.sleep(0.02)


class Broker:
    """A Kafka; it may go away and come back between two questions. find: says where it is, when first asked."""

    def __init__(self, find: Callable[[], str]) -> None:
        self._find = find
        self._consumers: dict[str, Consumer] = {}

    @property
    def bootstrap(self) -> str:
        """host:port."""
        return self._find()

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
            except KafkaException as error:
                if error.args[0].code() not in (KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.UNKNOWN_LEADER_EPOCH):
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

    def messages(self, topic: str) -> Iterator[Message]:
        """Everything in a topic now, each with a value."""
        left = {partition: end for partition, end in self.ends(topic).items() if end > 0}
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": "test", "fetch.queue.backoff.ms": 5})
        consumer.assign([TopicPartition(topic, partition, 0) for partition in left])
        while left:
            message = consumer.poll(30)
            assert message is not None, f"{topic} gave nothing, {left} are left"
            assert message.error() is None, message.error()
            assert message.value() is not None
            yield message
            partition, offset = cast(int, message.partition()), cast(int, message.offset())
            if offset + 1 >= left.get(partition, 0):
                left.pop(partition, None)
        consumer.close()

    def records(self, topic: str) -> Iterator[tuple[int, int, bytes]]:
        """(partition, offset, value) of everything in a topic now."""
        for message in self.messages(topic):
            yield cast(int, message.partition()), cast(int, message.offset()), cast(bytes, message.value())

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

    def done(self) -> bool:
        """Whether each role has processed and saved everything there is in its input, the first role first."""
        return all(self.committed(role, topic) == self.ends(topic) for role, topic in INPUTS.items())

    def wait_until_done(self, seconds: float = 180.0) -> None:
        """Wait until everything that was ingested has gone all the way."""
        wait_until(self.done, "all roles to be done", seconds)
