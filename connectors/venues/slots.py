"""Which slot of its arrays compiled code keeps an instrument in. Used by the logic host and by order books."""

from collections.abc import Iterable
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

NOT_SELECTED = -1
"""Slot of an instrument that is not wanted, and of ticks without one."""

Slots = npt.NDArray[np.int64]


def find(table_ids: Any, instrument_id: Any) -> Any:
    """Return the place of an instrument in the open-addressing table: where it is, or where it would go."""
    mask = len(table_ids) - 1
    at = (instrument_id * 2654435769) & mask
    while table_ids[at] != instrument_id and table_ids[at] != 0:
        at = (at + 1) & mask
    return at


find_compiled = numba.njit(find)
"""`find`, for compiled code."""


class SlotTable:
    """instrument id -> slot, as arrays that compiled code reads. Id 0 (TIME ticks) marks a free place."""

    def __init__(self) -> None:
        self.ids: npt.NDArray[np.uint32] = np.zeros(64, np.uint32)
        self.slots: Slots = np.zeros(64, np.int64)
        self._count = 0

    def add(self, ids: Iterable[int], slots: Iterable[int]) -> None:
        """Add instruments that are not in the table, each with its slot; half of the table stays free."""
        new = dict(zip(ids, slots, strict=True))
        self._count += len(new)
        if 2 * self._count > len(self.ids):
            taken = self.ids != 0
            new |= zip(self.ids[taken].tolist(), self.slots[taken].tolist(), strict=True)
            size = 1 << (2 * self._count).bit_length()
            self.ids, self.slots = np.zeros(size, np.uint32), np.zeros(size, np.int64)
        for instrument_id, slot in new.items():
            at = find(self.ids, instrument_id)
            self.ids[at] = instrument_id
            self.slots[at] = slot


@numba.njit
def place(ticks: Any, start: Any, table_ids: Any, table_slots: Any, slots: Any) -> Any:
    """Note the slot of each tick from `start` on; return the first tick whose instrument is not in the table."""
    last_id = np.uint32(0)
    slot = NOT_SELECTED
    for i in range(start, len(ticks)):
        instrument_id = ticks[i].instrument_id
        if instrument_id != last_id:
            slot = NOT_SELECTED
            if instrument_id != 0:
                at = find_compiled(table_ids, instrument_id)
                if table_ids[at] != instrument_id:
                    return i
                slot = table_slots[at]
            last_id = instrument_id
        slots[i] = slot
    return len(ticks)
