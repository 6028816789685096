"""Sessions of exchanges: when they open and close, half days and clock changes included, by `exchange-calendars`.

A session is regular hours; a lunch break parts it in two segments. `bars.BarSeries` aligns bars to them.
"""

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from tapeline.agents.logic.bar_records import SEGMENT
from tapeline.schemas import TapelineError
from tapeline.schemas.interval import DAY_NS

FIRST_DAY, LAST_DAY = np.datetime64("1990-01-01"), np.datetime64("2039-12-31")
"""Days that are known, unless the calendar itself ends earlier. Fixed: what bars there are must not depend on today."""

Segments = npt.NDArray[np.void]
"""(n,) SEGMENT, in order."""


class CalendarError(TapelineError):
    """There is no such exchange calendar, or the library cannot make it."""


def check_calendar(name: str) -> None:
    """Raise CalendarError unless there is a calendar of that name that can be used; loads it."""
    segments(name, DAY_NS)


@cache
def _schedule(name: str) -> Any:
    """Return the library's table of the sessions of all days that are known."""
    # Here, because it loads pandas, which only those need who have calendars.
    from exchange_calendars import get_calendar, get_calendar_names

    if name not in get_calendar_names():
        raise CalendarError(
            f"{name!r} is no exchange calendar; they are named by their market's ISO 10383 code, such as XNYS, XNAS, "
            "XLON, XTKS"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # 4.13 asks pandas 3 for what it will not have for ever
        try:
            return _whole(name, get_calendar).schedule
        # Whatever it is: 4.13 contradicts itself in XTAE (ValueError), pandas 3 cannot do what ASEX asks for
        # (NotImplementedError), and there are a hundred others.
        except Exception as error:
            reason = f"{type(error).__name__}: {str(error)[:200]}"
            raise CalendarError(f"the exchange calendar {name} cannot be used: {reason}") from error


def _whole(name: str, get_calendar: Callable[..., Any]) -> Any:
    kind = type(get_calendar(name, start="2020-01-01", end="2020-12-31"))
    least, most = kind.bound_min(), kind.bound_max()
    start = FIRST_DAY if least is None else max(FIRST_DAY, least.to_datetime64())
    end = LAST_DAY if most is None else min(LAST_DAY, most.to_datetime64())
    return get_calendar(name, start=start, end=end)


@cache
def segments(name: str, size_ns: int) -> Segments:
    """Return the segments of a calendar, numbered for bars of so many ns (at most a day); raises CalendarError.

    The bars of a session are numbered from its day since 1970 times the bars that 24 hours have; so a daily bar has the
    number of its day.
    """
    schedule = _schedule(name)
    days = schedule.index.to_numpy().astype("datetime64[D]").astype(np.int64)
    opens, break_starts, break_ends, closes = (
        _ns(schedule[one]) for one in ("open", "break_start", "break_end", "close")
    )
    broken = (break_starts != _NONE) & (size_ns < DAY_NS)  # a daily bar has no break
    first = np.zeros(len(days), SEGMENT)
    first["open_ns"], first["close_ns"] = opens, np.where(broken, break_starts, closes)
    first["number"] = days * -(-DAY_NS // size_ns)
    second = first[broken]
    second["number"] += -((second["open_ns"] - second["close_ns"]) // size_ns)  # after the bars of the first
    second["open_ns"], second["close_ns"] = break_ends[broken], closes[broken]
    every = np.concatenate([first, second])
    return every[np.argsort(every["open_ns"], kind="stable")]


_NONE = np.datetime64("NaT").astype(np.int64)


def _ns(column: Any) -> Any:
    return column.dt.tz_localize(None).to_numpy().astype("datetime64[ns]").astype(np.int64)
