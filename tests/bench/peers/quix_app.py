"""The peer `quix`: a Quix Streams application. Runs in the environment that `quix.py` makes, as PythonPeer says.

Bytes in and out and averages in a plain dict: its own JSON serde and its RocksDB state would only cost it speed.
"""

import sys
import tempfile
from typing import Any

import orjson
from quixstreams import Application  # type: ignore[import-not-found]  # not in our environment

from tests.bench.ema import States, ema_cross


def main(broker: str, source: str, target: str, fast: str, slow: str, linger_ms: str, _: str) -> None:
    """Run the application until it is stopped."""
    app = Application(
        broker_address=broker,
        consumer_group=target,
        auto_offset_reset="earliest",
        auto_create_topics=False,
        use_changelog_topics=False,
        state_dir=tempfile.mkdtemp(prefix="quix-"),
        consumer_extra_config={"fetch.queue.backoff.ms": 10, "fetch.message.max.bytes": 4 * 1024 * 1024},
        producer_extra_config={"linger.ms": int(linger_ms), "compression.type": "lz4"},
        loglevel="WARNING",
    )
    states: States = {}
    periods = int(fast), int(slow)

    def cross(value: bytes) -> bytes | None:
        message = orjson.loads(value)
        trade = message["data"]
        crossed = ema_cross(states, trade["s"], float(trade["p"]), *periods)
        if crossed is None:
            return None
        side, strength = crossed
        signal = {"symbol": trade["s"], "side": side, "strength": strength, "ts_recv_ns": message.get("recv_ns", 0)}
        return orjson.dumps(signal)

    def said(signal: Any) -> bool:
        return signal is not None

    trades = app.topic(source, value_deserializer="bytes", key_deserializer="bytes")
    signals = app.topic(target, value_serializer="bytes", key_serializer="bytes")
    app.dataframe(trades).apply(cross).filter(said).to_topic(signals)
    app.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
