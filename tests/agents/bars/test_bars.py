"""Each rule of docs/bars.md on a few trades."""

from collections import Counter

import numpy as np
import pytest

from tapeline.agents.bars import cut
from tapeline.agents.bars_config import KEPT_BARS_MAX
from tapeline.agents.logic.bar_spec import BarSpec
from tapeline.agents.logic.bars import BarSeries
from tapeline.schemas import BarFlag, BarKind, Bars, Flag, GapReason, Kind, Lane, Snapshot, TickFrame, Ticks
from tapeline.schemas.frames import RECORD_BYTES_MAX
from tapeline.schemas.interval import Interval
from tapeline.streams.frame_reader import BarFrameReader
from tests.agents.bars.ticks import SECOND_NS, START_NS, resolve, trades

MINUTE_NS = 60 * SECOND_NS
FIRST_NS = START_NS // MINUTE_NS * MINUTE_NS
OFFSET = (START_NS - FIRST_NS) / SECOND_NS
"""START_NS is so many seconds after a minute begins."""


def series(interval: str = "1m", grace_ns: int = SECOND_NS, revise_bars: int = 2) -> BarSeries:
    return BarSeries(BarSpec(Interval.parse(interval), grace_ns, revise_bars), resolve)


def at(seconds: float) -> int:
    return START_NS + round((seconds - OFFSET) * SECOND_NS)


def minute(*rows: tuple[float, float, float], recv: list[float] | None = None, **fields: object) -> Ticks:
    """Trades at seconds after a minute begins."""
    moved = [(when - OFFSET, price, size) for when, price, size in rows]
    return trades(*moved, recv=None if recv is None else [one - OFFSET for one in recv], **fields)


def seen_before(one: BarSeries) -> BarSeries:
    """The instrument is known, so that no bar begins in its middle."""
    one.add(minute((-100, 1, 1), kind=Kind.QUOTE), at(-100))
    return one


def flags(bars: Bars) -> list[int]:
    return [int(flag) for flag in bars["flags"]]


def test_a_bar_of_time_sums_up_its_trades_and_closes_when_the_clock_passes_its_end_and_grace() -> None:
    made = seen_before(series())
    ticks = minute((0, 10, 1), (30, 12, 2), (59.999, 9, 4), side=[1, -1, 1])
    assert len(made.add(ticks, at(59.999)).bars) == 0
    assert len(made.add(ticks[:0], at(60.999)).bars) == 0
    [bar] = made.add(ticks[:0], at(61)).bars
    assert bar.tolist() == (
        *(FIRST_NS, FIRST_NS + MINUTE_NS, FIRST_NS // MINUTE_NS, 1, BarKind.TIME, 0, 0, 60e9),
        *(10.0, 12.0, 9.0, 9.0, 7.0, 70.0, 5.0, 3),
    )
    assert len(made.add(ticks[:0], at(600)).bars) == 0, "a minute without trades is no bar"


def test_event_time_decides_and_the_first_to_come_opens() -> None:
    made = seen_before(series())
    ticks = minute((30, 3, 1), (61, 7, 1), (10, 1, 1), (10, 2, 1), (30, 4, 1), recv=[30, 61, 61, 61, 61])
    made.add(ticks, at(61))
    [first] = made.add(ticks[:0], at(62)).bars[:1]
    assert (first["open"], first["close"], first["trades"]) == (1, 4, 4)


def test_late_trades_revise_a_bar_until_they_are_too_late() -> None:
    made = seen_before(series(revise_bars=1))
    made.add(minute((1, 10, 1)), at(1))
    [bar] = made.add(minute((90, 20, 1)), at(90)).bars
    assert (bar["revision"], bar["flags"], bar["volume"]) == (0, 0, 1)
    late = minute((2, 11, 2), (3, 12, 3), recv=[91, 91.5])
    assert len(made.add(late, at(91.5)).bars) == 0, "others may come with it"
    [bar] = made.add(late[:0], at(92)).bars
    assert (bar["revision"], bar["flags"], bar["volume"], bar["close"]) == (1, BarFlag.LATE, 6, 12)
    assert len(made.add(minute((4, 1, 1), recv=[120.9]), at(120.9)).too_late) == 0
    found = made.add(minute((5, 1, 1), recv=[121]), at(121))
    assert [bar["close"] for bar in found.bars] == [20], "the other bar; what came at 120.9 waits for its second"
    assert found.too_late.tolist() == []
    found = made.add(minute((6, 1, 1), (122, 5, 1), recv=[123, 123]), at(123))
    assert [(bar["revision"], bar["volume"]) for bar in found.bars[:1]] == [(2, 8)]
    assert found.too_late.tolist() == [0]
    assert made.left_out["too late"] == 1


def test_a_bar_that_began_before_its_instrument_was_seen_is_partial() -> None:
    made = series()
    made.add(minute((1, 10, 1), (60, 10, 1)), at(60))
    assert flags(made.add(minute(), at(200)).bars) == [BarFlag.PARTIAL, 0]


@pytest.mark.parametrize("kind", [0, Kind.TRADE])
def test_a_gap_makes_the_open_bar_and_the_next_partial(kind: int) -> None:
    made = seen_before(series())
    ticks = minute((1, 10, 1), (2, GapReason.SEQUENCE, 3), (130, 10, 1), (190, 10, 1), price2=[0, kind, 0, 0])
    ticks["kind"][1] = Kind.GAP
    bars = [made.add(ticks, at(190)).bars, made.add(ticks[:0], at(400)).bars]
    assert flags(np.concatenate(bars)) == [BarFlag.PARTIAL, BarFlag.PARTIAL, 0]


def test_a_gap_in_the_book_is_none_in_bars() -> None:
    made = seen_before(series())
    ticks = minute((1, 10, 1), (2, GapReason.SEQUENCE, 3), price2=[0, Kind.BOOK])
    ticks["kind"][1] = Kind.GAP
    made.add(ticks, at(2))
    assert flags(made.add(ticks[:0], at(70)).bars) == [0]


def test_a_gap_after_a_bar_was_said_says_it_again() -> None:
    made = seen_before(series())
    made.add(minute((1, 10, 1)), at(1))
    assert flags(made.add(minute(), at(61)).bars) == [0]
    gap = minute((65, GapReason.SILENCE, 0), kind=Kind.GAP)
    made.add(gap, at(65))
    [bar] = made.add(gap[:0], at(66)).bars
    assert (bar["flags"], bar["revision"]) == (BarFlag.PARTIAL, 1)


def test_a_late_trade_while_the_revision_of_a_gap_waits_is_late() -> None:
    made = seen_before(series(grace_ns=5 * SECOND_NS))
    made.add(minute((1, 10, 1)), at(1))
    made.add(minute((65, GapReason.SILENCE, 0), kind=Kind.GAP), at(65))
    made.add(minute((2, 11, 1), (3, 12, 1), recv=[66, 66]), at(66))
    [bar] = made.add(minute(), at(71)).bars
    assert (bar["flags"], bar["revision"], bar["trades"]) == (BarFlag.PARTIAL | BarFlag.LATE, 1, 3)


@pytest.mark.parametrize(
    ("interval", "closes"), [("2t", [(0, 20), (1, 40)]), ("3v", [(0, 20), (1, 30)]), ("50$", [(0, 20), (1, 30)])]
)
def test_counted_bars_are_complete_with_the_trade_that_reaches_their_size(
    interval: str, closes: list[tuple[int, float]]
) -> None:
    made = series(interval)
    bars = made.add(minute((9, 10, 1), (8, 20, 2), (7, 30, 4), (6, 40, 1)), at(9)).bars
    assert [(bar["number"], bar["close"]) for bar in bars] == closes
    assert (bars["start_ns"][0], bars["end_ns"][0]) == (at(9), at(8)), "in the order in which they came"
    assert not bars["flags"].any()
    assert flags(made.finish()) == [BarFlag.PARTIAL] * len(made.finish())


def test_repeats_and_what_is_flagged_count_once_or_not_and_are_counted() -> None:
    made = seen_before(series())
    rows = [(1.0, 10.0, 1.0)] * 7
    late, ticks = Flag.LATE, minute(*rows, sequence=[5, 7, 6, 6, 7, 0, 8])
    ticks["flags"] = [0, 0, late, late, late, Flag.OUTLIER, Flag.SNAPSHOT]
    made.add(ticks, at(2))
    [bar] = made.add(ticks[:0], at(100)).bars
    assert bar["volume"] == 3, "5, 7 and 6"
    assert made.left_out == {"snapshot": 1, "outlier": 1, "repeat": 2, "outside": 0, "too late": 0}


def test_a_time_that_cannot_be_is_the_receive_time() -> None:
    made = seen_before(series())
    ticks = minute((300, 10, 1), (-90_000, 11, 1), (0, 12, 1), recv=[1, 2, 3])
    ticks["ts_event_ns"][2] = 0
    made.add(ticks, at(3))
    [bar] = made.add(ticks[:0], at(100)).bars
    assert (bar["trades"], bar["start_ns"]) == (3, FIRST_NS)


def test_many_instruments_and_patterns() -> None:
    made = BarSeries(BarSpec(Interval.parse("1m"), instruments=("sim:1*",)), resolve)
    ticks = minute(*[(1 + number / 1000, number, 1.0) for number in range(3000)])
    ticks["instrument_id"] = 1 + np.arange(3000) % 1000
    made.add(ticks, at(5))
    bars = made.add(ticks[:0], at(100)).bars
    assert len(bars) == 112
    assert bars["instrument_id"].tolist() == [1, *range(10, 20), *range(100, 200), 1000]
    assert (bars["trades"] == 3).all()


def test_a_clock_that_jumps_says_every_bar_at_once_however_many() -> None:
    made = series("1s", revise_bars=100, grace_ns=200 * SECOND_NS)
    ticks = minute(*[(number, 1.0, 1.0) for number in range(150)])
    made.add(ticks, at(150))
    bars = made.add(ticks[:0], at(1000)).bars
    assert bars["number"].tolist() == list(range(FIRST_NS // SECOND_NS, FIRST_NS // SECOND_NS + 150))


def test_more_instruments_are_another_stream_so_that_readers_take_their_history() -> None:
    ticks = minute(*[(second, 10.0, 1.0) for second in range(0, 300, 10) for _ in (1, 2)])
    ticks["instrument_id"] = [1, 2] * 30
    reader, taken = BarFrameReader(), Counter[int]()
    for instruments in (["sim:1"], ["sim:1", "sim:2"]):
        spec = BarSpec(Interval.parse("1m"), instruments=instruments)
        one = BarSeries(spec, resolve)
        for offset in range(30):
            frame = TickFrame(Lane(0, 0), offset, 0, at(10 * offset), ticks[2 * offset : 2 * offset + 2])
            for _, made in cut(frame, spec.stream, one.on_record(offset, frame).bars, lambda number: 0):
                if reader.take(made):
                    taken.update(made.bars["instrument_id"].tolist())
    assert taken == {1: 8, 2: 4}
    assert BarSpec(Interval.parse("1m"), instruments=["b", "a"]).unit(3) == BarSpec(
        Interval.parse("1m"), instruments=["a", "b"]
    ).unit(3)


@pytest.mark.parametrize("is_frame", [True, False])
@pytest.mark.parametrize(("interval", "said"), [("1m", [0, BarFlag.PARTIAL, 0]), ("2t", [0, BarFlag.PARTIAL, 0])])
def test_records_that_were_removed_are_a_gap_of_every_instrument(
    interval: str, said: list[int], is_frame: bool
) -> None:
    def frame(offset: int, ticks: Ticks) -> TickFrame:
        return TickFrame(Lane(0, 0), offset, 0, int(ticks["ts_recv_ns"][-1]), ticks)

    made = seen_before(series(interval))
    first = minute((1, 10, 1), (2, 10, 1), (61, 10, 1))
    bars = [made.on_record(7, frame(7, first)).bars]
    made = BarSeries(made.spec, resolve, Snapshot.decode(made.snapshot().encode()))
    if is_frame:
        made.on_record(20, frame(20, minute((90, 0, 0), kind=Kind.QUOTE, instrument_id=2)))
    else:
        made.skip(20)
    other = minute((121, 10, 1), (122, 10, 1), (181, 10, 1), (300, 10, 1), instrument_id=[2, 2, 2, 2])
    for ticks in (minute((91, 11, 1), (122, 11, 1), (122, 11, 1)), other):
        bars.append(made.on_record(made.next_offset, frame(made.next_offset, ticks)).bars)
    every = np.concatenate(bars)
    assert flags(every[every["instrument_id"] == 1])[:3] == said
    whole = flags(every[every["instrument_id"] == 2])
    assert whole[-1] == 0, "it was not there before"


def test_so_many_bars_as_the_settings_allow_fit_a_snapshot_of_thousands_of_instruments() -> None:
    """200 instruments are measured, for 3,000."""
    random, count = np.random.default_rng(1), 200
    made = BarSeries(BarSpec(Interval.parse("1s"), grace_ns=0, revise_bars=KEPT_BARS_MAX), resolve)
    ticks = minute(*[(0.0, 1.0, 1.0)] * 3 * count, side=random.choice([-1, 1], 3 * count))
    ticks["instrument_id"] = np.arange(3 * count) // 3 + 3_000_000_000
    prices = random.uniform(1, 1000, 3 * count)
    for second in range(KEPT_BARS_MAX + 2):
        prices += random.normal(0, 0.05, 3 * count)
        ticks["price"], ticks["size"] = prices.round(2), random.exponential(1, 3 * count).round(5)
        ticks["ts_event_ns"] = at(second) + np.sort(random.integers(0, 1_000_000, 3 * count)) * 1000
        ticks["ts_recv_ns"] = ticks["ts_event_ns"] + 1_000_000
        made.add(ticks, int(ticks["ts_recv_ns"][-1]))
    saved = made.snapshot()
    assert len(saved.encode()) * 3000 / count < RECORD_BYTES_MAX
    assert BarSeries(made.spec, resolve, saved).snapshot() == saved
