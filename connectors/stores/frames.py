"""What the stores of ticks and bars share: frames, their offset and marks in one transaction, and instruments' names.

`ticks.py` and `bars.py` say what the rows are. The row of `input_offsets` is locked first: whoever writes a partition
sees what was kept of it, so that frames that come again (other lanes' order, a zombie, a repeated write) add nothing.
"""

import logging
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

from tapeline.connectors.stores import upkeep
from tapeline.connectors.stores.contract import Refused, StoreError
from tapeline.connectors.stores.database import REFUSALS, Database, insert_each
from tapeline.connectors.stores.upkeep import Layout, Place, Table
from tapeline.schemas import Instrument

log = logging.getLogger(__name__)

Frame = TypeVar("Frame")
Placed = tuple[int, Frame]
"""A frame and its offset in the topic."""
Where = tuple[str, str, int]
"""Role, topic and partition: what names a row of `input_offsets`."""
Marks = dict[str, Any]
"""As JSON; what it means the store knows."""


@dataclass(frozen=True, slots=True)
class Reached:
    """How far a partition was kept."""

    next_offset: int
    marks: Marks


@dataclass(slots=True)
class Rows:
    """Frames as columns of their table, one after the other. ends: where the rows of each end; days: since 1970."""

    columns: dict[str, Any]
    ends: Sequence[int]
    days: frozenset[int]

    def part(self, first: int, end: int) -> tuple[int, dict[str, Any]]:
        """Return the rows of the frames from `first` up to `end`: their number and columns."""
        begin, stop = (int(self.ends[at - 1]) if at else 0 for at in (first, end))
        return stop - begin, {name: column[begin:stop] for name, column in self.columns.items()}

    def only(self, places: Sequence[int]) -> "Rows":
        """Return the rows of the frames at these places."""
        if len(places) == len(self.ends):
            return self
        lengths = np.diff(self.ends, prepend=0)
        wanted = np.zeros(len(lengths), np.bool_)
        wanted[list(places)] = True
        mask = np.repeat(wanted, lengths)
        columns = {name: column[mask] for name, column in self.columns.items()}
        return Rows(columns, np.cumsum(lengths[wanted]).tolist(), self.days)


@dataclass(slots=True)
class Fresh:
    """What is new among frames. places: of those frames; rows: theirs; marks: after them."""

    places: Sequence[int]
    rows: Rows
    marks: Marks
    repeats: Counter[int] = field(default_factory=Counter)


class FrameDatabase(Database, ABC, Generic[Frame]):
    """Keep frames (see contract.FrameStore) for `keep_days` days, -1 = for ever."""

    table: ClassVar[Table]

    def __init__(self, dsn: str, role: str, *, topic_id: str, keep_days: int) -> None:
        super().__init__(dsn, role, topic_id=topic_id)
        self.keep_days = keep_days
        self.repeats: Counter[int] = Counter()
        self._place = Place(Layout.PLAIN, None)
        self._days: set[int] = set()  # that have a partition
        self._learned: set[int] = set()
        self._unknowable: dict[int, str] = {}

    @abstractmethod
    def rows(self, frames: Sequence[Placed[Frame]]) -> Rows:
        """Return the frames as rows."""

    @abstractmethod
    def fresh(self, frames: Sequence[Placed[Frame]], rows: Rows, reached: Reached) -> Fresh:
        """Return what of it was not kept before."""

    @abstractmethod
    async def insert(self, connection: AsyncConnection, count: int, columns: dict[str, Any]) -> None:
        """Write so many rows."""

    async def prepare(self, connection: AsyncConnection) -> None:
        """Look where the rows lie, and see to it that they do not stay for ever."""
        self._place = await upkeep.find_place(connection, self.table)
        days = "for ever" if self.keep_days == upkeep.FOREVER else f"for {self.keep_days} days"
        log.info("%s are kept %s, in %s", self.table.name, days, self._place.layout)
        if self._place.layout is Layout.APACHE:
            log.warning(
                "this TimescaleDB is the Apache edition (timescaledb.license): what is kept is not compressed, and "
                "aggregates of it are computed whenever they are asked for"
            )
        if self._place.layout is Layout.PLAIN and self.keep_days != upkeep.FOREVER:
            log.warning("%s lie in a plain table: old ones are not dropped, whatever is set", self.table.name)
        await self._upkeep(connection)

    async def upkeep(self) -> None:
        """Drop what is too old, or let the database do so; to be called now and then."""
        await self.steadily(self._upkeep)

    async def _upkeep(self, connection: AsyncConnection) -> None:
        if self._place.layout is Layout.COMMUNITY and self._place.schema is not None:
            async with connection.transaction():
                await connection.execute("SELECT pg_advisory_xact_lock(%s)", [upkeep.PARTITIONS_LOCK])
                await self.keep_policies(connection, self._place.schema)
            names = [self.table.name, *(aggregate.name for aggregate in self.table.aggregates)]
            for failed in await upkeep.failed_policies(connection, names):
                log.warning("TimescaleDB: the last run of %s failed; its log says why", failed)
        else:
            await upkeep.drop_old(connection, self.table, self._place, self.keep_days)
            self._days.clear()

    async def keep_policies(self, connection: AsyncConnection, schema: str) -> None:
        """Set TimescaleDB's policies as the settings say. schema: of its functions."""
        await upkeep.keep_retention_policy(connection, schema, self.table.name, self.keep_days)

    async def learn(self, instruments: Collection[Instrument]) -> dict[int, str]:
        """Make names known; return those that the database refuses: id -> reason."""
        # In one order: two processes that insert the same names in different orders would wait for each other.
        known = self._learned | self._unknowable.keys()
        new = sorted((one for one in instruments if one.id not in known), key=lambda one: one.id)
        if new:
            refused = await self.steadily(lambda connection: _learn(connection, new))
            self._unknowable |= {new[one.index].id: one.reason for one in refused}
            self._learned |= {one.id for one in new} - self._unknowable.keys()
        return {one.id: self._unknowable[one.id] for one in instruments if one.id in self._unknowable}

    async def write(
        self, frames: Sequence[Placed[Frame]], topic: str, partition: int, next_offset: int
    ) -> list[Refused]:
        """Keep frames, marks and offset in one transaction; if some are refused, return them and keep nothing."""
        rows = self.rows(frames)
        where = (self.role, topic, partition)

        async def keep(connection: AsyncConnection) -> list[Refused]:
            try:
                repeats = await self._keep(connection, frames, rows, where, next_offset)
            except REFUSALS:
                self._days.clear()  # another process may have dropped a partition
                refused = await self._refused(connection, frames, rows, where)
                if refused:
                    return refused
                repeats = await self._keep(connection, frames, rows, where, next_offset)
            self.repeats += repeats
            return []

        return await self.steadily(keep)

    async def _keep(
        self,
        connection: AsyncConnection,
        frames: Sequence[Placed[Frame]],
        rows: Rows,
        where: Where,
        next_offset: int,
    ) -> Counter[int]:
        await self._make_room(connection, rows.days)
        async with connection.transaction():
            reached = await self._lock_offset(connection, where)
            new = self.fresh(frames, rows, reached)
            if new.places:
                await self.insert(connection, *new.rows.part(0, len(new.places)))
            await connection.execute(
                "UPDATE input_offsets SET next_offset = greatest(next_offset, %s), marks = %s, changed_at = now() "
                "WHERE role = %s AND topic = %s AND partition = %s",
                [next_offset, Jsonb(new.marks), *where],
            )
        return new.repeats

    async def _refused(
        self, connection: AsyncConnection, frames: Sequence[Placed[Frame]], rows: Rows, where: Where
    ) -> list[Refused]:
        """Find out which frames the database refuses, and leave everything as it is."""
        await self._make_room(connection, rows.days)
        async with connection.transaction(force_rollback=True):
            new = self.fresh(frames, rows, await self._lock_offset(connection, where))

            async def insert(part: Sequence[int]) -> None:
                await self.insert(connection, *new.rows.part(part[0], part[-1] + 1))

            refused = await insert_each(connection, range(len(new.places)), insert) if new.places else []
        return [Refused(new.places[one.index], one.reason) for one in refused]

    async def _make_room(self, connection: AsyncConnection, days: Iterable[int]) -> None:
        new = set(days) - self._days
        if new and self._place.layout is Layout.PARTITIONS:
            await upkeep.make_partitions(connection, self.table, new)
            self._days |= new

    async def _lock_offset(self, connection: AsyncConnection, where: Where) -> Reached:
        """Return how far the partition was kept; until the transaction ends nobody else goes on."""
        role, topic, partition = where
        for _ in range(2):
            found = await connection.execute(
                "SELECT topic_id, next_offset, marks FROM input_offsets "
                "WHERE role = %s AND topic = %s AND partition = %s FOR UPDATE",
                where,
            )
            if (row := await found.fetchone()) is not None:
                topic_id, next_offset, marks = row
                self.check_topic(topic, topic_id)
                return Reached(next_offset, marks)
            await connection.execute(
                "INSERT INTO input_offsets (role, topic, topic_id, partition, next_offset) VALUES (%s, %s, %s, %s, 0) "
                "ON CONFLICT DO NOTHING",
                [role, topic, self.topic_id, partition],
            )
        raise StoreError(f"the offset of {topic}[{partition}] vanishes from table input_offsets while it is written")


async def _learn(connection: AsyncConnection, instruments: Sequence[Instrument]) -> list[Refused]:
    async def insert(part: Sequence[Instrument]) -> None:
        columns = [[one.id for one in part], [one.name for one in part], [one.partition for one in part]]
        await connection.execute(
            "INSERT INTO instruments (id, name, partition) "
            "SELECT * FROM unnest(%s::bigint[], %s::text[], %s::integer[]) ON CONFLICT DO NOTHING",
            columns,
        )

    async with connection.transaction():
        refused = await insert_each(connection, instruments, insert)
    ids = [one.id for one in instruments]
    rows = await connection.execute("SELECT id, name FROM instruments WHERE id = ANY(%s)", [ids])
    names: dict[int, str] = dict(await rows.fetchall())
    without = {one.index for one in refused}
    for at, one in enumerate(instruments):
        if at not in without and names.get(one.id) != one.name:
            raise StoreError(
                f"instrument {one.id} is {one.name} in topic `instruments`, but table instruments has "
                f"{names.get(one.id, 'that name under another number')!r}: the database belongs to another Kafka. "
                "Use an empty database, or the Kafka that belongs to it"
            )
    return refused
