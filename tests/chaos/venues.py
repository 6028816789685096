"""Many seeded runs of live clients against the test venue, many at once; `make chaos` calls it."""

import asyncio
import logging
import multiprocessing
import os
import signal
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed

import click

from tapeline.connectors import venues
from tapeline.connectors.venues import book
from tests.venue.run import SYMBOLS, Outcome, run

AT_ONCE = 12 * (os.cpu_count() or 1)
"""A run mostly waits."""
NAMES = list(SYMBOLS)
INTERRUPTED = 130
"""Exit status after Ctrl-C."""


def one_run(seed: int) -> Outcome:
    """Run one seed; it says the venue, too."""
    logging.disable()
    return asyncio.run(run(NAMES[seed % len(NAMES)], seed))


def many_runs(seeds: Iterable[int]) -> Iterator[Outcome]:
    """Yield outcomes as they come."""
    # Once here, into the cache on disk, instead of in every process at the same time.
    venues.warm_up()
    book.warm_up()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(AT_ONCE, mp_context=context, initializer=_end_at_ctrl_c) as pool:
        try:
            for done in as_completed([pool.submit(one_run, seed) for seed in seeds]):
                yield done.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _end_at_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # at once, and without a traceback


def disturb_venues(seeds: Iterable[int], minutes: float | None) -> int:
    """Run the seeds, a line each that went wrong and a table at the end; return the exit status."""
    started = time.monotonic()
    outcomes: list[Outcome] = []
    interrupted = False
    try:
        for outcome in many_runs(seeds):
            outcomes.append(outcome)
            for fault in outcome.report.faults[:5]:
                click.echo(f"! {outcome.venue} seed {outcome.seed}: {fault}", err=True)
            if len(outcomes) % 50 == 0:
                click.echo(f"{len(outcomes)} runs, {time.monotonic() - started:.0f} s", err=True)
            if minutes is not None and time.monotonic() - started > 60 * minutes:
                break
    except KeyboardInterrupt:
        interrupted = True
    _show(outcomes)
    wrong = sum(bool(one.report.faults) for one in outcomes)
    click.echo(f"{len(outcomes)} runs in {time.monotonic() - started:.0f} s, {wrong} of them wrong")
    return 1 if wrong else INTERRUPTED if interrupted else 0


def _show(outcomes: Sequence[Outcome]) -> None:
    click.echo(f"{'venue':<20}{'runs':>6}{'wrong':>7}{'faults':>8}{'connects':>10}{'trades':>9}{'books':>9}  gaps")
    for name in NAMES:
        own = [one for one in outcomes if one.venue == name]
        gaps = sum((Counter(one.report.gaps) for one in own), Counter[str]())
        click.echo(
            f"{name:<20}{len(own):>6}{sum(bool(one.report.faults) for one in own):>7}"
            f"{sum(len(one.done) for one in own):>8}{sum(one.connections for one in own):>10}"
            f"{sum(one.report.trades for one in own):>9}{sum(one.report.books for one in own):>9}  "
            + ", ".join(f"{reason} {count}" for reason, count in sorted(gaps.items()))
        )
    done = sum((Counter(one.done) for one in outcomes), Counter[str]())
    click.echo("faults: " + ", ".join(f"{name} {count}" for name, count in done.most_common()))
