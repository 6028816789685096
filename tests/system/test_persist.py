"""The roles `persist` and `persist-ticks` on real servers: bad records, SIGKILL, a database that is away, Ctrl-C."""

import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import psycopg
import pytest

from tapeline.schemas import Instrument, Lane, RejectReason, TickFrame
from tapeline.schemas.topics import INSTRUMENTS, SIGNALS, TICKS
from tests.connectors.stores.examples import encoded, make_signal, make_signals
from tests.connectors.stores.frames import A, B, make_frame
from tests.system import frame_checks
from tests.system.persist_stage import Stage, staged
from tests.system.platform import wait_until
from tests.system.store_checks import kept

pytestmark = pytest.mark.slow

OTHER = Instrument(id=1, name="other:A", partition=1)
BAD = Instrument(id=2, name="sim:\0", partition=1)


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with staged("persist", SIGNALS.name) as stage:
        yield stage


@pytest.fixture(scope="module")
def ticks(stage: Stage) -> Stage:
    """For `persist-ticks`; instruments are known."""
    registry = stage.beside("", INSTRUMENTS.name, {})
    registry.send(0, *(one.encode() for one in (A, B, OTHER, BAD)))
    return stage.beside("persist-ticks", TICKS.name, {"TAPELINE_DATABASE__STORE_TICKS": "sim:*"})


def test_bad_records_are_rejected_and_the_rest_is_kept(stage: Stage) -> None:
    good = make_signals(30, logic="mixed")
    records = encoded(good)
    bad = {
        0: b"\x00\xff no json",
        7: orjson.dumps(orjson.loads(records[7]) | {"side": "up"}),
        15: make_signal(15, logic="mixed", instrument="sim:\0").encode(),
        29: make_signal(29, logic="mixed", ts_event_ns=2**70).encode(),
    }
    for at, record in bad.items():
        records[at] = record
    start = stage.ends(SIGNALS.name)[0]
    with stage.worker() as worker:
        stage.wait_until_kept(0, stage.send(0, *records))
        stage.wait_until_kept(1, stage.send(1, *encoded(make_signals(5, logic="other"))))
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(timeout=20) == 0
    assert [one for one in kept(stage.dsn) if one.logic == "mixed"] == [
        one for at, one in enumerate(good) if at not in bad
    ]
    assert [one for one in kept(stage.dsn) if one.logic == "other"] == make_signals(5, logic="other")
    rejected = [one for one in stage.rejected() if one.role == "persist"]
    assert sorted(one.origin.offset - start for one in rejected) == list(bad), "each once"
    assert {(one.origin.topic, one.origin.partition) for one in rejected} == {(SIGNALS.name, 0)}
    by_offset = {one.origin.offset - start: one for one in rejected}
    assert {at: one.payload for at, one in by_offset.items()} == bad
    assert by_offset[0].reason == by_offset[7].reason == RejectReason.CORRUPT
    assert by_offset[15].reason == by_offset[29].reason == RejectReason.FAILED
    assert "side: Input should be 'buy', 'sell' or 'flat'" in by_offset[7].detail
    assert "\\u0000 cannot be converted to text" in by_offset[15].detail
    assert "out of range" in by_offset[29].detail


def test_a_database_that_is_away_costs_delay_and_nothing_else(stage: Stage) -> None:
    signals = make_signals(6000, logic="away")
    with stage.worker() as worker:
        stage.wait_until_kept(2, stage.send(2, *encoded(signals[:1000])))
        stage.stop_database()
        stage.send(2, *encoded(signals[1000:4000]))  # more than waits in memory
        wait_until(lambda: stage.logged("the database is away (try 5)"), "the worker to wait")
        assert worker.poll() is None
        stage.start_database()
        stage.wait_until_kept(2, stage.send(2, *encoded(signals[4000:])))
        assert worker.poll() is None, "it ended instead of waiting"
    assert [one for one in kept(stage.dsn) if one.logic == "away"] == signals


def test_a_database_that_does_not_answer_is_waited_for_and_that_is_said(stage: Stage) -> None:
    """Somebody holds a lock: few signals come, so that they all fit in memory and reading goes on."""
    signals = make_signals(20, logic="locked")
    with stage.worker() as worker:
        stage.wait_until_kept(2, stage.send(2, *encoded(signals[:10])))
        with psycopg.connect(stage.dsn) as administrator:
            administrator.execute("LOCK TABLE signals")
            end = stage.send(2, *encoded(signals[10:]))
            wait_until(lambda: stage.waits_for() == ["the database"], "the worker to say that it waits")
            assert stage.logged("the database does not answer")
            assert worker.poll() is None
        stage.wait_until_kept(2, end)
        wait_until(lambda: stage.waits_for() == [""], "the worker to go on")
        assert worker.poll() is None
    assert [one for one in kept(stage.dsn) if one.logic == "locked"] == signals


def test_ctrl_c_ends_a_worker_that_waits_for_its_database(stage: Stage) -> None:
    signals = make_signals(3000, logic="stopped")
    with stage.worker() as worker:
        stage.wait_until_kept(3, stage.send(3, *encoded(signals[:10])))
        stage.stop_database()
        end = stage.send(3, *encoded(signals[10:]))
        wait_until(lambda: stage.logged("the database is away (try 3)"), "the worker to wait")
        worker.send_signal(signal.SIGINT)
        assert worker.wait(timeout=12) == 0
    with stage.worker() as worker:  # and one that never reached it
        wait_until(lambda: stage.logged("the database is away (try 2)"), "the worker to wait")
        wait_until(lambda: stage.waits_for() == ["the database"], "the worker to say that it waits")
        worker.send_signal(signal.SIGINT)
        assert worker.wait(timeout=12) == 0
    stage.start_database()
    with stage.worker():
        stage.wait_until_kept(3, end)
    assert [one for one in kept(stage.dsn) if one.logic == "stopped"] == signals


def test_sigkill_loses_and_doubles_nothing(stage: Stage, tmp_path: Path) -> None:
    signals = make_signals(4000, logic="killed")
    end = stage.ends(SIGNALS.name)[1] + len(signals)
    for at in range(0, 4000, 1000):
        with stage.worker() as worker:
            stage.send(1, *encoded(signals[at : at + 1000]))
            goal = end - 4000 + at + 300
            wait_until(lambda goal=goal: stage.kept_up_to(1) >= goal, "some to be kept")  # type: ignore[misc]
            worker.kill()
    with stage.worker():
        stage.wait_until_kept(1, end)
    assert [one for one in kept(stage.dsn) if one.logic == "killed"] == signals


def by_offset(ticks: Stage, raw: int) -> Counter[int]:
    """How many ticks of each raw record of a raw partition are kept."""
    counted = "SELECT origin_offset, count(*) FROM ticks WHERE origin_partition = %s GROUP BY 1"
    return Counter(dict(frame_checks.query(ticks.dsn, counted, raw)))


def test_ticks_of_wanted_instruments_are_kept_and_nothing_else(ticks: Stage) -> None:
    frames = [make_frame(at, 5) for at in range(6)]
    mixed = make_frame(2, 5, instrument_id=[A.id, OTHER.id, BAD.id, BAD.id, B.id])
    clock = make_frame(4, 1, instrument_id=0)
    records = [frame.encode() for frame in [*frames[:2], mixed, frames[3], clock, frames[5]]]
    records.insert(3, b"no frame")
    records.insert(2, records[1])
    with ticks.worker() as worker:
        end = ticks.send(1, *records)
        ticks.wait_until_kept(1, end)
        [role] = [role for one in ticks.workers() for role in one.roles]
        assert (role.name, role.partitions[1].items) == ("persist-ticks", 5 + 5 + 5 + 4 + 5 + 5)
        assert role.partitions[1].duplicates == {Lane(3, 1).pack(): 1}
        wait_until(lambda: ticks.committed("persist-ticks", TICKS.name)[1] == end, "the offset to be committed")
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(timeout=20) == 0
    wanted = [frames[0], frames[1], replace(mixed, ticks=mixed.ticks[[0, 4]]), frames[3], frames[5]]
    found = frame_checks.kept(ticks.dsn)[1]
    assert len(found) == 5 + 5 + 2 + 5 + 5
    assert np.array_equal(
        np.sort(found["ts_event_ns"]), np.sort(np.concatenate([one.ticks for one in wanted])["ts_event_ns"])
    )
    rejected = {one.origin.offset - end: one for one in ticks.rejected() if one.role == "persist-ticks"}
    assert sorted(rejected) == [3 - 8, 4 - 8]
    refused, corrupt = rejected[3 - 8], rejected[4 - 8]
    assert (corrupt.reason, corrupt.payload) == (RejectReason.CORRUPT, b"no frame")
    assert refused.reason == RejectReason.FAILED
    assert "the database refuses the name 'sim:\\x00'" in refused.detail
    assert frame_checks.same(TickFrame.decode(refused.payload).ticks, mixed.ticks[2:4])


def test_sigkill_loses_and_doubles_no_tick(ticks: Stage) -> None:
    """Frames come again too, as after a crash of who made them."""
    frames = [make_frame(at, 300, raw=7) for at in range(300)]
    start = ticks.ends(TICKS.name)[1]
    for begin in (0, 100):
        with ticks.worker() as worker:
            end = ticks.send(1, *(frame.encode() for frame in frames[max(begin - 30, 0) : begin + 100]))
            wait_until(lambda: ticks.kept_up_to(1) > max(start, end - 100), "some to be kept")  # noqa: B023
            worker.kill()
    with ticks.worker():
        ticks.wait_until_kept(1, ticks.send(1, *(frame.encode() for frame in frames[170:])))
    assert by_offset(ticks, 7) == Counter(dict.fromkeys(range(300), 300))


def test_ticks_wait_for_a_database_that_is_away(ticks: Stage) -> None:
    frames = [make_frame(at, 1000, raw=8) for at in range(120)]
    records = [frame.encode() for frame in frames]
    with ticks.worker() as worker:
        ticks.wait_until_kept(1, ticks.send(1, *records[:10]))
        ticks.stop_database()
        ticks.send(1, *records[10:110])  # more than waits in memory
        wait_until(lambda: ticks.logged("the database is away (try 3)"), "the worker to wait")
        wait_until(lambda: ticks.waits_for() == ["the database"], "the worker to say that it waits")
        assert worker.poll() is None
        ticks.start_database()
        ticks.wait_until_kept(1, ticks.send(1, *records[110:]))
        assert worker.poll() is None, "it ended instead of waiting"
    assert by_offset(ticks, 8) == Counter(dict.fromkeys(range(120), 1000))
