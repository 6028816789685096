"""One connection to a venue, kept up for as long as it is wanted: connect, read, act, connect anew.

Reading never waits for anything but the socket: what comes is put into the outlet at once, and if that is full the
connection is given up (reason OVERLOAD) until there is room. Whatever ends a connection stands in the log as a gap of
all its symbols, right behind the last message.
"""

import asyncio
import logging
import random
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Protocol

import aiohttp

from tapeline.connectors.venues.contract import MESSAGE_BYTES_MAX, FeedMessage, Message
from tapeline.connectors.venues.live.contract import (
    Action,
    Complain,
    Dialect,
    Fetch,
    GarbageError,
    Plan,
    Reconnect,
    Say,
    Send,
    Session,
)
from tapeline.connectors.venues.live.rest import PAUSE_S, Pace, RefusedError, Rest, retry_after_s
from tapeline.schemas import FeedConnect, FeedEvent, FeedGap, GapReason, TapelineError

log = logging.getLogger(__name__)

CONNECT_S = 10.0
PING_S = 10.0
"""WebSocket pings, so that a peer that is gone is noticed."""
TIMER_S = 0.5
BACKOFF_S = 0.25, 30.0
"""The first pause, which doubles, and the longest."""
HEALTHY_S = 60.0
"""After a connection that lasted so long the pauses begin anew."""


class Outlet(Protocol):
    """Where a connection puts what comes."""

    def put(self, item: Message | FeedMessage) -> None:
        """Take an item, at once."""

    def sent(self, now_ns: int, text: str) -> None:
        """Hear of a text that was sent to the venue."""

    @property
    def full(self) -> bool:
        """Whether no more may come."""

    @property
    def roomy(self) -> bool:
        """Whether so much has left it that more may come again."""


class LostError(TapelineError):
    """The connection is of no use any more."""

    def __init__(self, reason: GapReason, detail: str, pause_s: float = 0.0) -> None:
        super().__init__(detail)
        self.reason = reason
        self.pause_s = pause_s
        """Connect anew not before so long."""


class Connection:
    """Keeps one planned connection up; `run` until it is cancelled."""

    def __init__(
        self,
        dialect: Dialect,
        plan: Plan,
        http: aiohttp.ClientSession,
        rest: Rest,
        outlet: Outlet,
        *,
        silence_s: float,
        pace: Pace | None = None,
        backoff_s: tuple[float, float] = BACKOFF_S,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self.connected = False
        self.losses: Counter[str] = Counter()
        """How often it was lost, or a book was not right, by the reason of the gap."""
        self.refusal = ""
        """What the venue refused last, in its words."""
        self._dialect = dialect
        self._plan = plan
        self._http = http
        self._rest = rest
        self._outlet = outlet
        self._silence_s = silence_s
        self._backoff_s = backoff_s
        self._pace = pace
        self._clock = clock
        self._outgoing: deque[str] = deque()
        self._send_wanted = asyncio.Event()
        self._fetches: set[asyncio.Task[None]] = set()
        self._heard_s = 0.0
        self._trouble: LostError | None = None  # found by a fetch
        self._name = f"{dialect.venue}/{plan.connection}"

    async def run(self) -> None:
        """Connect again and again."""
        loop = asyncio.get_running_loop()
        tries = 0
        while True:
            while not self._outlet.roomy:  # noqa: ASYNC110 - a few times after an overload
                await asyncio.sleep(TIMER_S)
            if self._pace is not None:
                await self._pace.wait()
            started = loop.time()
            try:
                await self._once()
            except LostError as lost:
                # Who was silent was there: a quiet market must not be looked at less and less.
                if loop.time() - started > HEALTHY_S or lost.reason is GapReason.SILENCE:
                    tries = 0
                first_s, longest_s = self._backoff_s
                pause_s = min(first_s * 2**tries, longest_s) * random.uniform(0.5, 1)  # noqa: S311 - jitter
                pause_s = max(pause_s, lost.pause_s)
                tries += 1
                log.warning("%s: %s (%s); connecting anew in %.1f s", self._name, lost.reason.name, lost, pause_s)
                if self.connected:
                    self._say(FeedGap(reason=lost.reason, symbols=self._plan.symbols, detail=str(lost)[:200]))
                    self.refusal = ""
                self.connected = False
                await asyncio.sleep(pause_s)

    async def _once(self) -> None:
        """Hold one connection; raises LostError when it is lost."""
        try:
            async with (
                asyncio.timeout(CONNECT_S) as limit,
                self._http.ws_connect(
                    self._plan.url,
                    max_msg_size=MESSAGE_BYTES_MAX,
                    heartbeat=PING_S,
                    decode_text=False,
                    timeout=aiohttp.ClientWSTimeout(ws_close=1.0),
                ) as socket,
            ):
                limit.reschedule(None)
                await self._hold(socket)
        except aiohttp.WSServerHandshakeError as error:
            pause_s = retry_after_s(error.headers) or PAUSE_S.get(error.status, 0.0)
            raise LostError(
                GapReason.DISCONNECT, f"the venue answers {error.status} {error.message}", pause_s
            ) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise LostError(GapReason.DISCONNECT, f"{type(error).__name__}: {error}") from error

    async def _hold(self, socket: "aiohttp.ClientWebSocketResponse[bool]") -> None:
        session = self._dialect.session(self._plan)
        self._outgoing.clear()
        self._trouble = None
        self._heard_s = asyncio.get_running_loop().time()
        self.connected = True
        log.info("%s: connected to %s", self._name, self._plan.url)
        self._say(FeedConnect(url=self._plan.url))
        work = [
            asyncio.create_task(part)
            for part in (self._receive(socket, session), self._send(socket), self._watch(session))
        ]
        try:
            self._do(session, session.opened())
            await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
            for task in work:
                if task.done():
                    task.result()
        finally:
            for task in (*work, *self._fetches):
                task.cancel()
            await asyncio.wait([*work, *self._fetches])
            self._fetches.clear()

    async def _receive(self, socket: "aiohttp.ClientWebSocketResponse[bool]", session: Session) -> None:
        loop, put, clock = asyncio.get_running_loop(), self._outlet.put, self._clock
        while True:
            message = await socket.receive()
            kind, data = message.type, message.data
            if kind not in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
                raise _end(socket, message.extra)
            now_ns = clock()
            if not session.is_pong(data):
                self._heard_s = loop.time()
            try:
                actions = session.received(data, now_ns)
            except GarbageError as error:
                put(Message(now_ns, data))
                raise LostError(GapReason.GARBAGE, str(error)) from error
            if actions:  # a gap stands before the message that shows it
                self._do(session, [action for action in actions if isinstance(action, Say)])
            put(Message(now_ns, data))
            if actions:
                self._do(session, [action for action in actions if not isinstance(action, Say)])
            if self._outlet.full:
                raise LostError(GapReason.OVERLOAD, "more came than Kafka took: the queue is full")

    async def _send(self, socket: "aiohttp.ClientWebSocketResponse[bool]") -> None:
        while True:
            while self._outgoing:
                one = self._outgoing.popleft()
                await socket.send_str(one)
                self._outlet.sent(self._clock(), one)
                await asyncio.sleep(1 / self._dialect.sends_per_second)
            self._send_wanted.clear()
            await self._send_wanted.wait()

    async def _watch(self, session: Session) -> None:
        loop = asyncio.get_running_loop()
        while True:
            looked_s = loop.time()
            await asyncio.sleep(TIMER_S)
            busy = loop.time() - looked_s > 2 * TIMER_S  # then it may be us who did not listen
            if not busy and loop.time() - self._heard_s > self._silence_s:
                raise LostError(GapReason.SILENCE, f"no data came for {self._silence_s:g} s")
            if self._trouble is not None:
                raise self._trouble
            self._do(session, session.timer(self._clock()))

    def _do(self, session: Session, actions: Sequence[Action]) -> None:
        for action in actions:
            match action:
                case Send():
                    self._outgoing.append(action.text)
                    self._send_wanted.set()
                case Say():
                    self._say(action.event)
                case Complain():
                    log.error("%s: the venue %s", self._name, action.text)
                    self.refusal = action.text
                case Fetch():
                    task = asyncio.create_task(self._fetch(session, action))
                    self._fetches.add(task)
                    task.add_done_callback(self._fetches.discard)
                case Reconnect():
                    raise LostError(action.reason, action.detail)

    async def _fetch(self, session: Session, fetch: Fetch) -> None:
        await asyncio.sleep(fetch.after_s)
        try:
            body = await self._rest.get(fetch.url)
            self._do(session, session.answered(fetch, body))
        except RefusedError as error:
            log.error("%s: no order book of %s: %s", self._name, fetch.symbol, error)
            self._do(session, session.refused(fetch))
        except GarbageError as error:
            self._trouble = LostError(GapReason.GARBAGE, f"{fetch.url}: {error}")
        except LostError as lost:
            self._trouble = lost

    def _say(self, event: FeedEvent) -> None:
        if isinstance(event, FeedGap):
            self.losses[event.reason.name] += 1
        self._outlet.put(FeedMessage(self._clock(), event))


def _end(socket: "aiohttp.ClientWebSocketResponse[bool]", extra: object) -> LostError:
    """Say why a socket gives no more messages."""
    error = socket.exception()
    if isinstance(error, aiohttp.WebSocketError):  # what came is against the protocol, or too long
        return LostError(GapReason.GARBAGE, f"WebSocket error {error.code}: {error}")
    detail = f"closed with code {socket.close_code}" if error is None else f"{type(error).__name__}: {error}"
    return LostError(GapReason.DISCONNECT, f"{detail} {str(extra or '')[:100]}".rstrip())
