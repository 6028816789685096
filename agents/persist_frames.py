"""What the roles `persist-ticks` and `persist-bars` share: frames of the wanted instruments into the database.

Rows, next offset and what tells duplicates apart are written in one transaction. An instrument's name becomes known to
the database before its first row.
"""

import asyncio
from abc import abstractmethod
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any, ClassVar, TypeVar

import numpy as np

from tapeline.agents.keeping import Batch, KeepingRole
from tapeline.connectors.stores.frames import FrameDatabase
from tapeline.schemas import FrameError, RejectReason, VersionError
from tapeline.schemas.topics import TICKS
from tapeline.streams.registry import Registry, UnknownInstrumentError
from tapeline.streams.settings import Settings

Frame = TypeVar("Frame")

UPKEEP_SECONDS = 3600.0
"""How often the database is asked what is too old."""


class PersistFrames(KeepingRole[Frame, FrameDatabase[Frame]]):
    """Keep the frames of one topic."""

    rows_max = 50_000
    gather_seconds = 0.2
    setting: ClassVar[str]
    """The key of `[database]` that says of which instruments."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._patterns: Sequence[str] = getattr(settings.database, self.setting)
        if not self._patterns:
            message = 'is not set, so there is nothing to keep: write ["*"] for every instrument, or patterns'
            raise settings.error_at(("database", self.setting), message)
        self._wanted = {0: False}  # by instrument; 0 is none: the clock of a quiet partition

    @abstractmethod
    def decode(self, record: bytes) -> Frame:
        """Read a record; raise FrameError."""

    @abstractmethod
    def encode(self, frame: Frame) -> bytes:
        """Return the frame as a record."""

    @abstractmethod
    def instruments(self, frame: Frame) -> Any:
        """Return the instrument id of each of its items, (n,)."""

    @abstractmethod
    def only(self, frame: Frame, mask: Any) -> Frame:
        """Return the frame with some of its items. mask: (n,) bool."""

    async def open(self) -> None:
        """Connect, read the instruments known so far, and look after the tables now and then."""
        await super().open()
        self._registry = Registry(self.kafka, await self.producer.partition_count(TICKS.name))
        await self._registry.refresh()
        self.start(self._keep_up(), "upkeep")

    async def release(self) -> None:
        """Let go of the database and of the registry's reader."""
        await super().release()
        self._registry.close()

    async def process(self, partition: int, offset: int, record: bytes) -> int:
        """Add what is wanted of a frame to the batch; waits while the database is too far behind."""
        try:
            frame = self.decode(record)
        except VersionError:
            raise
        except FrameError as error:
            await self.refuse(RejectReason.CORRUPT, str(error), partition, offset, record)
            await self.gather(partition, offset, None)
            return 0
        ids = self.instruments(frame)
        there = np.unique(ids).tolist()
        wanted = [one for one in there if await self._is_wanted(one)]
        if len(wanted) < len(there):
            frame = self.only(frame, np.isin(ids, wanted))
        rows = len(self.instruments(frame))
        await self.gather(partition, offset, frame if rows else None, rows=rows, size=len(record))
        return rows

    async def write(self, partition: int, batch: Batch[Frame]) -> None:
        """1. names, 2. confirm the rejects, 3. rows, marks and offset; what is refused is rejected, and 3. again."""
        placed = await self._with_names(partition, list(zip(batch.offsets, batch.items, strict=True)))
        await self.producer.flush()
        topic = self.input.name
        while refused := await self.database.write(placed, topic, partition, batch.next_offset):
            for one in refused:
                offset, frame = placed[one.index]
                detail = f"the database refuses it: {one.reason}"
                await self.refuse(RejectReason.FAILED, detail, partition, offset, self.encode(frame))
            await self.producer.flush()
            without = {one.index for one in refused}
            placed = [one for at, one in enumerate(placed) if at not in without]
        for lane, frames in self.database.repeats.items():
            self.stats.partitions[partition].skipped(lane, frames)
        self.database.repeats.clear()

    async def _with_names(self, partition: int, placed: list[tuple[int, Frame]]) -> list[tuple[int, Frame]]:
        """Let the database know the names of what comes; of what it refuses nothing is kept."""
        there = {one for _, frame in placed for one in np.unique(self.instruments(frame)).tolist()}
        refused = await self.database.learn([self._registry.by_id[one] for one in there])
        if not refused:
            return placed
        kept = []
        for offset, frame in placed:
            bad = np.isin(self.instruments(frame), list(refused))
            if bad.any():
                gone = self.only(frame, bad)
                first = int(self.instruments(gone)[0])
                detail = f"the database refuses the name {self._registry.by_id[first].name!r}: {refused[first]}"
                await self.refuse(RejectReason.FAILED, detail, partition, offset, self.encode(gone))
                frame = self.only(frame, ~bad)
            if len(self.instruments(frame)):
                kept.append((offset, frame))
        return kept

    async def _is_wanted(self, instrument_id: int) -> bool:
        wanted = self._wanted.get(instrument_id)
        if wanted is None:
            try:
                instrument = self._registry.instrument(instrument_id)
            except UnknownInstrumentError:
                # A frame is sent after its instruments are confirmed, so one look at the topic's end is enough.
                await self._registry.refresh()
                instrument = self._registry.instrument(instrument_id)
            wanted = any(fnmatchcase(instrument.name, pattern) for pattern in self._patterns)
            self._wanted[instrument_id] = wanted
        return wanted

    async def _keep_up(self) -> None:
        while True:
            await asyncio.sleep(UPKEEP_SECONDS)
            await self.database.upkeep()
