"""Who makes the TimescaleDB extension: on a PostgreSQL with a stand-in for it, because no package ships the real one.

The stand-in has the extension's name, can be preloaded, and has the functions of the Apache edition that are called.
test_timescale.py has the real one, which cannot be preloaded there.
"""

import asyncio
import logging
import shutil
from collections.abc import Iterator
from datetime import timedelta

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tapeline.connectors.stores.migrate import ServerKind, server_kind
from tapeline.streams.servers import Postgres
from tapeline.streams.servers.postgres import installed
from tests.connectors.stores.examples import encoded, make_signals
from tests.connectors.stores.frames import make_frame, placed
from tests.system import frame_checks
from tests.system.conftest import temporary_home
from tests.system.store_checks import TOPIC, kept, opened

pytestmark = pytest.mark.slow

SQL = """
CREATE FUNCTION by_range(column_name name, width interval) RETURNS text LANGUAGE sql AS 'SELECT column_name::text';
CREATE TABLE @extschema@.made (hypertable_schema name, hypertable_name name);
CREATE FUNCTION create_hypertable(relation regclass, dimension text, create_default_indexes boolean) RETURNS void
LANGUAGE sql AS $$
    INSERT INTO @extschema@.made SELECT relnamespace::regnamespace::text, relname FROM pg_class WHERE oid = relation
$$;
CREATE TABLE @extschema@.dropped (relation regclass, older_than interval);
CREATE FUNCTION drop_chunks(relation regclass, older_than interval) RETURNS SETOF text LANGUAGE sql AS $$
    INSERT INTO @extschema@.dropped VALUES (relation, older_than) RETURNING 'chunk'
$$;
CREATE SCHEMA timescaledb_information;
CREATE VIEW timescaledb_information.hypertables AS SELECT * FROM @extschema@.made;
"""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The connection string of a PostgreSQL that has the stand-in loaded."""
    source = installed()
    assert source is not None
    with temporary_home() as home, asyncio.Runner() as runner:
        package = source.parent
        for part in (package, package.with_name(f"{package.name}.libs")):
            shutil.copytree(part, home.path.parent / part.name, symlinks=True)
        copy = home.path.parent / package.name / source.name
        (library,) = copy.glob("lib/**/auto_explain.so")
        shutil.copy(library, library.with_name("timescaledb.so"))
        extensions = copy / "share" / "extension"
        (extensions / "timescaledb.control").write_text("default_version = '0'\nrelocatable = false\n")
        (extensions / "timescaledb--0.sql").write_text(SQL)
        postgres = Postgres(home, installation=copy)
        runner.run(postgres.start())
        yield postgres.dsn
        runner.run(postgres.stop())


@pytest.fixture
def database(server: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """An empty database that belongs to role `plain`."""
    name = f"test_{request.node.name}"[:60]
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("CREATE ROLE plain LOGIN")
        connection.execute(f'CREATE DATABASE "{name}" OWNER plain')
        yield make_conninfo(server, dbname=name)
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
        connection.execute("DROP ROLE plain")


def kind_after_start(dsn: str) -> ServerKind:
    async def run() -> ServerKind:
        async with opened(dsn) as store:
            assert await store.write(encoded(make_signals(3)), TOPIC, 0, 3) == []
        async with opened(dsn), await psycopg.AsyncConnection.connect(dsn) as connection:
            return await server_kind(connection)

    kind = asyncio.run(run())
    assert kept(dsn) == make_signals(3)
    return kind


def test_it_is_made_where_we_may(database: str) -> None:
    kind = kind_after_start(database)
    assert (kind.timescale, kind.hypertable) == ("0", True)


def test_without_the_right_the_table_is_plain_and_the_log_says_so(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        kind = kind_after_start(make_conninfo(database, user="plain"))
    assert (kind.timescale, kind.hypertable) == (None, False)
    assert "let an administrator run CREATE EXTENSION timescaledb" in caplog.text
    # And it stays plain when the extension comes later.
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION timescaledb")
        connection.execute("GRANT USAGE ON SCHEMA timescaledb_information TO plain")
        connection.execute("GRANT SELECT ON timescaledb_information.hypertables TO plain")
    kind = kind_after_start(make_conninfo(database, user="plain"))
    assert (kind.timescale, kind.hypertable) == ("0", False)


def test_made_by_an_administrator_it_is_used(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA elsewhere")
        connection.execute("CREATE EXTENSION timescaledb SCHEMA elsewhere")
        connection.execute("GRANT ALL ON ALL TABLES IN SCHEMA elsewhere TO plain")
        connection.execute("GRANT USAGE ON SCHEMA elsewhere, timescaledb_information TO plain")
        connection.execute("GRANT SELECT ON timescaledb_information.hypertables TO plain")
    kind = kind_after_start(make_conninfo(database, user="plain"))
    assert (kind.timescale, kind.hypertable) == ("0", True)


def test_the_apache_edition_has_hypertables_and_no_more(database: str, caplog: pytest.LogCaptureFixture) -> None:
    """No compression, no policies, no continuous aggregates: we drop what is old, aggregates are views."""
    name = psycopg.conninfo.conninfo_to_dict(database)["dbname"]
    frame_checks.query(database, f"ALTER DATABASE \"{name}\" SET timescaledb.license = 'apache'")

    async def run() -> None:
        async with frame_checks.opened(database, keep_days=7) as store:
            assert await store.write(placed([make_frame(0, 10)]), "ticks", 1, 1) == []

    with caplog.at_level(logging.INFO):
        asyncio.run(run())
    assert "ticks are kept for 7 days, in a hypertable" in caplog.text
    assert "is the Apache edition (timescaledb.license): what is kept is not compressed" in caplog.text
    assert frame_checks.query(database, "SELECT hypertable_name FROM made ORDER BY 1") == [
        ("bars",),
        ("signals",),
        ("ticks",),
    ]
    assert frame_checks.query(database, "SELECT * FROM dropped") == [("ticks", timedelta(days=7))]
    assert frame_checks.query(database, "SELECT instrument, trades FROM ohlcv_1h ORDER BY 1") == [
        ("sim:A", 5),
        ("sim:B", 5),
    ]
