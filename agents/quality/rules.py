"""The rules of data quality: functions over the ticks of one instrument that say which are odd. Pure; they drop none.

Called by `analysis`, and by whoever wants flags on ticks: `flagged(ticks)` gives the same ticks with flags set. Ticks
are in order of arrival; a `RuleState` carries what one chunk hands to the next, and how ticks are cut changes nothing.

**Outlier** (TRADE prices; bids and asks of QUOTE): a price is one if it is farther than `limit` both from the median
of the last `outlier_window` prices of its field (flagged ones included) and from the median of the last
`outlier_confirm` of them, where

    limit = max(outlier_spreads x 1.4826 x MAD of the window, outlier_share x |price|, 3 x smallest price step so far)

This is Hampel's identifier (Davies and Gather, "The identification of multiple outliers", JASA 88, 1993) over past
prices only, so that it is the same live and in replay. Half of a window may be wrong before its median moves. The two
lower bounds keep a quiet stretch (MAD 0) from making every step an outlier: Brownlees and Gallo ("Financial econometric
analysis at ultra-high frequency", CSDA 51, 2006) add their granularity for that. Ten deviations are what
Barndorff-Nielsen et al. ("Realized kernels in practice", Econometrics Journal 12, 2009, rule Q4) take. A level that
most of the last `outlier_confirm` prices have is believed: a real jump is flagged for (confirm + 1) / 2 prices, not for
ever. The first 11 prices of a field are not tested.

**Stale** (TRADE, QUOTE): the quote, or the book, that stands should have moved: a trade happened, and `stale_ns` later
it had still not changed. Flagged are the trades that come then, and quotes that say the same again. A quote that
stands for long without trades is not stale; STATUS begins anew.

**Crossed** (bid above ask), **locked** (bid equals ask), **one-sided** (a price is 0, that is, not given): QUOTE.

**Repeated**: the same kind, side, sequence, event time (where the venue gives one), prices and sizes as one of the
65,536 numbered ones before it; of a book update all levels, and its last tick is the one that counts. A snapshot may
well be asked for twice. Where the sequence is 0 the venue numbers nothing, and nothing can be said.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tapeline.agents.quality import kernels
from tapeline.schemas import Kind, TapelineError, Ticks, empty_ticks

Mask = npt.NDArray[np.bool_]
SECOND_NS = 1_000_000_000
WINDOW_MAX = 1001
TICK_WORDS = 8


class RulesError(TapelineError):
    """An option of the rules makes no sense."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What the rules go by."""

    outlier_window: int = 51
    """Prices that a price is compared with, odd."""
    outlier_confirm: int = 5
    """A level that most of the last so many have is believed, odd."""
    outlier_spreads: float = 10.0
    """Standard deviations (robust) that a price may be away."""
    outlier_share: float = 0.0025
    """Share of its price that it may be away in any case."""
    stale_ns: int = 10 * SECOND_NS
    """A quote or book that a trade does not move for so long is stale."""
    quiet_ns: int = 10 * SECOND_NS
    """A time without a tick that is so long is a quiet stretch."""

    def __post_init__(self) -> None:
        """Raise RulesError for what cannot be."""
        if not (self.outlier_window % 2 == 1 and kernels.PRICES_MIN <= self.outlier_window <= WINDOW_MAX):
            text = f"{self.outlier_window} prices: an odd number from {kernels.PRICES_MIN} to {WINDOW_MAX} is needed"
            raise RulesError(f"outlier window of {text}")
        if not (self.outlier_confirm % 2 == 1 and 1 <= self.outlier_confirm <= self.outlier_window):
            raise RulesError(
                f"outlier confirm of {self.outlier_confirm} prices: an odd number up to the window's "
                f"{self.outlier_window} is needed"
            )
        if not (0 < self.outlier_spreads < 1e6 and 0 <= self.outlier_share < 1):
            raise RulesError(
                f"outlier spreads {self.outlier_spreads}, share {self.outlier_share}: the first is above 0, the "
                "second from 0 to below 1"
            )
        if self.stale_ns <= 0 or self.quiet_ns <= 0:
            raise RulesError(f"stale after {self.stale_ns} ns, quiet after {self.quiet_ns} ns: both are above 0")


class RuleState:
    """What the rules remember of one instrument: 2 MB, whatever it has seen."""

    def __init__(self, rules: Rules) -> None:
        self.windows = np.zeros((3, rules.outlier_window))
        self.fields = np.zeros(3, kernels.FIELD)
        self.fields["good"], self.fields["step"] = np.nan, np.inf
        self.standing = np.zeros(1, kernels.STANDING)
        self.standing["quote_ns"] = self.standing["book_ns"] = -1
        self.recent = np.zeros(kernels.RECENT_TICKS, np.uint64)
        self.earlier = np.full(kernels.RECENT_TICKS, -1, np.int64)
        self.buckets = np.full(kernels.BUCKETS, -1, np.int64)
        self.numbers = np.zeros(2 + 1 + Kind.BOOK, np.int64)
        self.numbers[2:] = np.iinfo(np.int64).min


class Outliers(NamedTuple):
    """mask: (n,) bool; medians: (n,) float64, what each outlier was compared with (of a quote: its bid, if that is
    one, else its ask), NaN for all others."""

    mask: Mask
    medians: npt.NDArray[np.float64]


DEFAULT = Rules()


def one_sided(ticks: Ticks) -> Mask:
    """Return which quotes lack a side. ticks: (n,) TICK; returns (n,) bool."""
    return np.asarray((ticks["kind"] == Kind.QUOTE) & ((ticks["price"] == 0) | (ticks["price2"] == 0)))


def crossed(ticks: Ticks) -> Mask:
    """Return which quotes have their bid above their ask. ticks: (n,) TICK; returns (n,) bool."""
    both = (ticks["kind"] == Kind.QUOTE) & (ticks["price"] != 0) & (ticks["price2"] != 0)
    return np.asarray(both & (ticks["price"] > ticks["price2"]))


def locked(ticks: Ticks) -> Mask:
    """Return which quotes have a bid that equals their ask. ticks: (n,) TICK; returns (n,) bool."""
    return np.asarray((ticks["kind"] == Kind.QUOTE) & (ticks["price"] != 0) & (ticks["price"] == ticks["price2"]))


def outliers(ticks: Ticks, rules: Rules = DEFAULT, state: RuleState | None = None) -> Outliers:
    """Return which trades and quotes have a price far off. ticks: (n,) TICK of one instrument, in order of arrival."""
    state = RuleState(rules) if state is None else state
    ticks = np.ascontiguousarray(ticks)
    medians = np.full(len(ticks), np.nan)
    limits = rules.outlier_confirm, rules.outlier_spreads, rules.outlier_share
    # Bids last: of a quote's two medians theirs stays.
    for kind, ask, row in ((Kind.TRADE, False, 0), (Kind.QUOTE, True, 2), (Kind.QUOTE, False, 1)):
        kernels.outliers()(ticks, int(kind), ask, state.windows[row], state.fields[row : row + 1], *limits, medians)
    return Outliers(~np.isnan(medians), medians)


def stale(ticks: Ticks, rules: Rules = DEFAULT, state: RuleState | None = None) -> Mask:
    """Return which trades and quotes came while the quote or book was stale. ticks: (n,) TICK of one instrument."""
    state = RuleState(rules) if state is None else state
    mask = np.empty(len(ticks), np.bool_)
    kernels.stale()(np.ascontiguousarray(ticks), state.standing, rules.stale_ns, mask)
    return mask


def repeated(ticks: Ticks, state: RuleState | None = None) -> Mask:
    """Return which trades, quotes and (last ticks of) updates say the same as an earlier one.

    ticks: (n,) TICK of one instrument, in order of arrival; returns (n,) bool.
    """
    state = RuleState(DEFAULT) if state is None else state
    mask = np.empty(len(ticks), np.bool_)
    words = np.ascontiguousarray(ticks).view(np.int64).reshape(-1, TICK_WORDS)
    keys = np.empty(len(ticks), np.uint64)
    kernels.repeats()(words, keys, state.recent, state.earlier, state.buckets, state.numbers, mask)
    return mask


def flagged(ticks: Ticks, rules: Rules = DEFAULT, state: RuleState | None = None) -> Ticks:
    """Return a copy of the ticks with OUTLIER, STALE, CROSSED, LOCKED and ONE_SIDED set where the rules say so.

    ticks: (n,) TICK of one instrument, in order of arrival. All are there, in their order, and nothing but flags is
    changed; flags that were set stay. state: what the chunk before left (None: there is none); it is moved on.
    """
    return judged(ticks, rules, state).ticks


class Judged(NamedTuple):
    """ticks: (n,) as `flagged` gives them; medians: (n,) as of `Outliers`."""

    ticks: Ticks
    medians: npt.NDArray[np.float64]


def judged(ticks: Ticks, rules: Rules = DEFAULT, state: RuleState | None = None) -> Judged:
    """Return what `flagged` does, and what outliers were compared with."""
    state = RuleState(rules) if state is None else state
    ticks = np.ascontiguousarray(ticks)
    medians, result = outliers(ticks, rules, state).medians, empty_ticks(len(ticks))
    kernels.flag()(ticks, medians, stale(ticks, rules, state), result)
    return Judged(result, medians)
