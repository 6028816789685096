"""Ticks to make bars of: Hypothesis strategies that meet every rule, and specs and instruments."""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tapeline.agents.logic.bar_spec import BarSpec
from tapeline.schemas import Flag, Instrument, Kind, Ticks, empty_ticks
from tapeline.schemas.interval import Interval

SECOND_NS = 10**9
START_NS = 1_700_000_000 * SECOND_NS


def resolve(instrument_id: int) -> Instrument:
    """An instrument of any id."""
    return Instrument(id=instrument_id, name=f"sim:{instrument_id}", partition=0)


def trades(*rows: tuple[float, float, float], recv: list[float] | None = None, **fields: Any) -> Ticks:
    """Trades of instrument 1. rows: (seconds after START_NS, price, size); recv: seconds, else as they happened."""
    ticks = empty_ticks(len(rows))
    ticks["kind"], ticks["instrument_id"] = Kind.TRADE, 1
    ticks["ts_event_ns"] = [START_NS + round(at * SECOND_NS) for at, _, _ in rows]
    ticks["ts_recv_ns"] = [START_NS + round(at * SECOND_NS) for at in recv or [at for at, _, _ in rows]]
    ticks["price"], ticks["size"] = [price for _, price, _ in rows], [size for *_, size in rows]
    for name, value in fields.items():
        ticks[name] = value
    return ticks


kinds = st.sampled_from([Kind.TRADE] * 8 + [Kind.QUOTE, Kind.GAP, Kind.TIME])
flags = st.sampled_from([0] * 8 + [Flag.LATE] * 3 + [Flag.OUTLIER, Flag.SNAPSHOT, Flag.SNAPSHOT | Flag.OUTLIER])
specs = st.builds(
    BarSpec,
    st.sampled_from(["1s", "2s", "3t", "7v", "70$"]).map(Interval.parse),
    st.sampled_from([0, 300_000_000, SECOND_NS, 5 * SECOND_NS]),
    st.integers(0, 4),
)


@st.composite
def markets(draw: st.DrawFn) -> Ticks:
    """Ticks of up to three instruments, of some seconds, in every disorder that there is."""
    count = draw(st.integers(0, 60))
    ticks = empty_ticks(count)
    now_ns, number = START_NS, 0
    for tick in ticks:
        now_ns += draw(st.sampled_from([0, 1, 50_000_000, 400_000_000, 3 * SECOND_NS]))
        delay = draw(
            st.sampled_from([0, 0, 0, 100_000_000, 900_000_000, 4 * SECOND_NS, -SECOND_NS, -11 * SECOND_NS, 2**62])
        )
        tick["ts_recv_ns"], tick["ts_event_ns"] = now_ns, now_ns - delay
        tick["kind"], tick["flags"] = draw(kinds), draw(flags)
        tick["instrument_id"] = 0 if tick["kind"] == Kind.TIME else draw(st.integers(1, 3))
        number += draw(st.sampled_from([0, 1, 1, 2, 70]))
        back = draw(st.sampled_from([0, 1, 3, 100])) if tick["flags"] & Flag.LATE else 0
        tick["sequence"] = draw(st.sampled_from([number - back, number - back, 0]))
        tick["side"] = draw(st.sampled_from([-1, 0, 1]))
        tick["price"], tick["size"] = draw(st.integers(1, 40)) / 4, draw(st.integers(0, 12)) / 4
        if tick["kind"] == Kind.GAP:
            tick["price2"] = draw(st.sampled_from([0, Kind.TRADE, Kind.BOOK]))
    return ticks


def frames(ticks: Ticks, cuts: list[int]) -> Iterator[tuple[Ticks, int]]:
    """The ticks in pieces, each with its clock: the running maximum of receive times."""
    bounds = sorted({0, len(ticks), *(cut % (len(ticks) + 1) for cut in cuts)})
    for begin, end in itertools.pairwise(bounds):
        yield ticks[begin:end], int(ticks["ts_recv_ns"][:end].max())


def joined(pieces: list[Any]) -> bytes:
    """The bytes of all arrays."""
    return b"".join(np.ascontiguousarray(piece).tobytes() for piece in pieces)
