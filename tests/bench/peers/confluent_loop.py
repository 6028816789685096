"""The peer `confluent`: a loop by hand over confluent-kafka and orjson, tuned: the best a Python user gets.

Run as `contract.PythonPeer` says. At least once: offsets are committed after what follows from them was delivered.
"""

import gc
import signal
import sys
import time

import orjson
from confluent_kafka import Consumer, Producer, TopicPartition

from tests.bench.ema import States, ema_cross

COMMIT_SECONDS = 1.0
BATCH = 1_000
"""Fits into the processor's cache: ten times as many are slower."""


def main(broker: str, source: str, target: str, fast: str, slow: str, linger_ms: str, partitions: str) -> None:
    """Read, cross and send until it is stopped."""
    consumer = Consumer(
        {
            "bootstrap.servers": broker,
            "group.id": target,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "fetch.queue.backoff.ms": 10,  # the default second holds a loop over small records at a quarter of this
            "queued.max.messages.kbytes": 65536,
            "fetch.message.max.bytes": 4 * 1024 * 1024,
            "check.crcs": False,
        }
    )
    producer = Producer(
        {
            "bootstrap.servers": broker,
            "enable.idempotence": True,
            "linger.ms": linger_ms,
            "compression.type": "lz4",
            "batch.size": 262_144,
        }
    )
    own = [TopicPartition(source, int(partition), 0) for partition in partitions.split(",")]
    consumer.assign(own)
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    sys.stdout.write("ready\n")
    sys.stdout.flush()

    states: States = {}
    periods = int(fast), int(slow)
    loads, dumps, produce = orjson.loads, orjson.dumps, producer.produce
    gc.freeze()
    due = time.monotonic() + COMMIT_SECONDS
    while not stopped:
        batch = consumer.consume(BATCH, 0)  # what is there; only an empty queue is waited for
        if not batch:
            first = consumer.poll(0.1)
            batch = [] if first is None else [first]
        for record in batch:
            message = loads(record.value() or b"")
            trade = message["data"]
            symbol = trade["s"]
            crossed = ema_cross(states, symbol, float(trade["p"]), *periods)
            if crossed is not None:
                side, strength = crossed
                out = {"symbol": symbol, "side": side, "strength": strength, "ts_recv_ns": message.get("recv_ns", 0)}
                produce(target, dumps(out), symbol)
        producer.poll(0)
        if time.monotonic() > due:
            due = time.monotonic() + COMMIT_SECONDS
            reached = [one for one in consumer.position(own) if one.offset > 0]
            if reached and not producer.flush(10):
                consumer.commit(offsets=reached, asynchronous=True)
    producer.flush(10)
    consumer.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
