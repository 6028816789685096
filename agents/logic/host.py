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

from tapeline.agents.logic.authoring import BUY, LogicError
from tapeline.agents.logic.kernel import FOUND, NOT_SELECTED, SlotTable, compile_kernel, warm_up
from tapeline.agents.logic.spec import LogicSpec
from tapeline.schemas import TICK, Flag, FrameFlag, Kind, Lane, Signal, SignalOrigin, Snapshot, TickFrame, computed_id
from tapeline.streams.frame_reader import FrameReader

Resolve = Callable[[int], str]
"""instrument id -> name, as the registry says."""


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
        self._params_hash = spec.params_hash
        self._kernel = compile_kernel(spec.logic.handler)
        self._kinds = np.int64(sum(1 << kind for kind in spec.logic.kinds))
        self._table = SlotTable()
        self._names: list[str] = []  # of the selected instruments, by slot
        self._ids: list[int] = []
        self._states = np.zeros(16, spec.logic.state_dtype())
        self._nth = np.zeros(16, np.int64)
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
        # Decoded frames are read-only and numba compiles for that.
        warm_up(self._kernel, np.frombuffer(b"", TICK), self.spec.logic.state_dtype(), self._params)

    def on_record(self, offset: int, frame: TickFrame) -> tuple[list[Signal], list[RefusedSignal]]:
        """Take the frame at `offset` of the input; return what the logic says, and what it must not say.

        A frame seen before (a duplicate of its lane) and an offset already in the state change nothing.
        """
        if offset < self.next_offset:
            return [], []
        self.next_offset = offset + 1
        if not self.reader.take(frame):
            return [], []
        self.time_ns = max(self.time_ns, frame.time_ns)
        counted = self._open_lane.pop(frame.lane, {}) if frame.part else {}
        self._nth[:] = 0
        for slot, count in counted.items():
            self._nth[slot] = count
        signals, refused = self._run(frame)
        if frame.flags & FrameFlag.MORE:
            self._open_lane[frame.lane] = {int(slot): int(self._nth[slot]) for slot in np.flatnonzero(self._nth)}
        return signals, refused

    def snapshot(self) -> Snapshot:
        """Return everything that the next record's outcome depends on."""
        used = self._states[: len(self._ids)]
        meta: SavedMeta = {
            "seq": self.seq,
            "marks": [(lane.pack(), *mark) for lane, mark in self.reader.marks.items()],
            "instruments": list(zip(self._ids, self._names, strict=True)),
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
            self._add(instrument_id, name)
        states = np.frombuffer(snapshot.payload, self._states.dtype)
        self._states[: len(states)] = states
        self._open_lane = {Lane.unpack(lane): dict(counts) for lane, counts in meta["open"]}

    def _run(self, frame: TickFrame) -> tuple[list[Signal], list[RefusedSignal]]:
        ticks = frame.ticks
        signals: list[Signal] = []
        refused: list[RefusedSignal] = []
        if len(ticks) > len(self._found):
            self._found = np.zeros(len(ticks), FOUND)
        done = 0
        while done < len(ticks):
            count, done = self._kernel(
                ticks,
                done,
                self._table.ids,
                self._table.slots,
                self._states,
                self._params,
                self._nth,
                self._kinds,
                self._found,
            )
            for tick, slot, index, side, strength in self._found[:count].tolist():
                origin = SignalOrigin(partition=frame.lane.raw_partition, offset=frame.origin_offset, index=index)
                name, price = self._names[slot], tick_price(ticks[tick])
                if isfinite(strength) and price.is_finite():
                    signals.append(self._signal(origin, ticks[tick], name, price, side, strength))
                else:
                    detail = f"{self.spec.name} said strength {strength} at price {price} on {name}"
                    refused.append(RefusedSignal(name, origin, detail))
            if done < len(ticks):
                self._meet(int(ticks[done]["instrument_id"]))
        return signals, refused

    def _meet(self, instrument_id: int) -> None:
        """Decide about an instrument that was not seen before."""
        name = self._resolve(instrument_id)
        if any(fnmatchcase(name, pattern) for pattern in self.spec.instruments):
            self._add(instrument_id, name)
        else:
            self._table.add(instrument_id, NOT_SELECTED)

    def _add(self, instrument_id: int, name: str) -> None:
        slot = len(self._ids)
        self._ids.append(instrument_id)
        self._names.append(name)
        if slot == len(self._states):
            self._states = np.concatenate([self._states, np.zeros_like(self._states)])
            self._nth = np.concatenate([self._nth, np.zeros_like(self._nth)])
        self._table.add(instrument_id, slot)

    def _signal(
        self, origin: SignalOrigin, tick: np.void, name: str, price: Decimal, side: int, strength: float
    ) -> Signal:
        spec = self.spec
        seq = self.seq
        self.seq += 1
        ts_recv_ns = int(tick["ts_recv_ns"])
        return Signal(
            id=computed_id(
                spec.name, spec.version, self._params_hash, origin.partition, origin.offset, name, origin.index, 0
            ),
            seq=seq,
            tenant=spec.tenant,
            logic=spec.name,
            version=spec.version,
            params_hash=self._params_hash,
            instrument=name,
            side="buy" if side == BUY else "sell",
            strength=strength,
            price=price,
            ts_event_ns=int(tick["ts_event_ns"]),
            ts_recv_ns=ts_recv_ns,
            valid_until_ns=ts_recv_ns + spec.valid_ns,
            origin=origin,
            tags=dict(spec.tags),
        )


def tick_price(tick: np.void) -> Decimal:
    """Return a tick's price as the shortest decimal of the same float64; of a quote the middle, or its one side."""
    price = float(tick["price"])
    if tick["kind"] == Kind.QUOTE:
        other = float(tick["price2"])
        if tick["flags"] & Flag.ONE_SIDED:
            price = price or other
        else:
            price = price / 2 + other / 2
    return Decimal(repr(price))
