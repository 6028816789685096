"""The store of ticks on a real PostgreSQL: what every store must do, its partitions, and a server that goes away."""

import asyncio
import logging
import time

import psycopg
import pytest

from tapeline.connectors.stores import TickStore, upkeep
from tapeline.streams.home import Home
from tests.connectors.stores.examples import DAY_NS
from tests.connectors.stores.frames import START_NS, make_frame, placed
from tests.system.frame_checks import CHECKS, PARTITION, TOPIC, Check, kept, opened, query
from tests.system.test_store import own_server, until

pytestmark = pytest.mark.slow

TODAY_NS = time.time_ns() // DAY_NS * DAY_NS


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_on_postgres(check: Check, database: str) -> None:
    check(database)


def partitions(dsn: str) -> list[str]:
    """The names of the partitions of ticks."""
    found = query(
        dsn, "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'ticks'::regclass ORDER BY 1"
    )
    return [name for (name,) in found]


def test_partitions_of_a_day_are_made_as_ticks_come_also_by_several_at_once(database: str) -> None:
    async def run() -> None:
        stores = [TickStore(database, "persist-ticks", topic_id="log", keep_days=-1) for _ in range(4)]
        await asyncio.gather(*(store.open() for store in stores))
        days = [make_frame(at, start_ns=START_NS + day * DAY_NS - 1) for at, day in enumerate((0, 1, -400))]
        await asyncio.gather(
            *(store.write(placed(days), TOPIC, partition, 3) for partition, store in enumerate(stores))
        )
        await asyncio.gather(*(store.close() for store in stores))

    asyncio.run(run())
    assert partitions(database) == [
        f"ticks_{day}" for day in ("20230704", "20230705", "20240807", "20240808", "20240809")
    ]
    assert len(kept(database)[0]) == 4 * 3 * 4
    indexes = query(database, "SELECT count(*) FROM pg_index WHERE indrelid = 'ticks_20240808'::regclass")
    assert indexes == [(1,)], "it is searched as the others are"


def test_old_partitions_are_dropped_and_made_again_if_they_must_be(database: str) -> None:
    """Also one that another process has dropped since this one looked."""
    frames = [make_frame(at, start_ns=TODAY_NS - days * DAY_NS) for at, days in enumerate((0, 2, 3, 4, 30))]
    names = [time.strftime("ticks_%Y%m%d", time.gmtime((TODAY_NS - days * DAY_NS) // 10**9)) for days in (2, 0)]

    async def run() -> None:
        async with opened(database, keep_days=2) as store:
            assert await store.write(placed(frames), TOPIC, PARTITION, 5) == []
            query(database, "CREATE TABLE mine PARTITION OF ticks FOR VALUES FROM ('2001-01-01') TO ('2001-02-01')")
            async with opened(database, keep_days=2):
                assert partitions(database) == ["mine", *names], "what we did not make is left alone"
            assert await store.write([(5, make_frame(9, start_ns=TODAY_NS - 30 * DAY_NS))], TOPIC, PARTITION, 6) == []
            assert len(partitions(database)) == 4
            await store.upkeep()
            assert partitions(database) == ["mine", *names]

    asyncio.run(run())
    assert [origin for _, origin, *_ in kept(database)[0]] == [0] * 4 + [1] * 4


def test_somebody_who_reads_is_not_disturbed_for_long(
    database: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "LOCK_SECONDS", 0.1)
    old = [make_frame(at, start_ns=TODAY_NS - (30 + at) * DAY_NS) for at in range(3)]

    async def run() -> None:
        async with opened(database, keep_days=2) as store:
            assert await store.write(placed(old), TOPIC, PARTITION, 3) == []
            with psycopg.connect(database) as reader:
                reader.execute("SELECT count(*) FROM ticks")
                await store.upkeep()
                assert caplog.text.count("it is dropped later") == 1, "once for all of them"
                assert not store.away
                assert len(partitions(database)) == 3
            await store.upkeep()

    with caplog.at_level(logging.INFO):
        asyncio.run(run())
    assert partitions(database) == []


def test_a_database_that_goes_away_costs_delay_and_nothing_else(home: Home, caplog: pytest.LogCaptureFixture) -> None:
    """No key would notice a row that is written twice."""
    frames = [make_frame(at, 500) for at in range(200)]
    written: list[int] = []

    async def write(dsn: str) -> None:
        async with opened(dsn) as store:
            for at in range(0, 200, 2):
                assert await store.write(placed(frames[at : at + 2], at), TOPIC, PARTITION, at + 2) == []
                written.append(at + 2)

    async def run() -> None:
        async with own_server(home) as server:
            writing = asyncio.create_task(write(server.dsn))
            for mark, end in ((10, server.kill), (60, server.stop)):
                async with asyncio.timeout(30):
                    while len(written) < mark:
                        assert not writing.done()
                        await asyncio.sleep(0)
                caplog.clear()
                await end()
                await until(caplog, "(try 1)")
                await server.start()
            await writing
            wanted = [(at, count) for at in range(200) for count in [500]]
            assert query(server.dsn, "SELECT origin_offset, count(*) FROM ticks GROUP BY 1 ORDER BY 1") == wanted

    with caplog.at_level(logging.INFO):
        asyncio.run(run())
