"""Open a tick file of LEAN. Called by `tapeline ingest lean` and by tests; `lean` says what the lines hold."""

import re
from collections.abc import Iterator
from pathlib import Path

from tapeline.connectors.venues.contract import Message, Recording, RecordingError
from tapeline.connectors.venues.lean import DAY_MS, HOUR_MS, MS, LeanFile
from tapeline.connectors.venues.recorded import LineFile

FLAT = re.compile(r"(?P<security>[a-z]+)_(?P<market>[a-z]+)_tick_(?P<symbol>[^_/]+)_(?P<date>\d{8})_(?P<what>[a-z]+)")
NESTED = re.compile(r"(?P<security>[a-z]+)/(?P<market>[a-z]+)/tick/(?P<symbol>[^/]+)/(?P<date>\d{8})_(?P<what>[a-z]+)")
TIME_DIGITS_MAX = 8


def open_recording(path: Path, connection: str | None = None) -> Recording:
    """Open a file; `connection`, such as `equity-usa/spy/20131007/trade`, says what it holds if its name does not.

    Names that do: `equity_usa_tick_spy_20131007_trade.zip`, and LEAN's own `equity/usa/tick/spy/20131007_trade.zip`.
    Raises RecordingError if neither says it, or if there is no such file.
    """
    try:
        described = LeanFile.of(connection or _connection(path))
    except ValueError as error:
        raise RecordingError(f"{path}: {error}. Say what it holds with --as") from None
    file = LineFile(path)
    source = f"lean/{described.connection}"
    return Recording(source, path.name, _items(file, described), file.total_bytes, "bytes", lambda: file.read_bytes)


def _connection(path: Path) -> str:
    name = path.absolute().as_posix().lower()
    name = name[: name.rindex(".")] if "." in path.name else name
    # Case is LEAN's own: it writes all names in lower case.
    for pattern, text in ((FLAT, name.rpartition("/")[2]), (NESTED, "/".join(name.split("/")[-5:]))):
        if match := pattern.fullmatch(text):
            return "{security}-{market}/{symbol}/{date}/{what}".format(**match.groupdict())
    raise ValueError(
        "its name does not say what it holds (equity_usa_tick_spy_20131007_trade.zip and "
        "equity/usa/tick/spy/20131007_trade.zip would)"
    )


def _items(file: LineFile, described: LeanFile) -> Iterator[Message]:
    """Give each line the running maximum of event times as its receive time; midnight before the first."""
    offsets_ns = described.offsets_ns().tolist()
    recv_ns = offsets_ns[0]
    for line in file.lines():
        time = line[: line.find(b",")]
        if time.isdigit() and len(time) <= TIME_DIGITS_MAX and (ms := int(time)) < DAY_MS:
            recv_ns = max(recv_ns, offsets_ns[ms // HOUR_MS] + ms * MS)
        yield Message(recv_ns, line)  # a line that is none is the parser's to reject
