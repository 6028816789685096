"""What the brokers know of the roles: where their inputs end, what their groups committed, and who has what.

`status.py` asks, for what no worker in reach tells, and `orphans.py`. Nothing is changed and no group is joined.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from confluent_kafka import Consumer, ConsumerGroupState, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]  # no __all__ there

from tapeline.schemas import Topic, UnavailableError
from tapeline.schemas.topics import BARS, RAW, SIGNALS, TICKS
from tapeline.streams.settings import Settings, kafka_bootstrap

INPUTS: Mapping[str, Topic] = {"normalize": RAW, "logic": TICKS, "persist": SIGNALS}
"""The topic that each role reads."""
OPTIONAL_INPUTS: Mapping[str, Topic] = {"bars": TICKS, "persist-ticks": TICKS, "persist-bars": BARS}
"""The same of roles that run only where the settings want what they make or keep."""
ALL_INPUTS = {**INPUTS, **OPTIONAL_INPUTS}
TIMEOUT_SECONDS = 5.0
_SETTLED = (ConsumerGroupState.STABLE, ConsumerGroupState.EMPTY, ConsumerGroupState.DEAD)

T = TypeVar("T")


def inputs(settings: Settings) -> dict[str, Topic]:
    """Return the roles that are to run, in the order of the way of a tick, and the topic that each reads."""
    kept = settings.database
    wanted = {"bars": settings.bars.intervals, "persist-ticks": kept.store_ticks, "persist-bars": kept.store_bars}
    return {**INPUTS, **{role: topic for role, topic in OPTIONAL_INPUTS.items() if wanted[role]}}


@dataclass(frozen=True, slots=True)
class Group:
    """One role as the brokers see it; what they cannot say just now is left out."""

    ends: Mapping[int, int]
    """Partition -> where it ends; has every partition of the input, -1 where the end is not known."""
    committed: Mapping[int, int] = field(default_factory=dict)
    owners: Mapping[int, str] = field(default_factory=dict)
    """Partition -> name of the member that has it."""
    settled: bool = True
    """False while partitions are being assigned anew."""


class Offsets:
    """Where partitions end and what groups committed."""

    def __init__(self, properties: Mapping[str, str | int]) -> None:
        self._properties: dict[str, Any] = {**properties, "log_level": 0}
        self.admin = AdminClient(self._properties)
        self._consumers: dict[str, Consumer] = {}

    def ends(self, partitions: Sequence[TopicPartition]) -> dict[int, int]:
        """Return the end of each partition, -1 where it is not known."""
        latest: OffsetSpec = OffsetSpec.latest()  # type: ignore[no-untyped-call]
        wanted = dict.fromkeys(partitions, latest)
        ends = {}
        for partition, future in self.admin.list_offsets(wanted, request_timeout=TIMEOUT_SECONDS).items():
            answer = _or(None, future.result)
            ends[partition.partition] = -1 if answer is None else answer.offset
        return ends

    def committed(self, group: str, partitions: Sequence[TopicPartition]) -> dict[int, int]:
        """Return the next offsets that a group committed, of partitions where it did; may raise KafkaException."""
        # Not by the admin client: confluent-kafka 2.16 crashes on the answer of a coordinator that is not there yet.
        if group not in self._consumers:
            self._consumers[group] = Consumer({**self._properties, "group.id": group})
        found = self._consumers[group].committed(list(partitions), timeout=TIMEOUT_SECONDS)
        return {one.partition: one.offset for one in found if one.offset >= 0}

    def close(self) -> None:
        """Let go of the connections."""
        for consumer in self._consumers.values():
            consumer.close()


class Groups:
    """The groups of all roles. Raises UnavailableError where no broker answers."""

    def __init__(self, settings: Settings) -> None:
        self._bootstrap = kafka_bootstrap(settings)
        self._inputs = inputs(settings)
        self._offsets = Offsets(settings.kafka.librdkafka(self._bootstrap))

    def read(self) -> dict[str, Group]:
        """Return what the brokers say, by role; a role whose input does not exist is left out."""
        try:
            topics = self._offsets.admin.list_topics(timeout=TIMEOUT_SECONDS).topics
        except KafkaException as error:
            raise UnavailableError(f"Kafka at {self._bootstrap} does not answer ({error.args[0].str()})") from error
        members = self._offsets.admin.describe_consumer_groups(
            [f"tapeline.{role}" for role in self._inputs], request_timeout=TIMEOUT_SECONDS
        )
        groups = {}
        for role, topic in self._inputs.items():
            if topic.name in topics and topics[topic.name].error is None:
                partitions = [TopicPartition(topic.name, number) for number in topics[topic.name].partitions]
                group = f"tapeline.{role}"
                found = _or(None, members[group].result)
                owners = {} if found is None else _owners(found, topic.name)
                settled = found is not None and found.state in _SETTLED
                nothing: dict[int, int] = {}
                committed = _or(nothing, partial(self._offsets.committed, group, partitions))
                groups[role] = Group(self._offsets.ends(partitions), committed, owners, settled)
        return groups

    def close(self) -> None:
        """Let go of the connections."""
        self._offsets.close()


def partitions_of(member: Any, topic: str) -> frozenset[int]:
    """Return the partitions of a topic that a group member has, as confluent-kafka describes it."""
    assigned = member.assignment.topic_partitions if member.assignment else ()
    return frozenset(one.partition for one in assigned if one.topic == topic)


def _owners(found: Any, topic: str) -> dict[int, str]:
    owners: dict[int, str] = {}
    for member in found.members:
        name = member.group_instance_id or f"{member.client_id} on {member.host.lstrip('/')}"
        owners |= dict.fromkeys(partitions_of(member, topic), name)
    return owners


def _or(other: T, ask: Callable[[], T]) -> T:
    """Return the answer, or `other` where a broker or coordinator that was just elected has none yet."""
    try:
        return ask()
    except KafkaException:
        return other
