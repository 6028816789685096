"""`tapeline record VENUE`: write what a live venue says into a capture file (docs/captures.md). Needs no Kafka."""

import asyncio
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import click

from tapeline.connectors.venues.capture_writer import CaptureWriter
from tapeline.connectors.venues.command import STOPPED, give_memory_back, stop_at_signal, together
from tapeline.connectors.venues.contract import FeedMessage, Message
from tapeline.connectors.venues.live.client import Connection
from tapeline.connectors.venues.live.command import configured, live_options
from tapeline.connectors.venues.live.contract import Dialect, Plan
from tapeline.connectors.venues.live.dialects import DIALECTS, plans
from tapeline.connectors.venues.live.instruments import listings
from tapeline.connectors.venues.live.rest import Pace, Rest
from tapeline.connectors.venues.live.service import key_headers, silence_s, web_session
from tapeline.schemas import FeedGap, GapReason, TapelineError
from tapeline.streams.options import pass_settings
from tapeline.streams.settings import Settings, VenueSettings

FLUSH_S = 1.0
SHOWN_S = 5.0
MASK = "***"


class _Outlet:
    """One connection's way into the file; `secrets` are masked in what was sent."""

    full, roomy = False, True  # a file takes everything, or the process ends

    def __init__(self, writer: CaptureWriter, source: str, secrets: tuple[str, ...]) -> None:
        self.messages = 0
        self._writer, self._source, self._secrets = writer, source, secrets

    def put(self, item: Message | FeedMessage) -> None:
        """Write an item."""
        self.messages += isinstance(item, Message)
        self._writer.write(self._source, item)

    def sent(self, now_ns: int, text: str) -> None:
        """Write what was sent, without secrets."""
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        self._writer.sent(self._source, now_ns, text)


@click.command()
@click.argument("venue", type=click.Choice(list(DIALECTS)), metavar="VENUE")
@click.argument("file", type=click.Path(path_type=Path))
@live_options
@click.option("--seconds", type=click.FloatRange(0, min_open=True), help="Stop by itself after so long.")
@click.option("--quiet", is_flag=True, help="No progress and no summary.")
@pass_settings
def record(
    settings: Settings,
    /,
    venue: str,
    file: Path,
    symbols: str | None,
    streams: str | None,
    seconds: float | None,
    quiet: bool,
) -> int:
    """Record a live venue into a new capture FILE, byte for byte what came, with receive times, until Ctrl-C.

    `tapeline play FILE` sends it into Kafka later. The file can be read at any time, less its last second. What is not
    given as an option is taken from [venues.VENUE] of tapeline.toml; keys are not written.

    \b
    Examples:
      tapeline record kraken kraken.zst --symbols BTC/USD --streams trade,quote,depth
      tapeline record binance btc.zst --symbols BTCUSDT --seconds 3600
    """
    give_memory_back()
    asked = configured(settings, venue, symbols, streams)
    return asyncio.run(_record(DIALECTS[venue], asked, file, seconds, quiet=quiet))


async def _record(dialect: Dialect, asked: VenueSettings, file: Path, seconds: float | None, *, quiet: bool) -> int:
    stop, loop = stop_at_signal(), asyncio.get_running_loop()
    if seconds is not None:
        loop.call_later(seconds, stop.set)
    started = shown = loop.time()
    outlets: dict[_Outlet, Plan] = {}
    with CaptureWriter(file, dialect.venue, time.time_ns()) as writer:
        async with web_session() as http, together() as group:
            rest = Rest(http, dialect.fetches_per_second, key_headers(dialect, asked))
            pace = Pace(dialect.connects_per_second)
            work = [group.create_task(_list_instruments(dialect, asked, rest, writer))]
            for plan in plans(dialect, asked):
                secrets = tuple(filter(None, (plan.key, plan.secret)))
                outlet = _Outlet(writer, f"{dialect.venue}/{plan.connection}", secrets)
                outlets[outlet] = plan
                connection = Connection(
                    dialect, plan, http, rest, outlet, silence_s=silence_s(dialect, asked), pace=pace
                )
                work.append(group.create_task(connection.run()))
            while not stop.is_set():
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), FLUSH_S)
                writer.flush()
                if not quiet and loop.time() - shown >= SHOWN_S:
                    shown = loop.time()
                    click.echo(_state(outlets, writer, shown - started), err=True)
            for task in work:
                task.cancel()
        for outlet, plan in outlets.items():
            end = FeedGap(reason=GapReason.DISCONNECT, symbols=plan.symbols, detail="the recording was stopped")
            outlet.put(FeedMessage(time.time_ns(), end))
    if not quiet:
        click.echo(f"{file}: {_state(outlets, writer, loop.time() - started)}")
    if not sum(outlet.messages for outlet in outlets):
        raise TapelineError(f"{dialect.venue}: nothing came; the log above says why")
    return 0 if seconds is not None else STOPPED


async def _list_instruments(dialect: Dialect, asked: VenueSettings, rest: Rest, writer: CaptureWriter) -> None:
    """Write what REST says of the instruments, as it came."""
    async for url, body in listings(dialect, asked.rest or dialect.rest, rest):
        writer.answered(f"{dialect.venue}/rest", time.time_ns(), url, body)


def _state(outlets: Iterable[_Outlet], writer: CaptureWriter, seconds: float) -> str:
    messages = sum(outlet.messages for outlet in outlets)
    return f"{messages:,} messages, {messages / max(seconds, 1e-3):,.0f}/s, {writer.written_bytes / 1e6:,.1f} MB"
