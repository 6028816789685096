"""`tapeline bars`: make bars of recorded files, or show those that the role `bars` makes, now or as they come."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from fnmatch import fnmatchcase
from pathlib import Path
from time import perf_counter
from typing import Any

import click
import numpy as np

from tapeline.agents.bar_files import TickFiles, open_ticks
from tapeline.agents.bar_output import Row, lines, row
from tapeline.agents.bar_topic import BarTopic
from tapeline.agents.logic.bar_spec import BarSpec
from tapeline.agents.logic.bars import BarSeries
from tapeline.agents.logic.sessions import check_calendar
from tapeline.agents.quality.progress import progress
from tapeline.agents.quality.sources import NotFoundError, batched, listed
from tapeline.schemas import BAR, Bars, Instrument, Interval, IntervalError, TapelineError
from tapeline.streams.options import config_option
from tapeline.streams.settings import load_settings

TABLE_LIMIT = 100


class IntervalType(click.ParamType):
    """Such as 1m."""

    name = "INTERVAL"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Interval:
        """Return it as an Interval."""
        try:
            return value if isinstance(value, Interval) else Interval.parse(str(value))
        except IntervalError as error:
            self.fail(str(error), param, ctx)


@click.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--interval",
    "intervals",
    type=IntervalType(),
    multiple=True,
    help="1m, 15s, 1h, 1d; 100t (trades), 500v (volume), 1000000$ (price x size). Several times: each "
    "[default: 1m of files, every one of the topic].",
)
@click.option("--instrument", "patterns", multiple=True, default=["*"], help="venue:SYMBOL, with * ? [...].")
@click.option("--calendar", help="Align to the sessions of an exchange, such as XNYS (files).")
@click.option("--grace", default=1.0, show_default=True, help="Seconds after its end at which a bar closes (files).")
@click.option("--follow", is_flag=True, help="Go on showing bars as they are made, until Ctrl-C (topic).")
@click.option(
    "--limit", type=click.IntRange(1), help=f"Only the newest N of each [default: {TABLE_LIMIT} in a table, else all]."
)
@click.option("--format", "form", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True)
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Write to a file [default: print].")
@click.option("--quiet", is_flag=True, help="No progress.")
@config_option
def bars(
    files: tuple[Path, ...],
    intervals: tuple[Interval, ...],
    patterns: tuple[str, ...],
    calendar: str | None,
    grace: float,
    follow: bool,
    limit: int | None,
    form: str,
    output: Path | None,
    quiet: bool,
    config: Path | None,
) -> None:
    """Make bars of recorded ticks in FILES, or show those that the role `bars` makes (topic bars).

    FILES are captures of `tapeline record`, Binance recordings or LEAN tick files; no server is needed. Of each bar its
    last revision is shown. docs/bars.md has the rules.

    \b
    Examples:
      tapeline bars spy.zip --interval 5m --calendar XNYS
      tapeline bars kraken.zst --interval 1m --interval 1000t --format csv --output bars.csv
      tapeline bars --instrument 'binance:*' --interval 1m       of the topic
      tapeline bars --follow --format json                       as they are made
    """
    if files and follow:
        raise click.UsageError("--follow is of the topic, not of files")
    if not files and calendar is not None:
        raise click.UsageError("--calendar is for files; [bars] calendars says it for the role")
    if limit is None and form == "table":
        limit = TABLE_LIMIT
    if files:
        if calendar is not None:
            check_calendar(calendar)
        write(lines(of_files(files, intervals, patterns, calendar, grace, limit, quiet=quiet), form), output)
        return
    with closing(BarTopic(load_settings(config))) as topic:
        select = selection(topic.instruments.__getitem__, patterns, intervals)
        if follow:
            write(lines(following(topic, select), form), output)
        else:
            found = newest(topic.read(), select)
            if not len(found):
                raise NotFoundError("topic bars has none of these; does the role `bars` run ([bars] intervals)?")
            write(lines(rows(found, limit, topic.instruments), form), output)


Select = Callable[[Bars], Bars]


def selection(resolve: Callable[[int], Instrument], patterns: Sequence[str], intervals: Sequence[Interval]) -> Select:
    """Return a function that takes those of the wanted instruments and intervals out of bars."""
    wanted: dict[int, bool] = {}
    kinds = {(int(one.kind), one.size) for one in intervals}

    def select(found: Bars) -> Bars:
        for number in np.unique(found["instrument_id"]).tolist():
            if number not in wanted:
                wanted[number] = any(fnmatchcase(resolve(number).name, pattern) for pattern in patterns)
        mask = [
            wanted[number] and (not kinds or (kind, size) in kinds)
            for number, kind, size in found[["instrument_id", "kind", "size"]].tolist()
        ]
        chosen: Bars = found[np.array(mask, np.bool_)]
        return chosen

    return select


def newest(found: Iterable[tuple[int, Bars]], select: Select) -> Bars:
    """Return the last revision of each bar, in order of interval, instrument and time.

    Of an instrument's bars of an interval, those of the stream that came last.
    """
    kept: dict[tuple[int, int, float], dict[int, dict[int, Any]]] = defaultdict(lambda: defaultdict(dict))
    streams: dict[tuple[int, int, float], int] = {}  # the newest; a stream may go on after others: none is forgotten
    for stream, bars in found:
        for bar in select(bars):
            name = (int(bar["instrument_id"]), int(bar["kind"]), float(bar["size"]))
            streams[name], numbered = stream, kept[name][stream]
            before = numbered.get(int(bar["number"]))
            if before is None or before["revision"] <= bar["revision"]:
                numbered[int(bar["number"])] = bar.copy()
    every = [bar for name, stream in streams.items() for bar in kept[name][stream].values()]
    return np.sort(np.array(every, BAR), order=["kind", "size", "instrument_id", "number"])


def rows(found: Bars, limit: int | None, instruments: dict[int, Instrument]) -> list[Row]:
    """Return the newest `limit` bars of each instrument and interval as rows."""
    named = found[["kind", "size", "instrument_id"]]
    ends = np.append(np.flatnonzero(named[1:] != named[:-1]) + 1, len(found)).tolist()
    chosen: list[Row] = []
    begin = 0
    for end in ends:
        chosen += [row(bar, instruments) for bar in found[max(begin, end - (limit or end)) : end]]
        begin = end
    return chosen


def following(topic: BarTopic, select: Select) -> Iterator[Row]:
    """Yield the rows of bars as they come; those that are there are passed over."""
    for _ in topic.read():
        pass
    for _, bars in topic.follow():
        for bar in select(bars):
            yield row(bar, topic.instruments)


def of_files(
    files: Sequence[Path],
    intervals: Sequence[Interval],
    patterns: Sequence[str],
    calendar: str | None,
    grace: float,
    limit: int | None,
    *,
    quiet: bool,
) -> list[Row]:
    """Make the bars of files, and return the newest `limit` of each instrument and interval as rows."""
    source = TickFiles([open_ticks(path) for path in files])

    def resolve(number: int) -> Instrument:
        return source.instruments[number].model_copy(update={"session": calendar})

    wanted = [BarSpec(one, round(grace * 1e9), instruments=patterns) for one in intervals or (Interval.parse("1m"),)]
    series = [BarSeries(spec, resolve) for spec in wanted]
    made: list[tuple[int, Bars]] = []
    clock_ns, seconds = 0, 0.0
    with progress(source, quiet=quiet, work="their bars") as shown:
        for ticks in batched(source.chunks()):
            started = perf_counter()
            clock_ns = max(clock_ns, int(ticks["ts_recv_ns"].max()))
            made += [(number, one.add(ticks, clock_ns).bars) for number, one in enumerate(series)]
            seconds += perf_counter() - started
            shown(len(ticks), seconds)
    made += [(number, one.finish()) for number, one in enumerate(series)]
    _say_what_is_missing(source, series)
    found = newest(made, lambda bars: bars)
    if not len(found):
        names = [one.name for one in source.instruments.values()]
        has = f"it has ticks of {listed(names)}" if names else "it has no ticks"
        raise NotFoundError(f"{source.words} has no trades that make these bars; {has}")
    return rows(found, limit, source.instruments)


def _say_what_is_missing(source: TickFiles, series: Sequence[BarSeries]) -> None:
    """Say on standard error what was read and is in no bar."""
    for damage in source.damage:
        click.echo(damage, err=True)
    if source.rejected:
        counts = ", ".join(f"{count:,} {why}" for why, count in source.rejected.items())
        click.echo(f"messages that could not be read: {counts}", err=True)
    for one in series:
        left = ", ".join(f"{count:,} {why}" for why, count in one.left_out.items() if count)
        if left:
            click.echo(f"{one.spec.interval}: trades left out: {left}", err=True)


def write(text: Iterable[str], output: Path | None) -> None:
    """Write lines to a file or, each as it comes, to standard output."""
    if output is None:
        out = click.get_text_stream("stdout", encoding="utf-8")
        for line in text:
            out.write(line + "\n")
            out.flush()
        return
    try:
        with output.open("w", encoding="utf-8") as file:
            file.writelines(line + "\n" for line in text)
    except OSError as error:
        raise TapelineError(f"cannot write {output}: {error.strerror}") from error
