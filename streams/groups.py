"""What the brokers know of the roles: where their inputs end, what their groups committed, and who has what.

`status.py` asks, for what no worker in reach tells. Nothing is changed and no group is joined.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from confluent_kafka import Consumer, ConsumerGroupState, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]  # no __all__ there

from tapeline.schemas import Topic, UnavailableError
from tapeline.schemas.topics import RAW, SIGNALS, TICKS
from tapeline.streams.settings import Settings, kafka_bootstrap

INPUTS: Mapping[str, Topic] = {"normalize": RAW, "logic": TICKS, "persist": SIGNALS}
"""The topic that each role reads."""
TIMEOUT_SECONDS = 5.0
_SETTLED = (ConsumerGroupState.STABLE, ConsumerGroupState.EMPTY, ConsumerGroupState.DEAD)

T = TypeVar("T")


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


class Groups:
    """The groups of all roles. Raises UnavailableError where no broker answers."""

    def __init__(self, settings: Settings) -> None:
        self._bootstrap = kafka_bootstrap(settings)
        self._properties: dict[str, Any] = {**settings.kafka.librdkafka(self._bootstrap), "log_level": 0}
        self._admin = AdminClient(self._properties)
        self._consumers: dict[str, Consumer] = {}

    def read(self) -> dict[str, Group]:
        """Return what the brokers say, by role; a role whose input does not exist is left out."""
        try:
            topics = self._admin.list_topics(timeout=TIMEOUT_SECONDS).topics
        except KafkaException as error:
            raise UnavailableError(f"Kafka at {self._bootstrap} does not answer ({error.args[0].str()})") from error
        members = self._admin.describe_consumer_groups(
            [f"tapeline.{role}" for role in INPUTS], request_timeout=TIMEOUT_SECONDS
        )
        groups = {}
        for role, topic in INPUTS.items():
            if topic.name in topics and topics[topic.name].error is None:
                partitions = [TopicPartition(topic.name, number) for number in topics[topic.name].partitions]
                found = _or(None, members[f"tapeline.{role}"].result)
                owners = {} if found is None else _owners(found, topic.name)
                settled = found is not None and found.state in _SETTLED
                groups[role] = Group(self._ends(partitions), self._committed(role, partitions), owners, settled)
        return groups

    def close(self) -> None:
        """Let go of the connections."""
        for consumer in self._consumers.values():
            consumer.close()

    def _ends(self, partitions: list[TopicPartition]) -> dict[int, int]:
        latest: OffsetSpec = OffsetSpec.latest()  # type: ignore[no-untyped-call]
        wanted = dict.fromkeys(partitions, latest)
        ends = {}
        for partition, future in self._admin.list_offsets(wanted, request_timeout=TIMEOUT_SECONDS).items():
            answer = _or(None, future.result)
            ends[partition.partition] = -1 if answer is None else answer.offset
        return ends

    def _committed(self, role: str, partitions: list[TopicPartition]) -> dict[int, int]:
        # Not by the admin client: confluent-kafka 2.16 crashes on the answer of a coordinator that is not there yet.
        if role not in self._consumers:
            self._consumers[role] = Consumer({**self._properties, "group.id": f"tapeline.{role}"})
        nothing: list[TopicPartition] = []
        found = _or(nothing, lambda: self._consumers[role].committed(partitions, timeout=TIMEOUT_SECONDS))
        return {one.partition: one.offset for one in found if one.offset >= 0}


def _owners(found: Any, topic: str) -> dict[int, str]:
    owners = {}
    for member in found.members:
        name = member.group_instance_id or f"{member.client_id} on {member.host.lstrip('/')}"
        for one in member.assignment.topic_partitions if member.assignment else ():
            if one.topic == topic:
                owners[one.partition] = name
    return owners


def _or(other: T, ask: Callable[[], T]) -> T:
    """Return the answer, or `other` where a broker or coordinator that was just elected has none yet."""
    try:
        return ask()
    except KafkaException:
        return other
