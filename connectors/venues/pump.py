"""Send what a recording holds to topic `raw`, at a given pace. `tapeline ingest`, the demo and tests call `ingest`,
`tapeline play` calls `play` for a capture, which holds several connections.
"""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from itertools import repeat
from typing import Protocol

from tapeline.connectors.venues.contract import FeedMessage, Message, Recording, RecordingError, Unreadable
from tapeline.connectors.venues.framer import FRAMEABLE_BYTES_MAX, Framer
from tapeline.schemas import RawFrame, Rejected, RejectOrigin, RejectReason, TapelineError, partition_of
from tapeline.schemas.topics import RAW, REJECTED
from tapeline.streams.settings import FramesSettings

ROLE = "ingest"
MS = 1_000_000
PROGRESS_SECONDS = 0.2
FRAME_SECONDS_MIN = 0.004
"""Frames do not close sooner after each other, so that a quick broker is not asked to take each message alone."""
NEVER_NS = 2**63
YIELD_MESSAGES = 2000
"""At full speed the loop lets others run after so many messages."""


Item = Message | FeedMessage | Unreadable


class Sender(Protocol):
    """The part of `streams.producer.Producer` that is used here."""

    async def send(self, topic: str, value: bytes, *, key: str, partition: int) -> None:
        """Queue a record; wait only while the queue is full."""

    async def flush(self) -> None:
        """Wait until everything sent is confirmed."""

    async def partition_count(self, topic: str) -> int:
        """Return how many partitions a topic has."""


@dataclass(slots=True)
class Summary:
    """How far an ingest is, and at its end what it did; counts are of what was sent, `confirmed`: it is safe."""

    source: str
    partition: int = 0
    messages: int = 0
    message_bytes: int = 0
    frames: int = 0
    time_records: int = 0
    rejected: int = 0
    feed_ns: int = 0
    """The feed's clock: the running maximum of receive times."""
    complete: bool = False
    """The recording was read to its end."""
    confirmed: bool = False
    damage: RecordingError | None = None
    """Why the recording could not be read to its end."""


async def ingest(
    recording: Recording,
    producer: Sender,
    frames: FramesSettings,
    *,
    speed: float | None = None,
    on_progress: Callable[[Summary], None] | None = None,
    stop: asyncio.Event | None = None,
) -> Summary:
    """Send a recording and return when all of it is confirmed (raises DeliveryError if it cannot be).

    speed: feed seconds a second (1 = as it was recorded), None = as fast as the producer takes it. Frames close as
    `frames` says; waiting time and confirmations count only at a pace. `stop`, once set, ends the session after what
    was read so far. A damaged recording is sent up to the damage, which the summary then names.
    """
    items = zip(repeat(recording.source), recording.items, strict=False)
    summary = Summary(recording.source)
    return await _Pump(items, recording.origin, summary, producer, frames, speed, on_progress, stop).run()


async def play(
    items: Iterable[tuple[str, Item]],
    origin: str,
    producer: Sender,
    frames: FramesSettings,
    *,
    speed: float | None = None,
    on_progress: Callable[[Summary], None] | None = None,
    stop: asyncio.Event | None = None,
) -> Summary:
    """Send the items of several connections, (source, item) in order of time, as `ingest` does those of one.

    Where times go back (connections that stand one behind the other in a file) nothing waits.
    """
    return await _Pump(items, origin, Summary(origin), producer, frames, speed, on_progress, stop).run()


class _Pump:
    """One ingest under way."""

    def __init__(
        self,
        items: Iterable[tuple[str, Item]],
        origin: str,
        summary: Summary,
        producer: Sender,
        frames: FramesSettings,
        speed: float | None,
        on_progress: Callable[[Summary], None] | None,
        stop: asyncio.Event | None,
    ) -> None:
        self._items = items
        self._origin = origin
        self._producer = producer
        self._speed = speed
        self._on_progress = on_progress
        self._stop = stop or asyncio.Event()
        self._wait_ns = None if speed is None else int(frames.wait_ms * MS * speed)
        self._messages_max = frames.messages_max
        self._framers: dict[str, Framer] = {}
        self._summary = summary
        self._adaptive = frames.adaptive and speed is not None
        self._confirming: asyncio.Task[None] | None = None  # what was sent last, on its way to be safe
        self._sent_seconds = 0.0  # when that was
        self._woken = asyncio.Event()  # a pause is over
        self._reached_ns = 0  # feed time that has come, at the last look at the clock
        self._loop = asyncio.get_running_loop()
        self._start_ns: int | None = None  # feed time at which the pace began
        self._start_seconds = 0.0
        self._shown_seconds = 0.0

    async def run(self) -> Summary:
        """1. know the topics, 2. send each item when it is due, 3. end the session, 4. wait until all is safe."""
        summary = self._summary
        self._partitions = await self._producer.partition_count(RAW.name)
        summary.partition = partition_of(summary.source, self._partitions)
        self._rejected_partitions = await self._producer.partition_count(REJECTED.name)
        waker = asyncio.create_task(self._wake_at_stop())
        try:
            summary.complete = await self._send_items()
        except RecordingError as damage:
            summary.damage = damage
        finally:
            waker.cancel()
        for framer in self._framers.values():
            await self._send(framer.end())
        await self._producer.flush()
        summary.confirmed = True
        self._progress(always=True)
        return summary

    async def _send_items(self) -> bool:
        """Send every item; return whether the recording came to its end."""
        for number, (source, item) in enumerate(self._items):
            if not isinstance(item, Unreadable):
                if self._speed is not None and item.recv_ns > self._reached_ns:
                    await self._wait_for(item.recv_ns)
                if number % YIELD_MESSAGES == 0:
                    await asyncio.sleep(0)
                    self._progress()
                if self._stop.is_set():
                    return False
            await self._take(source, item)
        return True

    def _framer(self, source: str) -> Framer:
        if (framer := self._framers.get(source)) is None:
            framer = self._framers[source] = Framer(source, self._messages_max, self._wait_ns)
        return framer

    async def _take(self, source: str, item: Item) -> None:
        framer = self._framer(source)
        if isinstance(item, FeedMessage):
            await self._send(framer.say(item))
            return
        if isinstance(item, Message) and len(item.data) > FRAMEABLE_BYTES_MAX:
            detail = f"{len(item.data)} bytes, no frame holds more than {FRAMEABLE_BYTES_MAX}"
            item = Unreadable(framer.messages, RejectReason.OVERSIZED, detail, item.data)
        if isinstance(item, Unreadable):
            await self._send(framer.skip())
            await self._send_rejected(source, item)
            return
        self._summary.messages += 1
        self._summary.message_bytes += len(item.data)
        await self._send(framer.add(item))

    async def _wait_for(self, recv_ns: int) -> None:
        """Wait until a message that was received at `recv_ns` is due; frames and TIME records go out meanwhile."""
        assert self._speed is not None  # noqa: S101 - only called at a pace
        if self._start_ns is None:
            self._start_ns, self._start_seconds = recv_ns, self._loop.time()
        while not self._stop.is_set():
            self._reached_ns = self._start_ns + int((self._loop.time() - self._start_seconds) * 1e9 * self._speed)
            framer = min(self._framers.values(), key=_due_ns, default=None)
            next_ns = recv_ns if framer is None else min(recv_ns, _due_ns(framer))
            if next_ns > self._reached_ns:
                seconds = (next_ns - self._reached_ns) / 1e9 / self._speed
                if self._nothing_under_way and any(one.waiting for one in self._framers.values()):
                    # Nobody is faster served by waiting: what comes meanwhile goes into the next frame.
                    rest = self._sent_seconds + FRAME_SECONDS_MIN - self._loop.time()
                    if rest <= 0:
                        for one in self._framers.values():
                            await self._send(one.flush())
                        continue
                    seconds = min(seconds, rest)
                self._progress()
                await self._pause(seconds)
            elif framer is not None and next_ns < recv_ns:
                await self._send(framer.advance(next_ns))
            else:
                return

    @property
    def _nothing_under_way(self) -> bool:
        return self._adaptive and (self._confirming is None or self._confirming.done())

    async def _pause(self, seconds: float) -> None:
        """Wait until then, until `stop`, or until a waiting frame may close."""
        self._woken.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(min(seconds, PROGRESS_SECONDS)):
                await self._woken.wait()

    async def _wake_at_stop(self) -> None:
        await self._stop.wait()
        self._woken.set()

    async def _send(self, frames: list[RawFrame]) -> None:
        summary = self._summary
        for frame in frames:
            if len(frame):
                summary.frames += 1
            else:
                summary.time_records += 1
            summary.feed_ns = max(summary.feed_ns, frame.time_ns)
            partition = partition_of(frame.source, self._partitions)
            await self._producer.send(RAW.name, frame.encode(), key=frame.source, partition=partition)
        if frames and self._adaptive:
            self._sent_seconds = self._loop.time()
            self._confirming = asyncio.create_task(self._confirm())

    async def _confirm(self) -> None:
        with suppress(TapelineError):  # the next send says what is wrong
            await self._producer.flush()
        self._woken.set()

    async def _send_rejected(self, source: str, item: Unreadable) -> None:
        self._summary.rejected += 1
        origin = RejectOrigin(topic=self._origin, partition=0, offset=0, index=item.index)
        # Files of the same name are many; the source tells them apart.
        event = Rejected.of(f"{ROLE} {source}", item.reason, item.detail, origin, item.data, source=source)
        partition = partition_of(event.key, self._rejected_partitions)
        await self._producer.send(REJECTED.name, event.encode(), key=event.key, partition=partition)

    def _progress(self, *, always: bool = False) -> None:
        now = self._loop.time()
        if self._on_progress is not None and (always or now - self._shown_seconds >= PROGRESS_SECONDS):
            self._shown_seconds = now
            self._on_progress(self._summary)


def _due_ns(framer: Framer) -> int:
    return NEVER_NS if framer.due_ns is None else framer.due_ns
