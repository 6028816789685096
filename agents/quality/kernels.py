"""The compiled loops of `rules`: one pass over an instrument's ticks, with what one chunk hands to the next.

Each takes ticks in order of arrival and moves the state arrays on, so it does not matter how ticks are cut. They read
untrusted numbers: nothing that a tick says is used as an index unless it is bounded first.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numba
import numpy as np

from tapeline.connectors.venues.compiled import INT64, array, compiled
from tapeline.schemas import TICK, Flag, Kind

FLOAT64 = numba.types.float64
TRADE, QUOTE, BOOK, STATUS = (int(one) for one in (Kind.TRADE, Kind.QUOTE, Kind.BOOK, Kind.STATUS))
OUTLIER, STALE, CROSSED, ONE_SIDED, LOCKED = (
    np.uint16(one) for one in (Flag.OUTLIER, Flag.STALE, Flag.CROSSED, Flag.ONE_SIDED, Flag.LOCKED)
)

NORMAL = 1.4826
"""Median absolute deviation of a normal distribution x NORMAL = its standard deviation."""
PRICES_MIN = 11
"""So many prices must have been seen before the next one is tested."""
STEPS = 3
"""A price within so many of the smallest price steps is no outlier, however quiet the market."""

FIELD = np.dtype(
    [
        ("seen", "<i8"),  # prices so far
        ("good", "<f8"),  # the last one that was tested and is no outlier; NaN before it
        ("step", "<f8"),  # the smallest difference between two of those that came one after the other; inf: none yet
    ]
)
"""What is remembered of one field's prices: of trades, bids, asks."""

STANDING = np.dtype(
    [
        ("clock_ns", "<i8"),  # running maximum of receive times
        ("bid", "<f8"),
        ("bid_size", "<f8"),
        ("ask", "<f8"),
        ("ask_size", "<f8"),
        ("quotes", "<i8"),  # whether there was a quote,
        ("books", "<i8"),  # a level of a book
        ("quote_ns", "<i8"),  # when the first trade came since the quote changed; -1: none
        ("book_ns", "<i8"),  # since the book changed
    ]
)
"""The quote and the book that stand, as far as `stale` must know."""

RECENT_TICKS = 65_536
"""A duplicate is found among so many numbered ticks before it."""
BUCKETS = 2 * RECENT_TICKS  # both powers of two
PROBES_MAX = 64
"""Ticks of one bucket that are looked at: numbers made up to collide do not make it slow."""

_EVENT, _RECEIVED, _SEQUENCE, _PACKED, _PRICE, _WORDS = 0, 1, 2, 3, 4, 8
_KIND_SIDE = 0xFFFF << 32
_SNAPSHOT, _LAST = int(Flag.SNAPSHOT) << 48, int(Flag.LAST) << 48
_MIX, _MIX2 = np.uint64(0x9E3779B185EBCA87), np.uint64(0xC2B2AE3D27D4EB4F)  # odd, random bits (those of xxHash)
_32, _29 = np.uint64(32), np.uint64(29)


@numba.njit
def _sort(values: Any) -> None:
    for at in range(1, len(values)):
        value = values[at]
        below = at - 1
        while below >= 0 and values[below] > value:
            values[below + 1] = values[below]
            below -= 1
        values[below + 1] = value


@numba.njit
def _median(ordered: Any) -> Any:
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


@numba.njit
def _last(window: Any, seen: Any, count: Any) -> Any:
    """Return the last `count` prices, sorted."""
    values = np.empty(count)
    for back in range(count):
        values[back] = window[(seen - 1 - back) % len(window)]
    _sort(values)
    return values


@numba.njit
def _median_is_outside(low: Any, high: Any, window: Any, at: Any, count: Any) -> Any:
    """Return whether the median of the last `count` prices before the place `at`, an odd number, is not in a range."""
    below = above = 0
    for back in range(1, count + 1):
        below += window[at - back] < low
        above += window[at - back] > high
    return below > count // 2 or above > count // 2


@numba.njit
def _far(price: Any, least: Any, window: Any, seen: Any, confirm: Any, spreads: Any) -> Any:
    """Return the window's median if the price is an outlier, else NaN."""
    ordered = _last(window, seen, min(seen, len(window)))
    middle = _median(ordered)
    for at in range(len(ordered)):
        ordered[at] = abs(ordered[at] - middle)
    _sort(ordered)
    limit = max(least, spreads * NORMAL * _median(ordered))
    if abs(price - middle) > limit and abs(price - _median(_last(window, seen, confirm))) > limit:
        return middle
    return np.nan


def _outliers(
    ticks: Any, kind: Any, ask: Any, window: Any, field: Any, confirm: Any, spreads: Any, share: Any, medians: Any
) -> None:
    """Test one field's prices, and take them into its window; write the median that each outlier is too far from.

    ticks: (n,) TICK; kind: of those that have the field; ask: whether it is their second price; window: (N,) the last
    prices, a ring; field: (1,) FIELD; medians: (n,), others stay as they are.
    """
    now, size, half = field[0], len(window), confirm // 2
    seen, good, step = now.seen, now.good, now.step
    least_seen = max(PRICES_MIN, confirm)
    near_steps = STEPS * step if np.isfinite(step) else 0.0
    at = seen % size
    for number in range(len(ticks)):
        tick = ticks[number]
        if tick.kind != kind:
            continue
        price = tick.price2 if ask else tick.price
        if price == 0 or not np.isfinite(price):  # not given
            continue
        if seen >= least_seen:
            least = max(share * abs(price), near_steps)
            low, high = price - least, price + least
            near = 0
            while near <= half and low <= window[at - 1 - near] <= high:  # an index below 0 counts from the end
                near += 1
            middle = np.nan
            # Almost always the last few are near, and so is their median: nothing more to look at.
            if near <= half and _median_is_outside(low, high, window, at, confirm):
                middle = _far(price, least, window, seen, confirm, spreads)
            if np.isnan(middle):
                change = abs(price - good)
                if (change < step) & (change > 0):
                    step, near_steps = change, STEPS * change
                good = price
            else:
                medians[number] = middle
        window[at] = price
        at = at + 1 if at + 1 < size else 0
        seen += 1
    now.seen, now.good, now.step = seen, good, step


def _stale(ticks: Any, standing: Any, stale_ns: Any, found: Any) -> None:
    """Write for each tick whether it finds, or repeats, a quote or book that trades should have moved long ago.

    ticks: (n,) TICK; standing: (1,) STANDING.
    """
    now = standing[0]
    for number in range(len(ticks)):
        tick = ticks[number]
        found[number] = False
        now.clock_ns = max(now.clock_ns, tick.ts_recv_ns)
        old_quote = now.quote_ns >= 0 and now.clock_ns - now.quote_ns > stale_ns
        if tick.kind == TRADE:
            found[number] = old_quote or (now.book_ns >= 0 and now.clock_ns - now.book_ns > stale_ns)
            if now.quotes and now.quote_ns < 0:
                now.quote_ns = now.clock_ns
            if now.books and now.book_ns < 0:
                now.book_ns = now.clock_ns
        elif tick.kind == QUOTE:
            if (
                now.quotes
                and tick.price == now.bid
                and tick.price2 == now.ask
                and tick.size == now.bid_size
                and tick.size2 == now.ask_size
            ):
                found[number] = old_quote
                continue
            now.bid, now.ask, now.bid_size, now.ask_size = tick.price, tick.price2, tick.size, tick.size2
            now.quotes, now.quote_ns = 1, -1
        elif tick.kind == BOOK:
            now.books, now.book_ns = 1, -1
        elif tick.kind == STATUS:
            now.quote_ns = now.book_ns = -1


@numba.njit
def _key(ticks: Any, number: Any) -> Any:
    """Return a hash of all that makes two ticks the same: not when we received them, nor what rules flagged."""
    # Where the venue gives no time, the event time is the receive time.
    event = ticks[number, _EVENT] if ticks[number, _EVENT] != ticks[number, _RECEIVED] else 0
    key = np.uint64(event) * _MIX ^ np.uint64(ticks[number, _SEQUENCE])
    key = (key ^ (key >> _32)) * _MIX2 ^ np.uint64(ticks[number, _PACKED] & _KIND_SIDE)
    for at in range(_PRICE, _WORDS):
        key = (key ^ (key >> _29)) * _MIX ^ np.uint64(ticks[number, at])
    key = (key ^ (key >> _32)) * _MIX2
    return key ^ (key >> _29)


@numba.njit
def _is_among(key: Any, last: Any, here: Any, recent: Any, earlier: Any) -> Any:
    """Return whether a hash is in the ring; last: the last one of its bucket."""
    for _ in range(PROBES_MAX):
        if last < 0 or last < here - RECENT_TICKS:
            return False
        if recent[last & (RECENT_TICKS - 1)] == key:
            return True
        last = earlier[last & (RECENT_TICKS - 1)]
    return False


def _repeats(ticks: Any, keys: Any, recent: Any, earlier: Any, buckets: Any, numbers: Any, found: Any) -> None:
    """Write for each tick whether it says the same as one of the last numbered ones; of a book update, for its last.

    ticks: (n, 8) int64; keys: (n,), to work in; recent: (RECENT_TICKS,) hashes, a ring; earlier: the one before each
    that is in its bucket; buckets: the last one of each, -1: none; numbers: (6,) how many hashes there were, that of
    the update under way, and at 2 + kind the highest sequence of each kind. The number of a hash tells whether it is
    still in the ring: nothing is ever taken out.
    """
    # In two loops: each waits for one thing only, which is several times faster.
    here, update = numbers[0], numbers[1]
    for number in range(len(ticks)):
        packed, sequence = ticks[number, _PACKED], ticks[number, _SEQUENCE]
        kind = (packed >> 32) & 0xFF
        key = np.uint64(0)
        if sequence != 0 and TRADE <= kind <= BOOK and not packed & _SNAPSHOT:
            key = _key(ticks, number)
            # What has a new highest number cannot have been there before.
            found[number] = sequence <= numbers[2 + kind]
            if kind == BOOK:
                update = np.int64((np.uint64(update) ^ key) * _MIX2)
                key = np.uint64(0)
                if packed & _LAST:
                    key, update = np.uint64(update), 0
            if key:
                numbers[2 + kind] = max(numbers[2 + kind], sequence)
        keys[number] = key
    for number in range(len(ticks)):
        key = keys[number]
        if key == 0:
            found[number] = False
            continue
        bucket = np.int64(key & np.uint64(BUCKETS - 1))
        last = buckets[bucket]
        if found[number]:
            found[number] = _is_among(key, last, here, recent, earlier)
        recent[here & (RECENT_TICKS - 1)] = key
        earlier[here & (RECENT_TICKS - 1)] = last
        buckets[bucket] = here
        here += 1
    numbers[0], numbers[1] = here, update


def _flag(ticks: Any, medians: Any, stale: Any, flagged: Any) -> None:
    """Copy the ticks, with what the rules say in their flags. ticks, flagged: (n,) TICK; medians, stale: (n,)."""
    for number in range(len(ticks)):
        tick = flagged[number] = ticks[number]
        flags = tick.flags
        if not np.isnan(medians[number]):
            flags |= OUTLIER
        if stale[number]:
            flags |= STALE
        if tick.kind == QUOTE:
            if tick.price == 0 or tick.price2 == 0:
                flags |= ONE_SIDED
            elif tick.price > tick.price2:
                flags |= CROSSED
            elif tick.price == tick.price2:
                flags |= LOCKED
        flagged[number].flags = flags


@cache
def outliers() -> Callable[..., None]:
    """Return `_outliers`, compiled."""
    floats, field = array(np.float64, written=True), array(FIELD, written=True)
    return compiled(
        *(_outliers, array(TICK), INT64, numba.types.boolean, floats, field),
        *(INT64, FLOAT64, FLOAT64, floats),
    )


@cache
def stale() -> Callable[..., None]:
    """Return `_stale`, compiled."""
    return compiled(_stale, array(TICK), array(STANDING, written=True), INT64, array(np.bool_, written=True))


@cache
def repeats() -> Callable[..., None]:
    """Return `_repeats`, compiled."""
    numbers = array(np.int64, written=True)
    recent, found = array(np.uint64, written=True), array(np.bool_, written=True)
    return compiled(_repeats, array(np.int64, 2), recent, recent, numbers, numbers, numbers, found)


@cache
def flag() -> Callable[..., None]:
    """Return `_flag`, compiled."""
    return compiled(_flag, array(TICK), array(np.float64), array(np.bool_), array(TICK, written=True))
