"""The store of signals in PostgreSQL or TimescaleDB, by psycopg. `agents/persist.py` writes through it.

The signals lie in a hypertable (chunks of 7 days of event time) if the database had the extension when the tables
were made, else in a plain table. A plain table stays one when the extension comes later: making a hypertable of it
rewrites and locks it, so that is left to an administrator (`create_hypertable(..., migrate_data => true)`).
"""

import logging
from collections import Counter
from collections.abc import Sequence

from psycopg import AsyncConnection

from tapeline.connectors.stores.contract import Refused
from tapeline.connectors.stores.database import REFUSALS, Database, insert_each
from tapeline.connectors.stores.migrate import server_kind

log = logging.getLogger(__name__)

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


class PostgresStore(Database):
    """Keep signals and the offsets of `role` in the database that `dsn` names (see contract.SignalStore).

    topic_id: Kafka's id of the topic that the offsets count in.
    """

    def __init__(self, dsn: str, role: str, *, topic_id: str) -> None:
        super().__init__(dsn, role, topic_id=topic_id)
        self.repeats: Counter[int] = Counter()

    async def prepare(self, connection: AsyncConnection) -> None:
        """Say where the signals are kept."""
        log.info("signals are kept in %s", await server_kind(connection))

    async def write(self, signals: Sequence[bytes], topic: str, partition: int, next_offset: int) -> list[Refused]:
        """Keep signals and offset in one transaction; return refused ones instead of moving the offset."""

        async def keep(connection: AsyncConnection) -> list[Refused]:
            # At first without savepoints: they would double the round trips of every write for the rare refusal.
            offset = [self.role, topic, self.topic_id, partition, next_offset]
            try:
                async with connection.transaction():
                    repeats = await _insert(connection, signals) if signals else Counter[int]()
                    await connection.execute(MOVE_OFFSET, offset)
                refused = list[Refused]()
            except REFUSALS:
                repeats = Counter[int]()

                async def insert(part: Sequence[bytes]) -> None:
                    repeats.update(await _insert(connection, part))

                async with connection.transaction():
                    refused = await insert_each(connection, signals, insert)
                    if not refused:
                        await connection.execute(MOVE_OFFSET, offset)
            self.repeats += repeats
            return refused

        return await self.steadily(keep)


async def _insert(connection: AsyncConnection, signals: Sequence[bytes]) -> Counter[int]:
    """Insert all; return how many were there before, by raw partition."""
    return Counter(dict(await (await connection.execute(INSERT, [_json(signals)])).fetchall()))


def _json(signals: Sequence[bytes]) -> str:
    """Return the one parameter of INSERT; to make lists of columns, and send those, takes ten times as long."""
    return f"[{b','.join(signals).decode()}]"
