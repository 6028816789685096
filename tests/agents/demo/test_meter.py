import numpy as np
import pytest

from tapeline.agents.demo.meter import HISTORY_SECONDS, Counter, Flow, Lag, Meter
from tapeline.schemas import Kind, Lane, Signal, SignalOrigin, TickFrame, empty_ticks
from tests.connectors.stores.examples import make_signal

NOW = 1_800_000_000_000.0
"""ms"""


def frame(origin_offset: int, *kinds: Kind, price: float = 100.0) -> TickFrame:
    ticks = empty_ticks(len(kinds))
    ticks["kind"] = kinds
    ticks["price"] = price
    ticks["instrument_id"] = 7
    return TickFrame(Lane(0, 1), origin_offset, 0, 1, ticks)


def signal(origin_offset: int) -> Signal:
    return make_signal(origin=SignalOrigin(partition=0, offset=origin_offset, index=0))


def test_a_rate_is_over_the_last_seconds() -> None:
    counter = Counter()
    for tenth in range(100):
        counter.add(20, tenth / 10)
    assert counter.flow(10.0).total == 2000
    assert counter.flow(10.0).rate == pytest.approx(200, rel=0.04)
    assert counter.flow(11.0).rate == pytest.approx(200 * 2 / 3, rel=0.04)
    assert counter.flow(20.0) == Flow(2000, 0.0)


def test_a_rate_is_right_from_the_first_seconds_on() -> None:
    counter = Counter()
    assert counter.flow(5.0) == Flow(0, 0.0)
    for tenth in range(20):
        counter.add(10, 5 + tenth / 10)
    assert counter.flow(7.0).rate == pytest.approx(100, rel=0.05)


def test_a_lag_is_the_median_of_the_last_delays() -> None:
    lag = Lag(patience_ms=1000)
    assert lag.value_ms(NOW) is None
    for delay in (4, 5, 900):
        lag.delay(delay, NOW)
    assert lag.value_ms(NOW + 100) == 5
    assert lag.value_ms(NOW + 60_000) == 5, "nothing comes and nothing waits: as it was"


def test_a_role_that_stands_still_is_as_late_as_what_it_has_not_passed() -> None:
    lag = Lag(patience_ms=1000)
    lag.delay(5, NOW)
    for offset in range(10):
        lag.came(0, offset, NOW + offset * 100)
    lag.came(1, 3, NOW + 50)
    assert lag.value_ms(NOW + 900) == 5
    assert lag.value_ms(NOW + 8000) == 8000
    lag.passed(0, 8)
    assert lag.value_ms(NOW + 8000) == 7950
    lag.passed(1, 4)
    assert lag.value_ms(NOW + 8000) == 7200
    lag.passed(0, 10)
    assert lag.value_ms(NOW + 8000) == 5


def test_delays_are_those_since_the_markets_record() -> None:
    meter = Meter(snapshot_seconds=2)
    for offset in range(3):
        meter.take_raw(0, offset, NOW + offset, 25, NOW)
        meter.take_ticks(1, offset, NOW + offset + 4, frame(offset, Kind.TRADE, Kind.QUOTE, Kind.TIME, Kind.GAP), NOW)
    meter.take_signal(2, 0, NOW + 9, signal(1), NOW)
    meter.take_signal(2, 1, NOW + 9, signal(2), NOW)
    meter.kept(2, 2, NOW + 22, NOW + 100)
    meter.count_kept(2, NOW + 100)
    reading = meter.reading(NOW + 100)
    assert reading.lags_ms == {"normalize": 4, "logic": 7.5, "persist": 20}
    assert [flow.total for flow in (reading.messages, reading.ticks, reading.signals, reading.stored)] == [75, 9, 2, 2]
    assert reading.gaps == 3
    meter.kept(2, 2, NOW + 22, NOW + 60_000)
    assert meter.reading(NOW + 60_000).lags_ms["persist"] == 20, "the same offset again is no new delay"


def test_what_each_role_has_not_passed_shows() -> None:
    meter = Meter(snapshot_seconds=2)
    meter.take_raw(0, 0, NOW, 1, NOW)
    assert meter.reading(NOW + 5000).lags_ms == {"normalize": 5000, "logic": None, "persist": None}
    meter.take_ticks(1, 0, NOW + 4000, frame(0, Kind.QUOTE), NOW + 4000)
    assert meter.reading(NOW + 6000).lags_ms["logic"] is None, "it may only not have committed yet"
    assert meter.reading(NOW + 9000).lags_ms["logic"] == 5000
    meter.passed_by_logic(1, 1)
    assert meter.reading(NOW + 9000).lags_ms["logic"] is None
    meter.take_signal(0, 0, NOW + 4000, signal(0), NOW + 4000)
    assert meter.reading(NOW + 9000).lags_ms["persist"] == 5000


def test_prices_are_those_of_trades_second_by_second() -> None:
    meter = Meter(snapshot_seconds=2)
    meter.names[7] = "sim:ABC"
    for second, price in enumerate([100.0, 102.0, 101.0]):
        meter.take_ticks(1, second, NOW, frame(second, Kind.TRADE, price=price), NOW + second * 1000)
        meter.take_ticks(1, second, NOW, frame(second, Kind.QUOTE, price=1.0), NOW + second * 1000)
        meter.reading(NOW + second * 1000)
        meter.reading(NOW + second * 1000 + 500)
    (price_of,) = meter.reading(NOW + 2900).prices
    assert (price_of.name, price_of.first, price_of.last) == ("sim:ABC", 100.0, 101.0)
    assert price_of.history == (100.0, 102.0, 101.0)
    assert len(meter.reading(NOW + 2900).ticks_history) == 3


def test_history_and_memory_are_bounded() -> None:
    meter = Meter(snapshot_seconds=2)
    for second in range(HISTORY_SECONDS * 2):
        meter.reading(NOW + second * 1000)
    assert len(meter.reading(NOW).ticks_history) == HISTORY_SECONDS
    assert np.isfinite(meter.reading(NOW).ticks_history).all()
