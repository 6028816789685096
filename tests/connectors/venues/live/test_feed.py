"""The way of a connection into `raw`: when frames go, and that it costs nothing to wait for the broker."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tapeline.connectors.venues import Message
from tapeline.connectors.venues.live import feed as feed_module
from tapeline.connectors.venues.live.feed import Feed
from tapeline.schemas import RawFrame
from tapeline.streams.settings import FramesSettings

WAIT_MS = 20


class Broker:
    """A Sender that confirms only while it is `answering`, and takes records only while it is `roomy`."""

    def __init__(self) -> None:
        self.frames: list[list[bytes]] = []
        self.all: list[RawFrame] = []
        self.room = 0  # after so many frames it takes none; 0: it always does
        self.roomy = asyncio.Event()
        self.roomy.set()
        self.answering = asyncio.Event()
        self.answering.set()

    async def send(self, topic: str, value: bytes, *, key: str, partition: int) -> None:
        await self.roomy.wait()
        frame = RawFrame.decode(value)
        self.all.append(frame)
        if len(frame):
            self.frames.append([bytes(message) for message in frame.messages()])
        if len(self.frames) == self.room:
            self.roomy.clear()

    async def flush(self) -> None:
        await self.answering.wait()

    async def partition_count(self, topic: str) -> int:
        return 1

    @property
    def messages(self) -> list[bytes]:
        return [message for frame in self.frames for message in frame]


async def sent(broker: Broker, count: int) -> int:
    """Wait until the broker has so many messages; return how many turns of the loop that took."""
    turns = 0
    async with asyncio.timeout(5):
        while len(broker.messages) < count:
            turns += 1
            await asyncio.sleep(0)
    return turns


def run_feed(story: Callable[[Feed, Broker], Awaitable[None]], wait_ms: float = WAIT_MS) -> Broker:
    """Run a feed while something happens."""

    async def run() -> Broker:
        broker = Broker()
        frames = FramesSettings(wait_ms=wait_ms)
        feed = Feed("binance/0", 0, broker, frames, epoch=1, messages_max=100_000, holding=lambda: True)
        running = asyncio.create_task(feed.run())
        await story(feed, broker)
        running.cancel()
        await asyncio.wait([running])
        return broker

    return asyncio.run(run())


def put(feed: Feed, first: int, count: int) -> None:
    for number in range(first, first + count):
        feed.put(Message(feed._clock(), b"%d" % number))


def numbers(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


def test_a_message_alone_goes_at_once() -> None:
    async def story(feed: Feed, broker: Broker) -> None:
        await asyncio.sleep(0.01)  # the first is no exception
        for number in range(3):
            put(feed, number, 1)
            await sent(broker, number + 1)

    broker = run_feed(story)
    assert broker.frames == [[b"0"], [b"1"], [b"2"]]


def test_behind_a_frame_under_way_they_go_together_with_its_confirmation() -> None:
    async def story(feed: Feed, broker: Broker) -> None:
        broker.answering.clear()
        put(feed, 0, 1)
        await sent(broker, 1)
        for number in range(1, 6):
            put(feed, number, 1)
            await asyncio.sleep(0.002)
        assert broker.frames == [[b"0"]]
        broker.answering.set()
        await sent(broker, 6)

    broker = run_feed(story, wait_ms=5_000)
    assert broker.frames == [[b"0"], numbers(6)[1:]]


def test_without_a_confirmation_they_wait_no_longer_than_they_may(monkeypatch: pytest.MonkeyPatch) -> None:
    moves = 0
    move = Feed._move

    async def counted(feed: Feed) -> None:
        nonlocal moves
        moves += 1
        await move(feed)

    monkeypatch.setattr(Feed, "_move", counted)

    async def story(feed: Feed, broker: Broker) -> None:
        broker.answering.clear()
        put(feed, 0, 1)
        await sent(broker, 1)
        put(feed, 1, 5)
        await sent(broker, 6)

    run_feed(story)
    assert moves <= 5, "it does not go round while it waits"


def test_what_has_piled_up_goes_in_full_frames_and_others_run_meanwhile() -> None:
    async def story(feed: Feed, broker: Broker) -> None:
        put(feed, 0, 5_000)
        assert await sent(broker, 5_000) >= 5_000 // feed_module.TAKEN_AT_ONCE

    broker = run_feed(story)
    assert broker.messages == numbers(5_000)
    assert max(map(len, broker.frames)) >= feed_module.TAKEN_AT_ONCE
    assert len(broker.frames) <= 20, "one by one it would be thousands"


def test_frames_that_are_not_short_come_less_often() -> None:
    async def story(feed: Feed, broker: Broker) -> None:
        put(feed, 0, feed_module.BUSY_MESSAGES + 1)
        await sent(broker, feed_module.BUSY_MESSAGES + 1)
        await asyncio.sleep(0.002)
        put(feed, feed_module.BUSY_MESSAGES + 1, 1)
        assert feed._alarm is not None
        assert feed._alarm.when() == pytest.approx(feed._sent_s + feed_module.FRAME_SECONDS_BUSY)

    run_feed(story)


def test_time_does_not_overtake_what_waits() -> None:
    async def story(feed: Feed, broker: Broker) -> None:
        now_ns = feed._clock()
        for number in range(2_000):  # of three seconds, as after a broker that did not answer
            feed.put(Message(now_ns - 3_000_000_000 + number * 1_500_000, b"%d" % number))
        await sent(broker, 2_000)

    broker = run_feed(story)
    clock_ns = 0
    for frame in broker.all:
        if len(frame):
            assert frame.recv_ns.min() >= clock_ns - 2_000_000, "no message is behind a clock that passed it"
        clock_ns = max(clock_ns, frame.time_ns)
    assert clock_ns > 0


def test_who_is_stopped_while_the_producer_is_full_loses_nothing() -> None:
    async def run() -> Broker:
        broker = Broker()
        broker.room = 2
        frames = FramesSettings(wait_ms=WAIT_MS, messages_max=100)
        feed = Feed("binance/0", 0, broker, frames, epoch=1, messages_max=100_000, holding=lambda: True)
        running = asyncio.create_task(feed.run())
        put(feed, 0, 1_000)
        await sent(broker, 200)
        await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait([running])
        broker.roomy.set()
        await feed.drain()
        return broker

    assert asyncio.run(run()).messages == numbers(1_000)


@pytest.mark.parametrize("size", [1, 20 * 1024 * 1024])
def test_a_queue_that_is_full_is_roomy_when_half_of_it_is_sent(size: int) -> None:
    data = b"x" * size

    async def run() -> None:
        broker = Broker()
        feed = Feed("a/0", 0, broker, FramesSettings(), epoch=1, messages_max=10, holding=lambda: True)
        states: list[bool] = []
        while not feed.full and len(states) < 20:
            feed.put(Message(1, data))
            states.append(feed.roomy)
        full_at = 10 if size == 1 else -(-feed_module.BYTES_MAX // size)
        assert len(states) == full_at
        assert states == [number <= full_at // 2 for number in range(1, full_at + 1)]

    asyncio.run(run())
