"""`tapeline quality`: how good one instrument's ticks of one day are, as table, JSON or one HTML page.

Options and words only: `topic` and `files` read, `analysis` and `summary` find, `terminal` and `page` show.
"""

import io
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from time import perf_counter
from typing import Any

import click
from rich.console import Console

from tapeline.agents.quality.analysis import Analysis, day_of, day_start_ns, warm_up
from tapeline.agents.quality.files import open_files
from tapeline.agents.quality.page import page
from tapeline.agents.quality.progress import progress
from tapeline.agents.quality.report import QualityReport
from tapeline.agents.quality.rules import DEFAULT, SECOND_NS, Rules
from tapeline.agents.quality.sources import NotFoundError, Source, batched
from tapeline.agents.quality.summary import summarise
from tapeline.agents.quality.terminal import show
from tapeline.agents.quality.topic import TopicSource
from tapeline.schemas import TapelineError
from tapeline.streams.options import config_option
from tapeline.streams.settings import load_settings

PLAIN_WIDTH = 140


class Day(click.ParamType):
    """YYYY-MM-DD."""

    name = "YYYY-MM-DD"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return it as it is, if it is a day."""
        try:
            day_start_ns(str(value))
        except TapelineError as error:
            self.fail(str(error), param, ctx)
        return str(value)


def _rule(flag: str, default: float, text: str) -> Callable[[Any], Any]:
    """Make the click option of one of Rules."""
    return click.option(flag, default=default, show_default=True, help=text)


@click.command()
@click.argument("instrument", required=False)
@click.option("--day", type=Day(), help="UTC day of receive time [default: the newest; of files, their first].")
@click.option(
    "--file",
    "paths",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Read a recorded file instead of Kafka; several are put in order.",
)
@click.option("--format", "form", type=click.Choice(["table", "json", "html"]), default="table", show_default=True)
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Write to a file [default: print].")
@click.option("--quiet", is_flag=True, help="No progress.")
@_rule("--outlier-window", DEFAULT.outlier_window, "Outlier: prices that one is compared with.")
@_rule("--outlier-confirm", DEFAULT.outlier_confirm, "Outlier: most of the last so many make a level.")
@_rule("--outlier-spreads", DEFAULT.outlier_spreads, "Outlier: robust deviations that are allowed.")
@_rule("--outlier-share", DEFAULT.outlier_share, "Outlier: share of its price that is allowed.")
@_rule("--stale-seconds", DEFAULT.stale_ns / SECOND_NS, "Stale: not moved by a trade for so long.")
@_rule("--quiet-seconds", DEFAULT.quiet_ns / SECOND_NS, "Quiet: nothing came for so long.")
@config_option
def quality(
    instrument: str | None,
    day: str | None,
    paths: tuple[Path, ...],
    form: str,
    output: Path | None,
    quiet: bool,
    config: Path | None,
    **rules: float,
) -> None:
    """Say how good an instrument's ticks of a day are: gaps, duplicates, order, outliers, quotes, latency, clock.

    INSTRUMENT is venue:SYMBOL, as in topic instruments; a file that holds only one needs none. The rules flag ticks and
    drop none. Whatever is found, the exit status is 0. docs/quality.md has each rule and the schema of the JSON.

    \b
    Examples:
      tapeline quality binance-usdm:BTCUSDT --day 2024-08-08
      tapeline quality sim:SIM001 --format json > quality.json
      tapeline quality binance:BTCUSDT --format html --output btcusdt.html
      tapeline quality --file btcusdt_20240808.gz
    """
    options = _rules(rules)
    source: Source
    if paths:
        source = open_files(paths, instrument)
    elif instrument is not None:
        source = topic = TopicSource(load_settings(config), instrument, day)
        day = topic.day
    else:
        raise click.UsageError("which INSTRUMENT? Without one only --file can be read")
    with closing(source):
        report = analyse(source, day, options, quiet=quiet)
    write(report, form, output)


def analyse(source: Source, day: str | None, options: Rules, *, quiet: bool = True) -> QualityReport:
    """Read a source to its end and report on one day (None: that of its first tick); progress is on standard error."""
    warm_up()  # not part of what is measured
    found: Analysis | None = None
    seconds = 0.0
    with progress(source, quiet=quiet) as shown:
        for ticks in batched(source.chunks()):
            started = perf_counter()
            if found is None:
                first_day = day_of(int(ticks["ts_recv_ns"][0]))
                found = Analysis(day or first_day, options)
            found.add(ticks)
            seconds += perf_counter() - started
            shown(len(ticks), seconds)
    assert found is not None, "a source without ticks raises"  # noqa: S101
    if found.outside and not found.counts["ticks"].any():
        raise NotFoundError(
            f"{source.words} has nothing of {source.instrument} that was received on {found.day} (UTC); it has of "
            f"{first_day}: --day {first_day}"
        )
    return summarise(
        found,
        source.instrument,
        source.words,
        rejected=source.rejected,
        damage=source.damage,
        repeated_frames=source.repeated_frames,
        unread_records=source.unread_records,
    )


def write(report: QualityReport, form: str, output: Path | None) -> None:
    """Write a report as table, json or html to a file or to standard output; raise TapelineError if that fails."""
    if form == "table" and output is None:
        show(report, Console(highlight=False, width=None if sys.stdout.isatty() else PLAIN_WIDTH))
        return
    if form == "table":
        text = io.StringIO()
        show(report, Console(file=text, highlight=False, width=PLAIN_WIDTH))
        data = text.getvalue().encode()
    else:
        data = (page(report) if form == "html" else report.model_dump_json(indent=2) + "\n").encode()
    if output is None:
        out = click.get_binary_stream("stdout")
        out.write(data)
        out.flush()
        return
    try:
        output.write_bytes(data)
    except OSError as error:
        raise TapelineError(f"cannot write {output}: {error.strerror}") from error


def _rules(options: dict[str, float]) -> Rules:
    stale, quiet = (round(options.pop(name) * SECOND_NS) for name in ("stale_seconds", "quiet_seconds"))
    return Rules(**options, stale_ns=stale, quiet_ns=quiet)  # type: ignore[arg-type]  # click gives each its own type
