"""Frames and events to test with: Hypothesis strategies, and records as a later program writes them."""

from decimal import Decimal

import numpy as np
from hypothesis import strategies as st

from tapeline.schemas import (
    BAR,
    TICK,
    BarFrame,
    FrameFlag,
    Instrument,
    Lane,
    Lease,
    RawFrame,
    Rejected,
    RejectOrigin,
    RejectReason,
    Signal,
    SignalOrigin,
    Snapshot,
    TickFrame,
    Ticks,
)
from tapeline.schemas.frames import CHECKSUM_BYTES, seal

int64 = st.integers(-(2**63), 2**63 - 1)
sources = st.text(st.characters(codec="utf-8"), min_size=1, max_size=60)
names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40)


@st.composite
def ticks(draw: st.DrawFn, max_size: int = 20) -> Ticks:
    """Arrays of any bytes that have a tick's size: the codec must not care what a tick says."""
    count = draw(st.integers(0, max_size))
    return np.frombuffer(draw(st.binary(min_size=count * 64, max_size=count * 64)), TICK)


@st.composite
def tick_frames(draw: st.DrawFn) -> TickFrame:
    """Any frame that can be sent."""
    return TickFrame(
        Lane(draw(st.integers(0, 2**16 - 1)), draw(st.integers(0, 2**16 - 1))),
        draw(int64),
        draw(st.integers(0, 255)),
        draw(int64),
        draw(ticks()),
        draw(st.sampled_from([FrameFlag.NONE, FrameFlag.MORE])),
    )


@st.composite
def bar_frames(draw: st.DrawFn) -> BarFrame:
    """Any frame that can be sent, with bars of any bytes."""
    count = draw(st.integers(0, 10))
    bars = np.frombuffer(draw(st.binary(min_size=count * 104, max_size=count * 104)), BAR)
    lane = Lane(draw(st.integers(0, 2**16 - 1)), draw(st.integers(0, 2**16 - 1)))
    part, stream = draw(st.integers(0, 2**16 - 1)), draw(st.integers(0, 2**32 - 1))
    return BarFrame(lane, draw(int64), part, draw(int64), stream, bars)


@st.composite
def raw_frames(draw: st.DrawFn) -> RawFrame:
    """Any frame that can be sent, with and without messages."""
    messages = draw(st.lists(st.binary(max_size=100), max_size=20))
    times = draw(st.lists(int64, min_size=len(messages), max_size=len(messages)))
    flags = draw(st.sampled_from([FrameFlag.NONE, FrameFlag.END, FrameFlag.FEED]))
    epoch = draw(st.integers(0, 2**16 - 1))
    return RawFrame.build(draw(sources), draw(int64), times, messages, time_ns=draw(int64), flags=flags, epoch=epoch)


snapshots = st.builds(
    Snapshot,
    int64,
    int64,
    st.dictionaries(names, st.none() | st.integers(-(2**53), 2**53) | names | st.lists(st.integers(0, 9)), max_size=5),
    st.binary(max_size=200),
)

decimals = st.decimals(allow_nan=False, allow_infinity=False, places=9, min_value=-(10**9), max_value=10**9)
signals = st.builds(
    Signal,
    id=st.text("0123456789abcdef", min_size=32, max_size=32),
    seq=st.integers(0, 2**62),
    tenant=names,
    logic=names,
    version=names,
    params_hash=names,
    instrument=names,
    side=st.sampled_from(["buy", "sell", "flat"]),
    strength=st.floats(allow_nan=False, allow_infinity=False),
    price=decimals | st.just(Decimal("1E-12")),
    ts_event_ns=int64,
    ts_recv_ns=int64,
    valid_until_ns=int64,
    origin=st.builds(
        SignalOrigin, partition=st.integers(0, 100), offset=st.integers(0, 2**62), index=st.integers(0, 9)
    ),
    tags=st.dictionaries(names, names, max_size=3),
)
rejected = st.builds(
    Rejected.of,
    names,
    st.sampled_from(RejectReason),
    st.text(st.characters(codec="utf-8"), max_size=2000),
    st.builds(
        RejectOrigin,
        topic=names,
        partition=st.integers(0, 100),
        offset=st.integers(0, 2**62),
        index=st.integers(0, 2**31),
    ),
    st.binary(max_size=300),
)
instruments = st.builds(
    Instrument,
    id=st.integers(0, 2**32 - 1),
    name=st.from_regex(r"[a-z0-9-]{1,10}:[A-Z0-9/.]{1,20}", fullmatch=True),
    partition=st.integers(0, 100),
    tick=st.none() | decimals,
    base=st.none() | names,
)
leases = st.builds(
    Lease,
    source=names,
    holder=names,
    epoch=st.integers(0, 2**16 - 1),
    what=st.sampled_from(["claim", "hold", "release"]),
)


def of_a_newer_version(record: bytes) -> bytes:
    """Return a whole record as a later program writes it."""
    return seal(record[:4] + bytes([record[4] + 1]) + record[5:-CHECKSUM_BYTES])
