"""Read signals back, in order of seq and in constant memory. `tapeline signals` and the demo call it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson
import psycopg
from psycopg import Connection
from psycopg.types.json import set_json_loads
from pydantic import ValidationError

from tapeline.connectors.stores.contract import StoreError
from tapeline.schemas import Signal, UnavailableError

ROWS_A_FETCH = 2000

_COLUMNS = (
    *("id", "seq", "tenant", "logic", "version", "params_hash", "instrument", "side", "strength", "price"),
    *("ts_event_ns", "ts_recv_ns", "valid_until_ns", "origin_partition", "origin_offset", "origin_index", "tags"),
)


@dataclass(frozen=True, slots=True)
class SignalQuery:
    """Which signals; None: no condition.

    logic: exact name. instrument: venue:SYMBOL or a pattern with `*`, `?`, `[...]`. since_ns, until_ns: event time,
    the second exclusive. limit: only so many, the newest by event time.
    """

    logic: str | None = None
    instrument: str | None = None
    since_ns: int | None = None
    until_ns: int | None = None
    limit: int | None = None

    def sql(self) -> tuple[str, dict[str, Any]]:
        """Return the query and its parameters."""
        conditions: list[str] = []
        if self.logic is not None:
            conditions.append("logic = %(logic)s")
        if self.instrument is not None:
            pattern = any(sign in self.instrument for sign in "*?[")
            conditions.append("instrument ~ %(pattern)s" if pattern else "instrument = %(instrument)s")
        for name, sign in (("since", ">="), ("until", "<")):
            if getattr(self, f"{name}_ns") is not None:
                # The first finds the rows (index, chunks), the second is exact to the nanosecond.
                edge = f"'epoch'::timestamptz + (%({name})s::bigint / 1000) * interval '1 microsecond'"
                conditions.append(f"ts_event {sign[0]}= {edge} AND ts_event_ns {sign} %({name})s")
        source = f"signals WHERE {' AND '.join(conditions)}" if conditions else "signals"
        if self.limit is not None:
            # Names of columns and signs are ours; values are parameters.
            source = f"(SELECT * FROM {source} ORDER BY ts_event DESC, seq DESC LIMIT %(limit)s) AS newest"  # noqa: S608
        values = {
            "logic": self.logic,
            "instrument": self.instrument,
            "pattern": glob_regex(self.instrument or ""),
            "since": self.since_ns,
            "until": self.until_ns,
            "limit": self.limit,
        }
        order = "logic, version, params_hash, seq, instrument, id"
        return f"SELECT {', '.join(_COLUMNS)} FROM {source} ORDER BY {order}", values  # noqa: S608


def connect(dsn: str) -> Connection:
    """Connect for reading; raise UnavailableError if the database does not answer."""
    try:
        # No statements prepared behind the scenes: poolers between us and the server lose them.
        connection = psycopg.connect(dsn, prepare_threshold=None, client_encoding="utf8", application_name="tapeline")
    except psycopg.OperationalError as error:
        raise UnavailableError(f"the database does not answer: {' '.join(str(error).split())}") from error
    connection.read_only = True
    set_json_loads(orjson.loads, connection)
    return connection


def read_signals(connection: Connection, query: SignalQuery) -> Iterator[Signal]:
    """Yield the signals by logic, version and parameters, each in order of seq.

    seq counts per ticks partition: where several partitions have the same seq, the instrument's name decides.
    Raises StoreError if the database has no such table.
    """
    sql, values = query.sql()
    try:
        with connection.transaction(), connection.cursor("signals") as cursor:
            cursor.itersize = ROWS_A_FETCH
            cursor.execute(sql.encode(), values)
            for row in cursor:
                yield _signal(row)
    except psycopg.errors.UndefinedTable as error:
        raise StoreError(
            "this database holds no signals: role persist makes the tables when it first runs "
            "(`tapeline up`, or `tapeline worker persist`)"
        ) from error
    except psycopg.OperationalError as error:
        raise UnavailableError(f"the database went away while it was read: {' '.join(str(error).split())}") from error
    except psycopg.Error as error:
        raise StoreError(f"the signals cannot be read: {' '.join(str(error).split())}") from error


def count_received(connection: Connection, since_ns: int, instruments: str) -> int:
    """Return how many signals have a receive time from since_ns on. instruments: LIKE pattern."""
    query = "SELECT count(*) FROM signals WHERE ts_recv_ns >= %s AND instrument LIKE %s"
    row = connection.execute(query, [since_ns, instruments]).fetchone()
    return 0 if row is None else int(row[0])


def newest_received(connection: Connection, since_ns: int, instruments: str, limit: int) -> list[Signal]:
    """Return the newest of those that `count_received` counts, newest first."""
    query = (
        f"SELECT {', '.join(_COLUMNS)} FROM signals WHERE ts_recv_ns >= %s AND instrument LIKE %s "  # noqa: S608
        "ORDER BY ts_recv_ns DESC, seq DESC LIMIT %s"
    )
    return [_signal(row) for row in connection.execute(query.encode(), [since_ns, instruments, limit])]


def _signal(row: tuple[Any, ...]) -> Signal:
    named = dict(zip(_COLUMNS, row, strict=True))
    origin = {name: named.pop(f"origin_{name}") for name in ("partition", "offset", "index")}
    try:
        return Signal(**named | {"id": named["id"].hex, "origin": origin})
    except ValidationError as error:
        raise StoreError(f"row {named['id']} of table signals is no signal: {error.errors()[0]['msg']}") from error


def glob_regex(pattern: str) -> str:
    """Return the regular expression of PostgreSQL that matches what `fnmatch.fnmatchcase` matches."""
    parts: list[str] = []
    at = 0
    while at < len(pattern):
        sign = pattern[at]
        at += 1
        if sign == "*":
            parts.append(".*")
        elif sign == "?":
            parts.append(".")
        elif sign == "[" and (end := pattern.find("]", at + 1 + (pattern[at : at + 1] == "!"))) >= 0:
            negated = pattern[at] == "!"
            parts.append(_set(pattern[at + negated : end], negated=negated))
            at = end + 1
        else:
            parts.append(_literal(sign))
    return f"^{''.join(parts)}$"


def _set(signs: str, *, negated: bool) -> str:
    """Return the expression of a set; a `-` at its ends is literal, a range that ends before it begins is empty."""
    items: list[str] = []
    at = 0
    while at < len(signs):
        if at + 2 < len(signs) and signs[at + 1] == "-":
            first, last = signs[at], signs[at + 2]
            if first <= last:
                items.append(f"{_literal(first)}-{_literal(last)}")
            at += 3
        else:
            items.append(_literal(signs[at]))
            at += 1
    if not items:
        return "." if negated else "(?!)"
    return f"[{'^' if negated else ''}{''.join(items)}]"


def _literal(sign: str) -> str:
    return sign if sign.isalnum() else f"\\U{ord(sign):08x}"
