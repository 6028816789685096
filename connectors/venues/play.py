"""`tapeline play FILE`: send a capture into topic `raw`, as its connections gave it (docs/captures.md)."""

import asyncio
from pathlib import Path
from time import monotonic

import click

from tapeline.connectors.venues.capture import Capture, open_capture
from tapeline.connectors.venues.command import STOPPED, give_memory_back, progress_options, speed_option, stop_at_signal
from tapeline.connectors.venues.contract import Recording
from tapeline.connectors.venues.progress import clock, progress
from tapeline.connectors.venues.pump import play as pump
from tapeline.streams.options import pass_settings
from tapeline.streams.producer import Producer
from tapeline.streams.settings import Settings, kafka_bootstrap

PLAYED = ".played"
"""Put behind a connection's name: it is not the one that may be read live meanwhile, with its numbers and its lease."""


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@speed_option
@progress_options
@pass_settings
def play(settings: Settings, /, file: Path, speed: float | None, plain: bool, quiet: bool) -> int:
    """Send a capture into topic raw, byte for byte, with the receive times that it has.

    FILE was made by `tapeline record`, or by cryptofeed (version 3). Gaps in it are gaps in ticks.

    \b
    Examples:
      tapeline play kraken.zst
      tapeline play kraken.zst --speed 1x      at the pace at which it was recorded

    Ctrl-C stops it: what was sent is confirmed first (exit status 130).
    """
    give_memory_back()
    return asyncio.run(_play(settings, open_capture(file), speed, plain=plain, quiet=quiet))


async def _play(settings: Settings, capture: Capture, speed: float | None, *, plain: bool, quiet: bool) -> int:
    stop = stop_at_signal()
    started = monotonic()
    kafka, compression = settings.kafka.librdkafka(kafka_bootstrap(settings)), settings.frames.compression
    name = capture.path.name
    shown = Recording(name, name, iter(()), capture.total_bytes, "bytes", lambda: capture.read_bytes)
    async with Producer(kafka, compression=compression) as producer:
        with progress(shown, plain=plain, quiet=quiet) as show:
            items = ((source + PLAYED, item) for source, item in capture.items())
            summary = await pump(items, name, producer, settings.frames, speed=speed, on_progress=show, stop=stop)
    if not quiet:
        how = "all of it" if summary.complete else f"stopped at {clock(summary.feed_ns)}"
        if summary.damage is not None:
            how = "up to the damage"
        rejected = f"{summary.rejected:,} rejected, " if summary.rejected else ""
        click.echo(
            f"{name} of {capture.venue}: {how}, {summary.messages:,} messages in {summary.frames:,} frames, {rejected}"
            f"confirmed, in {monotonic() - started:,.1f} s"
        )
    if summary.damage is not None:
        raise summary.damage
    return 0 if summary.complete else STOPPED
