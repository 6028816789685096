"""Child processes and who keeps them running, with real processes that cost nothing."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapeline.schemas.errors import TapelineError
from tapeline.streams.servers.process import Process, ProcessError, end_leftover, log_tail, rotate
from tapeline.streams.supervisor import (
    BACKOFF_FIRST_S,
    BACKOFF_MAX_S,
    HEALTHY_S,
    ChildState,
    Phase,
    Supervisor,
    next_delay_s,
)

STARTS_A_SLEEP = """
import asyncio, sys
from pathlib import Path
from tapeline.streams.servers.process import Process
async def main():
    folder = Path(sys.argv[1])
    child = Process("sleep", ["/bin/sleep", "600"], log=folder / "log", pid_file=folder / "pid")
    await child.start()
    print(child.pid, flush=True)
    sys.stdin.read()
asyncio.run(main())
"""


def shell(folder: Path, script: str, name: str = "child") -> Process:
    """Make a process that runs a shell script."""
    return Process(name, ["/bin/sh", "-c", script], log=folder / f"{name}.log", pid_file=folder / f"{name}.pid")


async def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 (the other side is a process or the supervisor)
            await asyncio.sleep(0.01)


def gone(pid: int) -> bool:
    """Say whether a process has ended (a zombie has)."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.parametrize(
    ("last_s", "ran_s", "expected_s"),
    [(0, 0, 0.5), (0.5, 0, 1), (1, 29, 2), (8, 0, 15), (15, 0, 15), (15, 30, 0.5), (0, 100, 0.5)],
)
def test_back_off_table(last_s: float, ran_s: float, expected_s: float) -> None:
    assert next_delay_s(last_s, ran_s) == expected_s


@given(st.lists(st.floats(0, 2 * HEALTHY_S), max_size=20))
def test_back_off_stays_in_its_bounds_and_grows_until_healthy(runs_s: list[float]) -> None:
    delay_s = 0.0
    for ran_s in runs_s:
        before_s, delay_s = delay_s, next_delay_s(delay_s, ran_s)
        assert BACKOFF_FIRST_S <= delay_s <= BACKOFF_MAX_S
        assert delay_s >= before_s or ran_s >= HEALTHY_S


def test_a_process_runs_logs_and_ends(tmp_path: Path) -> None:
    async def run() -> None:
        child = shell(tmp_path, "echo out; echo err >&2; exit 3")
        assert child.pid is None
        await child.start()
        assert await child.wait() == 3
        assert await child.wait() == 3, "waiting again gives the same"
        assert child.pid is None
        assert log_tail(child.log) == "out\nerr"
        await child.stop()
        await child.kill()

    asyncio.run(run())


def test_waiting_for_what_was_not_started_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ProcessError, match="child was not started"):
        asyncio.run(shell(tmp_path, "").wait())


def test_a_program_that_is_not_there_is_named_in_the_log(tmp_path: Path) -> None:
    async def run() -> None:
        child = Process("child", ["/no/such/program"], log=tmp_path / "log", pid_file=tmp_path / "pid")
        await child.start()
        assert await child.wait() == 1
        assert "cannot run /no/such/program: No such file" in log_tail(child.log)

    asyncio.run(run())


@pytest.mark.slow
def test_who_does_not_listen_is_killed_with_all_its_processes(tmp_path: Path) -> None:
    async def run() -> None:
        child = shell(tmp_path, "trap '' TERM; sleep 600 & echo $!; while :; do wait; done")
        await child.start()
        await until(lambda: log_tail(child.log))
        grandchild = int(log_tail(child.log))
        await child.stop(deadline_s=0.1)
        assert await child.wait() == -signal.SIGKILL
        await until(lambda: gone(grandchild))

    asyncio.run(run())


@pytest.mark.slow
def test_a_child_dies_with_its_parent(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STARTS_A_SLEEP, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert not gone(child)
        parent.kill()
    asyncio.run(until(lambda: gone(child)))


@pytest.mark.parametrize("same", [True, False])
def test_a_leftover_is_ended_but_not_a_stranger_with_its_number(tmp_path: Path, same: bool) -> None:
    with subprocess.Popen(["/bin/sleep", "600"]) as other:
        started = psutil.Process(other.pid).create_time()
        (tmp_path / "pid").write_text(json.dumps({"pid": other.pid, "started": started if same else started - 1}))
        asyncio.run(end_leftover(tmp_path / "pid", signal.SIGTERM))
        assert gone(other.pid) is same
        assert not (tmp_path / "pid").exists()
        other.kill()


@pytest.mark.parametrize("text", ["", "{", "{}", '{"pid": 999999999, "started": 1}'])
def test_a_damaged_or_stale_pid_file_is_passed_over(tmp_path: Path, text: str) -> None:
    (tmp_path / "pid").write_text(text)
    asyncio.run(end_leftover(tmp_path / "pid", signal.SIGTERM))
    assert not (tmp_path / "pid").exists()


def test_a_large_log_moves_aside(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    rotate(log)
    log.write_text("12345")
    rotate(log, bytes_max=5)
    assert log.read_text() == "12345"
    rotate(log, bytes_max=4)
    assert log.read_text() == ""
    assert (tmp_path / "x.log.1").read_text() == "12345"


@pytest.mark.slow
def test_who_dies_is_started_again_and_it_is_said(tmp_path: Path) -> None:
    async def run() -> list[ChildState]:
        seen: list[ChildState] = []
        async with Supervisor(seen.append) as supervisor:
            await supervisor.start(shell(tmp_path, "exec sleep 600"))
            first = supervisor.states[0].pid
            assert first is not None
            os.kill(first, signal.SIGKILL)
            await until(lambda: supervisor.states[0].restarts == 1 and supervisor.states[0].phase is Phase.RUNNING)
            assert supervisor.states[0].pid not in (None, first)
        return seen

    seen = asyncio.run(run())
    phases = [Phase.STARTING, Phase.RUNNING, Phase.WAITING, Phase.STARTING, Phase.RUNNING, Phase.STOPPED]
    assert [one.phase for one in seen] == phases
    assert "child ended (signal 9); it starts again in 0.5 s" in seen[2].message
    assert str(tmp_path / "child.log") in seen[2].message
    assert seen[-1].last_exit == -signal.SIGKILL
    assert seen[-1].pid is None


@pytest.mark.slow
def test_stopped_children_stay_stopped_until_resumed(tmp_path: Path) -> None:
    async def run() -> None:
        async with Supervisor() as supervisor:
            await supervisor.start(shell(tmp_path, "exec sleep 600"))
            await supervisor.stop("child")
            assert supervisor.states[0].phase is Phase.STOPPED
            await supervisor.resume("child")
            pid = supervisor.states[0].pid
            assert pid is not None
            await supervisor.resume("child")
            assert supervisor.states[0].pid == pid, "resuming what runs changes nothing"
            with pytest.raises(TapelineError, match="no process 'other' is supervised; there are child"):
                await supervisor.stop("other")
        assert gone(pid)

    asyncio.run(run())


def test_groups_stop_in_reverse_order(tmp_path: Path) -> None:
    async def run() -> list[str]:
        stopped: list[str] = []

        def note(state: ChildState) -> None:
            if state.phase is Phase.STOPPED:
                stopped.append(state.name)

        async with Supervisor(note) as supervisor:
            await supervisor.start(shell(tmp_path, "exec sleep 600", "server"))
            await supervisor.start(*(shell(tmp_path, "exec sleep 600", name) for name in ("a", "b")))
        return stopped

    stopped = asyncio.run(run())
    assert set(stopped[:2]) == {"a", "b"}
    assert stopped[2:] == ["server"]


class Reluctant:
    """A child that fails to start again until it was asked three times."""

    name = "reluctant"

    def __init__(self, log: Path) -> None:
        self.log = log
        self.pid: int | None = None
        self.starts = 0
        self.ended = asyncio.Event()

    async def start(self) -> None:
        self.starts += 1
        if self.starts in (2, 3):
            raise ProcessError("not yet")
        self.pid = self.starts

    async def wait(self) -> int:
        await self.ended.wait()
        self.ended.clear()
        self.pid = None
        return 1

    async def stop(self, deadline_s: float = 1.0) -> None:
        self.pid = None


@pytest.mark.slow
def test_starts_that_fail_are_tried_again_with_longer_delays(tmp_path: Path) -> None:
    async def run() -> list[ChildState]:
        seen: list[ChildState] = []
        async with Supervisor(seen.append) as supervisor:
            child = Reluctant(tmp_path / "log")
            await supervisor.start(child)
            child.ended.set()
            await until(lambda: child.starts == 4 and supervisor.states[0].phase is Phase.RUNNING)
        return seen

    waits = [one.message for one in asyncio.run(run()) if one.phase is Phase.WAITING]
    assert [re.findall(r"in ([\d.]+) s", text)[0] for text in waits] == ["0.5", "1", "2"]
    assert waits[1].endswith("not yet")


def test_a_first_start_that_fails_is_the_callers_to_handle(tmp_path: Path) -> None:
    async def run() -> None:
        async with Supervisor() as supervisor:
            child = Reluctant(tmp_path / "log")
            child.starts = 1
            await supervisor.start(child)

    with pytest.raises(ProcessError, match="not yet"):
        asyncio.run(run())
