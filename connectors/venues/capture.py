"""Read a capture: what went over a venue's connections, with times, byte for byte (format: docs/captures.md).

Called by `tapeline play` and tests. `capture_writer` writes captures; those of cryptofeed are read, too.
"""

import base64
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson

from tapeline.connectors.venues.contract import FeedMessage, Message, RecordingError, Unreadable
from tapeline.connectors.venues.recorded import LineFile
from tapeline.schemas import FeedAnswer, FeedConnect, FeedGap, GapReason, Kind, RejectReason
from tapeline.schemas.frames import SOURCE_BYTES_MAX

FORMAT = "tapeline-1"
NS_MAX = 2**63 - 1
HELD_BYTES_MAX = 64 * 1024 * 1024
"""Of REST answers that wait for their connection."""
SAID_CHARACTERS_MAX = 1024 * 1024
"""Of what we sent on a connection, that is searched for symbols."""
Item = Message | FeedMessage | Unreadable

EXCHANGES = {
    "BINANCE": "binance",
    "BINANCE_FUTURES": "binance-usdm",
    "BINANCE_DELIVERY": "binance-coinm",
    "BITSTAMP": "bitstamp",
    "BYBIT": "bybit",
    "COINBASE": "coinbase",
    "KRAKEN": "kraken",
    "OKX": "okx",
}
"""Cryptofeed's exchanges and ours."""
ADDRESSES = {
    "//fstream.binance.com": "binance-usdm",
    "//dstream.binance.com": "binance-coinm",
    "/v5/public/linear": "bybit-linear",
    "/v5/public/inverse": "bybit-inverse",
    "//ws-feed": "coinbase-exchange",
}
"""What an address may contain, and the venue that it then is of, whatever its exchange."""
PICTURES = re.compile(
    r"/(?:api/v3|fapi/v1|dapi/v1)/depth\?(?:.*&)?symbol=(?P<binance>[^&]+)"
    r"|/api/v2/order_book/(?P<bitstamp>[^/?]+)"
    r"|/products/(?P<coinbase>[^/]+)/book"
)
"""URLs of order books by REST; a group is the symbol."""


class LineError(ValueError):
    """A line of a capture is not what it should be."""


@dataclass(slots=True)
class _Connection:
    """One WebSocket connection; said: where it went and what we sent, in lower case."""

    source: str
    said: str = ""


@dataclass(slots=True)
class _Connections:
    """Those of a capture so far, by the name that its lines give them."""

    by_name: dict[str, _Connection] = field(default_factory=dict)

    def of_symbol(self, symbol: str) -> _Connection | None:
        """Return the one that subscribed to a symbol; None: there is none so far."""
        return next((one for one in self.by_name.values() if symbol.lower() in one.said), None)


@dataclass(frozen=True, slots=True)
class _Answer:
    """An order book by REST whose line does not say which connection it is for."""

    recv_ns: int
    event: FeedAnswer


class Capture:
    """A capture file; `read_bytes` of `total_bytes` (as on disk) are read so far.

    venue: ours; header: its first line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = LineFile(path)
        self.header = self._header()
        self._is_ours = self.header.get("format") == FORMAT
        self._exchange = str(self.header.get("exchange", ""))
        self.venue = self._venue()

    @property
    def read_bytes(self) -> int:
        """How much of the file is read."""
        return self._file.read_bytes

    @property
    def total_bytes(self) -> int:
        """The size of the file."""
        return self._file.total_bytes

    def items(self) -> Iterator[tuple[str, Item]]:
        """Yield (source, item) in the order of the file; source: `venue/connection`, the key of its raw records.

        A message is a `Message`; a connection that was made, a gap and an order book that REST gave are `FeedMessage`s.
        Where the file does not say which connection an order book is for, it is the one that subscribed to the symbol,
        once that is as far in time (if none does, the first, at the end). A line that cannot be read is an
        `Unreadable`, on the connection of the line before it. Raises RecordingError where the file is damaged, after
        everything before.
        """
        connections = _Connections()
        held: list[_Answer] = []
        damage: RecordingError | None = None
        source = f"{self.venue}/capture"
        try:
            for index, line in enumerate(self._file.lines()):
                try:
                    found = self._read(connections, _loaded(line), held) if index else None
                except LineError as error:
                    detail = f"{self.path.name}, line {index + 1}: {error}"
                    yield source, Unreadable(index, RejectReason.MALFORMED, detail, line)
                    continue
                if found is not None:
                    source, item = found
                    if held:
                        yield from _due(connections, held, source, item.recv_ns)
                    yield source, item
        except RecordingError as error:
            damage = error
        for answer in held:
            own = connections.of_symbol(answer.event.symbol) or next(iter(connections.by_name.values()), None)
            yield own.source if own else source, FeedMessage(answer.recv_ns, answer.event)
        if damage is not None:
            raise damage

    def answers(self) -> Iterator[tuple[int, str, bytes]]:
        """Yield (receive time, URL, body) of all that REST answered; what cannot be read `items` tells."""
        for line in self._file.lines():
            try:
                one = _loaded(line)
                if one["t"] == "http":
                    yield _time_ns(one), _text(one, "url"), _data(one)
            except (LineError, KeyError):
                continue

    def _read(
        self, connections: _Connections, one: Mapping[str, Any], held: list[_Answer]
    ) -> tuple[str, Message | FeedMessage] | None:
        """Return what a line says to a connection; an order book is held until `_due`."""
        kind = one.get("t")
        if kind == "header":  # of a capture that was put behind another
            return None
        time_ns, name = _time_ns(one), _text(one, "conn")
        if kind == "http" and not ("symbol" in one and self._is_ours):
            self._hold(time_ns, one, held)
            return None
        if kind == "connect":
            address = _text(one, "addr")
            connections.by_name[name] = _Connection(self._source(name, address), address.lower())
            return connections.by_name[name].source, FeedMessage(time_ns, FeedConnect(url=address))
        connection = connections.by_name.setdefault(name, _Connection(self._source(name, "")))
        match kind:
            case "recv":
                return connection.source, Message(time_ns, _data(one))
            case "send":
                connection.said = (connection.said + _text(one, "data").lower())[:SAID_CHARACTERS_MAX]
                return None
            case "http":
                return connection.source, FeedMessage(time_ns, _answer(one, _text(one, "symbol")))
            case "gap":
                return connection.source, FeedMessage(time_ns, _gap(one))
            case "disconnect":
                return None
        raise LineError(f"t is {kind!r:.40}, not header, connect, send, recv, http, gap or disconnect")

    @staticmethod
    def _hold(time_ns: int, one: Mapping[str, Any], held: list[_Answer]) -> None:
        match = PICTURES.search(_text(one, "url"))
        if match is None:  # another answer
            _data(one)
            return
        event = _answer(one, match[match.lastgroup or 0])
        if sum(len(answer.event.data) for answer in held) + len(event.data) > HELD_BYTES_MAX:
            raise LineError(f"more than {HELD_BYTES_MAX} bytes of answers wait for their connections")
        held.append(_Answer(time_ns, event))

    def _source(self, name: str, address: str) -> str:
        venue = next((venue for part, venue in ADDRESSES.items() if part in address), self.venue)
        if self._is_ours:
            venue = self.venue
        source = f"{venue}/{name.removeprefix(f'{self._exchange}.').removeprefix(f'{self.venue}/')}"
        if len(source.encode()) > SOURCE_BYTES_MAX:
            raise LineError(f"conn makes a source of more than {SOURCE_BYTES_MAX} bytes")
        return source

    def _header(self) -> dict[str, Any]:
        first = next(self._file.lines(), b"")
        try:
            header = _loaded(first)
        except LineError:
            header = {}
        if header.get("t") != "header":
            raise RecordingError(f"{self.path}: no capture, its first line is no header")
        return header

    def _venue(self) -> str:
        found = self.header.get("venue") if self._is_ours else EXCHANGES.get(self._exchange)
        if not isinstance(found, str) or not found or "/" in found:
            what = self.header.get("venue", self._exchange)
            raise RecordingError(f"{self.path}: of {what!r:.40}, whose captures are not read here")
        return found


def open_capture(path: Path) -> Capture:
    """Open a capture; raise RecordingError if there is none, or one of a venue that is not known."""
    return Capture(path)


def _due(
    connections: _Connections, held: list[_Answer], source: str, until_ns: int
) -> Iterator[tuple[str, FeedMessage]]:
    """Yield the answers for a connection that came until then; they are held no longer."""
    kept = []
    for answer in held:
        own = connections.of_symbol(answer.event.symbol)
        if own is not None and own.source == source and answer.recv_ns <= until_ns:
            yield source, FeedMessage(answer.recv_ns, answer.event)
        else:
            kept.append(answer)
    held[:] = kept


def _loaded(line: bytes) -> dict[str, Any]:
    try:
        one = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise LineError(f"not JSON: {error}") from error
    if not isinstance(one, dict):
        raise LineError("not a JSON object")
    return one


def _text(one: Mapping[str, Any], name: str) -> str:
    value = one.get(name)
    if not isinstance(value, str):
        raise LineError(f"{name} is no text")
    return value


def _data(one: Mapping[str, Any]) -> bytes:
    if "data_base64" not in one:
        return _text(one, "data").encode()
    try:
        return base64.b64decode(_text(one, "data_base64"), validate=True)
    except ValueError as error:
        raise LineError("data_base64 is not base64") from error


def _time_ns(one: Mapping[str, Any]) -> int:
    """Return the line's time: ts_ns, or cryptofeed's ts, seconds, the digits as they stand there."""
    if "ts_ns" in one:
        time_ns = one["ts_ns"]
    else:
        ts: Any = one.get("ts")
        if type(ts) not in (int, float):
            raise LineError("neither ts_ns nor ts is a time")
        # Python wrote it, so its shortest text is what was written.
        time_ns = int(Decimal(repr(ts)).scaleb(9).to_integral_value())
    if type(time_ns) is not int or not 0 <= time_ns <= NS_MAX:
        raise LineError("ts_ns is no time")
    return time_ns


def _answer(one: Mapping[str, Any], symbol: str) -> FeedAnswer:
    try:
        body = str(_data(one), "utf-8")
    except UnicodeDecodeError as error:
        raise LineError("an order book by REST that is not UTF-8") from error
    return FeedAnswer(url=_text(one, "url"), symbol=symbol, data=body)


def _gap(one: Mapping[str, Any]) -> FeedGap:
    kind, symbols = one.get("kind"), one.get("symbols")
    missing = one.get("missing", 0)
    if not isinstance(symbols, list) or not all(isinstance(symbol, str) for symbol in symbols):
        raise LineError("symbols are no list of texts")
    if type(missing) is not int or missing < 0:
        raise LineError("missing is no count")
    try:
        reason = GapReason[_text(one, "reason").upper()]
        of_kind = None if kind is None else Kind[_text(one, "kind").upper()]
    except KeyError as error:
        raise LineError(f"no reason or kind of a gap: {error}") from error
    detail = one.get("detail", "")
    return FeedGap(
        reason=reason,
        symbols=tuple(symbols),
        kind=of_kind,
        missing=missing,
        detail=detail if isinstance(detail, str) else "",
    )
