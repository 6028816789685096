"""The role `normalize`: raw frames in, tick frames out. `tapeline worker normalize` runs it.

State of a unit (one raw partition): the sequence numbers of its connections, so that breaks become GAP ticks.
"""

import logging
from collections.abc import Iterable, Sequence

import orjson

from tapeline.agents.tick_frames import cut, time_frames, warm_up
from tapeline.connectors.venues import LEASE, Reject, parse_frame
from tapeline.schemas import (
    FrameError,
    FrameFlag,
    RawFrame,
    Rejected,
    RejectOrigin,
    RejectReason,
    Snapshot,
    VersionError,
    is_older,
)
from tapeline.schemas.topics import RAW, TICKS
from tapeline.streams.registry import Registry
from tapeline.streams.role import Role, Unit
from tapeline.streams.settings import Settings
from tapeline.streams.transport import RoleApp, Stream, drive, role_app

log = logging.getLogger(__name__)

STREAMS_MAX = 10_000
"""Of one connection, whose sequence numbers are remembered: it must not drive the others away."""

CONNECTIONS_MAX, ALL_STREAMS_MAX = 1_000, 25_000
"""Of one partition, that have not ended: each of an `ingest` that was killed stays, for it may go on. No garbage makes
a snapshot of so many too large to be saved."""

EPOCH = f"{LEASE}epoch"
"""Key of the newest epoch of a live connection, beside what its parser remembers."""

Connections = dict[str, dict[str, int | str]]
"""source -> what its parser remembers."""


class Normalize(Role):
    """Turn each raw record into tick frames; what cannot be read goes to `rejected`, the rest goes on."""

    name = "normalize"
    input = RAW

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._connections: dict[int, Connections] = {}

    async def open(self) -> None:
        """Connect, compile the scanners, and read the instruments known so far."""
        await super().open()
        warm_up()
        self._ticks_partitions = await self.producer.partition_count(TICKS.name)
        self._registry = Registry(self.kafka, self._ticks_partitions)
        await self._registry.refresh()

    async def load(self, partitions: frozenset[int]) -> dict[int, int]:
        """Take the sequence numbers from the newest snapshots."""
        snapshots = await self.store.load(partitions)
        starts = dict.fromkeys(partitions, 0)
        for partition, units in snapshots.items():
            self._connections[partition] = {}
            if (snapshot := units.get(str(partition))) is not None:
                self._connections[partition] = orjson.loads(snapshot.payload)
                starts[partition] = snapshot.next_offset
        return starts

    def forget(self, partitions: Iterable[int]) -> None:
        """Drop the sequence numbers of these partitions."""
        for partition in partitions:
            self._connections.pop(partition, None)
        self.store.forget(partitions)

    def capture(self, partitions: Iterable[int]) -> list[Unit]:
        """Return the sequence numbers of these partitions."""
        return [
            Unit(one, str(one), Snapshot(self.next_offset(one), 0, payload=orjson.dumps(self._connections[one])))
            for one in partitions
        ]

    async def process(self, partition: int, offset: int, record: bytes) -> int:
        """1. read the frame, 2. parse its messages, 3. know its instruments, 4. cut, 5. send."""
        try:
            frame = RawFrame.decode(record)
        except VersionError:
            raise
        except FrameError as error:
            reject = Reject(0, RejectReason.CORRUPT, str(error))
            await self._reject(partition, offset, [reject], [record], "", 0)
            return 0
        connections = self._connections[partition]
        known = connections.get(frame.source, {})
        epoch = int(known.get(EPOCH, 0))
        if epoch and frame.epoch and is_older(frame.epoch, epoch):
            # Its sender does not know yet that another process has the connection, and gets the same messages.
            self.stats.partitions[partition].overtaken += len(frame)
            return len(frame)
        remembered = {} if frame.first_message == 0 and not frame.epoch else dict(known)
        if frame.epoch:
            remembered[EPOCH] = frame.epoch
        try:
            parsed = parse_frame(frame, remembered)
        except Exception as error:
            # A parser that fails is our fault, but no reason to stop the market: the record waits in `rejected`.
            log.exception("raw[%d]@%d of %s failed", partition, offset, frame.source)
            reject = Reject(0, RejectReason.FAILED, f"{type(error).__name__}: {error}")
            await self._reject(partition, offset, [reject], [record], frame.source, frame.time_ns)
            return len(frame)
        self._remember(partition, frame.source, {} if frame.flags & FrameFlag.END else remembered)
        await self._registry.register(parsed.names, self.producer)
        instruments = [self._registry.by_name[name] for name in parsed.names]
        if len(frame):
            frames = cut(partition, offset, frame.time_ns, parsed.ticks, instruments)
        else:
            frames = time_frames(partition, offset, frame.time_ns, self._ticks_partitions)
        if parsed.rejects:
            messages = list(frame.messages())
            payloads = [messages[reject.index] for reject in parsed.rejects]
            await self._reject(partition, offset, parsed.rejects, payloads, frame.source, frame.time_ns)
        for tick_frame in frames:
            ticks_partition = tick_frame.lane.ticks_partition
            await self.producer.send(
                TICKS.name, tick_frame.encode(), key=str(ticks_partition), partition=ticks_partition
            )
        return len(frame)

    def _remember(self, partition: int, source: str, streams: dict[str, int | str]) -> None:
        """Keep what a connection's parser remembers; if that is too much, forget those that were silent longest."""
        connections = self._connections[partition]
        known = connections.pop(source, {})
        if not streams:
            return
        if len(streams) > STREAMS_MAX:
            *_, last = forgotten = list(streams)[STREAMS_MAX:]
            log.warning("%s: %d streams too many, breaks of %s are not seen", source, len(forgotten), last)
            for stream in forgotten:
                del streams[stream]
        connections[source] = streams  # the one that was heard last stands last
        if len(streams) <= len(known):
            return
        while len(connections) > CONNECTIONS_MAX or sum(map(len, connections.values())) > ALL_STREAMS_MAX:
            silent = next(iter(connections))
            log.warning("raw[%d]: %s is forgotten, its next break is not seen", partition, silent)
            del connections[silent]

    async def release(self) -> None:
        """Let go of the registry's reader."""
        self._registry.close()

    async def _reject(
        self, partition: int, offset: int, rejects: Sequence[Reject], payloads: list[bytes], source: str, time_ns: int
    ) -> None:
        for one, payload in zip(rejects, payloads, strict=True):
            origin = RejectOrigin(topic=RAW.name, partition=partition, offset=offset, index=one.index)
            await self.reject(
                Rejected.of(self.name, one.reason, one.detail, origin, payload, source=source, time_ns=time_ns)
            )


def app(settings: Settings, instance: str | None = None, web_port: int | None = None) -> RoleApp:
    """Return the role's Faust app."""
    role = Normalize(settings)
    faust_app = role_app(role, settings, instance, web_port)

    @faust_app.agent(faust_app.topic(RAW.name, acks=False), name=role.name)
    async def normalize(stream: Stream) -> None:
        await drive(role, stream)

    return faust_app
