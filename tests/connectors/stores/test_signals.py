import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapeline.connectors.stores.reader import glob_regex
from tapeline.connectors.stores.signals import format_time, parse_time

NOW_NS = 1_700_000_000_000_000_000


@pytest.mark.parametrize(
    ("text", "expected_ns"),
    [
        ("2023-11-14T22:13:20Z", NOW_NS),
        ("2023-11-14T22:13:20", NOW_NS),
        ("2023-11-14T23:13:20.000001+01:00", NOW_NS + 1000),
        ("2023-11-14", NOW_NS - (22 * 3600 + 13 * 60 + 20) * 10**9),
        ("20231114", NOW_NS - (22 * 3600 + 13 * 60 + 20) * 10**9),
        ("90s", NOW_NS - 90 * 10**9),
        ("15m", NOW_NS - 15 * 60 * 10**9),
        ("1.5h", NOW_NS - 5400 * 10**9),
        ("7d", NOW_NS - 7 * 86400 * 10**9),
        ("1700000000000000123", NOW_NS + 123),
        ("-1700000000000000000", -NOW_NS),
        ("0001-01-01", -(2**63)),
        ("9999-12-31", 2**63 - 1),
        ("9223372036854775808", 2**63 - 1),
    ],
)
def test_times(text: str, expected_ns: int) -> None:
    assert parse_time(text, NOW_NS) == expected_ns


@pytest.mark.parametrize("text", ["", "yesterday", "15", "15x", "2023-13-01", "m", "٣m", "1e9s", "2023-11-14T25:00"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the text is Python's own
        parse_time(text, NOW_NS)


@given(st.integers(-(2**63), 2**63 - 1))
def test_a_time_that_was_printed_reads_back_to_the_millisecond(ts_ns: int) -> None:
    assert 0 <= ts_ns - parse_time(format_time(ts_ns), 0) < 10**6 or ts_ns < -(2**63) + 10**6


@pytest.mark.parametrize(
    ("pattern", "regex"),
    [
        ("sim:A", r"^sim\U0000003aA$"),
        ("*:B?", r"^.*\U0000003aB.$"),
        ("[!ab]x[c-e]", "^[^ab]x[c-e]$"),
        ("a[b", r"^a\U0000005bb$"),
    ],
)
def test_patterns_become_regular_expressions(pattern: str, regex: str) -> None:
    assert glob_regex(pattern) == regex
