"""Milliseconds from a message received to its signal appended, fed at a steady pace; and what idle workers cost."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from itertools import chain

import numpy as np
import numpy.typing as npt
import orjson
from confluent_kafka import Producer as KafkaProducer

from tapeline.connectors.venues import Message, Recording
from tapeline.connectors.venues.pump import ingest
from tapeline.streams.producer import Producer
from tapeline.streams.servers import Process
from tests.bench.fill import connection
from tests.bench.lab import BenchError, Lab, Records
from tests.bench.market import HOMES, PAIRS, Market
from tests.bench.peers.contract import Job, Peer
from tests.bench.pipelines import BOTH, Ours, Pipeline
from tests.bench.plan import Plan

Feed = Callable[[], Awaitable[int]]
"""Feeds everything and returns when it began, in ns."""
CATCH_UP_SECONDS = 10.0
"""Whoever is not done so long after the feed's end does not keep up."""
TICK_SECONDS = 0.001
HALF_A_STAMP_MS = 0.5
"""Append times are cut to whole milliseconds."""
TEXT_ROWS = 1_000

Ages = npt.NDArray[np.float64]


class Latency:
    """Measures pipelines and peers over the same market, each at the same paces."""

    def __init__(self, lab: Lab, plan: Plan, market: Market, ours: Ours) -> None:
        self._lab = lab
        self._plan = plan
        self._market = market
        self._ours = ours  # `raw` is its topic, also where only the floor reads it
        self._runs = 0

    async def pipeline(self, pipeline: Pipeline, rate: int) -> Ages | None:
        """Return the ages (ms) of the signals of a pipeline, or None if it does not keep up."""
        await self._ours.reset(self._lab, raw=True)
        await pipeline.reset(self._lab)
        running = pipeline.running(self._lab, BOTH, self._plan.latency_fast, self._plan.latency_slow)
        ages = await self._measure(running, pipeline.signals, rate, lambda: self._feed_raw(rate), pipeline.name)
        pipeline.check(self._lab)
        return ages

    async def peer(self, peer: Peer, rate: int, linger_ms: int) -> Ages | None:
        """Return the ages (ms) of a peer's signals, fed with this linger, or None if it does not keep up."""
        self._runs += 1
        source, target = f"live-{self._runs}", f"live-signals-{self._runs}"
        await self._lab.create([source, target])
        job = Job(source, target, 1, self._plan.latency_fast, self._plan.latency_slow, linger_ms=0)
        running = peer.running(self._lab, job)
        ages = await self._measure(running, target, rate, lambda: self._feed_trades(source, rate, linger_ms), peer.name)
        await self._lab.delete([source, target])
        return ages

    async def _measure(
        self,
        running: AbstractAsyncContextManager[list[Process]],
        signals: str,
        rate: int,
        feed: Feed,
        name: str,
    ) -> Ages | None:
        lab, plan = self._lab, self._plan
        expected = self._market.signal_count(self._rows(rate), plan.latency_fast, plan.latency_slow)
        with lab.progress(f"latency of {name} at {rate:,}/s, {plan.latency_seconds[rate]:.0f} s"):
            async with running as processes:
                began_ns = await feed()
                deadline = time.monotonic() + CATCH_UP_SECONDS
                while (found := sum(lab.ends(signals))) < expected and time.monotonic() < deadline:
                    if any(process.pid is None for process in processes):
                        raise BenchError(f"{name} ended while it was fed")
                    await asyncio.sleep(0.1)
        if found < expected:
            return None
        records = lab.read(signals, values=True)
        if len(records.values) != expected:
            raise BenchError(
                f"{len(records.values)} signals of {name}, {expected} were due: these figures mean nothing"
            )
        return ages_ms(records, began_ns + round(plan.warm_up_seconds * 1e9))

    def _rows(self, rate: int) -> int:
        return int(rate * self._plan.latency_seconds[rate]) // len(PAIRS)

    def _texts(self, rate: int) -> Iterator[bytes]:
        rows = self._rows(rate)
        pieces = (self._market.texts(at, min(at + TEXT_ROWS, rows)) for at in range(0, rows, TEXT_ROWS))
        return chain.from_iterable(pieces)

    async def _feed_raw(self, rate: int) -> int:
        """Feed one connection the way `tapeline ingest` does. The one place that knows how."""
        texts = list(self._texts(rate))
        began_ns = 0

        def items() -> Iterator[Message]:
            nonlocal began_ns
            began_ns = time.time_ns()
            for number, text in enumerate(texts):
                yield Message(began_ns + number * 1_000_000_000 // rate, text)

        recording = Recording(connection(0), "bench", items(), len(texts), "message", lambda: 0)
        frames = self._ours.settings.frames
        async with Producer({"bootstrap.servers": self._lab.bootstrap}, compression=frames.compression) as producer:
            await ingest(recording, producer, frames, speed=1.0)
        return began_ns

    async def _feed_trades(self, topic: str, rate: int, linger_ms: int) -> int:
        """Feed a peer: each trade in a record of its own, received when it is handed to the producer."""
        producer = KafkaProducer(
            {
                "bootstrap.servers": self._lab.bootstrap,
                "log_level": 0,
                "enable.idempotence": True,
                "linger.ms": linger_ms,
            }
        )
        texts = list(self._texts(rate))
        partitions = [(HOMES[column], pair.symbol) for column, pair in enumerate(PAIRS)]
        began_ns, sent = time.time_ns(), 0
        while sent < len(texts):
            due = min((time.time_ns() - began_ns) * rate // 1_000_000_000 + 1, len(texts))
            for number in range(sent, due):
                partition, symbol = partitions[number % len(PAIRS)]
                text = b'%b,"recv_ns":%d}' % (texts[number][:-1], time.time_ns())
                producer.produce(topic, text, symbol, partition)
            sent = due
            producer.poll(0)
            await asyncio.sleep(TICK_SECONDS)
        await asyncio.to_thread(producer.flush, CATCH_UP_SECONDS)
        return began_ns


def ages_ms(records: Records, from_ns: int) -> Ages:
    """Return how old each signal was when it was appended, of those whose message came at `from_ns` or later."""
    received = np.array([orjson.loads(value)["ts_recv_ns"] for value in records.values], np.int64)
    ages = records.append_ms - received / 1e6 + HALF_A_STAMP_MS
    return ages[received >= from_ns]


async def idle_percent(lab: Lab, plan: Plan, ours: Ours) -> dict[str, float]:
    """Return the processor time of each worker that has nothing to do, in percent of a core."""
    await ours.reset(lab, raw=True)
    async with ours.running(lab, BOTH, plan.fast, plan.slow) as processes:
        with lab.progress(f"idle workers, {plan.idle_seconds:.0f} s"):
            await asyncio.sleep(min(plan.idle_seconds, 3))  # what starting leaves behind
            before, began = [lab.usage(process) for process in processes], time.monotonic()
            await asyncio.sleep(plan.idle_seconds)
            after, seconds = [lab.usage(process) for process in processes], time.monotonic() - began
    return {
        process.name: 100 * (late.cpu_s - early.cpu_s) / seconds
        for process, early, late in zip(processes, before, after, strict=True)
    }
