"""What the bar builder keeps: its records, and what their numbers mean. Its other modules share it."""

import numpy as np

from tapeline.schemas import BAR, BarFlag, BarKind, Flag, Kind

NEVER = 2**63 - 1
NOT_SELECTED = -1
AHEAD_NS = 10_000_000_000
"""A trade cannot have happened after it was received. Clocks differ: so much later is believed, ..."""
BEHIND_NS = 86_400_000_000_000
"""... and so much earlier. Otherwise its receive time counts, as in the database."""
WINDOW = 64
"""So many numbers below the highest it is known which trades came: LATE ones may be repeats."""
REVISION_MAX = 2**16 - 1

LIVE = np.dtype(
    [
        *((name, BAR[name]) for name in BAR.names or ()),
        ("due_ns", "<i8"),  # when it is complete; NEVER: it was said
        ("first_ns", "<i8"),  # event time of the trade that opened it
        ("last_ns", "<i8"),  # and of the one that closed it
    ]
)
"""A bar that may still change. revision: the one that it gets when it is said next."""

SLOT = np.dtype(
    [
        ("since_ns", "<i8"),  # the clock when the instrument was first seen; NEVER: not yet
        ("sequence", "<i8"),  # highest number of its trades
        ("seen", "<u8"),  # bit n: the trade numbered `sequence` - n came
        ("number", "<i8"),  # of the next bar that is counted
        ("segments_begin", "<i4"),  # of its calendar; both 0: it has none
        ("segments_end", "<i4"),
        ("bars", "<i4"),  # how many of its bars are live
        ("gap", "<i4"),  # 1: data is missing before its next trade
    ]
)
"""What is known of an instrument."""

SEGMENT = np.dtype([("open_ns", "<i8"), ("close_ns", "<i8"), ("number", "<i8")])
"""A stretch of a session without a break; number: of its first bar."""

NOW, DUE, TOTAL = range(3)
"""Places in `clock`: the clock, the next time at which a bar is complete, how many bars are live."""
SNAPSHOTS, OUTLIERS, REPEATS, OUTSIDE, TOO_LATE = range(5)
"""Places in `counts`: trades that are in no bar, by why."""
DONE, FULL, WIDEN = range(3)
"""Why a loop ended: at the end, no room for what it says, or more bars of an instrument than there is room for."""

TRADE, GAP = int(Kind.TRADE), int(Kind.GAP)
SNAPSHOT, OUTLIER, LATE = int(Flag.SNAPSHOT), int(Flag.OUTLIER), int(Flag.LATE)
REVISED, PARTIAL = int(BarFlag.LATE), int(BarFlag.PARTIAL)
TIME, TICK_KIND, VOLUME_KIND = int(BarKind.TIME), int(BarKind.TICK), int(BarKind.VOLUME)
ONE = np.uint64(1)
