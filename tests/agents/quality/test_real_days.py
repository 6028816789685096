"""Reports of real recordings: what ../shared/data/INDEX.md says is odd in them is found, to the number."""

from pathlib import Path

import orjson
import pytest

from tapeline.agents.quality import Analysis, QualityReport, summarise
from tapeline.agents.quality.files import open_file
from tapeline.connectors.venues import Message
from tapeline.schemas import Kind, empty_ticks
from tests.agents.quality.conftest import report_of

pytestmark = pytest.mark.slow

MS, SECOND_NS = 1_000_000, 1_000_000_000


def findings(report: QualityReport) -> dict[str, str]:
    return {one.topic: one.finding for one in report.verdicts}


def test_usdm_the_recorders_clock_is_behind(usdm: QualityReport) -> None:
    assert (usdm.instrument, usdm.day, usdm.ticks) == ("binance-usdm:BTCUSDT", "2024-08-08", 532_923)
    assert {one.kind: one.events for one in usdm.kinds} == {"trade": 21_313, "quote": 66_089, "book": 6_552}
    assert [one.kind for one in usdm.latency] == ["trade", "quote", "book"]
    for one in usdm.latency:
        assert -1.273 * SECOND_NS < one.min_ns < one.p50_ns < one.max_ns < 0
        assert one.resolution_ns == MS
    assert usdm.clock is not None
    assert usdm.clock.offset_ns == pytest.approx(-1.272 * SECOND_NS, abs=MS)
    # 20 ms an hour: a crystal that is off by 5 millionths.
    assert usdm.clock.drift_ns_an_hour == pytest.approx(-20 * MS, abs=2 * MS)
    assert {topic for topic, finding in findings(usdm).items() if finding == "look"} == {"clock"}


def test_usdm_nothing_is_missing_doubled_or_late(usdm: QualityReport) -> None:
    assert (usdm.gaps.count, usdm.duplicates.count, usdm.duplicates.reason) == (0, 0, "")
    assert usdm.duplicates.by_kind == {"trade": 0, "quote": 0, "book": 0}
    assert usdm.rejected == {}
    for one in usdm.order.by_kind:
        assert (one.event_back, one.sequence_back, one.late) == (0, 0, 0)
    # Ticks have Binance's T where a message has it; between kinds it goes back more often than E does.
    assert (usdm.order.event_back, usdm.order.recv_back) == (1041, 0)


def test_spot_quotes_have_no_time_of_their_own(spot: QualityReport) -> None:
    assert [one.kind for one in spot.latency] == ["trade", "book"]
    assert spot.clock is not None
    assert spot.clock.offset_ns == pytest.approx(-1.276 * SECOND_NS, abs=MS)
    assert spot.order.event_back == 58  # T of trades against E of the book
    assert [one.event_back for one in spot.order.by_kind] == [0, 0, 0]
    assert {topic for topic, finding in findings(spot).items() if finding == "look"} == {"clock"}


@pytest.mark.parametrize(("name", "back"), [("usdm_btcusdt_20240808.gz", 855), ("spot_btcusdt_20240809.gz", 14)])
def test_binances_own_event_time_goes_back(data: Path, name: str, back: int) -> None:
    """INDEX.md counts E, the time of the event, over all messages that have one."""
    rows = []
    for item in open_file(data / "ws_raw/hftbacktest" / name).items:
        assert isinstance(item, Message)
        outer = orjson.loads(item.data)
        event = outer.get("data", outer)
        if "E" in event:
            rows.append((event["E"] * MS, item.recv_ns))
    ticks = empty_ticks(len(rows))
    ticks["kind"] = Kind.TRADE
    ticks["ts_event_ns"], ticks["ts_recv_ns"] = zip(*rows, strict=True)
    found = Analysis(_day(name))
    found.add(ticks)
    order = summarise(found, "binance:BTCUSDT", name).order
    assert order.event_back == order.by_kind[0].event_back == back


def _day(name: str) -> str:
    digits = name.removesuffix(".gz")[-8:]
    return f"{digits[:4]}-{digits[4:6]}-{digits[6:]}"


def test_spy_many_trades_share_a_millisecond(data: Path) -> None:
    report = report_of(data / "ticks_lean/equity_usa_tick_spy_20131007_trade.zip")
    (trades,) = report.order.by_kind
    assert (report.ticks, trades.event_same, trades.event_back) == (250_601, 134_439, 0)
    assert report.rates.busiest is not None
    assert report.rates.busiest.ticks == 374
    # Prices of another day's close among trades of after hours; no level of the day itself.
    assert report.outliers.count == 15
    assert {one.price for one in report.outliers.listed if one.price and one.price > 168.5} == {168.9}
    assert report.rates.quiet.longest[0].end_ns - report.rates.quiet.longest[0].start_ns == 641_882 * MS
    assert (report.latency, report.clock, report.quotes, report.stale) == ([], None, None, None)
    assert findings(report)["duplicates"] == "unknown"


def test_ibm_quotes_have_one_side(data: Path) -> None:
    files = [data / f"ticks_lean/equity_usa_tick_ibm_20131007_{what}.zip" for what in ("trade", "quote")]
    report = report_of(*files)
    assert {one.kind: one.ticks for one in report.kinds} == {"trade": 24_293, "quote": 109_063}
    assert report.left_out.other_days == 4  # after 20:00 in New York it is the next day in UTC
    assert report.quotes is not None
    assert report.quotes.one_sided == report.quotes.count
    assert report.order.recv_back == 0
    assert report.outliers.count == 11
    assert report.outliers.by_venue == 0  # its one suspicious quote is of the next day


def test_eurusd_many_quotes_are_crossed_or_locked(data: Path) -> None:
    report = report_of(data / "ticks_lean/forex_fxcm_tick_eurusd_20140508_quote.zip")
    quotes = report.quotes
    assert quotes is not None
    assert (quotes.count, quotes.crossed, quotes.locked, quotes.one_sided) == (167_466, 18_285, 19_051, 0)
    assert findings(report)["quotes"] == "look"
    assert report.outliers.count == 0
