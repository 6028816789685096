"""Partitions that nobody works on while the group rests are found, and shared out anew.

1. Orphans. Static membership and cooperative rebalancing leave a gap: a member gives partitions away and dies before it
   joins again, which is what makes the group share them out. The process that follows it under its name gets from the
   broker what it had at last, without a rebalance. So nobody is asked who takes the others, until something happens.
2. Ghosts. A broker that is killed while it counts how long a member has been silent may not go on counting when it is
   back (seen with Kafka 4.3). The member stays in the group, and its partitions wait for ever.

`group_consumer.py` runs it. Consumer groups of the new protocol (KIP-848) do not need the first; brokers before 4.0
lack them.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from confluent_kafka import Consumer, ConsumerGroupState, KafkaException, TopicPartition

from tapeline.schemas.topics import INSTRUMENTS
from tapeline.streams.groups import Offsets, partitions_of

log = logging.getLogger(__name__)

BESIDE = INSTRUMENTS.name
"""The topic that is joined with: it must be there, and no role reads it as a group."""
LOOK_SECONDS = 4.0
LOOKS_MISSED = 3
"""After so many nothing is known any more about the time between."""
ANSWER_SECONDS_MAX = 10
JOIN_SECONDS_MAX = 60
SESSION_MS = 6_000
"""How long the name of a ghost is kept: the least that brokers allow."""


class Member(NamedTuple):
    """A member of the group. instance: its name as a static member, if it is one; name: that, or its client id."""

    name: str
    instance: str | None
    partitions: frozenset[int]


class Remedy(NamedTuple):
    """Why the group must share anew, and under which static member's name it is joined for that (None: a new one)."""

    reason: str
    instance: str | None = None


class Judge:
    """Decides what one member does about the others; time is handed in.

    ghost_seconds: who has work and does none of it for so long is gone; more than a watchdog allows who does nothing.
    """

    def __init__(self, name: str, ghost_seconds: float) -> None:
        self._name = name
        self._ghost_seconds = ghost_seconds
        self._looked = 0.0
        self._orphaned = False
        self._seen: dict[str, tuple[tuple[int, ...], float]] = {}  # member id -> how far it was, and since when

    def look(
        self,
        now: float,
        members: Mapping[str, Member],
        count: int,
        done: Mapping[int, int],
        ends: Mapping[int, int],
    ) -> Remedy | None:
        """Return what to do about a group that rests.

        members: by member id; count: partitions there are; done, ends: committed and end offsets, by partition.
        """
        if now - self._looked > LOOKS_MISSED * LOOK_SECONDS:
            self.forget()
        self._looked = now
        self._seen = {key: self._progress(now, key, member, done, ends) for key, member in members.items()}
        ghosts = [
            member
            for key, member in members.items()
            if member.name != self._name and now - self._seen[key][1] > self._ghost_seconds
        ]
        orphaned = sum(len(member.partitions) for member in members.values()) < count
        before, self._orphaned = self._orphaned, orphaned
        if self._name != min((member.name for member in members.values() if member not in ghosts), default=""):
            return None  # another one sees to it
        if ghosts:
            ghost = ghosts[0]
            reason = f"{ghost.name} has {sorted(ghost.partitions)} and has done nothing for {self._ghost_seconds:.0f} s"
            remedy = Remedy(reason, ghost.instance)
        elif orphaned and before:  # twice: between the two steps of a rebalance a group rests for a moment too
            remedy = Remedy("nobody has some partitions")
        else:
            return None
        self.forget()
        return remedy

    def forget(self) -> None:
        """Begin anew: what was seen does not count any more."""
        self._orphaned = False
        self._seen = {}

    def _progress(
        self, now: float, key: str, member: Member, done: Mapping[int, int], ends: Mapping[int, int]
    ) -> tuple[tuple[int, ...], float]:
        place = tuple(done.get(one, 0) for one in sorted(member.partitions))
        place_before, since = self._seen.get(key, ((), now))
        idle = all(done.get(one, 0) >= ends.get(one, 0) for one in member.partitions)
        return place, now if idle or place != place_before else since


class Orphans:
    """Looks after the partitions of one topic, in a thread, on behalf of one member.

    name: its instance name, or its client id if it has none; waits: whether it waits for something outside, which
    others may wait for, too (no reason to take them for ghosts); on_ends is told where partitions end.
    """

    def __init__(
        self,
        properties: Mapping[str, str | int],
        topic: str,
        *,
        group: str,
        name: str,
        ghost_seconds: float,
        waits: Callable[[], bool],
        on_ends: Callable[[Mapping[int, int]], None],
    ) -> None:
        self._properties = properties
        self._topic, self._group, self._name = topic, group, name
        self._judge = Judge(name, ghost_seconds)
        self._waits = waits
        self._on_ends = on_ends
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"orphans-{topic}", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more; does not wait for a look under way."""
        self._stopping.set()

    def _run(self) -> None:
        offsets = Offsets(self._properties)
        while not self._stopping.wait(LOOK_SECONDS):
            try:
                remedy = self._look(offsets)
                if remedy is not None:
                    log.warning("%s: %s; group %s shares anew", self._topic, remedy.reason, self._group)
                    self._share_anew(remedy.instance)
            except Exception as error:
                if not isinstance(error, KafkaException | TimeoutError):  # else it is away, or `rebootstrap` is due
                    log.exception("%s: the other members cannot be looked after", self._topic)
                offsets.close()
                offsets = Offsets(self._properties)
                self._judge.forget()
        offsets.close()

    def _look(self, offsets: Offsets) -> Remedy | None:
        [asked] = offsets.admin.describe_consumer_groups([self._group], request_timeout=ANSWER_SECONDS_MAX).values()
        found = asked.result(ANSWER_SECONDS_MAX)
        if found.state != ConsumerGroupState.STABLE:
            return None
        members = {
            one.member_id: Member(
                one.group_instance_id or one.client_id, one.group_instance_id, partitions_of(one, self._topic)
            )
            for one in found.members
        }
        topic = offsets.admin.list_topics(self._topic, timeout=ANSWER_SECONDS_MAX).topics.get(self._topic)
        count = 0 if topic is None else len(topic.partitions)
        ours, others = list[TopicPartition](), list[TopicPartition]()
        for member in members.values():
            whose = ours if member.name == self._name else others
            whose += [TopicPartition(self._topic, partition) for partition in member.partitions]
        if self._waits():
            others = []
        ends = offsets.ends([*ours, *others]) if ours or others else {}
        self._on_ends(ends)
        done = offsets.committed(self._group, others) if others else {}
        return self._judge.look(time.monotonic(), members, count, done, ends)

    def _share_anew(self, instance: str | None) -> None:
        """Join the group for a moment with another topic: all members are asked again, and nothing moves for us.

        instance: in place of this static member, which the broker then forgets soon after.
        """
        static: dict[str, str | int] = (
            {"group.instance.id": instance, "session.timeout.ms": SESSION_MS} if instance else {}
        )
        consumer = Consumer(
            {
                **self._properties,
                **static,
                "log_level": 0,
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
