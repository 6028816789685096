"""What must not be lost when something is wrong: a refused batch, a full disk, damaged records. And the same signals
with any number of workers and any size of frames.

Judged as the chaos driver judges: by the pure functions of the roles, run over topic `raw`.
"""

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # no __all__ there
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from tapeline.agents.logic_config import specs
from tapeline.connectors.venues import Message
from tapeline.connectors.venues.sim_market import MarketOptions, open_market
from tapeline.schemas import RawFrame, Rejected, RejectReason, TickFrame
from tapeline.schemas.topics import RAW, STATE, TICKS
from tapeline.streams.home import Home
from tapeline.streams.producer import Producer
from tests.chaos.check import differences
from tests.chaos.crew import Crew
from tests.chaos.inputs import NAMES, Connection, prepare
from tests.chaos.nursery import Tapeline
from tests.chaos.oracle import Log, foretell, signals_of
from tests.chaos.run import all_done, collect, run
from tests.chaos.scenario import ROLES, Scenario
from tests.chaos.stage import Stage
from tests.schemas.strategies import of_a_newer_version
from tests.system.broker import until
from tests.system.conftest import temporary_home

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SOURCE, PARTITION = "sim/faults", 1
KEPT = Path(".chaos/faults")


@dataclass
class Lab:
    """Servers for the tests of this file."""

    stage: Stage
    runner: asyncio.Runner


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with temporary_home() as home, asyncio.Runner() as runner:
        opening = Stage.open(home.path.parent)
        yield Lab(runner.run(opening.__aenter__()), runner)
        runner.run(opening.__aexit__(None, None, None))


def raw_frames(*sizes: int) -> list[bytes]:
    """Return a session of one instrument as raw records of so many messages."""
    market = open_market(MarketOptions(seconds=60, rate=1000, instruments=1))
    items = islice(market.items, sum(sizes))
    frames, first = list[bytes](), 0
    for size in sizes:
        messages = [item for item in islice(items, size) if isinstance(item, Message)]
        times, data = [one.recv_ns for one in messages], [one.data for one in messages]
        frames.append(RawFrame.build(SOURCE, first, times, data).encode())
        first += size
    return frames


async def send(stage: Stage, topic: str, records: Sequence[bytes], *, key: str = SOURCE, partition: int) -> None:
    """Put records at the end of a partition."""
    async with Producer({"bootstrap.servers": stage.broker.bootstrap}) as producer:
        for record in records:
            await producer.send(topic, record, key=key, partition=partition)
        await producer.flush()


@asynccontextmanager
async def running(stage: Stage, folder: Path) -> AsyncIterator[Crew]:
    """Run one worker of each role."""
    async with Crew(folder, stage.env) as crew:
        for role in ROLES:
            crew.hire(role, 0)
        await crew.ready()
        yield crew


def faults(stage: Stage, log: Log, sent: Sequence[bytes]) -> list[str]:
    """Return how a log differs from what must come of the raw records that were sent."""
    raw = {partition: list(sent) if partition == PARTITION else [] for partition in log.raw}
    oracle = foretell(raw, log.instruments, len(log.ticks))
    logics = specs(stage.settings)
    ids: set[str] = set()
    for frames in oracle.frames.values():
        said = signals_of(map(TickFrame.decode, frames), logics, log.instruments.values())
        ids |= {one.id for signals in said.values() for one in signals}
    assert len(ids) > 20
    return differences(log, oracle, ids, logics)


def set_largest_batch(stage: Stage, topic: str, size: int) -> None:
    """Let a topic take batches of so many bytes at the most."""
    entry = ConfigEntry("max.message.bytes", str(size), incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    stage.broker.admin.incremental_alter_configs([resource])[resource].result(30)


def test_nothing_lands_behind_a_batch_that_the_broker_refuses(lab: Lab) -> None:
    records = raw_frames(*[25] * 40, 6000, *[25] * 40)

    async def play(stage: Stage) -> None:
        async with stage.run({"TAPELINE_FRAMES__COMPRESSION": "none"}) as folder:
            set_largest_batch(stage, TICKS.name, 300_000)
            async with running(stage, folder) as crew:
                await send(stage, RAW.name, records[:40], partition=PARTITION)
                assert await all_done(stage.broker) == []
                await send(stage, RAW.name, records[40:], partition=PARTITION)
                await until(lambda: len(crew.endings) >= 2, "the normaliser to end twice", 120)
                for ending in crew.endings:
                    assert ending.startswith("normalize-0 ended with 70: ")
                    assert "Message size too large" in ending
                    assert "ticks" in ending
                assert {frame.origin_offset for frame in stage.broker.frames()} == set(range(40))
                set_largest_batch(stage, TICKS.name, int(TICKS.settings()["max.message.bytes"]))
                assert await all_done(stage.broker) == []
            assert faults(stage, collect(stage), records) == []

    lab.runner.run(play(lab.stage))


@pytest.mark.parametrize("damage", ["flipped", "cut", "newer"])
def test_a_snapshot_that_cannot_be_read_is_made_anew(lab: Lab, damage: str) -> None:
    records = raw_frames(*[25] * 120)

    def damaged(value: bytes) -> bytes:
        match damage:
            case "flipped":
                return value[:40] + bytes([value[40] ^ 1]) + value[41:]
            case "cut":
                return value[:-5]
            case _:
                return of_a_newer_version(value)

    async def play(stage: Stage) -> None:
        async with stage.run({}) as folder:
            async with running(stage, folder):
                await send(stage, RAW.name, records[:60], partition=PARTITION)
                assert await all_done(stage.broker) == []
            newest = {(m.key(), m.partition()): m.value() for m in stage.broker.messages(STATE.name)}
            assert {key.split(b"/")[0] for key, _ in newest if key} == {b"normalize", b"logic"}
            for (key, partition), value in newest.items():
                assert key is not None
                assert partition is not None
                assert value is not None
                await send(stage, STATE.name, [damaged(value)], key=key.decode(), partition=partition)
            (second := folder / "second").mkdir()
            async with running(stage, second) as crew:
                await send(stage, RAW.name, records[60:], partition=PARTITION)
                assert await all_done(stage.broker) == []
                assert crew.endings == []
            for role in ("normalize", "logic"):
                assert "is refused" in (second / f"{role}-0.log").read_text()
            assert faults(stage, collect(stage), records) == []

    lab.runner.run(play(lab.stage))


@pytest.mark.parametrize("place", [4, 100], ids=["the version", "a tick"])
def test_a_damaged_frame_goes_to_rejected_and_nothing_else_is_lost(lab: Lab, place: int) -> None:
    records = raw_frames(*[25] * 120)

    async def play(stage: Stage) -> None:
        async with stage.run({}) as folder:
            async with running(stage, folder):
                await send(stage, RAW.name, records[:60], partition=PARTITION)
                assert await all_done(stage.broker) == []
                *_, (partition, _, last) = stage.broker.records(TICKS.name)
                damaged = last[:place] + bytes([last[place] ^ 0x10]) + last[place + 1 :]
                await send(stage, TICKS.name, [damaged], partition=partition)
                await send(stage, RAW.name, records[60:], partition=PARTITION)
                assert await all_done(stage.broker) == []
            log = collect(stage)
            at = log.ticks[partition].index(damaged)
            del log.ticks[partition][at]
            found = {record: Rejected.decode(record) for rejects in log.rejected.values() for record in rejects}
            [(record, event)] = [(record, one) for record, one in found.items() if one.role == "logic"]
            assert (event.reason, event.payload) == (RejectReason.CORRUPT, damaged)
            assert (event.origin.topic, event.origin.partition, event.origin.offset) == (TICKS.name, partition, at)
            for rejects in log.rejected.values():
                rejects[:] = [one for one in rejects if one != record]
            assert faults(stage, log, records) == []

    lab.runner.run(play(lab.stage))


@pytest.fixture
def small_disk() -> Iterator[Home]:
    """A home whose broker has a disk of 64 MB."""
    with temporary_home() as home:
        home.create()
        home.kafka.mkdir(exist_ok=True)
        mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(home.kafka)]
        if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
            pytest.skip("needs the right to mount a small tmpfs")
        try:
            yield home
        finally:
            subprocess.run(["umount", str(home.kafka)], check=True)


def test_a_full_disk_at_the_broker_costs_delay_only(small_disk: Home) -> None:
    """Kafka ends when it cannot write. Our processes wait for it, or end and say so; then all arrives once."""
    options = MarketOptions(rate=5000, seconds=8, instruments=4)
    market = ("--rate", "5000", "--seconds", "8", "--instruments", "4")
    connection = Connection("sim/seed-7", ("sim", *market), 8.0)
    ballast = small_disk.kafka / "ballast"

    async def play() -> None:
        async with Stage.open(small_disk.path.parent) as stage:
            kafka = stage.servers.kafka
            assert kafka is not None
            async with stage.run({"TAPELINE_FRAMES__COMPRESSION": "none"}) as folder, running(stage, folder) as crew:
                disk = os.statvfs(small_disk.kafka)
                with ballast.open("wb") as file:
                    os.posix_fallocate(file.fileno(), 0, disk.f_bavail * disk.f_frsize - 3_000_000)
                feed = asyncio.create_task(stage.feed(connection, 4.0, folder))
                await until(lambda: kafka.pid is None, "the broker to end", 120)
                assert "No space left on device" in kafka.log.read_text(errors="replace")
                ballast.unlink()
                await kafka.start()
                assert await feed is None
                assert await all_done(stage.broker) == []
                for ending in crew.endings:
                    assert " cannot go on: " in ending or ": tapeline: " in ending
                log = collect(stage)
                oracle = foretell(log.raw, log.instruments, len(log.ticks))
                given = [item.data for item in open_market(options).items if isinstance(item, Message)]
                assert len(given) > 30_000
                frames = [RawFrame.decode(record) for records in log.raw.values() for record in records]
                assert [message for frame in frames for message in frame.messages()] == given
                assert differences(log, oracle, {one.id for one in log.stored}, specs(stage.settings)) == []

    asyncio.run(play())


def test_any_number_of_workers_says_the_same(lab: Lab) -> None:
    async def play(stage: Stage) -> None:
        name = NAMES[-1]
        connections = prepare(stage.folder)[name]
        known = None
        for workers in (1, 2, 3):
            scenario = Scenario(workers, name, 3.0, dict.fromkeys(ROLES, workers), 1.0, ())
            outcome, known = await run(stage, scenario, connections, known, KEPT)
            assert outcome.differences == [], f"{workers} workers of each role"
            assert outcome.signals > 1000

    lab.runner.run(play(lab.stage))


def test_one_process_with_all_roles_says_the_same(lab: Lab) -> None:
    records = raw_frames(*[25] * 120)

    async def play(stage: Stage) -> None:
        async with stage.run({}) as folder:
            worker = Tapeline(["worker", *ROLES], folder / "all.log", stage.env)
            worker.start()
            try:
                await send(stage, RAW.name, records, partition=PARTITION)
                assert await all_done(stage.broker) == []
                assert worker.pid is not None
                os.kill(worker.pid, signal.SIGTERM)
                assert await worker.wait() == 0
            finally:
                await worker.kill()
            assert faults(stage, collect(stage), records) == []

    lab.runner.run(play(lab.stage))


@pytest.mark.parametrize("name", NAMES[:2])
def test_any_size_of_frames_gives_the_same_signals(lab: Lab, name: str) -> None:
    """Their ids hold the raw offset, so they are compared by what they say."""

    async def play(stage: Stage) -> None:
        connections = prepare(stage.folder)[name]
        said: list[dict[str, list[Any]]] = []
        for size in (1, 100, 4000):
            scenario = Scenario(size, name, 3.0, dict.fromkeys(ROLES, 1), 1.0, ())
            settings = {"TAPELINE_FRAMES__MESSAGES_MAX": str(size)}
            outcome, found = await run(stage, scenario, connections, None, KEPT, settings)
            assert outcome.differences == [], f"{size} messages a frame"
            frames = [RawFrame.decode(record) for records in found.oracle.raw.values() for record in records]
            assert 0.9 * size <= max(map(len, frames)) <= size  # a megabyte closes a frame, too
            said.append({})
            for one in found.stored:
                words = (one.side, one.strength, one.price, one.ts_event_ns, one.ts_recv_ns)
                said[-1].setdefault(f"{one.logic} {one.instrument}", []).append(words)
            assert outcome.signals > 500
        for other in said[1:]:
            assert other.keys() == said[0].keys()
            assert [key for key, words in other.items() if words != said[0][key]] == []

    lab.runner.run(play(lab.stage))
