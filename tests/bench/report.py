"""Rows of what was measured, the goals, and how both are shown. Pure but for the printing."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from tests.bench.latency import Ages
from tests.bench.measure import Sample, median
from tests.bench.plan import CRYPTOFEED, FLOOR, LARGEST_FRAME, OURS

QUANTILES = {"p50": 50.0, "p99": 99.0, "p999": 99.9}
SHORT_SECONDS = 3.0
"""A measurement below this is too short to be quoted."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the JSON. value: ours; ratio: ours / peer; None: not measured, or (peer_value) does not keep up."""

    name: str
    value: float | None
    unit: str
    peer: str | None = None
    peer_value: float | None = None
    ratio: float | None = None
    samples: int = 1


@dataclass(frozen=True, slots=True)
class Goal:
    """What a row should show: `ratio` (to `peer`) or value, at least or at most `bound`."""

    name: str
    peer: str | None
    at_least: bool
    bound: float

    def verdict(self, rows: Sequence[Row]) -> tuple[str, str, str] | None:
        """Return (goal, measured, met or missed by how much), or None if it was not measured."""
        for row in rows:
            measured = row.value if self.peer is None else row.ratio
            if row.name != self.name or (self.peer is not None and row.peer != self.peer) or measured is None:
                continue
            unit = f" {row.unit}" if self.peer is None else f" x {self.peer}"
            met = measured >= self.bound if self.at_least else measured <= self.bound
            factor = max(measured / self.bound, self.bound / measured)
            missed = f"missed by {abs(measured / self.bound - 1):.0%}" if factor < 2 else f"missed {factor:.1f} times"
            text = f"{self.name} {'>=' if self.at_least else '<='} {number(self.bound)}{unit}"
            return text, number(measured), "met" if met else missed
        return None


CAPTURES = ("binance", "binance_futures", "bitstamp", "bybit", "coinbase", "kraken", "okx")


def of_frames(name: str, size: int) -> str:
    """Return the name of a row for frames of this size: the largest is not named."""
    return name if size == LARGEST_FRAME else f"{name}_frames_of_{size}"


GOALS = (
    Goal("raw_to_signals", "kafka-streams", at_least=True, bound=4),
    Goal("raw_to_signals", "faust", at_least=True, bound=150),
    Goal("raw_to_signals", FLOOR, at_least=True, bound=round(1 / 1.5, 3)),
    Goal("normalize", None, at_least=True, bound=3_000_000),
    Goal("ticks_to_signals", None, at_least=True, bound=3_000_000),
    *(
        Goal(f"latency_{rate}_{quantile}_ms", None, at_least=False, bound=bound)
        for rate in ("2k", "20k")
        for quantile, bound in (("p50", 4), ("p99", 10))
    ),
    *(
        Goal(f"live_5k_{quantile}_ms", None, at_least=False, bound=bound)
        for quantile, bound in (("p50", 2), ("p99", 8))
    ),
    *(Goal(f"handover_{change}_ms", None, at_least=False, bound=2_000) for change in ("join", "leave")),
    Goal("idle_cpu_percent", None, at_least=False, bound=2),
    *(
        Goal(of_frames(f"capture_{name}", size), CRYPTOFEED, at_least=True, bound=5)
        for name in CAPTURES
        for size in (LARGEST_FRAME, LARGEST_FRAME // 10)
    ),
    *(Goal(f"book_{name}", None, at_least=True, bound=5_000_000) for name in ("usdm", "spot")),
    Goal("bars_minutes", None, at_least=True, bound=100_000_000),
    *(Goal(f"quality_{mix}", None, at_least=True, bound=10_000_000) for mix in ("trades", "quotes", "usdm")),
)


def compare(
    name: str, unit: str, ours: float | None, peer: str | None = None, peer_value: float | None = None, samples: int = 1
) -> Row:
    """Return a row, rounded."""
    ratio = ours / peer_value if ours is not None and peer_value else None
    return Row(name, _rounded(ours), unit, peer, _rounded(peer_value), _rounded(ratio), samples)


def throughput_rows(samples: Mapping[tuple[str, str], Sequence[Sample]]) -> list[Row]:
    """Return the rows of rates. `raw_to_signals`: the best that each does with one or two processes."""
    rates: dict[str, dict[str, tuple[float, int]]] = {}
    for (what, contender), taken in samples.items():
        for name in _names(what):
            best = rates.setdefault(name, {}).get(contender)
            if best is None or median(taken) > best[0]:
                rates[name][contender] = median(taken), len(taken)
    rows: list[Row] = []
    for name, by_contender in rates.items():
        unit = "ticks/s" if name.startswith("ticks") else "messages/s"
        ours, count = by_contender.get(OURS, (None, 0))
        peers = {peer: found for peer, found in by_contender.items() if peer != OURS}
        if not peers:
            rows.append(compare(name, unit, ours, samples=count))
        for peer, (rate, peer_count) in peers.items():
            rows.append(compare(name, unit, ours, peer, rate, min(count, peer_count) if count else peer_count))
    return rows


def memory_rows(samples: Mapping[tuple[str, str], Sequence[Sample]]) -> list[Row]:
    """Return resident memory with two processes: of each of ours, and of all of a contender."""
    last = {who: taken[-1].memory_mb for (what, who), taken in samples.items() if what == "raw_to_signals with 2"}
    if not last:
        return []
    ours = last.pop(OURS, None)
    rows = [compare(f"memory_{name}_mb", "MB", value) for name, value in (ours or {}).items()]
    total = None if ours is None else sum(ours.values())
    return rows + [compare("memory_total_mb", "MB", total, peer, sum(used.values())) for peer, used in last.items()]


def latency_rows(label: str, ours: Ages | None, peers: Mapping[str, Ages | None]) -> list[Row]:
    """Return the quantiles at one pace, e.g. label `20k`; a peer without ages did not keep up."""
    rows = []
    for quantile, percent in QUANTILES.items():
        name = f"latency_{label}_{quantile}_ms"
        value = None if ours is None else float(np.percentile(ours, percent))
        count = 0 if ours is None else len(ours)
        if not peers:
            rows.append(compare(name, "ms", value, samples=count))
        for peer, ages in peers.items():
            peer_value = None if ages is None else float(np.percentile(ages, percent))
            counts = [len(one) for one in (ours, ages) if one is not None]
            rows.append(compare(name, "ms", value, peer, peer_value, min(counts, default=0)))
    return rows


def live_rows(label: str, ages: Mapping[str, Ages | None]) -> list[Row]:
    """Return the quantiles of the ways of a live message at one pace, by the names of these ways."""
    return [
        compare(
            f"live_{label}{way}_{quantile}_ms",
            "ms",
            None if found is None else float(np.percentile(found, percent)),
            samples=0 if found is None else len(found),
        )
        for way, found in ages.items()
        for quantile, percent in QUANTILES.items()
    ]


def write(rows: Sequence[Row], path: Path) -> None:
    """Write the rows as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")


def show(rows: Sequence[Row], console: Console) -> None:
    """Print every row, then ticks/s by frame size, then the goals."""
    table = Table("name", "unit", "ours", "peer", "peer's", "ours / peer", "samples", title="Measured")
    for row in rows:
        beside = "does not keep up" if row.peer and row.peer_value is None else number(row.peer_value)
        cells = (row.name, row.unit, number(row.value), row.peer or "", beside, number(row.ratio), f"{row.samples:,}")
        table.add_row(*cells)
    console.print(table)
    _show_frames(rows, console)
    goals = Table("goal", "measured", "verdict", title="Goals")
    for goal in GOALS:
        if (found := goal.verdict(rows)) is not None:
            goals.add_row(*found, style="" if found[2] == "met" else "bold red")
    if goals.row_count:
        console.print(goals)


def number(value: float | None) -> str:
    """Return a number as people read it."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:,.3g}"


def _show_frames(rows: Sequence[Row], console: Console) -> None:
    """Print ticks/s by frame size: ours, and the floor's in brackets."""
    hops = ("normalize", "ticks_to_signals", "raw_to_signals")
    names = [row.name.split("_frames_of_") for row in rows]
    sizes = sorted({int(size[0]) for hop, *size in names if size and hop in hops})
    if not sizes:
        return
    cells = {row.name: row for row in rows if row.peer in (None, FLOOR)}
    table = Table("messages a frame", *hops, title="Ticks/s by frame size (the floor's in brackets)")
    for size in [*sizes, LARGEST_FRAME]:
        found = [cells.get(of_frames(hop, size)) for hop in hops]
        table.add_row(
            f"{size:,}",
            *(f"{number(row.value)} ({number(row.peer_value)})" if row is not None else "" for row in found),
        )
    console.print(table)


def _names(what: str) -> list[str]:
    """Return the names of rows that a measurement counts for, e.g. of "raw_to_signals with 2"."""
    name, _, detail = what.partition(" ")
    if detail.startswith("with "):  # so many processes
        return [name, f"{name}_{detail.replace(' ', '_')}"]
    return [of_frames(name, int(detail)) if detail.isdecimal() else f"{name}_{detail}"]


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.5g}")
