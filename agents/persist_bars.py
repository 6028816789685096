"""The role `persist-bars`: bars into the database, of the instruments that `[database] store_bars` names.

`tapeline worker persist-bars` runs it.
"""

from dataclasses import replace
from typing import Any

from tapeline.agents.persist_frames import PersistFrames
from tapeline.connectors.stores import BarStore
from tapeline.schemas import BarFrame
from tapeline.schemas.topics import BARS
from tapeline.streams.settings import Settings
from tapeline.streams.transport import RoleApp, Stream, drive, role_app


class PersistBars(PersistFrames[BarFrame]):
    """Keep bars."""

    name = "persist-bars"
    input = BARS
    setting = "store_bars"

    def make_store(self) -> BarStore:
        """Return the store of bars."""
        return BarStore(
            self.dsn, self.name, topic_id=self.topic_id, keep_days=self.settings.database.bars_retention_days
        )

    def decode(self, record: bytes) -> BarFrame:
        """Read a record; raise FrameError."""
        return BarFrame.decode(record)

    def encode(self, frame: BarFrame) -> bytes:
        """Return the frame as a record."""
        return frame.encode()

    def instruments(self, frame: BarFrame) -> Any:
        """Return the instrument id of each bar, (n,)."""
        return frame.bars["instrument_id"]

    def only(self, frame: BarFrame, mask: Any) -> BarFrame:
        """Return the frame with some of its bars. mask: (n,) bool."""
        return replace(frame, bars=frame.bars[mask])


def app(settings: Settings, instance: str | None = None, web_port: int | None = None) -> RoleApp:
    """Return the role's Faust app."""
    role = PersistBars(settings)
    faust_app = role_app(role, settings, instance, web_port)

    @faust_app.agent(faust_app.topic(BARS.name, acks=False), name=role.name)
    async def persist_bars(stream: Stream) -> None:
        await drive(role, stream)

    return faust_app
