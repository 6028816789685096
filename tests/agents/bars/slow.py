"""Bars the slow way: every bar keeps its trades and is summed up anew when it is said. The rules of docs/bars.md."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tapeline.agents.logic.bar_spec import BarSpec
from tapeline.schemas import BAR, BarFlag, BarKind, Bars, Flag, Kind, Ticks

DAY_NS = 86_400 * 10**9
AHEAD_NS = 10 * 10**9


@dataclass
class Numbers:
    """The trade numbers of an instrument that came."""

    highest: int = 0
    seen: set[int] = field(default_factory=set)

    def is_repeat(self, number: int, late: bool) -> bool:
        if not number:
            return False
        if not late:
            if not 0 < number - self.highest < 64:
                self.seen.clear()
            self.highest = number
        elif not 0 <= self.highest - number < 64 or number in self.seen:
            return True
        self.seen.add(number)
        return False


@dataclass
class Bar:
    start_ns: int
    end_ns: int
    number: int
    due_ns: int | None
    flags: int = 0
    revision: int = 0
    trades: list[tuple[int, int, Any]] = field(default_factory=list)
    """(event time, order of arrival, tick)"""

    def sum_up(self, spec: BarSpec) -> Any:
        bar = np.zeros(1, BAR)[0]
        came = [tick for _, _, tick in self.trades]
        ordered = came
        if spec.interval.kind is BarKind.TIME:
            ordered = [tick for *_, tick in sorted(self.trades, key=lambda one: one[:2])]
        prices = [float(tick["price"]) for tick in came]
        bar["start_ns"], bar["end_ns"], bar["number"] = self.start_ns, self.end_ns, self.number
        bar["instrument_id"], bar["kind"] = came[0]["instrument_id"], spec.interval.kind
        bar["size"], bar["flags"], bar["revision"] = spec.interval.size, self.flags, self.revision
        bar["open"], bar["close"] = ordered[0]["price"], ordered[-1]["price"]
        bar["high"], bar["low"] = max(prices), min(prices)
        for tick in came:
            bar["volume"] += tick["size"]
            bar["notional"] += tick["price"] * tick["size"]
            bar["buy_volume"] += tick["size"] if tick["side"] > 0 else 0
        bar["trades"] = len(came)
        return bar


@dataclass
class Instrument:
    since_ns: int
    numbers: Numbers = field(default_factory=Numbers)
    bars: dict[int, Bar] = field(default_factory=dict)
    gap: bool = False
    next_number: int = 0


class SlowBars:
    """All bars of one interval, without calendars."""

    def __init__(self, spec: BarSpec) -> None:
        self.spec = spec
        self.clock = -(2**63)
        self.instruments: dict[int, Instrument] = {}
        self.said: list[Any] = []
        self.left_out = dict.fromkeys(("snapshot", "outlier", "repeat", "outside", "too late"), 0)
        self.too_late: list[int] = []
        self.taken = 0

    def add(self, ticks: Ticks, time_ns: int) -> None:
        for tick in ticks:
            self.advance(min(int(tick["ts_recv_ns"]), time_ns))
            if tick["instrument_id"]:
                self.take(tick)
            self.taken += 1
        self.advance(time_ns)

    def advance(self, now_ns: int) -> None:
        if now_ns <= self.clock:
            return
        self.clock = now_ns
        for one in self.instruments.values():
            for bar in sorted(one.bars.values(), key=lambda bar: bar.start_ns):
                if bar.due_ns is not None and bar.due_ns <= self.clock and self.spec.interval.kind is BarKind.TIME:
                    self.say(bar)
                    bar.due_ns = None
                    bar.revision += 1

    def say(self, bar: Bar) -> None:
        self.said.append(bar.sum_up(self.spec))

    def take(self, tick: Any) -> None:
        one = self.instruments.setdefault(int(tick["instrument_id"]), Instrument(self.clock))
        if tick["kind"] == Kind.GAP and tick["price2"] in (0, Kind.TRADE):
            one.gap = True
            self.mark(one)
        if tick["kind"] != Kind.TRADE:
            return
        flags = int(tick["flags"])
        late = bool(flags & Flag.LATE)
        if flags & Flag.SNAPSHOT:
            self.left_out["snapshot"] += 1
        elif flags & Flag.OUTLIER:
            self.left_out["outlier"] += 1
        elif one.numbers.is_repeat(int(tick["sequence"]), late):
            self.left_out["repeat"] += 1
        elif (bar := self.bar_of(one, tick)) is None:
            self.left_out["too late"] += 1
            self.too_late.append(self.taken)
        else:
            if one.gap and bar.start_ns == max(other.start_ns for other in one.bars.values()):
                bar.flags |= BarFlag.PARTIAL
                one.gap = False
            bar.trades.append((self.time_of(tick), self.taken, tick))
            if self.spec.interval.kind is not BarKind.TIME:
                bar.end_ns = self.time_of(tick)
                if self.reached(bar):
                    self.say(bar)
                    one.bars.clear()

    def mark(self, one: Instrument) -> None:
        newest = max(one.bars.values(), key=lambda bar: bar.start_ns, default=None)
        for bar in one.bars.values():
            if bar.flags & BarFlag.PARTIAL:
                continue
            if bar.due_ns is None and bar is newest and bar.end_ns + self.spec.kept_ns > self.clock:
                bar.due_ns = self.clock + self.spec.grace_ns
            if bar.due_ns is not None:
                bar.flags |= BarFlag.PARTIAL

    def time_of(self, tick: Any) -> int:
        event_ns, recv_ns = int(tick["ts_event_ns"]), int(tick["ts_recv_ns"])
        return event_ns if -DAY_NS <= event_ns - recv_ns <= AHEAD_NS else recv_ns

    def reached(self, bar: Bar) -> bool:
        summed = bar.sum_up(self.spec)
        name = {BarKind.TICK: "trades", BarKind.VOLUME: "volume", BarKind.DOLLAR: "notional"}[self.spec.interval.kind]
        return bool(summed[name] >= self.spec.interval.size)

    def bar_of(self, one: Instrument, tick: Any) -> Bar | None:
        spec, time_ns = self.spec, self.time_of(tick)
        if spec.interval.kind is not BarKind.TIME:
            if not one.bars:
                one.bars[0] = Bar(time_ns, time_ns, one.next_number, 0)
                one.next_number += 1
            return one.bars[0]
        size_ns = int(spec.interval.size)
        number = time_ns // size_ns
        start_ns, end_ns = number * size_ns, (number + 1) * size_ns
        bar = one.bars.get(number)
        if end_ns + spec.kept_ns <= self.clock and (bar is None or bar.due_ns is None):
            return None
        if bar is None:
            bar = one.bars[number] = Bar(start_ns, end_ns, number, end_ns + spec.grace_ns)
            if start_ns < one.since_ns:
                bar.flags |= BarFlag.PARTIAL
            if end_ns + spec.grace_ns <= self.clock:
                bar.due_ns = self.clock + spec.grace_ns
                bar.flags |= BarFlag.LATE
        elif bar.revision:
            if bar.due_ns is None:
                bar.due_ns = self.clock + spec.grace_ns
            bar.flags |= BarFlag.LATE
        return bar

    @property
    def bars(self) -> Bars:
        return np.array(self.said, BAR) if self.said else np.zeros(0, BAR)
