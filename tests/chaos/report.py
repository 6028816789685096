"""What a session of runs came to: a line a run, a table at the end, and the same as JSON."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.chaos.run import Outcome
from tests.chaos.scenario import MEANING, Kind


def line(outcome: Outcome) -> str:
    """Say in one line how a run went."""
    sent = " ".join(f"{name} {count}" for name, count in sorted(outcome.signals_sent.items())) or "none"
    again = " ".join(f"{topic} {count}" for topic, count in outcome.duplicates.items() if count) or "none"
    return (
        f"seed {outcome.scenario.seed}: {outcome.scenario} | signals sent: {sent}; restarts {outcome.restarts}; "
        f"duplicates skipped: {again}; {outcome.signals:,} signals; differences: {len(outcome.differences) or 'none'}; "
        f"{outcome.seconds:.1f} s"
    )


def summary(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return the sums over all runs, ready for JSON."""
    return {
        "runs": len(outcomes),
        "disturbances": _sum(one.kinds for one in outcomes),
        "signals_sent": _sum(one.signals_sent for one in outcomes),
        "restarts": sum(one.restarts for one in outcomes),
        "exits": _sum({str(status): count for status, count in one.exits.items()} for one in outcomes),
        "duplicates_skipped": _sum(one.duplicates for one in outcomes),
        "runs_with_differences": sum(bool(one.differences) for one in outcomes),
        "seconds": round(sum(one.seconds for one in outcomes), 1),
    }


def write(path: Path, outcomes: Sequence[Outcome]) -> None:
    """Write the sums and every run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    runs = [
        {
            "seed": one.scenario.seed,
            "scenario": str(one.scenario),
            "signals_sent": one.signals_sent,
            "restarts": one.restarts,
            "exits": one.exits,
            "endings": one.endings,
            "duplicates_skipped": one.duplicates,
            "signals": one.signals,
            "differences": one.differences,
            "seconds": {phase: round(seconds, 2) for phase, seconds in one.phases.items()},
        }
        for one in outcomes
    ]
    path.write_text(json.dumps({**summary(outcomes), "each": runs}, indent=2))


def show(outcomes: Sequence[Outcome]) -> None:
    """Print the table."""
    sums = summary(outcomes)
    table = Table("what", "how often", box=None, title="Chaos", title_justify="left")
    table.add_row("runs", f"{sums['runs']:,}")
    for kind in Kind:
        if count := sums["disturbances"].get(kind):
            table.add_row(f"  {kind}: {MEANING[kind]}", f"{count:,}")
    for name, count in sums["signals_sent"].items():
        table.add_row(f"{name} sent to workers", f"{count:,}")
    table.add_row("workers started again", f"{sums['restarts']:,}")
    for topic, count in sums["duplicates_skipped"].items():
        table.add_row(f"duplicates skipped in {topic}", f"{count:,}")
    table.add_row("runs with differences", f"{sums['runs_with_differences'] or 'none'}")
    mean = sums["seconds"] / len(outcomes) if outcomes else 0
    table.add_row("seconds a run, on average", f"{mean:.1f}")
    Console(width=120).print(table)


def _sum(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for one in counts:
        total.update(one)
    return dict(sorted(total.items()))
