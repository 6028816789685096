"""The command, against workers that serve hand-made numbers: tables, JSON, exit status, who does not answer."""

import json
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from tapeline.schemas import Lane, UnavailableError
from tapeline.streams import groups
from tapeline.streams import status as module
from tapeline.streams.settings import load_settings
from tapeline.streams.stats import RoleStats
from tapeline.streams.status import EXIT_UNHEALTHY, status
from tapeline.streams.status_report import Heard, Reporter
from tapeline.streams.status_view import LANES_MAX, console, view
from tapeline.streams.telemetry import serving
from tests.streams.numbers import a_busy_worker, a_role


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own without Kafka, and no waiting between two looks."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TAPELINE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(module, "BETWEEN_SECONDS", 0.01)
    return tmp_path / "home"


def run(*args: str) -> Result:
    return CliRunner().invoke(status, args, standalone_mode=False)


def serve(stack: ExitStack, home: Path, name: str, *roles: RoleStats) -> str:
    settings = load_settings(env={"TAPELINE_HOME": str(home)})
    return stack.enter_context(serving(settings, roles, name))


def test_nothing_runs(home: Path) -> None:
    result = run()
    assert isinstance(result.exception, UnavailableError)
    assert str(result.exception).startswith("Nothing runs here")
    assert "tapeline up" in str(result.exception)


@pytest.mark.slow
def test_nothing_runs_and_the_brokers_do_not_answer(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "TIMEOUT_SECONDS", 0.5)
    monkeypatch.setenv("TAPELINE_KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:1")
    error = run().exception
    assert isinstance(error, UnavailableError)
    assert "Nothing runs here" in str(error)
    assert "Kafka at 127.0.0.1:1 does not answer" in str(error)


@pytest.mark.parametrize("address", ["x", ":9", "host:", "host:http"])
def test_an_address_that_is_none_is_wrong_usage(home: Path, address: str) -> None:
    error = run("--worker", address).exception
    assert isinstance(error, click.BadParameter)
    assert "HOST:PORT" in error.format_message()


@pytest.mark.slow
def test_workers_of_this_home_are_found_and_shown(home: Path) -> None:
    with ExitStack() as stack:
        address = serve(stack, home, "by-hand", a_role(lags=(0, 0)), a_role("persist", "signals", lags=(12345,)))
        result = run()
    lines = [line.split() for line in result.output.splitlines()]
    assert lines[0] == ["role", "partition", "worker", "lag", "items/s", "snapshot", "duplicates", "state"]
    assert lines[1][:6] == ["logic", "ticks", "0", "by-hand", "0", "0"]
    assert lines[3][:5] == ["persist", "signals", "0", "by-hand", "12,345"]
    assert any(line[:2] == ["by-hand", "logic"] and address in line for line in lines)
    # Neither a broker nor moving records: that is what is wrong here, and it says so.
    assert "! Nothing" not in result.output
    assert "! No Kafka here" in result.output
    assert "! persist does not move though records wait in signals 0" in result.output
    assert result.return_value == EXIT_UNHEALTHY


@pytest.mark.slow
def test_json_has_every_number(home: Path) -> None:
    worker = a_busy_worker()
    for role in worker.roles:  # nothing waits, so that it need not look on
        for one in role.partitions.values():
            one.end_offset = one.next_offset
    with ExitStack() as stack:
        serve(stack, home, "logic-0", *worker.roles)
        result = run("--json")
    report = json.loads(result.output)
    assert report["healthy"] is False
    first = report["partitions"][0]
    assert (first["role"], first["worker"], first["lag"], first["state"]) == ("logic", "logic-0", 0, "ok")
    assert first["duplicates"] == {"2-0": 5, "3-0": 1}
    assert first["items_per_second"] == 0
    assert report["roles"][0]["reason"] == worker.roles[0].watchdog_reason
    assert any("logic in logic-0 is suspect" in problem for problem in report["problems"])


@pytest.mark.slow
def test_a_worker_elsewhere_is_asked_by_its_address(home: Path, tmp_path: Path) -> None:
    with ExitStack() as stack:
        address = serve(stack, tmp_path / "another home", "far", a_role(lags=(0,)))
        result = run("--worker", address)
    assert "far" in result.output


@pytest.mark.slow
def test_a_worker_that_hangs_or_is_none_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER_SECONDS_MAX", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent, socket.create_server(("127.0.0.1", 0)) as closed:
        hangs, gone = (f"127.0.0.1:{one.getsockname()[1]}" for one in (silent, closed))
        closed.close()
        result = run("--worker", hangs, "--worker", gone)
    assert f"! the worker at {hangs} does not answer: timed out" in result.output
    assert f"! the worker at {gone} does not answer" in result.output
    assert result.return_value == EXIT_UNHEALTHY


@pytest.mark.slow
def test_watching_a_pipe_gives_one_json_line_a_report(home: Path) -> None:
    with ExitStack() as stack:
        serve(stack, home, "logic-0", a_role(lags=(0,)))
        command = [sys.executable, "-m", "tapeline.streams.cli", "status", "--watch", "--json"]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as watching:
            assert watching.stdout is not None
            reports = [json.loads(watching.stdout.readline()) for _ in range(2)]
            watching.terminate()
    rates = [report["partitions"][0]["items_per_second"] for report in reports]
    assert rates == [None, 0]


def test_nothing_is_cut_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    role = a_role(lags=(7,))
    for raw in range(LANES_MAX + 2):
        role.partitions[0].skipped(Lane(raw, 0).pack(), 1_000_000)
    worker = a_busy_worker()
    worker.roles, worker.worker = [role], "a-worker-with-a-name-as-long-as-kubernetes-gives-them-5d9f8"
    console().print(view(Reporter().report(Heard({"[2001:db8::1]:9464": worker}))))
    output = capsys.readouterr().out
    assert "0-0: 1,000,000, 1-0: 1,000,000, 2-0: 1,000,000, 2 lanes more" in output
    assert output.count(worker.worker) == 2
    assert "\x1b" not in output
