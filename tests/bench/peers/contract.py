"""What a peer is: one hop of its own kind, one Binance trade a record in, one JSON signal a record out.

A signal holds symbol, side, strength and `ts_recv_ns`, the `recv_ns` of its trade (0 where the trade has none).
"""

import sys
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from tapeline.streams.servers import Process
from tests.bench.lab import Lab
from tests.bench.market import PARTITIONS


@dataclass(frozen=True, slots=True)
class Job:
    """One run. fast, slow: periods of the averages, in trades; linger_ms: of the peer's own producer."""

    input: str
    output: str
    processes: int
    fast: int
    slow: int
    linger_ms: int


class UnavailablePeerError(Exception):
    """A peer cannot be had on this machine; says why."""


class Peer(ABC):
    """One contender."""

    name: str
    waits_for_records: bool
    """Its processes must share the partitions before records come: else what moves is read or lost twice."""

    async def prepare(self, lab: Lab) -> None:  # noqa: B027 - most need nothing
        """Fetch what it needs, once a machine; raise UnavailablePeerError if that fails."""

    @abstractmethod
    def running(self, lab: Lab, job: Job) -> AbstractAsyncContextManager[list[Process]]:
        """Run it while the context lasts; entered once it is ready."""


class PythonPeer(Peer):
    """A peer that is a module of ours, run as `python -m MODULE BROKER INPUT OUTPUT FAST SLOW LINGER_MS PARTITIONS`.

    Its processes form the consumer group OUTPUT, or (`assigned`) each is told which partitions are its own.
    """

    def __init__(self, name: str, module: str, *, assigned: bool, python: str = sys.executable) -> None:
        self.name = name
        self.waits_for_records = not assigned
        self._module = module
        self._assigned = assigned
        self._python = python

    @asynccontextmanager
    async def running(self, lab: Lab, job: Job) -> AsyncIterator[list[Process]]:
        """Run its processes; entered once each has its partitions."""
        settings = (lab.bootstrap, job.input, job.output, str(job.fast), str(job.slow), str(job.linger_ms))
        async with AsyncExitStack() as stack:
            processes: list[Process] = []
            for number in range(job.processes):
                own = ",".join(map(str, range(number, PARTITIONS, job.processes)))
                command = [self._python, "-m", self._module, *settings, own]
                processes.append(await stack.enter_async_context(lab.run(f"{self.name}-{number}", command)))
            if self._assigned:
                for process in processes:
                    await lab.until_it_says("ready", process)
            else:
                await lab.until_settled(job.output, job.input, processes)
            yield processes
