"""Snapshots that cannot be used: what was in them is made anew by reading again, or the role says that it cannot."""

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition

from tapeline.schemas import Snapshot
from tapeline.schemas.topics import STATE
from tapeline.streams.producer import Producer
from tests.schemas.strategies import of_a_newer_version
from tests.system.conftest import temporary_home
from tests.system.platform import TAPELINE, Platform, wait_until

pytestmark = pytest.mark.slow

RECORDING = Path(__file__).resolve().parents[2] / "docs/examples/btcusdt.txt"


@pytest.fixture
def stage() -> Iterator[Platform]:
    """Servers and topics, no roles, and a recording in topic `raw`."""
    with temporary_home() as home:
        platform = Platform(home, {"TAPELINE_FRAMES__MESSAGES_MAX": "50"})
        up = platform.start("up", "--servers-only")
        try:
            wait_until(lambda: up.poll() is None and home.addresses(), "the servers")
            wait_until(lambda: "missing" not in platform.cli("topics", "list"), "the topics")
            platform.cli("ingest", "binance", str(RECORDING), "--quiet")
            yield platform
        finally:
            for process in reversed(platform.started):
                process.terminate()
                process.wait(60)


def the_partition(platform: Platform) -> int:
    """The partition of `raw` that the recording went to."""
    [partition] = [one for one, end in platform.ends("raw").items() if end]
    return partition


def normalize(platform: Platform, log: Path) -> "subprocess.Popen[bytes]":
    with log.open("wb") as out:
        return subprocess.Popen([*TAPELINE, "worker", "normalize"], env=platform.env, stdout=out, stderr=out)


def put_snapshot(platform: Platform, partition: int, record: bytes) -> None:
    """Make it the newest snapshot of the normaliser's unit on a partition."""

    async def send() -> None:
        async with Producer({"bootstrap.servers": platform.bootstrap}) as producer:
            await producer.send(STATE.name, record, key=f"normalize/{partition}", partition=partition)
            await producer.flush()

    asyncio.run(send())


NEWER = of_a_newer_version(Snapshot(1_000_000, 0).encode())


def test_a_snapshot_of_a_newer_version_is_refused_and_its_state_made_anew(stage: Platform, tmp_path: Path) -> None:
    put_snapshot(stage, partition := the_partition(stage), NEWER)
    log = tmp_path / "worker.log"
    worker = normalize(stage, log)
    try:
        wait_until(lambda: stage.committed("normalize", "raw") == stage.ends("raw"), "everything to be read")
    finally:
        worker.terminate()
        worker.wait(60)
    said = log.read_text()
    assert f"snapshot normalize/{partition} in state[{partition}]@0 is refused" in said
    assert "version 2, this program reads version 1: upgrade it" in said
    assert min(frame.origin_offset for frame in stage.frames()) == 0, "it read from the start"


def test_what_cannot_be_made_anew_ends_the_role_with_the_reason(stage: Platform, tmp_path: Path) -> None:
    partition = the_partition(stage)
    put_snapshot(stage, partition, NEWER)
    deleted = stage.admin.delete_records([TopicPartition("raw", partition, 2)])
    assert [future.result(30).low_watermark for future in deleted.values()] == [2]
    log = tmp_path / "worker.log"
    assert normalize(stage, log).wait(60) == 70
    assert f"cannot be made anew, because raw[{partition}] begins at 2 only" in log.read_text()
    assert sum(stage.ends("ticks").values()) == 0
