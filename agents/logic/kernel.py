"""The compiled loop over a frame's ticks: find the instrument's state, call the handler, note its signals.

Made once per logic by `compile_kernel`; called by `host.Instance` for every frame.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from tapeline.agents.logic.authoring import Handler
from tapeline.schemas import Ticks

NOT_SELECTED = -1
"""Slot of an instrument that the logic does not want."""

FOUND = np.dtype([("tick", "<i8"), ("slot", "<i8"), ("index", "<i8"), ("side", "<i8"), ("strength", "<f8")])
"""A signal found in a frame: number of its tick, the instrument's slot, n-th tick of it in the record, the words."""

Kernel = Callable[..., tuple[int, int]]


@numba.njit(inline="always")
def find(table_ids: Any, table_slots: Any, instrument_id: Any) -> Any:
    """Return the place of an instrument in the open-addressing table: where it is, or where it would go."""
    mask = len(table_ids) - 1
    place = (instrument_id * np.uint32(2654435769)) & mask
    while table_ids[place] != instrument_id and table_ids[place] != 0:
        place = (place + 1) & mask
    return place


class SlotTable:
    """instrument id -> slot, as arrays that the kernel reads. Id 0 (TIME ticks) marks a free place."""

    def __init__(self) -> None:
        self.ids: npt.NDArray[np.uint32] = np.zeros(64, np.uint32)
        self.slots: npt.NDArray[np.int64] = np.zeros(64, np.int64)
        self._count = 0

    def add(self, instrument_id: int, slot: int) -> None:
        """Add an instrument that is not in the table."""
        self._count += 1
        if 2 * self._count > len(self.ids):
            ids, slots = self.ids, self.slots
            self.ids, self.slots = np.zeros(2 * len(ids), np.uint32), np.zeros(2 * len(ids), np.int64)
            for place in np.flatnonzero(ids):
                self._put(int(ids[place]), int(slots[place]))
        self._put(instrument_id, slot)

    def _put(self, instrument_id: int, slot: int) -> None:
        place = find(self.ids, self.slots, np.uint32(instrument_id))
        self.ids[place] = instrument_id
        self.slots[place] = slot


@cache
def compile_kernel(handler: Handler) -> Kernel:
    """Return the loop around a handler; it compiles at the first call (about a second)."""
    # Division by zero gives inf as in numpy: a handler's odd tick must not take the whole frame down.
    compiled = numba.njit(error_model="numpy")(handler)

    @numba.njit(error_model="numpy")
    def kernel(
        ticks: Any,
        start: Any,
        table_ids: Any,
        table_slots: Any,
        states: Any,
        params: Any,
        nth: Any,
        kinds: Any,
        found: Any,
    ) -> Any:
        """Run over ticks[start:]; return (signals found, first tick not done: of an instrument not in the table)."""
        count = 0
        last_id = np.uint32(0)
        slot = NOT_SELECTED
        for i in range(start, len(ticks)):
            tick = ticks[i]
            instrument_id = tick.instrument_id
            if instrument_id != last_id:
                place = find(table_ids, table_slots, instrument_id)
                if table_ids[place] != instrument_id:
                    return count, i
                slot = table_slots[place]
                last_id = instrument_id
            if instrument_id == 0 or slot == NOT_SELECTED:
                continue
            index = nth[slot]
            nth[slot] = index + 1
            if not (kinds >> tick.kind) & 1:
                continue
            signal = compiled(tick, states[slot], params[0])
            if signal.side != 0:
                found[count].tick = i
                found[count].slot = slot
                found[count].index = index
                found[count].side = signal.side
                found[count].strength = signal.strength
                count += 1
        return count, len(ticks)

    return kernel


def warm_up(kernel: Kernel, ticks: Ticks, state: np.dtype[np.void], params: np.ndarray[Any, Any]) -> None:
    """Compile the kernel for the types it will see, so that the first frame does not wait for it."""
    table = SlotTable()
    table.add(1, 0)
    kernel(
        ticks,
        0,
        table.ids,
        table.slots,
        np.zeros(1, state),
        params,
        np.zeros(1, np.int64),
        np.int64(0),
        np.zeros(1, FOUND),
    )
