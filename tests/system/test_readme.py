"""Every command of the README is run here, in its order, and prints what the README says."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tapeline.streams.cli import COMMANDS
from tapeline.streams.home import Home
from tests.system.conftest import temporary_home
from tests.system.platform import Platform, wait_until
from tests.venue.thread import venue_thread

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)
LINES = [line for kind, block in BLOCKS if kind == "sh" for line in block.splitlines() if line]
LIVE = next(line for line in LINES if "--symbols" in line)

pytestmark = pytest.mark.slow


def blocks(kind: str) -> list[str]:
    """The code blocks of a language."""
    return [block for name, block in BLOCKS if name == kind]


def shell_env(home: Home) -> dict[str, str]:
    """The environment after `. .venv/bin/activate`."""
    return os.environ | {"TAPELINE_HOME": str(home.path), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def shell(line: str, env: dict[str, str]) -> str:
    """Run a line as a user would."""
    done = subprocess.run(line, shell=True, env=env, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def first_steps() -> Iterator[tuple[Platform, dict[str, str]]]:
    """`tapeline up` in one terminal."""
    assert "tapeline up" in LINES
    with temporary_home() as home:
        env = shell_env(home)
        platform = Platform(home)
        up = subprocess.Popen(["tapeline", "up"], env=env, cwd=ROOT)
        try:
            wait_until(lambda: platform.pid_of("persist"), "`tapeline up` to run its roles")
            yield platform, env
        finally:
            up.send_signal(signal.SIGINT)
            assert up.wait(60) in (0, 130)


def test_the_first_steps_print_what_the_readme_says(first_steps: tuple[Platform, dict[str, str]]) -> None:
    platform, env = first_steps
    assert "Nothing is missing." in shell("tapeline doctor", env)
    ingest, *rest = [
        line
        for line in LINES
        if line.startswith(("tapeline ingest", "tapeline signals", "tapeline topics")) and line != LIVE
    ]
    assert ingest == "tapeline ingest binance docs/examples/btcusdt.txt"
    assert "1,500 messages" in shell(ingest, env)
    platform.wait_until_done()
    printed = {line: shell(line, env) for line in rest}
    assert len(printed["tapeline signals"].splitlines()) > 3
    [as_json] = [out for line, out in printed.items() if "json" in line]
    assert [as_json] == blocks("json")
    assert "signals" in printed["tapeline topics list"]


def test_the_live_example_reads_a_venue_until_ctrl_c(
    first_steps: tuple[Platform, dict[str, str]], tmp_path: Path
) -> None:
    # The venue is ours: there may be no internet here. Options stand above what the file says.
    _, env = first_steps
    config, log = tmp_path / "tapeline.toml", tmp_path / "log"
    with venue_thread("kraken", ["BTC/USD", "ETH/USD"], rate=100) as stage, log.open("w") as out:
        where = f'url = "{stage.venue.url}"\nrest = "{stage.venue.rest}"\n'
        config.write_text(f'[venues.kraken]\nsymbols = ["XRP/USD"]\n{where}')
        live = subprocess.Popen(LIVE.split(), env=env | {"TAPELINE_CONFIG": str(config)}, stdout=out, stderr=out)
        try:
            wait_until(lambda: re.search(r"connected, [1-9][\d,]* messages", log.read_text()), "messages")
        finally:
            live.send_signal(signal.SIGINT)
        assert live.wait(30) == 130
    assert re.search(r"kraken/0: [1-9][\d,]* messages in raw, confirmed", log.read_text())


def test_make_demo_runs_until_ctrl_c() -> None:
    assert "make demo" in LINES
    with temporary_home() as home:
        log = home.path.parent / "demo.log"
        with log.open("w") as out:
            demo = subprocess.Popen(
                ["make", "demo"], env=shell_env(home), cwd=ROOT, stdout=out, stderr=out, start_new_session=True
            )
        try:
            wait_until(lambda: re.search(r"[1-9][\d,]* signals", log.read_text()), "signals in the demo")
        finally:
            os.killpg(demo.pid, signal.SIGINT)  # as a terminal's Ctrl-C does
            demo.wait(90)
        assert "tapeline signals" in log.read_text(), "it says how to look at what was kept"


def test_the_configuration_example_is_valid(tmp_path: Path) -> None:
    [example] = blocks("toml")
    (tmp_path / "tapeline.toml").write_text(example)
    code = "from tapeline.streams.settings import load_settings as l; from tapeline.agents.logic_config import specs; "
    done = subprocess.run(
        [sys.executable, "-c", code + "print([s.name for s in specs(l())])"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.stdout == "['quick', 'breakout']\n", done.stderr


def test_the_table_of_commands_is_complete() -> None:
    listed = re.findall(r"^\| `tapeline (\w+)`", README, re.MULTILINE)
    assert sorted(listed) == sorted(COMMANDS)


def test_no_command_of_the_readme_is_left_out() -> None:
    """`make test` is what runs this."""
    run = {"make demo", "make test", ". .venv/bin/activate", "tapeline doctor", "tapeline up"}
    others = [line for line in LINES if line not in run]
    assert all(line.startswith(("tapeline ingest", "tapeline signals", "tapeline topics")) for line in others)


def test_every_link_of_the_readme_leads_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
