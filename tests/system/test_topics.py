"""`tapeline topics` against a real broker of its own: it makes, compares and alters the topics of the table."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from tapeline.schemas import TOPICS, TapelineError, UnavailableError
from tapeline.streams import cli
from tapeline.streams.home import Home
from tapeline.streams.servers import Servers
from tapeline.streams.settings import load_settings
from tapeline.streams.topic_admin import State, TopicAdmin, TopicReport
from tapeline.streams.topics import ensure_topics

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Kafka without topics: the shared one may hold those of other tests."""
    home = Home(tmp_path_factory.mktemp("topics") / "home")
    with asyncio.Runner() as runner:
        running = Servers.start(home, database=False)
        servers = runner.run(running.__aenter__())
        assert servers.bootstrap_servers is not None
        yield servers.bootstrap_servers
        runner.run(running.__aexit__(None, None, None))


@pytest.fixture
def bootstrap(broker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The broker, as the settings name it; its topics are gone again after the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TAPELINE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TAPELINE_KAFKA__BOOTSTRAP_SERVERS", broker)
    yield broker
    admin = AdminClient({"bootstrap.servers": broker})
    for future in admin.delete_topics([name for name in admin.list_topics().topics if name in TOPICS]).values():
        future.result()
    deadline = time.monotonic() + 10
    while TOPICS.keys() & admin.list_topics(timeout=10).topics.keys():  # the broker forgets them a moment later
        assert time.monotonic() < deadline


def invoke(*args: str) -> Result:
    return CliRunner().invoke(cli.tapeline, ["topics", *args])


def rows(*args: str) -> list[dict[str, Any]]:
    result = invoke(*args, "--format", "json")
    assert result.exit_code == 0, result.exception
    return [json.loads(line) for line in result.stdout.splitlines()]


def states(reports: list[TopicReport]) -> dict[str, State]:
    return {report.topic.name: report.state for report in reports}


def test_topics_are_made_as_the_table_says_and_only_once(bootstrap: str) -> None:
    settings = load_settings()
    assert states(TopicAdmin(settings).inspect()) == dict.fromkeys(TOPICS, State.MISSING)
    assert states(ensure_topics(settings)) == dict.fromkeys(TOPICS, State.CREATED)
    again = ensure_topics(settings, bootstrap)
    assert states(again) == dict.fromkeys(TOPICS, State.OK)
    for report in again:
        assert report.partitions == report.topic.partitions
        assert report.settings == report.topic.settings()
        assert report.replication_factor == 1


def test_partitions_and_retention_follow_the_settings(bootstrap: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAPELINE_TOPICS__TICKS__PARTITIONS", "6")
    monkeypatch.setenv("TAPELINE_TOPICS__SIGNALS__RETENTION_HOURS", "2")
    reports = {report.topic.name: report for report in ensure_topics(load_settings())}
    assert {name: report.partitions for name, report in reports.items()} == {
        "raw": 4, "ticks": 6, "bars": 4, "signals": 4, "instruments": 1, "state": 6, "rejected": 4, "leases": 1,
    }  # fmt: skip
    assert reports["signals"].settings["retention.ms"] == "7200000"


def test_a_topic_that_differs_is_reported_and_left_alone(bootstrap: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ensure_topics(load_settings())
    monkeypatch.setenv("TAPELINE_TOPICS__RAW__PARTITIONS", "8")
    monkeypatch.setenv("TAPELINE_TOPICS__RAW__RETENTION_HOURS", "1")
    monkeypatch.setenv("TAPELINE_KAFKA__REPLICATION_FACTOR", "2")
    for _ in range(2):  # also the second time: nothing was changed by the first
        result = invoke("create")
        assert isinstance(result.exception, TapelineError)
        assert "raw, ticks, bars, signals, instruments, state, rejected" in str(result.exception)
        assert (
            "raw: partitions is 4, should be 8: set partitions = 4 in [topics.raw] to keep what is, or delete the topic"
            in result.output
        )
        assert "raw: retention.ms is 259200000, should be 3600000: set retention_hours in [topics.raw]" in result.output
        assert "state: partitions is 4, should be 8: it follows the larger of raw and ticks" in result.output
        assert "ticks: replication_factor is 1, should be 2: set replication_factor = 1 in [kafka]" in result.output


def test_alter_changes_settings_says_so_and_never_partitions(bootstrap: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ensure_topics(load_settings())
    monkeypatch.setenv("TAPELINE_TOPICS__RAW__RETENTION_HOURS", "1")
    result = invoke("create", "--alter")
    assert result.exit_code == 0, result.output
    assert result.output.splitlines()[0] == "raw: retention.ms was 259200000, now 3600000"
    assert states(ensure_topics(load_settings())) == dict.fromkeys(TOPICS, State.OK)
    monkeypatch.setenv("TAPELINE_TOPICS__TICKS__PARTITIONS", "2")
    result = invoke("create", "--alter", "--format", "json")
    assert "differ from the table: ticks" in str(result.exception)
    assert [json.loads(line)["partitions"] for line in result.stdout.splitlines()] == [4, 4, 4, 4, 1, 4, 4, 1]


def test_list_and_describe_show_what_is_there(bootstrap: str) -> None:
    assert [(row["name"], row["state"], row["records"]) for row in rows("list")] == [(n, "missing", 0) for n in TOPICS]
    ensure_topics(load_settings())
    producer = Producer({"bootstrap.servers": bootstrap, "log_level": 0})
    for partition in (1, 1, 3):
        producer.produce("ticks", b"x", partition=partition)
    assert producer.flush(10) == 0
    ticks = rows("list")[1]
    assert (ticks["name"], ticks["records"]) == ("ticks", 3)
    (described,) = rows("describe", "ticks")
    assert [one["next"] for one in described["offsets"]] == [0, 2, 0, 1]
    assert described["readers"] == ["logic", "bars", "persist-ticks", "subscribers"]
    table = invoke("list").output
    assert [row.split()[:4] for row in table.splitlines()[1:]][:2] == [
        ["raw", "ok", "4", "0"],
        ["ticks", "ok", "4", "3"],
    ]
    text = invoke("describe", "ticks").output
    assert "TickFrame" in text
    assert "retention.ms = 2592000000" in text
    assert "1: 0 to 2" in text


def test_the_command_ends_with_1_and_one_line_if_something_differs(bootstrap: str) -> None:
    command = [sys.executable, "-m", "tapeline.streams.cli", "topics", "create"]
    assert subprocess.run(command, capture_output=True, timeout=60).returncode == 0
    env = os.environ | {"TAPELINE_TOPICS__RAW__PARTITIONS": "3"}
    differs = subprocess.run(command, capture_output=True, text=True, timeout=60, env=env)
    assert differs.returncode == 1
    assert differs.stderr == "tapeline: left as they are, though they differ from the table: raw\n"


def test_a_broker_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tapeline.streams.topic_admin.TIMEOUT_SECONDS", 1.0)
    monkeypatch.setenv("TAPELINE_KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:1")
    with pytest.raises(UnavailableError, match=r"^Kafka at 127.0.0.1:1 does not answer \(.*Connection refused"):
        ensure_topics(load_settings())
