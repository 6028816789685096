"""The worker processes of a run, each started again whenever it ends, as a supervisor would do it, only faster."""

import asyncio
import os
import signal
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from tapeline.streams.servers import Process

RESTART_SECONDS = 0.2
"""Between the end of a worker and its next start."""
STOP_SECONDS_MAX = 40.0
"""A worker that was asked to end must have done so; it may wait for an absent broker meanwhile."""


class Worker:
    """`tapeline worker ROLE --instance NAME` in its current process."""

    def __init__(self, role: str, name: str, folder: Path, env: Mapping[str, str], file: str | None = None) -> None:
        """`file` is the name of its log, by default its own."""
        self.role = role
        self.name = name
        self.exits: list[int] = []
        self.starts = 0
        self._wanted = True
        file = file or name
        command = [sys.executable, "-m", "tapeline.streams.cli", "worker", role, "--instance", name]
        self._process = Process(
            name, command, log=folder / f"{file}.log", pid_file=folder / f"{file}.pid", env=env, cwd=folder
        )
        self._kept = asyncio.create_task(self._keep(), name=f"keep {file}")

    async def pid(self) -> int:
        """Return the process that runs now; waits while it is being started again."""
        while (pid := self._process.pid) is None:  # noqa: ASYNC110 - a poll is simpler than an event a start
            await asyncio.sleep(0.02)
        return pid

    def runs(self, pid: int) -> bool:
        """Whether this process is still the current one."""
        return self._process.pid == pid

    async def retire(self, seconds: float) -> bool:
        """Do not start it again; return whether it ends by itself within so many seconds."""
        self._wanted = False
        done, _ = await asyncio.wait([self._kept], timeout=seconds)
        return bool(done)

    async def end(self) -> None:
        """SIGKILL, for good."""
        self._wanted = False
        self._kept.cancel()
        await asyncio.wait([self._kept])
        await self._process.kill()

    async def _keep(self) -> None:
        while True:
            await self._process.start()
            self.starts += 1
            self.exits.append(await self._process.wait())
            if not self._wanted:
                return
            await asyncio.sleep(RESTART_SECONDS)


class Crew:
    """All workers of a run; an async context manager that ends them."""

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        self._folder = folder
        self._env = env
        self._workers: dict[str, Worker] = {}  # by name, the one that is started again
        self._former: list[Worker] = []
        self.signals: Counter[str] = Counter()
        """How often each signal was sent."""
        self.faults: list[str] = []
        """What the processes did not do that they must do."""

    async def __aenter__(self) -> "Crew":
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(worker.end() for worker in self._all()))

    def hire(self, role: str, number: int) -> None:
        """Add a worker."""
        name = f"{role}-{number}"
        self._workers[name] = Worker(role, name, self._folder, self._env)

    async def kill(self, role: str, number: int) -> None:
        """SIGKILL."""
        self._send(signal.SIGKILL, await self._workers[f"{role}-{number}"].pid())

    async def term(self, role: str, number: int) -> None:
        """SIGTERM, and it is started again."""
        worker = self._workers[f"{role}-{number}"]
        pid = await worker.pid()
        self._send(signal.SIGTERM, pid)
        await self._must_end(worker, pid, "after SIGTERM")

    async def freeze(self, role: str, number: int, seconds: float) -> None:
        """SIGSTOP, and SIGCONT later."""
        worker = self._workers[f"{role}-{number}"]
        pid = await worker.pid()
        self._send(signal.SIGSTOP, pid)
        await asyncio.sleep(seconds)
        if worker.runs(pid):
            self._send(signal.SIGCONT, pid)

    async def twin(self, role: str, number: int, seconds: float) -> None:
        """SIGSTOP, start another one under the same name, SIGCONT later: the broker lets in only one of them."""
        name = f"{role}-{number}"
        old = self._workers[name]
        pid = await old.pid()
        self._send(signal.SIGSTOP, pid)
        retired = asyncio.create_task(old.retire(seconds + STOP_SECONDS_MAX))
        self._former.append(old)
        self._workers[name] = Worker(role, name, self._folder, self._env, f"{name}-twin-{len(self._former)}")
        await asyncio.sleep(seconds)
        if old.runs(pid):
            self._send(signal.SIGCONT, pid)
        if not await retired:
            self.faults.append(f"{name} lives on {STOP_SECONDS_MAX:.0f} s after another one took its name")

    async def scale(self, role: str, seconds: float) -> None:
        """Add two workers, and take them away later."""
        extra = [f"{role}-{number}" for number in range(len(self._of(role)), len(self._of(role)) + 2)]
        for name in extra:
            self._workers[name] = Worker(role, name, self._folder, self._env)
        await asyncio.sleep(seconds)
        await asyncio.gather(*(self._dismiss(self._workers[name]) for name in extra))

    @property
    def restarts(self) -> int:
        """How often a worker was started again."""
        return sum(max(0, worker.starts - 1) for worker in self._all())

    @property
    def exits(self) -> Counter[int]:
        """How often a process ended with each status; minus a number: by that signal."""
        return sum((Counter(worker.exits) for worker in self._all()), Counter[int]())

    async def _dismiss(self, worker: Worker) -> None:
        pid = await worker.pid()
        ended = asyncio.create_task(worker.retire(STOP_SECONDS_MAX))
        self._send(signal.SIGTERM, pid)
        if not await ended:
            self.faults.append(f"{worker.name} did not end within {STOP_SECONDS_MAX:.0f} s after SIGTERM")
            await worker.end()

    async def _must_end(self, worker: Worker, pid: int, when: str) -> None:
        try:
            async with asyncio.timeout(STOP_SECONDS_MAX):
                while worker.runs(pid):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        except TimeoutError:
            self.faults.append(f"{worker.name} did not end within {STOP_SECONDS_MAX:.0f} s {when}")
            self._send(signal.SIGKILL, pid)

    def _of(self, role: str) -> list[Worker]:
        return [worker for worker in self._workers.values() if worker.role == role]

    def _all(self) -> list[Worker]:
        return [*self._workers.values(), *self._former]

    def _send(self, number: signal.Signals, pid: int) -> None:
        self.signals[number.name] += 1
        os.kill(pid, number)  # ours and not waited for yet, so the number cannot be another's
