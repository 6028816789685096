"""The logic host: a frame in, signals out. The one function that live, paper and backtest call.

An `Instance` is one configured logic on one input partition: what it says at offset n depends only on the
records up to n. It does no I/O; `agents/logic_worker.py` feeds it and sends what it says.
"""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from fnmatch import fnmatchcase
from math import isfinite
from typing import TypedDict, cast

import numpy as np
import orjson

from tapeline.agents.logic.authoring import BUY, LogicError
from tapeline.agents.logic.kernel import COUNTED, FOUND, compile_kernel, warm_up
from tapeline.agents.logic.spec import LogicSpec
from tapeline.connectors.venues.slots import NOT_SELECTED, SlotTable, place
from tapeline.schemas import FrameFlag, Lane, SignalOrigin, Snapshot, TickFrame, Ticks, computed_id, decimal_text
from tapeline.streams.frame_reader import FrameReader

Resolve = Callable[[int], str]
"""instrument id -> name, as the registry says; raises when it does not know."""


class SavedMeta(TypedDict):
    """What a snapshot holds beside the states, as JSON gives it back. Lanes are packed."""

    seq: int
    marks: list[tuple[int, int, int]]
    """(lane, origin offset, part)"""
    instruments: list[tuple[int, str]]
    """(id, name) of the selected instruments, by slot"""
    state: list[list[str]]
    """[field, type] of the state record"""
    open: list[tuple[int, list[tuple[int, int]]]]
    """(lane, [(slot, ticks counted)]) of records whose parts go on"""


@dataclass(frozen=True, slots=True)
class RefusedSignal:
    """A signal that cannot be sent: its strength or price is no finite number."""

    instrument: str
    origin: SignalOrigin
    detail: str


class Instance:
    """One logic on one partition: state per instrument, lane marks, clock, seq and next offset, saved as one."""

    def __init__(self, spec: LogicSpec, resolve: Resolve, snapshot: Snapshot | None = None) -> None:
        self.spec = spec
        self._resolve = resolve
        self._params = spec.logic.params_record(spec.params)
        self._version, self._params_hash, self._tags = spec.version, spec.params_hash, dict(spec.tags)
        self._kernel = compile_kernel(spec.logic.handler)
        self._kinds = np.int64(sum(1 << kind for kind in spec.logic.kinds))
        self._table = SlotTable()
        self._instruments: list[tuple[int, str]] = []  # (id, name) of those selected, by slot
        self._states = np.zeros(16, spec.logic.state_dtype())
        self._counted = np.zeros(16, COUNTED)
        self._slots = np.zeros(1024, np.int64)  # of the frame's ticks
        self._found = np.zeros(1024, FOUND)
        self._open_lane: dict[Lane, dict[int, int]] = {}  # ticks counted so far of a record whose parts go on
        self.reader = FrameReader()
        self.next_offset = 0
        self.seq = 0
        self.time_ns = 0
        if snapshot is not None:
            self._restore(snapshot)

    def warm_up(self) -> None:
        """Compile now instead of at the first frame."""
        warm_up(self._kernel, self.spec.logic.state_dtype(), self._params)

    def on_record(self, offset: int, frame: TickFrame) -> tuple[list[bytes], list[RefusedSignal]]:
        """Take the frame at `offset` of the input; return the signals of the logic, encoded, and what it must not say.

        A frame seen before (a duplicate of its lane) and an offset already in the state change nothing. Raises what
        `resolve` raises about an instrument that is met for the first time: the frame is not taken, call again.
        """
        if offset < self.next_offset:
            return [], []
        self._place(frame.ticks)
        self.next_offset = offset + 1
        if not self.reader.take(frame):
            return [], []
        self.time_ns = max(self.time_ns, frame.time_ns)
        if frame.part:
            for slot, ticks in self._open_lane.pop(frame.lane, {}).items():
                self._counted[slot] = self.next_offset, ticks
        count = self._kernel(
            frame.ticks,
            self._slots,
            self._states,
            self._params,
            self._counted,
            self.next_offset,  # another one for each frame, and never 0
            self._kinds,
            self._found,
        )
        if frame.flags & FrameFlag.MORE:
            slots = np.flatnonzero(self._counted["frame"] == self.next_offset)
            self._open_lane[frame.lane] = dict(zip(slots.tolist(), self._counted["ticks"][slots].tolist(), strict=True))
        return self._say(frame, count) if count else ([], [])

    def snapshot(self) -> Snapshot:
        """Return everything that the next record's outcome depends on."""
        used = self._states[: len(self._instruments)]
        meta: SavedMeta = {
            "seq": self.seq,
            "marks": [(lane.pack(), *mark) for lane, mark in self.reader.marks.items()],
            "instruments": self._instruments.copy(),
            "state": self._fields(),
            "open": [(lane.pack(), list(counts.items())) for lane, counts in self._open_lane.items()],
        }
        return Snapshot(self.next_offset, self.time_ns, dict(meta), used.tobytes())

    def skip(self, offset: int) -> None:
        """Pass a record that is no frame."""
        self.next_offset = max(self.next_offset, offset + 1)

    def _fields(self) -> list[list[str]]:
        return [[name, str(self._states.dtype[name])] for name in self._states.dtype.names or ()]

    def _restore(self, snapshot: Snapshot) -> None:
        meta = cast(SavedMeta, snapshot.meta)
        if meta["state"] != self._fields():
            raise LogicError(
                f"{self.spec.name}: the saved state has the fields {meta['state']}, {self.spec.version} declares "
                f"{self._fields()}; give a changed logic another version"
            )
        self.next_offset, self.time_ns = snapshot.next_offset, snapshot.time_ns
        self.seq = meta["seq"]
        self.reader = FrameReader({Lane.unpack(lane): (origin, part) for lane, origin, part in meta["marks"]})
        for instrument_id, name in meta["instruments"]:
            self._instruments.append((instrument_id, name))
        self._table.add([instrument_id for instrument_id, _ in self._instruments], range(len(self._instruments)))
        self._make_room()
        states = np.frombuffer(snapshot.payload, self._states.dtype)
        self._states[: len(states)] = states
        self._open_lane = {Lane.unpack(lane): dict(counts) for lane, counts in meta["open"]}

    def _place(self, ticks: Ticks) -> None:
        """Note each tick's slot, and decide about the instruments that were not seen before."""
        if len(ticks) > len(self._slots):
            self._slots, self._found = np.zeros(len(ticks), np.int64), np.zeros(len(ticks), FOUND)
        done = 0
        while (done := place(ticks, done, self._table.ids, self._table.slots, self._slots)) < len(ticks):
            self._meet(int(ticks["instrument_id"][done]))

    def _meet(self, instrument_id: int) -> None:
        """Decide about an instrument that was not seen before."""
        name = self._resolve(instrument_id)
        slot = NOT_SELECTED
        if any(fnmatchcase(name, pattern) for pattern in self.spec.instruments):
            slot = len(self._instruments)
            self._instruments.append((instrument_id, name))
            self._make_room()
        self._table.add([instrument_id], [slot])

    def _make_room(self) -> None:
        while len(self._instruments) > len(self._states):
            self._states = np.concatenate([self._states, np.zeros_like(self._states)])
            self._counted = np.concatenate([self._counted, np.zeros_like(self._counted)])

    def _say(self, frame: TickFrame, count: int) -> tuple[list[bytes], list[RefusedSignal]]:
        """Encode what was found, in the bytes of `Signal.encode`: making the objects would cost ten times as much."""
        spec, version, params_hash = self.spec, self._version, self._params_hash
        partition, offset = frame.lane.raw_partition, frame.origin_offset
        signals: list[bytes] = []
        refused: list[RefusedSignal] = []
        for slot, index, side, strength, price, ts_event_ns, ts_recv_ns in self._found[:count].tolist():
            _, name = self._instruments[slot]
            if not (isfinite(strength) and isfinite(price)):
                origin = SignalOrigin(partition=partition, offset=offset, index=index)
                detail = f"{spec.name} said strength {strength} at price {Decimal(repr(price))} on {name}"
                refused.append(RefusedSignal(name, origin, detail))
                continue
            signal = {
                "id": computed_id(spec.name, version, params_hash, partition, offset, name, index, 0),
                "seq": self.seq,
                "tenant": spec.tenant,
                "logic": spec.name,
                "version": version,
                "params_hash": params_hash,
                "instrument": name,
                "side": "buy" if side == BUY else "sell",
                "strength": strength,
                "price": decimal_text(price),
                "ts_event_ns": ts_event_ns,
                "ts_recv_ns": ts_recv_ns,
                "valid_until_ns": ts_recv_ns + spec.valid_ns,
                "origin": {"partition": partition, "offset": offset, "index": index},
                "tags": self._tags,
            }
            signals.append(b"%b" % orjson.dumps(signal))  # copied: many of orjson's own, cut to size, are slow to keep
            self.seq += 1
        return signals, refused
