"""The store of bars: bar frames into table `bars`, the highest revision of each. `agents/persist_bars.py` writes to it.

A bar that comes again changes nothing, so no marks are needed: its key and revision say what is newer. Rows go by
binary COPY into a temporary table, and from there where they belong.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from psycopg import AsyncConnection

from tapeline.connectors.stores.frames import FrameDatabase, Fresh, Placed, Reached, Rows
from tapeline.connectors.stores.rows import BIGINT, DOUBLE, INTEGER, SMALLINT, TIMESTAMPTZ, RowLayout, timestamps
from tapeline.connectors.stores.upkeep import DAY_NS, Table
from tapeline.schemas import BAR, Bars, empty_bars

LAYOUT = RowLayout(
    "pg_temp.new_bars",
    {
        "ts": TIMESTAMPTZ,
        "ts_end": TIMESTAMPTZ,
        "start_ns": BIGINT,
        "end_ns": BIGINT,
        "number": BIGINT,
        "instrument_id": BIGINT,
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
    },
)
OF_BAR = tuple(name for name in LAYOUT.names if name in (BAR.names or ()))
"""Columns that are fields of a bar."""
KEY = ("instrument_id", "kind", "size", "ts", "number")
TAKE_IN = f"""
INSERT INTO bars AS old ({", ".join(LAYOUT.names)})
SELECT DISTINCT ON ({", ".join(KEY)}) {", ".join(LAYOUT.names)} FROM pg_temp.new_bars
ORDER BY {", ".join(KEY)}, revision DESC
ON CONFLICT ({", ".join(KEY)}) DO UPDATE SET
{", ".join(f"{name} = excluded.{name}" for name in LAYOUT.names if name not in KEY)}
WHERE old.revision < excluded.revision
"""  # noqa: S608 - names of columns, ours


class BarStore(FrameDatabase[Bars]):
    """Keep bars for `keep_days` days."""

    table: ClassVar[Table] = Table("bars", days=30)

    def rows(self, frames: Sequence[Placed[Bars]]) -> Rows:
        """Return one row a bar."""
        bars: Bars = np.concatenate([frame for _, frame in frames]) if frames else empty_bars(0)
        columns = {name: bars[name] for name in OF_BAR} | {"ts": bars["start_ns"], "ts_end": bars["end_ns"]}
        ends = np.cumsum([len(frame) for _, frame in frames], dtype=np.int64).tolist()
        return Rows(columns, ends, frozenset(np.unique(bars["start_ns"] // DAY_NS).tolist()))

    def fresh(self, frames: Sequence[Placed[Bars]], rows: Rows, reached: Reached) -> Fresh:
        """Return all: what was kept before, the table knows."""
        return Fresh(range(len(frames)), rows, reached.marks)

    async def insert(self, connection: AsyncConnection, count: int, columns: dict[str, Any]) -> None:
        """Write the rows by COPY, and keep those that are newer than what is there."""
        for name in ("ts", "ts_end"):
            columns[name] = timestamps(columns[name])
        await connection.execute("CREATE TEMPORARY TABLE IF NOT EXISTS new_bars (LIKE bars) ON COMMIT DROP")
        await connection.execute("TRUNCATE pg_temp.new_bars")
        async with connection.cursor().copy(LAYOUT.statement.encode()) as copy:
            for piece in LAYOUT.encode(count, columns):
                await copy.write(piece)
        await connection.execute(TAKE_IN.encode())
