"""The compiled loop over a frame's ticks: call the handler with the state of each one's instrument, note its signals.

`compile_kernel` makes one for each logic; `host.Instance` calls it for every frame, after `slots.place`.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numba
import numpy as np

from tapeline.agents.logic.authoring import Handler
from tapeline.connectors.venues.slots import NOT_SELECTED, SlotTable, place
from tapeline.schemas import TICK, Flag, Kind

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

Kernel = Callable[..., int]

_QUOTE, _ONE_SIDED = int(Kind.QUOTE), int(Flag.ONE_SIDED)


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
