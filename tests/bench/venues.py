"""Captures of seven venues to normalised ticks, beside cryptofeed: messages/s of each, on the same files, in one run.

The part `venues` of `make bench`; needs no broker. Alone: `python -m tests.bench.venues`. Both get messages that lie in
memory: ours as raw records of so many messages (decoded, checked and parsed), cryptofeed's handlers as texts.
"""

import asyncio
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
from tests.bench.peers.environment import Environment

CRYPTOFEED = Environment("cryptofeed", "cryptofeed==2.4.1")
"""Bryant Moscon's, XFree86-1.1-style licence, from PyPI; no dependency of Tapeline."""
APP = Path(__file__).parent / "peers" / "cryptofeed_app.py"
FOLDER = ROOT.parent / "shared" / "data" / "ws_raw" / "cryptofeed_v3"
FRAMES = (1_000, 100)
"""Messages a record: as many as `ingest` puts into one at full speed, and a tenth."""
PEER = "cryptofeed"
ASKS_FIRST = ("BITSTAMP",)
"""Cryptofeed gets its books by REST before the time that is taken, so ours do not count either."""
COUNTED = ("trades", "l2_book")
"""Callbacks that must come as often as the captures' answer key says: else it did something else."""


@dataclass(frozen=True, slots=True)
class Speed:
    """messages of a capture, and seconds that a pass over them takes: one a sample."""

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
        found.append(sum(taken) / len(taken))
    return Speed(messages, found)


async def cryptofeed(python: Path, path: Path, folder: Path, samples: int, seconds: float) -> Speed:
    """Measure cryptofeed's handlers; raise BenchError if it does not find what the answer key says."""
    exchange = path.name.partition(".")[0]
    plain = folder / f"{exchange}.jsonl"
    plain.write_bytes(b"".join(line + b"\n" for line in LineFile(path).lines()))
    process = await asyncio.create_subprocess_exec(
        *(str(python), str(APP), str(plain), str(samples), str(seconds)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, error = await process.communicate()
    if process.returncode:
        raise BenchError(f"cryptofeed fails on {path.name}: {error.decode()[-500:]}")
    found = json.loads(said)
    expected = json.loads((path.parent / "expected_counts.json").read_text())[exchange]
    counts = {name: found["counts"].get(name) for name in COUNTED}
    if counts != {name: expected[name] for name in COUNTED}:
        raise BenchError(f"cryptofeed finds {counts} in {path.name}, it should be {expected}")
    return Speed(found["messages"], found["seconds"])


async def rows(console: Console, samples: int, seconds: float) -> list[report.Row]:
    """Measure every capture; seconds: at least so long a sample. Raises UnavailablePeerError."""
    if not FOLDER.is_dir():
        raise UnavailablePeerError(f"no captures here: {FOLDER} is missing")
    python = await CRYPTOFEED.prepare(console)
    warm_up()
    found = []
    with tempfile.TemporaryDirectory(prefix="tapeline-bench-") as folder:
        for path in sorted(FOLDER.glob("*.jsonl.zst")):
            name = path.name.partition(".")[0].lower()
            theirs = await cryptofeed(python, path, Path(folder), samples, seconds)
            for frame_messages in FRAMES:
                speed = ours(path, frame_messages, samples, seconds)
                what = (
                    f"capture_{name}" if frame_messages == FRAMES[0] else f"capture_{name}_frames_of_{frame_messages}"
                )
                found.append(report.compare(what, "messages/s", speed.rate, PEER, theirs.rate, samples))
    return found


if __name__ == "__main__":
    screen = Console(width=120)
    report.show(asyncio.run(rows(screen, 3, 0.3)), screen)
