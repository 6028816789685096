"""Bars aligned to an exchange's sessions: whole and half days, clock changes, breaks, and what is outside."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from tapeline.agents.logic.bar_spec import BarSpec
from tapeline.agents.logic.bars import BarSeries
from tapeline.agents.logic.sessions import CalendarError, segments
from tapeline.schemas import Bars, Instrument, Snapshot
from tapeline.schemas.interval import Interval
from tests.agents.bars.ticks import SECOND_NS, START_NS, trades

HOUR_NS = 3600 * SECOND_NS


def ns(text: str) -> int:
    """Nanoseconds of a moment in UTC, such as `2013-11-29 14:30`."""
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * SECOND_NS


def text(time_ns: int) -> str:
    return datetime.fromtimestamp(int(time_ns) // SECOND_NS, UTC).strftime("%m-%d %H:%M")


def made(
    interval: str,
    moments: list[str],
    calendars: Mapping[str, str],
    session: str | None = None,
    counts: dict[str, int] | None = None,
) -> Bars:
    """Bars of trades at these moments, on instrument nyse:X."""
    spec = BarSpec(Interval.parse(interval), calendars=calendars)
    one = BarSeries(spec, lambda number: Instrument(id=number, name="nyse:X", partition=0, session=session))
    ticks = trades(*[((ns(moment) - START_NS) / SECOND_NS, 10.0, 1.0) for moment in moments])
    bars = [one.add(ticks, ns(moments[-1])).bars]
    one = BarSeries(spec, one._resolve, Snapshot.decode(one.snapshot().encode()))
    bars.append(one.add(ticks[:0], ns(moments[-1]) + 100 * HOUR_NS).bars)
    if counts is not None:
        counts.update(one.left_out)
    return np.concatenate(bars)


def spans(bars: Bars) -> list[tuple[str, str]]:
    return [(text(bar["start_ns"]), text(bar["end_ns"])) for bar in bars]


NEW_YORK = {"nyse": "XNYS"}


@pytest.mark.parametrize(
    ("day", "opens", "closes"),
    [
        ("2013-11-27", "14:30", "21:00"),
        ("2013-11-29", "14:30", "18:00"),  # after Thanksgiving: 13:00 in New York
        ("2013-03-08", "14:30", "21:00"),  # the Friday before clocks change there
        ("2013-03-11", "13:30", "20:00"),  # and the Monday after
        ("2013-11-01", "13:30", "20:00"),
        ("2013-11-04", "14:30", "21:00"),
    ],
)
def test_bars_begin_with_the_session_and_end_with_it(day: str, opens: str, closes: str) -> None:
    """Of an hour: from 09:30 to 10:30 in New York, and so on; the last is cut at the close."""
    moments = [f"{day} {hour:02}:{minute:02}" for hour in range(9, 24) for minute in (0, 29, 30, 59)]
    counts: dict[str, int] = {}
    bars = made("1h", moments, NEW_YORK, counts=counts)
    inside = [moment for moment in moments if f"{day} {opens}" <= moment < f"{day} {closes}"]
    assert bars["trades"].sum() == len(inside)
    assert counts["outside"] == len(moments) - len(inside)
    assert text(bars["start_ns"][0])[6:] == opens
    assert text(bars["end_ns"][-1])[6:] == closes
    assert (bars["start_ns"][1:] == bars["end_ns"][:-1]).all()
    assert (np.diff(bars["end_ns"] - bars["start_ns"])[:-1] == 0).all(), "all but the last last an hour"
    whole = ns(f"{day} {closes}") - ns(f"{day} {opens}")
    assert len(bars) == -(-whole // HOUR_NS)
    assert bars["number"].tolist() == [ns(day) // (24 * HOUR_NS) * 24 + one for one in range(len(bars))]


def test_a_daily_bar_is_a_session() -> None:
    moments = ["2013-11-27 20:59", "2013-11-27 21:00", "2013-11-28 16:00", "2013-11-29 14:30", "2013-11-29 17:59"]
    bars = made("1d", [*moments, "2013-11-29 18:00"], NEW_YORK)
    assert spans(bars) == [("11-27 14:30", "11-27 21:00"), ("11-29 14:30", "11-29 18:00")]
    assert bars["number"].tolist() == [ns("2013-11-27") // (24 * HOUR_NS), ns("2013-11-29") // (24 * HOUR_NS)]
    assert bars["trades"].tolist() == [1, 2]


def test_a_lunch_break_cuts_bars_but_not_the_day() -> None:
    """Tokyo, 2013: 09:00 to 11:30 and 12:30 to 15:00, which is 00:00 to 06:00 UTC."""
    moments = ["2013-10-07 02:20", "2013-10-07 02:30", "2013-10-07 03:29", "2013-10-07 03:30", "2013-10-07 05:59"]
    hours = made("1h", moments, {"nyse": "XTKS"})
    assert spans(hours) == [
        ("10-07 02:00", "10-07 02:30"),
        ("10-07 03:30", "10-07 04:30"),
        ("10-07 05:30", "10-07 06:00"),
    ]
    assert (hours["number"] - ns("2013-10-07") // (24 * HOUR_NS) * 24).tolist() == [2, 3, 5]
    assert made("1d", moments, {"nyse": "XTKS"})["trades"].tolist() == [5]


def test_counted_bars_count_what_is_in_the_session() -> None:
    moments = ["2013-11-29 14:29", "2013-11-29 14:30", "2013-11-29 18:00", "2013-12-02 14:30"]
    assert spans(made("2t", moments, NEW_YORK)) == [("11-29 14:30", "12-02 14:30")]


def test_the_instruments_own_session_goes_before_that_of_its_venue() -> None:
    moments = ["2013-10-07 09:00", "2013-10-07 14:00"]
    assert spans(made("1d", moments, NEW_YORK, session="XLON")) == [("10-07 07:00", "10-07 15:30")]
    assert spans(made("1d", moments, {})) == [("10-07 00:00", "10-08 00:00")]


def test_numbers_of_a_calendar_grow_and_name_one_bar_each() -> None:
    for name in ("XNYS", "XTKS", "CMES", "24/7"):
        for size_ns in (SECOND_NS, 7 * HOUR_NS, 24 * HOUR_NS):
            found = segments(name, size_ns)
            counts = -((found["open_ns"] - found["close_ns"]) // size_ns)
            assert (
                found["number"][1:] >= found["number"][:-1] + np.minimum(counts[:-1], 24 * HOUR_NS // size_ns)
            ).all()
            assert (found["open_ns"][1:] >= found["close_ns"][:-1]).all()


@pytest.mark.parametrize("session", ["NYSE?", "XTAE", "ASEX"])
def test_an_instrument_whose_session_cannot_be_used_is_left_out_for_good_and_the_others_go_on(
    session: str, caplog: pytest.LogCaptureFixture
) -> None:
    sessions: dict[int, str | None] = {1: "XNYS", 2: session}

    def resolve(number: int) -> Instrument:
        return Instrument(id=number, name=f"nyse:{number}", partition=0, session=sessions[number])

    moment = (ns("2013-10-07 15:00") - START_NS) / SECOND_NS
    ticks = trades((moment, 10, 1), (moment, 20, 2), instrument_id=[2, 1])
    one = BarSeries(BarSpec(Interval.parse("1h")), resolve)
    one.add(ticks, int(ticks["ts_recv_ns"][0]))
    sessions[2] = None  # as the record is by now
    again = BarSeries(one.spec, resolve, Snapshot.decode(one.snapshot().encode()))
    for other in (one, again):
        bars = other.add(ticks, int(ticks["ts_recv_ns"][0]) + 2 * HOUR_NS).bars
        assert bars[["instrument_id", "trades"]].tolist() == [(1, 2)]
        assert other.snapshot() == one.snapshot()
    [line] = caplog.messages
    assert line.startswith(f"no 1h bars of nyse:2, whose session is {session}: ")


def test_an_instrument_whose_session_cannot_be_used_any_more_ends_with_the_bars_that_it_has() -> None:
    spec = BarSpec(Interval.parse("1h"))
    one = BarSeries(spec, lambda number: Instrument(id=number, name="nyse:X", partition=0, session="XNYS"))
    ticks = trades(((ns("2013-10-07 15:00") - START_NS) / SECOND_NS, 10, 1))
    one.add(ticks, int(ticks["ts_recv_ns"][0]))
    saved = one.snapshot()
    changed = replace(saved, meta={**saved.meta, "instruments": [(1, "NYSE2")]})
    again = BarSeries(spec, one._resolve, changed)
    assert again.snapshot().meta == changed.meta
    assert again.add(ticks, int(ticks["ts_recv_ns"][0]) + 2 * HOUR_NS).bars["trades"].tolist() == [1]


def test_a_calendar_of_the_settings_that_cannot_be_used_is_an_error() -> None:
    with pytest.raises(CalendarError, match="NYSE2"):
        made("1h", ["2013-10-07 15:00"], {"nyse": "NYSE2"})


@pytest.mark.parametrize(
    ("name", "says"),
    [("NYSE2", "is no exchange calendar; .*XNYS"), ("XTAE", "cannot be used"), ("ASEX", "used: NotImpl")],
)
def test_what_is_no_calendar_is_said(name: str, says: str) -> None:
    with pytest.raises(CalendarError, match=says):
        segments(name, SECOND_NS)
