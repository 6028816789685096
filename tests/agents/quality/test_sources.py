"""Sources: files as one stream in order of arrival, and errors that say what there is."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.agents.quality.files import RecordingSource, open_file, open_files
from tapeline.agents.quality.merging import merged
from tapeline.agents.quality.sources import NotFoundError, batched, unknown
from tapeline.connectors.venues import RecordingError
from tapeline.connectors.venues.sim_market import MarketOptions, open_market
from tapeline.schemas import Ticks, empty_ticks
from tests.agents.quality.markets import cuts

SEEDS = st.integers(0, 2**32)
Times = st.lists(st.integers(0, 20), max_size=30)


def stream(times: list[int], number: int) -> Ticks:
    ticks = empty_ticks(len(times))
    ticks["ts_recv_ns"] = times
    ticks["sequence"], ticks["side"] = np.arange(len(times)), number
    return ticks


def pieces(ticks: Ticks, seed: int) -> Iterator[Ticks]:
    return (piece for piece in cuts(ticks, seed) if len(piece))


@pytest.mark.slow
@given(st.lists(Times, min_size=1, max_size=4), SEEDS)
@settings(max_examples=80)
def test_merged_streams_are_in_order_of_arrival_however_they_are_cut(times: list[list[int]], seed: int) -> None:
    streams = [stream(one, number) for number, one in enumerate(times)]
    parts = list(merged([pieces(one, seed + number) for number, one in enumerate(streams)]))
    ticks = np.concatenate([empty_ticks(0), *parts])
    clocks = [np.maximum.accumulate(one["ts_recv_ns"]) for one in streams]
    order = np.argsort(np.concatenate(clocks), kind="stable")
    assert ticks.tobytes() == np.concatenate(streams)[order].tobytes()


@given(Times, SEEDS, st.integers(1, 10))
def test_batches_are_the_same_ticks(times: list[int], seed: int, least: int) -> None:
    ticks = stream(times, 0)
    parts = list(batched(pieces(ticks, seed), least))
    assert np.concatenate([empty_ticks(0), *parts]).tobytes() == ticks.tobytes()
    assert all(len(part) >= least for part in parts[:-1])


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("binance:BTCUSD", "did you mean binance:BTCUSDT or binance-usdm:BTCUSDT?"),
        ("BTCUSDT", "did you mean binance:BTCUSDT or binance-usdm:BTCUSDT?"),
        ("Binance:btcusdt", "did you mean binance:BTCUSDT or binance-usdm:BTCUSDT?"),
        ("nasdaq:AAPL", "it has binance-usdm:BTCUSDT, binance:BTCUSDT, kraken:XBT/USD"),
    ],
)
def test_an_unknown_name_is_answered_with_close_ones(asked: str, said: str) -> None:
    error = unknown(asked, ["binance:BTCUSDT", "binance-usdm:BTCUSDT", "kraken:XBT/USD"], "topic instruments")
    assert str(error) == f"topic instruments has no instrument {asked!r}; {said}".replace("; it has", ": it has")


def test_of_many_names_some_are_listed() -> None:
    text = str(unknown("a:B", [f"zzz:{number:04d}" for number in range(5000)], "topic instruments"))
    assert text.endswith("zzz:0009 and 4,990 more")
    assert str(unknown("a:B", [], "topic instruments")).endswith("it has none yet")


def test_a_recording_of_several_instruments_wants_a_name() -> None:
    market = MarketOptions(seconds=2, instruments=3)
    with pytest.raises(NotFoundError, match="several instruments: name one of sim:SIM001, sim:SIM002"):
        list(RecordingSource([open_market(market)]).chunks())
    with pytest.raises(NotFoundError, match="did you mean sim:SIM001"):
        list(RecordingSource([open_market(market)], "sim:SIM01").chunks())
    chunks = list(RecordingSource([open_market(market)], "sim:SIM002").chunks())
    assert set(np.concatenate(chunks)["instrument_id"].tolist()) == {0}


def test_what_is_no_recording_says_why(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"cannot read .*gone\.gz: there is no such file"):
        open_file(tmp_path / "gone.gz")
    (tmp_path / "letter.txt").write_text("Dear reader,\n")
    with pytest.raises(RecordingError, match=r"as a LEAN tick file: .*as a Binance recording: .*--market"):
        open_file(tmp_path / "letter.txt")


def test_a_file_without_ticks_is_said(tmp_path: Path) -> None:
    path = tmp_path / "equity_usa_tick_spy_20131007_trade.csv"
    path.write_text("nonsense\n")
    source = open_files([path])
    with pytest.raises(NotFoundError, match=r"spy_20131007_trade\.csv has no ticks"):
        list(source.chunks())
    assert source.rejected == {"malformed": 1}
