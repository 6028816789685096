"""A whole platform for a test: `tapeline up` in a home of its own, and the questions tests ask of it."""

import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, LiteralString

import psycopg
from psycopg.rows import dict_row

from tapeline.streams.home import Home
from tapeline.streams.workers import WorkerFiles, WorkerStats
from tests.system.broker import Broker, wait_until

__all__ = ["SHARED", "TAPELINE", "Platform", "running_platform", "wait_until"]

TAPELINE = (sys.executable, "-m", "tapeline.streams.cli")


class Platform(Broker):
    """A running `tapeline up`."""

    def __init__(self, home: Home, env: dict[str, str] | None = None) -> None:
        super().__init__(self._published_bootstrap)
        self.home = home
        self.env = dict(os.environ) | {"TAPELINE_HOME": str(home.path)} | (env or {})
        self.started: list[subprocess.Popen[bytes]] = []

    def cli(self, *args: str, env: dict[str, str] | None = None) -> str:
        """Run a command to its end and return what it printed."""
        done = subprocess.run(
            [*TAPELINE, *args], env=self.env | (env or {}), capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, f"tapeline {' '.join(args)} gave {done.returncode}:\n{done.stdout}{done.stderr}"
        return done.stdout

    def start(self, *args: str, env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start a command; it is ended with the platform at the latest."""
        process = subprocess.Popen([*TAPELINE, *args], env=self.env | (env or {}), stdout=subprocess.DEVNULL)
        self.started.append(process)
        return process

    def _published_bootstrap(self) -> str:
        addresses = self.home.addresses()
        assert addresses is not None
        assert addresses.bootstrap_servers is not None
        return addresses.bootstrap_servers

    @property
    def dsn(self) -> str:
        """The database."""
        addresses = self.home.addresses()
        assert addresses is not None
        assert addresses.dsn is not None
        return addresses.dsn

    def pid_of(self, role: str) -> int | None:
        """The process that runs a role now."""
        addresses = self.home.addresses()
        return addresses.pids.get(role) if addresses else None

    def kill(self, role: str) -> int:
        """SIGKILL a role's process, and return the pid it had."""
        pid = wait_until(lambda: self.pid_of(role), f"{role} to run")
        os.kill(pid, signal.SIGKILL)
        return int(pid)

    def wait_for_new_process(self, role: str, old: int) -> None:
        """Wait until the supervisor started the role again."""
        wait_until(lambda: self.pid_of(role) not in (None, old), f"{role} to start again")

    def workers(self) -> Iterator[WorkerStats]:
        """What each worker that runs says of itself; raises OSError if one ends meanwhile."""
        for worker in WorkerFiles(self.home).live():
            with urllib.request.urlopen(f"http://{worker.address}/status", timeout=5) as answer:
                yield WorkerStats.decode(answer.read())

    def rows(self, query: LiteralString) -> list[dict[str, Any]]:
        """Rows of the database."""
        with psycopg.connect(self.dsn, row_factory=dict_row) as connection:
            return connection.execute(query).fetchall()


@contextmanager
def running_platform(home: Home, env: dict[str, str] | None = None) -> Iterator[Platform]:
    """Run `tapeline up` while the context lasts."""
    platform = Platform(home, env)
    up = platform.start("up")
    try:
        wait_until(lambda: up.poll() is None and platform.pid_of("persist"), "`tapeline up` to run its roles")
        yield platform
    finally:
        for process in reversed(platform.started):
            process.terminate()
            process.wait(60)


SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
"""Real recordings that are not ours to ship."""
