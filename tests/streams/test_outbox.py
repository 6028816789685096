"""What goes to the broker together."""

from hypothesis import given
from hypothesis import strategies as st

from tapeline.streams.producer import BATCH_BYTES_MAX, RECORD_BYTES, Outbox

VALUES = st.lists(st.integers(0, BATCH_BYTES_MAX + 1000).map(bytes), max_size=12)


def outbox(values: list[bytes], heard_seconds: float) -> Outbox:
    box = Outbox("topic", 0)
    box.heard_seconds = heard_seconds
    box.add([{"value": value, "key": "k"} for value in values], sum(RECORD_BYTES + len(value) for value in values))
    return box


@given(values=VALUES, known=st.booleans())
def test_batches_are_in_order_bounded_and_all_there_is(values: list[bytes], known: bool) -> None:
    box = outbox(values, float("inf") if known else float("-inf"))
    sent: list[bytes] = []
    while box.waiting:
        batch, size = box.next_batch()
        assert size == sum(RECORD_BYTES + len(record["value"]) for record in batch)
        assert len(batch) == 1 or size <= BATCH_BYTES_MAX
        sent += [record["value"] for record in batch]
    assert sent == values
    assert box.waiting_bytes == 0
    assert box.next_batch() == ([], 0)


def test_a_batch_is_as_large_as_may_be() -> None:
    box = outbox([b"a", b"b", b"c"], float("inf"))
    assert len(box.next_batch()[0]) == 3


def test_a_partition_that_may_not_know_us_gets_one_record_alone() -> None:
    """The broker takes any first number, so nothing may be under way behind it."""
    box = outbox([b"a", b"b", b"c"], float("-inf"))
    assert [record["value"] for record in box.next_batch()[0]] == [b"a"]
