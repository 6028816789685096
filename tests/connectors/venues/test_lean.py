"""LEAN's tick files: real ones, counted the slow way here, and tables of lines and names."""

import csv
import io
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from tapeline.connectors.venues import Parsed, RecordingError, parse_frame
from tapeline.connectors.venues.lean_recording import open_recording
from tapeline.schemas import Flag, Kind, RawFrame, RejectReason
from tests.connectors.venues.conftest import Read, read

NEW_YORK = ZoneInfo("America/New_York")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TRADE = "lean/equity-usa/spy/20131007/trade"
QUOTE = "lean/equity-usa/spy/20131007/quote"
FOREX = "lean/forex-fxcm/eurusd/20140508/quote"


def slow_ns(midnight: datetime, ms: int) -> int:
    """Wall-clock time in a zone to ns since 1970, by datetime alone."""
    wall = midnight + timedelta(milliseconds=ms)  # aware arithmetic is on the wall clock
    return (wall.astimezone(UTC) - EPOCH) // timedelta(microseconds=1) * 1000


def slow_rows(whole: Read) -> list[list[str]]:
    text = b"\n".join(message.data for message in whole.messages).decode()
    return list(csv.reader(io.StringIO(text)))


@pytest.mark.slow
def test_spy_trades_are_all_there(spy: Read) -> None:
    rows = slow_rows(spy)
    midnight = datetime(2013, 10, 7, tzinfo=NEW_YORK)
    assert len(rows) == len(spy.ticks) == 250_601
    assert spy.names == ("lean:SPY",)
    assert not spy.rejects
    ticks = spy.ticks
    assert ticks["sequence"].tolist() == list(range(1, len(rows) + 1))
    assert ticks["price"].tolist() == [int(row[1]) / 10_000 for row in rows]
    assert ticks["size"].tolist() == [float(row[2]) for row in rows]
    assert ticks["ts_event_ns"][::97].tolist() == [slow_ns(midnight, int(row[0])) for row in rows[::97]]
    assert ticks["ts_recv_ns"].tolist() == list(accumulate(ticks["ts_event_ns"].tolist(), max))
    assert set(ticks["kind"].tolist()) == {Kind.TRADE}
    assert not ticks["side"].any()


@pytest.mark.slow
def test_eurusd_quotes_are_kept_and_flagged(eurusd: Read) -> None:
    rows = slow_rows(eurusd)
    assert len(rows) == len(eurusd.ticks) == 167_466
    flags = eurusd.ticks["flags"]
    assert (flags & Flag.CROSSED != 0).sum() == 18_285
    assert (flags & Flag.LOCKED != 0).sum() == 19_051
    assert (flags != 0).sum() == 18_285 + 19_051
    assert eurusd.ticks["price"].tolist() == [float(row[1]) for row in rows]
    assert eurusd.ticks["price2"].tolist() == [float(row[2]) for row in rows]
    assert not eurusd.ticks["size"].any()
    midnight = datetime(2014, 5, 8, tzinfo=UTC)
    assert eurusd.ticks["ts_event_ns"][::97].tolist() == [slow_ns(midnight, int(row[0])) for row in rows[::97]]


@pytest.mark.slow
def test_ibm_quotes_are_one_sided(data: Path) -> None:
    whole = read(open_recording(data / "ticks_lean/equity_usa_tick_ibm_20131007_quote.zip"))
    rows = slow_rows(whole)
    assert len(rows) == len(whole.ticks) == 109_067
    one_sided = [row[1] == "0" or row[3] == "0" for row in rows]
    assert (whole.ticks["flags"] & Flag.ONE_SIDED != 0).tolist() == one_sided
    assert (whole.ticks["flags"] & Flag.OUTLIER != 0).tolist() == [row[7] == "1" for row in rows]
    for field, column, scale in (("price", 1, 10_000), ("size", 2, 1), ("price2", 3, 10_000), ("size2", 4, 1)):
        assert whole.ticks[field].tolist() == [int(row[column]) / scale for row in rows]
    trades = read(open_recording(data / "ticks_lean/equity_usa_tick_ibm_20131007_trade.zip"))
    assert (len(trades.ticks), len(trades.rejects)) == (24_293, 0)


def parse(source: str, *lines: bytes, first: int = 0) -> Parsed:
    return parse_frame(RawFrame.build(source, first, [1] * len(lines), lines), {})


def test_a_line_of_each_kind() -> None:
    (trade,) = parse(TRADE, b"14400464,1674100,100,P,20002000,1", first=41).ticks
    assert (trade["kind"], trade["price"], trade["size"], trade["sequence"]) == (Kind.TRADE, 167.41, 100, 42)
    assert trade["flags"] == Flag.OUTLIER
    (quote,) = parse(QUOTE, b"14400241,1800100,300,1818000,0,P,1,0\r").ticks
    assert [quote[field] for field in ("kind", "price", "size", "price2", "size2")] == [
        Kind.QUOTE,
        180.01,
        300,
        181.8,
        0,
    ]
    (quote,) = parse(FOREX, b"17007,1.39147,1.39148\r").ticks
    assert [quote[field] for field in ("kind", "price", "size", "price2", "size2")] == [
        Kind.QUOTE,
        1.39147,
        0,
        1.39148,
        0,
    ]


@pytest.mark.parametrize("date", ["20131007", "20130310", "20131103", "20240115"])
def test_times_are_right_on_days_when_clocks_change(date: str) -> None:
    midnight = datetime.strptime(date, "%Y%m%d").replace(tzinfo=NEW_YORK)
    hours = [hour for hour in range(24) if date != "20130310" or hour != 2]  # an hour that did not exist
    lines = [b"%d,1,1,P,0,0" % (hour * 3_600_000 + 1_234_567) for hour in hours]
    ticks = parse(f"lean/equity-usa/spy/{date}/trade", *lines).ticks
    expected = [slow_ns(midnight, int(line.split(b",")[0])) for line in lines]
    assert ticks["ts_event_ns"].tolist() == expected


@pytest.mark.parametrize(
    ("source", "line"),
    [
        (TRADE, b""),
        (TRADE, b"14400464,1674100,100,P,20002000"),
        (TRADE, b"14400464,1674100,100,P,20002000,0,0"),
        (TRADE, b"86400000,1674100,100,P,20002000,0"),
        (TRADE, b"-1,1674100,100,P,20002000,0"),
        (TRADE, b"1.5,1674100,100,P,20002000,0"),
        (TRADE, b"1_0,1674100,100,P,20002000,0"),
        (TRADE, b" 1,1674100,100,P,20002000,0"),
        (TRADE, b"1,0,100,P,20002000,0"),
        (TRADE, b"1,-5,100,P,20002000,0"),
        (TRADE, b"1,1674100.5,100,P,20002000,0"),
        (TRADE, b"1,9999999999999999,100,P,20002000,0"),
        (TRADE, b"1,1674100,,P,20002000,0"),
        (TRADE, b"1,1674100,100,P,20002000,2"),
        (TRADE, b"1,1674100,100,P,20002000,"),
        (TRADE, b"1,1674100,100,\xff,20002000,0"),
        (QUOTE, b"1,1,1,1,x,P,1,0"),
        (FOREX, b"1,1.3,NaN"),
        (FOREX, b"1,1.3,"),
        (FOREX, b"1,1.3,-1.4"),
        (FOREX, "1,1.3,１.4".encode()),
    ],
)
def test_a_wrong_line_is_one_reject_and_the_rest_goes_on(source: str, line: bytes) -> None:
    good = {TRADE: b"5,1,1,P,0,0", QUOTE: b"5,1,1,1,1,P,0,0", FOREX: b"5,1,2"}[source]
    parsed = parse(source, good, line, good)
    assert [(reject.index, reject.reason) for reject in parsed.rejects] == [(1, RejectReason.MALFORMED)]
    assert parsed.ticks["sequence"].tolist() == [1, 3]


@pytest.mark.parametrize(
    "connection", ["", "x", "equity-usa/spy/20131007", "equity-usa/spy/20131007/quotes", "a/b/c/d"]
)
def test_a_source_that_says_nothing_rejects_each_line(connection: str) -> None:
    parsed = parse(f"lean/{connection}", b"5,1,1,P,0,0", b"x")
    assert [reject.reason for reject in parsed.rejects] == [RejectReason.UNKNOWN] * 2


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("equity_usa_tick_spy_20131007_trade.zip", TRADE),
        ("equity_usa_tick_spy_20131007_quote.csv", QUOTE),
        ("Data/equity/usa/tick/spy/20131007_trade.zip", TRADE),
        ("forex_fxcm_tick_eurusd_20140508_quote.zip", FOREX),
        ("forex/oanda/tick/eurusd/20140508_quote.zip", "lean/forex-oanda/eurusd/20140508/quote"),
    ],
)
def test_the_name_says_what_a_file_holds(tmp_path: Path, name: str, source: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("5,1,1\n")
    assert open_recording(path).source == source


@pytest.mark.parametrize(
    ("name", "connection", "says"),
    [
        ("ticks.zip", None, "equity_usa_tick_spy_20131007_trade.zip"),
        ("equity_usa_minute_spy_20131007_trade.zip", None, "--as"),
        ("equity_usa_tick_spy_20131399_trade.zip", None, "is no date"),
        ("crypto_gdax_tick_btcusd_20131007_trade.zip", None, "crypto-gdax trade is not read here"),
        ("forex_fxcm_tick_eurusd_20131007_trade.zip", None, "forex-fxcm trade is not read here"),
        ("ticks.zip", "equity-usa/spy/2013107/trade", "'2013107' .* is no date"),
        ("ticks.zip", "equity-usa/spy", "such as equity-usa/spy/20131007/trade"),
        ("equity_usa_tick_spy_20131007_trade.zip", None, "cannot read"),
    ],
)
def test_what_the_name_does_not_say_is_an_error_that_helps(
    tmp_path: Path, name: str, connection: str | None, says: str
) -> None:
    with pytest.raises(RecordingError, match=says):
        open_recording(tmp_path / name, connection)


def test_options_say_what_the_name_does_not(tmp_path: Path) -> None:
    path = tmp_path / "ticks.csv"
    path.write_text("50000,2,1,P,0,0\nnonsense\n40000,1,1,P,0,0\n60000,1,1,P,0,0\n")
    whole = read(open_recording(path, "equity-usa/spy/20131007/trade"))
    midnight_ns = slow_ns(datetime(2013, 10, 7, tzinfo=NEW_YORK), 0)
    times = [message.recv_ns - midnight_ns for message in whole.messages]
    assert times == [50_000_000_000, 50_000_000_000, 50_000_000_000, 60_000_000_000]
    assert whole.ticks["sequence"].tolist() == [1, 3, 4]
    assert [reject.index for reject in whole.rejects] == [1]
