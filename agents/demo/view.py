"""Draw a reading: the live screen, or one plain line. Pure; `command.py` calls it four times a second."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.align import Align
from rich.console import Group, RenderableType
from rich.layout import Layout
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from tapeline.agents.demo.meter import Flow, Price, Reading
from tapeline.connectors.stores.signals import format_time
from tapeline.schemas import Signal
from tapeline.streams.up import ROLES

BARS = "▁▂▃▄▅▆▇█"
WIDE = 110
"""From so many columns on there is room for prices beside the signals."""
SIDE_STYLES = {"buy": "bold green", "sell": "bold red", "flat": "yellow"}


@dataclass(frozen=True, slots=True)
class Facts:
    """What does not change while it runs."""

    market: str
    places: tuple[tuple[str, str], ...]
    """(what, where) of servers and data."""


def screen(reading: Reading, facts: Facts, seconds: float, width: int, height: int, note: str = "") -> Layout:
    """Return the whole screen: title, pipeline, signals and prices, places."""
    places = _places(facts, reading.trouble or note)
    root = Layout()
    root.split_column(
        Layout(_title(facts, seconds), size=1),
        Layout(_pipeline(reading, width), size=8),
        Layout(name="body"),
        Layout(places, size=len(facts.places) + 2),
    )
    rows = max(1, height - 8 - 1 - len(facts.places) - 2 - 3)
    signals = _signals(reading.latest[:rows], reading.stored.total)
    if width >= WIDE:
        root["body"].split_row(
            Layout(signals, ratio=3), Layout(_prices(reading.prices[:rows], width * 2 // 5), ratio=2)
        )
    else:
        root["body"].update(signals)
    return root


def line(reading: Reading, seconds: float) -> str:
    """Return one line for a log."""
    lags = ", ".join(f"{role} {duration(reading.lags_ms[role])}" for role in ROLES)
    return (
        f"{seconds:4.0f} s  {reading.messages.rate:,.0f} messages/s  {reading.ticks.rate:,.0f} ticks/s  "
        f"{reading.stored.total:,} signals in the database  lag: {lags}"
    )


def duration(ms: float | None) -> str:
    """Return a lag in words."""
    if ms is None:
        return "-"
    if ms < 9_950:
        return f"{ms:.0f} ms" if ms < 999.5 else f"{ms / 1000:.1f} s"
    return f"{ms / 1000:.0f} s" if ms < 120_000 else f"{ms / 60_000:.0f} min"


def sparkline(values: Sequence[float], width: int, *, from_zero: bool) -> str:
    """Return the last `width` values as bars, from zero or from the lowest of them."""
    shown = values[-width:]
    if not shown:
        return ""
    low, high = 0.0 if from_zero else min(shown), max(shown)
    if high <= low:
        return BARS[0 if from_zero else 3] * len(shown)
    return "".join(BARS[min(7, int((one - low) / (high - low) * 8))] for one in shown)


def _title(facts: Facts, seconds: float) -> RenderableType:
    grid = Table.grid(expand=True)
    grid.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    grid.add_column(justify="right", no_wrap=True)
    minutes, rest = divmod(int(seconds), 60)
    left = Text.assemble((" Tapeline demo ", "bold black on cyan"), ("  " + facts.market, "dim"))
    clock = f"{minutes // 60}:{minutes % 60:02}:{rest:02} "
    grid.add_row(left, Text.assemble(("Ctrl-C stops it   ", "dim"), (clock, "bold")))
    return grid


def _pipeline(reading: Reading, width: int) -> Panel:
    table = Table(box=None, expand=True, pad_edge=False, header_style="dim")
    table.add_column("role", no_wrap=True)
    for name in ("takes", "gives", "so far", "lag"):
        table.add_column(name, justify="right", no_wrap=True)
    messages, ticks, signals, stored = reading.messages, reading.ticks, reading.signals, reading.stored
    table.add_row("market", "", _rate(messages, "messages"), _total(messages), "")
    for role, taken, given, unit_in, unit_out in (
        ("normalize", messages, ticks, "messages", "ticks"),
        ("logic", ticks, signals, "ticks", "signals"),
        ("persist", signals, stored, "signals", "rows"),
    ):
        table.add_row(role, _rate(taken, unit_in), _rate(given, unit_out), _total(given), _lag(reading.lags_ms[role]))
    chart = Text.assemble(
        ("ticks/s  ", "dim"),
        (sparkline(reading.ticks_history, max(10, width - 13), from_zero=True), "cyan"),
        no_wrap=True,
        overflow="crop",
    )
    bad = f"[dim]{reading.gaps:,} gaps seen, {reading.rejected:,} bad messages put aside in topic rejected[/dim]"
    return Panel(
        Group(table, chart), subtitle=bad, subtitle_align="right", box=box.ROUNDED, border_style="bright_black"
    )


def _rate(flow: Flow, unit: str) -> Text:
    number = f"{flow.rate:,.0f}" if flow.rate >= 99.5 or flow.rate == 0 else f"{flow.rate:,.1f}"
    return Text.assemble((number, "bold"), (f" {unit}/s", "dim"))


def _total(flow: Flow) -> Text:
    return Text(f"{flow.total:,}")


def _lag(ms: float | None) -> Text:
    style = "dim" if ms is None else "green" if ms < 1000 else "yellow" if ms < 5000 else "bold red"
    return Text(duration(ms), style)


def _signals(latest: Sequence[Signal], total: int) -> Panel:
    title = f"[bold]{total:,}[/bold] signals in the database, the latest:" if total else "signals"
    body: RenderableType
    if latest:
        body = Table(box=None, expand=True, pad_edge=False, header_style="dim")
        body.add_column("time (UTC)", no_wrap=True)
        body.add_column("logic", no_wrap=True, style="dim")
        body.add_column("instrument", no_wrap=True)
        body.add_column("side", no_wrap=True)
        body.add_column("price", justify="right", no_wrap=True)
        body.add_column("seq", justify="right", no_wrap=True, style="dim")
        for one in latest:
            time = format_time(one.ts_event_ns)[11:]
            side = Text(f"{'▲' if one.side == 'buy' else '▼'} {one.side}", SIDE_STYLES[one.side])
            body.add_row(time, one.logic, one.instrument, side, format(one.price, "f"), str(one.seq))
    else:
        body = Align.center(Text("the first ones come within seconds", "dim"), vertical="middle")
    return Panel(body, title=title, title_align="left", box=box.ROUNDED, border_style="bright_black")


def _prices(prices: Sequence[Price], width: int) -> Panel:
    table = Table(box=None, expand=True, pad_edge=False, header_style="dim")
    table.add_column("instrument", no_wrap=True)
    table.add_column("price", justify="right", no_wrap=True)
    table.add_column("change", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True, ratio=1)
    for one in prices:
        change = one.last / one.first - 1 if one.first else 0.0
        style = "green" if change > 0 else "red" if change < 0 else "dim"
        chart = sparkline(one.history, max(5, width - 42), from_zero=False)
        table.add_row(one.name, f"{one.last:,.2f}", Text(f"{change:+.2%}", style), Text(chart, style))
    return Panel(table, title="the market", title_align="left", box=box.ROUNDED, border_style="bright_black")


def _places(facts: Facts, note: str) -> Panel:
    table = Table.grid(padding=(0, 2), expand=True)
    table.add_column(style="dim", no_wrap=True, width=max(len(what) for what, _ in facts.places))
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    for what, where in facts.places:
        table.add_row(what, where)
    subtitle = Text(f"! {note}", "yellow", no_wrap=True, overflow="ellipsis") if note else None
    return Panel(table, subtitle=subtitle, subtitle_align="left", box=box.ROUNDED, border_style="bright_black")
