"""What the store of ticks must do on every database; each check gets an empty one.

test_tick_store.py runs them on PostgreSQL, test_timescale.py on TimescaleDB.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tapeline.connectors.stores import StoreError, TickStore
from tapeline.connectors.stores.ticks import OF_TICK
from tapeline.schemas import TICK, Flag, GapReason, Instrument, Kind, Lane, TickFrame, Ticks
from tapeline.streams.frame_reader import FrameReader
from tests.connectors.stores.frames import DAY_NS, START_NS, A, B, C, make_frame, make_ticks, placed
from tests.schemas import strategies

Check = Callable[[str], None]
TOPIC = "ticks"
PARTITION = 1


@asynccontextmanager
async def opened(dsn: str, **settings: Any) -> AsyncIterator[TickStore]:
    """A store that is open, and knows the instruments."""
    store = TickStore(dsn, "persist-ticks", topic_id="log", **settings)
    await store.open()
    try:
        assert await store.learn([A, B, C]) == {}
        yield store
    finally:
        await store.close()


def query(dsn: str, text: str, *values: Any) -> list[tuple[Any, ...]]:
    """Rows of a query."""
    with psycopg.connect(dsn, prepare_threshold=None, autocommit=True) as connection:
        found = connection.execute(text.encode(), values or None)
        return found.fetchall() if found.description else []


def kept(dsn: str) -> tuple[list[tuple[int, ...]], Ticks]:
    """Everything in the table: (raw partition, raw offset, index, ticks offset), and the ticks.

    In order of arrival, and within a record by instrument.
    """
    origin = "origin_partition, origin_offset, origin_index, ticks_offset"
    found = query(
        dsn, f"SELECT {origin}, {', '.join(OF_TICK)} FROM ticks ORDER BY ticks_offset, instrument_id, origin_index"
    )
    ticks = np.zeros(len(found), TICK)
    for at, name in enumerate(OF_TICK, 4):
        ticks[name] = [row[at] for row in found]
    return [row[:4] for row in found], ticks


def same(one: Ticks, other: Ticks) -> bool:
    """Whether two arrays of ticks say the same, NaN included."""
    return all(np.array_equal(one[name], other[name], equal_nan=one[name].dtype.kind == "f") for name in OF_TICK)


def any_tick_comes_back_as_it_was(dsn: str) -> None:
    offset = 0

    @settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
    @given(strategies.tick_frames())
    def check(frame: TickFrame) -> None:
        nonlocal offset
        query(dsn, "DELETE FROM ticks")
        frame = TickFrame(Lane(offset, PARTITION), frame.origin_offset, frame.part, 0, frame.ticks)
        assert runner.run(store.write([(offset, frame)], TOPIC, PARTITION, offset + 1)) == []
        offset += 1
        origin = {(one[0], one[1], one[3]) for one in kept(dsn)[0]}
        assert origin <= {(offset - 1, frame.origin_offset, offset - 1)}
        assert same(kept(dsn)[1], frame.ticks[np.argsort(frame.ticks["instrument_id"], kind="stable")])

    store = TickStore(dsn, "persist-ticks", topic_id="log")
    with asyncio.Runner() as runner:
        runner.run(store.open())
        check()
        runner.run(store.close())


def a_tick_lies_at_its_event_time_if_that_can_be(dsn: str) -> None:
    event_ns = np.array([START_NS, START_NS + 1999, 0, START_NS - DAY_NS, START_NS + 2 * DAY_NS, 2**63 - 1])
    ticks = make_ticks(6, ts_event_ns=event_ns, ts_recv_ns=START_NS)

    async def run() -> None:
        async with opened(dsn) as store:
            assert await store.write([(0, make_frame(0, 6, **as_fields(ticks)))], TOPIC, PARTITION, 1) == []

    asyncio.run(run())
    found = query(
        dsn, "SELECT (extract(epoch FROM ts) * 1000000)::bigint * 1000, ts_event_ns FROM ticks ORDER BY sequence"
    )
    assert [row[1] for row in found] == event_ns.tolist()
    assert [row[0] - START_NS for row in found] == [0, 1000, 0, -DAY_NS, 0, 0]


def as_fields(ticks: Ticks) -> dict[str, Any]:
    return {name: ticks[name] for name in OF_TICK}


def frames_that_come_again_add_nothing(dsn: str) -> None:
    frames = [make_frame(0), make_frame(1), make_frame(0, raw=2), make_frame(2), make_frame(1, raw=2)]
    again = [*frames[:3], frames[1], frames[0], *frames[3:], frames[4], frames[2]]

    async def run() -> None:
        async with opened(dsn) as store, opened(dsn) as zombie:
            assert await store.write(placed(frames[:3]), TOPIC, PARTITION, 3) == []
            assert await zombie.write(placed(again), TOPIC, PARTITION, len(again)) == []
            assert await store.write(placed(frames[3:], 3), TOPIC, PARTITION, 5) == [], "behind what the zombie wrote"
            assert await store.next_offsets(TOPIC) == {PARTITION: len(again)}, "the offset went back"
            assert zombie.repeats == Counter({Lane(3, 1).pack(): 4, Lane(2, 1).pack(): 3})
            assert store.repeats == Counter({Lane(3, 1).pack(): 1, Lane(2, 1).pack(): 1})

    asyncio.run(run())
    assert [(raw, origin) for raw, origin, index, _ in kept(dsn)[0] if index == 0] == [
        (one.lane.raw_partition, one.origin_offset) for one in frames for _ in (A, B)
    ]


def whatever_crashes_and_zombies_write_each_frame_is_kept_once(dsn: str) -> None:
    """A log with repeated frames, and writers that read from where the database said, once upon a time."""
    logs = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 6), st.integers(0, 1)), max_size=14)
    steps = st.lists(st.tuples(st.integers(0, 2), st.booleans(), st.integers(1, 6)), max_size=14)
    stores = [TickStore(dsn, "persist-ticks", topic_id="log") for _ in range(3)]

    async def write(log: Sequence[TickFrame], steps: Sequence[tuple[int, bool, int]]) -> None:
        places = [0, 0, 0]
        for number, restarts, count in [*steps, (0, True, len(log))]:
            if restarts:
                places[number] = (await stores[number].next_offsets(TOPIC)).get(PARTITION, 0)
            end = min(places[number] + count, len(log))
            batch = placed(log[places[number] : end], places[number])
            assert await stores[number].write(batch, TOPIC, PARTITION, end) == []
            places[number] = end

    @settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
    @given(logs, steps)
    def check(origins: list[tuple[int, int, int]], steps: list[tuple[int, bool, int]]) -> None:
        query(dsn, "DELETE FROM ticks")
        query(dsn, "DELETE FROM input_offsets")
        log = [make_frame(origin, 2, part=part, raw=raw) for raw, origin, part in origins]
        runner.run(write(log, steps))
        reader = FrameReader()
        wanted = [(raw, origin, at) for at, (raw, origin, _) in enumerate(origins) if reader.take(log[at])]
        assert [(raw, origin, at) for raw, origin, _, at in kept(dsn)[0]] == [one for one in wanted for _ in range(2)]

    with asyncio.Runner() as runner:
        for store in stores:
            runner.run(store.open())
        check()
        for store in stores:
            runner.run(store.close())


def an_index_counts_on_over_the_parts_of_a_record(dsn: str) -> None:
    """Also over a restart between them, and with another lane in between."""
    parts = [make_frame(7, 5, more=True), make_frame(7, 3, part=1, more=True), make_frame(7, 4, part=2)]
    other = make_frame(7, 2, raw=9)

    async def run() -> None:
        async with opened(dsn) as store:
            assert await store.write(placed([parts[0], other]), TOPIC, PARTITION, 2) == []
        async with opened(dsn) as store:
            assert await store.write([(2, parts[0]), (3, parts[1]), (4, parts[2])], TOPIC, PARTITION, 5) == []
            assert await store.write([(5, make_frame(8, 2))], TOPIC, PARTITION, 6) == []

    asyncio.run(run())
    for instrument, ticks in ((A, 7), (B, 5)):
        ids = kept(dsn)[1]["instrument_id"] == instrument.id
        found = [origin for origin, mine in zip(kept(dsn)[0], ids, strict=True) if mine]
        assert [index for raw, offset, index, _ in found if (raw, offset) == (3, 7)] == list(range(ticks))
        assert [index for raw, offset, index, _ in found if (raw, offset) != (3, 7)] == [0, 0]
    marks = query(dsn, "SELECT marks FROM input_offsets")
    assert marks == [({"3-1": [8, 0], "9-1": [7, 0]},)], "what was counted goes with the last part"


def what_the_database_refuses_is_named_and_nothing_is_kept(dsn: str) -> None:
    frames = [make_frame(origin, price=2e9 if origin in (2, 5) else 1.0) for origin in range(7)]
    bad = Instrument(id=9, name="sim:\0", partition=1)

    async def run() -> None:
        async with opened(dsn) as store:
            query(dsn, "ALTER TABLE ticks ADD CONSTRAINT cheap CHECK (price < 1e9)")
            refused = await store.write(placed(frames), TOPIC, PARTITION, 7)
            assert [one.index for one in refused] == [2, 5]
            assert all("cheap" in one.reason for one in refused)
            assert len(kept(dsn)[0]) == 0
            assert (await store.next_offsets(TOPIC)).get(PARTITION, 0) == 0
            good = [one for one in placed(frames) if one[0] not in (2, 5)]
            assert await store.write(good, TOPIC, PARTITION, 7) == []
            assert await store.next_offsets(TOPIC) == {PARTITION: 7}
            assert "NUL" in (await store.learn([A, bad, C]))[9]
            assert list(await store.learn([bad])) == [9], "it is known, and not asked again"

    asyncio.run(run())
    assert sorted({origin for _, origin, *_ in kept(dsn)[0]}) == [0, 1, 3, 4, 6]
    assert query(dsn, "SELECT id, name FROM instruments ORDER BY name") == [(one.id, one.name) for one in (A, B, C)]


def another_kafka_is_noticed(dsn: str) -> None:
    async def run() -> None:
        async with opened(dsn) as store:
            assert await store.write([], TOPIC, PARTITION, 1) == []
            for wrong in (A.model_copy(update={"name": "sim:Z"}), A.model_copy(update={"id": 6})):
                store = TickStore(dsn, "persist-ticks", topic_id="log")
                with pytest.raises(StoreError, match="the database belongs to another Kafka"):
                    await store.learn([wrong])
                await store.close()
        other = TickStore(dsn, "persist-ticks", topic_id="anew")
        with pytest.raises(StoreError, match="it was made anew"):
            await other.next_offsets(TOPIC)
        with pytest.raises(StoreError, match="it was made anew"):
            await other.write([], TOPIC, PARTITION, 2)
        await other.close()

    asyncio.run(run())


BAR_COLUMNS = "open, high, low, close, volume, notional, buy_volume, trades"
HOUR_NS = 3600 * 10**9
MINUTE_NS = 60 * 10**9


Bars = dict[tuple[int, int], tuple[float, ...]]
"""(start, instrument) -> BAR_COLUMNS."""


def minutes_of(ticks: Sequence[Ticks]) -> Bars:
    """The bars of trades, which are taken one by one in order of arrival."""
    bars: Bars = {}
    for tick in (one for frame in ticks for one in frame if one["kind"] == Kind.TRADE):
        price, size = float(tick["price"]), float(tick["size"])
        one = price, price, price, price, size, price * size, size * float(tick["side"] > 0), 1
        key = int(tick["ts_event_ns"]) // MINUTE_NS * MINUTE_NS, int(tick["instrument_id"])
        bars[key] = joined(bars[key], one) if key in bars else one
    return bars


def hours_of(minutes: Bars) -> Bars:
    """An hour is what its minutes are, in their order."""
    bars: Bars = {}
    for (start, instrument), one in sorted(minutes.items()):
        key = start // HOUR_NS * HOUR_NS, instrument
        bars[key] = joined(bars[key], one) if key in bars else one
    return bars


def joined(one: tuple[float, ...], other: tuple[float, ...]) -> tuple[float, ...]:
    """Two bars as one, the first of them first."""
    sums = (a + b for a, b in zip(one[4:], other[4:], strict=True))
    return one[0], max(one[1], other[1]), min(one[2], other[2]), other[3], *sums


def aggregates(dsn: str, name: str) -> Bars:
    """The bars that the database makes."""
    start = "extract(epoch FROM ts)::bigint * 1000000000"
    return {row[:2]: row[2:] for row in query(dsn, f"SELECT {start}, instrument_id, {BAR_COLUMNS} FROM {name}")}


def a_market(count: int = 40, *, start_ns: int = START_NS) -> list[TickFrame]:
    """Frames of two lanes over some hours: trades of the same moment, out of order, with quotes in between."""
    random = np.random.default_rng(5)
    frames = []
    for number in range(count):
        # Of the moment only milliseconds, as venues give them: who came first then decides.
        ms = random.integers(0, 4 * HOUR_NS // 10**6) + np.sort(random.integers(0, 90_000, 30))
        fields: dict[str, Any] = {"ts_event_ns": start_ns + ms * 10**6, "ts_recv_ns": start_ns + 5 * HOUR_NS}
        fields |= {"price": random.integers(1, 4000, 30) / 8, "size": random.integers(1, 400, 30) / 4}
        fields |= {"kind": random.choice([Kind.TRADE, Kind.TRADE, Kind.QUOTE], 30), "side": random.integers(-1, 2, 30)}
        frames.append(make_frame(number // 2, 30, raw=number % 2, **fields))
    return frames


def aggregates_are_the_bars_of_the_trades_in_order_of_arrival(dsn: str) -> None:
    frames = a_market()

    async def run() -> None:
        async with opened(dsn) as store:
            assert await store.write(placed(frames), TOPIC, PARTITION, len(frames)) == []

    asyncio.run(run())
    minutes = minutes_of([frame.ticks for frame in frames])
    assert aggregates(dsn, "ticks_1m") == minutes
    assert aggregates(dsn, "ticks_1h") == hours_of(minutes)
    (row,) = query(dsn, "SELECT * FROM ohlcv_1h WHERE instrument = 'sim:A' ORDER BY ts LIMIT 1")
    first, high, low, last, volume, notional, bought, trades = hours_of(minutes)[START_NS, A.id]
    assert row[1:] == ("sim:A", first, high, low, last, volume, notional / volume, bought, trades)
    asked = "SELECT open, high, low, close, volume, vwap, buy_volume, trades FROM ohlcv('1 minute', %s, %s, %s)"
    since, until = (datetime.fromtimestamp(START_NS // 10**9 + at, UTC) for at in (1800 + 59, 5400))
    found = query(dsn, asked, "sim:A", since, until)
    some = [
        one for (start, id), one in sorted(minutes.items()) if id == A.id and 1800 <= (start - START_NS) / 1e9 < 5400
    ]
    assert found == [(*one[:5], one[5] / one[4], *one[6:]) for one in some]
    assert len(found) > 3


def views_say_it_in_words(dsn: str) -> None:
    trade, quote, level, gap = (make_ticks(1, sequence=at, side=0) for at in range(4))
    trade["side"] = -1
    quote["kind"], quote["price2"], quote["size2"] = Kind.QUOTE, 101, 7
    level["kind"], level["side"], level["flags"] = Kind.BOOK, 1, Flag.SNAPSHOT | Flag.LAST
    gap["kind"], gap["price"], gap["price2"], gap["size"] = Kind.GAP, GapReason.CHECKSUM, Kind.BOOK, 4
    gap["sequence"] = 17

    async def run() -> None:
        async with opened(dsn) as store:
            frame = TickFrame(Lane(3, 1), 8, 0, START_NS, np.concatenate([trade, quote, level, gap]))
            assert await store.write([(0, frame)], TOPIC, PARTITION, 1) == []

    asyncio.run(run())
    assert query(dsn, "SELECT instrument, price, size, aggressor, origin_offset, origin_index FROM trades") == [
        ("sim:A", 100.0, 1.0, "sell", 8, 0)
    ]
    assert query(dsn, "SELECT instrument, bid, bid_size, ask, ask_size, origin_index FROM quotes") == [
        ("sim:A", 100.0, 1.0, 101.0, 7.0, 1)
    ]
    assert query(dsn, "SELECT side, price, size, of_snapshot, last_of_event FROM book_levels") == [
        ("bid", 100.0, 1.0, True, True)
    ]
    assert query(dsn, "SELECT instrument, reason, missing, first_missing, missing_count FROM gaps") == [
        ("sim:A", "checksum", "book", 17, 4.0)
    ]


CHECKS: list[Check] = [
    any_tick_comes_back_as_it_was,
    a_tick_lies_at_its_event_time_if_that_can_be,
    frames_that_come_again_add_nothing,
    whatever_crashes_and_zombies_write_each_frame_is_kept_once,
    an_index_counts_on_over_the_parts_of_a_record,
    what_the_database_refuses_is_named_and_nothing_is_kept,
    another_kafka_is_noticed,
    aggregates_are_the_bars_of_the_trades_in_order_of_arrival,
    views_say_it_in_words,
]
