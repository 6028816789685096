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
    """A Sender that confirms only while it is `answering`."""

    def __init__(self) -> None:
        self.frames: list[list[bytes]] = []
        self.answering = asyncio.Event()
        self.answering.set()

    async def send(self, topic: str, value: bytes, *, key: str, partition: int) -> None:
        frame = RawFrame.decode(value)
        if len(frame):
            self.frames.append([bytes(message) for message in frame.messages()])

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
    assert max(map(len, broker.frames)) == 1000
    assert len(broker.frames) <= 11


def test_frames_that_are_not_short_come_less_often() -> None:
    async def story(feed: Feed, broker: Broker) -> None:
        put(feed, 0, feed_module.BUSY_MESSAGES + 1)
        await sent(broker, feed_module.BUSY_MESSAGES + 1)
        await asyncio.sleep(0.002)
        put(feed, feed_module.BUSY_MESSAGES + 1, 1)
        assert feed._alarm is not None
        assert feed._alarm.when() == pytest.approx(feed._sent_s + feed_module.FRAME_SECONDS_BUSY)

    run_feed(story)
