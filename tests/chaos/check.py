"""What a run left behind against what must be there. Pure; `run` collects the log."""

from collections import Counter
from collections.abc import Iterable, Sequence

from tapeline.agents.logic.spec import LogicSpec
from tapeline.schemas import Lane, Rejected, Signal, TickFrame
from tests.chaos.oracle import Log, Oracle, signals_of, unaccounted

SHOWN_MAX = 5
"""So many examples of a difference are named."""


def differences(log: Log, oracle: Oracle, ids: set[str], specs: Sequence[LogicSpec]) -> list[str]:
    """Return every way in which a run differs from what must be; ids: of the signals of the undisturbed run."""
    return [
        *_raw_differs(log, oracle),
        *_frames_differ(log, oracle),
        *_rejects_differ(log, oracle),
        *_signals_differ(log, ids, specs),
    ]


def duplicates(log: Log) -> dict[str, int]:
    """Return how many records came again, by topic: what a FrameReader skips, what has the id of one before."""
    frames = sum(map(len, log.ticks.values())) - sum(map(len, log.frames().values()))
    signals = [Signal.decode(record).id for records in log.signals.values() for record in records]
    rejected = [Rejected.decode(record).id for records in log.rejected.values() for record in records]
    return {
        "ticks": frames,
        "signals": len(signals) - len(set(signals)),
        "rejected": len(rejected) - len(set(rejected)),
    }


def _raw_differs(log: Log, oracle: Oracle) -> Iterable[str]:
    for partition in sorted(log.raw.keys() | oracle.raw.keys()):
        found, wanted = log.raw.get(partition, []), oracle.raw.get(partition, [])
        if found != wanted:
            at = _first_difference(found, wanted)
            yield f"raw[{partition}] has {len(found)} records, undisturbed {len(wanted)}; they differ from {at} on"


def _frames_differ(log: Log, oracle: Oracle) -> Iterable[str]:
    """Along each lane a reader must take exactly the frames that the record says, in its order."""
    taken: dict[Lane, list[bytes]] = {}
    everything = log.frames()
    for partition, frames in everything.items():
        for frame in frames:
            if frame.lane.ticks_partition != partition:
                yield f"ticks[{partition}] holds a frame of {frame.lane}"
            taken.setdefault(frame.lane, []).append(frame.encode())
    for lane in sorted(taken.keys() | oracle.frames.keys()):
        found, wanted = taken.get(lane, []), oracle.frames.get(lane, [])
        if found != wanted:
            at = _first_difference(found, wanted)
            yield (
                f"lane {lane[0]}->{lane[1]}: readers take {len(found)} frames, {len(wanted)} must be; the first "
                f"difference is {_where(found, at)} instead of {_where(wanted, at)}"
            )
    lost = unaccounted(log.raw, oracle.rejects, (frame for frames in everything.values() for frame in frames))
    yield from _some("messages are not accounted for", lost)


def _rejects_differ(log: Log, oracle: Oracle) -> Iterable[str]:
    found: dict[str, Rejected] = {}
    for record in (record for records in log.rejected.values() for record in records):
        one = Rejected.decode(record)
        if found.setdefault(one.id, one) != one:
            yield f"rejected {one.id} came again with another content"
    strange = [one.role for one in found.values() if one.origin.topic != "raw" or one.role != "normalize"]
    yield from _some("records were rejected by", strange)
    origins = Counter((one.origin.partition, one.origin.offset, one.origin.index) for one in found.values())
    yield from _some("messages were not rejected", sorted(oracle.rejects - origins.keys()))
    yield from _some("messages were rejected without a reason", sorted(origins.keys() - oracle.rejects))
    yield from _some("messages were rejected under two ids", [one for one, count in origins.items() if count > 1])


def _signals_differ(log: Log, ids: set[str], specs: Sequence[LogicSpec]) -> Iterable[str]:
    stored = {one.id for one in log.stored}
    yield from _some("signals are missing in the database", sorted(ids - stored))
    yield from _some("signals in the database are of nobody", sorted(stored - ids))
    if len(stored) != len(log.stored):
        yield f"{len(log.stored) - len(stored)} signals are twice in the database"
    said: dict[str, Signal] = {}
    for record in (record for _, records in sorted(log.signals.items()) for record in records):
        one = Signal.decode(record)
        if said.setdefault(one.id, one) != one:
            yield f"signal {one.id} came again with another content: seq {one.seq} after {said[one.id].seq}"
    yield from _some("signals are in the topic and not in the undisturbed run", sorted(said.keys() - ids))
    partition_of = {name: one.partition for name, one in log.instruments.items()}
    frames = log.frames()
    for partition in sorted(log.ticks):
        for logic, wanted in signals_of(frames[partition], specs, log.instruments.values()).items():
            for where, found in (("the topic", said.values()), ("the database", log.stored)):
                ours = [one for one in found if one.logic == logic and partition_of[one.instrument] == partition]
                what = f"{logic} on ticks[{partition}] in {where}"
                if [one.seq for one in ours] != list(range(len(ours))):
                    yield f"{what}: seq is not 0 to {len(ours) - 1}, each once and in order"
                if ours != wanted:
                    at = _first_difference(ours, wanted)
                    yield f"{what}: {len(ours)} signals, the pure functions say {len(wanted)}; first difference at {at}"


def _first_difference(found: Sequence[object], wanted: Sequence[object]) -> int:
    pairs = enumerate(zip(found, wanted, strict=False))
    return next((at for at, (one, other) in pairs if one != other), min(len(found), len(wanted)))


def _where(frames: Sequence[bytes], at: int) -> str:
    if at >= len(frames):
        return "nothing"
    frame = TickFrame.decode(frames[at])
    return f"raw offset {frame.origin_offset}, part {frame.part}, {len(frame)} ticks"


def _some(what: str, which: Sequence[object]) -> Iterable[str]:
    if which:
        more = f" and {len(which) - SHOWN_MAX} more" if len(which) > SHOWN_MAX else ""
        yield f"{len(which)} {what}: {', '.join(map(str, which[:SHOWN_MAX]))}{more}"
