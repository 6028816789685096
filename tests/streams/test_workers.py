"""Where workers are found: their files, whom they belong to, and what they say."""

import json
import os
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from tapeline.schemas import TapelineError
from tapeline.streams.home import Home
from tapeline.streams.workers import Published, WorkerFiles, WorkerStats
from tests.streams.numbers import a_busy_worker


@pytest.fixture
def files(tmp_path: Path) -> WorkerFiles:
    return WorkerFiles(Home(tmp_path / "home"))


def test_a_worker_is_found_while_it_publishes(files: WorkerFiles) -> None:
    assert files.live() == []
    with files.publish("logic-0", "127.0.0.1:9"):
        assert files.live() == [Published("logic-0", os.getpid(), "127.0.0.1:9")]
        [file] = files.folder.iterdir()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(files.folder.iterdir()) == []


def test_the_file_is_what_prometheus_looks_for(files: WorkerFiles) -> None:
    # https://prometheus.io/docs/prometheus/latest/configuration/configuration/#file_sd_config
    with files.publish("logic-0", "127.0.0.1:9"):
        [target] = json.loads(next(files.folder.glob("*.json")).read_text())
    assert target["targets"] == ["127.0.0.1:9"]
    assert target["labels"].pop("instance") == "logic-0"
    assert all(name.startswith("__") and isinstance(value, str) for name, value in target["labels"].items())


@pytest.mark.slow
def test_a_killed_worker_is_not_found_and_its_file_goes_when_the_next_one_starts(files: WorkerFiles) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        theirs = WorkerFiles(files.home, psutil.Process(other.pid))
        publishing = theirs.publish("normalize-0", "127.0.0.1:8")
        publishing.__enter__()
        assert [one.worker for one in files.live()] == ["normalize-0"]
        other.kill()
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)  # ended, and a zombie: nobody asked how it ended
        assert files.live() == []
    assert files.live() == []
    assert len(list(files.folder.iterdir())) == 1
    with files.publish("logic-0", "127.0.0.1:9"):
        assert [file.name for file in files.folder.iterdir()] == [f"{os.getpid()}.json"]


def test_a_process_that_has_the_id_of_a_dead_worker_is_not_taken_for_it(files: WorkerFiles) -> None:
    with files.publish("logic-0", "127.0.0.1:9"):
        file = next(files.folder.glob("*.json"))
        [target] = json.loads(file.read_text())
        target["labels"]["__started"] = repr(psutil.Process().create_time() - 100)
        file.write_text(json.dumps([target]))
        assert files.live() == []


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "[{}]", '[{"targets": [], "labels": {"instance": "x", "__pid": "1"}}]']
)
def test_a_damaged_file_is_passed_over(files: WorkerFiles, content: str) -> None:
    files.folder.mkdir(parents=True)
    (files.folder / "7.json").write_text(content)
    assert files.live() == []


def test_a_home_that_cannot_be_written_is_no_reason_to_stop(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    with WorkerFiles(Home(tmp_path / "file" / "home")).publish("logic-0", "127.0.0.1:9"):
        pass
    assert "--worker 127.0.0.1:9" in caplog.text


def test_what_a_worker_says_is_read_back_whole() -> None:
    said = replace(a_busy_worker(), time_ns=5)
    said.roles[0].refresh = lambda: None
    heard = WorkerStats.decode(said.encode())
    said.roles[0].refresh = None
    assert heard == said


def test_fields_of_a_newer_worker_are_passed_over() -> None:
    said = json.loads(a_busy_worker().encode())
    said["news"] = said["roles"][0]["news"] = 1
    assert WorkerStats.decode(json.dumps(said).encode()) == a_busy_worker()


@pytest.mark.parametrize("text", [b"", b"{}", b"<html>", b'{"worker": 1}'])
def test_what_is_no_worker_is_said_so(text: bytes) -> None:
    with pytest.raises(TapelineError, match="no Tapeline worker"):
        WorkerStats.decode(text)


def test_a_refresh_that_fails_leaves_the_old_numbers(caplog: pytest.LogCaptureFixture) -> None:
    worker = a_busy_worker()
    calls = []
    worker.roles[0].refresh = lambda: calls.append(1 / 0)
    worker.roles[1].refresh = lambda: calls.append(1)
    worker.refresh()
    assert calls == [1]
    assert "logic could not be refreshed" in caplog.text
