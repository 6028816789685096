"""Which live venues there are, and what a configuration asks of them: checked, and cut into connections."""

from collections.abc import Iterator

from tapeline.connectors.venues.live import alpaca, binance, bitstamp, bybit, coinbase, kraken, okx
from tapeline.connectors.venues.live.contract import Dialect, Plan, StreamKind, chunks
from tapeline.streams.settings import Settings, VenueSettings

DIALECTS: dict[str, Dialect] = {
    dialect.venue: dialect
    for dialect in (
        binance.SPOT,
        binance.USDM,
        binance.COINM,
        coinbase.ADVANCED,
        coinbase.EXCHANGE,
        kraken.KRAKEN,
        bybit.SPOT,
        bybit.LINEAR,
        bybit.INVERSE,
        okx.OKX,
        bitstamp.BITSTAMP,
        alpaca.ALPACA,
    )
}
"""Name of the venue -> its live protocol."""


def check_venues(settings: Settings) -> None:
    """Raise SettingsError if [venues] asks for what a venue does not have, with the line at fault."""
    for name, venue in settings.venues.items():
        for keys, text in faults(name, venue):
            raise settings.error_at(("venues", name, *keys), text)


def faults(name: str, venue: VenueSettings) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield what a venue does not have, with the keys of its table that ask for it."""
    dialect = DIALECTS.get(name)
    if dialect is None:
        yield (), f"no live venue {name!r}: there are {', '.join(DIALECTS)}"
        return
    for stream in venue.streams or ():
        if stream not in dialect.streams:
            yield ("streams",), f"{name} has no stream {stream!r}: it has {', '.join(sorted(dialect.streams))}"
    if dialect.needs_key and (venue.key is None or venue.secret is None):
        yield (), f'{name} needs a key and its secret: write key = {{ env = "NAME" }} and secret = {{ env = "NAME" }}'


def plans(dialect: Dialect, venue: VenueSettings) -> list[Plan]:
    """Cut what is asked for into connections: `0`, `1`, ...; with several paths `0-public` and so on."""
    wanted = frozenset(map(StreamKind, venue.streams or (StreamKind.TRADE, StreamKind.QUOTE))) & dialect.streams
    size = min(dialect.symbols_max, venue.symbols_per_connection or dialect.symbols_max)
    found: list[Plan] = []
    for number, symbols in enumerate(chunks(venue.symbols, size)):
        for path, streams in dialect.paths:
            if wanted & streams:
                connection = str(number) if len(dialect.paths) == 1 else f"{number}-{path.strip('/').partition('/')[0]}"
                found.append(
                    Plan(
                        connection,
                        (venue.url or dialect.url) + path,
                        venue.rest or dialect.rest,
                        symbols,
                        wanted & streams,
                        venue.key.get_secret_value() if venue.key else "",
                        venue.secret.get_secret_value() if venue.secret else "",
                    )
                )
    return found
