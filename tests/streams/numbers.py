"""Hand-made numbers of a worker, for the tests of everything that shows them."""

from tapeline.schemas import Lane
from tapeline.streams.stats import RoleStats, WatchdogState
from tapeline.streams.workers import WorkerStats

SECOND_NS = 1_000_000_000


def a_role(
    name: str = "logic",
    topic: str = "ticks",
    *,
    lags: tuple[int, ...] = (0, 7),
    items: int = 1000,
    snapshot_ns: int = 1,
) -> RoleStats:
    """A role with one partition a lag, each 100 records far."""
    role = RoleStats(name, topic)
    role.hold(range(len(lags)))
    for number, lag in enumerate(lags):
        one = role.partitions[number]
        one.took(100 + number, items, 64 * items)
        one.end_offset = one.next_offset + lag
        one.snapshot_time_ns, one.snapshot_bytes = snapshot_ns, 4096
    return role


def a_busy_worker(snapshot_ns: int = 1) -> WorkerStats:
    """Two roles with every number in use."""
    logic, persist = a_role(snapshot_ns=snapshot_ns), a_role("persist", "signals", lags=(3,), snapshot_ns=snapshot_ns)
    logic.partitions[0].skipped(Lane(2, 0).pack(), 5)
    logic.partitions[0].skipped(Lane(3, 0).pack())
    logic.partitions[1].paused = True
    for seconds in (0.00005, 0.0001, 0.5, 100.0):
        logic.processing.add(seconds)
        logic.handovers.add(seconds)
    logic.watchdog, logic.watchdog_reason = WatchdogState.SUSPECT, 'ticks[0] does not move, "why"\nnobody knows'
    logic.rejected, logic.buffered, logic.rebalances = 2, 12, 3
    logic.producer.records_sent, logic.producer.bytes_sent = 50, 5000
    logic.producer.records_confirmed, logic.producer.bytes_confirmed = 40, 4000
    logic.producer.waiting_since_ns = snapshot_ns
    return WorkerStats("logic-0", 42, [logic, persist])
