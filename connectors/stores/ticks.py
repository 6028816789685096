"""The store of ticks: tick frames into table `ticks`, by binary COPY. `agents/persist_ticks.py` writes through it.

No key keeps rows from doubling, an index would cost more than the writing: the marks of the lanes, in the transaction
that writes the rows, say what was kept.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, ClassVar

import numpy as np
from psycopg import AsyncConnection

from tapeline.connectors.stores import upkeep
from tapeline.connectors.stores.frames import FrameDatabase, Fresh, Marks, Placed, Reached, Rows
from tapeline.connectors.stores.rows import BIGINT, DOUBLE, INTEGER, SMALLINT, TIMESTAMPTZ, RowLayout, timestamps
from tapeline.connectors.stores.upkeep import DAY_NS, FOREVER, Aggregate, Table
from tapeline.schemas import TICK, FrameFlag, Lane, TickFrame, Ticks, empty_ticks
from tapeline.streams.frame_reader import FrameReader

LAYOUT = RowLayout(
    "ticks",
    {
        "ts": TIMESTAMPTZ,
        "ts_event_ns": BIGINT,
        "ts_recv_ns": BIGINT,
        "sequence": BIGINT,
        "instrument_id": BIGINT,
        "price": DOUBLE,
        "size": DOUBLE,
        "price2": DOUBLE,
        "size2": DOUBLE,
        "origin_offset": BIGINT,
        "ticks_offset": BIGINT,
        "origin_partition": INTEGER,
        "origin_index": INTEGER,
        "flags": INTEGER,
        "kind": SMALLINT,
        "side": SMALLINT,
    },
)
OF_TICK = tuple(name for name in LAYOUT.names if name in (TICK.names or ()))
"""Columns that are fields of a tick."""
MINUTES = Aggregate("ticks_1m", timedelta(minutes=1), every=timedelta(minutes=1))
HOURS = Aggregate("ticks_1h", timedelta(hours=1), every=timedelta(minutes=10))


class TickStore(FrameDatabase[TickFrame]):
    """Keep ticks for `keep_days` days, and what is aggregated of them for `aggregates_keep_days`."""

    table: ClassVar[Table] = Table("ticks", days=1, aggregates=(MINUTES, HOURS))

    def __init__(
        self, dsn: str, role: str, *, topic_id: str, keep_days: int = FOREVER, aggregates_keep_days: int = FOREVER
    ) -> None:
        super().__init__(dsn, role, topic_id=topic_id, keep_days=keep_days)
        self.aggregates_keep_days = aggregates_keep_days

    async def keep_policies(self, connection: AsyncConnection, schema: str) -> None:
        """Set the policies of the table and of both aggregates."""
        await super().keep_policies(connection, schema)
        if not await upkeep.are_continuous(connection, self.table.aggregates):
            return
        kept = [days for days in (self.keep_days, self.aggregates_keep_days) if days != FOREVER]
        await upkeep.keep_refresh_policy(connection, schema, MINUTES, min(kept, default=FOREVER))
        await upkeep.keep_refresh_policy(connection, schema, HOURS, self.aggregates_keep_days)
        for aggregate in self.table.aggregates:
            await upkeep.keep_retention_policy(connection, schema, aggregate.name, self.aggregates_keep_days)

    def rows(self, frames: Sequence[Placed[TickFrame]]) -> Rows:
        """Return one row a tick; `origin_index` counts from the frame's begin, and `fresh` counts on over parts."""
        lengths = [len(frame) for _, frame in frames]
        ticks: Ticks = np.concatenate([frame.ticks for _, frame in frames]) if frames else empty_ticks(0)

        def each(values: list[int]) -> Any:
            return np.repeat(np.array(values, np.int64), lengths)

        columns = {name: ticks[name] for name in OF_TICK} | {
            "ts": times(ticks),
            "ticks_offset": each([offset for offset, _ in frames]),
            "origin_offset": each([frame.origin_offset for _, frame in frames]),
            "origin_partition": each([frame.lane.raw_partition for _, frame in frames]),
            "origin_index": numbered(each(list(range(len(frames)))) << 32 | ticks["instrument_id"].astype(np.int64)),
        }
        days = frozenset(np.unique(columns["ts"] // DAY_NS).tolist())
        return Rows(columns, np.cumsum(lengths, dtype=np.int64).tolist(), days)

    def fresh(self, frames: Sequence[Placed[TickFrame]], rows: Rows, reached: Reached) -> Fresh:
        """Return the frames that are above their lane's mark; what a record's parts counted goes on."""
        reader, counts = _read(reached.marks)
        repeats: Counter[int] = Counter()
        places: list[int] = []
        index = rows.columns["origin_index"]
        for place, (offset, frame) in enumerate(frames):
            if offset < reached.next_offset or not reader.take(frame):
                repeats[frame.lane.pack()] += 1
                continue
            places.append(place)
            before = counts.pop(frame.lane, {})
            if not frame.part:
                before = {}
            if before or frame.flags & FrameFlag.MORE:
                begin, end = rows.ends[place] - len(frame), rows.ends[place]
                index = index.copy()
                index[begin:end], after = counted_on(frame.ticks["instrument_id"], index[begin:end], before)
                if frame.flags & FrameFlag.MORE:
                    counts[frame.lane] = after
        new = Rows(rows.columns | {"origin_index": index}, rows.ends, rows.days).only(places)
        return Fresh(places, new, _written(reader, counts), repeats)

    async def insert(self, connection: AsyncConnection, count: int, columns: dict[str, Any]) -> None:
        """Write the rows by COPY."""
        columns["ts"] = timestamps(columns["ts"])
        async with connection.cursor().copy(LAYOUT.statement.encode()) as copy:
            for piece in LAYOUT.encode(count, columns):
                await copy.write(piece)


def times(ticks: Ticks) -> Any:
    """Return what ticks are sorted in by, ns: event time, or receive time where the two are more than a day apart.

    Differences as floats: what is exact to a microsecond need not be known of a day, and integers could overflow.
    """
    event_ns, recv_ns = ticks["ts_event_ns"], ticks["ts_recv_ns"]
    apart = np.abs(event_ns.astype(np.float64) - recv_ns.astype(np.float64))
    return np.where(apart <= DAY_NS, event_ns, recv_ns)


def numbered(keys: Any) -> Any:
    """Say of each key how many equal ones stand before it. keys: (n,) int64; returns (n,) int64."""
    if not len(keys):
        return np.zeros(0, np.int64)
    order = np.argsort(keys, kind="stable")
    in_order = keys[order]
    begins = np.flatnonzero(np.append(True, in_order[1:] != in_order[:-1]))
    counts = np.arange(len(keys)) - np.repeat(begins, np.diff(np.append(begins, len(keys))))
    numbers = np.empty(len(keys), np.int64)
    numbers[order] = counts
    return numbers


def counted_on(ids: Any, index: Any, before: Mapping[int, int]) -> tuple[Any, dict[int, int]]:
    """Return `index` counted on from what was counted of each instrument before, and what is counted now.

    ids, index: (n,), the instrument of each tick and how many of it stand before it.
    """
    known, which = np.unique(ids, return_inverse=True)
    offsets = np.array([before.get(one, 0) for one in known.tolist()], np.int64)
    after = offsets + np.bincount(which, minlength=len(known))
    return index + offsets[which], dict(before) | dict(zip(known.tolist(), after.tolist(), strict=True))


def _read(marks: Marks) -> tuple[FrameReader, dict[Lane, dict[int, int]]]:
    """Return the marks of the lanes, and what was counted of records whose parts go on."""
    lanes = {Lane(*map(int, lane.split("-"))): mark for lane, mark in marks.items()}
    reader = FrameReader({lane: (offset, part) for lane, (offset, part, *_) in lanes.items()})
    counts = {
        lane: {int(one): count for one, count in mark[2].items()} for lane, mark in lanes.items() if len(mark) > 2
    }
    return reader, counts


def _written(reader: FrameReader, counts: Mapping[Lane, Mapping[int, int]]) -> Marks:
    """Return what `_read` reads."""
    marks: Marks = {}
    for lane, (offset, part) in reader.marks.items():
        more = [{str(one): count for one, count in counts[lane].items()}] if lane in counts else []
        marks[f"{lane.raw_partition}-{lane.ticks_partition}"] = [offset, part, *more]
    return marks
