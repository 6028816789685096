"""The one table of metrics: name, kind, unit, attributes, what it means, what is normal, and where its value is.

`telemetry.py` exports it and docs/metrics.md shows it (`python -m tapeline.streams.metrics docs/metrics.md` writes
its table anew). Names follow OpenTelemetry's conventions, units are UCUM.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import psutil

from tapeline.schemas.frames import Lane
from tapeline.streams.stats import Durations, PartitionStats, RoleStats, WatchdogState

Attributes = tuple[str, ...]
"""Values, in the order of the metric's attributes."""
Value = int | float | Durations
Points = Iterator[tuple[Attributes, Value]]


class Kind(StrEnum):
    """How a metric behaves."""

    COUNTER = "counter"
    """Only grows while the process lives."""
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """One row. points: from the roles of this process and the time (ns) to attributes and values."""

    name: str
    kind: Kind
    unit: str
    attributes: tuple[str, ...]
    meaning: str
    normal: str
    points: Callable[[Sequence[RoleStats], int], Points]

    @property
    def prometheus_name(self) -> str:
        """The name in Prometheus, as OpenTelemetry's rules make it: `a.b` in `s` is `a_b_seconds`."""
        suffix = {"s": "_seconds", "By": "_bytes"}.get(self.unit, "")
        return self.name.replace(".", "_") + suffix + ("_total" if self.kind is Kind.COUNTER else "")


def _partition(
    name: str, kind: Kind, unit: str, meaning: str, normal: str, read: Callable[[PartitionStats, int], Value | None]
) -> Metric:
    # A counter of a partition that went stays where it is: one that vanishes and comes back looks like a restart.
    def points(roles: Sequence[RoleStats], now_ns: int) -> Points:
        for role in roles:
            for number, one in list(role.partitions.items()):  # in one step: the role may add one meanwhile
                if (one.held or kind is Kind.COUNTER) and (value := read(one, now_ns)) is not None:
                    yield (role.name, role.topic, str(number)), value

    return Metric(f"tapeline.partition.{name}", kind, unit, ("role", "topic", "partition"), meaning, normal, points)


def _role(
    name: str, kind: Kind, unit: str, meaning: str, normal: str, read: Callable[[RoleStats, int], Value]
) -> Metric:
    def points(roles: Sequence[RoleStats], now_ns: int) -> Points:
        for role in roles:
            yield (role.name,), read(role, now_ns)

    return Metric(f"tapeline.{name}", kind, unit, ("role",), meaning, normal, points)


def _process(
    name: str, kind: Kind, unit: str, meaning: str, normal: str, read: Callable[[psutil.Process, int], Value]
) -> Metric:
    def points(roles: Sequence[RoleStats], now_ns: int) -> Points:
        yield (), read(_this_process, now_ns)

    return Metric(f"process.{name}", kind, unit, (), meaning, normal, points)


_this_process = psutil.Process()


def _held(role: RoleStats) -> list[PartitionStats]:
    return [one for one in list(role.partitions.values()) if one.held]


def _snapshot_age(one: PartitionStats, now_ns: int) -> float | None:
    return max(now_ns - one.snapshot_time_ns, 0) / 1e9 if one.snapshot_time_ns else None


def _duplicates(roles: Sequence[RoleStats], now_ns: int) -> Points:
    for role in roles:
        for number, one in list(role.partitions.items()):
            for packed, frames in list(one.duplicates.items()):
                yield (role.name, role.topic, str(number), lane_text(packed)), frames


def _watchdog(roles: Sequence[RoleStats], now_ns: int) -> Points:
    for role in roles:
        for state in WatchdogState:
            yield (role.name, state.value), int(role.watchdog is state)


def _cpu_time(roles: Sequence[RoleStats], now_ns: int) -> Points:
    times = _this_process.cpu_times()
    yield ("user",), times.user
    yield ("system",), times.system


def lane_text(packed: int) -> str:
    """Return a lane as people read it: `raw partition-ticks partition`."""
    return "{}-{}".format(*Lane.unpack(packed))


COUNTER, GAUGE, HISTOGRAM = Kind.COUNTER, Kind.GAUGE, Kind.HISTOGRAM

METRICS: tuple[Metric, ...] = (
    _partition(
        "lag",
        GAUGE,
        "{record}",
        "Records of the input that the role has not taken yet (`persist*`: some more wait for the database).",
        "0 to a few while data flows. Growing: the role is slower than its input, start more workers. "
        "Above 0 and not moving: `tapeline status` says why.",
        lambda one, _: one.lag if one.lag >= 0 else None,
    ),
    _partition(
        "offset.next",
        GAUGE,
        "{record}",
        "The first offset that the role has not taken yet.",
        "Grows with the input; falls to the newest snapshot at a restart.",
        lambda one, _: one.next_offset if one.next_offset >= 0 else None,
    ),
    _partition(
        "records",
        COUNTER,
        "{record}",
        "Kafka records that were processed.",
        "Steady while data flows. Many records with few items each are small frames, which cost more.",
        lambda one, _: one.records,
    ),
    _partition(
        "items",
        COUNTER,
        "{item}",
        "What those records held: messages (`normalize`), ticks (`logic`, `bars`; `persist-ticks`: that it keeps), "
        "bars (`persist-bars`), signals (`persist`).",
        "The rate of your market. Divided by records: how full frames are.",
        lambda one, _: one.items,
    ),
    _partition(
        "io",
        COUNTER,
        "By",
        "Bytes of those records, uncompressed.",
        "About 64 bytes a tick, 150 a raw message, 400 a signal.",
        lambda one, _: one.bytes,
    ),
    _partition(
        "snapshot.age",
        GAUGE,
        "s",
        "Time since the newest snapshot was confirmed: what a restart reads again.",
        "Up to `snapshot_seconds` while data flows. A partition without new data needs no new snapshot.",
        _snapshot_age,
    ),
    _partition(
        "snapshot.size",
        GAUGE,
        "By",
        "Size of the newest snapshots of the partition.",
        "Kilobytes, steady; grows with the number of instruments. 0 before a worker saved its first one, and always "
        "for `persist*`, whose state is in the database. The most for one snapshot is 8 MiB.",
        lambda one, _: one.snapshot_bytes,
    ),
    _partition(
        "overtaken",
        COUNTER,
        "{message}",
        "Messages of a live connection, from a process that another one had followed by then: passed over.",
        "0; grows for a moment after a process that reads a venue was frozen, and is harmless: its follower has them.",
        lambda one, _: one.overtaken,
    ),
    Metric(
        "tapeline.lane.duplicates",
        COUNTER,
        "{frame}",
        ("role", "topic", "partition", "lane"),
        "Frames (`persist`: signals) that came again and were skipped. A lane is `raw partition-ticks partition` "
        "(`persist`: `-signals partition`). For `persist*` a write that was repeated because its answer was lost "
        "counts, too.",
        "0; grows by some seconds of frames after a kill, a rebalance or a zombie, and is harmless.",
        _duplicates,
    ),
    _role(
        "role.partitions",
        GAUGE,
        "{partition}",
        "Partitions that this worker has.",
        "Over all workers of a role: the number of partitions of its input.",
        lambda role, _: len(_held(role)),
    ),
    _role(
        "role.paused",
        GAUGE,
        "{partition}",
        "Of those, partitions that are not fetched for now, because enough records wait.",
        "0; above 0 under full load.",
        lambda role, _: sum(one.paused for one in _held(role)),
    ),
    _role(
        "role.buffered",
        GAUGE,
        "{record}",
        "Records that were fetched and wait to be handed to the agent.",
        "0 to a few; bounded under full load.",
        lambda role, _: role.buffered,
    ),
    _role(
        "role.rejected",
        COUNTER,
        "{record}",
        "What could not be processed and went to topic `rejected`.",
        "0. Look into the topic: each has its reason and origin.",
        lambda role, _: role.rejected,
    ),
    _role(
        "role.rebalances",
        COUNTER,
        "{rebalance}",
        "How often the partitions of this worker were assigned anew.",
        "1 or 2 after a worker came or went; otherwise still.",
        lambda role, _: role.rebalances,
    ),
    _role(
        "role.processing.duration",
        HISTOGRAM,
        "s",
        "Time to process one record; `persist*`: with its wait for a database that is behind.",
        "About 1 ms for 1,000 messages or ticks.",
        lambda role, _: role.processing,
    ),
    _role(
        "role.checkpoint.duration",
        HISTOGRAM,
        "s",
        "Time from starting a checkpoint until outputs and state are confirmed.",
        "Below 100 ms; far below `snapshot_seconds`.",
        lambda role, _: role.checkpoints,
    ),
    _role(
        "role.restore.duration",
        HISTOGRAM,
        "s",
        "Time from getting partitions until their state is there.",
        "Below 1 s.",
        lambda role, _: role.restores,
    ),
    _role(
        "role.handover.duration",
        HISTOGRAM,
        "s",
        "Time from losing partitions until another worker may go on.",
        "Below 2 s.",
        lambda role, _: role.handovers,
    ),
    _role(
        "role.handover.longest",
        GAUGE,
        "s",
        "The longest of those.",
        "Below 2 s.",
        lambda role, _: role.handovers.longest,
    ),
    _role(
        "producer.records",
        COUNTER,
        "{record}",
        "Records sent: outputs, snapshots, rejected ones.",
        "Steady while data flows.",
        lambda role, _: role.producer.records_sent,
    ),
    _role(
        "producer.io",
        COUNTER,
        "By",
        "Bytes of those records, uncompressed, and 64 for each.",
        "Steady while data flows.",
        lambda role, _: role.producer.bytes_sent,
    ),
    _role(
        "producer.unconfirmed.records",
        GAUGE,
        "{record}",
        "Records sent and not yet confirmed by the brokers.",
        "0 to some hundred.",
        lambda role, _: role.producer.unconfirmed_records,
    ),
    _role(
        "producer.unconfirmed.size",
        GAUGE,
        "By",
        "Their bytes, and 64 for each.",
        "Far below 64 MiB, where sending waits.",
        lambda role, _: role.producer.unconfirmed_bytes,
    ),
    _role(
        "producer.unconfirmed.age",
        GAUGE,
        "s",
        "How long they have waited since the brokers last confirmed anything.",
        "Below 100 ms; seconds mean brokers that are slow or away.",
        lambda role, now_ns: role.producer.unconfirmed_seconds(now_ns),
    ),
    Metric(
        "tapeline.watchdog.state",
        GAUGE,
        "",
        ("role", "state"),
        "1 for the state the watchdog is in, 0 for the others; `tapeline status` and the log say why.",
        "`ok`. `suspect`: something does not move; if that lasts, `ending`: the process ends and starts afresh.",
        _watchdog,
    ),
    Metric(
        "process.cpu.time",
        COUNTER,
        "s",
        ("cpu.mode",),
        "Processor time of this worker.",
        "Below 0.02 s a second when idle; at most a little above 1 s a second.",
        _cpu_time,
    ),
    _process(
        "memory.usage",
        GAUGE,
        "By",
        "Resident memory of this worker.",
        "100 to 400 MiB, steady after warm-up.",
        lambda process, _: process.memory_info().rss,
    ),
    _process(
        "thread.count",
        GAUGE,
        "{thread}",
        "Threads of this worker.",
        "Steady.",
        lambda process, _: process.num_threads(),
    ),
    _process(
        "uptime",
        GAUGE,
        "s",
        "Time since this worker started.",
        "Grows; one that falls was restarted (its log says why).",
        lambda process, now_ns: max(now_ns / 1e9 - process.create_time(), 0.0),
    ),
)
"""Every metric of a worker."""


def page_table() -> str:
    """Return the table of docs/metrics.md."""
    lines = ["| metric | in Prometheus | kind, unit | attributes | meaning | normal |", "|---|---|---|---|---|---|"]
    for one in METRICS:
        attributes = ", ".join(f"`{name}`" for name in one.attributes)
        unit = f"{one.kind}, `{one.unit}`" if one.unit else one.kind.value
        name = f"| `{one.name}` | `{one.prometheus_name}` |"
        lines.append(f"{name} {unit} | {attributes} | {one.meaning} | {one.normal} |")
    return "\n".join(lines) + "\n"


_BEGIN, _END = "<!-- table: begin -->\n", "<!-- table: end -->\n"


def with_table(page: str) -> str:
    """Return the page with the table of today between its two marks; raises ValueError if a mark is missing."""
    before, _, rest = page.partition(_BEGIN)
    _, mark, after = rest.partition(_END)
    if not mark:
        raise ValueError(f"the page lacks {_BEGIN.strip()} or {_END.strip()}")
    return before + _BEGIN + page_table() + _END + after


if __name__ == "__main__":
    file = Path(sys.argv[1])
    file.write_text(with_table(file.read_text()))
