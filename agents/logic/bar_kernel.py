"""The compiled loops over a frame's ticks that make bars. `bars.BarSeries` keeps the arrays and calls them.

`time_bars` is for bars of time, `count_bars` for those of trades, volume or notional. Both go tick by tick: first the
clock moves, which may complete bars, then the tick counts. So it does not matter where frames are cut.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numba
import numpy as np
from numba import types

from tapeline.connectors.venues.compiled import INT64, array, compiled
from tapeline.schemas import BAR, TICK, BarFlag, BarKind, Flag, Kind

NEVER = 2**63 - 1
NOT_SELECTED = -1
AHEAD_NS = 10_000_000_000
"""A trade cannot have happened after it was received. Clocks differ: so much later is believed, ..."""
BEHIND_NS = 86_400_000_000_000
"""... and so much earlier. Otherwise its receive time counts, as in the database."""
WINDOW = 64
"""So many numbers below the highest it is known which trades came: LATE ones may be repeats."""
REVISION_MAX = 2**16 - 1

LIVE = np.dtype(
    [
        *((name, BAR[name]) for name in BAR.names or ()),
        ("due_ns", "<i8"),  # when it is complete; NEVER: it was said
        ("first_ns", "<i8"),  # event time of the trade that opened it
        ("last_ns", "<i8"),  # and of the one that closed it
    ]
)
"""A bar that may still change. revision: the one that it gets when it is said next."""

SLOT = np.dtype(
    [
        ("since_ns", "<i8"),  # the clock when the instrument was first seen; NEVER: not yet
        ("sequence", "<i8"),  # highest number of its trades
        ("seen", "<u8"),  # bit n: the trade numbered `sequence` - n came
        ("number", "<i8"),  # of the next bar that is counted
        ("segments_begin", "<i4"),  # of its calendar; both 0: it has none
        ("segments_end", "<i4"),
        ("bars", "<i4"),  # how many of its bars are live
        ("gap", "<i4"),  # 1: data is missing before its next trade
    ]
)
"""What is known of an instrument."""

SEGMENT = np.dtype([("open_ns", "<i8"), ("close_ns", "<i8"), ("number", "<i8")])
"""A stretch of a session without a break; number: of its first bar."""

NOW, DUE, TOTAL = range(3)
"""Places in `clock`: the clock, the next time at which a bar is complete, how many bars are live."""
SNAPSHOTS, OUTLIERS, REPEATS, OUTSIDE, TOO_LATE = range(5)
"""Places in `counts`: trades that are in no bar, by why."""
DONE, FULL, WIDEN = range(3)
"""Why a loop ended: at the end, no room for what it says, or more bars of an instrument than there is room for."""

_TRADE, _GAP = int(Kind.TRADE), int(Kind.GAP)
_SNAPSHOT, _OUTLIER, _LATE = int(Flag.SNAPSHOT), int(Flag.OUTLIER), int(Flag.LATE)
_REVISED, _PARTIAL = int(BarFlag.LATE), int(BarFlag.PARTIAL)
_TIME, _TICK, _VOLUME = int(BarKind.TIME), int(BarKind.TICK), int(BarKind.VOLUME)
_ONE = np.uint64(1)


@numba.njit
def _is_repeat(slot: Any, sequence: Any, late: Any) -> Any:
    """Take a trade's number; return whether it came before, or is so old that nobody knows."""
    step = sequence - slot.sequence
    if not late:  # above the highest, or the venue began anew
        slot.sequence = sequence
        if 0 < step < WINDOW:
            slot.seen = (slot.seen << np.uint64(step)) | _ONE
        else:
            slot.seen = _ONE
        return False
    if step > 0 or step <= -WINDOW:
        return True
    bit = _ONE << np.uint64(-step)
    if slot.seen & bit:
        return True
    slot.seen |= bit
    return False


@numba.njit
def _time(tick: Any) -> Any:
    """Return when a trade happened."""
    if -BEHIND_NS <= tick.ts_event_ns - tick.ts_recv_ns <= AHEAD_NS:
        return tick.ts_event_ns
    return tick.ts_recv_ns


@numba.njit
def _add(bar: Any, tick: Any, time_ns: Any) -> Any:
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
def _load(slot: Any, bar: Any, now_ns: Any) -> Any:
    """Return what trades change of a bar, and what they are compared with."""
    prices = (bar.open, bar.high, bar.low, bar.close)
    sums = (bar.volume, bar.notional, bar.buy_volume, bar.trades)
    return prices, sums, (bar.first_ns, bar.last_ns), (now_ns, slot.sequence, slot.seen)


@numba.njit
def _step(tick: Any, state: Any, frame_ns: Any, due_ns: Any, start_ns: Any, end_ns: Any, is_time: Any) -> Any:
    """Add a tick to an open bar; return False if there is anything else to decide about it, and the new state.

    Such as: another kind, bar or due time, a flag, a number out of order.
    """
    (first, high, low, close), (volume, notional, buy_volume, trades), (first_ns, last_ns), known = state
    now_ns, sequence, seen = known
    recv_ns, time_ns, step = tick.ts_recv_ns, tick.ts_event_ns, tick.sequence - sequence
    if tick.kind != _TRADE or tick.flags & (_SNAPSHOT | _OUTLIER | _LATE):
        return False, state
    now_ns = max(now_ns, min(recv_ns, frame_ns))
    if now_ns >= due_ns or not (start_ns <= time_ns < end_ns and -BEHIND_NS <= time_ns - recv_ns <= AHEAD_NS):
        return False, state
    if tick.sequence != 0:
        if not 0 < step < WINDOW:
            return False, state
        sequence += step
        seen = (seen << np.uint64(step)) | _ONE
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
def _store(slot: Any, bar: Any, state: Any) -> Any:
    """Write back what `_load` loaded; return the clock."""
    prices, sums, times, (now_ns, sequence, seen) = state
    bar.open, bar.high, bar.low, bar.close = prices
    bar.volume, bar.notional, bar.buy_volume, bar.trades = sums
    bar.first_ns, bar.last_ns = times
    slot.sequence, slot.seen = sequence, seen
    return now_ns


@numba.njit
def _reached(kind: Any, size: Any, trades: Any, volume: Any, notional: Any) -> Any:
    """Return whether a counted bar is complete."""
    if kind == _TICK:
        return trades >= size
    return (volume if kind == _VOLUME else notional) >= size


@numba.njit
def _begin(bar: Any, tick: Any, time_ns: Any, kind: Any, size: Any) -> Any:
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
def _copy(to: Any, bar: Any) -> Any:
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


@numba.njit
def _say_due(clock: Any, slots: Any, live: Any, kept_ns: Any, said: Any, out: Any) -> Any:
    """Say every bar that is complete, by instrument and time, and forget those that no trade can revise any more."""
    due_ns = NEVER
    total = 0
    for number in range(len(slots)):
        slot = slots[number]
        left = 0
        for at in range(slot.bars):
            bar = live[number, at]
            if bar.due_ns <= clock[NOW]:
                _copy(out[said], bar)
                said += 1
                bar.due_ns = NEVER
                bar.revision += 1
            if bar.due_ns == NEVER and bar.end_ns + kept_ns <= clock[NOW]:
                continue
            due_ns = min(due_ns, bar.due_ns)
            if left < at:
                live[number, left] = bar
            left += 1
        slot.bars = left
        total += left
    clock[DUE] = due_ns
    clock[TOTAL] = total
    return said


@numba.njit
def _interval(time_ns: Any, size_ns: Any, slot: Any, segments: Any) -> Any:
    """Return start, end and number of the bar of a moment; end 0: the calendar has none there."""
    begin, end = slot.segments_begin, slot.segments_end
    if begin == end:
        number = time_ns // size_ns
        return number * size_ns, (number + 1) * size_ns, number
    first = begin
    while begin < end:  # the first segment that opens later
        middle = (begin + end) // 2
        if segments[middle].open_ns <= time_ns:
            begin = middle + 1
        else:
            end = middle
    segment = segments[begin - 1 if begin > first else first]
    if not segment.open_ns <= time_ns < segment.close_ns:
        return 0, 0, 0
    if size_ns >= BEHIND_NS:  # a day is a session, however long
        return segment.open_ns, segment.close_ns, segment.number
    number = (time_ns - segment.open_ns) // size_ns
    start_ns = segment.open_ns + number * size_ns
    return start_ns, min(start_ns + size_ns, segment.close_ns), segment.number + number


@numba.njit
def _revise(bar: Any, clock: Any, grace_ns: Any) -> Any:
    """Let a bar that was said be said again; return False if it cannot."""
    if bar.revision == REVISION_MAX:
        return False
    bar.due_ns = clock[NOW] + grace_ns
    clock[DUE] = min(clock[DUE], bar.due_ns)
    return True


@numba.njit
def _mark_gap(slot: Any, bars: Any, clock: Any, rules: Any) -> Any:
    """Data is missing: mark the bars that are open, the newest also if it was said."""
    _, grace_ns, kept_ns = rules
    slot.gap = 1
    for at in range(slot.bars):
        bar = bars[at]
        if bar.flags & _PARTIAL:
            continue
        is_newest = at == slot.bars - 1 and bar.end_ns + kept_ns > clock[NOW]
        if bar.due_ns != NEVER or (is_newest and _revise(bar, clock, grace_ns)):
            bar.flags |= _PARTIAL


@numba.njit
def _add_one(tick: Any, time_ns: Any, bar: Any, rules: Any, clock: Any, counts: Any) -> Any:
    """Count a trade in a bar, which may have closed; return whether it did."""
    _, grace_ns, kept_ns = rules
    if bar.due_ns == NEVER:
        if bar.end_ns + kept_ns <= clock[NOW] or not _revise(bar, clock, grace_ns):
            counts[TOO_LATE] += 1
            return False
        bar.flags |= _REVISED
    _add(bar, tick, time_ns)
    return True


@numba.njit
def _new_bar(
    tick: Any, time_ns: Any, slot: Any, bars: Any, at: Any, rules: Any, clock: Any, segments: Any, counts: Any
) -> Any:
    """Make a bar of its first trade, at place `at` among those of its instrument; return whether there is one."""
    size_ns, grace_ns, kept_ns = rules
    start_ns, end_ns, number = _interval(time_ns, size_ns, slot, segments)
    if end_ns == 0:
        counts[OUTSIDE] += 1
        return False
    if end_ns + kept_ns <= clock[NOW]:
        counts[TOO_LATE] += 1
        return False
    for behind in range(slot.bars, at, -1):
        bars[behind] = bars[behind - 1]
    slot.bars += 1
    clock[TOTAL] += 1
    bar = bars[at]
    _begin(bar, tick, time_ns, _TIME, float(size_ns))
    bar.start_ns = start_ns
    bar.end_ns = end_ns
    bar.number = number
    if start_ns < slot.since_ns:
        bar.flags |= _PARTIAL
    bar.due_ns = end_ns + grace_ns
    if bar.due_ns <= clock[NOW]:  # it closed without a trade; like a revision, it waits for others
        bar.due_ns = clock[NOW] + grace_ns
        bar.flags |= _REVISED
    clock[DUE] = min(clock[DUE], bar.due_ns)
    return True


def _time_bars(
    ticks: Any,
    numbers: Any,
    begin: Any,
    frame_ns: Any,
    ends: Any,
    rules: Any,
    clock: Any,
    slots: Any,
    live: Any,
    segments: Any,
    out: Any,
    late: Any,
    counts: Any,
) -> Any:
    """Take the ticks from `begin` on; return where it ended, how many are in `out` and in `late`, and why.

    numbers: (n,) the slot of each tick; frame_ns: the frame's clock; ends: 0 if another part of it follows; rules:
    (size_ns, grace_ns, kept_ns), the last how long after its end a bar can be revised. late: (n,) gets the ticks that
    came too late.
    """
    said = too_late = 0
    i = begin - 1
    while i + 1 < len(ticks) + ends:
        i += 1
        now_ns = frame_ns
        if i < len(ticks):
            now_ns = min(now_ns, ticks[i].ts_recv_ns)
        if now_ns > clock[NOW]:
            if now_ns >= clock[DUE] and said + clock[TOTAL] > len(out):
                return i, said, too_late, FULL
            clock[NOW] = now_ns
            if now_ns >= clock[DUE]:
                said = _say_due(clock, slots, live, rules[2], said, out)
        if i == len(ticks) or numbers[i] == NOT_SELECTED:
            continue
        tick = ticks[i]
        slot = slots[numbers[i]]
        if slot.since_ns == NEVER:
            slot.since_ns = clock[NOW]
        if tick.kind != _TRADE:
            if tick.kind == _GAP and (tick.price2 == 0 or tick.price2 == _TRADE):
                _mark_gap(slot, live[numbers[i]], clock, rules)
            continue
        if tick.flags & (_SNAPSHOT | _OUTLIER):
            counts[SNAPSHOTS if tick.flags & _SNAPSHOT else OUTLIERS] += 1
            continue
        time_ns = _time(tick)
        at = slot.bars - 1
        while at >= 0 and time_ns < live[numbers[i], at].start_ns:
            at -= 1
        bar = live[numbers[i], max(at, 0)]
        is_there = at >= 0 and time_ns < bar.end_ns
        if is_there and slot.gap == 0 and bar.due_ns != NEVER:
            begun, due_ns, start_ns, end_ns = i, clock[DUE], bar.start_ns, bar.end_ns
            state = _load(slot, bar, clock[NOW])
            while i < len(ticks) and numbers[i] == numbers[begun]:
                fits, state = _step(ticks[i], state, frame_ns, due_ns, start_ns, end_ns, True)
                if not fits:
                    break
                i += 1
            if i > begun:
                clock[NOW] = _store(slot, bar, state)
                i -= 1
                continue
        if not is_there and slot.bars == live.shape[1]:
            return i, said, too_late, WIDEN  # nothing remembers the tick yet: it is taken again
        if tick.sequence != 0 and _is_repeat(slot, tick.sequence, tick.flags & _LATE):
            counts[REPEATS] += 1
            continue
        late_before = counts[TOO_LATE]
        if is_there:
            taken = _add_one(tick, time_ns, bar, rules, clock, counts)
        else:
            at += 1
            taken = _new_bar(tick, time_ns, slot, live[numbers[i]], at, rules, clock, segments, counts)
        if taken and slot.gap and at == slot.bars - 1:
            live[numbers[i], at].flags |= _PARTIAL
            slot.gap = 0
        if counts[TOO_LATE] > late_before:
            late[too_late] = i
            too_late += 1
    return len(ticks), said, too_late, DONE


def _count_bars(
    ticks: Any,
    numbers: Any,
    begin: Any,
    kind: Any,
    size: Any,
    clock: Any,
    slots: Any,
    live: Any,
    segments: Any,
    out: Any,
    counts: Any,
) -> Any:
    """Take the ticks from `begin` on; return where it ended, how many bars are in `out`, 0, and why.

    Trades count in the order in which they came; the one that reaches `size` completes the bar and is in it as a whole.
    """
    said = 0
    i = begin - 1
    while i + 1 < len(ticks):
        i += 1
        if numbers[i] == NOT_SELECTED:
            continue
        tick = ticks[i]
        slot = slots[numbers[i]]
        bar = live[numbers[i], 0]
        if tick.kind != _TRADE:
            if tick.kind == _GAP and (tick.price2 == 0 or tick.price2 == _TRADE):
                slot.gap = 1
                if slot.bars:
                    bar.flags |= _PARTIAL
            continue
        if said == len(out):
            return i, said, 0, FULL
        begun = i
        if slot.bars and slot.gap == 0 and slot.segments_begin == slot.segments_end:
            state = _load(slot, bar, 0)
            while i < len(ticks) and numbers[i] == numbers[begun]:
                fits, state = _step(ticks[i], state, 0, NEVER, -NEVER, NEVER, False)
                if not fits:
                    break
                i += 1
                _, (volume, notional, _, trades), _, _ = state
                if _reached(kind, size, trades, volume, notional):
                    break
        if i > begun:
            _store(slot, bar, state)
            bar.end_ns = bar.last_ns
            i -= 1
        elif not _count_one(tick, slot, bar, kind, size, segments, counts):
            continue
        if _reached(kind, size, bar.trades, bar.volume, bar.notional):
            _copy(out[said], bar)
            said += 1
            slot.bars = 0
    return len(ticks), said, 0, DONE


@numba.njit
def _count_one(tick: Any, slot: Any, bar: Any, kind: Any, size: Any, segments: Any, counts: Any) -> Any:
    """Count one trade; return whether it is in a bar."""
    if tick.flags & (_SNAPSHOT | _OUTLIER):
        counts[SNAPSHOTS if tick.flags & _SNAPSHOT else OUTLIERS] += 1
        return False
    if tick.sequence != 0 and _is_repeat(slot, tick.sequence, tick.flags & _LATE):
        counts[REPEATS] += 1
        return False
    time_ns = _time(tick)
    if slot.segments_begin != slot.segments_end and _interval(time_ns, BEHIND_NS, slot, segments)[1] == 0:
        counts[OUTSIDE] += 1
        return False
    if slot.bars:
        bar.last_ns = time_ns
        bar.first_ns = min(bar.first_ns, time_ns)
        _add(bar, tick, time_ns)
    else:
        _begin(bar, tick, time_ns, kind, size)
        bar.start_ns = time_ns
        bar.number = slot.number
        bar.due_ns = NEVER
        slot.number += 1
        slot.bars = 1
    bar.end_ns = time_ns
    if slot.gap:
        bar.flags |= _PARTIAL
        slot.gap = 0
    return True


@cache
def kernels() -> tuple[Callable[..., tuple[int, int, int, int]], Callable[..., tuple[int, int, int, int]]]:
    """Return `time_bars` and `count_bars`, compiled at the first call: seconds, or some ms from numba's cache."""
    ticks, numbers, segments = array(TICK), array(np.int64), array(SEGMENT)
    slots, live, out = array(SLOT, written=True), array(LIVE, 2, written=True), array(BAR, written=True)
    integers = array(np.int64, written=True)
    rules = types.UniTuple(INT64, 3)  # type: ignore[no-untyped-call]
    state = (slots, live, segments, out)
    return (
        compiled(_time_bars, ticks, numbers, INT64, INT64, INT64, rules, integers, *state, integers, integers),
        compiled(_count_bars, ticks, numbers, INT64, INT64, types.float64, integers, *state, integers),
    )
