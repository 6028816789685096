"""What the transport does with records, and that work which others wait for is bounded (tests/system has the rest)."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest

from tapeline.schemas import TapelineError
from tapeline.streams import transport
from tapeline.streams.group_consumer import Batch
from tapeline.streams.stats import RoleStats
from tapeline.streams.transport import Consumer, drive


class Ended(BaseException):
    """In place of the process's end."""


class Slow:
    """A role whose work on its partitions never ends."""

    name = "slow"
    waits_for = "the database"
    stats = RoleStats("slow", "raw")

    async def _never(self, partitions: object) -> NoReturn:
        await asyncio.Event().wait()
        raise AssertionError

    gain = give = lose = _never


def end_process(role: object, error: BaseException) -> NoReturn:
    raise Ended(str(error))


@pytest.mark.parametrize(
    ("work", "limit", "reason"),
    [
        ("gain", "RESTORE_SECONDS_MAX", "its state was not there after 0.01 s, it waits for the database"),
        ("give", "HANDOVER_SECONDS_MAX", r"its work was not safe \(is the broker away\?\) after 0.01 s"),
        ("lose", "HANDOVER_SECONDS_MAX", "a record was not done after 0.01 s"),
    ],
)
def test_what_others_wait_for_ends_in_time_or_ends_the_process(
    monkeypatch: pytest.MonkeyPatch, work: str, limit: str, reason: str
) -> None:
    monkeypatch.setattr(transport, limit, 0.01)
    monkeypatch.setattr(transport, "end_process", end_process)
    consumer: Any = Consumer.__new__(Consumer)
    consumer.role, consumer.app = Slow(), SimpleNamespace(rebalancing=True)

    async def run() -> None:
        await getattr(consumer, work)([0, 1])

    with pytest.raises(Ended, match=reason):
        asyncio.run(run())


class Kept:
    """A role with units whose snapshots end before `expected`, over a partition of records from `first` to `end`."""

    name = "kept"
    input = SimpleNamespace(name="raw")

    def __init__(self, expected: dict[str, int], first: int, end: int, refused: dict[str, str]) -> None:
        self.units, self.first, self.end = expected, first, end
        self.refused = {0: refused}
        self.store = self
        self.starts_at: int | None = None

    async def gain(self, partitions: object) -> dict[int, int]:
        return {0: min(self.units.values())}

    async def ends(self, topic: str, partition: int) -> tuple[int, int]:
        return self.first, self.end

    def expected(self, partition: int) -> dict[str, int]:
        return self.units

    def start_at(self, partition: int, offset: int) -> None:
        self.starts_at = offset


def restored(
    expected: dict[str, int], first: int, end: int, refused: dict[str, str] | None = None
) -> tuple[dict[int, int], int | None]:
    """Return where reading starts, and where the role was told to start otherwise."""
    consumer: Any = Consumer.__new__(Consumer)
    consumer.role = Kept(expected, first, end, refused or {})
    return asyncio.run(consumer._restore([0])), consumer.role.starts_at


@pytest.mark.parametrize(("first", "refused"), [(0, {}), (5, {}), (0, {"a": "a newer one"}), (5, {"a": "a newer one"})])
def test_reading_starts_behind_the_snapshot(first: int, refused: dict[str, str]) -> None:
    assert restored({"a": 5, "b": 7}, first, 10, refused) == ({0: 5}, None)


def test_records_that_were_removed_before_they_were_read_are_named(caplog: pytest.LogCaptureFixture) -> None:
    assert restored({"a": 5, "b": 9, "new": 0}, 8, 10) == ({0: 8}, 8)
    assert [record.getMessage() for record in caplog.records] == [
        "raw[0]: records 5 to 7 were removed before kept/a read them"
    ]
    caplog.clear()
    assert restored({"new": 0}, 8, 10) == ({0: 8}, 8)
    assert caplog.records == [], "what is new starts with what there is"


def test_a_snapshot_of_records_that_are_gone_is_refused() -> None:
    with pytest.raises(TapelineError, match=r"kept/b has read raw\[0\] up to 12, but the topic ends at 10"):
        restored({"a": 5, "b": 12}, 0, 10)


def test_a_state_that_cannot_be_made_anew_is_refused() -> None:
    cannot = r"it is damaged\. Its state cannot be made anew, because raw\[0\] begins at 8"
    with pytest.raises(TapelineError, match=cannot):
        restored({"a": 9, "b": 0}, 8, 10, {"b": "it is damaged"})
    with pytest.raises(TapelineError, match=cannot):  # an older one was there, which does not reach
        restored({"b": 7}, 8, 10, {"b": "it is damaged"})


def test_a_state_that_was_refused_and_is_not_missed_is_no_reason_to_end() -> None:
    refused = {"a": "an older one reaches", "gone": "nobody has this unit any more"}
    assert restored({"a": 9, "new": 0}, 8, 10, refused) == ({0: 8}, 8)


class KafkaRecord:
    """As much of confluent-kafka's message as the transport looks at."""

    def __init__(self, partition: int, offset: int) -> None:
        self.partition = lambda: partition
        self.offset = lambda: offset
        self.value = lambda: b"%d" % offset
        self.timestamp = lambda: (1, 1_700_000_000_000 + offset)


class Group:
    """A member of a group with these batches."""

    def __init__(self, batches: Iterable[Batch] = ()) -> None:
        self.batches = deque(batches)
        self.assignments = {0: 1, 1: 1}
        self.done_batches = 0

    async def next_batch(self) -> Batch:
        if not self.batches:
            raise asyncio.CancelledError
        return self.batches.popleft()

    def done(self) -> None:
        self.done_batches += 1

    def is_current(self, partition: int, assignment: int) -> bool:
        return self.assignments.get(partition) == assignment

    @property
    def waiting_batches(self) -> int:
        return len(self.batches)


class Took:
    """A role that writes down what it got; `producer.hurry` is told whether more comes."""

    name = "took"
    input = SimpleNamespace(name="raw")

    def __init__(self) -> None:
        self.records: list[tuple[int, int, bytes]] = []
        self.more_comes: list[bool] = []
        self.producer = self

    async def receive(self, partition: int, offset: int, record: bytes) -> None:
        self.records.append((partition, offset, record))

    def hurry(self, *, more_comes: bool = False) -> None:
        self.more_comes.append(more_comes)


def consumer_of(role: Took, group: Group) -> Any:
    consumer: Any = Consumer.__new__(Consumer)
    consumer.role, consumer.group = role, group
    consumer.app = SimpleNamespace(should_stop=True)  # so that `_drain_messages` ends when it is cancelled
    consumer._stopped = consumer._crashed = asyncio.Event()
    return consumer


def messages_of(consumer: Any) -> list[Any]:
    """Return the messages that the batches of the consumer's group become."""
    found: list[Any] = []

    async def callback(message: Any) -> None:
        found.append(message)

    consumer.callback = callback
    asyncio.run(consumer._drain_messages(SimpleNamespace(should_stop=False)))
    return found


def fetched(role: Took, *batches: Batch) -> tuple[Any, list[Any]]:
    """Return a consumer with nothing left to fetch, and the messages that the batches became."""
    consumer = consumer_of(role, Group(batches))
    messages = messages_of(consumer)
    consumer.group = Group()
    return consumer, messages


def stream_of(consumer: Any, messages: Iterable[Any]) -> Any:
    """Return a Faust stream in which these messages wait."""
    waiting = deque(messages)

    async def events() -> AsyncIterator[Any]:
        while waiting:
            message = waiting.popleft()
            yield SimpleNamespace(message=message, value=message.value)

    queue = SimpleNamespace(empty=lambda: not waiting)
    app = SimpleNamespace(consumer=consumer, sensors=SimpleNamespace(on_message_out=lambda *_: None))
    return SimpleNamespace(app=app, channel=SimpleNamespace(queue=queue), events=events)


def batch(*records: tuple[int, int], assignments: dict[int, int] | None = None) -> Any:
    found: Any = [KafkaRecord(partition, offset) for partition, offset in records]
    return Batch(found, {0: 1, 1: 1} if assignments is None else assignments)


def test_records_of_a_partition_that_came_together_are_one_message_of_faust() -> None:
    role, group = Took(), Group([batch((1, 5), (1, 6), (0, 9), (1, 7)), batch((0, 10))])
    messages = messages_of(consumer_of(role, group))
    found = [(one.tp.topic, one.partition, one.offset, [record.offset() for record in one.value]) for one in messages]
    assert found == [("raw", 1, 6, [5, 6]), ("raw", 0, 9, [9]), ("raw", 1, 7, [7]), ("raw", 0, 10, [10])]
    assert [one.timestamp for one in messages] == [1_700_000_000 + one.offset / 1000 for one in messages]
    assert group.done_batches == 2


def test_records_of_a_partition_that_has_gone_are_dropped_and_nothing_that_was_held_back_waits_for_them() -> None:
    batches = [batch((1, 5), (0, 9), assignments={0: 1}), batch((1, 6), assignments={1: 1})]
    role, group = Took(), Group(batches)
    del group.assignments[1]
    [message] = messages_of(consumer_of(role, group))
    assert (message.partition, role.more_comes, group.done_batches) == (0, [False, False], 2)


def test_the_role_gets_every_record_in_order_and_batches_wait_for_company_only_while_more_comes() -> None:
    role = Took()
    consumer, messages = fetched(role, batch((0, 1), (0, 2), (1, 7)), batch((0, 3)))
    asyncio.run(drive(role, stream_of(consumer, messages)))  # type: ignore[arg-type]
    assert role.records == [(0, 1, b"1"), (0, 2, b"2"), (1, 7, b"7"), (0, 3, b"3")]
    assert role.more_comes == [True, True, True, False]
    consumer.group.batches.append(batch((0, 4)))  # waits, and Faust does not have it yet
    role.more_comes.clear()
    asyncio.run(drive(role, stream_of(consumer, messages[:1])))  # type: ignore[arg-type]
    assert role.more_comes == [True, True]


@pytest.mark.parametrize("next_assignment", [None, 2])
def test_what_is_left_of_a_partition_that_goes_is_passed_over(next_assignment: int | None) -> None:
    role = Took()
    consumer, messages = fetched(role, batch((0, 1), (0, 2), (0, 3), (1, 7)))

    async def receive(partition: int, offset: int, record: bytes) -> None:
        role.records.append((partition, offset, record))
        if offset == 2:
            del consumer.group.assignments[0]
            if next_assignment:
                consumer.group.assignments[0] = next_assignment

    role.receive = receive  # type: ignore[method-assign]
    asyncio.run(drive(role, stream_of(consumer, messages)))  # type: ignore[arg-type]
    assert role.records == [(0, 1, b"1"), (0, 2, b"2"), (1, 7, b"7")]
    assert role.more_comes[-1] is False


def test_who_else_wants_a_turn_gets_one_between_two_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "TURN_SECONDS", -1)  # every turn is over at once
    role = Took()
    consumer, messages = fetched(role, batch(*((0, offset) for offset in range(10))))
    seen: list[int] = []

    async def other() -> None:
        while len(role.records) < 10:
            seen.append(len(role.records))
            await asyncio.sleep(0)

    async def both() -> None:
        await asyncio.gather(drive(role, stream_of(consumer, messages)), other())  # type: ignore[arg-type]

    asyncio.run(both())
    assert seen == list(range(1, 10))


def test_an_error_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "end_process", end_process)
    role = Took()
    consumer, messages = fetched(role, batch((0, 1)))

    async def receive(partition: int, offset: int, record: bytes) -> None:
        raise ValueError("broken")

    role.receive = receive  # type: ignore[method-assign]
    with pytest.raises(Ended, match="broken"):
        asyncio.run(drive(role, stream_of(consumer, messages)))  # type: ignore[arg-type]
