"""The way of one live connection into topic `raw`: a bounded queue, then frames.

The connection puts, `run` takes and sends: a broker that is slow, or away, holds up the queue and not the socket. What
waits is kept in memory, at most `messages_max` messages and BYTES_MAX bytes; the connection gives up beyond that.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from tapeline.connectors.venues.contract import FeedMessage, Message
from tapeline.connectors.venues.framer import Framer
from tapeline.connectors.venues.pump import Sender
from tapeline.schemas import FeedAnswer, RawFrame, TapelineError
from tapeline.schemas.topics import RAW
from tapeline.streams.settings import FramesSettings

BYTES_MAX = 128 * 1024 * 1024
FRAME_SECONDS_MIN = 0.001
"""Frames do not close sooner after each other, unless they are full."""
FRAME_SECONDS_BUSY = 0.004
BUSY_MESSAGES = 20
"""A frame of so many messages shows that more come than frames so short are worth."""
TAKEN_AT_ONCE = 500
"""Messages, before others may run."""
TIME_SECONDS = 0.5


class Feed:
    """The queue and the frames of one source. epoch: of its lease; `holding`, as long as the lease is ours for sure."""

    def __init__(
        self,
        source: str,
        partition: int,
        producer: Sender,
        frames: FramesSettings,
        *,
        epoch: int,
        messages_max: int,
        holding: Callable[[], bool],
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self.source = source
        self.messages = 0
        """Sent so far."""
        self._partition = partition
        self._producer = producer
        self._framer = Framer(source, frames.messages_max, int(frames.wait_ms * 1e6), epoch=epoch)
        self._wait_s = frames.wait_ms / 1e3
        self._messages_max = messages_max
        self._holding = holding
        self._clock = clock
        self._items: deque[Message | FeedMessage] = deque()
        self._bytes = 0
        self._closed: deque[RawFrame] = deque()  # frames that the producer has not taken yet
        self._awake = asyncio.Event()
        self._alarm: asyncio.TimerHandle | None = None
        self._is_due = False  # the alarm is for what waits
        self._confirming: asyncio.Task[None] | None = None
        self._sent_s = 0.0
        self._pause_s = FRAME_SECONDS_MIN
        self._loop = asyncio.get_running_loop()

    @property
    def full(self) -> bool:
        """Whether no more may come."""
        return len(self._items) >= self._messages_max or self._bytes >= BYTES_MAX

    @property
    def roomy(self) -> bool:
        """Whether at least half of it is free."""
        return 2 * len(self._items) <= self._messages_max and 2 * self._bytes <= BYTES_MAX

    @property
    def waiting(self) -> int:
        """How many items wait."""
        return len(self._items)

    def put(self, item: Message | FeedMessage) -> None:
        """Take an item, at once."""
        self._items.append(item)
        self._bytes += _size(item)
        if not self._is_due:
            self._wake_at(self._due_s)

    def sent(self, now_ns: int, text: str) -> None:
        """Hear of a text that was sent to the venue: no part of `raw`."""

    async def run(self) -> None:
        """Send what comes, until cancelled."""
        while True:
            await self._pause()
            if self._holding():
                await self._move()

    async def drain(self) -> None:
        """Send what waits and return when it is safe."""
        if self._holding():
            while self._items:
                await self._move()
            await self._send(self._framer.flush())
            await self._producer.flush()

    async def _pause(self) -> None:
        """Wait for an item, a confirmation, or the next moment of the feed's clock."""
        if self._alarm is None:
            self._alarm = self._loop.call_later(TIME_SECONDS, self._awake.set)
        await self._awake.wait()
        self._awake.clear()
        self._alarm.cancel()
        self._alarm, self._is_due = None, False

    @property
    def _due_s(self) -> float:
        """When what waits is sent, if no confirmation comes before."""
        if self._nothing_under_way:
            return self._sent_s + self._pause_s
        return max(self._sent_s + self._wait_s, self._loop.time() + FRAME_SECONDS_MIN)

    def _wake_at(self, due_s: float) -> None:
        """Wake `run` then, for what waits."""
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm, self._is_due = self._loop.call_at(due_s, self._awake.set), True

    async def _move(self) -> None:
        """Frame what waits, and send what is due."""
        for _ in range(min(len(self._items), TAKEN_AT_ONCE)):
            item = self._items.popleft()
            self._bytes -= _size(item)
            if isinstance(item, FeedMessage):
                await self._send(self._framer.say(item))
                continue
            self.messages += 1
            await self._send(self._framer.add(item))
        # Time must not overtake what waits.
        await self._send(self._framer.advance(self._items[0].recv_ns if self._items else self._clock()))
        if self._framer.waiting and self._nothing_under_way and self._loop.time() >= self._sent_s + self._pause_s:
            self._pause_s = FRAME_SECONDS_BUSY if self._framer.waiting > BUSY_MESSAGES else FRAME_SECONDS_MIN
            await self._send(self._framer.flush())
        if self._items:  # more than are taken at once: others run, then it goes on
            self._wake_at(self._loop.time())
        elif self._framer.waiting:
            self._wake_at(self._due_s)

    @property
    def _nothing_under_way(self) -> bool:
        return self._confirming is None or self._confirming.done()

    async def _send(self, frames: list[RawFrame]) -> None:
        """Hand frames over, behind those that were not taken when the last call was cancelled."""
        self._closed.extend(frames)
        while self._closed:
            frame = self._closed[0]
            await self._producer.send(RAW.name, frame.encode(), key=frame.source, partition=self._partition)
            self._closed.popleft()
        if frames:
            self._sent_s = self._loop.time()
            if self._nothing_under_way:
                self._confirming = asyncio.create_task(self._confirm())

    async def _confirm(self) -> None:
        with suppress(TapelineError):  # the next send says what is wrong
            await self._producer.flush()
        if self._framer.waiting or self._items:
            self._awake.set()


def _size(item: Message | FeedMessage) -> int:
    """Return the bytes that an item holds; of what the feed says, those of a REST answer count."""
    if isinstance(item, Message):
        return len(item.data)
    return len(item.event.data) if isinstance(item.event, FeedAnswer) else 0
