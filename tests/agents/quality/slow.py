"""The rules and counts once more, tick by tick in plain Python: what the compiled code is held against."""

import math
from collections import Counter
from statistics import median
from typing import Any

from tapeline.agents.quality.rules import Rules
from tapeline.schemas import Flag, Kind, Ticks

DATA = (Kind.TRADE, Kind.QUOTE, Kind.BOOK)


class Field:
    """The prices of one field."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.prices: list[float] = []
        self.good: float | None = None
        self.step = math.inf

    def outlier(self, price: float) -> float | None:
        """The median that a price is too far from, None if it is not."""
        if price == 0 or not math.isfinite(price):
            return None
        rules, middle = self.rules, None
        if len(self.prices) >= max(11, rules.outlier_confirm):
            window = self.prices[-rules.outlier_window :]
            centre = median(window)
            spread = 1.4826 * median(abs(one - centre) for one in window)
            steps = 3 * self.step if math.isfinite(self.step) else 0
            limit = max(rules.outlier_spreads * spread, rules.outlier_share * abs(price), steps)
            last = median(self.prices[-rules.outlier_confirm :])
            if abs(price - centre) > limit and abs(price - last) > limit:
                middle = centre
            else:
                if self.good is not None and price != self.good:
                    self.step = min(self.step, abs(price - self.good))
                self.good = price
        self.prices.append(price)
        return middle


def outliers(ticks: Ticks, rules: Rules) -> list[float | None]:
    trade, bid, ask = Field(rules), Field(rules), Field(rules)
    found: list[float | None] = []
    for one in ticks:
        middle = None
        if one["kind"] == Kind.TRADE:
            middle = trade.outlier(float(one["price"]))
        elif one["kind"] == Kind.QUOTE:
            bids, asks = bid.outlier(float(one["price"])), ask.outlier(float(one["price2"]))
            middle = asks if bids is None else bids
        found.append(middle)
    return found


def stale(ticks: Ticks, rules: Rules) -> list[bool]:
    found = []
    clock_ns = 0
    standing: Any = None
    traded_ns: dict[str, int | None] = {}
    for one in ticks:
        clock_ns = max(clock_ns, int(one["ts_recv_ns"]))
        old = {what: ns is not None and clock_ns - ns > rules.stale_ns for what, ns in traded_ns.items()}
        flag = False
        if one["kind"] == Kind.TRADE:
            flag = any(old.values())
            traded_ns = {what: clock_ns if ns is None else ns for what, ns in traded_ns.items()}
        elif one["kind"] == Kind.QUOTE:
            says = tuple(float(one[name]) for name in ("price", "price2", "size", "size2"))
            if standing is not None and all(a == b for a, b in zip(says, standing, strict=True)):
                flag = old["quote"]
            else:
                standing, traded_ns["quote"] = says, None
        elif one["kind"] == Kind.BOOK:
            traded_ns["book"] = None
        elif one["kind"] == Kind.STATUS:
            traded_ns = dict.fromkeys(traded_ns)
        found.append(flag)
    return found


def repeated(ticks: Ticks) -> list[bool]:
    seen: set[Any] = set()
    update: list[Any] = []
    found = []
    for one in ticks:
        flag = False
        if one["sequence"] != 0 and one["kind"] in DATA and not one["flags"] & Flag.SNAPSHOT:
            event_ns = int(one["ts_event_ns"]) if one["ts_event_ns"] != one["ts_recv_ns"] else 0
            bits = b"".join(one[name].tobytes() for name in ("price", "size", "price2", "size2"))
            key: Any = (event_ns, int(one["sequence"]), int(one["kind"]), int(one["side"]), bits)
            if one["kind"] == Kind.BOOK:
                update.append(key)
                key = None
                if one["flags"] & Flag.LAST:
                    key, update = tuple(update), []
            if key is not None:
                flag = key in seen
                seen.add(key)
        found.append(flag)
    return found


def counts(ticks: Ticks) -> dict[int, Counter[str]]:
    """By kind: what `counting.COUNT` counts of the ticks' order."""
    found: dict[int, Counter[str]] = {}
    last: dict[int, Any] = {}
    for one in ticks:
        kind = int(one["kind"]) if one["kind"] < 16 else 0
        own = found.setdefault(kind, Counter())
        own["ticks"] += 1
        ends = kind != Kind.BOOK or bool(one["flags"] & Flag.LAST)
        own["events"] += ends
        own["late"] += bool(one["flags"] & Flag.LATE)
        if kind in (Kind.GAP, Kind.TIME, Kind.CONTROL) or one["flags"] & Flag.SNAPSHOT:
            continue
        if kind in last:
            before, ended = last[kind]
            own["back"] += bool(one["ts_event_ns"] < before["ts_event_ns"])
            own["same"] += bool(one["ts_event_ns"] == before["ts_event_ns"]) and ended
            own["sequence_back"] += bool(one["sequence"] != 0 and one["sequence"] < before["sequence"])
        own["timed"] += bool(one["ts_event_ns"] != one["ts_recv_ns"])
        last[kind] = one, ends
    return found
