"""Check and convert parsed fields a column at a time: one field of many messages. Used by every venue's `parse`.

A check that fails says only that something in the column is wrong; `sound` then finds out which messages are at
fault by halving, so that the usual case (all are sound) costs a few numpy calls a frame.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from tapeline.schemas.frames import Int64Array

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Row = TypeVar("Row")
Result = TypeVar("Result")

INTEGER_MAX = 2**63 - 2
"""One below the largest int64, so that "the one after it" always exists."""
MS_MAX = INTEGER_MAX // 1_000_000
NUMBER_MAX = 1e15
"""No market has such a price or size, and sums and products below it stay finite and whole."""
DIGITS_MAX = 15
"""Significant decimal digits that every float64 keeps."""
SECOND_NS = 1_000_000_000
UNTIMED = -1
"""In a column of times: the venue gave none."""
ISO_TIME = re.compile(r"(?:19[7-9]\d|2[01]\d\d|22[0-5]\d)-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?Z", re.ASCII)
"""Years that int64 has nanoseconds for."""
SECONDS = re.compile(r"(\d{1,10})(?:\.(\d{1,9}))?", re.ASCII)
SYMBOL_CHARACTERS_MAX = 64


class MalformedError(ValueError):
    """A field is not what the venue's format allows; its text names the field."""


def sound(
    convert: Callable[[Sequence[Row]], Result], rows: Sequence[Row]
) -> tuple[Result | None, list[int], list[tuple[int, str]]]:
    """Convert all rows that are sound.

    `convert` raises MalformedError if any of its rows is at fault. Returns its result over the sound rows (None if
    there are none), their positions, and (position, what is wrong) of the others.
    """
    faults: list[tuple[int, str]] = []
    kept: list[int] = []
    open_ranges = [(0, len(rows))]
    while open_ranges:
        start, end = open_ranges.pop()
        try:
            result = convert(rows[start:end])
        except MalformedError as error:
            if end - start == 1:
                faults.append((start, str(error)))
            else:
                middle = (start + end) // 2
                open_ranges += [(middle, end), (start, middle)]
            continue
        if end - start == len(rows):
            return result, list(range(len(rows))), faults
        kept.extend(range(start, end))
    return convert([rows[position] for position in kept]) if kept else None, kept, faults


def integers(values: Sequence[Any], field: str, *, least: int = 0, most: int = INTEGER_MAX) -> Int64Array:
    """Return JSON integers as int64; bools, fractions and what lies outside least..most are at fault."""
    if any(kind is not int for kind in set(map(type, values))):
        raise MalformedError(f"{field} is not an integer")
    if values and not least <= min(values) <= max(values) <= most:
        raise MalformedError(f"{field} is not between {least} and {most}")
    return np.array(values, np.int64)


def times_ns(values: Sequence[Any], field: str) -> Int64Array:
    """Return times in milliseconds since 1970 as nanoseconds."""
    return integers(values, field, most=MS_MAX) * 1_000_000


def digits(values: Sequence[Any], field: str, *, most: int = INTEGER_MAX) -> Int64Array:
    """Return strings of digits as int64, 0 to `most`."""
    if any(kind is not str for kind in set(map(type, values))):
        raise MalformedError(f"{field} is not a string of digits")
    joined = "".join(values)
    if not all(values) or (joined and not (joined.isascii() and joined.isdigit())):
        raise MalformedError(f"{field} is not a string of digits")
    if max(map(len, values), default=0) > len(str(INTEGER_MAX)):
        raise MalformedError(f"{field} is not between 0 and {most}")
    return integers(list(map(int, values)), field, most=most)


def digits_ms_ns(values: Sequence[Any], field: str) -> Int64Array:
    """Return strings of milliseconds since 1970 as nanoseconds."""
    return digits(values, field, most=MS_MAX) * 1_000_000


def digits_us_ns(values: Sequence[Any], field: str) -> Int64Array:
    """Return strings of microseconds since 1970 as nanoseconds."""
    return digits(values, field, most=INTEGER_MAX // 1000) * 1000


def iso_ns(values: Sequence[Any], field: str) -> Int64Array:
    """Return times such as 2026-08-09T21:05:48.228568804Z (RFC 3339, up to 9 decimals, UTC) as nanoseconds."""
    different = _different(values, field)
    if not all(map(ISO_TIME.fullmatch, different)):
        raise MalformedError(f"{field} is no UTC time as RFC 3339 writes it")
    try:
        times = np.array([text[:-1] for text in different], "datetime64[ns]").astype(np.int64)
    except ValueError as error:
        raise MalformedError(f"{field} is no time that exists") from error
    return _spread(values, different, times)


def optional_iso_ns(values: Sequence[Any], field: str) -> Int64Array:
    """Return what `iso_ns` does, UNTIMED for None."""
    found = np.full(len(values), UNTIMED, np.int64)
    found[[value is not None for value in values]] = iso_ns([value for value in values if value is not None], field)
    return found


def seconds_ns(values: Sequence[Any], field: str) -> Int64Array:
    """Return strings of seconds since 1970, with up to 9 decimals, as nanoseconds, exactly."""
    different = _different(values, field)
    found = list(map(SECONDS.fullmatch, different))
    times = [int(one[1]) * SECOND_NS + int((one[2] or "").ljust(9, "0")) for one in found if one is not None]
    if len(times) < len(found) or max(times, default=0) > INTEGER_MAX:
        raise MalformedError(f"{field} is no number of seconds since 1970")
    return _spread(values, different, np.array(times, np.int64))


def _different(values: Sequence[Any], field: str) -> dict[str, int]:
    """Return each text once, with its number; a venue says most times more than once."""
    if any(kind is not str for kind in set(map(type, values))):
        raise MalformedError(f"{field} is not a string")
    return {text: number for number, text in enumerate(dict.fromkeys(values))}


def _spread(values: Sequence[str], different: dict[str, int], times: Int64Array) -> Int64Array:
    return times if len(times) == len(values) else times[[different[text] for text in values]]


def booleans(values: Sequence[Any], field: str) -> Mask:
    """Return JSON booleans."""
    if any(kind is not bool for kind in set(map(type, values))):
        raise MalformedError(f"{field} is not true or false")
    return np.array(values, np.bool_)


def decimals(values: Sequence[Any], field: str, *, positive: bool = False) -> Floats:
    """Return decimal strings (digits and at most one point) as the nearest float64, as `float` does.

    Signs, exponents, NaN, infinities, spaces, underscores and other scripts' digits, all of which `float` would
    take, are at fault; so are numbers from NUMBER_MAX on and, with `positive`, zero.
    """
    if any(kind is not str for kind in set(map(type, values))):
        raise MalformedError(f"{field} is not a decimal string")
    if "".join(values).strip("0123456789."):
        raise MalformedError(f"{field} is not a decimal number of digits and one point")
    try:
        numbers = np.fromiter(map(float, values), np.float64, len(values))
    except ValueError as error:
        raise MalformedError(f"{field} is not a decimal number of digits and one point") from error
    if not (numbers < NUMBER_MAX).all():
        raise MalformedError(f"{field} is not below {NUMBER_MAX:.0e}")
    if positive and not (numbers > 0).all():
        raise MalformedError(f"{field} is not above zero")
    return numbers


def signed(values: Sequence[Any], field: str) -> Floats:
    """Return decimal strings that may begin with a minus as float64."""
    if any(kind is not str for kind in set(map(type, values))):
        raise MalformedError(f"{field} is not a decimal string")
    sizes = decimals([value.removeprefix("-") for value in values], field)
    return np.where([value.startswith("-") for value in values], 0.0 - sizes, sizes)


def numbers(values: Sequence[Any], field: str, *, positive: bool = False) -> Floats:
    """Return JSON numbers as float64: 0 (`positive`: above it) to below NUMBER_MAX."""
    if set(map(type, values)) - {int, float}:
        raise MalformedError(f"{field} is not a number")
    if values and not 0 <= min(values) <= max(values) < NUMBER_MAX:
        raise MalformedError(f"{field} is not between 0 and {NUMBER_MAX:.0e}")
    if positive and not all(values):
        raise MalformedError(f"{field} is not above zero")
    return np.array(values, np.float64) + 0.0  # -0.0 becomes 0.0


def inexact_numbers(values: Sequence[int | float]) -> Mask:
    """Say which JSON numbers have more than 15 significant digits, as far as a float64 still shows it."""
    texts = [str(value) for value in values]
    mask = np.zeros(len(texts), np.bool_)
    for position, text in enumerate(texts):
        if len(text) > DIGITS_MAX:
            mask[position] = len(text.partition("e")[0].replace(".", "").strip("0")) > DIGITS_MAX
    return mask


def inexact(values: Sequence[str]) -> Mask:
    """Say which decimal strings have more than 15 significant digits, so that float64 may not keep them."""
    mask = np.zeros(len(values), np.bool_)
    if max(map(len, values), default=0) <= DIGITS_MAX:
        return mask
    for position in np.flatnonzero(np.fromiter(map(len, values), np.int64, len(values)) > DIGITS_MAX).tolist():
        mask[position] = len(values[position].replace(".", "").strip("0")) > DIGITS_MAX
    return mask


def symbols(values: Sequence[Any], field: str) -> None:
    """Check symbols: printable, without spaces, at most 64 characters."""
    if any(kind is not str for kind in set(map(type, values))):
        raise MalformedError(f"{field} is not a string")
    for value in set(values):
        if not 0 < len(value) <= SYMBOL_CHARACTERS_MAX or not value.isprintable() or " " in value:
            raise MalformedError(f"{field} is no symbol: {value[:SYMBOL_CHARACTERS_MAX]!r}")
