"""Open a recorded file of Binance messages: `<receive time ns> <message>` a line, plain or gzip.

Called by `tapeline ingest binance` and by tests. The messages stay byte for byte what the recorder wrote.
"""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Literal

import orjson

from tapeline.connectors.venues.contract import Message, Recording, RecordingError, Unreadable
from tapeline.connectors.venues.recorded import LineFile
from tapeline.schemas import RejectReason
from tapeline.schemas.frames import SOURCE_BYTES_MAX

Market = Literal["spot", "usdm"]
VENUE_OF: dict[Market, str] = {"spot": "binance", "usdm": "binance-usdm"}
LOOKED_AT_MAX = 1000
"""Lines that are looked at to tell the market."""
NS_DIGITS_MAX = 18


def open_recording(path: Path, market: Market | None = None, connection: str | None = None) -> Recording:
    """Open a file; its source is `binance/NAME` or `binance-usdm/NAME`, NAME = `connection` or the file's stem.

    Without `market` the first messages tell it. Raises RecordingError if they do not, or if there is no such file.
    """
    if market is None:
        market = _market(path)
    name = connection or path.name.removesuffix(".gz").rpartition(".")[0] or path.name.removesuffix(".gz")
    source = f"{VENUE_OF[market]}/{name}"
    if len(source.encode()) > SOURCE_BYTES_MAX:
        raise RecordingError(f"the name of {path} makes a source of {len(source.encode())} bytes: use --connection")
    file = LineFile(path)
    return Recording(source, path.name, _items(file), file.total_bytes, "bytes", lambda: file.read_bytes)


def _items(file: LineFile) -> Iterator[Message | Unreadable]:
    for index, line in enumerate(file.lines()):
        text, _, data = line.partition(b" ")
        # isdigit: int() would take signs, spaces and underscores too.
        if text.isdigit() and len(text) <= NS_DIGITS_MAX + 1 and (recv_ns := int(text)) < 2**63 and data:
            yield Message(recv_ns, data)
        else:
            detail = f"{file.path.name}, line {index + 1}: does not begin with a receive time in ns and a space"
            yield Unreadable(index, RejectReason.MALFORMED, detail, line)


def _market(path: Path) -> Market:
    """Tell the market by fields that only one of the two sends."""
    looked_at = 0
    for item in islice(_items(LineFile(path)), LOOKED_AT_MAX):
        looked_at += 1
        if isinstance(item, Message) and (market := _market_of(item.data)) is not None:
            return market
    raise RecordingError(
        f"{path}: the first {looked_at} lines do not tell whether this is spot or USD-M futures; say it with --market"
    )


def _market_of(data: bytes) -> Market | None:
    try:
        message = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    event = message.get("data", message) if isinstance(message, dict) else None
    if not isinstance(event, dict):
        return None
    match event.get("e"):
        case "depthUpdate":
            return "usdm" if "pu" in event else "spot"
        case "bookTicker":
            return "usdm"
        case "trade" | "aggTrade":
            return "spot" if "M" in event else "usdm"
        case None if "lastUpdateId" in event:
            return "usdm" if "T" in event else "spot"
        case None if {"s", "u", "b", "a"} <= event.keys():
            return "spot"
    return None
