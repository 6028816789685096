"""From the settings to the bars that are made. `agents/bars.py` uses it; `up` and `doctor` check with it beforehand."""

from math import ceil

from tapeline.agents.logic.bar_spec import BarSpec
from tapeline.schemas import BarKind, Interval
from tapeline.streams.settings import Settings

KEPT_BARS_MAX = 60
"""Bars of an instrument that can still be revised, at most. All are in a snapshot, 30 to 40 bytes each once packed: so
there is room for 3,000 instruments on a partition, each traded in every interval (a record has 8 MiB)."""


def specs(settings: Settings) -> list[BarSpec]:
    """Return what is configured, one for each interval.

    Raises SettingsError at the line with a calendar that cannot be used, or if too many bars would be kept.
    """
    wanted = settings.bars
    if wanted.calendars:
        # Here, because it loads the compiler, and a calendar loads pandas.
        from tapeline.agents.logic.sessions import CalendarError, check_calendar

        for venue, calendar in wanted.calendars.items():
            try:
                check_calendar(calendar)
            except CalendarError as error:
                raise settings.error_at(("bars", "calendars", venue), str(error)) from error
    found = [
        BarSpec(
            Interval.parse(text),
            grace_ns=round(wanted.grace_seconds * 1e9),
            revise_bars=wanted.revise_bars,
            instruments=wanted.instruments,
            calendars=wanted.calendars,
        )
        for text in wanted.intervals
    ]
    for spec in found:
        if spec.interval.kind is BarKind.TIME and spec.kept_ns > KEPT_BARS_MAX * spec.interval.size:
            by_grace = spec.grace_ns > spec.revise_bars * spec.interval.size
            raise settings.error_at(
                ("bars", "grace_seconds" if by_grace else "revise_bars"),
                f"bars of {spec.interval} are kept for {ceil(spec.kept_ns / spec.interval.size)} intervals after their "
                f"end (grace_seconds and revise_bars together), the most is {KEPT_BARS_MAX}: set it lower, or make "
                "longer bars",
            )
    return found
