"""How much is measured, and how often. Everything else that the bench does follows from this and from who is asked."""

from collections.abc import Mapping
from dataclasses import dataclass

OURS, FLOOR = "ours", "floor"
PEERS = ("kafka-streams", "confluent", "quix", "faust")
CRYPTOFEED = "cryptofeed"
"""A peer of captures alone."""
SORTEDCONTAINERS = "sortedcontainers"
"""A peer of books alone."""
POLARS = "polars"
"""A peer of bars alone."""
CONTENDERS = (OURS, FLOOR, *PEERS, CRYPTOFEED, SORTEDCONTAINERS, POLARS)
OVER_THE_MARKET = ("throughput", "frames", "latency", "handover")
"""Parts that measure over the same made market, most of them beside peers."""
WITHOUT_BROKER = ("store", "captures", "quality", "book", "bars")
PARTS = (*OVER_THE_MARKET, "live", "idle", *WITHOUT_BROKER)

LARGEST_FRAME = 1_000
FRAME_ROWS = {1: 10_000, 10: 100_000, 100: 500_000, LARGEST_FRAME: 1_500_000}
PEER_ROWS = {"kafka-streams": 500_000, "confluent": 500_000, "quix": 50_000, "faust": 8_000}
ROWS_STEP = 1_000
"""Rows come in such steps, so that every frame is full."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One run. A row is a trade of each of the twelve symbols."""

    contenders: frozenset[str]
    parts: frozenset[str]
    samples: int
    """Of contenders that are cheap to measure, the others once."""
    frame_rows: Mapping[int, int]
    """Messages a frame -> rows, so many that a measurement takes 5 to 10 s at the goals."""
    peer_rows: Mapping[str, int]
    latency_seconds: Mapping[int, float]
    """Messages a second -> for how long they are fed."""
    warm_up_seconds: float
    """Of the feed, whose latencies do not count."""
    live_seconds: Mapping[int, float]
    """Likewise, of a venue."""
    handover_rate: int
    """Messages a second, while workers come and go."""
    idle_seconds: float
    store_ticks: int
    """Written to the database."""
    capture_seconds: float
    """A sample of a capture is at least so long; also of a book."""
    quality_blocks: int
    """Of a million ticks each, in a round."""
    bar_ticks: int
    """That bars are made of, in a pass."""
    fast: int = 20
    slow: int = 50
    latency_fast: int = 2
    latency_slow: int = 5
    """Averages that cross often: a signal in every fifth message."""

    @classmethod
    def make(cls, contenders: frozenset[str], parts: frozenset[str], *, scale: float, samples: int) -> "Plan":
        """Return the plan for so much of the full work; `scale` below 1 is for a look, not for figures to quote."""

        def steps(rows: int) -> int:
            return max(round(rows * scale / ROWS_STEP), 1) * ROWS_STEP

        seconds = min(max(scale, 0.1), 1.0)
        return cls(
            contenders,
            parts,
            samples,
            frame_rows={frame: steps(rows) for frame, rows in FRAME_ROWS.items()},
            peer_rows={peer: steps(rows) for peer, rows in PEER_ROWS.items()},
            latency_seconds={2_000: 30 * seconds, 20_000: 30 * seconds},
            live_seconds={5_000: 30 * seconds},
            warm_up_seconds=12 * seconds,
            handover_rate=20_000,
            idle_seconds=30 * seconds,
            store_ticks=steps(500_000),  # more, and a checkpoint falls into some of the measurements
            capture_seconds=0.5 * seconds,
            quality_blocks=max(round(8 * seconds), 1),
            bar_ticks=max(round(4 * seconds), 1) * 1_000_000,
        )

    def wants(self, *names: str) -> bool:
        """Return whether one of these contenders is asked for."""
        return not self.contenders.isdisjoint(names)

    @property
    def needs_broker(self) -> bool:
        """Whether anything but what runs without one is asked for."""
        return not self.parts <= set(WITHOUT_BROKER)

    @property
    def rows(self) -> int:
        """The longest market that is needed."""
        latency = max(round(rate * seconds) for rate, seconds in self.latency_seconds.items()) // 12 + 1
        return max(latency, *self.frame_rows.values(), *self.peer_rows.values())
