"""From what workers, brokers and `tapeline up` say to one report: every partition, every process, what is wrong.

Pure: `status.py` gathers and prints.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tapeline.streams.feeds import OLD_NS, FeedProcess, FeedRow
from tapeline.streams.groups import ALL_INPUTS, INPUTS, Group
from tapeline.streams.metrics import lane_text
from tapeline.streams.stats import UNKNOWN, RoleStats, WatchdogState
from tapeline.streams.workers import WorkerStats

STALLED_NS = 5_000_000_000
"""A role that processes nothing for so long though records wait is reported."""

_PROBLEMS = {
    "stalled": "{role} does not move though records wait in {where}; its log says more",
    "not taken": "{role} has not taken {where} yet: its worker starts, or its log says why",
    "no worker": "{role} has no worker for {where}; `tapeline worker {role}` starts one",
}
"""States of partitions that need attention."""

Source = tuple[str, int, str]
"""One role in one process: address, process id, role."""


@dataclass(frozen=True, slots=True)
class PartitionRow:
    """One partition of a role's input; None = not known."""

    role: str
    topic: str
    partition: int
    worker: str | None
    lag: int | None
    items_per_second: float | None
    snapshot_age_seconds: float | None
    duplicates: Mapping[str, int]
    """By lane, `raw-ticks`."""
    state: str
    """`ok`, `paused`, `waiting` (for something else), `stalled`, `no worker`, `not taken` (a worker is there but has it
    not), `moving` (to another worker), `elsewhere` (a worker that was not asked)."""


@dataclass(frozen=True, slots=True)
class RoleRow:
    """One role in one worker."""

    role: str
    worker: str
    pid: int
    address: str
    partitions: int
    rejected: int
    unconfirmed_records: int
    rebalances: int
    restarts: int | None
    """By `tapeline up`; None = not started by it."""
    watchdog: str
    reason: str
    waits_for: str


@dataclass(frozen=True, slots=True)
class ProcessRow:
    """One process of `tapeline up`."""

    name: str
    phase: str
    pid: int | None
    restarts: int
    message: str


@dataclass(frozen=True, slots=True)
class Report:
    """Everything `tapeline status` shows."""

    partitions: Sequence[PartitionRow]
    roles: Sequence[RoleRow]
    processes: Sequence[ProcessRow]
    problems: Sequence[str]
    feeds: Sequence[FeedRow] = ()
    """Live connections to venues, of this machine."""

    @property
    def healthy(self) -> bool:
        """Whether nothing needs attention."""
        return not self.problems


@dataclass(frozen=True, slots=True)
class Heard:
    """What was heard at one moment. workers: by address; silent: address and why; groups: None = no broker to ask.

    pids: processes of the workers that were found, also of those that do not answer.
    """

    workers: Mapping[str, WorkerStats]
    silent: Mapping[str, str] = field(default_factory=dict)
    groups: Mapping[str, Group] | None = None
    processes: Sequence[ProcessRow] = ()
    problems: Sequence[str] = ()
    pids: frozenset[int] = frozenset()
    feeds: Sequence[FeedProcess] = ()
    time_ns: int = 0
    """This machine's clock when they were read."""


class Reporter:
    """Makes reports of what is heard, one after the other: rates and stalls are seen between them."""

    def __init__(self) -> None:
        self._items: dict[tuple[Source, int], tuple[int, int]] = {}  # of a partition: when, how many
        self._still: dict[Source, tuple[int, int, int]] = {}  # records done, since when it is that, last seen

    def report(self, heard: Heard) -> Report:
        """Return the report of this moment; the first one knows no rates."""
        restarts = {one.pid: one.restarts for one in heard.processes}
        rows: dict[tuple[str, int], PartitionRow] = {}
        roles = []
        sources = set()
        for address, worker in heard.workers.items():
            for role in worker.roles:
                sources.add(source := (address, worker.pid, role.name))
                roles.append(_role_row(role, worker, address, restarts.get(worker.pid)))
                stands = self._stands(source, role, worker.time_ns)
                for number, one in role.partitions.items():
                    if one.held:
                        rate = self._rate(source, number, one.items, worker.time_ns)
                        rows[role.name, number] = _row(worker, role, number, rate, stands)
        self._items = {key: value for key, value in self._items.items() if key[0] in sources}
        self._still = {key: value for key, value in self._still.items() if key in sources}
        for name, group in (heard.groups or {}).items():
            for number in group.ends:
                rows.setdefault((name, number), _row_of_group(name, number, group, name in {one.role for one in roles}))
        ordered = sorted(rows.values(), key=lambda row: (_order(row.role), row.partition))
        roles.sort(key=lambda row: (_order(row.role), row.worker))
        feeds = [row for process in heard.feeds for row in process.feeds]
        return Report(ordered, roles, heard.processes, _problems(heard, ordered, roles), feeds)

    @property
    def waits(self) -> bool:
        """Whether somewhere records wait and none was processed since the report before: too short a time to judge."""
        return any(since_ns < seen_ns for _, since_ns, seen_ns in self._still.values())

    def _rate(self, source: Source, number: int, items: int, now_ns: int) -> float | None:
        before_ns, before = self._items.get((source, number), (now_ns, items))
        self._items[source, number] = now_ns, items
        return (items - before) * 1e9 / (now_ns - before_ns) if now_ns > before_ns else None

    def _stands(self, source: Source, role: RoleStats, now_ns: int) -> bool:
        """Say whether the role has processed nothing for long though records wait.

        The role as a whole: with many records waiting, its partitions take turns of seconds. The watchdog judges each.
        """
        if all(one.lag <= 0 for one in role.partitions.values() if one.held):
            self._still.pop(source, None)
            return False
        records = sum(one.records for one in role.partitions.values())
        before, since_ns, _ = self._still.get(source, (UNKNOWN, now_ns, now_ns))
        if records != before:
            since_ns = now_ns
        self._still[source] = records, since_ns, now_ns
        return now_ns - since_ns >= STALLED_NS


def _row(worker: WorkerStats, role: RoleStats, number: int, rate: float | None, stands: bool) -> PartitionRow:
    one = role.partitions[number]
    age = max(worker.time_ns - one.snapshot_time_ns, 0) / 1e9 if one.snapshot_time_ns else None
    duplicates = {lane_text(lane): frames for lane, frames in sorted(one.duplicates.items())}
    stalled = stands and one.lag > 0
    state = "waiting" if role.waits_for else "stalled" if stalled else "paused" if one.paused else "ok"
    lag = one.lag if one.lag >= 0 else None
    return PartitionRow(role.name, role.topic, number, worker.worker, lag, rate, age, duplicates, state)


def _role_row(role: RoleStats, worker: WorkerStats, address: str, restarts: int | None) -> RoleRow:
    return RoleRow(
        role.name,
        worker.worker,
        worker.pid,
        address,
        sum(one.held for one in role.partitions.values()),
        role.rejected,
        role.producer.unconfirmed_records,
        role.rebalances,
        restarts,
        role.watchdog.value,
        role.watchdog_reason,
        role.waits_for,
    )


def _row_of_group(role: str, number: int, group: Group, has_worker: bool) -> PartitionRow:
    end = group.ends[number]
    lag = max(end - group.committed.get(number, 0), 0) if end >= 0 else None
    owner = group.owners.get(number)
    state = "elsewhere" if owner else "moving" if not group.settled else "not taken" if has_worker else "no worker"
    return PartitionRow(role, ALL_INPUTS[role].name, number, owner, lag, None, None, {}, state)


def _problems(heard: Heard, rows: Iterable[PartitionRow], roles: Iterable[RoleRow]) -> list[str]:
    problems = list(heard.problems)
    problems += [one.message or f"{one.name} is {one.phase}" for one in heard.processes if one.phase != "running"]
    problems += [
        f"{one.name} (process {one.pid}) starts: it says nothing yet"
        for one in heard.processes
        if one.phase == "running" and one.name in ALL_INPUTS and one.pid not in heard.pids
    ]
    problems += [f"the worker at {address} does not answer: {why}" for address, why in heard.silent.items()]
    for role in roles:
        if role.waits_for:
            problems.append(f"{role.role} in {role.worker} waits for {role.waits_for}")
        if role.watchdog != WatchdogState.OK:
            problems.append(f"{role.role} in {role.worker} is {role.watchdog}: {role.reason or 'no reason given'}")
    if heard.groups is not None:
        missing = [topic.name for role, topic in INPUTS.items() if role not in heard.groups]
        if missing:
            problems.append(f"topics are missing: {', '.join(missing)}; `tapeline topics create` makes them")
    problems += [problem for process in heard.feeds for problem in _feed_problems(process, heard.time_ns)]
    by_role: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row.state in _PROBLEMS:
            by_role.setdefault((row.role, row.state), []).append(str(row.partition))
    for (name, state), partitions in by_role.items():
        topic = ALL_INPUTS[name].name if name in ALL_INPUTS else name
        problems.append(_PROBLEMS[state].format(role=name, where=f"{topic} {', '.join(partitions)}"))
    return problems


def _feed_problems(process: FeedProcess, now_ns: int) -> Iterator[str]:
    if now_ns - process.time_ns > OLD_NS:
        names = ", ".join(row.source for row in process.feeds)
        yield f"the process that reads {names} ({process.pid}) has said nothing for {OLD_NS // 10**9} s"
    for row in process.feeds:
        if row.state == "connecting":
            yield f"{row.source} is not connected; the log of its process says why"
        if row.unlisted:
            venue = row.source.partition("/")[0]
            yield f"{venue} does not list {', '.join(row.unlisted)}: is that its spelling?"
        if row.refusal:
            yield f"{row.source}: the venue {row.refusal}"


def _order(role: str) -> int:
    return list(ALL_INPUTS).index(role) if role in ALL_INPUTS else len(ALL_INPUTS)
