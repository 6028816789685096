"""Show how far the reading of a source is: a live bar on a terminal, plain lines elsewhere. Commands call it."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

from tapeline.agents.quality.sources import Shown

PLAIN_SECONDS = 2.0
"""One plain line so often."""


Show = Callable[[int, float], None]
"""Called with the ticks of a chunk, and how many seconds their analysis and that of all before took."""


@contextmanager
def progress(source: Shown, *, quiet: bool, work: str = "their analysis") -> Iterator[Show]:
    """Give a function that shows on standard error how far it is; at the end, if it took a while, how fast it was."""
    if quiet:
        yield lambda ticks, seconds: None
        return
    started = time.monotonic()
    said = _Said(source)
    if sys.stderr.isatty():
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=24))
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(said.text(), total=source.total or None)

            def live(ticks: int, seconds: float) -> None:
                said.take(ticks, seconds)
                bar.update(task, completed=source.done(), total=source.total or None, description=said.text())

            yield live
    else:
        shown = started

        def line(ticks: int, seconds: float) -> None:
            nonlocal shown
            said.take(ticks, seconds)
            if time.monotonic() - shown >= PLAIN_SECONDS:
                shown = time.monotonic()
                click.echo(said.text(), err=True)

        yield line
    took = time.monotonic() - started
    click.echo(f"{said.ticks:,} ticks in {took:,.1f} s, of which {work} took {said.seconds:,.2f} s", err=True)


class _Said:
    """What there is to say so far."""

    def __init__(self, source: Shown) -> None:
        self._source = source
        self.ticks = 0
        self.seconds = 0.0

    def take(self, ticks: int, seconds: float) -> None:
        self.ticks += ticks
        self.seconds = seconds

    def text(self) -> str:
        source = self._source
        share = f"{min(source.done() / source.total, 1):.0%}, " if source.total else ""
        return f"{source.instrument or source.words}: {share}{self.ticks:,} ticks"
