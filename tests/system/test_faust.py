"""Faust's own command line, web pages and sensors work on our transport."""

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import socket

import pytest

from tapeline.schemas import Rejected
from tests.system.conftest import temporary_home
from tests.system.platform import TAPELINE, Platform, wait_until

pytestmark = pytest.mark.slow

FAUST = (sys.executable, "-m", "faust", "-A", "tests.system.faust_app")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def stage() -> Iterator[Platform]:
    """Servers and topics, no roles."""
    with temporary_home() as home:
        platform = Platform(home)
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
def running(platform: Platform, *command: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, env=platform.env, cwd=ROOT)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


def faust(platform: Platform, *args: str) -> str:
    done = subprocess.run([*FAUST, *args], env=platform.env, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def free_port() -> int:
    with socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def page(port: int, path: str) -> bytes:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return bytes(answer.read())
    except OSError:  # not yet
        return b""


def test_the_command_line_lists_agents_sends_records_and_runs_the_worker(stage: Platform, tmp_path: Path) -> None:
    sensed = tmp_path / "sensed"
    stage.env["SENSED"] = str(sensed)
    assert "normalize" in faust(stage, "agents")
    sent = json.loads(faust(stage, "send", "raw", "no frame", "--key", "k"))
    assert (sent["topic"], sent["offset"]) == ("raw", 0)
    with running(stage, *FAUST, "worker", "--without-web", "--loglevel", "error") as worker:
        wait_until(lambda: sum(stage.ends("rejected").values()) == 1, "the worker to put it aside")
        assert worker.poll() is None
    assert worker.returncode == 0
    words = ["send_initiated", "send_completed", "message_in", "stream_event_in", "message_out", "stream_event_out"]
    assert sensed.read_text().split() == words, "what was sent, and what the worker took"
    [(_, _, value)] = stage.records("rejected")
    rejected = Rejected.decode(value)
    assert (rejected.payload, rejected.origin.partition) == (b"no frame", sent["partition"])


def test_the_web_pages_answer(stage: Platform) -> None:
    port = free_port()
    with running(stage, *TAPELINE, "worker", "persist", "normalize", "--web-port", str(port), "--loglevel", "ERROR"):
        for number in (port, port + 1):
            wait_until(lambda number=number: page(number, "/"), "Faust's page")  # type: ignore[misc]
            assert json.loads(page(number, "/")) == {"status": "OK"}
            assert json.loads(page(number, "/router/")) == {}
