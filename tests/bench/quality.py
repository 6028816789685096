"""How fast `tapeline quality` analyses a day: the part `quality` of `make bench`, on one core.

Only the analysis: reading them, from Kafka or a file, is measured elsewhere. Best of several rounds, by processor time,
for nothing in it waits. Invented ticks in three mixes, every quote and level a new one: the work that there can be.
"""

from collections.abc import Iterator
from time import process_time

import numpy as np
from rich.console import Console

from tapeline.agents.quality import Analysis
from tapeline.agents.quality.analysis import warm_up
from tapeline.schemas import Flag, Kind, Ticks, empty_ticks
from tests.bench.plan import Plan
from tests.bench.report import Row, compare

DAY, DAY_NS = "2025-01-02", 1_735_776_000_000_000_000
BLOCK = 1_000_000
STEP_NS = 5_000_000
MIXES = {"trades": (1.0, 0.0), "quotes": (0.0, 1.0), "usdm": (0.04, 0.12)}
"""Name -> share of trades and of quotes; the others are levels of the book, 60 an update. usdm: as Binance's."""


def block(trades: float, quotes: float) -> Ticks:
    """Return BLOCK ticks, about 5 ms apart, with millisecond times of the venue's 20 ms before ours."""
    random = np.random.default_rng(1)
    ticks = empty_ticks(BLOCK)
    ticks["kind"] = random.choice([Kind.TRADE, Kind.QUOTE, Kind.BOOK], BLOCK, p=[trades, quotes, 1 - trades - quotes])
    ticks["ts_recv_ns"] = DAY_NS + np.cumsum(random.integers(0, 2 * STEP_NS, BLOCK))
    ticks["ts_event_ns"] = (ticks["ts_recv_ns"] - random.integers(20_000_000, 30_000_000, BLOCK)) // 10**6 * 10**6
    ticks["sequence"] = np.arange(1, BLOCK + 1)
    ticks["price"] = np.round(60_000 + np.cumsum(random.choice([-0.1, 0.1], BLOCK)), 1)
    ticks["size"], ticks["size2"] = random.integers(1, 1000, (2, BLOCK)) / 1000
    ticks["price2"] = np.where(ticks["kind"] == Kind.QUOTE, ticks["price"] + 0.1, 0)
    ticks["side"] = random.choice([-1, 1], BLOCK)
    ticks["flags"] = np.where((ticks["kind"] == Kind.BOOK) & (np.arange(BLOCK) % 60 == 59), Flag.LAST, 0)
    return ticks


def day(first: Ticks, blocks: int) -> Iterator[Ticks]:
    """Yield the block again and again, each time later and with higher numbers."""
    ticks = first.copy()
    for _ in range(blocks):
        yield ticks
        for field in ("ts_recv_ns", "ts_event_ns"):
            ticks[field] += BLOCK * STEP_NS
        ticks["sequence"] += BLOCK


def ticks_a_second(first: Ticks, blocks: int) -> float:
    """Return the rate of one round."""
    found, seconds = Analysis(DAY), 0.0
    for ticks in day(first, blocks):
        started = process_time()
        found.add(ticks)
        seconds += process_time() - started
    assert found.counts["ticks"].sum() == BLOCK * blocks
    return BLOCK * blocks / seconds


def quality_rows(plan: Plan, console: Console) -> list[Row]:
    """Measure every mix."""
    warm_up()
    rows = []
    for name, (trades, quotes) in MIXES.items():
        first = block(trades, quotes)
        ticks_a_second(first, plan.quality_blocks)  # pages are touched, the clock of the processor is up
        rate = max(ticks_a_second(first, plan.quality_blocks) for _ in range(plan.samples))
        console.print(f"quality of {name}: {rate:,.0f} ticks/s", highlight=False)
        rows.append(compare(f"quality_{name}", "ticks/s", rate, samples=plan.samples))
    return rows
