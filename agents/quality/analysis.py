"""The analysis of one instrument's day: ticks are handed in as they come, in chunks of any size; `summary` reports.

Memory is bounded and does not depend on the number of ticks: some 16 MB (2 MB for the rules, 3.5 MB of 100 ms windows,
6 MB of seconds, 3 MB of latencies, 1 MB of stretches) and the chunk under way. Pure: no I/O and no clock.
"""

import heapq
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from tapeline.agents.quality import counting, kernels, rules
from tapeline.agents.quality.rules import SECOND_NS, Rules, RuleState
from tapeline.schemas import GapReason, Kind, TapelineError, Ticks

DAY_NS = counting.DAY_SECONDS * SECOND_NS
PIECE = 8192
"""Ticks that are looked at together: they stay in the processor's cache from one loop to the next."""
LISTED_MAX = 1000
"""Gaps, outliers and statuses that are listed one by one, the first ones; all are counted."""
LONGEST_MAX = 20
"""Stretches of each condition that are listed, the longest ones."""

GapKey = tuple[int, int]
"""(reason, kind that is missing), as the GAP ticks say."""


class Stretches:
    """The stretches of one condition: how many, how long together, and the longest."""

    def __init__(self) -> None:
        self.count = 0
        self.total_ns = 0
        self._longest: list[tuple[int, int, int]] = []  # a heap of (length, -start, -end): of equal ones the first stay

    def add(self, start_ns: npt.NDArray[np.int64], end_ns: npt.NDArray[np.int64]) -> None:
        """Take stretches, (n,) each."""
        lengths = end_ns - start_ns
        self.count += len(lengths)
        self.total_ns += int(lengths.sum())
        # The first of equal ones stay, so only longer ones than the shortest can come in.
        least_ns = self._longest[0][0] if len(self._longest) == LONGEST_MAX else -1
        if len(lengths) > LONGEST_MAX:
            least_ns = max(least_ns, int(np.partition(lengths, -LONGEST_MAX)[-LONGEST_MAX]) - 1)
        worth = lengths > least_ns
        start_ns, end_ns = start_ns[worth], end_ns[worth]
        for start, end in zip(start_ns.tolist(), end_ns.tolist(), strict=True):
            heapq.heappush(self._longest, (end - start, -start, -end))
            if len(self._longest) > LONGEST_MAX:
                heapq.heappop(self._longest)

    def copy(self) -> "Stretches":
        """Return one that goes on by itself."""
        other = Stretches()
        other.count, other.total_ns, other._longest = self.count, self.total_ns, list(self._longest)
        return other

    @property
    def longest(self) -> list[tuple[int, int]]:
        """(start, end) of the longest, the longest first."""
        return [(-start, -end) for _, start, end in sorted(self._longest, reverse=True)]


class Analysis:
    """What is known of one instrument's UTC day of receive time so far.

    day: YYYY-MM-DD. Everything it found is in its attributes: arrays as `counting` describes them.
    """

    def __init__(self, day: str, options: Rules = rules.DEFAULT) -> None:
        self.day = day
        self.day_ns = day_start_ns(day)
        self.rules = options
        self.outside = 0
        """Ticks of other days that were handed in."""
        self.counts = np.zeros(counting.KINDS, counting.COUNT)
        for field in ("event_ns", "sequence", "recv_ns"):
            self.counts[field] = counting.NEVER
        self.course = np.zeros(1, counting.COURSE)
        for field in ("recv_ns", "event_ns", "data_ns"):
            self.course[field] = counting.NEVER
        self.seconds = np.zeros(counting.DAY_SECONDS, counting.SECOND)
        self.seconds["latency_min"] = np.iinfo(np.int64).max
        self.seconds["latency_max"] = counting.NEVER
        for side in ("trade", "quote"):
            self.seconds[f"{side}_low"], self.seconds[f"{side}_high"] = np.inf, -np.inf
        self.windows = np.zeros(DAY_NS // counting.WINDOW_NS, np.uint32)
        self.delays = np.zeros(3, counting.DELAY)
        self.histograms = np.zeros((3, 2 * counting.HALF), np.int64)
        self.gaps: dict[GapKey, tuple[int, int]] = {}
        """(reason, missing kind) -> how many, and how many messages they say are missing."""
        self.listed_gaps: list[tuple[int, int, int, int, int, int]] = []
        """(receive time, reason, missing kind, first missing, how many, when that kind was received last)."""
        self.listed_outliers: list[tuple[int, int, float, float, float]] = []
        """(receive time, kind, price, second price, median)."""
        self.listed_statuses: list[tuple[int, bool]] = []
        """(receive time, open)."""
        self._stretches = {name: Stretches() for name in counting.CONDITIONS}
        self._clock = np.full(1, counting.NEVER, np.int64)
        self._since_ns = np.full(len(counting.CONDITIONS), counting.NEVER, np.int64)
        self._found = np.zeros(counting.STRETCHES_A_TICK * PIECE, counting.STRETCH)
        self._state = RuleState(options)

    def add(self, ticks: Ticks) -> None:
        """Take the next ticks. ticks: (n,) TICK of the instrument, in order of arrival; those of other days are left
        out and counted."""
        for start in range(0, len(ticks), PIECE):
            piece = ticks[start : start + PIECE]
            at_ns = np.ascontiguousarray(piece["ts_recv_ns"])
            if at_ns.min() < self.day_ns or at_ns.max() >= self.day_ns + DAY_NS:
                inside = (at_ns >= self.day_ns) & (at_ns < self.day_ns + DAY_NS)
                piece = piece[inside]
                self.outside += len(at_ns) - len(piece)
            if len(piece):
                self._add(np.ascontiguousarray(piece))

    def _add(self, ticks: Ticks) -> None:
        """1. flag, 2. count, 3. measure, 4. find stretches, 5. list what is rare."""
        repeated = rules.repeated(ticks, self._state)
        judged, medians = rules.judged(ticks, self.rules, self._state)
        before, last_ns = self.counts["ticks"].copy(), np.empty(len(ticks), np.int64)
        counting.count()(judged, ticks, repeated, self.counts, self.course, last_ns)
        counting.measure()(judged, self.day_ns, self.seconds, self.windows, self.delays, self.histograms)
        ended = counting.stretches()(judged, self.rules.quiet_ns, self._clock, self._since_ns, self._found)
        if ended:
            self._take(self._found[:ended])
        added = self.counts["ticks"] - before
        if added[Kind.GAP]:
            gaps = np.flatnonzero(judged["kind"] == Kind.GAP)
            self._take_gaps(judged[gaps], last_ns[gaps])
        if added[Kind.STATUS]:
            self._list_statuses(judged[judged["kind"] == Kind.STATUS])
        if len(self.listed_outliers) < LISTED_MAX:
            self._list_outliers(judged, medians)

    def stretches(self) -> dict[str, Stretches]:
        """Return the stretches by condition; those under way end with the last tick so far."""
        stretches = {name: one.copy() for name, one in self._stretches.items()}
        clock_ns = int(self._clock[0])
        for condition, (name, since_ns) in enumerate(zip(stretches, self._since_ns.tolist(), strict=True)):
            if since_ns != counting.NEVER and condition != counting.IS_QUIET:
                stretches[name].add(np.array([since_ns]), np.array([clock_ns]))
        return stretches

    def _take(self, found: npt.NDArray[np.void]) -> None:
        for condition, name in enumerate(counting.CONDITIONS):
            own = found[found["condition"] == condition]
            if len(own):
                self._stretches[name].add(own["start_ns"], own["end_ns"])

    def _list_outliers(self, ticks: Ticks, medians: npt.NDArray[np.float64]) -> None:
        room = LISTED_MAX - len(self.listed_outliers)
        for number in np.flatnonzero(~np.isnan(medians))[:room].tolist():
            tick = ticks[number]
            prices = float(tick["price"]), float(tick["price2"]), float(medians[number])
            self.listed_outliers.append((int(tick["ts_recv_ns"]), int(tick["kind"]), *prices))

    def _list_statuses(self, statuses: Ticks) -> None:
        some = statuses[: LISTED_MAX - len(self.listed_statuses)]
        self.listed_statuses += zip(some["ts_recv_ns"].tolist(), (some["size"] != 0).tolist(), strict=True)

    def _take_gaps(self, gaps: Ticks, last_ns: npt.NDArray[np.int64]) -> None:
        reasons, missing = _bounded(gaps["price"], max(GapReason)), _bounded(gaps["price2"], max(Kind))
        sizes = _bounded(gaps["size"], 2**53)
        keys, which = np.unique(np.stack([reasons, missing]), axis=1, return_inverse=True)
        for number, (reason, kind) in enumerate(keys.T.tolist()):
            own = which.ravel() == number
            count, size = self.gaps.get((reason, kind), (0, 0))
            self.gaps[reason, kind] = count + int(own.sum()), size + int(sizes[own].sum())
        room = LISTED_MAX - len(self.listed_gaps)
        columns = gaps["ts_recv_ns"], reasons, missing, gaps["sequence"], sizes, last_ns
        self.listed_gaps += zip(*(column[:room].tolist() for column in columns), strict=True)


def warm_up() -> None:
    """Compile what an analysis needs: takes seconds the first time on a machine, else some ms."""
    for kernel in (kernels.outliers, kernels.stale, kernels.repeats, kernels.flag):
        kernel()
    for kernel in (counting.count, counting.measure):
        kernel()
    counting.stretches()


def day_start_ns(day: str) -> int:
    """Return ns since 1970 at which a day (YYYY-MM-DD, UTC) begins; raise TapelineError if it is none."""
    try:
        moment = datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise TapelineError(f"{day!r} is no day: write it as 2024-08-08 (UTC)") from None
    return int(moment.timestamp()) * SECOND_NS


def day_of(ns: int) -> str:
    """Return the UTC day of a moment, YYYY-MM-DD."""
    return datetime.fromtimestamp(ns // SECOND_NS, UTC).strftime("%Y-%m-%d")


def _bounded(values: npt.NDArray[np.float64], most: int) -> npt.NDArray[np.int64]:
    """Return float64 as whole numbers; 0 for what is no number from 0 to `most`."""
    sound = (values >= 0) & (values <= most)
    return np.where(sound, values, 0).astype(np.int64)
