"""What a venue's REST says of the instruments that are read: currencies, tick, lot, status, into the registry.

`service` runs it beside the connections of a venue: at the start, and every hour. Only what changed is written, so that
many processes may do it.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from decimal import Decimal, InvalidOperation

import orjson

from tapeline.connectors.venues.live.contract import Dialect, InstrumentInfo
from tapeline.connectors.venues.live.rest import RefusedError, Rest
from tapeline.schemas import Instrument
from tapeline.streams.producer import Producer
from tapeline.streams.registry import Registry

log = logging.getLogger(__name__)

EVERY_S = 3600.0
DECIMALS = ("multiplier", "tick", "lot")


async def keep_described(
    dialect: Dialect,
    base: str,
    symbols: Sequence[str],
    rest: Rest,
    registry: Registry,
    producer: Producer,
    unlisted: Callable[[Sequence[str]], None],
) -> None:
    """Describe the instruments now and then, until cancelled.

    base: what its REST's paths begin with; unlisted: told which symbols are in none of the venue's lists.
    """
    while True:
        infos: dict[str, InstrumentInfo] = {}
        lists = 0
        async for url, body in listings(dialect, base, rest):
            try:
                infos |= {info.symbol: info for info in read_listing(dialect, body)}
                lists += 1
            except ValueError as error:
                log.warning("%s: %s", url, error)
        missing = [symbol for symbol in symbols if symbol not in infos]
        if infos and lists == len(dialect.instruments):
            unlisted(missing)
        if infos and missing:
            log.warning("%s does not list %s; is that its spelling?", dialect.venue, ", ".join(missing[:20]))
        known = {f"{dialect.venue}:{symbol}": infos[symbol] for symbol in symbols if symbol in infos}
        await registry.register(known, producer)
        described = [described_as(registry.by_name[name], info, time.time_ns()) for name, info in known.items()]
        await registry.describe([one for one in described if one is not None], producer)
        await asyncio.sleep(EVERY_S)


async def listings(dialect: Dialect, base: str, rest: Rest) -> AsyncIterator[tuple[str, bytes]]:
    """Yield (URL, body) of what lists a venue's instruments."""
    for path in dialect.instruments:
        try:
            yield base + path, await rest.get(base + path)
        except RefusedError as error:
            log.warning("%s does not list its instruments: %s", dialect.venue, error)


def read_listing(dialect: Dialect, body: bytes) -> list[InstrumentInfo]:
    """Read an answer that lists instruments; raises ValueError for what is none."""
    try:
        return dialect.describe(orjson.loads(body))
    except (KeyError, TypeError, AttributeError, IndexError, orjson.JSONDecodeError) as error:
        raise ValueError(f"the answer is no list of instruments: {error!r}") from error


def described_as(known: Instrument, info: InstrumentInfo, now_ns: int) -> Instrument | None:
    """Return the next version of an instrument, or None if nothing changed."""
    said: dict[str, str | Decimal] = {}
    for field in ("base", "quote", "settle", "status", *DECIMALS):
        value = getattr(info, field)
        if value is None:
            continue
        try:
            said[field] = Decimal(value) if field in DECIMALS else value
        except InvalidOperation:
            log.warning("%s: %s %r is no number", known.name, field, value)
    if all(getattr(known, field) == value for field, value in said.items()):
        return None
    return known.model_copy(update=said | {"valid_from_ns": now_ns})
