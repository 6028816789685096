"""Reports from hand-made numbers and a clock turned by hand: rates, lags, what stands still, what needs attention."""

from collections.abc import Mapping
from dataclasses import replace
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from tapeline.schemas import Lane
from tapeline.streams.feeds import FeedProcess, FeedRow
from tapeline.streams.groups import Group, inputs
from tapeline.streams.settings import load_settings
from tapeline.streams.stats import UNKNOWN, RoleStats, WatchdogState
from tapeline.streams.status_report import Heard, PartitionRow, ProcessRow, Report, Reporter
from tapeline.streams.status_view import view
from tapeline.streams.workers import WorkerStats
from tests.streams.numbers import SECOND_NS, a_role

HERE, THERE = "127.0.0.1:9", "127.0.0.1:10"
ALL_WELL: Mapping[str, Group] = {
    "normalize": Group({0: 5}, {0: 5}, {0: "normalize-7"}),
    "logic": Group({0: 5, 1: 5}, {0: 5, 1: 5}, {0: "logic-7", 1: "logic-7"}),
    "persist": Group({0: 5}, {0: 5}, {0: "persist-7"}),
}


def a_worker(*roles: RoleStats, name: str = "logic-0", pid: int = 42, seconds: float = 0) -> WorkerStats:
    return WorkerStats(name, pid, list(roles), 1000 * SECOND_NS + int(seconds * SECOND_NS))


def rows(report: Report) -> dict[tuple[str, int], PartitionRow]:
    return {(row.role, row.partition): row for row in report.partitions}


def states(report: Report) -> dict[tuple[str, int], str]:
    return {key: row.state for key, row in rows(report).items()}


def test_rates_are_measured_between_two_reports_on_the_workers_clock() -> None:
    role, reporter = a_role(lags=(0, 7), items=1000), Reporter()
    first = rows(reporter.report(Heard({HERE: a_worker(role)})))
    assert [row.items_per_second for row in first.values()] == [None, None]
    role.partitions[0].items += 5000
    second = rows(reporter.report(Heard({HERE: a_worker(role, seconds=2)})))
    assert [row.items_per_second for row in second.values()] == [2500, 0]
    assert [row.lag for row in second.values()] == [0, 7]


def test_a_worker_that_started_again_has_no_rate_at_first() -> None:
    reporter = Reporter()
    reporter.report(Heard({HERE: a_worker(a_role(items=5000))}))
    report = reporter.report(Heard({HERE: a_worker(a_role(items=10), pid=43, seconds=1)}))
    assert [row.items_per_second for row in report.partitions] == [None, None]


def test_age_of_the_snapshot_and_duplicates_by_lane() -> None:
    role = a_role(lags=(0,), snapshot_ns=1000 * SECOND_NS - 1_500_000_000)
    role.partitions[0].skipped(Lane(3, 0).pack(), 2)
    role.partitions[0].skipped(Lane(1, 0).pack())
    [row] = Reporter().report(Heard({HERE: a_worker(role)})).partitions
    assert row.snapshot_age_seconds == 1.5
    assert row.duplicates == {"1-0": 1, "3-0": 2}


def test_what_a_worker_does_not_know_is_not_invented() -> None:
    role = a_role(lags=(0,), snapshot_ns=0)
    role.partitions[0].end_offset = UNKNOWN
    [row] = Reporter().report(Heard({HERE: a_worker(role)})).partitions
    assert (row.lag, row.snapshot_age_seconds) == (None, None)


@pytest.mark.parametrize(
    ("lag", "moves", "seconds", "state"),
    [(3, False, 4.9, "ok"), (3, False, 5.0, "stalled"), (3, True, 60.0, "ok"), (0, False, 60.0, "ok")],
)
def test_records_that_wait_and_do_not_move_are_reported_after_five_seconds(
    lag: int, moves: bool, seconds: float, state: str
) -> None:
    role, reporter = a_role(lags=(lag,)), Reporter()
    reporter.report(Heard({HERE: a_worker(role)}))
    if moves:
        role.partitions[0].took(101, 1, 64)
        role.partitions[0].end_offset += 1
    report = reporter.report(Heard({HERE: a_worker(role, seconds=seconds)}))
    assert states(report) == {("logic", 0): state}
    assert report.healthy == (state == "ok")
    assert reporter.waits == (lag > 0 and not moves)
    if state == "stalled":
        assert report.problems == ["logic does not move though records wait in ticks 0; its log says more"]


def test_partitions_that_take_turns_do_not_stand_still() -> None:
    role, reporter = a_role(lags=(500, 500)), Reporter()
    for seconds in range(0, 60, 2):
        role.partitions[0].took(100 + seconds, 1, 64)
        report = reporter.report(Heard({HERE: a_worker(role, seconds=seconds)}))
    assert states(report) == {("logic", 0): "ok", ("logic", 1): "ok"}
    assert not reporter.waits


def test_a_partition_that_moved_on_another_worker_is_judged_anew() -> None:
    reporter = Reporter()
    reporter.report(Heard({HERE: a_worker(a_role(lags=(3,)))}))
    reporter.report(Heard({HERE: a_worker(a_role(lags=()), seconds=4)}))
    report = reporter.report(Heard({THERE: a_worker(a_role(lags=(3,)), name="logic-1", pid=43, seconds=6)}))
    assert states(report) == {("logic", 0): "ok"}


def test_only_partitions_that_are_held_are_the_workers() -> None:
    role = a_role(lags=(0, 0))
    role.hold([1])
    report = Reporter().report(Heard({HERE: a_worker(role)}))
    assert states(report) == {("logic", 1): "ok"}
    assert report.roles[0].partitions == 1


def test_what_no_worker_in_reach_has_comes_from_the_brokers() -> None:
    groups = {**ALL_WELL, "logic": Group({0: 10, 1: 20, 2: 30, 3: -1}, {1: 15, 2: 30}, {1: "logic-7"})}
    report = Reporter().report(Heard({}, groups=groups))
    found = {key[1]: (row.worker, row.lag, row.state) for key, row in rows(report).items() if key[0] == "logic"}
    assert found == {
        0: (None, 10, "no worker"),
        1: ("logic-7", 5, "elsewhere"),
        2: (None, 0, "no worker"),
        3: (None, None, "no worker"),
    }
    assert report.problems == ["logic has no worker for ticks 0, 2, 3; `tapeline worker logic` starts one"]


def test_what_a_worker_says_goes_before_what_the_brokers_say() -> None:
    groups = {**ALL_WELL, "logic": Group({0: 10, 1: 20}, {0: 0, 1: 15}, {0: "somebody"})}
    report = Reporter().report(Heard({HERE: a_worker(a_role(lags=(4,)))}, groups=groups))
    found = {key[1]: (row.worker, row.lag, row.state) for key, row in rows(report).items() if key[0] == "logic"}
    assert found == {0: ("logic-0", 4, "ok"), 1: (None, 5, "not taken")}
    assert report.problems == ["logic has not taken ticks 1 yet: its worker starts, or its log says why"]


def test_partitions_on_their_way_to_another_worker_are_no_problem() -> None:
    groups = {**ALL_WELL, "logic": Group({0: 5}, {0: 5}, settled=False)}
    report = Reporter().report(Heard({}, groups=groups))
    assert states(report)["logic", 0] == "moving"
    assert report.healthy


def test_a_topic_that_is_missing_is_a_problem() -> None:
    groups = {name: group for name, group in ALL_WELL.items() if name != "normalize"}
    report = Reporter().report(Heard({}, groups=groups))
    assert report.problems == ["topics are missing: raw; `tapeline topics create` makes them"]


def test_a_role_that_only_some_want_is_missed_where_it_is_wanted() -> None:
    assert Reporter().report(Heard({}, groups=ALL_WELL)).healthy
    groups = {**ALL_WELL, "persist-ticks": Group({0: 5, 1: 5})}
    report = Reporter().report(Heard({}, groups=groups))
    assert report.problems == ["persist-ticks has no worker for ticks 0, 1; `tapeline worker persist-ticks` starts one"]
    assert report.partitions[-1].role == "persist-ticks"


def test_roles_that_keep_ticks_are_wanted_by_the_settings() -> None:
    nowhere = {"TAPELINE_KAFKA__BOOTSTRAP_SERVERS": "nowhere:9"}
    assert list(inputs(load_settings(env=nowhere))) == ["normalize", "logic", "persist"]
    wanted = inputs(load_settings(env=nowhere | {"TAPELINE_DATABASE__STORE_TICKS": "sim:*"}))
    assert {role: topic.name for role, topic in wanted.items()} == {
        "normalize": "raw",
        "logic": "ticks",
        "persist": "signals",
        "persist-ticks": "ticks",
    }


def test_rows_come_in_the_order_of_the_way_of_a_tick() -> None:
    workers = {
        HERE: a_worker(a_role("persist", "signals", lags=(0,)), a_role("normalize", "raw", lags=(0,))),
        THERE: a_worker(a_role(lags=(0, 0)), name="logic-1", pid=43),
    }
    report = Reporter().report(Heard(workers))
    assert list(rows(report)) == [("normalize", 0), ("logic", 0), ("logic", 1), ("persist", 0)]
    assert [row.role for row in report.roles] == ["normalize", "logic", "persist"]


def test_restarts_are_those_of_the_process() -> None:
    processes = [ProcessRow("logic", "running", 42, 3, ""), ProcessRow("kafka", "running", 40, 0, "")]
    workers = {HERE: a_worker(a_role()), THERE: a_worker(a_role(lags=()), name="by hand", pid=43)}
    report = Reporter().report(Heard(workers, processes=processes, pids=frozenset({42, 43})))
    assert {row.worker: row.restarts for row in report.roles} == {"logic-0": 3, "by hand": None}
    assert report.healthy


@pytest.mark.parametrize(
    ("heard", "problem"),
    [
        (Heard({}, silent={HERE: "timed out"}), f"the worker at {HERE} does not answer: timed out"),
        (
            Heard({}, processes=[ProcessRow("logic", "waiting", None, 1, "logic ended (signal 9); it starts again")]),
            "logic ended (signal 9); it starts again",
        ),
        (Heard({}, processes=[ProcessRow("kafka", "starting", None, 0, "")]), "kafka is starting"),
        (
            Heard({}, processes=[ProcessRow("logic", "running", 44, 1, "")]),
            "logic (process 44) starts: it says nothing yet",
        ),
        (Heard({}, problems=["Kafka does not answer"]), "Kafka does not answer"),
    ],
)
def test_what_needs_attention(heard: Heard, problem: str) -> None:
    assert Reporter().report(heard).problems == [problem]
    assert Reporter().report(replace(heard, groups=ALL_WELL)).problems == [problem]


@pytest.mark.parametrize("state", [WatchdogState.SUSPECT, WatchdogState.ENDING])
def test_a_watchdog_that_is_not_content(state: WatchdogState) -> None:
    role = a_role()
    role.watchdog, role.watchdog_reason = state, "ticks 0 did not move for 12 s"
    report = Reporter().report(Heard({HERE: a_worker(role)}))
    assert report.problems == [f"logic in logic-0 is {state}: ticks 0 did not move for 12 s"]
    assert (report.roles[0].watchdog, report.roles[0].reason) == (state, "ticks 0 did not move for 12 s")


def test_a_role_that_waits_for_something_else_says_so_and_is_not_stalled() -> None:
    role, reporter = a_role("persist", "signals", lags=(3,)), Reporter()
    role.waits_for = "the database"
    reporter.report(Heard({HERE: a_worker(role)}))
    report = reporter.report(Heard({HERE: a_worker(role, seconds=60)}))
    assert states(report) == {("persist", 0): "waiting"}
    assert report.problems == ["persist in logic-0 waits for the database"]


def feeds(time_ns: int = 0, **said: Any) -> FeedProcess:
    row = replace(FeedRow("kraken/0", "connected", 7, 1.5, 2), **said)
    return FeedProcess(1, 0.0, time_ns, [row])


@pytest.mark.parametrize(
    ("process", "words"),
    [
        (feeds(state="connecting"), "kraken/0 is not connected"),
        (feeds(unlisted=["BTC/XYZ"]), "kraken does not list BTC/XYZ: is that its spelling?"),
        (feeds(refusal="refuses subscribe of A/B: no such pair"), "kraken/0: the venue refuses subscribe of A/B"),
        (feeds(time_ns=-20_000_000_000), "the process that reads kraken/0 (1) has said nothing for 10 s"),
    ],
)
def test_a_live_connection_with_trouble_needs_attention(process: FeedProcess, words: str) -> None:
    report = Reporter().report(Heard({}, feeds=[process]))
    [problem] = report.problems
    assert words in problem


@pytest.mark.parametrize("state", ["connected", "standby"])
def test_live_connections_are_shown(state: str) -> None:
    report = Reporter().report(Heard({}, feeds=[feeds(state=state, losses={"SILENCE": 3, "CHECKSUM": 1})]))
    assert report.healthy
    out = StringIO()
    Console(width=120, file=out).print(view(report))
    [line] = [line for line in out.getvalue().splitlines() if line.startswith("kraken/0")]
    assert line.split() == ["kraken/0", state, "7", "2", "2", "silence", "3,", "checksum", "1"]
