"""The report of one instrument's day, as `tapeline quality --format json` writes it; tables and pages show the same.

`docs/quality.schema.json` is made from these types (`schema`). All times and lengths are in ns; times are since 1970,
UTC. Null: it cannot be known.
"""

from typing import Literal

from pydantic import Field

from tapeline.schemas.events import Event

DataKind = Literal["trade", "quote", "book"]
Topic = Literal["gaps", "duplicates", "order", "outliers", "quotes", "stale", "latency", "clock", "rates", "sessions"]
Finding = Literal["ok", "look", "unknown"]


class Stretch(Event):
    """A time during which something held, by the running maximum of receive times."""

    start_ns: int
    end_ns: int


class Stretches(Event):
    """All stretches of one thing."""

    count: int
    total_ns: int
    longest: list[Stretch] = Field(description="at most 20, the longest first")


class RulesUsed(Event):
    """What the rules went by; see docs/quality.md."""

    outlier_window: int = Field(description="prices that a price is compared with")
    outlier_confirm: int = Field(description="a level that most of the last so many prices have is believed")
    outlier_spreads: float = Field(description="robust standard deviations that a price may be away")
    outlier_share: float = Field(description="share of its price that it may be away in any case")
    stale_ns: int = Field(description="a quote or book that a trade does not move for so long is stale")
    quiet_ns: int = Field(description="a time without a tick that is so long is a quiet stretch")


class LeftOut(Event):
    """What was read and is not in the report."""

    other_days: int = Field(description="ticks of the instrument that were received on other days")
    repeated_frames: int = Field(description="tick frames that came again (a worker was started anew)")
    unread_records: int = Field(description="records of the topic that are damaged")


class KindCount(Event):
    """How much there is of one kind of tick."""

    kind: str = Field(description="as schemas.Kind, in small letters; `other`: a number it does not have")
    ticks: int
    events: int = Field(description="of a book: updates, each of which is many ticks; else the ticks")
    second_mean: float = Field(description="ticks a second, from the first to the last tick")


class Window(Event):
    """A stretch of the clock and the ticks received in it."""

    start_ns: int
    length_ns: int
    ticks: int


class Rates(Event):
    """How ticks came."""

    second_mean: float = Field(description="ticks a second, from the first to the last tick")
    second_max: int = Field(description="ticks in the busiest second of the clock")
    busiest: Window | None = Field(description="the busiest 100 ms of the clock, the first of equal ones")
    quiet: Stretches = Field(description="without a trade, quote or level for rules.quiet_ns, while trading was open")


class GapCount(Event):
    """Gaps of one reason and one kind."""

    reason: str = Field(description="as schemas.GapReason, in small letters; `unknown` for a number it does not have")
    kind: str = Field(description="what is missing; `every`: all kinds")
    count: int
    missing: int = Field(description="messages that are missing, as far as the gaps know")


class Gap(Event):
    """One GAP tick."""

    recv_ns: int = Field(description="when it was noticed")
    reason: str
    kind: str
    first_missing: int = Field(description="the venue's number of the first missing message, 0: not known")
    missing: int = Field(description="how many messages, 0: not known")
    silent_ns: int | None = Field(description="since the last tick of that kind before it; null: there was none")


class Gaps(Event):
    """What is missing, as the log says."""

    count: int
    missing: int
    by_reason: list[GapCount]
    listed: list[Gap] = Field(description="the first 1,000")
    book_unsynchronised: Stretches | None = Field(
        description="from a gap of the book to the next snapshot; null: there is no book"
    )


class Duplicates(Event):
    """Ticks that say the same as an earlier one."""

    count: int = Field(description="trades, quotes and updates of the book")
    by_kind: dict[DataKind, int | None] = Field(description="null: the venue numbers none, so it cannot be decided")
    reason: str = Field(description="why it cannot be decided, where it cannot")


class KindOrder(Event):
    """The order in which one kind came. Snapshots do not count: they come beside the stream."""

    kind: str
    event_back: int = Field(description="events whose time is before that of the tick before")
    event_same: int = Field(description="events whose time is that of the event before")
    sequence_back: int = Field(description="events whose sequence is below that of the tick before")
    late: int = Field(description="ticks flagged LATE: their stream had a higher sequence before")


class Order(Event):
    """Whether time and numbers only grow."""

    by_kind: list[KindOrder]
    event_back: int = Field(description="likewise over trades, quotes and updates together, of those with a venue time")
    recv_back: int = Field(description="ticks received before the tick before")


class Outlier(Event):
    """One tick whose price is far off."""

    recv_ns: int
    kind: DataKind
    price: float | None = Field(description="of a quote: its bid; null: not given")
    ask: float | None = Field(description="of a quote")
    median: float = Field(description="of the prices before it, of the field that is far off")


class Outliers(Event):
    """Prices that are far off."""

    tested: int = Field(description="trades and quotes")
    count: int = Field(description="ticks with the flag, by the rule or by the venue")
    by_venue: int = Field(description="of those: flagged by the venue itself")
    by_kind: dict[DataKind, int]
    listed: list[Outlier] = Field(description="the first 1,000 of the rule's")


class Quotes(Event):
    """The sides of the quotes."""

    count: int
    crossed: int = Field(description="bid above ask")
    locked: int = Field(description="bid equals ask")
    one_sided: int = Field(description="bid or ask not given")
    crossed_stretches: Stretches
    locked_stretches: Stretches
    one_sided_stretches: Stretches


class Stale(Event):
    """What came while the quote or book that stands had not moved for too long after a trade."""

    ticks: int
    stretches: Stretches


class Latency(Event):
    """Receive time minus event time of one kind; of a book: of its updates."""

    kind: DataKind
    count: int
    resolution_ns: int = Field(description="the coarsest step that divides all its event times: 1 s, 1 ms, 1 us, 1 ns")
    min_ns: int
    p50_ns: int
    p90_ns: int
    p99_ns: int
    p999_ns: int
    max_ns: int


class Clock(Event):
    """Our clock against the venue's, from the smallest receive time minus event time: the least delayed ticks."""

    offset_ns: int = Field(description="over the day. Below 0: our clock is behind by at least that much")
    first_ns: int = Field(description="of the first minute with ticks")
    last_ns: int = Field(description="of the last one")
    range_ns: int = Field(description="largest minus smallest of all minutes")
    drift_ns_an_hour: int | None = Field(description="Theil-Sen slope of the minutes; null: fewer than 5")


class Status(Event):
    """One STATUS tick."""

    recv_ns: int
    open: bool


class Sessions(Event):
    """When trading was open, as the venue said."""

    count: int = Field(description="STATUS ticks")
    listed: list[Status] = Field(description="the first 1,000")
    closed: Stretches
    ticks_while_closed: int = Field(description="trades, quotes and levels")


class Timeline(Event):
    """The day in equal bins of receive time, for charts: one value a bin in each list."""

    start_ns: int
    bin_ns: int
    trades: list[int]
    quotes: list[int]
    levels: list[int] = Field(description="levels of the book")
    outliers: list[int]
    gaps: list[int]
    price_low: list[float | None] = Field(description="of trades, without outliers; of quotes' middles if none trade")
    price_high: list[float | None]
    latency_min_ns: list[int | None]
    latency_max_ns: list[int | None]


class Verdict(Event):
    """What to make of one topic."""

    topic: Topic
    finding: Finding
    text: str = Field(description="what was found")
    limit: str = Field(description="what it was held against")


class QualityReport(Event):
    """The quality of one instrument's ticks on one day."""

    version: Literal[1] = Field(description="of this schema")
    instrument: str = Field(description="venue:SYMBOL")
    day: str = Field(description="YYYY-MM-DD, the UTC day of receive time")
    source: str = Field(description="where the ticks were read")
    rules: RulesUsed
    ticks: int
    first_recv_ns: int | None
    last_recv_ns: int | None = Field(description="the latest receive time")
    left_out: LeftOut
    damage: str | None = Field(description="why reading ended before the end; null: it did not")
    rejected: dict[str, int] | None = Field(
        description="messages that could not be read, by reason; null: read from a topic, which has only ticks"
    )
    kinds: list[KindCount]
    rates: Rates
    gaps: Gaps
    duplicates: Duplicates
    order: Order
    outliers: Outliers
    quotes: Quotes | None = Field(description="null: there is none")
    stale: Stale | None = Field(description="null: there are no trades, or neither quotes nor a book")
    latency: list[Latency] = Field(description="of the kinds whose event and receive times differ")
    clock: Clock | None
    sessions: Sessions
    timeline: Timeline | None = Field(description="null: there are no ticks")
    verdicts: list[Verdict] = Field(description="one a topic")
