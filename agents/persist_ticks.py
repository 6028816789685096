"""The role `persist-ticks`: ticks into the database, of the instruments that `[database] store_ticks` names.

`tapeline worker persist-ticks` runs it. Ticks of no instrument (the clock of a quiet partition) are not kept.
"""

from dataclasses import replace
from typing import Any

from tapeline.agents.persist_frames import PersistFrames
from tapeline.connectors.stores import TickStore
from tapeline.schemas import TickFrame
from tapeline.schemas.topics import TICKS
from tapeline.streams.settings import Settings
from tapeline.streams.transport import RoleApp, Stream, drive, role_app


class PersistTicks(PersistFrames[TickFrame]):
    """Keep ticks."""

    name = "persist-ticks"
    input = TICKS
    setting = "store_ticks"

    def make_store(self) -> TickStore:
        """Return the store of ticks."""
        kept = self.settings.database
        return TickStore(
            self.dsn,
            self.name,
            topic_id=self.topic_id,
            keep_days=kept.ticks_retention_days,
            aggregates_keep_days=kept.bars_retention_days,
        )

    def decode(self, record: bytes) -> TickFrame:
        """Read a record; raise FrameError."""
        return TickFrame.decode(record)

    def encode(self, frame: TickFrame) -> bytes:
        """Return the frame as a record."""
        return frame.encode()

    def instruments(self, frame: TickFrame) -> Any:
        """Return the instrument id of each tick, (n,)."""
        return frame.ticks["instrument_id"]

    def only(self, frame: TickFrame, mask: Any) -> TickFrame:
        """Return the frame with some of its ticks. mask: (n,) bool."""
        return replace(frame, ticks=frame.ticks[mask])


def app(settings: Settings, instance: str | None = None, web_port: int | None = None) -> RoleApp:
    """Return the role's Faust app."""
    role = PersistTicks(settings)
    faust_app = role_app(role, settings, instance, web_port)

    @faust_app.agent(faust_app.topic(TICKS.name, acks=False), name=role.name)
    async def persist_ticks(stream: Stream) -> None:
        await drive(role, stream)

    return faust_app
