"""Milliseconds from a message written to a socket to its tick read from `ticks`: the whole way in, as users run it.

A venue (tests/venue/steady.py) -> `tapeline ingest binance` -> raw -> `tapeline worker normalize` -> ticks -> a
consumer in this process. Venue, ingest and worker are processes of their own on this machine, so one clock times all of
it. Each message must come exactly once: else the figures would mean nothing.
"""

import asyncio
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import psutil
from confluent_kafka import Consumer, TopicPartition

from tapeline.schemas import Instrument, Kind, TickFrame
from tapeline.schemas.topics import INSTRUMENTS, TICKS
from tapeline.streams.servers import Process
from tapeline.streams.state import LogReader, PartitionTail
from tests.bench.lab import BenchError, Lab, log_end
from tests.bench.latency import CATCH_UP_SECONDS, Ages
from tests.bench.market import PAIRS, PARTITIONS
from tests.bench.pipelines import NORMALIZE, Ours
from tests.bench.plan import Plan
from tests.venue.steady import FIRST_ID, SENT

SYMBOLS = [pair.symbol for pair in PAIRS]
BATCH_RECORDS = 1_000
POLL_SECONDS = 0.1

Times = npt.NDArray[np.int64]


class LiveAges(NamedTuple):
    """Ages of ticks when they were read, (n,) ms: since the venue wrote the message, and since we received it."""

    sent: Ages
    received: Ages


class Live:
    """Measures the way from a venue to `ticks`."""

    def __init__(self, lab: Lab, plan: Plan, ours: Ours) -> None:
        self._lab = lab
        self._plan = plan
        self._ours = ours
        self._runs = 0

    async def ages(self, rate: int, seconds: float) -> LiveAges | None:
        """Run once; return the ages after the warm-up, or None if we do not keep up."""
        lab, count = self._lab, int(rate * seconds)
        await self._ours.reset(lab, raw=True)
        self._runs += 1
        log = lab.folder / f"sent-{self._runs}.bin"
        venue = lab.run(
            "venue",
            self._ours.python("tests.venue.steady", "--rate", str(rate), "--messages", str(count), "--log", str(log)),
        )
        with lab.progress(f"live at {rate:,} messages/s, {seconds:.0f} s"):
            async with venue as serving, self._ours.worker(lab, NORMALIZE) as worker:
                await self._ours.until_settled(lab, NORMALIZE, [worker])
                await lab.until(lambda: "port" in serving.log.read_text(), "it said its port", [serving])
                port = json.loads(serving.log.read_text().splitlines()[0])["port"]
                with reading(lab.bootstrap) as witness:
                    ingest = ("tapeline.streams.cli", "ingest", "binance", "--plain", "--streams", "trade")
                    command = self._ours.python(*ingest, "--symbols", ",".join(SYMBOLS))
                    async with lab.run("ingest", command, env={**self._ours.env, **_venue_env(port)}) as ingesting:
                        await self._until_all_came(witness, count, seconds, [serving, worker, ingesting])
        self._ours.check(lab)
        if witness.trades < count:
            return None
        return ages(witness, _numbers(lab.bootstrap), np.fromfile(log, SENT), count, self._plan.warm_up_seconds)

    async def _until_all_came(self, witness: "Witness", count: int, seconds: float, processes: list[Process]) -> None:
        """Wait for all messages, and say what each process takes of a core, and all of the machine, after a third."""
        lab, before, began = self._lab, [0.0], 0.0
        deadline = time.monotonic() + seconds + 3 * CATCH_UP_SECONDS
        while witness.trades < count and time.monotonic() < deadline:
            for process in processes:
                if process.pid is None:
                    raise BenchError(f"{process.name} ended while it was fed:\n{log_end(process)}")
            if not began and witness.trades > count / 3:
                before, began = [lab.usage(process).cpu_s for process in processes], time.monotonic()
                psutil.cpu_percent()  # from here on
            await asyncio.sleep(POLL_SECONDS)
        if began:
            machine = psutil.cpu_percent()
            after, passed = [lab.usage(process).cpu_s for process in processes], time.monotonic() - began
            shares = (100 * (late - early) / passed for early, late in zip(before, after, strict=True))
            words = ", ".join(f"{one.name} {share:.0f}%" for one, share in zip(processes, shares, strict=True))
            lab.console.print(f"  of a core: {words}; the machine {machine:.0f}% busy", highlight=False)


class Witness:
    """What a consumer of `ticks` got: records, and when (ns)."""

    def __init__(self) -> None:
        self.records: list[tuple[int, bytes]] = []
        self.trades = 0


@contextmanager
def reading(bootstrap: str) -> Iterator[Witness]:
    """Read `ticks` from its start while the context lasts, in a thread."""
    witness, over = Witness(), threading.Event()
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "bench.live",
            "enable.auto.commit": False,
            "fetch.queue.backoff.ms": 5,
            "log_level": 0,
        }
    )
    consumer.assign([TopicPartition(TICKS.name, number, 0) for number in range(PARTITIONS)])

    def run() -> None:
        while not over.is_set():
            first = consumer.poll(POLL_SECONDS)
            if first is None:
                continue
            now_ns = time.time_ns()
            for message in [first, *consumer.consume(BATCH_RECORDS, 0)]:
                value = message.value()
                if message.error() is None and value is not None:
                    witness.records.append((now_ns, value))
                    witness.trades += int((TickFrame.decode(value).ticks["kind"] == Kind.TRADE).sum())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield witness
    finally:
        over.set()
        thread.join()
        consumer.close()


def ages(
    witness: Witness, numbers: Mapping[int, int], sent: npt.NDArray[np.void], count: int, warm_up_seconds: float
) -> LiveAges:
    """Return the ages of the trades sent after the warm-up. numbers: instrument -> of its symbol."""
    frames = [(now_ns, TickFrame.decode(value).ticks) for now_ns, value in witness.records]
    ticks = np.concatenate([ticks for _, ticks in frames])
    read_ns = np.repeat([now_ns for now_ns, _ in frames], [len(ticks) for _, ticks in frames])
    trades = ticks["kind"] == Kind.TRADE
    ticks, read_ns = ticks[trades], read_ns[trades]
    symbols = np.array([numbers[one] for one in ticks["instrument_id"].tolist()])
    message = (ticks["sequence"] - FIRST_ID) * len(SYMBOLS) + symbols
    if not np.array_equal(np.sort(message), np.arange(count)):
        raise BenchError(f"{len(message)} trades of {count} messages: some came twice or never")
    sent_ns: Times = sent["time_ns"][np.searchsorted(sent["stop"], message, side="right")]
    late = sent_ns >= sent["time_ns"][0] + round(warm_up_seconds * 1e9)
    return LiveAges((read_ns - sent_ns)[late] / 1e6, (read_ns - ticks["ts_recv_ns"])[late] / 1e6)


def _numbers(bootstrap: str) -> dict[int, int]:
    """Return instrument -> number of its symbol."""
    reader = LogReader({"bootstrap.servers": bootstrap})
    try:
        values = [value for _, _, value in PartitionTail(reader, INSTRUMENTS.name, 0).read() if value is not None]
    finally:
        reader.close()
    known = [Instrument.decode(value) for value in values]
    return {one.id: SYMBOLS.index(one.name.partition(":")[2]) for one in known}


def _venue_env(port: int) -> dict[str, str]:
    where = {"URL": f"ws://127.0.0.1:{port}", "REST": f"http://127.0.0.1:{port}", "SYMBOLS": json.dumps(SYMBOLS)}
    return {f"TAPELINE_VENUES__BINANCE__{name}": value for name, value in where.items()}
