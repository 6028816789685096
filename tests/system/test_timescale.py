"""The store on a real TimescaleDB: a WASM build from npm, never shipped, installed beside the environment.

It is one backend behind a socket: no background workers, and every connection shares its session.
"""

import asyncio
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest

from tapeline.connectors.stores.migrate import server_kind
from tapeline.schemas import TickFrame
from tests.connectors.stores.examples import DAY_NS, encoded, make_signal
from tests.connectors.stores.frames import make_frame, placed
from tests.system import bar_checks, frame_checks
from tests.system.frame_checks import a_market, hours_of, minutes_of, query
from tests.system.store_checks import CHECKS, TOPIC, Check, kept, opened

HERE = Path(__file__).with_name("timescale")
PACKAGES = Path(sys.prefix) / "node-timescale"
"""Where npm installs: 24 MB, once."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (shutil.which("node") and shutil.which("npm")), reason="needs Node.js (node and npm)"),
]


def installed() -> Path:
    """Install exactly what the lock file says; returns the folder that has the packages."""
    lock = (HERE / "package-lock.json").read_bytes()
    done = PACKAGES / "installed.json"
    if not done.exists() or done.read_bytes() != lock:
        shutil.rmtree(PACKAGES, ignore_errors=True)
        PACKAGES.mkdir(parents=True)
        for name in ("package.json", "package-lock.json", ".npmrc"):
            shutil.copy(HERE / name, PACKAGES)
        command = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
        npm = subprocess.run(command, cwd=PACKAGES, capture_output=True, text=True)
        assert npm.returncode == 0, f"npm ci failed:\n{npm.stdout}{npm.stderr}"
        done.write_bytes(lock)
    shutil.copy(HERE / "serve.mjs", PACKAGES)
    return PACKAGES


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The connection string of a TimescaleDB that runs in memory."""
    with tempfile.TemporaryDirectory(prefix="tapeline-timescale-") as folder:
        command = ["node", str(installed() / "serve.mjs"), f"{folder}/.s.PGSQL.5432"]
        node = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert node.stdin is not None
        assert node.stdout is not None
        with node:
            assert node.stdout.readline() == "ready\n"
            # It asks for a password, and takes any.
            yield f"postgresql://postgres:any@/postgres?host={folder}"
            node.stdin.close()


@pytest.fixture
def timescale(server: str) -> Iterator[str]:
    """An empty database with the extension in it."""
    with psycopg.connect(server, autocommit=True, prepare_threshold=None) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
    yield server
    with psycopg.connect(server, autocommit=True, prepare_threshold=None) as connection:
        for name in ("ticks_1h", "ticks_1m"):
            connection.execute(f"DROP MATERIALIZED VIEW IF EXISTS {name} CASCADE")
        for name in ("signals", "ticks", "bars"):  # a hypertable is dropped alone
            connection.execute(f"DROP TABLE IF EXISTS {name} CASCADE")
        connection.execute("DROP FUNCTION IF EXISTS ohlcv")
        connection.execute("DROP TABLE IF EXISTS instruments, bar_streams, input_offsets, tapeline_migrations CASCADE")


@pytest.mark.parametrize("check", [*CHECKS, *frame_checks.CHECKS, *bar_checks.CHECKS], ids=lambda check: check.__name__)
def test_on_timescale(check: Check, timescale: str) -> None:
    check(timescale)


def test_signals_lie_in_a_hypertable_in_chunks_of_a_week(timescale: str) -> None:
    signals = [make_signal(seq, ts_event_ns=DAY_NS * 7 * week) for seq, week in enumerate([2800, 2800, 2801, 2900])]

    async def run() -> str:
        async with opened(timescale) as store:
            assert await store.write(encoded(signals), TOPIC, 0, 4) == []
            assert await store.write(encoded(signals), TOPIC, 0, 4) == []
        connection = await psycopg.AsyncConnection.connect(timescale, prepare_threshold=None)
        async with connection:
            return str(await server_kind(connection))

    assert re.fullmatch(r"PostgreSQL 17\.5 with TimescaleDB 2\.\S+, signals in a hypertable", asyncio.run(run()))
    assert kept(timescale) == signals
    with psycopg.connect(timescale, prepare_threshold=None) as connection:
        chunks = connection.execute(
            "SELECT range_end - range_start FROM timescaledb_information.chunks WHERE hypertable_name = 'signals'"
        ).fetchall()
    assert chunks == [(timedelta(days=7),)] * 3


def test_a_database_whose_tables_are_there_is_left_as_it_is(timescale: str) -> None:
    signals = [make_signal(seq) for seq in range(3)]

    async def run(at: int) -> dict[int, int]:
        async with opened(timescale) as store:
            await store.write(encoded(signals[at : at + 1]), TOPIC, 0, at + 1)
            return await store.next_offsets(TOPIC)

    assert [asyncio.run(run(at)) for at in range(3)] == [{0: 1}, {0: 2}, {0: 3}]
    assert kept(timescale) == signals


def jobs(dsn: str) -> dict[tuple[str, str], tuple[int, dict[str, Any]]]:
    """TimescaleDB's policies: (kind, of what) -> job id and configuration."""
    found = query(dsn, "SELECT job_id, proc_name, hypertable_name, config FROM timescaledb_information.jobs")
    return {(kind.removeprefix("policy_"), str(name)): (number, config) for number, kind, name, config in found}


def run_job(dsn: str, kind: str, name: str) -> None:
    """Run a policy now, as nobody does here in the background."""
    query(dsn, f"CALL run_job({jobs(dsn)[kind, name][0]})")


def written(dsn: str, frames: list[TickFrame], start: int = 0, **settings: Any) -> None:
    """Keep these frames, in a store that is opened with these settings."""

    async def run() -> None:
        async with frame_checks.opened(dsn, **settings) as store:
            assert await store.write(placed(frames, start), frame_checks.TOPIC, 1, start + len(frames)) == []

    asyncio.run(run())


REFRESH, DAYS_AGO_NS = "refresh_continuous_aggregate", time.time_ns() // DAY_NS * DAY_NS - DAY_NS * np.arange(40)
"""The second: midnights, the first of them that of today."""


def test_ticks_are_compressed_after_a_day_and_stay_the_same(timescale: str) -> None:
    market = [frame for day in (3, 0) for frame in a_market(10, start_ns=int(DAYS_AGO_NS[day]))]
    frames = [replace(frame, origin_offset=at) for at, frame in enumerate(market)]
    written(timescale, frames[:15])
    before = frame_checks.kept(timescale)
    run_job(timescale, "compression", "ticks")
    chunks = (
        "SELECT is_compressed FROM timescaledb_information.chunks WHERE hypertable_name = 'ticks' ORDER BY range_start"
    )
    assert query(timescale, chunks) == [(True,), (False,)]
    assert same_as(before, frame_checks.kept(timescale))
    late = replace(frames[3], origin_offset=90)
    written(timescale, [*frames[15:], late], 15)
    assert len(frame_checks.kept(timescale)[0]) == 21 * 30, "a tick of a day that is compressed is kept, too"
    minutes = minutes_of([frame.ticks for frame in [*frames, late]])
    assert frame_checks.aggregates(timescale, "ticks_1m") == minutes


def same_as(one: Any, other: Any) -> bool:
    return bool(one[0] == other[0] and frame_checks.same(one[1], other[1]))


def test_aggregates_are_refreshed_and_equal_the_bars_of_the_trades(timescale: str) -> None:
    frames = a_market(start_ns=int(DAYS_AGO_NS[2]))
    for end, begin in ((30, 0), (40, 30)):  # the second time what is late
        written(timescale, frames[begin:end], begin)
        for name in ("ticks_1m", "ticks_1h"):
            run_job(timescale, REFRESH, name)
            query(timescale, f"ALTER MATERIALIZED VIEW {name} SET (timescaledb.materialized_only = true)")
        minutes = minutes_of([frame.ticks for frame in frames[:end]])
        assert frame_checks.aggregates(timescale, "ticks_1m") == minutes
        assert frame_checks.aggregates(timescale, "ticks_1h") == hours_of(minutes)


def test_old_ticks_go_and_what_was_made_of_them_stays(timescale: str) -> None:
    old, new = a_market(4, start_ns=int(DAYS_AGO_NS[10])), [make_frame(90, start_ns=int(DAYS_AGO_NS[0]))]
    written(timescale, old + new)
    for name in ("ticks_1m", "ticks_1h"):
        run_job(timescale, REFRESH, name)
    made = {name: frame_checks.aggregates(timescale, name) for name in ("ticks_1m", "ticks_1h")}
    assert made["ticks_1m"] == minutes_of([frame.ticks for frame in old + new])
    written(timescale, [], len(old + new), keep_days=3, aggregates_keep_days=20)
    assert ("retention", "ticks") in jobs(timescale)
    for kind, name in sorted(jobs(timescale)):
        if kind in ("retention", REFRESH):
            run_job(timescale, kind, name)
    assert {origin for _, origin, *_ in frame_checks.kept(timescale)[0]} == {90}
    for name in made:
        assert frame_checks.aggregates(timescale, name) == made[name]
    written(timescale, [], len(old + new), keep_days=3, aggregates_keep_days=4)
    run_job(timescale, "retention", "ticks_1h")
    assert len(frame_checks.aggregates(timescale, "ticks_1h")) == 2, "that of today, of A and B"


def test_policies_follow_the_settings_and_are_left_alone_otherwise(timescale: str) -> None:
    def after(**settings: Any) -> dict[tuple[str, str], tuple[int, dict[str, Any]]]:
        written(timescale, [], **settings)
        return jobs(timescale)

    forever = after()
    assert {name for kind, name in forever if kind == "retention"} == set()
    assert forever[REFRESH, "ticks_1m"][1]["start_offset"] is None
    limited = after(keep_days=7, aggregates_keep_days=90)
    assert {name: config["drop_after"] for (kind, name), (_, config) in limited.items() if kind == "retention"} == {
        "ticks": "7 days",
        "ticks_1m": "90 days",
        "ticks_1h": "90 days",
    }
    assert limited[REFRESH, "ticks_1m"][1]["start_offset"] == "6 days 23:00:00", "what was dropped is not looked at"
    assert limited[REFRESH, "ticks_1h"][1]["start_offset"] == "89 days 23:00:00"
    assert after(keep_days=7, aggregates_keep_days=90) == limited
    assert after(keep_days=7, aggregates_keep_days=3)[REFRESH, "ticks_1m"][1]["start_offset"] == "2 days 23:00:00"
    assert after().keys() == forever.keys()
    # As under the Apache edition: the aggregates are plain views, and stay that.
    query(timescale, "DROP MATERIALIZED VIEW ticks_1h CASCADE")
    query(timescale, "CREATE VIEW ticks_1h AS SELECT ts FROM ticks_1m")
    try:
        assert ("retention", "ticks") in after(keep_days=7)
    finally:
        query(timescale, "DROP VIEW ticks_1h")


def test_bars_are_compressed_and_revised_all_the_same_until_they_are_too_old(timescale: str) -> None:
    days = [int(DAYS_AGO_NS[39]) - at * 30 * DAY_NS for at in range(4)]
    frames = [bar_checks.make_bars(5, start_ns=start) for start in days]
    bar_checks.written(timescale, *frames)
    run_job(timescale, "compression", "bars")
    compressed = "SELECT count(*) FROM timescaledb_information.chunks WHERE hypertable_name = 'bars' AND is_compressed"
    assert query(timescale, compressed)[0][0] >= 3
    revised = bar_checks.make_bars(5, start_ns=days[3], revision=[1, 0, 0, 0, 0], close=[12.0, 0, 0, 0, 0])
    bar_checks.written(timescale, revised, start=4)
    frames[3][0] = revised[0]
    assert bar_checks.kept(timescale).tobytes() == np.concatenate(frames[::-1]).tobytes()
    bar_checks.written(timescale, start=5, keep_days=60)
    run_job(timescale, "retention", "bars")
    assert bar_checks.kept(timescale)["start_ns"].min() >= days[1]
