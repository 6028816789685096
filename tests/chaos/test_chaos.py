"""A short form of `make chaos`: every kind of disturbance, two at a time, with real servers and processes."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from tests.chaos.inputs import NAMES
from tests.chaos.run import Outcome
from tests.chaos.scenario import Kind, draw
from tests.chaos.session import session

SEED = 1
PAIRS = (
    (Kind.KILL, Kind.BROKER_STOP),
    (Kind.TERM, Kind.DATABASE),
    (Kind.FREEZE, Kind.SCALE),
    (Kind.TWIN, Kind.BROKER_KILL),
)
FOLDER = Path(".chaos")


@pytest.mark.slow
@pytest.mark.timeout(900)  # two minutes on two idle cores
def test_no_disturbance_changes_the_signals() -> None:
    outcomes: list[Outcome] = []
    scenarios = [draw(SEED, [NAMES[-1]], kinds, short=True) for kinds in PAIRS]
    asyncio.run(session(scenarios, FOLDER, outcomes.append))
    assert [difference for outcome in outcomes for difference in outcome.differences] == []
    assert len(outcomes) == 1 + len(PAIRS)
    assert all(outcome.signals > 1000 for outcome in outcomes)
    sent = Counter[str]()
    for outcome in outcomes:
        sent.update(outcome.signals_sent)
    assert sent.keys() >= {"SIGKILL", "SIGTERM", "SIGSTOP", "SIGCONT"}
    assert sum(outcome.restarts for outcome in outcomes) >= 2, "a worker that was killed or stopped came back"
    disturbed = {kind for outcome in outcomes for kind in outcome.kinds}
    assert disturbed == set(Kind)
