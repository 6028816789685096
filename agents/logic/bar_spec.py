"""What bars are wanted: an interval and the rules for it. `bars_config` makes it from the settings.

Apart from the builder, so that settings can be checked without loading the compiler.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import orjson
import xxhash

from tapeline.schemas import BarKind, Instrument
from tapeline.schemas.interval import Interval

RULES_VERSION = 2
"""Counts up when the same ticks and settings give other bars."""


@dataclass(frozen=True, slots=True)
class BarSpec:
    """Bars of one interval. grace_ns: a bar of time is complete so long after its end, by the clock.

    revise_bars: so many intervals longer, late trades revise it. calendars: exchange calendar by venue; an instrument
    whose record names a session has that one.
    """

    interval: Interval
    grace_ns: int = 1_000_000_000
    revise_bars: int = 2
    instruments: Sequence[str] = ("*",)
    calendars: Mapping[str, str] = field(default_factory=dict)

    @property
    def kept_ns(self) -> int:
        """How long after its end a bar of time can be revised."""
        whole = self.interval.kind is BarKind.TIME
        return self.grace_ns + self.revise_bars * int(self.interval.size) if whole else 0

    @property
    def stream(self) -> int:
        """Hash of everything that makes the bars what they are, 32 bits.

        That of which instruments there are, too: readers skip frames below their mark of a stream, and other
        instruments make other frames of the same ticks.
        """
        calendars, instruments = sorted(self.calendars.items()), sorted(self.instruments)
        rules = [RULES_VERSION, str(self.interval), self.grace_ns, self.revise_bars, calendars, instruments]
        return xxhash.xxh3_64_intdigest(orjson.dumps(rules)) % 2**32

    def unit(self, partition: int) -> str:
        """Name of its snapshot: another stream is another unit."""
        return f"{self.interval}/{self.stream:08x}/{partition}"

    def calendar_of(self, instrument: Instrument) -> str | None:
        """Return the exchange calendar of an instrument, None where none applies."""
        return instrument.session or self.calendars.get(instrument.venue)
