"""A short form of `make soak`."""

import pytest

from tests.soak.__main__ import soak


@pytest.mark.slow
@pytest.mark.timeout(420)
def test_every_tick_of_two_minutes_arrives_once() -> None:
    said: list[str] = []
    verdict, rows = soak(120, 20_000, said.append)
    assert verdict.faults == [], (verdict, rows)
    assert len(rows) == 2
    assert verdict.signals_per_second > 1
