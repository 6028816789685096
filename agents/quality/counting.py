"""The compiled loops of `analysis`: what is counted and measured in one pass over an instrument's flagged ticks.

Each moves the arrays that it is given on, so it does not matter how ticks are cut. Receive times must lie in the day
(`analysis` sees to that); nothing else that a tick says is used as an index unless it is bounded first.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numba
import numpy as np

from tapeline.connectors.venues.compiled import INT64, array, compiled
from tapeline.schemas import TICK, Flag, Kind

TRADE, QUOTE, BOOK, GAP, STATUS = (int(one) for one in (Kind.TRADE, Kind.QUOTE, Kind.BOOK, Kind.GAP, Kind.STATUS))
TIME, CONTROL = int(Kind.TIME), int(Kind.CONTROL)
assert (TRADE, QUOTE, BOOK) == (1, 2, 3)  # noqa: S101 - what follows compares by range
SNAPSHOT, LAST, OUTLIER, STALE, CROSSED, ONE_SIDED, LATE, LOCKED = (
    int(one)
    for one in (
        *(Flag.SNAPSHOT, Flag.LAST, Flag.OUTLIER, Flag.STALE),
        *(Flag.CROSSED, Flag.ONE_SIDED, Flag.LATE, Flag.LOCKED),
    )
)
KINDS = 16
"""Rows of COUNT: by number of the kind, 0 = one that this version does not know."""
MS, US, SECOND_NS = 1_000_000, 1_000, 1_000_000_000
WINDOW_NS = 100 * MS
DAY_SECONDS = 86_400
NEVER = np.iinfo(np.int64).min

COUNT = np.dtype(
    [
        ("ticks", "<i8"),
        ("events", "<i8"),  # of a book: updates, each of which is many ticks
        ("numbered", "<i8"),  # with a sequence
        ("timed", "<i8"),  # with an event time that is not the receive time
        ("repeated", "<i8"),
        ("back", "<i8"),  # event time before that of the tick before
        ("same", "<i8"),  # equal to that of the event before
        ("sequence_back", "<i8"),
        ("late", "<i8"),
        ("came_outlier", "<i8"),  # flagged by the venue
        ("outlier", "<i8"),
        ("stale", "<i8"),
        ("crossed", "<i8"),
        ("locked", "<i8"),
        ("one_sided", "<i8"),
        ("while_closed", "<i8"),
        ("resolution_ns", "<i8"),  # the coarsest of 1 s, 1 ms, 1 us, 1 ns that divides every event time; 0: none yet
        # of the last tick of the kind
        ("event_ns", "<i8"),
        ("sequence", "<i8"),
        ("recv_ns", "<i8"),
        ("ended", "<i8"),  # whether it was the last of its event
    ]
)

COURSE = np.dtype(
    [
        ("first_recv_ns", "<i8"),
        ("recv_ns", "<i8"),  # of the last tick; NEVER before the first
        ("clock_ns", "<i8"),  # running maximum of receive times
        ("recv_back", "<i8"),
        ("event_ns", "<i8"),  # of the last trade, quote or update with an event time of its own
        ("back", "<i8"),  # how often that went back, whatever the kind
        ("closed", "<i8"),  # whether trading is closed
        ("data_ns", "<i8"),  # when the last trade, quote or level was received
    ]
)

SECOND = np.dtype(
    [
        *((name, "<u4") for name in ("trades", "quotes", "levels", "others", "outliers", "gaps")),
        *((name, "<i8") for name in ("latency_min", "latency_max")),  # over all kinds; min > max: none
        *((name, "<f8") for name in ("trade_low", "trade_high", "quote_low", "quote_high")),  # likewise; no outliers
    ]
)
"""One second of the day, by receive time."""

DELAY = np.dtype([("count", "<i8"), ("base_ns", "<i8"), ("min_ns", "<i8"), ("max_ns", "<i8")])
"""Latencies of one kind; base: the first one, from which the histogram's distances are."""
PRECISION_BITS = 10
STEPS = 1 << PRECISION_BITS
"""A distance falls into a bucket whose width is at most 1/STEPS of it; below STEPS ns each has its own."""
OCTAVES = 64 - PRECISION_BITS
HALF = OCTAVES * STEPS
"""Buckets for distances to one side of the base."""

CONDITIONS = ("crossed", "locked", "one_sided", "stale", "quiet", "closed", "unsynchronised")
IS_CROSSED, IS_LOCKED, IS_ONE_SIDED, IS_STALE, IS_QUIET, IS_CLOSED, IS_UNSYNCHRONISED = range(len(CONDITIONS))
STRETCH = np.dtype([("condition", "<i8"), ("start_ns", "<i8"), ("end_ns", "<i8")])
STRETCHES_A_TICK = 5
"""At most so many end with one tick: three of a quote, one stale, one quiet."""


@numba.njit
def _resolution(ns: Any, known: Any) -> Any:
    """Return the coarsest step that divides this time, too, and is no coarser than the one known so far."""
    if known == SECOND_NS and ns % SECOND_NS == 0:
        return SECOND_NS
    if known >= MS and ns % MS == 0:
        return MS
    if known >= US and ns % US == 0:
        return US
    return 1


def _count(ticks: Any, came: Any, repeated: Any, counts: Any, course: Any, before: Any) -> None:
    """Count by kind, compare with the tick before. came: (n,) TICK, before the rules; counts: (KINDS,) COUNT.

    before: (n,) gets, of a GAP tick, when the last tick of the kind that is missing was received (NEVER: none was).
    """
    now = course[0]
    for number in range(len(ticks)):
        tick = ticks[number]
        kind = tick.kind if tick.kind < KINDS else 0
        row = counts[kind]
        flags = tick.flags
        recv_ns, event_ns, sequence = tick.ts_recv_ns, tick.ts_event_ns, tick.sequence
        if now.recv_ns == NEVER:
            now.first_recv_ns = now.clock_ns = recv_ns
        elif recv_ns < now.recv_ns:
            now.recv_back += 1
        now.recv_ns = recv_ns
        now.clock_ns = max(now.clock_ns, recv_ns)

        row.ticks += 1
        if repeated[number]:
            row.repeated += 1
        row.numbered += sequence != 0
        if flags:
            row.late += flags & LATE != 0
            row.came_outlier += came[number].flags & OUTLIER != 0
            row.outlier += flags & OUTLIER != 0
            row.stale += flags & STALE != 0
            row.crossed += flags & CROSSED != 0
            row.locked += flags & LOCKED != 0
            row.one_sided += flags & ONE_SIDED != 0
        if now.closed:
            row.while_closed += 1
        data = TRADE <= kind <= BOOK
        ends = kind != BOOK or flags & LAST != 0
        row.events += ends
        if kind == STATUS:
            now.closed = tick.size == 0
        if kind == GAP:
            missing = np.int64(tick.price2) if tick.price2 >= 0 and tick.price2 < KINDS else 0
            before[number] = now.data_ns if missing == 0 else counts[missing].recv_ns
            continue
        if data:
            now.data_ns = recv_ns
        # A snapshot comes by REST, beside the stream.
        if kind != TIME and kind != CONTROL and flags & SNAPSHOT == 0:
            if row.resolution_ns != 0:  # not the first one
                row.back += event_ns < row.event_ns
                row.same += event_ns == row.event_ns and row.ended
                row.sequence_back += sequence != 0 and sequence < row.sequence
            row.event_ns, row.sequence, row.ended = event_ns, sequence, ends
            if event_ns != recv_ns:
                row.timed += 1
                if data:
                    now.back += event_ns < now.event_ns
                    now.event_ns = event_ns
            known = row.resolution_ns if row.resolution_ns else SECOND_NS
            row.resolution_ns = _resolution(event_ns, known)
        row.recv_ns = recv_ns


@numba.njit
def bucket_of(distance: Any) -> Any:
    """Return the bucket of a distance from the base in ns: HALF for 0, above it for later ones, below for earlier."""
    size = abs(distance)
    if size < 0:  # the one int64 that has no opposite
        return 0
    bucket = size
    if size >= STEPS:
        # As a float it may be rounded up to the next power of two: that is the edge between two buckets, either way.
        shift = np.int64((np.float64(size).view(np.int64) >> 52) - 1023 - PRECISION_BITS)
        bucket = shift * STEPS + (size >> shift)
    return HALF + bucket if distance >= 0 else HALF - bucket


def _measure(ticks: Any, day_ns: Any, seconds: Any, windows: Any, delays: Any, histograms: Any) -> None:
    """Fill the day's seconds and 100 ms windows, and the latencies by kind.

    seconds: (DAY_SECONDS,) SECOND; windows: (10 x DAY_SECONDS,) ticks in each; delays: (3,) DELAY and histograms:
    (3, 2 x HALF) of trades, quotes and updates that have an event time of their own.
    """
    for number in range(len(ticks)):
        tick = ticks[number]
        kind, flags = tick.kind, tick.flags
        at_ns = tick.ts_recv_ns - day_ns
        row = seconds[at_ns // SECOND_NS]
        windows[at_ns // WINDOW_NS] += 1
        if flags & OUTLIER:
            row.outliers += 1
        ends = True
        if kind == TRADE:
            row.trades += 1
            if not flags & OUTLIER:
                row.trade_low, row.trade_high = min(row.trade_low, tick.price), max(row.trade_high, tick.price)
        elif kind == QUOTE:
            row.quotes += 1
            if not flags & (OUTLIER | ONE_SIDED):
                middle = (tick.price + tick.price2) / 2
                row.quote_low, row.quote_high = min(row.quote_low, middle), max(row.quote_high, middle)
        elif kind == BOOK:
            row.levels += 1
            ends = flags & LAST != 0
        else:
            row.others += 1
            row.gaps += kind == GAP
            continue
        if ends and not flags & SNAPSHOT and tick.ts_event_ns != tick.ts_recv_ns:
            latency_ns = tick.ts_recv_ns - tick.ts_event_ns
            row.latency_min, row.latency_max = min(row.latency_min, latency_ns), max(row.latency_max, latency_ns)
            delay = delays[kind - 1]
            if delay.count == 0:
                delay.base_ns = delay.min_ns = delay.max_ns = latency_ns
            delay.count += 1
            delay.min_ns, delay.max_ns = min(delay.min_ns, latency_ns), max(delay.max_ns, latency_ns)
            histograms[kind - 1, bucket_of(latency_ns - delay.base_ns)] += 1


def _stretches(ticks: Any, quiet_ns: Any, clock: Any, since_ns: Any, found: Any) -> Any:
    """Write the stretches that end with these ticks; return how many.

    clock: (1,) running maximum of receive times, by which they are measured; since_ns: (conditions,) when each that is
    under way began, NEVER: it is not; found: (n x STRETCHES_A_TICK,) STRETCH.
    """
    count = 0
    clock_ns = clock[0]
    under_way = 0
    for condition in range(len(since_ns)):
        under_way |= (since_ns[condition] != NEVER) << condition
    for number in range(len(ticks)):
        tick = ticks[number]
        kind, flags = tick.kind, np.int64(tick.flags)
        clock_ns = max(clock_ns, tick.ts_recv_ns)
        # 1. what it says of which conditions
        asked = holds = 0
        if kind == QUOTE:
            asked = 1 << IS_CROSSED | 1 << IS_LOCKED | 1 << IS_ONE_SIDED | 1 << IS_STALE
            holds = (
                (flags & CROSSED != 0) << IS_CROSSED
                | (flags & LOCKED != 0) << IS_LOCKED
                | (flags & ONE_SIDED != 0) << IS_ONE_SIDED
                | (flags & STALE != 0) << IS_STALE
            )
        elif kind == TRADE:
            asked, holds = 1 << IS_STALE, (flags & STALE != 0) << IS_STALE
        elif kind == BOOK:
            if flags & SNAPSHOT and flags & LAST:
                asked = 1 << IS_UNSYNCHRONISED
        elif kind == GAP:
            if tick.price2 == BOOK or tick.price2 == 0:
                asked = holds = 1 << IS_UNSYNCHRONISED
        elif kind == STATUS:
            asked, holds = 1 << IS_CLOSED, (tick.size == 0) << IS_CLOSED
        # 2. those that begin or end with it
        changed = (under_way ^ holds) & asked
        if changed:
            under_way ^= changed
            for condition in range(len(since_ns)):
                if changed >> condition & 1:
                    if holds >> condition & 1:
                        since_ns[condition] = clock_ns
                        continue
                    found[count].condition = condition
                    found[count].start_ns, found[count].end_ns = since_ns[condition], clock_ns
                    since_ns[condition] = NEVER
                    count += 1
        # 3. a quiet stretch, between what says that the market lives
        if TRADE <= kind <= BOOK or kind == STATUS:
            start_ns = since_ns[IS_QUIET]
            if start_ns != NEVER and clock_ns - start_ns >= quiet_ns:
                found[count].condition = IS_QUIET
                found[count].start_ns, found[count].end_ns = start_ns, clock_ns
                count += 1
            since_ns[IS_QUIET] = NEVER if under_way >> IS_CLOSED & 1 else clock_ns
    clock[0] = clock_ns
    return count


@cache
def count() -> Callable[..., None]:
    """Return `_count`, compiled."""
    ticks, numbers = array(TICK), array(np.int64, written=True)
    counts, course = array(COUNT, written=True), array(COURSE, written=True)
    return compiled(_count, ticks, ticks, array(np.bool_), counts, course, numbers)


@cache
def measure() -> Callable[..., None]:
    """Return `_measure`, compiled."""
    seconds, delays = array(SECOND, written=True), array(DELAY, written=True)
    windows, histograms = array(np.uint32, written=True), array(np.int64, 2, written=True)
    return compiled(_measure, array(TICK), INT64, seconds, windows, delays, histograms)


@cache
def stretches() -> Callable[..., int]:
    """Return `_stretches`, compiled."""
    numbers = array(np.int64, written=True)
    return compiled(_stretches, array(TICK), INT64, numbers, numbers, array(STRETCH, written=True))
