"""Tasks that run together end with the error that a user can read."""

import asyncio

import pytest

from tapeline.connectors.venues.command import together
from tapeline.schemas import UnavailableError


async def _fail() -> None:
    raise UnavailableError("no broker")


def test_the_error_of_a_task_or_of_the_body_comes_out_as_it_is() -> None:
    async def in_a_task() -> None:
        async with together() as group, together() as inner:
            group.create_task(asyncio.sleep(60))
            inner.create_task(_fail())

    async def in_the_body() -> None:
        async with together() as group:
            group.create_task(asyncio.sleep(60))
            await _fail()

    for work in (in_a_task, in_the_body):
        with pytest.raises(UnavailableError, match="no broker"):
            asyncio.run(work())
