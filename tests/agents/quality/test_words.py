"""Numbers as people read them."""

import pytest

from tapeline.agents.quality.words import length, many, number, share, time_of_day

S = 1_000_000_000


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (None, "-"),
        (0, "0 ns"),
        (999, "999 ns"),
        (1_500, "1.5 µs"),
        (-1_272_402_468, "-1.272 s"),
        (31_174_217, "31.17 ms"),
        (100 * S, "1.667 min"),
        (60 * S, "1 min"),
        (36_000 * S, "10 h"),
        (400 * 3600 * S, "400 h"),
        (5000 * 3600 * S, "5,000 h"),
    ],
)
def test_length(ns: int | None, text: str) -> None:
    assert length(ns) == text


def test_time_of_day() -> None:
    at = 1_735_828_200_123_456_789
    assert time_of_day(at) == "14:30:00.123"
    assert time_of_day(at, 0) == "14:30:00"
    assert time_of_day(at, 9) == "14:30:00.123456789"
    assert time_of_day(None) == "-"


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [(0, 0, "-"), (0, 5, "0%"), (5, 5, "100%"), (1, 1000, "0.1%"), (1, 10**9, "< 0.001%"), (18_285, 167_466, "11%")],
)
def test_share(part: int, whole: int, text: str) -> None:
    assert share(part, whole) == text


def test_many_and_number() -> None:
    assert [many(1, "gap"), many(2_000, "gap"), many(0, "stretch", "stretches")] == [
        "1 gap",
        "2,000 gaps",
        "0 stretches",
    ]
    assert [number(None), number(61_599.9), number(0.1 + 0.2), number(1e-8), number(1e18)] == [
        *("-", "61,599.9", "0.3", "1e-08", "1e+18"),
    ]
