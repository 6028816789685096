"""A short form of `make chaos ARGS="--only venues"`: every venue, every fault."""

from collections import Counter

import pytest

from tests.chaos.venues import NAMES, many_runs
from tests.venue.market import CAPTURED, CAPTURES
from tests.venue.server import FAULTS

RUNS = 50


@pytest.mark.slow
@pytest.mark.timeout(400)  # 40 seconds on two idle cores
def test_no_fault_of_a_venue_is_passed_over_in_silence() -> None:
    outcomes = list(many_runs(range(1, RUNS + 1)))
    assert [(one.venue, one.seed, one.report.faults) for one in outcomes if one.report.faults] == []
    assert len(outcomes) == RUNS
    assert {one.venue for one in outcomes} == set(NAMES)
    done = sum((Counter(one.done) for one in outcomes), Counter[str]())
    assert done.keys() == set(FAULTS)
    assert {one.venue for one in outcomes if one.recorded} == (set(CAPTURED) if CAPTURES.is_dir() else set())
    assert all(one.report.trades or one.report.books for one in outcomes)
    gaps = sum((Counter(one.report.gaps) for one in outcomes), Counter[str]())
    assert gaps.keys() >= {"SEQUENCE", "DISCONNECT", "SILENCE", "CHECKSUM", "GARBAGE", "OVERLOAD"}
