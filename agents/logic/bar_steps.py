"""Steps of the bar builder on one trade, one instrument and one bar, compiled. `bar_kernel` puts them together.

They take records, not arrays: numba counts references to arrays, which costs 100 ns a call.
"""

from typing import Any

import numba
import numpy as np

from tapeline.agents.logic.bar_records import (
    AHEAD_NS,
    BEHIND_NS,
    LATE,
    ONE,
    OUTLIER,
    SNAPSHOT,
    TICK_KIND,
    TRADE,
    VOLUME_KIND,
    WINDOW,
)


@numba.njit
def is_repeat(slot: Any, sequence: Any, late: Any) -> Any:
    """Take a trade's number; return whether it came before, or is so old that nobody knows."""
    step = sequence - slot.sequence
    if not late:  # above the highest, or the venue began anew
        slot.sequence = sequence
        if 0 < step < WINDOW:
            slot.seen = (slot.seen << np.uint64(step)) | ONE
        else:
            slot.seen = ONE
        return False
    if step > 0 or step <= -WINDOW:
        return True
    bit = ONE << np.uint64(-step)
    if slot.seen & bit:
        return True
    slot.seen |= bit
    return False


@numba.njit
def time_of(tick: Any) -> Any:
    """Return when a trade happened."""
    if -BEHIND_NS <= tick.ts_event_ns - tick.ts_recv_ns <= AHEAD_NS:
        return tick.ts_event_ns
    return tick.ts_recv_ns


@numba.njit
def add(bar: Any, tick: Any, time_ns: Any) -> Any:
    """Count a trade in a bar that has one already; of the same moment, the first that came opens, the last closes."""
    price = tick.price
    if price > bar.high:
        bar.high = price
    if price < bar.low:
        bar.low = price
    if time_ns >= bar.last_ns:
        bar.close = price
        bar.last_ns = time_ns
    if time_ns < bar.first_ns:
        bar.open = price
        bar.first_ns = time_ns
    bar.volume += tick.size
    bar.notional += price * tick.size
    if tick.side > 0:
        bar.buy_volume += tick.size
    bar.trades += 1


# While trades of one bar follow each other, what they change is kept in registers: twice as fast. As a tuple, because
# a function that arrays are handed to would count references, 100 ns a call.


@numba.njit
def load(slot: Any, bar: Any, now_ns: Any) -> Any:
    """Return what trades change of a bar, and what they are compared with."""
    prices = (bar.open, bar.high, bar.low, bar.close)
    sums = (bar.volume, bar.notional, bar.buy_volume, bar.trades)
    return prices, sums, (bar.first_ns, bar.last_ns), (now_ns, slot.sequence, slot.seen)


@numba.njit
def step_on(tick: Any, state: Any, frame_ns: Any, due_ns: Any, start_ns: Any, end_ns: Any, is_time: Any) -> Any:
    """Add a tick to an open bar; return False if there is anything else to decide about it, and the new state.

    Such as: another kind, bar or due time, a flag, a number out of order.
    """
    (first, high, low, close), (volume, notional, buy_volume, trades), (first_ns, last_ns), known = state
    now_ns, sequence, seen = known
    recv_ns, time_ns, step = tick.ts_recv_ns, tick.ts_event_ns, tick.sequence - sequence
    if tick.kind != TRADE or tick.flags & (SNAPSHOT | OUTLIER | LATE):
        return False, state
    now_ns = max(now_ns, min(recv_ns, frame_ns))
    if now_ns >= due_ns or not (start_ns <= time_ns < end_ns and -BEHIND_NS <= time_ns - recv_ns <= AHEAD_NS):
        return False, state
    if tick.sequence != 0:
        if not 0 < step < WINDOW:
            return False, state
        sequence += step
        seen = (seen << np.uint64(step)) | ONE
    price = tick.price
    high, low = max(high, price), min(low, price)
    if time_ns >= last_ns or not is_time:
        close, last_ns = price, time_ns
    if time_ns < first_ns and is_time:
        first, first_ns = price, time_ns
    volume += tick.size
    notional += price * tick.size
    buy_volume += tick.size if tick.side > 0 else 0.0
    sums = (volume, notional, buy_volume, trades + 1)
    return True, ((first, high, low, close), sums, (first_ns, last_ns), (now_ns, sequence, seen))


@numba.njit
def store(slot: Any, bar: Any, state: Any) -> Any:
    """Write back what `load` loaded; return the clock."""
    prices, sums, times, (now_ns, sequence, seen) = state
    bar.open, bar.high, bar.low, bar.close = prices
    bar.volume, bar.notional, bar.buy_volume, bar.trades = sums
    bar.first_ns, bar.last_ns = times
    slot.sequence, slot.seen = sequence, seen
    return now_ns


@numba.njit
def reached(kind: Any, size: Any, trades: Any, volume: Any, notional: Any) -> Any:
    """Return whether a counted bar is complete."""
    if kind == TICK_KIND:
        return trades >= size
    return (volume if kind == VOLUME_KIND else notional) >= size


@numba.njit
def begin_bar(bar: Any, tick: Any, time_ns: Any, kind: Any, size: Any) -> Any:
    """Make a new bar of its first trade; start, end, number, flags and due time are the caller's."""
    bar.instrument_id = tick.instrument_id
    bar.kind = kind
    bar.size = size
    bar.flags = 0
    bar.revision = 0
    bar.open = bar.high = bar.low = bar.close = tick.price
    bar.volume = tick.size
    bar.notional = tick.price * tick.size
    bar.buy_volume = tick.size if tick.side > 0 else 0.0
    bar.trades = 1
    bar.first_ns = bar.last_ns = time_ns


@numba.njit
def copy_bar(to: Any, bar: Any) -> Any:
    """Write a live bar as a BAR."""
    to.start_ns = bar.start_ns
    to.end_ns = bar.end_ns
    to.number = bar.number
    to.instrument_id = bar.instrument_id
    to.kind = bar.kind
    to.flags = bar.flags
    to.revision = bar.revision
    to.size = bar.size
    to.open = bar.open
    to.high = bar.high
    to.low = bar.low
    to.close = bar.close
    to.volume = bar.volume
    to.notional = bar.notional
    to.buy_volume = bar.buy_volume
    to.trades = bar.trades
