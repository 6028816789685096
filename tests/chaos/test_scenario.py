"""A seed is a scenario, and every kind of disturbance comes up in a form that can do harm."""

import zlib
from collections import Counter
from pathlib import Path

import pytest

from tests.chaos.inputs import NAMES, prepare
from tests.chaos.scenario import (
    BROKER_STOP_SECONDS,
    DATABASE_SECONDS,
    ROLES,
    SESSION_SECONDS,
    Kind,
    draw,
    undisturbed,
)

SEEDS = range(1, 301)
SCENARIOS = [draw(seed, NAMES) for seed in SEEDS]


def test_a_seed_is_a_scenario() -> None:
    assert [draw(seed, NAMES) for seed in SEEDS] == SCENARIOS
    assert len({str(one) for one in SCENARIOS}) == len(SCENARIOS)


def test_three_hundred_seeds_have_everything_of_each_role() -> None:
    found = Counter((one.kind, one.role) for scenario in SCENARIOS for one in scenario.disturbances)
    for kind in Kind:
        for role in [""] if kind.startswith(("broker", "database")) else ROLES:
            assert found[kind, role] >= 5, f"{kind} {role}"
    away = Counter((one.kind, one.lasts_seconds) for scenario in SCENARIOS for one in scenario.disturbances)
    assert away[Kind.BROKER_STOP, BROKER_STOP_SECONDS] >= 3
    assert away[Kind.DATABASE, DATABASE_SECONDS] >= 3
    assert {scenario.input for scenario in SCENARIOS} == set(NAMES)


def test_disturbances_hit_workers_that_are_there_while_the_input_runs() -> None:
    for scenario in SCENARIOS:
        assert scenario.disturbances
        for one in scenario.disturbances:
            assert one.at_seconds <= scenario.input_seconds, scenario
            if one.role:
                assert one.worker < scenario.workers[one.role], scenario
            if one.kind is Kind.FREEZE:
                assert one.lasts_seconds > SESSION_SECONDS


@pytest.mark.parametrize("kind", Kind)
def test_kinds_can_be_chosen(kind: Kind) -> None:
    assert {one.kind for seed in SEEDS for one in draw(seed, NAMES, [kind]).disturbances} == {kind}


def test_short_ones_wait_for_seconds_only() -> None:
    assert max(one.lasts_seconds for seed in SEEDS for one in draw(seed, NAMES, short=True).disturbances) < 10


def test_an_undisturbed_run_is_one() -> None:
    assert undisturbed("sim").disturbances == ()


def test_connections_of_an_input_have_raw_partitions_of_their_own(tmp_path: Path) -> None:
    for name, connections in prepare(tmp_path).items():
        partitions = [zlib.crc32(connection.source.encode()) % 4 for connection in connections]
        assert len(set(partitions)) == len(partitions), name
