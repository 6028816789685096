"""The watchdog's judgement, with facts and time made by hand; and that it looks at the role and its group."""

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from tapeline.streams import watchdog
from tapeline.streams.stats import PartitionStats, RoleStats, WatchdogState
from tapeline.streams.watchdog import Facts, Judge, Watchdog

STUCK_SECONDS = 30.0


def watch(judge: Judge, start: int, seconds: int, facts: Facts | None = None, **changes: object) -> tuple[float, str]:
    """Look once a second from `start` on at the same facts; the loop runs unless a change says otherwise."""
    worst = (0.0, "")
    for now in range(start, start + seconds + 1):
        seen = facts or Facts()
        seen.loop_seconds = float(now)
        for name, value in changes.items():
            setattr(seen, name, value)
        worst = judge.look(float(now), seen)
    return worst


def test_nothing_to_do_is_no_reason() -> None:
    facts = Facts(partitions={"raw[0]": (10, 10), "raw[1]": (0, 0)})
    assert watch(Judge(0), 1, 300, facts) == (0, "")


def test_a_partition_with_data_that_does_not_move_is_named() -> None:
    judge = Judge(0)
    seconds, what = watch(judge, 1, 40, Facts(partitions={"raw[0]": (10, 12), "raw[1]": (5, 5)}))
    assert seconds > STUCK_SECONDS
    assert what == "raw[0] does not move (10 of 12), for 40 s"


def test_a_partition_that_moves_slowly_is_well() -> None:
    judge = Judge(0)
    for now in range(1, 200):
        facts = Facts(partitions={"raw[0]": (now // 20, 1_000_000)}, loop_seconds=float(now))
        seconds, _ = judge.look(float(now), facts)
        assert seconds <= 20


def test_a_partition_may_wait_for_its_turn_while_others_keep_the_role_busy() -> None:
    judge = Judge(0)
    for now in range(1, 200):
        partitions = {"raw[0]": (10, 12), "raw[1]": (now, 1_000_000)}
        seconds, _ = judge.look(float(now), Facts(partitions=partitions, behind=True, loop_seconds=float(now)))
        assert seconds < 20, "a tenth"
    for now in range(200, 400):
        partitions = {"raw[0]": (10, 12), "raw[1]": (now, 1_000_000)}
        seconds, what = judge.look(float(now), Facts(partitions=partitions, behind=True, loop_seconds=float(now)))
    assert seconds > STUCK_SECONDS, "but not for ever"
    assert what == "raw[0] does not move (10 of 12), for 398 s"


def test_a_busy_role_in_which_nothing_moves_any_more_is_stuck() -> None:
    judge = Judge(0)
    for now in range(1, 20):
        partitions = {"raw[0]": (10, 12), "raw[1]": (now, 1_000_000)}
        judge.look(float(now), Facts(partitions=partitions, behind=True, loop_seconds=float(now)))
    still = Facts(partitions={"raw[0]": (10, 12), "raw[1]": (19, 1_000_000)}, behind=True)
    seconds, _ = watch(judge, 20, 40, still)
    assert seconds > STUCK_SECONDS


def test_a_stuck_partition_is_seen_beside_one_that_moves() -> None:
    judge = Judge(0)
    for now in range(1, 40):
        partitions = {"raw[0]": (10, 12), "raw[1]": (now, 1_000_000)}
        seconds, what = judge.look(float(now), Facts(partitions=partitions, loop_seconds=float(now)))
    assert (seconds, what) == (38, "raw[0] does not move (10 of 12), for 38 s")


def test_data_that_comes_late_is_waited_for_from_then_on() -> None:
    judge = Judge(0)
    watch(judge, 1, 100, Facts(partitions={"raw[0]": (10, 10)}))
    seconds, _ = watch(judge, 102, 5, Facts(partitions={"raw[0]": (10, 11)}))
    assert seconds == 6  # since the last look at which nothing was due


def test_a_role_that_waits_for_its_database_is_well() -> None:
    judge = Judge(0)
    facts = Facts(partitions={"signals[0]": (0, 100)}, waits_for="the database")
    assert watch(judge, 1, 300, facts) == (0, "")
    seconds, _ = watch(judge, 302, 3, Facts(partitions={"signals[0]": (0, 100)}))
    assert seconds <= 4, "what it waited is not held against it"


def test_a_partition_whose_broker_confirms_nothing_is_stuck_whatever_others_do() -> None:
    seconds, what = watch(Judge(0), 1, 40, Facts(unconfirmed=("ticks[2]", 5.0)))
    assert (seconds, what) == (36, "the broker does not confirm what was sent to ticks[2], for 36 s")


def test_a_lost_membership_that_does_not_come_back_is_stuck() -> None:
    seconds, what = watch(Judge(0), 1, 40, lost_seconds=5.0)
    assert seconds == 36
    assert "membership" in what


def test_a_group_that_never_says_which_partitions_are_ours_is_stuck_once_others_had_their_time() -> None:
    assert watch(Judge(0), 1, 90, joining_seconds=100.0) == (0, "")
    seconds, what = watch(Judge(0), 1, 140, joining_seconds=100.0)
    assert seconds == 41
    assert what == "the group does not say which partitions are ours, others had their time, for 41 s"


def test_a_loop_that_hangs_is_stuck() -> None:
    seconds, what = watch(Judge(0), 1, 40, loop_seconds=2.0)
    assert (seconds, what) == (39, "the event loop does not run, for 39 s")


def test_a_process_that_stood_still_itself_begins_anew() -> None:
    """SIGSTOP and SIGCONT: an hour went by in which nobody could move."""
    judge = Judge(0)
    facts = Facts(partitions={"raw[0]": (10, 12)}, unconfirmed=("ticks[2]", 1.0))
    watch(judge, 1, 10, facts)
    facts.loop_seconds = 10.0
    seconds, _ = judge.look(3600.0, facts)
    assert seconds == 0
    seconds, _ = watch(judge, 3601, 35, facts)
    assert seconds > STUCK_SECONDS, "but from then on it counts"


class Broken:
    """A group that cannot be asked."""

    @property
    def paused(self) -> bool:
        raise ZeroDivisionError


LONG_AGO = -1000.0
GROUP = {
    "topic": "raw", "partitions": [0], "asking": False, "paused": False, "lost_seconds": None, "joining_seconds": None
}  # fmt: skip


def group(end: int = 3, **changes: Any) -> Any:
    """A group whose partition 0, of which the role has 3 records, ends at `end`."""
    return SimpleNamespace(**GROUP | changes, end_offset=lambda _: end)


def role(slowest: tuple[str, float] | None = None) -> Any:
    """A role with a watchdog that has no patience."""
    worker = SimpleNamespace(stuck_seconds=0.05, session_timeout_seconds=0.0)
    stats = RoleStats("normalize", "raw", {0: PartitionStats(next_offset=3)})
    producer, settings = SimpleNamespace(slowest=slowest), SimpleNamespace(worker=worker)
    return SimpleNamespace(name="normalize", stats=stats, producer=producer, settings=settings, waits_for="")


@pytest.mark.parametrize(
    ("watched", "members", "reason"),
    [
        (role(), group(end=5), "the watchdog ends this process: raw[0] does not move (3 of 5), for"),
        (role(), group(lost_seconds=LONG_AGO), "the watchdog ends this process: the membership of the group was lost"),
        (role(), group(joining_seconds=LONG_AGO), "the watchdog ends this process: the group does not say"),
        (role(("ticks[1]", LONG_AGO)), group(), "the watchdog ends this process: the broker does not confirm"),
        (role(), Broken(), "the watchdog failed: ZeroDivisionError"),
    ],
)
def test_what_stands_still_ends_the_process(
    watched: Any, members: Any, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ended(watched, members, monkeypatch).startswith(reason)
    assert watched.stats.watchdog == (WatchdogState.OK if "failed" in reason else WatchdogState.ENDING)


def test_a_loop_that_hangs_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    reason = ended(role(), group(), monkeypatch, hangs=True)
    assert reason.startswith("the watchdog ends this process: the event loop does not run, for")


def ended(watched: Any, members: Any, monkeypatch: pytest.MonkeyPatch, *, hangs: bool = False) -> str:
    """Return why the watchdog of this role ended the process."""
    monkeypatch.setattr(watchdog, "LOOK_SECONDS", 0.01)
    found: list[str] = []
    seen = threading.Event()

    def end(reason: str) -> None:
        found.append(reason)
        seen.set()

    async def run() -> None:
        looking = Watchdog(watched, members, end)
        looking.start()
        if hangs:
            seen.wait(10)
        else:
            await asyncio.to_thread(seen.wait, 10)
        looking.stop()

    asyncio.run(run())
    assert found, "it sees nothing"
    return found[0]
