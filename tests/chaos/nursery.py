"""Processes of `tapeline COMMAND` that start in milliseconds: forked from one that has the code loaded and compiled.

A run starts ten or more processes, and loading Faust and compiling the logics costs each of them seconds. What runs is
`tapeline.streams.cli.main`, in a process of its own with its own environment, as after an exec.
"""

import asyncio
import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.chaos.loaded"])


class Tapeline:
    """One process after the other of one command; what they print is added to `log`."""

    def __init__(self, args: Sequence[str], log: Path, env: Mapping[str, str]) -> None:
        self.log = log
        self._given = (list(args), str(log), dict(env))
        self._process: ForkServerProcess | None = None

    @property
    def pid(self) -> int | None:
        """The process id, or None while it does not run."""
        return self._process.pid if self._process is not None and self._process.is_alive() else None

    def start(self) -> None:
        """Start it; the one before must have ended."""
        self._process = _FORKS.Process(target=_run, args=self._given, daemon=True)
        self._process.start()

    async def wait(self) -> int:
        """Wait for its end and return the exit status (minus the signal's number if a signal ended it)."""
        assert self._process is not None
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(self._process.sentinel, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(self._process.sentinel)
        self._process.join()
        assert self._process.exitcode is not None
        return self._process.exitcode

    async def kill(self) -> None:
        """SIGKILL it if it runs, and wait for its end."""
        if self._process is not None and self._process.is_alive():
            self._process.kill()
            await self.wait()


def _run(args: list[str], log: str, env: dict[str, str]) -> None:
    assert "tests.chaos.loaded" in sys.modules, "run it from the checkout"
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # it does not outlive the driver
    os.setsid()
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(out, sys.stdout.fileno())
    os.dup2(out, sys.stderr.fileno())
    os.environ.clear()
    os.environ.update(env)
    os.chdir(Path(log).parent)
    from tapeline.streams.cli import main

    main(args)
