"""Put one frame's ticks together: receive times, instruments, sequence breaks, order of arrival.

Every venue's `parse` converts its messages kind by kind (columns are fast) and hands the ticks in here.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import numpy as np

from tapeline.connectors.venues.columns import Mask, inexact, sound
from tapeline.connectors.venues.contract import MESSAGE_BYTES_MAX, Parsed, Reject, Sequences
from tapeline.schemas import Flag, GapReason, Kind, RawFrame, RejectReason, Ticks, empty_ticks
from tapeline.schemas.frames import Int64Array

Row = TypeVar("Row")
Result = TypeVar("Result")


class Assembly:
    """The parse of one frame under way; `state` belongs to its connection and is changed."""

    def __init__(self, venue: str, frame: RawFrame, state: Sequences) -> None:
        self.state = state
        self.recv_ns = frame.recv_ns
        self._venue = venue
        self._frame = frame
        self._symbols: dict[str, int] = {}
        self._rejects: list[Reject] = []
        self._gaps: list[tuple[Int64Array, Ticks]] = []
        self._ticks: list[tuple[Int64Array, Ticks]] = []

    def messages(self) -> Iterable[tuple[int, bytes]]:
        """Return (index, bytes) of each message of a size worth parsing; reject the others."""
        messages = list(self._frame.messages())
        if max(map(len, messages), default=0) <= MESSAGE_BYTES_MAX:
            return enumerate(messages)
        for index, data in enumerate(messages):
            if len(data) > MESSAGE_BYTES_MAX:
                detail = f"{len(data)} bytes, the most that is parsed is {MESSAGE_BYTES_MAX}"
                self.reject(index, RejectReason.OVERSIZED, detail)
        return [(index, data) for index, data in enumerate(messages) if len(data) <= MESSAGE_BYTES_MAX]

    def reject(self, index: int, reason: RejectReason, detail: str) -> None:
        """Note that message `index` could not be processed."""
        self._rejects.append(Reject(index, reason, detail))

    def convert(
        self, convert: Callable[[Sequence[Row]], Result], indices: Sequence[int], rows: Sequence[Row]
    ) -> tuple[Result, Int64Array] | None:
        """Return `convert` of the rows that are sound and their message indices, or None; reject the others."""
        result, kept, faults = sound(convert, rows)
        for position, detail in faults:
            self.reject(indices[position], RejectReason.MALFORMED, detail)
        return None if result is None else (result, np.array(indices, np.int64)[kept])

    def stamp(self, ticks: Ticks, where: Int64Array, symbols: Sequence[str]) -> None:
        """Set receive time and instrument. ticks: (n,) one a message; where: (n,) message indices; symbols: n."""
        ticks["ts_recv_ns"] = self.recv_ns[where]
        known = self._symbols
        for symbol in dict.fromkeys(symbols):
            known.setdefault(symbol, len(known))
        ticks["instrument_id"] = [known[symbol] for symbol in symbols] if len(known) > 1 else 0

    def follow(
        self,
        stream: str,
        symbols: Sequence[str],
        ticks: Ticks,
        where: Int64Array,
        before: Int64Array | None,
        *,
        counted: bool = True,
    ) -> None:
        """Compare each tick's `sequence` with the highest before it in its stream and instrument.

        Not above it: flag LATE. before: (n,) the number that each tick says comes right before it; where that is
        above the highest so far, data is missing and a GAP tick stands before. None: the stream's numbers may jump.
        counted: the numbers are consecutive, so the gap's size is known.
        """
        known = {symbol: f"{stream}/{symbol}" for symbol in dict.fromkeys(symbols)}
        highest_of = {symbol: int(self.state[key]) for symbol, key in known.items() if key in self.state}
        numbers: list[int] = ticks["sequence"].tolist()
        befores = [number - 1 for number in numbers] if before is None else before.tolist()
        late: list[int] = []
        broken: list[tuple[int, int, int]] = []  # position, first missing, how many
        for position, (symbol, number, expected) in enumerate(zip(symbols, numbers, befores, strict=True)):
            highest = highest_of.get(symbol, expected)
            if number <= highest:
                late.append(position)
                continue
            if expected > highest and before is not None:
                broken.append((position, highest + 1, expected - highest if counted else 0))
            highest_of[symbol] = number
        self.state.update({known[symbol]: number for symbol, number in highest_of.items()})
        set_flag(ticks, np.array(late, np.int64), Flag.LATE)
        if broken:
            positions, first, missing = (np.array(column, np.int64) for column in zip(*broken, strict=True))
            self._add_gaps(ticks[positions], where[positions], first, missing)

    def append(self, ticks: Ticks, where: Int64Array) -> None:
        """Take ticks that are done; where: (n,) the message index of each, ascending."""
        self._ticks.append((where, ticks))

    def parsed(self) -> Parsed:
        """Return everything in order of arrival."""
        parts = self._gaps + self._ticks  # gaps first: the sort is stable, so they stay before their tick
        ticks = empty_ticks(0) if not parts else parts[0][1]
        if len(parts) > 1:
            order = np.argsort(np.concatenate([where for where, _ in parts]), kind="stable")
            ticks = np.concatenate([ticks for _, ticks in parts])[order]
        ticks, names = self._name(ticks)
        return Parsed(ticks, names, tuple(sorted(self._rejects, key=lambda reject: reject.index)))

    def _name(self, ticks: Ticks) -> tuple[Ticks, tuple[str, ...]]:
        """Number the instruments in the order in which they appear in the ticks."""
        symbols = list(self._symbols)
        if len(symbols) == 1 and len(ticks):
            return ticks, (f"{self._venue}:{symbols[0]}",)
        used, first = np.unique(ticks["instrument_id"], return_index=True)
        used = used[np.argsort(first)]
        numbers = np.zeros(len(symbols), np.uint32)
        numbers[used] = np.arange(len(used))
        ticks["instrument_id"] = numbers[ticks["instrument_id"]]
        return ticks, tuple(f"{self._venue}:{symbols[number]}" for number in used.tolist())

    def _add_gaps(self, at: Ticks, where: Int64Array, first: Int64Array, missing: Int64Array) -> None:
        gaps = empty_ticks(len(at))
        for field in ("ts_event_ns", "ts_recv_ns", "instrument_id"):
            gaps[field] = at[field]
        gaps["kind"] = Kind.GAP
        gaps["sequence"] = first
        gaps["size"] = missing
        gaps["price"] = GapReason.SEQUENCE
        gaps["price2"] = at["kind"]
        self._gaps.append((where, gaps))


def set_flag(ticks: Ticks, where: Int64Array | Mask, flag: Flag) -> None:
    """Set a flag on some ticks; where: their positions, or (n,) bool."""
    ticks["flags"][where] |= np.uint16(flag)


def flag_inexact(ticks: Ticks, *columns: Sequence[str]) -> None:
    """Set INEXACT where one of the decimal strings has too many digits; columns: n strings each."""
    for values in columns:
        set_flag(ticks, inexact(values), Flag.INEXACT)


def flag_quotes(ticks: Ticks) -> None:
    """Set ONE_SIDED, CROSSED and LOCKED on QUOTE ticks; a price of 0 is one that was not given."""
    bid, ask = ticks["price"], ticks["price2"]
    one_sided = (bid == 0) | (ask == 0)
    set_flag(ticks, one_sided, Flag.ONE_SIDED)
    set_flag(ticks, ~one_sided & (bid > ask), Flag.CROSSED)
    set_flag(ticks, ~one_sided & (bid == ask), Flag.LOCKED)
