"""How fast ticks get into a database, beside COPY: the same rows, the same table, one PostgreSQL.

`copy_bytes` is given what PostgreSQL reads, made beforehand: what the server takes at best. `copy_rows` is what a user
writes with psycopg: COPY ... (FORMAT binary), set_types and write_row, of rows that are Python values already.
"""

import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC
from pathlib import Path
from typing import Any

import numpy as np
from psycopg import AsyncConnection, AsyncCopy
from rich.console import Console

from tapeline.connectors.stores import TickStore
from tapeline.connectors.stores.rows import timestamps
from tapeline.connectors.stores.ticks import LAYOUT
from tapeline.connectors.stores.upkeep import DAY_NS, make_partitions
from tapeline.schemas import TICK, Instrument, Kind, Lane, TickFrame
from tapeline.streams.home import Home
from tapeline.streams.servers import Postgres
from tests.bench.plan import Plan
from tests.bench.report import Row, compare

FRAME_TICKS, BATCH_FRAMES, INSTRUMENTS = 1000, 50, 12
START_NS = 1_723_075_200_000_000_000
TYPES = ["timestamptz", *["int8"] * 4, *["float8"] * 4, "int8", "int8", "int4", "int4", "int4", "int2", "int2"]
"""Of the columns."""
Batches = Sequence[Sequence[bytes]]
"""Of records, each a frame."""


async def store_rows(folder: Path, plan: Plan, console: Console) -> list[Row]:
    """Return ticks a second of each way to write, each in turn over an empty table, in a server in `folder`.

    As root, the account that PostgreSQL runs under must be able to enter the folder.
    """
    server = Postgres(Home.at(folder / "store"))
    await server.start()
    try:
        batches = _market(plan.store_ticks)
        writers: dict[str, Callable[[str, Batches], Awaitable[float]]] = {
            "ours": _ours,
            "copy_bytes": _copy_bytes,
            "copy_rows": _copy_rows,
        }
        rates: dict[str, list[float]] = {name: [] for name in writers}
        for _ in range(plan.samples):
            for name, write in writers.items():
                await _empty_table(server.dsn)
                rates[name].append(plan.store_ticks / await write(server.dsn, batches))
                console.print(f"ticks into the database, {name}: {rates[name][-1]:,.0f}/s", highlight=False)
    finally:
        await server.stop()
    ours, *peers = ((name, statistics.median(found)) for name, found in rates.items())
    return [compare("ticks_to_database", "ticks/s", ours[1], *peer, samples=plan.samples) for peer in peers]


def _market(ticks: int) -> Batches:
    """Return trades, as they lie in the topic, in batches as the role makes them."""
    random = np.random.default_rng(1)
    frame = np.zeros(FRAME_TICKS, TICK)
    frame["kind"], frame["instrument_id"] = Kind.TRADE, 1 + np.arange(FRAME_TICKS) % INSTRUMENTS
    records = []
    for at in range(ticks // FRAME_TICKS):
        frame["sequence"] = at * FRAME_TICKS + np.arange(FRAME_TICKS)
        frame["ts_event_ns"] = START_NS + frame["sequence"] * 20_000
        frame["ts_recv_ns"] = frame["ts_event_ns"] + 2_000_000
        frame["side"] = random.choice([-1, 1], FRAME_TICKS)
        frame["price"], frame["size"] = random.integers(1, 10**6, (2, FRAME_TICKS)) / 100
        records.append(TickFrame(Lane(0, 0), at, 0, START_NS, frame).encode())
    return [records[at : at + BATCH_FRAMES] for at in range(0, len(records), BATCH_FRAMES)]


def _frames(batches: Batches, number: int) -> list[tuple[int, TickFrame]]:
    return [(number * BATCH_FRAMES + at, TickFrame.decode(record)) for at, record in enumerate(batches[number])]


async def _empty_table(dsn: str) -> None:
    """Make the tables, without a row but with the partition; what the one before left to be flushed is flushed."""
    store = TickStore(dsn, "persist-ticks", topic_id="bench")
    await store.open()
    await store.learn([Instrument(id=one + 1, name=f"sim:S{one}", partition=0) for one in range(INSTRUMENTS)])
    await store.steadily(lambda connection: make_partitions(connection, store.table, [START_NS // DAY_NS]))
    await store.steadily(lambda connection: connection.execute("TRUNCATE ticks, input_offsets"))
    await store.steadily(lambda connection: connection.execute("CHECKPOINT"))
    await store.close()


async def _ours(dsn: str, batches: Batches) -> float:
    """From records to committed rows, as the role does it; seconds."""
    store = TickStore(dsn, "persist-ticks", topic_id="bench")
    await store.open()
    started = time.perf_counter()
    for number in range(len(batches)):
        frames = _frames(batches, number)
        await store.write(frames, "ticks", 0, frames[-1][0] + 1)
    seconds = time.perf_counter() - started
    await store.close()
    return seconds


def _columns(batches: Batches, number: int) -> tuple[int, dict[str, Any]]:
    """Return the rows of a batch, as our store makes them."""
    rows = TickStore("", "persist-ticks", topic_id="bench").rows(_frames(batches, number))
    return rows.part(0, len(rows.ends))


async def _copy_bytes(dsn: str, batches: Batches) -> float:
    def ready(number: int) -> bytes:
        count, columns = _columns(batches, number)
        return b"".join(LAYOUT.encode(count, columns | {"ts": timestamps(columns["ts"])}))

    async def write(copy: AsyncCopy, one: bytes) -> None:
        await copy.write(one)

    return await _copied(dsn, [ready(number) for number in range(len(batches))], write)


async def _copy_rows(dsn: str, batches: Batches) -> float:
    def ready(number: int) -> list[tuple[Any, ...]]:
        _, columns = _columns(batches, number)
        times = [stamp.replace(tzinfo=UTC) for stamp in (columns["ts"] // 1000).astype("datetime64[us]").tolist()]
        return list(zip(times, *(columns[name].tolist() for name in LAYOUT.names[1:]), strict=True))

    async def write(copy: AsyncCopy, one: list[tuple[Any, ...]]) -> None:
        copy.set_types(TYPES)
        for row in one:
            await copy.write_row(row)

    return await _copied(dsn, [ready(number) for number in range(len(batches))], write)


async def _copied(dsn: str, ready: Sequence[Any], write: Callable[[AsyncCopy, Any], Awaitable[None]]) -> float:
    async with await AsyncConnection.connect(dsn, autocommit=True) as connection:
        started = time.perf_counter()
        for one in ready:
            async with connection.transaction(), connection.cursor().copy(LAYOUT.statement.encode()) as copy:
                await write(copy, one)
        return time.perf_counter() - started
