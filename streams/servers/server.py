"""What the embedded servers share: one process of a home that can be started, stopped and killed in any order."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from tapeline.streams.home import Home
from tapeline.streams.servers.jars import Progress
from tapeline.streams.servers.process import Process, ProcessError


class Server(ABC):
    """One server of one home. `start`, `stop`, `kill` and `restart` may follow each other in any order."""

    name: ClassVar[str]
    title: ClassVar[str]
    """Name as people write it."""

    def __init__(self, home: Home, on_progress: Progress) -> None:
        self._home = home
        self._on_progress = on_progress
        self._process: Process | None = None

    @property
    def pid(self) -> int | None:
        """The server's process id, or None while it does not run."""
        return None if self._process is None else self._process.pid

    @property
    def log(self) -> Path:
        """The file its output goes to."""
        return self._home.logs / f"{self.name}.log"

    @abstractmethod
    async def start(self) -> None:
        """Start and return once it answers."""

    async def wait(self) -> int:
        """Wait for its end and return its exit status."""
        if self._process is None:
            raise self._not_started()
        return await self._process.wait()

    async def stop(self, deadline_s: float = 20.0) -> None:
        """Stop cleanly; killed after `deadline_s` seconds."""
        if self._process is not None:
            await self._process.stop(deadline_s)

    async def kill(self) -> None:
        """End it as a power cut would (SIGKILL), with its children; data that clients saw acknowledged is kept."""
        if self._process is not None:
            await self._process.kill()

    async def restart(self) -> None:
        """Stop and start again where clients found it."""
        await self.stop()
        await self.start()

    def _not_started(self) -> ProcessError:
        return ProcessError(f"{self.title} was not started")
