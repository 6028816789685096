"""What the roles keep beside their pure functions (tests/system and tests/chaos run them whole)."""

import asyncio
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from tapeline.agents import normalize
from tapeline.agents.bars import BarMaker, cut
from tapeline.agents.keeping import Batch
from tapeline.agents.logic.bars import BarSeries
from tapeline.agents.logic.examples import SHIPPED
from tapeline.agents.logic.host import Instance
from tapeline.agents.logic.spec import LogicSpec
from tapeline.agents.logic_worker import LogicWorker
from tapeline.agents.normalize import Normalize
from tapeline.agents.persist import Persist
from tapeline.agents.persist_ticks import PersistTicks
from tapeline.connectors.stores.contract import Refused
from tapeline.schemas import (
    FrameFlag,
    Instrument,
    Lane,
    RawFrame,
    SettingsError,
    Snapshot,
    TickFrame,
    empty_bars,
    empty_ticks,
)
from tapeline.schemas.frames import RECORD_BYTES_MAX
from tapeline.streams.producer import Producer
from tapeline.streams.settings import check_bars, load_settings
from tapeline.streams.state import StateError, StateStore

BROKER = {"TAPELINE_KAFKA__BOOTSTRAP_SERVERS": "nowhere:9"}
SETTINGS = load_settings(env={**BROKER, "TAPELINE_DATABASE__DSN": "host=nowhere"})


def test_each_logic_says_which_record_it_expects() -> None:
    """One that was added later is behind: what is removed meanwhile is lost to the others only."""
    role = LogicWorker(SETTINGS)
    one = SHIPPED["ema_cross"]
    role._instances[2] = [Instance(LogicSpec(name, one, one.bind({})), str) for name in ("old", "new")]
    role._instances[2][0].next_offset = 500
    old, new = (one.spec.unit(2) for one in role._instances[2])
    assert role.expected(2) == {old: 500, new: 0}


class Sent:
    """A producer and registry that take everything."""

    def __init__(self) -> None:
        self.by_name: dict[str, Instrument] = {}

    async def send(self, topic: str, value: bytes, *, key: str, partition: int) -> None:
        """Take it."""

    async def flush(self) -> None:
        """It is confirmed."""

    async def register(self, names: Sequence[str], producer: object) -> None:
        """Know every instrument."""
        self.by_name |= {name: Instrument(id=1, name=name, partition=0) for name in names}


def remembered(frames: Sequence[RawFrame]) -> dict[str, list[str]]:
    """Return the connections that normalize remembers after these, and the streams of each."""
    role: Any = Normalize(SETTINGS)
    role._connections[0] = {}
    role._producer = role._registry = Sent()
    role._ticks_partitions = 1
    role.start_at(0, 0)

    async def run() -> None:
        for offset, frame in enumerate(frames):
            await role.receive(0, offset, frame.encode())

    asyncio.run(run())
    return {source: list(streams) for source, streams in role._connections[0].items()}


def heard(source: str, *symbols: str, flags: FrameFlag = FrameFlag.NONE) -> RawFrame:
    """Return a frame of a connection with a trade of each symbol."""
    trade = '{"type":"trade","symbol":"%s","id":5,"time_ns":7,"price":"1","size":"1","side":"buy"}'
    messages = [(trade % symbol).encode() for symbol in symbols]
    return RawFrame.build(f"sim/{source}", 1, [9] * len(messages), messages, time_ns=9, flags=flags)


def test_a_connection_is_remembered_until_it_ends() -> None:
    frames = [heard("a", "X", "Y"), heard("b", "X")]
    assert {source: len(streams) for source, streams in remembered(frames).items()} == {"sim/a": 2, "sim/b": 1}
    assert list(remembered([*frames, heard("a", flags=FrameFlag.END)])) == ["sim/b"]


@pytest.mark.parametrize(
    ("limit", "most"), [("CONNECTIONS_MAX", 3), ("ALL_STREAMS_MAX", 6)], ids=["connections", "streams"]
)
def test_connections_that_never_ended_are_forgotten_the_most_silent_first(
    limit: str, most: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(normalize, limit, most)
    frames = [heard(name, "X", "Y") for name in "abcad"]
    assert list(remembered(frames)) == ["sim/c", "sim/a", "sim/d"]
    assert caplog.text.count("is forgotten") == 1
    assert "sim/b is forgotten" in caplog.text


def test_a_connection_that_says_only_that_it_ends_drives_none_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(normalize, "CONNECTIONS_MAX", 1)
    assert list(remembered([heard("a", "X"), heard("b", "X", flags=FrameFlag.END)])) == ["sim/a"]


def test_streams_beyond_the_most_are_not_remembered(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(normalize, "STREAMS_MAX", 2)
    [streams] = remembered([heard("a", "X", "Y", "Z")]).values()
    assert len(streams) == 2
    assert "1 streams too many" in caplog.text


def test_a_frame_that_came_before_is_counted_at_its_lane() -> None:
    role: Any = LogicWorker(SETTINGS)
    one = SHIPPED["ema_cross"]
    role._instances[0] = [Instance(LogicSpec(name, one, one.bind({})), str) for name in ("a", "b")]
    role.start_at(0, 0)
    lane = Lane(3, 0)
    frames = [TickFrame(lane, offset, 0, 9, empty_ticks(1)).encode() for offset in (5, 6, 5, 6, 7)]

    async def run() -> None:
        for offset, frame in enumerate(frames):
            await role.receive(0, offset, frame)

    asyncio.run(run())
    assert role.stats.partitions[0].duplicates == {lane.pack(): 2}


def test_signals_that_the_database_had_are_counted_at_their_lane() -> None:
    role: Any = Persist(SETTINGS)

    class Keeps:
        def __init__(self) -> None:
            self.repeats = Counter({2: 7})

        async def write(self, *_: object) -> list[Refused]:
            return []

    role._database, role._producer = Keeps(), Sent()
    role.start_at(1, 0)
    asyncio.run(role.write(1, Batch(next_offset=9)))
    assert role.stats.partitions[1].duplicates == {Lane(2, 1).pack(): 7}
    assert not role.database.repeats, "counted once"


def test_what_was_written_of_a_partition_that_came_back_does_not_go_backwards() -> None:
    """It was lost while its batch was on its way, and others wrote more meanwhile."""
    role: Any = Persist(SETTINGS)
    role.gather_seconds = 0
    role.start_at(1, 0)

    async def write(partition: int, batch: Batch[Any]) -> None:
        role.forget([partition])
        role._gathered[partition] = role._written[partition] = 100

    async def run() -> None:
        role.write = write
        role._written[1] = 0
        await role.gather(1, 8, None)
        role.start(role._write_all(), "writer")
        await role._wrote.wait()
        role._tasks[0].cancel()
        await asyncio.wait(role._tasks)

    asyncio.run(run())
    assert role._written == {1: 100}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('[bars.calendars]\nlean = "NYSE2"', ":2: bars.calendars.lean: 'NYSE2' is no exchange calendar"),
        ('[bars.calendars]\nlean = "XTAE"', ":2: bars.calendars.lean: the exchange calendar XTAE cannot be used: "),
        (
            '[bars]\ncalendars = {x = "ASEX"}',
            ":2: bars.calendars.x: the exchange calendar ASEX cannot be used: NotImpl",
        ),
        (
            '[bars]\nintervals = ["1h", "1s"]\ngrace_seconds = 59',
            ":3: bars.grace_seconds: bars of 1s are kept for 61 intervals after their end (grace_",
        ),
        (
            '[bars]\nrevise_bars = 60\nintervals = ["1m", "9t"]',
            ":2: bars.revise_bars: bars of 1m are kept for 61 ",
        ),
        ('[database]\nstore_bars = ["*"]', ":2: database.store_bars: no bars are made: set [bars] intervals"),
    ],
)
def test_bars_that_cannot_be_made_are_named_before_anything_starts(text: str, fault: str, tmp_path: Path) -> None:
    file = tmp_path / "tapeline.toml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=re.escape(fault)):
        check_bars(load_settings(file, env={}))


def test_a_role_that_is_to_make_no_bars_does_not_start() -> None:
    with pytest.raises(SettingsError, match=r"bars\.intervals: is not set, so there are no bars to make"):
        BarMaker(SETTINGS)


@pytest.mark.parametrize("meta", [{}, {"layout": 99}])
def test_bars_saved_in_another_layout_are_made_anew(meta: dict[str, object], caplog: pytest.LogCaptureFixture) -> None:
    role: Any = BarMaker(load_settings(env={**BROKER, "TAPELINE_BARS__INTERVALS": "1m,1h"}))
    role._registry = Instruments()
    role._store = store = StateStore("bars", role.kafka, cast(Producer, None), "log")
    minutes, hours = (spec.unit(4) for spec in role._specs)
    good = BarSeries(role._specs[1], Instruments().instrument)
    good.next_offset = 70
    store._newest[4] = {minutes: Snapshot(50, 0, meta), hours: good.snapshot()}

    async def read(partitions: Sequence[int]) -> dict[int, dict[str, Snapshot]]:
        return {partition: dict(store._newest[partition]) for partition in partitions}

    role._store.load = read
    assert asyncio.run(role.load(frozenset([4]))) == {4: 0}
    assert role.expected(4) == {minutes: 0, hours: 70}
    assert list(store.refused[4]) == [minutes]
    assert "is refused: bars are saved in layout" in caplog.text
    assert "made anew by reading again" in caplog.text


def test_bars_that_do_not_fit_a_snapshot_are_said_with_what_to_change() -> None:
    role: Any = BarMaker(load_settings(env={**BROKER, "TAPELINE_BARS__INTERVALS": "1m"}))
    store = StateStore("bars", role.kafka, cast(Producer, None), "log", role.remedy)
    with pytest.raises(StateError, match=r"bars/1m is too large .* Set \[bars\] revise_bars or grace_seconds"):
        asyncio.run(store.save(0, "1m", Snapshot(1, 0, {}, bytes(RECORD_BYTES_MAX))))


class Instruments:
    """A registry that knows every instrument."""

    def instrument(self, number: int) -> Instrument:
        """Return its record."""
        return Instrument(id=number, name=f"sim:{number}", partition=0)


def test_the_bars_of_a_frame_of_ticks_go_by_partition_in_frames_of_their_own() -> None:
    bars = empty_bars(10)
    bars["instrument_id"], bars["number"] = [1, 2, 3, 1, 2, 3, 1, 2, 3, 1], range(10)
    frame = TickFrame(Lane(3, 1), 70, 2, 9, empty_ticks(0))
    found = list(cut(frame, 5, bars, lambda number: number % 2, most=3))
    assert [(partition, one.part, one.bars["number"].tolist()) for partition, one in found] == [
        (0, 512, [1, 4, 7]),
        (1, 512, [0, 2, 3]),
        (1, 513, [5, 6, 8]),
        (1, 514, [9]),
    ]
    assert {(one.lane, one.origin_offset, one.time_ns, one.stream) for _, one in found} == {(Lane(3, 1), 70, 9, 5)}
    assert list(cut(frame, 5, bars[:0], lambda number: 0)) == []


def test_a_role_that_is_to_keep_nothing_does_not_start() -> None:
    with pytest.raises(SettingsError, match=r"database\.store_ticks: is not set, so there is nothing to keep"):
        PersistTicks(SETTINGS)
