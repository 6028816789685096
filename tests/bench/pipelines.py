"""The two hops of Tapeline, raw messages -> ticks -> signals: as users run them, and (`floor`) without Faust."""

import os
import sys
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from types import MappingProxyType

from tapeline.schemas.topics import INSTRUMENTS, RAW, REJECTED, SIGNALS, STATE, TICKS
from tapeline.streams.servers import Process
from tapeline.streams.settings import Settings, load_settings
from tapeline.streams.topics import ensure_topics
from tests.bench.lab import BenchError, Lab
from tests.bench.market import PARTITIONS

NORMALIZE, LOGIC = "normalize", "logic"
BOTH = (LOGIC, NORMALIZE)
"""Logic first: it is ready when the first ticks come, which start the clock."""


class Pipeline(ABC):
    """Both hops. ticks, signals: the topics they write; `raw` is the input of every pipeline."""

    name: str
    ticks: str
    signals: str

    @abstractmethod
    async def reset(self, lab: Lab) -> None:
        """Empty everything but `raw`."""

    @abstractmethod
    def running(
        self, lab: Lab, roles: Sequence[str], fast: int, slow: int, *, together: bool = False
    ) -> AbstractAsyncContextManager[list[Process]]:
        """Run these hops, each in its own process or `together` in one; entered once all are ready."""

    def check(self, lab: Lab) -> None:  # noqa: B027 - the floor puts nothing aside
        """Raise BenchError if messages were put aside."""


class Ours(Pipeline):
    """`tapeline worker normalize` and `tapeline worker logic`."""

    name = "ours"
    ticks, signals = TICKS.name, SIGNALS.name

    def __init__(self, lab: Lab) -> None:
        # A file of our own: what lies in the folder that the bench is started from must not count.
        config = lab.folder / "tapeline.toml"
        topics = (RAW, TICKS, SIGNALS, REJECTED)
        config.write_text("".join(f"[topics.{topic.name}]\npartitions = {PARTITIONS}\n" for topic in topics))
        self.env = {"TAPELINE_HOME": str(lab.folder / "home"), "TAPELINE_CONFIG": str(config)}
        kept = {name: value for name, value in os.environ.items() if not name.startswith("TAPELINE_")}
        self.settings: Settings = load_settings(env=kept | self.env)

    async def reset(self, lab: Lab, *, raw: bool = False) -> None:
        """Empty everything but `raw`, or (`raw`) that too."""
        outputs = [topic.name for topic in (TICKS, SIGNALS, INSTRUMENTS, STATE, REJECTED)]
        await lab.delete([*outputs, RAW.name] if raw else outputs)
        ensure_topics(self.settings, lab.bootstrap)
        lab.keep_append_times([self.ticks, self.signals])

    @asynccontextmanager
    async def running(
        self, lab: Lab, roles: Sequence[str], fast: int, slow: int, *, together: bool = False
    ) -> AsyncIterator[list[Process]]:
        """Run workers; entered once their groups have the partitions."""
        env = {"TAPELINE_LOGICS__EMA_CROSS__PARAMS": f"{{fast = {fast}, slow = {slow}}}"}
        workers = [tuple(roles)] if together else [(role,) for role in roles]
        async with AsyncExitStack() as stack:
            processes: list[Process] = []
            for worker in workers:
                process = await stack.enter_async_context(self.worker(lab, *worker, env=env))
                processes.append(process)
                for role in worker:
                    await self.until_settled(lab, role, [process])
            yield processes

    def worker(
        self, lab: Lab, *roles: str, env: Mapping[str, str] = MappingProxyType({})
    ) -> AbstractAsyncContextManager[Process]:
        """Run one worker; entered as soon as its process is there."""
        command = self.python("tapeline.streams.cli", "worker", *roles)
        return lab.run("-".join(roles), command, env={**self.env, **env})

    @staticmethod
    def python(module: str, *arguments: str) -> list[str]:
        """Return the command that runs a module."""
        return [sys.executable, "-m", module, *arguments]

    async def until_settled(self, lab: Lab, role: str, processes: Sequence[Process]) -> None:
        """Wait until the workers of a role share its partitions."""
        inputs = {NORMALIZE: RAW.name, LOGIC: TICKS.name}
        await lab.until_settled(f"tapeline.{role}", inputs[role], processes)

    def check(self, lab: Lab) -> None:
        """Raise BenchError if messages were put aside."""
        if aside := sum(lab.ends(REJECTED.name)):
            raise BenchError(f"{aside} records in `{REJECTED.name}`: the messages were not understood")


class Floor(Pipeline):
    """`floor_app.py`: plain librdkafka loops around the same pure functions."""

    name = "floor"
    ticks, signals = "floor-ticks", "floor-signals"

    def __init__(self, linger_ms: int) -> None:
        self._linger_ms = linger_ms

    async def reset(self, lab: Lab) -> None:
        """Empty both topics."""
        await lab.delete([self.ticks, self.signals])
        await lab.create([self.ticks, self.signals])

    @asynccontextmanager
    async def running(
        self, lab: Lab, roles: Sequence[str], fast: int, slow: int, *, together: bool = False
    ) -> AsyncIterator[list[Process]]:
        """Run the loops; entered once each has said that it is ready."""
        if together:
            raise ValueError("the floor has a process a hop")
        topics = {NORMALIZE: (RAW.name, self.ticks), LOGIC: (self.ticks, self.signals)}
        async with AsyncExitStack() as stack:
            processes: list[Process] = []
            for role in roles:
                settings = (role, lab.bootstrap, *topics[role], str(fast), str(slow), str(self._linger_ms))
                command = [sys.executable, "-m", "tests.bench.floor_app", *settings]
                process = await stack.enter_async_context(lab.run(f"floor-{role}", command))
                processes.append(process)
                await lab.until_it_says("ready", process)
            yield processes
