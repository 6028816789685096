"""Show how far an ingest is: a live bar on a terminal, plain lines elsewhere, nothing if asked. `ingest` calls it."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

from tapeline.connectors.venues.contract import Recording
from tapeline.connectors.venues.pump import Summary

PLAIN_SECONDS = 2.0
"""One plain line so often."""

Show = Callable[[Summary], None]


@contextmanager
def progress(recording: Recording, *, plain: bool = False, quiet: bool = False) -> Iterator[Show]:
    """Give a function that shows a summary on standard error; `plain` and pipes get lines, `quiet` nothing."""
    if quiet:
        yield lambda summary: None
        return
    started = time.monotonic()
    if plain or not sys.stderr.isatty():
        shown = started

        def line(summary: Summary) -> None:
            nonlocal shown
            now = time.monotonic()
            if now - shown >= PLAIN_SECONDS:
                shown = now
                click.echo(f"{summary.source}: {state(recording, summary, now - started)}", err=True)

        yield line
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=16),
        TextColumn("{task.fields[state]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(recording.source, total=recording.total or None, state="")

        def live(summary: Summary) -> None:
            text = state(recording, summary, time.monotonic() - started)
            bar.update(task, completed=recording.done(), state=text)

        yield live


def state(recording: Recording, summary: Summary, seconds: float) -> str:
    """Say in one line how far it is after so many seconds: messages, rate, size, feed clock, share done, time left."""
    rate = summary.messages / seconds if seconds > 0 else 0.0
    parts = [f"{summary.messages:,} messages", f"{rate:,.0f}/s", f"{summary.message_bytes / 1e6:,.1f} MB"]
    if recording.total:
        share = min(recording.done() / recording.total, 1.0)
        left = f", {seconds * (1 - share) / share:,.0f} s left" if 0 < share < 1 else ""
        parts.insert(0, f"{share:.0%}{left}")
    if summary.rejected:
        parts.append(f"{summary.rejected:,} rejected")
    return ", ".join([*parts, f"feed {clock(summary.feed_ns)}"])


def clock(ns: int) -> str:
    """Return a moment as date and time, UTC; "-" before the first."""
    if ns <= 0:
        return "-"
    try:
        return datetime.fromtimestamp(ns // 1_000_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError):
        return f"{ns} ns"
