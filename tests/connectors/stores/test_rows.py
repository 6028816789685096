"""Rows as PostgreSQL's binary COPY has them, and what of ticks becomes columns."""

import struct
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapeline.connectors.stores.rows import BIGINT, DOUBLE, EPOCH_US, INTEGER, SMALLINT, RowLayout, timestamps
from tapeline.connectors.stores.ticks import counted_on, numbered, times
from tapeline.schemas import empty_ticks
from tests.connectors.stores.examples import DAY_NS, START_NS

LAYOUT = RowLayout("things", {"a": BIGINT, "b": DOUBLE, "c": INTEGER, "d": SMALLINT})
IDS = st.lists(st.integers(0, 4), max_size=30)


@pytest.mark.parametrize("count", [0, 1, 999, 1000, 1001, 2500])
def test_rows_are_the_bytes_of_the_protocol(count: int) -> None:
    assert LAYOUT.statement == "COPY things (a, b, c, d) FROM STDIN (FORMAT binary)"
    numbers = np.arange(count)
    values = {"d": -3, "a": numbers - 2**62, "b": numbers / 3, "c": 7}
    rows = [struct.pack("!hiqidiiih", 4, 8, at - 2**62, 8, at / 3, 4, 7, 2, -3) for at in range(count)]
    assert b"".join(LAYOUT.encode(count, values)) == b"PGCOPY\n\xff\r\n\0" + bytes(8) + b"".join(rows) + b"\xff\xff"


def test_timestamps_are_microseconds_since_2000_rounded_down() -> None:
    epoch_ns = EPOCH_US * 1000
    assert timestamps(np.array([epoch_ns, epoch_ns + 1999, epoch_ns - 1])).tolist() == [0, 1, -1]


def test_a_tick_is_sorted_in_by_its_event_time_unless_that_is_a_day_off() -> None:
    ticks = empty_ticks(7)
    ticks["ts_recv_ns"] = START_NS
    ticks["ts_event_ns"] = [
        START_NS - 5,
        START_NS + DAY_NS,
        START_NS - DAY_NS,
        START_NS + 2 * DAY_NS,
        0,
        2**63 - 1,
        -(2**63),
    ]
    assert times(ticks).tolist() == [START_NS - 5, START_NS + DAY_NS, START_NS - DAY_NS, *[START_NS] * 4]


@given(IDS)
def test_each_key_is_numbered_by_itself(keys: list[int]) -> None:
    seen: Counter[int] = Counter()
    wanted = []
    for key in keys:
        wanted.append(seen[key])
        seen[key] += 1
    assert numbered(np.array(keys, np.int64)).tolist() == wanted


@given(st.lists(IDS, max_size=3))
def test_counting_goes_on_over_the_parts_of_a_record(parts: list[list[int]]) -> None:
    found: list[int] = []
    counts: dict[int, int] = {}
    for part in parts:
        ids = np.array(part, np.int64)
        index, counts = counted_on(ids, numbered(ids), counts)
        found += index.tolist()
    together = [one for part in parts for one in part]
    assert found == numbered(np.array(together, np.int64)).tolist()
    assert counts == Counter(together)
