"""The rules flag what they say they flag, drop nothing, and do not see how ticks are cut."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.agents.quality import Rules, RuleState, flagged, rules
from tapeline.agents.quality.rules import SECOND_NS, RulesError
from tapeline.schemas import TICK, Flag, Kind, Ticks, empty_ticks
from tests.agents.quality import slow
from tests.agents.quality.markets import cuts, messy, quote, tick, together, trade, trades

SEEDS = st.integers(0, 2**32)
ALL = Flag.OUTLIER | Flag.STALE | Flag.CROSSED | Flag.LOCKED | Flag.ONE_SIDED


def outliers_of(prices: list[float], **options: Any) -> list[int]:
    return np.flatnonzero(rules.outliers(trades(prices), Rules(**options)).mask).tolist()


def wave(count: int) -> list[float]:
    return [100 + 0.01 * (number % 7) for number in range(count)]


@pytest.mark.slow
@given(seed=SEEDS, cut=SEEDS)
@settings(max_examples=12)
def test_flags_are_set_and_nothing_else_is_changed(seed: int, cut: int) -> None:
    ticks = messy(seed, 600)
    before = ticks.copy()
    whole = flagged(ticks)
    assert ticks.tobytes() == before.tobytes()
    assert len(whole) == len(ticks)
    for name in TICK.names or ():
        if name != "flags":
            assert whole[name].tobytes() == ticks[name].tobytes()
    assert not (ticks["flags"] & ~whole["flags"]).any(), "a flag that was set is gone"
    assert not ((whole["flags"] ^ ticks["flags"]) & ~np.uint16(ALL)).any()
    state = RuleState(rules.DEFAULT)
    parts = [flagged(part, state=state) for part in cuts(ticks, cut)]
    assert np.concatenate(parts).tobytes() == whole.tobytes()


@pytest.mark.slow
@given(
    seed=SEEDS,
    options=st.sampled_from(
        [{}, {"outlier_window": 11, "outlier_confirm": 11}, {"outlier_confirm": 1, "outlier_share": 0.0}]
    ),
)
@settings(max_examples=12)
def test_outliers_and_stale_are_those_of_the_slow_way(seed: int, options: dict[str, Any]) -> None:
    ticks, used = messy(seed, 500), Rules(**options, stale_ns=SECOND_NS)
    found = rules.outliers(ticks, used)
    expected = slow.outliers(ticks, used)
    assert found.mask.tolist() == [one is not None for one in expected]
    for median, right in zip(found.medians.tolist(), expected, strict=True):
        assert median == pytest.approx(right) if right is not None else np.isnan(median)
    assert rules.stale(ticks, used).tolist() == slow.stale(ticks, used)


@pytest.mark.slow
@given(seed=SEEDS, cut=SEEDS)
@settings(max_examples=12)
def test_repeated_is_that_of_the_slow_way(seed: int, cut: int) -> None:
    ticks = messy(seed, 500)
    found = rules.repeated(ticks)
    assert found.tolist() == slow.repeated(ticks)
    state = RuleState(rules.DEFAULT)
    assert np.concatenate([rules.repeated(part, state) for part in cuts(ticks, cut)]).tolist() == found.tolist()


@given(seed=SEEDS)
@settings(max_examples=10)
def test_flags_of_quotes_are_the_masks(seed: int) -> None:
    ticks = messy(seed, 500)
    ticks["flags"] = 0
    found = flagged(ticks)["flags"]
    for flag, mask in (
        (Flag.CROSSED, rules.crossed(ticks)),
        (Flag.LOCKED, rules.locked(ticks)),
        (Flag.ONE_SIDED, rules.one_sided(ticks)),
    ):
        assert ((found & flag) != 0).tolist() == mask.tolist()


@pytest.mark.parametrize(
    ("bid", "ask", "flags"),
    [
        (1.0, 2.0, 0),
        (2.0, 1.0, Flag.CROSSED),
        (2.0, 2.0, Flag.LOCKED),
        (0.0, 2.0, Flag.ONE_SIDED),
        (2.0, 0.0, Flag.ONE_SIDED),
        (0.0, 0.0, Flag.ONE_SIDED),
        (-2.0, -1.0, 0),
    ],
)
def test_sides_of_a_quote(bid: float, ask: float, flags: Flag) -> None:
    assert flagged(quote(0, bid, ask))["flags"].tolist() == [flags]


@pytest.mark.parametrize("spike", [100.6, 99.5, 1000.0, 0.01, -100.0])
def test_a_spike_is_an_outlier_and_the_prices_after_it_are_none(spike: float) -> None:
    prices = wave(60)
    prices[40] = spike
    assert outliers_of(prices) == [40]


def test_a_pair_of_spikes_is_found_too() -> None:
    prices = wave(60)
    prices[40:42] = [130.0, 131.0]
    assert outliers_of(prices) == [40, 41]


@pytest.mark.parametrize(("confirm", "flags"), [(1, 1), (5, 3), (9, 5), (51, 26)])
def test_a_new_level_is_believed_after_a_while(confirm: int, flags: int) -> None:
    prices = wave(100) + [one * 1.05 for one in wave(300)]
    assert outliers_of(prices, outlier_confirm=confirm) == list(range(100, 100 + flags))


def test_a_quiet_market_does_not_make_every_step_an_outlier() -> None:
    assert outliers_of([100.0] * 60 + [100.2] + [100.0] * 20) == []
    assert outliers_of([100.0] * 60 + [100.3] + [100.0] * 20) == [60]


def test_a_coarse_price_grid_is_learnt() -> None:
    # A price of 10 steps: one step is 10%.
    prices = [10.0] * 60 + [11.0] * 10 + [10.0] * 60 + [11.0, 10.0, 12.0, 10.0, 15.0, 10.0]
    # The first step is not known as one until the new level is believed.
    assert outliers_of(prices) == [60, 61, 62, len(prices) - 2]


def test_a_wild_market_is_measured_by_its_own_spread() -> None:
    prices = [100 + 3 * (number % 5) for number in range(100)]
    assert outliers_of([*prices, 125.0]) == []
    assert outliers_of([*prices, 225.0]) == [100]


def test_what_is_not_given_is_no_price() -> None:
    prices = [0.0, float("nan"), float("inf")] * 20
    assert outliers_of(prices + wave(20) + prices) == []


def test_either_side_of_a_quote_may_be_the_outlier() -> None:
    quotes = [quote(number, 100, 100.1) for number in range(20)]
    ticks = together(*quotes, quote(20, 50, 100.1), quote(21, 100, 150), quote(22, 0, 150), quote(23, 100, 100.1))
    found = rules.outliers(ticks)
    assert found.mask.tolist() == [False] * 20 + [True] * 3 + [False]
    assert found.medians[20:23].tolist() == [100, 100.1, 100.1]


def book(at_s: float) -> Ticks:
    return tick(Kind.BOOK, at_s, price=99, size=1, side=1, flags=Flag.LAST)


@pytest.mark.parametrize(
    ("ticks", "stale"),
    [
        # A quote may stand for long if nobody trades.
        ([quote(0, 1, 2), trade(100, 1), quote(101, 1, 3), trade(150, 1)], [0, 0, 0, 0]),
        # After a trade it should have changed: trades, and quotes that say the same, find it stale.
        ([quote(0, 1, 2), trade(1, 1), trade(11, 1), trade(11.1, 1), quote(12, 1, 2)], [0, 0, 0, 1, 1]),
        ([quote(0, 1, 2), trade(1, 1), trade(12, 1), quote(13, 1, 3), trade(14, 1)], [0, 0, 1, 0, 0]),
        ([quote(0, 1, 2), trade(1, 1), quote(2, 1, 2, size=5), trade(13, 1), trade(20, 1)], [0, 0, 0, 0, 0]),
        # Likewise a book; any level of it counts.
        ([book(0), trade(1, 1), trade(12, 1), book(13), trade(14, 1)], [0, 0, 1, 0, 0]),
        # Trading that opens anew begins anew.
        ([quote(0, 1, 2), trade(1, 1), tick(Kind.STATUS, 2, size=1), trade(30, 1)], [0, 0, 0, 0]),
        # Without quotes and book there is nothing to be stale.
        ([trade(0, 1), trade(100, 1)], [0, 0]),
        # Its clock does not go back.
        ([quote(50, 1, 2), trade(50, 1), trade(0, 1), trade(61, 1)], [0, 0, 0, 1]),
    ],
)
def test_stale(ticks: list[Ticks], stale: list[int]) -> None:
    assert rules.stale(together(*ticks)).tolist() == [bool(one) for one in stale]


def test_a_repeated_update_of_the_book_counts_once_and_a_snapshot_does_not() -> None:
    level = [tick(Kind.BOOK, 0, sequence=7, price=price, size=1, side=1) for price in (10, 11, 12)]
    level[-1]["flags"] = Flag.LAST
    other = [one.copy() for one in level]
    other[0]["size"] = 2
    snapshot = [one.copy() for one in level]
    for one in snapshot:
        one["flags"] |= np.uint16(Flag.SNAPSHOT)
    ticks = together(*level, *other, *level, *snapshot, *snapshot)
    assert np.flatnonzero(rules.repeated(ticks)).tolist() == [8]


def test_a_repeated_message_is_received_later_and_still_the_same() -> None:
    first, again = trade(1, 5, sequence=3, ts_event_ns=1), trade(2, 5, sequence=3, ts_event_ns=1)
    assert rules.repeated(together(first, again)).tolist() == [False, True]
    # Without a time of the venue's the event time is the receive time.
    assert rules.repeated(together(trade(1, 5, sequence=3), trade(2, 5, sequence=3))).tolist() == [False, True]
    # Without a number nothing is said.
    assert rules.repeated(together(trade(1, 5), trade(1, 5))).tolist() == [False, False]


@pytest.mark.slow
def test_duplicates_are_found_among_the_last_65_536() -> None:
    def found(between: int) -> bool:
        ticks = empty_ticks(between + 2)
        ticks["kind"], ticks["price"] = Kind.TRADE, 1
        ticks["sequence"] = np.arange(1, between + 3)
        ticks[-1] = ticks[0]
        mask = rules.repeated(ticks)
        assert not mask[:-1].any()
        return bool(mask[-1])

    assert found(65_535)
    assert not found(65_536)


@pytest.mark.parametrize(
    "wrong",
    [
        {"outlier_window": 50},
        {"outlier_window": 9},
        {"outlier_window": 10_001},
        {"outlier_confirm": 4},
        {"outlier_confirm": 53},
        {"outlier_spreads": 0.0},
        {"outlier_spreads": float("nan")},
        {"outlier_share": 1.0},
        {"stale_ns": 0},
        {"quiet_ns": -1},
    ],
)
def test_rules_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(RulesError, match=r"needed|is above|are above|the second"):
        Rules(**wrong)
