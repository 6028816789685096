"""The soak's judge: flat memory passes whatever it does while it warms up, growth and lag do not."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.soak.verdict import JUDGED, ROLES, Sample, judge, minutes

RATE = 20_000


def samples(
    rss: Callable[[float], float] = lambda _: 100e6, lag: Callable[[float], int] = lambda _: 300
) -> list[Sample]:
    """Ten minutes, a look every two seconds. rss: of the logic; lag: of the logic, in records."""
    found = []
    for seconds in range(0, 600, 2):
        memory = dict.fromkeys([*JUDGED, "kafka"], 100_000_000) | {"logic": int(rss(seconds))}
        found.append(
            Sample(
                seconds=seconds,
                rss_bytes=memory,
                pids=dict.fromkeys(ROLES, 7),
                lag_records=dict.fromkeys(ROLES, 200) | {"logic": lag(seconds)},
                input_records=dict.fromkeys(ROLES, 200 * seconds),
                messages=RATE * seconds,
                signals=10 * seconds,
            )
        )
    return found


def test_a_steady_platform_passes() -> None:
    verdict = judge(samples(), RATE)
    assert verdict.faults == []
    assert verdict.growth["logic"] == 0
    assert verdict.lag_seconds_max["logic"] == pytest.approx(1.5)
    assert verdict.messages_per_second == pytest.approx(RATE)
    assert verdict.signals_per_second == pytest.approx(10)


def test_growth_while_it_warms_up_and_single_peaks_are_nothing() -> None:
    def rss(seconds: float) -> float:
        return 100e6 + min(seconds, 170) * 1e6 + (50e6 if seconds % 100 == 0 else 0)

    assert judge(samples(rss), RATE).faults == []


@pytest.mark.parametrize(("bytes_a_second", "passes"), [(1_000, True), (10_000, False)])
def test_a_leak_fails(bytes_a_second: int, passes: bool) -> None:
    faults = judge(samples(lambda seconds: 100e6 + bytes_a_second * seconds), RATE).faults
    assert [fault.split(" by")[0] for fault in faults] == [] if passes else ["memory of logic grew"]


def test_the_caches_of_servers_are_not_judged() -> None:
    found = [replace(one, rss_bytes=one.rss_bytes | {"kafka": int(1e8 + 1e6 * one.seconds)}) for one in samples()]
    verdict = judge(found, RATE)
    assert verdict.faults == []
    assert verdict.growth["kafka"] > 0.5


def test_lag_that_grows_fails() -> None:
    [fault] = judge(samples(lag=lambda seconds: int(5 * seconds)), RATE).faults
    assert fault == "logic was 14.9 s behind, 10 s are allowed"


def test_a_feed_that_does_not_come_through_fails() -> None:
    [fault] = judge(samples(), 2 * RATE).faults
    assert fault == "20,000 messages a second went through, 40,000 were to"


def test_a_worker_that_was_started_again_fails() -> None:
    found = samples()
    found[200:] = [replace(one, pids=one.pids | {"persist": 8}) for one in found[200:]]
    assert judge(found, RATE).faults == ["persist was started again"]


def test_a_row_a_minute() -> None:
    rows = list(minutes(samples()))
    assert [row["minute"] for row in rows] == list(range(1, 11))
    assert rows[3]["rss_mb"]["logic"] == 100.0
    assert rows[3]["messages_per_second"] == RATE
    assert rows[3]["lag_seconds"]["logic"] == 1.5
