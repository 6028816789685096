"""Time one contender over one filled topic. `throughput.py` says who runs over what.

Two hops are timed from the first tick frame to the last signal. Of a single hop there is no such start: a reader may
warm up before its first output, so its clock starts when a tenth of the outputs are there. That favours peers.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

import numpy as np

from tapeline.schemas.frames import CHECKSUM_BYTES, HEADER_BYTES
from tapeline.schemas.tick import TICK_BYTES
from tapeline.streams.servers import Process
from tests.bench.lab import BenchError, Lab, Records

SKIPPED_SHARE = 0.1
RUN_SECONDS_MAX = 900
MIN_SECONDS = 0.001


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement. rate: messages (ticks) a second; memory_mb, cpu_s: by process name, cpu while it worked."""

    rate: float
    seconds: float
    memory_mb: dict[str, float]
    cpu_s: dict[str, float]

    def __str__(self) -> str:
        cpu = ", ".join(f"{name} {seconds:.1f}" for name, seconds in self.cpu_s.items())
        return f"{self.rate:>12,.0f}/s over {self.seconds:.1f} s  (cpu s: {cpu})"


@dataclass(frozen=True, slots=True)
class Expected:
    """What must come out: so many records in `topic`, from so many `messages`. frames: of ticks, one a message."""

    topic: str
    records: int
    messages: int
    frames: bool = False


async def two_hops(
    lab: Lab, what: str, running: AbstractAsyncContextManager[list[Process]], ticks: str, expected: Expected
) -> Sample:
    """Time both hops of a pipeline."""
    usage = await _work(lab, what, running, expected)
    first_ms = int(lab.read_first(ticks).min())
    signals = _all_of(lab, expected)
    return _sample(expected.messages, (int(signals.append_ms[-1]) - first_ms) / 1000, usage)


async def one_hop(
    lab: Lab,
    what: str,
    running: AbstractAsyncContextManager[list[Process]],
    expected: Expected,
    *,
    fill: Callable[[], Awaitable[None]] | None = None,
) -> Sample:
    """Time a single hop; `fill` is called once it is ready, for those that cannot start over a filled topic."""
    usage = await _work(lab, what, running, expected, fill)
    outputs = _all_of(lab, expected)
    start = int(len(outputs.append_ms) * SKIPPED_SHARE)
    share = 1 - (start + 1) / len(outputs.append_ms)
    seconds = (int(outputs.append_ms[-1]) - int(outputs.append_ms[start])) / 1000
    return _sample(expected.messages * share, seconds, usage)


Usage = tuple[dict[str, float], dict[str, float]]
"""Memory (MB) and processor time (s) by process."""


async def _work(
    lab: Lab,
    what: str,
    running: AbstractAsyncContextManager[list[Process]],
    expected: Expected,
    fill: Callable[[], Awaitable[None]] | None = None,
) -> Usage:
    """Run the contender until all outputs are there."""
    with lab.progress(what) as told:
        async with running as processes:
            before = [lab.usage(process) for process in processes]
            if fill is not None:
                await fill()

            def done() -> bool:
                count = sum(lab.ends(expected.topic))
                told(count / expected.records)
                return count >= expected.records

            await lab.until(done, f"{expected.records} records in {expected.topic}", processes, seconds=RUN_SECONDS_MAX)
            after = [lab.usage(process) for process in processes]
    names = [process.name for process in processes]
    memory = {name: late.memory_mb for name, late in zip(names, after, strict=True)}
    cpu = {name: late.cpu_s - early.cpu_s for name, early, late in zip(names, before, after, strict=True)}
    return memory, cpu


def _all_of(lab: Lab, expected: Expected) -> Records:
    """Read the outputs, once the contender has stopped; raise BenchError if they are not those that are expected."""
    records = lab.read(expected.topic)
    if len(records.append_ms) != expected.records:
        raise BenchError(
            f"{len(records.append_ms)} records in {expected.topic}, {expected.records} were due from "
            f"{expected.messages} messages: these figures mean nothing"
        )
    if expected.frames:
        ticks = (records.sizes - HEADER_BYTES - CHECKSUM_BYTES).sum() // TICK_BYTES
        if ticks != expected.messages:
            raise BenchError(f"{ticks} ticks in {expected.topic}, {expected.messages} messages went in")
    return records


def _sample(messages: float, seconds: float, usage: Usage) -> Sample:
    return Sample(messages / max(seconds, MIN_SECONDS), seconds, *usage)


def median(samples: Sequence[Sample]) -> float:
    """Return the median rate."""
    return float(np.median([sample.rate for sample in samples]))
