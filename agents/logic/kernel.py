"""The compiled loops over a frame's ticks: find the slot of each one's instrument, call the handler, note its signals.

`place` serves every logic; `compile_kernel` makes the other once per logic. `host.Instance` calls both for every frame.
"""

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from tapeline.agents.logic.authoring import Handler
from tapeline.schemas import TICK, Flag, Kind

NOT_SELECTED = -1
"""Slot of an instrument that the logic does not want, and of ticks without one."""

COUNTED = np.dtype([("frame", "<i8"), ("ticks", "<i8")])
"""Of an instrument: the last frame with a tick of it, and how many of the raw record's ticks were its own by then."""

FOUND = np.dtype(
    [
        ("slot", "<i8"),  # the instrument's
        ("index", "<i8"),  # n-th tick of it in the raw record
        ("side", "<i8"),
        ("strength", "<f8"),
        ("price", "<f8"),  # the tick's; of a quote the middle, or its one side
        ("ts_event_ns", "<i8"),
        ("ts_recv_ns", "<i8"),
    ]
)
"""A signal found in a frame: what the handler said, and what it takes from its tick."""

Slots = npt.NDArray[np.int64]
Kernel = Callable[..., int]

_QUOTE, _ONE_SIDED = int(Kind.QUOTE), int(Flag.ONE_SIDED)


def find(table_ids: Any, instrument_id: Any) -> Any:
    """Return the place of an instrument in the open-addressing table: where it is, or where it would go."""
    mask = len(table_ids) - 1
    at = (instrument_id * 2654435769) & mask
    while table_ids[at] != instrument_id and table_ids[at] != 0:
        at = (at + 1) & mask
    return at


class SlotTable:
    """instrument id -> slot, as arrays that the kernel reads. Id 0 (TIME ticks) marks a free place."""

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


_find = numba.njit(find)


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
                at = _find(table_ids, instrument_id)
                if table_ids[at] != instrument_id:
                    return i
                slot = table_slots[at]
            last_id = instrument_id
        slots[i] = slot
    return len(ticks)


@cache
def compile_kernel(handler: Handler) -> Kernel:
    """Return the loop around a handler; it compiles at the first call (about a second)."""
    # Division by zero gives inf as in numpy: a handler's odd tick must not take the whole frame down.
    compiled = numba.njit(error_model="numpy")(handler)

    @numba.njit(error_model="numpy")
    def kernel(
        ticks: Any, slots: Any, states: Any, params: Any, counted: Any, frame: Any, kinds: Any, found: Any
    ) -> Any:
        """Run over the ticks, whose slots `place` noted; return how many signals were found."""
        said = 0
        for i in range(len(ticks)):
            slot = slots[i]
            if slot == NOT_SELECTED:
                continue
            tick = ticks[i]
            count = counted[slot]
            if count.frame != frame:
                count.frame = frame
                count.ticks = 0
            index = count.ticks
            count.ticks = index + 1
            if not (kinds >> tick.kind) & 1:
                continue
            signal = compiled(tick, states[slot], params[0])
            if signal.side != 0:
                price = tick.price
                if tick.kind == _QUOTE:
                    if not tick.flags & _ONE_SIDED:
                        price = price / 2 + tick.price2 / 2
                    elif price == 0:
                        price = tick.price2
                one = found[said]
                one.slot = slot
                one.index = index
                one.side = signal.side
                one.strength = signal.strength
                one.price = price
                one.ts_event_ns = tick.ts_event_ns
                one.ts_recv_ns = tick.ts_recv_ns
                said += 1
        return said

    return kernel


def warm_up(kernel: Kernel, state: np.dtype[np.void], params: np.ndarray[Any, Any]) -> None:
    """Compile for the types that will come, so that the first frame does not wait for it."""
    ticks = np.frombuffer(b"", TICK)  # read-only, as decoded frames are: numba compiles for that
    table = SlotTable()
    slots, counted, found = np.zeros(1, np.int64), np.zeros(1, COUNTED), np.zeros(1, FOUND)
    place(ticks, 0, table.ids, table.slots, slots)
    kernel(ticks, slots, np.zeros(1, state), params, counted, 0, np.int64(0), found)
