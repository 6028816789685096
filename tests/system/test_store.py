"""The PostgreSQL store on a real server: what every store must do, starting together, and a server that is away."""

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Literal
from unittest.mock import ANY

import psycopg
import pytest

from tapeline.connectors.stores import PostgresStore, StoreError
from tapeline.connectors.stores.migrate import Migration, migrate, server_kind, shipped
from tapeline.schemas import GapReason, Kind, Signal, SignalOrigin
from tapeline.streams.home import Home
from tapeline.streams.servers import Postgres
from tests.connectors.stores.examples import encoded, make_signal, make_signals
from tests.connectors.stores.frames import A, make_frame
from tests.system import bar_checks, frame_checks
from tests.system.frame_checks import MINUTE_NS
from tests.system.store_checks import CHECKS, TOPIC, Check, kept, opened

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_on_postgres(check: Check, database: str) -> None:
    check(database)


def test_processes_that_start_together_make_the_tables_once(database: str) -> None:
    async def run() -> None:
        stores = [PostgresStore(database, "persist", topic_id="log") for _ in range(8)]
        await asyncio.gather(*(store.open() for store in stores))
        signals = make_signals(80)
        await asyncio.gather(
            *(store.write(encoded(signals[at * 10 :]), TOPIC, at, at) for at, store in enumerate(stores)),
        )
        assert await stores[0].next_offsets(TOPIC) == {at: at for at in range(8)}
        await asyncio.gather(*(store.close() for store in stores))

    asyncio.run(run())
    assert kept(database) == make_signals(80)
    with psycopg.connect(database) as connection:
        rows = connection.execute("SELECT number, checksum FROM tapeline_migrations ORDER BY number").fetchall()
    assert rows == [(one.number, one.checksum) for one in shipped()]


def test_a_later_migration_is_applied_to_what_is_there_and_a_failed_one_leaves_no_trace(database: str) -> None:
    second = Migration(
        len(shipped()) + 1, "999_more.sql", "ALTER TABLE signals ADD more int; CREATE TABLE more (x int)"
    )
    broken = Migration(second.number + 1, "999_broken.sql", "CREATE TABLE half (x int); SELECT 1 / 0")

    async def run() -> None:
        async with opened(database) as store:
            await store.write(encoded(make_signals(3)), TOPIC, 0, 3)
        async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
            await migrate(connection, [*shipped(), second])
            await migrate(connection, [*shipped(), second])
            with pytest.raises(psycopg.errors.DivisionByZero):
                await migrate(connection, [*shipped(), second, broken])
            found = await connection.execute("SELECT to_regclass('more')::text, to_regclass('half')::text")
            assert await found.fetchone() == ("more", None)
            with pytest.raises(StoreError, match=r"at migration \d+ \(999_more\.sql\).*upgrade Tapeline"):
                await migrate(connection)

    asyncio.run(run())
    assert kept(database) == make_signals(3)


def test_a_database_of_the_first_version_is_brought_up_to_date(database: str) -> None:
    async def run() -> None:
        async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
            await migrate(connection, shipped()[:1])
            await connection.execute(
                "INSERT INTO input_offsets (role, topic, topic_id, partition, next_offset) "
                "VALUES ('persist', 'signals', 'log', 0, 7)"
            )
        async with opened(database) as store, frame_checks.opened(database) as ticks:
            assert await store.next_offsets(TOPIC) == {0: 7}
            assert await ticks.write([(0, make_frame(0))], "ticks", 0, 1) == []

    asyncio.run(run())


def test_a_table_of_the_same_name_that_is_not_ours_is_left_alone(database: str) -> None:
    with psycopg.connect(database) as connection:
        connection.execute("CREATE TABLE signals (mine int)")
    with pytest.raises(StoreError, match=r'relation "signals" already exists, and it is not ours.*another schema'):
        asyncio.run(PostgresStore(database, "persist", topic_id="log").open())


def test_missing_rights_are_an_error_and_not_waited_for(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        name = connection.info.dbname.replace("test", "reader")
        connection.execute(f'CREATE ROLE "{name}" LOGIN')
    try:
        with pytest.raises(StoreError, match="permission denied"):
            asyncio.run(
                PostgresStore(psycopg.conninfo.make_conninfo(database, user=name), "persist", topic_id="log").open()
            )
    finally:
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute(f'DROP ROLE "{name}"')


def test_a_plain_server_is_called_plain(database: str) -> None:
    async def run() -> str:
        async with opened(database), await psycopg.AsyncConnection.connect(database) as connection:
            return str(await server_kind(connection))

    assert asyncio.run(run()).startswith("PostgreSQL 18")
    assert asyncio.run(run()).endswith("signals in a plain table")


def test_the_queries_of_the_documentation_find_what_they_say(database: str) -> None:
    """On what happened just now: a signal of the first of some ticks, a gap, a bar."""
    blocks = re.findall(r"```sql\n(.*?)```", (ROOT / "docs" / "database.md").read_text(), re.DOTALL)
    now_ns = time.time_ns() - 10 * MINUTE_NS
    kinds, prices = [Kind.TRADE] * 5 + [Kind.GAP], [100.0] * 5 + [GapReason.SEQUENCE]
    frame = make_frame(7, 6, start_ns=now_ns, kind=kinds, price=prices, instrument_id=A.id)
    origin = SignalOrigin(partition=frame.lane.raw_partition, offset=frame.origin_offset, index=0)
    signal = make_signal(ts_event_ns=now_ns, instrument="sim:A", origin=origin)

    async def run() -> None:
        async with opened(database) as store, frame_checks.opened(database) as ticks:
            assert await store.write([signal.encode()], TOPIC, 0, 1) == []
            assert await ticks.write([(0, frame)], "ticks", 1, 1) == []

    asyncio.run(run())
    bar_checks.written(database, bar_checks.make_bars(1, start_ns=now_ns))
    with psycopg.connect(database) as connection:
        found = [connection.execute(query.encode()).fetchall() for block in blocks for query in block.split(";")[:-1]]
    assert [len(rows) for rows in found] == [1, 1, 5, 1, 1, 1, 1, 3]
    assert found[0][0][1:] == ("sim:A", signal.side, signal.price)
    assert found[4][0][1:] == ("sequence", 1, 3.0)
    assert found[5][0] == ("ema_cross", signal.side, ANY, 100.0, 1.0)
    assert [row[:4] for row in found[-1]] == [
        ("persist", "signals", 0, 1),
        ("persist-bars", "bars", 1, 1),
        ("persist-ticks", "ticks", 1, 1),
    ]


@asynccontextmanager
async def own_server(home: Home) -> AsyncIterator[Postgres]:
    """A PostgreSQL that the test may stop."""
    server = Postgres(home)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def until(records: pytest.LogCaptureFixture, text: str) -> None:
    """Wait until something was logged."""
    async with asyncio.timeout(30):
        while text not in records.text:  # noqa: ASYNC110 - what logs does not tell
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_database_that_goes_away_costs_delay_and_nothing_else(
    end: Literal["stop", "kill"], home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    signals = make_signals(600)
    written: list[int] = []

    async def write(dsn: str) -> None:
        async with opened(dsn) as store:
            for at in range(0, 600, 2):
                assert await store.write(encoded(signals[at : at + 2]), TOPIC, 0, at + 2) == []
                written.append(at + 2)
            assert await store.next_offsets(TOPIC) == {0: 600}

    async def run() -> list[Signal]:
        async with own_server(home) as server:
            writing = asyncio.create_task(write(server.dsn))
            for mark in (50, 300):
                async with asyncio.timeout(30):
                    while len(written) < mark / 2:
                        assert not writing.done()
                        await asyncio.sleep(0)
                caplog.clear()
                await (server.stop() if end == "stop" else server.kill())
                await until(caplog, "(try 3)")
                assert not writing.done()
                await server.start()
                await until(caplog, "the database is back")
            await writing
            return kept(server.dsn)

    with caplog.at_level(logging.INFO):
        assert asyncio.run(run()) == signals
    assert written == list(range(2, 602, 2))


def test_a_server_that_is_not_there_yet_is_waited_for_until_cancelled(
    home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        async with own_server(home) as server:
            dsn = server.dsn
        waiting = asyncio.create_task(PostgresStore(dsn, "persist", topic_id="log").open())
        await until(caplog, "(try 2)")
        waiting.cancel()
        with suppress(asyncio.CancelledError):
            async with asyncio.timeout(1):
                await waiting
        assert waiting.cancelled()
        store = PostgresStore(dsn, "persist", topic_id="log")
        opening = asyncio.create_task(store.open())
        await until(caplog, "(try 4)")
        async with own_server(home):
            await opening
            await store.close()

    with caplog.at_level(logging.INFO):
        asyncio.run(run())
