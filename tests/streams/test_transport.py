"""Work that others wait for during a rebalance is bounded: what takes longer ends the process, with the reason."""

import asyncio
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest

from tapeline.streams import transport
from tapeline.streams.stats import RoleStats
from tapeline.streams.transport import Consumer


class Ended(BaseException):
    """In place of the process's end."""


class Slow:
    """A role whose work on its partitions never ends."""

    name = "slow"
    stats = RoleStats("slow", "raw")

    async def _never(self, partitions: object) -> NoReturn:
        await asyncio.Event().wait()
        raise AssertionError

    gain = give = lose = _never


def end_process(role: object, error: BaseException) -> NoReturn:
    raise Ended(str(error))


@pytest.mark.parametrize(
    ("work", "limit", "reason"),
    [
        ("gain", "RESTORE_SECONDS_MAX", "its state was not there after 0.01 s"),
        ("give", "HANDOVER_SECONDS_MAX", r"its work was not safe \(is the broker away\?\) after 0.01 s"),
        ("lose", "HANDOVER_SECONDS_MAX", "a record was not done after 0.01 s"),
    ],
)
def test_what_others_wait_for_ends_in_time_or_ends_the_process(
    monkeypatch: pytest.MonkeyPatch, work: str, limit: str, reason: str
) -> None:
    monkeypatch.setattr(transport, limit, 0.01)
    monkeypatch.setattr(transport, "end_process", end_process)
    consumer: Any = Consumer.__new__(Consumer)
    consumer.role, consumer.app = Slow(), SimpleNamespace(rebalancing=True)

    async def run() -> None:
        await getattr(consumer, work)([0, 1])

    with pytest.raises(Ended, match=reason):
        asyncio.run(run())
