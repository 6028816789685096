"""The role `persist`: signals into the database, each with the offset behind it in one transaction.

`tapeline worker persist` runs it. Signals are written in batches: while one is on its way the next one gathers.
The database says where reading starts, so a database that is away, or a worker that is killed, costs delay only.
"""

import asyncio
import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from tapeline.connectors.stores import PostgresStore
from tapeline.schemas import EventError, Lane, Rejected, RejectOrigin, RejectReason, Signal
from tapeline.schemas.topics import REJECTED, SIGNALS
from tapeline.streams.role import Role
from tapeline.streams.settings import Settings, database_dsn
from tapeline.streams.transport import RoleApp, Stream, drive, end_process, role_app

log = logging.getLogger(__name__)

SIGNALS_MAX = 1000
BYTES_MAX = 8 * 1024 * 1024
"""So much of a partition waits for the database before reading stops; also the largest batch."""
GATHER_SECONDS = 0.01
"""How long a batch gathers: a transaction costs as much as a hundred signals."""
HANDOVER_SECONDS = 2.0
"""How long the database may take when partitions go or the process ends; the next reader does what is left."""


@dataclass(slots=True)
class Batch:
    """Signals of one partition that wait for the database, with the offset of each."""

    next_offset: int = 0
    signals: list[bytes] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    size: int = 0

    @property
    def full(self) -> bool:
        """Whether reading stops until the database takes it."""
        return len(self.signals) >= SIGNALS_MAX or self.size >= BYTES_MAX


class Persist(Role):
    """Gather signals per partition; one task writes what has gathered, again and again."""

    name = "persist"
    input = SIGNALS

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._dsn = database_dsn(settings)
        self._batches: dict[int, Batch] = {}
        self._database: PostgresStore | None = None
        self._written: dict[int, int] = {}  # next offset in the database, of the partitions that are ours
        self._writer: asyncio.Task[None] | None = None
        self._hurried = False  # partitions go: nothing waits for the database any more
        self._waiting = asyncio.Event()  # a batch waits for the writer
        self._taken = asyncio.Event()  # the writer took a batch
        self._idle = asyncio.Event()  # the writer has written all
        self._idle.set()

    @property
    def waits_for(self) -> str:
        """Say whether it is the database that is waited for."""
        return "the database" if self._database is not None and self._database.away else ""

    @property
    def database(self) -> PostgresStore:
        """Where the signals are kept; there once the role is being opened."""
        if self._database is None:
            raise RuntimeError("role persist is not open")
        return self._database

    async def open(self) -> None:
        """Connect, and bring the tables up to date."""
        await super().open()
        self._database = PostgresStore(self._dsn, self.name, topic_id=self.topic_id)
        await self.database.open()
        self._writer = asyncio.create_task(self._write_all(), name="persist.writer")
        self._writer.add_done_callback(self._writer_ended)

    async def release(self) -> None:
        """Let go of the database."""
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.wait([self._writer])
        await self.database.close()

    async def load(self, partitions: frozenset[int]) -> dict[int, int]:
        """Ask the database; what waited for it is read again, by us or by another."""
        kept = await self.database.next_offsets(self.input.name)
        starts = {partition: kept.get(partition, 0) for partition in partitions}
        self._written |= starts
        return starts

    def forget(self, partitions: Iterable[int]) -> None:
        """Leave what waits for the database to whoever reads it again."""
        for partition in partitions:
            self._batches.pop(partition, None)
            self._written.pop(partition, None)

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

    async def process(self, partition: int, offset: int, record: bytes) -> int:
        """Add a signal to the batch; waits while the database is too far behind."""
        corrupt = False
        try:
            Signal.decode(record)
        except EventError as error:
            corrupt = True
            await self._reject(RejectReason.CORRUPT, str(error), partition, offset, record)
        batch = self._batches.setdefault(partition, Batch())  # now: the writer may have taken one meanwhile
        if not corrupt:
            batch.signals.append(record)
            batch.offsets.append(offset)
            batch.size += len(record)
        batch.next_offset = offset + 1
        self._idle.clear()
        self._waiting.set()
        while batch.full and self._batches.get(partition) is batch and not self._hurried:
            self._taken.clear()
            await self._taken.wait()
        return 1

    async def checkpoint(self, only: frozenset[int] | None = None) -> dict[int, int]:
        """Return the offsets that the database has; wait for it only a moment, what it lacks is read again."""
        started = time.monotonic()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), HANDOVER_SECONDS)
        self.stats.checkpoints.add(time.monotonic() - started)
        return {partition: offset for partition, offset in self._written.items() if only is None or partition in only}

    async def _write_all(self) -> None:
        while True:
            await self._waiting.wait()
            self._waiting.clear()
            if not any(batch.full for batch in self._batches.values()):
                await asyncio.sleep(GATHER_SECONDS)
            for partition in list(self._batches):
                batch = self._batches.pop(partition, None)
                if batch is None:  # read again by others
                    continue
                self._taken.set()
                await self._write(partition, batch)
                if partition in self._written:
                    self._written[partition] = batch.next_offset
                    self.stats.partitions[partition].snapshot_time_ns = time.time_ns()
            if not self._batches:
                self._idle.set()

    async def _write(self, partition: int, batch: Batch) -> None:
        """1. confirm the rejects, 2. signals and offset, 3. what the database refuses is rejected, 4. the offset."""
        await self.producer.flush()
        refused = await self.database.write(batch.signals, self.input.name, partition, batch.next_offset)
        for raw_partition, signals in self.database.repeats.items():
            self.stats.partitions[partition].skipped(Lane(raw_partition, partition).pack(), signals)
        self.database.repeats.clear()
        if not refused:
            return
        for one in refused:
            detail = f"the database refuses it: {one.reason}"
            offset, record = batch.offsets[one.index], batch.signals[one.index]
            await self._reject(RejectReason.FAILED, detail, partition, offset, record)
        await self.producer.flush()
        await self.database.write([], self.input.name, partition, batch.next_offset)

    async def _reject(self, reason: RejectReason, detail: str, partition: int, offset: int, record: bytes) -> None:
        log.warning("%s[%d]@%d goes to %s: %s", self.input.name, partition, offset, REJECTED.name, detail)
        origin = RejectOrigin(topic=self.input.name, partition=partition, offset=offset, index=0)
        await self.reject(Rejected.of(self.name, reason, detail, origin, record))

    def _writer_ended(self, writer: asyncio.Task[None]) -> None:
        if not writer.cancelled() and (error := writer.exception()) is not None:
            end_process(self, error)


def app(settings: Settings, instance: str | None = None, web_port: int | None = None) -> RoleApp:
    """Return the role's Faust app."""
    role = Persist(settings)
    faust_app = role_app(role, settings, instance, web_port)

    @faust_app.agent(faust_app.topic(SIGNALS.name, acks=False), name=role.name)
    async def persist(stream: Stream) -> None:
        await drive(role, stream)

    return faust_app
