"""Count what passes through the topics, and how far each role is behind. Pure: `watch.py` feeds it, `view.py` draws it.

A role's lag is how long after the market's record was in `raw` its own output was in its place, as the records'
times say. A role that stands still has no output: then it is the age of the oldest record that it has not passed.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from tapeline.schemas import Kind, Signal, TickFrame
from tapeline.streams.up import ROLES

RATE_SECONDS = 3.0
HISTORY_SECONDS = 240
REMEMBERED = 50_000
"""So many raw records are remembered for their times."""


@dataclass(frozen=True, slots=True)
class Flow:
    """Something that is counted: how many so far, and how many a second now."""

    total: int
    rate: float


@dataclass(frozen=True, slots=True)
class Price:
    """An instrument: trade prices at the start, now, and second by second."""

    name: str
    first: float
    last: float
    history: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Reading:
    """Everything there is to see at one moment. lags_ms: by role, None while nothing is known."""

    messages: Flow = Flow(0, 0.0)
    ticks: Flow = Flow(0, 0.0)
    signals: Flow = Flow(0, 0.0)
    stored: Flow = Flow(0, 0.0)
    rejected: int = 0
    gaps: int = 0
    lags_ms: dict[str, float | None] = field(default_factory=lambda: dict.fromkeys(ROLES))
    ticks_history: tuple[float, ...] = ()
    prices: tuple[Price, ...] = ()
    latest: tuple[Signal, ...] = ()
    """Newest first, as the database has them."""
    trouble: str = ""
    """Why something cannot be seen."""


class Counter:
    """A total and its rate over the last RATE_SECONDS."""

    def __init__(self) -> None:
        self.total = 0
        self._seen: deque[tuple[float, int]] = deque()  # (time, total before)
        self._start: float | None = None

    def add(self, count: int, now: float) -> None:
        """Count some more."""
        if count:
            self._start = now if self._start is None else self._start
            self._seen.append((now, self.total))
            self.total += count

    def flow(self, now: float) -> Flow:
        """Return total and rate; in the first seconds the rate is over the time since the first."""
        while self._seen and self._seen[0][0] < now - RATE_SECONDS:
            self._seen.popleft()
        if not self._seen or self._start is None:
            return Flow(self.total, 0.0)
        return Flow(self.total, (self.total - self._seen[0][1]) / max(1.0, min(RATE_SECONDS, now - self._start)))


class Lag:
    """How far a role is behind. patience_ms: how old an unpassed record may be before it counts as standing still."""

    def __init__(self, patience_ms: float) -> None:
        self._patience_ms = patience_ms
        self._delays: deque[tuple[float, float]] = deque()
        self._last: float | None = None
        self._waiting: dict[int, deque[tuple[int, float]]] = {}

    def came(self, partition: int, offset: int, at_ms: float) -> None:
        """A record of the role's input is in its place."""
        self._waiting.setdefault(partition, deque()).append((offset, at_ms))

    def passed(self, partition: int, next_offset: int) -> None:
        """The role has passed everything before next_offset."""
        waiting = self._waiting.get(partition)
        while waiting and waiting[0][0] < next_offset:
            waiting.popleft()

    def delay(self, delay_ms: float, now_ms: float) -> None:
        """An output came so long after its cause."""
        self._delays.append((now_ms, max(0.0, delay_ms)))

    def value_ms(self, now_ms: float) -> float | None:
        """Return the lag; None while nothing is known."""
        while self._delays and self._delays[0][0] < now_ms - RATE_SECONDS * 1000:
            self._delays.popleft()
        if self._delays:
            self._last = median(delay for _, delay in self._delays)
        oldest = min((waiting[0][1] for waiting in self._waiting.values() if waiting), default=now_ms)
        age_ms = now_ms - oldest
        return age_ms if age_ms > self._patience_ms else self._last


class Meter:
    """Takes records as they are read; `reading` says how it stands. Times are ms since 1970, of one clock."""

    def __init__(self, snapshot_seconds: float) -> None:
        # Roles commit after each snapshot; offsets are asked for a few times a second.
        self._lags = {
            "normalize": Lag(1000),
            "logic": Lag(1500 + 1000 * snapshot_seconds),
            "persist": Lag(1000),
        }
        self.messages, self.ticks, self.signals = Counter(), Counter(), Counter()
        self.stored = Counter()
        self.rejected = self.gaps = 0
        self.names: dict[int, str] = {}
        self.latest: Sequence[Signal] = ()
        self.trouble = ""
        self._raw_ms: dict[tuple[int, int], float] = {}
        self._signal_ms: dict[int, deque[tuple[int, float]]] = {}
        self._prices: dict[int, deque[float]] = {}
        self._firsts: dict[int, float] = {}
        self._lasts: dict[int, float] = {}
        self._rates: deque[float] = deque(maxlen=HISTORY_SECONDS)
        self._second = 0

    def take_raw(self, partition: int, offset: int, at_ms: float, messages: int, now_ms: float) -> None:
        """A record of `raw`."""
        self.messages.add(messages, now_ms / 1000)
        self._raw_ms[partition, offset] = at_ms
        if len(self._raw_ms) > REMEMBERED:
            del self._raw_ms[next(iter(self._raw_ms))]
        self._lags["normalize"].came(partition, offset, at_ms)

    def take_ticks(self, partition: int, offset: int, at_ms: float, frame: TickFrame, now_ms: float) -> None:
        """A record of `ticks`."""
        kinds = frame.ticks["kind"]
        self.ticks.add(int((kinds != Kind.TIME).sum()), now_ms / 1000)
        self.gaps += int((kinds == Kind.GAP).sum())
        trades = frame.ticks[kinds == Kind.TRADE]
        for instrument, price in zip(trades["instrument_id"].tolist(), trades["price"].tolist(), strict=True):
            self._firsts.setdefault(instrument, price)
            self._lasts[instrument] = price
        source = (frame.lane.raw_partition, frame.origin_offset)
        lag = self._lags["normalize"]
        lag.passed(source[0], source[1] + 1)
        if (raw_ms := self._raw_ms.get(source)) is not None:
            lag.delay(at_ms - raw_ms, now_ms)
        self._lags["logic"].came(partition, offset, at_ms)

    def take_signal(self, partition: int, offset: int, at_ms: float, signal: Signal, now_ms: float) -> None:
        """A record of `signals`."""
        self.signals.add(1, now_ms / 1000)
        raw_ms = self._raw_ms.get((signal.origin.partition, signal.origin.offset))
        if raw_ms is not None:
            self._lags["logic"].delay(at_ms - raw_ms, now_ms)
            self._signal_ms.setdefault(partition, deque()).append((offset, raw_ms))
        self._lags["persist"].came(partition, offset, at_ms)

    def passed_by_logic(self, partition: int, next_offset: int) -> None:
        """Role `logic` has committed an offset of `ticks`."""
        self._lags["logic"].passed(partition, next_offset)

    def kept(self, partition: int, next_offset: int, at_ms: float, now_ms: float) -> None:
        """The database has `signals` up to next_offset, since at_ms."""
        self._lags["persist"].passed(partition, next_offset)
        waiting = self._signal_ms.get(partition)
        newest: float | None = None
        while waiting and waiting[0][0] < next_offset:
            newest = waiting.popleft()[1]
        if newest is not None:
            self._lags["persist"].delay(at_ms - newest, now_ms)

    def count_kept(self, total: int, now_ms: float) -> None:
        """The database has so many signals of this run."""
        self.stored.add(total - self.stored.total, now_ms / 1000)

    def reading(self, now_ms: float) -> Reading:
        """Return how it stands."""
        now = now_ms / 1000
        ticks = self.ticks.flow(now)
        if int(now) != self._second:
            self._second = int(now)
            self._rates.append(ticks.rate)
            for instrument, price in self._lasts.items():
                self._prices.setdefault(instrument, deque(maxlen=HISTORY_SECONDS)).append(price)
        prices = [
            Price(self.names[one], self._firsts[one], last, tuple(self._prices.get(one, ())))
            for one, last in self._lasts.items()
            if one in self.names
        ]
        return Reading(
            messages=self.messages.flow(now),
            ticks=ticks,
            signals=self.signals.flow(now),
            stored=self.stored.flow(now),
            rejected=self.rejected,
            gaps=self.gaps,
            lags_ms={role: lag.value_ms(now_ms) for role, lag in self._lags.items()},
            ticks_history=tuple(self._rates),
            prices=tuple(sorted(prices, key=lambda one: one.name)),
            latest=tuple(self.latest),
            trouble=self.trouble,
        )
