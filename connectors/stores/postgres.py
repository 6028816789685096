"""The store in PostgreSQL or TimescaleDB, by psycopg. `agents/persist.py` writes through it.

The signals lie in a hypertable (chunks of 7 days of event time) if the database had the extension when the tables
were made, else in a plain table. A plain table stays one when the extension comes later: making a hypertable of it
rewrites and locks it, so that is left to an administrator (`create_hypertable(..., migrate_data => true)`).
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TypeVar

import psycopg
from psycopg import AsyncConnection, errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tapeline.connectors.stores.contract import Refused, StoreError
from tapeline.connectors.stores.migrate import migrate, server_kind

log = logging.getLogger(__name__)

T = TypeVar("T")

ANSWER_SECONDS = 10
"""A database that owes an answer for longer (a lock, a disk that hangs) is waited for, and that is said."""
PAUSE_FIRST_S = 0.2
PAUSE_MAX_S = 5.0
TRIES_LOGGED = 6
"""So many tries are logged one by one, later ones once a minute."""

# A dead host is noticed in seconds, not in the hours that TCP would wait. The DSN may say otherwise.
CONNECTION = {
    "connect_timeout": "10",
    "tcp_user_timeout": "15000",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "application_name": "tapeline",
}

INSERT = """
WITH given AS (
    SELECT * FROM json_to_recordset(%s::json) AS new (
        id uuid, seq bigint, tenant text, logic text, version text, params_hash text, instrument text, side text,
        strength double precision, price numeric, ts_event_ns bigint, ts_recv_ns bigint, valid_until_ns bigint,
        origin json, tags jsonb
    )
), kept AS (INSERT INTO signals (
    id, seq, tenant, logic, version, params_hash, instrument, side, strength, price, ts_event, ts_event_ns,
    ts_recv_ns, valid_until_ns, origin_partition, origin_offset, origin_index, tags
)
SELECT
    id, seq, tenant, logic, version, params_hash, instrument, side, strength, price,
    'epoch'::timestamptz + (ts_event_ns / 1000) * interval '1 microsecond', ts_event_ns, ts_recv_ns, valid_until_ns,
    (origin->>'partition')::integer, (origin->>'offset')::bigint, (origin->>'index')::bigint, tags
FROM given
ON CONFLICT (id, ts_event) DO NOTHING
RETURNING origin_partition)
SELECT origin_partition, sum(signals)::bigint FROM (
    SELECT (origin->>'partition')::integer AS origin_partition, 1 AS signals FROM given
    UNION ALL SELECT origin_partition, -1 FROM kept
) AS counted
GROUP BY origin_partition HAVING sum(signals) > 0
"""
"""Keeps signals; returns how many of them were there before, by the raw partition of their origin."""

MOVE_OFFSET = """
INSERT INTO input_offsets AS old (role, topic, topic_id, partition, next_offset) VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (role, topic, partition) DO UPDATE SET next_offset = excluded.next_offset, changed_at = now()
WHERE old.next_offset < excluded.next_offset
"""

# What is wrong with the values, and stays wrong however often we try: NUL in a text, a number out of range.
_REFUSALS = (psycopg.DataError, psycopg.IntegrityError, errors.ProgramLimitExceeded)
# What may heal: no connection, a server that stops or starts, a full disk, a deadlock, a standby after a failover.
# A wrong password is among them: libpq does not tell it apart, and it may be the server's that is set right.
_AWAY = (psycopg.OperationalError, psycopg.InterfaceError, errors.ReadOnlySqlTransaction)


class PostgresStore:
    """Keep signals and the offsets of `role` in the database that `dsn` names (see contract.SignalStore).

    topic_id: Kafka's id of the topic that the offsets count in.
    """

    def __init__(self, dsn: str, role: str, *, topic_id: str) -> None:
        self._dsn = make_conninfo("", **(CONNECTION | conninfo_to_dict(dsn) | {"client_encoding": "utf8"}))
        self._role = role
        self._topic_id = topic_id
        self.away = False
        """Whether the database is waited for just now."""
        self.repeats: Counter[int] = Counter()
        self._connection: AsyncConnection | None = None
        self._lock = asyncio.Lock()

    async def open(self) -> None:
        """Connect and bring the tables up to date; waits for a database that is away, raises StoreError."""
        try:
            await self._steadily(migrate)
            log.info("signals are kept in %s", await self._steadily(server_kind))
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Let go of the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                await connection.close()

    async def next_offsets(self, topic: str) -> dict[int, int]:
        """Return the first offset not yet kept, for each partition of the topic that was ever written."""

        async def read(connection: AsyncConnection) -> dict[int, int]:
            query = "SELECT partition, next_offset, topic_id FROM input_offsets WHERE role = %s AND topic = %s"
            rows = await (await connection.execute(query, [self._role, topic])).fetchall()
            if any(topic_id != self._topic_id for _, _, topic_id in rows):
                raise StoreError(
                    f"the database holds signals of another topic {topic} than the one that is there now: it was made "
                    "anew, and its ids and offsets begin again. Use an empty database, or the Kafka that belongs to it"
                )
            return {partition: next_offset for partition, next_offset, _ in rows}

        return await self._steadily(read)

    async def write(self, signals: Sequence[bytes], topic: str, partition: int, next_offset: int) -> list[Refused]:
        """Keep signals and offset in one transaction; return refused ones instead of moving the offset."""

        async def keep(connection: AsyncConnection) -> list[Refused]:
            # At first without savepoints: they would double the round trips of every write for the rare refusal.
            offset = [self._role, topic, self._topic_id, partition, next_offset]
            try:
                async with connection.transaction():
                    repeats = await _insert(connection, signals) if signals else Counter[int]()
                    await connection.execute(MOVE_OFFSET, offset)
                refused = list[Refused]()
            except _REFUSALS:
                async with connection.transaction():
                    refused, repeats = await _insert_each(connection, signals)
                    if not refused:
                        await connection.execute(MOVE_OFFSET, offset)
            self.repeats += repeats
            return refused

        return await self._steadily(keep)

    def _overdue(self) -> None:
        if not self.away:  # else the tries say it, ever more rarely
            self.away = True
            log.warning(
                "the database does not answer, for %d s: does somebody hold a lock on its tables?", ANSWER_SECONDS
            )

    async def _steadily(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Do the work on a connection that lives, from its beginning again whenever the database was away."""
        async with self._lock:
            tries, pause_s, next_line = 0, PAUSE_FIRST_S, 0.0
            started = time.monotonic()
            while True:
                overdue = asyncio.get_running_loop().call_later(ANSWER_SECONDS, self._overdue)
                try:
                    if self._connection is None:
                        self._connection = await AsyncConnection.connect(
                            self._dsn, autocommit=True, prepare_threshold=None
                        )
                    result = await work(self._connection)
                except _AWAY as error:
                    await self.close()
                    self.away = True
                    tries += 1
                    if tries <= TRIES_LOGGED or time.monotonic() >= next_line:
                        log.warning("the database is away (try %d): %s", tries, _text(error))
                        next_line = time.monotonic() + 60
                except psycopg.Error as error:
                    await self.close()
                    raise StoreError(f"the database does not do what it is asked: {_text(error)}") from error
                else:
                    if self.away:
                        log.warning("the database is back after %.1f s", time.monotonic() - started)
                    self.away = False
                    return result
                finally:
                    overdue.cancel()
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, PAUSE_MAX_S)


async def _insert(connection: AsyncConnection, signals: Sequence[bytes]) -> Counter[int]:
    """Insert all; return how many were there before, by raw partition."""
    return Counter(dict(await (await connection.execute(INSERT, [_json(signals)])).fetchall()))


async def _insert_each(connection: AsyncConnection, signals: Sequence[bytes]) -> tuple[list[Refused], Counter[int]]:
    """Insert all; when the database refuses, halve until it is clear which, and insert the others."""
    try:
        async with connection.transaction():
            return [], await _insert(connection, signals)
    except _REFUSALS as error:
        if len(signals) == 1:
            return [Refused(0, _text(error))], Counter()
    middle = len(signals) // 2
    first, repeats = await _insert_each(connection, signals[:middle])
    second, more = await _insert_each(connection, signals[middle:])
    return first + [Refused(middle + one.index, one.reason) for one in second], repeats + more


def _json(signals: Sequence[bytes]) -> str:
    """Return the one parameter of INSERT; to make lists of columns, and send those, takes ten times as long."""
    return f"[{b','.join(signals).decode()}]"


def _text(error: psycopg.Error) -> str:
    """Return the error in one line."""
    text = ": ".join(filter(None, (error.diag.message_primary, error.diag.message_detail)))
    return " ".join((text or str(error)).split())
