"""The table of instruments: filled by plain Python, read by the compiled loop, by one function."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tapeline.connectors.venues.slots import NOT_SELECTED, SlotTable, place
from tapeline.schemas import empty_ticks

ids = st.integers(1, 2**32 - 1) | st.integers(1, 40).map(lambda n: n * 2**26)  # the latter fall on one place


@pytest.mark.slow
@settings(max_examples=50, deadline=None)
@given(st.lists(ids, unique=True, max_size=200), st.integers(0, 200))
@example([1, 2**32 - 1], 1)
def test_every_instrument_of_the_table_is_found_and_no_other(numbers: list[int], known: int) -> None:
    table = SlotTable()
    first, later = numbers[: known // 2], numbers[known // 2 : known]
    table.add(first, range(len(first)))
    for slot, number in enumerate(later, len(first)):
        table.add([number], [slot])
    ticks = empty_ticks(2 * len(numbers))
    ticks["instrument_id"][::2] = numbers  # and TIME ticks, whose id is 0, between them
    slots = np.full(len(ticks), -9, np.int64)
    done = place(ticks, 0, table.ids, table.slots, slots)
    wanted = min(known, len(numbers))
    assert done == (2 * wanted if known < len(numbers) else len(ticks))
    assert slots[:done:2].tolist() == list(range(wanted))
    assert set(slots[1:done:2].tolist()) <= {NOT_SELECTED}
