"""One run: the input flows, disturbances hit, everything is processed to the end, and the outcome is judged."""

import asyncio
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from confluent_kafka import KafkaException

from tapeline.agents.logic_config import specs
from tapeline.connectors.stores.reader import SignalQuery, connect, read_signals
from tapeline.schemas import FrameError, Instrument, Signal, TickFrame
from tapeline.streams.frame_reader import FrameReader
from tests.chaos.check import differences, duplicates
from tests.chaos.crew import Crew
from tests.chaos.inputs import Connection
from tests.chaos.oracle import Log, Oracle, Records, foretell
from tests.chaos.scenario import ROLES, Disturbance, Kind, Scenario
from tests.chaos.stage import Stage
from tests.system.broker import INPUTS, Broker

DONE_SECONDS_MAX = 120.0
"""After the last disturbance everything must be processed within so long."""


@dataclass
class Outcome:
    """What came of a run."""

    scenario: Scenario
    phases: dict[str, float] = field(default_factory=dict)
    """Seconds of each part of the run."""
    kinds: dict[str, int] = field(default_factory=dict)
    signals_sent: dict[str, int] = field(default_factory=dict)
    """Of the operating system, to workers."""
    exits: dict[int, int] = field(default_factory=dict)
    endings: list[str] = field(default_factory=list)
    """Why workers ended by themselves."""
    restarts: int = 0
    duplicates: dict[str, int] = field(default_factory=dict)
    signals: int = 0
    differences: list[str] = field(default_factory=list)
    _moment: float = field(default_factory=time.monotonic)

    def passed(self, phase: str) -> None:
        """Note that a part of the run is over."""
        before, self._moment = self._moment, time.monotonic()
        self.phases[phase] = self._moment - before

    @property
    def seconds(self) -> float:
        """How long the run took."""
        return sum(self.phases.values())


@dataclass
class Undisturbed:
    """What an input gives when nothing happens."""

    oracle: Oracle
    stored: list[Signal]

    @property
    def ids(self) -> set[str]:
        """Of all signals."""
        return {one.id for one in self.stored}


async def run(
    stage: Stage,
    scenario: Scenario,
    connections: Sequence[Connection],
    known: Undisturbed | None,
    kept: Path,
    settings: Mapping[str, str] | None = None,
    *,
    always: bool = False,
) -> tuple[Outcome, Undisturbed]:
    """Run a scenario; without `known` it is what the others are compared with.

    kept: where the logs of a run that differs (always: of any run) go. settings: environment of this run's processes
    beside the stage's.
    """
    outcome = Outcome(scenario)
    snapshots = {"TAPELINE_WORKER__SNAPSHOT_SECONDS": str(scenario.snapshot_seconds)}
    async with stage.run(snapshots | dict(settings or {})) as folder:
        outcome.passed("topics made")
        async with Crew(folder, stage.env) as crew:
            for role in ROLES:
                for number in range(scenario.workers[role]):
                    crew.hire(role, number)
            await crew.ready()
            outcome.passed("workers ready")
            async with asyncio.TaskGroup() as tasks:
                feeds = [
                    tasks.create_task(stage.feed(connection, scenario.input_seconds, folder))
                    for connection in connections
                ]
                await _flowing(stage.broker, len(connections))
                outcome.passed("first records")
                for one in scenario.disturbances:
                    tasks.create_task(_disturb(stage, crew, one, outcome))
            outcome.passed("input and disturbances")
            outcome.differences += [fault for feed in feeds if (fault := feed.result()) is not None]
            outcome.differences += await all_done(stage.broker)
            outcome.passed("rest processed")
            outcome.differences += crew.faults
            outcome.signals_sent, outcome.exits = dict(crew.signals), dict(crew.exits)
            outcome.restarts, outcome.endings = crew.restarts, crew.endings
        log = await asyncio.to_thread(collect, stage)
        if known is None:
            known = Undisturbed(foretell(log.raw, log.instruments, len(log.ticks)), log.stored)
        outcome.differences += differences(log, known.oracle, known.ids, specs(stage.settings))
        outcome.duplicates, outcome.signals = duplicates(log), len(log.stored)
        outcome.passed("judged")
        if outcome.differences or always:
            _keep(stage, outcome, log, folder, kept)
    return outcome, known


async def _disturb(stage: Stage, crew: Crew, one: Disturbance, outcome: Outcome) -> None:
    await asyncio.sleep(one.at_seconds)
    match one.kind:
        case Kind.KILL:
            await crew.kill(one.role, one.worker)
        case Kind.TERM:
            await crew.term(one.role, one.worker)
        case Kind.FREEZE:
            await crew.freeze(one.role, one.worker, one.lasts_seconds)
        case Kind.TWIN:
            await crew.twin(one.role, one.worker, one.lasts_seconds)
        case Kind.SCALE:
            await crew.scale(one.role, one.lasts_seconds)
        case Kind.BROKER_STOP:
            await stage.stop_broker(one.lasts_seconds)
        case Kind.BROKER_KILL:
            await stage.kill_broker()
        case Kind.DATABASE:
            await stage.stop_database(one.lasts_seconds)
    outcome.kinds[one.kind] = outcome.kinds.get(one.kind, 0) + 1  # it was done


async def _flowing(broker: Broker, connections: int) -> None:
    """Wait for the first record of each connection; each has a raw partition of its own."""
    while sum(map(bool, (await asyncio.to_thread(broker.ends, "raw")).values())) < connections:  # noqa: ASYNC110
        await asyncio.sleep(0.02)


async def all_done(broker: Broker) -> list[str]:
    """Wait until the roles are done; return where they are if that takes too long."""
    deadline = time.monotonic() + DONE_SECONDS_MAX
    while time.monotonic() < deadline:
        with suppress(KafkaException):  # a broker that has just started
            if await asyncio.to_thread(broker.done):
                return []
        await asyncio.sleep(0.1)
    return [f"not done after {DONE_SECONDS_MAX:.0f} s: {_progress(broker)}"]


def collect(stage: Stage) -> Log:
    """Read everything that a run left behind."""
    broker = stage.broker
    instruments: dict[str, Instrument] = {}
    for _, _, value in broker.records("instruments"):
        one = Instrument.decode(value)
        instruments.setdefault(one.name, one)  # the first record of a name wins
    with connect(stage.dsn) as connection:
        stored = list(read_signals(connection, SignalQuery()))
    raw, ticks, signals, rejected = (_records(broker, topic) for topic in ("raw", "ticks", "signals", "rejected"))
    return Log(raw, ticks, signals, rejected, instruments, stored)


def _records(broker: Broker, topic: str) -> Records:
    found: Records = {partition: [] for partition in broker.ends(topic)}
    for partition, offset, value in broker.records(topic):
        assert offset == len(found[partition]), f"{topic}[{partition}] has no record {len(found[partition])}"
        found[partition].append(value)
    return found


def _keep(stage: Stage, outcome: Outcome, log: Log, folder: Path, kept: Path) -> None:
    """Keep the logs of a run, and what its topics hold in words."""
    shutil.rmtree(kept, ignore_errors=True)
    shutil.copytree(folder, kept)
    for server in stage.servers.running:
        with suppress(OSError):
            shutil.copy(server.log, kept)
    text = "\n".join([f"seed {outcome.scenario.seed}: {outcome.scenario}", "", *outcome.differences, ""])
    (kept / "differences.txt").write_text(text)
    (kept / "committed.json").write_text(json.dumps(_progress(stage.broker)))
    with (kept / "ticks.txt").open("w") as out:
        for partition, records in log.ticks.items():
            reader = FrameReader()
            for offset, record in enumerate(records):
                try:
                    frame = TickFrame.decode(record)
                except FrameError as error:
                    print(f"ticks[{partition}]@{offset} {error}", file=out)
                    continue
                seen = "" if reader.take(frame) else " skipped"
                where = f"raw[{frame.lane.raw_partition}]@{frame.origin_offset}.{frame.part}"
                print(f"ticks[{partition}]@{offset} of {where}, {len(frame)} ticks{seen}", file=out)
    with (kept / "signals.txt").open("w") as out:
        for partition, records in log.signals.items():
            for offset, record in enumerate(records):
                one = Signal.decode(record)
                print(f"signals[{partition}]@{offset} {one.logic} {one.instrument} {one.seq} {one.id}", file=out)


def _progress(broker: Broker) -> dict[str, dict[str, dict[int, int]]]:
    try:
        return {
            role: {"committed": broker.committed(role, topic), "ends": broker.ends(topic)}
            for role, topic in INPUTS.items()
        }
    except KafkaException:
        return {}
