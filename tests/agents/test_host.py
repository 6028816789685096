"""The logic host: same signals whatever the frame cuts, crashes and duplicates; ids and seq as the design says."""

from collections.abc import Callable, Iterable
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.agents.logic import BUY, HOLD, SELL, Logic, LogicError, Param, Signal, logic
from tapeline.agents.logic.examples import SHIPPED
from tapeline.agents.logic.host import Instance
from tapeline.agents.logic.spec import LogicSpec
from tapeline.schemas import TICK, Flag, FrameFlag, Kind, Lane, Snapshot, TickFrame, Ticks, empty_ticks
from tapeline.schemas import Signal as SignalEvent


@logic(params={"step": Param(3, 1, 100)}, state={"n": int}, kinds="trade")
def every_step(tick: Any, state: Any, params: Any) -> Signal:
    """Say something at every `step`-th trade, so that counting mistakes show."""
    state.n += 1
    if state.n % params.step:
        return HOLD
    return Signal(BUY if tick.price > 100 else SELL, tick.price)


@logic(params={}, state={"n": int}, kinds="trade")
def echo(tick: Any, state: Any, params: Any) -> Signal:
    """Say what the tick holds."""
    return Signal(BUY if tick.side > 0 else SELL, tick.size)


def spec_of(one: Logic, **changes: Any) -> LogicSpec:
    """The logic under its own name with default parameters."""
    return LogicSpec(**{"name": one.name, "logic": one, "params": one.bind({}), **changes})


def instance(one: Logic, snapshot: Snapshot | None = None, **changes: Any) -> Instance:
    """An instance whose instruments are called sim:S<id>."""
    return Instance(spec_of(one, **changes), lambda number: f"sim:S{number}", snapshot)


def market(count: int, instruments: int = 5, seed: int = 1) -> Ticks:
    """Random trades and quotes."""
    rng = np.random.default_rng(seed)
    ticks = empty_ticks(count)
    ticks["kind"] = rng.choice([Kind.TRADE, Kind.QUOTE], count)
    ticks["instrument_id"] = rng.integers(1, instruments + 1, count)
    ticks["price"] = np.round(100 + rng.normal(0, 0.5, count).cumsum(), 2)
    ticks["price2"] = ticks["price"] + 0.01
    ticks["size"], ticks["size2"] = rng.integers(1, 9, count), rng.integers(1, 9, count)
    ticks["ts_recv_ns"] = np.arange(count) + 1_000
    ticks["ts_event_ns"] = ticks["ts_recv_ns"] - rng.integers(0, 50, count)
    return ticks


def read_only(ticks: Ticks) -> Ticks:
    """The same ticks as a decoded frame holds them."""
    return np.frombuffer(ticks.tobytes(), TICK)


def frames_of(ticks: Ticks, sizes: Iterable[int], lane: Lane = Lane(3, 0)) -> list[TickFrame]:  # noqa: B008 - frozen
    """Cut ticks into records of the given sizes, as if read from Kafka."""
    frames, start = [], 0
    for offset, size in enumerate(sizes):
        piece = ticks[start : start + size]
        start += size
        frames.append(TickFrame.decode(TickFrame(lane, offset, 0, 7, piece).encode()))
    assert start >= len(ticks)
    return frames


def run(host: Instance, frames: Iterable[TickFrame], first: int = 0) -> list[SignalEvent]:
    """Feed frames at consecutive offsets."""
    out: list[SignalEvent] = []
    for offset, frame in enumerate(frames, first):
        signals, refused = host.on_record(offset, frame)
        assert not refused
        out += map(SignalEvent.decode, signals)
    return out


def said(signals: Iterable[SignalEvent]) -> list[tuple[Any, ...]]:
    """What must not depend on frame cuts."""
    return [(s.seq, s.instrument, s.side, s.strength, s.price, s.ts_event_ns, s.ts_recv_ns) for s in signals]


def by_hand(one: Logic, ticks: Ticks, only: Callable[[int], bool] = lambda _: True) -> list[tuple[int, int, float]]:
    """(tick number, side, strength) from the same handler in plain Python, over plain objects."""
    states: dict[int, Any] = {}
    params = SimpleNamespace(**one.bind({}))
    found = []
    for number, values in enumerate(ticks.tolist()):
        tick = SimpleNamespace(**dict(zip(TICK.names or (), values, strict=True)))
        who = tick.instrument_id
        if tick.kind in one.kinds and only(who):
            state = states.setdefault(who, SimpleNamespace(**{name: kind() for name, kind in one.state.items()}))
            signal = one.handler(tick, state, params)
            if signal.side:
                found.append((number, signal.side, signal.strength))
    return found


@pytest.mark.parametrize("name", SHIPPED)
def test_compiled_equals_the_same_function_in_plain_python(name: str) -> None:
    ticks = market(6_000)
    if name == "order_imbalance":
        ticks["size"] *= np.where(np.arange(6_000) // 600 % 2, 20, 1)
    signals = run(instance(SHIPPED[name]), frames_of(ticks, [1_000] * 6))
    wanted = by_hand(SHIPPED[name], ticks)
    assert len(wanted) >= 5
    assert [(s.ts_recv_ns - 1_000, {"buy": 1, "sell": -1}[s.side], s.strength) for s in signals] == wanted


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 120), min_size=5, max_size=40), st.integers(0, 3))
def test_frame_cuts_change_nothing_but_ids(sizes: list[int], seed: int) -> None:
    ticks = market(sum(sizes), seed=seed)
    assert said(run(instance(every_step), frames_of(ticks, sizes))) == said(
        run(instance(every_step), frames_of(ticks, [len(ticks)]))
    )


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_a_crash_anywhere_repeats_the_same_signals(data: st.DataObject) -> None:
    frames = frames_of(market(900), [30] * 30)
    undisturbed = run(instance(every_step), frames)
    saved_at = data.draw(st.integers(0, 29))
    killed_at = data.draw(st.integers(saved_at, 30))
    first = instance(every_step)
    out = run(first, frames[:saved_at])
    snapshot = Snapshot.decode(first.snapshot().encode())
    out += run(first, frames[saved_at:killed_at], saved_at)
    second = instance(every_step, snapshot)
    assert second.next_offset == saved_at
    out += run(second, frames[saved_at:], saved_at)
    assert {s.id: s for s in out} == {s.id: s for s in undisturbed}
    assert len({s.id for s in undisturbed}) == len(undisturbed)
    assert [s.seq for s in undisturbed] == list(range(len(undisturbed)))


def test_frames_seen_before_change_nothing() -> None:
    frames = frames_of(market(900), [30] * 30)
    doubled = [frame for pair in zip(frames, frames, strict=True) for frame in pair] + frames
    assert said(run(instance(every_step), doubled)) == said(run(instance(every_step), frames))


def test_the_index_counts_the_instruments_ticks_in_the_raw_record_over_its_parts() -> None:
    ticks = empty_ticks(40)
    ticks["kind"], ticks["price"] = Kind.TRADE, 100
    ticks["instrument_id"] = [1, 2] * 20
    lane, other = Lane(0, 0), Lane(1, 0)
    parts = [
        TickFrame(lane, 5, 0, 0, ticks[:10], FrameFlag.MORE),
        TickFrame(other, 9, 0, 0, ticks[:4]),  # another connection in between
        TickFrame(lane, 5, 1, 0, ticks[10:], FrameFlag.NONE),
        TickFrame(lane, 6, 0, 0, ticks[:10], FrameFlag.NONE),
    ]
    whole = instance(every_step)
    signals = run(whole, parts)
    of_five = [s.origin.index for s in signals if (s.origin.partition, s.origin.offset) == (0, 5)]
    assert max(of_five) >= 15
    first = instance(every_step)
    out = run(first, parts[:2])
    second = instance(every_step, Snapshot.decode(first.snapshot().encode()))
    out += run(second, parts[2:], 2)
    assert out == signals
    ids = [s.id for s in signals]
    assert len(set(ids)) == len(ids)


def test_only_wanted_instruments_and_kinds_are_seen() -> None:
    ticks = market(600)
    host = instance(every_step, instruments=("sim:S1", "sim:S[23]"))
    signals = run(host, frames_of(ticks, [100] * 6))
    wanted = by_hand(every_step, ticks, lambda who: who in (1, 2, 3))
    assert [(s.ts_recv_ns - 1_000) for s in signals] == [number for number, *_ in wanted]
    assert {s.instrument for s in signals} == {"sim:S1", "sim:S2", "sim:S3"}


def test_many_instruments_grow_the_state() -> None:
    ticks = market(20_000, instruments=3_000)
    frames = frames_of(ticks, [1_000] * 20)
    host = instance(every_step)
    signals = run(host, frames[:10])
    host = instance(every_step, Snapshot.decode(host.snapshot().encode()))
    signals += run(host, frames[10:], 10)
    assert [(s.ts_recv_ns - 1_000) for s in signals] == [number for number, *_ in by_hand(every_step, ticks)]


def test_a_signal_carries_what_the_design_says() -> None:
    ticks = empty_ticks(3)
    ticks["kind"], ticks["instrument_id"], ticks["price"] = Kind.TRADE, 4, 100.25
    ticks["ts_recv_ns"], ticks["ts_event_ns"] = 50, 40
    host = instance(every_step, tenant="acme", tags={"book": "a"}, valid_ns=10, name="mine")
    [signal] = run(host, [TickFrame(Lane(2, 0), 31, 0, 60, ticks)])
    assert signal.model_dump(exclude={"id", "params_hash"}) == {
        "seq": 0,
        "tenant": "acme",
        "logic": "mine",
        "version": "every_step-1",
        "instrument": "sim:S4",
        "side": "buy",
        "strength": 100.25,
        "price": signal.price,
        "ts_event_ns": 40,
        "ts_recv_ns": 50,
        "valid_until_ns": 60,
        "origin": {"partition": 2, "offset": 31, "index": 2},
        "tags": {"book": "a"},
    }
    assert str(signal.price) == "100.25"
    assert host.time_ns == 60


@pytest.mark.parametrize(("bid", "ask", "flags", "price"), [(10, 11, 0, "10.5"), (0, 11, Flag.ONE_SIDED, "11.0")])
def test_the_price_of_a_quote_is_its_middle_or_its_one_side(bid: float, ask: float, flags: int, price: str) -> None:
    @logic(params={}, state={"n": int}, kinds="quote")
    def always(tick: Any, state: Any, params: Any) -> Signal:
        return Signal(BUY, 1.0)

    ticks = empty_ticks(1)
    ticks["kind"], ticks["instrument_id"], ticks["flags"] = Kind.QUOTE, 1, flags
    ticks["price"], ticks["price2"] = bid, ask
    [signal] = run(instance(always), [TickFrame(Lane(0, 0), 0, 0, 0, ticks)])
    assert str(signal.price) == price


numbers = st.floats(allow_nan=False, allow_infinity=False)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(numbers, numbers, st.sampled_from([-1, 1]), st.integers(-(2**63), 2**62)), max_size=30),
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=50),
    st.dictionaries(st.text(st.characters(codec="utf-8")), st.text(st.characters(codec="utf-8")), max_size=3),
)
def test_signals_are_the_bytes_that_the_event_itself_would_give(
    said_of: list[tuple[float, float, int, int]], name: str, tags: dict[str, str]
) -> None:
    ticks = empty_ticks(len(said_of))
    ticks["kind"], ticks["instrument_id"], ticks["ts_event_ns"] = Kind.TRADE, 1, -(2**63)
    for tick, (price, strength, side, ts_recv_ns) in zip(ticks, said_of, strict=True):
        tick["price"], tick["size"], tick["side"], tick["ts_recv_ns"] = price, strength, side, ts_recv_ns
    host = Instance(spec_of(echo, tags=tags, tenant=name), lambda _: name)
    signals, refused = host.on_record(0, TickFrame(Lane(0, 0), 0, 0, 0, read_only(ticks)))
    events = [SignalEvent.decode(signal) for signal in signals]
    assert signals == [event.encode() for event in events]
    assert not refused
    assert [(float(e.price), e.strength, e.ts_recv_ns) for e in events] == [(p, s, t) for p, s, _, t in said_of]
    assert [e.price for e in events] == [Decimal(repr(price)) for price, *_ in said_of]
    assert {(e.instrument, e.tenant) for e in events} <= {(name, name)}
    assert all(e.tags == tags for e in events)


def test_an_instrument_that_cannot_be_resolved_leaves_all_as_it_was() -> None:
    known = {1: "sim:S1"}
    frames = frames_of(market(900, instruments=3), [30] * 30)
    host = Instance(spec_of(every_step), known.__getitem__)
    before = host.snapshot()
    with pytest.raises(KeyError):
        host.on_record(0, frames[0])
    assert host.snapshot().next_offset == 0
    assert not before.meta["marks"]
    assert not host.snapshot().meta["marks"]
    known |= {2: "sim:S2", 3: "sim:S3"}
    assert run(host, frames) == run(instance(every_step), frames)


def test_a_strength_that_is_no_number_is_refused_and_the_rest_goes_on() -> None:
    @logic(params={}, state={"n": int}, kinds="trade")
    def divides(tick: Any, state: Any, params: Any) -> Signal:
        return Signal(BUY, 1 / tick.price)

    ticks = empty_ticks(3)
    ticks["kind"], ticks["instrument_id"], ticks["price"] = Kind.TRADE, 1, [4, 0, 2]
    host = instance(divides)
    signals, [refused] = host.on_record(0, TickFrame(Lane(0, 8), 8, 0, 0, ticks))
    assert [(s.strength, s.seq) for s in map(SignalEvent.decode, signals)] == [(0.25, 0), (0.5, 1)]
    assert (refused.origin.offset, refused.origin.index, refused.instrument) == (8, 1, "sim:S1")
    assert "inf" in refused.detail
    assert "sim:S1" in refused.detail


def test_a_price_that_is_no_number_is_refused() -> None:
    ticks = empty_ticks(3)
    ticks["kind"], ticks["instrument_id"], ticks["price"] = Kind.TRADE, 1, [1, 2, np.inf]
    _, [refused] = instance(every_step).on_record(0, TickFrame(Lane(0, 0), 0, 0, 0, ticks))
    assert "price Infinity" in refused.detail


def test_other_instruments_are_another_unit_with_other_ids() -> None:
    frames = frames_of(market(300), [300])
    wide, narrow = instance(every_step), instance(every_step, instruments=("sim:S1",))
    assert wide.spec.unit(0) != narrow.spec.unit(0)
    assert not {s.id for s in run(wide, frames)} & {s.id for s in run(narrow, frames)}


def test_a_snapshot_of_other_fields_asks_for_another_version() -> None:
    @logic(params={}, state={"other": float}, kinds="trade")
    def every_step_changed(tick: Any, state: Any, params: Any) -> Signal:
        return HOLD

    with pytest.raises(LogicError, match="another version"):
        instance(every_step_changed, instance(every_step).snapshot())


def test_a_record_that_is_no_frame_is_passed_for_good() -> None:
    host = instance(every_step)
    host.skip(4)
    assert host.next_offset == host.snapshot().next_offset == 5
    host.skip(1)
    assert host.next_offset == 5


@pytest.mark.parametrize(
    ("given_params", "message"),
    [
        ({"fats": 3}, "no parameter fats; it has: fast, slow"),
        ({"fast": 1}, "fast must be from 2 to 200, not 1"),
        ({"fast": 2.5}, "fast must be a whole number from 2 to 200, not 2.5"),
        ({"slow": True}, "slow must be a whole number"),
        ({"slow": "50"}, "slow must be a whole number"),
        ({"slow": float("nan")}, "slow must be a whole number"),
    ],
)
def test_wrong_parameters_say_what_would_be_right(given_params: dict[str, object], message: str) -> None:
    with pytest.raises(LogicError, match=message):
        SHIPPED["ema_cross"].bind(given_params)


def test_wrong_declarations_say_what_would_be_right() -> None:
    with pytest.raises(LogicError, match="no tick kind 'trades'; there are: trade, quote"):
        logic(params={}, state={}, kinds="trades")
    with pytest.raises(LogicError, match="state field x must be int or float"):
        logic(params={}, state={"x": str}, kinds="trade")
    with pytest.raises(LogicError, match=r"must take \(tick, state, params\)"):
        logic(params={}, state={}, kinds="trade")(lambda tick: HOLD)  # type: ignore[arg-type, misc]
