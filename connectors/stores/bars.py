"""The store of bars: bar frames into table `bars`, the highest revision of each. `agents/persist_bars.py` writes to it.

A bar that comes again changes nothing, so no marks are needed: its key and revision say what is newer. Rows go by
binary COPY into a temporary table, and from there where they belong. Bars of another stream (they were configured
otherwise) are others; view `candles` shows those of the stream that came last.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from psycopg import AsyncConnection

from tapeline.connectors.stores.frames import FrameDatabase, Fresh, Placed, Reached, Rows
from tapeline.connectors.stores.rows import BIGINT, DOUBLE, INTEGER, SMALLINT, TIMESTAMPTZ, RowLayout, timestamps
from tapeline.connectors.stores.upkeep import DAY_NS, Table
from tapeline.schemas import BAR, BarFrame, Bars, empty_bars

COLUMNS = {
    "ts": TIMESTAMPTZ,
    "ts_end": TIMESTAMPTZ,
    "start_ns": BIGINT,
    "end_ns": BIGINT,
    "number": BIGINT,
    "instrument_id": BIGINT,
    "stream": BIGINT,
    "size": DOUBLE,
    "open": DOUBLE,
    "high": DOUBLE,
    "low": DOUBLE,
    "close": DOUBLE,
    "volume": DOUBLE,
    "notional": DOUBLE,
    "buy_volume": DOUBLE,
    "trades": BIGINT,
    "revision": INTEGER,
    "kind": SMALLINT,
    "flags": SMALLINT,
}
OF_BAR = tuple(name for name in COLUMNS if name in (BAR.names or ()))
"""Columns that are fields of a bar."""
LAYOUT = RowLayout("pg_temp.new_bars", COLUMNS | {"place": BIGINT})
"""Of the temporary table. place: the order in which they came."""
KEY = ("instrument_id", "kind", "size", "stream", "ts", "number")
TAKE_BARS = f"""
INSERT INTO bars AS old ({", ".join(COLUMNS)})
SELECT DISTINCT ON ({", ".join(KEY)}) {", ".join(COLUMNS)} FROM pg_temp.new_bars
ORDER BY {", ".join(KEY)}, revision DESC
ON CONFLICT ({", ".join(KEY)}) DO UPDATE SET
{", ".join(f"{name} = excluded.{name}" for name in COLUMNS if name not in KEY)}
WHERE old.revision < excluded.revision
"""  # noqa: S608 - names of columns, ours
TAKE_STREAMS = """
INSERT INTO bar_streams AS old (instrument_id, kind, size, stream)
SELECT DISTINCT ON (instrument_id, kind, size) instrument_id, kind, size, stream FROM pg_temp.new_bars
ORDER BY instrument_id, kind, size, place DESC
ON CONFLICT (instrument_id, kind, size) DO UPDATE SET stream = excluded.stream WHERE old.stream <> excluded.stream
"""


class BarStore(FrameDatabase[BarFrame]):
    """Keep bars for `keep_days` days."""

    table: ClassVar[Table] = Table("bars", days=30)

    def rows(self, frames: Sequence[Placed[BarFrame]]) -> Rows:
        """Return one row a bar."""
        lengths = [len(frame.bars) for _, frame in frames]
        bars: Bars = np.concatenate([frame.bars for _, frame in frames]) if frames else empty_bars(0)
        columns = {name: bars[name] for name in OF_BAR} | {
            "ts": bars["start_ns"],
            "ts_end": bars["end_ns"],
            "stream": np.repeat(np.array([frame.stream for _, frame in frames], np.int64), lengths),
            "place": np.arange(len(bars)),
        }
        days = frozenset(np.unique(bars["start_ns"] // DAY_NS).tolist())
        return Rows(columns, np.cumsum(lengths, dtype=np.int64).tolist(), days)

    def fresh(self, frames: Sequence[Placed[BarFrame]], rows: Rows, reached: Reached) -> Fresh:
        """Return the frames from the offset on that was reached."""
        places = [place for place, (offset, _) in enumerate(frames) if offset >= reached.next_offset]
        repeats = Counter(frame.lane.pack() for offset, frame in frames if offset < reached.next_offset)
        return Fresh(places, rows.only(places), reached.marks, repeats)

    async def insert(self, connection: AsyncConnection, count: int, columns: dict[str, Any]) -> None:
        """Write the rows by COPY, and keep those that are newer than what is there."""
        for name in ("ts", "ts_end"):
            columns[name] = timestamps(columns[name])
        await connection.execute(
            "CREATE TEMPORARY TABLE IF NOT EXISTS new_bars (LIKE bars, place bigint) ON COMMIT DROP"
        )
        await connection.execute("TRUNCATE pg_temp.new_bars")
        async with connection.cursor().copy(LAYOUT.statement.encode()) as copy:
            for piece in LAYOUT.encode(count, columns):
                await copy.write(piece)
        await connection.execute(TAKE_BARS.encode())
        await connection.execute(TAKE_STREAMS)
