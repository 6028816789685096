"""Make the topics of the table in `schemas/topics.py`, and say where a broker differs from it.

`ensure_topics` is called by `tapeline up`, `demo` and `tapeline topics create`. A topic that exists with other
partitions or settings is reported and left as it is; only `create --alter` changes settings, and says so.
"""

import json
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from enum import StrEnum
from time import monotonic, sleep
from typing import Any, NoReturn

import click
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
from rich.console import Console
from rich.table import Table

from tapeline.schemas import TOPICS, TapelineError, Topic, UnavailableError
from tapeline.schemas.topics import STATE
from tapeline.streams.options import pass_settings
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


def ensure_topics(settings: Settings, bootstrap: str | None = None) -> list[TopicReport]:
    """Create what is missing at `bootstrap` (default: the settings' brokers) and compare all topics with the table.

    Doing it again changes nothing. Raises UnavailableError if no broker answers, TapelineError if it refuses.
    """
    return TopicAdmin(settings, bootstrap).ensure()


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
        reports = self._compare_all(self._settled_metadata())
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
        return changes

    def offsets(self, report: TopicReport) -> list[tuple[int, int]]:
        """Return (first offset, next offset) of each partition of the topic."""
        partitions = [TopicPartition(report.topic.name, number) for number in range(report.partitions)]
        specs = OffsetSpec.earliest(), OffsetSpec.latest()  # type: ignore[no-untyped-call]
        ends: list[list[int]] = []
        for spec in specs if partitions else ():
            futures = self._client.list_offsets(dict.fromkeys(partitions, spec), request_timeout=TIMEOUT_SECONDS)
            what = f"cannot read the offsets of topic {report.topic.name}"
            ends.append([self._result(futures[partition], what).offset for partition in partitions])
        return list(zip(*ends, strict=True))

    def _wanted(self, topic: Topic) -> dict[str, str]:
        return topic.settings(self.settings.topics.retention_hours(topic))

    def _metadata(self) -> ClusterMetadata:
        try:
            return self._client.list_topics(timeout=TIMEOUT_SECONDS)
        except KafkaException as error:
            self._fail(error, "cannot list the topics")

    def _settled_metadata(self) -> ClusterMetadata:
        """Wait until every topic of the table has its leaders: brokers hear of a new topic a moment later."""
        deadline = monotonic() + TIMEOUT_SECONDS
        while True:
            metadata = self._metadata()
            waiting = [
                name
                for name in TOPICS
                if name not in metadata.topics
                or any(partition.leader < 0 for partition in metadata.topics[name].partitions.values())
            ]
            if not waiting:
                return metadata
            if monotonic() > deadline:
                raise UnavailableError(
                    f"Kafka at {self.bootstrap}: no leader for {', '.join(waiting)} after {TIMEOUT_SECONDS:.0f} s; "
                    "are all brokers up?"
                )
            sleep(0.05)

    def _compare_all(self, metadata: ClusterMetadata) -> list[TopicReport]:
        resources = [ConfigResource(ResourceType.TOPIC, name) for name in TOPICS if name in metadata.topics]
        settings: dict[str, dict[str, str]] = {}
        if resources:
            futures = self._client.describe_configs(resources, request_timeout=TIMEOUT_SECONDS)
            for resource, future in futures.items():
                entries = self._result(future, f"cannot read the settings of topic {resource.name}")
                settings[resource.name] = {name: entry.value for name, entry in entries.items()}
        return [self._compare(topic, metadata, settings.get(topic.name)) for topic in TOPICS.values()]

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


def as_json(report: TopicReport, offsets: list[tuple[int, int]] | None = None) -> dict[str, Any]:
    """Return the row of the table and what the broker has, ready for JSON; partitions 0 = missing."""
    topic = report.topic
    row: dict[str, Any] = {
        "name": topic.name,
        "state": report.state,
        "schema": topic.schema,
        "key": topic.key,
        "partitions": report.partitions,
        "replication_factor": report.replication_factor,
        "writers": topic.writers,
        "readers": topic.readers,
        "public": topic.public,
        "description": topic.description,
        "settings": report.settings,
        "differences": [
            {"what": one.what, "found": one.found, "wanted": one.wanted, "remedy": one.remedy}
            for one in report.differences
        ],
    }
    if offsets is not None:
        row["records"] = sum(end - first for first, end in offsets)
        row["offsets"] = [{"first": first, "next": end} for first, end in offsets]
    return row


FORMAT = click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)


@click.group()
def topics() -> None:
    """Create, list and describe the Kafka topics that Tapeline uses.

    \b
    Examples:
      tapeline topics list
      tapeline topics create
      tapeline topics describe ticks --format json
    """


@topics.command()
@click.option("--alter", is_flag=True, help="Also give existing topics the settings (never the partitions) they lack.")
@FORMAT
@pass_settings
def create(settings: Settings, alter: bool, form: str) -> None:
    """Create the topics that are missing; exit 1 if an existing one differs from the table.

    \b
    Examples:
      tapeline topics create
      tapeline topics create --alter      after a change of retention_hours
    """
    admin = TopicAdmin(settings)
    reports = admin.ensure()
    changed = [(report, admin.alter(report)) for report in reports] if alter else []
    if any(changes for _, changes in changed):
        reports = admin.inspect()
    for report, changes in changed:
        for one in changes:
            click.echo(f"{report.topic.name}: {one.what} was {one.found}, now {one.wanted}", err=form == "json")
    _print(form, [as_json(report) for report in reports])
    if differ := [report.topic.name for report in reports if report.state is State.DIFFERS]:
        raise TapelineError(f"left as they are, though they differ from the table: {', '.join(differ)}")


@topics.command("list")
@FORMAT
@pass_settings
def list_(settings: Settings, form: str) -> None:
    """List the topics with the number of records they hold.

    \b
    Examples:
      tapeline topics list
      tapeline topics list --format json
    """
    admin = TopicAdmin(settings)
    _print(form, [as_json(report, admin.offsets(report)) for report in admin.inspect()])


@topics.command()
@click.argument("name", type=click.Choice(list(TOPICS)))
@FORMAT
@pass_settings
def describe(settings: Settings, name: str, form: str) -> None:
    """Show everything about one topic: who writes and reads it, its settings, the offsets of its partitions.

    \b
    Examples:
      tapeline topics describe signals
    """
    admin = TopicAdmin(settings)
    report = next(report for report in admin.inspect() if report.topic.name == name)
    row = as_json(report, admin.offsets(report))
    if form == "json":
        click.echo(json.dumps(row, indent=2))
        return
    table = Table(show_header=False, box=None)
    for key, value in row.items():
        match value:
            case dict():
                value = "\n".join(f"{name} = {text}" for name, text in value.items())
            case list() if key == "offsets":
                value = "\n".join(f"{number}: {one['first']} to {one['next']}" for number, one in enumerate(value))
            case list():
                value = "\n".join(map(str, report.differences))
            case tuple():
                value = ", ".join(value)
        table.add_row(key, str(value))
    Console().print(table, markup=False)


def _print(form: str, rows: list[dict[str, Any]]) -> None:
    if form == "json":
        for row in rows:
            click.echo(json.dumps(row))
        return
    table = Table("topic", "state", "partitions", "records", "kept", "schema", box=None)
    for row in rows:
        table.add_row(
            row["name"],
            row["state"],
            str(row["partitions"] or "-"),
            str(row.get("records", "-")),
            _retention(row["settings"]),
            row["schema"],
        )
    Console().print(table)
    for row in rows:
        for one in row["differences"]:
            click.echo(f"{row['name']}: {one['what']} is {one['found']}, should be {one['wanted']}: {one['remedy']}")


def _retention(settings: dict[str, str]) -> str:
    if not settings:
        return "-"
    if settings["cleanup.policy"] == "compact":
        return "last of each key"
    hours = int(settings["retention.ms"]) / 3_600_000
    return "for ever" if hours < 0 else f"{hours:g} h"
