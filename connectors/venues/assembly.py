"""Put one frame's ticks together: scanned and parsed ones, sequence breaks, instruments, in order of arrival.

An `Assembly` first scans the frame. Every venue's `parse` then converts the messages that are left, kind by kind
(columns are fast), and hands the ticks in here.
"""

from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from tapeline.connectors.venues.columns import Mask, inexact, sound
from tapeline.connectors.venues.contract import MESSAGE_BYTES_MAX, Parsed, Reject, Sequences
from tapeline.connectors.venues.shapes import ANEW, ANY, EVENT_BITS, Scanner, Stream
from tapeline.schemas import TICK, Flag, GapReason, Kind, RawFrame, RejectReason, Ticks, empty_ticks
from tapeline.schemas.frames import Int64Array

Row = TypeVar("Row")
Result = TypeVar("Result")
Heads = npt.NDArray[np.void]
"""(n,) scan.HEAD"""

LEVEL_BYTES_MIN = len('["1","1"]')
TICK_WORDS = TICK.itemsize // 8
UNSCANNED = Scanner((), {})
"""For messages that all are the library parser's."""


REPEATS = "repeats"
"""State: the streams of which a new connection may send again what an earlier one gave."""
_NONE = np.zeros(0, np.int64)


class Part(NamedTuple):
    """Some events' ticks and followed numbers, in order of events.

    where: (n,) the event of each tick; streams: those that the heads have, in order of their first head: slot of the
    symbol * streams of the venue + number of the stream.
    """

    ticks: Ticks
    where: Int64Array
    heads: Heads
    streams: Int64Array


class Assembly:
    """The parse of one frame under way; `state` belongs to its connection and is changed.

    streams: the venue's; symbol: of messages that name none.
    """

    def __init__(
        self,
        venue: str,
        frame: RawFrame,
        state: Sequences,
        streams: Sequence[Stream] = (),
        scanner: Scanner = UNSCANNED,
        symbol: str = "",
    ) -> None:
        # Here, so that whoever only reads recordings does not wait for numba.
        from tapeline.connectors.venues import scan

        self.state = state
        self.recv_ns = frame.recv_ns
        self.seen: dict[str, int] = {}
        """Symbol -> the first event with it, of those that were scanned."""
        self._scan = scan
        self._venue = venue
        self._frame = frame
        self._streams = streams
        self._symbols: dict[str, int] = {}
        self._rejects: list[tuple[int, RejectReason, str]] = []
        self._gaps: list[Part] = []
        self._parts: list[Part] = []
        self._scanned = False
        self._dropped = False
        self.said: Int64Array = scan.NOTHING_SAID
        """(messages, scan.SAID_WORDS) what scanned messages say that say only what has changed: to be completed."""
        self.left: Int64Array = self._scan_all(scanner, symbol)

    def _scan_all(self, scanner: Scanner, symbol: str) -> Int64Array:
        """Scan the frame into the first part; return the messages that are left."""
        count = len(self._frame)
        scan, body, program = self._scan, self._frame.body, scanner.program
        if not count or not len(program) or len(self.recv_ns) != count or len(body) < scan.BODY_BYTES_MIN:
            return np.arange(count)
        capacity = count + len(body) // LEVEL_BYTES_MIN  # pages that are not written cost nothing
        ints = np.empty((capacity, TICK_WORDS), np.int64)
        where, registers = np.empty(capacity, np.int64), np.empty(scan.REGISTERS, np.int64)
        heads, used, slots = np.empty(capacity, scan.HEAD), np.empty(count, np.int64), np.empty(count, scan.SLOT)
        places, buckets = np.zeros(count * len(self._streams), np.int64), np.zeros(2 << count.bit_length(), np.int64)
        left = np.empty(count, np.int64)
        said = np.empty((count, scan.SAID_WORDS), np.int64) if scanner.says else scan.NOTHING_SAID
        run, _ = scan.kernels()
        ticks_count, heads_count, used_count, slots_count, left_count, said_count = run(
            np.frombuffer(body, np.uint8),
            self._frame.ends,
            self.recv_ns,
            MESSAGE_BYTES_MAX,
            program,
            len(self._streams),
            ints,
            ints.view(np.float64),
            registers,
            where,
            heads,
            used,
            places,
            slots,
            buckets,
            left,
            said,
        )
        self.said = said[:said_count]
        self._scanned = ticks_count > 0
        if self._scanned:
            for slot, (start, size, event, _) in enumerate(slots[:slots_count].tolist()):
                name = str(body[start : start + size], "ascii") or symbol
                self.seen[name] = event
                self._symbols[name] = slot
            ticks = ints[:ticks_count].view(TICK)[:, 0]
            self._parts.append(Part(ticks, where[:ticks_count], heads[:heads_count], used[:used_count]))
        return left[:left_count]

    @property
    def scanned(self) -> tuple[Ticks, Int64Array]:
        """The ticks that were scanned and their messages; a `parse` may set what the lines do not say."""
        return (self._parts[0].ticks, self._parts[0].where >> EVENT_BITS) if self._scanned else (empty_ticks(0), _NONE)

    @property
    def scanned_symbols(self) -> list[str]:
        """The symbols of the ticks that were scanned, by number; ask before others are stamped."""
        return list(self._symbols)

    @property
    def scanned_words(self) -> tuple[Int64Array, Int64Array]:
        """The ticks that were scanned, (n, TICK_WORDS) int64, and their events, to be completed in place."""
        ticks, where, *_ = self._parts[0]
        return ticks.view(np.int64).reshape(-1, TICK_WORDS), where

    @property
    def body(self) -> bytes | bytearray | memoryview:
        """The messages of the frame, one behind the other."""
        return self._frame.body

    def drop(self, dropped: Mask) -> None:
        """Take out some of the scanned ticks, (n,) bool: a `parse` found that they are none."""
        ticks, where, heads, streams = self._parts[0]
        self._parts[0] = Part(ticks[~dropped], where[~dropped], heads, streams)
        self._dropped = True

    def left_bytes(self) -> Iterable[bytes]:
        """Return the messages that are left, whatever their size."""
        body, ends = memoryview(self._frame.body), self._frame.ends.tolist()
        return (bytes(body[ends[index - 1] if index else 0 : ends[index]]) for index in self.left.tolist())

    def messages(self) -> Iterable[tuple[int, bytes]]:
        """Return (its first event, bytes) of each message that is left and of a size worth parsing; reject the others.

        What says several things may give them the events after that, in order.
        """
        body, ends = memoryview(self._frame.body), self._frame.ends.tolist()
        found: list[tuple[int, bytes]] = []
        for index in self.left.tolist():
            data = bytes(body[ends[index - 1] if index else 0 : ends[index]])
            if len(data) <= MESSAGE_BYTES_MAX:
                found.append((index << EVENT_BITS, data))
            else:
                detail = f"{len(data)} bytes, the most that is parsed is {MESSAGE_BYTES_MAX}"
                self.reject(index << EVENT_BITS, RejectReason.OVERSIZED, detail)
        return found

    def reject(self, event: int, reason: RejectReason, detail: str) -> None:
        """Note that an event could not be processed."""
        self._rejects.append((event, reason, detail))

    def reject_all(self, reason: RejectReason, detail: str) -> None:
        """Reject every message."""
        for index in range(len(self._frame)):
            self.reject(index << EVENT_BITS, reason, detail)

    def convert(
        self, convert: Callable[[Sequence[Row]], Result], events: Sequence[int], rows: Sequence[Row]
    ) -> tuple[Result, Int64Array] | None:
        """Return `convert` of the rows that are sound and their events, or None; reject the others."""
        result, kept, faults = sound(convert, rows)
        for position, detail in faults:
            self.reject(events[position], RejectReason.MALFORMED, detail)
        return None if result is None else (result, np.array(events, np.int64)[kept])

    def stamp(self, ticks: Ticks, where: Int64Array, symbols: Sequence[str]) -> None:
        """Set receive time and instrument. ticks: (n,); where: (n,) their events; symbols: n."""
        ticks["ts_recv_ns"] = self.recv_ns[where >> EVENT_BITS]
        known = self._symbols
        for symbol in dict.fromkeys(symbols):
            known.setdefault(symbol, len(known))
        ticks["instrument_id"] = [known[symbol] for symbol in symbols] if len(known) > 1 else 0

    def append(self, ticks: Ticks, where: Int64Array) -> None:
        """Take ticks that are done; where: (n,) the event of each, ascending."""
        self._parts.append(Part(ticks, where, np.zeros(0, self._scan.HEAD), _NONE))

    def follow(self, stream: str, ticks: Ticks, where: Int64Array, before: Int64Array | None) -> None:
        """Compare each tick's `sequence` with the highest before it in its stream and instrument.

        Not above it: the event's ticks get LATE. ticks: (n,) stamped, one an event; before: (n,) the number that each
        says comes right before it; where that is above the highest so far, data is missing and a GAP tick stands
        before. ANEW (or a number above its own): numbers begin anew; those before are not to be compared with what
        follows, so where they go back a GAP tick says that, too. ANY, and None for all: the numbers may jump.
        """
        heads = np.zeros(len(ticks), self._scan.HEAD)
        heads["event"] = where
        number = next(number for number, one in enumerate(self._streams) if one.name == stream)
        streams, heads["stream"] = np.unique(ticks["instrument_id"], return_inverse=True)
        heads["sequence"] = ticks["sequence"]
        heads["before"] = ANY if before is None else before
        heads["event_ns"] = ticks["ts_event_ns"]
        self._parts.append(Part(empty_ticks(0), _NONE, heads, streams * np.int64(len(self._streams)) + number))

    @property
    def lost(self) -> set[int]:
        """The first events of messages that were, all or in part, rejected although their kind is read."""
        return {
            event >> EVENT_BITS << EVENT_BITS
            for event, reason, _ in self._rejects
            if reason is not RejectReason.UNKNOWN
        }

    def lose(self, event: int, symbols: Sequence[str], first: int, missing: int) -> None:
        """Say that data of every kind is missing before an event: a GAP tick for each of the symbols.

        first: the first number that is missing; missing: how many; both 0 if not known. Call it in order of events.
        """
        gaps, where = empty_ticks(len(symbols)), np.full(len(symbols), event, np.int64)
        self.stamp(gaps, where, symbols)
        gaps["ts_event_ns"] = gaps["ts_recv_ns"]
        gaps["kind"] = Kind.GAP
        gaps["sequence"], gaps["size"] = first, missing
        gaps["price"] = GapReason.SEQUENCE
        self._gaps.append(Part(gaps, where, np.zeros(0, self._scan.HEAD), _NONE))

    def mark_late(self, messages: Sequence[int]) -> None:
        """Set LATE on all ticks of some messages, named by their first events."""
        for part in self._parts if messages else ():
            set_flag(part.ticks, np.isin(part.where >> EVENT_BITS << EVENT_BITS, messages), Flag.LATE)

    def parsed(self) -> Parsed:
        """Return everything in order of arrival."""
        # Of scanned messages alone, symbols are in the order of their ticks.
        whole = self._scanned and len(self._parts) == 1 and not self._gaps and not self._dropped
        ticks, where, heads, streams = self._parts[0] if whole else self._merged()
        if len(heads):
            ticks = self._follow(ticks, where, heads, streams)
        names = tuple(f"{self._venue}:{symbol}" for symbol in self._symbols)
        if not whole:
            ticks, names = _used(ticks, names)
        rejects: dict[int, Reject] = {}
        for event, reason, detail in sorted(self._rejects, key=itemgetter(0)):
            index = event >> EVENT_BITS
            rejects.setdefault(index, Reject(index, reason, detail))
        return Parsed(ticks, names, tuple(rejects.values()))

    def _merged(self) -> Part:
        """Return all parts as one."""
        parts = [*self._gaps, *self._parts]
        if not parts:
            return Part(empty_ticks(0), _NONE, np.zeros(0, self._scan.HEAD), _NONE)
        where = np.concatenate([part.where for part in parts])
        order = np.argsort(where, kind="stable")
        ticks = _joined([part.ticks for part in parts])[order]
        heads = _joined([part.heads for part in parts])
        if not len(heads):
            return Part(ticks, where[order], heads, _NONE)
        of_heads = np.concatenate([part.streams[part.heads["stream"]] for part in parts if len(part.heads)])
        by_event = np.argsort(heads["event"], kind="stable")
        heads = heads[by_event]
        streams, first, heads["stream"] = np.unique(of_heads[by_event], return_index=True, return_inverse=True)
        by_first = np.argsort(first)  # numbered in the order in which they come
        heads["stream"] = np.argsort(by_first)[heads["stream"]]
        return Part(ticks, where[order], heads, streams[by_first])

    def _follow(self, ticks: Ticks, where: Int64Array, heads: Heads, streams: Int64Array) -> Ticks:
        """Flag what is late, move `state` on; return the ticks with the GAP ticks among them."""
        symbols, each = list(self._symbols), len(self._streams)
        keys = [f"{self._streams[stream % each].name}/{symbols[stream // each]}" for stream in streams.tolist()]
        highest = np.array([self.state.get(key, ANY) for key in keys], np.int64)
        if self.state.get(REPEATS):
            ticks, where, heads = self._without_repeats(ticks, where, heads, keys, highest)
        gaps = np.empty((len(heads), 4), np.int64)
        _, run = self._scan.kernels()
        gaps_count = run(heads, highest, ticks.view(np.int64).reshape(-1, TICK_WORDS), where, gaps)
        # New streams come in order of arrival, however messages are cut into frames.
        self.state.update(zip(keys, highest.tolist(), strict=True))
        if not gaps_count:
            return ticks
        shows, before, first, missing = gaps[:gaps_count].T
        shows = heads[shows]
        return np.insert(ticks, before, self._gap_ticks(shows, streams[shows["stream"]], first, missing))

    def _without_repeats(
        self, ticks: Ticks, where: Int64Array, heads: Heads, keys: Sequence[str], highest: Int64Array
    ) -> tuple[Ticks, Int64Array, Heads]:
        """Leave out what a new connection sends again: numbers not above the highest, until the first that is."""
        open_keys = dict.fromkeys(str(self.state[REPEATS]).split())
        repeated: list[int] = []
        for number, (stream, sequence, before) in enumerate(heads[["stream", "sequence", "before"]].tolist()):
            if keys[stream] not in open_keys:
                continue
            if before != ANEW and sequence <= highest[stream]:
                repeated.append(number)
            else:
                del open_keys[keys[stream]]
        self.state[REPEATS] = " ".join(open_keys)
        kept = ~np.isin(where, heads["event"][repeated])
        return ticks[kept], where[kept], np.delete(heads, repeated)

    def _gap_ticks(self, heads: Heads, streams: Int64Array, first: Int64Array, missing: Int64Array) -> Ticks:
        """Return a GAP tick before each of the heads: the numbers from `first` on are missing, so many of them."""
        symbol, stream = np.divmod(streams, len(self._streams))
        gaps = empty_ticks(len(heads))
        gaps["ts_event_ns"] = heads["event_ns"]
        gaps["ts_recv_ns"] = self.recv_ns[heads["event"] >> EVENT_BITS]
        gaps["instrument_id"] = symbol
        gaps["kind"] = Kind.GAP
        gaps["sequence"] = first
        gaps["size"] = np.where(np.array([one.counted for one in self._streams])[stream], missing, 0)
        gaps["price"] = GapReason.SEQUENCE
        gaps["price2"] = np.array([one.kind for one in self._streams])[stream]
        return gaps


def _joined(arrays: Sequence[npt.NDArray[np.void]]) -> npt.NDArray[np.void]:
    """Join arrays of one kind of record, which is all int64 or as long: much faster than field by field."""
    record = arrays[0].dtype
    words = np.concatenate([array.view(np.int64) for array in arrays])
    return words.view(record)


def _used(ticks: Ticks, names: tuple[str, ...]) -> tuple[Ticks, tuple[str, ...]]:
    """Number the instruments anew, in the order in which they appear in the ticks."""
    used = list(dict.fromkeys(ticks["instrument_id"].tolist()))
    numbers = np.zeros(len(names), np.uint32)
    numbers[used] = np.arange(len(used))
    ticks["instrument_id"] = numbers[ticks["instrument_id"]]
    return ticks, tuple(names[number] for number in used)


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
