"""What happens in a run: drawn from its seed, so that the seed alone repeats it. Pure; `__main__` draws."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

ROLES = ("normalize", "logic", "persist")
SESSION_SECONDS = 6
"""The session time-out of every worker: the shortest that brokers allow."""


class Kind(StrEnum):
    """What can be done to a running platform."""

    KILL = "kill"
    TERM = "term"
    FREEZE = "freeze"
    TWIN = "twin"
    SCALE = "scale"
    BROKER_STOP = "broker-stop"
    BROKER_KILL = "broker-kill"
    DATABASE = "database"


MEANING = {
    Kind.KILL: "SIGKILL of a worker",
    Kind.TERM: "SIGTERM of a worker",
    Kind.FREEZE: "SIGSTOP of a worker past the session time-out, then SIGCONT: it wakes up as a zombie",
    Kind.TWIN: "SIGSTOP of a worker, another one under its name, then SIGCONT: both run for a while",
    Kind.SCALE: "two more workers of a role for a while (1 -> 3 -> 1)",
    Kind.BROKER_STOP: "the broker is stopped for a while, 20 s in some runs",
    Kind.BROKER_KILL: "SIGKILL of the broker, started again at once",
    Kind.DATABASE: "the database is away for a while, a minute in some runs",
}
_WEIGHT = {
    Kind.KILL: 10,
    Kind.TERM: 3,
    Kind.FREEZE: 3,
    Kind.TWIN: 4,
    Kind.SCALE: 2,
    Kind.BROKER_STOP: 2,
    Kind.BROKER_KILL: 2,
    Kind.DATABASE: 2,
}
"""How often a kind is drawn, beside the others that are allowed."""
NOT_OF_WORKERS = {Kind.BROKER_STOP, Kind.BROKER_KILL, Kind.DATABASE}
FIRST_SECONDS = 0.3
BROKER_STOP_SECONDS, DATABASE_SECONDS = 20.0, 60.0
"""How long they are away at the longest."""


@dataclass(frozen=True, slots=True)
class Disturbance:
    """One thing that is done. at_seconds: after the first records came; lasts_seconds: until it is taken back."""

    kind: Kind
    at_seconds: float
    role: str = ""
    worker: int = 0
    lasts_seconds: float = 0.0

    def __str__(self) -> str:
        whom = f" {self.role}-{self.worker}" if self.role else ""
        how_long = f" for {self.lasts_seconds:.1f}" if self.lasts_seconds else ""
        return f"{self.kind}{whom} @{self.at_seconds:.1f}{how_long}"


@dataclass(frozen=True, slots=True)
class Scenario:
    """One run. workers: how many of each role; snapshot_seconds: how often they save their state."""

    seed: int
    input: str
    input_seconds: float
    workers: Mapping[str, int]
    snapshot_seconds: float
    disturbances: tuple[Disturbance, ...]

    def __str__(self) -> str:
        workers = "/".join(str(self.workers[role]) for role in ROLES)
        what = ", ".join(map(str, self.disturbances)) or "undisturbed"
        return f"{self.input} in {self.input_seconds:.1f} s, workers {workers}: {what}"


def undisturbed(name: str) -> Scenario:
    """Return the run of an input to which nothing happens."""
    return Scenario(0, name, 3.0, dict.fromkeys(ROLES, 1), 1.0, ())


def draw(seed: int, inputs: Sequence[str], kinds: Sequence[Kind] = tuple(Kind), *, short: bool = False) -> Scenario:
    """Return the scenario of a seed. short: nothing is away for longer than a few seconds."""
    chance = random.Random(seed)
    chosen = _choose(chance, kinds)
    workers = {role: chance.choice((1, 1, 1, 2)) for role in ROLES}
    input_seconds = chance.uniform(3.0, 5.0)
    found: list[Disturbance] = []
    for kind in chosen:
        role = "" if kind in NOT_OF_WORKERS else chance.choice(ROLES)
        at, lasts = chance.uniform(FIRST_SECONDS, input_seconds), 0.0
        match kind:
            case Kind.FREEZE:
                at, lasts = chance.uniform(0.5, 2.0), SESSION_SECONDS + chance.uniform(0.5, 2.5)
                workers[role] = max(workers[role], chance.choice((1, 2, 2, 2)))  # mostly somebody takes over
                input_seconds = max(input_seconds, at + lasts + chance.uniform(-1.0, 1.5))
            case Kind.TWIN:
                lasts = chance.uniform(0.3, 4.0)
                input_seconds = max(input_seconds, at + lasts + 0.5)
            case Kind.SCALE:
                at, lasts = chance.uniform(0.0, 1.0), chance.uniform(2.0, 4.5)
                input_seconds = max(input_seconds, at + lasts + 1.5)
            case Kind.BROKER_STOP:
                lasts = _how_long(chance, 0.15, BROKER_STOP_SECONDS, short)
            case Kind.DATABASE:
                lasts = _how_long(chance, 0.1, DATABASE_SECONDS, short)
        found.append(Disturbance(kind, at, role, lasts_seconds=lasts))
    for one in found:
        if one.kind is Kind.SCALE:
            workers[one.role] = 1
    hit = [replace(one, worker=chance.randrange(workers[one.role])) if one.role else one for one in found]
    hit.sort(key=lambda one: one.at_seconds)
    name, snapshot_seconds = chance.choice(inputs), chance.choice((0.5, 1.0, 2.0))
    return Scenario(seed, name, input_seconds, workers, snapshot_seconds, tuple(hit))


def _choose(chance: random.Random, kinds: Sequence[Kind]) -> list[Kind]:
    """Draw one to three kinds, workers' ends more than once, what takes long at most once and not with its like."""
    often = {Kind.KILL: chance.randint(1, 3), Kind.TERM: chance.randint(1, 2), Kind.TWIN: 1}
    broker, chosen = {Kind.BROKER_STOP, Kind.BROKER_KILL}, list[Kind]()
    for _ in range(chance.choice((1, 1, 2, 2, 3))):
        left = [kind for kind in kinds if kind not in chosen and not (kind in broker and broker.intersection(chosen))]
        if left:
            [kind] = chance.choices(left, [_WEIGHT[one] for one in left])
            chosen += [kind] * often.get(kind, 1)
    return chosen


def _how_long(chance: random.Random, share: float, longest: float, short: bool) -> float:
    is_long, seconds = chance.random() < share and not short, chance.uniform(1.0, 5.0)
    return longest if is_long else seconds
