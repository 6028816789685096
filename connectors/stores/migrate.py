"""Bring a database's tables up to date: numbered .sql files, each applied once. `PostgresStore.open` calls it.

Several processes may start at once: one does the work under an advisory lock, the others find it done. A file
that was applied is never changed; a change is a new file.
"""

import hashlib
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.resources import files

from psycopg import AsyncConnection, errors

from tapeline.connectors.stores.contract import StoreError

log = logging.getLogger(__name__)

LOCK = 0x7461_7065_6C69_6E65  # "tapeline"; any number that others do not use


@dataclass(frozen=True, slots=True)
class Migration:
    """One file. number: from its name, gapless from 1."""

    number: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """SHA-256 of its text."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class ServerKind:
    """What answers. timescale: version of the extension in this database, None if it is not there."""

    postgres: str
    timescale: str | None
    hypertable: bool

    def __str__(self) -> str:
        extension = f" with TimescaleDB {self.timescale}" if self.timescale else ""
        table = "a hypertable" if self.hypertable else "a plain table"
        return f"PostgreSQL {self.postgres}{extension}, signals in {table}"


def shipped() -> list[Migration]:
    """Return the migrations of this version, in order."""
    found = sorted(
        (file for file in (files(__package__) / "migrations").iterdir() if file.name.endswith(".sql")),
        key=lambda file: file.name,
    )
    return [Migration(int(file.name.split("_")[0]), file.name, file.read_text("utf-8")) for file in found]


async def migrate(connection: AsyncConnection, migrations: Sequence[Migration] | None = None) -> None:
    """Apply what is missing, all or nothing; raise StoreError if the database does not fit this version.

    The extension is made where the server has it loaded and lets us, so that the first migration finds it.
    """
    known = shipped() if migrations is None else migrations
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS tapeline_migrations (number integer PRIMARY KEY, name text NOT NULL, "
            "checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
        )
        rows = await connection.execute("SELECT number, name, checksum FROM tapeline_migrations ORDER BY number")
        missing = missing_of(known, await rows.fetchall())
        if len(missing) == len(known):
            await _ensure_extension(connection)
        for migration in missing:
            log.info("applying migration %s", migration.name)
            try:
                # Without parameters, so that the file may hold several statements.
                await connection.execute(migration.sql.encode())
            except errors.DuplicateTable as error:
                raise StoreError(
                    f"migration {migration.name}: {error.diag.message_primary}, and it is not ours. Use another "
                    "database, or another schema: options=-csearch_path=NAME in [database] dsn"
                ) from error
            await connection.execute(
                "INSERT INTO tapeline_migrations (number, name, checksum) VALUES (%s, %s, %s)",
                [migration.number, migration.name, migration.checksum],
            )


def missing_of(known: Sequence[Migration], applied: Sequence[tuple[int, str, str]]) -> list[Migration]:
    """Return what is to be applied; raise StoreError unless `applied` (number, name, checksum) begins `known`."""
    for (number, name, checksum), migration in zip(applied, known, strict=False):
        if (number, checksum) != (migration.number, migration.checksum):
            raise StoreError(
                f"the database was made by {name} (number {number}), which is not this version's {migration.name}. "
                "An applied migration must not change: install the version that made it, or restore the file and "
                "put the change into a new one"
            )
    if len(applied) > len(known):
        raise StoreError(
            f"the database is at migration {applied[-1][0]} ({applied[-1][1]}), this version of Tapeline knows "
            f"{len(known)}: upgrade Tapeline, or use another database"
        )
    return list(known[len(applied) :])


async def server_kind(connection: AsyncConnection) -> ServerKind:
    """Ask what answers, and what the signals lie in."""
    rows = await connection.execute(
        "SELECT current_setting('server_version'), (SELECT extversion FROM pg_extension WHERE extname = 'timescaledb')"
    )
    postgres, timescale = await rows.fetchone() or ("unknown", None)
    hypertable = False
    if timescale:
        rows = await connection.execute(
            "SELECT count(*) FROM timescaledb_information.hypertables "
            "WHERE format('%I.%I', hypertable_schema, hypertable_name)::regclass = to_regclass('signals')"
        )
        hypertable = await rows.fetchone() == (1,)
    return ServerKind(postgres, timescale, hypertable)


async def _ensure_extension(connection: AsyncConnection) -> None:
    rows = await connection.execute(
        "SELECT coalesce((SELECT setting FROM pg_settings WHERE name = 'shared_preload_libraries'), '') "
        "FROM pg_available_extensions WHERE name = 'timescaledb' AND installed_version IS NULL"
    )
    found = await rows.fetchone()
    if found is None:
        return
    # Where it is not loaded, making it ends the session; and only who has the right to look sees whether it is.
    if "timescaledb" in found[0]:
        with suppress(errors.InsufficientPrivilege):
            async with connection.transaction():
                await connection.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
            return
    log.warning(
        "the server has TimescaleDB, but this database does not and we may not change that: the signals table is a "
        "plain one. For a hypertable, let an administrator run CREATE EXTENSION timescaledb in an empty database first"
    )
