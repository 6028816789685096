"""The roles `bars` and `persist-bars` on real servers, under SIGKILL: the bars are those of the pure function."""

import select
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from tapeline.agents.bars_config import specs
from tapeline.agents.logic.bars import BarSeries
from tapeline.schemas import BAR, BarFrame, Bars, Instrument, Kind, Lane, RejectReason, TickFrame, Ticks, empty_ticks
from tapeline.schemas.topics import BARS, INSTRUMENTS, TICKS
from tapeline.streams.frame_reader import BarFrameReader
from tapeline.streams.home import Home
from tapeline.streams.settings import load_settings
from tests.connectors.stores.frames import START_NS
from tests.system.bar_checks import kept, make_bars
from tests.system.persist_stage import Stage, staged
from tests.system.platform import TAPELINE, running_platform, wait_until

pytestmark = pytest.mark.slow

NAMES = [Instrument(id=number, name=f"sim:{number}", partition=number % 2) for number in range(1, 9)]
FRAMES, TICKS_EACH, STEP_NS = 8000, 20, 2_000_000
ENV = {
    "TAPELINE_BARS__INTERVALS": "1s,5s,1h,50t,2000v,300000$",
    "TAPELINE_BARS__GRACE_SECONDS": "0.1",
    "TAPELINE_BARS__REVISE_BARS": "3",
    "TAPELINE_DATABASE__STORE_BARS": "sim:*",
}


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with staged("bars", TICKS.name) as stage:
        stage.beside("", INSTRUMENTS.name, {}).send(0, *(one.encode() for one in NAMES))
        yield stage.beside("bars", TICKS.name, ENV)


def market(partition: int, seed: int) -> list[TickFrame]:
    """Frames of two raw partitions, some of them twice; trades come up to 8 s late, some are missing."""
    random = np.random.default_rng(seed)
    count = FRAMES * TICKS_EACH
    ticks: Ticks = empty_ticks(count)
    ticks["ts_recv_ns"] = START_NS + np.arange(count) * STEP_NS
    delay_ns = random.choice([1_000_000, 300_000_000, 8_000_000_000], count, p=[0.97, 0.02, 0.01])
    ticks["ts_event_ns"] = ticks["ts_recv_ns"] - delay_ns
    ticks["kind"] = random.choice([Kind.TRADE, Kind.QUOTE, Kind.GAP], count, p=[0.8, 0.1999, 0.0001])
    ticks["instrument_id"] = random.choice([one.id for one in NAMES if one.partition == partition], count)
    ticks["price"], ticks["size"] = 100 + random.integers(-8, 9, count) / 4, random.integers(1, 40, count) / 4
    ticks["side"] = random.choice([-1, 0, 1], count)
    ticks["price"][ticks["kind"] == Kind.GAP] = 1
    frames = []
    for number in range(FRAMES):
        piece = ticks[number * TICKS_EACH : (number + 1) * TICKS_EACH]
        frames.append(TickFrame(Lane(number % 2, partition), number, 0, int(piece["ts_recv_ns"][-1]), piece))
        if random.random() < 0.01:
            frames.append(frames[random.integers(max(0, len(frames) - 50), len(frames))])
    return frames


def pure(stage: Stage, frames: list[TickFrame]) -> tuple[Bars, int]:
    """The bars of all intervals, in order of interval and time, and how many frames had trades that came too late."""
    names = {one.id: one for one in NAMES}
    found, late = [np.zeros(0, BAR)], 0
    for spec in specs(load_settings(env=stage.env)):
        series = BarSeries(spec, names.__getitem__)
        for offset, frame in enumerate(frames):
            made = series.on_record(offset, frame)
            found.append(made.bars)
            late += bool(len(made.too_late))
    return np.concatenate(found), late


def ordered(bars: Bars) -> list[Any]:
    found: list[Any] = np.sort(bars, order=["instrument_id", "kind", "size", "number", "revision"]).tolist()
    return found


def sent(stage: Stage) -> Bars:
    """What a reader sees in topic `bars`; what came again is byte for byte what came before."""
    readers: dict[int, BarFrameReader] = {}
    records: dict[tuple[object, ...], bytes] = {}
    found = [np.zeros(0, BAR)]
    for partition, _, record in stage.records(BARS.name):
        frame = BarFrame.decode(record)
        if readers.setdefault(partition, BarFrameReader()).take(frame):
            found.append(frame.bars)
        name = (partition, frame.stream, frame.lane, frame.origin_offset, frame.part)
        assert records.setdefault(name, record) == record
    return np.concatenate(found)


def test_killed_workers_change_nothing(stage: Stage) -> None:
    markets = [market(partition, 5 + partition) for partition in (0, 1)]
    ends = [stage.send(partition, *(frame.encode() for frame in frames)) for partition, frames in enumerate(markets)]
    reached = 0
    for _ in range(2):
        with stage.worker() as worker:
            wait_until(lambda: sum(stage.committed("bars", TICKS.name).values()) > reached, "the role to get on")  # noqa: B023
            worker.kill()
            worker.wait()
        reached = sum(stage.committed("bars", TICKS.name).values())
        assert 0 < reached < sum(ends), "killed while it works"
    done = stage.beside("persist-bars", BARS.name, ENV)
    with stage.worker():
        wait_until(lambda: sum(stage.committed("bars", TICKS.name).values()) == sum(ends), "all to be done")
        found = [pure(stage, frames) for frames in markets]
        wanted = np.concatenate([bars for bars, _ in found])
        assert len(wanted) > 5000
        assert wanted["revision"].max() > 0
        assert {1, 2, 3} <= set(wanted["flags"].tolist())
        assert ordered(sent(stage)) == ordered(wanted)
    shown = [orjson.loads(line) for line in stage.cli("bars", "--format", "json").splitlines()]
    newest = {(*one[3:5], one[7], one[2]): one for one in sorted(wanted.tolist(), key=lambda one: one[6])}
    assert len(shown) == len(newest)
    assert sum(one["notional"] for one in shown) == pytest.approx(sum(one[13] for one in newest.values()))
    assert "topic bars has none of these" in failed(stage, "bars", "--interval", "7s")
    late = [one for one in stage.rejected() if one.reason == RejectReason.LATE]
    assert len({one.id for one in late}) == sum(count for _, count in found) > 0
    with done.worker() as worker:
        wait_until(lambda: done_offsets(done) > 0, "bars to be kept")
        worker.kill()
    with done.worker():
        wait_until(lambda: done_offsets(done) == sum(done.ends(BARS.name).values()), "all bars to be kept")
    assert ordered(kept(done.dsn)) == ordered(np.array(list(newest.values()), BAR))


def failed(stage: Stage, *args: str) -> str:
    """What a command that fails says."""
    done = subprocess.run([*TAPELINE, *args], env=stage.env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    return done.stderr


def test_bars_are_followed_as_they_come_until_ctrl_c(stage: Stage) -> None:
    """Those that were there are not shown."""
    command = [*TAPELINE, "bars", "--follow", "--format", "json", "--instrument", "sim:7"]
    frame = BarFrame(Lane(60, 60), 1, 0, 9, 77, make_bars(2, instrument_id=7))
    with subprocess.Popen(command, env=stage.env, stdout=subprocess.PIPE, text=True) as shown:
        assert shown.stdout is not None
        topic, origin = stage.beside("", BARS.name, {}), 0
        while not select.select([shown.stdout], [], [], 0.2)[0]:  # until it has begun to follow
            assert shown.poll() is None
            origin += 1
            assert origin < 500
            topic.send(0, replace(frame, origin_offset=origin).encode())
        first = orjson.loads(shown.stdout.readline())
        shown.send_signal(signal.SIGINT)
        assert shown.wait(20) == 130
    assert (first["instrument"], first["interval"], first["close"]) == ("sim:7", "1m", 10.5)


def done_offsets(stage: Stage) -> int:
    """How many records of topic `bars` the database has."""
    return sum(stage.kept_up_to(partition) for partition in range(BARS.partitions))


def test_up_makes_and_keeps_the_bars_that_a_file_gives(home: Home) -> None:
    """Of a recording through Kafka: the same as without a server, but for the last, which wait for their end."""
    example = Path(__file__).resolve().parents[2] / "docs" / "examples" / "btcusdt.txt"
    env = {"TAPELINE_BARS__INTERVALS": "1m,300t", "TAPELINE_DATABASE__STORE_BARS": "binance:*"}
    with running_platform(home, env) as platform:
        platform.cli("ingest", "binance", str(example), "--speed", "max")
        platform.wait_until_done()
        for role, topic in (("bars", TICKS.name), ("persist-bars", BARS.name)):
            wait_until(
                lambda role=role, topic=topic: platform.committed(role, topic) == platform.ends(topic),  # type: ignore[misc]
                f"{role} to be done",
            )
        of_topic = platform.cli("bars", "--format", "json").splitlines()
        of_file = platform.cli("bars", str(example), "--interval", "1m", "--interval", "300t", "--format", "json")
        complete = [line for line in of_file.splitlines() if not line.endswith('"partial":true}')]
        assert len(complete) > 5
        assert set(complete) <= set(of_topic)
        rows = platform.rows("SELECT kind, count(*) AS bars FROM candles GROUP BY kind ORDER BY kind")
        assert sum(row["bars"] for row in rows) == len(of_topic)
        assert [row["kind"] for row in rows] == ["tick", "time"]
