"""Live venues: market data over WebSocket into topic `raw`. `contract` says what a venue's protocol is.

`tapeline ingest VENUE` (`command`) runs connections (`client`) that put what comes into bounded queues (`feed`), each
under a lease (`lease`), so that two processes for one venue do not double the data.
"""

from tapeline.connectors.venues.live.dialects import DIALECTS, check_venues

__all__ = ["DIALECTS", "check_venues"]
