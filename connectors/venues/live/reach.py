"""Whether a venue can be reached from here: its WebSocket opens. `tapeline demo --venue` asks first."""

import asyncio

import aiohttp

from tapeline.connectors.venues.live.client import CONNECT_S
from tapeline.connectors.venues.live.contract import Dialect
from tapeline.connectors.venues.live.dialects import plans
from tapeline.connectors.venues.live.service import web_session
from tapeline.schemas import UnavailableError
from tapeline.streams.settings import VenueSettings

NOT_FROM_HERE = (403, 451)
"""What venues answer to those whom they may not or will not serve."""


async def reach(dialect: Dialect, venue: VenueSettings) -> None:
    """Open a connection and close it again; raises UnavailableError that says what may be the matter."""
    url = plans(dialect, venue)[0].url
    try:
        async with (
            asyncio.timeout(CONNECT_S),
            web_session() as http,
            http.ws_connect(url, timeout=aiohttp.ClientWSTimeout(ws_close=1.0)),
        ):
            pass
    except aiohttp.WSServerHandshakeError as error:
        why = "it does not serve you from where you are" if error.status in NOT_FROM_HERE else error.message
        raise UnavailableError(
            f"{dialect.venue} refuses the connection to {url}: status {error.status}, {why}. Try another venue"
        ) from None
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise UnavailableError(
            f"{dialect.venue} cannot be reached from here ({url}: {str(error) or 'no answer'}). Is there internet, and "
            "does the firewall let it through? `tapeline demo` without --venue needs none"
        ) from None
