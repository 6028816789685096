"""Minute bars of real ticks beside those that LEAN's data has of the same day: equal, or it is a rule that differs.

LEAN's minute files know more of a trade than its price and size: the conditions under which it was made, and on which
exchange. Its rules, found in the data (SPY and IBM, 2013-10-07) and stated in docs/bars.md, name every difference:

    official  a market center's official open or close repeats a print and is no trade
    silent    a trade of some conditions counts in the volume, but moves no price, unless in extended hours
    prints    of the auctions' prints only the first of the primary exchange counts; the closing one belongs to the
              minute before the close, though it is reported after it
    opening   a minute with the opening print opens with it, though trades came before
"""

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tapeline.agents.logic.bar_spec import BarSpec
from tapeline.agents.logic.bars import BarSeries
from tapeline.agents.quality.files import open_files
from tapeline.schemas import Bars, Instrument, Ticks
from tapeline.schemas.interval import Interval
from tests.system.platform import SHARED

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not SHARED.is_dir(), reason="needs the recordings in ../shared/data"),
]

MIDNIGHT_NS = 1_381_118_400 * 10**9  # 2013-10-07 00:00 -04:00
MINUTE_NS = 60 * 10**9
CLOSE = 16 * 60
"""Minute of the day."""
OFFICIAL = 0x1000000 | 0x4000000
SILENT = 0x20 | 0x40000 | 0x100000
EXTENDED, OPENING, CLOSING = 0x2000, 0x40, 0x80
"""Bits of the conditions."""

Ohlcv = tuple[int, int, int, int, int]
"""Open, high, low, close (x 10000) and volume."""


@dataclass(frozen=True)
class Day:
    """Trades of a day, with what the file says of each, and the bars that LEAN has."""

    ticks: Ticks
    conditions: np.ndarray
    exchanges: np.ndarray
    wanted: dict[int, Ohlcv]


def lines(path: Path) -> list[list[str]]:
    with zipfile.ZipFile(path) as archive, archive.open(archive.namelist()[0]) as file:
        return [line.strip().split(",") for line in io.TextIOWrapper(file)]


def day(symbol: str) -> Day:
    path = SHARED / f"ticks_lean/equity_usa_tick_{symbol}_20131007_trade.zip"
    ticks = np.concatenate(list(open_files([path]).chunks()))
    rows = lines(path)
    assert ticks["sequence"].tolist() == list(range(1, len(rows) + 1))
    bars = lines(SHARED / f"bars/lean_minute/{symbol}_20131007_trade.zip")
    wanted = {int(ms) // 60_000: tuple(int(float(value)) for value in values) for ms, *values in bars}
    conditions = np.array([int(row[4], 16) for row in rows])
    return Day(ticks, conditions, np.array([row[3] for row in rows]), wanted)  # type: ignore[arg-type]  # five each


def minutes(ticks: Ticks) -> Bars:
    """Our bars."""
    one = BarSeries(BarSpec(Interval.parse("1m")), lambda number: Instrument(id=number, name="lean:X", partition=0))
    ticks = ticks.copy()
    ticks["instrument_id"] = 1
    bars = [one.add(ticks, int(ticks["ts_recv_ns"][-1])).bars, one.finish()]
    assert not any(one.left_out.values())
    return np.concatenate(bars)


def ohlcv(bars: Bars) -> dict[int, Ohlcv]:
    """Bars as LEAN writes them, by minute of the day."""
    found = {}
    for bar in bars:
        prices = (round(float(bar[name]) * 10_000) for name in ("open", "high", "low", "close"))
        minute = (int(bar["start_ns"]) - MIDNIGHT_NS) // MINUTE_NS
        assert minute not in found, "in order of arrival no trade is late"
        found[minute] = (*prices, int(bar["volume"]))
    return found  # type: ignore[return-value]  # four prices and a volume


def ruled(one: Day, primary: str) -> tuple[dict[int, Ohlcv], set[int]]:
    """The bars by LEAN's rules, and the minutes in which a rule says anything."""
    ticks, conditions = one.ticks.copy(), one.conditions
    minute = (ticks["ts_event_ns"] - MIDNIGHT_NS) // MINUTE_NS
    official = conditions & OFFICIAL != 0
    silent = (conditions & SILENT != 0) & (conditions & EXTENDED == 0)
    prints = conditions & (OPENING | CLOSING) != 0
    first = [np.flatnonzero((one.exchanges == primary) & (conditions & kind != 0))[0] for kind in (OPENING, CLOSING)]
    opening, closing = first
    dropped = official | prints
    dropped[first] = False
    touched = {*minute[official | silent | prints].tolist(), CLOSE - 1}
    ticks["ts_event_ns"][closing] = MIDNIGHT_NS + CLOSE * MINUTE_NS - 1
    ticks["ts_recv_ns"] = ticks["ts_event_ns"]
    order = np.argsort(ticks["ts_event_ns"], kind="stable")
    ticks, kept, moving = ticks[order], ~dropped[order], ~(dropped | silent)[order]
    volumes, prices = ohlcv(minutes(ticks[kept])), ohlcv(minutes(ticks[moving]))
    found = {at: (*prices[at][:4], volume) for at, (*_, volume) in volumes.items()}
    at = int(minute[opening])
    found[at] = (round(float(one.ticks["price"][opening]) * 10_000), *found[at][1:])
    return found, touched


@pytest.mark.parametrize(("symbol", "primary", "count", "same"), [("spy", "P", 828, 696), ("ibm", "N", 453, 241)])
def test_minutes_are_those_of_lean_or_a_rule_differs(symbol: str, primary: str, count: int, same: int) -> None:
    one = day(symbol)
    ours = ohlcv(minutes(one.ticks))
    assert ours.keys() == one.wanted.keys()
    assert len(ours) == count
    by_rule, touched = ruled(one, primary)
    differ = {at for at in ours if ours[at] != one.wanted[at]}
    assert len(ours) - len(differ) == same, "are equal as they are"
    assert differ <= touched, "no difference without a rule"
    assert by_rule == one.wanted, "and with the rules all are equal"
