"""Every codec round-trips; bytes that were cut, changed, grown or never ours give one named error."""

import re
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapeline.schemas import (
    RECORD_BYTES_MAX,
    TICK,
    TICKS_MAX,
    BarFrame,
    EventError,
    FrameError,
    Instrument,
    Lane,
    Lease,
    RawFrame,
    Rejected,
    Signal,
    Snapshot,
    TickFrame,
    VersionError,
    decimal_text,
    empty_ticks,
)
from tests.schemas.strategies import (
    bar_frames,
    instruments,
    leases,
    of_a_newer_version,
    raw_frames,
    rejected,
    signals,
    snapshots,
    tick_frames,
)

FRAMES = st.one_of(tick_frames(), raw_frames(), bar_frames(), snapshots)


def same(left: Any, right: Any) -> bool:
    """Compare two frames or snapshots field by field, arrays by their bytes."""
    for name in left.__slots__:
        one, other = getattr(left, name), getattr(right, name)
        if isinstance(one, np.ndarray):
            if one.tobytes() != other.tobytes():
                return False
        elif one != other:
            return False
    return True


def test_a_tick_is_one_cache_line() -> None:
    assert TICK.itemsize == 64


@given(FRAMES)
def test_what_is_encoded_is_decoded(frame: TickFrame | RawFrame | BarFrame | Snapshot) -> None:
    assert same(frame, type(frame).decode(frame.encode()))


@given(raw_frames())
def test_messages_come_out_as_they_went_in(frame: RawFrame) -> None:
    again = RawFrame.decode(frame.encode())
    assert list(again.messages()) == list(frame.messages())
    assert len(again) == len(list(frame.messages()))


@given(FRAMES, st.data())
def test_a_changed_byte_is_an_error(frame: TickFrame | RawFrame | BarFrame | Snapshot, data: st.DataObject) -> None:
    record = bytearray(frame.encode())
    place = data.draw(st.integers(0, len(record) - 1))
    record[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(FrameError) as caught:
        type(frame).decode(record)
    assert not isinstance(caught.value, VersionError), "no reason to stop for an upgrade"


@given(FRAMES, st.data())
def test_a_cut_or_grown_record_is_an_error(
    frame: TickFrame | RawFrame | BarFrame | Snapshot, data: st.DataObject
) -> None:
    record = frame.encode()
    cut = record[: data.draw(st.integers(0, len(record) - 1))]
    for wrong in (cut, record + data.draw(st.binary(min_size=1, max_size=80))):
        with pytest.raises(FrameError):
            type(frame).decode(wrong)


@given(st.binary(max_size=300), st.sampled_from([TickFrame, RawFrame, Snapshot]))
def test_foreign_bytes_are_an_error(record: bytes, schema: type[TickFrame] | type[RawFrame] | type[Snapshot]) -> None:
    with pytest.raises(FrameError):
        schema.decode(record)


def test_another_kind_of_frame_is_an_error() -> None:
    ticks = TickFrame(Lane(0, 0), 0, 0, 0, empty_ticks(1)).encode()
    with pytest.raises(FrameError, match="not ours"):
        RawFrame.decode(ticks)


@given(FRAMES)
def test_a_newer_version_says_so(frame: TickFrame | RawFrame | BarFrame | Snapshot) -> None:
    with pytest.raises(VersionError, match=r"version 2, this program reads version 1: upgrade"):
        type(frame).decode(of_a_newer_version(frame.encode()))


def test_oversized_frames_are_refused_on_both_sides() -> None:
    TickFrame.decode(TickFrame(Lane(0, 0), 0, 0, 0, empty_ticks(TICKS_MAX)).encode())
    with pytest.raises(FrameError, match=f"the most is {TICKS_MAX}"):
        TickFrame(Lane(0, 0), 0, 0, 0, empty_ticks(TICKS_MAX + 1)).encode()
    with pytest.raises(FrameError, match=f"the most is {RECORD_BYTES_MAX}"):
        RawFrame.build("a/b", 0, [1, 2], [b"x" * (RECORD_BYTES_MAX // 2)] * 2).encode()
    with pytest.raises(FrameError, match="cut or not ours"):
        TickFrame.decode(bytes(RECORD_BYTES_MAX + 1))


def test_a_decoded_frame_shares_the_records_memory_and_cannot_change_it() -> None:
    frame = TickFrame.decode(TickFrame(Lane(0, 0), 0, 0, 0, empty_ticks(3)).encode())
    assert not frame.ticks.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        frame.ticks["price"] = 1.0
    record = RawFrame.build("a/b", 0, [1, 2], [b"x", b"yz"]).encode()
    raw = RawFrame.decode(record)
    assert isinstance(raw.body, memoryview)
    assert raw.body.obj is record
    assert list(raw.messages()) == [b"x", b"yz"]
    with pytest.raises(ValueError, match="read-only"):
        raw.recv_ns[0] = 1


@given(st.one_of(signals, rejected, instruments, leases))
def test_events_round_trip_as_one_line(event: Signal | Rejected | Instrument | Lease) -> None:
    line = event.encode()
    assert b"\n" not in line
    again = type(event).decode(line)
    assert again == event
    assert again.encode() == line


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_the_text_of_a_decimal_is_the_shortest_that_gives_the_float_again(value: float) -> None:
    text = decimal_text(value)
    assert re.fullmatch(r"-?\d+(\.\d+)?", text)
    assert Decimal(text) == Decimal(repr(value))
    assert repr(float(text)) == repr(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (100.25, "100.25"),
        (7.0, "7.0"),
        (-0.0, "-0.0"),
        (1e-7, "0.0000001"),
        (1.5e-5, "0.000015"),
        (1e16, "10000000000000000"),
        (1.25e22, "12500000000000000000000"),
    ],
)
def test_the_text_of_a_decimal_has_no_exponent(value: float, text: str) -> None:
    assert decimal_text(value) == text


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (b"", "not a Signal"),
        (b"[]", "not a Signal"),
        (b'{"id": "zz"}', "id: .*; seq: Field required"),
        (b"\xff\xfe", "not a Signal"),
    ],
)
def test_events_that_are_none_name_the_field(record: bytes, message: str) -> None:
    with pytest.raises(EventError, match=message):
        Signal.decode(record)


@given(signals)
def test_unknown_fields_are_an_error(signal: Signal) -> None:
    with pytest.raises(EventError, match="Extra inputs"):
        Signal.decode(signal.encode()[:-1] + b',"surprise":1}')
