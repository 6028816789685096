"""Options that several commands share. Called by every command module."""

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

import click

from tapeline.streams.settings import Settings, load_settings

P = ParamSpec("P")
R = TypeVar("R")


def config_option(command: Callable[P, R]) -> Callable[P, R]:
    """Give a command `--config FILE`, handed in as `config: Path | None`."""
    return click.option(
        "--config",
        type=click.Path(dir_okay=False, path_type=Path),
        help="The settings file [default: $TAPELINE_CONFIG, else ./tapeline.toml if there is one].",
    )(command)


def pass_settings(command: Callable[Concatenate[Settings, P], R]) -> Callable[..., R]:
    """Give a command `--config FILE` and hand it the loaded settings as its first argument."""

    @config_option
    @wraps(command)
    def loaded(config: Path | None, *args: P.args, **kwargs: P.kwargs) -> R:
        return command(load_settings(config), *args, **kwargs)

    return loaded
