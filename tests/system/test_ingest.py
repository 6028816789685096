"""`tapeline ingest` against a real broker: what it says it sent is in the log, also when it is stopped or cut short."""

import gzip
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from tapeline.schemas import FrameFlag, RawFrame, Rejected, partition_of
from tapeline.streams.servers import Servers
from tapeline.streams.settings import load_settings
from tapeline.streams.state import LogReader, PartitionTail
from tapeline.streams.topics import ensure_topics
from tests.system.platform import TAPELINE, wait_until

pytestmark = pytest.mark.slow

TRADE = '{"e":"trade","E":%d,"s":"A","t":%d,"p":"1.5","q":"1","T":1,"m":true,"M":true}'


@pytest.fixture(scope="module")
def env(servers: Servers) -> dict[str, str]:
    """The environment of commands that use the shared broker; its topics are there."""
    env = dict(os.environ) | {"TAPELINE_KAFKA__BOOTSTRAP_SERVERS": servers.bootstrap_servers or ""}
    ensure_topics(load_settings(env=env))
    return env


def frames_of(env: dict[str, str], source: str) -> list[tuple[int, RawFrame]]:
    """(offset, frame) of everything that a source sent."""
    kafka: dict[str, str | int] = {"bootstrap.servers": env["TAPELINE_KAFKA__BOOTSTRAP_SERVERS"]}
    reader = LogReader(kafka)
    tail = PartitionTail(reader, "raw", partition_of(source, 4))
    try:
        records = [(offset, RawFrame.decode(value)) for offset, _, value in tail.read() if value is not None]
    finally:
        reader.close()
    return [(offset, frame) for offset, frame in records if frame.source == source]


def rejects_of(env: dict[str, str], origin: str) -> list[Rejected]:
    """What was rejected of a file."""
    kafka: dict[str, str | int] = {"bootstrap.servers": env["TAPELINE_KAFKA__BOOTSTRAP_SERVERS"]}
    reader = LogReader(kafka)
    tail = PartitionTail(reader, "rejected", partition_of(f"{origin}/0", 4))
    try:
        events = [Rejected.decode(value) for _, _, value in tail.read() if value is not None]
    finally:
        reader.close()
    return [event for event in events if event.origin.topic == origin]


def test_a_damaged_file_goes_in_up_to_the_damage(env: dict[str, str], tmp_path: Path) -> None:
    lines = [f"{1_700_000_000_000_000_000 + number * 10**6} {TRADE % (number, number)}" for number in range(30_000)]
    lines[7] = "this line has no receive time"
    path = tmp_path / "damaged.gz"
    packed = gzip.compress("\n".join(lines).encode())
    path.write_bytes(packed[: len(packed) * 2 // 3])
    done = subprocess.run([*TAPELINE, "ingest", "binance", str(path)], env=env, capture_output=True, text=True)
    assert done.returncode == 1
    said = re.search(r"up to the damage, ([\d,]+) messages .*offsets ([\d,]+) to ([\d,]+), confirmed", done.stdout)
    assert said, done.stdout + done.stderr
    messages, first, last = (int(number.replace(",", "")) for number in said.groups())
    assert f"damaged.gz: damaged after line {messages + 1} " in done.stderr
    frames = frames_of(env, "binance/damaged")
    got = [message.decode() for _, frame in frames for message in frame.messages()]
    assert got == [line.partition(" ")[2] for line in lines[: messages + 1] if line is not lines[7]]
    assert [offset for offset, _ in frames] == list(range(first, last + 1))
    assert frames[-1][1].flags == FrameFlag.END
    (reject,) = rejects_of(env, "damaged.gz")
    assert (reject.origin.index, reject.payload) == (7, lines[7].encode())


def test_ctrl_c_confirms_what_was_sent_and_says_how_far(env: dict[str, str]) -> None:
    args = ["ingest", "sim", "--seed", "4711", "--speed", "1x", "--plain"]
    with subprocess.Popen(
        [*TAPELINE, *args], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        wait_until(lambda: len(frames_of(env, "sim/seed-4711")) > 20, "the first frames")
        run.send_signal(signal.SIGINT)
        out, err = run.communicate(timeout=60)
    assert run.returncode == 130, err
    assert "Traceback" not in err
    said = re.search(r"stopped at 2025-01-02 14:30:\d\d, ([\d,]+) messages .*confirmed", out)
    assert said, out
    frames = frames_of(env, "sim/seed-4711")
    assert sum(len(frame) for _, frame in frames) == int(said[1].replace(",", ""))
    assert [frame.flags for _, frame in frames[:-1]] == [FrameFlag.NONE] * (len(frames) - 1)
    assert frames[-1][1].flags == FrameFlag.END
