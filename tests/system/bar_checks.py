"""What the store of bars must do on every database; each check gets an empty one.

test_bar_store.py runs them on PostgreSQL, test_timescale.py on TimescaleDB.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tapeline.connectors.stores import BarStore
from tapeline.connectors.stores.bars import OF_BAR
from tapeline.schemas import BAR, BarFlag, BarFrame, BarKind, Bars, Lane, empty_bars
from tests.connectors.stores.frames import START_NS, A, B
from tests.system.frame_checks import MINUTE_NS, query

Check = Callable[[str], None]
TOPIC = "bars"


def framed(bars: Bars, stream: int = 9) -> BarFrame:
    """Bars as they come."""
    return BarFrame(Lane(3, 1), 0, 0, START_NS, stream, bars)


@asynccontextmanager
async def opened(dsn: str, keep_days: int = -1) -> AsyncIterator[BarStore]:
    """A store that is open, and knows the instruments."""
    store = BarStore(dsn, "persist-bars", topic_id="log", keep_days=keep_days)
    await store.open()
    try:
        assert await store.learn([A, B]) == {}
        yield store
    finally:
        await store.close()


def make_bars(count: int, *, start_ns: int = START_NS, **fields: Any) -> Bars:
    """Minutes of A, one after the other; fields: others than these."""
    bars = empty_bars(count)
    bars["start_ns"] = start_ns + np.arange(count) * MINUTE_NS
    bars["end_ns"] = bars["start_ns"] + MINUTE_NS
    bars["number"] = bars["start_ns"] // MINUTE_NS
    bars["instrument_id"], bars["kind"], bars["size"] = A.id, BarKind.TIME, MINUTE_NS
    bars["open"], bars["high"], bars["low"], bars["close"] = 10.25, 11.5, 9.75, 10.5
    bars["volume"], bars["notional"], bars["buy_volume"], bars["trades"] = 8, 84, 3, 5
    for name, value in fields.items():
        bars[name] = value
    return bars


def kept(dsn: str) -> Bars:
    """Everything in the table, in the order of its key."""
    order = "instrument_id, kind, size, number"
    found = query(dsn, f"SELECT {', '.join(OF_BAR)} FROM bars ORDER BY {order}")
    bars = np.zeros(len(found), BAR)
    for at, name in enumerate(OF_BAR):
        bars[name] = [row[at] for row in found]
    return bars


def written(dsn: str, *bars: Bars, start: int = 0, keep_days: int = -1, stream: int = 9) -> None:
    """Keep these frames of bars."""

    async def run() -> None:
        async with opened(dsn, keep_days) as store:
            frames = [(at, framed(one, stream)) for at, one in enumerate(bars, start)]
            assert await store.write(frames, TOPIC, 1, start + len(bars)) == []

    asyncio.run(run())


def bars_of_every_kind_come_back_as_they_were(dsn: str) -> None:
    kinds = [make_bars(3, kind=kind, size=size, number=range(3)) for kind, size in ((2, 1000), (3, 2.5), (4, 1e6))]
    edges = make_bars(2, instrument_id=B.id, close=[np.nan, np.inf], trades=[0, 2**63 - 1], revision=[0, 2**16 - 1])
    written(dsn, make_bars(4), edges, *kinds)
    assert kept(dsn).tobytes() == np.concatenate([make_bars(4), *kinds, edges]).tobytes()


def the_highest_revision_counts_however_they_come(dsn: str) -> None:
    changes = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), max_size=8)

    async def write(store: BarStore, batches: Sequence[Sequence[tuple[int, int]]]) -> None:
        for at, batch in enumerate(batches):
            frames = [(at, framed(revised(number, revision))) for number, revision in batch]
            assert await store.write(frames, TOPIC, 1, at + 1) == []

    def revised(number: int, revision: int) -> Bars:
        flags = BarFlag.LATE if revision else 0
        close = 10 + revision / 8
        return make_bars(1, start_ns=START_NS + number * MINUTE_NS, revision=revision, close=close, flags=flags)

    @settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(changes, max_size=3))
    def check(batches: list[list[tuple[int, int]]]) -> None:
        query(dsn, "DELETE FROM bars")
        query(dsn, "DELETE FROM input_offsets")
        runner.run(write(store, batches))
        highest: dict[int, int] = {}
        for number, revision in (one for batch in batches for one in batch):
            highest[number] = max(highest.get(number, 0), revision)
        wanted = [revised(number, revision) for number, revision in sorted(highest.items())]
        assert kept(dsn).tobytes() == b"".join(one.tobytes() for one in wanted)

    store = BarStore(dsn, "persist-bars", topic_id="log", keep_days=-1)
    with asyncio.Runner() as runner:
        runner.run(store.open())
        check()
        runner.run(store.close())


def what_the_database_refuses_is_named_and_nothing_is_kept(dsn: str) -> None:
    frames = [(at, framed(make_bars(2, number=at, close=2e9 if at in (1, 4) else 1.0))) for at in range(6)]

    async def run() -> None:
        async with opened(dsn) as store:
            query(dsn, "ALTER TABLE bars ADD CONSTRAINT cheap CHECK (close < 1e9)")
            assert [one.index for one in await store.write(frames, TOPIC, 1, 6)] == [1, 4]
            assert len(kept(dsn)) == 0
            good = [one for one in frames if one[0] not in (1, 4)]
            assert await store.write(good, TOPIC, 1, 6) == []

    asyncio.run(run())
    assert sorted(kept(dsn)["number"].tolist()) == [0, 0, 2, 2, 3, 3, 5, 5]


def the_view_says_it_in_words(dsn: str) -> None:
    five_trades = make_bars(1, kind=BarKind.TICK, size=5, number=0, flags=BarFlag.PARTIAL)
    written(dsn, make_bars(1, flags=BarFlag.LATE), five_trades)
    columns = "instrument, kind, width, size, open, high, low, close, vwap, buy_volume, trades, late, partial"
    prices = (10.25, 11.5, 9.75, 10.5, 10.5, 3.0, 5)
    assert query(dsn, f"SELECT {columns} FROM candles ORDER BY late DESC") == [
        ("sim:A", "time", timedelta(minutes=1), 60e9, *prices, True, False),
        ("sim:A", "tick", None, 5.0, *prices, False, True),
    ]


def bars_of_another_configuration_are_others_and_the_newest_are_shown(dsn: str) -> None:
    minutes = make_bars(3, kind=BarKind.VOLUME, size=10, number=range(3), revision=1)
    written(dsn, minutes, make_bars(1, instrument_id=B.id))
    written(dsn, make_bars(2, kind=BarKind.VOLUME, size=10, number=range(2), close=20.0), start=2, stream=2**32 - 1)
    asked = "SELECT instrument, number, close FROM candles ORDER BY instrument, number"
    of_b = ("sim:B", START_NS // MINUTE_NS, 10.5)
    assert query(dsn, asked) == [("sim:A", 0, 20.0), ("sim:A", 1, 20.0), of_b]
    written(dsn, minutes, start=0)
    assert len(query(dsn, asked)) == 3, "a zombie brought the old ones back"
    assert len(kept(dsn)) == 6


CHECKS: list[Check] = [
    bars_of_every_kind_come_back_as_they_were,
    the_highest_revision_counts_however_they_come,
    what_the_database_refuses_is_named_and_nothing_is_kept,
    the_view_says_it_in_words,
    bars_of_another_configuration_are_others_and_the_newest_are_shown,
]
