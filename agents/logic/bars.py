"""Bars from ticks: pure, the same for `agents/bars.py`, logics, backtests and the command line.

A `BarSeries` makes the bars of one interval for all instruments of a stream of frames. It does no I/O.
"""

import itertools
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, TypedDict, cast

import numpy as np
import numpy.typing as npt

from tapeline.agents.logic.bar_kernel import kernels
from tapeline.agents.logic.bar_records import (
    DONE,
    FULL,
    LIVE,
    NEVER,
    NOT_SELECTED,
    NOW,
    SEGMENT,
    SLOT,
    WIDEN,
)
from tapeline.agents.logic.bar_spec import BarSpec
from tapeline.agents.logic.sessions import CalendarError, segments
from tapeline.connectors.venues.slots import SlotTable, place
from tapeline.connectors.venues.zstandard import zstd
from tapeline.schemas import (
    BAR,
    BarFlag,
    BarKind,
    Bars,
    FrameFlag,
    Instrument,
    Kind,
    Lane,
    Snapshot,
    TickFrame,
    Ticks,
    VersionError,
    empty_bars,
    empty_ticks,
)
from tapeline.schemas.interval import DAY_NS
from tapeline.streams.frame_reader import FrameReader

log = logging.getLogger(__name__)

Resolve = Callable[[int], Instrument]
"""instrument id -> its record, as the registry says; raises when it does not know."""

LAYOUT = 1
"""Counts up when a snapshot is laid out in another way: SLOT and LIVE, or what `SavedMeta` says."""

LEFT_OUT = ("snapshot", "outlier", "repeat", "outside", "too late")
"""Why a trade is in no bar, in the order of the kernel's counts."""


@dataclass(frozen=True, slots=True)
class Made:
    """What a frame made. too_late: (n,) places of trades in the frame that came too late for their bar."""

    bars: Bars = field(default_factory=lambda: empty_bars(0))
    too_late: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))


class SavedMeta(TypedDict):
    """What a snapshot holds beside the bars, as JSON gives it back. Lanes are packed."""

    layout: int
    """LAYOUT"""
    marks: list[tuple[int, int, int]]
    """(lane, origin offset, part)"""
    instruments: list[tuple[int, str | None]]
    """(id, calendar) of the selected instruments, by slot"""
    unusable: list[int]
    """Ids of those whose record names a session that cannot be used"""
    clock: list[int]
    counts: list[int]
    slots: int
    """Bytes of SLOT records at the begin of the payload, which is packed by zstd; the fields of LIVE records follow,
    one after the other."""


class BarSeries:
    """The bars of one interval: what is open, what can still be revised, lane marks and next offset, saved as one.

    resolve: called once for each instrument, when it is met first. Raises VersionError if the snapshot is of another
    layout.
    """

    def __init__(self, spec: BarSpec, resolve: Resolve, snapshot: Snapshot | None = None) -> None:
        self.spec = spec
        self._resolve = resolve
        self._time_bars, self._count_bars = kernels()
        self._table = SlotTable()
        self._instruments: list[tuple[int, str | None]] = []  # (id, calendar) of those selected, by slot
        self._unusable: list[int] = []
        self._begins: dict[str, tuple[int, int]] = {}  # calendar -> where its segments lie
        self._segments = np.zeros(0, SEGMENT)
        self._slots = np.zeros(16, SLOT)
        self._live = np.zeros((16, 4 if spec.interval.kind is BarKind.TIME else 1), LIVE)
        self._clock = np.array([-NEVER, NEVER, 0], np.int64)
        self._counts = np.zeros(len(LEFT_OUT), np.int64)
        self._numbers = np.zeros(1024, np.int64)  # slots of the frame's ticks
        self._late = np.zeros(1024, np.int64)
        self._out = empty_bars(64)
        self.reader = FrameReader()
        self.next_offset = 0
        if snapshot is not None:
            self._restore(snapshot)

    @property
    def time_ns(self) -> int:
        """The clock: the highest receive time so far."""
        return max(int(self._clock[NOW]), 0)

    @property
    def left_out(self) -> Mapping[str, int]:
        """Trades of the selected instruments that are in no bar, by why."""
        return dict(zip(LEFT_OUT, self._counts.tolist(), strict=True))

    def on_record(self, offset: int, frame: TickFrame) -> Made:
        """Take the frame at `offset` of the input; return the bars that it completes or revises.

        A frame seen before (a duplicate of its lane) and an offset already in the state change nothing. Where records
        before it are missing (retention removed them), everything had a gap. Raises what `resolve` raises about an
        instrument that is met for the first time: the frame is not taken, call again.
        """
        if offset < self.next_offset:
            return Made()
        self._meet_all(frame.ticks)
        self._pass(offset)
        if not self.reader.take(frame):
            return Made()
        return self.add(frame.ticks, frame.time_ns, more=bool(frame.flags & FrameFlag.MORE))

    def add(self, ticks: Ticks, time_ns: int, *, more: bool = False) -> Made:
        """Take ticks; return the bars that they complete or revise.

        ticks: (n,) TICK in order of arrival; time_ns: the clock at their end (ns); more: others of the same raw record
        follow, which came before that.
        """
        self._meet_all(ticks)
        made: list[Bars] = []
        late: list[npt.NDArray[np.int64]] = []
        at, why = 0, FULL
        while why != DONE:
            at, said, too_late, why = self._run(ticks, at, time_ns, more)
            made.append(self._out[:said].copy())
            late.append(self._late[:too_late].copy())
            if why == FULL and not said:
                self._out = empty_bars(2 * len(self._out))
            elif why == WIDEN:
                self._live = np.concatenate([self._live, np.zeros_like(self._live)], axis=1)
        return Made(made[0], late[0]) if len(made) == 1 else Made(np.concatenate(made), np.concatenate(late))

    def finish(self) -> Bars:
        """Return the bars that wait to be said, those that are not complete as PARTIAL: the data ends here."""
        kept = [self._live[number, : self._slots["bars"][number]] for number in range(len(self._instruments))]
        live = np.concatenate(kept) if kept else np.zeros(0, LIVE)
        if self.spec.interval.kind is BarKind.TIME:
            live = live[live["due_ns"] != NEVER]
        bars = empty_bars(len(live))
        for name in BAR.names or ():
            bars[name] = live[name]
        begun = bars["end_ns"] > self.time_ns if self.spec.interval.kind is BarKind.TIME else bars["kind"] > 0
        bars["flags"][begun] |= np.uint8(BarFlag.PARTIAL)
        return bars

    def snapshot(self) -> Snapshot:
        """Return everything that the next record's outcome depends on."""
        slots = self._slots[: len(self._instruments)].copy()
        slots[["segments_begin", "segments_end"]] = 0  # where they lie is this process's affair
        live = np.concatenate(
            [self._live[:0, 0], *(self._live[number, :count] for number, count in enumerate(slots["bars"].tolist()))]
        )
        meta: SavedMeta = {
            "layout": LAYOUT,
            "marks": [(lane.pack(), *mark) for lane, mark in self.reader.marks.items()],
            "instruments": self._instruments.copy(),
            "unusable": self._unusable.copy(),
            "clock": self._clock.tolist(),
            "counts": self._counts.tolist(),
            "slots": slots.nbytes,
        }
        # By field it packs better: to a quarter of its size.
        payload = zstd.compress(b"".join((slots.tobytes(), *(live[name].tobytes() for name in LIVE.names or ()))))
        return Snapshot(self.next_offset, self.time_ns, dict(meta), payload)

    def skip(self, offset: int) -> None:
        """Pass a record that is no frame."""
        if offset >= self.next_offset:
            self._pass(offset)

    def _pass(self, offset: int) -> None:
        """Note that the record at `offset` is the newest; what is missing before it is a GAP of every instrument."""
        is_whole = offset == self.next_offset or self.next_offset == 0
        self.next_offset = offset + 1
        if is_whole:
            return
        slots = self._slots[: len(self._instruments)]
        # Those whose first tick is still to come have nothing that could miss any.
        begun = slots["since_ns"] != NEVER if self.spec.interval.kind is BarKind.TIME else slots["number"] > 0
        gaps = empty_ticks(int(begun.sum()))
        gaps["kind"], gaps["ts_recv_ns"] = Kind.GAP, self._clock[NOW]
        gaps["instrument_id"] = [one for one, _ in itertools.compress(self._instruments, begun)]
        self.add(gaps, int(self._clock[NOW]), more=True)  # nothing is said, as the clock stands still

    def _run(self, ticks: Ticks, at: int, time_ns: int, more: bool) -> tuple[int, int, int, int]:
        size, kind = self.spec.interval.size, self.spec.interval.kind
        state = (self._slots, self._live, self._segments, self._out)
        if kind is not BarKind.TIME:
            self._clock[NOW] = max(self._clock[NOW], time_ns)
            return self._count_bars(ticks, self._numbers, at, int(kind), size, self._clock, *state, self._counts)
        spec = self.spec
        rules = (int(size), spec.grace_ns, spec.kept_ns)
        ends = 0 if more else 1
        return self._time_bars(
            ticks, self._numbers, at, time_ns, ends, rules, self._clock, *state, self._late, self._counts
        )

    def _meet_all(self, ticks: Ticks) -> None:
        """Note each tick's slot, and decide about the instruments that were not seen before."""
        if len(ticks) > len(self._numbers):
            self._numbers, self._late = np.zeros(len(ticks), np.int64), np.zeros(len(ticks), np.int64)
        done = 0
        while (done := place(ticks, done, self._table.ids, self._table.slots, self._numbers)) < len(ticks):
            self._meet(int(ticks["instrument_id"][done]))

    def _meet(self, instrument_id: int) -> None:
        instrument = self._resolve(instrument_id)
        slot = NOT_SELECTED
        if any(fnmatchcase(instrument.name, pattern) for pattern in self.spec.instruments):
            slot = self._choose(instrument)
        self._table.add([instrument_id], [slot])

    def _choose(self, instrument: Instrument) -> int:
        """Make a slot for an instrument that is wanted, unless its record names a session that cannot be used."""
        calendar = self.spec.calendar_of(instrument)
        try:
            return self._select(instrument.id, calendar)
        except CalendarError as error:
            if instrument.session is None:  # the settings': whoever made the spec has to know
                raise
            log.error("no %s bars of %s, whose session is %s: %s", self.spec.interval, instrument.name, calendar, error)
            # It is remembered, as its record may be corrected: what there is must not depend on a restart.
            self._unusable.append(instrument.id)
            return NOT_SELECTED

    def _select(self, instrument_id: int, calendar: str | None) -> int:
        """Make a slot for an instrument; raise CalendarError, and there is none."""
        begin, end = (0, 0) if calendar is None else self._load(calendar)
        slot = len(self._instruments)
        self._instruments.append((instrument_id, calendar))
        if slot == len(self._slots):
            self._slots = np.concatenate([self._slots, np.zeros_like(self._slots)])
            self._live = np.concatenate([self._live, np.zeros_like(self._live)])
        self._slots[slot]["since_ns"] = NEVER
        self._slots[slot]["segments_begin"], self._slots[slot]["segments_end"] = begin, end
        return slot

    def _load(self, calendar: str) -> tuple[int, int]:
        if calendar not in self._begins:
            size_ns = int(self.spec.interval.size) if self.spec.interval.kind is BarKind.TIME else DAY_NS
            added = segments(calendar, size_ns)
            self._begins[calendar] = len(self._segments), len(self._segments) + len(added)
            self._segments = np.concatenate([self._segments, added])
        return self._begins[calendar]

    def _restore(self, snapshot: Snapshot) -> None:
        if (layout := snapshot.meta.get("layout")) != LAYOUT:
            raise VersionError(f"bars are saved in layout {layout}, this program reads layout {LAYOUT}")
        meta, payload = cast(SavedMeta, snapshot.meta), zstd.decompress(snapshot.payload)
        self.next_offset = snapshot.next_offset
        self.reader = FrameReader({Lane.unpack(lane): (origin, part) for lane, origin, part in meta["marks"]})
        for instrument_id, calendar in meta["instruments"]:
            try:
                slot = self._select(instrument_id, calendar)
            except CalendarError as error:  # it could be used when the state was saved
                log.error("no more %s bars of instrument %d: %s", self.spec.interval, instrument_id, error)
                self._select(instrument_id, None)  # what it has is said
                self._instruments[-1] = instrument_id, calendar
                slot = NOT_SELECTED
            self._table.add([instrument_id], [slot])
        self._unusable = list(meta["unusable"])
        self._table.add(self._unusable, [NOT_SELECTED] * len(self._unusable))
        slots: Any = np.frombuffer(payload[: meta["slots"]], SLOT).copy()
        for name in ("segments_begin", "segments_end"):
            slots[name] = self._slots[name][: len(slots)]
        self._slots[: len(slots)] = slots
        live: Any = np.zeros(slots["bars"].sum(), LIVE)
        at = meta["slots"]
        for name in LIVE.names or ():
            live[name] = np.frombuffer(payload, LIVE[name], len(live), at)
            at += live[name].nbytes
        while slots["bars"].max(initial=0) > self._live.shape[1]:
            self._live = np.concatenate([self._live, np.zeros_like(self._live)], axis=1)
        done = 0
        for number, count in enumerate(slots["bars"].tolist()):
            self._live[number, :count] = live[done : done + count]
            done += count
        self._clock[:] = meta["clock"]
        self._counts[:] = meta["counts"]
