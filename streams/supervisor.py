"""Keep named child processes running: start, restart with back-off, stop in order, and say what happened.

`up.py` supervises the embedded servers and the roles with it. Whatever has the five members of `Child` can be
supervised: `servers.process.Process` does, and so do `Kafka` and `Postgres`.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from tapeline.schemas.errors import TapelineError
from tapeline.streams.servers.process import rotate

BACKOFF_FIRST_S = 0.5
BACKOFF_MAX_S = 15.0
HEALTHY_S = 30.0
"""Who ran this long before it ended starts again after the first delay, not the next."""
_ROTATE_S = 30.0


class Child(Protocol):
    """What a supervisor needs of a process."""

    @property
    def name(self) -> str:
        """Name in messages and status; unique in one supervisor."""

    @property
    def log(self) -> Path:
        """The file its output goes to."""

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""

    async def start(self) -> None:
        """Start it and return once it is ready; raises TapelineError when it cannot."""

    async def wait(self) -> int:
        """Wait for its end and return the exit status (minus the number of the signal that ended it)."""

    async def stop(self, deadline_s: float = ...) -> None:
        """End it within the deadline; does nothing when it does not run."""


class Phase(StrEnum):
    """What a child does now."""

    STARTING = "starting"
    RUNNING = "running"
    WAITING = "waiting"
    """It ended or could not start; the next try comes after a delay."""
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class ChildState:
    """What is known of one child; a new value for every change."""

    name: str
    phase: Phase = Phase.STARTING
    pid: int | None = None
    restarts: int = 0
    last_exit: int | None = None
    since_ns: int = 0
    """When it came into this phase."""
    message: str = ""
    """Why it waits, in words for a user."""


def next_delay_s(last_delay_s: float, ran_s: float) -> float:
    """Return how long to wait before the next start: 0.5 s doubling to 15 s, from the beginning once it was healthy."""
    if last_delay_s <= 0 or ran_s >= HEALTHY_S:
        return BACKOFF_FIRST_S
    return min(last_delay_s * 2, BACKOFF_MAX_S)


class Supervisor:
    """An async context manager; at its end the groups that `start` and `watch` took stop, the last group first."""

    def __init__(self, on_change: Callable[[ChildState], None] = lambda _: None, stop_deadline_s: float = 15.0) -> None:
        """`on_change` is told every new state of every child."""
        self._on_change = on_change
        self._stop_deadline_s = stop_deadline_s
        self._groups: list[list[Child]] = []
        self._states: dict[str, ChildState] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._rotation: asyncio.Task[None] | None = None

    @property
    def states(self) -> list[ChildState]:
        """The state of every child, in the order they came."""
        return list(self._states.values())

    async def __aenter__(self) -> "Supervisor":
        self._rotation = asyncio.create_task(self._rotate_logs())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._rotation is not None:
            self._rotation.cancel()
        while self._groups:
            await asyncio.gather(*(self.stop(child.name) for child in self._groups[-1]))
            self._groups.pop()

    async def start(self, *children: Child) -> None:
        """Start a group and keep it running; raises what the first start of a child raises."""
        for child in children:
            self._set(child, Phase.STARTING)
        self._groups.append(list(children))
        await asyncio.gather(*(child.start() for child in children))
        for child in children:
            self._watch(child)

    def watch(self, *children: Child) -> None:
        """Keep a group running that was started already."""
        self._groups.append(list(children))
        for child in children:
            self._watch(child)

    async def stop(self, name: str) -> None:
        """Stop one child and leave it stopped, until `resume`."""
        child = self._child(name)
        if (task := self._tasks.pop(name, None)) is not None:
            task.cancel()
            await asyncio.wait([task])
        await child.stop(self._stop_deadline_s)
        self._set(child, Phase.STOPPED)

    async def resume(self, name: str) -> None:
        """Start a child that `stop` stopped and keep it running again."""
        child = self._child(name)
        if name not in self._tasks:
            self._set(child, Phase.STARTING)
            await child.start()
            self._watch(child)

    def _child(self, name: str) -> Child:
        for child in (child for group in self._groups for child in group):
            if child.name == name:
                return child
        raise TapelineError(f"no process {name!r} is supervised; there are {', '.join(self._states) or 'none'}")

    def _watch(self, child: Child) -> None:
        self._set(child, Phase.RUNNING)
        self._tasks[child.name] = asyncio.create_task(self._keep_running(child), name=f"keep {child.name} running")

    async def _keep_running(self, child: Child) -> None:
        delay_s = 0.0
        while True:
            started = time.monotonic()
            status = await child.wait()
            delay_s = next_delay_s(delay_s, time.monotonic() - started)
            why = f"{child.name} ended ({_outcome(status)}); it starts again in {delay_s:g} s, its log is {child.log}"
            self._set(child, Phase.WAITING, last_exit=status, message=why)
            while True:
                await asyncio.sleep(delay_s)
                self._set(child, Phase.STARTING, restarts=self._states[child.name].restarts + 1)
                try:
                    await child.start()
                    break
                except (TapelineError, OSError) as error:
                    delay_s = next_delay_s(delay_s, 0.0)
                    why = f"{child.name} did not start; the next try comes in {delay_s:g} s: {error}"
                    self._set(child, Phase.WAITING, message=why)
            self._set(child, Phase.RUNNING)

    def _set(
        self,
        child: Child,
        phase: Phase,
        *,
        restarts: int | None = None,
        last_exit: int | None = None,
        message: str = "",
    ) -> None:
        old = self._states.get(child.name, ChildState(child.name))
        self._states[child.name] = new = replace(
            old,
            phase=phase,
            pid=child.pid,
            restarts=old.restarts if restarts is None else restarts,
            last_exit=old.last_exit if last_exit is None else last_exit,
            since_ns=time.time_ns(),
            message=message,
        )
        self._on_change(new)

    async def _rotate_logs(self) -> None:
        while True:
            await asyncio.sleep(_ROTATE_S)
            for child in (child for group in self._groups for child in group):
                with contextlib.suppress(OSError):  # a full disk must not end the supervision
                    await asyncio.to_thread(rotate, child.log)


def _outcome(status: int) -> str:
    return f"exit status {status}" if status >= 0 else f"signal {-status}"
