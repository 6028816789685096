"""Read the pieces of a message from memory: digits, decimals, texts. Compiled helpers of `scan`.

A place is a memory address. `end` is the end of the message, `last` that of the memory that may be read, which is at
least 8 bytes. Every place is at most `end`, which is at most `last`: nothing is read from `last` on, and nothing taken
from behind `end`.
"""

from typing import Any

import numba
import numpy as np
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

DIGITS_MAX = 19
"""Of a number: more of them would not fit into 64 bits."""
EXACT_MAX = 2**53
INEXACT_MIN = 10**15
"""A mantissa with more than 15 digits."""
TENS = np.array([10**power for power in range(DIGITS_MAX + 1)], np.uint64)
TENS_FLOAT = np.array([10.0**power for power in range(DIGITS_MAX + 1)])

# uint64 with int64 makes float64 in numba: whatever meets a uint64 is one itself.
_0, _1, _8, _10, _16, _32 = (np.uint64(number) for number in (0, 1, 8, 10, 16, 32))
ONES, TOPS = np.uint64(0x0101010101010101), np.uint64(0x8080808080808080)
DIGIT_ZEROS, TEN_TO_TOP = np.uint64(0x3030303030303030), np.uint64(0x7676767676767676)
PAIRS, FOURS = np.uint64(0x00FF00FF00FF00FF), np.uint64(0x0000FFFF0000FFFF)
BY_10, BY_100, BY_10000 = (np.uint64(1 + (10**power << 8 * power)) for power in (1, 2, 4))
QUOTES, BACKSLASHES = np.uint64(0x2222222222222222), np.uint64(0x5C5C5C5C5C5C5C5C)
SPACES, ABOVE_SPACES = np.uint64(0x2020202020202020), np.uint64(0x2121212121212121)
POINT, COMMA, ZERO = ord("."), ord(","), ord("0")
MINUS, COLON, TEE, ZED = (ord(one) for one in "-:TZ")
SECOND_NS, NS_DIGITS, SECOND_DIGITS_MAX, SECONDS_MAX = 1_000_000_000, 9, 10, 9_223_372_035
ISO_BYTES_MIN = len("2026-08-09T21:05:48Z")
YEAR_MIN, YEAR_MAX = 1970, 2259
DAYS = np.array([0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31], np.int64)
HASH_START, HASH_FACTOR = np.uint64(0xCBF29CE484222325), np.uint64(0x9E3779B97F4A7C15)


def _address(typing_context: Any, array: Any) -> Any:
    """Return the place of an array's first byte."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return builder.ptrtoint(data, context.get_value_type(types.intp))

    return types.intp(array), generate


def _load(typing_context: Any, at: Any) -> Any:
    """Read 8 bytes, the first of them as the lowest."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = context.get_value_type(types.uint64).as_pointer()
        return builder.load(builder.inttoptr(args[0], pointer), align=1)

    return types.uint64(types.intp), generate


def _byte(typing_context: Any, at: Any) -> Any:
    """Read a byte."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = context.get_value_type(types.uint8).as_pointer()
        return builder.zext(builder.load(builder.inttoptr(args[0], pointer)), context.get_value_type(types.intp))

    return types.intp(types.intp), generate


def _bytes_below(typing_context: Any, mask: Any) -> Any:
    """Return how many whole bytes lie below the lowest bit that is set: 0 to 8."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        zeros = builder.cttz(args[0], cgutils.false_bit)
        return builder.lshr(zeros, context.get_constant(types.uint64, 3))

    return types.intp(types.uint64), generate


# numba hands in the typing context, which the type of a decorator could not say.
address_of: Any = intrinsic(_address)
load_word: Any = intrinsic(_load)
byte_at: Any = intrinsic(_byte)
bytes_below: Any = intrinsic(_bytes_below)


@numba.njit(forceinline=True)
def word_at(at: Any, last: Any) -> Any:
    """Return the 8 bytes from `at` on, zeros in place of those from `last` on."""
    if at + 8 <= last:
        return load_word(at)
    half = np.uint64(4 * (at + 8 - last))  # twice 32 bits where nothing is left: 64 at once are not defined
    return (load_word(last - 8) >> half) >> half


@numba.njit(forceinline=True)
def eight_digits(word: Any) -> Any:
    """Return the number that 8 digits make, the first of them in the lowest byte: by pairs, by fours, all."""
    word = ((word * BY_10) >> _8) & PAIRS
    word = ((word * BY_100) >> _16) & FOURS
    return (word * BY_10000) >> _32


@numba.njit(forceinline=True)
def read_digits(at: Any, end: Any, last: Any) -> Any:
    """Read digits; return (their value, the place behind them). Of more than DIGITS_MAX the value is wrong."""
    value = _0
    first = at
    while at - first <= DIGITS_MAX:
        word = word_at(at, last) ^ DIGIT_ZEROS  # a digit becomes its value, another byte something above 9
        # The lowest bit set is that of the first byte above 9: carries reach only bytes behind it.
        others = ((word + TEN_TO_TOP) | word) & TOPS
        if others == _0 and at + 8 <= end:
            value = value * TENS[8] + eight_digits(word)
            at += 8
            continue
        count = bytes_below(others)
        if count > end - at:
            count = end - at
        if count:
            value = value * TENS[np.uint64(count)] + eight_digits(word << np.uint64(64 - 8 * count))
            at += count
        break
    return value, at


@numba.njit
def read_decimal(at: Any, end: Any, last: Any, least: Any, below: Any) -> Any:
    """Read digits with at most one point as `float` does; return (value, inexact, the place behind them or -1).

    Clinger, "How to read floating point numbers accurately" (1990): a mantissa below 2^53 and a power of ten up to
    10^22 are float64 exactly, so their quotient is rounded once, to the nearest.
    """
    whole, behind = read_digits(at, end, last)
    count = behind - at
    scale, fraction = 0, _0
    if behind < end and byte_at(behind) == POINT:
        at = behind + 1
        fraction, behind = read_digits(at, end, last)
        scale = behind - at
        count += scale
    if count == 0 or count > DIGITS_MAX or whole >= np.uint64(below):
        return 0.0, False, -1
    mantissa = whole * TENS[np.uint64(scale)] + fraction
    while mantissa >= np.uint64(INEXACT_MIN) and scale > 0 and mantissa % _10 == _0:
        mantissa //= _10
        scale -= 1
    if mantissa >= np.uint64(EXACT_MAX) or mantissa < np.uint64(least):
        return 0.0, False, -1
    inexact = mantissa >= np.uint64(INEXACT_MIN)
    return np.float64(np.int64(mantissa)) / TENS_FLOAT[np.uint64(scale)], inexact, behind


@numba.njit(forceinline=True)
def _is_digit(at: Any) -> Any:
    return 0 <= byte_at(at) - ZERO <= 9


@numba.njit
def skip_number(at: Any, end: Any, signed: Any, digits: Any, decimals: Any) -> Any:
    """Return the place behind a decimal number of so many digits and decimals at most, or behind nothing; else -1."""
    first = at
    if signed and at < end and byte_at(at) == MINUS:
        at += 1
    start = at
    while at < end and _is_digit(at):
        at += 1
    if at == start:
        return first if at == first else -1
    if at - start > digits:
        return -1
    if at < end and byte_at(at) == POINT:
        at += 1
        start = at
        while at < end and _is_digit(at):
            at += 1
        if not 1 <= at - start <= decimals:
            return -1
    return at


@numba.njit
def is_json_number(at: Any, behind: Any) -> Any:
    """Say whether what `read_decimal` took is a number as JSON writes it: no 007, no .5, no 5."""
    if byte_at(at) == ZERO and behind - at > 1 and byte_at(at + 1) != POINT:
        return False
    return byte_at(at) != POINT and byte_at(behind - 1) != POINT


@numba.njit
def read_seconds_ns(at: Any, end: Any, last: Any) -> Any:
    """Read seconds since 1970 with up to 9 decimals; return (ns, the place behind them or -1)."""
    whole, behind = read_digits(at, end, last)
    if not 1 <= behind - at <= SECOND_DIGITS_MAX or whole > np.uint64(SECONDS_MAX):
        return np.int64(0), np.int64(-1)
    time_ns = np.int64(whole) * SECOND_NS
    if behind < end and byte_at(behind) == POINT:
        at = behind + 1
        fraction, behind = read_digits(at, end, last)
        count = behind - at
        if not 1 <= count <= NS_DIGITS:
            return np.int64(0), np.int64(-1)
        time_ns += np.int64(fraction * TENS[np.uint64(NS_DIGITS - count)])
    return time_ns, behind


@numba.njit
def _two_digits(at: Any) -> Any:
    """Return the number that two bytes make, or -1."""
    if not (_is_digit(at) and _is_digit(at + 1)):
        return np.int64(-1)
    return np.int64((byte_at(at) - ZERO) * 10 + byte_at(at + 1) - ZERO)


@numba.njit
def read_iso_ns(at: Any, end: Any, last: Any) -> Any:
    """Read a time such as 2026-08-09T21:05:48.228568804Z; return (ns since 1970, the place behind it or -1).

    Days by Howard Hinnant, "chrono-compatible low-level date algorithms" (days_from_civil).
    """
    failed = np.int64(0), np.int64(-1)
    if at + ISO_BYTES_MIN > end:
        return failed
    century, year, month, day = _two_digits(at), _two_digits(at + 2), _two_digits(at + 5), _two_digits(at + 8)
    hour, minute, second = _two_digits(at + 11), _two_digits(at + 14), _two_digits(at + 17)
    if century < 0 or year < 0 or not 0 <= hour <= 23 or not 0 <= minute <= 59 or not 0 <= second <= 59:
        return failed
    year += 100 * century
    if not YEAR_MIN <= year <= YEAR_MAX or not 1 <= month <= 12 or not 1 <= day <= DAYS[month]:
        return failed
    if month == 2 and day == 29 and (year % 4 != 0 or (year % 100 == 0 and year % 400 != 0)):
        return failed
    if byte_at(at + 4) != MINUS or byte_at(at + 7) != MINUS or byte_at(at + 10) != TEE:
        return failed
    if byte_at(at + 13) != COLON or byte_at(at + 16) != COLON:
        return failed
    at += 19
    fraction_ns = np.int64(0)
    if byte_at(at) == POINT:
        fraction, behind = read_digits(at + 1, end, last)
        count = behind - at - 1
        if not 1 <= count <= NS_DIGITS:
            return failed
        fraction_ns = np.int64(fraction * TENS[np.uint64(NS_DIGITS - count)])
        at = behind
    if at >= end or byte_at(at) != ZED:
        return failed
    shifted = year - (1 if month <= 2 else 0)
    era = shifted // 400
    of_era = shifted - era * 400
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    days = era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468
    return (((days * 24 + hour) * 60 + minute) * 60 + second) * SECOND_NS + fraction_ns, at + 1


@numba.njit
def skip_text(at: Any, end: Any, last: Any) -> Any:
    """Return the place of the first byte that a JSON string does not hold as it is: a quote, or one to leave."""
    while at < end:
        word = word_at(at, last)
        quotes, backslashes = word ^ QUOTES, word ^ BACKSLASHES
        # Right up to the first byte found: borrows reach only bytes behind it.
        found = ((quotes - ONES) & ~quotes) | ((backslashes - ONES) & ~backslashes) | (word - SPACES) | word
        if found & TOPS != _0:
            at += bytes_below(found & TOPS)
            break
        at += 8
    return at if at < end else end


@numba.njit
def read_symbol(at: Any, end: Any, last: Any) -> Any:
    """Read printable ASCII but spaces, quotes and backslashes; return (its hash, the place behind it)."""
    hashed = HASH_START
    while at < end:
        word = word_at(at, last)
        quotes, backslashes = word ^ QUOTES, word ^ BACKSLASHES
        # Right up to the first byte found: borrows and carries reach only bytes behind it.
        found = ((quotes - ONES) & ~quotes) | ((backslashes - ONES) & ~backslashes)
        found |= (word - ABOVE_SPACES) | (word + ONES) | word
        count = bytes_below(found & TOPS)
        if count > end - at:
            count = end - at
        if count == 0:
            break
        hashed = (hashed ^ (word << np.uint64(64 - 8 * count))) * HASH_FACTOR
        hashed ^= hashed >> _32
        at += count
        if count < 8:
            break
    # Once more: so far the last characters hardly reach the low bits, which choose the bucket.
    hashed *= HASH_FACTOR
    return hashed ^ (hashed >> _32), at


@numba.njit
def skip_cell(at: Any, end: Any) -> Any:
    """Return the place of the first comma, or of the first byte that is not ASCII."""
    while at < end and byte_at(at) != COMMA and byte_at(at) < 128:
        at += 1
    return at


@numba.njit
def same_bytes(one: Any, other: Any, size: Any, last: Any) -> Any:
    """Compare `size` bytes at two places."""
    while size > 8:
        if word_at(one, last) != word_at(other, last):
            return False
        one, other, size = one + 8, other + 8, size - 8
    return (word_at(one, last) ^ word_at(other, last)) << np.uint64(4 * (8 - size)) << np.uint64(4 * (8 - size)) == _0
