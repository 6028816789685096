"""The home: where it is, who holds it, what other commands find in it."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tapeline.streams.home import Addresses, Home, HomeError

HOLD = """
import sys
from pathlib import Path
from tapeline.streams.home import Addresses, Home
home = Home(Path(sys.argv[1]))
with home.hold():
    home.publish(Addresses(pid=1, started_ns=2, dsn="x"))
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.mark.parametrize(
    ("path", "env", "expected"),
    [
        (Path("/a"), {"TAPELINE_HOME": "/b"}, Path("/a")),
        (None, {"TAPELINE_HOME": "/b"}, Path("/b")),
        (None, {"TAPELINE_HOME": ""}, Path("~/.tapeline").expanduser()),
        (None, {}, Path("~/.tapeline").expanduser()),
        (None, {"TAPELINE_HOME": "~/x"}, Path("~/x").expanduser()),
        (Path("relative"), {}, Path.cwd() / "relative"),
    ],
)
def test_which_directory_it_is(path: Path | None, env: dict[str, str], expected: Path) -> None:
    assert Home.at(path, env).path == expected


def test_looking_creates_nothing(home: Home) -> None:
    assert home.addresses() is None
    assert not home.held()
    assert not home.path.exists()


def test_addresses_are_there_while_it_is_held_and_gone_afterwards(home: Home) -> None:
    published = Addresses(pid=7, started_ns=8, bootstrap_servers="127.0.0.1:1", dsn="d", pids={"kafka": 9})
    with home.hold():
        assert home.addresses() is None
        home.publish(published)
        assert home.addresses() == published
        assert stat.S_IMODE(home.addresses_file.stat().st_mode) == 0o600
    assert home.addresses() is None
    assert [one.name for one in home.run.iterdir()] == ["lock"]


@pytest.mark.slow
def test_a_second_holder_is_refused_and_told_who_the_first_is(home: Home) -> None:
    with home.hold():
        with pytest.raises(HomeError, match=rf"process {os.getpid()}\).*{home.path}"), home.hold():
            pass
        assert home.held()
    with home.hold():
        pass


@pytest.mark.slow
def test_a_killed_holder_leaves_nothing_that_counts(home: Home) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(home.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert home.addresses() == Addresses(pid=1, started_ns=2, dsn="x")
        holder.kill()
    assert home.addresses_file.exists()
    assert home.addresses() is None
    with home.hold():
        assert home.addresses() is None, "the addresses of the one before are not those of this one"


def test_a_damaged_file_is_named(home: Home) -> None:
    with home.hold():
        home.addresses_file.write_text("{")
        with pytest.raises(HomeError, match=str(home.addresses_file)):
            home.addresses()


def test_a_home_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HomeError, match=r"file/home: .*TAPELINE_HOME"), Home(tmp_path / "file" / "home").hold():
        pass


def test_writing_replaces_whole_files_and_leaves_no_others(home: Home) -> None:
    home.create()
    file = home.run / "x.json"
    for number in range(3):
        home.write_json(file, {"number": number})
    assert home.read_json(file) == {"number": 2}
    assert list(home.run.iterdir()) == [file]
