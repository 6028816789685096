"""Where live connections are found: files of processes that live, whole, gone with them."""

import json
from dataclasses import asdict
from pathlib import Path

from tapeline.streams.feeds import FeedFile, FeedRow, live_feeds
from tapeline.streams.home import Home

ROW = FeedRow("kraken/0", "connected", 7, 1.5, 2, {"SILENCE": 3}, ("A/B",), "refuses it")


def test_a_process_is_found_while_it_says_so(tmp_path: Path) -> None:
    home = Home.at(tmp_path)
    assert live_feeds(home) == []
    with FeedFile(home).there() as file:
        assert live_feeds(home) == []
        file.write([ROW])
        [found] = live_feeds(home)
        [row] = found.feeds
        assert asdict(row) | {"unlisted": tuple(row.unlisted)} == asdict(ROW)
    assert live_feeds(home) == []


def test_files_of_processes_that_are_gone_are_not_read_and_are_removed(tmp_path: Path) -> None:
    home = Home.at(tmp_path)
    with FeedFile(home).there() as file:
        file.write([ROW])
        folder = home.run / "feeds"
        [own] = folder.glob("*.json")
        said = json.loads(own.read_bytes())
        (folder / "1.json").write_text(json.dumps(said | {"started": said["started"] - 100}))
        (folder / "2.json").write_text("no JSON")
        assert len(live_feeds(home)) == 1
        with FeedFile(home).there():
            assert sorted(folder.glob("*.json")) == [own]


def test_a_home_that_cannot_be_written_stops_nobody(tmp_path: Path) -> None:
    blocked = Home.at(tmp_path)
    blocked.create()
    (blocked.run / "feeds").write_text("a file")
    with FeedFile(blocked).there() as file:
        file.write([ROW])
    assert live_feeds(blocked) == []
