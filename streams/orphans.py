"""Partitions that nobody has while the group rests are found, and shared out anew.

Static membership and cooperative rebalancing leave one gap. A member gives partitions away and dies before it joins
again, which is what makes the group share them out. The process that follows it under its name gets from the broker
what it had at last, without a rebalance. So nobody is asked who takes the others, until something else happens.

`group_consumer.py` runs it. Consumer groups of the new protocol (KIP-848) do not need it; brokers before 4.0 lack them.
"""

import logging
import threading
import time
from collections.abc import Mapping

from confluent_kafka import Consumer, ConsumerGroupState, KafkaException
from confluent_kafka.admin import AdminClient

from tapeline.schemas.topics import INSTRUMENTS

log = logging.getLogger(__name__)

BESIDE = INSTRUMENTS.name
"""The topic that is joined with: it must be there, and no role reads it as a group."""
LOOK_SECONDS = 4.0
ANSWER_SECONDS_MAX = 10
JOIN_SECONDS_MAX = 60


class Orphans:
    """Looks after the partitions of one topic, in a thread, on behalf of one member.

    name: its instance name, or its client id if it has none.
    """

    def __init__(self, properties: Mapping[str, str | int], topic: str, *, group: str, name: str) -> None:
        self._properties: dict[str, str | int | float | bool] = {**properties, "log_level": 0}
        self._topic, self._group, self._name = topic, group, name
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"orphans-{topic}", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more; does not wait for a look under way."""
        self._stopping.set()

    def _run(self) -> None:
        admin = AdminClient(self._properties)
        before = False
        while not self._stopping.wait(LOOK_SECONDS):
            try:
                found = self._there_are(admin)
            except (KafkaException, TimeoutError):  # the broker is away, or the client has lost it (`rebootstrap`)
                admin, found = AdminClient(self._properties), False
            # Twice: between the two steps of a rebalance a group rests for a moment too.
            if found and before:
                log.warning("nobody has some partitions of %s: group %s shares them anew", self._topic, self._group)
                self._share_anew()
            before = found and not before

    def _there_are(self, admin: AdminClient) -> bool:
        """Return whether the group rests, leaves partitions to nobody, and ours is the member that sees to it."""
        [asked] = admin.describe_consumer_groups([self._group], request_timeout=ANSWER_SECONDS_MAX).values()
        found = asked.result(ANSWER_SECONDS_MAX)
        if found.state != ConsumerGroupState.STABLE:
            return False
        topic = admin.list_topics(self._topic, timeout=ANSWER_SECONDS_MAX).topics[self._topic]
        assigned = [one for member in found.members if member.assignment for one in member.assignment.topic_partitions]
        owned = {one.partition for one in assigned if one.topic == self._topic}
        first = min(member.group_instance_id or member.client_id for member in found.members)
        return len(owned) < len(topic.partitions) and first == self._name

    def _share_anew(self) -> None:
        """Join the group for a moment with another topic: all members are asked again, and nothing moves for us."""
        consumer = Consumer(
            {
                **self._properties,
                "group.id": self._group,
                "client.id": f"tapeline-orphans-{self._name}",
                "partition.assignment.strategy": "cooperative-sticky",
                "enable.auto.commit": False,
            }
        )
        joined = threading.Event()
        consumer.subscribe([BESIDE], on_assign=lambda *_: joined.set())
        deadline = time.monotonic() + JOIN_SECONDS_MAX
        while not (joined.is_set() or self._stopping.is_set() or time.monotonic() > deadline):
            consumer.poll(0.2)
        consumer.close()
