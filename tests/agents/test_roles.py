"""What the roles keep beside their pure functions (tests/system and tests/chaos run them whole)."""

import asyncio
from typing import Any

import pytest

from tapeline.agents import normalize
from tapeline.agents.logic.examples import SHIPPED
from tapeline.agents.logic.host import Instance
from tapeline.agents.logic.spec import LogicSpec
from tapeline.agents.logic_worker import LogicWorker
from tapeline.agents.normalize import Normalize
from tapeline.schemas import RawFrame
from tapeline.streams.settings import load_settings

SETTINGS = load_settings(env={"TAPELINE_KAFKA__BOOTSTRAP_SERVERS": "nowhere:9"})


def test_each_logic_says_which_record_it_expects() -> None:
    """One that was added later is behind: what is removed meanwhile is lost to the others only."""
    role = LogicWorker(SETTINGS)
    one = SHIPPED["ema_cross"]
    role._instances[2] = [Instance(LogicSpec(name, one, one.bind({})), str) for name in ("old", "new")]
    role._instances[2][0].next_offset = 500
    assert role.expected(2) == {"logic old": 500, "logic new": 0}


class Sent:
    """A producer that takes everything."""

    async def send(self, topic: str, value: bytes, *, key: str, partition: int) -> None:
        """Take it."""

    async def register(self, names: object, producer: object) -> None:
        """Know every instrument."""


def test_connections_that_never_ended_are_forgotten_the_most_silent_first(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(normalize, "CONNECTIONS_MAX", 3)
    role: Any = Normalize(SETTINGS)
    role._connections[0] = {}
    role._producer = role._registry = Sent()
    role._registry.by_name, role._ticks_partitions = {}, 1

    async def run() -> None:
        for offset, name in enumerate("abcad"):
            frame = RawFrame.build(f"sim/{name}", 1, [], [], time_ns=offset)
            await role.process(0, offset, frame.encode())

    asyncio.run(run())
    assert list(role._connections[0]) == ["sim/c", "sim/a", "sim/d"]
    assert "sim/b is forgotten" in caplog.text
