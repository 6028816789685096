"""frames.ksy, compiled to JavaScript, reads what our encoder writes, field by field."""

import base64
import json
import math
import subprocess
from collections.abc import Callable, Iterator
from importlib.resources import as_file, files
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapeline.schemas import (
    BAR,
    BarFrame,
    Flag,
    FrameFlag,
    Kind,
    Lane,
    RawFrame,
    Snapshot,
    TickFrame,
    Ticks,
    empty_ticks,
)
from tests.schemas.strategies import bar_frames, raw_frames, snapshots, tick_frames

pytestmark = pytest.mark.slow


class Reader:
    """The JavaScript reader: a Node process that answers a frame with what it read."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._in, self._out = process.stdin, process.stdout
        self.compiled = self._answer()

    def read(self, record: bytes) -> dict[str, Any]:
        self._in.write(base64.b64encode(record).decode() + "\n")
        self._in.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        answer = json.loads(self._out.readline())
        assert isinstance(answer, dict)
        return answer


@pytest.fixture(scope="module")
def reader(node: Callable[..., "subprocess.Popen[str]"]) -> Iterator[Reader]:
    with as_file(files("tapeline.schemas") / "frames.ksy") as ksy, node("read_frames.cjs", str(ksy)) as process:
        yield Reader(process)


def read(reader: Reader, record: bytes) -> dict[str, Any]:
    """Return the fields, after checking what is the same for every frame."""
    answer = reader.read(record)
    assert "frame" in answer, answer
    assert answer["unread"] == 0
    frame: dict[str, Any] = answer["frame"]
    assert base64.b64decode(frame.pop("magic")) == record[:4]
    assert frame.pop("version") == "1"
    assert frame.pop("checksum") == str(int.from_bytes(record[-8:], "little"))
    return frame


def camel(name: str) -> str:
    """`ts_event_ns` as JavaScript has it."""
    first, *rest = name.split("_")
    return first + "".join(part.title() for part in rest)


def ticks_as_read(ticks: Ticks) -> list[dict[str, Any]]:
    """What JavaScript should say about the ticks; floats are compared as numbers, see `floats`."""
    names = ticks.dtype.names or ()
    return [
        {camel(name): number(tick[name].item()) for name in names}
        | {camel(f"is_{flag.name}".lower()): bool(int(tick["flags"]) & flag) for flag in Flag}
        for tick in ticks
    ]


def number(value: float) -> str | float:
    return str(value) if isinstance(value, int) else ("nan" if math.isnan(value) else value)


def floats(tick: dict[str, Any]) -> dict[str, Any]:
    for name in ("price", "size", "price2", "size2"):
        tick[name] = number(float(tick[name]))
    return tick


def test_the_description_compiles_to_other_languages(reader: Reader) -> None:
    assert {"cpp_stl", "csharp", "go", "java", "javascript", "python", "rust"} <= set(reader.compiled["languages"])


@given(frame=tick_frames())
def test_a_tick_frame_is_read(reader: Reader, frame: TickFrame) -> None:
    found = read(reader, frame.encode())
    assert [floats(tick) for tick in found.pop("ticks")] == ticks_as_read(frame.ticks)
    assert found == {
        "part": str(frame.part),
        "flags": str(int(frame.flags)),
        "isMore": FrameFlag.MORE in frame.flags,
        "count": str(len(frame)),
        "lane": {"rawPartition": str(frame.lane.raw_partition), "ticksPartition": str(frame.lane.ticks_partition)},
        "originOffset": str(frame.origin_offset),
        "timeNs": str(frame.time_ns),
    }


@given(frame=bar_frames())
def test_a_bar_frame_is_read(reader: Reader, frame: BarFrame) -> None:
    found = read(reader, frame.encode())
    names = BAR.names or ()
    assert [
        {name: number(float(value)) if BAR[name].kind == "f" else value for name, value in fields.items()}
        for bar in found.pop("bars")
        for fields in [{name: bar[camel(name)] for name in names}]
    ] == [{name: number(bar[name].item()) for name in names} for bar in frame.bars]
    assert found == {
        "reserved": "0",
        "part": str(frame.part),
        "count": str(len(frame)),
        "lane": {"rawPartition": str(frame.lane.raw_partition), "ticksPartition": str(frame.lane.ticks_partition)},
        "originOffset": str(frame.origin_offset),
        "timeNs": str(frame.time_ns),
        "stream": str(frame.stream),
        "reserved2": "0",
    }


@given(frame=raw_frames())
def test_a_raw_frame_is_read(reader: Reader, frame: RawFrame) -> None:
    found = read(reader, frame.encode())
    messages = found.pop("messages")
    assert [base64.b64decode(message["body"]) for message in messages] == list(frame.messages())
    assert found == {
        "reserved": "0",
        "flags": str(int(frame.flags)),
        "isEnd": FrameFlag.END in frame.flags,
        "isFeed": FrameFlag.FEED in frame.flags,
        "count": str(len(frame)),
        "sourceBytes": str(len(frame.source.encode())),
        "epoch": str(frame.epoch),
        "firstMessage": str(frame.first_message),
        "timeNs": str(frame.time_ns),
        "recvNs": [str(time) for time in frame.recv_ns.tolist()],
        "ends": [str(end) for end in frame.ends.tolist()],
        "source": frame.source,
    }


@given(snapshot=snapshots)
def test_a_snapshot_is_read(reader: Reader, snapshot: Snapshot) -> None:
    found = read(reader, snapshot.encode())
    assert json.loads(found["meta"]) == snapshot.meta
    assert base64.b64decode(found["payload"]) == snapshot.payload
    assert (found["nextOffset"], found["timeNs"]) == (str(snapshot.next_offset), str(snapshot.time_ns))


def test_kinds_and_flags_have_the_same_numbers_and_names(reader: Reader) -> None:
    kinds = {name: value for name, value in reader.compiled["kind"].items() if not name.isdigit()}
    assert kinds == {kind.name: kind.value for kind in Kind}
    ticks = empty_ticks(len(Flag))
    ticks["flags"] = np.array(list(Flag))
    found = read(reader, TickFrame(Lane(0, 0), 0, 0, 0, ticks).encode())
    for flag, tick in zip(Flag, found["ticks"], strict=True):
        assert [name for name, value in tick.items() if value is True] == [camel(f"is_{flag.name}".lower())]


@given(st.data())
def test_other_bytes_are_an_error(reader: Reader, data: st.DataObject) -> None:
    record = bytearray(data.draw(tick_frames()).encode())
    record[4] = data.draw(st.integers(0, 255).filter(lambda version: version != 1))
    assert "ValidationNotEqualError" in reader.read(bytes(record))["error"]
    cut = record[: data.draw(st.integers(0, len(record) - 1))]
    assert "error" in reader.read(bytes(cut))
