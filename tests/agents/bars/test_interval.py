"""How intervals are written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapeline.schemas import BarKind
from tapeline.schemas.interval import Interval, IntervalError

SECOND_NS = 10**9


@pytest.mark.parametrize(
    ("text", "kind", "size", "again"),
    [
        ("1s", BarKind.TIME, SECOND_NS, "1s"),
        ("90s", BarKind.TIME, 90 * SECOND_NS, "90s"),
        ("1.5m", BarKind.TIME, 90 * SECOND_NS, "90s"),
        ("60m", BarKind.TIME, 3600 * SECOND_NS, "1h"),
        ("24h", BarKind.TIME, 86400 * SECOND_NS, "1d"),
        ("100t", BarKind.TICK, 100, "100t"),
        ("0.5v", BarKind.VOLUME, 0.5, "0.5v"),
        ("1000000$", BarKind.DOLLAR, 1e6, "1000000$"),
    ],
)
def test_is_read_and_written(text: str, kind: BarKind, size: float, again: str) -> None:
    interval = Interval.parse(text)
    assert (interval.kind, interval.size, str(interval)) == (kind, size, again)
    assert Interval.of(int(kind), size) == interval


@given(st.sampled_from("smh"), st.integers(1, 23), st.sampled_from("tv$"), st.integers(1, 10**15))
def test_what_is_written_is_read(unit: str, number: int, counted: str, size: int) -> None:
    for text in (f"{number}{unit}", f"{size}{counted}"):
        assert Interval.parse(str(Interval.parse(text))) == Interval.parse(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is no interval; write one such as 1s, 15s, 1m"),
        ("1", "is no interval"),
        ("m", "is no interval"),
        ("1M", "is no interval"),
        ("-1m", "is no interval"),
        ("1 m", "is no interval"),
        ("1e6$", "is no interval"),
        ("0s", "last whole seconds, from 1s to 1d"),
        ("0.5s", "whole seconds"),
        ("2d", "from 1s to 1d"),
        ("1.5t", "whole numbers"),
        ("0v", "above 0"),
        ("10000000000000000$", "up to 1000000000000000"),
        ("0.12345678901234567v", "15 digits"),
    ],
)
def test_what_is_none_is_said(text: str, says: str) -> None:
    with pytest.raises(IntervalError, match=says.replace("$", r"\$")):
        Interval.parse(text)
