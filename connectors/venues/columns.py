"""Check and convert parsed fields a column at a time: one field of many messages. Used by every venue's `parse`.

A check that fails says only that something in the column is wrong; `sound` then finds out which messages are at
fault by halving, so that the usual case (all are sound) costs a few numpy calls a frame.
"""

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
