"""The floor: what librdkafka and Tapeline's pure functions give without Faust, snapshots and all that makes it exact.

Run as `python -m tests.bench.floor_app normalize|logic BROKER INPUT OUTPUT FAST SLOW LINGER_MS`, one process a hop.
"""

import signal
import sys
from collections.abc import Callable, Iterable

from confluent_kafka import Consumer, Producer, TopicPartition

from tapeline.agents.logic.examples import SHIPPED
from tapeline.agents.logic.host import Instance
from tapeline.agents.logic.spec import LogicSpec
from tapeline.agents.tick_frames import cut, warm_up
from tapeline.connectors.venues import Sequences, parse_frame
from tapeline.schemas import Instrument, RawFrame, TickFrame, partition_of
from tapeline.streams.registry import first_free_id
from tests.bench.market import PAIRS, PARTITIONS

Hop = Callable[[int, int, bytes], Iterable[tuple[bytes, int]]]
"""(partition, offset, record) -> (output, its partition)."""
BATCH = 1_000
UNSENT_MAX = 10_000
"""From so many records on the broker gets a little time."""


def instruments() -> dict[str, Instrument]:
    """Return what the registry would say: name -> instrument."""
    found: dict[str, Instrument] = {}
    taken: dict[int, str] = {}
    for pair in PAIRS:
        name = f"binance:{pair.symbol}"
        number = first_free_id(name, taken)
        taken[number] = name
        found[name] = Instrument(id=number, name=name, partition=partition_of(name, PARTITIONS))
    return found


def normalize() -> Hop:
    """Return the first hop: a raw frame in, tick frames out."""
    warm_up()
    known = instruments()
    connections: dict[str, Sequences] = {}

    def hop(partition: int, offset: int, record: bytes) -> Iterable[tuple[bytes, int]]:
        frame = RawFrame.decode(record)
        parsed = parse_frame(frame, connections.setdefault(frame.source, {}))
        if parsed.rejects:
            raise SystemExit(f"rejected: {parsed.rejects[0]}")
        of_ticks = [known[name] for name in parsed.names]
        for ticks in cut(partition, offset, frame.time_ns, parsed.ticks, of_ticks):
            yield ticks.encode(), ticks.lane.ticks_partition

    return hop


def logic(fast: int, slow: int) -> Hop:
    """Return the second hop: a tick frame in, signals out."""
    names = {instrument.id: name for name, instrument in instruments().items()}
    cross = SHIPPED["ema_cross"]
    spec = LogicSpec(name=cross.name, logic=cross, params=cross.bind({"fast": fast, "slow": slow}))
    instances = [Instance(spec, names.__getitem__) for _ in range(PARTITIONS)]
    instances[0].warm_up()
    target = partition_of(spec.name, PARTITIONS)

    def hop(partition: int, offset: int, record: bytes) -> Iterable[tuple[bytes, int]]:
        signals, refused = instances[partition].on_record(offset, TickFrame.decode(record))
        if refused:
            raise SystemExit(f"refused: {refused[0]}")
        return [(signal, target) for signal in signals]

    return hop


def main(role: str, broker: str, source: str, target: str, fast: str, slow: str, linger_ms: str) -> None:
    """Read, call, send until it is stopped."""
    hop = normalize() if role == "normalize" else logic(int(fast), int(slow))
    consumer = Consumer(
        {
            "bootstrap.servers": broker,
            "group.id": "floor",
            "enable.auto.commit": False,
            "fetch.queue.backoff.ms": 1,
            "fetch.message.max.bytes": 2 * 1024 * 1024,
            "queued.max.messages.kbytes": 65536,
        }
    )
    producer = Producer(
        {
            "bootstrap.servers": broker,
            "enable.idempotence": True,
            "linger.ms": float(linger_ms),
            "compression.type": "lz4",
            "message.max.bytes": 8 * 1024 * 1024,
            "queue.buffering.max.messages": 1_000_000,
        }
    )
    consumer.assign([TopicPartition(source, partition, 0) for partition in range(PARTITIONS)])
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while not stopped:
        batch = consumer.consume(BATCH, 0)  # what is there; only an empty queue is waited for
        if not batch:
            first = consumer.poll(0.1)
            batch = [] if first is None else [first]
        for message in batch:
            partition, offset, record = message.partition(), message.offset(), message.value()
            if message.error() is not None or partition is None or offset is None or record is None:
                raise SystemExit(f"{source}: {message.error()}")
            for output, to in hop(partition, offset, record):
                producer.produce(target, output, partition=to)
            producer.poll(0 if len(producer) < UNSENT_MAX else 0.01)
    producer.flush(10)
    consumer.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
