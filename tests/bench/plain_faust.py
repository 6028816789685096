"""The peer: a plain Faust app as its docs teach it, one JSON trade a record in, one JSON signal a record out.

Run as `python -m tests.bench.plain_faust BROKER TRADES_TOPIC SIGNALS_TOPIC`. Its models, its transport, its producer.
"""

import sys
import tempfile

import faust
import orjson

from tests.bench.market import States, ema_cross


def main(broker: str, source: str, target: str) -> None:
    """Run the worker until it is killed."""
    app = faust.App(
        f"bench-{source}",
        broker=f"kafka://{broker}",
        value_serializer="raw",
        key_serializer="raw",
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        consumer_auto_offset_reset="earliest",
        datadir=tempfile.mkdtemp(prefix="tapeline-bench-"),  # Faust wants one, nothing is kept in it
        store="memory://",
    )
    signals = app.topic(target)
    states: States = {}

    @app.agent(app.topic(source))
    async def ema_cross_agent(stream: faust.StreamT[bytes]) -> None:
        async for value in stream:
            message = orjson.loads(value)
            trade = message["data"]
            crossed = ema_cross(states, trade["s"], float(trade["p"]))
            if crossed is not None:
                side, strength = crossed
                signal = {"symbol": trade["s"], "side": side, "strength": strength}
                await signals.send(value=orjson.dumps(signal | {"ts_recv_ns": message.get("recv_ns", 0)}))

    faust.Worker(app, loglevel="WARNING").execute_from_commandline()


if __name__ == "__main__":
    main(*sys.argv[1:])
