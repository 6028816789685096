"""Put the market's messages into topics before they are measured: raw frames for us, one trade a record for peers."""

import asyncio
import time
from collections.abc import Callable, Sequence

from confluent_kafka import Producer

from tapeline.schemas import RawFrame, partition_of
from tapeline.schemas.topics import RAW
from tests.bench.lab import BenchError, Lab
from tests.bench.market import ALL, PAIRS, PARTITIONS, Market, columns_of

ROWS = 10_000
"""Of texts that are made at a time; three symbols a connection and frames of 1, 10, 100 or 1,000 divide it evenly."""
Told = Callable[[float], None]
"""Called with the share that is done."""


def connection(partition: int) -> str:
    """Return a source whose raw frames belong to a partition."""
    names = (f"binance/bench-{number}" for number in range(1_000))
    return next(name for name in names if partition_of(name, PARTITIONS) == partition)


def layout(*, mixed: bool) -> list[Sequence[int]]:
    """Return which columns each of the four connections carries: those of one partition, or some of all."""
    if mixed:
        return [ALL[start : start + 3] for start in range(0, len(ALL), 3)]
    return [columns_of(partition) for partition in range(PARTITIONS)]


async def fill_raw(lab: Lab, market: Market, rows: int, frame: int, told: Told, *, mixed: bool = False) -> None:
    """Send the first `rows` trades of each symbol to `raw`, in frames of `frame` messages over four connections."""
    producer = _producer(lab)
    sent = [0] * PARTITIONS
    for start in range(0, rows, ROWS):
        stop = min(start + ROWS, rows)
        for partition, columns in enumerate(layout(mixed=mixed)):
            texts = market.texts(start, stop, columns)
            source, now_ns = connection(partition), time.time_ns()
            for at in range(0, len(texts), frame):
                piece = texts[at : at + frame]
                one = RawFrame.build(source, sent[partition], [now_ns] * len(piece), piece)
                sent[partition] += len(piece)
                producer.produce(RAW.name, one.encode(), source, partition)
            await _settle(producer)
        told(stop / rows)


async def fill_trades(lab: Lab, topic: str, market: Market, rows: int, told: Told) -> None:
    """Send the same trades as `fill_raw` to a peer's topic, one a record, keyed by symbol."""
    producer = _producer(lab)
    for start in range(0, rows, ROWS):
        stop = min(start + ROWS, rows)
        for partition in range(PARTITIONS):
            columns = columns_of(partition)
            keys = [PAIRS[column].symbol for column in columns] * (stop - start)
            texts = market.texts(start, stop, columns)
            records = [{"value": text, "key": key} for text, key in zip(texts, keys, strict=True)]
            producer.produce_batch(topic, records, partition)
            await _settle(producer)
        told(stop / rows)


def _producer(lab: Lab) -> Producer:
    return Producer(
        {
            "bootstrap.servers": lab.bootstrap,
            "log_level": 0,
            "enable.idempotence": True,
            "linger.ms": 20,
            "compression.type": "lz4",
            "batch.size": 1_000_000,
            "message.max.bytes": 8_000_000,
            "queue.buffering.max.messages": 2_000_000,
            "queue.buffering.max.kbytes": 2_000_000,
        }
    )


async def _settle(producer: Producer) -> None:
    """Wait until all is with the broker: the queue has room for one piece, and Ctrl-C is heard between two."""
    if left := await asyncio.to_thread(producer.flush, 60):
        raise BenchError(f"the broker did not take {left} records within a minute")
