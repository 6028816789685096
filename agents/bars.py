"""The role `bars`: tick frames in, bar frames out. `tapeline worker bars` runs it where `[bars]` is configured.

Every interval on every ticks partition is a unit with its own next offset, so that one that is added to the
configuration starts from the beginning while the others go on.
"""

import logging
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from tapeline.agents.bars_config import specs
from tapeline.agents.logic.bar_spec import BarSpec
from tapeline.agents.logic.bars import BarSeries, Made
from tapeline.schemas import (
    BarFrame,
    Bars,
    FrameError,
    Instrument,
    Rejected,
    RejectOrigin,
    RejectReason,
    Snapshot,
    TickFrame,
    VersionError,
    partition_of,
)
from tapeline.schemas.bar_frame import BARS_MAX, PIECES_MAX
from tapeline.schemas.topics import BARS, TICKS
from tapeline.streams.registry import Registry, UnknownInstrumentError
from tapeline.streams.role import Role, Unit
from tapeline.streams.settings import Settings
from tapeline.streams.transport import RoleApp, Stream, drive, role_app

log = logging.getLogger(__name__)


class BarMaker(Role):
    """Make the configured bars of the ticks partitions this process has."""

    name = "bars"
    input = TICKS
    remedy = (
        "Set [bars] revise_bars or grace_seconds lower, name fewer [bars] instruments, or spread them over more "
        "partitions of topic ticks"
    )

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._specs = specs(settings)
        if not self._specs:
            message = 'is not set, so there are no bars to make: write such as ["1m", "1h"]'
            raise settings.error_at(("bars", "intervals"), message)
        self._series: dict[int, list[BarSeries]] = {}
        self._partition_of: dict[int, int] = {}  # by instrument

    async def open(self) -> None:
        """Connect, read the instruments known so far, compile the loops."""
        await super().open()
        self._registry = Registry(self.kafka, await self.producer.partition_count(TICKS.name))
        self._bars_partitions = await self.producer.partition_count(BARS.name)
        await self._registry.refresh()
        for spec in self._specs:
            BarSeries(spec, self._registry.instrument)

    async def load(self, partitions: frozenset[int]) -> dict[int, int]:
        """Make the series of these partitions from their newest snapshots."""
        snapshots = await self.store.load(partitions)
        starts: dict[int, int] = {}
        for partition in partitions:
            found = snapshots[partition]
            self._series[partition] = [
                self._begin(spec, partition, found.get(spec.unit(partition))) for spec in self._specs
            ]
            starts[partition] = min(self.expected(partition).values())
        return starts

    def _begin(self, spec: BarSpec, partition: int, snapshot: Snapshot | None) -> BarSeries:
        """Make a series from its newest snapshot; from the first record if it is of another layout."""
        try:
            return BarSeries(spec, self._registry.instrument, snapshot)
        except VersionError as error:
            self.store.refuse(partition, spec.unit(partition), error)
            return BarSeries(spec, self._registry.instrument)

    def expected(self, partition: int) -> dict[str, int]:
        """Return the offset that each series on a partition expects next."""
        return {one.spec.unit(partition): one.next_offset for one in self._series[partition]}

    def forget(self, partitions: Iterable[int]) -> None:
        """Drop the series on these partitions; the log says what they left out."""
        for partition in partitions:
            for one in self._series.pop(partition, ()):
                if any(one.left_out.values()):
                    counts = ", ".join(f"{count} {why}" for why, count in one.left_out.items() if count)
                    log.info(
                        "%s[%d], bars of %s: trades left out: %s", TICKS.name, partition, one.spec.interval, counts
                    )
        self.store.forget(partitions)

    def capture(self, partitions: Iterable[int]) -> list[Unit]:
        """Return the state of every series on these partitions."""
        return [
            Unit(partition, one.spec.unit(partition), one.snapshot())
            for partition in partitions
            for one in self._series[partition]
        ]

    async def process(self, partition: int, offset: int, record: bytes) -> int:
        """1. read the frame, 2. let each series make its bars, 3. send them, 4. reject what came too late."""
        series = self._series[partition]
        try:
            frame = TickFrame.decode(record)
        except VersionError:
            raise
        except FrameError as error:
            for one in series:
                one.skip(offset)
            origin = RejectOrigin(topic=TICKS.name, partition=partition, offset=offset, index=0)
            await self.reject(Rejected.of(self.name, RejectReason.CORRUPT, str(error), origin, record))
            return 0
        duplicates = sum(one.reader.duplicates for one in series)
        for one in series:
            made = await self._make(one, offset, frame)
            for target, bar_frame in cut(frame, one.spec.stream, made.bars, self._target):
                await self.producer.send(BARS.name, bar_frame.encode(), key=str(target), partition=target)
            if len(made.too_late):
                await self._refuse(one, partition, offset, frame, made)
        if sum(one.reader.duplicates for one in series) > duplicates:
            self.stats.partitions[partition].skipped(frame.lane.pack())
            return 0
        return len(frame)

    async def release(self) -> None:
        """Let go of the registry's reader."""
        self._registry.close()

    async def _make(self, one: BarSeries, offset: int, frame: TickFrame) -> Made:
        try:
            return one.on_record(offset, frame)
        except UnknownInstrumentError:
            # A frame is sent after its instruments are confirmed, so one look at the topic's end is enough.
            await self._registry.refresh()
            return one.on_record(offset, frame)

    def _target(self, instrument_id: int) -> int:
        """Return the bars partition of an instrument."""
        target = self._partition_of.get(instrument_id)
        if target is None:
            target = partition_of(self._name_of(instrument_id), self._bars_partitions)
            self._partition_of[instrument_id] = target
        return target

    def _name_of(self, instrument_id: int) -> str:
        instrument: Instrument = self._registry.instrument(instrument_id)
        return instrument.name

    async def _refuse(self, one: BarSeries, partition: int, offset: int, frame: TickFrame, made: Made) -> None:
        """Send the trades that came too late to `rejected`, as ticks."""
        late = frame.ticks[made.too_late]
        names = sorted(self._name_of(number) for number in np.unique(late["instrument_id"]).tolist())
        detail = (
            f"{len(late)} trades of {', '.join(names)} came too late for their bars of {one.spec.interval}, which are "
            f"kept {one.spec.kept_ns / 1e9:g} s after their end: the clock is at {one.time_ns} ns"
        )
        origin = RejectOrigin(topic=TICKS.name, partition=partition, offset=offset, index=int(made.too_late[0]))
        role = f"{self.name} {one.spec.interval}"
        await self.reject(Rejected.of(role, RejectReason.LATE, detail, origin, late.tobytes(), time_ns=frame.time_ns))


def cut(
    frame: TickFrame, stream: int, bars: Bars, target: Callable[[int], int], most: int = BARS_MAX
) -> Iterator[tuple[int, BarFrame]]:
    """Yield the frames of bars that a tick frame made, each with its partition. target: instrument id -> partition.

    most: bars in one frame.
    """
    if not len(bars):
        return
    ids, which = np.unique(bars["instrument_id"], return_inverse=True)
    partitions = np.array([target(number) for number in ids.tolist()])[which]
    for partition in np.unique(partitions).tolist():
        of_it = bars[partitions == partition]
        if len(of_it) > most * PIECES_MAX:
            raise FrameError(f"{len(of_it)} bars of one frame of ticks, the most is {most * PIECES_MAX}")
        for piece, begin in enumerate(range(0, len(of_it), most)):
            part = frame.part * PIECES_MAX + piece
            yield (
                partition,
                BarFrame(frame.lane, frame.origin_offset, part, frame.time_ns, stream, of_it[begin : begin + most]),
            )


def app(settings: Settings, instance: str | None = None, web_port: int | None = None) -> RoleApp:
    """Return the role's Faust app."""
    role = BarMaker(settings)
    faust_app = role_app(role, settings, instance, web_port)

    @faust_app.agent(faust_app.topic(TICKS.name, acks=False), name=role.name)
    async def bars(stream: Stream) -> None:
        await drive(role, stream)

    return faust_app
