"""`tapeline ingest VENUE`: read a live venue into topic `raw` until Ctrl-C. `ingest` makes a command a venue of it.

Options and words only: `service` runs the connections.
"""

import asyncio
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click
from pydantic import ValidationError
from pydantic_core import ErrorDetails
from rich.console import Console
from rich.live import Live
from rich.table import Table

from tapeline.connectors.venues.command import STOPPED, stop_at_signal
from tapeline.connectors.venues.live.contract import Dialect, StreamKind
from tapeline.connectors.venues.live.dialects import DIALECTS, faults
from tapeline.schemas import SettingsError
from tapeline.streams.feeds import FeedFile, FeedRow
from tapeline.streams.home import Home
from tapeline.streams.settings import Settings, VenueSettings, kafka_bootstrap
from tapeline.streams.settings_check import Sources

if TYPE_CHECKING:
    from tapeline.connectors.venues.live.service import LiveConnection

PLAIN_SECONDS, SHOWN_SECONDS, PUBLISH_SECONDS = 5.0, 0.5, 1.0
GIL_SECONDS = 0.0001
"""The loop and the producer's thread take turns; at the default 5 ms a record waits for the other's turn to end."""

NO_SOURCES = Sources(None, {}, {})
"""Options hold no secrets that would have to be fetched."""


def live_options(command: Any) -> Any:
    """Give a command the options of a live venue."""
    for option in reversed(
        (
            click.option("--symbols", metavar="LIST", help="In the venue's spelling, with commas [default: [venues])."),
            click.option(
                "--streams", metavar="LIST", help="Of trade, quote, depth [default: [venues], or trade,quote]."
            ),
        )
    ):
        command = option(command)
    return command


def configured(settings: Settings, venue: str, symbols: str | None, streams: str | None) -> VenueSettings:
    """Return what is to be read of a venue: the options, over what [venues.NAME] says. Raises SettingsError."""
    given = {"symbols": symbols, "streams": streams}
    lists = {name: [part.strip() for part in value.split(",")] for name, value in given.items() if value is not None}
    known = settings.venues.get(venue)
    if known is None and symbols is None:
        raise SettingsError(
            f"no symbols of {venue}: name them with --symbols, or write [venues.{venue}] into tapeline.toml"
        )
    try:
        asked = VenueSettings.model_validate((known.model_dump() if known else {}) | lists, context=NO_SOURCES)
    except ValidationError as error:
        found = error.errors()
        errors = [one for one in found if one["type"] != "too_short"] or found  # that a list is too short follows
        raise SettingsError("; ".join(f"--{one['loc'][0]}: {_words(one)}" for one in errors)) from None
    for _, text in faults(venue, asked):
        raise SettingsError(text)
    return asked


def _words(error: ErrorDetails) -> str:
    """Say what is wrong with an option."""
    if error["type"] == "string_too_short":
        return "a name is missing"
    if error["type"] == "literal_error":
        return f"{error['input']!r} is none of {', '.join(StreamKind)}"
    return error["msg"]


def read_live(settings: Settings, venue: str, asked: VenueSettings, *, plain: bool, quiet: bool) -> int:
    """Read a venue until a signal; return the exit status."""
    sys.setswitchinterval(GIL_SECONDS)
    return asyncio.run(_read(settings, DIALECTS[venue], asked, plain=plain, quiet=quiet))


async def _read(settings: Settings, dialect: Dialect, asked: VenueSettings, *, plain: bool, quiet: bool) -> int:
    # Here, so that whoever reads a file does not wait for aiohttp.
    from tapeline.connectors.venues.live.service import run_live

    kafka = settings.kafka.librdkafka(kafka_bootstrap(settings))
    stop, loop = stop_at_signal(), asyncio.get_running_loop()
    showing: list[asyncio.Task[None]] = []

    def show(live: "list[LiveConnection]") -> None:
        showing.append(loop.create_task(_publish(live, FeedFile(Home.at(settings.home)))))
        if not quiet:
            lines = plain or not sys.stderr.isatty()
            showing.append(loop.create_task(_lines(live) if lines else _table(live)))

    try:
        live = await run_live(settings, {dialect: asked}, kafka, stop=stop, on_start=show)
    finally:
        for task in showing:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
    if not quiet:
        for one in live:
            click.echo(f"{one.source}: {one.messages:,} messages in raw, confirmed; given back")
    return STOPPED


async def _publish(live: "list[LiveConnection]", file: FeedFile) -> None:
    """Let `tapeline status` see the connections."""
    rates = _Rates(live)
    with file.there():
        while True:
            file.write(rates.rows())
            await asyncio.sleep(PUBLISH_SECONDS)


async def _lines(live: "list[LiveConnection]") -> None:
    rates = _Rates(live)
    while True:
        await asyncio.sleep(PLAIN_SECONDS)
        for row in rates.rows():
            line = f"{row.source}: {row.state}, {row.messages:,} messages, {row.messages_per_second:,.0f}/s, "
            click.echo(f"{line}{row.waiting:,} waiting", err=True)


async def _table(live: "list[LiveConnection]") -> None:
    rates = _Rates(live)
    with Live(console=Console(stderr=True), transient=True, auto_refresh=False) as view:
        while True:
            table = Table("connection", "state", "messages", "a second", "waiting")
            for row in rates.rows():
                numbers = f"{row.messages:,}", f"{row.messages_per_second:,.0f}", f"{row.waiting:,}"
                table.add_row(row.source, row.state, *numbers)
            view.update(table, refresh=True)
            await asyncio.sleep(SHOWN_SECONDS)


class _Rates:
    """The rows to show, with messages a second since the last look."""

    def __init__(self, live: "list[LiveConnection]") -> None:
        self._live = live
        self._before: dict[str, int] = {}
        self._looked_s = time.monotonic()

    def rows(self) -> Sequence[FeedRow]:
        now_s = time.monotonic()
        seconds, self._looked_s = max(now_s - self._looked_s, 1e-3), now_s
        rows = []
        for one in self._live:
            rate = (one.messages - self._before.get(one.source, 0)) / seconds
            self._before[one.source] = one.messages
            row = FeedRow(
                one.source,
                one.state,
                one.messages,
                max(rate, 0.0),
                one.waiting,
                one.losses,
                one.unlisted,
                one.refusal,
            )
            rows.append(row)
        return rows
