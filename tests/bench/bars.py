"""How fast bars are made: ticks/s of one core through the builder, beside Polars' `group_by_dynamic`.

The part `bars` of `make bench`; needs no broker. Alone: `python -m tests.bench.bars`. By processor time, the fastest of
several passes. Both get the same trades in memory: ours as ticks in batches, Polars as three columns of its own, which
are all that it needs for minutes; its bars must be ours. One thread each.
"""

import asyncio
import tempfile
from dataclasses import dataclass
from pathlib import Path
from time import process_time

import numpy as np
from rich.console import Console

from tapeline.agents.logic.bar_spec import BarSpec
from tapeline.agents.logic.bars import BarSeries
from tapeline.schemas import Bars, Instrument, Interval, Kind, Ticks, empty_bars, empty_ticks
from tests.bench import report
from tests.bench.lab import BenchError
from tests.bench.peers.contract import UnavailablePeerError
from tests.bench.peers.environment import Environment, answer_of
from tests.bench.plan import CONTENDERS, LARGEST_FRAME, POLARS, Plan

ENVIRONMENT = Environment("polars", "polars==2.1.0", "numpy==2.4.6")
APP = Path(__file__).parent / "peers" / "polars_app.py"
INTERVALS = {"minutes": "1m", "ticks": "1000t", "volume": "50000v", "dollar": "5000000$"}
BATCH = 8192
"""Ticks that are handed over together; what `ingest` puts into a frame at most is the other size."""
INSTRUMENTS = 100
START_NS = 1_735_776_000 * 10**9
STEP_NS = 3_000_000


@dataclass(frozen=True, slots=True)
class Mix:
    """What is measured. batch: ticks handed over together; instruments: how many, in turn at random."""

    interval: str
    batch: int = BATCH
    instruments: int = 1


MIXES = {
    **{name: Mix(interval) for name, interval in INTERVALS.items()},
    "minutes_of_frames": Mix("1m", LARGEST_FRAME),
    "minutes_of_100": Mix("1m", instruments=INSTRUMENTS),
}


def market(count: int, instruments: int = 1) -> Ticks:
    """Return trades about 3 ms apart, received 1 ms after they happened, each numbered."""
    random = np.random.default_rng(1)
    ticks = empty_ticks(count)
    ticks["kind"] = Kind.TRADE
    ticks["ts_event_ns"] = START_NS + np.cumsum(random.integers(0, 2 * STEP_NS, count))
    ticks["ts_recv_ns"] = ticks["ts_event_ns"] + 1_000_000
    ticks["sequence"] = np.arange(1, count + 1)
    ticks["instrument_id"] = random.integers(1, instruments + 1, count)
    ticks["price"] = np.round(100 + np.cumsum(random.choice([-0.01, 0.01], count)), 2)
    ticks["size"] = random.integers(1, 100, count)
    ticks["side"] = random.choice([-1, 1], count)
    return ticks


def bars_of(ticks: Ticks, mix: Mix) -> tuple[Bars, float]:
    """Return the bars of one pass, those that are not complete among them, and the seconds that it took."""
    series = BarSeries(
        BarSpec(Interval.parse(mix.interval)), lambda number: Instrument(id=number, name="x:X", partition=0)
    )
    made = [empty_bars(0)]
    started = process_time()
    for begin in range(0, len(ticks), mix.batch):
        batch = ticks[begin : begin + mix.batch]
        made.append(series.add(batch, int(batch["ts_recv_ns"][-1])).bars)
    seconds = process_time() - started
    return np.concatenate([*made, series.finish()]), seconds


async def polars(python: Path, ticks: Ticks, wanted: Bars, samples: int) -> float:
    """Return Polars' rate; raise BenchError if its minutes are others than ours."""
    with tempfile.TemporaryDirectory(prefix="tapeline-bench-") as folder:
        for name in ("ts_event_ns", "price", "size"):
            np.save(Path(folder) / f"{name}.npy", ticks[name])
        found = await answer_of("polars fails", python, APP, folder, samples)
    for name, values in found["bars"].items():
        if not np.allclose(wanted[name], values, rtol=1e-12):
            raise BenchError(f"polars' bars have another {name} than ours")
    return float(len(ticks) / min(found["seconds"]))


async def bar_rows(plan: Plan, console: Console, python: Path | None) -> list[report.Row]:
    """Measure every mix; python: that of the peer, None where it is not to be had."""
    rows = []
    for name, mix in MIXES.items():
        ticks = market(plan.bar_ticks, mix.instruments)
        made, _ = bars_of(ticks, mix)  # compiled, and pages are touched
        rate = len(ticks) / min(bars_of(ticks, mix)[1] for _ in range(3 * plan.samples))
        console.print(f"bars, {name}: {rate:,.0f} ticks/s", highlight=False)
        theirs = None
        if name == "minutes" and python is not None:
            theirs = await polars(python, ticks, made, 3 * plan.samples)
        peer = POLARS if theirs is not None else None
        rows.append(report.compare(f"bars_{name}", "ticks/s", rate, peer, theirs, plan.samples))
    return rows


if __name__ == "__main__":
    screen = Console(width=120)
    whole = Plan.make(frozenset(CONTENDERS), frozenset(["bars"]), scale=1, samples=3)

    async def alone() -> list[report.Row]:
        try:
            return await bar_rows(whole, screen, await ENVIRONMENT.prepare(screen))
        except UnavailablePeerError as error:
            screen.print(f"without polars: {error}")
            return await bar_rows(whole, screen, None)

    report.show(asyncio.run(alone()), screen)
