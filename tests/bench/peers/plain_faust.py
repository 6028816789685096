"""The peer `faust`: a plain Faust app: its agent, its transport, its producer; orjson instead of its slower models.

Run as `contract.PythonPeer` says. Each process of two has half of the partitions, by Faust's own assignor.
"""

import sys
import tempfile

import faust
import orjson

from tests.bench.ema import States, ema_cross


def main(broker: str, source: str, target: str, fast: str, slow: str, linger_ms: str, _: str) -> None:
    """Run the worker until it is stopped."""
    app = faust.App(
        target,
        broker=f"kafka://{broker}",
        value_serializer="raw",
        key_serializer="raw",
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        consumer_auto_offset_reset="earliest",
        producer_linger=float(linger_ms) / 1000,
        datadir=tempfile.mkdtemp(prefix="faust-"),  # Faust wants one, nothing is kept in it
        store="memory://",
    )
    signals = app.topic(target)
    states: States = {}
    periods = int(fast), int(slow)

    @app.agent(app.topic(source))
    async def ema_cross_agent(stream: faust.StreamT[bytes]) -> None:
        async for value in stream:
            message = orjson.loads(value)
            trade = message["data"]
            crossed = ema_cross(states, trade["s"], float(trade["p"]), *periods)
            if crossed is not None:
                side, strength = crossed
                signal = {"symbol": trade["s"], "side": side, "strength": strength}
                await signals.send(value=orjson.dumps(signal | {"ts_recv_ns": message.get("recv_ns", 0)}))

    faust.Worker(app, loglevel="WARNING").execute_from_commandline()


if __name__ == "__main__":
    main(*sys.argv[1:])
