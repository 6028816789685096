"""`make bench`: messages/s from raw to signals, and latency, beside plain Faust in the same run.

Prints a table and writes .bench/latest.json: rows of name, value, unit, peer, peer_value, ratio, samples.
Each contender reads the same trades from a real broker and writes an EMA cross's signals back to it.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from pathlib import Path

import numpy as np
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # no __all__ there
from rich.console import Console
from rich.table import Table

from tapeline.schemas import RawFrame, Signal
from tapeline.streams.home import Home
from tapeline.streams.producer import Producer
from tapeline.streams.servers import Servers
from tapeline.streams.settings import load_settings
from tapeline.streams.topics import ensure_topics
from tests.bench.market import FAST, SLOW, now_ns, signal_count, trades

OURS_MESSAGES = 400_000
PEER_MESSAGES = 40_000
FRAME_MESSAGES = 1_000
LATENCY_RATE = 2_000
LATENCY_SECONDS = 10
FEED_SECONDS = 0.005
"""How often what is due is fed: the default of `[frames] wait_ms`."""
DEADLINE_SECONDS = 300

Record = tuple[int, bytes]
"""(broker timestamp in ms, value)"""


class Tail:
    """Reads a topic of one partition as records come, from its beginning or (`new`) its present end."""

    def __init__(self, bootstrap: str, topic: str, *, new: bool = False) -> None:
        self._consumer = Consumer(
            {"bootstrap.servers": bootstrap, "group.id": "bench", "fetch.queue.backoff.ms": 1, "log_level": 3}
        )
        _, end = self._consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=30)
        self._consumer.assign([TopicPartition(topic, 0, end if new else 0)])

    def read(self, wait_s: float = 0.05) -> list[Record]:
        """Return what came, waiting for at most `wait_s`."""
        found = []
        message = self._consumer.poll(wait_s)
        while message is not None:
            value = message.value()
            if message.error() is None and value is not None:
                found.append((message.timestamp()[1], value))
            message = self._consumer.poll(0)
        return found

    def read_until(self, enough: Callable[[list[Record]], bool]) -> list[Record]:
        """Read until `enough` of everything read so far."""
        records: list[Record] = []
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not enough(records):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(records)} records after {DEADLINE_SECONDS} s")
            records += self.read()
        return records


@contextmanager
def worker(*command: str, env: dict[str, str], log: Path, ready: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process while the context lasts; entered once its log says `ready`."""
    with log.open("wb") as out:
        process = subprocess.Popen([sys.executable, "-m", *command], stdout=out, stderr=out, env=os.environ | env)
    try:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while ready not in log.read_text():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command} is not ready:\n{log.read_text()[-2000:]}")
            time.sleep(0.05)
        yield process
    finally:
        process.terminate()  # cleanly: a killed worker would send its last signals again at the next start
        process.wait(60)


class Ours:
    """Tapeline's own way: raw frames -> normalize -> logic -> signals, one process a role."""

    def __init__(self, home: Path, servers: Servers) -> None:
        self._env = {
            "TAPELINE_HOME": str(home),
            "TAPELINE_TOPICS__RAW__PARTITIONS": "1",
            "TAPELINE_TOPICS__TICKS__PARTITIONS": "1",
            "TAPELINE_TOPICS__SIGNALS__PARTITIONS": "1",
        }
        self._bootstrap = servers.bootstrap_servers or ""
        self._logs = home / "logs"
        self.sent = 0
        ensure_topics(load_settings(env=os.environ | self._env), self._bootstrap)

    @asynccontextmanager
    async def producer(self) -> AsyncIterator[Producer]:
        """A producer as `tapeline ingest` has one."""
        async with Producer({"bootstrap.servers": self._bootstrap}) as producer:
            yield producer

    async def send(self, producer: Producer, messages: list[bytes], recv_ns: list[int]) -> None:
        """Send one raw frame."""
        frame = RawFrame.build("binance/bench", self.sent, recv_ns, messages)
        self.sent += len(messages)
        await producer.send("raw", frame.encode(), key="bench", partition=0)

    @contextmanager
    def roles(self) -> Iterator[None]:
        """Run logic and normalize, each once the other is ready."""
        with (
            worker(*_role("logic"), env=self._env, log=self._logs / "bench-logic.log", ready="Worker ready"),
            worker(*_role("normalize"), env=self._env, log=self._logs / "bench-normalize.log", ready="Worker ready"),
        ):
            yield

    async def throughput(self, messages: list[bytes]) -> tuple[float, int]:
        """Return (messages/s, signals): from the first tick frame to the last signal, topic filled beforehand."""
        wanted = signal_count(messages)
        async with self.producer() as producer:
            for start in range(0, len(messages), FRAME_MESSAGES):
                piece = messages[start : start + FRAME_MESSAGES]
                await self.send(producer, piece, [now_ns()] * len(piece))
            await producer.flush()
        with self.roles():
            signals = Tail(self._bootstrap, "signals").read_until(lambda found: len(found) >= wanted)
        ticks = Tail(self._bootstrap, "ticks").read_until(lambda found: len(found) > 0)
        return len(messages) / ((signals[-1][0] - ticks[0][0]) / 1000), len(signals)

    async def latencies(self, messages: list[bytes]) -> list[float]:
        """Return milliseconds from message received to signal read, for each signal, at LATENCY_RATE."""
        tail = Tail(self._bootstrap, "signals", new=True)
        found: list[float] = []
        with self.roles():
            async with self.producer() as producer:
                async for piece in _paced(messages):
                    await self.send(producer, piece, [now_ns()] * len(piece))
                    found += _ages(tail, lambda value: Signal.decode(value).ts_recv_ns)
                found += _ages(tail, lambda value: Signal.decode(value).ts_recv_ns, wait_s=1)
        return found


class PlainFaust:
    """The peer: tests/bench/plain_faust.py, one JSON trade a record."""

    def __init__(self, home: Path, servers: Servers) -> None:
        self._bootstrap = servers.bootstrap_servers or ""
        self._logs = home / "logs"
        admin = AdminClient({"bootstrap.servers": self._bootstrap})
        topics = [
            NewTopic(name, 1, 1) for name in ("bench-trades", "bench-signals", "bench-live", "bench-live-signals")
        ]
        for future in admin.create_topics(topics).values():
            future.result()

    def worker(self, source: str, target: str) -> AbstractContextManager[subprocess.Popen[bytes]]:
        """Run the peer's worker."""
        log = self._logs / f"{source}.log"
        return worker("tests.bench.plain_faust", self._bootstrap, source, target, env={}, log=log, ready="")

    async def throughput(self, messages: list[bytes]) -> tuple[float, int]:
        """Return (messages/s, signals): from the first signal to the last, topic filled beforehand."""
        wanted = signal_count(messages)
        async with Producer({"bootstrap.servers": self._bootstrap}) as producer:
            for message in messages:
                await producer.send("bench-trades", message, key="", partition=0)
            await producer.flush()
        with self.worker("bench-trades", "bench-signals"):
            signals = Tail(self._bootstrap, "bench-signals").read_until(lambda found: len(found) >= wanted)
        before_first = SLOW * 4
        return (len(messages) - before_first) / ((signals[-1][0] - signals[0][0]) / 1000), len(signals)

    async def latencies(self, messages: list[bytes]) -> list[float]:
        """Return milliseconds from message received to signal read, for each signal, at LATENCY_RATE."""
        tail = Tail(self._bootstrap, "bench-live-signals")
        found: list[float] = []

        def received_ns(value: bytes) -> int:
            return int(json.loads(value)["ts_recv_ns"])

        with self.worker("bench-live", "bench-live-signals"):
            async with Producer({"bootstrap.servers": self._bootstrap}) as producer:
                await producer.send("bench-live", messages[0], key="", partition=0)
                await asyncio.sleep(8)  # Faust says nothing when it is ready; a late start would count as latency
                async for piece in _paced(messages):
                    for message in piece:
                        stamped = message[:-1] + b',"recv_ns":%d}' % now_ns()
                        await producer.send("bench-live", stamped, key="", partition=0)
                    found += _ages(tail, received_ns)
                found += _ages(tail, received_ns, wait_s=1)
        return found


def _role(name: str) -> tuple[str, ...]:
    return ("tapeline.streams.cli", "worker", name, "--instance", "bench")


async def _paced(messages: list[bytes]) -> AsyncIterator[list[bytes]]:
    """Yield the messages at LATENCY_RATE, what is due every FEED_SECONDS."""
    start, sent = time.monotonic(), 0
    while sent < len(messages):
        due = int((time.monotonic() - start) * LATENCY_RATE)
        if due > sent:
            yield messages[sent:due]
            sent = min(due, len(messages))
        await asyncio.sleep(FEED_SECONDS)


def _ages(tail: Tail, received_ns: Callable[[bytes], int], wait_s: float = 0.0) -> list[float]:
    records = tail.read(wait_s)
    now = now_ns()
    return [(now - received_ns(value)) / 1e6 for _, value in records]


def _rows(name: str, unit: str, ours: float, peer: float, samples: int) -> dict[str, object]:
    return {
        "name": name,
        "value": round(ours, 3),
        "unit": unit,
        "peer": "faust",
        "peer_value": round(peer, 3),
        "ratio": round(ours / peer, 3),
        "samples": samples,
    }


async def measure(console: Console, home: Path) -> list[dict[str, object]]:
    """Run every contender once; return the rows."""
    messages = trades(OURS_MESSAGES)
    live = trades(LATENCY_RATE * LATENCY_SECONDS, seed=2)
    async with Servers.start(Home.at(home), database=False) as servers:
        ours, peer = Ours(home, servers), PlainFaust(home, servers)
        console.print(f"ours: {len(messages):,} messages in frames of {FRAME_MESSAGES:,}")
        our_rate, our_signals = await ours.throughput(messages)
        console.print(f"plain Faust: the first {PEER_MESSAGES:,} of them, one a record")
        peer_rate, peer_signals = await peer.throughput(messages[:PEER_MESSAGES])
        if our_signals != signal_count(messages) or peer_signals != signal_count(messages[:PEER_MESSAGES]):
            raise SystemExit("the signals are not those of the slow count: these figures mean nothing")
        console.print(f"latency of both at {LATENCY_RATE:,} messages/s")
        our_ms, peer_ms = await ours.latencies(live), await peer.latencies(live)
    rows = [_rows("raw_to_signals", "messages/s", our_rate, peer_rate, 1)]
    for quantile in (50, 99):
        our_q, peer_q = (float(np.percentile(one, quantile)) for one in (our_ms, peer_ms))
        rows.append(_rows(f"latency_2k_p{quantile}_ms", "ms", our_q, peer_q, min(len(our_ms), len(peer_ms))))
    return rows


def main() -> None:
    """Measure in servers of our own, print the table, keep it."""
    console = Console()
    os.environ["TAPELINE_LOGICS__EMA_CROSS__PARAMS"] = f"{{fast = {FAST}, slow = {SLOW}}}"
    with tempfile.TemporaryDirectory(prefix="tapeline-bench-") as folder:
        Path(folder).chmod(0o711)
        rows = asyncio.run(measure(console, Path(folder) / "home"))
    Path(".bench").mkdir(exist_ok=True)
    Path(".bench/latest.json").write_text(json.dumps(rows, indent=2) + "\n")
    columns = ("name", "value", "peer_value", "ratio", "unit", "samples")
    table = Table("name", "ours", "plain Faust", "ratio", "unit", "samples")
    for row in rows:
        table.add_row(*(f"{row[key]:,}" if isinstance(row[key], float) else str(row[key]) for key in columns))
    console.print(table)
    console.print("written to .bench/latest.json")


if __name__ == "__main__":
    main()
