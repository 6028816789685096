"""The peer: a plain Faust app as its docs teach it, one JSON trade a record in, one JSON signal a record out.

Run as `python -m tests.bench.plain_faust BROKER TRADES_TOPIC SIGNALS_TOPIC`. Its models, its transport, its producer.
"""

import sys

import faust
import orjson

from tests.bench.market import FAST, SLOW


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
        datadir="/tmp/tapeline-bench-faust",
        store="memory://",
    )
    signals = app.topic(target)
    states: dict[str, tuple[float, float, int, int]] = {}

    @app.agent(app.topic(source))
    async def ema_cross(stream: faust.StreamT[bytes]) -> None:
        async for value in stream:
            message = orjson.loads(value)
            trade = message["data"]
            price = float(trade["p"])
            fast, slow, n, side = states.get(trade["s"], (price, price, 0, 0))
            n += 1
            fast += (price - fast) * 2 / (FAST + 1)
            slow += (price - slow) * 2 / (SLOW + 1)
            new = 1 if fast > slow else -1
            if new != side and n >= SLOW:
                side = new
                signal = {
                    "symbol": trade["s"],
                    "side": side,
                    "strength": abs(fast - slow) / price,
                    "ts_recv_ns": message.get("recv_ns", 0),
                }
                await signals.send(value=orjson.dumps(signal))
            states[trade["s"]] = fast, slow, n, side

    faust.Worker(app, loglevel="WARNING").execute_from_commandline()


if __name__ == "__main__":
    main(*sys.argv[1:])
