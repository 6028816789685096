"""The compiled scanner: a raw frame's messages of known shapes to ticks, and what their numbers say.

`scan` walks the program that `shapes` makes of a venue's message shapes, `follow` compares sequence numbers. Called by
`assembly` for every frame. What is not exactly of a known shape `scan` leaves to the venue's library parser, which says
what is right: scanned or not, a message gives the same tick, bit for bit.

It reads untrusted bytes: `lexing` says what holds of every place (`at`, `end`, `last`), and a message whose end is not
between its start and the end of the frame is left.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numba
import numpy as np

from tapeline.connectors.venues.compiled import INT64, array, compiled
from tapeline.connectors.venues.lexing import (
    COMMA,
    HASH_START,
    address_of,
    byte_at,
    is_json_number,
    read_decimal,
    read_digits,
    read_iso_ns,
    read_seconds_ns,
    read_symbol,
    same_bytes,
    skip_cell,
    skip_number,
    skip_text,
    word_at,
)
from tapeline.connectors.venues.shapes import ANEW, ANY, EVENT_BITS

NOTHING, INTEGER, DECIMAL, NUMBER, SECONDS, ISO, SYMBOL, TEXT, CELL, LEVELS, OPEN, NEXT, SET = range(13)
MEMBERS, MORE, SAID, END = range(13, 17)
"""Codes of operations: what comes after the literal. OPEN and NEXT stand around the items of a list, MEMBERS and MORE
around the members of an object; LEVELS is a list of pairs, so frequent that it is read at once; SAID notes where a text
stands."""

TIME, SEQUENCE, BEFORE, FLOOR, PRICE, SIZE, PRICE2, SIZE2, NOWHERE, BITS, LATEST, KEPT, STAMP = range(13)
"""Where a value goes: registers of the message, and columns of its tick (numbered as in 8 float64).

LATEST keeps the highest value that comes, and is the message's time then; KEPT is SIZE2 of all levels; STAMP is a time
that is the number, too.
"""
REGISTERS = 13

UNFOLLOWED, CONSECUTIVE, LINKED, AFRESH = range(4)
"""How a number is followed: not; it is one above the one before; BEFORE is the one before (if not set, it may jump);
numbers begin anew with it."""

ONE, SHARED, EACH, NONE, GROUPS = range(5)
"""The ticks of a message: one; one an item of its lists, which share time and number; likewise, each with its own; none
at all; one for each group of which something is said, to be completed."""

SAID_FIELDS, SAID_GROUPS = 8, 3
ROW, SLOT_OF, WHAT, TEXTS = range(4)
"""A row of what is said: its first tick; the slot of its symbol; a bit for each group, and ANEW_BIT; from TEXTS on
start (in the body) and size of each field's text, size -1 where it says nothing."""
SAID_WORDS = TEXTS + 2 * SAID_FIELDS
ANEW_BIT = 1 << SAID_GROUPS
NOTHING_SAID = np.empty((0, SAID_WORDS), np.int64)

OP = np.dtype(
    [
        ("word", "<u8"),  # a literal that must come first, 0 to 8 bytes,
        ("mask", "<u8"),  # which of them count,
        ("literal", "<i8"),  # how many,
        ("otherwise", "<i8"),  # and the operation to go on with where they do not come; -1: there is none
        ("code", "<i8"),
        ("column", "<i8"),  # INTEGER, DECIMAL, NUMBER, SECONDS, ISO, SET: where the value goes
        ("size", "<i8"),  # INTEGER: digits, SYMBOL: characters, SAID: digits before the point at most
        ("zeros", "<i8"),  # INTEGER: whether zeros in front are allowed. SAID: decimals at most
        ("least", "<i8"),  # INTEGER; DECIMAL, NUMBER: 0, or 1 where it must be above zero; SAID: -1 with a minus, too
        ("most", "<i8"),  # INTEGER; DECIMAL, NUMBER, LEVELS: what numbers must be below
        ("unit", "<i8"),  # INTEGER: a register gets value * unit + plus, a column value / unit. SET: a column's value
        ("plus", "<i8"),  # SAID: number of the field, and unit its group. END: whether what was said before is void
        ("bits", "<i8"),  # SET, LEVELS, OPEN, NEXT, END: what is set of a tick's fourth 8 bytes (instrument, ...)
        ("jump", "<i8"),  # OPEN: the operation behind the list; NEXT, MORE: the first of an item
        ("rows", "<i8"),  # END, NEXT: which ticks there are
        ("last_bits", "<i8"),  # END: what is set of the last tick
        ("turned", "<i8"),  # END: whether the items of the second list come first
        ("stream", "<i8"),  # END: the number of the stream, and how it is followed
        ("follow", "<i8"),
        ("quote", "<i8"),  # END: whether bid and ask are compared
    ]
)
"""An operation of a program."""

HEAD = np.dtype(
    [
        ("event", "<i8"),
        ("stream", "<i8"),  # which of the streams that the frame has
        ("sequence", "<i8"),
        ("before", "<i8"),  # the number that comes right before; or ANY, ANEW
        ("event_ns", "<i8"),
    ]
)
"""An event whose number is followed."""

SLOT = np.dtype([("start", "<i8"), ("size", "<i8"), ("event", "<i8"), ("hash", "<u8")])
"""A symbol: where in the body it stands, and the first event with it. Slots are in the order of those."""

BODY_BYTES_MIN = 8
"""Of a frame that is scanned: `lexing` reads so many at once."""
PROBES_MAX = 64
"""Places at which a symbol is looked for: one that has none there (made up to collide with others) is left."""

LATE, CROSSED, ONE_SIDED, INEXACT, LOCKED = (1 << (48 + bit) for bit in (6, 4, 5, 7, 8))
"""Flags of a tick, as they stand in its fourth 8 bytes."""

OPENED, CLOSED, QUOTE, ZERO, BRACE = (ord(one) for one in '[]"0}')
_0 = np.uint64(0)


@numba.njit
def _levels(at: Any, end: Any, last: Any, bits: Any, below: Any, ints: Any, floats: Any, row: Any) -> Any:
    """Read `[["price","size"],...]` into rows; return (the row behind them, the place behind it or -1)."""
    if at + 2 > end or byte_at(at) != OPENED:
        return row, -1
    if byte_at(at + 1) == CLOSED:
        return row, at + 2
    at += 1
    while row < len(ints):
        if at + 2 > end or byte_at(at) != OPENED or byte_at(at + 1) != QUOTE:
            break
        price, price_inexact, at = read_decimal(at + 2, end, last, np.int64(1), below)
        if at < 0 or at + 3 > end or byte_at(at) != QUOTE or byte_at(at + 1) != COMMA or byte_at(at + 2) != QUOTE:
            break
        size, size_inexact, at = read_decimal(at + 3, end, last, np.int64(0), below)
        if at < 0 or at + 3 > end or byte_at(at) != QUOTE or byte_at(at + 1) != CLOSED:
            break
        ints[row, 3] = bits | (INEXACT if price_inexact or size_inexact else 0)
        floats[row, PRICE] = price
        floats[row, SIZE] = size
        floats[row, PRICE2] = 0
        row += 1
        if byte_at(at + 2) == CLOSED:
            return row, at + 3
        if byte_at(at + 2) != COMMA:
            break
        at += 3
    return row, -1


@numba.njit
def _turn(ints: Any, start: Any, end: Any) -> None:
    """Turn rows round."""
    while start < end - 1:
        end -= 1
        for column in range(8):
            ints[start, column], ints[end, column] = ints[end, column], ints[start, column]
        start += 1


@numba.njit(forceinline=True)
def _clear(floats: Any, row: Any) -> None:
    floats[row, PRICE] = floats[row, SIZE] = floats[row, PRICE2] = floats[row, SIZE2] = 0


def _scan(
    body: Any,
    ends: Any,
    recv_ns: Any,
    bytes_max: Any,
    ops: Any,
    streams: Any,
    ints: Any,
    floats: Any,
    registers: Any,
    where: Any,
    heads: Any,
    used: Any,
    places: Any,
    slots: Any,
    buckets: Any,
    left: Any,
    said: Any,
) -> Any:
    """Read the messages of a frame; return how many (ticks, heads, used, slots, left, said) there are.

    body: (bytes,) uint8; ends, recv_ns: (n,); bytes_max: of a message; ops: (operations,) OP; streams: how many the
    venue has. Written: ints, floats: (capacity, 8), two views of the ticks, whose instrument is their symbol's slot;
    registers: (REGISTERS,); where: (capacity,) the event of each tick; heads: (capacity,) HEAD; used: (n,) the streams
    they have, in order: slot * streams + number of the stream; places: (n * streams,) zeros; slots: (n,) SLOT; buckets:
    zeros, in number a power of two above n; left: (n,) the messages that are not scanned; said: (n, SAID_WORDS), or
    none if no shape says only what has changed. A message that finds no room is left.
    """
    base = address_of(body)
    last = base + len(body)
    row, head, used_count, slots_count, left_count, said_count = np.int64(0), 0, 0, 0, 0, 0
    slot, end = 0, base
    for index in range(len(ends)):
        start, end = end, base + np.int64(ends[index])
        op_at = 0 if start <= end <= last and end - start <= bytes_max and row < len(ints) else -1
        at, next_row, second, bits, outer = start, row, row, 0, 0
        matched: Any = False
        symbol_at, symbol_size, symbol_hash = base, 0, HASH_START
        registers[TIME] = recv_ns[index]
        registers[SEQUENCE] = 0
        registers[BEFORE] = registers[FLOOR] = registers[LATEST] = ANY
        registers[KEPT] = 0
        if op_at == 0:
            _clear(floats, row)
        # 1. match the message, operation by operation
        while op_at >= 0:
            op = ops[op_at]
            if at + op.literal > end or (word_at(at, last) ^ op.word) & op.mask != _0:
                op_at = op.otherwise
                continue
            at += op.literal
            code = op.code
            if code == INTEGER:
                number, behind = read_digits(at, end, last)
                value, count = np.int64(number), behind - at
                if count == 0 or count > op.size or value < op.least or value > op.most:
                    break
                if count > 1 and not op.zeros and byte_at(at) == ZERO:
                    break
                if PRICE <= op.column <= SIZE2:
                    floats[next_row, op.column] = value / op.unit
                else:
                    registers[op.column] = value * op.unit + op.plus
                    if op.column == STAMP:
                        registers[TIME], registers[SEQUENCE] = registers[STAMP], value
                at = behind
            elif code == DECIMAL:
                decimal, inexact, at = read_decimal(at, end, last, op.least, op.most)
                if at < 0:
                    break
                floats[next_row, op.column] = decimal
                bits |= INEXACT if inexact else 0
            elif code == NUMBER:
                first = at
                decimal, inexact, at = read_decimal(at, end, last, op.least, op.most)
                if at < 0 or inexact or not is_json_number(first, at):
                    break
                if op.column != NOWHERE:
                    floats[next_row, op.column] = decimal
            elif code in (SECONDS, ISO):
                if code == ISO:
                    time_ns, at = read_iso_ns(at, end, last)
                else:
                    time_ns, at = read_seconds_ns(at, end, last)
                if at < 0:
                    break
                if op.column == LATEST and time_ns < registers[LATEST]:
                    time_ns = registers[LATEST]
                registers[op.column] = time_ns
            elif code == SYMBOL:
                before_at, before_size, before_hash = symbol_at, symbol_size, symbol_hash
                symbol_at = at
                symbol_hash, at = read_symbol(at, end, last)
                symbol_size = at - symbol_at
                if symbol_size == 0 or symbol_size > op.size:
                    break
                # Only messages of one symbol: the library parser takes others apart.
                if before_size > 0 and (
                    before_size != symbol_size
                    or before_hash != symbol_hash
                    or not same_bytes(before_at, symbol_at, symbol_size, last)
                ):
                    break
            elif code == TEXT:
                at = skip_text(at, end, last)
            elif code == CELL:
                at = skip_cell(at, end)
            elif code == LEVELS:
                second = next_row
                next_row, at = _levels(at, end, last, op.bits, op.most, ints, floats, next_row)
                if at < 0:
                    break
            elif code == OPEN:
                if at >= end or next_row >= len(ints):
                    break
                second = next_row
                if byte_at(at) == CLOSED:
                    at += 1
                    op_at = op.jump
                    continue
                outer, bits = bits, op.bits
                _clear(floats, next_row)
            elif code == NEXT:
                if at >= end:
                    break
                separator = byte_at(at)
                at += 1
                ints[next_row, 3] = bits
                if op.rows == EACH:
                    ints[next_row, 0] = registers[TIME]
                    ints[next_row, 2] = registers[SEQUENCE]
                next_row += 1
                if separator == COMMA and next_row < len(ints):
                    bits = op.bits
                    _clear(floats, next_row)
                    op_at = op.jump
                    continue
                if separator != CLOSED:
                    break
                bits = outer
            elif code == SET:
                if op.column == BITS:
                    bits |= op.bits
                else:
                    floats[next_row, op.column] = op.unit
            elif code == MEMBERS:
                if said_count >= len(said):
                    break
                said[said_count, WHAT] = 0
                for field in range(SAID_FIELDS):
                    said[said_count, TEXTS + 2 * field + 1] = -1
            elif code == SAID:
                first = at
                at = skip_number(at, end, op.least < 0, op.size, op.zeros)
                if at < 0:
                    break
                said[said_count, WHAT] |= 1 << op.unit
                said[said_count, TEXTS + 2 * op.plus] = first - base
                said[said_count, TEXTS + 2 * op.plus + 1] = at - first
            elif code == MORE:
                if at >= end:
                    break
                separator = byte_at(at)
                at += 1
                if separator == COMMA:
                    op_at = op.jump
                    continue
                if separator != BRACE:
                    break
            elif code == END:
                matched = at == end
                break
            op_at += 1
        # 2. see what its fields say together
        sequence, before = registers[SEQUENCE], registers[BEFORE]
        if registers[LATEST] != ANY:
            registers[TIME] = registers[LATEST]
        if matched:
            op = ops[op_at]
            if op.rows == NONE:
                continue
            if op.rows == GROUPS and symbol_size > 0:
                if said[said_count, WHAT] == 0:
                    continue
                for group in range(SAID_GROUPS):
                    if said[said_count, WHAT] & (1 << group) and next_row < len(ints):
                        ints[next_row, 3] = 0
                        next_row += 1
            if op.follow == CONSECUTIVE:
                before = sequence - 1
            elif op.follow == AFRESH:
                before = ANEW
            if op.rows == ONE:
                next_row = row + 1
                ints[row, 3] = 0
            # Without levels there is no tick; numbers that contradict each other are the library parser's to name.
            matched = next_row > row and before < sequence and registers[FLOOR] < sequence
        # 3. find its symbol: most often that of the message before, else by hash
        if matched and (
            slots_count == 0
            or slots[slot].hash != symbol_hash
            or slots[slot].size != symbol_size
            or not same_bytes(base + slots[slot].start, symbol_at, symbol_size, last)
        ):
            matched = False
            place = np.int64(symbol_hash & np.uint64(len(buckets) - 1))
            for _ in range(PROBES_MAX):
                slot = buckets[place] - 1
                if slot < 0:
                    slot = slots_count
                    slots_count += 1
                    buckets[place] = slots_count
                    slots[slot].start = symbol_at - base
                    slots[slot].size = symbol_size
                    slots[slot].hash = symbol_hash
                    slots[slot].event = index << EVENT_BITS
                    matched = True
                    break
                if (
                    slots[slot].hash == symbol_hash
                    and slots[slot].size == symbol_size
                    and same_bytes(base + slots[slot].start, symbol_at, symbol_size, last)
                ):
                    matched = True
                    break
                place = (place + 1) & (len(buckets) - 1)
        if not matched:
            left[left_count] = index
            left_count += 1
            continue
        # 4. complete its ticks, and note its number
        if op.quote:
            bid, ask = floats[row, PRICE], floats[row, PRICE2]
            if bid == 0 or ask == 0:
                bits |= ONE_SIDED
            elif bid > ask:
                bits |= CROSSED
            elif bid == ask:
                bits |= LOCKED
        bits |= op.bits | slot
        if op.turned and row < second < next_row:
            _turn(ints, row, second)
            _turn(ints, second, next_row)
            _turn(ints, row, next_row)
        event, received_ns, time_ns, kept = index << EVENT_BITS, recv_ns[index], registers[TIME], registers[KEPT]
        each = op.rows == EACH
        for tick in range(row, next_row):
            ints[tick, 1] = received_ns
            ints[tick, 3] |= bits
            where[tick] = event
            if each:
                where[tick] += tick - row
            else:
                ints[tick, 0] = time_ns
                ints[tick, 2] = sequence
                if op.rows == SHARED:
                    floats[tick, SIZE2] = kept
        ints[next_row - 1, 3] |= op.last_bits
        if op.rows == GROUPS:
            said[said_count, ROW], said[said_count, SLOT_OF] = row, slot
            said[said_count, WHAT] |= ANEW_BIT if op.plus else 0
            said_count += 1
        if op.follow != UNFOLLOWED:
            stream = slot * streams + op.stream
            if places[stream] == 0:
                used[used_count] = stream
                used_count += 1
                places[stream] = used_count
            for tick in range(row, next_row if each else row + 1):
                heads[head].event = where[tick]
                heads[head].stream = places[stream] - 1
                heads[head].sequence = ints[tick, 2]
                heads[head].before = ints[tick, 2] - 1 if op.follow == CONSECUTIVE else before
                heads[head].event_ns = ints[tick, 0]
                head += 1
        row = next_row
    return row, head, used_count, slots_count, left_count, said_count


def _follow(heads: Any, highest: Any, ints: Any, where: Any, gaps: Any) -> Any:
    """Compare each number with the highest before it in its stream; return how many gaps there are.

    The ticks of one that is not above it get LATE; where more than the one before it is missing there is a gap, and
    where numbers begin anew below it, too. heads: (n,) HEAD; ints: (ticks, 8) int64 and where: (ticks,) their events,
    both in order of events. Written: highest: of each stream, ANY where it was not seen yet; gaps: (n, 4) the head, the
    tick that the gap comes before, the first number that is missing, and how many are, 0 where that is not known.
    """
    tick, gaps_count = 0, 0
    for number in range(len(heads)):
        head = heads[number]
        while tick < len(where) and where[tick] < head.event:
            tick += 1
        before = head.sequence - 1 if head.before == ANY or head.before == ANEW else head.before
        last = before if highest[head.stream] == ANY else highest[head.stream]
        if head.before == ANEW or head.sequence < before:
            if head.before != ANEW or head.sequence < last:
                gaps[gaps_count, 0] = number
                gaps[gaps_count, 1] = tick
                gaps[gaps_count, 2] = gaps[gaps_count, 3] = 0
                gaps_count += 1
            highest[head.stream] = head.sequence
            continue
        if head.sequence <= last:
            while tick < len(where) and where[tick] == head.event:
                ints[tick, 3] |= LATE
                tick += 1
            continue
        if before > last and head.before != ANY:
            gaps[gaps_count, 0] = number
            gaps[gaps_count, 1] = tick
            gaps[gaps_count, 2] = last + 1
            gaps[gaps_count, 3] = before - last
            gaps_count += 1
        highest[head.stream] = head.sequence
    return gaps_count


@cache
def kernels() -> tuple[Callable[..., tuple[int, int, int, int, int, int]], Callable[..., int]]:
    """Return `scan` and `follow`, compiled at the first call: seconds, or some ms from numba's cache."""
    heads, slots = array(HEAD, written=True), array(SLOT, written=True)
    written, ticks = array(np.int64, written=True), array(np.int64, 2, written=True)
    floats = array(np.float64, 2, written=True)
    read, ops = array(np.int64), array(OP)
    body, ends = array(np.uint8), array(np.uint32)
    outputs = (ticks, floats, written, written, heads, written, written, slots, written, written, ticks)
    return (
        compiled(_scan, body, ends, read, INT64, ops, INT64, *outputs),
        compiled(_follow, array(HEAD), written, ticks, read, ticks),
    )
