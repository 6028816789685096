"""The role `persist` on real servers: bad records, SIGKILL, a database that is away, and Ctrl-C while it is."""

import asyncio
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import orjson
import psycopg
import pytest
from confluent_kafka import KafkaException

from tapeline.schemas import TOPICS, RejectReason
from tapeline.schemas.topics import SIGNALS
from tapeline.streams.producer import Producer
from tapeline.streams.servers import Postgres, Servers
from tapeline.streams.settings import load_settings
from tapeline.streams.topics import ensure_topics
from tests.connectors.stores.examples import encoded, make_signal, make_signals
from tests.system.conftest import temporary_home
from tests.system.platform import TAPELINE, Platform, wait_until
from tests.system.store_checks import kept

pytestmark = pytest.mark.slow


class Stage(Platform):
    """Servers without roles; the tests start `persist` themselves, and stop the database."""

    def __init__(self, servers: Servers, runner: asyncio.Runner) -> None:
        super().__init__(servers.home, {"TAPELINE_WORKER__SNAPSHOT_SECONDS": "0.2"})
        self._runner = runner
        assert servers.postgres is not None
        self.postgres: Postgres = servers.postgres
        self.log = servers.home.path / "persist.log"

    def send(self, partition: int, *records: bytes) -> int:
        """Put records at the end of a partition of `signals`; return where it ends then."""

        async def run() -> None:
            async with Producer({"bootstrap.servers": self.bootstrap}) as producer:
                for record in records:
                    await producer.send(SIGNALS.name, record, key="test", partition=partition)
                await producer.flush()

        self._runner.run(run())
        return self.ends(SIGNALS.name)[partition]

    def has_leaders(self) -> bool:
        """Whether a broker that has just made the topics serves them."""
        with suppress(KafkaException):
            return all(self.ends(topic) for topic in TOPICS)
        return False

    def stop_database(self) -> None:
        """Stop it as an administrator does."""
        self._runner.run(self.postgres.stop())

    def start_database(self) -> None:
        """Start it again on its socket."""
        self._runner.run(self.postgres.start())

    def kept_up_to(self, partition: int) -> int:
        """The next offset that the database has."""
        with psycopg.connect(self.dsn) as connection, suppress(psycopg.errors.UndefinedTable):
            query = "SELECT next_offset FROM input_offsets WHERE role = 'persist' AND partition = %s"
            if row := connection.execute(query, [partition]).fetchone():
                return int(row[0])
        return 0

    def wait_until_kept(self, partition: int, end: int) -> None:
        """Wait until the database has everything before `end`."""
        wait_until(lambda: self.kept_up_to(partition) == end, f"signals[{partition}] to be kept up to {end}")

    @contextmanager
    def worker(self) -> Iterator[subprocess.Popen[str]]:
        """Run `tapeline worker persist`; what it logs is in `log`."""
        with open(self.log, "w", encoding="utf-8") as log:
            command = [*TAPELINE, "worker", "persist", "--instance", "persist-0"]
            process = subprocess.Popen(command, env=self.env, stdout=log, stderr=log, text=True)
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def logged(self, text: str) -> bool:
        """Whether the worker said it."""
        return text in self.log.read_text("utf-8")


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with temporary_home() as home, asyncio.Runner() as runner:
        starting = Servers.start(home)
        servers = runner.run(starting.__aenter__())
        stage = Stage(servers, runner)
        ensure_topics(load_settings(env=stage.env))
        wait_until(stage.has_leaders, "leaders of the new topics")
        yield stage
        runner.run(starting.__aexit__(None, None, None))


def test_bad_records_are_rejected_and_the_rest_is_kept(stage: Stage) -> None:
    good = make_signals(30, logic="mixed")
    records = encoded(good)
    bad = {
        0: b"\x00\xff no json",
        7: orjson.dumps(orjson.loads(records[7]) | {"side": "up"}),
        15: make_signal(15, logic="mixed", instrument="sim:\0").encode(),
        29: make_signal(29, logic="mixed", ts_event_ns=2**70).encode(),
    }
    for at, record in bad.items():
        records[at] = record
    start = stage.ends(SIGNALS.name)[0]
    with stage.worker() as worker:
        stage.wait_until_kept(0, stage.send(0, *records))
        stage.wait_until_kept(1, stage.send(1, *encoded(make_signals(5, logic="other"))))
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(timeout=20) == 0
    assert [one for one in kept(stage.dsn) if one.logic == "mixed"] == [
        one for at, one in enumerate(good) if at not in bad
    ]
    assert [one for one in kept(stage.dsn) if one.logic == "other"] == make_signals(5, logic="other")
    rejected = [one for one in stage.rejected() if one.role == "persist"]
    assert sorted(one.origin.offset - start for one in rejected) == list(bad), "each once"
    assert {(one.origin.topic, one.origin.partition) for one in rejected} == {(SIGNALS.name, 0)}
    by_offset = {one.origin.offset - start: one for one in rejected}
    assert {at: one.payload for at, one in by_offset.items()} == bad
    assert by_offset[0].reason == by_offset[7].reason == RejectReason.CORRUPT
    assert by_offset[15].reason == by_offset[29].reason == RejectReason.FAILED
    assert "side: Input should be 'buy', 'sell' or 'flat'" in by_offset[7].detail
    assert "\\u0000 cannot be converted to text" in by_offset[15].detail
    assert "out of range" in by_offset[29].detail


def test_a_database_that_is_away_costs_delay_and_nothing_else(stage: Stage) -> None:
    signals = make_signals(6000, logic="away")
    with stage.worker() as worker:
        stage.wait_until_kept(2, stage.send(2, *encoded(signals[:1000])))
        stage.stop_database()
        stage.send(2, *encoded(signals[1000:4000]))  # more than waits in memory
        wait_until(lambda: stage.logged("the database is away (try 5)"), "the worker to wait")
        assert worker.poll() is None
        stage.start_database()
        stage.wait_until_kept(2, stage.send(2, *encoded(signals[4000:])))
        assert worker.poll() is None, "it ended instead of waiting"
    assert [one for one in kept(stage.dsn) if one.logic == "away"] == signals


def waits_for(stage: Stage) -> list[str]:
    """What the roles of the workers say that they wait for."""
    with suppress(OSError):  # one has just ended
        return [role.waits_for for worker in stage.workers() for role in worker.roles]
    return []


def test_a_database_that_does_not_answer_is_waited_for_and_that_is_said(stage: Stage) -> None:
    """Somebody holds a lock: few signals come, so that they all fit in memory and reading goes on."""
    signals = make_signals(20, logic="locked")
    with stage.worker() as worker:
        stage.wait_until_kept(2, stage.send(2, *encoded(signals[:10])))
        with psycopg.connect(stage.dsn) as administrator:
            administrator.execute("LOCK TABLE signals")
            end = stage.send(2, *encoded(signals[10:]))
            wait_until(lambda: waits_for(stage) == ["the database"], "the worker to say that it waits")
            assert stage.logged("the database does not answer")
            assert worker.poll() is None
        stage.wait_until_kept(2, end)
        wait_until(lambda: waits_for(stage) == [""], "the worker to go on")
        assert worker.poll() is None
    assert [one for one in kept(stage.dsn) if one.logic == "locked"] == signals


def test_ctrl_c_ends_a_worker_that_waits_for_its_database(stage: Stage) -> None:
    signals = make_signals(3000, logic="stopped")
    with stage.worker() as worker:
        stage.wait_until_kept(3, stage.send(3, *encoded(signals[:10])))
        stage.stop_database()
        end = stage.send(3, *encoded(signals[10:]))
        wait_until(lambda: stage.logged("the database is away (try 3)"), "the worker to wait")
        worker.send_signal(signal.SIGINT)
        assert worker.wait(timeout=12) == 0
    with stage.worker() as worker:  # and one that never reached it
        wait_until(lambda: stage.logged("the database is away (try 2)"), "the worker to wait")
        wait_until(lambda: waits_for(stage) == ["the database"], "the worker to say that it waits")
        worker.send_signal(signal.SIGINT)
        assert worker.wait(timeout=12) == 0
    stage.start_database()
    with stage.worker():
        stage.wait_until_kept(3, end)
    assert [one for one in kept(stage.dsn) if one.logic == "stopped"] == signals


def test_sigkill_loses_and_doubles_nothing(stage: Stage, tmp_path: Path) -> None:
    signals = make_signals(4000, logic="killed")
    end = stage.ends(SIGNALS.name)[1] + len(signals)
    for at in range(0, 4000, 1000):
        with stage.worker() as worker:
            stage.send(1, *encoded(signals[at : at + 1000]))
            goal = end - 4000 + at + 300
            wait_until(lambda goal=goal: stage.kept_up_to(1) >= goal, "some to be kept")  # type: ignore[misc]
            worker.kill()
    with stage.worker():
        stage.wait_until_kept(1, end)
    assert [one for one in kept(stage.dsn) if one.logic == "killed"] == signals
