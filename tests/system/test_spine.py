"""The spine on real input: recorded files through Kafka, the roles and PostgreSQL, undisturbed and under SIGKILL."""

import asyncio
import gzip
import io
import itertools
import json
import random
import time
import zipfile
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from tapeline.connectors.venues import MESSAGE_BYTES_MAX
from tapeline.schemas import Flag, Instrument, Kind, RawFrame
from tapeline.schemas.events import PAYLOAD_BYTES_MAX
from tapeline.streams.producer import Producer
from tests.system.conftest import temporary_home
from tests.system.platform import SHARED, Platform, running_platform, wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not SHARED.is_dir(), reason="needs the recordings in ../shared/data"),
]

USDM = SHARED / "ws_raw/hftbacktest/usdm_btcusdt_20240808.gz"
SPOT = SHARED / "ws_raw/hftbacktest/spot_btcusdt_20240809.gz"
SPY = SHARED / "ticks_lean/equity_usa_tick_spy_20131007_trade.zip"
EURUSD = SHARED / "ticks_lean/forex_fxcm_tick_eurusd_20140508_quote.zip"

SMALL_FRAMES = {
    "TAPELINE_FRAMES__MESSAGES_MAX": "25",
    "TAPELINE_FRAMES__WAIT_MS": "10000",
    "TAPELINE_FRAMES__ADAPTIVE": "false",
}
"""For ingest: frames that close by count alone. The same frames, and so the same signal ids, at any speed."""

Trade = tuple[int, int, str]
"""(event time ns, receive time ns, price as written)"""


def binance_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(receive time, event) of a recorded file, the REST snapshot included."""
    with gzip.open(path) as lines:
        for line in lines:
            recv_ns, message = line.split(b" ", 1)
            event = orjson.loads(message)
            yield int(recv_ns), event.get("data", event)


def binance_trades(path: Path) -> list[Trade]:
    """The trades of a file, read the slow way."""
    return [(e["T"] * 1_000_000, recv, e["p"]) for recv, e in binance_lines(path) if e.get("e") == "trade"]


def spy_trades() -> list[Trade]:
    """The trades of the SPY file: milliseconds since midnight in New York, which was UTC-4 on that day."""
    midnight_ns = 1_381_118_400 * 10**9  # 2013-10-07 00:00 -04:00
    found, clock = [], 0
    with zipfile.ZipFile(SPY) as archive, archive.open(archive.namelist()[0]) as lines:
        for line in io.TextIOWrapper(lines):
            milliseconds, price, *_ = line.split(",")
            event_ns = midnight_ns + int(milliseconds) * 1_000_000
            clock = max(clock, event_ns)
            found.append((event_ns, clock, str(Decimal(price) / 10_000)))
    return found


def ema_cross(trades: list[Trade], fast: int = 20, slow: int = 50) -> list[tuple[Any, ...]]:
    """(side, strength, price, event time, receive time) of each signal, in plain Python."""
    found = []
    average_fast = average_slow = 0.0
    side = ""
    for n, (event_ns, recv_ns, text) in enumerate(trades, 1):
        price = float(text)
        if n == 1:
            average_fast = average_slow = price
        average_fast += (price - average_fast) * 2 / (fast + 1)
        average_slow += (price - average_slow) * 2 / (slow + 1)
        now = "buy" if average_fast > average_slow else "sell"
        if n >= slow and now != side:
            side = now
            found.append((side, abs(average_fast - average_slow) / price, Decimal(repr(price)), event_ns, recv_ns))
    return found


def stored_signals(platform: Platform, instrument: str) -> list[tuple[Any, ...]]:
    """What the database holds of an instrument, in order of seq, through the command that users have."""
    lines = platform.cli("signals", "--logic", "ema_cross", "--instrument", instrument, "--format", "json")
    signals = [orjson.loads(line) for line in lines.splitlines()]
    assert [s["seq"] for s in signals] == sorted(s["seq"] for s in signals)
    return [(s["side"], s["strength"], Decimal(s["price"]), s["ts_event_ns"], s["ts_recv_ns"]) for s in signals]


@pytest.fixture(scope="module")
def undisturbed() -> Iterator[Platform]:
    """A platform through which all four files went."""
    with temporary_home() as home, running_platform(home) as platform:
        platform.cli("ingest", "binance", str(USDM), env=SMALL_FRAMES)
        for venue, file in (("binance", SPOT), ("lean", SPY), ("lean", EURUSD)):
            platform.cli("ingest", venue, str(file), "--speed", "max")
        platform.wait_until_done()
        yield platform


@pytest.fixture(scope="module")
def ticks(undisturbed: Platform) -> dict[str, np.ndarray[Any, Any]]:
    """Every tick in topic `ticks` once, by instrument, in the order of the topic."""
    instruments = [Instrument.decode(value) for _, _, value in undisturbed.records("instruments")]
    every = np.concatenate([frame.ticks for frame in undisturbed.frames()])
    return {one.name: every[every["instrument_id"] == one.id] for one in instruments}


def expected_binance(path: Path) -> Iterator[tuple[int, int, int, float, float, float, float]]:
    """(kind, receive time, sequence, price, size, price2, size2) of every tick that a file holds, the slow way."""
    for recv, event in binance_lines(path):
        if event.get("e") == "trade":
            yield Kind.TRADE, recv, event["t"], float(event["p"]), float(event["q"]), 0.0, 0.0
        elif "b" in event and isinstance(event["b"], str):
            bid, ask = (float(event["b"]), float(event["B"])), (float(event["a"]), float(event["A"]))
            yield Kind.QUOTE, recv, event["u"], *bid, *ask
        else:
            number = event["lastUpdateId"] if "lastUpdateId" in event else event["u"]
            for side in ("b", "a") if "b" in event else ("bids", "asks"):
                for price, size in event[side]:
                    yield Kind.BOOK, recv, number, float(price), float(size), 0.0, 0.0


@pytest.mark.parametrize(
    ("path", "name", "trades", "quotes", "updates"),
    [
        (USDM, "binance-usdm:BTCUSDT", 21_313, 66_089, 6_551),
        (SPOT, "binance:BTCUSDT", 10_147, 45_134, 3_044),
    ],
)
def test_every_binance_message_arrives_once_and_in_order(
    ticks: dict[str, np.ndarray[Any, Any]], path: Path, name: str, trades: int, quotes: int, updates: int
) -> None:
    got = ticks[name]
    columns = ["kind", "ts_recv_ns", "sequence", "price", "size", "price2", "size2"]
    assert got[columns].tolist() == list(expected_binance(path))
    kinds = Counter(got["kind"].tolist())
    assert kinds[Kind.TRADE] == trades
    assert kinds[Kind.QUOTE] == quotes
    book = got[got["kind"] == Kind.BOOK]
    assert len(np.unique(book["sequence"][book["flags"] & Flag.SNAPSHOT == 0])) == updates
    assert set(kinds) == {Kind.TRADE, Kind.QUOTE, Kind.BOOK}, "a recording without breaks has no GAP"


def test_event_time_that_goes_back_drops_nothing(ticks: dict[str, np.ndarray[Any, Any]]) -> None:
    times = [e["E"] for _, e in binance_lines(USDM) if "E" in e]
    assert sum(after < before for before, after in itertools.pairwise(times)) == 855
    assert (np.diff(ticks["binance-usdm:BTCUSDT"]["ts_recv_ns"]) >= 0).all()


def test_every_lean_row_arrives_once(ticks: dict[str, np.ndarray[Any, Any]]) -> None:
    spy, eurusd = ticks["lean:SPY"], ticks["lean:EURUSD"]
    assert len(spy) == 250_601
    assert spy["sequence"].tolist() == list(range(1, 250_602))
    assert [(int(t), int(r), float(p)) for t, r, p in spy[["ts_event_ns", "ts_recv_ns", "price"]].tolist()] == [
        (event, recv, float(price)) for event, recv, price in spy_trades()
    ]
    assert len(eurusd) == 167_466
    assert eurusd["sequence"].tolist() == list(range(1, 167_467))
    assert np.count_nonzero(eurusd["flags"] & Flag.CROSSED) == 18_285
    assert np.count_nonzero(eurusd["flags"] & Flag.LOCKED) == 19_051


@pytest.mark.parametrize("name", ["binance-usdm:BTCUSDT", "binance:BTCUSDT", "lean:SPY"])
def test_the_signals_in_the_database_are_those_of_a_plain_computation(undisturbed: Platform, name: str) -> None:
    path = {"binance-usdm:BTCUSDT": USDM, "binance:BTCUSDT": SPOT}.get(name)
    wanted = ema_cross(binance_trades(path) if path else spy_trades())
    assert len(wanted) > 50
    assert stored_signals(undisturbed, name) == wanted


def test_nothing_was_rejected(undisturbed: Platform) -> None:
    assert undisturbed.rejected() == []


def test_seq_has_no_gap_and_no_repeat(undisturbed: Platform) -> None:
    partition = {
        one.name: one.partition
        for one in (Instrument.decode(value) for _, _, value in undisturbed.records("instruments"))
    }
    by_partition: dict[int, list[int]] = {}
    for row in undisturbed.rows("SELECT instrument, seq FROM signals"):
        by_partition.setdefault(partition[row["instrument"]], []).append(row["seq"])
    assert by_partition
    for seqs in by_partition.values():
        assert sorted(seqs) == list(range(len(seqs)))


def trade_message(number: int) -> dict[str, Any]:
    """A good trade."""
    event = {"e": "trade", "E": 1, "T": 1, "s": "FUZZUSDT", "t": number, "p": "10.5", "q": "2", "m": False}
    return {"stream": "fuzzusdt@trade", "data": event}


def broken_message(chance: random.Random, number: int) -> bytes:
    """A message that no venue sends, broken in one of many ways."""
    message = trade_message(number)
    whole = orjson.dumps(message)
    match chance.randrange(6):
        case 0:
            return whole[: chance.randrange(len(whole))]
        case 1:
            return chance.randbytes(chance.randrange(1, 200))
        case 2:
            wrong: list[Any] = [None, "", [], {}, True, -1.5]
            field = chance.choice(["T", "s", "t", "p", "q"])
            if field != "s":  # any text may be a symbol
                wrong += ["x", "NaN", "-3", "1e400", 2**70]
            message["data"][field] = chance.choice(wrong)
        case 3:
            del message["data"][chance.choice(["T", "s", "t", "p", "q", "m"])]
        case 4:
            message["data"]["e"] = chance.choice(["kline", "", None, 7, "forceOrder"])
        case 5:
            return b"[" * chance.randrange(1, 5000)
    return json.dumps(message).encode()


def test_each_broken_message_is_rejected_once_and_the_workers_live(undisturbed: Platform) -> None:
    chance = random.Random(1)
    broken = [broken_message(chance, number) for number in range(999)] + [b'"' + b"x" * MESSAGE_BYTES_MAX + b'"']
    pids = {role: undisturbed.pid_of(role) for role in ("normalize", "logic", "persist")}

    async def send() -> None:
        async with Producer({"bootstrap.servers": undisturbed.bootstrap}) as producer:
            for first in range(0, 1_000, 50):
                good = orjson.dumps(trade_message(first))
                messages = [good, *broken[first : first + 50], good]
                frame = RawFrame.build("binance/fuzz", first // 50 * 52, [1] * 52, messages)
                await producer.send("raw", frame.encode(), key="binance/fuzz", partition=0)
            await producer.send("raw", b"not a frame", key="binance/fuzz", partition=0)

    asyncio.run(send())
    undisturbed.wait_until_done()
    rejected = undisturbed.rejected()
    assert Counter(one.payload for one in rejected) == Counter(
        [*(m[:PAYLOAD_BYTES_MAX] for m in broken), b"not a frame"]
    )
    origins = [(one.origin.topic, one.origin.partition, one.origin.offset, one.origin.index) for one in rejected]
    assert len(set(origins)) == len(origins) == 1_001
    assert len({one.id for one in rejected}) == len(rejected)
    assert all(one.detail for one in rejected)
    assert {one.reason for one in rejected} >= {"malformed", "unknown", "oversized", "corrupt"}
    [instrument] = [
        one
        for one in (Instrument.decode(value) for _, _, value in undisturbed.records("instruments"))
        if one.name == "binance:FUZZUSDT"
    ]
    good = sum((frame.ticks["instrument_id"] == instrument.id).sum() for frame in undisturbed.frames())
    assert good >= 40, "the good messages around them arrived"
    assert {role: undisturbed.pid_of(role) for role in pids} == pids


def test_killed_workers_change_nothing(undisturbed: Platform) -> None:
    """SIGKILL of normalize and logic, two seeded times each, while the USD-M file runs through a fresh platform."""
    chance = random.Random(20240808)
    with temporary_home() as home, running_platform(home) as platform:
        ingest = platform.start("ingest", "binance", str(USDM), "--speed", "6x", "--quiet", env=SMALL_FRAMES)
        victims = ["normalize", "logic"] * 2
        chance.shuffle(victims)
        for victim in victims:
            topic = {"normalize": "raw", "logic": "ticks"}[victim]
            before = sum(platform.committed(victim, topic).values())
            wait_until(
                lambda victim=victim, topic=topic, before=before: (  # type: ignore[misc]
                    sum(platform.committed(victim, topic).values()) > before
                ),
                f"{victim} to get on",
            )
            time.sleep(chance.uniform(0, 1))  # the seeded moment; nothing waits for it to pass
            assert ingest.poll() is None, "the kills come while the input runs"
            platform.wait_for_new_process(victim, platform.kill(victim))
        assert ingest.wait(120) == 0
        platform.wait_until_done()
        query = "SELECT id, seq, instrument FROM signals WHERE instrument = 'binance-usdm:BTCUSDT' ORDER BY seq"
        killed = platform.rows(query)
        assert [row["seq"] for row in killed] == list(range(len(killed)))
        assert {row["id"] for row in killed} == {row["id"] for row in undisturbed.rows(query)}
        assert stored_signals(platform, "binance-usdm:BTCUSDT") == ema_cross(binance_trades(USDM))
