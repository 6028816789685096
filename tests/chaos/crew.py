"""The worker processes of a run, each started again whenever it ends, as a supervisor would do it, only faster."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from tests.chaos.nursery import Tapeline
from tests.chaos.scenario import DATABASE_SECONDS

READY_SECONDS_MAX = 120.0
RESTART_SECONDS = 0.2
"""Between the end of a worker and its next start."""
READY = "Worker ready"
"""What Faust says then."""
STOP_SECONDS_MAX = 40.0
"""A worker that was asked to end must have done so; it may wait for an absent broker meanwhile."""


class Worker:
    """`tapeline worker ROLE --instance NAME` in its current process."""

    def __init__(self, role: str, name: str, folder: Path, env: Mapping[str, str], file: str | None = None) -> None:
        """`file` is the name of its log, by default its own."""
        self.role = role
        self.name = name
        self.exits: list[int] = []
        self.endings: list[str] = []
        """Why it ended, where it ended by itself."""
        self.starts = 0
        self._wanted = True
        self._process = Tapeline(["worker", role, "--instance", name], folder / f"{file or name}.log", env)
        self._kept = asyncio.create_task(self._keep(), name=f"keep {name}")

    async def pid(self) -> int:
        """Return the process that runs now; waits while it is being started again."""
        while (pid := self._process.pid) is None:  # noqa: ASYNC110 - a poll is simpler than an event a start
            await asyncio.sleep(0.02)
        return pid

    def runs(self, pid: int) -> bool:
        """Whether this process is still the current one."""
        return self._process.pid == pid

    async def ready(self) -> None:
        """Wait until it has its partitions, or has said that there are none for it."""
        log = self._process.log
        while not log.exists() or READY not in log.read_text(errors="replace"):  # noqa: ASYNC110
            await asyncio.sleep(0.1)

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
            self._process.start()
            self.starts += 1
            status = await self._process.wait()
            self.exits.append(status)
            if status > 0:
                self.endings.append(f"{self.name} ended with {status}: {self._last_words()}")
            if not self._wanted:
                return
            await asyncio.sleep(RESTART_SECONDS)

    def _last_words(self) -> str:
        lines = self._process.log.read_text(errors="replace").splitlines()
        said = [line for line in lines if " [CRITICAL] " in line or line.startswith("tapeline: ")]
        return said[-1] if said else lines[-1] if lines else "it said nothing"


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

    async def ready(self) -> None:
        """Wait until all have begun to read."""
        async with asyncio.timeout(READY_SECONDS_MAX):
            await asyncio.gather(*(worker.ready() for worker in self._workers.values()))

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
        # A twin that waits for its database has not taken the name yet.
        patience = STOP_SECONDS_MAX + DATABASE_SECONDS
        retired = asyncio.create_task(old.retire(seconds + patience))
        self._former.append(old)
        self._workers[name] = Worker(role, name, self._folder, self._env, f"{name}-twin-{len(self._former)}")
        await asyncio.sleep(seconds)
        if old.runs(pid):
            self._send(signal.SIGCONT, pid)
        if not await retired:
            self.faults.append(f"{name} lives on {patience:.0f} s after another one took its name")

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

    @property
    def endings(self) -> list[str]:
        """Why workers ended by themselves."""
        return [words for worker in self._all() for words in worker.endings]

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
        with suppress(ProcessLookupError):  # it has just ended
            os.kill(pid, number)
            self.signals[number.name] += 1
