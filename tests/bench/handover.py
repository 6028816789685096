"""How long a partition is silent when a worker comes or goes under load."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import count

import numpy as np
import numpy.typing as npt

from tapeline.connectors.venues import Message, Recording
from tapeline.connectors.venues.pump import ingest
from tapeline.schemas import TickFrame
from tapeline.streams.producer import Producer
from tests.bench.fill import connection
from tests.bench.lab import Lab
from tests.bench.market import PARTITIONS, Market, columns_of
from tests.bench.pipelines import NORMALIZE, Ours
from tests.bench.plan import Plan

STEADY_SECONDS = 3.0
"""Between two changes, and after each that is looked at."""
WARM_SECONDS = 10.0
TEXT_ROWS = 1_000
"""Messages come again and again."""
Window = tuple[int, int]
"""From and to, in milliseconds."""


async def handover_ms(lab: Lab, plan: Plan, market: Market, ours: Ours) -> dict[str, list[int]]:
    """Return, for each time that a second normaliser joined and left, the longest silence of a raw partition.

    A partition is silent while no tick of it is appended. All four are fed, each by a connection of its own.
    """
    await ours.reset(lab, raw=True)
    windows: dict[str, list[Window]] = {"join": [], "leave": []}
    async with ours.worker(lab, NORMALIZE) as first:
        await ours.until_settled(lab, NORMALIZE, [first])
        async with _fed(lab, plan.handover_rate, market, ours):
            await asyncio.sleep(WARM_SECONDS)
            for sample in range(plan.samples):
                with lab.progress(f"handover {sample + 1} of {plan.samples}"):
                    began = _now_ms()
                    async with ours.worker(lab, NORMALIZE) as second:
                        await ours.until_settled(lab, NORMALIZE, [first, second])
                        await asyncio.sleep(STEADY_SECONDS)
                        windows["join"].append((began, _now_ms()))
                        began = _now_ms()
                    await ours.until_settled(lab, NORMALIZE, [first])
                    await asyncio.sleep(STEADY_SECONDS)
                    windows["leave"].append((began, _now_ms()))
    records = lab.read(ours.ticks, values=True)
    partitions = np.array([TickFrame.decode(value).lane.raw_partition for value in records.values])
    appended = [records.append_ms[partitions == number] for number in range(PARTITIONS)]
    return {
        change: [max(silence_ms(times, window) for times in appended) for window in found]
        for change, found in windows.items()
    }


def silence_ms(times: npt.NDArray[np.int64], window: Window) -> int:
    """Return the longest time between two of `times` (sorted), or between one and an end of the window."""
    inside = times[(times >= window[0]) & (times <= window[1])]
    return int(np.diff(inside, prepend=window[0], append=window[1]).max())


@asynccontextmanager
async def _fed(lab: Lab, rate: int, market: Market, ours: Ours) -> AsyncIterator[None]:
    """Feed every raw partition, as `tapeline ingest` does, while the context lasts."""
    over = asyncio.Event()
    frames = ours.settings.frames

    def items(partition: int) -> Iterator[Message]:
        texts = market.texts(0, TEXT_ROWS, columns_of(partition))
        began_ns, each_ns = time.time_ns(), PARTITIONS * 1_000_000_000 // rate
        for number in count():
            yield Message(began_ns + number * each_ns, texts[number % len(texts)])

    kafka = {"bootstrap.servers": lab.bootstrap}
    async with Producer(kafka, compression=frames.compression) as producer, asyncio.TaskGroup() as feeds:
        for partition in range(PARTITIONS):
            recording = Recording(connection(partition), "bench", items(partition), 0, "message", lambda: 0)
            feeds.create_task(ingest(recording, producer, frames, speed=1.0, stop=over))
        try:
            yield
        finally:
            over.set()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
