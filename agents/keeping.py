"""What roles share that keep their input in the database: gather per partition, write batch after batch.

`persist.py` keeps signals so, `persist_ticks.py` and `persist_bars.py` frames. While one batch is on its way the next
one gathers. The database says where reading starts, so one that is away, or a worker that is killed, costs delay only.
"""

import asyncio
import logging
import time
from abc import abstractmethod
from collections.abc import Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import ClassVar, Generic, TypeVar

from tapeline.connectors.stores.database import Database
from tapeline.schemas import Rejected, RejectOrigin, RejectReason
from tapeline.schemas.topics import REJECTED
from tapeline.streams.role import Role
from tapeline.streams.settings import Settings, database_dsn
from tapeline.streams.transport import end_process

log = logging.getLogger(__name__)

Item = TypeVar("Item")
Store = TypeVar("Store", bound=Database)

BYTES_MAX = 8 * 1024 * 1024
"""So much of a partition waits for the database before reading stops; also the largest batch."""
HANDOVER_SECONDS = 2.0
"""How long the database may take when partitions go or the process ends; the next reader does what is left."""


@dataclass(slots=True)
class Batch(Generic[Item]):
    """Items of one partition that wait for the database, with the offset of each."""

    next_offset: int = 0
    items: list[Item] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    rows: int = 0
    size: int = 0


class KeepingRole(Role, Generic[Item, Store]):
    """Gather items per partition; one task writes what has gathered, again and again."""

    rows_max: ClassVar[int]
    """So many rows of a partition wait for the database before reading stops; also about the largest batch."""
    gather_seconds: ClassVar[float]
    """How long a batch gathers."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.dsn = database_dsn(settings)
        self._batches: dict[int, Batch[Item]] = {}
        self._database: Store | None = None
        self._gathered: dict[int, int] = {}  # next offset after what was gathered, of the partitions that are ours
        self._written: dict[int, int] = {}  # next offset in the database, of the same
        self._tasks: list[asyncio.Task[None]] = []
        self._hurried = False  # partitions go: nothing waits for the database any more
        self._waiting = asyncio.Event()  # a batch waits for the writer
        self._taken = asyncio.Event()  # the writer took a batch
        self._wrote = asyncio.Event()  # the writer has written one

    @abstractmethod
    def make_store(self) -> Store:
        """Return the store to write to, not yet open."""

    @abstractmethod
    async def write(self, partition: int, batch: Batch[Item]) -> None:
        """Keep a batch and its next offset, once what was rejected before it is confirmed."""

    @property
    def waits_for(self) -> str:
        """Say whether it is the database that is waited for."""
        return "the database" if self._database is not None and self._database.away else ""

    @property
    def database(self) -> Store:
        """Where the items are kept; there once the role is being opened."""
        if self._database is None:
            raise RuntimeError(f"role {self.name} is not open")
        return self._database

    async def open(self) -> None:
        """Connect, and bring the tables up to date."""
        await super().open()
        self._database = self.make_store()
        await self.database.open()
        self.start(self._write_all(), "writer")

    def start(self, work: Coroutine[None, None, None], name: str) -> None:
        """Run a task beside the role until it is closed; the process ends if it fails."""
        task = asyncio.create_task(work, name=f"{self.name}.{name}")
        task.add_done_callback(self._task_ended)
        self._tasks.append(task)

    async def release(self) -> None:
        """Let go of the database."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self.database.close()

    async def load(self, partitions: frozenset[int]) -> dict[int, int]:
        """Ask the database; what waited for it is read again, by us or by another."""
        kept = await self.database.next_offsets(self.input.name)
        starts = {partition: kept.get(partition, 0) for partition in partitions}
        self._gathered |= starts
        self._written |= starts
        return starts

    def forget(self, partitions: Iterable[int]) -> None:
        """Leave what waits for the database to whoever reads it again."""
        for partition in partitions:
            for kept in (self._batches, self._gathered, self._written):
                kept.pop(partition, None)

    async def give(self, partitions: Sequence[int]) -> dict[int, int]:
        """Write what came, if the database takes it soon; nothing of these partitions is processed afterwards."""
        with self._hurry():
            return await super().give(partitions)

    async def lose(self, partitions: Sequence[int]) -> None:
        """Forget these partitions."""
        with self._hurry():
            await super().lose(partitions)

    @contextmanager
    def _hurry(self) -> Iterator[None]:
        """Let a record that waits for the database pass meanwhile."""
        before, self._hurried = self._hurried, True
        self._taken.set()
        try:
            yield
        finally:
            self._hurried = before

    async def gather(self, partition: int, offset: int, item: Item | None, *, rows: int = 1, size: int = 0) -> None:
        """Add an item to the batch (None: nothing of this record is kept); waits while the database is too far behind.

        rows: how many it will be in the database; size: bytes.
        """
        batch = self._batches.setdefault(partition, Batch())  # now: the writer may have taken one meanwhile
        if item is not None:
            batch.items.append(item)
            batch.offsets.append(offset)
            batch.rows += rows
            batch.size += size
        batch.next_offset = self._gathered[partition] = offset + 1
        self._waiting.set()
        while self._full(batch) and self._batches.get(partition) is batch and not self._hurried:
            self._taken.clear()
            await self._taken.wait()

    def _full(self, batch: Batch[Item]) -> bool:
        return batch.rows >= self.rows_max or batch.size >= BYTES_MAX

    async def checkpoint(self, only: frozenset[int] | None = None) -> dict[int, int]:
        """Return the offsets that the database has, after a moment in which it may take what was gathered before."""
        started = time.monotonic()
        gathered = {partition: end for partition, end in self._gathered.items() if only is None or partition in only}
        with suppress(TimeoutError):
            await asyncio.wait_for(self._are_written(gathered), HANDOVER_SECONDS)
        self.stats.checkpoints.add(time.monotonic() - started)
        return {partition: offset for partition, offset in self._written.items() if only is None or partition in only}

    async def _are_written(self, ends: Mapping[int, int]) -> None:
        while any(self._written.get(partition, end) < end for partition, end in ends.items()):
            self._wrote.clear()
            await self._wrote.wait()

    async def _write_all(self) -> None:
        while True:
            await self._waiting.wait()
            self._waiting.clear()
            if not any(self._full(batch) for batch in self._batches.values()):
                await asyncio.sleep(self.gather_seconds)
            for partition in list(self._batches):
                batch = self._batches.pop(partition, None)
                if batch is None:  # read again by others
                    continue
                self._taken.set()
                await self.write(partition, batch)
                if partition in self._written:
                    # One that was lost and came back while its batch was on its way may have more already.
                    self._written[partition] = max(self._written[partition], batch.next_offset)
                    self.stats.partitions[partition].snapshot_time_ns = time.time_ns()
                self._wrote.set()

    async def refuse(self, reason: RejectReason, detail: str, partition: int, offset: int, payload: bytes) -> None:
        """Send what cannot be kept to `rejected`."""
        log.warning("%s[%d]@%d goes to %s: %s", self.input.name, partition, offset, REJECTED.name, detail)
        origin = RejectOrigin(topic=self.input.name, partition=partition, offset=offset, index=0)
        await self.reject(Rejected.of(self.name, reason, detail, origin, payload))

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            end_process(self, error)
