"""The judge: repeats that readers skip are fine, and every kind of loss, repeat or change is found."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass

import pytest

from tapeline.agents.logic.examples import SHIPPED
from tapeline.agents.logic.spec import LogicSpec
from tapeline.connectors.venues import Message, parse_frame
from tapeline.connectors.venues.framer import Framer
from tapeline.connectors.venues.sim_market import MarketOptions, open_market
from tapeline.schemas import (
    Instrument,
    RawFrame,
    Rejected,
    RejectOrigin,
    RejectReason,
    Signal,
    TickFrame,
    partition_of,
)
from tapeline.streams.registry import first_free_id
from tests.chaos.check import differences, duplicates
from tests.chaos.oracle import Log, Oracle, foretell, signals_of

pytestmark = pytest.mark.slow  # compiles a logic

PARTITIONS = 4
LOGIC = SHIPPED["ema_cross"]
SPECS = [LogicSpec(name, LOGIC, LOGIC.bind({"fast": 2, "slow": 5})) for name in ("one", "other")]


@dataclass
class Case:
    """A run that went well; tests damage it."""

    log: Log
    oracle: Oracle
    ids: set[str]

    def differences(self) -> list[str]:
        return differences(self.log, self.oracle, self.ids, SPECS)

    @property
    def busy(self) -> list[bytes]:
        """The ticks partition with the most frames."""
        return max(self.log.ticks.values(), key=len)

    @property
    def said(self) -> list[bytes]:
        """The signals partition with the most signals."""
        return max(self.log.signals.values(), key=len)


def raw_records() -> list[bytes]:
    market = open_market(MarketOptions(seconds=2, rate=2000, instruments=6, gaps=0.005, malformed=0.01))
    framer, frames = Framer(market.source, 25), list[RawFrame]()
    for item in market.items:
        assert isinstance(item, Message)
        frames += framer.add(item)
    return [frame.encode() for frame in [*frames, *framer.end()]]


@pytest.fixture(scope="module")
def well() -> Case:
    raw = {0: [], 1: raw_records()}
    names = {name for record in raw[1] for name in parse_frame(RawFrame.decode(record), {}).names}
    instruments = {
        name: Instrument(id=first_free_id(name, {}), name=name, partition=partition_of(name, PARTITIONS))
        for name in names
    }
    oracle = foretell(raw, instruments, PARTITIONS)
    ticks = {partition: list[bytes]() for partition in range(PARTITIONS)}
    for lane, frames in oracle.frames.items():
        ticks[lane.ticks_partition] += frames
    signals = {partition: list[bytes]() for partition in range(PARTITIONS)}
    for records in ticks.values():
        for logic, said in signals_of(map(TickFrame.decode, records), SPECS, instruments.values()).items():
            signals[partition_of(logic, PARTITIONS)] += [one.encode() for one in said]
    rejected = [
        Rejected.of(
            "normalize",
            RejectReason.MALFORMED,
            "cut short",
            RejectOrigin(topic="raw", partition=partition, offset=offset, index=index),
            b"{",
        ).encode()
        for partition, offset, index in sorted(oracle.rejects)
    ]
    stored = [Signal.decode(record) for records in signals.values() for record in records]
    stored.sort(key=lambda one: (one.logic, one.seq))
    log = Log(raw, ticks, signals, {0: rejected, 1: []}, instruments, stored)
    return Case(log, oracle, {one.id for one in stored})


@pytest.fixture
def case(well: Case) -> Case:
    return deepcopy(well)


def test_a_run_that_went_well(case: Case) -> None:
    assert len(case.oracle.rejects) > 5
    assert len(case.ids) > 200
    assert case.differences() == []
    assert duplicates(case.log) == {"ticks": 0, "signals": 0, "rejected": 0}


def test_work_that_was_done_again_is_fine(case: Case) -> None:
    case.busy[60:60] = case.busy[40:60]
    case.said[30:30] = case.said[10:30]
    case.log.rejected[0] += case.log.rejected[0][-2:]
    assert case.differences() == []
    assert duplicates(case.log) == {"ticks": 20, "signals": 20, "rejected": 2}


def a_raw_record_is_gone(case: Case) -> None:
    case.log.raw = {0: [], 1: case.log.raw[1][:50] + case.log.raw[1][51:]}


def a_frame_is_lost(case: Case) -> None:
    del case.busy[40]


def a_frame_lands_after_a_later_one(case: Case) -> None:
    case.busy[40], case.busy[41] = case.busy[41], case.busy[40]


def a_frame_of_another_partition(case: Case) -> None:
    least = min(case.log.ticks.values(), key=len)
    least.append(case.busy[-1])


def a_parser_passes_over_a_message(case: Case) -> None:
    for frames in (case.busy, *case.oracle.frames.values()):
        for at, record in enumerate(frames):
            frame = TickFrame.decode(record)
            if frame.origin_offset == 20:
                frames[at] = TickFrame(frame.lane, 20, frame.part, frame.time_ns, frame.ticks[1:]).encode()


def a_message_is_not_rejected(case: Case) -> None:
    case.log.rejected[0].pop()


def a_good_message_is_rejected(case: Case) -> None:
    origin = RejectOrigin(topic="raw", partition=1, offset=0, index=0)
    case.log.rejected[1].append(Rejected.of("normalize", RejectReason.FAILED, "", origin, b"").encode())


def a_role_rejects_what_it_must_process(case: Case) -> None:
    origin = RejectOrigin(topic="ticks", partition=1, offset=0, index=0)
    case.log.rejected[1].append(Rejected.of("logic", RejectReason.CORRUPT, "", origin, b"").encode())


def a_signal_is_not_stored(case: Case) -> None:
    del case.log.stored[5]


def a_signal_is_stored_twice(case: Case) -> None:
    case.log.stored.insert(5, case.log.stored[5])


def a_signal_of_nobody_is_stored(case: Case) -> None:
    case.log.stored.append(case.log.stored[-1].model_copy(update={"id": "0" * 32}))


def a_signal_is_not_sent(case: Case) -> None:
    del case.said[5]


def a_signal_is_sent_too_late(case: Case) -> None:
    case.said.append(case.said.pop(5))


def a_signal_comes_again_with_another_seq(case: Case) -> None:
    one = Signal.decode(case.said[5])
    case.said.insert(9, one.model_copy(update={"seq": one.seq + 1}).encode())


def signals_have_another_strength(case: Case) -> None:
    case.log.stored[5] = case.log.stored[5].model_copy(update={"strength": 1.0})


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (a_raw_record_is_gone, "raw[1] has"),
        (a_frame_is_lost, "readers take"),
        (a_frame_lands_after_a_later_one, "readers take"),
        (a_frame_of_another_partition, "holds a frame of"),
        (a_parser_passes_over_a_message, "messages are not accounted for: raw[1]@20"),
        (a_message_is_not_rejected, "1 messages were not rejected"),
        (a_good_message_is_rejected, "1 messages were rejected without a reason: (1, 0, 0)"),
        (a_role_rejects_what_it_must_process, "1 records were rejected by: logic"),
        (a_signal_is_not_stored, "1 signals are missing in the database"),
        (a_signal_is_stored_twice, "1 signals are twice in the database"),
        (a_signal_of_nobody_is_stored, "1 signals in the database are of nobody: 000"),
        (a_signal_is_not_sent, "in the topic: seq is not 0 to"),
        (a_signal_is_sent_too_late, "in the topic: seq is not 0 to"),
        (a_signal_comes_again_with_another_seq, "came again with another content"),
        (signals_have_another_strength, "in the database: "),
    ],
)
def test_every_damage_is_found(case: Case, damage: Callable[[Case], None], words: str) -> None:
    damage(case)
    assert words in "\n".join(case.differences())
