"""The soak's witness: what is lost, doubled or marked as missing is found; a gap at the beginning or the end is not."""

from collections.abc import Callable

import numpy as np
import pytest

from tapeline.schemas import GapReason, Kind, Ticks, empty_ticks
from tests.soak.witness import Account, faults

FIRST = 100
Change = Callable[[Ticks], Ticks]


def trades(instruments: int, count: int) -> Ticks:
    """Trades of so many instruments in turn, numbered as the steady venue does."""
    ticks = empty_ticks(count)
    ticks["kind"] = Kind.TRADE
    ticks["instrument_id"] = 1 + np.arange(count) % instruments
    ticks["sequence"] = FIRST + np.arange(count) // instruments
    return ticks


def gap(instrument: int) -> Ticks:
    tick = empty_ticks(1)
    tick["kind"], tick["instrument_id"], tick["price"] = Kind.GAP, instrument, GapReason.DISCONNECT
    return tick


def said(ticks: Ticks, sent: int, cut: int) -> list[str]:
    account = Account(FIRST)
    account.take(ticks[:cut])
    account.take(ticks[cut:])
    return faults(account, sent, 3)


@pytest.mark.parametrize("cut", [0, 1, 10, 31])
@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda ticks: np.delete(ticks, 10), "was to come"),
        (lambda ticks: np.insert(ticks, 10, ticks[9]), "was to come"),
        (lambda ticks: ticks[[*range(10), 13, 11, 12, 10, *range(14, 32)]], "was to come"),
        (lambda ticks: ticks[:-1], "32 ticks were sent, 31"),
        (lambda ticks: np.insert(ticks, 10, gap(2)), "a gap, DISCONNECT before trade 103"),
    ],
    ids=["lost", "doubled", "swapped", "the last is lost", "gap"],
)
def test_a_fault_is_found(change: Change, word: str, cut: int) -> None:
    found = said(change(trades(3, 32)), 32, cut)
    assert any(word in fault for fault in found), found


@pytest.mark.parametrize("cut", [0, 1, 10, 34])
def test_what_is_whole_passes(cut: int) -> None:
    ticks = np.concatenate([gap(1), gap(2), gap(3), trades(3, 32), gap(1), gap(3)])
    assert said(ticks, 32, cut) == []
