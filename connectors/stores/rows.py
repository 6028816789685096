"""Arrays to the bytes of COPY ... (FORMAT binary): what makes bulk writing fast. Pure; the stores of frames call it.

Every column has a fixed width and no nulls, so a table's rows are one numpy array in the wire's own layout
(PostgreSQL 18, chapter "COPY", section "Binary Format"): field count i2, then length i4 and value of each, big-endian.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"
EPOCH_US = 946_684_800_000_000
"""2000-01-01 in microseconds since 1970: PostgreSQL counts its timestamps from there."""

ROWS_AT_ONCE = 1000
"""So many fit into the processor's cache: column after column into all rows at once is three times as slow. And the
server works on one piece while the next one is made."""

BIGINT, INTEGER, SMALLINT, DOUBLE = ">i8", ">i4", ">i2", ">f8"
TIMESTAMPTZ = ">i8"


class RowLayout:
    """Columns of a table, in the order in which they are sent. columns: name -> one of the types above."""

    def __init__(self, table: str, columns: Mapping[str, str]) -> None:
        self.names = tuple(columns)
        fields: list[tuple[str, str]] = [("fields", ">i2")]
        for name, kind in columns.items():
            fields += [(f"{name} bytes", ">i4"), (name, kind)]
        self._row = np.zeros((), np.dtype(fields))
        self._row["fields"] = len(columns)
        for name, kind in columns.items():
            self._row[f"{name} bytes"] = np.dtype(kind).itemsize
        self.statement = f"COPY {table} ({', '.join(columns)}) FROM STDIN (FORMAT binary)"
        """What the bytes are for."""

    def encode(self, count: int, values: Mapping[str, Any]) -> Iterator[bytes]:
        """Yield `count` rows piece by piece, together one whole COPY. values: of every column, (count,) or a scalar."""
        columns = [(name, np.broadcast_to(values[name], count)) for name in self.names]
        piece = np.full(min(count, ROWS_AT_ONCE), self._row)
        yield HEADER
        for start in range(0, count, ROWS_AT_ONCE):
            rows = piece[: count - start]
            for name, column in columns:
                rows[name] = column[start : start + ROWS_AT_ONCE]
            yield rows.tobytes()
        yield TRAILER


def timestamps(times_ns: Any) -> Any:
    """Return nanoseconds since 1970 as PostgreSQL's timestamps, rounded down to the microsecond."""
    return times_ns // 1000 - EPOCH_US
