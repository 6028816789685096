"""Numbers as people read them: lengths of time, moments, shares. Called by `verdicts`, `table` and `page`."""

from datetime import UTC, datetime

from tapeline.agents.quality.rules import SECOND_NS

_UNITS = ((3600 * SECOND_NS, "h"), (60 * SECOND_NS, "min"), (SECOND_NS, "s"), (10**6, "ms"), (10**3, "µs"))


def length(ns: int | None) -> str:
    """Return a length of time with its sign, to about four digits, such as -1.276 s; "-" for None."""
    if ns is None:
        return "-"
    size = abs(ns)
    unit_ns, unit = next(((one, name) for one, name in _UNITS if size >= one), (1, "ns"))
    value = size / unit_ns
    text = f"{value:,.{0 if value >= 1000 else 1 if value >= 100 else 2 if value >= 10 else 3}f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return f"{'-' if ns < 0 else ''}{text} {unit}"


def time_of_day(ns: int | None, digits: int = 3) -> str:
    """Return the time of day of a moment, UTC, such as 14:30:00.125; digits: of its seconds, 0 to 9; "-" for None."""
    if ns is None:
        return "-"
    seconds, rest = divmod(ns, SECOND_NS)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%H:%M:%S")
    return f"{text}.{rest:09d}"[: 9 + digits] if digits else text


def share(part: int, whole: int) -> str:
    """Return a share as percent, with digits enough to see that it is not 0."""
    if not whole:
        return "-"
    percent = 100 * part / whole
    if not part or percent >= 10:
        return f"{percent:.0f}%"
    return f"{percent:.2g}%" if percent >= 0.001 else "< 0.001%"


def many(count: int, one: str, more: str = "") -> str:
    """Return `1 gap`, `2,000 gaps`; more: the plural where it is not formed with an s."""
    return f"{count:,} {one if count == 1 else more or one + 's'}"


def number(value: float | None) -> str:
    """Return a price or rate without digits that say nothing; "-" for None."""
    if value is None:
        return "-"
    return f"{value:,.10g}" if abs(value) < 1e15 else f"{value:g}"
