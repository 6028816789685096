"""The role `logic`: tick frames in, signals out. `tapeline worker logic` runs it.

Every configured logic runs on every ticks partition; each such instance is a unit with its own next offset,
so that a logic added to the configuration starts from the beginning while the others go on.
"""

from collections.abc import Iterable

from tapeline.agents.logic.host import Instance, RefusedSignal
from tapeline.agents.logic_config import specs
from tapeline.schemas import (
    FrameError,
    Rejected,
    RejectOrigin,
    RejectReason,
    TickFrame,
    VersionError,
    partition_of,
)
from tapeline.schemas.topics import RAW, SIGNALS, TICKS
from tapeline.streams.registry import Registry, UnknownInstrumentError
from tapeline.streams.role import Role, Unit
from tapeline.streams.settings import Settings
from tapeline.streams.transport import RoleApp, Stream, drive, role_app


class LogicWorker(Role):
    """Run every configured logic over the frames of the ticks partitions this process has."""

    name = "logic"
    input = TICKS

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._specs = specs(settings)
        self._instances: dict[int, list[Instance]] = {}

    async def open(self) -> None:
        """Connect, read the instruments known so far, compile the logics."""
        await super().open()
        self._registry = Registry(self.kafka, await self.producer.partition_count(TICKS.name))
        self._signals_partitions = await self.producer.partition_count(SIGNALS.name)
        await self._registry.refresh()
        for spec in self._specs:
            Instance(spec, self._name_of).warm_up()

    async def load(self, partitions: frozenset[int]) -> dict[int, int]:
        """Make the instances of these partitions from their newest snapshots."""
        snapshots = await self.store.load(partitions)
        starts: dict[int, int] = {}
        for partition in partitions:
            found = snapshots[partition]
            self._instances[partition] = [
                Instance(spec, self._name_of, found.get(spec.unit(partition))) for spec in self._specs
            ]
            starts[partition] = min(self.expected(partition).values(), default=0)
        return starts

    def expected(self, partition: int) -> dict[str, int]:
        """Return the offset that each instance on a partition expects next."""
        return {one.spec.unit(partition): one.next_offset for one in self._instances[partition]}

    def forget(self, partitions: Iterable[int]) -> None:
        """Drop the instances on these partitions."""
        for partition in partitions:
            self._instances.pop(partition, None)
        self.store.forget(partitions)

    def capture(self, partitions: Iterable[int]) -> list[Unit]:
        """Return the state of every instance on these partitions."""
        return [
            Unit(partition, instance.spec.unit(partition), instance.snapshot())
            for partition in partitions
            for instance in self._instances[partition]
        ]

    async def process(self, partition: int, offset: int, record: bytes) -> int:
        """1. read the frame, 2. let each instance say what it says, 3. send."""
        try:
            frame = TickFrame.decode(record)
        except VersionError:
            raise
        except FrameError as error:
            for instance in self._instances[partition]:
                instance.skip(offset)
            origin = RejectOrigin(topic=TICKS.name, partition=partition, offset=offset, index=0)
            await self.reject(Rejected.of(self.name, RejectReason.CORRUPT, str(error), origin, record))
            return 0
        instances = self._instances[partition]
        duplicates = sum(instance.reader.duplicates for instance in instances)
        for instance in instances:
            signals, refused = await self._ask(instance, offset, frame)
            if signals:
                logic = instance.spec.name
                target = partition_of(logic, self._signals_partitions)
                await self.producer.send_all(SIGNALS.name, signals, key=logic, partition=target)
            for signal_refused in refused:
                await self.reject(self._refusal(instance, signal_refused))
        if sum(instance.reader.duplicates for instance in instances) > duplicates:
            self.stats.partitions[partition].skipped(frame.lane.pack())
            return 0
        return len(frame)

    async def release(self) -> None:
        """Let go of the registry's reader."""
        self._registry.close()

    async def _ask(self, instance: Instance, offset: int, frame: TickFrame) -> tuple[list[bytes], list[RefusedSignal]]:
        try:
            return instance.on_record(offset, frame)
        except UnknownInstrumentError:
            # A frame is sent after its instruments are confirmed, so one look at the topic's end is enough.
            await self._registry.refresh()
            return instance.on_record(offset, frame)

    def _name_of(self, instrument_id: int) -> str:
        return self._registry.instrument(instrument_id).name

    def _refusal(self, instance: Instance, refused: RefusedSignal) -> Rejected:
        # Of the raw record, as the signal's id is: a ticks offset may differ after a crash.
        origin = RejectOrigin(topic=RAW.name, **refused.origin.model_dump())
        role = f"{self.name} {instance.spec.name} {refused.instrument}"
        return Rejected.of(role, RejectReason.MALFORMED, refused.detail, origin, b"", time_ns=instance.time_ns)


def app(settings: Settings, instance: str | None = None, web_port: int | None = None) -> RoleApp:
    """Return the role's Faust app."""
    role = LogicWorker(settings)
    faust_app = role_app(role, settings, instance, web_port)

    @faust_app.agent(faust_app.topic(TICKS.name, acks=False), name=role.name)
    async def logic(stream: Stream) -> None:
        await drive(role, stream)

    return faust_app
