"""What the commands `ingest`, `play` and `record` share: pace, progress, stopping, memory."""

import asyncio
import ctypes
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import click

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
STOPPED = 130
"""Exit status after Ctrl-C."""
M_MMAP_THRESHOLD, LARGE_BYTES = -3, 128 * 1024
"""glibc's `mallopt`: from this size on, memory goes back to the system as soon as it is freed."""
SPEED_HELP = "max, or 1x (as it was recorded), 10x, any NUMBERx [default: max]."


class Speed(click.ParamType):
    """`max`, or feed seconds a second such as 1x, 10x, 0.5x."""

    name = "max|1x|10x"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | None:
        """Return the pace, None for `max`."""
        if value == "max" or value is None:
            return None
        match = re.fullmatch(r"(\d+(?:\.\d+)?)x", str(value))
        if not match or not 0.001 <= float(match[1]) <= 100_000:
            self.fail(f"{value!r} is no speed: write max, 1x (as it was recorded), 10x or any NUMBERx", param, ctx)
        return float(match[1])


speed_option = click.option("--speed", type=Speed(), default="max", metavar="SPEED", help=SPEED_HELP)


def progress_options(command: Any) -> Any:
    """Give a command --plain and --quiet."""
    quiet = click.option("--quiet", is_flag=True, help="No progress and no summary.")
    return click.option("--plain", is_flag=True, help="Plain lines of progress instead of a live bar.")(quiet(command))


def give_memory_back() -> None:
    """Keep the allocator from raising LARGE_BYTES by itself, or a feed keeps what its worst stall took, for ever."""
    if (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:  # glibc's
        mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)


@asynccontextmanager
async def together() -> AsyncIterator[asyncio.TaskGroup]:
    """Give a TaskGroup that raises what went wrong first, as it is, instead of a group of errors nobody can read."""
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as errors:
        first: BaseException = errors
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from None


def stop_at_signal() -> asyncio.Event:
    """Return an event that SIGINT and SIGTERM set; a second one ends the process at once, should the broker be away."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def ask_to_stop() -> None:
        stop.set()
        for number in STOP_SIGNALS:
            loop.remove_signal_handler(number)

    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, ask_to_stop)
    return stop
