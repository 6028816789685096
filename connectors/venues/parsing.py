"""Which venue a raw frame is of, and so whose `parse` reads it. agents/normalize calls `parse_frame`."""

from tapeline.connectors.venues import (
    alpaca,
    binance,
    binance_shapes,
    bitstamp,
    bitstamp_shapes,
    bybit,
    bybit_shapes,
    coinbase,
    coinbase_exchange,
    coinbase_shapes,
    kraken,
    kraken_shapes,
    lean,
    okx,
    okx_shapes,
    sim,
)
from tapeline.connectors.venues.assembly import Assembly
from tapeline.connectors.venues.contract import Parsed, Sequences, Venue
from tapeline.connectors.venues.feed import parse_feed
from tapeline.schemas import FrameFlag, RawFrame, RejectReason

_ALL = (
    *(binance.SPOT, binance.USDM, binance.COINM),
    *(bybit.SPOT, bybit.LINEAR, bybit.INVERSE),
    coinbase.VENUE,
    coinbase_exchange.VENUE,
    kraken.VENUE,
    okx.VENUE,
    bitstamp.VENUE,
    alpaca.VENUE,
    lean.VENUE,
    sim.VENUE,
)
VENUES: dict[str, Venue] = {venue.name: venue for venue in _ALL}
"""Name (the part of a source before the slash) -> venue."""
_SCANNERS = (
    *binance_shapes.SCANNERS.values(),
    binance_shapes.SNAPSHOT_SCANNER,
    bitstamp_shapes.SCANNER,
    bybit_shapes.SCANNER,
    bybit_shapes.SCANNER_BUT_TICKERS,
    coinbase_shapes.SCANNER,
    coinbase_shapes.EXCHANGE_SCANNER,
    kraken_shapes.SCANNER,
    okx_shapes.SCANNER,
    *lean.SCANNERS.values(),
    sim.SCANNER,
)


def parse_frame(frame: RawFrame, state: Sequences) -> Parsed:
    """Return the ticks of a frame of any venue; `state` is its connection's and is changed (see `contract`).

    The messages of a venue that is not known here are rejected, each of them.
    """
    name = frame.source.partition("/")[0]
    venue = VENUES.get(name)
    if venue is not None:
        return parse_feed(venue, frame, state) if frame.flags & FrameFlag.FEED else venue.parse(frame, state)
    assembly = Assembly(name, frame, state)
    detail = f"no venue {name!r} (source {frame.source}): this version reads {', '.join(VENUES)}"
    assembly.reject_all(RejectReason.UNKNOWN, detail)
    return assembly.parsed()


def warm_up() -> None:
    """Compile what `parse_frame` needs, so that the first frame does not wait for it."""
    from tapeline.connectors.venues import bybit_kernel, scan

    scan.kernels()
    bybit_kernel.kernel()
    for scanner in _SCANNERS:
        _ = scanner.program
