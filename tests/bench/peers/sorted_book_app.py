"""The peer `sortedcontainers`: a book of two SortedDicts over the events of a file, as a Python user writes it.

Runs in an environment of its own, without Tapeline: `python sorted_book_app.py EVENTS SAMPLES SECONDS` prints one JSON
object: `levels`, `best` (the best bid and ask in the end), and seconds of processor time of the fastest pass of each
sample: `set` levels alone, `read` the best bid and ask after every event, too.

EVENTS: marshal, a list of (is a snapshot, [(side, price, size), ...]).
"""

import json
import marshal
import sys
import time
from operator import neg
from typing import Any

from sortedcontainers import SortedDict  # type: ignore[import-untyped]

Events = list[tuple[bool, list[tuple[int, float, float]]]]


def one_pass(events: Events, *, read: bool) -> tuple[float, Any, Any]:
    """Return seconds, and the best levels in the end."""
    bids, asks = SortedDict(neg), SortedDict()
    started = time.process_time()
    for snapshot, levels in events:
        if snapshot:
            bids.clear()
            asks.clear()
        for side, price, size in levels:
            of_side = bids if side > 0 else asks
            if size:
                of_side[price] = size
            else:
                of_side.pop(price, None)
        if read:
            _ = bids.peekitem(0) if bids else None, asks.peekitem(0) if asks else None
    return time.process_time() - started, bids.peekitem(0), asks.peekitem(0)


def main(path: str, samples: int, seconds: float) -> None:
    """Measure."""
    with open(path, "rb") as file:
        events: Events = marshal.load(file)
    found: dict[str, Any] = {"levels": sum(len(levels) for _, levels in events)}
    for name in ("set", "read"):
        found[name] = []
        for _ in range(samples):
            taken: list[float] = []
            while sum(taken) < seconds:
                one, *found["best"] = one_pass(events, read=name == "read")
                taken.append(one)
            found[name].append(min(taken))
    print(json.dumps(found))  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
