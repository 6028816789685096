"""Write a capture (format: docs/captures.md). Called by `tapeline record`; `capture` reads it again."""

import base64
from pathlib import Path
from typing import Any

import orjson

from tapeline.connectors.venues.capture import FORMAT
from tapeline.connectors.venues.contract import FeedMessage, Message, RecordingError
from tapeline.connectors.venues.zstandard import zstd
from tapeline.schemas import FeedAnswer, FeedConnect, FeedGap

FRAME_BYTES = 1024 * 1024
"""A zstd frame closes when its lines are longer,"""
FRAME_NS = 1_000_000_000
"""and when they reach over so much time."""
OPTIONS: dict[int, int] = {zstd.CompressionParameter.compression_level: 3, zstd.CompressionParameter.checksum_flag: 1}


class CaptureWriter:
    """A capture under way: complete zstd frames, each handed to the system at once.

    So a recorder that is killed leaves a file that can be read to its end, less what came since the last frame closed:
    at most FRAME_NS or FRAME_BYTES of lines, if `flush` is called once a second where nothing comes. What went to the
    venue is written as it is given: leave out or mask keys. Methods raise RecordingError if the file cannot be written.
    """

    def __init__(self, path: Path, venue: str, recorded_ns: int, **words: Any) -> None:
        """Begin a new file; words: what else is to stand in its header. An existing file is not touched."""
        self.path = path
        self.written_bytes = 0
        self._lines: list[bytes] = []
        self._bytes = 0
        self._first_ns = 0
        try:
            self._file = path.open("xb", buffering=0)
        except OSError as error:
            raise RecordingError(f"cannot write {path}: {error.strerror}") from error
        self._line(recorded_ns, {"t": "header", "format": FORMAT, "venue": venue, "recorded_ns": recorded_ns} | words)
        self.flush()

    def __enter__(self) -> "CaptureWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, connection: str, item: Message | FeedMessage) -> None:
        """Write what came on a connection, or what the feed itself says of it."""
        time_ns, what = item
        if isinstance(what, bytes):
            self._add("recv", connection, time_ns, _data(what))
            return
        match what:
            case FeedConnect():
                self._add("connect", connection, time_ns, {"addr": what.url})
            case FeedAnswer():
                self.answered(connection, time_ns, what.url, what.data.encode(), what.symbol)
            case FeedGap():
                fields = {
                    "reason": what.reason.name.lower(),
                    "kind": what.kind.name.lower() if what.kind is not None else None,
                    "symbols": what.symbols,
                    "missing": what.missing,
                    "detail": what.detail,
                }
                self._add("gap", connection, time_ns, fields)

    def sent(self, connection: str, time_ns: int, text: str) -> None:
        """Write what went to the venue."""
        self._add("send", connection, time_ns, {"data": text})

    def answered(self, connection: str, time_ns: int, url: str, body: bytes, symbol: str | None = None) -> None:
        """Write what REST answered; symbol: it is an order book of it, for this connection."""
        of = {"symbol": symbol} if symbol is not None else {}
        self._add("http", connection, time_ns, {"url": url} | of | _data(body))

    def disconnected(self, connection: str, time_ns: int, detail: str) -> None:
        """Write that a connection is gone. What is missing then is a gap of its own."""
        self._add("disconnect", connection, time_ns, {"detail": detail})

    def flush(self) -> None:
        """Close the frame: what was written so far is in the file."""
        if not self._lines:
            return
        packed = zstd.compress(b"".join(self._lines), options=OPTIONS)
        self._lines, self._bytes = [], 0
        view = memoryview(packed)
        try:
            while view:
                view = view[self._file.write(view) :]
        except OSError as error:
            raise RecordingError(f"cannot write {self.path}: {error.strerror}") from error
        self.written_bytes += len(packed)

    def close(self) -> None:
        """Close the frame and the file."""
        try:
            self.flush()
        finally:
            self._file.close()

    def _add(self, kind: str, connection: str, time_ns: int, fields: dict[str, Any]) -> None:
        self._line(time_ns, {"t": kind, "conn": connection, "ts_ns": time_ns} | fields)

    def _line(self, time_ns: int, fields: dict[str, Any]) -> None:
        line = orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)
        if self._lines and (self._bytes + len(line) > FRAME_BYTES or time_ns - self._first_ns >= FRAME_NS):
            self.flush()
        if not self._lines:
            self._first_ns = time_ns
        self._lines.append(line)
        self._bytes += len(line)


def _data(data: bytes) -> dict[str, str]:
    try:
        return {"data": data.decode()}
    except UnicodeDecodeError:
        return {"data_base64": base64.b64encode(data).decode()}
