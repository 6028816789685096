"""What the host writes never changes: the hashes below are of its first version, and whoever changes it keeps them.

Signals lie in topics and databases for ever, and a replay is compared with them byte by byte.
"""

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tapeline.agents.logic import BUY, SELL, Logic, Param, Signal, logic
from tapeline.agents.logic.examples import SHIPPED
from tapeline.agents.logic.host import Instance
from tapeline.agents.logic.spec import LogicSpec
from tapeline.schemas import Flag, FrameFlag, Kind, Lane, Snapshot, TickFrame, Ticks, empty_ticks

NAMES = ("sim:S", "binance-usdm:BTC", 'odd-1:quote"back\\slash/', "odd-2:tab\tµ€𝄞", "odd-3:\x00\x1f\x7f\u2028")


@logic(params={"scale": Param(1.0, 0.0, 1e300)}, state={"n": int}, kinds="trade,quote")
def echo(tick: Any, state: Any, params: Any) -> Signal:
    """Say what the tick holds, any number that a float can be."""
    state.n += 1
    return Signal(BUY if tick.side > 0 else SELL, tick.size * params.scale)


def bits(seed: int, count: int) -> npt.NDArray[np.uint64]:
    """`count` random 64-bit words (SplitMix64), the same with every version of numpy."""
    x = np.arange(seed << 40, (seed << 40) + count, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def market(count: int, instruments: int) -> Ticks:
    """Trades and quotes of prices that walk, decimals as venues give them."""
    ticks = empty_ticks(count)
    ticks["kind"] = np.where(bits(1, count) % 3, Kind.TRADE, Kind.QUOTE)
    ticks["instrument_id"] = 1 + bits(2, count) % instruments
    ticks["price"] = 30_000 + ((bits(3, count) % 201).astype(np.int64) - 100).cumsum() / 100
    ticks["price2"] = ticks["price"] + 0.01
    ticks["size"] = 1 + bits(4, count) % 9
    ticks["size2"] = ticks["size"] * np.where(np.arange(count) // 400 % 2, 20.0, 0.05)
    ticks["ts_recv_ns"] = 1_700_000_000_000_000_000 + np.arange(count) * 1_000_001
    ticks["ts_event_ns"] = ticks["ts_recv_ns"] - bits(5, count) % 5_000
    return ticks


def wild(count: int, instruments: int) -> Ticks:
    """Ticks of any numbers at all: every exponent, subnormals, infinities, NaN, both zeros, times before 1970."""
    ticks = market(count, instruments)
    for seed, name in enumerate(("price", "size", "price2", "size2"), 10):
        ticks[name] = np.where(bits(seed, count) % 5, ticks[name], bits(seed + 10, count).view(np.float64))
    ticks["price"][::7] = np.resize([float(f"1e{exponent}") for exponent in range(-300, 300)], len(ticks["price"][::7]))
    ticks["size"][::13] = np.resize([np.inf, -np.inf, np.nan, 5e-324, 1.7976931348623157e308], len(ticks["size"][::13]))
    ticks["price"][5::97] = np.resize([np.inf, -np.inf, np.nan, 5e-324], len(ticks["price"][5::97]))
    ticks["price"][::11] = np.where(np.arange(len(ticks["price"][::11])) % 2, 0.0, -0.0)
    ticks["side"] = np.where(bits(6, count) % 2, 1, -1)
    ticks["flags"] = np.where(bits(7, count) % 4, 0, Flag.ONE_SIDED)
    ticks["ts_event_ns"] = (bits(8, count) >> np.uint64(1)).astype(np.int64) - 2**62
    return ticks


def records(ticks: Ticks) -> Iterator[bytes]:
    """Frames of many sizes from two lanes, some in parts, some twice."""
    start = offset = 0
    while start < len(ticks):
        size = (1, 10, 100, 1_000)[offset % 4]
        pieces = [ticks[start : start + size][cut : cut + 400] for cut in range(0, size, 400)]
        for part, piece in enumerate(pieces):
            more = FrameFlag.MORE if part + 1 < len(pieces) else FrameFlag.NONE
            record = TickFrame(Lane(offset // 3 % 2, 1), offset, part, start, piece, more).encode()
            yield from [record] * (2 if offset % 5 == 0 else 1)
        start += size
        offset += 1


def name_of(number: int) -> str:
    """Names that JSON must escape and names that it need not."""
    return f"{NAMES[number % len(NAMES)]}{number}"


def spoken(spec: LogicSpec, ticks: Ticks) -> tuple[int, int, str]:
    """(signals, refused, hash of all that was said and saved), with a restart now and then."""
    host = Instance(spec, name_of)
    digest = hashlib.sha256()
    signal_count = refused_count = 0
    for offset, record in enumerate(records(ticks)):
        signals, refused = host.on_record(offset, TickFrame.decode(record))
        signal_count, refused_count = signal_count + len(signals), refused_count + len(refused)
        for signal in signals:
            digest.update(signal + b"\n")
        for one in refused:
            digest.update(f"{one.instrument} {one.origin.model_dump()} {one.detail}\n".encode())
        if offset % 20 == 7:
            saved = host.snapshot().encode()
            digest.update(saved)
            host = Instance(spec, name_of, Snapshot.decode(saved))
    return signal_count, refused_count, digest.hexdigest()


CASES: dict[str, tuple[Logic, Ticks, dict[str, Any], tuple[int, int, str]]] = {
    "ema_cross": (
        SHIPPED["ema_cross"],
        market(40_000, 4),
        {},
        (524, 0, "6356ec98544f95699a9aadacd2eea66d55f35944a743ee8990586170cfed68f1"),
    ),
    "breakout": (
        SHIPPED["breakout"],
        market(40_000, 3),
        {"name": "mine", "params": {"window": 20, "margin_bps": 0.0}, "tags": {"book": "ä", "z": ""}},
        (615, 0, "5b63a69cdad085402511360b476186a62694affe6496ef4663070fd80c095d77"),
    ),
    "order_imbalance": (
        SHIPPED["order_imbalance"],
        market(40_000, 2),
        {"valid_ns": 0},
        (200, 0, "21237f3e3ecb54d702733fc8b9f57814967a7edfadf90bf74705281b94e4c535"),
    ),
    "wild": (
        echo,
        wild(6_000, 100),
        {"tenant": 'a"\\\n', "instruments": ("sim:*", "odd-*", "binance-*9")},
        (4541, 254, "1d0eb8f73f0f24ad06ab8d61f0b378f13de43c02d6fc22444cf0c1b67cc9aec1"),
    ),
    "one instrument": (
        echo,
        wild(3_000, 1),
        {"tags": {"\u2028": "\x00"}, "valid_ns": 2**62},
        (2839, 161, "5f7e5cafffd37046174f1ee3243e2271a63e626e47455c506e7e49ee8000a20b"),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_all_that_is_said_and_saved_is_what_it_always_was(case: str) -> None:
    one, ticks, changes, wanted = CASES[case]
    params = one.bind(changes.get("params", {}))
    assert spoken(LogicSpec(**{"name": one.name, "logic": one, **changes, "params": params}), ticks) == wanted
