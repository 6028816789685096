"""The command line: what it lists, how it ends, and that it starts without what a command alone needs."""

import os
import signal
import subprocess
import sys
import types
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from tapeline.schemas import TapelineError
from tapeline.streams import cli
from tapeline.streams.options import pass_settings
from tapeline.streams.settings import Settings

COMMAND = [sys.executable, "-m", "tapeline.streams.cli"]


def run(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *args], capture_output=True, text=True, timeout=60)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A module whose `command` the command line knows as `probe`."""
    module = types.ModuleType("probe_module")
    monkeypatch.setitem(sys.modules, "probe_module", module)
    monkeypatch.setitem(cli.COMMANDS, "probe", ("probe_module:command", "Probe."))
    return module


def ends_with(*args: str) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(args)
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_help_lists_every_command_with_its_line() -> None:
    text = CliRunner().invoke(cli.tapeline, ["--help"], terminal_width=120).output
    for name, (_, line) in cli.COMMANDS.items():
        assert any(row.split(maxsplit=1) == [name, line] for row in text.splitlines()), name


@pytest.mark.slow
@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_has_examples(name: str) -> None:
    command = cli.tapeline.get_command(click.Context(cli.tapeline), name)
    assert command is not None
    inner = list(command.commands) if isinstance(command, click.Group) else []
    for way in ([name], *([name, one] for one in inner)):
        result = CliRunner().invoke(cli.tapeline, [*way, "--help"], terminal_width=120)
        assert result.exit_code == 0, result.output
        assert f"tapeline {' '.join(way)}" in result.output.partition("Examples:")[2]


@pytest.mark.slow
def test_help_starts_without_what_a_single_command_needs() -> None:
    script = (
        "import sys; from tapeline.streams import cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'faust', 'numba', 'aiokafka', 'confluent_kafka', 'psycopg', 'rich', 'jgo'} & sys.modules.keys()\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.slow
def test_the_module_runs_as_a_program() -> None:
    assert run("--version").stdout.startswith("tapeline, version ")
    unknown = run("no-such-command")
    assert unknown.returncode == 2
    assert "No such command 'no-such-command'" in unknown.stderr


def test_an_error_of_ours_is_one_line(command: types.ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    @click.command()
    def fails() -> None:
        raise TapelineError("the disk is full: free 3 GB")

    command.command = fails  # type: ignore[attr-defined]
    assert ends_with("probe") == 1
    assert capsys.readouterr() == ("", "tapeline: the disk is full: free 3 GB\n")


def test_an_error_that_nobody_expected_keeps_its_trace(command: types.ModuleType) -> None:
    @click.command()
    def breaks() -> None:
        raise ZeroDivisionError

    command.command = breaks  # type: ignore[attr-defined]
    with pytest.raises(ZeroDivisionError):
        cli.main(["probe"])


@pytest.mark.parametrize(("status", "code"), [(None, 0), (3, 3)])
def test_a_command_may_choose_its_exit_code(command: types.ModuleType, status: int | None, code: int) -> None:
    @click.command()
    @click.pass_context
    def ends(ctx: click.Context) -> None:
        if status is not None:
            ctx.exit(status)

    command.command = ends  # type: ignore[attr-defined]
    assert ends_with("probe") == code


def test_ctrl_c_ends_quietly(command: types.ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    @click.command()
    def waits() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        signal.pause()

    command.command = waits  # type: ignore[attr-defined]
    assert ends_with("probe") == 130
    assert capsys.readouterr().err.strip() == ""


@pytest.mark.slow
def test_a_reader_that_has_enough_ends_it_quietly() -> None:
    read, write = os.pipe()
    os.close(read)
    result = subprocess.run([*COMMAND, "--help"], stdout=write, stderr=subprocess.PIPE, timeout=60)
    os.close(write)
    assert (result.returncode, result.stderr) == (1, b"")


def test_commands_get_the_settings_of_the_file_they_are_given(command: types.ModuleType, tmp_path: Path) -> None:
    got: list[Settings] = []

    @click.command()
    @click.option("--times", type=int, default=1)
    @pass_settings
    def uses(settings: Settings, times: int) -> None:
        got.extend([settings] * times)

    command.command = uses  # type: ignore[attr-defined]
    file = tmp_path / "own.toml"
    file.write_text("[frames]\nwait_ms = 3\n")
    assert ends_with("probe", "--config", str(file), "--times", "2") == 0
    assert [settings.frames.wait_ms for settings in got] == [3, 3]
    assert got[0].source == file


def test_a_fault_in_the_settings_ends_the_command(
    command: types.ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command.command = click.command()(pass_settings(lambda settings: None))  # type: ignore[attr-defined]
    file = tmp_path / "own.toml"
    file.write_text("[frames]\nwait = 3\n")
    assert ends_with("probe", "--config", str(file)) == 1
    assert capsys.readouterr().err == f"tapeline: {file}:2: frames.wait: unknown key; did you mean wait_ms?\n"
