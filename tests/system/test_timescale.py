"""The store on a real TimescaleDB: a WASM build from npm, never shipped, installed beside the environment.

It is one backend behind a socket: no background workers, and every connection shares its session.
"""

import asyncio
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from tapeline.connectors.stores.migrate import server_kind
from tests.connectors.stores.examples import DAY_NS, encoded, make_signal
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
        connection.execute("DROP TABLE IF EXISTS signals")  # a hypertable is dropped alone
        connection.execute("DROP TABLE IF EXISTS input_offsets, tapeline_migrations")


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
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
