"""Cut the messages of one connection into raw frames. Pure: feed time is handed in. `pump` calls it.

Unless `flush` is called, messages and settings alone decide where a frame ends: a recorded file gives the same records
every time.
"""

from tapeline.connectors.venues.contract import FeedMessage, Message
from tapeline.schemas import RECORD_BYTES_MAX, FrameFlag, RawFrame
from tapeline.schemas.frames import CHECKSUM_BYTES, HEADER_BYTES, PER_MESSAGE_BYTES, SOURCE_BYTES_MAX

FRAME_BYTES = 1024 * 1024
"""A frame closes before its messages exceed this; a longer message travels alone."""
FRAMEABLE_BYTES_MAX = RECORD_BYTES_MAX - HEADER_BYTES - CHECKSUM_BYTES - PER_MESSAGE_BYTES - SOURCE_BYTES_MAX
"""The longest message that any frame can hold."""
SECOND_NS = 1_000_000_000
QUIET_NS_MAX = 24 * 3600 * SECOND_NS
"""A longer hole in the feed (a clock that was set, a file put together from two) gets one TIME record, at its end."""


class Framer:
    """The frames of one session of a connection.

    A frame closes at `messages_max` messages, at about FRAME_BYTES, `wait_ns` of feed time after its first message
    (None: at full speed, where only number and size count), and when `flush` says so.

    Feed time is the running maximum of receive times. Once a second of it a TIME record (a frame without messages) lets
    the clock of partitions move that this connection has no ticks for: right after the frame in which a new second
    began, and where nothing waits to be sent on every full second that passes. It never overtakes messages. So the pace
    changes records only through `wait_ns`.
    """

    def __init__(self, source: str, messages_max: int, wait_ns: int | None = None, *, epoch: int = 0) -> None:
        self.source = source
        self.epoch = epoch
        self.messages = 0  # taken so far = the number of the next one
        self.time_ns = 0
        self._messages_max = messages_max
        self._wait_ns = wait_ns
        self._next_time_ns: int | None = None  # the second that the next TIME record is for; None before a message
        self._recv_ns: list[int] = []
        self._data: list[bytes] = []
        self._bytes = 0
        self._first_ns = 0  # feed time when the first waiting message came

    @property
    def due_ns(self) -> int | None:
        """The feed time at which `advance` has something to do; None: only with the next message."""
        if not self._data:
            return self._next_time_ns
        return None if self._wait_ns is None else self._first_ns + self._wait_ns

    @property
    def waiting(self) -> int:
        """How many messages wait for their frame to close."""
        return len(self._data)

    def flush(self) -> list[RawFrame]:
        """Close the frame under way; return the frames that are complete now, in order."""
        return self._close()

    def add(self, message: Message) -> list[RawFrame]:
        """Take a message; return the frames that are complete now, in order."""
        frames = self.advance(message.recv_ns)
        if self._data and self._bytes + len(message.data) > FRAME_BYTES:
            frames += self._close()
        self.time_ns = max(self.time_ns, message.recv_ns)
        if not self._data:
            self._first_ns = self.time_ns
        if self._next_time_ns is None:
            self._next_time_ns = _next_second(self.time_ns)
        self._recv_ns.append(message.recv_ns)
        self._data.append(message.data)
        self._bytes += len(message.data)
        self.messages += 1
        if len(self._data) >= self._messages_max or self._bytes >= FRAME_BYTES:
            frames += self._close()
        return frames

    def say(self, said: FeedMessage) -> list[RawFrame]:
        """Take what the feed itself says, which gets a frame of its own; return the frames that are complete now."""
        frames = self.advance(said.recv_ns) + self._close()
        self.time_ns = max(self.time_ns, said.recv_ns)
        if self._next_time_ns is None:
            self._next_time_ns = _next_second(self.time_ns)
        frame = self._build(self.messages, [said.recv_ns], [said.event.encode()], FrameFlag.FEED)
        self.messages += 1
        return [*frames, frame]

    def skip(self) -> list[RawFrame]:
        """Give a number to a message that goes into no frame; return the frame that ends before it."""
        # Readers know a new session by message 0: if that goes into no frame, an empty one opens the session.
        frames = self._close() if self.messages else [self._time_record()]
        self.messages += 1
        return frames

    def advance(self, feed_ns: int) -> list[RawFrame]:
        """Let feed time pass; return the frames and TIME records that are due by then, in order."""
        frames: list[RawFrame] = []
        while (due_ns := self.due_ns) is not None and due_ns <= feed_ns:
            if self._data:
                frames += self._close()
                continue
            if feed_ns - due_ns > QUIET_NS_MAX:
                due_ns = feed_ns - feed_ns % SECOND_NS
            self.time_ns = due_ns
            self._next_time_ns = due_ns + SECOND_NS
            frames.append(self._time_record())
        return frames

    def end(self) -> list[RawFrame]:
        """Return the last frames: what waits, and a TIME record flagged END (nothing if there was no message)."""
        if not self.messages:
            return []
        return [*self._close(), self._time_record(FrameFlag.END)]

    def _close(self) -> list[RawFrame]:
        if not self._data:
            return []
        frames = [self._build(self.messages - len(self._data), self._recv_ns, self._data)]
        self._recv_ns, self._data, self._bytes = [], [], 0
        if self._next_time_ns is not None and self.time_ns >= self._next_time_ns:
            frames.append(self._time_record())
            self._next_time_ns = _next_second(self.time_ns)
        return frames

    def _time_record(self, flags: FrameFlag = FrameFlag.NONE) -> RawFrame:
        return self._build(self.messages, [], [], flags)

    def _build(self, first: int, recv_ns: list[int], data: list[bytes], flags: FrameFlag = FrameFlag.NONE) -> RawFrame:
        return RawFrame.build(self.source, first, recv_ns, data, time_ns=self.time_ns, flags=flags, epoch=self.epoch)


def _next_second(time_ns: int) -> int:
    return time_ns - time_ns % SECOND_NS + SECOND_NS
