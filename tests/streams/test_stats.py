"""The numbers of a role: what adds up, what is kept, what is unknown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapeline.streams.stats import BOUNDS_SECONDS, UNKNOWN, Durations, PartitionStats, ProducerStats, RoleStats


@given(st.lists(st.floats(0, 1000, allow_nan=False)))
def test_a_histogram_counts_each_duration_in_the_bucket_that_holds_it(durations: list[float]) -> None:
    histogram = Durations()
    for seconds in durations:
        histogram.add(seconds)
    bounds = [*BOUNDS_SECONDS, float("inf")]
    below = [sum(seconds <= bound for seconds in durations) for bound in bounds]
    assert histogram.counts == [here - before for here, before in zip(below, [0, *below[:-1]], strict=True)]
    assert histogram.total == pytest.approx(sum(durations))
    assert histogram.longest == max(durations, default=0.0)
    assert histogram.last == (durations[-1] if durations else 0.0)


@pytest.mark.parametrize(
    ("next_offset", "end_offset", "lag"),
    [(UNKNOWN, 5, UNKNOWN), (5, UNKNOWN, UNKNOWN), (0, 0, 0), (3, 10, 7), (10, 9, 0)],
)
def test_lag(next_offset: int, end_offset: int, lag: int) -> None:
    assert PartitionStats(next_offset=next_offset, end_offset=end_offset).lag == lag


def test_a_partition_that_goes_and_comes_back_goes_on_counting() -> None:
    role = RoleStats("logic", "ticks")
    role.hold([0, 1])
    role.partitions[1].took(8, 10, 640)
    role.hold([0])
    assert [number for number, one in role.partitions.items() if one.held] == [0]
    role.hold([1])
    role.partitions[1].took(9, 5, 320)
    one = role.partitions[1]
    assert (one.held, one.next_offset, one.records, one.items, one.bytes) == (True, 9, 2, 15, 960)


def test_what_a_producer_waits_for() -> None:
    producer = ProducerStats(records_sent=5, bytes_sent=500, waiting_since_ns=1_000_000_000)
    assert producer.unconfirmed_seconds(3_500_000_000) == 2.5
    producer.records_confirmed, producer.bytes_confirmed = 4, 400
    assert (producer.unconfirmed_records, producer.unconfirmed_bytes) == (1, 100)
    assert producer.unconfirmed_seconds(900_000_000) == 0, "a clock that was set back"
    producer.records_confirmed = 5
    assert producer.unconfirmed_seconds(9_000_000_000) == 0
