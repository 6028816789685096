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

from tapeline.agents.logic.bar_records import (
    BEHIND_NS,
    DONE,
    DUE,
    FULL,
    GAP,
    LATE,
    LIVE,
    NEVER,
    NOT_SELECTED,
    NOW,
    OUTLIER,
    OUTLIERS,
    OUTSIDE,
    PARTIAL,
    REPEATS,
    REVISED,
    REVISION_MAX,
    SEGMENT,
    SLOT,
    SNAPSHOT,
    SNAPSHOTS,
    TIME,
    TOO_LATE,
    TOTAL,
    TRADE,
    WIDEN,
)
from tapeline.agents.logic.bar_steps import (
    add,
    begin_bar,
    copy_bar,
    is_repeat,
    load,
    reached,
    step_on,
    store,
    time_of,
)
from tapeline.connectors.venues.compiled import INT64, array, compiled
from tapeline.schemas import BAR, TICK


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
                copy_bar(out[said], bar)
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
        if bar.flags & PARTIAL:
            continue
        is_newest = at == slot.bars - 1 and bar.end_ns + kept_ns > clock[NOW]
        if bar.due_ns != NEVER or (is_newest and _revise(bar, clock, grace_ns)):
            bar.flags |= PARTIAL


@numba.njit
def _add_one(tick: Any, time_ns: Any, bar: Any, rules: Any, clock: Any, counts: Any) -> Any:
    """Count a trade in a bar, which may have closed; return whether it did."""
    _, grace_ns, kept_ns = rules
    if bar.due_ns == NEVER and (bar.end_ns + kept_ns <= clock[NOW] or not _revise(bar, clock, grace_ns)):
        counts[TOO_LATE] += 1
        return False
    if bar.revision > 0:  # it was said, though perhaps it waits to be said again for a gap
        bar.flags |= REVISED
    add(bar, tick, time_ns)
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
    begin_bar(bar, tick, time_ns, TIME, float(size_ns))
    bar.start_ns = start_ns
    bar.end_ns = end_ns
    bar.number = number
    if start_ns < slot.since_ns:
        bar.flags |= PARTIAL
    bar.due_ns = end_ns + grace_ns
    if bar.due_ns <= clock[NOW]:  # it closed without a trade; like a revision, it waits for others
        bar.due_ns = clock[NOW] + grace_ns
        bar.flags |= REVISED
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
        if tick.kind != TRADE:
            if tick.kind == GAP and (tick.price2 == 0 or tick.price2 == TRADE):
                _mark_gap(slot, live[numbers[i]], clock, rules)
            continue
        if tick.flags & (SNAPSHOT | OUTLIER):
            counts[SNAPSHOTS if tick.flags & SNAPSHOT else OUTLIERS] += 1
            continue
        time_ns = time_of(tick)
        at = slot.bars - 1
        while at >= 0 and time_ns < live[numbers[i], at].start_ns:
            at -= 1
        bar = live[numbers[i], max(at, 0)]
        is_there = at >= 0 and time_ns < bar.end_ns
        is_marked = bar.revision == 0 or bar.flags & REVISED
        if is_there and slot.gap == 0 and bar.due_ns != NEVER and is_marked:
            begun, due_ns, start_ns, end_ns = i, clock[DUE], bar.start_ns, bar.end_ns
            state = load(slot, bar, clock[NOW])
            while i < len(ticks) and numbers[i] == numbers[begun]:
                fits, state = step_on(ticks[i], state, frame_ns, due_ns, start_ns, end_ns, True)
                if not fits:
                    break
                i += 1
            if i > begun:
                clock[NOW] = store(slot, bar, state)
                i -= 1
                continue
        if not is_there and slot.bars == live.shape[1]:
            return i, said, too_late, WIDEN  # nothing remembers the tick yet: it is taken again
        if tick.sequence != 0 and is_repeat(slot, tick.sequence, tick.flags & LATE):
            counts[REPEATS] += 1
            continue
        late_before = counts[TOO_LATE]
        if is_there:
            taken = _add_one(tick, time_ns, bar, rules, clock, counts)
        else:
            at += 1
            taken = _new_bar(tick, time_ns, slot, live[numbers[i]], at, rules, clock, segments, counts)
        if taken and slot.gap and at == slot.bars - 1:
            live[numbers[i], at].flags |= PARTIAL
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
        if tick.kind != TRADE:
            if tick.kind == GAP and (tick.price2 == 0 or tick.price2 == TRADE):
                slot.gap = 1
                if slot.bars:
                    bar.flags |= PARTIAL
            continue
        if said == len(out):
            return i, said, 0, FULL
        begun = i
        if slot.bars and slot.gap == 0 and slot.segments_begin == slot.segments_end:
            state = load(slot, bar, 0)
            while i < len(ticks) and numbers[i] == numbers[begun]:
                fits, state = step_on(ticks[i], state, 0, NEVER, -NEVER, NEVER, False)
                if not fits:
                    break
                i += 1
                _, (volume, notional, _, trades), _, _ = state
                if reached(kind, size, trades, volume, notional):
                    break
        if i > begun:
            store(slot, bar, state)
            bar.end_ns = bar.last_ns
            i -= 1
        elif not _count_one(tick, slot, bar, kind, size, segments, counts):
            continue
        if reached(kind, size, bar.trades, bar.volume, bar.notional):
            copy_bar(out[said], bar)
            said += 1
            slot.bars = 0
    return len(ticks), said, 0, DONE


@numba.njit
def _count_one(tick: Any, slot: Any, bar: Any, kind: Any, size: Any, segments: Any, counts: Any) -> Any:
    """Count one trade; return whether it is in a bar."""
    if tick.flags & (SNAPSHOT | OUTLIER):
        counts[SNAPSHOTS if tick.flags & SNAPSHOT else OUTLIERS] += 1
        return False
    if tick.sequence != 0 and is_repeat(slot, tick.sequence, tick.flags & LATE):
        counts[REPEATS] += 1
        return False
    time_ns = time_of(tick)
    if slot.segments_begin != slot.segments_end and _interval(time_ns, BEHIND_NS, slot, segments)[1] == 0:
        counts[OUTSIDE] += 1
        return False
    if slot.bars:
        bar.last_ns = time_ns
        bar.first_ns = min(bar.first_ns, time_ns)
        add(bar, tick, time_ns)
    else:
        begin_bar(bar, tick, time_ns, kind, size)
        bar.start_ns = time_ns
        bar.number = slot.number
        bar.due_ns = NEVER
        slot.number += 1
        slot.bars = 1
    bar.end_ns = time_ns
    if slot.gap:
        bar.flags |= PARTIAL
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
