"""A seeded market for demo, load and tests: `open_market` gives its messages as a `Recording`.

Prices are random walks of log price, a market factor and one of each instrument's own, so that they move together.
Trades and quotes come at random, now and then in bursts; trading pauses between sessions; ids are skipped (missing
data), messages cut short and prices far off (bad ticks), each at its own rate.

The same options give the same bytes: everything is drawn in blocks of a fixed size from raw PCG64 output (which numpy
keeps stable between versions, unlike its distributions) and nothing looks at a clock.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from tapeline.connectors.venues.columns import Floats, Mask
from tapeline.connectors.venues.contract import Message, Recording, RecordingError
from tapeline.schemas.frames import Int64Array

START_NS = int(datetime(2025, 1, 2, 14, 30, tzinfo=UTC).timestamp()) * 1_000_000_000
SECOND_NS = 1_000_000_000
BLOCK_MESSAGES = 8192
PIECE_MESSAGES = 256
INSTRUMENTS_MAX = 10_000
RATE_MAX = 10_000_000
CENTS = [f"{cents:02d}" for cents in range(100)]
PRICE_TICKS_MIN = 100
"""Prices are counted in ticks of 0.01."""
BURST_FACTOR = 10
"""In a burst messages come so many times faster, and prices move BURST_VOLATILITY times more a root second."""
BURST_VOLATILITY = 3
BURST_SECONDS = 0.2
OUTLIER_FACTOR = 1.2
LATENCY_NS_MIN = 100_000
LATENCY_NS_SPAN = 500_000
SKIPPED_MAX = 5
"""A gap skips 1 to so many ids."""
DRAWS = 18
"""Uniform numbers a message."""


@dataclass(frozen=True, slots=True)
class MarketOptions:
    """What a simulated market is like. Shares and rates `per message` are probabilities, 0 to 1."""

    seed: int = 7
    start_ns: int = START_NS
    seconds: float | None = None
    """Feed time until the end; None = without end."""
    rate: float = 2000.0
    """Messages a second of trading, on average."""
    instruments: int = 8
    trade_share: float = 0.3
    """Of the messages; the others are quotes."""
    volatility: float = 0.0004
    """Standard deviation of log price over a second."""
    correlation: float = 0.5
    """Share of the market factor in an instrument's variance."""
    bursts_per_second: float = 0.05
    session_seconds: float = 300.0
    pause_seconds: float = 3.0
    """Quiet time between two sessions."""
    gaps: float = 0.00002
    """Skipped ids, per message."""
    malformed: float = 0.00002
    """Messages cut short, per message."""
    outliers: float = 0.00002
    """Prices far off, per message."""

    def __post_init__(self) -> None:
        """Raise RecordingError for options that make no market."""
        shares = ("trade_share", "correlation", "gaps", "malformed", "outliers")
        checks: list[tuple[str, float, float]] = [(name, 0, 1) for name in shares]
        checks += [("seed", 0, 2**63 - 1), ("start_ns", 0, 2**62), ("rate", 0.001, RATE_MAX)]
        checks += [("instruments", 1, INSTRUMENTS_MAX), ("volatility", 0, 1), ("bursts_per_second", 0, 10)]
        checks += [("session_seconds", 0.1, 1e9), ("pause_seconds", 0, 1e9)]
        if self.seconds is not None:
            checks.append(("seconds", 0, 1e9))
        for name, least, most in checks:
            value = getattr(self, name)
            if not least <= value <= most:
                raise RecordingError(f"sim: {name} is {value}; it must be from {least:g} to {most:g}")


def open_market(options: MarketOptions) -> Recording:
    """Return the market's messages; the source is `sim/seed-SEED`."""
    market = _Market(options)
    source = f"sim/seed-{options.seed}"
    total_ns = 0 if options.seconds is None else round(options.seconds * SECOND_NS)
    return Recording(source, source, market.messages(), total_ns, "ns", lambda: market.feed_ns - options.start_ns)


class _Market:
    """The market under way: what one block hands to the next."""

    def __init__(self, options: MarketOptions) -> None:
        self.options = options
        self.feed_ns = options.start_ns
        count = options.instruments
        self._bits = np.random.PCG64(options.seed)
        self._u = np.empty((DRAWS, BLOCK_MESSAGES))  # of the block under way
        self._symbols = [f"SIM{number:03d}" for number in range(1, count + 1)]
        # The first instruments trade most, as in any market.
        popularity = 1 / np.arange(1, count + 1)
        self._share = popularity / popularity.sum()
        self._upto = np.cumsum(self._share)
        first = self._uniform(2 * count)
        self._base_ticks = 2000 + first[:count] * 48_000
        self._beta = 0.7 + 0.6 * first[count:]
        self._market_log = 0.0
        self._own_log = np.zeros(count)
        self._ids = np.zeros(2 * count, np.int64)  # of quotes, then of trades, by instrument
        self._trading_ns = 0
        self._recv_ns = 0  # of the last message drawn
        self._sent_recv_ns = 0  # of the last message handed out
        self._session = -1
        self._since_burst = 2**62
        self._burst_messages = round(BURST_SECONDS * options.rate * BURST_FACTOR)
        self._burst_starts = min(options.bursts_per_second / options.rate, 1.0)
        in_bursts = 1 - (1 - self._burst_starts) ** self._burst_messages
        self._gap_ns = SECOND_NS / options.rate / (1 - in_bursts + in_bursts / BURST_FACTOR)

    def messages(self) -> Iterator[Message]:
        """Yield the messages in order of arrival until the feed's time is up."""
        options = self.options
        end_ns = 2**63 - 1 if options.seconds is None else options.start_ns + round(options.seconds * SECOND_NS)
        while True:
            session, event_ns, recv_ns, texts = self._block()
            cuts = np.flatnonzero(np.diff(session, prepend=self._session)).tolist()
            # In short pieces, so that `feed_ns` says where the reader is.
            for start, end in pairwise(sorted({*cuts, *range(0, BLOCK_MESSAGES, PIECE_MESSAGES), BLOCK_MESSAGES})):
                yield from self._statuses(int(session[start]), end_ns)
                last = start + int(np.searchsorted(event_ns[start:end], end_ns))
                yield from map(Message, recv_ns[start:last].tolist(), texts[start:last])
                if last < end:
                    self.feed_ns = end_ns
                    return
                self.feed_ns, self._sent_recv_ns = int(event_ns[end - 1]), int(recv_ns[end - 1])

    def _block(self) -> tuple[Int64Array, Int64Array, Int64Array, list[bytes]]:
        """Draw the next BLOCK_MESSAGES: session, event time, receive time and text of each."""
        options = self.options
        u = self._u
        for row in u:  # one by one: a feed's memory stays the same if nothing large comes and goes
            row[:] = self._uniform(BLOCK_MESSAGES)
        # 1. when: exponential gaps, shorter in bursts; trading time, then feed time with the pauses in it
        burst = self._bursts(u[0] < self._burst_starts)
        gaps = -np.log1p(-u[1]) * self._gap_ns / np.where(burst, BURST_FACTOR, 1)
        # Whole ns from here on: a sum of floats would carry a processor's last bit of `log1p` into the times.
        gaps_ns = np.rint(gaps).astype(np.int64)
        trading_ns = self._trading_ns + np.cumsum(gaps_ns)
        self._trading_ns = int(trading_ns[-1])
        session = trading_ns // round(options.session_seconds * SECOND_NS)
        event_ns = options.start_ns + trading_ns + session * round(options.pause_seconds * SECOND_NS)
        late_ns = event_ns + LATENCY_NS_MIN + (u[2] ** 6 * LATENCY_NS_SPAN).astype(np.int64)
        recv_ns = np.maximum.accumulate(np.maximum(late_ns, self._recv_ns))
        self._recv_ns = int(recv_ns[-1])
        # 2. which instrument, and what its price is by now
        instrument = np.minimum(np.searchsorted(self._upto, u[3], side="right"), options.instruments - 1)
        moves = np.sqrt(gaps_ns / SECOND_NS) * np.where(burst, BURST_VOLATILITY, 1) * options.volatility
        market = self._market_log + np.cumsum(_normal(u[4:7]) * moves * options.correlation**0.5)
        self._market_log = float(market[-1])
        own_moves = _normal(u[7:10]) * moves * ((1 - options.correlation) / self._share[instrument]) ** 0.5
        own = _running(instrument, own_moves, self._own_log)
        price = self._base_ticks[instrument] * np.exp(self._beta[instrument] * market + own)
        price = np.where(u[10] < options.outliers, price * OUTLIER_FACTOR, price)
        # 3. what it says: around that price a bid and an ask, of which a trade hits one
        bid = np.maximum(np.floor(price), PRICE_TICKS_MIN).astype(np.int64)
        ask = bid + 1 + (u[11] ** 3 * 4).astype(np.int64)
        trade = u[12] < options.trade_share
        skipped = np.where(u[13] < options.gaps, 1 + (u[14] * SKIPPED_MAX).astype(np.int64), 0)
        ids = _running(instrument + trade * options.instruments, 1 + skipped, self._ids)
        sizes = 1 + (u[15:17] ** 4 * 500).astype(np.int64)
        texts = self._texts(instrument, trade, ids, event_ns, bid, ask, sizes, u[14] < 0.5)
        # 4. bad ticks: a part of a JSON object is none
        for position in np.flatnonzero(u[17] < options.malformed).tolist():
            text = texts[position]
            texts[position] = text[: 1 + int(u[16, position] * (len(text) - 1))]
        return session, event_ns, recv_ns, texts

    def _texts(
        self,
        instrument: Int64Array,
        trade: Mask,
        ids: Int64Array,
        event_ns: Int64Array,
        bid: Int64Array,
        ask: Int64Array,
        sizes: Int64Array,
        sells: Mask,
    ) -> list[bytes]:
        heads = [
            f'{{"type":"{what}","symbol":"{symbol}","id":' for what in ("quote", "trade") for symbol in self._symbols
        ]
        head = instrument + trade * len(self._symbols)
        hit = np.where(sells, bid, ask)
        columns = (head, trade, ids, event_ns, hit // 100, hit % 100, bid // 100, bid % 100, ask // 100, ask % 100)
        lists = [column.tolist() for column in (*columns, sizes[0], sizes[1], sells)]
        texts: list[bytes] = []
        piece: list[str] = []
        for key, is_trade, number, ns, p, p_, b, b_, a, a_, size, size2, sell in zip(*lists, strict=True):
            if is_trade:
                side = "sell" if sell else "buy"
                price = f'"price":"{p}.{CENTS[p_]}","size":"{size}","side":"{side}"}}'
            else:
                price = f'"bid":"{b}.{CENTS[b_]}","bid_size":"{size}","ask":"{a}.{CENTS[a_]}","ask_size":"{size2}"}}'
            piece.append(f'{heads[key]}{number},"time_ns":{ns},{price}')
            if len(piece) == PIECE_MESSAGES:
                texts += "\n".join(piece).encode().split(b"\n")  # quicker than to encode each
                piece.clear()
        return texts

    def _statuses(self, session: int, end_ns: int) -> Iterator[Message]:
        """Yield the closes and opens that lie between the message before and one of `session`."""
        options = self.options
        session_ns, pause_ns = round(options.session_seconds * SECOND_NS), round(options.pause_seconds * SECOND_NS)
        while self._session < session:
            if self._session >= 0:
                close_ns = options.start_ns + self._session * (session_ns + pause_ns) + session_ns
                yield from self._status("close", close_ns, end_ns)
            self._session += 1
            yield from self._status("open", options.start_ns + self._session * (session_ns + pause_ns), end_ns)

    def _status(self, status: str, ns: int, end_ns: int) -> Iterator[Message]:
        if ns < end_ns:
            self.feed_ns = ns
            recv_ns = self._sent_recv_ns = max(self._sent_recv_ns, ns + LATENCY_NS_MIN)
            for symbol in self._symbols:
                text = f'{{"type":"status","symbol":"{symbol}","time_ns":{ns},"status":"{status}"}}'
                yield Message(recv_ns, text.encode())

    def _bursts(self, starts: Mask) -> Mask:
        """Say which messages are in a burst: those up to `_burst_messages` after one that starts it."""
        position = np.arange(len(starts))
        last = np.maximum.accumulate(np.where(starts, position, -self._since_burst))
        since = position - last
        self._since_burst = min(int(since[-1]) + 1, 2**61)
        return since < self._burst_messages

    def _uniform(self, count: int) -> Floats:
        """Draw numbers from [0, 1) with 53 random bits each."""
        raw = np.asarray(self._bits.random_raw(count), np.uint64)
        return (raw >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _normal(u: Floats) -> Floats:
    """Return numbers of mean 0 and variance 1, about normal: (k, n) uniform ones, the sum of each k, scaled."""
    terms = len(u)
    return np.asarray((u.sum(axis=0) - terms / 2) * (12 / terms) ** 0.5)


def _running(keys: Int64Array, steps: npt.NDArray[Any], carry: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return each key's running sum of its own steps, going on from carry[key], which is moved on."""
    order = np.argsort(keys, kind="stable")
    grouped = keys[order]
    starts = np.flatnonzero(np.diff(grouped, prepend=-1))
    sums = np.cumsum(steps[order])
    before = sums[starts] - steps[order][starts]
    sums += np.repeat(carry[grouped[starts]] - before, np.diff(starts, append=len(grouped)))
    carry[grouped[starts]] = sums[np.append(starts[1:], len(grouped)) - 1]
    result = np.empty_like(sums)
    result[order] = sums
    return result
