"""Columns: what counts as inexact, and that the messages at fault are found, all of them and no others."""

from collections.abc import Sequence
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tapeline.connectors.venues.columns import MalformedError, decimals, inexact, sound


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("61685.99000000", False),
        ("0.00000001", False),
        ("123456789012345", False),
        ("1234567890123456", True),
        ("12345678.12345678", True),
        ("12345678.12345670", False),
        ("0.0000000012345678901234567", True),
        ("100000000000000000000", False),
        ("0", False),
    ],
)
def test_inexact_means_more_than_15_significant_digits(text: str, expected: bool) -> None:
    assert inexact(["1.5", text]).tolist() == [False, expected]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.decimals(min_value=0, max_value=10**12, places=8))
def test_what_is_not_inexact_is_kept_by_float64(number: Decimal) -> None:
    text = format(number, "f")
    if not inexact([text])[0]:
        assert Decimal(format(decimals([text], "p")[0], ".15g")) == number


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.integers(-3, 20), max_size=60))
def test_sound_rows_are_converted_in_order_and_the_others_named(rows: list[int]) -> None:
    def convert(part: Sequence[int]) -> list[int]:
        for number in part:
            if number < 0:
                raise MalformedError(f"{number} is negative")
        return [number * 2 for number in part]

    result, kept, faults = sound(convert, rows)
    good = [number for number in rows if number >= 0]
    assert result == ([number * 2 for number in good] if good or not rows else None)
    assert [rows[position] for position in kept] == good
    assert faults == [(position, f"{number} is negative") for position, number in enumerate(rows) if number < 0]
