"""The role `persist`: signals into the database, each with the offset behind it in one transaction.

`tapeline worker persist` runs it.
"""

from tapeline.agents.keeping import Batch, KeepingRole
from tapeline.connectors.stores import PostgresStore
from tapeline.schemas import EventError, Lane, RejectReason, Signal
from tapeline.schemas.topics import SIGNALS
from tapeline.streams.settings import Settings
from tapeline.streams.transport import RoleApp, Stream, drive, role_app


class Persist(KeepingRole[bytes, PostgresStore]):
    """Keep signals."""

    name = "persist"
    input = SIGNALS
    rows_max = 1000
    gather_seconds = 0.01  # a transaction costs as much as a hundred signals

    def make_store(self) -> PostgresStore:
        """Return the store of signals."""
        return PostgresStore(self.dsn, self.name, topic_id=self.topic_id)

    async def process(self, partition: int, offset: int, record: bytes) -> int:
        """Add a signal to the batch; waits while the database is too far behind."""
        signal: bytes | None = record
        try:
            Signal.decode(record)
        except EventError as error:
            signal = None
            await self.refuse(RejectReason.CORRUPT, str(error), partition, offset, record)
        await self.gather(partition, offset, signal, size=len(record))
        return 1

    async def write(self, partition: int, batch: Batch[bytes]) -> None:
        """1. confirm the rejects, 2. signals and offset, 3. what the database refuses is rejected, 4. the offset."""
        await self.producer.flush()
        refused = await self.database.write(batch.items, self.input.name, partition, batch.next_offset)
        for raw_partition, signals in self.database.repeats.items():
            self.stats.partitions[partition].skipped(Lane(raw_partition, partition).pack(), signals)
        self.database.repeats.clear()
        if not refused:
            return
        for one in refused:
            detail = f"the database refuses it: {one.reason}"
            offset, record = batch.offsets[one.index], batch.items[one.index]
            await self.refuse(RejectReason.FAILED, detail, partition, offset, record)
        await self.producer.flush()
        await self.database.write([], self.input.name, partition, batch.next_offset)


def app(settings: Settings, instance: str | None = None, web_port: int | None = None) -> RoleApp:
    """Return the role's Faust app."""
    role = Persist(settings)
    faust_app = role_app(role, settings, instance, web_port)

    @faust_app.agent(faust_app.topic(SIGNALS.name, acks=False), name=role.name)
    async def persist(stream: Stream) -> None:
        await drive(role, stream)

    return faust_app
