"""Quantiles of latencies from the buckets that `counting.measure` fills: bounded memory, and a declared precision."""

import numpy as np
import numpy.typing as npt

from tapeline.agents.quality.counting import HALF, PRECISION_BITS, STEPS


def bounds_ns(bucket: int) -> tuple[int, int]:
    """Return the smallest and the largest distance from the base that fall into a bucket, both inclusive."""
    side = abs(bucket - HALF)
    shift = max(side // STEPS - 1, 0)
    low = side if side < STEPS else (STEPS + side % STEPS) << shift
    high = low + (1 << shift) - 1
    return (low, high) if bucket >= HALF else (-high, -low)


def quantile_ns(histogram: npt.NDArray[np.int64], base_ns: int, share: float) -> int:
    """Return the smallest latency that at least `share` of all are not above (nearest rank), to the bucket's middle.

    histogram: (2 x HALF,) how many latencies have each distance from base_ns, at least one. It is at most 1/2048 of
    its distance from base_ns away from the exact one.
    """
    sums = np.cumsum(histogram)
    rank = max(int(np.ceil(share * sums[-1])), 1)
    low, high = bounds_ns(int(np.searchsorted(sums, rank)))
    return base_ns + (low + high) // 2


PRECISION = 2.0 ** -(PRECISION_BITS + 1)
