"""Workers that come and go: without names they share the partitions, and one that has none left lives on."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from confluent_kafka import KafkaException

from tests.system.conftest import temporary_home
from tests.system.platform import TAPELINE, Platform, wait_until

pytestmark = pytest.mark.slow


@pytest.fixture
def stage() -> Iterator[Platform]:
    """Servers and topics, no roles."""
    with temporary_home() as home:
        platform = Platform(home, {"TAPELINE_WORKER__SESSION_TIMEOUT_SECONDS": "6"})
        up = platform.start("up", "--servers-only")
        try:
            wait_until(lambda: up.poll() is None and home.addresses(), "the servers")
            wait_until(lambda: "missing" not in platform.cli("topics", "list"), "the topics")
            yield platform
        finally:
            for process in reversed(platform.started):
                process.terminate()
                process.wait(60)


@contextmanager
def worker(platform: Platform, log: Path, env: dict[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """An unnamed `tapeline worker normalize`."""
    command = [*TAPELINE, "worker", "normalize"]
    with log.open("wb") as out:
        process = subprocess.Popen(command, env=platform.env | (env or {}), stdout=out, stderr=out)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


def shares(platform: Platform) -> list[int]:
    """How many partitions each member of the group has."""
    [future] = platform.admin.describe_consumer_groups(["tapeline.normalize"], request_timeout=30).values()
    try:
        return sorted(len(member.assignment.topic_partitions) for member in future.result().members)
    except KafkaException:  # a broker that has just started has no coordinator yet
        return []


def lag(platform: Platform) -> int:
    """How many records wait for the normalisers."""
    return sum(platform.ends("raw").values()) - sum(platform.committed("normalize", "raw").values())


def test_unnamed_workers_share_the_partitions_and_one_goes_on_alone(stage: Platform, tmp_path: Path) -> None:
    with worker(stage, tmp_path / "a.log") as first:
        wait_until(lambda: shares(stage) == [4], "the first worker to have all")
        with worker(stage, tmp_path / "b.log") as second:
            wait_until(lambda: shares(stage) == [2, 2], "two workers to share")
            assert first.poll() is second.poll() is None
        assert second.returncode == 0, (tmp_path / "b.log").read_text()
        wait_until(lambda: shares(stage) == [4], "the first worker to have all again")
        assert first.poll() is None
    assert first.returncode == 0, (tmp_path / "a.log").read_text()
    assert (tmp_path / "a.log").read_text().count("lost its membership") == 0, "no worker evicts another"


def test_workers_that_come_and_go_under_load_cost_nobody_a_restart(stage: Platform, tmp_path: Path) -> None:
    """All queues are full: what waits in them belongs to partitions that stay as well as to those that go."""
    small = {"TAPELINE_FRAMES__MESSAGES_MAX": "3"}
    for seed in range(4):
        stage.cli("ingest", "sim", "--seed", str(seed), "--seconds", "24", "--rate", "3000", "--quiet", env=small)
    with worker(stage, tmp_path / "a.log") as first:
        wait_until(lambda: sum(stage.committed("normalize", "raw").values()) > 0, "the first worker to get on")
        with worker(stage, tmp_path / "b.log") as second:
            wait_until(lambda: shares(stage) == [2, 2], "two workers to share")
            with worker(stage, tmp_path / "c.log") as third:
                wait_until(lambda: shares(stage) == [1, 1, 2], "three workers to share")
                assert lag(stage) > 1_000, "there is much to do when the third comes"
                assert first.poll() is second.poll() is third.poll() is None
        wait_until(lambda: shares(stage) == [4], "the first to have all again")
        wait_until(lambda: lag(stage) == 0, "all to be done")
        assert first.poll() is None
    assert first.returncode == second.returncode == third.returncode == 0
    for log in ("a.log", "b.log", "c.log"):
        assert "cannot go on" not in (tmp_path / log).read_text()


def test_a_frozen_worker_loses_its_partitions_and_takes_part_again(stage: Platform, tmp_path: Path) -> None:
    with worker(stage, tmp_path / "a.log") as first, worker(stage, tmp_path / "b.log") as second:
        wait_until(lambda: shares(stage) == [2, 2], "two workers to share")
        first.send_signal(signal.SIGSTOP)
        try:
            wait_until(lambda: shares(stage) == [4], "the other to have all")
        finally:
            first.send_signal(signal.SIGCONT)
        wait_until(lambda: shares(stage) == [2, 2], "two workers to share again")
        assert first.poll() is second.poll() is None
    assert "lost its membership" in (tmp_path / "a.log").read_text()
    assert first.returncode == second.returncode == 0


def test_a_worker_whose_work_stands_still_ends_with_the_reason(stage: Platform, tmp_path: Path) -> None:
    """The broker is frozen while a worker waits for its confirmations: no error comes, nothing moves."""
    env = {"TAPELINE_WORKER__STUCK_SECONDS": "5", "TAPELINE_WORKER__SESSION_TIMEOUT_SECONDS": "60"}
    broker = psutil.Process(wait_until(lambda: stage.pid_of("kafka"), "the broker's process"))
    log = tmp_path / "a.log"
    with worker(stage, log, env) as stuck:
        wait_until(lambda: shares(stage) == [4], "the worker to have all")
        feed = stage.start("ingest", "sim", "--rate", "2000", "--speed", "1x", "--quiet")
        wait_until(lambda: sum(stage.ends("ticks").values()) > 10, "ticks to flow")
        broker.suspend()
        try:
            assert stuck.wait(60) == 70
        finally:
            broker.resume()
        feed.terminate()
        feed.wait(60)
    assert "the watchdog ends this process: the broker does not confirm what was sent to" in log.read_text()


def test_a_worker_without_partitions_lives_on(stage: Platform, tmp_path: Path) -> None:
    logs = [tmp_path / f"{number}.log" for number in range(5)]
    with worker(stage, logs[0]), worker(stage, logs[1]), worker(stage, logs[2]), worker(stage, logs[3]):
        wait_until(lambda: shares(stage) == [1, 1, 1, 1], "four workers to share")
        with worker(stage, logs[4]) as fifth:
            wait_until(lambda: shares(stage) == [0, 1, 1, 1, 1], "a fifth worker without partitions")
            wait_until(lambda: all("Worker ready" in log.read_text() for log in logs), "all to be ready")
            assert fifth.poll() is None
    for log in logs:
        assert "CRITICAL" not in log.read_text(), log.read_text()


def test_a_topic_made_anew_is_not_taken_for_the_old_one(stage: Platform, tmp_path: Path) -> None:
    recording = Path(__file__).resolve().parents[2] / "docs/examples/btcusdt.txt"
    stage.cli("ingest", "binance", str(recording), "--quiet")
    with worker(stage, tmp_path / "before.log"):
        wait_until(lambda: stage.committed("normalize", "raw") == stage.ends("raw"), "the recording to be read")
    stage.admin.delete_topics(["raw"])["raw"].result(30)
    wait_until(lambda: "missing" in stage.cli("topics", "list"), "the topic to be gone")
    stage.cli("topics", "create")
    stage.cli("ingest", "binance", str(recording), "--quiet")
    log = tmp_path / "after.log"
    with worker(stage, log) as second:
        assert second.wait(60) != 0
    assert "its input was made anew" in log.read_text()


def test_a_worker_without_topics_says_what_to_do(stage: Platform) -> None:
    stage.admin.delete_topics(["signals"])["signals"].result(30)
    wait_until(lambda: "missing" in stage.cli("topics", "list"), "the topic to be gone")
    command = [*TAPELINE, "worker", "logic"]
    done = subprocess.run(command, env=stage.env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "topics are missing: signals; `tapeline topics create` makes them" in done.stderr


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('logic = "mine.py"', "a user's own file is refused"),
        ('logic = "none_such"', "there is no logic 'none_such'; the shipped ones are: ema_cross"),
        ('logic = "ema_cross"\nparams = { fast = 1 }', "fast must be from 2 to 200, not 1"),
    ],
)
@pytest.mark.parametrize("command", ["up", "worker", "doctor"])
def test_a_logic_that_cannot_run_is_refused_before_anything_starts(
    tmp_path: Path, line: str, message: str, command: str
) -> None:
    config = tmp_path / "tapeline.toml"
    config.write_text(f'[kafka]\nbootstrap_servers = "localhost:1"\n[logics.x]\n{line}\n')
    args = [*TAPELINE, command, *(["logic"] if command == "worker" else []), "--config", str(config)]
    with temporary_home() as home:
        done = subprocess.run(args, env=Platform(home).env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    said = " ".join((done.stdout + done.stderr).split())
    assert message in said
    assert "tapeline.toml:" in said
    assert "logics.x" in said


def test_a_worker_without_kafka_says_what_to_do(tmp_path: Path) -> None:
    with temporary_home() as home:
        done = subprocess.run(
            [sys.executable, "-m", "tapeline.streams.cli", "worker", "normalize"],
            env=Platform(home).env,
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 1
    assert "start one with `tapeline up`" in done.stderr
