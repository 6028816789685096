"""How the live connections of this machine are: each process that reads venues writes it into the home every second.

`connectors/venues/live/command.py` writes and `status.py` looks. Files of processes that are gone are removed by the
next one that begins.
"""

import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from pydantic import TypeAdapter, ValidationError

from tapeline.streams.home import Home, HomeError

log = logging.getLogger(__name__)

OLD_NS = 10_000_000_000
"""Who has written nothing for so long is frozen, or its loop hangs."""


@dataclass(frozen=True, slots=True)
class FeedRow:
    """One live connection, as its process says."""

    source: str
    """`venue/connection`"""
    state: str
    """`connected`, `connecting`, or `standby` (another process reads it)."""
    messages: int
    messages_per_second: float
    waiting: int
    """Messages that Kafka has not taken yet."""
    losses: Mapping[str, int] = field(default_factory=dict)
    """How often the connection was lost, or a book not right, by the reason of the gap."""
    unlisted: Sequence[str] = ()
    """Symbols that the venue does not list."""
    refusal: str = ""
    """What the venue refused last, in its words."""


@dataclass(frozen=True, slots=True)
class FeedProcess:
    """A process that reads venues. started: as psutil says, so that another with its id is not taken for it."""

    pid: int
    started: float
    time_ns: int
    feeds: Sequence[FeedRow]

    @property
    def lives(self) -> bool:
        """Whether the process is still there."""
        try:
            process = psutil.Process(self.pid)
            return abs(process.create_time() - self.started) < 1 and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False


_ADAPTER = TypeAdapter(FeedProcess)


class FeedFile:
    """The file of this process; `write` replaces it."""

    def __init__(self, home: Home) -> None:
        process = psutil.Process()
        self._home = home
        self._pid, self._started = process.pid, process.create_time()
        self._path: Path | None = _folder(home) / f"{process.pid}.json"

    def write(self, feeds: Sequence[FeedRow]) -> None:
        """Say how the connections are. A home that cannot be written is no reason to stop."""
        if self._path is None:
            return
        said = FeedProcess(self._pid, self._started, time.time_ns(), feeds)
        try:
            self._home.write_json(self._path, json.loads(_ADAPTER.dump_json(said)))
        except OSError as error:
            self._give_up(error)

    @contextmanager
    def there(self) -> Iterator["FeedFile"]:
        """Let others find it while the context lasts."""
        try:
            self._home.create()
            _folder(self._home).mkdir(mode=0o700, exist_ok=True)
            for path in _folder(self._home).glob("*.json"):
                if (found := _read(path)) is None or not found.lives:
                    path.unlink(missing_ok=True)
        except (HomeError, OSError) as error:
            self._give_up(error)
        try:
            yield self
        finally:
            if self._path is not None:
                with suppress(OSError):
                    self._path.unlink(missing_ok=True)

    def _give_up(self, error: Exception) -> None:
        log.warning("`tapeline status` will not show these connections: %s", error)
        self._path = None


def live_feeds(home: Home) -> list[FeedProcess]:
    """Return what the processes of a home say that live, in the order of their connections."""
    found = (_read(path) for path in _folder(home).glob("*.json"))
    return sorted((one for one in found if one is not None and one.lives), key=lambda one: (_first(one), one.pid))


def _first(process: FeedProcess) -> str:
    return process.feeds[0].source if process.feeds else ""


def _folder(home: Home) -> Path:
    return home.run / "feeds"


def _read(path: Path) -> FeedProcess | None:
    """Return what a file says, or None if nothing of ours is in it."""
    try:
        return _ADAPTER.validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None
