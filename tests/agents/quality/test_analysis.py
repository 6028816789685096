"""The analysis counts what is there, however ticks are cut; its report is true of hand-made days."""

from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.agents.quality import Analysis, QualityReport, Rules, counting, summarise
from tapeline.agents.quality.analysis import DAY_NS as DAY_LENGTH_NS
from tapeline.agents.quality.analysis import LISTED_MAX, LONGEST_MAX, day_of, day_start_ns
from tapeline.agents.quality.histogram import PRECISION, bounds_ns, quantile_ns
from tapeline.agents.quality.rules import flagged
from tapeline.agents.quality.summary import slope
from tapeline.schemas import Flag, GapReason, Kind, TapelineError, Ticks, empty_ticks
from tests.agents.quality import slow
from tests.agents.quality.markets import (
    DAY,
    DAY_NS,
    SECOND_NS,
    cuts,
    gap,
    messy,
    quote,
    tick,
    together,
    trade,
)

SEEDS = st.integers(0, 2**32)
MS = 1_000_000


def analysed(parts: Iterable[Ticks], rules: Rules | None = None) -> Analysis:
    found = Analysis(DAY, rules or Rules())
    for part in parts:
        found.add(part)
    return found


def reported(*ticks: Ticks, instrument: str = "venue:X", rules: Rules | None = None) -> QualityReport:
    return summarise(analysed([together(*ticks)], rules), instrument, "a test")


@pytest.mark.slow
@given(seed=SEEDS, cut=SEEDS)
@settings(max_examples=6)
def test_how_ticks_are_cut_changes_nothing(seed: int, cut: int) -> None:
    ticks = messy(seed, 900)
    whole = summarise(analysed([ticks]), "venue:X", "a test")
    assert summarise(analysed(cuts(ticks, cut)), "venue:X", "a test") == whole
    assert QualityReport.decode(whole.encode()) == whole


@pytest.mark.slow
@given(seed=SEEDS)
@settings(max_examples=8)
def test_counts_are_those_of_the_slow_way(seed: int) -> None:
    ticks = messy(seed, 800)
    found, expected = analysed([ticks]), slow.counts(ticks)
    for kind, own in expected.items():
        row = found.counts[kind]
        assert {name: row[name] for name in own} == dict(own), kind
    assert sum(own["ticks"] for own in expected.values()) == found.counts["ticks"].sum() == found.windows.sum()
    judged = flagged(ticks)
    for name, flag in (("outlier", Flag.OUTLIER), ("stale", Flag.STALE), ("crossed", Flag.CROSSED)):
        assert found.counts[name].sum() == np.count_nonzero(judged["flags"] & flag)
    seconds = found.seconds
    assert seconds["trades"].sum() == found.counts["ticks"][Kind.TRADE]
    assert seconds["gaps"].sum() == found.counts["ticks"][Kind.GAP] == sum(count for count, _ in found.gaps.values())
    at = (ticks["ts_recv_ns"] - DAY_NS) // SECOND_NS
    assert seconds["levels"].nonzero()[0].tolist() == np.unique(at[ticks["kind"] == Kind.BOOK]).tolist()
    assert (np.diff(ticks["ts_recv_ns"]) < 0).sum() == found.course["recv_back"][0]


def test_ticks_of_other_days_are_left_out_and_counted() -> None:
    edges = [tick(Kind.TRADE, 0, price=1) for _ in range(4)]
    for one, at_ns in zip(edges, (-1, 0, DAY_LENGTH_NS - 1, DAY_LENGTH_NS), strict=True):
        one["ts_recv_ns"] = DAY_NS + at_ns
    report = reported(*edges)
    assert (report.ticks, report.left_out.other_days) == (2, 2)
    assert report.last_recv_ns == DAY_NS + DAY_LENGTH_NS - 1
    assert summarise(analysed([edges[0]]), "venue:X", "a test").ticks == 0


def test_a_day_without_ticks_has_a_report() -> None:
    report = summarise(Analysis(DAY), "venue:X", "a test")
    assert (report.ticks, report.timeline, report.first_recv_ns, report.rates.busiest) == (0, None, None, None)
    assert {one.finding for one in report.verdicts if one.topic not in ("gaps", "order")} == {"unknown"}


def test_gaps_are_listed_with_reason_kind_time_and_size() -> None:
    report = reported(
        quote(1, 1, 2),
        trade(2, 1),
        gap(5, GapReason.SEQUENCE, Kind.TRADE, sequence=18, size=4),
        trade(5, 1),
        gap(9, GapReason.DISCONNECT),
        gap(9, GapReason.CHECKSUM, Kind.BOOK),
        tick(Kind.GAP, 10, price=99, price2=88, size=-5),
    )
    gaps = report.gaps
    assert [(one.reason, one.kind, one.count, one.missing) for one in gaps.by_reason] == [
        ("unknown", "every", 1, 0),
        ("sequence", "trade", 1, 4),
        ("disconnect", "every", 1, 0),
        ("checksum", "book", 1, 0),
    ]
    assert (gaps.count, gaps.missing) == (4, 4)
    first, second, third, _ = gaps.listed
    assert (first.recv_ns - DAY_NS, first.first_missing, first.missing) == (5 * SECOND_NS, 18, 4)
    assert [one.silent_ns for one in (first, second, third)] == [3 * SECOND_NS, 4 * SECOND_NS, None]
    assert gaps.book_unsynchronised is None


def level(at_s: float, flags: int, **fields: float) -> Ticks:
    return tick(Kind.BOOK, at_s, **{"price": 10, "size": 1, "side": 1, "flags": flags} | fields)


def test_a_book_is_unsynchronised_from_a_gap_to_the_next_whole_snapshot() -> None:
    report = reported(
        level(0, Flag.SNAPSHOT | Flag.LAST),
        gap(1, GapReason.SEQUENCE, Kind.TRADE),
        gap(2, GapReason.SEQUENCE, Kind.BOOK),
        gap(3, GapReason.SILENCE),
        level(4, Flag.LAST),
        level(5, Flag.SNAPSHOT),
        level(6, Flag.SNAPSHOT | Flag.LAST),
        gap(8, GapReason.DISCONNECT),
        trade(9, 1),
    )
    found = report.gaps.book_unsynchronised
    assert found is not None
    assert [(one.start_ns - DAY_NS, one.end_ns - DAY_NS) for one in found.longest] == [
        (2 * SECOND_NS, 6 * SECOND_NS),
        (8 * SECOND_NS, 9 * SECOND_NS),
    ]
    assert (found.count, found.total_ns) == (2, 5 * SECOND_NS)


def test_quiet_stretches_lie_in_the_time_in_which_trading_is_open() -> None:
    report = reported(
        tick(Kind.STATUS, 0, size=1),
        trade(15, 1),  # 15 s after the opening
        trade(24, 1),
        tick(Kind.TIME, 30),
        trade(36, 1),  # 12 s: a TIME tick says nothing of the market
        tick(Kind.STATUS, 60, size=0),  # 24 s
        trade(100, 1),
        tick(Kind.STATUS, 200, size=1),
        trade(205, 1),
    )
    lengths = [(one.end_ns - one.start_ns) // SECOND_NS for one in report.rates.quiet.longest]
    assert lengths == [24, 15, 12]
    assert report.sessions.closed.total_ns == 140 * SECOND_NS
    assert report.sessions.ticks_while_closed == 1
    assert [one.open for one in report.sessions.listed] == [True, False, True]


def test_stretches_of_quotes_last_until_a_quote_that_is_none() -> None:
    report = reported(
        quote(0, 2, 1), quote(1, 3, 1), trade(2, 1), quote(5, 1, 1), quote(6, 0, 1), quote(9, 1, 2), quote(10, 2, 1)
    )
    quotes = report.quotes
    assert quotes is not None
    assert (quotes.count, quotes.crossed, quotes.locked, quotes.one_sided) == (6, 3, 1, 1)
    assert (quotes.crossed_stretches.count, quotes.crossed_stretches.total_ns) == (2, 5 * SECOND_NS)
    assert (quotes.locked_stretches.count, quotes.locked_stretches.total_ns) == (1, SECOND_NS)
    assert (quotes.one_sided_stretches.count, quotes.one_sided_stretches.total_ns) == (1, 3 * SECOND_NS)


def test_the_longest_stretches_are_kept_and_the_first_of_equal_ones() -> None:
    parts = []
    for number in range(200):
        parts += [quote(number * 10, 2, 1), quote(number * 10 + 1 + (number % 50 == 7), 1, 2)]
    stretches = reported(*parts).quotes
    assert stretches is not None
    longest = stretches.crossed_stretches.longest
    starts = [(one.start_ns - DAY_NS) // SECOND_NS // 10 for one in longest]
    assert starts == [7, 57, 107, 157, *(number for number in range(17) if number != 7)]
    assert len(longest) == LONGEST_MAX
    assert stretches.crossed_stretches.count == 200


@pytest.mark.slow
def test_what_is_listed_is_bounded() -> None:
    one, count = gap(1, GapReason.SEQUENCE), LISTED_MAX + 500
    assert len(reported(*[one] * count).gaps.listed) == LISTED_MAX
    assert reported(*[one] * count).gaps.count == count
    status = tick(Kind.STATUS, 1, size=1)
    assert len(reported(*[status] * count).sessions.listed) == LISTED_MAX


def timed(offsets_ms: Iterable[float], step_s: float = 1.0, kind: Kind = Kind.TRADE) -> Ticks:
    """One tick each step, received so many ms after its time."""
    parts = []
    for number, ms in enumerate(offsets_ms):
        one = tick(kind, number * step_s, price=1, price2=2, size=1)
        one["ts_event_ns"] -= round(ms * MS)
        parts.append(one)
    return together(*parts)


def test_latency_of_a_recorder_that_is_behind_is_below_zero() -> None:
    (latency,) = reported(timed([-1270, -1265, -1268, -1269])).latency
    assert (latency.min_ns, latency.max_ns, latency.count) == (-1270 * MS, -1265 * MS, 4)
    assert latency.p50_ns == pytest.approx(-1269 * MS, abs=5 * MS * PRECISION)
    assert latency.resolution_ns == MS


def test_latency_needs_times_of_the_venues_own() -> None:
    report = reported(timed([0, 0, 0, 0, 5]))
    assert (report.latency, report.clock) == ([], None)
    assert {one.topic: one.finding for one in report.verdicts}["clock"] == "unknown"


@pytest.mark.slow
def test_the_clocks_drift_is_found_below_the_noise() -> None:
    random = np.random.default_rng(1)
    drift = np.arange(3600) * (36 / 3600)  # 36 ms an hour
    report = reported(timed(drift + 5 + random.exponential(20, 3600)))
    clock = report.clock
    assert clock is not None
    assert clock.drift_ns_an_hour == pytest.approx(36 * MS, abs=3 * MS)
    assert 5 * MS <= clock.offset_ns < 6 * MS


def test_slope_is_the_median_of_all_pairs() -> None:
    x = np.array([0.0, 1, 2, 3, 4])
    assert slope(x, np.array([0, 10, 20, 30, 1000])) == 10


@pytest.mark.slow
@settings(max_examples=50)
@given(st.lists(st.integers(-(10**13), 10**13), min_size=1, max_size=300), st.sampled_from([0.0, 0.5, 0.9, 0.99, 1.0]))
def test_quantiles_are_exact_to_the_declared_precision(latencies: list[int], share: float) -> None:
    histogram = np.zeros(2 * counting.HALF, np.int64)
    for one in latencies:
        histogram[counting.bucket_of(one - latencies[0])] += 1
    exact = sorted(latencies)[max(int(np.ceil(share * len(latencies))), 1) - 1]
    found = quantile_ns(histogram, latencies[0], share)
    assert abs(found - exact) <= abs(exact - latencies[0]) * PRECISION + 1


@given(st.integers(-(2**63), 2**63 - 1))
def test_every_distance_has_a_bucket_that_holds_it(distance: int) -> None:
    bucket = int(counting.bucket_of(distance))
    assert 0 <= bucket < 2 * counting.HALF
    if distance > -(2**63):
        low, high = bounds_ns(bucket)
        assert low <= distance <= high


def test_the_busiest_100_ms_are_those_of_the_clock() -> None:
    report = reported(*(trade(at, 1) for at in (0.01, 0.15, 0.18, 0.199, 0.2)))
    assert report.rates.busiest is not None
    assert (report.rates.busiest.start_ns - DAY_NS, report.rates.busiest.ticks) == (100 * MS, 3)
    assert report.rates.second_max == 5


@pytest.mark.parametrize(("seconds", "bin_s"), [(1, 1), (299, 1), (300, 2), (3600, 15), (86_399, 300)])
def test_the_timeline_has_at_most_300_bins(seconds: int, bin_s: int) -> None:
    report = reported(trade(0.5, 10), trade(seconds - 0.5, 12), quote(seconds - 0.5, 10, 11))
    line = report.timeline
    assert line is not None
    assert line.bin_ns == bin_s * SECOND_NS
    assert len(line.trades) <= 300
    assert (sum(line.trades), sum(line.quotes)) == (2, 1)
    assert line.price_low[0] == 10
    assert line.price_high[-1] == 12


def test_venues_without_numbers_leave_duplicates_open() -> None:
    report = reported(trade(1, 1, sequence=5), quote(2, 1, 2))
    assert report.duplicates.by_kind == {"trade": 0, "quote": None}
    assert report.duplicates.reason == "the venue gives its quotes no number"
    lean = reported(trade(1, 1, sequence=5), instrument="lean:X")
    assert lean.duplicates.by_kind == {"trade": None}
    assert {one.topic: one.finding for one in lean.verdicts}["duplicates"] == "unknown"


def test_snapshots_are_beside_the_order() -> None:
    ticks = together(
        level(1, Flag.LAST, sequence=10),
        level(2, Flag.SNAPSHOT | Flag.LAST, sequence=5, ts_event_ns=1),
        level(3, Flag.LAST, sequence=11),
    )
    (order,) = reported(ticks).order.by_kind
    assert (order.event_back, order.sequence_back) == (0, 0)


def test_kinds_without_a_venue_time_do_not_count_across_kinds() -> None:
    """Binance spot quotes have no time: theirs is ours, which may be seconds behind that of trades."""
    parts = []
    for number in range(5):
        parts += [quote(number, 1, 2), trade(number, 1, ts_event_ns=DAY_NS + number * SECOND_NS + 1270 * MS)]
    order = reported(*parts).order
    assert (order.event_back, [one.event_back for one in order.by_kind]) == (0, [0, 0])


@pytest.mark.parametrize("day", ["2024-8-8x", "today", "2024-13-01", ""])
def test_what_is_no_day_is_refused(day: str) -> None:
    with pytest.raises(TapelineError, match="is no day"):
        day_start_ns(day)


def test_days_are_utc() -> None:
    assert day_start_ns(DAY) == DAY_NS
    assert day_of(DAY_NS - 1) == "2025-01-01"
    assert day_of(DAY_NS) == DAY


def test_an_empty_chunk_is_no_tick() -> None:
    found = Analysis(DAY)
    found.add(empty_ticks(0))
    assert found.counts["ticks"].sum() == 0
