"""The `tapeline` command: a table of subcommands, each imported only when it is used.

`main` is the console script and `python -m tapeline.streams.cli`. Names of modules are strings here, so the
import arrows between folders hold, and `tapeline --help` loads neither Faust nor numba.
"""

import os
import sys
from collections.abc import Sequence
from importlib import import_module

import click

from tapeline.schemas.errors import TapelineError

COMMANDS: dict[str, tuple[str, str]] = {
    "up": ("tapeline.streams.up:up", "Run the platform on this machine until Ctrl-C."),
    "doctor": ("tapeline.streams.doctor:doctor", "Say what is there, what is missing and what to do about it."),
    "demo": ("tapeline.agents.demo:demo", "Watch a market become signals, live."),
    "worker": ("tapeline.agents.worker:worker", "Run roles: normalize, logic, persist and others."),
    "status": ("tapeline.streams.status:status", "Show lag, speed and health of each role and partition."),
    "ingest": ("tapeline.connectors.venues.ingest:ingest", "Read a venue or a recorded file into Kafka."),
    "record": ("tapeline.connectors.venues.live.record:record", "Record a live venue into a capture file."),
    "play": ("tapeline.connectors.venues.play:play", "Send a capture file into Kafka, as it was received."),
    "topics": ("tapeline.streams.topics:topics", "Create, list and describe the Kafka topics."),
    "bars": ("tapeline.agents.bars_command:bars", "Make bars of recorded ticks, or show those of the topic."),
    "quality": ("tapeline.agents.quality.command:quality", "Say how good an instrument's ticks of a day are."),
    "signals": ("tapeline.connectors.stores.signals:signals", "Print the signals that the database holds."),
}
"""Name -> (module:attribute, one line of help)."""


class _Commands(click.Group):
    """A group that knows its commands from COMMANDS."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command), f"{module}:{attribute} is no click command"  # noqa: S101
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="tapeline", prog_name="tapeline")
def tapeline() -> None:
    """Turn market ticks into trading signals, on Kafka and PostgreSQL.

    Settings come from tapeline.toml and the environment; `tapeline up` needs neither.

    \b
    Examples:
      tapeline demo                           see it work
      tapeline up                             run the platform here
      tapeline ingest binance trades.gz       feed it a recorded file
      tapeline signals --format json          see what came out
    """


def main(args: Sequence[str] | None = None) -> None:
    """Run a command line and exit: 0 done, 1 an error that was printed, 2 wrong usage, 130 Ctrl-C."""
    sys.exit(_run(args))


def _run(args: Sequence[str] | None) -> int:
    try:
        # Not standalone: click would turn Ctrl-C into exit 1. A reader that has enough (`| head`) ends it quietly.
        status = tapeline.main(args, prog_name="tapeline", standalone_mode=False)
        sys.stdout.flush()
    except TapelineError as error:
        print(f"tapeline: {error}", file=sys.stderr)  # noqa: T201 - the one place where errors are shown
        return 1
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return 130
    except BrokenPipeError:
        # Only now was it written; Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status if isinstance(status, int) else 0


if __name__ == "__main__":
    main()
