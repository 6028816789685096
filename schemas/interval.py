"""The interval of bars: what makes one complete, written `1m`, `100t`, `500v` or `1000000$`.

Settings, the command line and the bar builder share it. A bar itself says it in its fields `kind` and `size`.
"""

import re
from dataclasses import dataclass
from decimal import Decimal

from tapeline.schemas.bar import BarKind
from tapeline.schemas.errors import TapelineError

SECOND_NS = 1_000_000_000
DAY_NS = 86_400 * SECOND_NS
SIZE_MAX = Decimal(10) ** 15
"""Of trades, volume and notional: a float64 holds them exactly."""
DIGITS_MAX = 15

_UNITS_NS = {"d": DAY_NS, "h": 3_600 * SECOND_NS, "m": 60 * SECOND_NS, "s": SECOND_NS}
_KINDS = {"t": BarKind.TICK, "v": BarKind.VOLUME, "$": BarKind.DOLLAR}
_TEXT = re.compile(r"([0-9]+(?:\.[0-9]+)?)([smhdtv$])")
FORMS = "1s, 15s, 1m, 4h, 1d (time), 100t (trades), 500v (volume), 1000000$ (price x size)"


class IntervalError(TapelineError):
    """A text that is no interval; says what would be one."""


@dataclass(frozen=True, slots=True)
class Interval:
    """What makes a bar complete. size: ns, trades, volume or notional, by kind; whole for time and trades."""

    kind: BarKind
    size: float

    @classmethod
    def parse(cls, text: str) -> "Interval":
        """Read `1m` and the like; raise IntervalError that says what is wrong.

        >>> Interval.parse("15s")
        Interval(kind=<BarKind.TIME: 1>, size=15000000000.0)
        >>> str(Interval.parse("60m"))
        '1h'
        """
        found = _TEXT.fullmatch(text)
        if found is None:
            raise IntervalError(f"{text!r} is no interval; write one such as {FORMS}")
        number, unit = Decimal(found[1]), found[2]
        if unit in _UNITS_NS:
            size = number * _UNITS_NS[unit]
            if size % SECOND_NS or not SECOND_NS <= size <= DAY_NS:
                raise IntervalError(f"{text!r}: bars of time last whole seconds, from 1s to 1d")
            return cls(BarKind.TIME, float(size))
        kind = _KINDS[unit]
        if kind is BarKind.TICK and number % 1:
            raise IntervalError(f"{text!r}: trades are counted in whole numbers")
        if not 0 < number <= SIZE_MAX or len(number.normalize().as_tuple().digits) > DIGITS_MAX:
            raise IntervalError(f"{text!r}: must be above 0 and up to {SIZE_MAX:f}, with {DIGITS_MAX} digits at most")
        return cls(kind, float(number))

    @classmethod
    def of(cls, kind: int, size: float) -> "Interval":
        """Return the interval of a bar with these fields."""
        return cls(BarKind(kind), float(size))

    def __str__(self) -> str:
        if self.kind is BarKind.TIME:
            unit = next(unit for unit, width_ns in _UNITS_NS.items() if self.size % width_ns == 0)
            return f"{int(self.size) // _UNITS_NS[unit]}{unit}"
        unit = next(unit for unit, kind in _KINDS.items() if kind is self.kind)
        return f"{Decimal(repr(self.size)).normalize():f}{unit}"
