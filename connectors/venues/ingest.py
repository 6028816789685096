"""`tapeline ingest VENUE [FILE]`: read a live venue, a recorded file or a simulated market into topic `raw`.

Options and words only: `pump` sends, the venues' `*_recording` modules read.
"""

import asyncio
from collections.abc import Callable
from dataclasses import fields
from datetime import datetime
from functools import update_wrapper
from pathlib import Path
from time import monotonic, time_ns
from typing import Any

import click
from confluent_kafka import TopicPartition

from tapeline.connectors.venues import binance_recording, lean_recording
from tapeline.connectors.venues.command import STOPPED, give_memory_back, progress_options, speed_option, stop_at_signal
from tapeline.connectors.venues.contract import Recording
from tapeline.connectors.venues.live import DIALECTS
from tapeline.connectors.venues.live.command import configured, live_options, read_live
from tapeline.connectors.venues.progress import clock, progress
from tapeline.connectors.venues.pump import Summary
from tapeline.connectors.venues.pump import ingest as pump
from tapeline.connectors.venues.sim_market import START_NS, MarketOptions, open_market
from tapeline.schemas import partition_of
from tapeline.schemas.topics import RAW
from tapeline.streams.options import pass_settings
from tapeline.streams.producer import Producer
from tapeline.streams.settings import Settings, kafka_bootstrap
from tapeline.streams.state import LogReader

EXAMPLES = {
    "binance-usdm": "BTCUSDT,ETHUSDT",
    "binance-coinm": "BTCUSD_PERP",
    "coinbase": "BTC-USD,ETH-USD",
    "coinbase-exchange": "BTC-USD,ETH-USD",
    "kraken": "BTC/USD,ETH/USD",
    "bybit": "BTCUSDT,ETHUSDT",
    "bybit-linear": "BTCUSDT,ETHUSDT",
    "bybit-inverse": "BTCUSD",
    "okx": "BTC-USDT,BTC-USDT-SWAP",
    "bitstamp": "btcusd,ethusd",
    "alpaca": "SPY,AAPL",
}
"""Live venue -> symbols, as it spells them."""


class Moment(click.ParamType):
    """`now`, or an ISO date and time with its zone."""

    name = "now|YYYY-MM-DDTHH:MM:SSZ"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return ns since 1970."""
        if isinstance(value, int):
            return value
        if value == "now":
            return time_ns()
        try:
            moment = datetime.fromisoformat(str(value))
        except ValueError:
            moment = None
        if moment is None or moment.tzinfo is None:
            self.fail(
                f"{value!r}: write now, or a date and time with its zone such as 2025-01-02T14:30:00Z", param, ctx
            )
        return round(moment.timestamp() * 1000) * 1_000_000


def _sends(command: Callable[..., Recording]) -> Callable[..., int]:
    """Give a command that opens a recording the options that all venues share, and let it send the recording."""

    @speed_option
    @progress_options
    @pass_settings
    def run(settings: Settings, /, speed: float | None, plain: bool, quiet: bool, **options: Any) -> int:
        give_memory_back()
        return asyncio.run(_send(settings, command(**options), speed, plain=plain, quiet=quiet))

    return update_wrapper(run, command)


async def _send(settings: Settings, recording: Recording, speed: float | None, *, plain: bool, quiet: bool) -> int:
    bootstrap = kafka_bootstrap(settings)
    stop = stop_at_signal()
    started = monotonic()
    kafka, compression = settings.kafka.librdkafka(bootstrap), settings.frames.compression
    async with Producer(kafka, compression=compression) as producer:
        partition = partition_of(recording.source, await producer.partition_count(RAW.name))
        reader, where = LogReader(kafka), TopicPartition(RAW.name, partition)
        _, first = await asyncio.to_thread(reader.ends, where)
        with progress(recording, plain=plain, quiet=quiet) as show:
            summary = await pump(recording, producer, settings.frames, speed=speed, on_progress=show, stop=stop)
        _, end = await asyncio.to_thread(reader.ends, where)
        reader.close()
    if not quiet:
        click.echo(words(summary, first, end - 1, monotonic() - started))
    if summary.damage is not None:
        raise summary.damage
    return 0 if summary.complete else STOPPED


def words(summary: Summary, first: int, last: int, seconds: float) -> str:
    """Say in one line what an ingest did; first, last: the offsets that the partition of `raw` got meanwhile."""
    how = "all of it" if summary.complete else f"stopped at {clock(summary.feed_ns)}"
    if summary.damage is not None:
        how = "up to the damage"
    records = summary.frames + summary.time_records
    where = f"{RAW.name}[{summary.partition}] offsets {first:,} to {last:,}" if records else f"nothing in {RAW.name}"
    if records and last - first + 1 != records:
        where += " (with records of others between them)"
    rejected = f"{summary.rejected:,} rejected, " if summary.rejected else ""
    return (
        f"{summary.source}: {how}, {summary.messages:,} messages in {summary.frames:,} frames and "
        f"{summary.time_records:,} time records, {rejected}{where}, confirmed, in {seconds:,.1f} s"
    )


class Venues(click.Group):
    """A group whose commands are venues."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the venue's command; say which there are if that is none."""
        if args[0] not in self.commands and not args[0].startswith("-"):
            ctx.fail(f"no venue {args[0]!r}: there are {', '.join(self.commands)}")
        return super().resolve_command(ctx, args)


@click.group(cls=Venues, subcommand_metavar="VENUE [FILE] [OPTIONS]")
def ingest() -> None:
    """Read a venue or a recorded file into Kafka (topic raw).

    \b
    Examples:
      tapeline ingest binance btcusdt_20240808.gz
      tapeline ingest binance btcusdt_20240808.gz --speed 10x
      tapeline ingest lean equity_usa_tick_spy_20131007_trade.zip
      tapeline ingest sim --seed 7 --seconds 60 --speed 1x
      tapeline ingest kraken --symbols BTC/USD --streams trade,quote,depth

    Ctrl-C stops it: what was sent is confirmed first, then it says how far it got (exit status 130).
    """


@ingest.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--market", type=click.Choice(["spot", "usdm"]), help="Of FILE [default: told by the first messages].")
@click.option("--connection", metavar="NAME", help="Of FILE: second part of the source [default: the file's name].")
@live_options
@speed_option
@progress_options
@pass_settings
def binance(
    settings: Settings,
    /,
    file: Path | None,
    market: binance_recording.Market | None,
    connection: str | None,
    symbols: str | None,
    streams: str | None,
    speed: float | None,
    plain: bool,
    quiet: bool,
) -> int:
    """Read Binance spot live, or send a recording of spot or USD-M futures messages.

    FILE has `<receive time in ns> <message>` a line, plain or gzip: trade, aggTrade, bookTicker and depth streams, and
    the REST depth snapshot. Without it the live market is read, until Ctrl-C.

    \b
    Examples:
      tapeline ingest binance --symbols BTCUSDT,ETHUSDT --streams trade,quote,depth
      tapeline ingest binance btcusdt_20240808.gz
      tapeline ingest binance btcusdt.txt --market spot --speed 1x
    """
    if file is None:
        if (market, connection, speed) != (None, None, None):
            raise click.UsageError("--market, --connection and --speed are for a FILE")
        asked = configured(settings, "binance", symbols, streams)
        return read_live(settings, "binance", asked, plain=plain, quiet=quiet)
    if (symbols, streams) != (None, None):
        raise click.UsageError("--symbols and --streams are for the live market, not for a FILE")
    give_memory_back()
    recording = binance_recording.open_recording(file, market, connection)
    return asyncio.run(_send(settings, recording, speed, plain=plain, quiet=quiet))


def _live(venue: str) -> None:
    """Make the command of a live venue."""

    @live_options
    @progress_options
    @pass_settings
    def read(settings: Settings, /, symbols: str | None, streams: str | None, plain: bool, quiet: bool) -> int:
        give_memory_back()
        asked = configured(settings, venue, symbols, streams)
        return read_live(settings, venue, asked, plain=plain, quiet=quiet)

    read.__doc__ = f"""Read {venue} live, until Ctrl-C.

    What is not given as an option is taken from [venues.{venue}] of tapeline.toml.

    \b
    Examples:
      tapeline ingest {venue} --symbols {EXAMPLES[venue]}
      tapeline ingest {venue} --symbols {EXAMPLES[venue]} --streams trade
    """
    ingest.command(venue)(read)


for _venue in DIALECTS:
    if _venue not in ingest.commands:  # binance reads files, too
        _live(_venue)


@ingest.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--as", "connection", metavar="WHAT", help="What it holds, such as equity-usa/spy/20131007/trade.")
@_sends
def lean(file: Path, connection: str | None) -> Recording:
    """Send a tick file of QuantConnect's LEAN: US equity trades and quotes, FX quotes.

    The name of FILE says what it holds: equity_usa_tick_spy_20131007_trade.zip, or as LEAN keeps it
    equity/usa/tick/spy/20131007_trade.zip. If not, --as does.

    \b
    Examples:
      tapeline ingest lean Data/equity/usa/tick/spy/20131007_trade.zip
      tapeline ingest lean eurusd.csv --as forex-fxcm/eurusd/20140508/quote --speed 100x
    """
    return lean_recording.open_recording(file, connection)


_DEFAULTS = {field.name: field.default for field in fields(MarketOptions)}


def _option(name: str, text: str, kind: Any = None, metavar: str | None = None) -> Callable[[Any], Any]:
    """Make the click option of one of MarketOptions."""
    default = _DEFAULTS[name]
    kind = kind or type(default)
    flag = "--" + name.removesuffix("_ns").replace("_", "-")
    return click.option(flag, name, type=kind, default=default, show_default=True, metavar=metavar, help=text)


@ingest.command()
@_option("seed", "Decides everything that is random.")
@_option("seconds", "Length in feed time [default: without end].", kind=float)
@_option("rate", "Messages a second of trading.")
@_option("instruments", "How many.")
@click.option(
    "--start",
    "start_ns",
    type=Moment(),
    metavar="TIME",
    default=START_NS,
    help="Feed time of the first message, or now [default: 2025-01-02T14:30:00Z].",
)
@_option("trade_share", "Of the messages; the others are quotes.")
@_option("volatility", "Of log price, over a second.")
@_option("correlation", "Share of the market in each instrument's variance.")
@_option("bursts_per_second", "How often messages come ten times faster for a while.")
@_option("session_seconds", "Length of a trading session.")
@_option("pause_seconds", "Quiet time between two sessions.")
@_option("gaps", "Probability that a message's number skips some.")
@_option("malformed", "Probability that a message is cut short.")
@_option("outliers", "Probability that a price is far off.")
@_sends
def sim(**options: Any) -> Recording:
    """Send a simulated market; the same options give the same bytes.

    \b
    Examples:
      tapeline ingest sim --seconds 60 --speed 1x
      tapeline ingest sim --start now --speed 1x
      tapeline ingest sim --seed 3 --rate 200000 --instruments 100 --seconds 30
    """
    return open_market(MarketOptions(**options))
