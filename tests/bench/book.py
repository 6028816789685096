"""Order books: level updates a second of one core, beside a book of SortedDicts on the same levels, in one run.

The part `book` of `make bench`; needs no broker. Two real captures, in tick frames, and one that is made to be hard: a
book of 50,000 levels a side of which any level changes. `..._read`: the best bid and ask are read after every event, by
plain Python as a user would; else nothing is read. The fastest of many passes, by processor time.
"""

import marshal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from rich.console import Console

from tapeline.connectors.venues.binance_recording import open_recording
from tapeline.connectors.venues.book import Book, Books, empty_snapshot, warm_up
from tapeline.connectors.venues.contract import Message
from tapeline.connectors.venues.framer import Framer
from tapeline.connectors.venues.parsing import parse_frame
from tapeline.schemas import Flag, Kind, Lane, TickFrame, Ticks, empty_ticks
from tests.bench.lab import ROOT, BenchError
from tests.bench.peers.contract import UnavailablePeerError
from tests.bench.peers.environment import Environment, answer_of
from tests.bench.plan import LARGEST_FRAME, SORTEDCONTAINERS, Plan
from tests.bench.report import Row, compare

ENVIRONMENT = Environment("sortedcontainers", "sortedcontainers==2.4.0")
"""Grant Jenks', Apache-2.0, from PyPI; no dependency of Tapeline."""
APP = Path(__file__).parent / "peers" / "sorted_book_app.py"
FOLDER = ROOT.parent / "shared" / "data" / "ws_raw" / "hftbacktest"
CAPTURES = {"usdm": "usdm_btcusdt_20240808.gz", "spot": "spot_btcusdt_20240809.gz"}
DEEP_LEVELS, DEEP_EVENTS, EVENT_LEVELS = 50_000, 3_000, 60


def captured(path: Path) -> Ticks:
    """Return the BOOK ticks of a capture behind an empty snapshot, all of instrument 1."""
    recording = open_recording(path)
    framer, state = Framer(recording.source, LARGEST_FRAME), dict[str, int | str]()
    messages = (item for item in recording.items if isinstance(item, Message))
    frames = [frame for message in messages for frame in framer.add(message)] + framer.end()
    ticks = np.concatenate([empty_snapshot(1), *(parse_frame(frame, state).ticks for frame in frames)])
    ticks["instrument_id"] = 1
    found: Ticks = ticks[ticks["kind"] == Kind.BOOK]
    return found


def deep() -> Ticks:
    """Return a snapshot of a deep book, and updates all over it: half of them remove what is there."""
    random = np.random.default_rng(1)
    ticks = empty_ticks(2 * DEEP_LEVELS + DEEP_EVENTS * EVENT_LEVELS)
    ticks["instrument_id"], ticks["kind"] = 1, Kind.BOOK
    ticks["price"] = random.integers(1, 4 * DEEP_LEVELS, len(ticks))
    ticks["price"][: 2 * DEEP_LEVELS] = 2 * random.permutation(2 * DEEP_LEVELS) + 1
    ticks["side"] = np.where(ticks["price"] < 2 * DEEP_LEVELS, 1, -1)
    ticks["size"] = random.integers(1, 1000, len(ticks))
    ticks["size"][2 * DEEP_LEVELS :] *= random.integers(0, 2, DEEP_EVENTS * EVENT_LEVELS)
    ticks["flags"][: 2 * DEEP_LEVELS] = Flag.SNAPSHOT
    ticks["flags"][2 * DEEP_LEVELS - 1 :: EVENT_LEVELS] |= np.uint16(Flag.LAST)
    return ticks


def events(ticks: Ticks) -> Iterator[Ticks]:
    """Yield each event."""
    start = 0
    for end in (np.flatnonzero(ticks["flags"] & Flag.LAST) + 1).tolist():
        yield ticks[start:end]
        start = end


def set_levels(ticks: Ticks) -> Callable[[], tuple[float, Book]]:
    """Return a pass over frames as they come from topic `ticks`."""
    frames = [
        TickFrame(Lane(0, 0), at, 0, 0, ticks[at : at + LARGEST_FRAME]) for at in range(0, len(ticks), LARGEST_FRAME)
    ]

    def one_pass() -> tuple[float, Book]:
        books = Books()
        started = time.process_time()
        for frame in frames:
            books.take(frame)
        return time.process_time() - started, books[1]

    return one_pass


def set_and_read(ticks: Ticks) -> Callable[[], tuple[float, Book]]:
    """Return a pass event by event."""

    def one_pass() -> tuple[float, Book]:
        books = Books()
        started = time.process_time()
        for instrument_id in books.follow(ticks):
            book = books[instrument_id]
            _ = book.best_bid, book.best_ask
        return time.process_time() - started, books[1]

    return one_pass


def fastest(one_pass: Callable[[], tuple[float, Book]], samples: int, seconds: float) -> tuple[list[float], Book]:
    """Return the seconds of the fastest pass of each sample, and the book in the end."""
    _, book = one_pass()
    found = []
    for _ in range(samples):
        taken: list[float] = []
        while sum(taken) < seconds:
            taken.append(one_pass()[0])
        found.append(min(taken))
    return found, book


async def book_rows(plan: Plan, console: Console, python: Path | None) -> list[Row]:
    """Measure; python: the peer's, None without it. Raises UnavailablePeerError without captures."""
    if not FOLDER.is_dir():
        raise UnavailablePeerError(f"no captures here: {FOLDER} is missing")
    warm_up()
    rows = []
    for name, ticks in {**{name: captured(FOLDER / file) for name, file in CAPTURES.items()}, "deep": deep()}.items():
        theirs = await _peer(python, ticks, plan) if python else None
        for what, one_pass in (("set", set_levels(ticks)), ("read", set_and_read(ticks))):
            seconds, book = fastest(one_pass, plan.samples, plan.capture_seconds)
            if theirs and theirs["best"] != [list(level or ()) for level in (book.best_bid, book.best_ask)]:
                raise BenchError(f"{SORTEDCONTAINERS} has another book of {name}: {theirs['best']}")
            rate, peer_rate = len(ticks) / median(seconds), len(ticks) / median(theirs[what]) if theirs else None
            row = f"book_{name}" if what == "set" else f"book_{name}_read"
            console.print(f"{row}: {rate:,.0f} levels/s", highlight=False)
            peer = SORTEDCONTAINERS if theirs else None
            rows.append(compare(row, "levels/s", rate, peer, peer_rate, plan.samples))
    return rows


async def _peer(python: Path, ticks: Ticks, plan: Plan) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="tapeline-bench-") as folder:
        path = _written(ticks, Path(folder, "events"))
        what = f"{SORTEDCONTAINERS} fails"
        found: dict[str, Any] = await answer_of(what, python, APP, path, plan.samples, plan.capture_seconds)
        return found


def _written(ticks: Ticks, path: Path) -> Path:
    """Write the events as the peer reads them."""
    said = [
        (bool(one["flags"][0] & Flag.SNAPSHOT), one[one["side"] != 0][["side", "price", "size"]].tolist())
        for one in events(ticks)
    ]
    path.write_bytes(marshal.dumps(said))
    return path
