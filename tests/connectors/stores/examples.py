"""Signals to write, used by the tests of stores with and without a server."""

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from tapeline.schemas import Signal, SignalOrigin, computed_id

DAY_NS = 86_400 * 10**9
START_NS = 1_723_075_200_000_000_000  # 2024-08-08T00:00:00Z


def make_signal(seq: int = 0, **changes: Any) -> Signal:
    """The seq-th signal of a logic, a second after the one before; its id follows from logic and seq."""
    ts_event_ns = START_NS + seq * 10**9 + 123
    logic = changes.get("logic", "ema_cross")
    fields: dict[str, Any] = {
        "id": computed_id(logic, seq),
        "seq": seq,
        "tenant": "local",
        "logic": logic,
        "version": "ema_cross-1",
        "params_hash": "9f86d081",
        "instrument": "sim:ABC",
        "side": ("buy", "sell")[seq % 2],
        "strength": 0.1 + seq / 3,
        "price": Decimal(10_000 + seq) / 100,
        "ts_event_ns": ts_event_ns,
        "ts_recv_ns": ts_event_ns + 5_000_000,
        "valid_until_ns": ts_event_ns + 60 * 10**9,
        "origin": SignalOrigin(partition=1, offset=seq, index=0),
        "tags": {"desk": "demo"},
    }
    return Signal(**fields | changes)


def make_signals(count: int, start: int = 0, **changes: Any) -> list[Signal]:
    """So many signals in order."""
    return [make_signal(seq, **changes) for seq in range(start, start + count)]


def encoded(signals: Iterable[Signal]) -> list[bytes]:
    """The signals as they lie in the topic."""
    return [one.encode() for one in signals]
