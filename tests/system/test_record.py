"""`tapeline record` and `tapeline play`: what a venue said is in the file, and in `raw`, byte for byte."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tapeline.connectors.venues.capture import open_capture
from tapeline.connectors.venues.contract import FeedMessage, Message
from tapeline.connectors.venues.zstandard import zstd
from tapeline.schemas import FeedConnect, FeedGap, FrameFlag, RawFrame, decode_feed, partition_of
from tapeline.streams.servers import Servers
from tapeline.streams.settings import load_settings
from tapeline.streams.state import LogReader, PartitionTail
from tapeline.streams.topics import ensure_topics
from tests.system.platform import TAPELINE, wait_until
from tests.venue.thread import venue_thread

pytestmark = pytest.mark.slow


def raw_of(bootstrap: str, source: str) -> list[RawFrame]:
    reader = LogReader({"bootstrap.servers": bootstrap})
    try:
        tail = PartitionTail(reader, "raw", partition_of(source, 4))
        frames = [RawFrame.decode(value) for _, _, value in tail.read() if value is not None]
    finally:
        reader.close()
    return [frame for frame in frames if frame.source == source]


def test_what_is_recorded_is_played_byte_for_byte(servers: Servers, tmp_path: Path) -> None:
    bootstrap = servers.bootstrap_servers or ""
    path, config = tmp_path / "alpaca.zst", tmp_path / "tapeline.toml"
    with venue_thread("alpaca", ["SPY", "AAPL"], rate=200) as stage:
        config.write_text(
            f'[venues.alpaca]\nsymbols = ["SPY", "AAPL"]\nurl = "{stage.venue.url}"\nrest = "{stage.venue.rest}"\n'
            'key = { env = "ALPACA_KEY" }\nsecret = { env = "ALPACA_SECRET" }\n'
        )
        env = dict(os.environ) | {"TAPELINE_CONFIG": str(config), "ALPACA_KEY": "key", "ALPACA_SECRET": "secret"}
        recorder = subprocess.Popen([*TAPELINE, "record", "alpaca", str(path), "--quiet"], env=env)

        def messages() -> list[Message]:
            items = open_capture(path).items() if path.exists() and path.stat().st_size else ()
            return [item for _, item in items if isinstance(item, Message)]

        wait_until(lambda: len(messages()) > 200, "messages in the file")
        stage.ask(lambda: stage.venue.clients[0]._transport.abort())
        before = len(messages())
        wait_until(lambda: len(messages()) > before + 100, "messages after the connection was cut")
        recorder.send_signal(signal.SIGINT)
        assert recorder.wait(20) == 130
    items = [item for source, item in open_capture(path).items() if source == "alpaca/0"]
    said = [item.event for item in items if isinstance(item, FeedMessage)]
    assert [type(event) for event in said] == [FeedConnect, FeedGap, FeedConnect, FeedGap]
    recorded = [item for item in items if isinstance(item, Message)]
    assert recorded == messages()
    with zstd.open(path) as file:
        text = file.read()
    assert b"secret" not in text.replace(b'"secret":"***"', b"")
    assert b'"action":"auth"' in text.replace(b"\\", b"")
    # and played
    env["TAPELINE_KAFKA__BOOTSTRAP_SERVERS"] = bootstrap
    ensure_topics(load_settings(env=env))
    earlier = len(raw_of(bootstrap, "alpaca/0.played"))
    done = subprocess.run([*TAPELINE, "play", str(path)], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"all of it, {len(recorded):,} messages" in done.stdout
    frames = raw_of(bootstrap, "alpaca/0.played")[earlier:]
    played = [
        Message(recv_ns, data)
        for frame in frames
        if not frame.flags & FrameFlag.FEED
        for recv_ns, data in zip(frame.recv_ns.tolist(), frame.messages(), strict=True)
    ]
    assert played == recorded
    feed = [decode_feed(data) for frame in frames if frame.flags & FrameFlag.FEED for data in frame.messages()]
    assert feed == said
