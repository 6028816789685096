"""The simulated market: the same bytes every time, everything it promises in it, and a parser for what it says."""

import hashlib
import json
from collections import Counter
from dataclasses import replace
from itertools import islice, pairwise
from typing import Any

import numpy as np
import pytest

from tapeline.connectors.venues import Message, RecordingError, parse_frame
from tapeline.connectors.venues.sim_market import SECOND_NS, START_NS, MarketOptions, open_market
from tapeline.schemas import Flag, GapReason, Kind, RawFrame, RejectReason
from tests.connectors.venues.conftest import Read, read, read_messages

SHORT = MarketOptions(
    seconds=12, rate=1500, session_seconds=5, pause_seconds=2, gaps=0.002, malformed=0.002, outliers=0.002
)


def messages_of(options: MarketOptions, count: int | None = None) -> list[Message]:
    return [item for item in islice(open_market(options).items, count) if isinstance(item, Message)]


def digest(messages: list[Message]) -> str:
    return hashlib.sha256(b"\n".join(b"%d %b" % message for message in messages)).hexdigest()


@pytest.fixture(scope="module")
def market() -> Read:
    return read(open_market(SHORT))


def test_the_same_options_give_the_same_bytes(market: Read) -> None:
    assert digest(messages_of(SHORT)) == digest(list(market.messages))
    # Fixed, so that a change of the market's bytes is a decision and not an accident.
    assert (
        digest(messages_of(MarketOptions(), 20_000))
        == "8dfd2d5ae003c1c41be4887bdc2cb5ea7a245575ad537cad2e51880f8ffb5a68"
    )


def test_other_seeds_and_starts_give_other_markets() -> None:
    first = messages_of(SHORT, 500)
    assert digest(first) != digest(messages_of(replace(SHORT, seed=8), 500))
    later = messages_of(replace(SHORT, start_ns=START_NS + 5), 500)
    assert [message.recv_ns + 5 for message in first] == [message.recv_ns for message in later]
    endless = messages_of(replace(SHORT, seconds=None), 500)
    assert endless == first


def test_how_it_is_framed_changes_nothing(market: Read) -> None:
    other = read_messages(market.recording, market.messages, messages_max=37)
    assert other.names == market.names
    assert other.ticks.tobytes() == market.ticks.tobytes()
    assert other.rejects == market.rejects


def test_it_has_everything_it_promises(market: Read) -> None:
    kinds = Counter(market.ticks["kind"].tolist())
    assert kinds[Kind.TRADE] > 1000
    assert kinds[Kind.QUOTE] > 1000
    assert kinds[Kind.GAP] > 5
    assert kinds[Kind.STATUS] == 3 * 8, "open, close, open"
    assert len(market.rejects) > 5
    assert {reject.reason for reject in market.rejects} == {RejectReason.MALFORMED}
    answered = len(market.ticks) - kinds[Kind.GAP] + len(market.rejects)
    assert answered == len(market.messages)
    assert len(market.names) == 8
    assert not (market.ticks["flags"] & (Flag.CROSSED | Flag.LATE | Flag.ONE_SIDED)).any()
    sides = Counter(market.ticks["side"][market.ticks["kind"] == Kind.TRADE].tolist())
    assert 0.8 < sides[1] / sides[-1] < 1.25
    recv_ns = [message.recv_ns for message in market.messages]
    assert all(earlier <= later for earlier, later in pairwise(recv_ns))
    assert (market.ticks["ts_recv_ns"] > market.ticks["ts_event_ns"]).all()


def test_trading_pauses_between_sessions(market: Read) -> None:
    at = (market.ticks["ts_event_ns"] - START_NS) / SECOND_NS
    assert at.min() == 0
    assert at.max() < 12
    assert not ((at > 5) & (at < 7)).any()
    (closes,) = {float(one) for one in at[(market.ticks["kind"] == Kind.STATUS) & (market.ticks["size"] == 0)]}
    assert closes == 5


def test_gaps_are_the_skipped_numbers(market: Read) -> None:
    """Count the missing ids from the JSON, without the parser; messages cut short are missing too."""
    last: dict[tuple[str, str], int] = {}
    missing = 0
    for message in market.messages:
        try:
            said = json.loads(message.data)
        except ValueError:
            continue
        if "id" in said:
            key = said["type"], said["symbol"]
            missing += said["id"] - last.get(key, said["id"] - 1) - 1
            last[key] = said["id"]
    gaps = market.ticks[market.ticks["kind"] == Kind.GAP]
    assert missing == gaps["size"].sum() > 0
    assert set(gaps["price"].tolist()) == {GapReason.SEQUENCE}
    assert set(gaps["price2"].tolist()) == {Kind.TRADE, Kind.QUOTE}


def test_prices_move_together_as_much_as_asked() -> None:
    def correlation(share: float) -> float:
        options = MarketOptions(
            seconds=300, rate=50, instruments=2, correlation=share, outliers=0, bursts_per_second=0, pause_seconds=0
        )
        ticks = read(open_market(options)).ticks
        quotes = ticks[ticks["kind"] == Kind.QUOTE]
        grid = START_NS + np.arange(1, 300) * SECOND_NS
        returns = []
        for number in range(2):
            own = quotes[quotes["instrument_id"] == number]
            at = np.searchsorted(own["ts_event_ns"], grid) - 1
            returns.append(np.diff(np.log(own["price"][at])))
        return float(np.corrcoef(returns)[0, 1])

    assert correlation(0.9) > 0.6
    assert abs(correlation(0.0)) < 0.2


def test_bursts_come_faster() -> None:
    def busiest(bursts: float) -> int:
        options = MarketOptions(seconds=30, rate=200, bursts_per_second=bursts, pause_seconds=0)
        times = np.array([message.recv_ns for message in messages_of(options)])
        return int(np.bincount((times - START_NS) // (SECOND_NS // 10)).max())

    assert busiest(0.3) > 3 * busiest(0)


def test_the_rate_is_what_was_asked() -> None:
    for bursts in (0.0, 0.1):
        count = len(messages_of(MarketOptions(seconds=100, rate=200, bursts_per_second=bursts, pause_seconds=0)))
        assert 0.8 < count / 20_000 < 1.2


@pytest.mark.parametrize(
    "wrong",
    [{"rate": 0}, {"instruments": 0}, {"gaps": 1.5}, {"seed": -1}, {"seconds": -1}, {"correlation": float("nan")}],
)
def test_options_that_make_no_market_are_refused(wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(RecordingError, match=f"sim: {name} is .* it must be from"):
        MarketOptions(**wrong)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"{", RejectReason.MALFORMED),
        (b"[]", RejectReason.UNKNOWN),
        (b"3", RejectReason.UNKNOWN),
        (b'"type"', RejectReason.UNKNOWN),
        (b'{"type":"auction","symbol":"A"}', RejectReason.UNKNOWN),
        (b'{"type":["trade"]}', RejectReason.UNKNOWN),
        (b'{"symbol":"A"}', RejectReason.UNKNOWN),
        (b'{"type":"status","symbol":"A","time_ns":1}', RejectReason.MALFORMED),
        (b'{"type":"status","symbol":"A","time_ns":1,"status":"halt"}', RejectReason.MALFORMED),
        (b'{"type":"status","symbol":"A","time_ns":1,"status":["open"]}', RejectReason.MALFORMED),
        (b'{"type":"status","symbol":"A","time_ns":1.5,"status":"open"}', RejectReason.MALFORMED),
        (
            b'{"type":"trade","symbol":"A","id":1,"time_ns":1,"price":"1","size":"1","side":"hold"}',
            RejectReason.MALFORMED,
        ),
        (
            b'{"type":"trade","symbol":"A","id":1,"time_ns":1,"price":"0","size":"1","side":"buy"}',
            RejectReason.MALFORMED,
        ),
    ],
)
def test_what_it_never_says_is_rejected(data: bytes, reason: RejectReason) -> None:
    good = b'{"type":"status","symbol":"A","time_ns":1,"status":"open"}'
    parsed = parse_frame(RawFrame.build("sim/x", 0, [5, 6, 7], [good, data, good]), {})
    assert [(reject.index, reject.reason) for reject in parsed.rejects] == [(1, reason)]
    assert parsed.ticks["ts_recv_ns"].tolist() == [5, 7]
