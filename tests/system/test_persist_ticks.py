"""The role `persist-ticks` on real servers: what it keeps and what not, SIGKILL, and a database that is away."""

import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from tapeline.schemas import Instrument, Lane, RejectReason, TickFrame
from tapeline.schemas.topics import INSTRUMENTS, TICKS
from tests.connectors.stores.frames import A, B, make_frame
from tests.system.frame_checks import kept, query, same
from tests.system.persist_stage import Stage, staged
from tests.system.platform import TAPELINE, wait_until

pytestmark = pytest.mark.slow

OTHER = Instrument(id=1, name="other:A", partition=1)
BAD = Instrument(id=2, name="sim:\0", partition=1)


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with staged("persist-ticks", TICKS.name, {"TAPELINE_DATABASE__STORE_TICKS": "sim:*"}) as stage:
        stage.topic = INSTRUMENTS.name
        stage.send(0, *(one.encode() for one in (A, B, OTHER, BAD)))
        stage.topic = TICKS.name
        yield stage


def by_offset(stage: Stage, raw: int) -> Counter[int]:
    """How many ticks of each raw record of a raw partition are kept."""
    counted = "SELECT origin_offset, count(*) FROM ticks WHERE origin_partition = %s GROUP BY 1"
    return Counter(dict(query(stage.dsn, counted, raw)))


def test_ticks_of_wanted_instruments_are_kept_and_nothing_else(stage: Stage) -> None:
    frames = [make_frame(at, 5) for at in range(6)]
    mixed = make_frame(2, 5, instrument_id=[A.id, OTHER.id, BAD.id, BAD.id, B.id])
    clock = make_frame(4, 1, instrument_id=0)
    records = [frame.encode() for frame in [*frames[:2], mixed, frames[3], clock, frames[5]]]
    records.insert(3, b"no frame")
    records.insert(2, records[1])
    with stage.worker() as worker:
        end = stage.send(1, *records)
        stage.wait_until_kept(1, end)
        [role] = [role for one in stage.workers() for role in one.roles]
        assert (role.name, role.partitions[1].items) == ("persist-ticks", 5 + 5 + 5 + 4 + 5 + 5)
        assert role.partitions[1].duplicates == {Lane(3, 1).pack(): 1}
        wait_until(lambda: stage.committed("persist-ticks", TICKS.name)[1] == end, "the offset to be committed")
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(timeout=20) == 0
    wanted = [frames[0], frames[1], replace(mixed, ticks=mixed.ticks[[0, 4]]), frames[3], frames[5]]
    found = kept(stage.dsn)[1]
    assert len(found) == 5 + 5 + 2 + 5 + 5
    assert np.array_equal(
        np.sort(found["ts_event_ns"]), np.sort(np.concatenate([one.ticks for one in wanted])["ts_event_ns"])
    )
    rejected = {one.origin.offset - end: one for one in stage.rejected()}
    assert sorted(rejected) == [3 - 8, 4 - 8]
    refused, corrupt = rejected[3 - 8], rejected[4 - 8]
    assert (corrupt.reason, corrupt.payload) == (RejectReason.CORRUPT, b"no frame")
    assert refused.reason == RejectReason.FAILED
    assert "the database refuses the name 'sim:\\x00'" in refused.detail
    assert same(TickFrame.decode(refused.payload).ticks, mixed.ticks[2:4])


def test_sigkill_loses_and_doubles_nothing(stage: Stage) -> None:
    """Frames come again too, as after a crash of who made them."""
    frames = [make_frame(at, 300, raw=7) for at in range(400)]
    start = stage.ends(TICKS.name)[1]
    for begin in (0, 100, 200):
        with stage.worker() as worker:
            end = stage.send(1, *(frame.encode() for frame in frames[max(begin - 30, 0) : begin + 100]))
            wait_until(lambda: stage.kept_up_to(1) > max(start, end - 100), "some to be kept")  # noqa: B023
            worker.kill()
    with stage.worker():
        stage.wait_until_kept(1, stage.send(1, *(frame.encode() for frame in frames[270:])))
    assert by_offset(stage, 7) == Counter(dict.fromkeys(range(400), 300))


def test_a_database_that_is_away_costs_delay_and_nothing_else(stage: Stage) -> None:
    frames = [make_frame(at, 1000, raw=8) for at in range(120)]
    records = [frame.encode() for frame in frames]
    with stage.worker() as worker:
        stage.wait_until_kept(1, stage.send(1, *records[:10]))
        stage.stop_database()
        stage.send(1, *records[10:110])  # more than waits in memory
        wait_until(lambda: stage.logged("the database is away (try 3)"), "the worker to wait")
        wait_until(lambda: stage.waits_for() == ["the database"], "the worker to say that it waits")
        assert worker.poll() is None
        stage.start_database()
        stage.wait_until_kept(1, stage.send(1, *records[110:]))
        assert worker.poll() is None, "it ended instead of waiting"
    assert by_offset(stage, 8) == Counter(dict.fromkeys(range(120), 1000))


def test_without_instruments_there_is_nothing_to_do(stage: Stage) -> None:
    env = stage.env | {"TAPELINE_DATABASE__STORE_TICKS": "[]"}
    done = subprocess.run([*TAPELINE, "worker", "persist-ticks"], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "database.store_ticks: is not set, so there is nothing to keep" in done.stderr
