"""The pump: everything reaches the topic in order, paced or not, and what no frame holds reaches `rejected`."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from tapeline.connectors.venues import Message, Recording, RecordingError, Unreadable
from tapeline.connectors.venues.framer import FRAMEABLE_BYTES_MAX, SECOND_NS, Framer
from tapeline.connectors.venues.pump import Summary, ingest
from tapeline.schemas import FrameFlag, RawFrame, Rejected, RejectReason, partition_of
from tapeline.streams.settings import FramesSettings

START_NS = 1_700_000_000 * SECOND_NS
FRAMES = FramesSettings(messages_max=3, wait_ms=5, adaptive=False)


@dataclass
class FakeSender:
    """A producer that keeps what it is given; `flushed` counts what was confirmed."""

    sent: list[tuple[str, bytes, str, int]] = field(default_factory=list)
    flushed: int = 0
    confirms: asyncio.Event | None = None
    """Confirmations wait for it; None: they come at once."""

    async def send(self, topic: str, value: bytes, *, key: str, partition: int) -> None:
        self.sent.append((topic, value, key, partition))

    async def flush(self) -> None:
        sent = len(self.sent)
        if self.confirms is not None:
            await self.confirms.wait()
        self.flushed = max(sent, self.flushed)

    async def partition_count(self, topic: str) -> int:
        return {"raw": 4, "rejected": 3}[topic]

    @property
    def frames(self) -> list[RawFrame]:
        return [RawFrame.decode(value) for topic, value, _, _ in self.sent if topic == "raw"]

    @property
    def rejected(self) -> list[Rejected]:
        return [Rejected.decode(value) for topic, value, _, _ in self.sent if topic == "rejected"]


def recording(*items: Message | Unreadable) -> Recording:
    return Recording("sim/x", "x.txt", iter(items), len(items), "bytes", lambda: 0)


def messages(count: int, step_ns: int = 400_000_000) -> list[Message]:
    return [Message(START_NS + number * step_ns, b"%d" % number) for number in range(count)]


def pump(what: Recording, speed: float | None = None) -> tuple[FakeSender, Summary]:
    sender = FakeSender()
    return sender, asyncio.run(ingest(what, sender, FRAMES, speed=speed))


def as_bytes(frames: list[RawFrame]) -> list[bytes]:
    return [frame.encode() for frame in frames]


@pytest.mark.parametrize("speed", [None, 500.0])
def test_what_is_sent_is_what_the_framer_makes(speed: float | None) -> None:
    sender, summary = pump(recording(*messages(20)), speed)
    framer = Framer("sim/x", 3, None if speed is None else int(5_000_000 * speed))
    expected = [frame for message in messages(20) for frame in framer.add(message)] + framer.end()
    assert as_bytes(sender.frames) == as_bytes(expected)
    assert {(key, partition) for _, _, key, partition in sender.sent} == {("sim/x", partition_of("sim/x", 4))}
    assert sender.flushed == len(sender.sent) == summary.frames + summary.time_records
    assert (summary.messages, summary.complete, summary.confirmed) == (20, True, True)
    assert summary.feed_ns == messages(20)[-1].recv_ns


def test_an_adaptive_frame_closes_once_the_one_before_it_is_confirmed() -> None:
    async def run() -> list[list[bytes]]:
        sender = FakeSender(confirms=asyncio.Event())
        assert sender.confirms is not None

        def items() -> Iterator[Message]:
            for number, message in enumerate(messages(40, 1_000_000)):  # one a millisecond
                if number == 20 and sender.confirms is not None:
                    sender.confirms.set()
                yield message

        frames = FramesSettings(messages_max=1000, wait_ms=10_000)
        await ingest(Recording("sim/x", "x", items(), 0, "bytes", lambda: 0), sender, frames, speed=1)
        return [list(frame.messages()) for frame in sender.frames if len(frame)]

    frames = asyncio.run(run())
    assert frames[0] == [b"0"], "nothing is under way: it goes at once"
    assert len(frames[1]) >= 15, "what came before the confirmation went together"
    assert 4 <= len(frames) <= 8, "and then every 4 ms: the one before it is safe"
    assert [message for frame in frames for message in frame] == [b"%d" % number for number in range(40)]


def test_at_a_pace_messages_do_not_come_early() -> None:
    async def timed() -> float:
        loop = asyncio.get_running_loop()
        started = loop.time()
        await ingest(recording(*messages(11, 10_000_000)), FakeSender(), FRAMES, speed=2)
        return loop.time() - started

    assert asyncio.run(timed()) >= 0.05


def test_what_no_frame_holds_is_rejected_and_the_rest_goes_on() -> None:
    first, second, third = messages(3)
    broken = Unreadable(1, RejectReason.MALFORMED, "x.txt, line 2: no receive time", b"gibberish")
    huge = Message(START_NS, bytes(FRAMEABLE_BYTES_MAX + 1))
    sender, summary = pump(recording(first, broken, huge, second, third))
    assert [message for frame in sender.frames for message in frame.messages()] == [b"0", b"1", b"2"]
    assert [frame.first_message for frame in sender.frames if len(frame)] == [0, 3]
    assert summary.rejected == 2
    malformed, oversized = sender.rejected
    assert (malformed.role, malformed.reason, malformed.payload) == (
        "ingest sim/x",
        RejectReason.MALFORMED,
        b"gibberish",
    )
    assert (malformed.origin.topic, malformed.origin.index) == ("x.txt", 1)
    assert (oversized.reason, oversized.origin.index) == (RejectReason.OVERSIZED, 2)
    assert oversized.payload_bytes == FRAMEABLE_BYTES_MAX + 1
    assert {partition for topic, _, _, partition in sender.sent if topic == "rejected"} == {partition_of("x.txt/0", 3)}


def test_a_damaged_recording_is_sent_up_to_the_damage() -> None:
    def items() -> Iterator[Message | Unreadable]:
        yield from messages(4)
        raise RecordingError("damaged after line 4")

    sender, summary = pump(Recording("sim/x", "x", items(), 0, "bytes", lambda: 0))
    assert sum(map(len, sender.frames)) == 4
    assert sender.frames[-1].flags == FrameFlag.END
    assert str(summary.damage) == "damaged after line 4"
    assert (summary.complete, summary.confirmed) == (False, True)


@pytest.mark.parametrize("speed", [None, 1.0])
def test_stop_ends_the_session_and_confirms_what_was_sent(speed: float | None) -> None:
    async def stopped() -> tuple[FakeSender, Summary]:
        stop, sender = asyncio.Event(), FakeSender()

        def items() -> Iterator[Message | Unreadable]:
            for number, message in enumerate(messages(1000, 0 if speed is None else 3600 * SECOND_NS)):
                if number == 1:
                    stop.set()
                yield message

        endless = Recording("sim/x", "x", items(), 0, "bytes", lambda: 0)
        return sender, await ingest(endless, sender, FRAMES, speed=speed, stop=stop)

    sender, summary = asyncio.run(stopped())
    assert summary.messages == 1
    assert sender.frames[-1].flags == FrameFlag.END
    assert sender.flushed == len(sender.sent)
    assert (summary.complete, summary.confirmed) == (False, True)


def test_progress_is_told_and_others_get_their_turn() -> None:
    async def run() -> tuple[int, int]:
        turns, told = 0, 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        def tell(summary: Summary) -> None:
            nonlocal told
            told += 1

        task = asyncio.create_task(other())
        await ingest(recording(*messages(20_000, 1)), FakeSender(), FramesSettings(), on_progress=tell)
        task.cancel()
        return turns, told

    turns, told = asyncio.run(run())
    assert turns >= 10
    assert told >= 1
