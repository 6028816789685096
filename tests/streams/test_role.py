"""A role takes each record once, in order: what was taken is passed over, and a hole ends it."""

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from tapeline.schemas import Snapshot
from tapeline.schemas.topics import RAW
from tapeline.streams.role import LostRecordError, Role, Unit
from tapeline.streams.settings import load_settings


class Writes(Role):
    """Writes down what it is asked to process; `bad` cannot be processed."""

    name = "writes"
    input = RAW

    def __init__(self) -> None:
        super().__init__(load_settings(env={"TAPELINE_KAFKA__BOOTSTRAP_SERVERS": "nowhere:9"}))
        self.processed: list[tuple[int, int, bytes]] = []

    async def load(self, partitions: frozenset[int]) -> dict[int, int]:
        raise AssertionError

    def forget(self, partitions: Iterable[int]) -> None:
        """Nothing is kept."""

    async def process(self, partition: int, offset: int, record: bytes) -> int:
        if record == b"bad":
            raise ZeroDivisionError
        self.processed.append((partition, offset, record))
        return 1


def test_each_record_is_taken_once_and_only_as_the_next_one() -> None:
    async def run() -> None:
        role = Writes()
        role.start_at(0, 5)
        for offset in (4, 5, 5, 6):
            await role.receive(0, offset, b"%d" % offset)
        await role.receive(1, 0, b"of a partition that is not ours")
        assert role.processed == [(0, 5, b"5"), (0, 6, b"6")]
        with pytest.raises(LostRecordError, match=r"raw\[0\]: record 8 came, 7 was due"):
            await role.receive(0, 8, b"8")
        assert role.expected(0) == {"0": 7}

    asyncio.run(run())


def test_a_partition_with_a_record_that_was_half_processed_is_never_saved() -> None:
    async def run() -> None:
        role = Writes()
        role.start_at(0, 5)
        await role.receive(0, 5, b"5")
        with pytest.raises(ZeroDivisionError):
            await role.receive(0, 6, b"bad")
        assert role._changed == set()
        with pytest.raises(KeyError):
            role.next_offset(0)

    asyncio.run(run())


class Order:
    """A producer and store that write down in which order they are asked, and confirm when they are told to."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.marked, self.may_confirm = asyncio.Event(), asyncio.Event()

    def mark(self) -> str:
        self.asked.append("mark")
        self.marked.set()
        return "outputs"

    async def confirmed(self, mark: str) -> None:
        assert mark == "outputs"
        await self.may_confirm.wait()
        self.asked.append("outputs confirmed")

    async def save(self, partition: int, unit: str, snapshot: Snapshot) -> int:
        self.asked.append(f"save {unit} up to {snapshot.next_offset}")
        return 1

    async def flush(self) -> None:
        self.asked.append("state confirmed")


class Saves(Writes):
    """Has state."""

    def capture(self, partitions: Iterable[int]) -> list[Unit]:
        return [Unit(one, str(one), Snapshot(self.next_offset(one), 0)) for one in partitions]


def test_an_offset_passes_once_outputs_and_then_state_are_confirmed() -> None:
    async def run() -> None:
        role: Any = Saves()
        role._producer = role._store = order = Order()
        role.start_at(0, 5)
        await role.receive(0, 5, b"5")
        checkpoint = asyncio.create_task(role.checkpoint())
        await order.marked.wait()
        await role.receive(0, 6, b"6")  # the flow does not stop meanwhile, and what comes now is not saved
        assert order.asked == ["mark"], "nothing is saved before the broker has the outputs"
        assert not checkpoint.done()
        order.may_confirm.set()
        assert await checkpoint == {0: 6}
        assert order.asked == ["mark", "outputs confirmed", "save 0 up to 6", "state confirmed"]

    asyncio.run(run())
