"""Captures of seven venues to normalised ticks, beside cryptofeed: messages/s of each, on the same files, in one run.

The part `captures` of `make bench`; needs no broker. Both get messages that lie in memory: ours as raw records of so
many messages (decoded, checked and parsed), cryptofeed's handlers as texts.
"""

import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console

from tapeline.connectors.venues import Message, parse_frame, warm_up
from tapeline.connectors.venues.capture import open_capture
from tapeline.connectors.venues.contract import FeedMessage
from tapeline.connectors.venues.framer import Framer
from tapeline.connectors.venues.recorded import LineFile
from tapeline.schemas import RawFrame
from tests.bench import report
from tests.bench.lab import ROOT, BenchError
from tests.bench.peers.contract import UnavailablePeerError
from tests.bench.peers.environment import Environment, answer_of
from tests.bench.plan import CRYPTOFEED, LARGEST_FRAME, Plan

ENVIRONMENT = Environment("cryptofeed", "cryptofeed==2.4.1")
"""Bryant Moscon's, XFree86-1.1-style licence, from PyPI; no dependency of Tapeline."""
APP = Path(__file__).parent / "peers" / "cryptofeed_app.py"
FOLDER = ROOT.parent / "shared" / "data" / "ws_raw" / "cryptofeed_v3"
FRAMES = (LARGEST_FRAME, LARGEST_FRAME // 10)
"""Messages a record: as many as `ingest` puts into one at full speed, and a tenth."""
ASKS_FIRST = ("BITSTAMP",)
"""Cryptofeed gets its books by REST before the time that is taken, so ours do not count either."""
COUNTED = ("trades", "l2_book")
"""Callbacks that must come as often as the captures' answer key says: else it did something else."""


@dataclass(frozen=True, slots=True)
class Speed:
    """messages of a capture, and seconds that a pass over them takes: one a sample, its fastest.

    Whatever else the machine does makes passes slower: the fastest of many says most about the code.
    """

    messages: int
    seconds: Sequence[float]

    @property
    def rate(self) -> float:
        """Messages a second."""
        return self.messages / median(self.seconds)


def records(path: Path, frame_messages: int) -> tuple[int, list[list[bytes]]]:
    """Return how many messages a capture has, and the raw records of each of its connections."""
    framers: dict[str, Framer] = {}
    made: dict[str, list[RawFrame]] = {}
    messages = 0
    for source, item in open_capture(path).items():
        framer = framers.setdefault(source, Framer(source, frame_messages))
        if isinstance(item, Message):
            messages += 1
            made.setdefault(source, []).extend(framer.add(item))
        elif isinstance(item, FeedMessage) and path.name.partition(".")[0] not in ASKS_FIRST:
            made.setdefault(source, []).extend(framer.say(item))
    for source, framer in framers.items():
        made[source] += framer.end()
    return messages, [[frame.encode() for frame in frames if len(frame)] for frames in made.values()]


def ours(path: Path, frame_messages: int, samples: int, seconds: float) -> Speed:
    """Measure decoding and parsing, after a pass that does not count."""
    messages, connections = records(path, frame_messages)

    def one_pass() -> float:
        start = time.perf_counter()
        for connection in connections:
            state: dict[str, Any] = {}
            for record in connection:
                parse_frame(RawFrame.decode(record), state)
        return time.perf_counter() - start

    one_pass()
    found = []
    for _ in range(samples):
        taken: list[float] = []
        while sum(taken) < seconds:
            taken.append(one_pass())
        found.append(min(taken))
    return Speed(messages, found)


async def cryptofeed(python: Path, path: Path, folder: Path, samples: int, seconds: float) -> Speed:
    """Measure cryptofeed's handlers; raise BenchError if it does not find what the answer key says."""
    exchange = path.name.partition(".")[0]
    plain = folder / f"{exchange}.jsonl"
    plain.write_bytes(b"".join(line + b"\n" for line in LineFile(path).lines()))
    found = await answer_of(f"cryptofeed fails on {path.name}", python, APP, plain, samples, seconds)
    expected = json.loads((path.parent / "expected_counts.json").read_text())[exchange]
    counts = {name: found["counts"].get(name) for name in COUNTED}
    if counts != {name: expected[name] for name in COUNTED}:
        raise BenchError(f"cryptofeed finds {counts} in {path.name}, it should be {expected}")
    return Speed(found["messages"], found["seconds"])


async def capture_rows(plan: Plan, console: Console, python: Path | None) -> list[report.Row]:
    """Measure every capture; python: cryptofeed's, None without it. Raises UnavailablePeerError without captures."""
    if not FOLDER.is_dir():
        raise UnavailablePeerError(f"no captures here: {FOLDER} is missing")
    warm_up()
    samples, seconds, found = plan.samples, plan.capture_seconds, []
    with tempfile.TemporaryDirectory(prefix="tapeline-bench-") as folder:
        for path in sorted(FOLDER.glob("*.jsonl.zst")):
            name = path.name.partition(".")[0].lower()
            theirs = await cryptofeed(python, path, Path(folder), samples, seconds) if python else None
            for frame_messages in FRAMES:
                speed = ours(path, frame_messages, samples, seconds)
                what = report.of_frames(f"capture_{name}", frame_messages)
                peer, rate = (CRYPTOFEED, theirs.rate) if theirs else (None, None)
                found.append(report.compare(what, "messages/s", speed.rate, peer, rate, samples))
            console.print(f"{path.name}: {speed.messages:,} messages", highlight=False)
    return found
