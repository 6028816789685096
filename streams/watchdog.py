"""Ends a process that stands still: a thread beside the loop, so that it also sees a loop that hangs.

`transport.role_app` starts one a role. Consumers can stall for ever in silence; a fresh process starts from the last
snapshot and loses nothing, so ending one too many costs a moment, ending one too few costs the market.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tapeline.streams.group_consumer import GroupConsumer
from tapeline.streams.role import Role
from tapeline.streams.stats import WatchdogState

LOOK_SECONDS = 1.0
TURNS = 10
"""So many times as long a partition may wait for its turn while others keep the role busy."""
OTHERS_SECONDS_MAX = 90
"""So long others may save and restore their state, after the session of one that is gone, while we wait to join."""
SUSPECT_SHARE = 0.2
"""Of the time after which a process is ended: so long something may stand still before it is worth showing."""


@dataclass(slots=True)
class Facts:
    """What there is to know at one moment; times are monotonic seconds."""

    partitions: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Of the partitions that are ours, by name: next offset and end."""
    behind: bool = False
    """More came than the role can take at once: partitions wait their turn."""
    unconfirmed: tuple[str, float] | None = None
    """The partition that has not confirmed what was sent for longest, and since when."""
    lost_seconds: float | None = None
    """When the group membership was lost; None while there is one."""
    joining_seconds: float | None = None
    """Since when the group owes us the first assignment and others have had their time; None while it does not."""
    loop_seconds: float = 0.0
    """When the loop last showed that it runs."""
    waits_for: str = ""
    """What the role waits for outside Kafka."""


class Judge:
    """Decides from facts alone; time is handed in."""

    def __init__(self, now: float) -> None:
        self._looked = now
        self._awake = now  # since when we have looked without a pause
        self._moved: dict[str, tuple[int, float, float]] = {}
        """Partition -> how far it was, since when, and since when that counts."""

    def look(self, now: float, facts: Facts) -> tuple[float, str]:
        """Return how bad it is, in seconds, and what stands still for how long: the worst; (0, "") if all is well."""
        if now - self._looked > 5 * LOOK_SECONDS:
            # We stood still ourselves (a stopped process, a suspended machine): nothing is known about that time.
            self._moved = {what: (done, now, now) for what, (done, _, _) in self._moved.items()}
            self._awake = facts.loop_seconds = now
        self._looked = now
        due = {} if facts.waits_for else facts.partitions
        busy = facts.behind and any(self._moved.get(what, one)[0] != one[0] for what, one in due.items())
        moved: dict[str, tuple[int, float, float]] = {}
        found = [(0.0, "")]
        for what, (done, end) in due.items():
            before, since, counts = self._moved.get(what, (done, now, now))
            if done >= end or done != before:
                since = counts = now
            elif busy:
                counts = now
            moved[what] = done, since, counts
            badness = max(now - counts, (now - since) / TURNS)
            found.append((badness, f"{what} does not move ({done} of {end}), for {now - since:.0f} s"))
        self._moved = moved
        still = {"the event loop does not run": facts.loop_seconds}
        if facts.unconfirmed is not None:
            what, since = facts.unconfirmed
            still[f"the broker does not confirm what was sent to {what}"] = max(since, self._awake)
        if facts.lost_seconds is not None:
            still["the membership of the group was lost and does not come back"] = facts.lost_seconds
        if facts.joining_seconds is not None:
            what = "the group does not say which partitions are ours, others had their time"
            still[what] = max(facts.joining_seconds, self._awake)
        found += [(now - since, f"{what}, for {now - since:.0f} s") for what, since in still.items()]
        return max(found, key=lambda one: one[0])


class Watchdog:
    """Looks once a second; `end` is called in its thread with the reason, once and at last."""

    def __init__(self, role: Role, group: GroupConsumer, end: Callable[[str], None]) -> None:
        self._role = role
        self._stuck_seconds = role.settings.worker.stuck_seconds
        self._group = group
        self._end = end
        self._loop = asyncio.get_running_loop()
        self._loop_seconds = time.monotonic()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"watchdog-{role.name}", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more: the process ends in its own time."""
        self._stopping.set()

    def _run(self) -> None:
        try:
            self._watch()
        except Exception as error:  # nobody would see that nobody looks any more
            self._end(f"the watchdog failed: {type(error).__name__}: {error}")

    def _watch(self) -> None:
        judge = Judge(time.monotonic())
        stats = self._role.stats
        while not self._stopping.wait(LOOK_SECONDS) and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._loop_runs)
            now = time.monotonic()
            badness, reason = judge.look(now, self._facts())
            if badness > self._stuck_seconds:
                stats.watchdog, stats.watchdog_reason = WatchdogState.ENDING, reason
                self._end(f"the watchdog ends this process: {reason}")
                return
            suspect = badness > self._stuck_seconds * SUSPECT_SHARE
            stats.watchdog = WatchdogState.SUSPECT if suspect else WatchdogState.OK
            stats.watchdog_reason = reason if suspect else ""

    def _loop_runs(self) -> None:
        self._loop_seconds = time.monotonic()

    def _facts(self) -> Facts:
        facts = Facts(
            unconfirmed=self._role.producer.slowest,
            behind=self._group.paused,
            lost_seconds=self._group.lost_seconds,
            loop_seconds=self._loop_seconds,
            waits_for=self._role.waits_for,
        )
        if (joining := self._group.joining_seconds) is not None:
            facts.joining_seconds = joining + OTHERS_SECONDS_MAX + self._role.settings.worker.session_timeout_seconds
        for partition in () if self._group.asking else self._group.partitions:
            stats, end = self._role.stats.partitions.get(partition), self._group.end_offset(partition)
            if stats is not None:
                # The client hears of the end with its first answer, also of an empty partition.
                due = stats.next_offset + 1 if end is None else end
                facts.partitions[f"{self._group.topic}[{partition}]"] = (stats.next_offset, due)
        return facts
