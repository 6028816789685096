"""What a table of ticks or bars needs beside writing: partitions for what comes, an end for what is too old.

The stores of frames call it, at their start and now and then. On TimescaleDB of its own licence the database does
the work by policies, which are set here as the settings say; everywhere else we do it.
"""

import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum

from psycopg import AsyncConnection, errors, sql

from tapeline.connectors.stores.migrate import LOCK

log = logging.getLogger(__name__)

DAY_NS = 86_400 * 10**9
FOREVER = -1
PARTITIONS_LOCK = LOCK + 1
LOCK_SECONDS = 2
"""Dropping a partition stops whoever reads the table: so long they may wait for it, then it is left for later."""
BATCH_BUCKETS = 1440
"""So many buckets are refreshed in one transaction: with TimescaleDB's own few, a month of minutes takes minutes."""
MARGIN = timedelta(hours=1)
"""A refresh of what was dropped empties it: it ends so long before, so that one which takes its time is safe too."""


class Layout(StrEnum):
    """What rows lie in."""

    COMMUNITY = "a hypertable with compression"
    APACHE = "a hypertable"
    PARTITIONS = "partitions"
    PLAIN = "a plain table"


@dataclass(frozen=True, slots=True)
class Aggregate:
    """A continuous aggregate. bucket: as wide as one is; every: how often the newest are refreshed."""

    name: str
    bucket: timedelta
    every: timedelta


@dataclass(frozen=True, slots=True)
class Table:
    """A table by time. days: how many a chunk or partition holds, counted from 1970, as in its migration."""

    name: str
    days: int
    aggregates: tuple[Aggregate, ...] = ()
    """What is made of it."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a table lies. schema: of TimescaleDB's functions, None without it."""

    layout: Layout
    schema: str | None


async def find_place(connection: AsyncConnection, table: Table) -> Place:
    """Ask what the table lies in."""
    rows = await connection.execute(
        "SELECT (SELECT relkind = 'p' FROM pg_class WHERE oid = to_regclass(%s)), "
        "(SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace "
        "WHERE e.extname = 'timescaledb'), current_setting('timescaledb.license', true)",
        [table.name],
    )
    partitioned, schema, licence = await rows.fetchone() or (False, None, None)
    if partitioned:
        return Place(Layout.PARTITIONS, schema)
    if schema is not None:
        rows = await connection.execute(
            "SELECT count(*) FROM timescaledb_information.hypertables "
            "WHERE format('%%I.%%I', hypertable_schema, hypertable_name)::regclass = to_regclass(%s)",
            [table.name],
        )
        if await rows.fetchone() == (1,):
            return Place(Layout.COMMUNITY if licence == "timescale" else Layout.APACHE, schema)
    return Place(Layout.PLAIN, schema)


async def make_partitions(connection: AsyncConnection, table: Table, days: Iterable[int]) -> None:
    """Make the partitions that hold these days (since 1970), of those that are not there.

    Made aside and attached, so that nobody who reads or writes the table waits.
    """
    starts = sorted({day // table.days * table.days for day in days})
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", [PARTITIONS_LOCK])
        there = await _partitions(connection, table)
        for start in starts:
            if start in there:
                continue
            name = f"{table.name}_{_date(start):%Y%m%d}"
            names = {"table": sql.Identifier(table.name), "name": sql.Identifier(name)}
            await connection.execute(sql.SQL("CREATE TABLE {name} (LIKE {table} INCLUDING ALL)").format(**names))
            bounds = [f"{_date(at):%Y-%m-%d} 00:00+00" for at in (start, start + table.days)]
            await connection.execute(
                sql.SQL("ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ({low}) TO ({high})").format(
                    **names, low=sql.Literal(bounds[0]), high=sql.Literal(bounds[1])
                )
            )
            log.info("%s has a new partition %s", table.name, name)


async def drop_old(connection: AsyncConnection, table: Table, place: Place, keep_days: int) -> None:
    """Drop what is wholly older than so many days, where no policy of the database does it."""
    if keep_days == FOREVER or place.layout not in (Layout.PARTITIONS, Layout.APACHE):
        return
    if place.schema is not None and place.layout is Layout.APACHE:
        query = sql.SQL("SELECT {}.drop_chunks({}::regclass, older_than => make_interval(days => {}))")
        call = query.format(sql.Identifier(place.schema), sql.Literal(table.name), sql.Literal(keep_days))
        await _unless_locked(connection, call, f"old chunks of {table.name}")
        return
    rows = await connection.execute("SELECT extract(epoch FROM now())::bigint / 86400")
    today: int = (await rows.fetchone() or (0,))[0]
    for start, name in sorted((await _partitions(connection, table)).items()):
        if start + table.days <= today - keep_days:
            drop = sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(name))
            if not await _unless_locked(connection, drop, f"partition {name}, older than {keep_days} days"):
                return


async def are_continuous(connection: AsyncConnection, aggregates: Iterable[Aggregate]) -> bool:
    """Say whether these are continuous aggregates: made under the Apache edition, they are plain views."""
    names = [aggregate.name for aggregate in aggregates]
    rows = await connection.execute(
        "SELECT count(*) FROM timescaledb_information.continuous_aggregates WHERE view_name = ANY(%s) "
        "AND to_regclass(quote_ident(view_schema) || '.' || quote_ident(view_name)) = to_regclass(view_name)",
        [names],
    )
    return await rows.fetchone() == (len(names),)


async def keep_retention_policy(connection: AsyncConnection, schema: str, relation: str, keep_days: int) -> None:
    """Let the database drop chunks older than so many days, as its policy says already or is made to say."""
    if keep_days == FOREVER:
        await _call(connection, schema, "remove_retention_policy({}, if_exists => true)", relation)
    elif await _differs(connection, relation, "policy_retention", "drop_after", timedelta(days=keep_days)):
        await _call(connection, schema, "remove_retention_policy({}, if_exists => true)", relation)
        call = "add_retention_policy({}, drop_after => {})"
        await _call(connection, schema, call, relation, timedelta(days=keep_days))


async def keep_refresh_policy(connection: AsyncConnection, schema: str, aggregate: Aggregate, keep_days: int) -> None:
    """Let the database refresh an aggregate, back to where what it is made of is dropped (after so many days)."""
    start = None if keep_days == FOREVER else timedelta(days=keep_days) - MARGIN
    kind, name = "policy_refresh_continuous_aggregate", aggregate.name
    if await _differs(connection, name, kind, "start_offset", start):
        await _call(connection, schema, "remove_continuous_aggregate_policy({}, if_exists => true)", name)
        call = "add_continuous_aggregate_policy({}, start_offset => {}, end_offset => {}, schedule_interval => {}"
        values: list[object] = [name, start, aggregate.bucket, aggregate.every]
        if await _has_batches(connection):
            call, values = f"{call}, buckets_per_batch => {{}}", [*values, BATCH_BUCKETS]
        await _call(connection, schema, f"{call})", *values)


async def failed_policies(connection: AsyncConnection, relations: Sequence[str]) -> list[str]:
    """Return the policies of these tables and aggregates whose last run failed."""
    # Only these columns: times of a job that never ran are -infinity, which Python cannot hold.
    rows = await connection.execute(
        "SELECT format('%%s of %%s (job %%s)', j.proc_name, j.hypertable_name, job_id) "
        "FROM timescaledb_information.jobs j JOIN timescaledb_information.job_stats s USING (job_id) "
        "WHERE s.last_run_status = 'Failed' AND j.hypertable_name = ANY(%s) ORDER BY job_id",
        [relations],
    )
    return [text for (text,) in await rows.fetchall()]


async def _differs(connection: AsyncConnection, relation: str, policy: str, key: str, wanted: timedelta | None) -> bool:
    """Say whether the relation lacks the policy, or has it with another interval."""
    rows = await connection.execute(
        "SELECT (config->>%s)::interval IS NOT DISTINCT FROM %s::interval FROM timescaledb_information.jobs "
        "WHERE proc_name = %s "
        "AND to_regclass(quote_ident(hypertable_schema) || '.' || quote_ident(hypertable_name)) = to_regclass(%s)",
        [key, wanted, policy, relation],
    )
    return await rows.fetchall() != [(True,)]


async def _has_batches(connection: AsyncConnection) -> bool:
    """Say whether this TimescaleDB refreshes in batches; an older one refreshes all at once."""
    rows = await connection.execute(
        "SELECT 1 FROM pg_proc "
        "WHERE proname = 'add_continuous_aggregate_policy' AND 'buckets_per_batch' = ANY (proargnames)"
    )
    return await rows.fetchone() is not None


async def _call(connection: AsyncConnection, schema: str, call: str, *values: object) -> None:
    statement = sql.SQL("SELECT {}." + call)  # ours, no user's
    await connection.execute(statement.format(sql.Identifier(schema), *map(sql.Literal, values)))


async def _unless_locked(connection: AsyncConnection, statement: sql.Composed, what: str) -> bool:
    """Return whether it was done: nobody was in the way for long."""
    try:
        async with connection.transaction():
            await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'")
            found = await connection.execute(statement)
        if found.rowcount:  # 0: no chunk is that old
            log.info("dropped: %s", what)
    except errors.LockNotAvailable:
        log.info("somebody reads %s: it is dropped later", what)
        return False
    return True


async def _partitions(connection: AsyncConnection, table: Table) -> dict[int, str]:
    """Return the partitions that we made: first day (since 1970) -> name."""
    rows = await connection.execute(
        "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE inhparent = to_regclass(%s)",
        [table.name],
    )
    found = (re.fullmatch(rf"{table.name}_(\d{{8}})", name) for (name,) in await rows.fetchall())
    return {_day(datetime.strptime(one[1], "%Y%m%d").replace(tzinfo=UTC).date()): one[0] for one in found if one}


_FIRST = date(1970, 1, 1)


def _date(day: int) -> date:
    return _FIRST + timedelta(days=day)


def _day(of: date) -> int:
    return (of - _FIRST).days
