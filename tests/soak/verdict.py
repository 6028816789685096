"""From samples of a running platform to a table and a verdict. Pure; `__main__` takes the samples."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

INGEST = "ingest-binance"
JUDGED = ("normalize", "logic", "persist", INGEST, "up")
"""Processes of ours: their memory must not grow. The servers' caches may, up to what they are set to."""
ROLES = ("normalize", "logic", "persist")
GROWTH_MAX = 0.01
LAG_SECONDS_MAX = 10.0
"""Offsets are committed with the snapshots, every 2 s; five times that is more than a hiccup."""
RATE_SHARE_MIN = 0.99
WARM_UP_SECONDS_MAX = 180.0
WARM_UP_SHARE_MAX = 0.6
WINDOW_SHARE = 0.25
"""Memory at the beginning and the end is the median of so much of the time after the warm-up."""
MINUTE = 60.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One look. seconds: since the feed began; messages, signals: totals so far."""

    seconds: float
    rss_bytes: dict[str, int]
    """Of each process with its descendants."""
    pids: dict[str, int]
    lag_records: dict[str, int]
    """Of each role: records in its input that are not committed."""
    input_records: dict[str, int]
    """Of each role: how many records its input holds."""
    messages: int
    signals: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """growth: of each process's memory after the warm-up, as a share; faults: why it failed, in words."""

    growth: dict[str, float]
    lag_seconds_max: dict[str, float]
    messages_per_second: float
    signals_per_second: float
    faults: list[str]


def judge(samples: Sequence[Sample], rate: float) -> Verdict:
    """Return what the samples say about a feed of `rate` messages a second."""
    end = samples[-1].seconds
    start = min(WARM_UP_SECONDS_MAX, WARM_UP_SHARE_MAX * end)
    warm = [one for one in samples if one.seconds >= start]
    window = WINDOW_SHARE * (end - start)
    first = [one for one in warm if one.seconds <= start + window]
    last = [one for one in warm if one.seconds >= end - window]
    growth = {name: _median_rss(last, name) / _median_rss(first, name) - 1 for name in samples[-1].rss_bytes}
    lag = {role: max(lag_seconds(warm, role)) for role in ROLES}
    messages, signals = (_rate(warm, total) for total in (lambda one: one.messages, lambda one: one.signals))
    faults = [
        f"memory of {name} grew by {growth[name]:.2%}, {GROWTH_MAX:.0%} is allowed"
        for name in JUDGED
        if growth[name] >= GROWTH_MAX
    ]
    faults += [
        f"{role} was {seconds:.1f} s behind, {LAG_SECONDS_MAX:.0f} s are allowed"
        for role, seconds in lag.items()
        if seconds > LAG_SECONDS_MAX
    ]
    if messages < RATE_SHARE_MIN * rate:
        faults.append(f"{messages:,.0f} messages a second went through, {rate:,.0f} were to")
    faults += [
        f"{name} was started again" for name in samples[0].pids if len({one.pids.get(name) for one in samples}) > 1
    ]
    return Verdict(growth, lag, messages, signals, faults)


def lag_seconds(samples: Sequence[Sample], role: str) -> list[float]:
    """Return how long each sample's lag takes to come in, at the average rate of the samples."""
    rate = max(_rate(samples, lambda one: one.input_records[role]), 1e-9)
    return [one.lag_records[role] / rate for one in samples]


def minutes(samples: Sequence[Sample]) -> Iterator[dict[str, Any]]:
    """Yield a row a minute: memory (median, MB), lag (largest, seconds), messages and signals a second."""
    begin = 0.0
    while own := [one for one in samples if begin <= one.seconds < begin + MINUTE]:
        yield {
            "minute": int(begin / MINUTE) + 1,
            "rss_mb": {name: round(_median_rss(own, name) / 1e6, 1) for name in own[-1].rss_bytes},
            "lag_seconds": {role: round(max(lag_seconds(own, role)), 2) for role in ROLES} if len(own) > 1 else {},
            "messages_per_second": round(_rate(own, lambda one: one.messages)),
            "signals_per_second": round(_rate(own, lambda one: one.signals), 1),
        }
        begin += MINUTE


def _median_rss(samples: Sequence[Sample], name: str) -> float:
    return median(one.rss_bytes[name] for one in samples if name in one.rss_bytes)


def _rate(samples: Sequence[Sample], total: Callable[[Sample], int]) -> float:
    first, last = samples[0], samples[-1]
    return (total(last) - total(first)) / max(last.seconds - first.seconds, 1e-9)
