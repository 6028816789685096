"""What must come out of a topic `raw`: the pure functions of the roles, run here one after the other. Does no I/O."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tapeline.agents.logic.host import Instance
from tapeline.agents.logic.spec import LogicSpec
from tapeline.agents.tick_frames import cut, time_frames
from tapeline.connectors.venues import Sequences, parse_frame
from tapeline.schemas import Instrument, Kind, Lane, RawFrame, Signal, TickFrame
from tapeline.streams.frame_reader import FrameReader

Records = dict[int, list[bytes]]
"""The values of a topic, by partition; their place in the list is their offset."""


@dataclass
class Log:
    """What a run left behind: the topics, and the signals in the database in order of logic and seq."""

    raw: Records
    ticks: Records
    signals: Records
    rejected: Records
    instruments: dict[str, Instrument]
    stored: list[Signal]

    def frames(self) -> dict[int, list[TickFrame]]:
        """Return the tick frames of each partition as a reader takes them."""
        return {partition: taken(records) for partition, records in self.ticks.items()}


def taken(records: Iterable[bytes]) -> list[TickFrame]:
    """Return the frames of one ticks partition that a reader takes."""
    reader = FrameReader()
    return [frame for frame in map(TickFrame.decode, records) if reader.take(frame)]


@dataclass
class Oracle:
    """What must come out of one `raw`."""

    raw: Records
    frames: dict[Lane, list[bytes]] = field(default_factory=dict)
    """Tick frames, encoded, along each lane."""
    rejects: set[tuple[int, int, int]] = field(default_factory=set)
    """(partition, offset, index) of each message that goes to `rejected`."""
    messages: int = 0


def foretell(raw: Records, instruments: Mapping[str, Instrument], ticks_partitions: int) -> Oracle:
    """Return what the normalisers must make of `raw`, as if one read each partition from its beginning."""
    oracle = Oracle(raw)
    for partition, records in raw.items():
        connections: dict[str, Sequences] = {}
        for offset, record in enumerate(records):
            frame = RawFrame.decode(record)
            if frame.first_message == 0:
                connections[frame.source] = {}
            parsed = parse_frame(frame, connections[frame.source])
            oracle.messages += len(frame)
            oracle.rejects |= {(partition, offset, reject.index) for reject in parsed.rejects}
            if len(frame):
                named = [instruments[name] for name in parsed.names]
                found = cut(partition, offset, frame.time_ns, parsed.ticks, named)
            else:
                found = time_frames(partition, offset, frame.time_ns, ticks_partitions)
            for one in found:
                oracle.frames.setdefault(one.lane, []).append(one.encode())
    return oracle


def signals_of(
    frames: Iterable[TickFrame], specs: Sequence[LogicSpec], instruments: Iterable[Instrument]
) -> dict[str, list[Signal]]:
    """Return what each logic says about the frames of one ticks partition, in this order."""
    names = {one.id: one.name for one in instruments}
    hosts = {spec.name: Instance(spec, names.__getitem__) for spec in specs}
    said: dict[str, list[Signal]] = {name: [] for name in hosts}
    for offset, frame in enumerate(frames):
        for name, host in hosts.items():
            signals, _ = host.on_record(offset, frame)
            said[name] += map(Signal.decode, signals)
    return said


def unaccounted(raw: Records, rejects: set[tuple[int, int, int]], frames: Iterable[TickFrame]) -> list[str]:
    """Return the messages that are neither in ticks nor rejected, or more than once, without asking a parser.

    A message is known by its receive time in its raw record: it gives one tick, or as many as its book levels are.
    """
    ticks: dict[tuple[int, int], Counter[int]] = {}
    levels: dict[tuple[int, int], set[int]] = {}
    for frame in frames:
        of_messages = frame.ticks[(frame.ticks["kind"] != Kind.GAP) & (frame.ticks["kind"] != Kind.TIME)]
        where = (frame.lane.raw_partition, frame.origin_offset)
        ticks.setdefault(where, Counter()).update(of_messages["ts_recv_ns"].tolist())
        books = of_messages[of_messages["kind"] == Kind.BOOK]
        levels.setdefault(where, set()).update(books["ts_recv_ns"].tolist())
    found: list[str] = []
    for partition, records in raw.items():
        for offset, record in enumerate(records):
            where = (partition, offset)
            times = enumerate(RawFrame.decode(record).recv_ns.tolist())
            due = Counter(recv_ns for index, recv_ns in times if (partition, offset, index) not in rejects)
            came = ticks.pop(where, Counter())
            for recv_ns in due.keys() | came.keys():
                book = recv_ns in levels.get(where, ()) and came[recv_ns] >= due[recv_ns] > 0
                if not book and came[recv_ns] != due[recv_ns]:
                    what = f"{due[recv_ns]} messages received at {recv_ns} gave {came[recv_ns]} ticks"
                    found.append(f"raw[{partition}]@{offset}: {what}")
    return found + [f"ticks of raw[{partition}]@{offset}, which is not there" for partition, offset in ticks]
