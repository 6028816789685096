"""What a store must do on every database; each check gets an empty one.

test_store.py runs them on PostgreSQL, test_timescale.py on TimescaleDB.
"""

import asyncio
import itertools
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import orjson
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tapeline.connectors.stores import PostgresStore
from tapeline.connectors.stores.reader import SignalQuery, connect, read_signals
from tapeline.schemas import Signal, SignalOrigin
from tests.connectors.stores.examples import DAY_NS, START_NS, encoded, make_signal, make_signals
from tests.schemas import strategies

Check = Callable[[str], None]
TOPIC = "signals"


@asynccontextmanager
async def opened(dsn: str, role: str = "persist") -> AsyncIterator[PostgresStore]:
    """A store that is open."""
    store = PostgresStore(dsn, role, topic_id="log")
    await store.open()
    try:
        yield store
    finally:
        await store.close()


def kept(dsn: str, query: SignalQuery | None = None) -> list[Signal]:
    """All signals that a query finds."""
    with connect(dsn) as connection:
        return list(read_signals(connection, query or SignalQuery()))


def any_signal_comes_back_as_it_was(dsn: str) -> None:
    fresh = itertools.count()

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(strategies.signals, min_size=1, max_size=5))
    @example([make_signal(price=Decimal("-0.50"), strength=5e-324), make_signal(1, price=Decimal("1E+30"), tags={})])
    def check(drawn: list[Signal]) -> None:
        # Its own logic finds a signal again; ids are hashes, so the same id would be the same signal.
        signals = []
        for one in drawn:
            number = next(fresh)
            signals.append(one.model_copy(update={"id": f"{number:032x}", "logic": f"{number} {one.logic}"}))
        refused = runner.run(store.write(encoded(signals), TOPIC, 0, 1))
        assert [one.index for one in refused] == [at for at, one in enumerate(signals) if has_nul(one)]
        for one in signals:
            if has_nul(one):
                continue
            (again,) = read_signals(connection, SignalQuery(logic=one.logic))
            assert again == one
            assert Signal.decode(again.encode()).encode() == again.encode()

    store = PostgresStore(dsn, "persist", topic_id="log")
    with asyncio.Runner() as runner, connect(dsn) as connection:
        runner.run(store.open())
        check()
        runner.run(store.close())


def has_nul(signal: Signal) -> bool:
    texts = (signal.tenant, signal.logic, signal.version, signal.params_hash, signal.instrument)
    return any("\0" in text for text in (*texts, *signal.tags.keys(), *signal.tags.values()))


def a_signal_may_be_written_in_other_words(dsn: str) -> None:
    one = make_signal(instrument="sim:Ä𝄞", price=Decimal("0.00000012"))
    fields = orjson.loads(one.encode())
    backwards = json.dumps(dict(reversed(fields.items())), indent=1).encode()
    doubled = make_signal(1, instrument="sim:last").encode().replace(b"{", b'{"instrument":"sim:first",', 1)
    records = [backwards, doubled, make_signal(2).encode().replace(b'"seq":2', b'"seq":2.0')]
    signals = [Signal.decode(record) for record in records]

    async def run() -> None:
        async with opened(dsn) as store:
            assert [refused.index for refused in await store.write(records, TOPIC, 0, 3)] == [2]

    asyncio.run(run())
    assert kept(dsn) == signals[:2]


def the_same_signal_twice_is_one_row(dsn: str) -> None:
    signals = make_signals(12)

    async def run() -> None:
        async with opened(dsn) as store, opened(dsn) as zombie:
            assert await store.write(encoded(signals), TOPIC, 2, 12) == []
            assert await zombie.write(encoded(signals[3:7] + signals[3:7]), TOPIC, 2, 7) == []
            again = [signal.origin.partition for signal in signals[3:7]]
            assert (store.repeats, zombie.repeats) == (Counter(), Counter(again + again)), "it was told what came again"
            assert await store.next_offsets(TOPIC) == {2: 12}, "a zombie moved the offset back"
            assert await store.write([], TOPIC, 0, 5) == []
            assert await store.next_offsets(TOPIC) == {0: 5, 2: 12}
            assert await store.next_offsets("other") == {}

    asyncio.run(run())
    assert kept(dsn) == signals


def what_the_database_refuses_is_named_and_the_rest_is_kept(dsn: str) -> None:
    signals = make_signals(12)
    bad: dict[int, dict[str, Any]] = {
        2: {"instrument": "sim:\0"},
        3: {"tags": {"desk": "\0"}},
        7: {"price": Decimal("1E+200000")},
        8: {"ts_event_ns": 2**63},
        11: {"origin": SignalOrigin(partition=2**31, offset=0, index=0)},
    }
    for at, changes in bad.items():
        signals[at] = make_signal(at, **changes)

    async def run() -> None:
        async with opened(dsn) as store:
            refused = await store.write(encoded(signals), TOPIC, 0, 12)
            assert [one.index for one in refused] == list(bad)
            for one, reason in zip(
                refused, ["u0000", "u0000", "overflow", "out of range", "out of range"], strict=True
            ):
                assert reason in one.reason
            assert await store.next_offsets(TOPIC) == {}, "the offset passed before the refused were safe"
            assert await store.write([], TOPIC, 0, 12) == []
            assert await store.next_offsets(TOPIC) == {0: 12}

    asyncio.run(run())
    assert kept(dsn) == [one for at, one in enumerate(signals) if at not in bad]


def times_reach_as_far_as_nanoseconds_do(dsn: str) -> None:
    edges = [-(2**63), -1, 0, 1, START_NS, 2**63 - 1]
    signals = [make_signal(seq, ts_event_ns=ns, ts_recv_ns=ns, valid_until_ns=ns) for seq, ns in enumerate(edges)]

    async def run() -> None:
        async with opened(dsn) as store:
            assert await store.write(encoded(signals), TOPIC, 0, 6) == []

    asyncio.run(run())
    assert kept(dsn) == signals
    for at, ns in enumerate(edges):
        assert kept(dsn, SignalQuery(since_ns=ns)) == signals[at:]
        assert kept(dsn, SignalQuery(until_ns=ns)) == signals[:at]


def queries_find_what_they_say_in_order_of_seq(dsn: str) -> None:
    cross = make_signals(6)
    other = [make_signal(seq, logic="breakout", instrument=f"lean:S{seq % 2}") for seq in range(5)]
    twin = make_signal(3, id="f" * 32, instrument="sim:XYZ")  # another partition's seq 3
    late = make_signal(6, ts_event_ns=START_NS - DAY_NS)  # an event that came late: order is that of seq

    async def run() -> None:
        async with opened(dsn) as store:
            assert await store.write(encoded([twin, *reversed(cross), late, *other]), TOPIC, 0, 13) == []

    asyncio.run(run())
    everything = [*other, *cross[:4], twin, *cross[4:], late]
    assert kept(dsn) == everything
    assert kept(dsn, SignalQuery(logic="breakout")) == other
    assert kept(dsn, SignalQuery(instrument="lean:S1")) == other[1::2]
    assert kept(dsn, SignalQuery(instrument="lean:*")) == other
    assert kept(dsn, SignalQuery(instrument="*:[!S]?[CZ]")) == [*cross[:4], twin, *cross[4:], late]
    assert kept(dsn, SignalQuery(logic="ema_cross", limit=3)) == [twin, *cross[4:]][-3:]
    assert kept(dsn, SignalQuery(since_ns=cross[4].ts_event_ns)) == [other[4], *cross[4:]]
    assert kept(dsn, SignalQuery(logic="none")) == []


CHECKS: list[Check] = [
    any_signal_comes_back_as_it_was,
    a_signal_may_be_written_in_other_words,
    the_same_signal_twice_is_one_row,
    what_the_database_refuses_is_named_and_the_rest_is_kept,
    times_reach_as_far_as_nanoseconds_do,
    queries_find_what_they_say_in_order_of_seq,
]
