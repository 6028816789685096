"""Ticks for the tests of quality: a market as messy as data gets, and shorthands for single ticks."""

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np

from tapeline.schemas import TICK, Flag, GapReason, Kind, Ticks, empty_ticks

DAY = "2025-01-02"
DAY_NS = 1_735_776_000_000_000_000
SECOND_NS = 1_000_000_000


def tick(kind: Kind, at_s: float, **fields: Any) -> Ticks:
    """One tick, received at_s seconds into the day; event time the same unless given."""
    one = empty_ticks(1)
    at_ns = DAY_NS + round(at_s * SECOND_NS)
    one["kind"], one["ts_recv_ns"], one["ts_event_ns"] = kind, at_ns, at_ns
    for name, value in fields.items():
        one[name] = value
    return one


def trade(at_s: float, price: float, **fields: Any) -> Ticks:
    return tick(Kind.TRADE, at_s, price=price, size=1, **fields)


def quote(at_s: float, bid: float, ask: float, **fields: Any) -> Ticks:
    return tick(Kind.QUOTE, at_s, **{"price": bid, "price2": ask, "size": 1, "size2": 1} | fields)


def gap(at_s: float, reason: GapReason, kind: int = 0, **fields: Any) -> Ticks:
    return tick(Kind.GAP, at_s, price=reason, price2=kind, **fields)


def together(*ticks: Ticks) -> Ticks:
    return np.concatenate(ticks)


def trades(prices: Iterable[float], start_s: float = 0.0, step_s: float = 0.1) -> Ticks:
    """Trades of these prices, one each step."""
    return together(*(trade(start_s + number * step_s, price) for number, price in enumerate(prices)))


def messy(seed: int, count: int) -> Ticks:
    """A random market of one instrument with everything that may be wrong in it, some values beyond all sense."""
    random = np.random.default_rng(seed)
    ticks = empty_ticks(count)
    kinds = [Kind.TRADE, Kind.QUOTE, Kind.BOOK, Kind.GAP, Kind.STATUS, Kind.TIME, Kind.MARK, 200]
    ticks["kind"] = random.choice(kinds, count, p=[0.3, 0.35, 0.25, 0.02, 0.02, 0.02, 0.02, 0.02])
    steps_ns = random.choice([0, 1, 30, 400, 6000], count, p=[0.3, 0.3, 0.3, 0.09, 0.01]) * 1_000_000
    ticks["ts_recv_ns"] = (
        DAY_NS + SECOND_NS + 1 + np.cumsum(steps_ns) - random.choice([0, 5_000_000], count, p=[0.98, 0.02])
    )
    late_ns = random.choice([0, 1_000_000, -2_000_000, 500, 2**62], count, p=[0.3, 0.4, 0.2, 0.09, 0.01])
    ticks["ts_event_ns"] = ticks["ts_recv_ns"] - late_ns
    ticks["sequence"] = np.arange(count) // 3 - random.choice([0, 4], count, p=[0.95, 0.05])
    ticks["side"] = random.choice([-1, 0, 1], count)
    ticks["flags"] = random.choice(
        [0, Flag.LAST, Flag.SNAPSHOT, Flag.SNAPSHOT | Flag.LAST, Flag.OUTLIER, Flag.LATE, Flag.INEXACT],
        count,
        p=[0.4, 0.4, 0.05, 0.05, 0.02, 0.04, 0.04],
    )
    walk = 100 + np.cumsum(random.choice([-1, 0, 1], count)) * 0.01
    jump = np.where(random.random(count) < 0.03, random.choice([0.5, 1.2, 1e6], count), 1)
    ticks["price"] = np.round(walk * jump, 2)
    ticks["price2"] = np.round(walk * jump, 2) + random.choice([0.01, 0, -0.01, 5], count, p=[0.7, 0.2, 0.07, 0.03])
    for field in ("price", "price2"):
        odd = random.choice([0.0, np.nan, np.inf, -1.0], count)
        ticks[field] = np.where(random.random(count) < 0.02, odd, ticks[field])
    for field in ("size", "size2"):
        ticks[field] = random.choice([0, 1, 2, np.nan], count, p=[0.2, 0.4, 0.39, 0.01])
    gaps = ticks["kind"] == Kind.GAP
    ticks["price"][gaps] = random.choice([1, 2, 5, 7, 99, -3, np.nan], gaps.sum())
    ticks["price2"][gaps] = random.choice([0, 1, 2, 3, 77, np.nan], gaps.sum())
    again = np.flatnonzero(random.random(count) < 0.03)
    again = again[again > 10]
    ticks[again] = ticks[again - random.integers(1, 10, len(again))]
    return ticks


def cuts(ticks: Ticks, seed: int) -> Iterator[Ticks]:
    """The same ticks in pieces of random lengths, some of them empty."""
    places = np.sort(np.random.default_rng(seed).integers(0, len(ticks) + 1, len(ticks) // 7))
    for start, end in pairwise([0, *places.tolist(), len(ticks)]):
        yield ticks[start:end]


assert TICK.itemsize == 64
