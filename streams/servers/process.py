"""One child process that cannot outlive us: start, wait, stop, log file, and no leftover of an earlier run.

The servers and the supervisor's roles are such processes. Children get a session of their own, so that Ctrl-C
in a terminal reaches only us and we stop them in order.
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from tapeline.schemas.errors import TapelineError

_GUARD = Path(__file__).with_name("_guard.py")
_LOG_BYTES_MAX = 10_000_000


class ProcessError(TapelineError):
    """A child process could not be started or ended by itself; the text holds the last lines of its log."""


@dataclass(frozen=True, slots=True)
class Account:
    """An operating system account, by its numbers."""

    uid: int
    gid: int


class Process:
    """A child process with a log file. It dies with the thread that started it, so start it from one that stays."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        pid_file: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        account: Account | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        death_signal: signal.Signals = signal.SIGKILL,
    ) -> None:
        """Describe the process; nothing runs yet.

        `stop_signal` asks it to end, `death_signal` is what the kernel sends it when we die. `pid_file` outlives a
        crash of ours, so that the next start can end what this one left behind.
        """
        self.name = name
        self.command = list(command)
        self.log = log
        self._pid_file = pid_file
        self._env = None if env is None else dict(env)
        self._cwd = cwd
        self._account = account
        self._stop_signal = stop_signal
        self._death_signal = death_signal
        self._popen: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process id, or None while it does not run."""
        return self._popen.pid if self._popen is not None and self._popen.poll() is None else None

    async def start(self) -> None:
        """End what an earlier run left, then start the process; returns as soon as it runs."""
        await end_leftover(self._pid_file, self._death_signal)
        self._spawn()

    def _spawn(self) -> None:
        rotate(self.log)
        account = self._account or Account(-1, -1)
        guard = (os.getpid(), int(self._death_signal), account.uid, account.gid)
        with open(self.log, "ab") as log:
            self._popen = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_GUARD), *map(str, guard), *self.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._env,
                cwd=self._cwd,
                start_new_session=True,
            )
        started = psutil.Process(self._popen.pid).create_time()
        self._pid_file.write_text(json.dumps({"pid": self._popen.pid, "started": started}))

    async def wait(self) -> int:
        """Wait for its end and return the exit status (minus the signal's number if a signal ended it)."""
        if self._popen is None:
            raise ProcessError(f"{self.name} was not started")
        if self._popen.poll() is None:
            ended = asyncio.Event()
            watch = os.pidfd_open(self._popen.pid)
            try:
                asyncio.get_running_loop().add_reader(watch, ended.set)
                await ended.wait()
            finally:
                asyncio.get_running_loop().remove_reader(watch)
                os.close(watch)
        status = self._popen.wait()
        self._pid_file.unlink(missing_ok=True)
        return status

    async def stop(self, deadline_s: float = 20.0) -> None:
        """Ask it to end and wait; after `deadline_s` seconds kill it."""
        if self._popen is None:
            return
        self._popen.send_signal(self._stop_signal)  # does nothing once it has ended
        try:
            await asyncio.wait_for(self.wait(), deadline_s)
        except TimeoutError:
            await self.kill()

    async def kill(self) -> None:
        """Kill it (SIGKILL) with all its descendants and wait for its end; does nothing when it was not started."""
        if self.pid is not None:
            # Descendants may have sessions of their own, as PostgreSQL's have: signalling the group misses them.
            with contextlib.suppress(psutil.NoSuchProcess):
                leader = psutil.Process(self.pid)
                for one in (leader, *leader.children(recursive=True)):
                    with contextlib.suppress(psutil.NoSuchProcess):
                        one.kill()
        if self._popen is not None:
            await self.wait()


def log_tail(log: Path, lines: int = 8) -> str:
    """Return the last lines of a log for an error message, without Java's stack frames."""
    with contextlib.suppress(OSError), open(log, "rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 8192))
        text = file.read().decode(errors="replace").splitlines()
        return "\n".join([line for line in text if not line.startswith("\tat ")][-lines:])
    return ""


async def end_leftover(pid_file: Path, number: signal.Signals, deadline_s: float = 10.0) -> None:
    """End the process that `pid_file` names if it still runs: first with signal `number`, later with SIGKILL."""
    process = _leftover(pid_file)
    with contextlib.suppress(psutil.NoSuchProcess):
        if process is not None:
            process.send_signal(number)
            loop = asyncio.get_running_loop()
            until = loop.time() + deadline_s
            while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                if loop.time() > until:
                    process.kill()
                await asyncio.sleep(0.02)
    pid_file.unlink(missing_ok=True)  # noqa: ASYNC240


def _leftover(pid_file: Path) -> psutil.Process | None:
    """Find the process; its number alone may by now belong to a stranger, so the time of its start must match."""
    try:
        left = json.loads(pid_file.read_text())
        process = psutil.Process(left["pid"])
        return process if process.create_time() == left["started"] else None
    except (FileNotFoundError, ValueError, KeyError, psutil.NoSuchProcess):
        return None


def rotate(log: Path, bytes_max: int = _LOG_BYTES_MAX) -> None:
    """Move what a log holds to `NAME.1` once it is larger than `bytes_max`.

    Copy and truncate, because the process keeps the file open (for appending) and cannot be told to reopen it;
    lines written between the two steps are lost.
    """
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > bytes_max:
            shutil.copyfile(log, log.with_name(log.name + ".1"))
            os.truncate(log, 0)
