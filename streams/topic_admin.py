"""Compare the topics of a cluster with the table in `schemas/topics.py`, create and alter them.

Called by `topics` (the command and `ensure_topics`), which explains what a difference means.
"""

from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from enum import StrEnum
from time import monotonic, sleep
from typing import Any, NoReturn

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # no __all__ there
    AdminClient,
    AlterConfigOpType,
    ClusterMetadata,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from tapeline.schemas import TOPICS, TapelineError, Topic, UnavailableError
from tapeline.schemas.topics import STATE
from tapeline.streams.settings import Settings, TopicsSettings, kafka_bootstrap

TIMEOUT_SECONDS = 10.0


class State(StrEnum):
    """How a topic on the broker compares with the table."""

    MISSING = "missing"
    CREATED = "created"
    OK = "ok"
    DIFFERS = "differs"


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing about a topic that is not as the table and the settings say."""

    what: str  # "partitions", "replication_factor", or the broker's name of a setting
    found: str
    wanted: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.what} is {self.found}, should be {self.wanted}: {self.remedy}"


@dataclass(frozen=True, slots=True)
class TopicReport:
    """What was found (and done) for one topic; partitions and replicas as on the broker, 0 if it is missing."""

    topic: Topic
    state: State
    partitions: int = 0
    replication_factor: int = 0
    settings: dict[str, str] = field(default_factory=dict)
    differences: tuple[Difference, ...] = ()


class TopicAdmin:
    """The topics of one cluster, compared with the table as the settings adjust it."""

    def __init__(self, settings: Settings, bootstrap: str | None = None) -> None:
        self.settings = settings
        self.bootstrap = bootstrap or kafka_bootstrap(settings)
        self._last_error = ""
        # What is wrong is said once, by our error, and not in librdkafka's log lines.
        properties: dict[str, Any] = {"log_level": 0, "error_cb": self._note_error}
        self._client = AdminClient(properties | settings.kafka.librdkafka(self.bootstrap))

    def inspect(self) -> list[TopicReport]:
        """Compare every topic of the table with the cluster; nothing is changed."""
        return self._compare_all(self._metadata())

    def ensure(self) -> list[TopicReport]:
        """Create the missing topics; return the comparison of all of them."""
        reports = self.inspect()
        missing = [report.topic for report in reports if report.state is State.MISSING]
        if not missing:
            return reports
        new = [
            NewTopic(
                topic.name,
                num_partitions=self.settings.topics.partitions(topic),
                replication_factor=self.settings.kafka.replication_factor,
                config=self._wanted(topic),
            )
            for topic in missing
        ]
        for name, future in self._client.create_topics(new, request_timeout=TIMEOUT_SECONDS).items():
            # Someone else may create it at the same moment; what they made is compared below.
            self._result(future, f"cannot create topic {name}", fine=KafkaError.TOPIC_ALREADY_EXISTS)
        reports = self._settled()
        return [
            replace(report, state=State.CREATED) if report.topic in missing and report.state is State.OK else report
            for report in reports
        ]

    def alter(self, report: TopicReport) -> list[Difference]:
        """Give an existing topic the table's settings (never other partitions); return what was changed."""
        changes = [one for one in report.differences if one.what in report.settings]
        if changes:
            set_ = AlterConfigOpType.SET
            entries = [ConfigEntry(one.what, one.wanted, incremental_operation=set_) for one in changes]
            resource = ConfigResource(ResourceType.TOPIC, report.topic.name, incremental_configs=entries)
            futures = self._client.incremental_alter_configs([resource], request_timeout=TIMEOUT_SECONDS)
            self._result(futures[resource], f"cannot change the settings of topic {report.topic.name}")
            wanted = {(one.what, one.wanted) for one in changes}
            for _ in _tries():
                if wanted <= self._found([report.topic.name]).get(report.topic.name, {}).items():
                    return changes
            raise UnavailableError(
                f"Kafka at {self.bootstrap}: topic {report.topic.name} does not show its new settings after "
                f"{TIMEOUT_SECONDS:.0f} s; look at the broker's log"
            )
        return changes

    def offsets(self, report: TopicReport) -> list[tuple[int, int]]:
        """Return (first offset, next offset) of each partition of the topic."""
        partitions = [TopicPartition(report.topic.name, number) for number in range(report.partitions)]
        first = self._offsets(partitions, OffsetSpec.earliest())  # type: ignore[no-untyped-call]
        next_ = self._offsets(partitions, OffsetSpec.latest())  # type: ignore[no-untyped-call]
        return list(zip(first, next_, strict=True))

    def _offsets(self, partitions: list[TopicPartition], spec: OffsetSpec) -> list[int]:
        waiting = dict.fromkeys(partitions, spec)
        found: dict[TopicPartition, int] = {}
        for _ in _tries():
            if not waiting:
                return [found[partition] for partition in partitions]
            for partition, future in self._client.list_offsets(waiting, request_timeout=TIMEOUT_SECONDS).items():
                # A leader that was just elected refuses for a moment.
                what = f"cannot read the offsets of topic {partition.topic}"
                if answer := self._result(future, what, fine=KafkaError.NOT_LEADER_FOR_PARTITION):
                    found[partition] = answer.offset
                    del waiting[partition]
        raise UnavailableError(
            f"Kafka at {self.bootstrap}: no leader for {partitions[0].topic} after {TIMEOUT_SECONDS:.0f} s; "
            "are all brokers up?"
        )

    def _wanted(self, topic: Topic) -> dict[str, str]:
        return topic.settings(self.settings.topics.retention_hours(topic))

    def _metadata(self) -> ClusterMetadata:
        try:
            return self._client.list_topics(timeout=TIMEOUT_SECONDS)
        except KafkaException as error:
            self._fail(error, "cannot list the topics")

    def _settled(self) -> list[TopicReport]:
        """Compare once every topic of the table is there with its leaders: brokers hear of a new one a moment later."""
        waiting: list[str] = []
        for _ in _tries():
            metadata = self._metadata()
            reports = self._compare_all(metadata)
            waiting = [
                report.topic.name
                for report in reports
                if report.state is State.MISSING
                or any(partition.leader < 0 for partition in metadata.topics[report.topic.name].partitions.values())
            ]
            if not waiting:
                return reports
        raise UnavailableError(
            f"Kafka at {self.bootstrap}: no leader for {', '.join(waiting)} after {TIMEOUT_SECONDS:.0f} s; "
            "are all brokers up?"
        )

    def _compare_all(self, metadata: ClusterMetadata) -> list[TopicReport]:
        found = self._found([name for name in TOPICS if name in metadata.topics])
        return [self._compare(topic, metadata, found.get(topic.name)) for topic in TOPICS.values()]

    def _found(self, names: list[str]) -> dict[str, dict[str, str]]:
        """Read all settings of the topics; one that its broker does not know (yet) is left out."""
        settings: dict[str, dict[str, str]] = {}
        if names:
            resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
            futures = self._client.describe_configs(resources, request_timeout=TIMEOUT_SECONDS)
            for resource, future in futures.items():
                what = f"cannot read the settings of topic {resource.name}"
                entries = self._result(future, what, fine=KafkaError.UNKNOWN_TOPIC_OR_PART)
                if entries is not None:
                    settings[resource.name] = {name: entry.value for name, entry in entries.items()}
        return settings

    def _compare(self, topic: Topic, metadata: ClusterMetadata, found: dict[str, str] | None) -> TopicReport:
        if found is None:
            return TopicReport(topic, State.MISSING)
        partitions = metadata.topics[topic.name].partitions
        replicas = min(len(partition.replicas) for partition in partitions.values())
        differences = []
        if len(partitions) != (wanted := self.settings.topics.partitions(topic)):
            differences.append(
                Difference("partitions", str(len(partitions)), str(wanted), _partitions_remedy(topic, len(partitions)))
            )
        if replicas != (wanted := self.settings.kafka.replication_factor):
            remedy = f"set replication_factor = {replicas} in [kafka], or reassign the replicas with Kafka's own tools"
            differences.append(Difference("replication_factor", str(replicas), str(wanted), remedy))
        settings = {name: found.get(name, "not known to this broker") for name in self._wanted(topic)}
        for name, value in self._wanted(topic).items():
            if settings[name] != value:
                differences.append(Difference(name, settings[name], value, _setting_remedy(topic, name)))
        state = State.DIFFERS if differences else State.OK
        return TopicReport(topic, state, len(partitions), replicas, settings, tuple(differences))

    def _result(self, future: "Future[Any]", what: str, fine: int | None = None) -> Any:
        """Wait for an answer; `fine` is the code of an error that is none."""
        try:
            return future.result()
        except KafkaException as error:
            if error.args[0].code() == fine:
                return None
            self._fail(error, what)

    def _fail(self, error: KafkaException, what: str) -> NoReturn:
        reason = error.args[0]
        self._client.poll(0)  # serves _note_error
        if reason.code() in (KafkaError._TRANSPORT, KafkaError._TIMED_OUT, KafkaError._ALL_BROKERS_DOWN):
            raise UnavailableError(
                f"Kafka at {self.bootstrap} does not answer ({self._last_error or reason.str()}); "
                "is it running, and do [kafka] bootstrap_servers and security_protocol fit it?"
            ) from error
        raise TapelineError(f"Kafka at {self.bootstrap}: {what}: {reason.str()}") from error

    def _note_error(self, error: KafkaError) -> None:
        if error.code() != KafkaError._ALL_BROKERS_DOWN:  # says less than the error before it
            self._last_error = error.str()


def _tries() -> Iterator[None]:
    """Give another try every 50 ms until the time is up."""
    deadline = monotonic() + TIMEOUT_SECONDS
    while monotonic() < deadline:
        yield
        sleep(0.05)


def _partitions_remedy(topic: Topic, found: int) -> str:
    if topic.name in TopicsSettings.model_fields:
        keep = f"set partitions = {found} in [topics.{topic.name}] to keep what is"
    elif topic is STATE:
        keep = "it follows the larger of raw and ticks; set their partitions in [topics] to keep what is"
    else:
        keep = "it must have that many"
    return f"{keep}, or delete the topic with its records and create it again"


def _setting_remedy(topic: Topic, name: str) -> str:
    alter = "`tapeline topics create --alter` changes it"
    if name == "retention.ms" and topic.name in TopicsSettings.model_fields:
        return f"set retention_hours in [topics.{topic.name}] to keep what is; {alter}"
    return alter
