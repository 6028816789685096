"""How fast `tapeline quality` analyses a day: `python -m tests.bench.quality` prints what one core does.

Only the analysis: reading them, from Kafka or a file, is measured elsewhere. Best of several rounds, by processor time,
for nothing in it waits. Invented ticks in three mixes, every quote and level a new one: the work that there can be.
"""

from collections.abc import Iterator
from time import process_time

import click
import numpy as np

from tapeline.agents.quality import Analysis
from tapeline.agents.quality.analysis import warm_up
from tapeline.schemas import Flag, Kind, Ticks, empty_ticks

DAY, DAY_NS = "2025-01-02", 1_735_776_000_000_000_000
BLOCK, BLOCKS = 1_000_000, 8
STEP_NS = 5_000_000
ROUNDS = 3
MIXES = {"trades": (1.0, 0.0), "quotes": (0.0, 1.0), "as Binance USD-M (84% levels, 12% quotes)": (0.04, 0.12)}
"""Name -> share of trades and of quotes; the others are levels of the book, 60 an update."""
GOAL = 10.0


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


def day(first: Ticks) -> Iterator[Ticks]:
    """Yield the block again and again, each time later and with higher numbers."""
    ticks = first.copy()
    for _ in range(BLOCKS):
        yield ticks
        for field in ("ts_recv_ns", "ts_event_ns"):
            ticks[field] += BLOCK * STEP_NS
        ticks["sequence"] += BLOCK


def million_ticks_a_second(first: Ticks) -> float:
    """Return the rate of one round."""
    found, seconds = Analysis(DAY), 0.0
    for ticks in day(first):
        started = process_time()
        found.add(ticks)
        seconds += process_time() - started
    assert found.counts["ticks"].sum() == BLOCK * BLOCKS
    return BLOCK * BLOCKS / seconds / 1e6


def main() -> None:
    """Measure and print."""
    warm_up()
    for name, (trades, quotes) in MIXES.items():
        first = block(trades, quotes)
        million_ticks_a_second(first)  # pages are touched, the clock of the processor is up
        rate = max(million_ticks_a_second(first) for _ in range(ROUNDS))
        click.echo(f"{name:<44} {rate:5.1f} M ticks/s (goal {GOAL:.0f})")


if __name__ == "__main__":
    main()
