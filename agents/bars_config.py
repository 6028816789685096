"""From the settings to the bars that are made. `agents/bars.py` uses it; `up` and `doctor` check with it beforehand."""

from tapeline.agents.logic.bar_spec import BarSpec
from tapeline.schemas import Interval
from tapeline.streams.settings import Settings


def specs(settings: Settings) -> list[BarSpec]:
    """Return what is configured, one for each interval; raise SettingsError at the line with an unknown calendar."""
    wanted = settings.bars
    if wanted.calendars:
        # Here, because it loads the compiler, and a calendar loads pandas.
        from tapeline.agents.logic.sessions import CalendarError, check_calendar

        for venue, calendar in wanted.calendars.items():
            try:
                check_calendar(calendar)
            except CalendarError as error:
                raise settings.error_at(("bars", "calendars", venue), str(error)) from error
    return [
        BarSpec(
            Interval.parse(text),
            grace_ns=round(wanted.grace_seconds * 1e9),
            revise_bars=wanted.revise_bars,
            instruments=wanted.instruments,
            calendars=wanted.calendars,
        )
        for text in wanted.intervals
    ]
